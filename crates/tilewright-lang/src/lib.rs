//! The kernel language: ordinary Rust functions that trace themselves into the IR.
//!
//! A kernel is a function under [`kernel`]. It computes with small `Copy` handles: [`Tile`], [`Scalar`], [`View`],
//! [`ViewMut`]. Names, types and generics are checked by rustc. Running the function with concrete specialisation
//! values records one [`Kernel`](ir::Kernel): calls of other tile functions are inlined, Rust control flow over Rust
//! values just runs, and `for` and `if` over device values become loops and branches of the IR.
//!
//! ```
//! use tilewright_lang::prelude::*;
//!
//! /// Doubles the first `n` elements, `width` at a time.
//! #[kernel]
//! fn double<E: Float>(n: Scalar<i32>, x: View<E, 1>, y: ViewMut<E, 1>, width: usize) {
//!     for i in (0..n).step_by(width) {
//!         y.store(i, x.load(i, [width]) * 2.0);
//!     }
//! }
//!
//! let kernel = Double { width: 16 }.trace::<f32>()?;
//! assert_eq!(kernel.params.len(), 3);
//! # Ok::<(), tilewright_lang::ir::Diagnostics>(())
//! ```
//!
//! # What Rust means here
//!
//! - `let`, with and without a type, shadowing, `let mut`, every compound assignment, destructuring, calls, methods,
//!   traits and generics are Rust's own.
//! - `if` and `for` on Rust values (`bool`, `usize`, any iterator) are decided while the kernel is specialised. On a
//!   `Scalar<bool>` or a range with a [`Scalar<i32>`](Scalar) end they are decided on the device. Mutable variables
//!   that cross such a block must be [`Carried`](trait@Carried).
//! - `&&` and `||` on a `Scalar<bool>` evaluate both sides; a right side that stores, assigns or jumps is refused.
//! - `break`, `continue`, `return` and `?` work where the control flow around them is decided while specialising.
//! - Element types never mix silently: use [`Tile::cast`]. A Rust number beside a tile takes the tile's element type;
//!   a number that does not fit it is refused at its line.
//! - Tiles broadcast over axes of extent 1 of equal rank. A compound assignment may not change the shape of its left
//!   side.
//! - Integer arithmetic wraps, and an integer divided by zero is zero.
//!
//! - A panic of the body, such as a failed `assert!`, is caught and becomes an error of `trace`, with its message. The
//!   panic hook has run by then: the standard one prints the message and its line to standard error. A program that
//!   specialises with values that may be refused can set a hook of its own (`std::panic::set_hook`), or check the values
//!   before. With `panic = "abort"` the program ends.
//! - Every traced kernel is verified, in release builds too: about a quarter of the time of a trace, some 15
//!   microseconds for attention.
//!
//! # What stays open
//!
//! State that hides from the rewriting (interior mutability behind an alias or a call) is found only when two passes of
//! a loop body differ by it; a value that it carries out of a loop is found at its use. `RefCell` and its like, and every
//! name that begins with `Atomic`, are refused where they are named (a type of your own by such a name can be imported under
//! another one: `use grid::Cell as GridCell;`), and so is a `&mut` kept in a struct, tuple, array or constructor. A function without
//! `#[tile]` can still hand out an `Option<&mut T>` or the like: bind it with `let mut`, or a write through it inside a
//! run-time block is not seen.
//!
//! Some Rust is refused by rustc although it would be fine: a value moved in both branches of one `if`, branches whose
//! types agree only after a coercion, and `==` between two different Rust types.

// Generated code names `::tilewright_lang`, also inside this crate.
extern crate self as tilewright_lang;

mod compare;
mod control;
mod element;
mod entry;
mod handle;
mod math;
mod operand;
mod operators;
mod params;
pub mod rt;
mod scalar;
mod spec;
mod tile;
mod trace;
mod view;

pub use compare::{Both, Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
pub use control::{Assignable, Carried, RunRange};
pub use element::{Bits, Element, Float, Int, Number, Signed, bf16, f16};
pub use entry::{EntryError, SpecEntry, SpecText};
pub use handle::{Scalar, Tile, View, ViewMut};
pub use operand::{AsScalar, AsTile, Host, Origin};
pub use params::{HostValue, LaunchParam, launch_scalar, launch_view};
pub use scalar::{program_count, program_id, scalar};
pub use spec::SpecValue;
pub use tile::iota;
pub use tilewright_ir as ir;
pub use tilewright_macros::{Carried, kernel, tile};

/// What a file of kernels imports.
pub mod prelude {
    pub use crate::{
        Assignable, Carried, Element, Float, Int, Number, RunRange, Scalar, SpecEntry, SpecValue, Tile, View, ViewMut,
        bf16, f16, iota, kernel, launch_scalar, launch_view, program_count, program_id, scalar, tile,
    };
}
