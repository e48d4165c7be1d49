//! What may stand beside a tile or a scalar: handles, and Rust numbers that become constants.

use crate::element::{Element, Float, Int, bf16, f16};
use crate::handle::{Scalar, Tile};
use crate::trace::{At, Raw, emit, fail};
use tilewright_ir::op::{Elementwise, Literal};
use tilewright_ir::{Diagnostic, Elem};

/// What may stand beside a `Scalar<E>`: itself, or a Rust number.
///
/// A Rust float beside a float element is rounded to it; `i32` and `usize` beside an integer element must fit it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used as a `Scalar<{E}>`",
    label = "this has another type",
    note = "element types never mix silently: convert with `.cast()`, or write the number with its type"
)]
pub trait AsScalar<E: Element> {
    /// The value in the kernel being traced, made at `at`.
    fn lift(self, at: At) -> Raw;
}

/// What may stand beside a `Tile<E>`: a tile, or what may be a scalar.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be combined with a `Tile<{E}>`",
    label = "this has another type",
    note = "element types never mix silently: convert with `.cast()`, or write the number with its type"
)]
pub trait AsTile<E: Element> {
    /// The value in the kernel being traced, made at `at`.
    fn lift_tile(self, at: At) -> Raw;
}

/// A Rust number and the element type that it has by itself: `usize` counts as i32.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no number that a scalar can be made of",
    note = "f32, f16, bf16, i32, u32, i8, u8, bool and usize are"
)]
pub trait Host: AsScalar<Self::Elem> {
    /// The element type.
    type Elem: Element;
}

pub(crate) fn constant(value: f64, elem: Elem, at: At) -> Raw {
    emit(Elementwise::Constant { value: Literal(value), elem }, &[], at)
}

fn integer(value: i128, elem: Elem, at: At) -> Raw {
    let range = match elem {
        Elem::U32 => 0..=u32::MAX as i128,
        Elem::I8 => i8::MIN as i128..=i8::MAX as i128,
        Elem::U8 => 0..=u8::MAX as i128,
        Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::I32 | Elem::Bool => i32::MIN as i128..=i32::MAX as i128,
    };
    if range.contains(&value) {
        return constant(value as f64, elem, at);
    }
    let help = format!("{elem} holds {} to {}", range.start(), range.end());
    fail(at, Diagnostic::new(format!("the number {value} does not fit {elem}")).help(help))
}

impl<E: Element> AsScalar<E> for Scalar<E> {
    fn lift(self, _: At) -> Raw {
        self.raw
    }
}

#[diagnostic::do_not_recommend]
impl<E: Float> AsScalar<E> for f32 {
    fn lift(self, at: At) -> Raw {
        let rounded = match E::ELEM {
            Elem::F16 => f16::from_f32(self).to_f64(),
            Elem::Bf16 => bf16::from_f32(self).to_f64(),
            Elem::F32 | Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool => self as f64,
        };
        constant(rounded, E::ELEM, at)
    }
}

macro_rules! exact {
    ($($ty:ty as $convert:expr;)*) => { $(
        impl AsScalar<$ty> for $ty {
            fn lift(self, at: At) -> Raw {
                constant($convert(self), <$ty>::ELEM, at)
            }
        }
    )* };
}

exact! {
    f16 as f16::to_f64;
    bf16 as bf16::to_f64;
    u32 as f64::from;
    i8 as f64::from;
    u8 as f64::from;
    bool as |b| b as u8 as f64;
}

macro_rules! integers {
    ($($ty:ty),*) => { $(
        #[diagnostic::do_not_recommend]
        impl<E: Int> AsScalar<E> for $ty {
            fn lift(self, at: At) -> Raw {
                integer(self as i128, E::ELEM, at)
            }
        }
    )* };
}

integers!(i32, usize);

impl<E: Element> AsTile<E> for Tile<E> {
    fn lift_tile(self, _: At) -> Raw {
        self.raw
    }
}

impl<E: Element> AsTile<E> for Scalar<E> {
    fn lift_tile(self, _: At) -> Raw {
        self.raw
    }
}

macro_rules! beside_tiles {
    ($([$($generics:tt)*] $ty:ty, $elem:ty;)*) => { $(
        #[diagnostic::do_not_recommend]
        impl<$($generics)*> AsTile<$elem> for $ty {
            fn lift_tile(self, at: At) -> Raw {
                AsScalar::<$elem>::lift(self, at)
            }
        }
    )* };
}

beside_tiles! {
    [E: Float] f32, E;
    [E: Int] i32, E;
    [E: Int] usize, E;
    [] f16, f16;
    [] bf16, bf16;
    [] u32, u32;
    [] i8, i8;
    [] u8, u8;
    [] bool, bool;
}

macro_rules! hosts {
    ($($ty:ty => $elem:ty),*) => { $(
        impl Host for $ty {
            type Elem = $elem;
        }
    )* };
}

hosts!(f32 => f32, f16 => f16, bf16 => bf16, i32 => i32, usize => i32, u32 => u32, i8 => i8, u8 => u8, bool => bool);

/// Where a load or a store begins: an i32 for the first of `RANK` axes (the others begin at 0), or one for each axis as an
/// array or a tuple.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no origin in a view of rank {RANK}",
    note = "an origin is one i32 for the first axis, or an array or tuple of one for each axis"
)]
pub trait Origin<const RANK: usize> {
    /// One value an axis.
    fn lift_origin(self, at: At) -> [Raw; RANK];
}

macro_rules! first_axis {
    ($($ty:ty: $($rank:literal)*;)*) => { $($(
        impl Origin<$rank> for $ty {
            fn lift_origin(self, at: At) -> [Raw; $rank] {
                let first = AsScalar::<i32>::lift(self, at);
                let others = if $rank == 1 { first } else { constant(0.0, Elem::I32, at) };
                std::array::from_fn(|axis| if axis == 0 { first } else { others })
            }
        }
    )*)* };
}

first_axis! {
    Scalar<i32>: 1 2 3 4;
    i32: 1 2 3 4;
    usize: 1 2 3 4;
}

impl<I: AsScalar<i32>, const RANK: usize> Origin<RANK> for [I; RANK] {
    fn lift_origin(self, at: At) -> [Raw; RANK] {
        self.map(|i| i.lift(at))
    }
}

macro_rules! tuple_origins {
    ($($rank:literal: $($axis:ident)*;)*) => { $(
        impl<$($axis: AsScalar<i32>),*> Origin<$rank> for ($($axis,)*) {
            #[allow(non_snake_case)]
            fn lift_origin(self, at: At) -> [Raw; $rank] {
                let ($($axis,)*) = self;
                [$($axis.lift(at)),*]
            }
        }
    )* };
}

tuple_origins! {
    2: A B;
    3: A B C;
    4: A B C D;
}

impl Origin<0> for () {
    fn lift_origin(self, _: At) -> [Raw; 0] {
        []
    }
}
