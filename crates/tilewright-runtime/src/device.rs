//! The one way from a kernel to its results, whatever the device.

use crate::check::{check_args, check_host_memory};
use crate::cpu::{CpuDevice, CpuPipeline, Isa};
use crate::cuda::cudarc::driver::CudaStream;
use crate::cuda::{CudaDevice, CudaPipeline, GpuInfo, Resources};
use crate::error::{DeviceError, LaunchError};
use crate::external::{ExternalDevice, ExternalPipeline};
use crate::gpu::{Of, Stream, Wait};
use crate::interp;
use crate::metal::{MetalDevice, MetalInfo, MetalPipeline};
use crate::tensor::{TensorView, TensorViewMut};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tilewright_compile::cpu::Stats;
use tilewright_ir::Kernel;
use tilewright_ir::site::Sites;

/// How many tile programs run along each axis.
pub type Grid = [u32; 3];

/// Which kind of device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeviceKind {
    /// All cores of this machine, with vector code.
    Cpu,
    /// The reference interpreter: slow, in f64.
    Interp,
    /// An NVIDIA GPU.
    Cuda,
    /// A GPU of Apple.
    Metal,
}

/// What a device is, for people and planners.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Which kind.
    pub kind: DeviceKind,
    /// `cpu`, `interp`, `cuda` or `metal`, or the name of an external device.
    pub name: &'static str,
    /// What runs tile programs side by side: threads, or the multiprocessors of a GPU. Metal does not say how many an Apple GPU
    /// has: 10 are assumed.
    pub threads: usize,
    /// The vector instructions in use: `amx`, `avx512`, `avx2`, `neon` or `portable`; `f64` for the interpreter; the architecture of a
    /// GPU, such as `sm_90a` or `Apple 9`.
    pub isa: &'static str,
    /// More of an NVIDIA GPU; `None` for others.
    pub gpu: Option<Arc<GpuInfo>>,
    /// More of an Apple GPU; `None` for others.
    pub metal: Option<Arc<MetalInfo>>,
}

impl DeviceInfo {
    /// Whether it is a processor that multiplies tiles of bf16 numbers (AMX).
    pub fn multiplies_tiles(&self) -> bool {
        self.kind == DeviceKind::Cpu && self.isa == "amx"
    }
}

/// Something that runs kernels. Cheap to clone; clones share the pipeline cache.
#[derive(Clone)]
pub struct Device(Arc<Shared>);

struct Shared {
    backend: Backend,
    /// The stream that launches use; `None` for a device that is no GPU.
    home: Option<Stream>,
    pipelines: Mutex<HashMap<String, Pipeline>>,
    /// The same pipelines by what they were specialised from, so that a known one is found without tracing its kernel.
    specialised: Mutex<HashMap<String, Pipeline>>,
}

pub(crate) enum Backend {
    Cpu(CpuDevice),
    Interp,
    Cuda(CudaDevice),
    Metal(MetalDevice),
    External(Arc<dyn ExternalDevice>),
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
    Cuda(CudaPipeline),
    Metal(MetalPipeline),
    External(Box<dyn ExternalPipeline>),
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

    /// This many threads (all cores for `None`) with these vector instructions (the best ones for `None`); `None` where the
    /// processor does not have them.
    pub fn cpu_with(threads: Option<usize>, isa: Option<Isa>) -> Option<Device> {
        let present = isa.is_none_or(|isa| Isa::available().contains(&isa));
        present.then(|| Device::new(Backend::Cpu(CpuDevice::new(threads.map(|n| n.max(1)), isa))))
    }

    /// The reference interpreter.
    pub fn interp() -> Device {
        Device::new(Backend::Interp)
    }

    /// The NVIDIA GPU of this number, from 0. Opened in the context that all libraries of the process share, on a stream of
    /// its own.
    ///
    /// # Errors
    /// No driver, no such GPU, no NVRTC, or a GPU or driver that is too old; each says what to do.
    pub fn cuda(ordinal: usize) -> Result<Device, DeviceError> {
        Ok(Device::new(Backend::Cuda(CudaDevice::open(ordinal)?)))
    }

    /// The NVIDIA GPU of a caller's stream: nothing is put on another stream or into another context. Keep the result: each
    /// device has compiled kernels of its own.
    ///
    /// # Errors
    /// As [`cuda`](Self::cuda).
    pub fn cuda_on(stream: Arc<CudaStream>) -> Result<Device, DeviceError> {
        Ok(Device::new(Backend::Cuda(CudaDevice::of_caller(stream)?)))
    }

