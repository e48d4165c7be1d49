//! Devices, tensors, compiled pipelines and launches.
//!
//! A [`Device`] compiles a [`Kernel`](tilewright_ir::Kernel) into a [`Pipeline`] (cached by content) and launches it over a
//! grid with tensors that it borrows: host slices, [`Tensor`]s, or [`DeviceTensor`]s in memory of a GPU.
//!
//! This is the only crate with `unsafe`: vector intrinsics, lanes and tensors behind pointers, which the verifier, the
//! lowering and the bounds of views keep inside their memory, and calls of the CUDA driver and compiler and of Metal.
#![allow(
    unsafe_code,
    reason = "vector intrinsics, memory behind pointers, the driver; each block says why it is sound"
)]

mod check;
mod convert;
pub mod cpu;
pub mod cuda;
mod device;
mod device_tensor;
mod error;
mod external;
mod folder;
mod gpu;
mod interp;
pub mod metal;
mod tensor;

pub use device::{Arg, Device, DeviceInfo, DeviceKind, Grid, Pipeline};
pub use device_tensor::DeviceTensor;
pub use error::{DeviceError, LaunchError, OutOfReach, TensorError};
pub use external::{ExternalDevice, ExternalPipeline};
pub use folder::cache_folder;
pub use gpu::{Event, Graph, Stream};
pub use tensor::{HostElement, Tensor, TensorView, TensorViewMut};
