//! Views of tensors: narrowing, loads and stores.

use crate::element::Element;
use crate::handle::{Scalar, Tile, View, ViewMut};
use crate::operand::{AsScalar, Origin};
use crate::tile::{axis, shape};
use crate::trace::{At, Raw, emit, type_of};
use std::panic::Location;
use tilewright_ir::op::{Memory, ShapeOp};
use tilewright_ir::{Shape, Type};

macro_rules! narrowing {
    ($($view:ident),*) => { $(
        impl<E: Element, const RANK: usize> $view<E, RANK> {
            /// The length of `axis` of the tensor; [`limit`](Self::limit) does not change it.
            #[track_caller]
            #[allow(clippy::len_without_is_empty, reason = "the length of an axis, not of a collection")]
            pub fn len(self, axis: usize) -> Scalar<i32> {
                Scalar::from_raw(emit(Memory::Len { axis: self::axis(axis) }, &[self.raw], Location::caller()))
            }

            /// The same view with only `[first, last)` of the first axis: a load gives zero outside, a store does nothing.
            #[track_caller]
            pub fn limit(self, first: impl AsScalar<i32>, last: impl AsScalar<i32>) -> Self {
                self.limit_axis(0, first, last)
            }

            /// The same view with only `[first, last)` of `axis`.
            #[track_caller]
            pub fn limit_axis(self, axis: usize, first: impl AsScalar<i32>, last: impl AsScalar<i32>) -> Self {
                let at = Location::caller();
                let bounds = [self.raw, first.lift(at), last.lift(at)];
                Self::from_raw(emit(Memory::Limit { axis: self::axis(axis) }, &bounds, at))
            }
        }
    )* };
}

narrowing!(View, ViewMut);

macro_rules! at {
    ($($view:ident: $($rank:literal to $less:literal)*;)*) => { $($(
        impl<E: Element> $view<E, $rank> {
            /// The view at `index` of the first axis, which goes away. Outside the bounds it is a view of nothing.
            #[track_caller]
            pub fn at(self, index: impl AsScalar<i32>) -> $view<E, $less> {
                self.at_axis(0, index)
            }

            /// The view at `index` of `axis`, which goes away.
            #[track_caller]
            pub fn at_axis(self, axis: usize, index: impl AsScalar<i32>) -> $view<E, $less> {
                let at = Location::caller();
                $view::from_raw(emit(Memory::At { axis: self::axis(axis) }, &[self.raw, index.lift(at)], at))
            }
        }
    )*)* };
}

at! {
    View: 4 to 3  3 to 2  2 to 1  1 to 0;
    ViewMut: 4 to 3  3 to 2  2 to 1  1 to 0;
}

impl<E: Element, const RANK: usize> View<E, RANK> {
    /// The tile of shape `dims` that begins at `origin`; zero outside the bounds.
    ///
    /// `origin` is one i32 for the first axis (the others begin at 0), or an array or tuple of one for each axis.
    #[track_caller]
    pub fn load(self, origin: impl Origin<RANK>, dims: [usize; RANK]) -> Tile<E> {
        let at = Location::caller();
        let operands: Vec<Raw> = [self.raw].into_iter().chain(origin.lift_origin(at)).collect();
        let op = |shape| emit(Memory::Load { shape }, &operands, at);
        Tile::from_raw(shape(&dims, at).map_or(Raw::POISON, op))
    }
}

impl<E: Element> View<E, 0> {
    /// The one element; zero where the view is of nothing.
    #[track_caller]
    pub fn value(self) -> Scalar<E> {
        Scalar::from_raw(emit(Memory::Load { shape: Shape::SCALAR }, &[self.raw], Location::caller()))
    }
}

impl<E: Element> View<E, 1> {
    /// The element at `index`; zero outside the bounds.
    #[track_caller]
    pub fn get(self, index: impl AsScalar<i32>) -> Scalar<E> {
        self.at(index).value()
    }
}

macro_rules! gather {
    ($($rank:literal, $others:literal;)*) => { $(
        impl<E: Element> View<E, $rank> {
            /// Like [`load`](View::load), but `axis` is taken at `indices` instead of consecutive places.
            ///
            /// `indices` has one i32 for each place of that axis of the tile; an index outside the bounds gives zero.
            /// `origins` are those of the other axes, in order.
            #[track_caller]
            pub fn gather(
                self,
                axis: usize,
                indices: Tile<i32>,
                origins: impl Origin<$others>,
                dims: [usize; $rank],
            ) -> Tile<E> {
                let at = Location::caller();
                let indices = as_line(indices.raw, at);
                let operands: Vec<Raw> = [self.raw, indices].into_iter().chain(origins.lift_origin(at)).collect();
                let op = |shape| emit(Memory::Gather { axis: self::axis(axis), shape }, &operands, at);
                Tile::from_raw(shape(&dims, at).map_or(Raw::POISON, op))
            }
        }
    )* };
}

gather! { 1, 0; 2, 1; 3, 2; }

/// A column or a row as a tile of rank 1; anything else as it is.
fn as_line(tile: Raw, at: At) -> Raw {
    match type_of(tile) {
        Some(Type::Tile { shape, .. }) if shape.rank() > 1 && shape.extents().any(|extent| extent == shape.count()) => {
            match Shape::new(&[shape.count()]) {
                Some(line) => emit(ShapeOp::Reshape { shape: line }, &[tile], at),
                None => tile,
            }
        }
        _ => tile,
    }
}

impl<E: Element, const RANK: usize> ViewMut<E, RANK> {
    /// Writes the tile at `origin`, inside the bounds. A column `[n, 1]` may go to a view of rank 1.
    ///
    /// `origin` is one i32 for the first axis (the others begin at 0), or an array or tuple of one for each axis.
    #[track_caller]
    pub fn store(self, origin: impl Origin<RANK>, tile: Tile<E>) {
        let at = Location::caller();
        let tile = if RANK == 1 { as_column(tile.raw, at) } else { tile.raw };
        let operands: Vec<Raw> = [self.raw, tile].into_iter().chain(origin.lift_origin(at)).collect();
        emit(Memory::Store, &operands, at);
    }
}

/// `[n, 1]` as `[n]`; anything else as it is.
fn as_column(tile: Raw, at: At) -> Raw {
    match type_of(tile).and_then(Type::shape) {
        Some(shape) if shape.rank() == 2 && shape.extent(1) == Some(1) => as_line(tile, at),
        _ => tile,
    }
}

impl<E: Element> ViewMut<E, 0> {
    /// Writes the one element.
    #[track_caller]
    pub fn put(self, value: impl AsScalar<E>) {
        let at = Location::caller();
        emit(Memory::Store, &[self.raw, value.lift(at)], at);
    }
}

impl<E: Element> ViewMut<E, 1> {
    /// Writes the element at `index`, inside the bounds.
    #[track_caller]
    pub fn set(self, index: impl AsScalar<i32>, value: impl AsScalar<E>) {
        self.at(index).put(value);
    }
}
