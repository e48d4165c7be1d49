//! The reference of the quantised cache against MLX itself: a table that MLX made on the CPU (`data/mlx_affine.py`).
//! Every word, scale, bias and dequantised value has MLX's bits.

use safetensors::tensor::{Dtype, SafeTensors};
use tilewright_attention::reference::affine::{Encoded, decode, encode};
use tilewright_attention::{Affine, Rounding};
use tilewright_ir::Elem;

const TABLE: &[u8] = include_bytes!("data/mlx_affine.safetensors");

/// A tensor's elements as bit patterns, after its type was checked.
fn bits(table: &SafeTensors<'_>, name: &str, dtype: Dtype) -> Vec<u32> {
    let tensor = table.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(tensor.dtype(), dtype, "{name}");
    match dtype {
        Dtype::F32 | Dtype::U32 => {
            tensor.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        _ => tensor.data().chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))).collect(),
    }
}

/// Holds two lists of bit patterns against each other and says how many were equal, which is all of them.
fn same(what: &str, got: &[u32], wanted: &[u32]) -> usize {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert_eq!(got, wanted, "{what}[{i}] is {got:#x} and MLX's is {wanted:#x}");
    }
    got.len()
}

#[test]
fn the_reference_has_the_bits_of_mlx() {
    let table = SafeTensors::deserialize(TABLE).unwrap();
    let (mut words, mut values) = (0, 0);
    for (elem, dtype) in [(Elem::F32, Dtype::F32), (Elem::F16, Dtype::F16), (Elem::Bf16, Dtype::BF16)] {
        let to_bits = |values: &[f64]| values.iter().map(|&x| elem.to_bits(x)).collect::<Vec<_>>();
        let input: Vec<f32> =
            bits(&table, &format!("{elem}.x"), dtype).iter().map(|&b| elem.from_bits(b) as f32).collect();
        for format in Affine::all() {
            let name = |part: &str| format!("{elem}.{format}.{part}");
            let stored = |part: &str| bits(&table, &name(part), dtype);
            let got = encode(&input, elem, format, Rounding::TiesToEven).unwrap();
            words += same(&name("w"), &got.words, &bits(&table, &name("w"), Dtype::U32));
            values += same(&name("s"), &to_bits(&got.scales), &stored("s"));
            values += same(&name("b"), &to_bits(&got.biases), &stored("b"));
            // What MLX stored is what is decoded, so that this half stands without the other.
            let from_bits = |bits: Vec<u32>| bits.into_iter().map(|b| elem.from_bits(b)).collect();
            let theirs = Encoded {
                words: bits(&table, &name("w"), Dtype::U32),
                scales: from_bits(stored("s")),
                biases: from_bits(stored("b")),
            };
            values += same(&name("x"), &to_bits(&decode(&theirs, elem, format).unwrap()), &stored("x"));
        }
    }
    assert!(words > 10_000 && values > 50_000, "compared {words} words and {values} values");
}

#[test]
fn the_table_has_ties_that_the_two_roundings_break_apart() {
    let table = SafeTensors::deserialize(TABLE).unwrap();
    let input: Vec<f32> = bits(&table, "f32.x", Dtype::F32).into_iter().map(f32::from_bits).collect();
    for format in Affine::all() {
        let [even, away] = Rounding::ALL.map(|rounding| encode(&input, Elem::F32, format, rounding).unwrap());
        let differ = even.words.iter().zip(&away.words).filter(|(a, b)| a != b).count();
        assert!(differ > 0, "{format}: no tie");
    }
}
