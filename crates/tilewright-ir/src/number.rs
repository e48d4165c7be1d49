//! What an element type can hold: rounding, wrapping, and bit patterns. Numbers travel as f64, which holds every value of
//! every element type exactly.

use crate::types::Elem;
use half::{bf16, f16};

impl Elem {
    /// The nearest value of this type: floats round, ties to even; integers truncate and saturate, and NaN becomes 0; a
    /// bool is whether the number differs from 0.
    pub fn nearest(self, x: f64) -> f64 {
        match self {
            Elem::F32 => f64::from(x as f32),
            Elem::F16 => f16::from_f32(rounded_to_odd(x)).to_f64(),
            Elem::Bf16 => bf16::from_f32(rounded_to_odd(x)).to_f64(),
            Elem::I32 => f64::from(x as i32),
            Elem::U32 => f64::from(x as u32),
            Elem::I8 => f64::from(x as i8),
            Elem::U8 => f64::from(x as u8),
            Elem::Bool => f64::from(u8::from(x != 0.0)),
        }
    }

    /// The value of an integer type that has the low bits of `x`; for bool the lowest one, for floats the nearest value.
    pub fn wrap(self, x: i64) -> f64 {
        match self {
            Elem::F32 | Elem::F16 | Elem::Bf16 => self.nearest(x as f64),
            Elem::I32 => f64::from(x as i32),
            Elem::U32 => f64::from(x as u32),
            Elem::I8 => f64::from(x as i8),
            Elem::U8 => f64::from(x as u8),
            Elem::Bool => (x & 1) as f64,
        }
    }

    /// The bit pattern of the [nearest](Elem::nearest) value, in the low bits.
    pub fn to_bits(self, x: f64) -> u32 {
        match self {
            Elem::F32 => (x as f32).to_bits(),
            Elem::F16 => u32::from(f16::from_f32(rounded_to_odd(x)).to_bits()),
            Elem::Bf16 => u32::from(bf16::from_f32(rounded_to_odd(x)).to_bits()),
            Elem::I32 => x as i32 as u32,
            Elem::U32 => x as u32,
            Elem::I8 => u32::from(x as i8 as u8),
            Elem::U8 => u32::from(x as u8),
            Elem::Bool => u32::from(x != 0.0),
        }
    }

    /// The value with this bit pattern in the low bits; for bool, whether the low byte differs from 0.
    pub fn from_bits(self, bits: u32) -> f64 {
        match self {
            Elem::F32 => f64::from(f32::from_bits(bits)),
            Elem::F16 => f16::from_bits(bits as u16).to_f64(),
            Elem::Bf16 => bf16::from_bits(bits as u16).to_f64(),
            Elem::I32 => f64::from(bits as i32),
            Elem::U32 => f64::from(bits),
            Elem::I8 => f64::from(bits as i8),
            Elem::U8 => f64::from(bits as u8),
            Elem::Bool => f64::from(u8::from(bits as u8 != 0)),
        }
    }

    /// The least value: minus infinity for floats.
    pub fn least(self) -> f64 {
        match self {
            Elem::F32 | Elem::F16 | Elem::Bf16 => f64::NEG_INFINITY,
            Elem::I32 => f64::from(i32::MIN),
            Elem::I8 => f64::from(i8::MIN),
            Elem::U32 | Elem::U8 | Elem::Bool => 0.0,
        }
    }

    /// The greatest value: infinity for floats.
    pub fn greatest(self) -> f64 {
        match self {
            Elem::F32 | Elem::F16 | Elem::Bf16 => f64::INFINITY,
            Elem::I32 => f64::from(i32::MAX),
            Elem::U32 => f64::from(u32::MAX),
            Elem::I8 => f64::from(i8::MAX),
            Elem::U8 => f64::from(u8::MAX),
            Elem::Bool => 1.0,
        }
    }
}

/// `x` as an f32 that keeps, in its last bit, whether anything was cut off. Rounding that to a type with at least two bits
/// fewer gives what rounding `x` itself would give; rounding `x` to the nearest f32 first would round twice.
fn rounded_to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    if nearest.is_nan() || f64::from(nearest) == x {
        return nearest;
    }
    let above = f64::from(nearest).abs() > x.abs();
    // A rounded-up magnitude has a neighbour below it: it is not zero.
    f32::from_bits((nearest.to_bits() - u32::from(above)) | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_floats_round_once() {
        // Halfway between two f16 values, and a little more than f32 can tell apart.
        let tie = 1.0 + 2f64.powi(-11);
        assert_eq!(Elem::F16.nearest(tie), 1.0);
        assert_eq!(Elem::F16.nearest(tie + 2f64.powi(-40)), 1.0 + 2f64.powi(-10));
        assert_eq!(Elem::F16.nearest(-tie - 2f64.powi(-40)), -1.0 - 2f64.powi(-10));
        let tie = 1.0 + 2f64.powi(-8);
        assert_eq!(Elem::Bf16.nearest(tie), 1.0);
        assert_eq!(Elem::Bf16.nearest(tie + 2f64.powi(-40)), 1.0 + 2f64.powi(-7));
        assert_eq!(Elem::F16.nearest(65520.0), f64::INFINITY);
        assert_eq!(Elem::F16.nearest(65519.9999999), 65504.0);
        assert_eq!(Elem::Bf16.nearest(1e300), f64::INFINITY);
        assert_eq!(Elem::F16.nearest(-1e-300), 0.0);
    }

    #[test]
    fn every_small_pattern_survives_the_way_through_its_value() {
        let mut compared = 0;
        for elem in Elem::ALL {
            let patterns: u32 = if elem == Elem::Bool { 2 } else { 1 << (8 * elem.bytes().min(2)) };
            for bits in 0..patterns {
                let bits = if elem.bytes() == 4 { bits << 16 } else { bits };
                let x = elem.from_bits(bits);
                if !x.is_nan() {
                    assert_eq!(elem.to_bits(x), bits, "{elem} {bits:#x}");
                    assert_eq!(elem.nearest(x).to_bits(), x.to_bits(), "{elem} {bits:#x}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 4 * 60000);
    }
}
