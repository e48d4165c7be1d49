//! The kernels that encode and decode a quantised cache, against the reference bit by bit, on both devices.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use safetensors::tensor::SafeTensors;
use std::cell::Cell;
use tilewright_attention::cache::{Cache, CacheError, CodeTensors, dequantise, quantise};
use tilewright_attention::reference::affine::{Encoded, decode, encode};
use tilewright_attention::{Affine, Rounding};
use tilewright_ir::Elem;
use tilewright_lang::{bf16, f16};
use tilewright_runtime::{Device, Tensor};

const TABLE: &[u8] = include_bytes!("data/mlx_affine.safetensors");
const TYPES: [Elem; 3] = [Elem::F32, Elem::F16, Elem::Bf16];

/// A tensor of these bit patterns.
fn tensor(elem: Elem, bits: &[u32], shape: &[usize]) -> Tensor {
    match elem {
        Elem::F16 => Tensor::from_slice(&bits.iter().map(|&b| f16::from_bits(b as u16)).collect::<Vec<_>>(), shape),
        Elem::Bf16 => Tensor::from_slice(&bits.iter().map(|&b| bf16::from_bits(b as u16)).collect::<Vec<_>>(), shape),
        Elem::U32 => Tensor::from_slice(bits, shape),
        _ => Tensor::from_slice(&bits.iter().map(|&b| f32::from_bits(b)).collect::<Vec<_>>(), shape),
    }
    .unwrap()
}

/// The bit patterns of a tensor; every NaN is one.
fn bits(tensor: &Tensor) -> Vec<u32> {
    let elem = tensor.elem();
    let raw: Vec<u32> = match elem.bytes() {
        2 => tensor.as_bytes().chunks_exact(2).map(|b| u32::from(u16::from_ne_bytes([b[0], b[1]]))).collect(),
        _ => tensor.as_bytes().chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect(),
    };
    let one_nan = |b| if elem.is_float() && elem.from_bits(b).is_nan() { u32::MAX } else { b };
    raw.into_iter().map(one_nan).collect()
}

fn same(what: &str, got: &[u32], wanted: &[u32]) -> usize {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert_eq!(got, wanted, "{what}[{i}] is {got:#x} and the reference's is {wanted:#x}");
    }
    got.len()
}

fn to_bits(elem: Elem, values: &[f64]) -> Vec<u32> {
    values.iter().map(|&x| if x.is_nan() { u32::MAX } else { elem.to_bits(x) }).collect()
}

/// Encodes vectors of 128 numbers and decodes them again, and returns how many words and numbers were equal.
fn check(device: &Device, elem: Elem, input: &[f32], format: Affine, rounding: Rounding) -> usize {
    let what = |part: &str| format!("{elem} {format} {rounding} {part}");
    let shape = [1, 1, input.len() / 128, 128];
    let x = tensor(elem, &input.iter().map(|&x| elem.to_bits(x.into())).collect::<Vec<_>>(), &shape);
    let got = quantise(device, x.view(), format, rounding).unwrap();
    let wanted = encode(input, elem, format, rounding).unwrap();
    let equal = same(&what("w"), &bits(&got.w), &wanted.words)
        + same(&what("scales"), &bits(&got.scales), &to_bits(elem, &wanted.scales))
        + same(&what("biases"), &bits(&got.biases), &to_bits(elem, &wanted.biases));
    let back = dequantise(device, got.view()).unwrap();
    assert_eq!(back.shape(), shape);
    let numbers = decode(&wanted, elem, format).unwrap();
    equal + same(&what("decoded"), &bits(&back), &to_bits(elem, &numbers))
}

/// What no table has: NaN among numbers, groups of NaN or infinity, constants so large that the scale vanishes, zeros of both
/// signs, numbers below the normal ones, ties.
fn adversarial() -> Vec<f32> {
    let ramp = |i: usize| (i % 16) as f32 - 15.0;
    let vectors: Vec<Box<dyn Fn(usize) -> f32>> = vec![
        Box::new(move |i| if i == 3 { f32::NAN } else { ramp(i) }),
        Box::new(|_| f32::NAN),
        Box::new(|i| if i == 40 { f32::INFINITY } else { 1.0 }),
        Box::new(|i| if i == 40 { f32::NEG_INFINITY } else { 1.0 }),
        Box::new(|_| f32::INFINITY),
        Box::new(|_| 4e31),
        Box::new(|_| -3.3e38),
        Box::new(|_| 6e4),
        Box::new(|i| if i % 2 == 0 { 6e4 } else { -6e4 }),
        Box::new(|i| if i % 2 == 0 { 3e38 } else { -3e38 }),
        Box::new(|_| 0.0),
        Box::new(|_| -0.0),
        Box::new(|i| if i % 3 == 0 { 0.0 } else { -0.0 }),
        Box::new(|i| i as f32 * 1e-42),
        Box::new(|i| i as f32 * 1e-8 - 3e-7),
        Box::new(|i| i as f32 * 0.5 - 15.0),
        Box::new(|i| (i % 32) as f32 * -0.5),
        Box::new(|i| 1.0 + i as f32 * 1e-7),
    ];
    vectors.iter().flat_map(|vector| (0..128).map(vector)).collect()
}

