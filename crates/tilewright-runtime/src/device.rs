//! The one way from a kernel to its results, whatever the device.

use crate::cpu::{CpuDevice, CpuPipeline, Isa};
use crate::error::LaunchError;
use crate::interp;
use crate::tensor::{Layout, TensorView, TensorViewMut};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tilewright_compile::cpu::Stats;
use tilewright_ir::site::Sites;
use tilewright_ir::{Access, Kernel, Type};

/// How many tile programs run along each axis.
pub type Grid = [u32; 3];

/// Which kind of device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeviceKind {
    /// All cores of this machine, with vector code.
    Cpu,
    /// The reference interpreter: slow, in f64.
    Interp,
}

/// What a device is, for people and planners.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Which kind.
    pub kind: DeviceKind,
    /// `cpu` or `interp`.
    pub name: &'static str,
    /// Tile programs that run at once.
    pub threads: usize,
    /// The vector instructions in use: `avx512`, `avx2`, `neon` or `portable`; `f64` for the interpreter.
    pub isa: &'static str,
}

/// Something that runs kernels. Cheap to clone; clones share the pipeline cache.
#[derive(Clone)]
pub struct Device(Arc<Shared>);

struct Shared {
    backend: Backend,
    pipelines: Mutex<HashMap<String, Pipeline>>,
    /// The same pipelines by what they were specialised from, so that a known one is found without tracing its kernel.
    specialised: Mutex<HashMap<String, Pipeline>>,
}

enum Backend {
    Cpu(CpuDevice),
    Interp,
}

/// A kernel compiled for one device. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline(Arc<Compiled>);

struct Compiled {
    kernel: Kernel,
    /// Of the device that it was compiled for: layouts of packed tiles differ between instruction sets.
    isa: &'static str,
    code: Code,
}

enum Code {
    Cpu(CpuPipeline),
    Interp,
}

