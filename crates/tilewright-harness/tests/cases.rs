//! A selection of the library's cases as rendered CUDA C++ and Metal: every kernel, feature and cache format, all element
//! types, dims and lengths of every sort.
#![allow(missing_docs)]

mod common;

use common::{DIALECTS, harness};
use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tilewright_attention::cache::{Encoding, Format, Placement};
use tilewright_attention::cases::{Case, TestCase};
use tilewright_attention::{Causal, Schedule, Splits, library};
use tilewright_compile::gpu::Dialect;
use tilewright_harness::{Checks, Harness, Rendered, Sanitizer};
use tilewright_ir::{Elem, Work};

/// In both dialects.
const BOTH: &[&str] = &[
    // Lengths at the edges, and none.
    "one_query_one_key/f16",
    "one_key/bf16",
    "no_keys/f32",
    "past_a_tile/bf16",
    "many_tiles/f32",
    "kv_len_of_each_entry/f16",
    "causal_more_queries_than_keys/bf16",
    "causal_uneven_batch/f32",
    // Dims.
    "heads_of_1/f16",
    "heads_of_3/f32",
    "heads_of_33/bf16",
    "heads_of_80/f16",
    "decode_d96_96/f32+f16",
    "decode_d192_128/f32+f16",
    "heads_of_3_and_values_of_70/f16",
    "sdpa_decode_batched_q8_small/bf16",
    "flash_attn_vec_d256_from_600/f32+f16",
    // Types, orders and values.
    "mixed_cache/f32+f16",
    "mixed_cache_with_causal/f32+bf16",
    "gaps_between_rows/f16",
    "sequence_major/bf16",
    "logits_of_1e5/f16",
    "logits_of_1e5_in_one_dim/f32",
    // Features.
    "window_sinks_uneven_batch/f16",
    "window_to_both_sides/f32",
    "softcap_of_logits_of_1e5/f16",
    "softcap_of_50/f16",
    "alibi_in_a_window/bf16",
    "sinks_that_are_none/f32",
    "sinks_of_groups/f16",
    "tree_random/f16",
    "tree_across_tiles/f32",
    "mask_of_each_head_and_query/f16",
    "mask_added_and_shorter_than_the_keys/bf16",
    "mask_with_causal/f32",
    "flash_attn_prefill_d64_boolean/bf16",
    // Formats in one pass and in shares.
    "prefill_causal_ring_in_one_pass/bf16",
    "prefill_causal_paged(16)_in_one_pass/f16",
    "prefill_causal_dense+k-q8g64+v-q8g64+tail_in_one_pass/f16",
    "prefill_causal_ring+k-q8g64+v-q8g64_in_one_pass/f16",
    "decode_dense+k-q4g32+v-q4g32_in_one_pass/f32",
    "decode_paged(64)/f16",
    "decode_dense+k-q4g64+v-q8g32/bf16",
    "decode_dense+k-q8g32/f32+bf16",
    "verify_causal_ring+v-q4g32/f32",
    "verify_flat_dense+tail/f16",
    "verify_tree_dense+v-q4g64/f16",
    "verify_tree_paged(16)+k-q4g32+v-q8g64/f32+f16",
    "decode_ring+k-q8g64+v-q8g64_logits_of_1e5/f32+f16",
    "verify_of_a_group_of_7/f32",
    "merge_of_one_head/f32",
    "merge_with_sinks_of_rows_without_keys/f16",
    "merge_of_entries/bf16",
    // What writes caches, reads them back, and classifies masks.
    "append_across_the_end_of_a_ring/f16",
    "append_d65/f32",
    "quantise_q4g32_away/bf16",
    "kv_cache_int8/f16",
    "read_q8g32_to_pages_of_17/f16",
    "read_more_than_a_ring_holds/f32",
    "classes_of_scattered_1x1x33x65_by_16x32/bool",
    "classes_of_added_nan_2x3x20x40_by_8x16/f32",
];

/// Too wide for the threadgroup memory of Metal in tiles that the cases ask for.
const CUDA: &[&str] = &["heads_of_576_and_values_of_512/bf16", "planned_for_dim_256/f32", "decode_d576_512/f32"];

/// What runs under the sanitizers too.
const SANITIZED: &[&str] = &[
    "past_a_tile/bf16",
    "mixed_cache/f32+f16",
    "window_sinks_uneven_batch/f16",
    "mask_of_each_head_and_query/f16",
    "prefill_causal_ring+k-q8g64+v-q8g64_in_one_pass/f16",
    "decode_dense+k-q4g32+v-q4g32_in_one_pass/f32",
    "decode_paged(64)/f16",
    "verify_flat_dense+tail/f16",
    "kv_cache_int8/f16",
    "classes_of_scattered_1x1x33x65_by_16x32/bool",
];

