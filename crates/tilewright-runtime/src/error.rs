//! What can be wrong with devices, tensors, pipelines and launches.

use crate::metal::MetalError;
use tilewright_ir::{Diagnostics, Elem};

/// A device that is not there, or that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The CUDA driver cannot be loaded.
    #[error(
        "no CUDA driver is on this machine (libcuda.so.1 is not found); install the NVIDIA driver (package \
         nvidia-driver), or use --device cpu, `Device::cpu()`"
    )]
    NoCudaDriver,
    /// NVRTC, which compiles CUDA kernels, cannot be loaded.
    #[error(
        "NVRTC, which compiles CUDA kernels, is not found (tried {tried}); install package cuda-nvrtc-13-0, or the Python \
         packages nvidia-cuda-nvrtc and nvidia-cuda-runtime, and set TILEWRIGHT_NVRTC to the path of libnvrtc.so.13"
    )]
    NoNvrtc {
        /// Names and paths that were tried.
        tried: String,
    },
    /// The headers of half precision numbers are missing.
    #[error(
        "cuda_fp16.h and cuda_bf16.h are not found (tried {tried}); install package cuda-cudart-dev-13-0, or the Python \
         package nvidia-cuda-runtime, and set TILEWRIGHT_CUDA_INCLUDE to the folder with cuda_fp16.h"
    )]
    NoCudaHeaders {
        /// Folders that were tried.
        tried: String,
    },
    /// Fewer GPUs than were asked for.
    #[error("there is no CUDA device {ordinal}: the driver sees {found}; `tile devices` lists them")]
    NoDevice {
        /// The number that was asked for, from 0.
        ordinal: usize,
        /// How many there are.
        found: usize,
    },
    /// A GPU for which no code can be made.
    #[error("the GPU has compute capability {}.{}; kernels are made for {known}", compute / 10, compute % 10)]
    Compute {
        /// Ten times the major number, plus the minor one.
        compute: u32,
        /// Those that are known.
        known: String,
    },
    /// NVRTC makes code that this driver does not load.
    #[error(
        "the driver runs CUDA {}.{} and NVRTC compiles for CUDA {}.{}; update the driver, or set TILEWRIGHT_NVRTC to the \
         path of an NVRTC of CUDA {}",
        driver.0, driver.1, nvrtc.0, nvrtc.1, driver.0
    )]
    OldDriver {
        /// Major and minor version of CUDA that the driver supports.
        driver: (u32, u32),
        /// Version of NVRTC.
        nvrtc: (u32, u32),
    },
    /// NVRTC refuses a rendered kernel.
    #[error("NVRTC cannot compile it for {arch}: {log}")]
    Compile {
        /// The architecture, such as `sm_90a`.
        arch: &'static str,
        /// What NVRTC says.
        log: String,
    },
    /// A call of the driver or of NVRTC failed.
    #[error("{call} failed: {reason}")]
    Call {
        /// The function.
        call: &'static str,
        /// The error's name and its text.
        reason: String,
    },
    /// Something that needs memory or waits was asked of a stream that records a graph.
    #[error("{what} is not possible while the stream records a graph; do it before")]
    Capturing {
        /// What was asked.
        what: &'static str,
    },
    /// A stream or memory was asked of a device that has none.
    #[error("the device {device} has no {what}; open one with `Device::cuda`")]
    Without {
        /// The device's name.
        device: &'static str,
        /// What it lacks.
        what: &'static str,
    },
    /// Metal is not there, or failed.
    #[error("{0}")]
    Metal(#[from] MetalError),
}

