//! From tile IR to the source of one GPU kernel: passes that place tiles in registers and shared memory and order the threads,
//! and one printer of C-family source with a CUDA and a Metal dialect.

pub mod barriers;
pub mod layout;
mod lower;
mod place;
pub mod program;
pub mod shared;
mod source;
pub mod unit;

pub use lower::Unsupported;
pub use source::{Access16, Argument, ArgumentSlot, Arguments, Dialect, Source};

use tilewright_ir::{Kernel, Work};

/// What a GPU has, as far as compiling needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The language that its compiler takes.
    pub dialect: Dialect,
    /// The compute capability, as in 80, 90 and 120; 0 where there is none.
    pub compute: u32,
    /// The most shared memory of a block, in bytes.
    pub shared_bytes: u32,
}

/// The program of a kernel that has run through the passes, before shared memory is planned.
pub fn lower(kernel: &Kernel, target: &Target, facts: &[Access16]) -> Result<program::Program, Unsupported> {
    let work = kernel.work.unwrap_or_else(|| work(kernel));
    let places = place::Places::of(kernel, work, target.dialect);
    lower::lower(&places, facts)
}

/// How the work is shared where the kernel does not say.
fn work(kernel: &Kernel) -> Work {
    let _ = kernel;
    Work { rows: 4, columns: 1, stages: 2, blocks: 1 }
}
