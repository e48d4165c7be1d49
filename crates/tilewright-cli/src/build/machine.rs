//! What NVRTC makes of sources: machine code for one NVIDIA GPU, and assembly that drivers compile for it and any later one.

use super::Emit;
use crate::error::CliError;
use tilewright::runtime::cuda::{compile_cubin, compile_ptx, nvrtc_version};
use tilewright_compile::gpu::Source;

/// NVIDIA's compiler of CUDA C++, found on this machine.
#[derive(Debug)]
pub struct Nvrtc(());

impl Nvrtc {
    /// The NVRTC of this machine, where something of `emit` needs it.
    ///
    /// # Errors
    /// [`CliError::AbsentCompiler`]: it is not found.
    pub fn load(emit: &[Emit]) -> Result<Option<Nvrtc>, CliError> {
        let Some(needs) = emit.iter().find(|emit| matches!(emit, Emit::Ptx | Emit::Cubin)) else { return Ok(None) };
        let absent = |reason| CliError::AbsentCompiler { emit: needs.name(), compiler: "NVRTC", reason };
        nvrtc_version().map_err(|error| absent(error.to_string()))?;
        Ok(Some(Nvrtc(())))
    }

    /// The machine code of a source for a compute capability times ten; else what the compiler said.
    pub fn cubin(&self, source: &Source, compute: u32) -> Result<Vec<u8>, String> {
        compile_cubin(source, compute).map(|cubin| cubin.bytes).map_err(|error| error.to_string())
    }

    /// The assembly of a source in the same way.
    pub fn ptx(&self, source: &Source, compute: u32) -> Result<Vec<u8>, String> {
        compile_ptx(source, compute).map(String::into_bytes).map_err(|error| error.to_string())
    }
}