#[test]
fn the_kernels_have_the_bits_of_the_reference_over_the_table_of_mlx() {
    let table = SafeTensors::deserialize(TABLE).unwrap();
    let mut equal = 0;
    for device in [Device::cpu(), Device::interp()] {
        for elem in TYPES {
            let stored = table.tensor(&format!("{elem}.x")).unwrap();
            let input: Vec<u32> = match elem.bytes() {
                2 => stored.data().chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))).collect(),
                _ => stored.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            };
            let input: Vec<f32> = input.into_iter().map(|b| elem.from_bits(b) as f32).collect();
            assert_eq!(input.len() % 128, 0);
            for (format, rounding) in modes() {
                equal += check(&device, elem, &input, format, rounding);
                equal += check(&device, elem, &adversarial(), format, rounding);
            }
        }
    }
    assert!(equal > 500_000, "compared {equal}");
}

fn modes() -> impl Iterator<Item = (Affine, Rounding)> {
    Affine::all().flat_map(|format| Rounding::ALL.map(|rounding| (format, rounding)))
}

/// Vectors of one size with an offset of another, with ties, and any bits now and then.
fn values() -> impl Strategy<Value = Vec<f32>> {
    let size = (-30.0f64..30.0).prop_map(|e| 10f64.powf(e));
    let offset = prop_oneof![2 => Just(0.0), 1 => -2.0f64..2.0, 1 => -1e3f64..1e3];
    let one = prop_oneof![6 => -1.0f64..1.0, 2 => (-16i32..=16).prop_map(|i| f64::from(i) / 16.0), 1 => Just(0.0)];
    let lone = prop::option::of((0usize..128, any::<u32>()));
    (size, offset, prop::collection::vec(one, 128), lone).prop_map(|(size, offset, values, lone)| {
        let mut values: Vec<f32> = values.iter().map(|x| (size * (x + offset)) as f32).collect();
        if let Some((at, bits)) = lone {
            values[at] = f32::from_bits(bits);
        }
        values
    })
}

