//! Memory that processor and GPU share: allocations, and windows into them that tensors borrow.

use super::in_flight::{InFlight, Submitted, wait_for};
use super::system::{Gpu, Memory};
use super::{Command, MetalError, Stream, limits};
use std::sync::Arc;

/// An allocation. Metal keeps it for as long as something that was submitted uses it.
pub(crate) struct Buffer {
    memory: Memory,
    bytes: usize,
    /// All that uses it: to be waited for. Whether it fails does not matter.
    users: InFlight,
    /// On what its content depends: where some of it failed, the content is undefined until all of it is overwritten.
    sources: InFlight,
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
        Ok(Arc::new(Buffer { memory, bytes, users: InFlight::default(), sources: InFlight::default() }))
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
        self.users.add(std::slice::from_ref(submitted));
    }

    /// Its content depends on these.
    pub(super) fn written_by(&self, sources: &[Submitted]) {
        self.sources.add(sources);
    }

    /// On what its content depends, as far as it is not finished, and the first failure.
    pub(super) fn sources(&self) -> Vec<Submitted> {
        self.sources.now()
    }

    /// Waits for all that uses it.
    fn wait(&self) {
        // A failure matters to what was written, and stays in `sources`.
        let _ = self.users.wait();
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
        if bytes == self.bytes {
            self.sources.forget(&self.sources());
        }
        self.written_by(&[submitted]);
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
    /// [`MetalError::Failed`], each time, when something failed on which the content depends.
    pub fn download_to(&self, to: &mut [u8]) -> Result<(), MetalError> {
        let bytes = to.len().min(self.bytes());
        self.buffer.wait();
        wait_for(&self.buffer.sources())?;
        // SAFETY: that many bytes are in the window. All that was submitted with them is done; what writes them is submitted
        // with the tensor borrowed for writing, which it is not now.
        unsafe { self.buffer.memory.read(self.offset, &mut to[..bytes]) };
        Ok(())
    }

    /// Overwrites the first bytes, after all launches that were given this memory before, however they ended. Waits.
    pub fn upload(&self, from: &[u8]) -> Result<(), MetalError> {
        let bytes = from.len().min(self.bytes());
        self.buffer.wait();
        // SAFETY: that many bytes are in the window. All that was submitted with them is done, and the caller, who writes the
        // tensor, has it alone.
        unsafe { self.buffer.memory.write(self.offset, &from[..bytes]) };
        self.overwritten(bytes);
        Ok(())
    }

    /// Sets all bytes to zero, after all launches that were given this memory before, however they ended. Waits.
    pub fn clear(&self) -> Result<(), MetalError> {
        self.buffer.wait();
        // SAFETY: as in `upload`.
        unsafe { self.buffer.memory.clear(self.offset, self.bytes()) };
        self.overwritten(self.bytes());
        Ok(())
    }

    /// The first bytes are defined, and with all of them the buffer is.
    fn overwritten(&self, bytes: usize) {
        if bytes == self.buffer.bytes {
            self.buffer.sources.forget(&self.buffer.sources());
        }
    }
}
