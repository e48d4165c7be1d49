//! Devices, tensors, compiled pipelines and launches.
//!
//! A [`Device`] compiles a [`Kernel`](tilewright_ir::Kernel) into a [`Pipeline`] (cached by content) and launches it over a
//! grid with tensors that it borrows: host slices or [`Tensor`]s that it owns.
//!
//! This is the only crate with `unsafe`: vector intrinsics, and lanes and tensors behind pointers, which the verifier, the
//! lowering and the bounds of views keep inside their memory.
#![allow(unsafe_code, reason = "vector intrinsics and working memory behind pointers; each block says why it is sound")]

mod convert;
pub mod cpu;
mod device;
mod error;
mod interp;
#[cfg(any(test, target_vendor = "apple"))]
#[cfg_attr(not(test), expect(dead_code, reason = "no `Device` makes a Metal device yet; its tests alone do"))]
mod metal;
mod tensor;

pub use device::{Arg, Device, DeviceInfo, DeviceKind, Grid, Pipeline};
pub use error::{LaunchError, TensorError};
pub use tensor::{HostElement, Tensor, TensorView, TensorViewMut};