fn check_random(device: &Device, cases: u32) {
    let equal = Cell::new(0usize);
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new_with_rng(config, rng).run(&values(), |values| {
        for elem in TYPES {
            for (format, rounding) in modes() {
                equal.set(equal.get() + check(device, elem, &values, format, rounding));
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(equal.get() > 3000 * cases as usize, "compared {}", equal.get());
}

#[test]
fn the_kernels_have_the_bits_of_the_reference_over_random_numbers_on_the_cpu() {
    check_random(&Device::cpu(), 300);
}

#[test]
fn the_kernels_have_the_bits_of_the_reference_over_random_numbers_on_the_interpreter() {
    check_random(&Device::interp(), 10);
}

#[test]
fn any_codes_are_decoded_as_the_reference_decodes_them() {
    let mut equal = 0;
    for device in [Device::cpu(), Device::interp()] {
        for elem in TYPES {
            for format in Affine::all() {
                let (words, groups) = (format.words(128).unwrap(), format.groups(128).unwrap());
                let encoded = Encoded {
                    words: (0..5 * words).map(|i| (i as u32 + 1).wrapping_mul(0x9e37_79b9)).collect(),
                    scales: (0..5 * groups).map(|i| elem.nearest(0.013 * (i as f64 - 2.3))).collect(),
                    biases: (0..5 * groups).map(|i| elem.nearest(1.7 - i as f64)).collect(),
                };
                let of_groups = |values: &[f64]| tensor(elem, &to_bits(elem, values), &[1, 1, 5, groups]);
                let codes = CodeTensors {
                    w: tensor(Elem::U32, &encoded.words, &[1, 1, 5, words]),
                    scales: of_groups(&encoded.scales),
                    biases: of_groups(&encoded.biases),
                    format,
                };
                let back = dequantise(&device, codes.view()).unwrap();
                let wanted = to_bits(elem, &decode(&encoded, elem, format).unwrap());
                equal += same(&format!("{elem} {format}"), &bits(&back), &wanted);
            }
        }
    }
    assert_eq!(equal, 2 * 3 * 6 * 5 * 128);
}

#[test]
fn slots_past_the_window_keep_their_bytes() {
    let format: Affine = "q8g32".parse().unwrap();
    let device = Device::cpu();
    let x: Vec<f32> = (0..2 * 3 * 70 * 32).map(|i| (i % 97) as f32).collect();
    let codes =
        quantise(&device, Tensor::from_slice(&x, &[2, 3, 70, 32]).unwrap().view(), format, Rounding::TiesToEven)
            .unwrap();
    let all = dequantise(&device, codes.view()).unwrap().to_vec::<f32>().unwrap();
    for lens in [[0, 0], [1, 70], [31, 32], [33, 64], [65, 0]] {
        let mut o = Tensor::from_slice(&vec![-777.0f32; all.len()], &[2, 3, 70, 32]).unwrap();
        Cache::new(codes.view(), codes.view()).dequantise_values(&device, &lens, o.view_mut()).unwrap();
        for (i, (&got, &stored)) in o.to_vec::<f32>().unwrap().iter().zip(&all).enumerate() {
            let (entry, token) = (i / (3 * 70 * 32), i / 32 % 70);
            let wanted = if token < lens[entry] as usize { stored } else { -777.0 };
            assert_eq!(got, wanted, "{lens:?} entry {entry} token {token}");
        }
    }
}

#[test]
fn what_cannot_be_quantised_is_refused_with_its_numbers() {
    let device = Device::cpu();
    let of = |shape: &[usize], elem, format: &str| {
        let x = Tensor::zeros(elem, shape).unwrap();
        quantise(&device, x.view(), format.parse().unwrap(), Rounding::Away).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(
        of(&[1, 1, 4, 80], Elem::F32, "q4g32"),
        "80 values do not divide into groups of 32; no group fits, so keep these values in the activation type"
    );
    assert_eq!(of(&[1, 1, 4, 64], Elem::I32, "q4g32"), "x holds i32; it may hold f32, f16 or bf16");
    assert_eq!(of(&[4, 64], Elem::F32, "q4g32"), "x has rank 2 and needs 4: batch, heads, length, dim");

    let x = Tensor::zeros(Elem::F32, &[1, 2, 40, 64]).unwrap();
    let codes = quantise(&device, x.view(), "q4g64".parse().unwrap(), Rounding::TiesToEven).unwrap();
    let refused = |kv_len: &[i32], elem, shape: &[usize]| -> CacheError {
        let mut o = Tensor::zeros(elem, shape).unwrap();
        Cache::new(codes.view(), codes.view()).dequantise_keys(&device, kv_len, o.view_mut()).unwrap_err()
    };
    for (error, wanted) in [
        (refused(&[41], Elem::F32, &[1, 2, 40, 64]), "kv_len[0] is 41; it must be 0 to 40, the length of k and v"),
        (refused(&[-1], Elem::F32, &[1, 2, 40, 64]), "kv_len[0] is -1; it must be 0 to 40, the length of k and v"),
        (
            refused(&[1, 1], Elem::F32, &[1, 2, 40, 64]),
            "kv_len has 2 entries and the batch 1; give one for each batch entry",
        ),
        (refused(&[40], Elem::F16, &[1, 2, 40, 64]), "o holds f16 and the result f32; give a tensor of that type"),
        (
            refused(&[40], Elem::F32, &[1, 2, 40, 32]),
            "o has shape [1, 2, 40, 32] and the result [1, 2, 40, 64]; give a tensor of that shape",
        ),
        (
            refused(&[40], Elem::F32, &[1, 2, 39, 64]),
            "40 tokens of batch entry 0 and o has 39; at most that many can be asked for",
        ),
    ] {
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn no_vectors_are_no_codes() {
    for shape in [[0, 2, 3, 32], [2, 0, 3, 32], [2, 2, 0, 32], [1, 1, 1, 0]] {
        let x = Tensor::zeros(Elem::Bf16, &shape).unwrap();
        let codes = quantise(&Device::cpu(), x.view(), "q4g32".parse().unwrap(), Rounding::TiesToEven).unwrap();
        assert_eq!(codes.w.shape(), [shape[0], shape[1], shape[2], shape[3] / 8]);
        assert_eq!(dequantise(&Device::cpu(), codes.view()).unwrap().shape(), shape);
    }
}
