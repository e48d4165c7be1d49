//! Functions of one lane, written so that loops over them become vector code: no branches, no tables, no calls.

/// `a * b + c`, fused where the instruction set has it; a call to a software fused multiply-add would be far slower.
#[inline(always)]
fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Adding and subtracting this rounds to the nearest integer, ties to even, for |x| below 2^22.
const ROUND: f32 = 12_582_912.0;

/// 2 to the power of `x`, within 2 units in the last place for every finite `x`; subnormal results are rounded once more.
///
/// `x = n + f` with integer `n` and `|f| <= 1/2`; 2^f is a polynomial of degree 6 (relative error 1.6e-8 before rounding), and
/// 2^n is multiplied in two halves so that subnormal results and infinity come out.
#[inline(always)]
pub(super) fn exp2<const FMA: bool>(x: f32) -> f32 {
    // NaN passes both comparisons.
    let [low, high] = EXP2_RANGE;
    let x = if x < low { low } else { x };
    let x = if x > high { high } else { x };
    let shifted = x + ROUND;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let f = x - (shifted - ROUND);
    let [first, rest @ ..] = EXP2;
    let p = rest.iter().fold(first, |p, &c| fma::<FMA>(f, p, c));
    let half = n >> 1;
    p * power(half) * power(n.wrapping_sub(half))
}

/// Each function again, where it is a trait's constant that says whether there is a fused multiply-add.
macro_rules! either {
    ($($name:ident = $function:ident;)*) => {$(
        #[inline(always)]
        pub(super) fn $name(fma: bool, x: f32) -> f32 {
            if fma { $function::<true>(x) } else { $function::<false>(x) }
        }
    )*};
}
either! {
    exp2_either = exp2;
    tanh_either = tanh;
    round_either = round;
    trunc_either = trunc;
}

/// Outside of this range the result of [`exp2`] is 0 or infinity.
pub(super) const EXP2_RANGE: [f32; 2] = [-151.0, 129.0];

/// Below this the result of [`exp2`] is 0.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for vectors of x86"))]
pub(super) const EXP2_ZERO: f32 = -150.0;

/// Below this it is too small to be normal.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for vectors of x86"))]
pub(super) const EXP2_NORMAL: f32 = -126.0;

/// The polynomial of 2^f for `|f| <= 1/2`, highest power first.
pub(super) const EXP2: [f32; 7] =
    [1.535_336_2e-4, 1.339_887_4e-3, 9.618_437e-3, 5.550_332_5e-2, 2.402_264_8e-1, 6.931_472e-1, 1.0];

/// The same for `0 <= f <= 1`: relative error 7e-9 before rounding.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for vectors of x86"))]
pub(super) const EXP2_ABOVE: [f32; 7] =
    [2.161_291_6e-4, 1.246_784_6e-3, 9.675_452e-3, 5.548_528_2e-2, 2.402_293e-1, 6.931_470_6e-1, 1.0];

/// The same of degree 5: relative error 1e-7 before rounding.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for vectors of x86"))]
pub(super) const EXP2_OF_BF16: [f32; 6] =
    [1.867_130_3e-3, 9.017_03e-3, 5.579_991_3e-2, 2.401_644_4e-1, 6.931_513e-1, 1.0];

/// 2 to the power of `n`, for n from -126 to 127.
#[inline(always)]
fn power(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// The hyperbolic tangent, within 4 units in the last place: an odd polynomial below 0.625, else through [`exp2`].
#[inline(always)]
pub(super) fn tanh<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let square = x * x;
    let mut p = fma::<FMA>(square, -5.704_987e-3, 2.063_908_7e-2);
    p = fma::<FMA>(square, p, -5.373_971_5e-2);
    p = fma::<FMA>(square, p, 1.333_144_2e-1);
    p = fma::<FMA>(square, p, -3.333_328e-1);
    let small = fma::<FMA>(p * square, x, x);
    // tanh a = 1 - 2 / (e^2a + 1); the exponent stays small enough to be exact.
    let exponent = a * (2.0 * std::f32::consts::LOG2_E);
    let large = (1.0 - 2.0 / (exp2::<FMA>(exponent) + 1.0)).copysign(x);
    if a < 0.625 { small } else { large }
}

