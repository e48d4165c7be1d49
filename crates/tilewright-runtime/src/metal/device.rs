//! A Metal device: the GPU, one queue, and what runs on it.

use crate::device::Grid;
use crate::metal::buffer::MetalBuffer;
use crate::metal::command::{Commands, Submitted};
use crate::metal::error::MetalError;
use crate::metal::limits;
use crate::metal::pipeline::MetalPipeline;
use objc2::available;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_metal::{
    MTLCommandBuffer, MTLCommandEncoder, MTLCommandQueue, MTLComputeCommandEncoder, MTLCreateSystemDefaultDevice,
    MTLDevice, MTLGPUFamily, MTLResourceOptions, MTLSize,
};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// The system's default GPU with a queue of its own. Cheap to clone; clones share the queue.
#[derive(Clone)]
pub(crate) struct MetalDevice(pub(super) Arc<Shared>);

/// What a device's clones and buffers share.
pub(super) struct Shared {
    raw: Retained<ProtocolObject<dyn MTLDevice>>,
    queue: Retained<ProtocolObject<dyn MTLCommandQueue>>,
    family: &'static str,
    running: Mutex<Vec<Commands>>,
}

/// What a GPU is, for people and planners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetalInfo {
    /// The GPU's name, such as `Apple M3 Pro`.
    pub name: String,
    /// The newest family that it belongs to, such as `Apple 9`.
    pub family: &'static str,
    /// Bytes that tensors can take without slowing the machine down.
    pub memory_bytes: u64,
    /// The most bytes that one buffer can hold.
    pub buffer_bytes: usize,
    /// Bytes of threadgroup memory of a threadgroup.
    pub shared_bytes: usize,
}

impl MetalDevice {
    /// The system's default GPU.
    ///
    /// # Errors
    /// [`MetalError::System`] and [`MetalError::Family`] where it is too old, [`MetalError::NoDevice`] where there is none,
    /// [`MetalError::Memory`].
    pub fn new() -> Result<MetalDevice, MetalError> {
        if !available!(macos = 14.0, ios = 17.0, tvos = 17.0, visionos = 1.0, ..) {
            return Err(MetalError::System);
        }
        autoreleasepool(|_| {
            let raw = MTLCreateSystemDefaultDevice().ok_or(MetalError::NoDevice)?;
            let family = FAMILIES.iter().find(|(family, _)| raw.supportsFamily(*family));
            let (_, family) = family.ok_or_else(|| MetalError::Family { name: raw.name().to_string() })?;
            let queue = raw.newCommandQueue().ok_or_else(|| MetalError::Memory { what: "a queue".into() })?;
            Ok(MetalDevice(Arc::new(Shared { raw, queue, family, running: Mutex::default() })))
        })
    }

    /// What it is.
    pub fn info(&self) -> MetalInfo {
        let raw = &self.0.raw;
        MetalInfo {
            name: autoreleasepool(|_| raw.name().to_string()),
            family: self.0.family,
            memory_bytes: raw.recommendedMaxWorkingSetSize(),
            buffer_bytes: raw.maxBufferLength(),
            shared_bytes: raw.maxThreadgroupMemoryLength(),
        }
    }

    /// Compiles a rendered kernel.
    ///
    /// # Errors
    /// [`MetalError::Limit`] where it is too large for the GPU, [`MetalError::Compile`] with what the compiler says,
    /// [`MetalError::Entry`].
    pub fn compile(&self, source: &Source) -> Result<MetalPipeline, MetalError> {
        MetalPipeline::new(&self.0.raw, source)
    }

    /// A buffer of `bytes` bytes, shared with the processor. Metal zeroes it.
    ///
    /// # Errors
    /// [`MetalError::Limit`] where it is too large, [`MetalError::Memory`].
    pub fn alloc(&self, bytes: usize) -> Result<MetalBuffer, MetalError> {
        let allocated = limits::allocation(bytes, self.0.raw.maxBufferLength())?;
        let options = MTLResourceOptions::StorageModeShared;
        let raw = self.0.raw.newBufferWithLength_options(allocated, options);
        let raw = raw.ok_or_else(|| MetalError::Memory { what: format!("a buffer of {bytes} bytes") })?;
        Ok(MetalBuffer::new(self.0.clone(), raw, bytes))
    }

    /// Submits a launch and returns at once. `buffers` gives for each tensor of the kernel, in order, its buffer and the
    /// byte offset of its first element, a multiple of the element's size; `args` is the argument struct.
    ///
    /// The caller must have checked the tensors against the kernel: the lengths and strides in `args` must stay in the
    /// buffers.
    ///
    /// # Errors
    /// [`MetalError::Limit`] for arguments that are not the kernel's and for a grid that is too large,
    /// [`MetalError::ForeignBuffer`], [`MetalError::Memory`]; nothing is submitted then.
    pub fn launch(
        &self,
        pipeline: &MetalPipeline,
        grid: Grid,
        buffers: &[(&MetalBuffer, usize)],
        args: &[u8],
    ) -> Result<Submitted, MetalError> {
        let kernel = pipeline.footprint();
        let tensors: Vec<_> = buffers.iter().map(|(buffer, offset)| (buffer.bytes(), *offset)).collect();
        kernel.check_launch(grid, &tensors, args.len())?;
        if let Some(index) = buffers.iter().position(|(buffer, _)| !buffer.is_of(self)) {
            return Err(MetalError::ForeignBuffer { kernel: kernel.kernel.clone(), index });
        }
        let memory = |what: &str| MetalError::Memory { what: what.into() };
        autoreleasepool(|_| {
            let commands = self.0.queue.commandBuffer().ok_or_else(|| memory("a command buffer"))?;
            let encoder = commands.computeCommandEncoder().ok_or_else(|| memory("a command encoder"))?;
            encoder.setComputePipelineState(pipeline.state());
            for (index, (buffer, offset)) in buffers.iter().enumerate() {
                // SAFETY: `check` held the number of tensors and `check_launch` the offset against what Metal allows. The
                // command buffer keeps the buffer alive.
                unsafe { encoder.setBuffer_offset_atIndex(Some(buffer.raw()), *offset, index) };
            }
            // SAFETY: the bytes are read now, and `check` held their number and the index against what Metal allows.
            unsafe { encoder.setBytes_length_atIndex(NonNull::from(args).cast(), args.len(), buffers.len()) };
            // Metal refuses an empty grid.
            if !grid.contains(&0) {
                let [width, height, depth] = grid.map(|n| n as usize);
                encoder.dispatchThreadgroups_threadsPerThreadgroup(
                    MTLSize { width, height, depth },
                    MTLSize { width: kernel.threads, height: 1, depth: 1 },
                );
            }
            encoder.endEncoding();
            let mut running = self.0.running();
            running.retain(|commands| !commands.done());
            let commands = Commands::commit(commands);
            running.push(commands.clone());
            Ok(Submitted::new(commands, kernel.kernel.clone()))
        })
    }
}

impl Shared {
    /// Does `copy` while the GPU does nothing for this device: after all that was submitted, before what will be.
    pub fn idle<T>(&self, copy: impl FnOnce() -> T) -> T {
        let mut running = self.running();
        for commands in running.drain(..) {
            commands.wait();
        }
        copy()
    }

    /// What was submitted and may not be finished. Nothing is submitted while it is held.
    fn running(&self) -> MutexGuard<'_, Vec<Commands>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
