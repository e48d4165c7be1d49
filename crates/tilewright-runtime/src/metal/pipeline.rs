//! A kernel compiled for a GPU: one program for each set of facts about its tensors.

use super::limits::Footprint;
use super::system::{Gpu, Program};
use super::{MetalDevice, MetalError};
use crate::error::LaunchError;
use crate::gpu::facts::{Facts, Variants};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tilewright_compile::gpu::{Access16, Source, compile};
use tilewright_ir::Kernel;

/// A kernel for one GPU.
pub(crate) struct MetalPipeline {
    /// After the passes.
    kernel: Kernel,
    views: usize,
    first: Arc<Library>,
    /// All libraries, the first one too.
    libraries: Variants<Library>,
}

/// A source and what it was compiled to.
pub(super) struct Library {
    pub source: Source,
    pub program: Arc<Program>,
    /// For errors: the kernel's name.
    pub name: Arc<str>,
}

/// Programs by the text that they were compiled from.
#[derive(Default)]
pub(super) struct Programs(Mutex<HashMap<String, Arc<Program>>>);

impl MetalPipeline {
    pub fn new(device: &MetalDevice, kernel: &Kernel) -> Result<MetalPipeline, LaunchError> {
        let kernel = tilewright_compile::pass::run_gpu(kernel.clone(), None)?;
        // Compiled before its first launch for what tensors mostly are.
        let facts = Facts::of(Access16::likely(&kernel));
        let views = Access16::likely(&kernel).len();
        let first = Arc::new(Library::new(device, &kernel, views, facts)?);
        Ok(MetalPipeline { kernel, views, first: first.clone(), libraries: Variants::new(facts, first) })
    }

    /// The code for tensors of which this is known, compiled when it is not there yet.
    pub(super) fn library(&self, device: &MetalDevice, facts: Facts) -> Result<Arc<Library>, LaunchError> {
        self.libraries.get_or(facts, || Library::new(device, &self.kernel, self.views, facts))
    }

    /// The source for well aligned tensors.
    pub fn source(&self) -> &Source {
        &self.first.source
    }
}

impl Library {
    fn new(device: &MetalDevice, kernel: &Kernel, views: usize, facts: Facts) -> Result<Library, LaunchError> {
        let name = || kernel.name.to_string();
        let facts: Vec<Access16> = (0..views).map(|view| facts.of_view(view)).collect();
        let unsupported = |reason| LaunchError::Unsupported { device: "metal", kernel: name(), reason };
        let source = compile(kernel, &device.target, &facts).map_err(|error| unsupported(error.to_string()))?;
        let program = device.programs.get_or_compile(&device.gpu, &source).map_err(|error| match error {
            MetalError::Limit(limit) => unsupported(limit.to_string()),
            error => LaunchError::Device { kernel: name(), error: error.into() },
        })?;
        Ok(Library { source, program, name: Arc::from(name()) })
    }
}

impl Programs {
    /// The program of this source, compiled when it is not there yet. A failure is not kept.
    ///
    /// # Errors
    /// [`MetalError::Limit`] where it is too large for the GPU, [`MetalError::Compile`] with what the compiler says.
    pub fn get_or_compile(&self, gpu: &Gpu, source: &Source) -> Result<Arc<Program>, MetalError> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&source.text).cloned();
        if let Some(program) = found {
            return Ok(program);
        }
        let footprint = Footprint::of(source);
        let shared_limit = gpu.info().shared_bytes as usize;
        footprint.check(shared_limit)?;
        let program = gpu.compile(source).map_err(|message| MetalError::Compile { message })?;
        footprint.check_compiled(program.compiled(), shared_limit)?;
        let program = Arc::new(program);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(source.text.clone(), program.clone());
        Ok(program)
    }
}