/// What a parameter is given at launch.
pub enum Arg<'a> {
    /// For a view parameter that the kernel reads.
    Read(TensorView<'a>),
    /// For a view parameter that the kernel writes.
    Write(TensorViewMut<'a>),
    /// For a scalar parameter; rounded to the parameter's element type.
    Scalar(f64),
}

impl Device {
    /// All cores of this machine.
    pub fn cpu() -> Device {
        Device::new(Backend::Cpu(CpuDevice::new(None, None)))
    }

    /// This many threads, at least one; the caller of a launch is one of them.
    pub fn cpu_with_threads(threads: usize) -> Device {
        Device::new(Backend::Cpu(CpuDevice::new(Some(threads.max(1)), None)))
    }

    /// All cores with these vector instructions; `None` where the processor does not have them.
    pub fn cpu_with_isa(isa: Isa) -> Option<Device> {
        Isa::available().contains(&isa).then(|| Device::new(Backend::Cpu(CpuDevice::new(None, Some(isa)))))
    }

    /// The reference interpreter.
    pub fn interp() -> Device {
        Device::new(Backend::Interp)
    }

    fn new(backend: Backend) -> Device {
        Device(Arc::new(Shared { backend, pipelines: Mutex::default(), specialised: Mutex::default() }))
    }

    /// What it is.
    pub fn info(&self) -> DeviceInfo {
        match &self.0.backend {
            Backend::Cpu(cpu) => {
                DeviceInfo { kind: DeviceKind::Cpu, name: "cpu", threads: cpu.threads(), isa: cpu.isa().name() }
            }
            Backend::Interp => DeviceInfo { kind: DeviceKind::Interp, name: "interp", threads: 1, isa: "f64" },
        }
    }

    /// The pipeline of a kernel: compiled once for each content, then found again.
    ///
    /// # Errors
    /// What the verifier finds, and what this device cannot run.
    pub fn compile(&self, kernel: Kernel) -> Result<Pipeline, LaunchError> {
        tilewright_ir::verify::verify(&kernel)?;
        // The content is the program, not where it was written.
        let content = Kernel { sites: Sites::default(), ..kernel.clone() }.to_string();
        let found = self.0.pipelines.lock().unwrap_or_else(PoisonError::into_inner).get(&content).cloned();
        if let Some(pipeline) = found {
            return Ok(pipeline);
        }
        let code = match &self.0.backend {
            Backend::Cpu(cpu) => Code::Cpu(cpu.compile(&kernel)?),
            Backend::Interp => Code::Interp,
        };
        let pipeline = Pipeline(Arc::new(Compiled { kernel, isa: self.info().isa, code }));
        self.0.pipelines.lock().unwrap_or_else(PoisonError::into_inner).insert(content, pipeline.clone());
        Ok(pipeline)
    }

    /// The pipeline of the kernel that `trace` makes, found by `key` without tracing when it was asked for before. The key
    /// must name everything that the kernel depends on.
    ///
    /// # Errors
    /// What `trace` and [`compile`](Device::compile) return; a failure is not kept.
    pub fn compile_keyed<E: From<LaunchError>>(
        &self,
        key: &str,
        trace: impl FnOnce() -> Result<Kernel, E>,
    ) -> Result<Pipeline, E> {
        let found = self.0.specialised.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(pipeline) = found {
            return Ok(pipeline);
        }
        let pipeline = self.compile(trace()?)?;
        let mut specialised = self.0.specialised.lock().unwrap_or_else(PoisonError::into_inner);
        specialised.insert(key.to_string(), pipeline.clone());
        Ok(pipeline)
    }

    /// Runs every program of the grid and returns when all are done. `args` are in parameter order.
    ///
    /// # Errors
    /// Arguments that do not fit the parameters; nothing is written then.
    pub fn launch(&self, pipeline: &Pipeline, grid: Grid, args: &mut [Arg<'_>]) -> Result<(), LaunchError> {
        let kernel = &pipeline.0.kernel;
        if pipeline.0.isa != self.info().isa {
            return Err(LaunchError::ForeignPipeline { kernel: kernel.name.to_string() });
        }
        if grid.iter().any(|&n| n > i32::MAX as u32) {
            return Err(LaunchError::Grid { grid });
        }
        check_args(kernel, args)?;
        match (&self.0.backend, &pipeline.0.code) {
            (Backend::Cpu(cpu), Code::Cpu(code)) => cpu.launch(code, grid, args),
            (Backend::Interp, Code::Interp) => interp::launch(kernel, grid, args),
            _ => Err(LaunchError::ForeignPipeline { kernel: kernel.name.to_string() }),
        }
    }

    /// How many pipelines the cache holds.
    pub fn cached_pipelines(&self) -> usize {
        self.0.pipelines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Pipeline {
    /// The kernel that was compiled.
    pub fn kernel(&self) -> &Kernel {
        &self.0.kernel
    }

    /// What the device runs, as text: the vector program of the CPU, or the IR for the interpreter.
    pub fn listing(&self) -> String {
        match &self.0.code {
            Code::Cpu(code) => code.program().to_string(),
            Code::Interp => self.0.kernel.to_string(),
        }
    }

    /// How much of the tile arithmetic runs in fused loops; `None` where nothing is fused.
    pub fn stats(&self) -> Option<Stats> {
        match &self.0.code {
            Code::Cpu(code) => Some(code.program().stats),
            Code::Interp => None,
        }
    }

    /// Bytes of working memory of one tile program; 0 for the interpreter.
    pub fn scratch_bytes(&self) -> usize {
        match &self.0.code {
            Code::Cpu(code) => code.scratch_bytes(),
            Code::Interp => 0,
        }
    }
}

fn check_args(kernel: &Kernel, args: &[Arg<'_>]) -> Result<(), LaunchError> {
    let name = || kernel.name.to_string();
    if args.len() != kernel.params.len() {
        return Err(LaunchError::ArgumentCount { kernel: name(), wanted: kernel.params.len(), got: args.len() });
    }
    for (param, arg) in kernel.params.iter().zip(args) {
        let ty = kernel.ty(param.value);
        let fits = |layout: &Layout| matches!(ty, Type::View { elem, rank } if elem == layout.elem && rank as usize == layout.rank);
        let good = match arg {
            Arg::Read(t) => param.access == Access::Read && fits(&t.layout),
            Arg::Write(t) => param.access == Access::Write && fits(&t.layout),
            Arg::Scalar(_) => ty.is_scalar(),
        };
        if !good {
            let wanted = match param.access {
                Access::Read => ty.to_string(),
                Access::Write => format!("an output {ty}"),
            };
            let got = match arg {
                Arg::Read(t) => format!("{t:?}"),
                Arg::Write(t) => format!("an output {t:?}"),
                Arg::Scalar(x) => format!("the number {x}"),
            };
            return Err(LaunchError::Argument { kernel: name(), param: param.name.to_string(), wanted, got });
        }
    }
    Ok(())
}
