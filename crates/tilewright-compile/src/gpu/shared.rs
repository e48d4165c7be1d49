//! The shared-memory plan: where each buffer starts.

use super::program::Program;
use thiserror::Error;

/// A program that needs more shared memory than a block may have.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "kernel `{kernel}` needs {needed} bytes of shared memory a block, and {limit} are there; use smaller tiles or fewer stages"
)]
pub struct TooMuchShared {
    /// The kernel.
    pub kernel: String,
    /// What it needs.
    pub needed: u32,
    /// What a block may have.
    pub limit: u32,
}

/// Gives every buffer its offset, in the order in which they were made.
///
/// # Errors
/// More than `limit` bytes in all.
pub fn plan(program: &mut Program, limit: u32) -> Result<(), TooMuchShared> {
    let mut offset = 0;
    for buffer in &mut program.buffers {
        buffer.offset = offset;
        offset += buffer.bytes().next_multiple_of(16);
    }
    program.shared_bytes = offset;
    if offset > limit {
        return Err(TooMuchShared { kernel: program.name.clone(), needed: offset, limit });
    }
    Ok(())
}
