//! Machine code for NVIDIA GPUs.

use super::Emit;
use crate::error::CliError;
use tilewright::runtime::cuda::{compile_cubin, nvrtc_version};
use tilewright_compile::gpu::Source;

/// NVIDIA's compiler of CUDA C++, found on this machine.
#[derive(Debug)]
pub struct Nvrtc(());

impl Nvrtc {
    /// The NVRTC of this machine, where something of `emit` needs it.
    ///
    /// # Errors
    /// [`CliError::AbsentCompiler`]: it is not found, and for PTX, which this version does not ask it for.
    pub fn load(emit: &[Emit]) -> Result<Option<Nvrtc>, CliError> {
        if emit.contains(&Emit::Ptx) {
            let reason = "this version of tile takes cubins from NVRTC and no PTX; use `--emit cubin`".to_string();
            return Err(CliError::AbsentCompiler { emit: Emit::Ptx.name(), compiler: "a compiler to PTX", reason });
        }
        if !emit.contains(&Emit::Cubin) {
            return Ok(None);
        }
        let absent = |reason| CliError::AbsentCompiler { emit: Emit::Cubin.name(), compiler: "NVRTC", reason };
        nvrtc_version().map_err(|error| absent(error.to_string()))?;
        Ok(Some(Nvrtc(())))
    }

    /// The machine code of a source for a compute capability times ten; else what the compiler said.
    pub fn cubin(&self, source: &Source, compute: u32) -> Result<Vec<u8>, String> {
        compile_cubin(source, compute).map(|cubin| cubin.bytes).map_err(|error| error.to_string())
    }
}
