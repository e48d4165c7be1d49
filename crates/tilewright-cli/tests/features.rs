//! Flags and tensors that change which pairs are attended and how they score, beside attention in f64.

mod support;

use safetensors::tensor::Dtype;
use support::{Pair, SMALL, Tensors, assert_close, attend, refuses};

const DEVICES: [&str; 2] = ["cpu", "interp"];
const BLOCKED: f64 = f64::NEG_INFINITY;

fn small() -> Tensors {
    SMALL.tensors(Dtype::F32, Dtype::F32)
}

fn no_sink(_: usize) -> f64 {
    BLOCKED
}

/// `tile attend` with these tensors and flags gives, on every device, attention with these scores and sinks.
fn check(tensors: &Tensors, flags: &[&str], score: impl Fn(&Pair, f64) -> f64, sink: impl Fn(usize) -> f64) {
    let (o, lse) = SMALL.attention_with(tensors, 0.25, score, sink);
    for device in DEVICES {
        let out = attend(tensors, &[flags, &["--lse", "--device", device]].concat());
        assert_close(&out.values("o"), &o, 2e-6);
        assert_close(&out.values("lse"), &lse, 2e-6);
    }
}

/// As [`check`], for which pairs are attended.
fn check_mask(tensors: &Tensors, flags: &[&str], attended: impl Fn(&Pair) -> bool) {
    check(tensors, flags, |at, score| if attended(at) { score } else { BLOCKED }, no_sink);
}

fn with_f32(name: &str, shape: &[usize], values: &[f64]) -> Tensors {
    small().float(name, Dtype::F32, shape, values)
}

#[test]
fn a_window_has_a_left_and_a_right_side_and_one_left_out_is_unlimited() {
    check_mask(&small(), &["--window", "2"], |at| at.distance() >= -2);
    check_mask(&small(), &["--window", "2,1"], |at| (-2..=1).contains(&at.distance()));
    check_mask(&small(), &["--window", ",1"], |at| at.distance() <= 1);
    check_mask(&small(), &["--window", "0,0"], |at| at.distance() == 0);
    check_mask(&small(), &["--window=3", "--causal"], |at| (-3..=0).contains(&at.distance()));
}

#[test]
fn window_sinks_are_inside_every_window() {
    check_mask(&small(), &["--window", "1,0", "--window-sinks", "2"], |at| {
        at.key < 2 || (-1..=0).contains(&at.distance())
    });
    check_mask(&small(), &["--window", "1,0", "--window-sinks", "0"], |at| (-1..=0).contains(&at.distance()));
    let causal = ["--window", "1,0", "--window-sinks", "7", "--causal"];
    check_mask(&small(), &causal, |at| at.distance() <= 0 && (at.key < 7 || at.distance() >= -1));
}

#[test]
fn softcap_bounds_the_scores() {
    check(&small(), &["--softcap", "0.5"], |_, score| 0.5 * (score / 0.5).tanh(), no_sink);
    for cap in ["--softcap=0", "--softcap=-1"] {
        refuses(&small(), &[cap], 2, "softcap");
    }
}

/// Whether a mask of so many cells blocks one of them.
fn hole(cell: usize) -> bool {
    cell % 3 == 1
}

#[test]
fn a_boolean_mask_of_any_rank_says_what_is_attended() {
    /// A shape, and the cell of a pair.
    type Cells = (&'static [usize], fn(&Pair) -> usize);
    let shapes: [Cells; 6] = [
        (&[9], |at| at.key),
        (&[5, 9], |at| at.row * 9 + at.key),
        (&[1, 9], |at| at.key),
        (&[4, 5, 9], |at| (at.head * 5 + at.row) * 9 + at.key),
        (&[2, 1, 5, 9], |at| (at.batch * 5 + at.row) * 9 + at.key),
        (&[2, 4, 5, 9], |at| ((at.batch * 4 + at.head) * 5 + at.row) * 9 + at.key),
    ];
    for (shape, cell) in shapes {
        let cells = (0..shape.iter().product()).map(|cell| !hole(cell));
        for (dtype, on) in [(Dtype::BOOL, 1), (Dtype::BOOL, 2), (Dtype::U8, 1), (Dtype::U8, 200)] {
            let bytes = cells.clone().map(|attended| if attended { on } else { 0 }).collect();
            check_mask(&small().raw("mask", dtype, shape, bytes), &[], |at| !hole(cell(at)));
        }
    }
}

#[test]
fn an_additive_mask_is_added_and_minus_infinity_blocks() {
    let bias = |cell: usize| if hole(cell) { BLOCKED } else { (cell % 8) as f64 / 4.0 - 1.0 };
    let values: Vec<f64> = (0..45).map(bias).collect();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let tensors = small().float("mask", dtype, &[5, 9], &values);
        check(&tensors, &[], |at, score| score + bias(at.row * 9 + at.key), no_sink);
    }
}

#[test]
fn keys_past_the_end_of_a_mask_are_blocked_and_a_longer_mask_is_refused() {
    check_mask(&small().raw("mask", Dtype::BOOL, &[4], vec![1; 4]), &[], |at| at.key < 4);
    refuses(&small().raw("mask", Dtype::BOOL, &[10], vec![1; 10]), &[], 2, "10");
}

#[test]
fn a_mask_and_causal_both_have_to_allow_a_pair() {
    let tensors = small().raw("mask", Dtype::BOOL, &[9], (0..9).map(|cell| u8::from(!hole(cell))).collect());
    check_mask(&tensors, &["--causal"], |at| !hole(at.key) && at.distance() <= 0);
}

