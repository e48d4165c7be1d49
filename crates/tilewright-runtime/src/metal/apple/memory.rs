//! Memory that processor and GPU share.

use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLBuffer, MTLDevice, MTLResourceOptions};

/// A buffer in shared storage.
pub struct Memory(Retained<ProtocolObject<dyn MTLBuffer>>);

// SAFETY: an `MTLBuffer` may be used and released by any thread; its contents are touched only by the functions below, whose
// callers keep others away.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn new(device: &ProtocolObject<dyn MTLDevice>, bytes: usize) -> Option<Memory> {
        device.newBufferWithLength_options(bytes, MTLResourceOptions::StorageModeShared).map(Memory)
    }

    /// Metal's buffer.
    pub(super) fn raw(&self) -> &ProtocolObject<dyn MTLBuffer> {
        &self.0
    }

    /// Fills `to` with the bytes from `offset` on.
    ///
    /// # Safety
    /// There are so many, and nobody writes them meanwhile, the GPU included.
    pub unsafe fn read(&self, offset: usize, to: &mut [u8]) {
        debug_assert!(offset + to.len() <= self.0.length());
        // SAFETY: the caller's promise. A buffer in shared storage is memory of this process, and `to` is no part of it.
        unsafe { self.at(offset).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
    }

    /// Overwrites the bytes from `offset` on.
    ///
    /// # Safety
    /// There are so many, and nobody else uses them meanwhile, the GPU included.
    pub unsafe fn write(&self, offset: usize, from: &[u8]) {
        debug_assert!(offset + from.len() <= self.0.length());
        // SAFETY: as in `read`.
        unsafe { self.at(offset).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }

    /// Sets bytes to zero.
    ///
    /// # Safety
    /// As [`write`](Self::write).
    pub unsafe fn clear(&self, offset: usize, bytes: usize) {
        debug_assert!(offset + bytes <= self.0.length());
        // SAFETY: as in `read`.
        unsafe { self.at(offset).write_bytes(0, bytes) };
    }

    /// # Safety
    /// The buffer has so many bytes.
    unsafe fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: inside of the buffer, which is one allocation.
        unsafe { self.0.contents().cast::<u8>().as_ptr().add(offset) }
    }
}
