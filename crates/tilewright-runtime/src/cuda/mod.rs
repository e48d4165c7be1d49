//! NVIDIA GPUs: kernels rendered as CUDA C++, compiled by NVRTC, launched through the driver.
//!
//! The driver and NVRTC are loaded when they are first needed; where they are absent, [`DeviceError`] says what to install.
//! Environment variables: `TILEWRIGHT_NVRTC` (path of libnvrtc.so), `TILEWRIGHT_CUDA_INCLUDE` (folder with cuda_fp16.h) and
//! `TILEWRIGHT_CACHE` (folder for compiled kernels).
//!
//! - `nvrtc`, `arch`, `resources`: source to machine code, without a driver
//! - `cache`: machine code that was compiled before
//! - `driver`, `stream`, `memory`: what CUDA has
//! - `pipeline`, `launch`: a kernel's modules, and running one

mod arch;
mod cache;
mod driver;
mod launch;
mod memory;
mod nvrtc;
mod pipeline;
mod resources;
mod stream;

pub use arch::{arch, shared_bytes};
pub use nvrtc::Cubin;
pub use resources::Resources;

pub(crate) use memory::{Buffer, Window};
pub(crate) use pipeline::CudaPipeline;
pub(crate) use stream::{Event, Graph, Stream};

/// The types of a caller's own streams: what [`Device::cuda_on`](crate::Device::cuda_on) takes.
pub use cudarc;

use crate::error::DeviceError;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{CudaContext, CudaStream, result};
use driver::Named;
use nvrtc::Nvrtc;
use std::sync::{Arc, OnceLock};
use tilewright_compile::gpu::{Dialect, Source, Target};

/// What a GPU is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GpuInfo {
    /// Its number among the GPUs that the driver sees, from 0.
    pub ordinal: usize,
    /// The maker's name.
    pub model: String,
    /// Compute capability: ten times the major number plus the minor one.
    pub compute: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Global memory, in bytes.
    pub memory_bytes: u64,
    /// The most shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// The version of CUDA that the driver supports, major and minor.
    pub driver: (u32, u32),
}

/// The GPUs that the driver sees; none where there is a driver and no GPU.
///
/// # Errors
/// [`DeviceError::NoCudaDriver`], and what the driver says.
pub fn gpus() -> Result<Vec<GpuInfo>, DeviceError> {
    (0..driver::count()?).map(describe).collect()
}

/// Major and minor version of the NVRTC that is found.
///
/// # Errors
/// [`DeviceError::NoNvrtc`].
pub fn nvrtc_version() -> Result<(u32, u32), DeviceError> {
    Ok(Nvrtc::get()?.version())
}

/// Compiles a rendered kernel with NVRTC, past all caches; needs no driver and no GPU. `compute` is ten times the major compute
/// capability plus the minor one.
///
/// # Errors
/// NVRTC or its headers are absent, the capability is unknown, or NVRTC refuses the source.
pub fn compile_cubin(source: &Source, compute: u32) -> Result<Cubin, DeviceError> {
    Nvrtc::get()?.compile(&source.text, arch(compute)?)
}

/// The assembly of a rendered kernel, as text, which drivers compile for GPUs of this capability and any later one; otherwise as
/// [`compile_cubin`].
///
/// # Errors
/// As [`compile_cubin`].
pub fn compile_ptx(source: &Source, compute: u32) -> Result<String, DeviceError> {
    Nvrtc::get()?.ptx(&source.text, arch(compute)?)
}

/// As [`compile_cubin`], once for each text, architecture and version of NVRTC.
fn compile_cached(source: &Source, arch: &'static str) -> Result<Arc<Cubin>, DeviceError> {
    static CACHE: OnceLock<cache::Cache> = OnceLock::new();
    let nvrtc = Nvrtc::get()?;
    let (major, minor) = nvrtc.version();
    let key = cache::key(&[&source.text, &Nvrtc::options(arch).join(" "), &format!("NVRTC {major}.{minor}")]);
    let cache = CACHE.get_or_init(cache::Cache::of_user);
    cache.get_or(&key, || nvrtc.compile(&source.text, arch))
}

fn describe(ordinal: usize) -> Result<GpuInfo, DeviceError> {
    let number = i32::try_from(ordinal).map_err(|_| DeviceError::NoDevice { ordinal, found: i32::MAX as usize })?;
    let device = result::device::get(number).named("cuDeviceGet")?;
    let attribute = |attribute| {
        // SAFETY: a device that the driver gave.
        let value = unsafe { result::device::get_attribute(device, attribute) }.named("cuDeviceGetAttribute")?;
        Ok::<_, DeviceError>(u32::try_from(value).unwrap_or(0)) // counts and sizes are not negative
    };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(GpuInfo {
        ordinal,
        model: result::device::get_name(device).named("cuDeviceGetName")?,
        compute: 10 * major + minor,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
        // SAFETY: a device that the driver gave.
        memory_bytes: unsafe { result::device::total_mem(device) }.named("cuDeviceTotalMem")? as u64,
        shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        driver: driver::version()?,
    })
}

