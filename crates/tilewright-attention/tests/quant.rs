//! The format of the quantised cache and its reference, against the contract: closed forms, the round trip's bound, and
//! what is refused.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::Cell;
use tilewright_attention::reference::affine::{Encoded, decode, encode};
use tilewright_attention::{Affine, Bits, Group, QuantError, Rounding};
use tilewright_ir::Elem;

const TYPES: [Elem; 3] = [Elem::F32, Elem::F16, Elem::Bf16];
const Q4G32: Affine = Affine { bits: Bits::Four, group: Group::Of32 };

/// The unit roundoff, the least normal number, and half the step below it.
fn precision(elem: Elem) -> (f64, f64, f64) {
    let (digits, least): (i32, i32) = match elem {
        Elem::F16 => (11, -14),
        Elem::Bf16 => (8, -126),
        _ => (24, -126),
    };
    (2f64.powi(-digits), 2f64.powi(least), 2f64.powi(least - digits))
}

fn codes(words: &[u32], bits: Bits) -> Vec<u32> {
    let code = |word: u32| (0..bits.codes_per_word()).map(move |i| word >> (bits.width() * i) & bits.largest());
    words.iter().copied().flat_map(code).collect()
}

#[test]
fn a_ramp_of_integers_is_its_own_codes() {
    // The edge is -15, so the scale is positive and the bias is the least value.
    let values: Vec<f32> = (0..32).map(|i| (i % 16) as f32 - 15.0).collect();
    let found = encode(&values, Elem::F32, Q4G32, Rounding::TiesToEven).unwrap();
    let words = vec![0x7654_3210, 0xfedc_ba98, 0x7654_3210, 0xfedc_ba98];
    assert_eq!(found, Encoded { words, scales: vec![1.0], biases: vec![-15.0] });
    assert_eq!(decode(&found, Elem::F32, Q4G32).unwrap(), values.iter().map(|&x| x.into()).collect::<Vec<f64>>());
}

#[test]
fn an_edge_at_the_top_counts_down_from_it() {
    let values: Vec<f32> = (0..32).map(|i| (i % 16) as f32).collect();
    let found = encode(&values, Elem::F32, Q4G32, Rounding::TiesToEven).unwrap();
    let words = vec![0x89ab_cdef, 0x0123_4567, 0x89ab_cdef, 0x0123_4567];
    assert_eq!(found, Encoded { words, scales: vec![-1.0], biases: vec![15.0] });
}

#[test]
fn zeros_and_constants_have_codes_of_zero() {
    for (elem, format, rounding) in every_mode() {
        for constant in [0.0, 0.75, -3.0, 6e4, -1e-3] {
            let stored = elem.nearest(f64::from(constant));
            let found = encode(&[constant; 128], elem, format, rounding).unwrap();
            assert!(found.words.iter().all(|&word| word == 0), "{elem} {format} {constant}");
            assert!(found.biases.iter().all(|&bias| bias == stored), "{elem} {format} {constant}");
            if constant == 0.0 {
                assert!(found.scales.iter().all(|&scale| scale == elem.nearest(f64::from(-1e-7f32))));
            }
            assert_eq!(decode(&found, elem, format).unwrap(), [stored; 128], "{elem} {format} {constant}");
        }
    }
}

#[test]
fn a_tie_goes_to_the_even_code_or_away_from_zero() {
    let mut values = [0.0; 32];
    values[..4].copy_from_slice(&[-15.0, -14.5, -13.5, -12.5]);
    let of = |rounding| codes(&encode(&values, Elem::F32, Q4G32, rounding).unwrap().words, Bits::Four)[..4].to_vec();
    assert_eq!(of(Rounding::TiesToEven), [0, 0, 2, 2]);
    assert_eq!(of(Rounding::Away), [0, 1, 2, 3]);
}

#[test]
fn a_nan_is_the_code_zero_and_leaves_its_group_in_order() {
    let mut values: Vec<f32> = (0..32).map(|i| (i % 16) as f32 - 15.0).collect();
    values[3] = f32::NAN;
    let found = encode(&values, Elem::F32, Q4G32, Rounding::TiesToEven).unwrap();
    assert_eq!((found.words[0], found.scales[0], found.biases[0]), (0x7654_0210, 1.0, -15.0));
}

#[test]
fn a_group_of_f16_that_spans_more_than_its_largest_number_overflows() {
    let values: Vec<f32> = (0..32).map(|i| if i % 2 == 0 { 6e4 } else { -6e4 }).collect();
    let found = encode(&values, Elem::F16, Q4G32, Rounding::TiesToEven).unwrap();
    let back = decode(&found, Elem::F16, Q4G32).unwrap();
    assert_eq!(back[..2], [6e4, f64::NEG_INFINITY]);
}

fn every_mode() -> impl Iterator<Item = (Elem, Affine, Rounding)> {
    let modes = |elem| Affine::all().flat_map(move |format| Rounding::ALL.map(|rounding| (elem, format, rounding)));
    TYPES.into_iter().flat_map(modes)
}