/// From here on every f32 is an integer.
const ALL_WHOLE: f32 = 8_388_608.0;

/// The nearest integer, ties to even. Instruction sets with a fused multiply-add have an instruction for it; without one it
/// would be a call for each lane.
#[inline(always)]
pub(super) fn round<const FMA: bool>(x: f32) -> f32 {
    if FMA {
        return x.round_ties_even();
    }
    let a = x.abs();
    let rounded = (a + ALL_WHOLE) - ALL_WHOLE;
    (if a < ALL_WHOLE { rounded } else { a }).copysign(x) // NaN fails the comparison
}

/// The integer towards zero.
#[inline(always)]
pub(super) fn trunc<const FMA: bool>(x: f32) -> f32 {
    if FMA {
        return x.trunc();
    }
    let a = x.abs();
    let rounded = round::<FMA>(a);
    (if rounded > a { rounded - 1.0 } else { rounded }).copysign(x)
}

/// The nearest bf16 value, ties to even.
#[inline(always)]
pub(super) fn round_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    f32::from_bits(if x.is_nan() { bits | 0x0040_0000 } else { rounded })
}

/// The nearest f16 value, ties to even: 11 bits, steps of 2^-24 below 2^-14, infinity from 65520 on.
///
/// Without branches, which would keep it from being vectorised: both ways are computed and one is kept.
#[inline(always)]
pub(super) fn round_f16(x: f32) -> f32 {
    let bits = x.to_bits();
    let (sign, size) = (bits & 0x8000_0000, bits & 0x7fff_ffff);
    let normal = size.wrapping_add(0xfff + ((size >> 13) & 1)) & 0xffff_e000;
    let subnormal = ((f32::from_bits(size) + 0.5) - 0.5).to_bits(); // neighbours of 0.5 are 2^-24 apart
    let inside = choose(size < 0x3880_0000, subnormal, normal);
    let finite = choose(size >= 0x477f_f000, f32::INFINITY.to_bits(), inside);
    f32::from_bits(sign | choose(size > 0x7f80_0000, size, finite))
}

/// `yes` or `no`, by masks.
#[inline(always)]
fn choose(cond: bool, yes: u32, no: u32) -> u32 {
    let mask = u32::from(cond).wrapping_neg();
    (yes & mask) | (no & !mask)
}

/// The larger, or the number when one is NaN.
#[inline(always)]
pub(super) fn max(a: f32, b: f32) -> f32 {
    let larger = if a > b { a } else { b }; // b when either is NaN
    if b.is_nan() { a } else { larger }
}

