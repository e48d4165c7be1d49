//! `tile attend` on inputs of every type and layout, beside attention in f64.

mod support;

use safetensors::tensor::Dtype;
use support::{Bench, SMALL, Sizes, Tensors, assert_close, attend, noise};

const DEVICES: [&str; 2] = ["cpu", "interp"];

/// Rounding of o, then the bound of f32 with a margin for values within 1.
fn bound(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 2e-3,
        Dtype::BF16 => 1.6e-2,
        _ => 2e-6,
    }
}

fn causal(sizes: Sizes) -> impl Fn(usize, usize) -> usize {
    move |_, row| sizes.kv_len + row + 1 - sizes.q_len
}

#[test]
fn every_type_and_layout_gives_attention_on_every_device() {
    let mixes = [
        (Dtype::F32, Dtype::F32),
        (Dtype::F16, Dtype::F16),
        (Dtype::BF16, Dtype::BF16),
        (Dtype::F32, Dtype::F16),
        (Dtype::F32, Dtype::BF16),
    ];
    for (q, kv) in mixes {
        for (layout, sequence_major) in [("bhld", false), ("blhd", true)] {
            let sizes = Sizes { sequence_major, ..SMALL };
            let tensors = sizes.tensors(q, kv);
            let (o, lse) = sizes.attention(&tensors, 0.25, causal(sizes));
            for device in DEVICES {
                let out = attend(&tensors, &["--device", device, "--layout", layout, "--causal", "--lse"]);
                assert_eq!(out.names(), ["lse", "o"]);
                assert_eq!((out.dtype("o"), out.shape("o")), (q, &sizes.o_shape()[..]));
                assert_eq!((out.dtype("lse"), out.shape("lse")), (Dtype::F32, &[2, 4, 5][..]));
                assert_close(&out.values("o"), &o, bound(q));
                assert_close(&out.values("lse"), &lse, 1e-5);
            }
        }
    }
}

#[test]
fn rank_3_is_one_batch_entry() {
    for (layout, sequence_major) in [("bhld", false), ("blhd", true)] {
        let sizes = Sizes { batch: 1, sequence_major, ..SMALL };
        let whole = sizes.tensors(Dtype::F32, Dtype::F32);
        let mut flat = Tensors::default();
        for name in ["q", "k", "v"] {
            flat = flat.float(name, Dtype::F32, &whole.shape(name)[1..], &whole.values(name));
        }
        let (o, lse) = sizes.attention(&whole, 0.25, |_, _| 9);
        let out = attend(&flat, &["--layout", layout, "--lse"]);
        assert_eq!(out.shape("o"), &sizes.o_shape()[1..]);
        assert_eq!(out.shape("lse"), [4, 5]);
        assert_close(&out.values("o"), &o, 2e-6);
        assert_close(&out.values("lse"), &lse, 1e-5);
    }
}

#[test]
fn lse_is_written_only_when_asked_for() {
    assert_eq!(attend(&SMALL.tensors(Dtype::F32, Dtype::F32), &[]).names(), ["o"]);
}

#[test]
fn scale_and_q_start_take_negative_numbers() {
    let tensors = SMALL.tensors(Dtype::F32, Dtype::F32);
    let last = |_: usize, row: usize| row.saturating_sub(1); // position -2 + row
    let (o, _) = SMALL.attention(&tensors, -0.5, last);
    let o: Vec<f64> = o.iter().map(|x| if x.is_nan() { 0.0 } else { *x }).collect();
    for flags in
        [["--scale=-0.5", "--q-start=-2", "--causal"].as_slice(), &["--scale", "-0.5", "--q-start", "-2", "--causal"]]
    {
        assert_close(&attend(&tensors, flags).values("o"), &o, 2e-6);
    }
}

#[test]
fn a_row_without_keys_is_zero_and_its_lse_minus_infinity() {
    let out = attend(&SMALL.tensors(Dtype::F32, Dtype::F32), &["--q-start=-1", "--causal", "--lse"]);
    assert_eq!(out.values("o")[..24], [0.0; 24]);
    assert_eq!(out.values("lse")[0], f64::NEG_INFINITY);
    assert!(out.values("lse")[1].is_finite());
}

#[test]
fn kv_len_counts_keys_of_each_batch_entry_in_every_integer_type() {
    let mut tensors = SMALL.tensors(Dtype::F32, Dtype::F32);
    let lens = [6usize, 9];
    let (o, _) = SMALL.attention(&tensors, 0.25, |batch, row| lens[batch] + row + 1 - 5);
    // What does not count may hold anything.
    for name in ["k", "v"] {
        let shape = tensors.shape(name).to_vec();
        let mut values = tensors.values(name);
        for head in 0..2 {
            values[(head * 9 + 6) * shape[3]..(head + 1) * 9 * shape[3]].fill(f64::NAN);
        }
        tensors = tensors.float(name, Dtype::F32, &shape, &values);
    }
    let encodings = [
        (Dtype::I32, lens.iter().flat_map(|&n| (n as i32).to_le_bytes()).collect::<Vec<u8>>()),
        (Dtype::U32, lens.iter().flat_map(|&n| (n as u32).to_le_bytes()).collect()),
        (Dtype::I64, lens.iter().flat_map(|&n| (n as i64).to_le_bytes()).collect()),
    ];
    for (dtype, bytes) in encodings {
        for device in DEVICES {
            let with_len = tensors.clone().raw("kv_len", dtype, &[2], bytes.clone());
            let out = attend(&with_len, &["--causal", "--device", device]);
            assert_close(&out.values("o"), &o, 2e-6);
        }
    }
}

