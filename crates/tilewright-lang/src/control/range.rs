//! Ranges in a loop head, of Rust integers or of device values.

use super::carried::{Assignable, Carried, Visitor};
use crate::handle::Scalar;
use crate::operand::AsScalar;
use std::ops::{Range, RangeInclusive};
use std::panic::Location;

/// A half-open range whose ends the device knows.
#[derive(Clone, Copy, Debug)]
pub struct RunRange {
    /// The first value.
    pub first: Scalar<i32>,
    /// The value after the last.
    pub end: Scalar<i32>,
    /// The distance between values; 0 is refused at the loop.
    pub step: usize,
}

impl RunRange {
    /// `first..end`.
    #[track_caller]
    pub fn new(first: impl AsScalar<i32>, end: impl AsScalar<i32>) -> RunRange {
        let at = Location::caller();
        RunRange { first: Scalar::from_raw(first.lift(at)), end: Scalar::from_raw(end.lift(at)), step: 1 }
    }

    /// Every `step`-th value.
    pub fn step_by(self, step: usize) -> RunRange {
        RunRange { step, ..self }
    }

    /// The values in both, from the later beginning, with the step of `self`.
    #[track_caller]
    pub fn intersect(self, other: RunRange) -> RunRange {
        RunRange { first: self.first.max(other.first), end: self.end.min(other.end), step: self.step }
    }
}

impl Carried for RunRange {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.first.visit(visitor);
        self.end.visit(visitor);
        self.step.visit(visitor);
    }
}

impl Assignable for RunRange {}

/// What can stand left of `..` with `B` on the right.
#[diagnostic::on_unimplemented(
    message = "a loop cannot run from `{Self}` to `{B}`",
    note = "both ends are compile-time integers of one type, or at least one is a `Scalar<i32>`"
)]
pub trait Bounds<B> {
    /// `Range` or [`RunRange`].
    type Range;
    /// `self..end`.
    fn range(self, end: B) -> Self::Range;
}

/// What can stand left of `..=` with `B` on the right.
#[diagnostic::on_unimplemented(
    message = "a run-time loop cannot run from `{Self}` to and including `{B}`",
    note = "write `first..last + 1`: a run-time range is half-open"
)]
pub trait InclusiveBounds<B> {
    /// `RangeInclusive`.
    type Range;
    /// `self..=last`.
    fn range_inclusive(self, last: B) -> Self::Range;
}

/// What can stand on one side of `..` with an integer literal on the other: the literal takes the type named here, and rustc
/// refuses it when it does not fit.
#[diagnostic::on_unimplemented(
    message = "a loop cannot run between a number and `{Self}`",
    note = "the other end is a compile-time integer or a `Scalar<i32>`"
)]
pub trait LiteralBounds: Sized {
    /// The type of the literal.
    type Literal;
    /// `Range` or [`RunRange`].
    type Range;
    /// `first..self`.
    fn starting_at(self, first: Self::Literal) -> Self::Range;
    /// `self..end`.
    fn ending_at(self, end: Self::Literal) -> Self::Range;
}

macro_rules! host_bounds {
    ($($ty:ty),*) => { $(
        impl Bounds<$ty> for $ty {
            type Range = Range<$ty>;

            fn range(self, end: $ty) -> Range<$ty> {
                self..end
            }
        }

        impl InclusiveBounds<$ty> for $ty {
            type Range = RangeInclusive<$ty>;

            fn range_inclusive(self, last: $ty) -> RangeInclusive<$ty> {
                self..=last
            }
        }

        impl LiteralBounds for $ty {
            type Literal = $ty;
            type Range = Range<$ty>;

            fn starting_at(self, first: $ty) -> Range<$ty> {
                first..self
            }

            fn ending_at(self, end: $ty) -> Range<$ty> {
                self..end
            }
        }
    )* };
}

host_bounds!(usize, isize, u8, i8, u16, i16, u32, i32, u64, i64);

macro_rules! run_bounds {
    ($($first:ty, $end:ty;)*) => { $(
        impl Bounds<$end> for $first {
            type Range = RunRange;

            #[track_caller]
            fn range(self, end: $end) -> RunRange {
                RunRange::new(self, end)
            }
        }
    )* };
}

run_bounds! {
    Scalar<i32>, Scalar<i32>;
    Scalar<i32>, usize;
    Scalar<i32>, i32;
    usize, Scalar<i32>;
    i32, Scalar<i32>;
}

impl LiteralBounds for Scalar<i32> {
    type Literal = i32;
    type Range = RunRange;

    #[track_caller]
    fn starting_at(self, first: i32) -> RunRange {
        RunRange::new(first, self)
    }

    #[track_caller]
    fn ending_at(self, end: i32) -> RunRange {
        RunRange::new(self, end)
    }
}

/// `first..end` in a loop head.
#[track_caller]
pub fn range<A: Bounds<B>, B>(first: A, end: B) -> A::Range {
    first.range(end)
}

/// `first..=last` in a loop head.
pub fn range_inclusive<A: InclusiveBounds<B>, B>(first: A, last: B) -> A::Range {
    first.range_inclusive(last)
}

/// `LITERAL..end` in a loop head.
#[track_caller]
pub fn range_from_literal<B: LiteralBounds>(first: B::Literal, end: B) -> B::Range {
    end.starting_at(first)
}

/// `first..LITERAL` in a loop head.
#[track_caller]
pub fn range_to_literal<B: LiteralBounds>(first: B, end: B::Literal) -> B::Range {
    first.ending_at(end)
}
