//! Memory of a GPU, whichever it is: allocations, and windows into them that tensors borrow.

use crate::error::DeviceError;
use crate::gpu::{Of, Stream};
use crate::{cuda, metal};
use std::sync::Arc;

/// An allocation. It is released when all that used it is done.
#[derive(Clone)]
pub(crate) enum Buffer {
    Cuda(Arc<cuda::Buffer>),
    Metal(Arc<metal::Buffer>),
}

/// A buffer from some byte on.
#[derive(Clone, Copy)]
pub(crate) enum Window<'a> {
    Cuda(cuda::Window<'a>),
    Metal(metal::Window<'a>),
}

impl Buffer {
    /// All of it.
    pub fn window(&self) -> Window<'_> {
        match self {
            Buffer::Cuda(buffer) => Window::Cuda(buffer.window()),
            Buffer::Metal(buffer) => Window::Metal(buffer.window()),
        }
    }

    /// Overwrites the first bytes in the order of a stream. Does not wait.
    pub fn upload_on(&self, stream: &Stream, from: &[u8]) -> Result<(), DeviceError> {
        match (self, &stream.0) {
            (Buffer::Cuda(buffer), Of::Cuda(stream)) => buffer.window().upload_on(stream, from),
            (Buffer::Metal(buffer), Of::Metal(stream)) => Ok(buffer.upload_on(stream, from)?),
            (Buffer::Cuda(_), Of::Metal(_)) | (Buffer::Metal(_), Of::Cuda(_)) => Err(stream.foreign()),
        }
    }
}

impl<'a> Window<'a> {
    pub fn bytes(&self) -> usize {
        match self {
            Window::Cuda(window) => window.bytes(),
            Window::Metal(window) => window.bytes(),
        }
    }

    /// Without the first `bytes`, of which there are as many.
    pub fn after(self, bytes: usize) -> Window<'a> {
        match self {
            Window::Cuda(window) => Window::Cuda(window.after(bytes)),
            Window::Metal(window) => Window::Metal(window.after(bytes)),
        }
    }

    /// The first bytes, after all launches that were given this memory before. Waits.
    pub fn download(&self, bytes: usize) -> Result<Vec<u8>, DeviceError> {
        let mut out = vec![0; bytes.min(self.bytes())];
        self.download_to(&mut out)?;
        Ok(out)
    }

    /// As [`download`](Self::download), as many bytes as there is room for and no more than there are.
    pub fn download_to(&self, to: &mut [u8]) -> Result<(), DeviceError> {
        match self {
            Window::Cuda(window) => window.download_to(to),
            Window::Metal(window) => Ok(window.download_to(to)?),
        }
    }

    /// Overwrites the first bytes, after all launches that were given this memory before. Waits.
    pub fn upload(&self, from: &[u8]) -> Result<(), DeviceError> {
        match self {
            Window::Cuda(window) => window.upload(from),
            Window::Metal(window) => Ok(window.upload(from)?),
        }
    }

    /// Sets all bytes to zero, after all launches that were given this memory before. Waits.
    pub fn clear(&self) -> Result<(), DeviceError> {
        match self {
            Window::Cuda(window) => window.clear(),
            Window::Metal(window) => Ok(window.clear()?),
        }
    }

    /// On an NVIDIA GPU.
    pub fn cuda(self) -> Option<cuda::Window<'a>> {
        match self {
            Window::Cuda(window) => Some(window),
            Window::Metal(_) => None,
        }
    }

    /// On an Apple GPU.
    pub fn metal(self) -> Option<metal::Window<'a>> {
        match self {
            Window::Metal(window) => Some(window),
            Window::Cuda(_) => None,
        }
    }
}
