//! The register-blocked product: `c[m, n] (+)= a[m, k] b[k, n]`, with `b` in panels.
//!
//! A block of `ROWS` rows of `a` by one panel of `b` stays in registers while `k` runs. A panel (`k` times 16 to 32 floats)
//! stays in the first-level cache while all rows of `a` pass. Where registers hold two panels of fewer rows, that reads less for each
//! multiply-add, though long panels come from the second-level cache then. Lanes of `a` and `b` are numbers or pairs, as `S` takes them.

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
    // SAFETY: the lowering keeps these lanes inside the arena.
    let (a, b, c) = unsafe {
        (
            arena.add(a as usize).cast::<f32>().cast_const(),
            arena.add(b as usize).cast::<f32>().cast_const(),
            arena.add(c as usize).cast::<f32>(),
        )
    };
    let mut column = 0;
    while column < n {
        let two = S::ROWS_OF_TWO > 0 && column + 2 * width <= n;
        let (panels, most) = if two { (2, S::ROWS_OF_TWO) } else { (1, S::ROWS) };
        let columns = (panels * width).min(n - column);
        // SAFETY: each panel of `b` has k * width lanes.
        let b = unsafe { b.add(column * k) };
        // Row blocks of nearly equal height, so that the last one is not a sliver.
        let blocks = m.div_ceil(most).max(1);
        for block in 0..blocks {
            let (row, end) = (block * m / blocks, (block + 1) * m / blocks);
            // SAFETY: rows [row, end) and columns [column, column + columns) lie inside a and c.
            unsafe {
                let block =
                    Block { a: a.add(row * k), b, c: c.add(row * n + column), k, a_stride: k, c_stride: n, columns };
                block.run::<S>(end - row, panels, accumulate);
            }
        }
        column += columns;
    }
}

/// One register block.
struct Block {
    a: *const f32,
    /// One panel, or two of them.
    b: *const f32,
    c: *mut f32,
    k: usize,
    a_stride: usize,
    c_stride: usize,
    /// Columns of `c` that exist; a panel is zero past them.
    columns: usize,
}

macro_rules! by_rows {
    ($block:ident, $simd:ident, $panels:expr, $rows:expr, $accumulate:expr, [$($r:literal)*]) => {
        match ($panels, $rows) {
            $(
                (1, $r) => $block.rows::<$simd, $r, 1>($accumulate),
                (2, $r) => $block.rows::<$simd, $r, 2>($accumulate),
            )*
            _ => {}
        }
    };
}

impl Block {
    /// # Safety
    /// As [`run`]; at most 14 rows, at most two panels.
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, rows: usize, panels: usize, accumulate: bool) {
        // SAFETY: the caller's promise.
        unsafe { by_rows!(self, S, panels, rows, accumulate, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]) }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize, const P: usize>(&self, accumulate: bool) {
        if R > if P == 1 { S::ROWS } else { S::ROWS_OF_TWO } {
            return; // never asked for, and not to be compiled
        }
        // SAFETY: the caller's promise; ACROSS is 2 or 4.
        unsafe {
            match S::ACROSS {
                2 => self.block::<S, R, P, 2>(accumulate),
                _ => self.block::<S, R, P, 4>(accumulate),
            }
        }
    }

    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize, const P: usize, const A: usize>(&self, accumulate: bool) {
        // SAFETY: the caller's promise: k floats in each of R rows of a, k * A * LANES in each panel, R rows of `columns` in c.
        unsafe {
            let mut sums = [[[S::splat(0.0); A]; P]; R];
            let mut b = self.b;
            for step in 0..self.k {
                let mut right = [[S::splat(0.0); A]; P];
                for (panel, right) in right.iter_mut().enumerate() {
                    for (i, r) in right.iter_mut().enumerate() {
                        *r = S::load(b.add((panel * self.k * A + i) * S::LANES));
                    }
                }
                b = b.add(A * S::LANES);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let left = S::splat(*self.a.add(row * self.a_stride + step));
                    for (sum, &right) in sums.as_flattened_mut().iter_mut().zip(right.as_flattened()) {
                        *sum = S::fma(left, right, *sum);
                    }
                }
            }
            let mut edge = [0.0f32; 64];
            for (row, sums) in sums.iter().enumerate() {
                let (c, sums) = (self.c.add(row * self.c_stride), sums.as_flattened());
                if self.columns == P * A * S::LANES {
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
