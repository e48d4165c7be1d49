//! Comparisons, `&&` and `||`: `#[kernel]` and `#[tile]` rewrite them to these traits, because Rust's own give `bool`.

use crate::element::{Element, bf16, f16};
use crate::handle::{Scalar, Tile};
use crate::operand::{AsScalar, AsTile};
use crate::scalar::scalar;
use crate::trace::{At, emit, fail, with};
use std::panic::Location;
use tilewright_ir::Diagnostic;
use tilewright_ir::op::Elementwise;

macro_rules! compare {
    ($($(#[$doc:meta])* $trait:ident $f:ident $op:ident $std:ident $rust:tt;)*) => { $(
        $(#[$doc])*
        #[diagnostic::on_unimplemented(
            message = "`{Self}` and `{B}` cannot be compared",
            note = "both sides need one element type: convert with `.cast()`, or write the number with its type"
        )]
        pub trait $trait<B> {
            /// `bool`, `Scalar<bool>` or `Tile<bool>`.
            type Output;
            /// Compares.
            fn $f(&self, right: &B) -> Self::Output;
        }

        impl<A: $std> $trait<A> for A {
            type Output = bool;

            fn $f(&self, right: &A) -> bool {
                self $rust right
            }
        }

        impl<E: Element, R: AsTile<E> + Copy> $trait<R> for Tile<E> {
            type Output = Tile<bool>;

            #[track_caller]
            fn $f(&self, right: &R) -> Tile<bool> {
                let at = Location::caller();
                Tile::from_raw(emit(Elementwise::$op, &[self.raw, right.lift_tile(at)], at))
            }
        }

        impl<E: Element, R: AsScalar<E> + Copy> $trait<R> for Scalar<E> {
            type Output = Scalar<bool>;

            #[track_caller]
            fn $f(&self, right: &R) -> Scalar<bool> {
                let at = Location::caller();
                Scalar::from_raw(emit(Elementwise::$op, &[self.raw, right.lift(at)], at))
            }
        }

        scalar_left!($trait $f $op: f32 f16 bf16 i32 u32 i8 u8 bool);
        host_left!($trait $f $op: f32, f32; f32, f16; f32, bf16; f16, f16; bf16, bf16; bool, bool;);
        host_left!($trait $f $op: i32, i32; i32, u32; i32, i8; i32, u8; u32, u32; i8, i8; u8, u8;);
        host_left!($trait $f $op: usize, i32; usize, u32; usize, i8; usize, u8;);
    )* };
}

/// One impl an element type: for all at once, coherence fears that someone makes a tile `AsScalar`.
macro_rules! scalar_left {
    ($trait:ident $f:ident $op:ident: $($elem:ty)*) => { $(
        impl $trait<Tile<$elem>> for Scalar<$elem> {
            type Output = Tile<bool>;

            #[track_caller]
            fn $f(&self, right: &Tile<$elem>) -> Tile<bool> {
                Tile::from_raw(emit(Elementwise::$op, &[self.raw, right.raw], Location::caller()))
            }
        }
    )* };
}

macro_rules! host_left {
    ($trait:ident $f:ident $op:ident: $($host:ty, $elem:ty;)*) => { $(
        impl $trait<Tile<$elem>> for $host {
            type Output = Tile<bool>;

            #[track_caller]
            fn $f(&self, right: &Tile<$elem>) -> Tile<bool> {
                let at = Location::caller();
                Tile::from_raw(emit(Elementwise::$op, &[AsScalar::<$elem>::lift(*self, at), right.raw], at))
            }
        }

        impl $trait<Scalar<$elem>> for $host {
            type Output = Scalar<bool>;

            #[track_caller]
            fn $f(&self, right: &Scalar<$elem>) -> Scalar<bool> {
                let at = Location::caller();
                Scalar::from_raw(emit(Elementwise::$op, &[AsScalar::<$elem>::lift(*self, at), right.raw], at))
            }
        }
    )* };
}

compare! {
    /// `a < b`.
    Less less Lt PartialOrd <;
    /// `a <= b`.
    LessEqual less_equal Le PartialOrd <=;
    /// `a > b`.
    Greater greater Gt PartialOrd >;
    /// `a >= b`.
    GreaterEqual greater_equal Ge PartialOrd >=;
    /// `a == b`.
    Equal equal Eq PartialEq ==;
    /// `a != b`.
    NotEqual not_equal Ne PartialEq !=;
}

/// `a && b` and `a || b` of `bool` and `Scalar<bool>`.
///
/// The right side is a `Fn`, so that rustc refuses one that changes a variable: the device evaluates both sides, where Rust
/// may skip the right one.
#[diagnostic::on_unimplemented(
    message = "`&&` and `||` cannot join `{Self}` and `{B}`",
    note = "they join `bool` and `Scalar<bool>`; for tiles use `&` and `|`"
)]
pub trait Both<B> {
    /// `bool` when both sides are.
    type Output;
    /// `self && b()`.
    fn and(self, b: impl Fn() -> B) -> Self::Output;
    /// `self || b()`.
    fn or(self, b: impl Fn() -> B) -> Self::Output;
}

impl Both<bool> for bool {
    type Output = bool;

    fn and(self, b: impl Fn() -> bool) -> bool {
        self && b()
    }

    fn or(self, b: impl Fn() -> bool) -> bool {
        self || b()
    }
}

impl Both<Scalar<bool>> for bool {
    type Output = Scalar<bool>;

    #[track_caller]
    fn and(self, b: impl Fn() -> Scalar<bool>) -> Scalar<bool> {
        if self { b() } else { scalar(false) }
    }

    #[track_caller]
    fn or(self, b: impl Fn() -> Scalar<bool>) -> Scalar<bool> {
        if self { scalar(true) } else { b() }
    }
}

impl<B: AsScalar<bool>> Both<B> for Scalar<bool> {
    type Output = Scalar<bool>;

    #[track_caller]
    fn and(self, b: impl Fn() -> B) -> Scalar<bool> {
        let at = Location::caller();
        let b = without_stores(at, b).lift(at);
        Scalar::from_raw(emit(Elementwise::And, &[self.raw, b], at))
    }

    #[track_caller]
    fn or(self, b: impl Fn() -> B) -> Scalar<bool> {
        let at = Location::caller();
        let b = without_stores(at, b).lift(at);
        Scalar::from_raw(emit(Elementwise::Or, &[self.raw, b], at))
    }
}

/// The device evaluates both sides, which Rust's short circuit allows only while the right one does nothing.
fn without_stores<B>(at: At, b: impl Fn() -> B) -> B {
    let stores = || with(|t| t.effects);
    let before = stores();
    let value = b();
    if stores() != before {
        fail(
            at,
            Diagnostic::new("the right side of `&&` or `||` stores to memory, and the device evaluates both sides")
                .help("write it as an `if`"),
        );
    }
    value
}
