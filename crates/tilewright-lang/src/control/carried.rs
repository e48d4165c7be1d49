//! State that crosses run-time control flow.

use crate::handle::{Scalar, Tile, View, ViewMut};
use crate::trace::Raw;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;

/// Walks the parts of a [`Carried`] value, always in the same order.
pub trait Visitor {
    /// A device value, which the walk may replace.
    fn value(&mut self, raw: &mut Raw);
    /// A compile-time part, as a number that tells it from others. It must not change in run-time control flow.
    fn fixed(&mut self, what: u64);
}

/// A variable that a run-time `for` or `if` can carry: made of tiles, scalars and compile-time values.
///
/// `#[derive(Carried)]` implements it for a struct field by field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live across a run-time `for` or `if`",
    label = "this mutable variable is used inside run-time control flow",
    note = "tiles, scalars, and structs of them under `#[derive(Carried)]` can"
)]
pub trait Carried {
    /// Shows every part to `visitor`.
    fn visit(&mut self, visitor: &mut dyn Visitor);
}

/// A type that run-time code may assign to. A compile-time `usize` may be read there, not assigned.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a compile-time value and is assigned inside a run-time `for` or `if`",
    label = "assigned here, in a block that runs zero or more times on the device",
    note = "start it as a run-time value: `let mut x = scalar(0);`, or loop over a compile-time range"
)]
pub trait Assignable: Carried {}

macro_rules! device_values {
    ($($handle:ident),*) => { $(
        impl<E> Carried for $handle<E> {
            fn visit(&mut self, visitor: &mut dyn Visitor) {
                visitor.value(&mut self.raw);
            }
        }

        impl<E> Assignable for $handle<E> {}
    )* };
}

device_values!(Tile, Scalar);

macro_rules! views {
    ($($view:ident),*) => { $(
        impl<E, const RANK: usize> Carried for $view<E, RANK> {
            fn visit(&mut self, visitor: &mut dyn Visitor) {
                visitor.fixed(self.raw.number());
            }
        }
    )* };
}

views!(View, ViewMut);

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

macro_rules! compile_time {
    ($($ty:ty),*) => { $(
        impl Carried for $ty {
            fn visit(&mut self, visitor: &mut dyn Visitor) {
                visitor.fixed(hash(self));
            }
        }
    )* };
}

compile_time!(bool, char, u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, String, &str, std::ops::Range<usize>);

macro_rules! compile_time_floats {
    ($($ty:ty),*) => { $(
        impl Carried for $ty {
            fn visit(&mut self, visitor: &mut dyn Visitor) {
                visitor.fixed(hash(&self.to_bits()));
            }
        }
    )* };
}

compile_time_floats!(f32, f64, crate::f16, crate::bf16);

impl<T: Carried + ?Sized> Carried for &mut T {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        (**self).visit(visitor);
    }
}

impl<T: Assignable + ?Sized> Assignable for &mut T {}

impl<T: Carried + ?Sized> Carried for Box<T> {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        (**self).visit(visitor);
    }
}

impl<T: Assignable + ?Sized> Assignable for Box<T> {}

impl<T> Carried for PhantomData<T> {
    fn visit(&mut self, _: &mut dyn Visitor) {}
}

impl<T> Assignable for PhantomData<T> {}

impl<T: Carried> Carried for Option<T> {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        visitor.fixed(self.is_some() as u64);
        if let Some(value) = self {
            value.visit(visitor);
        }
    }
}

impl<T: Assignable> Assignable for Option<T> {}

impl<T: Carried> Carried for [T] {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        visitor.fixed(self.len() as u64);
        for value in self {
            value.visit(visitor);
        }
    }
}

impl<T: Assignable> Assignable for [T] {}

impl<T: Carried> Carried for Vec<T> {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.as_mut_slice().visit(visitor);
    }
}

impl<T: Assignable> Assignable for Vec<T> {}

impl<T: Carried, const N: usize> Carried for [T; N] {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.as_mut_slice().visit(visitor);
    }
}

impl<T: Assignable, const N: usize> Assignable for [T; N] {}

macro_rules! tuples {
    ($(($($part:ident)*))*) => { $(
        impl<$($part: Carried),*> Carried for ($($part,)*) {
            #[allow(non_snake_case, unused_variables, reason = "one name a part; the empty tuple has none")]
            fn visit(&mut self, visitor: &mut dyn Visitor) {
                let ($($part,)*) = self;
                $($part.visit(visitor);)*
            }
        }

        impl<$($part: Assignable),*> Assignable for ($($part,)*) {}
    )* };
}

tuples! { () (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) }
