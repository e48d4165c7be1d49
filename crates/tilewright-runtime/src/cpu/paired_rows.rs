//! Rows that are read as bf16 numbers in pairs, which one instruction multiplies and adds: neighbours of a row where a product
//! contracts rows, two rows where it contracts columns.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other processor multiplies pairs yet"))]

use super::row::{Bf16Row, BytesRow, CopiedRow, F16Row, F32Row, NibblesRow, Round, Row};
use super::rows::{Block, Visitor};
use super::simd::Simd;
use super::stream::Product;
use std::marker::PhantomData;
use std::ops::Range;

/// Vectors of pairs of bf16 numbers: [`fma`](Simd::fma) multiplies and adds both of a lane. Subnormal numbers may become zero.
///
/// # Safety
/// As [`Simd`].
pub(super) trait PairSimd: Simd<Vector = <Self::Numbers as Simd>::Vector> {
    /// The same registers as f32 numbers.
    type Numbers: Simd;

    /// The numbers of two vectors, one after the other, rounded.
    unsafe fn rounded(first: Self::Vector, second: Self::Vector) -> Self::Vector;
}

/// A row whose numbers, which are bf16 or become it, can be read two to a lane.
///
/// # Safety
/// As [`Row`], and twice as many numbers as a vector has lanes from a column on.
pub(super) trait PairedRow<V: Simd>: Row<V> {
    /// What neighbouring columns share.
    type Shared: Copy;

    /// As [`Row::state`].
    unsafe fn shared<P: PairSimd<Numbers = V>>(&self, stretch: usize) -> Self::Shared;

    /// The numbers from `column` on.
    unsafe fn pairs<P: PairSimd<Numbers = V>>(&self, shared: &Self::Shared, column: usize) -> P::Vector;
}

/// Implements [`PairedRow`] for rows of floats.
macro_rules! floats {
    ($name:ident, |$row:ident, $column:ident| $pairs:expr) => {
        impl<V: Simd> PairedRow<V> for $name {
            type Shared = ();

            #[inline(always)]
            unsafe fn shared<P: PairSimd<Numbers = V>>(&self, _: usize) {}

            #[inline(always)]
            unsafe fn pairs<P: PairSimd<Numbers = V>>(&self, _: &(), $column: usize) -> P::Vector {
                let $row = self;
                // SAFETY: the caller's promise.
                unsafe { $pairs }
            }
        }
    };
}
floats!(Bf16Row, |row, column| {
    P::prefetch(row.from.wrapping_add(column).cast::<u8>().wrapping_offset(row.ahead));
    P::load(row.from.add(column).cast())
});
floats!(F16Row, |row, column| rounded::<V, P, _>(row, &(), column));
floats!(F32Row, |row, column| rounded::<V, P, _>(row, &(), column));
floats!(CopiedRow, |row, column| rounded::<V, P, _>(row, &(), column));

/// Implements [`PairedRow`] for rows of codes.
macro_rules! codes {
    ($name:ident) => {
        impl<V: Simd, R: Round> PairedRow<V> for $name<R> {
            type Shared = <Self as Row<V>>::State;

            #[inline(always)]
            unsafe fn shared<P: PairSimd<Numbers = V>>(&self, stretch: usize) -> Self::Shared {
                // SAFETY: the caller's promise.
                unsafe { Row::<V>::state(self, stretch) }
            }

            #[inline(always)]
            unsafe fn pairs<P: PairSimd<Numbers = V>>(&self, shared: &Self::Shared, column: usize) -> P::Vector {
                // SAFETY: the caller's promise.
                unsafe { rounded::<V, P, _>(self, shared, column) }
            }
        }
    };
}
codes!(BytesRow);
codes!(NibblesRow);

/// Two vectors of numbers as one of pairs.
///
/// # Safety
/// As [`PairedRow::pairs`].
#[inline(always)]
unsafe fn rounded<V: Simd, P: PairSimd<Numbers = V>, R: Row<V>>(row: &R, state: &R::State, column: usize) -> P::Vector {
    // SAFETY: the caller's promise.
    let [first, second] = unsafe { row.load_two(state, column) };
    // SAFETY: as above.
    unsafe { P::rounded(first, second) }
}

/// A product of pairs with rows of numbers.
pub(super) struct OfPairs<'p, P> {
    pub product: &'p Product,
    pub vectors: PhantomData<P>,
}

