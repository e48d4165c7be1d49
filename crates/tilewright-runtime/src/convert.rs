//! Tensors as f64 in row-major order, whatever their element type and strides: for references, checks and the
//! interpreter, not for speed.

use crate::error::TensorError;
use crate::tensor::{Layout, Memory, MemoryMut, Tensor, TensorView, TensorViewMut};
use tilewright_ir::Elem;

impl TensorView<'_> {
    /// Every element in row-major order of the logical shape. Exact; bool gives 0 or 1. Memory of a device is copied to the
    /// host first, which waits for the device.
    ///
    /// # Errors
    /// [`TensorError::Device`] when that copy fails; never for memory of the host.
    pub fn to_f64(&self) -> Result<Vec<f64>, TensorError> {
        Ok(match self.memory {
            Memory::Host(bytes) => decode_all(&self.layout, bytes),
            Memory::Gpu(window) => decode_all(&self.layout, &window.download(self.layout.span_bytes())?),
        })
    }

    /// A contiguous copy in memory of the host.
    ///
    /// # Errors
    /// As [`to_f64`](Self::to_f64), and a size that the system does not give.
    pub fn to_tensor(&self) -> Result<Tensor, TensorError> {
        let mut tensor = Tensor::zeros(self.elem(), self.shape())?;
        let width = self.elem().bytes();
        let row_major = tensor.view().layout;
        let in_order = (0..row_major.rank()).all(|axis| self.layout.stride(axis) == row_major.stride(axis));
        let mut gather = |from: &[u8]| {
            if in_order {
                let to = tensor.as_bytes_mut();
                return to.copy_from_slice(&from[..to.len()]);
            }
            let mut places = tensor.as_bytes_mut().chunks_exact_mut(width);
            for_each_offset(&self.layout, |offset| {
                if let Some(to) = places.next() {
                    to.copy_from_slice(&from[offset * width..][..width]);
                }
            });
        };
        match self.memory {
            Memory::Host(bytes) => gather(bytes),
            Memory::Gpu(window) => gather(&window.download(self.layout.span_bytes())?),
        }
        Ok(tensor)
    }
}

impl TensorViewMut<'_> {
    /// Every element in row-major order of the logical shape, as [`TensorView::to_f64`].
    ///
    /// # Errors
    /// As [`TensorView::to_f64`].
    pub fn to_f64(&self) -> Result<Vec<f64>, TensorError> {
        self.as_read().to_f64()
    }

    /// Overwrites the elements in row-major order, rounded to the element type (ties to even). Values beyond the tensor
    /// are ignored, and elements beyond the values keep what they hold.
    ///
    /// # Errors
    /// [`TensorError::Device`] when a copy to or from a device fails; never for memory of the host.
    pub fn copy_from_f64(&mut self, values: &[f64]) -> Result<(), TensorError> {
        match &mut self.memory {
            MemoryMut::Host(bytes) => encode_all(&self.layout, values, bytes),
            MemoryMut::Gpu(window) => {
                let mut bytes = window.download(self.layout.span_bytes())?; // what lies between the elements stays
                encode_all(&self.layout, values, &mut bytes);
                window.upload(&bytes)?;
            }
        }
        Ok(())
    }
}

impl Tensor {
    /// A tensor of these values in row-major order, rounded to the element type (ties to even).
    ///
    /// # Errors
    /// [`TensorError::Length`] when there is another number of values than the shape needs; rank above 4; axes above
    /// 2^31 - 1.
    pub fn from_f64(elem: Elem, values: &[f64], shape: &[usize]) -> Result<Tensor, TensorError> {
        let mut tensor = Tensor::zeros(elem, shape)?;
        let needed = tensor.view().layout.count();
        if needed != values.len() {
            return Err(TensorError::Length { shape: shape.to_vec(), needed, got: values.len() });
        }
        tensor.view_mut().copy_from_f64(values)?;
        Ok(tensor)
    }

