//! Cases of attention in one pass.

use crate::cases::{Case, Order, Values};
use crate::features::Causal;
use crate::features::mask::{additive, boolean, made};
use tilewright_ir::Elem;

/// Attention without features.
pub(super) fn plain() -> Vec<Case> {
    let case = |name: &str| Case::new(name).schedule(16, 32);
    let mut all = vec![
        case("one_query_one_key").lengths(1, 1),
        case("one_query").lengths(1, 33),
        case("one_key").lengths(16, 1),
        case("no_keys").lengths(3, 0),
        case("short_of_a_tile").lengths(15, 31),
        case("one_tile"),
        case("past_a_tile").lengths(17, 33),
        case("two_tiles").lengths(32, 64),
        case("many_tiles").lengths(50, 200),
        case("heads_of_1").dims(1, 1).lengths(17, 40),
        case("heads_of_3").dims(3, 3).lengths(17, 40),
        case("heads_of_33").dims(33, 33).lengths(17, 40),
        case("heads_of_64").dims(64, 64).lengths(17, 40),
        case("heads_of_65").dims(65, 65).lengths(17, 40),
        case("heads_of_80").dims(80, 80).lengths(17, 40),
        case("heads_of_128").dims(128, 128).lengths(17, 40),
        case("heads_of_192_and_values_of_128").dims(192, 128).lengths(17, 40),
        case("heads_of_576_and_values_of_512").dims(576, 512).heads(2, 1).lengths(9, 40),
        case("heads_of_3_and_values_of_70").dims(3, 70).lengths(17, 40),
        case("kv_len_of_each_entry").batch(5).lengths(4, 70).kv_len(&[70, 0, 1, 32, 33]),
        case("all_entries_empty").batch(2).lengths(4, 20).kv_len(&[0, 0]),
        case("logits_of_1e5").values(Values::LargeLogits).lengths(17, 40).dims(64, 64),
        case("logits_of_1e5_in_one_dim").values(Values::LargeLogits).lengths(17, 40).dims(1, 8),
        case("scale_of_zero").scale(0.0).lengths(17, 40),
        case("scale_below_zero").scale(-0.7).lengths(17, 40),
        case("sequence_major").sequence_major().heads(6, 3).batch(2).lengths(17, 40),
        case("gaps_between_rows").order(Order::Gaps).heads(6, 3).batch(2).lengths(17, 40),
        case("mixed_cache").heads(4, 2).lengths(17, 70).dims(64, 48),
        case("mixed_cache_of_one_query").heads(8, 2).lengths(1, 70).dims(65, 33),
        case("mixed_cache_with_causal").feature(Causal).lengths(33, 70).kv_len(&[50]),
        case("planned_schedule_of_one_query").lengths(1, 300).dims(64, 64),
    ];
    for group in 1..=9 {
        all.push(case(&format!("group_of_{group}")).heads(2 * group, 2).lengths(7, 40));
    }
    let planned = |name: &str| Case::new(name).heads(2, 1);
    all.push(planned("planned_for_dim_64").lengths(70, 150).dims(64, 64));
    all.push(planned("planned_for_dim_128").lengths(65, 140).dims(128, 128).feature(Causal));
    all.push(planned("planned_for_dim_256").lengths(40, 70).dims(256, 256));
    all.push(planned("planned_for_a_few_queries").lengths(5, 200).dims(64, 64).feature(Causal));
    all
}

/// Prefill with a mask: its shape with so many queries and keys, and the mask in the type of q or of bool.
pub(in crate::library) fn masked(q_len: usize, kv_len: usize, heads: (usize, usize)) -> Vec<Case> {
    let shape = [1, 1, q_len, kv_len];
    let boolean = made(Elem::Bool, shape, boolean);
    let masks = [Elem::Bf16, Elem::F16].map(|elem| (elem, made(elem, shape, additive)));
    let mut all = Vec::new();
    for dim in [64, 256, 512] {
        for (elem, additive) in &masks {
            for (kind, mask) in [("additive", additive), ("boolean", &boolean)] {
                let case = Case::new(format!("flash_attn_prefill_d{dim}_{kind}")).types(*elem, *elem);
                let case = case.heads(heads.0, heads.1).lengths(q_len, kv_len).dims(dim, dim);
                all.extend(mask.iter().map(|mask| case.clone().feature(mask.clone())));
            }
        }
    }
    all
}

/// The same names as the benchmarks have, over fewer tokens; the tile shape is the planner's.
pub(super) fn masked_prefill() -> Vec<Case> {
    masked(70, 90, (2, 1))
}