/// The smaller, or the number when one is NaN.
#[inline(always)]
pub(super) fn min(a: f32, b: f32) -> f32 {
    let smaller = if a < b { a } else { b };
    if b.is_nan() { a } else { smaller }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ulps(got: f32, wanted: f64) -> f64 {
        if f64::from(got) == wanted || (got == wanted as f32) {
            return 0.0;
        }
        let unit = 2f64.powi((wanted.abs().log2().floor() as i32).max(-126) - 23);
        (f64::from(got) - wanted).abs() / unit
    }

    #[test]
    fn exp2_is_within_two_units_everywhere() {
        let mut compared = 0;
        for bits in (0..=u32::MAX).step_by(997) {
            let x = f32::from_bits(bits);
            if !x.is_finite() {
                continue;
            }
            let wanted = f64::from(x).exp2();
            for got in [exp2::<true>(x), exp2::<false>(x)] {
                if wanted > f64::from(f32::MAX) * (1.0 + 2f64.powi(-25)) {
                    assert_eq!(got, f32::INFINITY, "{x}");
                } else {
                    assert!(ulps(got, wanted) <= 2.0, "exp2({x}) = {got}, wanted {wanted}");
                }
                compared += 1;
            }
        }
        assert!(compared > 1_000_000);
        assert_eq!(exp2::<true>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp2::<true>(f32::INFINITY), f32::INFINITY);
        assert!(exp2::<true>(f32::NAN).is_nan());
        assert_eq!(exp2::<true>(0.0), 1.0);
    }

    #[test]
    fn the_polynomials_of_exp2_are_within_their_bounds() {
        let evaluate = |polynomial: &[f32], f: f64| polynomial.iter().fold(0.0, |p, &c| p * f + f64::from(c));
        for at in 0..=1_000_000 {
            let f = f64::from(at) / 1e6;
            for (polynomial, f, bound) in
                [(&EXP2[..], f - 0.5, 1.6e-8), (&EXP2_ABOVE, f, 7e-9), (&EXP2_OF_BF16, f, 1e-7)]
            {
                assert!((evaluate(polynomial, f) / f.exp2() - 1.0).abs() <= bound, "{f}");
            }
        }
    }

    #[test]
    fn tanh_is_within_four_units_everywhere() {
        for bits in (0..0x7f80_0000u32).step_by(997) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let got = tanh::<true>(x);
                assert!(ulps(got, f64::from(x).tanh()) <= 4.0, "tanh({x}) = {got}");
            }
        }
        assert!(tanh::<true>(f32::NAN).is_nan());
        assert_eq!(tanh::<true>(f32::INFINITY), 1.0);
        assert_eq!(tanh::<true>(f32::NEG_INFINITY), -1.0);
    }

    #[test]
    fn rounding_to_half_types_is_what_the_half_crate_does() {
        for bits in (0..=u32::MAX).step_by(499) {
            let x = f32::from_bits(bits);
            let (f, b) = (half::f16::from_f32(x).to_f32(), half::bf16::from_f32(x).to_f32());
            assert!(round_f16(x).to_bits() == f.to_bits() || (x.is_nan() && round_f16(x).is_nan()), "{x:e}");
            assert!(round_bf16(x).to_bits() == b.to_bits() || (x.is_nan() && round_bf16(x).is_nan()), "{x:e}");
        }
    }

    #[test]
    fn rounding_to_integers_is_what_f64_does() {
        let steps = (0..=u32::MAX).step_by(499);
        let near = (0..=1 << 12).flat_map(|i| {
            let half = (i as f32 / 2.0).to_bits();
            [half.saturating_sub(1), half, half + 1].map(|bits| [bits, bits | 0x8000_0000])
        });
        let large = (0x4a00_0000u32..0x4c00_0000).step_by(61);
        let mut compared = 0;
        for bits in steps.chain(near.flatten()).chain(large) {
            let x = f32::from_bits(bits);
            let (nearest, towards) = (f64::from(x).round_ties_even() as f32, f64::from(x).trunc() as f32);
            for (got, wanted) in [
                (round::<true>(x), nearest),
                (round::<false>(x), nearest),
                (trunc::<true>(x), towards),
                (trunc::<false>(x), towards),
            ] {
                assert!(got.to_bits() == wanted.to_bits() || (x.is_nan() && got.is_nan()), "{x:e} gives {got:e}");
                compared += 1;
            }
        }
        assert!(compared > 10_000_000);
    }

    #[test]
    fn the_number_wins_over_nan() {
        assert_eq!((max(f32::NAN, 1.0), max(1.0, f32::NAN), max(1.0, 2.0)), (1.0, 1.0, 2.0));
        assert_eq!((min(f32::NAN, 1.0), min(1.0, f32::NAN), min(1.0, 2.0)), (1.0, 1.0, 1.0));
        assert!(max(f32::NAN, f32::NAN).is_nan());
    }
}
