//! The weights of a softmax in one pass: `exp2(x * scale - shift)` and the sum of each row, as numbers or in pairs of bf16 numbers.
//!
//! The product is rounded before the shift is taken: the weights are the same bits as of scaled scores that were stored.

use super::math;
use super::paired_rows::PairSimd;
use super::simd::Simd;

/// Rows whose sums are folded together.
const ROWS: usize = 4;

/// Rows of a block.
pub(super) struct Weights {
    pub rows: usize,
    pub columns: usize,
    /// As many numbers a row.
    pub x: *const f32,
    pub scale: f32,
    /// A number a row, and how many lanes it is to the next.
    pub shift: (*const f32, usize),
    /// As many numbers a row, or half as many pairs.
    pub dst: *mut u32,
    /// A number a row.
    pub sum: Option<*mut f32>,
}

/// What a row is made with.
#[derive(Clone, Copy)]
struct Exponent<V> {
    scale: V,
    down: V,
    /// Whether the scale is not 1.
    scales: bool,
}

impl Weights {
    /// # Safety
    /// The instruction set of `S`, and room for all rows.
    #[inline(always)]
    pub unsafe fn numbers<S: Simd>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            for first in (0..self.rows).step_by(ROWS) {
                let rows = ROWS.min(self.rows - first);
                let (mut parts, mut rest) = ([S::splat(0.0); ROWS], [0.0; ROWS]);
                for (row, (part, rest)) in parts.iter_mut().zip(&mut rest).enumerate().take(rows) {
                    let (from, to) = (self.row(first + row), self.dst.add((first + row) * self.columns).cast::<f32>());
                    let exponent = self.exponent::<S>(first + row);
                    let mut col = 0;
                    while col + S::LANES <= self.columns {
                        let weight = S::exp2(exponent.of::<S>(S::load(from.add(col))));
                        S::store(to.add(col), weight);
                        *part = S::add(*part, weight);
                        col += S::LANES;
                    }
                    for col in col..self.columns {
                        let weight = self.one::<S>(first + row, *from.add(col));
                        *to.add(col) = weight;
                        *rest += weight;
                    }
                }
                self.sums::<S>(first, rows, parts, rest);
            }
        }
    }

    /// The same in pairs, two vectors of weights to one; an even number of columns.
    ///
    /// # Safety
    /// The instruction set of `P`, and room for all rows.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other processor multiplies pairs yet"))]
    #[inline(always)]
    pub unsafe fn pairs<P: PairSimd>(&self) {
        debug_assert!(self.columns.is_multiple_of(2));
        // SAFETY: the caller's promise.
        unsafe {
            for first in (0..self.rows).step_by(ROWS) {
                let rows = ROWS.min(self.rows - first);
                let (mut parts, mut rest) = ([P::splat(0.0); ROWS], [0.0; ROWS]);
                for (row, (part, rest)) in parts.iter_mut().zip(&mut rest).enumerate().take(rows) {
                    let (from, to) = (self.row(first + row), self.dst.add((first + row) * (self.columns / 2)));
                    let exponent = self.exponent::<P::Numbers>(first + row);
                    let mut col = 0;
                    while col + 2 * P::LANES <= self.columns {
                        let [x, y] = [P::load(from.add(col)), P::load(from.add(col + P::LANES))];
                        let a = P::Numbers::exp2_of_bf16(exponent.of::<P::Numbers>(x));
                        let b = P::Numbers::exp2_of_bf16(exponent.of::<P::Numbers>(y));
                        P::store(to.add(col / 2).cast(), P::rounded(a, b));
                        *part = P::add(*part, P::add(a, b));
                        col += 2 * P::LANES;
                    }
                    for col in (col..self.columns).step_by(2) {
                        let a = self.one::<P::Numbers>(first + row, *from.add(col));
                        let b = self.one::<P::Numbers>(first + row, *from.add(col + 1));
                        let [low, high] = [a, b].map(|x| math::round_bf16(x).to_bits());
                        *to.add(col / 2) = low >> 16 | high & 0xffff_0000;
                        *rest += a + b;
                    }
                }
                self.sums::<P::Numbers>(first, rows, parts, rest);
            }
        }
    }

    /// # Safety
    /// There is such a row.
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *const f32 {
        // SAFETY: the caller's promise.
        unsafe { self.x.add(row * self.columns) }
    }

    /// What is added to the product.
    ///
    /// # Safety
    /// There is such a row.
    #[inline(always)]
    unsafe fn down(&self, row: usize) -> f32 {
        let (shift, step) = self.shift;
        // SAFETY: the caller's promise.
        -unsafe { *shift.add(row * step) }
    }

    /// # Safety
    /// The instruction set of `S`; there is such a row.
    #[inline(always)]
    unsafe fn exponent<S: Simd>(&self, row: usize) -> Exponent<S::Vector> {
        // SAFETY: the caller's promise.
        unsafe { Exponent { scale: S::splat(self.scale), down: S::splat(self.down(row)), scales: self.scale != 1.0 } }
    }

    /// One weight.
    ///
    /// # Safety
    /// There is such a row.
    #[inline(always)]
    unsafe fn one<S: Simd>(&self, row: usize, x: f32) -> f32 {
        // SAFETY: the caller's promise.
        math::exp2_either(S::FMA, x * self.scale + unsafe { self.down(row) })
    }

    /// # Safety
    /// The instruction set of `S`; there are such rows.
    #[inline(always)]
    unsafe fn sums<S: Simd>(&self, first: usize, rows: usize, parts: [S::Vector; ROWS], rest: [f32; ROWS]) {
        let Some(sum) = self.sum else { return };
        // SAFETY: the caller's promise.
        unsafe {
            for (row, (part, rest)) in S::sums(parts).into_iter().zip(rest).enumerate().take(rows) {
                *sum.add(first + row) = part + rest;
            }
        }
    }
}

