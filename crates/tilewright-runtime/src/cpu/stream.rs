//! Products of few rows with a matrix that is read once, row by row where it lies: decode reads keys and values so, at the
//! speed of memory.

use super::paired_rows::{OfPairs, PairSimd, PairedRow};
use super::row::Row;
use super::rows::{Block, Reader, Visitor, Wanted};
use super::simd::{Piece, Simd};
use std::marker::PhantomData;
use tilewright_compile::cpu::{Arithmetic, DotRows};

/// Rows of the left operand that share what is read of the right one.
pub(super) const TOGETHER: usize = 4;

/// Runs one product in the arena.
///
/// # Safety
/// The instruction set of `V`; lanes for `a`, `c` and the scratch rows in the arena, apart from each other; a reader of the
/// rows of `b`, whose width is whole vectors.
#[inline(always)]
pub(super) unsafe fn run<V: Simd>(dot: &DotRows, reader: &Reader<'_>, arena: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let (product, wanted) = Product::of(dot, arena);
        reader.visit::<V>(wanted, &product);
    }
}

/// As [`run`], of a product of pairs.
///
/// # Safety
/// As there; the rows are whole vectors of pairs.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other processor multiplies pairs yet"))]
pub(super) unsafe fn run_pairs<P: PairSimd>(dot: &DotRows, reader: &Reader<'_>, arena: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let (product, wanted) = Product::of(dot, arena);
        reader.visit::<P::Numbers>(wanted, &OfPairs { product: &product, vectors: PhantomData::<P> });
    }
}

/// All that rows of the right operand are multiplied with.
pub(super) struct Product {
    /// `[m, k]`, numbers or pairs.
    pub a: *const f32,
    /// `[m, n]`.
    pub c: *mut f32,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Whether the rows are the columns of the right operand.
    pub transposed: bool,
}

impl<V: Simd> Visitor<V> for Product {
    #[inline(always)]
    unsafe fn visit<B: Block<V, Row: PairedRow<V>>>(&self, first: usize, count: usize, rows: &B) {
        // SAFETY: the caller's promise.
        unsafe { self.multiply::<V, B>(first, count, rows) }
    }
}

