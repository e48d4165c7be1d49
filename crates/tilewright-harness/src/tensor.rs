//! What a launch is given.

use tilewright_ir::Elem;

/// A tensor in host memory that a kernel reads.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// The element type.
    pub elem: Elem,
    /// Extents, outermost first.
    pub shape: &'a [usize],
    /// Distance between neighbours along each axis, in elements.
    pub strides: &'a [usize],
    /// Memory from the element at index 0 of all axes on. What lies behind the last element that the shape reaches does not
    /// exist for the kernel.
    pub bytes: &'a [u8],
}

/// A tensor in host memory that a kernel writes.
#[derive(Debug)]
pub struct TensorMut<'a> {
    /// The element type.
    pub elem: Elem,
    /// Extents, outermost first.
    pub shape: &'a [usize],
    /// Distance between neighbours along each axis, in elements.
    pub strides: &'a [usize],
    /// As in [`Tensor::bytes`].
    pub bytes: &'a mut [u8],
}

/// What a parameter is given at launch.
#[derive(Debug)]
pub enum Arg<'a> {
    /// For a view that the kernel reads.
    Read(Tensor<'a>),
    /// For a view that the kernel writes.
    Write(TensorMut<'a>),
    /// For a scalar; rounded to the parameter's element type.
    Scalar(f64),
}

/// One past the last byte that a tensor reaches; `None` when that overflows or the strides are not one an axis.
pub(crate) fn reach(elem: Elem, shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.len() != strides.len() {
        return None;
    }
    if shape.contains(&0) {
        return Some(0);
    }
    let last = shape.iter().zip(strides).try_fold(0usize, |at, (&n, &s)| at.checked_add((n - 1).checked_mul(s)?));
    last?.checked_add(1)?.checked_mul(elem.bytes())
}
