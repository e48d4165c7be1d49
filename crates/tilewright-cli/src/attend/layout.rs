//! How the axes of the file's tensors lie: every tensor is seen head-major, whatever the file's order.

use tilewright::prelude::{Tensor, TensorError, TensorView, TensorViewMut};

/// How q, k, v (codes and pages too) and o lie in the file. `lse` is `[B,H,L]` and `mask` `[B,H,Lq,L]` in both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Layout {
    /// Head-major: `[B,H,L,D]`, or `[H,L,D]`.
    Bhld,
    /// Sequence-major: `[B,L,H,D]`, or `[L,H,D]`.
    Blhd,
}

impl Layout {
    /// The tensor seen as `[batch, heads, len, dim]`.
    pub fn view(self, tensor: &Tensor) -> Result<TensorView<'_>, TensorError> {
        let (shape, strides) = self.head_major(tensor.shape());
        tensor.view().with_strides(&shape, &strides)
    }

    /// As [`view`](Self::view), to be written.
    pub fn view_mut(self, tensor: &mut Tensor) -> Result<TensorViewMut<'_>, TensorError> {
        let (shape, strides) = self.head_major(tensor.shape());
        tensor.view_mut().with_strides(&shape, &strides)
    }

    /// The shape `[batch, heads, len, dim]` of a tensor of rank 3 or 4 in this layout. Missing axes are 1.
    pub fn shape(self, shape: &[usize]) -> [usize; 4] {
        self.head_major(shape).0
    }

    /// Shape and strides, head-major, of a contiguous tensor.
    fn head_major(self, shape: &[usize]) -> ([usize; 4], [usize; 4]) {
        let mut full = [1; 4];
        for (to, from) in full.iter_mut().rev().zip(shape.iter().rev()) {
            *to = *from;
        }
        let [batch, x, y, dim] = full;
        // An empty axis has no neighbours: any stride will do, and 0 would overlap outputs.
        let row = dim.max(1);
        let (inner, outer) = (y.max(1) * row, x.max(1) * y.max(1) * row);
        match self {
            Layout::Bhld => ([batch, x, y, dim], [outer, inner, row, 1]),
            Layout::Blhd => ([batch, y, x, dim], [outer, row, inner, 1]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_major_is_head_major_with_other_strides() {
        assert_eq!(Layout::Bhld.head_major(&[2, 5, 3, 8]), ([2, 5, 3, 8], [120, 24, 8, 1]));
        assert_eq!(Layout::Blhd.head_major(&[2, 5, 3, 8]), ([2, 3, 5, 8], [120, 8, 24, 1]));
        assert_eq!(Layout::Blhd.head_major(&[5, 3, 8]), ([1, 3, 5, 8], [120, 8, 24, 1]));
    }
}
