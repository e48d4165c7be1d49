//! Cases of decode and verify with the keys in shares.

use super::formats::{self, tree};
use crate::cache::{Format, Placement};
use crate::cases::{Case, Order, Values};
use crate::features::{self, Causal, Window};
use crate::{Schedule, Splits};
use tilewright_ir::Elem;
use tilewright_lang::SpecValue;

/// Four query heads on two key/value heads of dim 32 in three shares.
fn case(name: impl Into<String>) -> Case {
    Case::new(name).heads(4, 2).dims(32, 32).lengths(1, 70).splits(Splits::Count(3))
}

/// With tiles of 16 keys.
fn tiled(name: impl Into<String>, q_len: usize) -> Case {
    let queries = q_len.next_power_of_two() as u32; // at most 64
    case(name).lengths(q_len, 70).tile(Schedule { heads: 2, queries, keys: 16 })
}

/// Lengths at the edges of a tile of 16 keys.
const EDGES: [i32; 9] = [0, 1, 15, 16, 17, 32, 33, 69, 70];

/// Without what [`formats`] has.
pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for group in (1..=9).chain([16]) {
        let of_group = |name: &str| case(format!("{name}_of_a_group_of_{group}")).heads(2 * group, 2);
        all.push(of_group("decode"));
        all.push(of_group("verify").lengths(5, 70).feature(Causal));
    }
    all.push(case("verify_of_a_group_of_48").heads(48, 1).lengths(64, 100).dims(16, 16).feature(Causal));
    for q_len in [2, 3, 15, 16, 17, 33, 63, 64] {
        all.push(case(format!("verify_of_{q_len}_causal")).lengths(q_len, 100).feature(Causal));
        all.push(case(format!("verify_of_{q_len}_flat")).lengths(q_len, 100));
        all.push(case(format!("verify_of_{q_len}_tree")).lengths(q_len, 100).features(tree(q_len)));
    }
    for (name, splits) in [
        ("2_shares", Splits::Count(2)),
        ("7_shares", Splits::Count(7)),
        ("more_shares_than_keys", Splits::Count(100)),
        ("shares_of_1_key", Splits::Keys(1)),
        ("shares_of_16_keys", Splits::Keys(16)),
        ("shares_of_17_keys", Splits::Keys(17)),
        ("shares_of_more_keys_than_there_are", Splits::Keys(1000)),
    ] {
        all.push(tiled(format!("decode_in_{name}"), 1).splits(splits));
        all.push(tiled(format!("verify_in_{name}"), 6).splits(splits).feature(Causal));
    }
    for (dim, value_dim) in
        [(1, 1), (3, 70), (33, 33), (80, 80), (96, 96), (128, 128), (192, 128), (256, 256), (576, 512)]
    {
        all.push(tiled(format!("decode_d{dim}_{value_dim}"), 1).dims(dim, value_dim));
        all.push(tiled(format!("verify_d{dim}_{value_dim}"), 3).dims(dim, value_dim).feature(Causal));
    }
    for (text, format) in formats::all().filter(|(_, format)| !format.tail).step_by(3) {
        // More queries than keys here and there: the first rows attend to nothing.
        let edges = |name: &str, q_len| {
            tiled(format!("{name}_{text}_at_the_edges"), q_len)
                .dims(64, 64)
                .batch(EDGES.len())
                .kv_len(&EDGES)
                .cache(format)
        };
        all.push(edges("decode", 1));
        all.push(edges("verify_causal", 5).feature(Causal));
        all.push(edges("verify_flat", 5));
    }
    for (text, format) in formats::all() {
        let large = |name: &str, q_len| {
            tiled(format!("{name}_{text}_logits_of_1e5"), q_len).dims(64, 64).values(Values::LargeLogits).cache(format)
        };
        all.push(large("decode", 1));
        all.push(large("verify", 3).feature(Causal));
    }
    all.extend(windows());
    all.extend(of_features());
    all
}

