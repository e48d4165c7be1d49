//! From tile IR to the source of one GPU kernel: passes that place tiles in registers and shared memory and order the threads,
//! and one printer of C-family source with a CUDA and a Metal dialect.

mod source;

pub use source::{Access16, Argument, ArgumentSlot, Arguments, Dialect, Source};
use tilewright_ir::Kernel;

/// What a kernel is rendered for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The language.
    pub dialect: Dialect,
    /// Ten times the major compute capability plus the minor one: 80, 90, 120; 0 for Metal.
    pub compute: u32,
    /// Most bytes of shared memory that a block may have.
    pub shared_bytes: u32,
}

/// What cannot be rendered for a GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsupported(String);

/// Renders a kernel that the passes have run over. `facts` has one entry for each view parameter, in order.
///
/// # Errors
/// What the kernel does that cannot be rendered yet.
pub fn compile(_kernel: &Kernel, _target: &Target, _facts: &[Access16]) -> Result<Source, Unsupported> {
    Err(Unsupported("kernels are not rendered for GPUs yet".to_string()))
}
