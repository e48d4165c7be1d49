//! What cannot be done with device values, said where it is written.

use super::for_loop::StaticLoop;
use super::if_else::StaticIf;
use crate::handle::{Scalar, Tile};

/// Control that is decided while specialising: jumps may leave it.
#[diagnostic::on_unimplemented(
    message = "`break`, `continue`, `return` and `?` cannot leave a run-time `for` or `if`",
    label = "this jumps out of a block that the device decides about",
    note = "write the rest of the body under an `if`, or give the loop a tighter bound"
)]
pub trait CompileTimeControl {}

impl<I> CompileTimeControl for StaticLoop<I> {}
impl CompileTimeControl for StaticIf {}

/// Stands before a jump, once for each block that it leaves.
pub fn leaves<C: CompileTimeControl>(_: &C) {}

/// What can decide a `while`.
#[diagnostic::on_unimplemented(
    message = "`while` cannot run on `{Self}`",
    label = "only the device knows this value",
    note = "write `for i in first..end` with a bound that holds every pass, and an `if` inside"
)]
pub trait CompileTimeCond {
    /// The decision.
    fn get(self) -> bool;
}

impl CompileTimeCond for bool {
    fn get(self) -> bool {
        self
    }
}

/// The condition of a `while`.
pub fn compile_time<C: CompileTimeCond>(condition: C) -> bool {
    condition.get()
}

/// What can stand beside a `let` in a chain of `&&`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in one condition with a `let`",
    label = "only the device knows this value",
    note = "write `if let` for what is known while specialising, and a second `if` inside it for the device"
)]
pub trait BesideLet {
    /// The decision.
    fn get(self) -> bool;
}

impl BesideLet for bool {
    fn get(self) -> bool {
        self
    }
}

/// A condition in a chain with a `let`.
pub fn beside_let<C: BesideLet>(condition: C) -> bool {
    condition.get()
}

/// What a `match` with literals can look at.
#[diagnostic::on_unimplemented(
    message = "`match` cannot look into `{Self}`",
    label = "only the device knows this value",
    note = "write `if x == 0` and `else if x == 1` on scalars, and `mask.select(yes, no)` on tiles"
)]
pub trait CompileTimeMatch {}

macro_rules! compile_time_match {
    ($($ty:ty),*) => { $(impl CompileTimeMatch for $ty {})* };
}

compile_time_match!(bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, str, [u8]);

impl<T: CompileTimeMatch + ?Sized> CompileTimeMatch for &T {}
impl<T: CompileTimeMatch> CompileTimeMatch for (T,) {}
impl<T: CompileTimeMatch, U: CompileTimeMatch> CompileTimeMatch for (T, U) {}

/// What a `match` with literals looks at.
pub fn matched<T: CompileTimeMatch>(value: T) -> T {
    value
}

/// A value that Rust's `as` converts; handles are not, and have a method of the same name as [`RustValueOther`]'s that
/// says so.
#[diagnostic::on_unimplemented(
    message = "`as` cannot convert `{Self}`",
    label = "only the device knows this value",
    note = "write `.cast::<f32>()` for the nearest value, or `.bitcast::<u32>()` for the same bits"
)]
pub trait RustValue {}

/// Everything that has no method of its own of this name.
pub trait RustValueOther {
    /// Nothing to refuse.
    fn __rust_value(&self) {}
}

impl<T: ?Sized> RustValueOther for T {}

macro_rules! device_values {
    ($($handle:ident),*) => { $(
        impl<E> $handle<E> {
            /// Called on the operand of `as`, where no bound holds.
            #[doc(hidden)]
            pub fn __rust_value(&self)
            where
                Self: RustValue,
            {
            }
        }
    )* };
}

device_values!(Tile, Scalar);
