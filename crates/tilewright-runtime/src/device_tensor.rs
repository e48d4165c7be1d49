//! Tensors that a device owns.

use crate::cuda;
use crate::device::{Backend, Device};
use crate::error::{DeviceError, TensorError};
use crate::gpu::{Buffer, Stream};
use crate::tensor::{Layout, Memory, MemoryMut, Tensor, TensorView, TensorViewMut};
use std::any::Any;
use tilewright_ir::Elem;

/// A contiguous tensor in memory of a device, made by [`Device::upload`] and [`Device::zeros`]. Launches of that device use it
/// where it lies. On the cpu and the interpreter that is memory of the host.
///
/// A GPU works behind the host: what a launch that did not wait writes is there for launches on the same stream after it, and
/// for [`download`](Self::download). Between streams, [`Stream::wait`](Stream::wait) orders. The memory is given
/// back when all that uses it is done; dropping a tensor does not wait.
pub struct DeviceTensor {
    layout: Layout,
    place: Place,
}

enum Place {
    Host(Tensor),
    Gpu(Buffer),
}

impl Device {
    /// A contiguous copy of a tensor in memory of this device. Waits for the copy.
    ///
    /// # Errors
    /// [`TensorError::Device`] when the device gives no memory or the copy fails.
    pub fn upload(&self, tensor: TensorView<'_>) -> Result<DeviceTensor, TensorError> {
        let copy = tensor.to_tensor()?;
        let layout = copy.view().layout;
        let place = match self.allocate(copy.as_bytes().len())? {
            None => Place::Host(copy),
            Some(buffer) => {
                buffer.window().upload(copy.as_bytes())?;
                Place::Gpu(buffer)
            }
        };
        Ok(DeviceTensor { layout, place })
    }

    /// A tensor of zeros in memory of this device. Waits until it is cleared.
    ///
    /// # Errors
    /// A shape that no tensor can have; [`TensorError::Device`] when the device gives no memory.
    pub fn zeros(&self, elem: Elem, shape: &[usize]) -> Result<DeviceTensor, TensorError> {
        let layout = Layout::contiguous(elem, shape)?;
        let place = match self.allocate(layout.span_bytes())? {
            None => Place::Host(Tensor::zeros(elem, shape)?),
            Some(buffer) => {
                buffer.window().clear()?;
                Place::Gpu(buffer)
            }
        };
        Ok(DeviceTensor { layout, place })
    }

    /// Memory of the GPU, of undefined content; `None` where the device uses that of the host.
    fn allocate(&self, bytes: usize) -> Result<Option<Buffer>, DeviceError> {
        Ok(match self.backend() {
            Backend::Cpu(_) | Backend::Interp | Backend::External(_) => None,
            Backend::Cuda(cuda) => Some(Buffer::Cuda(cuda::Buffer::new(cuda.home(), bytes)?)),
            Backend::Metal(metal) => Some(Buffer::Metal(metal.allocate(bytes)?)),
        })
    }

    /// A contiguous tensor over GPU memory that somebody else allocated, for example a candle tensor; `owner` is held for as
    /// long as the result lives.
    ///
    /// # Safety
    /// `address` is a GPU address in this device's context, aligned to the element, from which on the shape's elements are
    /// readable and writable for as long as `owner` lives. The caller orders its own work on them with that of the streams
    /// that launches here are given, and nobody writes them while a launch reads them.
    ///
    /// # Errors
    /// A shape that no tensor can have, an address that is not aligned, and a device that is no NVIDIA GPU.
    pub unsafe fn borrow_gpu_memory(
        &self,
        elem: Elem,
        shape: &[usize],
        address: u64,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<DeviceTensor, TensorError> {
        let layout = Layout::contiguous(elem, shape)?;
        if !address.is_multiple_of(elem.bytes() as u64) {
            return Err(TensorError::Alignment { elem });
        }
        match self.backend() {
            Backend::Cpu(_) | Backend::Interp | Backend::Metal(_) | Backend::External(_) => {
                Err(DeviceError::Without { device: self.info().name, what: "memory of an NVIDIA GPU" }.into())
            }
            Backend::Cuda(cuda) => {
                // SAFETY: the caller's promise is the same.
                let buffer = unsafe { cuda::Buffer::of_caller(cuda.home(), address, layout.span_bytes(), owner) };
                Ok(DeviceTensor { layout, place: Place::Gpu(Buffer::Cuda(buffer)) })
            }
        }
    }
}

impl DeviceTensor {
    /// The element type.
    pub fn elem(&self) -> Elem {
        self.layout.elem
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.layout.shape[..self.layout.rank()]
    }

