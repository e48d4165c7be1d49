//! Methods that tiles and scalars share.

use crate::element::{Element, Float, Number, Signed};
use crate::handle::{Scalar, Tile};
use crate::operand::{AsScalar, AsTile};
use crate::trace::emit;
use std::panic::Location;
use tilewright_ir::op::Elementwise;

macro_rules! unary {
    ($handle:ident<$class:ident>: $($(#[$doc:meta])* $name:ident => $op:ident;)*) => {
        impl<E: Element> $handle<E> { $(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(self) -> Self
            where
                E: $class, // on the method, so that the error says what is wrong with the element type
            {
                Self::from_raw(emit(Elementwise::$op, &[self.raw], Location::caller()))
            }
        )* }
    };
}

macro_rules! shared {
    ($handle:ident, $operand:ident, $lift:ident) => {
        unary! { $handle<Float>:
            /// 2 to this power.
            exp2 => Exp2;
            /// Logarithm to base 2.
            log2 => Log2;
            /// Hyperbolic tangent.
            tanh => Tanh;
            /// `1 / sqrt(self)`.
            rsqrt => Rsqrt;
            /// `1 / self`.
            recip => Recip;
            /// The nearest integer, ties to even; keeps the sign of zero.
            round => Round;
            /// The integer towards zero; keeps the sign of zero.
            trunc => Trunc;
        }

        unary! { $handle<Signed>:
            /// Distance from zero; wraps for integers.
            abs => Abs;
        }

        impl<E: Element> $handle<E> {
            /// The larger; the number when one is NaN.
            #[track_caller]
            pub fn max(self, other: impl $operand<E>) -> Self
            where
                E: Number,
            {
                let at = Location::caller();
                Self::from_raw(emit(Elementwise::Max, &[self.raw, other.$lift(at)], at))
            }

            /// The smaller; the number when one is NaN.
            #[track_caller]
            pub fn min(self, other: impl $operand<E>) -> Self
            where
                E: Number,
            {
                let at = Location::caller();
                Self::from_raw(emit(Elementwise::Min, &[self.raw, other.$lift(at)], at))
            }
        }

        impl<E: Element> $handle<E> {
            /// The nearest value of another element type, ties to even.
            ///
            /// Floats become integers by truncation, saturating, and NaN becomes 0; integers become narrower ones by
            /// wrapping; bool becomes 0 or 1. Nothing is cast to bool: compare with zero.
            #[track_caller]
            pub fn cast<T: Element>(self) -> $handle<T> {
                let at = Location::caller();
                if E::ELEM == T::ELEM {
                    return $handle::from_raw(self.raw);
                }
                $handle::from_raw(emit(Elementwise::Cast { to: T::ELEM }, &[self.raw], at))
            }

            /// The same bits as another element type of the same width; not bool.
            #[track_caller]
            pub fn bitcast<T: Element>(self) -> $handle<T> {
                $handle::from_raw(emit(Elementwise::Bitcast { to: T::ELEM }, &[self.raw], Location::caller()))
            }
        }

        impl $handle<bool> {
            /// `yes` where this holds, `no` elsewhere. Both are computed.
            #[track_caller]
            pub fn select<E: Element>(self, yes: impl $operand<E>, no: impl $operand<E>) -> $handle<E> {
                let at = Location::caller();
                let (yes, no) = (yes.$lift(at), no.$lift(at));
                $handle::from_raw(emit(Elementwise::Select, &[self.raw, yes, no], at))
            }
        }
    };
}

shared!(Tile, AsTile, lift_tile);
shared!(Scalar, AsScalar, lift);
