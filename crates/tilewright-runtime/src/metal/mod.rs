//! Apple GPUs through Metal: kernels rendered as Metal source, compiled by the system's compiler, launched on command queues.
//!
//! **Nothing here has run on Apple hardware.** What speaks to Metal, `apple`, is type-checked on other machines by
//! `.ci/metal-check`. All the rest is compiled everywhere and knows Metal only through a handful of types (`Gpu`, `Program`,
//! `Memory`, `Signal`, `Queue`, `Commands`), which `absent` has for other systems, where no `Gpu` can be made, and `fake` for
//! tests without a Mac. `tests` runs over the fake, and on a Mac over its GPU.
//!
//! - `limits`: what a GPU refuses for its size, checked before Metal is asked
//! - `in_flight`: what was submitted and may not be finished
//! - `stream`, `memory`: command queues, events and buffers
//! - `pipeline`, `launch`: a kernel's programs, and running one
//!
//! Buffers are in memory that processor and GPU share. A copy from the host to one, or back, first waits for all that was
//! submitted with it. The parameters of a kernel are bound as [`Source`](tilewright_compile::gpu::Source) lays down: pointers
//! at buffer indices 0, 1, …, the argument struct at the next one; threadgroup memory is declared in the source.
//!
//! It needs macOS 14 or iOS 17 (Metal 3.1, for bfloat) and a GPU of family Apple 7 (M1, A14) or later, for tiles of
//! `simdgroup_matrix`.

mod error;
mod in_flight;
mod launch;
mod limits;
mod memory;
mod pipeline;
mod stream;

#[cfg(all(not(target_vendor = "apple"), not(test)))]
mod absent;
#[cfg(target_vendor = "apple")]
mod apple;
#[cfg(all(not(target_vendor = "apple"), test))]
mod fake;
#[cfg(test)]
mod tests;

#[cfg(all(not(target_vendor = "apple"), not(test)))]
use absent as system;
#[cfg(target_vendor = "apple")]
use apple as system;
#[cfg(all(not(target_vendor = "apple"), test))]
use fake as system;

pub use error::MetalError;
pub use limits::LimitError;

pub(crate) use memory::{Buffer, Window};
pub(crate) use pipeline::MetalPipeline;
pub(crate) use stream::{Event, Stream};

use pipeline::Programs;
use std::sync::{Arc, OnceLock};
use system::Gpu;
use tilewright_compile::gpu::{Dialect, Target};

/// What an Apple GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetalInfo {
    /// The GPU's name, such as `Apple M3 Pro`.
    pub model: String,
    /// The newest family that it belongs to, such as `Apple 9`.
    pub family: &'static str,
    /// Bytes that tensors can take without slowing the machine down.
    pub memory_bytes: u64,
    /// The most bytes that one buffer can hold.
    pub buffer_bytes: usize,
    /// The most threadgroup memory of a threadgroup, in bytes.
    pub shared_bytes: u32,
}

impl MetalInfo {
    /// Cores that plans reckon with: those of most M chips. Metal does not say how many a GPU has.
    pub const ASSUMED_CORES: usize = 10;
}

/// Threadgroup memory that kernels are made for, in bytes: what all families have.
const SHARED_BYTES: u32 = 32 << 10;

/// One thing for a queue to do.
#[cfg_attr(all(not(target_vendor = "apple"), not(test)), expect(dead_code, reason = "there is no queue to do it"))]
enum Command<'c> {
    /// Runs a program.
    Launch {
        program: &'c system::Program,
        /// Threadgroups along each axis, none of them 0.
        grid: [usize; 3],
        /// Threads of a threadgroup.
        threads: usize,
        /// For each tensor its memory and the byte where its first element is.
        tensors: &'c [(&'c system::Memory, usize)],
        /// The struct `Args`.
        numbers: &'c [u64],
    },
    /// Copies the first bytes of one memory to another, a multiple of 4.
    Copy { from: &'c system::Memory, to: &'c system::Memory, bytes: usize },
    /// Says that all that was submitted before is done.
    Signal(&'c system::Signal),
    /// Holds back all that is submitted after until that was said.
    Wait(&'c system::Signal),
}

/// When the GPU began and ended, in seconds of its clock.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Span {
    start: f64,
    end: f64,
}

/// What a compiled program has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Compiled {
    /// The most threads that a threadgroup of it can have.
    threads: usize,
    /// Threads of a simdgroup.
    simdgroup: usize,
    /// Bytes of threadgroup memory that it declares.
    shared_bytes: usize,
}

/// The system's default GPU, and the queue on which it works when no other stream is named.
pub(crate) struct MetalDevice {
    info: Arc<MetalInfo>,
    gpu: Arc<Gpu>,
    target: Target,
    home: Stream,
    programs: Programs,
}

impl MetalDevice {
    /// The system's default GPU, which all devices of the process share, on a queue of its own.
    ///
    /// # Errors
    /// [`MetalError::NotApple`], [`MetalError::System`] and [`MetalError::Family`] where it is too old,
    /// [`MetalError::NoDevice`] where there is none, [`MetalError::Memory`].
    pub fn open() -> Result<MetalDevice, MetalError> {
        static GPU: OnceLock<Result<Arc<Gpu>, MetalError>> = OnceLock::new();
        let gpu = GPU.get_or_init(|| Gpu::open().map(Arc::new)).clone()?;
        let info = gpu.info().clone();
        let shared_bytes = info.shared_bytes.min(SHARED_BYTES);
        let target = Target { dialect: Dialect::Msl, compute: 0, shared_bytes };
        let home = Stream::new(&gpu)?;
        Ok(MetalDevice { info: Arc::new(info), gpu, target, home, programs: Programs::default() })
    }

    pub fn info(&self) -> &Arc<MetalInfo> {
        &self.info
    }

    /// The stream that launches use when no other is named.
    pub fn home(&self) -> &Stream {
        &self.home
    }

    /// Memory of undefined content.
    pub fn allocate(&self, bytes: usize) -> Result<Arc<Buffer>, MetalError> {
        Buffer::new(&self.gpu, bytes)
    }
}
