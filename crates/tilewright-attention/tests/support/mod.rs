//! Tensors for the tests of caches.

use tilewright_ir::Elem;
use tilewright_lang::{bf16, f16};
use tilewright_runtime::Tensor;

/// A tensor of the nearest numbers.
pub fn tensor_of(elem: Elem, numbers: &[f64], shape: &[usize]) -> Tensor {
    let bits = numbers.iter().map(|&x| elem.to_bits(x));
    match elem {
        Elem::F16 => Tensor::from_slice(&bits.map(|b| f16::from_bits(b as u16)).collect::<Vec<_>>(), shape),
        Elem::Bf16 => Tensor::from_slice(&bits.map(|b| bf16::from_bits(b as u16)).collect::<Vec<_>>(), shape),
        _ => Tensor::from_slice(&bits.map(f32::from_bits).collect::<Vec<_>>(), shape),
    }
    .unwrap()
}

/// A number of -2 to 2 that has no pattern.
pub fn number(i: usize) -> f64 {
    let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((bits ^ bits >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / f64::from(1 << 22) - 2.0
}
