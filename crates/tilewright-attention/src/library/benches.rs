//! Benchmark cases: the shapes of published models, and of published measurements.

use super::cases::masked_prefill;
use crate::cache::Format;
use crate::cases::Case;
use crate::features::mask::made;
use crate::features::{Causal, Softcap, Window};
use tilewright_ir::Elem;
use tilewright_lang::SpecValue;

const TYPES: [(Elem, Elem); 3] = [(Elem::F32, Elem::F32), (Elem::F16, Elem::F16), (Elem::Bf16, Elem::Bf16)];

/// Prefill.
pub(super) fn forward() -> Vec<Case> {
    let mut all = Vec::new();
    let triangle = made(Elem::Bool, [1, 1, 2048, 2048], |at| (at[3] <= at[2]).into());
    for (q, kv) in TYPES {
        let case = |name: String| Case::new(name).types(q, kv).without_lse();
        for dim in [64, 128, 256] {
            let heads = 1024 / dim;
            let prefill = |name: &str, n: usize| {
                case(format!("{name}_d{dim}_{n}")).heads(heads, heads.div_ceil(4)).lengths(n, n).dims(dim, dim)
            };
            all.push(prefill("prefill", 1024));
            all.push(prefill("prefill_causal", 1024).feature(Causal));
            all.push(prefill("prefill_causal", 4096).feature(Causal));
        }
        let h16 = |name: &str| case(format!("{name}_h16_d128_2048")).heads(16, 4).lengths(2048, 2048).dims(128, 128);
        // What the same costs with scores that are changed, and with a mask that says the same as causal does.
        all.push(h16("prefill_causal_softcap").feature(Causal).feature(Softcap(50.0)));
        all.extend(triangle.iter().map(|mask| h16("prefill_causal_as_a_mask").feature(mask.clone())));
        all.push(case("latent_d576_1024".into()).heads(4, 1).lengths(256, 1024).dims(576, 512).feature(Causal));
    }
    all.extend(masked_prefill(1024, 1024, (4, 1)).into_iter().map(Case::without_lse));
    all.extend(TYPES.into_iter().flat_map(beside_peers));
    all.extend([Elem::F32, Elem::Bf16].map(|elem| {
        let small = Case::new("count_prefill_causal_d64_192").types(elem, elem).without_lse().heads(4, 2);
        small.lengths(192, 192).dims(64, 64).feature(Causal)
    }));
    all
}

/// Query heads, key/value heads, tokens, head dim: prefills that are measured beside other libraries, without a mask, causal
/// and with a mask that is added.
const BESIDE_PEERS: [(usize, usize, usize, usize); 3] = [(8, 8, 1024, 64), (16, 4, 2048, 128), (8, 2, 1024, 256)];

fn beside_peers((q, kv): (Elem, Elem)) -> Vec<Case> {
    let mut all = Vec::new();
    // Small numbers that each type holds, none of which blocks: no pair may be left out.
    let added = |tokens| made(q, [1, 1, tokens, tokens], |at| ((at[2] * 7 + at[3] * 13) % 32) as f64 / 16.0 - 1.0);
    let masks = [added(1024), added(2048)];
    for (heads, kv_heads, tokens, dim) in BESIDE_PEERS {
        let case = |mask: &str| {
            let case = Case::new(format!("prefill{mask}_h{heads}_d{dim}_{tokens}")).types(q, kv).without_lse();
            case.heads(heads, kv_heads).lengths(tokens, tokens).dims(dim, dim)
        };
        all.extend([case(""), case("_causal").feature(Causal)]);
        let fitting = masks.iter().flatten().filter(|mask| mask.shape()[2] == tokens);
        all.extend(fitting.map(|mask| case("_additive").feature(mask.clone())));
    }
    all
}

/// Query heads, key/value heads, keys, head dim: decodes that are measured beside other libraries, besides `sdpa_decode_2pass`.
const LONG: [(usize, usize, usize, usize); 2] = [(32, 8, 32768, 128), (16, 8, 8192, 256)];

/// Names and codes of quantised caches.
const CODES: [(&str, &str); 2] = [("int8", "dense+k-q8g64+v-q8g64"), ("int4", "dense+k-q4g64+v-q4g64")];

/// Decode and verify.
pub(super) fn split() -> Vec<Case> {
    let mut all = Vec::new();
    for (q, kv) in TYPES {
        let wide = |name: String, q_len: usize, dim: usize| {
            Case::new(name).types(q, kv).without_lse().heads(32, 8).lengths(q_len, 4096).dims(dim, dim)
        };
        all.push(wide("sdpa_decode_2pass".into(), 1, 128));
        for dim in [64, 96, 256] {
            all.push(wide(format!("sdpa_decode_2pass_d{dim}"), 1, dim));
        }
        for drafts in [8, 16] {
            all.push(wide(format!("sdpa_decode_batched_q{drafts}"), drafts, 128).feature(Causal));
        }
        for (text, format) in formats(["ring", "paged(16)", "dense+k-q8g64+v-q8g64", "dense+k-q4g64+v-q4g64"]) {
            all.push(wide(format!("decode_{text}_d128_4096"), 1, 128).cache(format));
        }
        for (text, format) in formats(["dense+k-q8g64+v-q8g64"]) {
            all.push(wide(format!("verify_{text}_d128_4096"), 8, 128).cache(format).feature(Causal));
        }
    }
    for (q, kv) in TYPES {
        for (heads, kv_heads, keys, dim) in LONG {
            let case = Case::new(format!("decode_h{heads}_d{dim}_{keys}")).types(q, kv).without_lse();
            all.push(case.heads(heads, kv_heads).lengths(1, keys).dims(dim, dim));
        }
    }
    let bf16 = |name: String, keys: usize| {
        let case = Case::new(name).types(Elem::Bf16, Elem::Bf16).without_lse().heads(32, 8);
        case.lengths(1, keys).dims(128, 128)
    };
    for (name, text) in CODES {
        for (_, format) in formats([text]) {
            all.push(bf16(format!("decode_{name}_h32_d128_32768"), 32768).cache(format));
        }
    }
    // Small, for what is counted in instructions.
    all.push(bf16("count_decode_h32_d128_512".into(), 512));
    all.push(bf16("count_verify_q8_h32_d128_256".into(), 256).lengths(8, 256).feature(Causal));
    for (_, format) in formats([CODES[1].1]) {
        all.push(bf16("count_decode_int4_h32_d128_512".into(), 512).cache(format));
    }
    for (_, format) in formats(["ring"]) {
        let vector = Case::new("flash_attn_vec").types(Elem::F32, Elem::F16).without_lse().heads(32, 8).dims(256, 256);
        let vector = vector.lengths(1, 4096).cache(format).feature(Causal);
        all.push(vector.clone().feature(Window::last(1024)));
    }
    for (name, text) in [("int4", "dense+k-q4g32+v-q4g32"), ("int8", "dense+k-q8g32+v-q8g32")] {
        for (_, format) in formats([text]) {
            let cache = Case::new(format!("kv_cache_{name}")).types(Elem::F16, Elem::F16).without_lse().heads(32, 8);
            all.push(cache.lengths(1, 4096).dims(128, 128).cache(format));
        }
    }
    all
}

/// Formats, each with its text.
fn formats<const N: usize>(texts: [&str; N]) -> impl Iterator<Item = (&str, Format)> {
    texts.into_iter().filter_map(|text| Some((text, Format::parse(text).ok()?)))
}
