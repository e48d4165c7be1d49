//! Rust's operators on tiles and scalars.

use crate::element::{Bits, Int, Number, Signed, bf16, f16};
use crate::handle::{Scalar, Tile};
use crate::operand::{AsScalar, AsTile};
use crate::trace::{At, Raw, emit, fail, type_of, with};
use std::ops::{
    Add, AddAssign, BitAnd, BitAndAssign, BitOr, BitOrAssign, BitXor, BitXorAssign, Div, DivAssign, Mul, MulAssign,
    Neg, Not, Rem, RemAssign, Shl, ShlAssign, Shr, ShrAssign, Sub, SubAssign,
};
use std::panic::Location;
use tilewright_ir::Diagnostic;
use tilewright_ir::op::Elementwise;

/// `left op= right`: the left side keeps its shape.
fn assign(left: &mut Raw, op: Elementwise, symbol: &str, right: Raw, at: At) {
    let result = emit(op, &[*left, right], at);
    if let (Some(before), Some(after)) = (type_of(*left), type_of(result))
        && before != after
    {
        let mut mistake = Diagnostic::new(format!("`{symbol}=` would change its left side from {before} to {after}"));
        if let Some(made) = with(|t| t.made_at(right).map(ToString::to_string)).flatten() {
            mistake = mistake.note(format!("the right side was made at {made}"));
        }
        fail(at, mistake.help(format!("write `x = x {symbol} y` to make a larger tile")));
        *left = Raw::POISON;
        return;
    }
    *left = result;
}

/// Operators whose left side is a handle, and their assignments.
macro_rules! operators {
    ($($class:ident: $trait:ident $f:ident, $assign:ident $g:ident, $op:ident $symbol:literal;)*) => { $(
        impl<E: $class, R: AsTile<E>> $trait<R> for Tile<E> {
            type Output = Tile<E>;

            #[track_caller]
            fn $f(self, right: R) -> Tile<E> {
                let at = Location::caller();
                Tile::from_raw(emit(Elementwise::$op, &[self.raw, right.lift_tile(at)], at))
            }
        }

        impl<E: $class, R: AsScalar<E>> $trait<R> for Scalar<E> {
            type Output = Scalar<E>;

            #[track_caller]
            fn $f(self, right: R) -> Scalar<E> {
                let at = Location::caller();
                Scalar::from_raw(emit(Elementwise::$op, &[self.raw, right.lift(at)], at))
            }
        }

        impl<E: $class, R: AsTile<E>> $assign<R> for Tile<E> {
            #[track_caller]
            fn $g(&mut self, right: R) {
                let at = Location::caller();
                assign(&mut self.raw, Elementwise::$op, $symbol, right.lift_tile(at), at);
            }
        }

        impl<E: $class, R: AsScalar<E>> $assign<R> for Scalar<E> {
            #[track_caller]
            fn $g(&mut self, right: R) {
                let at = Location::caller();
                assign(&mut self.raw, Elementwise::$op, $symbol, right.lift(at), at);
            }
        }
    )* };
}

operators! {
    Number: Add add, AddAssign add_assign, Add "+";
    Number: Sub sub, SubAssign sub_assign, Sub "-";
    Number: Mul mul, MulAssign mul_assign, Mul "*";
    Number: Div div, DivAssign div_assign, Div "/";
    Number: Rem rem, RemAssign rem_assign, Rem "%";
    Bits: BitAnd bitand, BitAndAssign bitand_assign, And "&";
    Bits: BitOr bitor, BitOrAssign bitor_assign, Or "|";
    Bits: BitXor bitxor, BitXorAssign bitxor_assign, Xor "^";
    Int: Shl shl, ShlAssign shl_assign, Shl "<<";
    Int: Shr shr, ShrAssign shr_assign, Shr ">>";
}

/// `scalar op tile`, one impl an element type: for all at once, coherence fears that someone makes a tile `AsScalar`.
macro_rules! scalar_left {
    ($trait:ident $f:ident $op:ident: $($elem:ty)*) => { $(
        impl $trait<Tile<$elem>> for Scalar<$elem> {
            type Output = Tile<$elem>;

            #[track_caller]
            fn $f(self, right: Tile<$elem>) -> Tile<$elem> {
                Tile::from_raw(emit(Elementwise::$op, &[self.raw, right.raw], Location::caller()))
            }
        }
    )* };
}

/// `number op handle`.
macro_rules! host_left {
    ($trait:ident $f:ident $op:ident: $($host:ty, $elem:ty;)*) => { $(
        impl $trait<Tile<$elem>> for $host {
            type Output = Tile<$elem>;

            #[track_caller]
            fn $f(self, right: Tile<$elem>) -> Tile<$elem> {
                let at = Location::caller();
                Tile::from_raw(emit(Elementwise::$op, &[AsScalar::<$elem>::lift(self, at), right.raw], at))
            }
        }

        impl $trait<Scalar<$elem>> for $host {
            type Output = Scalar<$elem>;

            #[track_caller]
            fn $f(self, right: Scalar<$elem>) -> Scalar<$elem> {
                let at = Location::caller();
                Scalar::from_raw(emit(Elementwise::$op, &[AsScalar::<$elem>::lift(self, at), right.raw], at))
            }
        }
    )* };
}

macro_rules! float_left {
    ($($trait:ident $f:ident $op:ident;)*) => { $(
        scalar_left!($trait $f $op: f32 f16 bf16);
        host_left!($trait $f $op: f32, f32; f32, f16; f32, bf16; f16, f16; bf16, bf16;);
    )* };
}

macro_rules! int_left {
    ($($trait:ident $f:ident $op:ident;)*) => { $(
        scalar_left!($trait $f $op: i32 u32 i8 u8);
        host_left!($trait $f $op: i32, i32; i32, u32; i32, i8; i32, u8; u32, u32; i8, i8; u8, u8;);
        host_left!($trait $f $op: usize, i32; usize, u32; usize, i8; usize, u8;);
    )* };
}

macro_rules! bool_left {
    ($($trait:ident $f:ident $op:ident;)*) => { $(
        scalar_left!($trait $f $op: bool);
        host_left!($trait $f $op: bool, bool;);
    )* };
}

float_left! { Add add Add; Sub sub Sub; Mul mul Mul; Div div Div; Rem rem Rem; }
int_left! {
    Add add Add; Sub sub Sub; Mul mul Mul; Div div Div; Rem rem Rem;
    BitAnd bitand And; BitOr bitor Or; BitXor bitxor Xor; Shl shl Shl; Shr shr Shr;
}
bool_left! { BitAnd bitand And; BitOr bitor Or; BitXor bitxor Xor; }

macro_rules! prefix {
    ($($handle:ident),*) => { $(
        impl<E: Signed> Neg for $handle<E> {
            type Output = $handle<E>;

            #[track_caller]
            fn neg(self) -> $handle<E> {
                $handle::from_raw(emit(Elementwise::Neg, &[self.raw], Location::caller()))
            }
        }

        impl<E: Bits> Not for $handle<E> {
            type Output = $handle<E>;

            #[track_caller]
            fn not(self) -> $handle<E> {
                $handle::from_raw(emit(Elementwise::Not, &[self.raw], Location::caller()))
            }
        }
    )* };
}

prefix!(Tile, Scalar);
