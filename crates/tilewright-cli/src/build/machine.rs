//! Machine code for NVIDIA GPUs.

use super::Emit;
use crate::error::CliError;
use tilewright_compile::gpu::Source;

/// NVIDIA's compiler of CUDA C++. This version of `tile` has no CUDA runtime that could find it, so there is no value.
#[derive(Debug)]
pub enum Nvrtc {}

impl Nvrtc {
    /// The NVRTC of this machine, for `--emit` of this name.
    ///
    /// # Errors
    /// [`CliError::AbsentCompiler`].
    pub fn load(emit: &'static str) -> Result<Nvrtc, CliError> {
        Err(CliError::AbsentCompiler { emit, compiler: "NVRTC", reason: "this build has no CUDA runtime".to_string() })
    }

    /// The machine code, or PTX, of a source for a compute capability; else what the compiler said.
    pub fn compile(&self, source: &Source, compute: u32, emit: Emit) -> Result<Vec<u8>, String> {
        let _ = (source, compute, emit);
        match *self {}
    }
}