impl<V: Copy> Exponent<V> {
    /// # Safety
    /// The instruction set of `S`.
    #[inline(always)]
    unsafe fn of<S: Simd<Vector = V>>(&self, x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { S::add(if self.scales { S::mul(x, self.scale) } else { x }, self.down) }
    }
}

/// [`Weights::pairs`] with AVX-512.
///
/// # Safety
/// AVX-512 with its bf16 instructions, and room for all rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn pairs_avx512(weights: &Weights) {
    // SAFETY: the caller's promise.
    unsafe { weights.pairs::<super::simd::Avx512Pairs>() }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::cpu::isa::Isa;
    use half::bf16;

    #[test]
    fn weights_in_pairs_are_rounded_and_their_sums_are_not() {
        if !Isa::available().iter().any(|isa| isa.target().pairs) {
            return println!("skipped: this processor has no products of pairs");
        }
        let mut compared = 0;
        for columns in [2usize, 30, 32, 34, 64, 96, 126] {
            for rows in [1usize, 3, 4, 9] {
                let x: Vec<f32> = (0..rows * columns).map(|i| -0.37 * (i * i % 401) as f32).collect();
                let shift: Vec<f32> = (0..rows).map(|row| row as f32 - 3.5).collect();
                let (mut got, mut sums) = (vec![0u32; rows * columns / 2], vec![f32::NAN; rows]);
                let weights = Weights {
                    rows,
                    columns,
                    x: x.as_ptr(),
                    scale: 0.75,
                    shift: (shift.as_ptr(), 1),
                    dst: got.as_mut_ptr(),
                    sum: Some(sums.as_mut_ptr()),
                };
                // SAFETY: the processor has the instructions, and there is room.
                unsafe { pairs_avx512(&weights) };
                for row in 0..rows {
                    let of = |col: usize| f64::from(x[row * columns + col] * 0.75 - shift[row]).exp2();
                    for col in 0..columns {
                        let lane = got[row * columns / 2 + col / 2];
                        let number = bf16::from_bits((lane >> (16 * (col % 2))) as u16).to_f64();
                        // A half of the last of 8 bits, and what the exponential is off by.
                        assert!((number - of(col)).abs() <= of(col) * 0.004, "{columns}: {row}, {col}: {number}");
                        compared += 1;
                    }
                    let sum: f64 = (0..columns).map(of).sum();
                    assert!((f64::from(sums[row]) - sum).abs() <= 1e-5 * sum, "{columns}: {row}: {} {sum}", sums[row]);
                }
            }
        }
        assert!(compared > 4000, "{compared}");
    }

    #[test]
    fn weights_in_pairs_keep_what_is_not_finite() {
        if !Isa::available().iter().any(|isa| isa.target().pairs) {
            return println!("skipped: this processor has no products of pairs");
        }
        let none = f32::NEG_INFINITY;
        for columns in [32usize, 34] {
            let special = [none, f32::NAN, f32::INFINITY, -1e30, -200.0, 0.0];
            let x: Vec<f32> = (0..2 * columns).map(|i| special[i % columns % special.len()]).collect();
            // In the second row an infinite product has an infinite shift.
            let (shift, mut got) = ([0.0, none], vec![0u32; columns]);
            let weights = Weights {
                rows: 2,
                columns,
                x: x.as_ptr(),
                scale: 1.0,
                shift: (shift.as_ptr(), 1),
                dst: got.as_mut_ptr(),
                sum: None,
            };
            // SAFETY: the processor has the instructions, and there is room.
            unsafe { pairs_avx512(&weights) };
            for col in 0..columns {
                let at = |row: usize| {
                    bf16::from_bits((got[row * columns / 2 + col / 2] >> (16 * (col % 2))) as u16).to_f32()
                };
                match x[col] {
                    x if x == none => assert!(at(0) == 0.0 && at(1).is_nan(), "{col}"),
                    x if x.is_nan() => assert!(at(0).is_nan() && at(1).is_nan(), "{col}"),
                    x if x > 0.0 => assert!(at(0) == x && at(1) == x, "{col}"),
                    0.0 => assert!(at(0) == 1.0 && at(1) == f32::INFINITY, "{col}"),
                    _ => assert!(at(0) == 0.0 && at(1) == f32::INFINITY, "{col}"),
                }
            }
        }
    }
}
