//! The register-blocked product: `c[m, n] (+)= a[m, k] b[k, n]`, with `b` in panels.
//!
//! A block of `ROWS` rows of `a` by one panel of `b` stays in registers while `k` runs. A panel (`k` times 16 to 32 floats)
//! stays in the first-level cache while all rows of `a` pass. Lanes of `a` and `b` are numbers or pairs, as `S` takes them.

use super::simd::Simd;
use tilewright_compile::cpu::Dot;

/// Runs one product in the arena.
///
/// # Safety
/// The instruction set of `S`, and lanes for `a`, the panels of `b` and `c` in the arena, `c` apart from both.
#[inline(always)]
pub(super) unsafe fn run<S: Simd>(dot: &Dot, arena: *mut u32) {
    let Dot { a, b, c, m, n, k, accumulate, .. } = *dot;
    let (m, n, k) = (m as usize, n as usize, k as usize);
    let width = S::LANES * S::ACROSS;
    // Row blocks of nearly equal height, so that the last one is not a sliver.
    let blocks = m.div_ceil(S::ROWS).max(1);
    // SAFETY: the lowering keeps these lanes inside the arena.
    let (a, b, c) = unsafe {
        (
            arena.add(a as usize).cast::<f32>().cast_const(),
            arena.add(b as usize).cast::<f32>().cast_const(),
            arena.add(c as usize).cast::<f32>(),
        )
    };
    for (panel, column) in (0..n).step_by(width).enumerate() {
        let columns = width.min(n - column);
        // SAFETY: panel `panel` of `b` has k * width lanes.
        let b = unsafe { b.add(panel * k * width) };
        for block in 0..blocks {
            let (row, end) = (block * m / blocks, (block + 1) * m / blocks);
            // SAFETY: rows [row, end) and columns [column, column + columns) lie inside a and c.
            unsafe {
                let block =
                    Block { a: a.add(row * k), b, c: c.add(row * n + column), k, a_stride: k, c_stride: n, columns };
                block.run::<S>(end - row, accumulate);
            }
        }
    }
}

/// One register block.
struct Block {
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    k: usize,
    a_stride: usize,
    c_stride: usize,
    /// Columns of `c` that exist; the panel is zero past them.
    columns: usize,
}

macro_rules! by_rows {
    ($block:ident, $simd:ident, $rows:expr, $accumulate:expr, [$($r:literal)*]) => {
        match $rows {
            $($r => $block.rows::<$simd, $r>($accumulate),)*
            _ => {}
        }
    };
}

impl Block {
    /// # Safety
    /// As [`run`]; at most 14 rows.
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, rows: usize, accumulate: bool) {
        // SAFETY: the caller's promise.
        unsafe { by_rows!(self, S, rows, accumulate, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]) }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize>(&self, accumulate: bool) {
        if R > S::ROWS {
            return; // never asked for, and not to be compiled
        }
        // SAFETY: the caller's promise; ACROSS is 2 or 4.
        unsafe {
            match S::ACROSS {
                2 => self.block::<S, R, 2>(accumulate),
                _ => self.block::<S, R, 4>(accumulate),
            }
        }
    }

    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize, const A: usize>(&self, accumulate: bool) {
        // SAFETY: the caller's promise: k floats in each of R rows of a, k * A * LANES in b, R rows of `columns` in c.
        unsafe {
            let mut sums = [[S::splat(0.0); A]; R];
            let mut b = self.b;
            for step in 0..self.k {
                let mut right = [S::splat(0.0); A];
                for (i, r) in right.iter_mut().enumerate() {
                    *r = S::load(b.add(i * S::LANES));
                }
                b = b.add(A * S::LANES);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let left = S::splat(*self.a.add(row * self.a_stride + step));
                    for (sum, &right) in sums.iter_mut().zip(&right) {
                        *sum = S::fma(left, right, *sum);
                    }
                }
            }
            let mut edge = [0.0f32; 64];
            for (row, sums) in sums.iter().enumerate() {
                let c = self.c.add(row * self.c_stride);
                if self.columns == A * S::LANES {
                    for (i, &sum) in sums.iter().enumerate() {
                        let to = c.add(i * S::LANES);
                        let sum = if accumulate { S::add(sum, S::load(to)) } else { sum };
                        S::store(to, sum);
                    }
                } else {
                    for (i, &sum) in sums.iter().enumerate() {
                        S::store(edge.as_mut_ptr().add(i * S::LANES), sum);
                    }
                    for (column, &sum) in edge[..self.columns].iter().enumerate() {
                        let to = c.add(column);
                        *to = if accumulate { *to + sum } else { sum };
                    }
                }
            }
        }
    }
}
