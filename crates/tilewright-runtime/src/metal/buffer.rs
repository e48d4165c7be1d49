//! Memory that processor and GPU share.

use crate::metal::device::{MetalDevice, Shared};
use crate::metal::error::MetalError;
use crate::metal::limits;
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_metal::MTLBuffer;
use std::sync::Arc;

/// Bytes that kernels read and write.
pub(crate) struct MetalBuffer {
    device: Arc<Shared>,
    raw: Retained<ProtocolObject<dyn MTLBuffer>>,
    bytes: usize,
}

// SAFETY: an `MTLBuffer` may be used and released by any thread; its contents are touched only in `Shared::idle`, by one
// thread at a time and not while the GPU runs.
unsafe impl Send for MetalBuffer {}
// SAFETY: as above.
unsafe impl Sync for MetalBuffer {}

impl MetalBuffer {
    /// `raw` must be in shared storage and have at least `bytes` bytes.
    pub(super) fn new(device: Arc<Shared>, raw: Retained<ProtocolObject<dyn MTLBuffer>>, bytes: usize) -> MetalBuffer {
        debug_assert!(raw.length() >= bytes);
        MetalBuffer { device, raw, bytes }
    }

    /// How many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies `from` to the bytes from `offset` on, after everything that was submitted before.
    ///
    /// # Errors
    /// [`MetalError::Limit`] where they do not fit.
    pub fn upload(&self, offset: usize, from: &[u8]) -> Result<(), MetalError> {
        limits::check_range(offset, from.len(), self.bytes)?;
        self.device.idle(|| {
            let contents = self.raw.contents().cast::<u8>();
            // SAFETY: the range was checked against the buffer, which is in shared storage, so that its contents are memory
            // of this process; `idle` keeps the GPU and other threads away. `from` is no part of it: no slice of it exists.
            unsafe { contents.add(offset).as_ptr().copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        });
        Ok(())
    }

    /// Fills `to` with the bytes from `offset` on, after everything that was submitted before. Whether what wrote them
    /// succeeded is known from [`Submitted::wait`](crate::metal::command::Submitted::wait) alone.
    ///
    /// # Errors
    /// [`MetalError::Limit`] where there are not so many.
    pub fn download(&self, offset: usize, to: &mut [u8]) -> Result<(), MetalError> {
        limits::check_range(offset, to.len(), self.bytes)?;
        self.device.idle(|| {
            let contents = self.raw.contents().cast::<u8>();
            // SAFETY: as in `upload`.
            unsafe { contents.add(offset).as_ptr().copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
        });
        Ok(())
    }

    /// Whether it was allocated by this device or a clone of it.
    pub(super) fn is_of(&self, device: &MetalDevice) -> bool {
        Arc::ptr_eq(&self.device, &device.0)
    }

    /// Metal's buffer.
    pub(super) fn raw(&self) -> &ProtocolObject<dyn MTLBuffer> {
        &self.raw
    }
}