/// Values of one size with an offset of another, with ties, zeros and lone large ones.
fn values() -> impl Strategy<Value = Vec<f32>> {
    let size = (-6.0f64..4.0).prop_map(|e| 10f64.powf(e));
    let offset = prop_oneof![2 => Just(0.0), 1 => -2.0f64..2.0, 1 => -1e3f64..1e3];
    let one = prop_oneof![6 => -1.0f64..1.0, 2 => (-16i32..=16).prop_map(|i| f64::from(i) / 16.0), 1 => Just(0.0)];
    (size, offset, prop::collection::vec(one, 128), prop::option::of(0usize..128)).prop_map(
        |(size, offset, mut values, outlier)| {
            if let Some(i) = outlier {
                values[i] *= 100.0;
            }
            // No larger than 3e4: the span of a group of f16 has to fit f16.
            values.iter().map(|x| (size * (x + offset)).clamp(-3e4, 3e4) as f32).collect()
        },
    )
}

#[test]
fn a_round_trip_stays_within_the_contracts_bound() {
    let compared = Cell::new([0usize; 2]);
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner =
        TestRunner::new_with_rng(Config { cases: 400, failure_persistence: None, ..Config::default() }, rng);
    let result = runner.run(&values(), |values| {
        for (elem, format, rounding) in every_mode() {
            let (u, normal, half_step) = precision(elem);
            let n = f64::from(format.bits.largest());
            let found = encode(&values, elem, format, rounding).unwrap();
            let back = decode(&found, elem, format).unwrap();
            let groups = found.scales.iter().zip(&found.biases);
            let pairs = values.chunks(format.group.size()).zip(back.chunks(format.group.size()));
            for ((s, b), (values, back)) in groups.zip(pairs) {
                // A scale or bias below the normal numbers is rounded to a step, not to a part of itself.
                let subnormal = s.abs() < normal || (*b != 0.0 && b.abs() < normal);
                let steps = if subnormal { (n + 3.0) * half_step } else { 0.0 };
                let bound = s.abs() + u * (n * s.abs() + 3.0 * b.abs()) + steps;
                for (x, y) in values.iter().zip(back) {
                    let error = (elem.nearest(f64::from(*x)) - y).abs();
                    prop_assert!(
                        error <= bound,
                        "{elem} {format} {rounding}: {x} gives {y}, off by {error:e} > {bound:e}, s={s:e} b={b:e}"
                    );
                }
                let mut counts = compared.get();
                counts[usize::from(subnormal)] += values.len();
                compared.set(counts);
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let [plain, subnormal] = compared.get();
    assert!(plain > 500_000 && subnormal > 10_000, "compared {plain} and {subnormal} values");
}

#[test]
fn a_second_round_trip_of_exact_codes_changes_nothing() {
    // Powers of two as scales: every level is exact, so codes come back as they were.
    for (elem, format, rounding) in every_mode() {
        let n = format.bits.largest() as usize;
        let values: Vec<f32> = (0..128).map(|i| 0.25 * (((i * 37 + i / 32) % (n + 1)) as f32 - n as f32)).collect();
        let values: Vec<f32> = values.iter().enumerate().map(|(i, &x)| ends(i, x, n)).collect();
        let found = encode(&values, elem, format, rounding).unwrap();
        let back: Vec<f32> = decode(&found, elem, format).unwrap().iter().map(|&x| x as f32).collect();
        assert_eq!(back, values, "{elem} {format} {rounding}");
        assert_eq!(encode(&back, elem, format, rounding).unwrap(), found, "{elem} {format} {rounding}");
    }
}

/// The least value first and 0 second in each 32 values, so that every group spans all levels.
fn ends(i: usize, x: f32, n: usize) -> f32 {
    match i % 32 {
        0 => -0.25 * n as f32,
        1 => 0.0,
        _ => x,
    }
}

#[test]
fn a_format_has_a_text_and_sizes() {
    for format in Affine::all() {
        assert_eq!(format.to_string().parse(), Ok(format));
        assert_eq!(format.words(256).unwrap(), 256 * format.bits.width() / 32);
        assert_eq!(format.groups(256).unwrap(), 256 / format.group.size());
        assert_eq!((format.words(0), format.groups(0)), (Ok(0), Ok(0)));
    }
    assert_eq!(Q4G32.to_string(), "q4g32");
    for rounding in Rounding::ALL {
        assert_eq!(rounding.to_string().parse(), Ok(rounding));
    }
}

#[test]
fn what_does_not_fit_the_format_is_refused_with_its_numbers() {
    let says = |error: QuantError, wanted: &str| assert_eq!(error.to_string(), wanted);
    let q8g128: Affine = "q8g128".parse().unwrap();
    says(
        encode(&[0.0; 80], Elem::F32, Q4G32, Rounding::TiesToEven).unwrap_err(),
        "80 values do not divide into groups of 32; no group fits, so keep these values in the activation type",
    );
    says(q8g128.words(192).unwrap_err(), "192 values do not divide into groups of 128; groups of 64 fit");
    says(q8g128.groups(96).unwrap_err(), "96 values do not divide into groups of 128; groups of 32 fit");
    says(
        encode(&[0.0; 32], Elem::I32, Q4G32, Rounding::Away).unwrap_err(),
        "values of i32 cannot be quantised; the activation type is f32, f16 or bf16",
    );
    says(
        decode(&Encoded { words: vec![0; 7], scales: vec![1.0; 2], biases: vec![0.0] }, Elem::F32, Q4G32).unwrap_err(),
        "2 groups of q4g32 have 8 words and 2 biases; here are 7 words and 1 biases",
    );
    says(
        "q5g64".parse::<Affine>().unwrap_err(),
        "`q5g64` names no quantised format; it is q4 or q8, then g32, g64 or g128, as in q4g64",
    );
    says("odd".parse::<Rounding>().unwrap_err(), "`odd` names no rounding; it is `even` or `away`");
}
