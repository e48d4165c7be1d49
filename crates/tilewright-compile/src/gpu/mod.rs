//! From tile IR to the source of one GPU kernel: passes that place tiles in registers and shared memory and order the threads,
//! and one printer of C-family source with a CUDA and a Metal dialect.

pub mod barriers;
pub mod layout;
pub mod print;
pub mod program;
pub mod shared;
mod source;
pub mod unit;

pub use source::{Access16, Argument, ArgumentSlot, Arguments, Dialect, Source};
