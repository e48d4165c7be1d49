//! Memory of a GPU: allocations, and windows into them that tensors borrow.

use super::driver::Named;
use super::stream::Stream;
use crate::error::DeviceError;
use cudarc::driver::{CudaContext, result};
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// An allocation. It is released when all that used it is done.
pub(crate) struct Buffer {
    address: u64,
    bytes: usize,
    /// It was allocated, and is released and copied, in the order of this stream.
    home: Stream,
    /// Other streams that have used it since `home` last waited for them.
    users: Mutex<Vec<Stream>>,
    owner: Owner,
}

enum Owner {
    /// Ours, from the driver's pool of a stream or from the whole context.
    Ours { pooled: bool },
    /// Somebody else's, held until the buffer is gone.
    Caller(#[expect(dead_code, reason = "held so that the memory stays")] Box<dyn Any + Send + Sync>),
}

/// A buffer from some byte on.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    buffer: &'a Arc<Buffer>,
    offset: usize,
}

impl Buffer {
    /// Memory of undefined content, in the order of this stream.
    pub fn new(home: &Stream, bytes: usize) -> Result<Arc<Buffer>, DeviceError> {
        home.not_recording("an allocation")?;
        let context = home.context();
        context.bind_to_thread().named("cuCtxSetCurrent")?;
        let pooled = context.has_async_alloc();
        let wanted = bytes.max(16); // the driver refuses nothing at all
        // SAFETY: the context is current; the memory is released once, by `drop`.
        let address = unsafe {
            match pooled {
                true => result::malloc_async(home.cuda().cu_stream(), wanted).named("cuMemAllocAsync")?,
                false => result::malloc_sync(wanted).named("cuMemAlloc")?,
            }
        };
        let owner = Owner::Ours { pooled };
        Ok(Arc::new(Buffer { address, bytes, home: home.clone(), users: Mutex::default(), owner }))
    }

    /// Memory of a caller.
    ///
    /// # Safety
    /// That many bytes at the address are memory of the stream's context for as long as `owner` lives, and the caller orders
    /// what it does with them before and after what is done here.
    pub unsafe fn of_caller(
        home: &Stream,
        address: u64,
        bytes: usize,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Arc<Buffer> {
        let owner = Owner::Caller(owner);
        Arc::new(Buffer { address, bytes, home: home.clone(), users: Mutex::default(), owner })
    }

    pub fn context(&self) -> &Arc<CudaContext> {
        self.home.context()
    }

    /// All of it.
    pub fn window(self: &Arc<Buffer>) -> Window<'_> {
        Window { buffer: self, offset: 0 }
    }

    /// A launch on this stream uses it.
    pub fn used_on(&self, stream: &Stream) {
        if *stream != self.home && !stream.is_recorder() {
            let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            if !users.contains(stream) {
                users.push(stream.clone());
            }
        }
    }

    /// Makes the home stream wait for all others that have used it.
    fn join(&self) -> Result<(), DeviceError> {
        let users = std::mem::take(&mut *self.users.lock().unwrap_or_else(PoisonError::into_inner));
        users.iter().try_for_each(|user| self.home.wait(&user.event()?))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure here: the driver tells the next call of the context.
        let joined = self.context().bind_to_thread().is_ok() && self.join().is_ok();
        match self.owner {
            Owner::Ours { pooled: true } if joined => {
                // SAFETY: allocated by `new` on this stream, and released once; the stream waits for all users first.
                let _ = unsafe { result::free_async(self.address, self.home.cuda().cu_stream()) };
            }
            Owner::Ours { pooled: false } if joined => {
                // SAFETY: allocated by `new` and released once; this call waits for the GPU.
                let _ = unsafe { result::free_sync(self.address) };
            }
            // A context that is broken releases its memory with itself.
            Owner::Ours { .. } | Owner::Caller(_) => {}
        }
    }
}

impl<'a> Window<'a> {
    pub fn bytes(&self) -> usize {
        self.buffer.bytes - self.offset
    }

    pub fn buffer(&self) -> &'a Arc<Buffer> {
        self.buffer
    }

    /// Of the first byte, on the GPU.
    pub fn address(&self) -> u64 {
        self.buffer.address + self.offset as u64
    }

    /// Without the first `bytes`, of which there are as many.
    pub fn after(self, bytes: usize) -> Window<'a> {
        Window { offset: self.buffer.bytes.min(self.offset + bytes), ..self }
    }

    /// The first bytes, as many as there is room for and no more than there are, after all launches that were given this memory
    /// before. Waits.
    pub fn download_to(&self, to: &mut [u8]) -> Result<(), DeviceError> {
        let bytes = to.len().min(self.bytes());
        let home = self.ready("a copy to the host")?;
        if bytes > 0 {
            // SAFETY: that many bytes are in the window and in `to`; the copy is done when the stream has been waited for.
            unsafe { result::memcpy_dtoh_async(&mut to[..bytes], self.address(), home.cuda().cu_stream()) }
                .named("cuMemcpyDtoHAsync")?;
        }
        home.synchronize()
    }

    /// Overwrites the first bytes, after all launches that were given this memory before. Waits.
    pub fn upload(&self, from: &[u8]) -> Result<(), DeviceError> {
        let bytes = from.len().min(self.bytes());
        let home = self.ready("a copy from the host")?;
        if bytes > 0 {
            // SAFETY: that many bytes are in the window and in `from`; the copy is done when the stream has been waited for.
            unsafe { result::memcpy_htod_async(self.address(), &from[..bytes], home.cuda().cu_stream()) }
                .named("cuMemcpyHtoDAsync")?;
        }
        home.synchronize()
    }

    /// Overwrites the first bytes in the order of a stream. Does not wait.
    pub fn upload_on(&self, stream: &Stream, from: &[u8]) -> Result<(), DeviceError> {
        let bytes = from.len().min(self.bytes());
        stream.not_recording("a copy from the host")?;
        if **stream.context() != **self.buffer.context() {
            return Err(DeviceError::Without { device: "cuda", what: "stream of another GPU" });
        }
        stream.context().bind_to_thread().named("cuCtxSetCurrent")?;
        if bytes > 0 {
            // SAFETY: that many bytes are in the window and in `from`. The driver has taken what lies in pageable memory when
            // the call returns; the buffer is released after this stream, which `used_on` names.
            unsafe { result::memcpy_htod_async(self.address(), &from[..bytes], stream.cuda().cu_stream()) }
                .named("cuMemcpyHtoDAsync")?;
            self.buffer.used_on(stream);
        }
        Ok(())
    }

    /// Sets all bytes to zero, after all launches that were given this memory before. Waits.
    pub fn clear(&self) -> Result<(), DeviceError> {
        let home = self.ready("clearing memory")?;
        if self.bytes() > 0 {
            // SAFETY: that many bytes are in the window.
            unsafe { result::memset_d8_async(self.address(), 0, self.bytes(), home.cuda().cu_stream()) }
                .named("cuMemsetD8Async")?;
        }
        home.synchronize()
    }

    /// The home stream, after all other users.
    fn ready(&self, what: &'static str) -> Result<&'a Stream, DeviceError> {
        let home = &self.buffer.home;
        home.not_recording(what)?;
        self.buffer.join()?;
        home.context().bind_to_thread().named("cuCtxSetCurrent")?;
        Ok(home)
    }
}