/// Shapes that the library's cases leave to its benchmarks, in tiles that the planner chooses.
fn planned(dialect: Dialect) -> Vec<TestCase> {
    let case = |name: &str, dims: (usize, usize)| Case::new(name).types(Elem::F16, Elem::F16).dims(dims.0, dims.1);
    let mut all = vec![
        case("a prefill of dim 72", (72, 72)).lengths(70, 70).feature(Causal),
        case("a prefill of dim 128", (128, 128)).lengths(65, 40).types(Elem::F32, Elem::F32),
        case("a prefill of dim 256", (256, 256)).lengths(66, 70).types(Elem::Bf16, Elem::Bf16),
        case("a prefill of dim 512", (512, 512)).lengths(65, 33),
        case("a decode of dim 576 and values of 512", (576, 512)).heads(16, 1).lengths(1, 70),
        case("a verify in shares", (64, 64)).heads(8, 2).lengths(6, 1100).splits(Splits::Count(3)).feature(Causal),
        case("one row", (64, 64)).heads(1, 1).lengths(1, 40).tile(Schedule { heads: 1, queries: 1, keys: 16 }),
    ];
    if dialect == Dialect::Cuda {
        all.push(case("a prefill of f32 of dim 512", (512, 512)).lengths(65, 20).types(Elem::F32, Elem::F32));
    }
    all.into_iter().map(TestCase::from).collect()
}

/// The cases of these names.
fn named(names: &[&str]) -> Vec<TestCase> {
    let cases = library().entries.into_iter().flat_map(|entry| (entry.cases)());
    let all: HashMap<String, TestCase> = cases.map(|case| (case.name(), case)).collect();
    let of = |name: &&str| all.get(*name).unwrap_or_else(|| panic!("the library has no case {name}")).clone();
    names.iter().map(of).collect()
}

