//! The register-blocked product: `c[m, n] (+)= a[m, k] b[k, n]`, with `b` in panels.
//!
//! A block of `ROWS` rows of `a` by one panel of `b` stays in registers while `k` runs. A panel (`k` times 16 to 32 floats)
//! stays in the first-level cache while all rows of `a` pass. Where registers hold two panels of fewer rows, that reads less for each
//! multiply-add, though long panels come from the second-level cache then. Lanes of `a` and `b` are numbers or pairs, as `S` takes them.
//!
//! Each block is a function of its own ([`Piece`]): in one for all of them, sums that are written to memory each step were seen.

use super::ahead::Coming;
use super::simd::{Piece, Simd};
use tilewright_compile::cpu::Dot;

/// Runs one product in the arena; meanwhile what is coming is asked for.
///
/// # Safety
/// The instruction set of `S`, and lanes for `a`, the panels of `b` and `c` in the arena, `c` apart from both.
#[inline(always)]
pub(super) unsafe fn run<S: Simd>(dot: &Dot, arena: *mut u32, coming: &mut Coming) {
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
    let block_at = |column: usize| {
        let two = S::ROWS_OF_TWO > 0 && column + 2 * width <= n;
        if two { (2, S::ROWS_OF_TWO) } else { (1, S::ROWS) }
    };
    let (panels, most) = block_at(0);
    coming.spread(n.div_ceil(panels * width) * m.div_ceil(most) * k);
    let mut column = 0;
    while column < n {
        let (panels, most) = block_at(column);
        let columns = (panels * width).min(n - column);
        // SAFETY: each panel of `b` has k * width lanes.
        let b = unsafe { b.add(column * k) };
        // Row blocks of nearly equal height, so that the last one is not a sliver.
        let blocks = m.div_ceil(most).max(1);
        for block in 0..blocks {
            let (row, end) = (block * m / blocks, (block + 1) * m / blocks);
            // SAFETY: rows [row, end) and columns [column, column + columns) lie inside a and c.
            unsafe {
                let (a, c) = (a.add(row * k), c.add(row * n + column));
                let block = Block { a, b, c, k, a_stride: k, c_stride: n, columns, accumulate, coming };
                block.run::<S>(end - row, panels);
            }
        }
        column += columns;
    }
}

/// One register block.
struct Block<'c> {
    a: *const f32,
    /// One panel, or two of them.
    b: *const f32,
    c: *mut f32,
    k: usize,
    a_stride: usize,
    c_stride: usize,
    /// Columns of `c` that exist; a panel is zero past them.
    columns: usize,
    accumulate: bool,
    coming: &'c mut Coming,
}

macro_rules! by_rows {
    ($block:ident, $simd:ident, $panels:expr, $rows:expr, [$($r:literal)*]) => {
        match ($panels, $rows) {
            $(
                (1, $r) => $block.rows::<$simd, $r, 1>(),
                (2, $r) => $block.rows::<$simd, $r, 2>(),
            )*
            _ => {}
        }
    };
}

impl Block<'_> {
    /// # Safety
    /// As [`run`]; at most 14 rows, at most two panels.
    #[inline(always)]
    unsafe fn run<S: Simd>(self, rows: usize, panels: usize) {
        // SAFETY: the caller's promise.
        unsafe { by_rows!(self, S, panels, rows, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]) }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize, const P: usize>(self) {
        if R > if P == 1 { S::ROWS } else { S::ROWS_OF_TWO } {
            return; // never asked for, and not to be compiled
        }
        // SAFETY: the caller's promise; ACROSS is 2 or 4.
        unsafe {
            match S::ACROSS {
                2 => S::apart(Registers::<R, P, 2>(self)),
                _ => S::apart(Registers::<R, P, 4>(self)),
            }
        }
    }
}

/// A block whose sums are in registers, of `R` rows by `P` panels of `A` vectors: k floats in each row of a, k * A * LANES in each panel, R rows of `columns` in c.
struct Registers<'c, const R: usize, const P: usize, const A: usize>(Block<'c>);

impl<S: Simd, const R: usize, const P: usize, const A: usize> Piece<S> for Registers<'_, R, P, A> {
    #[inline(always)]
    unsafe fn run(self) {
        let block = self.0;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[[S::splat(0.0); A]; P]; R];
            let mut b = block.b;
            let mut coming = *block.coming;
            for step in 0..block.k {
                let mut right = [[S::splat(0.0); A]; P];
                for (panel, right) in right.iter_mut().enumerate() {
                    for (i, r) in right.iter_mut().enumerate() {
                        *r = S::load(b.add((panel * block.k * A + i) * S::LANES));
                    }
                }
                b = b.add(A * S::LANES);
                coming.turn::<S>();
                for (row, sums) in sums.iter_mut().enumerate() {
                    let left = S::splat(*block.a.add(row * block.a_stride + step));
                    for (sum, &right) in sums.as_flattened_mut().iter_mut().zip(right.as_flattened()) {
                        *sum = S::fma(left, right, *sum);
                    }
                }
            }
            *block.coming = coming;
            let mut edge = [0.0f32; 64];
            for (row, sums) in sums.iter().enumerate() {
                let (c, sums) = (block.c.add(row * block.c_stride), sums.as_flattened());
                if block.columns == P * A * S::LANES {
                    for (i, &sum) in sums.iter().enumerate() {
                        let to = c.add(i * S::LANES);
                        let sum = if block.accumulate { S::add(sum, S::load(to)) } else { sum };
                        S::store(to, sum);
                    }
                } else {
                    for (i, &sum) in sums.iter().enumerate() {
                        S::store(edge.as_mut_ptr().add(i * S::LANES), sum);
                    }
                    for (column, &sum) in edge[..block.columns].iter().enumerate() {
                        let to = c.add(column);
                        *to = if block.accumulate { *to + sum } else { sum };
                    }
                }
            }
        }
    }
}