    /// The system's default Apple GPU, on a command queue of its own. **It has not run on Apple hardware yet.**
    ///
    /// # Errors
    /// [`DeviceError::Metal`] on any system but Apple's, and where the GPU or the system is too old; each says what to do.
    pub fn metal() -> Result<Device, DeviceError> {
        Ok(Device::new(Backend::Metal(MetalDevice::open()?)))
    }

    /// A device that another crate makes: what runs rendered kernels in tests, and backends that are not here yet.
    pub fn external(device: Arc<dyn ExternalDevice>) -> Device {
        Device::new(Backend::External(device))
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.0.backend
    }

    fn new(backend: Backend) -> Device {
        let home = match &backend {
            Backend::Cpu(_) | Backend::Interp | Backend::External(_) => None,
            Backend::Cuda(cuda) => Some(Stream(Of::Cuda(cuda.home().clone()))),
            Backend::Metal(metal) => Some(Stream(Of::Metal(metal.home().clone()))),
        };
        Device(Arc::new(Shared { backend, home, pipelines: Mutex::default(), specialised: Mutex::default() }))
    }

    /// What it is.
    pub fn info(&self) -> DeviceInfo {
        let of = |kind, name, threads| DeviceInfo { kind, name, threads, isa: self.isa(), gpu: None, metal: None };
        match &self.0.backend {
            Backend::Cpu(cpu) => of(DeviceKind::Cpu, "cpu", cpu.threads()),
            Backend::Interp => of(DeviceKind::Interp, "interp", 1),
            Backend::Cuda(cuda) => {
                let info = cuda.info();
                DeviceInfo { gpu: Some(info.clone()), ..of(DeviceKind::Cuda, "cuda", info.multiprocessors) }
            }
            Backend::Metal(metal) => {
                let info = metal.info();
                DeviceInfo { metal: Some(info.clone()), ..of(DeviceKind::Metal, "metal", MetalInfo::ASSUMED_CORES) }
            }
            Backend::External(device) => of(device.kind(), device.name(), 1),
        }
    }

