//! Memory that processor and GPU share: allocations, and windows into them that tensors borrow.

use super::in_flight::{InFlight, Submitted};
use super::system::{Gpu, Memory};
use super::{Command, MetalError, Stream, limits};
use std::sync::Arc;

/// An allocation. Metal keeps it for as long as something that was submitted uses it.
pub(crate) struct Buffer {
    memory: Memory,
    bytes: usize,
    users: InFlight,
}

/// A buffer from some byte on.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    buffer: &'a Arc<Buffer>,
    offset: usize,
}

impl Buffer {
    /// Memory of undefined content.
    ///
    /// # Errors
    /// [`MetalError::Limit`] where it is too large, [`MetalError::Memory`].
    pub(super) fn new(gpu: &Gpu, bytes: usize) -> Result<Arc<Buffer>, MetalError> {
        let allocated = limits::allocation(bytes, gpu.info().buffer_bytes)?;
        let memory = gpu.memory(allocated);
        let memory = memory.ok_or_else(|| MetalError::Memory { what: format!("a buffer of {bytes} bytes") })?;
        Ok(Arc::new(Buffer { memory, bytes, users: InFlight::default() }))
    }

    /// All of it.
    pub fn window(self: &Arc<Buffer>) -> Window<'_> {
        Window { buffer: self, offset: 0 }
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// This was submitted with it.
    pub(super) fn used_by(&self, submitted: &Submitted) {
        self.users.push(submitted.clone());
    }

    /// Overwrites the first bytes in the order of a stream, from a copy of them. Does not wait.
    pub fn upload_on(&self, stream: &Stream, from: &[u8]) -> Result<(), MetalError> {
        let bytes = from.len().min(self.bytes);
        if bytes == 0 {
            return Ok(());
        }
        let staged = Buffer::new(stream.gpu(), bytes)?;
        staged.window().upload(&from[..bytes])?;
        let copy = Command::Copy { from: &staged.memory, to: &self.memory, bytes: bytes.next_multiple_of(4) };
        // SAFETY: both have 16 bytes more than they hold, for the up to three behind the last one. The copy in `staged` is
        // nobody else's, and the caller has the tensor alone: what uses it later is told through `used_by`.
        let submitted = unsafe { stream.submit(copy, &Arc::from("a copy from the host")) }?;
        self.used_by(&submitted);
        Ok(())
    }
}

impl<'a> Window<'a> {
    pub fn bytes(&self) -> usize {
        self.buffer.bytes - self.offset
    }

    pub fn buffer(&self) -> &'a Arc<Buffer> {
        self.buffer
    }

    /// Of the first byte, in the buffer. Metal's buffers begin at multiples of 16 and more.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Without the first `bytes`, of which there are as many.
    pub fn after(self, bytes: usize) -> Window<'a> {
        Window { offset: self.buffer.bytes.min(self.offset + bytes), ..self }
    }

    /// The first bytes, as many as there is room for and no more than there are, after all launches that were given this
    /// memory before. Waits.
    ///
    /// # Errors
    /// [`MetalError::Failed`] when one of them failed.
    pub fn download_to(&self, to: &mut [u8]) -> Result<(), MetalError> {
        let bytes = to.len().min(self.bytes());
        self.buffer.users.wait()?;
        // SAFETY: that many bytes are in the window. All that was submitted with them is done; what writes them is submitted
        // with the tensor borrowed for writing, which it is not now.
        unsafe { self.buffer.memory.read(self.offset, &mut to[..bytes]) };
        Ok(())
    }

    /// Overwrites the first bytes, after all launches that were given this memory before. Waits.
    ///
    /// # Errors
    /// As [`download_to`](Self::download_to).
    pub fn upload(&self, from: &[u8]) -> Result<(), MetalError> {
        let bytes = from.len().min(self.bytes());
        self.buffer.users.wait()?;
        // SAFETY: that many bytes are in the window. All that was submitted with them is done, and the caller, who writes the
        // tensor, has it alone.
        unsafe { self.buffer.memory.write(self.offset, &from[..bytes]) };
        Ok(())
    }

    /// Sets all bytes to zero, after all launches that were given this memory before. Waits.
    ///
    /// # Errors
    /// As [`download_to`](Self::download_to).
    pub fn clear(&self) -> Result<(), MetalError> {
        self.buffer.users.wait()?;
        // SAFETY: as in `upload`.
        unsafe { self.buffer.memory.clear(self.offset, self.bytes()) };
        Ok(())
    }
}
