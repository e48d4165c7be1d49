//! Attention kernels written once in Rust, for CPUs and GPUs; and the language that they are written in.
//!
//! This is the one crate to depend on. It stacks three things:
//!
//! - [`lang`]: the kernel language. A kernel is a Rust function under [`kernel`](lang::kernel) that describes one tile
//!   program; there are no threads in it.
//! - [`runtime`]: devices, tensors, compiled pipelines, launches.
//! - [`attention`] (a default feature): attention for LLM inference with a typed host API.
//!
//! ```
//! use tilewright::prelude::*;
//!
//! let device = Device::interp(); // or `Device::cpu()`
//! let q = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0], &[1, 1, 2, 2])?;
//! let v = Tensor::from_slice(&[10.0f32, 20.0], &[1, 1, 2, 1])?;
//! let out = Attention::new(q.view(), q.view(), v.view()).causal().run(&device)?;
//! // The first query sees only the first key.
//! assert_eq!(out.o.to_vec::<f32>()?[0], 10.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A kernel of one's own needs nothing else:
//!
//! ```
//! use tilewright::lang::prelude::*;
//! use tilewright::prelude::*;
//!
//! /// Doubles `width` elements a program.
//! #[kernel]
//! fn double(x: View<f32, 1>, y: ViewMut<f32, 1>, width: usize) {
//!     let [block] = program_id();
//!     y.store(block * width, x.load(block * width, [width]) * 2.0);
//! }
//!
//! let device = Device::interp();
//! let pipeline = device.compile(Double { width: 4 }.trace()?)?;
//! let (x, mut y) = (Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0], &[5])?, Tensor::zeros(Elem::F32, &[5])?);
//! device.launch(&pipeline, [2, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())])?;
//! assert_eq!(y.to_vec::<f32>()?, [2.0, 4.0, 6.0, 8.0, 10.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Code that the macros make names the language through this crate, also inside it.
extern crate self as tilewright;

#[cfg(feature = "attention")]
pub use tilewright_attention as attention;
pub use tilewright_lang as lang;
pub use tilewright_runtime as runtime;

/// What a program that runs kernels imports; [`lang::prelude`] is what a file of kernels imports.
pub mod prelude {
    #[cfg(feature = "attention")]
    pub use tilewright_attention::{
        Affine, Alibi, Attention, AttentionError, Cache, CacheError, CacheShape, Causal, ClassifiedMask, Encoding,
        Feature, Features, KvCache, Mask, Output, Plan, Rounding, Schedule, Sinks, Softcap, Splits, Tree, Window,
    };
    pub use tilewright_lang::ir::Elem;
    pub use tilewright_runtime::{
        Arg, Device, DeviceError, DeviceTensor, LaunchError, Pipeline, Tensor, TensorError, TensorView, TensorViewMut,
    };
}

/// The examples of the project's front page, run as tests.
#[cfg(all(doctest, feature = "attention"))]
#[doc = include_str!("../../../README.md")]
pub mod readme {}
