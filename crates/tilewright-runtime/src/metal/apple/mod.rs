//! What of Metal is used, through objc2: the GPU, memory, programs, queues and command buffers.
//!
//! **It is type-checked and has not run.** The only place with calls of Metal.

mod commands;
mod memory;
mod program;
#[cfg(test)]
mod tests;

pub(super) use commands::{Commands, Queue};
pub(super) use memory::Memory;
pub(super) use program::Program;

use super::{MetalError, MetalInfo};
use objc2::available;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSError;
use objc2_metal::{MTLCreateSystemDefaultDevice, MTLDevice, MTLEvent, MTLGPUFamily};
use tilewright_compile::gpu::Source;

// Without it a command line program on macOS finds no device.
#[cfg(target_os = "macos")]
#[link(name = "CoreGraphics", kind = "framework")]
unsafe extern "C" {}

/// The families that have `simdgroup_matrix`, the latest first.
const FAMILIES: [(MTLGPUFamily, &str); 4] = [
    (MTLGPUFamily::Apple10, "Apple 10"),
    (MTLGPUFamily::Apple9, "Apple 9"),
    (MTLGPUFamily::Apple8, "Apple 8"),
    (MTLGPUFamily::Apple7, "Apple 7"),
];

/// Command buffers of a queue that may be unfinished before another one waits for its place.
const AHEAD: usize = 256;

/// The system's default GPU.
pub struct Gpu {
    raw: Retained<ProtocolObject<dyn MTLDevice>>,
    info: MetalInfo,
}

/// What one queue tells another, once.
#[derive(Clone)]
pub struct Signal(Retained<ProtocolObject<dyn MTLEvent>>);

impl Gpu {
    /// # Errors
    /// [`MetalError::System`] and [`MetalError::Family`] where it is too old, [`MetalError::NoDevice`] where there is none.
    pub fn open() -> Result<Gpu, MetalError> {
        if !available!(macos = 14.0, ios = 17.0, tvos = 17.0, visionos = 1.0, ..) {
            return Err(MetalError::System);
        }
        autoreleasepool(|_| {
            let raw = MTLCreateSystemDefaultDevice().ok_or(MetalError::NoDevice)?;
            let model = raw.name().to_string();
            let family = FAMILIES.iter().find(|(family, _)| raw.supportsFamily(*family));
            let (_, family) = family.ok_or_else(|| MetalError::Family { name: model.clone() })?;
            let info = MetalInfo {
                model,
                family,
                memory_bytes: raw.recommendedMaxWorkingSetSize(),
                buffer_bytes: raw.maxBufferLength(),
                shared_bytes: u32::try_from(raw.maxThreadgroupMemoryLength()).unwrap_or(u32::MAX),
            };
            Ok(Gpu { raw, info })
        })
    }

    pub fn info(&self) -> &MetalInfo {
        &self.info
    }

    /// Compiles a source whose footprint was checked.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn compile(&self, source: &Source) -> Result<Program, String> {
        Program::new(&self.raw, source)
    }

    /// So many bytes, at least one and at most `buffer_bytes`; `None` where there is no memory left.
    pub fn memory(&self, bytes: usize) -> Option<Memory> {
        Memory::new(&self.raw, bytes)
    }

    /// Not said yet; `None` where there is no memory left.
    pub fn signal(&self) -> Option<Signal> {
        self.raw.newEvent().map(Signal)
    }

    /// `None` where there is no memory left.
    pub fn queue(&self) -> Option<Queue> {
        self.raw.newCommandQueueWithMaxCommandBufferCount(AHEAD).map(Queue::new)
    }
}

/// What an error says, with its domain and number.
fn text(error: &NSError) -> String {
    format!("{} ({} {})", error.localizedDescription(), error.domain(), error.code())
}
