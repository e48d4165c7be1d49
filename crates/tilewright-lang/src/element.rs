//! The Rust types that stand for element types, and what may be done with each.

pub use half::{bf16, f16};
use tilewright_ir::Elem;

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that tiles, scalars and tensors are made of.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no element type",
    note = "element types are f32, f16, bf16, i32, u32, i8, u8 and bool"
)]
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// The same type in the IR.
    const ELEM: Elem;
}

/// Elements with arithmetic: all but bool.
#[diagnostic::on_unimplemented(
    message = "there is no arithmetic on elements of type `{Self}`",
    note = "floats and integers have it; convert with `.cast()`, and join masks with `&` and `|`"
)]
pub trait Number: Element {}

/// Numbers with a sign.
#[diagnostic::on_unimplemented(
    message = "elements of type `{Self}` have no sign",
    note = "f32, f16, bf16, i32 and i8 have one; convert with `.cast()`"
)]
pub trait Signed: Number {}

/// f32, f16 and bf16.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no float element type",
    note = "f32, f16 and bf16 are; convert with `.cast()`"
)]
pub trait Float: Signed {}

/// i32, u32, i8 and u8.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no integer element type",
    note = "i32, u32, i8 and u8 are; convert with `.cast()`"
)]
pub trait Int: Number + Bits {}

/// Elements with bit operations: integers and bool.
#[diagnostic::on_unimplemented(
    message = "there are no bit operations on elements of type `{Self}`",
    note = "integers and bool have them; reinterpret a float's bits with `.bitcast()`"
)]
pub trait Bits: Element {}

macro_rules! elements {
    ($($ty:ty = $elem:ident: $($class:ident)*;)*) => { $(
        impl sealed::Sealed for $ty {}
        impl Element for $ty {
            const ELEM: Elem = Elem::$elem;
        }
        $(impl $class for $ty {})*
    )* };
}

elements! {
    f32 = F32: Number Signed Float;
    f16 = F16: Number Signed Float;
    bf16 = Bf16: Number Signed Float;
    i32 = I32: Number Signed Int Bits;
    u32 = U32: Number Int Bits;
    i8 = I8: Number Signed Int Bits;
    u8 = U8: Number Int Bits;
    bool = Bool: Bits;
}