impl Product {
    /// A product in the arena, whose result is zero unless it is added to, and the rows that it is to be multiplied with.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    pub unsafe fn of(dot: &DotRows, arena: *mut u32) -> (Product, Wanted) {
        let DotRows { a, c, m, n, k, transposed, accumulate, by, scratch, .. } = *dot;
        let pairs = by == Arithmetic::Pairs;
        let (m, n, k) = (m as usize, n as usize, k as usize);
        // SAFETY: the lowering keeps these lanes inside the arena.
        let [a, c, scratch] =
            unsafe { [arena.add(a as usize).cast(), arena.add(c as usize).cast(), arena.add(scratch as usize).cast()] };
        if !accumulate {
            // SAFETY: as above.
            unsafe { std::ptr::write_bytes(c, 0, m * n) };
        }
        let (rows, width) = if transposed { (n, k) } else { (k, n) };
        // Pairs are neighbours of a row, or two rows.
        let together = if pairs && !transposed { 2 } else { 1 };
        let k = if pairs { k.div_ceil(2) } else { k };
        (Product { a, c, m, n, k, transposed }, Wanted { rows, together, width, uses: m, scratch })
    }

    /// Multiplies with some rows, the first of which is number `first` of all.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    pub unsafe fn multiply<V: Simd, B: Block<V>>(&self, first: usize, count: usize, rows: &B) {
        // SAFETY: the caller's promise.
        unsafe { V::apart(WithRows { product: self, first, count, rows }) }
    }

    /// Adds to `c[m][first + i]` the product of row m of `a` with row i of `b`.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn across<V: Simd, B: Block<V>, const M: usize>(&self, b: &B, first: usize, count: usize) {
        /// Rows of `b` whose sums are in registers together.
        const KEYS: usize = 4;
        /// Bytes of rows, about, that stay in the first-level cache until all of `a` has passed.
        const NEAR: usize = 32 * 1024;
        let &Product { a, c, m, n, k, .. } = self;
        let step = (NEAR / (k * size_of::<f32>())).next_multiple_of(KEYS).max(KEYS);
        for near in (0..count).step_by(step) {
            let end = count.min(near + step);
            for top in (0..m).step_by(M) {
                let of_a = M.min(m - top);
                // Rows that do not exist repeat the last one, on either side.
                let left: [*const f32; M] = std::array::from_fn(|i| a.wrapping_add((top + i.min(of_a - 1)) * k));
                for start in (near..end).step_by(KEYS) {
                    let exist = KEYS.min(end - start);
                    if top == 0 {
                        b.prefetch(start..start + exist);
                    }
                    // SAFETY: the caller's promise.
                    unsafe {
                        let sums = products_of_four::<V, B::Row, M>(&b.rows(start, exist), &left, k);
                        for (i, sums) in V::column_sums(&sums).iter().enumerate().take(of_a) {
                            let to = c.add((top + i) * n + first + start);
                            for (key, sum) in sums.iter().enumerate().take(exist) {
                                *to.add(key) += sum;
                            }
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
    unsafe fn along<V: Simd, B: Block<V>, const M: usize>(&self, b: &B, first: usize, count: usize) {
        /// Rows of `b` for which sums stay in registers.
        const KEYS: usize = 16;
        // SAFETY: the caller's promise.
        unsafe {
            let stretch = b.row(0).stretch(self.n);
            for start in (0..count).step_by(KEYS) {
                let rows = start..count.min(start + KEYS);
                b.prefetch(rows.clone());
                let mut column = 0;
                while column < self.n {
                    // As many columns as share a state and fit the registers.
                    let left = (stretch - column % stretch) / V::LANES;
                    column += V::LANES
                        * match left {
                            4.. => self.columns::<V, B, M, 4>(b, rows.clone(), first, column),
                            2.. => self.columns::<V, B, M, 2>(b, rows.clone(), first, column),
                            _ => self.columns::<V, B, M, 1>(b, rows.clone(), first, column),
                        };
                }
            }
        }
    }

    /// As [`along`](Self::along), for some rows and `A` vectors of columns, whose number it returns.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn columns<V: Simd, B: Block<V>, const M: usize, const A: usize>(
        &self,
        b: &B,
        rows: std::ops::Range<usize>,
        first: usize,
        column: usize,
    ) -> usize {
        let &Product { a, c, m, n, k, .. } = self;
        let stretch = column / b.row(0).stretch(n);
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
                for row in rows.clone() {
                    let b = b.row(row);
                    let state = b.state(stretch);
                    let mut right = [V::splat(0.0); A];
                    for (at, right) in right.chunks_mut(2).enumerate() {
                        let column = column + 2 * at * V::LANES;
                        match right {
                            [first, second] => [*first, *second] = b.load_two(&state, column),
                            rest => {
                                for right in rest {
                                    *right = b.load(&state, column);
                                }
                            }
                        }
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

/// A product with some rows, the first of which is number `first` of all.
struct WithRows<'p, B> {
    product: &'p Product,
    first: usize,
    count: usize,
    rows: &'p B,
}

impl<V: Simd, B: Block<V>> Piece<V> for WithRows<'_, B> {
    #[inline(always)]
    unsafe fn run(self) {
        let WithRows { product, first, count, rows } = self;
        // SAFETY: the promise of `Product::multiply`.
        unsafe {
            match (product.transposed, product.m) {
                (true, 1) => product.across::<V, B, 1>(rows, first, count),
                (true, _) => product.across::<V, B, TOGETHER>(rows, first, count),
                (false, 1) => product.along::<V, B, 1>(rows, first, count),
                (false, _) => product.along::<V, B, TOGETHER>(rows, first, count),
            }
        }
    }
}

/// Of four rows the products with `M` rows of `left`, each still a vector of sums; `k` lanes each.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn products_of_four<V: Simd, R: Row<V>, const M: usize>(
    rows: &[R; 4],
    left: &[*const f32; M],
    k: usize,
) -> [[V::Vector; TOGETHER]; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(0.0); TOGETHER]; 4];
        let [r0, r1, r2, r3] = rows;
        let width = r0.stretch(k);
        for (stretch, from) in (0..k).step_by(width).enumerate() {
            let states = [r0.state(stretch), r1.state(stretch), r2.state(stretch), r3.state(stretch)];
            for at in (from..from + width).step_by(V::LANES) {
                let mut x = [V::splat(0.0); M];
                for (x, left) in x.iter_mut().zip(left) {
                    *x = V::load(left.add(at));
                }
                for ((row, state), sums) in rows.iter().zip(&states).zip(&mut sums) {
                    let right = row.load(state, at);
                    for (sum, &x) in sums.iter_mut().zip(&x) {
                        *sum = V::fma(x, right, *sum);
                    }
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests;