/// Windows over the formats, and over rings from every sort of slot on.
fn windows() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, window) in [
        ("window_of_1", Window::last(1)),
        ("window_of_16", Window::last(16)),
        ("window_with_sinks", Window::last(20).sinks(3)),
    ] {
        for (text, format) in formats::all().filter(|(_, format)| in_parts(format)) {
            let of = |form: &str, q_len| {
                tiled(format!("{form}_{name}_{text}"), q_len)
                    .dims(64, 64)
                    .batch(4)
                    .kv_len(&[70, 69, 17, 5])
                    .cache(format)
            };
            all.push(of("decode", 1).ring_start(&[0, 1, 35, 69]).feature(window));
            all.push(of("verify", 5).ring_start(&[69, 16, 53, 0]).feature(window).feature(Causal));
        }
    }
    // The smallest full ring that a window of 32 may have: 32 + q_len - 1 slots.
    for (q_len, slots) in [(1, 32), (5, 36)] {
        for start in [0, 1, 15, 16, 17, slots as i32 - 1] {
            let ring = tiled(format!("smallest_ring_of_{q_len}_from_{start}"), q_len).lengths(q_len, slots);
            let ring = ring.cache(Format { placement: Placement::Ring, ..Format::DENSE });
            all.push(ring.ring_start(&[start]).feature(Window::last(32)).feature(Causal));
        }
    }
    all
}

/// Whether logical keys do not simply follow each other; and plain dense tensors.
fn in_parts(format: &Format) -> bool {
    format.placement != Placement::Contiguous || format.tail || *format == Format::DENSE
}

/// Every sample of every feature, each over another format.
fn of_features() -> Vec<Case> {
    let mut all = Vec::new();
    // Features with a reach of their own are not for a ring that is full.
    let mut formats = formats::all().filter(|(text, _)| !text.starts_with("ring")).cycle();
    for feature in features::all() {
        for (form, q_len) in [("decode", 1), ("verify", 6)] {
            let plain = tiled("any", q_len).dims(64, 64).batch(2).kv_len(&[70, 38]);
            for (i, sample) in (feature.samples)(&plain.extents()).into_iter().enumerate() {
                let Some((text, format)) = formats.next() else { continue };
                let named = tiled(format!("{form}_{}_{i}_{text}", feature.name), q_len).dims(64, 64).batch(2);
                all.push(named.kv_len(&[70, 38]).cache(format).features(sample));
            }
        }
    }
    all
}

/// Shapes that are published elsewhere, fewer heads and keys than in the benchmarks of the same names; the shares are the
/// planner's.
pub(super) fn published() -> Vec<Case> {
    let small = |name: String, q_len, dim| Case::new(name).heads(4, 1).lengths(q_len, 1100).dims(dim, dim);
    let of_dim = |dim| small(format!("sdpa_decode_2pass_d{dim}_small"), 1, dim);
    let batched = |drafts| small(format!("sdpa_decode_batched_q{drafts}_small"), drafts, 128).feature(Causal);
    [64, 96, 128, 256].map(of_dim).into_iter().chain([8, 16].map(batched)).collect()
}

/// f32 queries over an f16 ring with a window of 512.
pub(super) fn vector() -> Vec<Case> {
    let of = |start: i32| {
        let case = Case::new(format!("flash_attn_vec_d256_from_{start}")).types(Elem::F32, Elem::F16);
        let case = case.heads(4, 1).dims(256, 256).lengths(1, 1100).feature(Causal).feature(Window::last(512));
        Some(case.cache(Format::parse("ring").ok()?).ring_start(&[start]))
    };
    [0, 600, 1099].into_iter().filter_map(of).collect()
}

/// Shares that are empty, rows that attend to nothing, and sinks, which count once.
pub(super) fn merges() -> Vec<Case> {
    let shape = tiled("any", 6).extents();
    let mut all = vec![
        tiled("merge_of_empty_shares", 1).splits(Splits::Count(64)),
        tiled("merge_of_nothing_but_empty_shares", 3).batch(2).kv_len(&[0, 0]),
        tiled("merge_without_keys", 3).lengths(3, 0),
        tiled("merge_of_entries", 5).batch(EDGES.len()).kv_len(&EDGES).splits(Splits::Keys(16)),
        tiled("merge_of_rows_without_keys", 6).feature(Causal).q_start(-3),
        tiled("merge_of_a_window_in_one_share", 3).feature(Window::last(5)),
        tiled("merge_of_logits_of_1e5", 4).values(Values::LargeLogits).splits(Splits::Count(5)),
        tiled("merge_without_lse", 2).without_lse(),
        tiled("merge_of_one_head", 1).heads(1, 1).tile(Schedule { heads: 1, queries: 1, keys: 16 }),
        tiled("merge_of_gaps_between_rows", 5).order(Order::Gaps),
    ];
    for feature in features::all().into_iter().filter(|feature| feature.name == "sinks") {
        for sinks in (feature.samples)(&shape) {
            all.push(tiled("merge_with_sinks", 6).features(sinks.clone()));
            all.push(tiled("merge_with_sinks_of_rows_without_keys", 6).features(sinks).feature(Causal).q_start(-4));
        }
    }
    all
}