/// Runs the cases on as many threads as there are cores; all must be right.
fn check(harness: &Harness, dialect: Dialect, checks: &Checks, cases: &[TestCase]) {
    let rendered = match dialect {
        Dialect::Cuda => Rendered::cuda(checks.clone()),
        Dialect::Msl => Rendered::metal(checks.clone()),
    };
    let device = harness.device(rendered);
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = case.run(&device) {
                failed.lock().unwrap().push(error.to_string());
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{dialect:?}: {} of {} fail\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn cases_of_every_kernel_are_right_in_cuda_in_any_order_of_threads() {
    let Some(harness) = harness() else { return };
    let cases = [named(BOTH), named(CUDA), planned(Dialect::Cuda)].concat();
    check(&harness, Dialect::Cuda, &Checks::orders(), &cases);
}

#[test]
fn cases_of_every_kernel_are_right_in_metal_in_any_order_of_threads() {
    let Some(harness) = harness() else { return };
    let cases = [named(BOTH), planned(Dialect::Msl)].concat();
    check(&harness, Dialect::Msl, &Checks::orders(), &cases);
}

/// Caches of codes in tiles that CUDA's matrix unit takes as words: dims, group, keys of a tile, and warps across.
fn coded() -> Vec<TestCase> {
    let heads = |heads, queries, keys| Schedule { heads, queries, keys };
    let work = |rows, columns, stages| Work { rows, columns, stages, blocks: 1 };
    use Placement::{Contiguous, Ring};
    type Row = (Elem, (Placement, &'static str, &'static str), usize, [usize; 2], Schedule, Work);
    let rows: [Row; 19] = [
        (Elem::Bf16, (Contiguous, "q4g64", "q4g64"), 128, [1, 333], heads(4, 1, 64), work(1, 1, 2)),
        (Elem::Bf16, (Contiguous, "q8g64", "q8g64"), 128, [1, 333], heads(4, 1, 64), work(1, 1, 2)),
        (Elem::Bf16, (Contiguous, "q4g64", "q4g64"), 128, [1, 333], heads(4, 1, 64), work(1, 4, 2)),
        (Elem::Bf16, (Contiguous, "q8g32", "q8g128"), 128, [1, 200], heads(4, 1, 96), work(1, 4, 3)),
        (Elem::F16, (Contiguous, "q4g32", "q8g64"), 128, [1, 200], heads(4, 1, 32), work(1, 2, 2)),
        (Elem::F16, (Contiguous, "q8g64", "q4g64"), 64, [1, 150], heads(4, 1, 32), work(1, 1, 2)),
        (Elem::Bf16, (Ring, "q4g32", "q8g32"), 64, [3, 150], heads(4, 4, 32), work(1, 2, 1)),
        (Elem::Bf16, (Contiguous, "q8g64", "q8g64"), 64, [3, 150], heads(4, 4, 32), work(1, 1, 2)),
        (
            Elem::Bf16,
            (Placement::Paged { page_size: 16 }, "q8g64", "q4g64"),
            64,
            [3, 150],
            heads(4, 4, 32),
            work(1, 1, 2),
        ),
        (Elem::Bf16, (Contiguous, "q4g64", "q4g64"), 256, [1, 100], heads(4, 1, 32), work(1, 4, 2)),
        (Elem::Bf16, (Contiguous, "q4g64", "q8g64"), 64, [70, 70], heads(1, 64, 32), work(4, 1, 2)),
        (Elem::Bf16, (Contiguous, "q8g32", "q4g32"), 96, [1, 100], heads(4, 1, 32), work(1, 1, 2)),
        (Elem::Bf16, (Contiguous, "q4g64", "q4g64"), 192, [1, 100], heads(2, 1, 32), work(1, 1, 1)),
        (Elem::Bf16, (Contiguous, "q4g128", "q8g128"), 128, [2, 100], heads(4, 2, 64), work(1, 1, 2)),
        (Elem::Bf16, (Contiguous, "q4g64", "q4g64"), 128, [16, 150], heads(4, 16, 64), work(1, 4, 2)),
        (Elem::Bf16, (Contiguous, "q4g128", "q8g128"), 128, [16, 100], heads(4, 16, 64), work(2, 2, 1)),
        (Elem::Bf16, (Contiguous, "q8g64", "q8g64"), 512, [40, 70], heads(1, 32, 32), work(2, 4, 1)),
        (Elem::Bf16, (Contiguous, "q8g64", "q4g32"), 256, [5, 90], heads(4, 8, 32), work(2, 1, 1)),
        (Elem::F16, (Contiguous, "q8g64", "q4g64"), 128, [40, 70], heads(1, 64, 32), work(2, 2, 2)),
    ];
    let codes = |text: &str| Encoding::Affine(text.parse().unwrap());
    let case = |(elem, (placement, keys, values), dim, [q_len, kv], tile, work): Row| {
        let format = Format { placement, keys: codes(keys), values: codes(values), tail: false };
        let name = format!("codes in {format} of {dim} by {tile}, {work}");
        let case = Case::new(name).types(elem, elem).heads(4, if tile.heads == 1 { 4 } else { 1 }).dims(dim, dim);
        case.lengths(q_len, kv).cache(format).tile(tile).work(work).feature(Causal).into()
    };
    rows.into_iter().map(case).collect()
}

#[test]
fn codes_that_the_matrix_unit_takes_as_words_are_right_in_any_order_of_threads() {
    let Some(harness) = harness() else { return };
    check(&harness, Dialect::Cuda, &Checks::orders(), &coded());
    let checks = Checks { runs: vec![], sanitizers: vec![Sanitizer::Address, Sanitizer::Thread], ..Checks::once() };
    check(&harness, Dialect::Cuda, &checks, &coded()[..4]);
}

#[test]
fn sanitizers_find_nothing_in_rendered_kernels() {
    let Some(harness) = harness() else { return };
    for sanitizer in [Sanitizer::Address, Sanitizer::Thread] {
        let checks = Checks { runs: vec![], sanitizers: vec![sanitizer], ..Checks::once() };
        for dialect in DIALECTS {
            check(&harness, dialect, &checks, &named(SANITIZED));
        }
    }
}

#[test]
fn a_barrier_that_is_left_out_of_a_forward_kernel_is_a_race() {
    let Some(harness) = harness() else { return };
    // Enough passes that every slot is filled again.
    let case = Case::new("a prefill in many steps").heads(1, 1).types(Elem::F16, Elem::F16);
    let case = case.dims(64, 64).lengths(65, 260);
    for dialect in DIALECTS {
        let checks = Checks { runs: vec![], sanitizers: vec![Sanitizer::Thread], ..Checks::once() };
        let mut found = 0;
        for barrier in 0.. {
            let all = match dialect {
                Dialect::Cuda => Rendered::cuda(checks.clone()),
                Dialect::Msl => Rendered::metal(checks.clone()),
            };
            let device = harness.device(Rendered { without_barrier: Some(barrier), ..all });
            match case.run(&device).map_err(|error| error.to_string()) {
                Err(error) if error.contains("no barrier of number") => break,
                Err(error) if error.contains("data race") => found += 1,
                other => panic!("{dialect:?}, barrier {barrier}: {other:?}"),
            }
        }
        assert!(found > 1, "{dialect:?}: {found} barriers");
    }
}

#[test]
fn the_selection_has_every_kernel_feature_and_format() {
    let cases = [BOTH, CUDA].concat();
    let names: BTreeSet<&str> = cases.iter().copied().collect();
    assert_eq!(names.len(), cases.len(), "a case is there twice");
    for entry in library().entries {
        let own: Vec<String> = (entry.cases)().iter().map(TestCase::name).collect();
        let of_merge = entry.name() == "attention_merge";
        assert!(of_merge || own.iter().any(|name| names.contains(name.as_str())), "no case of {}", entry.name());
    }
    for feature in tilewright_attention::features::all() {
        let own: Vec<String> = (feature.cases)().iter().map(|case| case.label().to_string()).collect();
        let label = |name: &str| name.rsplit_once('/').map_or(name.to_string(), |(label, _)| label.to_string());
        assert!(names.iter().any(|name| own.contains(&label(name))), "no case of {}", feature.name);
    }
}

/// `TILEWRIGHT_CASES=name,name cargo test -p tilewright-harness --test cases named -- --ignored`.
#[test]
#[ignore = "runs the cases that TILEWRIGHT_CASES names"]
fn cases_named_by_the_environment_are_right() {
    let Some(harness) = harness() else { return };
    let names = std::env::var("TILEWRIGHT_CASES").expect("names of cases, with commas between them");
    let names: Vec<&str> = names.split(',').collect();
    check(&harness, Dialect::Cuda, &Checks::all(), &named(&names));
}