impl<P: PairSimd> Visitor<P::Numbers> for OfPairs<'_, P> {
    #[inline(always)]
    unsafe fn visit<B: Block<P::Numbers, Row: PairedRow<P::Numbers>>>(&self, first: usize, count: usize, rows: &B) {
        // SAFETY: the caller's promise; where two rows are one of pairs, two are visited at a time.
        unsafe {
            match self.product.transposed {
                true => self.product.multiply::<P, _>(first, count, &Neighbours(rows)),
                false => self.product.multiply::<P, _>(first / 2, count / 2, &Twos(rows)),
            }
        }
    }
}

/// Rows, or one of them, whose neighbouring numbers make pairs.
#[derive(Clone, Copy)]
struct Neighbours<R>(R);

impl<P: PairSimd, B: Block<P::Numbers, Row: PairedRow<P::Numbers>>> Block<P> for Neighbours<&B> {
    type Row = Neighbours<B::Row>;

    #[inline(always)]
    fn row(&self, at: usize) -> Self::Row {
        Neighbours(self.0.row(at))
    }

    #[inline(always)]
    fn rows(&self, at: usize, exist: usize) -> [Self::Row; 4] {
        let [a, b, c, d] = self.0.rows(at, exist);
        [Neighbours(a), Neighbours(b), Neighbours(c), Neighbours(d)]
    }

    #[inline(always)]
    fn prefetch(&self, rows: Range<usize>) {
        self.0.prefetch(rows);
    }
}

impl<P: PairSimd, R: PairedRow<P::Numbers>> Row<P> for Neighbours<R> {
    type State = R::Shared;

    #[inline(always)]
    fn stretch(&self, width: usize) -> usize {
        self.0.stretch(2 * width) / 2
    }

    #[inline(always)]
    unsafe fn state(&self, stretch: usize) -> R::Shared {
        // SAFETY: the caller's promise.
        unsafe { self.0.shared::<P>(stretch) }
    }

    #[inline(always)]
    unsafe fn load(&self, state: &R::Shared, column: usize) -> P::Vector {
        // SAFETY: the caller's promise.
        unsafe { self.0.pairs::<P>(state, 2 * column) }
    }
}

/// Rows of which each two make one of pairs.
struct Twos<'b, B>(&'b B);

impl<P: PairSimd, B: Block<P::Numbers, Row: PairedRow<P::Numbers>>> Block<P> for Twos<'_, B> {
    type Row = Two<B::Row>;

    #[inline(always)]
    fn row(&self, at: usize) -> Two<B::Row> {
        Two([self.0.row(2 * at), self.0.row(2 * at + 1)])
    }

    #[inline(always)]
    fn rows(&self, at: usize, exist: usize) -> [Two<B::Row>; 4] {
        let row = |i: usize| Block::<P>::row(self, at + i.min(exist - 1));
        [row(0), row(1), row(2), row(3)]
    }

    #[inline(always)]
    fn prefetch(&self, rows: Range<usize>) {
        self.0.prefetch(2 * rows.start..2 * rows.end);
    }
}

/// Two rows, and the pairs of their numbers in the same column. Their columns are whole pairs of vectors.
#[derive(Clone, Copy)]
struct Two<R>([R; 2]);

impl<P: PairSimd, R: PairedRow<P::Numbers>> Row<P> for Two<R> {
    type State = [R::Shared; 2];

    #[inline(always)]
    fn stretch(&self, width: usize) -> usize {
        self.0[0].stretch(width)
    }

    #[inline(always)]
    unsafe fn state(&self, stretch: usize) -> Self::State {
        let [first, second] = &self.0;
        // SAFETY: the caller's promise.
        unsafe { [first.shared::<P>(stretch), second.shared::<P>(stretch)] }
    }

    #[inline(always)]
    unsafe fn load(&self, state: &Self::State, column: usize) -> P::Vector {
        // The first or the second of two vectors.
        let odd = column / P::LANES % 2;
        // SAFETY: the caller's promise; there are two.
        unsafe { <Self as Row<P>>::load_two(self, state, column - odd * P::LANES)[odd] }
    }

    #[inline(always)]
    unsafe fn load_two(&self, state: &Self::State, column: usize) -> [P::Vector; 2] {
        let [first, second] = &self.0;
        // SAFETY: the caller's promise.
        unsafe { P::in_turns(first.pairs::<P>(&state[0], column), second.pairs::<P>(&state[1], column)) }
    }
}