    fn isa(&self) -> &'static str {
        match &self.0.backend {
            Backend::Cpu(cpu) => cpu.isa().name(),
            Backend::Interp => "f64",
            Backend::Cuda(cuda) => cuda.arch(),
            Backend::Metal(metal) => metal.info().family,
            Backend::External(device) => device.name(),
        }
    }

    /// The stream that [`launch`](Self::launch) uses.
    ///
    /// # Errors
    /// [`DeviceError::Without`] on a device that is no GPU: there, a launch is done when it returns.
    pub fn stream(&self) -> Result<&Stream, DeviceError> {
        self.0.home.as_ref().ok_or_else(|| self.without_streams())
    }

    fn without_streams(&self) -> DeviceError {
        DeviceError::Without { device: self.info().name, what: "streams" }
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
            Backend::Cuda(cuda) => Code::Cuda(CudaPipeline::new(cuda, &kernel)?),
            Backend::Metal(metal) => Code::Metal(MetalPipeline::new(metal, &kernel)?),
            Backend::External(device) => Code::External(device.compile(&kernel)?),
        };
        let pipeline = Pipeline(Arc::new(Compiled { kernel, isa: self.isa(), code }));
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
    /// A GPU takes tensors of its own memory as they are. Tensors in memory of the host are copied there and back each time:
    /// good for tests and single calls. [`launch_async`](Self::launch_async) does neither copy nor wait.
    ///
    /// # Errors
    /// Arguments that do not fit the parameters, or that the device cannot reach; nothing is written then. A GPU that failed.
    pub fn launch(&self, pipeline: &Pipeline, grid: Grid, args: &mut [Arg<'_>]) -> Result<(), LaunchError> {
        let kernel = self.check(pipeline, grid, args)?;
        match (&self.0.backend, &pipeline.0.code) {
            (Backend::Cpu(cpu), Code::Cpu(code)) => {
                check_host_memory(kernel, args)?;
                cpu.launch(code, grid, args)
            }
            (Backend::Interp, Code::Interp) => {
                check_host_memory(kernel, args)?;
                interp::launch(kernel, grid, args)
            }
            (Backend::Cuda(cuda), Code::Cuda(code)) => cuda.launch(code, kernel, cuda.home(), grid, args, Wait::Yes),
            (Backend::Metal(metal), Code::Metal(code)) => {
                metal.launch(code, kernel, metal.home(), grid, args, Wait::Yes)
            }
            (Backend::External(_), Code::External(code)) => {
                check_host_memory(kernel, args)?;
                code.launch(grid, args)
            }
            _ => Err(LaunchError::ForeignPipeline { kernel: kernel.name.to_string() }),
        }
    }

    /// Puts a launch on a stream of a GPU and returns at once; what it writes is there for what comes after it on the stream.
    /// All tensors must be in memory of the GPU ([`upload`](Device::upload)). They may be dropped at once: their memory is given
    /// back after the launch. No other stream may use what it writes meanwhile; such a race leaves any values there.
    ///
    /// # Errors
    /// As [`launch`](Self::launch). What fails while the kernel runs is said by the next call that waits. A device that is no
    /// GPU has no streams.
    pub fn launch_async(
        &self,
        stream: &Stream,
        pipeline: &Pipeline,
        grid: Grid,
        args: &mut [Arg<'_>],
    ) -> Result<(), LaunchError> {
        let kernel = self.check(pipeline, grid, args)?;
        let refused = |error| Err(LaunchError::Device { kernel: kernel.name.to_string(), error });
        match (&self.0.backend, &pipeline.0.code, &stream.0) {
            (Backend::Cuda(cuda), Code::Cuda(code), Of::Cuda(stream)) => {
                cuda.launch(code, kernel, stream, grid, args, Wait::No)
            }
            (Backend::Metal(metal), Code::Metal(code), Of::Metal(stream)) => {
                metal.launch(code, kernel, stream, grid, args, Wait::No)
            }
            (Backend::Cuda(_), Code::Cuda(_), Of::Metal(_)) | (Backend::Metal(_), Code::Metal(_), Of::Cuda(_)) => {
                refused(stream.foreign())
            }
            (Backend::Cuda(_) | Backend::Metal(_), _, _) => {
                Err(LaunchError::ForeignPipeline { kernel: kernel.name.to_string() })
            }
            (Backend::Cpu(_) | Backend::Interp | Backend::External(_), _, _) => refused(self.without_streams()),
        }
    }

    /// What every device asks of a launch; the kernel.
    fn check<'p>(&self, pipeline: &'p Pipeline, grid: Grid, args: &[Arg<'_>]) -> Result<&'p Kernel, LaunchError> {
        let kernel = &pipeline.0.kernel;
        if pipeline.0.isa != self.isa() {
            return Err(LaunchError::ForeignPipeline { kernel: kernel.name.to_string() });
        }
        if grid.iter().any(|&n| n > i32::MAX as u32) {
            return Err(LaunchError::Grid { grid });
        }
        check_args(kernel, args)?;
        Ok(kernel)
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

    /// What the device runs, as text: the vector program of the CPU, the IR for the interpreter, CUDA C++ or Metal for a GPU.
    pub fn listing(&self) -> String {
        match &self.0.code {
            Code::Cpu(code) => code.program().to_string(),
            Code::Interp => self.0.kernel.to_string(),
            Code::Cuda(code) => code.source().text.clone(),
            Code::Metal(code) => code.source().text.clone(),
            Code::External(code) => code.listing(),
        }
    }

    /// How much of the tile arithmetic runs in fused loops; `None` where nothing is fused.
    pub fn stats(&self) -> Option<Stats> {
        match &self.0.code {
            Code::Cpu(code) => Some(code.program().stats),
            Code::Interp | Code::Cuda(_) | Code::Metal(_) | Code::External(_) => None,
        }
    }

    /// What it takes of a GPU's multiprocessor, for well aligned tensors; `None` where nobody says it.
    pub fn resources(&self) -> Option<Resources> {
        match &self.0.code {
            Code::Cuda(code) => Some(code.resources()),
            Code::External(code) => code.resources(),
            Code::Cpu(_) | Code::Interp | Code::Metal(_) => None,
        }
    }

    /// Bytes of working memory of one tile program: shared (threadgroup) memory on a GPU, 0 for the interpreter and external devices.
    pub fn scratch_bytes(&self) -> usize {
        match &self.0.code {
            Code::Cpu(code) => code.scratch_bytes(),
            Code::Interp | Code::External(_) => 0,
            Code::Cuda(code) => code.source().shared_bytes as usize,
            Code::Metal(code) => code.source().shared_bytes as usize,
        }
    }
}