/// A tensor that cannot be what it is said to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The shape needs another number of elements than the memory holds.
    #[error("a tensor of shape {shape:?} reaches {needed} elements and the memory holds {got}")]
    Length {
        /// Extents, outermost first.
        shape: Vec<usize>,
        /// Elements that the shape and strides reach.
        needed: usize,
        /// Elements that are there.
        got: usize,
    },
    /// Shape and strides disagree in rank, or the rank is above 4.
    #[error("a tensor of rank {rank} with {strides} strides; tensors have rank 0 to 4 and one stride an axis")]
    Rank {
        /// Number of extents.
        rank: usize,
        /// Number of strides.
        strides: usize,
    },
    /// An extent or the whole tensor is too large to index.
    #[error(
        "a tensor of shape {shape:?} is too large: an axis has at most 2147483647 entries, and a tensor must fit memory"
    )]
    TooLarge {
        /// Extents, outermost first.
        shape: Vec<usize>,
    },
    /// The bytes do not start at a multiple of the element size.
    #[error("{elem} elements need memory aligned to {} bytes; copy the bytes to an aligned buffer first", elem.bytes())]
    Alignment {
        /// The element type.
        elem: Elem,
    },
    /// Two elements of an output share memory.
    #[error("an output of shape {shape:?} and strides {strides:?} has elements that overlap")]
    Overlap {
        /// Extents, outermost first.
        shape: Vec<usize>,
        /// In elements.
        strides: Vec<usize>,
    },
    /// The elements are of another type.
    #[error("the tensor holds {got} and {wanted} was asked for")]
    Element {
        /// What was asked for.
        wanted: Elem,
        /// What it holds.
        got: Elem,
    },
    /// Shapes or element types that must agree and do not.
    #[error("a tensor {got} cannot be copied to one {wanted}")]
    Mismatch {
        /// Element type and shape of what is written.
        wanted: String,
        /// Element type and shape of what is given.
        got: String,
    },
    /// The device that holds the memory failed, or gave none.
    #[error("{0}")]
    Device(#[from] DeviceError),
}

/// A launch that was refused, or that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The kernel itself is wrong.
    #[error("{0}")]
    Kernel(#[from] Diagnostics),
    /// The device cannot run this kernel.
    #[error("{device} cannot run `{kernel}`: {reason}")]
    Unsupported {
        /// The device's name.
        device: &'static str,
        /// The kernel's name.
        kernel: String,
        /// What is missing, and the nearest thing that works.
        reason: String,
    },
    /// Another number of arguments than parameters.
    #[error("`{kernel}` takes {wanted} arguments and got {got}")]
    ArgumentCount {
        /// The kernel's name.
        kernel: String,
        /// Parameters of the kernel.
        wanted: usize,
        /// Arguments given.
        got: usize,
    },
    /// An argument of another kind, element type or rank than its parameter.
    #[error("`{kernel}` takes {wanted} as `{param}` and got {got}")]
    Argument {
        /// The kernel's name.
        kernel: String,
        /// The parameter's name.
        param: String,
        /// The parameter's type.
        wanted: String,
        /// What was given.
        got: String,
    },
    /// An axis of the grid that a program id, an i32, cannot count.
    #[error("a grid of {grid:?}: an axis has at most 2147483647 programs")]
    Grid {
        /// Programs along each axis.
        grid: [u32; 3],
    },
    /// The pipeline was compiled by another device.
    #[error("the pipeline of `{kernel}` was compiled for another device")]
    ForeignPipeline {
        /// The kernel's name.
        kernel: String,
    },
    /// An axis of the grid that is too long for the device.
    #[error("`{kernel}` runs over a grid of {grid:?}; axis {axis} has at most {most} programs on {device}")]
    GridAxis {
        /// The kernel's name.
        kernel: String,
        /// The device's name.
        device: &'static str,
        /// Programs along each axis.
        grid: [u32; 3],
        /// The axis, from 0.
        axis: usize,
        /// The most that it may have.
        most: u32,
    },
    /// A tensor lies where the device cannot reach it.
    #[error("`{kernel}` got `{param}` in {memory}")]
    Memory {
        /// The kernel's name.
        kernel: String,
        /// The parameter's name.
        param: String,
        /// Where it lies, and what to do.
        memory: OutOfReach,
    },
    /// The device failed while it compiled or launched.
    #[error("`{kernel}`: {error}")]
    Device {
        /// The kernel's name.
        kernel: String,
        /// What failed.
        error: DeviceError,
    },
    /// The device failed apart from any kernel: a stream, a graph.
    #[error("{0}")]
    Stream(#[from] DeviceError),
    /// The kernel failed while it ran.
    #[error("`{kernel}` failed while it ran: {reason}")]
    Failed {
        /// The kernel's name.
        kernel: String,
        /// What happened.
        reason: String,
    },
}

/// Where a tensor lies that a launch cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    /// On a GPU, for the cpu or the interpreter.
    #[error("memory of a GPU, which only that GPU reaches; download it first")]
    Gpu,
    /// On another GPU than the device.
    #[error("memory of another GPU; download it and upload it to this one")]
    OtherGpu,
    /// On the host, for a launch that does not wait.
    #[error("memory of the host, which only a launch that waits can copy; upload it first")]
    Host,
}