    /// To be read by a launch.
    pub fn view(&self) -> TensorView<'_> {
        let memory = match &self.place {
            Place::Host(tensor) => Memory::Host(tensor.as_bytes()),
            Place::Gpu(buffer) => Memory::Gpu(buffer.window()),
        };
        TensorView { layout: self.layout, memory }
    }

    /// To be written by a launch.
    pub fn view_mut(&mut self) -> TensorViewMut<'_> {
        let memory = match &mut self.place {
            Place::Host(tensor) => MemoryMut::Host(tensor.as_bytes_mut()),
            Place::Gpu(buffer) => MemoryMut::Gpu(buffer.window()),
        };
        TensorViewMut { layout: self.layout, memory }
    }

    /// A copy in memory of the host, after all launches that were given the tensor before. Waits for them.
    ///
    /// # Errors
    /// [`TensorError::Device`] when one of them, or the copy, failed.
    pub fn download(&self) -> Result<Tensor, TensorError> {
        match &self.place {
            Place::Host(tensor) => Ok(tensor.clone()),
            Place::Gpu(buffer) => {
                let mut tensor = Tensor::zeros(self.elem(), self.shape())?;
                buffer.window().download_to(tensor.as_bytes_mut())?;
                Ok(tensor)
            }
        }
    }

    /// Overwrites the elements, after all launches that were given the tensor before, and waits. The memory stays the same, so
    /// a recorded graph sees the new elements.
    ///
    /// # Errors
    /// [`TensorError::Mismatch`] when element type or shape are others; [`TensorError::Device`].
    pub fn copy_from(&mut self, from: TensorView<'_>) -> Result<(), TensorError> {
        self.check_like(&from)?;
        let copy = from.to_tensor()?;
        match &mut self.place {
            Place::Host(tensor) => *tensor = copy,
            Place::Gpu(buffer) => buffer.window().upload(copy.as_bytes())?,
        }
        Ok(())
    }

    /// The same without waiting: launches after it on this stream see the new elements, and those before it the old ones. What
    /// other streams do with the tensor is the caller's to order.
    ///
    /// # Errors
    /// As [`copy_from`](Self::copy_from); a stream that records a graph, and a device that is no GPU.
    pub fn copy_from_on(&mut self, stream: &Stream, from: TensorView<'_>) -> Result<(), TensorError> {
        self.check_like(&from)?;
        let copy = from.to_tensor()?;
        match &mut self.place {
            Place::Host(_) => Err(DeviceError::Without { device: "cpu", what: "streams" }.into()),
            Place::Gpu(buffer) => Ok(buffer.upload_on(stream, copy.as_bytes())?),
        }
    }

    fn check_like(&self, from: &TensorView<'_>) -> Result<(), TensorError> {
        if from.elem() == self.elem() && from.shape() == self.shape() {
            return Ok(());
        }
        let wanted = format!("{}{:?}", self.elem(), self.shape());
        Err(TensorError::Mismatch { wanted, got: format!("{}{:?}", from.elem(), from.shape()) })
    }
}

impl std::fmt::Debug for DeviceTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.elem(), self.shape())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpu_memory_means_nothing_to_the_cpu() {
        let device = Device::cpu_with_threads(1);
        let borrow = |address| {
            // SAFETY: refused before anything is read.
            unsafe { device.borrow_gpu_memory(Elem::F32, &[1], address, Box::new(())) }.map(|_| ())
        };
        let without = DeviceError::Without { device: "cpu", what: "memory of an NVIDIA GPU" };
        assert_eq!(borrow(4096), Err(TensorError::Device(without)));
        assert_eq!(borrow(4098), Err(TensorError::Alignment { elem: Elem::F32 }));
    }
}