#[test]
fn a_class_map_changes_no_bit() {
    let bytes: Vec<u8> = (0..45).map(|cell| u8::from(cell % 9 < 6 && !hole(cell))).collect();
    let tensors = small().raw("mask", Dtype::BOOL, &[5, 9], bytes);
    for flags in [["--lse"].as_slice(), &["--lse", "--causal"]] {
        let plain = attend(&tensors, flags);
        let mapped = attend(&tensors, &[flags, &["--class-map"]].concat());
        for name in ["o", "lse"] {
            assert_eq!(plain.bytes(name), mapped.bytes(name), "{flags:?} {name}");
        }
    }
    let bench = support::Bench::new(&tensors);
    let outcome = bench.attend(&["--class-map", "--json"]);
    assert!(outcome.stdout.contains("classified"), "{outcome:?}");
    refuses(&small(), &["--class-map"], 2, "`--class-map` does not fit; a tensor `mask` is needed");
}

#[test]
fn sinks_add_to_the_denominator_only() {
    let logits = [0.5, -1.0, BLOCKED, 3.0];
    check(&with_f32("sinks", &[4], &logits), &[], |_, score| score, |head| logits[head]);
    // A row that attends to nothing is zero, and its lse the logit.
    let out = attend(&with_f32("sinks", &[4], &logits), &["--q-start=-9", "--causal", "--lse"]);
    assert_eq!(out.values("o")[..24], [0.0; 24]);
    assert_close(&out.values("lse")[..1], &[0.5], 1e-6);
}

#[test]
fn alibi_adds_a_slope_times_the_distance() {
    let slopes = [0.5, -0.25, 0.0, 1.0];
    let bias = |at: &Pair, score| score + slopes[at.head] * at.distance() as f64;
    check(
        &with_f32("alibi", &[4], &slopes),
        &["--causal"],
        |at, s| if at.distance() > 0 { BLOCKED } else { bias(at, s) },
        no_sink,
    );
}

#[test]
fn a_tree_says_which_drafts_each_query_sees() {
    // Drafts 1 and 2 are children of 0, 3 of 1, 4 of 2.
    let sees = |row: usize, draft: usize| {
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 1, 0, 1, 0], [1, 0, 1, 0, 1]][row][draft] != 0
    };
    let bytes: Vec<u8> = (0..25).map(|cell| u8::from(sees(cell / 5, cell % 5))).collect();
    for dtype in [Dtype::BOOL, Dtype::U8] {
        let tensors = small().raw("tree", dtype, &[5, 5], bytes.clone());
        check_mask(&tensors, &[], |at| at.key < 4 || sees(at.row, at.key - 4));
    }
}

#[test]
fn everything_together_is_applied_in_the_order_of_the_contract() {
    let (logits, slopes) = ([0.5, -1.0, 0.25, 2.0], [0.5, -0.25, 0.125, 1.0]);
    let bias = |cell: usize| if cell % 7 == 3 { BLOCKED } else { (cell % 5) as f64 / 4.0 };
    let values: Vec<f64> = (0..45).map(bias).collect();
    let tensors = with_f32("sinks", &[4], &logits)
        .float("alibi", Dtype::F32, &[4], &slopes)
        .float("mask", Dtype::F16, &[5, 9], &values)
        .raw("tree", Dtype::BOOL, &[5, 5], vec![1; 25]);
    let score = |at: &Pair, score: f64| {
        let inside = at.key < 1 || at.distance() >= -4;
        let capped = 0.75 * (score / 0.75).tanh();
        let biased = capped + slopes[at.head] * at.distance() as f64 + bias(at.row * 9 + at.key);
        if inside && at.distance() <= 0 { biased } else { BLOCKED }
    };
    let flags = ["--causal", "--window", "4", "--window-sinks", "1", "--softcap", "0.75"];
    check(&tensors, &flags, score, |head| logits[head]);
    check(&tensors, &[&flags[..], &["--splits", "3"]].concat(), score, |head| logits[head]);
}

#[test]
fn tensors_of_another_shape_or_type_are_refused_by_name() {
    let ones = |count: usize| vec![1.0; count];
    refuses(&with_f32("sinks", &[3], &ones(3)), &[], 2, "tensor `sinks` is f32 [3]; shape [4] is needed");
    refuses(&with_f32("alibi", &[1, 4], &ones(4)), &[], 2, "tensor `alibi` is f32 [1, 4]; shape [4] is needed");
    refuses(&small().float("sinks", Dtype::F16, &[4], &ones(4)), &[], 2, "tensor `sinks` is F16 [4]; F32 is needed");
    refuses(&with_f32("tree", &[5, 5], &ones(25)), &[], 2, "tensor `tree` is F32 [5, 5]; BOOL or U8 is needed");
    refuses(&small().raw("tree", Dtype::U8, &[4, 4], vec![1; 16]), &[], 2, "tensor `tree` is u8 [4, 4]; shape [5, 5]");
    refuses(&small().i32("mask", &[1; 9]), &[], 2, "tensor `mask` is I32 [9]; BOOL, U8, F32, F16 or BF16 is needed");
    refuses(&small().raw("mask", Dtype::BOOL, &[], vec![1]), &[], 2, "mask");
    refuses(&small().raw("mask", Dtype::BOOL, &[3, 5, 9], vec![1; 135]), &[], 2, "mask");
    refuses(
        &small().raw("mask", Dtype::BOOL, &[1; 5], vec![1]),
        &[],
        2,
        "tensor `mask` is BOOL [1, 1, 1, 1, 1]; rank 4",
    );
    refuses(&with_f32("alibi", &[4], &[1.0, f64::NAN, 1.0, 1.0]), &[], 2, "alibi");
}
