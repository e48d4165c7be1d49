//! Making scalars: from Rust numbers, and from the place in the grid.

use crate::element::Element;
use crate::handle::Scalar;
use crate::operand::{AsScalar, Host};
use crate::tile::axis;
use crate::trace::emit;
use std::panic::Location;
use tilewright_ir::op::Control;

/// A device value that starts as this Rust number: `let mut count = scalar(0);`.
///
/// The number's own type says the element type (`scalar(0)` is i32, `scalar(0u32)` is u32, a `usize` is i32). Where the
/// element type comes from elsewhere, as in generic code, use [`Scalar::new`].
#[track_caller]
pub fn scalar<N: Host>(number: N) -> Scalar<N::Elem> {
    Scalar::from_raw(number.lift(Location::caller()))
}

impl<E: Element> Scalar<E> {
    /// A device value of this element type that starts as this Rust number.
    #[track_caller]
    pub fn new(number: impl AsScalar<E>) -> Scalar<E> {
        Scalar::from_raw(number.lift(Location::caller()))
    }
}

/// Which tile program this is, along each of the first `N` axes of the grid: `let [block, head] = program_id();`.
#[track_caller]
pub fn program_id<const N: usize>() -> [Scalar<i32>; N] {
    let at = Location::caller();
    std::array::from_fn(|i| Scalar::from_raw(emit(Control::ProgramId { axis: axis(i) }, &[], at)))
}

/// How many tile programs there are, along each of the first `N` axes of the grid.
#[track_caller]
pub fn program_count<const N: usize>() -> [Scalar<i32>; N] {
    let at = Location::caller();
    std::array::from_fn(|i| Scalar::from_raw(emit(Control::ProgramCount { axis: axis(i) }, &[], at)))
}