/// A GPU, and the stream on which it works when no other is named.
pub(crate) struct CudaDevice {
    info: Arc<GpuInfo>,
    arch: &'static str,
    target: Target,
    home: Stream,
}

impl CudaDevice {
    /// The GPU of this number, in the context that all libraries of the process share, on a stream of its own.
    pub fn open(ordinal: usize) -> Result<CudaDevice, DeviceError> {
        let found = driver::count()?;
        if ordinal >= found {
            return Err(DeviceError::NoDevice { ordinal, found });
        }
        let context = CudaContext::new(ordinal).named("cuDevicePrimaryCtxRetain")?;
        CudaDevice::on(Stream::new(&context, None)?)
    }

    /// The GPU of a caller's stream, in its context.
    pub fn of_caller(stream: Arc<CudaStream>) -> Result<CudaDevice, DeviceError> {
        CudaDevice::on(Stream::of(stream))
    }

    fn on(home: Stream) -> Result<CudaDevice, DeviceError> {
        let info = describe(home.context().ordinal())?;
        let nvrtc = Nvrtc::get()?.version();
        if info.driver.0 < nvrtc.0 {
            return Err(DeviceError::OldDriver { driver: info.driver, nvrtc });
        }
        let target = Target { dialect: Dialect::Cuda, compute: info.compute, shared_bytes: info.shared_bytes };
        Ok(CudaDevice { arch: arch(info.compute)?, target, home, info: Arc::new(info) })
    }

    pub fn info(&self) -> &Arc<GpuInfo> {
        &self.info
    }

    /// Such as `sm_90a`.
    pub fn arch(&self) -> &'static str {
        self.arch
    }

    /// The stream that launches use when no other is named.
    pub fn home(&self) -> &Stream {
        &self.home
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_compile::gpu::Arguments;
    use tilewright_ir::testing::tools;

    fn source(text: &str) -> Source {
        let arguments = Arguments { params: Vec::new(), bytes: 8 };
        let (text, entry) = (text.to_string(), "add".to_string());
        Source { dialect: Dialect::Cuda, text, entry, threads: 32, shared_bytes: 0, arguments }
    }

    const ADD: &str = "#include <cuda_fp16.h>
#include <cuda_bf16.h>
struct Args { long long strides[1]; int lens[1]; float scale; };
extern \"C\" __global__ void add(const __half* x, __nv_bfloat16* y, Args args) {
    if (threadIdx.x < args.lens[0]) y[threadIdx.x] = __float2bfloat16(__half2float(x[threadIdx.x]) * args.scale);
}";

    /// Whether NVRTC is there; says so where it is not.
    fn nvrtc_is_there() -> bool {
        tools::present(nvrtc_version()).is_some()
    }

    #[test]
    fn nvrtc_compiles_for_every_architecture_without_a_driver() {
        if !nvrtc_is_there() {
            return;
        }
        for compute in [80, 90, 120] {
            let cubin = compile_cubin(&source(ADD), compute).unwrap();
            assert_eq!(&cubin.bytes[..4], b"\x7fELF", "{compute}");
            assert!((4..=255).contains(&cubin.resources.registers), "{compute}: {:?}", cubin.resources);
            assert_eq!(cubin.resources.spill_stores, 0);
            let ptx = compile_ptx(&source(ADD), compute).unwrap();
            assert!(ptx.contains(".visible .entry add(") && !ptx.contains('\0'), "{compute}: {ptx}");
            assert!(ptx.contains(&format!(".target sm_{compute}\n")), "{compute}: {ptx}");
        }
    }

    #[test]
    fn what_nvrtc_refuses_is_an_error_with_its_words() {
        if !nvrtc_is_there() {
            return;
        }
        let error = compile_cubin(&source("extern \"C\" __global__ void add() { undeclared = 1; }"), 90).unwrap_err();
        assert!(matches!(&error, DeviceError::Compile { arch: "sm_90a", .. }), "{error:?}");
        assert!(error.to_string().contains("undeclared"), "{error}");
        assert!(matches!(compile_cubin(&source("a\0b"), 90), Err(DeviceError::Call { .. })));
    }

    #[test]
    fn code_for_hopper_alone_compiles() {
        if !nvrtc_is_there() {
            return;
        }
        let text = "extern \"C\" __global__ void add() { asm volatile(\"wgmma.fence.sync.aligned;\"); }";
        assert!(compile_cubin(&source(text), 90).is_ok());
        assert!(compile_cubin(&source(text), 80).is_err());
    }

    #[test]
    fn a_capability_that_is_not_known_is_refused_by_name() {
        let error = arch(75).unwrap_err().to_string();
        assert!(error.contains("7.5") && error.contains("8.0, 8.6"), "{error}");
        assert_eq!(arch(90), Ok("sm_90a"));
        assert_eq!([80, 90, 120].map(shared_bytes), [Ok(166912), Ok(232448), Ok(101376)]);
    }
}
