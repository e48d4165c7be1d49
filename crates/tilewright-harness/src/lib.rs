//! Runs rendered GPU kernels on the CPU, so that a test of generated CUDA C++ or Metal needs no GPU.
//!
//! clang compiles the kernel's text as C++ with a small shim of its dialect (`shim/`). The threads of a block run as fibers of
//! one process: what a warp does together is done when all of its lanes have arrived, barriers hold all threads of a block, and
//! the order in which threads run is chosen by the launch. Shared memory and the surroundings of tensors hold NaN.
//!
//! ```text
//! let harness = Harness::available()?;
//! harness.launch(&source, [4, 1, 1], &mut args, &Checks::orders())?;
//! ```
//!
//! What is found: text that is no C++ or mixes address spaces, barriers that not all threads reach, misaligned
//! accesses, indices outside a thread's own arrays, writes
//! outside tensors and shared memory; with [`Sanitizer::Address`] reads too; with [`Sanitizer::Thread`] accesses that no barrier
//! orders. Copies by `cp.async` happen at the wait for them, or at once.
//!
//! What is not: the order in which a GPU's matrix units add, approximate functions, relaxed ordering of device memory, speed.
//!
//! Compiled kernels are kept in `TILEWRIGHT_HARNESS_CACHE`, or in `tilewright-harness` in the folder for temporary files. They
//! are found by content; the folder may be deleted at any time.

mod build;
mod check;
mod device;
mod error;
mod glue;
mod launch;
mod spaces;
mod tensor;

pub use build::Harness;
pub use check::Checks;
pub use device::Rendered;
pub use error::{HarnessError, Missing};
pub use launch::Module;
pub use tensor::{Arg, Tensor, TensorMut};

/// How many blocks run along each axis.
pub type Grid = [u32; 3];

/// A tool that watches every access of a kernel to memory. Slows a launch down by 2 to 20 times.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sanitizer {
    /// Finds accesses outside tensors and outside shared memory.
    Address,
    /// Finds accesses of two threads that no barrier orders.
    Thread,
}

/// How a kernel is compiled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Options {
    /// Whether accesses are watched.
    pub sanitizer: Option<Sanitizer>,
}

/// The order in which threads of a block run that could all run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LaneOrder {
    /// First lane of the first warp first; a warp runs until it waits for others.
    #[default]
    Forward,
    /// Last lane of the last warp first, last block first.
    Reverse,
    /// Any thread of any warp, from this seed; another one after each barrier and warp operation.
    Random(u64),
}

/// When `cp.async` copies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CopyTiming {
    /// In the wait for its group, and never when nothing waits for it: finds a missing wait.
    #[default]
    Late,
    /// Where it is issued: finds a buffer that is filled while others read it.
    AtOnce,
}

/// How a launch runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Run {
    /// Which thread goes first.
    pub order: LaneOrder,
    /// When copies happen.
    pub copies: CopyTiming,
    /// Whether accesses of different blocks to one element are races ([`Sanitizer::Thread`]). Otherwise blocks count as run
    /// one after the other.
    pub blocks: Blocks,
}

/// What the thread sanitizer takes blocks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Blocks {
    /// Running at the same time: two that write one element race.
    #[default]
    Apart,
    /// Running one after the other.
    InTurn,
}
