//! Benchmark cases of a GPU: shapes that other libraries publish figures of, and what must not be slow. Too large for a CPU.

use crate::cache::Format;
use crate::cache::{Encoding, Placement};
use crate::cases::Case;
use crate::features::mask::made;
use crate::features::{Causal, Softcap};
use crate::quant::Affine;
use tilewright_ir::Elem;

/// Batch, query heads, key/value heads, tokens, head dim; causal or not.
type Prefill = (usize, usize, usize, usize, usize, bool);

const PREFILL: [Prefill; 11] = [
    (4, 32, 32, 4096, 64, false),
    (4, 32, 32, 4096, 64, true),
    (1, 32, 32, 16384, 64, true),
    (8, 16, 16, 2048, 128, true),
    (2, 16, 16, 8192, 128, false),
    (2, 16, 16, 8192, 128, true),
    (1, 16, 16, 16384, 128, true),
    (1, 32, 8, 8192, 128, true),
    (2, 8, 8, 8192, 256, false),
    (2, 8, 8, 8192, 256, true),
    (1, 8, 8, 4096, 512, true),
];

/// Batch, query heads, key/value heads, keys, head dim, drafted tokens; 1 is a decode.
type Few = (usize, usize, usize, usize, usize, usize);

const FEW: [Few; 12] = [
    (1, 32, 8, 4096, 128, 1),
    (1, 32, 8, 32768, 128, 1),
    (1, 32, 8, 131072, 128, 1),
    (16, 32, 8, 8192, 128, 1),
    (64, 32, 8, 4096, 128, 1),
    (1, 16, 8, 65536, 256, 1),
    (1, 16, 8, 8192, 256, 1),
    (16, 32, 8, 8192, 64, 1),
    (1, 32, 8, 4096, 128, 8),
    (1, 32, 8, 4096, 128, 16),
    (1, 32, 8, 65536, 128, 8),
    (16, 32, 8, 8192, 128, 16),
];

fn prefill(name: &str, (batch, heads, kv_heads, tokens, dim, causal): Prefill) -> Case {
    let of = if heads == kv_heads { String::new() } else { format!("_kv{kv_heads}") };
    let case = Case::new(format!("{name}_d{dim}_b{batch}_h{heads}{of}_l{tokens}"));
    let case = case.types(Elem::Bf16, Elem::Bf16).without_lse().batch(batch).heads(heads, kv_heads);
    let case = case.lengths(tokens, tokens).dims(dim, dim);
    if causal { case.feature(Causal) } else { case }
}

fn few(name: &str, (batch, heads, kv_heads, keys, dim, queries): Few) -> Case {
    let drafts = if queries == 1 { String::new() } else { format!("_q{queries}") };
    let case = Case::new(format!("{name}{drafts}_d{dim}_b{batch}_h{heads}_kv{kv_heads}_l{keys}"));
    let case = case.types(Elem::Bf16, Elem::Bf16).without_lse().batch(batch).heads(heads, kv_heads);
    let case = case.lengths(queries, keys).dims(dim, dim);
    if queries == 1 { case } else { case.feature(Causal) }
}

/// Prefill.
pub(super) fn forward() -> Vec<Case> {
    let mut all: Vec<Case> =
        PREFILL.iter().map(|&row| prefill(if row.5 { "prefill_causal" } else { "prefill" }, row)).collect();
    // What the same as one of those above costs with scores that are changed, and with a mask that says causal.
    let (batch, heads, kv_heads, tokens, dim, _) = PREFILL[3];
    let like = |name: &str, causal| prefill(name, (batch, heads, kv_heads, tokens, dim, causal));
    all.push(like("prefill_causal_softcap", true).feature(Softcap(50.0)));
    let triangle = made(Elem::Bool, [1, 1, tokens, tokens], |at| (at[3] <= at[2]).into());
    all.extend(triangle.map(|mask| like("prefill_causal_as_a_mask", false).classified(mask)));
    all
}

/// Decode and verify.
pub(super) fn split() -> Vec<Case> {
    let mut all: Vec<Case> = FEW.iter().map(|&row| few(if row.5 == 1 { "decode" } else { "verify" }, row)).collect();
    // What one of those above costs over other caches.
    let like = |name: &str, format: Format| few(&format!("decode_{name}"), FEW[3]).cache(format);
    all.push(like("ring", Format { placement: Placement::Ring, ..Format::DENSE }));
    all.push(like("paged16", Format { placement: Placement::Paged { page_size: 16 }, ..Format::DENSE }));
    for (name, codes) in [("int8", "q8g64"), ("int4", "q4g64")] {
        let codes = codes.parse::<Affine>().map(Encoding::Affine); // a text of this crate
        all.extend(codes.map(|codes| like(name, Format { keys: codes, values: codes, ..Format::DENSE })));
    }
    all
}
