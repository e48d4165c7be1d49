//! The handles that kernels compute with: ids of values of the kernel being traced.

use crate::trace::Raw;
use std::fmt;
use std::marker::PhantomData;

/// A small dense array of static shape, of rank 1 to 3.
///
/// The shape is known while the kernel is specialised; it is not part of the Rust type.
#[must_use = "a tile has no effect until it is stored"]
pub struct Tile<E> {
    pub(crate) raw: Raw,
    element: PhantomData<E>,
}

/// One value that is the same for the whole tile program.
#[must_use = "a scalar has no effect until it is used"]
pub struct Scalar<E> {
    pub(crate) raw: Raw,
    element: PhantomData<E>,
}

/// A strided window into an input tensor of `RANK` axes.
#[must_use = "a view has no effect until it is loaded from"]
pub struct View<E, const RANK: usize> {
    pub(crate) raw: Raw,
    element: PhantomData<E>,
}

/// A strided window into an output tensor of `RANK` axes.
#[must_use = "a view has no effect until it is stored to"]
pub struct ViewMut<E, const RANK: usize> {
    pub(crate) raw: Raw,
    element: PhantomData<E>,
}

macro_rules! handle {
    ($([$($generics:tt)*] $ty:ty;)*) => { $(
        impl<$($generics)*> Clone for $ty {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($generics)*> Copy for $ty {}

        impl<$($generics)*> $ty {
            pub(crate) fn from_raw(raw: Raw) -> Self {
                Self { raw, element: PhantomData }
            }
        }

        impl<$($generics)*> fmt::Debug for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.raw.fmt(f)
            }
        }
    )* };
}

handle! {
    [E] Tile<E>;
    [E] Scalar<E>;
    [E, const RANK: usize] View<E, RANK>;
    [E, const RANK: usize] ViewMut<E, RANK>;
}
