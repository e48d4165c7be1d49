//! Products of few rows with a matrix that is read once, row by row where it lies: decode reads keys and values so, at the
//! speed of memory.

use super::row::Row;
use super::rows::{AT_ONCE, Block, Reader, Visitor, Wanted};
use super::simd::Simd;
use tilewright_compile::cpu::DotRows;

/// Rows of the left operand that share what is read of the right one.
pub(super) const TOGETHER: usize = 4;

/// Runs one product in the arena.
///
/// # Safety
/// The instruction set of `V`; lanes for `a`, `c` and the scratch rows in the arena, apart from each other; a reader of the
/// rows of `b`, whose width is whole vectors.
#[inline(always)]
pub(super) unsafe fn run<V: Simd>(dot: &DotRows, reader: &Reader<'_>, arena: *mut u32) {
    let DotRows { a, c, m, n, k, transposed, accumulate, scratch, .. } = *dot;
    let (m, n, k) = (m as usize, n as usize, k as usize);
    // SAFETY: the lowering keeps these lanes inside the arena.
    unsafe {
        let [a, c, scratch] = [a, c, scratch].map(|lane| arena.add(lane as usize).cast::<f32>());
        if !accumulate {
            std::ptr::write_bytes(c, 0, m * n);
        }
        let (rows, width) = if transposed { (n, k) } else { (k, n) };
        for first in (0..rows).step_by(AT_ONCE) {
            let count = AT_ONCE.min(rows - first);
            let wanted = Wanted { first, count, width, uses: m, scratch };
            reader.visit::<V>(wanted, &Product { a, c, m, n, k, transposed, first, count });
        }
    }
}

/// Some rows of the right operand, and all that they are multiplied with.
struct Product {
    /// `[m, k]`.
    a: *const f32,
    /// `[m, n]`.
    c: *mut f32,
    m: usize,
    n: usize,
    k: usize,
    /// Whether the rows are the columns of the right operand.
    transposed: bool,
    /// The first of the rows, and their number.
    first: usize,
    count: usize,
}

impl Visitor for Product {
    #[inline(always)]
    unsafe fn visit<V: Simd, B: Block<V>>(&self, rows: &B) {
        // SAFETY: the caller's promise.
        unsafe {
            match (self.transposed, self.m) {
                (true, 1) => self.across::<V, B, 1>(rows),
                (true, _) => self.across::<V, B, TOGETHER>(rows),
                (false, 1) => self.along::<V, B, 1>(rows),
                (false, _) => self.along::<V, B, TOGETHER>(rows),
            }
        }
    }
}

impl Product {
    /// Adds to `c[m][first + i]` the product of row m of `a` with row i of `b`.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn across<V: Simd, B: Block<V>, const M: usize>(&self, b: &B) {
        /// Rows of `b` whose sums are in registers together.
        const KEYS: usize = 4;
        let &Product { a, c, m, n, k, first, count, .. } = self;
        for top in (0..m).step_by(M) {
            let exist = M.min(m - top);
            // Rows that do not exist repeat the last one.
            let left: [*const f32; M] = std::array::from_fn(|i| a.wrapping_add((top + i.min(exist - 1)) * k));
            for block in 0..count.div_ceil(KEYS) {
                let row = |key: usize| b.row(block * KEYS + key);
                let rows = [row(0), row(1), row(2), row(3)];
                // SAFETY: the caller's promise.
                unsafe {
                    let mut sums = [[V::splat(0.0); TOGETHER]; KEYS];
                    let mut at = 0;
                    while at < k {
                        let end = at + rows[0].stretch(k);
                        let states: [<B::Row as Row<V>>::State; KEYS] =
                            [rows[0].state(at), rows[1].state(at), rows[2].state(at), rows[3].state(at)];
                        while at < end {
                            let mut x = [V::splat(0.0); M];
                            for (x, left) in x.iter_mut().zip(left) {
                                *x = V::load(left.add(at));
                            }
                            for key in 0..KEYS {
                                let right = rows[key].load(&states[key], at);
                                for (sum, &x) in sums[key].iter_mut().zip(&x) {
                                    *sum = V::fma(x, right, *sum);
                                }
                            }
                            at += V::LANES;
                        }
                    }
                    for (key, &sums) in sums.iter().enumerate().take(count - block * KEYS) {
                        let to = c.add(top * n + first + block * KEYS + key);
                        for (i, sum) in V::sums(sums).into_iter().enumerate().take(exist) {
                            *to.add(i * n) += sum;
                        }
                    }
                }
            }
        }
    }

    /// Adds to row m of `c` the rows of `b` times numbers of row m of `a`.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn along<V: Simd, B: Block<V>, const M: usize>(&self, b: &B) {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut column, stretch) = (0, b.row(0).stretch(self.n));
            while column < self.n {
                // As many columns as share a state and fit the registers.
                let left = (stretch - column % stretch) / V::LANES;
                column += V::LANES
                    * match left {
                        4.. => self.columns::<V, B, M, 4>(b, column),
                        2.. => self.columns::<V, B, M, 2>(b, column),
                        _ => self.columns::<V, B, M, 1>(b, column),
                    };
            }
        }
    }

    /// As [`along`](Self::along), for `A` vectors of columns, whose number it returns.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn columns<V: Simd, B: Block<V>, const M: usize, const A: usize>(&self, b: &B, column: usize) -> usize {
        let &Product { a, c, m, n, k, first, count, .. } = self;
        for top in (0..m).step_by(M) {
            let exist = M.min(m - top);
            // SAFETY: the caller's promise; rows that do not exist repeat the last one.
            unsafe {
                let mut sums = [[V::splat(0.0); A]; M];
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (at, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(c.add((top + i.min(exist - 1)) * n + column + at * V::LANES));
                    }
                }
                for row in 0..count {
                    let b = b.row(row);
                    let state = b.state(column);
                    let mut right = [V::splat(0.0); A];
                    for (at, right) in right.iter_mut().enumerate() {
                        *right = b.load(&state, column + at * V::LANES);
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let left = V::splat(*a.add((top + i.min(exist - 1)) * k + first + row));
                        for (sum, &right) in sums.iter_mut().zip(&right) {
                            *sum = V::fma(left, right, *sum);
                        }
                    }
                }
                for (i, sums) in sums.iter().enumerate().take(exist) {
                    for (at, &sum) in sums.iter().enumerate() {
                        V::store(c.add((top + i) * n + column + at * V::LANES), sum);
                    }
                }
            }
        }
        A
    }
}