    /// Every element in row-major order. Exact; bool gives 0 or 1.
    pub fn to_f64(&self) -> Vec<f64> {
        decode_all(&self.view().layout, self.as_bytes())
    }
}

fn decode_all(layout: &Layout, bytes: &[u8]) -> Vec<f64> {
    let mut out = Vec::with_capacity(layout.count());
    let width = layout.elem.bytes();
    for_each_offset(layout, |offset| out.push(decode(layout.elem, &bytes[offset * width..])));
    out
}

fn encode_all(layout: &Layout, values: &[f64], bytes: &mut [u8]) {
    let (elem, width) = (layout.elem, layout.elem.bytes());
    let mut values = values.iter();
    for_each_offset(layout, |offset| {
        if let Some(&value) = values.next() {
            encode(elem, value, &mut bytes[offset * width..]);
        }
    });
}

/// Calls `visit` with the place of every element, in elements, in row-major order.
fn for_each_offset(layout: &Layout, mut visit: impl FnMut(usize)) {
    let extents = &layout.shape[..layout.rank()];
    let mut index = [0usize; tilewright_ir::MAX_VIEW_RANK];
    for _ in 0..layout.count() {
        visit(index.iter().zip(&layout.strides).take(layout.rank()).map(|(i, s)| i * s).sum());
        for axis in (0..layout.rank()).rev() {
            index[axis] += 1;
            if index[axis] < extents[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// The first bytes of a slice that starts at an element: its layout was checked against the memory, so they are there.
fn head<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| bytes[i])
}

fn decode(elem: Elem, bytes: &[u8]) -> f64 {
    elem.from_bits(match elem.bytes() {
        1 => bytes[0].into(),
        2 => u16::from_ne_bytes(head(bytes)).into(),
        _ => u32::from_ne_bytes(head(bytes)),
    })
}

fn encode(elem: Elem, value: f64, bytes: &mut [u8]) {
    let bits = elem.to_bits(value);
    match elem.bytes() {
        1 => bytes[0] = bits as u8,
        2 => bytes[..2].copy_from_slice(&(bits as u16).to_ne_bytes()),
        _ => bytes[..4].copy_from_slice(&bits.to_ne_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_honoured_both_ways() {
        let mut data = [0i32; 12];
        let mut view = TensorViewMut::from_slice(&mut data, &[12]).unwrap().with_strides(&[2, 3], &[1, 4]).unwrap();
        view.copy_from_f64(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(view.to_f64().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(data, [1, 4, 0, 0, 2, 5, 0, 0, 3, 6, 0, 0]);
    }

    #[test]
    fn values_round_to_the_element_type() {
        let t = Tensor::from_f64(Elem::Bf16, &[1.0 + 1.0 / 256.0, f64::NEG_INFINITY], &[2]).unwrap();
        assert_eq!(t.to_f64(), [1.0, f64::NEG_INFINITY]);
        assert!(Tensor::from_f64(Elem::F32, &[1.0], &[2]).is_err());
    }

    #[test]
    fn a_value_just_above_a_tie_rounds_up() {
        let above = 1.0 + 1.0 / 256.0 + 1e-12;
        assert_eq!(Tensor::from_f64(Elem::Bf16, &[above, -above], &[2]).unwrap().to_f64(), [1.0078125, -1.0078125]);
        let below = 1.0 + 3.0 / 2048.0 - 1e-12;
        assert_eq!(Tensor::from_f64(Elem::F16, &[below], &[1]).unwrap().to_f64(), [1.0 + 1.0 / 1024.0]);
    }

    #[test]
    fn a_nonzero_byte_is_true() {
        let bytes = [0u8, 1, 200];
        assert_eq!(TensorView::from_bytes(Elem::Bool, &bytes, &[3]).unwrap().to_f64().unwrap(), [0.0, 1.0, 1.0]);
    }
}