#[test]
fn dtype_rounds_the_inputs_first_and_gives_o_that_type() {
    for (name, dtype) in [("f32", Dtype::F32), ("f16", Dtype::F16), ("bf16", Dtype::BF16)] {
        for from in [Dtype::F32, Dtype::F16] {
            let tensors = SMALL.tensors(from, from);
            let mut rounded = Tensors::default();
            for tensor in ["q", "k", "v"] {
                rounded = rounded.float(tensor, dtype, tensors.shape(tensor), &tensors.values(tensor));
            }
            let out = attend(&tensors, &["--dtype", name]);
            assert_eq!(out.dtype("o"), dtype);
            assert_eq!(out.values("o"), attend(&rounded, &[]).values("o"));
        }
    }
}

#[test]
fn no_queries_give_an_empty_output() {
    let sizes = Sizes { q_len: 0, ..SMALL };
    let out = attend(&sizes.tensors(Dtype::F32, Dtype::F32), &["--lse", "--causal"]);
    assert_eq!(out.shape("o"), [2, 4, 0, 24]);
    assert_eq!(out.shape("lse"), [2, 4, 0]);
    let sizes = Sizes { batch: 0, ..SMALL };
    assert_eq!(attend(&sizes.tensors(Dtype::F32, Dtype::F32), &[]).shape("o"), [0, 4, 5, 24]);
}

fn expecting(dtype: Dtype) -> (Tensors, Vec<f64>, Vec<f64>) {
    let tensors = SMALL.tensors(dtype, dtype);
    let (o, lse) = SMALL.attention(&tensors, 0.25, causal(SMALL));
    (tensors, o, lse)
}

#[test]
fn results_are_compared_with_o_and_lse_of_the_file() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let (tensors, o, lse) = expecting(dtype);
        let tensors = tensors.float("o", dtype, &SMALL.o_shape(), &o).float("lse", Dtype::F32, &[2, 4, 5], &lse);
        let bench = Bench::new(&tensors);
        let outcome = bench.attend(&["--causal"]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.stdout.contains("against the file's o"), "{}", outcome.stdout);
        assert!(outcome.stdout.contains("against the file's lse"), "{}", outcome.stdout);
        assert_eq!(outcome.stdout.matches("holds").count(), 2, "{}", outcome.stdout);
        assert_eq!(Tensors::read(&bench.output()).names(), ["o"]);
    }
}

#[test]
fn an_o_of_another_type_gives_way_to_f64_on_the_rounded_inputs() {
    let (tensors, o, _) = expecting(Dtype::F32);
    let bench = Bench::new(&tensors.float("o", Dtype::F32, &SMALL.o_shape(), &o));
    let outcome = bench.attend(&["--causal", "--dtype", "bf16", "--json"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let check = &report["checks"][0];
    assert_eq!((&check["against"], &check["holds"]), (&"f64".into(), &true.into()), "{check}");
    assert_eq!(check["compared"], o.len());
    assert_eq!(report["dtype"], "bf16");
}

#[test]
fn a_result_outside_of_the_bound_fails_and_writes_nothing() {
    let (tensors, mut o, mut lse) = expecting(Dtype::F32);
    o[7] += 1e-3;
    support::refuses(&tensors.clone().float("o", Dtype::F32, &SMALL.o_shape(), &o), &["--causal"], 1, "error bound: o");
    o[7] = f64::NAN;
    support::refuses(&tensors.clone().float("o", Dtype::F32, &SMALL.o_shape(), &o), &["--causal"], 1, "error bound: o");
    lse[3] -= 1e-3;
    support::refuses(&tensors.float("lse", Dtype::F32, &[2, 4, 5], &lse), &["--causal"], 1, "error bound: lse");
}

#[test]
fn a_nan_in_a_query_reaches_only_its_rows() {
    let mut q = noise(SMALL.q_shape().iter().product(), 1);
    q[0] = f64::NAN;
    let clean = attend(&SMALL.tensors(Dtype::F32, Dtype::F32), &[]);
    let out = attend(&SMALL.tensors(Dtype::F32, Dtype::F32).float("q", Dtype::F32, &SMALL.q_shape(), &q), &[]);
    assert!(out.values("o")[0].is_nan());
    let second_batch = 4 * 5 * 24;
    assert_eq!(out.values("o")[second_batch..], clean.values("o")[second_batch..]);
}
