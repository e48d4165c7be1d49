//! What tiles alone can do: shapes, reductions, products.

use crate::element::{Element, Float, Number};
use crate::handle::Tile;
use crate::operand::AsScalar;
use crate::trace::{At, Raw, emit, fail, type_of};
use std::panic::Location;
use tilewright_ir::op::{Matmul, Reduce, ShapeOp};
use tilewright_ir::{Diagnostic, MAX_TILE_RANK, Shape};

/// The shape of these extents; a mistake at `at` when there is none.
pub(crate) fn shape(dims: &[usize], at: At) -> Option<Shape> {
    let shape = Shape::new(dims);
    if shape.is_none() {
        let help = format!("a tile has at most {MAX_TILE_RANK} axes, and each extent fits 32 bits");
        fail(at, Diagnostic::new(format!("a tile of shape {dims:?}")).help(help));
    }
    shape
}

/// An axis as the IR holds it; one past 255 becomes 255, which no tile has.
pub(crate) fn axis(axis: usize) -> u8 {
    u8::try_from(axis).unwrap_or(u8::MAX)
}

/// The axis that rows lie along. A scalar has none; its reduction is refused whatever the axis.
fn last_axis(raw: Raw) -> usize {
    type_of(raw).and_then(|ty| ty.shape()).map_or(0, |shape| shape.rank().saturating_sub(1))
}

/// `0, 1, 2, …` along `axis` of a tile of shape `dims`.
#[track_caller]
pub fn iota(dims: &[usize], axis: usize) -> Tile<i32> {
    let at = Location::caller();
    let op = |shape| emit(ShapeOp::Iota { axis: self::axis(axis), shape }, &[], at);
    Tile::from_raw(shape(dims, at).map_or(Raw::POISON, op))
}

impl<E: Element> Tile<E> {
    /// A tile of shape `dims` with the same value everywhere.
    #[track_caller]
    pub fn full(value: impl AsScalar<E>, dims: &[usize]) -> Tile<E> {
        let at = Location::caller();
        let value = value.lift(at);
        let op = |shape| emit(ShapeOp::Broadcast { shape }, &[value], at);
        Tile::from_raw(shape(dims, at).map_or(Raw::POISON, op))
    }

    /// The extents; empty after a mistake.
    pub fn dims(self) -> Vec<usize> {
        type_of(self.raw).and_then(|ty| ty.shape()).map(|shape| shape.extents().collect()).unwrap_or_default()
    }

    /// Repeated along its axes of extent 1, to shape `dims` of the same rank.
    #[track_caller]
    pub fn broadcast(self, dims: &[usize]) -> Tile<E> {
        let at = Location::caller();
        let op = |shape| emit(ShapeOp::Broadcast { shape }, &[self.raw], at);
        Tile::from_raw(shape(dims, at).map_or(Raw::POISON, op))
    }

    /// The same elements in the same row-major order under another shape.
    #[track_caller]
    pub fn reshape(self, dims: &[usize]) -> Tile<E> {
        let at = Location::caller();
        let op = |shape| emit(ShapeOp::Reshape { shape }, &[self.raw], at);
        Tile::from_raw(shape(dims, at).map_or(Raw::POISON, op))
    }

    /// The last two axes exchanged.
    #[track_caller]
    pub fn t(self) -> Tile<E> {
        Tile::from_raw(emit(ShapeOp::Transpose, &[self.raw], Location::caller()))
    }
}

impl Tile<u32> {
    /// The codes of `bits` bits (2, 4 or 8) in these words: `[.., n]` to `[.., n * 32 / bits]`, of rank 1 to 3. The first
    /// code of a word is its lowest bits.
    #[track_caller]
    pub fn unpack(self, bits: u32) -> Tile<u8> {
        let bits = u8::try_from(bits).unwrap_or(u8::MAX); // refused either way
        Tile::from_raw(emit(ShapeOp::Unpack { bits }, &[self.raw], Location::caller()))
    }
}

impl<E: Element> Tile<E> {
    /// `[m, k] x [k, n]` to `[m, n]`: products and sums in f32.
    #[track_caller]
    pub fn dot<R: Float>(self, right: Tile<R>) -> Tile<f32>
    where
        E: Float,
    {
        Tile::from_raw(emit(Matmul::Dot, &[self.raw, right.raw], Location::caller()))
    }
}

/// Reductions keep the axis with extent 1, so that the result broadcasts back.
impl<E: Element> Tile<E> {
    /// The largest along `axis`, NaN ignored.
    #[track_caller]
    pub fn max_along(self, axis: usize) -> Tile<E>
    where
        E: Number,
    {
        Tile::from_raw(emit(Reduce::Max { axis: self::axis(axis) }, &[self.raw], Location::caller()))
    }

    /// The smallest along `axis`, NaN ignored.
    #[track_caller]
    pub fn min_along(self, axis: usize) -> Tile<E>
    where
        E: Number,
    {
        Tile::from_raw(emit(Reduce::Min { axis: self::axis(axis) }, &[self.raw], Location::caller()))
    }

    /// The sum along `axis`, in any order for floats.
    #[track_caller]
    pub fn sum_along(self, axis: usize) -> Tile<E>
    where
        E: Number,
    {
        Tile::from_raw(emit(Reduce::Sum { axis: self::axis(axis) }, &[self.raw], Location::caller()))
    }

    /// The largest of each row, which is the last axis: `[rows, n]` to `[rows, 1]`, `[batch, rows, n]` to `[batch, rows, 1]`.
    #[track_caller]
    pub fn row_max(self) -> Tile<E>
    where
        E: Number,
    {
        self.max_along(last_axis(self.raw))
    }

    /// The sum of each row, which is the last axis: `[rows, n]` to `[rows, 1]`, `[batch, rows, n]` to `[batch, rows, 1]`.
    #[track_caller]
    pub fn row_sum(self) -> Tile<E>
    where
        E: Number,
    {
        self.sum_along(last_axis(self.raw))
    }
}
