//! The harness as a device of the runtime: whatever runs on a device runs as rendered source.

use crate::{Arg as Given, Checks, Harness, HarnessError, Tensor, TensorMut};
use std::sync::Arc;
use tilewright_compile::gpu::{Access16, CompileError, Dialect, Source, Target, compile};
use tilewright_compile::pass;
use tilewright_ir::{Kernel, Type};
use tilewright_runtime::{Arg, Device, DeviceKind, ExternalDevice, ExternalPipeline, Grid, LaunchError};

/// What kernels are rendered for, and how each launch is checked.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// What the GPU has.
    pub target: Target,
    /// How each launch runs.
    pub checks: Checks,
}

impl Rendered {
    /// For an NVIDIA GPU of compute capability 9.0.
    pub fn cuda(checks: Checks) -> Rendered {
        Rendered { target: Target { dialect: Dialect::Cuda, compute: 90, shared_bytes: 232_448 }, checks }
    }

    /// For a GPU of Apple.
    pub fn metal(checks: Checks) -> Rendered {
        Rendered { target: Target { dialect: Dialect::Msl, compute: 0, shared_bytes: 32_768 }, checks }
    }
}

impl Harness {
    /// A device that renders every kernel as [`Rendered`] says and runs the text on the CPU.
    pub fn device(&self, rendered: Rendered) -> Device {
        Device::external(Arc::new(OnCpu { harness: self.clone(), rendered }))
    }
}

struct OnCpu {
    harness: Harness,
    rendered: Rendered,
}

struct Pipeline {
    harness: Harness,
    rendered: Rendered,
    /// After the passes.
    kernel: Kernel,
    /// For tensors of which nothing is known.
    source: Source,
}

impl OnCpu {
    fn refused(&self, kernel: &Kernel, error: &CompileError) -> LaunchError {
        LaunchError::Unsupported { device: self.name(), kernel: kernel.name.to_string(), reason: error.to_string() }
    }
}

impl ExternalDevice for OnCpu {
    fn kind(&self) -> DeviceKind {
        match self.rendered.target.dialect {
            Dialect::Cuda => DeviceKind::Cuda,
            Dialect::Msl => DeviceKind::Metal,
        }
    }

    fn name(&self) -> &'static str {
        match self.rendered.target.dialect {
            Dialect::Cuda => "rendered CUDA",
            Dialect::Msl => "rendered Metal",
        }
    }

    fn compile(&self, kernel: &Kernel) -> Result<Box<dyn ExternalPipeline>, LaunchError> {
        let kernel = pass::run_gpu(kernel.clone(), None)?;
        let views = kernel.params.iter().filter(|p| matches!(kernel.ty(p.value), Type::View { .. })).count();
        let source = compile(&kernel, &self.rendered.target, &vec![Access16::Any; views]);
        let source = source.map_err(|error| self.refused(&kernel, &error))?;
        Ok(Box::new(Pipeline { harness: self.harness.clone(), rendered: self.rendered.clone(), kernel, source }))
    }
}

impl Pipeline {
    fn failed(&self, reason: impl ToString) -> LaunchError {
        LaunchError::Failed { kernel: self.kernel.name.to_string(), reason: reason.to_string() }
    }
}

impl ExternalPipeline for Pipeline {
    fn listing(&self) -> String {
        self.source.text.clone()
    }

    fn launch(&self, grid: Grid, args: &mut [Arg<'_>]) -> Result<(), LaunchError> {
        let facts = args.iter().filter_map(|arg| match arg {
            Arg::Read(tensor) => Some(tensor.access_at(0)), // the harness aligns all tensors
            Arg::Write(tensor) => Some(tensor.as_read().access_at(0)),
            Arg::Scalar(_) => None,
        });
        let facts: Vec<Access16> = facts.collect();
        let source = compile(&self.kernel, &self.rendered.target, &facts).map_err(|error| self.failed(error))?;
        let missing = || self.failed("a tensor that is not in memory of the host");
        let shapes: Vec<_> = args.iter().map(shape_and_strides).collect();
        let mut given = Vec::new();
        for (arg, (shape, strides)) in args.iter_mut().zip(&shapes) {
            given.push(match arg {
                Arg::Read(tensor) => {
                    let bytes = tensor.host_bytes().ok_or_else(missing)?;
                    Given::Read(Tensor { elem: tensor.elem(), shape, strides, bytes })
                }
                Arg::Write(tensor) => {
                    let elem = tensor.elem();
                    let bytes = tensor.host_bytes_mut().ok_or_else(missing)?;
                    Given::Write(TensorMut { elem, shape, strides, bytes })
                }
                Arg::Scalar(number) => Given::Scalar(*number),
            });
        }
        let launched = self.harness.launch(&source, grid, &mut given, &self.rendered.checks);
        launched.map_err(|error: HarnessError| self.failed(error))
    }
}

fn shape_and_strides(arg: &Arg<'_>) -> (Vec<usize>, Vec<usize>) {
    match arg {
        Arg::Read(tensor) => (tensor.shape().to_vec(), tensor.strides().to_vec()),
        Arg::Write(tensor) => (tensor.shape().to_vec(), tensor.strides().to_vec()),
        Arg::Scalar(_) => (Vec::new(), Vec::new()),
    }
}
