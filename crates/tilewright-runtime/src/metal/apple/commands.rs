//! Queues, and the command buffers that were committed to them.

use super::super::{Command, Span};
use super::{Signal, text};
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder, MTLCommandQueue,
    MTLComputeCommandEncoder, MTLSize,
};
use std::ptr::NonNull;

/// The one value that a signal is given.
const SAID: u64 = 1;

/// A command queue. Metal orders what uses the same buffer on it.
pub struct Queue(Retained<ProtocolObject<dyn MTLCommandQueue>>);

/// A command buffer that was committed.
#[derive(Clone)]
pub struct Commands {
    raw: Retained<ProtocolObject<dyn MTLCommandBuffer>>,
    #[expect(dead_code, reason = "held while the GPU may use it")]
    signal: Option<Signal>,
}

// SAFETY: only committed command buffers are kept here; waiting for one and asking for its status, error and times is
// allowed on any thread, and so is its release.
unsafe impl Send for Commands {}
// SAFETY: as above.
unsafe impl Sync for Commands {}

impl Queue {
    pub(super) fn new(raw: Retained<ProtocolObject<dyn MTLCommandQueue>>) -> Queue {
        Queue(raw)
    }

    /// Submits one command in a command buffer of its own; `None` where there is no memory left.
    ///
    /// # Safety
    /// A launch's tensors are at most 30 and what the program takes, each offset in its memory and a multiple of the element's
    /// size; its numbers are the struct that the program takes, at most 4096 bytes; the threads are not more than the program
    /// can have. A copy stays in both memories.
    pub unsafe fn commit(&self, command: Command<'_>) -> Option<Commands> {
        autoreleasepool(|_| {
            // It keeps what is bound to it alive until it is done.
            let raw = self.0.commandBuffer()?;
            let signal = match command {
                Command::Launch { program, grid: [width, height, depth], threads, tensors, numbers } => {
                    let encoder = raw.computeCommandEncoder()?;
                    encoder.setComputePipelineState(program.raw());
                    for (index, (memory, offset)) in tensors.iter().enumerate() {
                        // SAFETY: the caller's promise.
                        unsafe { encoder.setBuffer_offset_atIndex(Some(memory.raw()), *offset, index) };
                    }
                    let bytes = size_of_val(numbers);
                    // SAFETY: the caller's promise; the bytes are read now.
                    unsafe { encoder.setBytes_length_atIndex(NonNull::from(numbers).cast(), bytes, tensors.len()) };
                    encoder.dispatchThreadgroups_threadsPerThreadgroup(
                        MTLSize { width, height, depth },
                        MTLSize { width: threads, height: 1, depth: 1 },
                    );
                    encoder.endEncoding();
                    None
                }
                Command::Copy { from, to, bytes } => {
                    let encoder = raw.blitCommandEncoder()?;
                    let (from, to) = (from.raw(), to.raw());
                    // SAFETY: the caller's promise.
                    unsafe {
                        encoder.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(from, 0, to, 0, bytes);
                    }
                    encoder.endEncoding();
                    None
                }
                Command::Signal(signal) => {
                    raw.encodeSignalEvent_value(&signal.0, SAID);
                    Some(signal.clone())
                }
                Command::Wait(signal) => {
                    raw.encodeWaitForEvent_value(&signal.0, SAID);
                    Some(signal.clone())
                }
            };
            raw.commit();
            Some(Commands { raw, signal })
        })
    }
}

impl Commands {
    /// Whether the GPU has finished, well or not.
    pub fn done(&self) -> bool {
        matches!(self.raw.status(), MTLCommandBufferStatus::Completed | MTLCommandBufferStatus::Error)
    }

    /// Blocks until the GPU has finished, and says when it worked.
    ///
    /// # Errors
    /// What Metal says where it failed.
    pub fn wait(&self) -> Result<Span, String> {
        autoreleasepool(|_| {
            self.raw.waitUntilCompleted();
            let status = self.raw.status();
            if status != MTLCommandBufferStatus::Completed {
                let reason = self.raw.error().map(|error| text(&error));
                return Err(reason.unwrap_or_else(|| format!("the command buffer has status {}", status.0)));
            }
            Ok(Span { start: self.raw.GPUStartTime(), end: self.raw.GPUEndTime() })
        })
    }
}
