//! Apple GPUs through Metal: what runs a rendered kernel on one.
//!
//! **Nothing here has run on Apple hardware.** The code is type-checked on other machines by `.ci/metal-check`, and
//! [`limits`] is tested everywhere; the tests in `tests.rs` run where `cargo test` finds a Metal device.
//!
//! One queue runs launches in the order in which they are submitted. Buffers are in memory that processor and GPU share:
//! a copy to or from one first waits until the GPU has finished everything submitted before it, so the two never touch a
//! buffer at the same time. Whether a launch succeeded is known only from [`Submitted::wait`](command::Submitted::wait).
//!
//! The parameters of a kernel are bound as [`Source`](tilewright_compile::gpu::Source) lays down: pointers at buffer
//! indices 0, 1, …, the argument struct at the next one, threadgroup memory declared in the source.
//!
//! It needs macOS 14 or iOS 17 (Metal 3.1, for bfloat) and a GPU of family Apple 7 (M1, A14) or later, for tiles of
//! `simdgroup_matrix`.
//!
//! On a Mac, `tile devices` is to show the name, the family and the memory of [`MetalInfo`](device::MetalInfo):
//!
//! ```text
//! cpu     12 threads, neon
//! cuda    absent: …
//! metal   Apple M3 Pro, family Apple 9, 27.0 GiB
//! interp  1 thread, f64
//! ```
//!
//! and on one that is too old, the reason:
//!
//! ```text
//! metal   absent: the GPU `Intel Iris Plus Graphics` is not of family Apple 7 (M1, A14) or later
//! ```

mod limits;

#[cfg(target_vendor = "apple")]
mod buffer;
#[cfg(target_vendor = "apple")]
mod command;
#[cfg(target_vendor = "apple")]
mod device;
#[cfg(target_vendor = "apple")]
mod error;
#[cfg(target_vendor = "apple")]
mod pipeline;
#[cfg(all(test, target_vendor = "apple"))]
mod tests;
