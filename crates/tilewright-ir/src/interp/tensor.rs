//! Tensors that a kernel is run on.

use super::InterpError;
use crate::types::Elem;

/// A tensor in memory of its own. Element `[i, j, …]` is `data[offset + i * strides[0] + j * strides[1] + …]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    /// The type of each element.
    pub elem: Elem,
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// How many elements apart neighbours along each axis lie; may be 0 or negative.
    pub strides: Vec<isize>,
    /// Where the first element is.
    pub offset: usize,
    /// Values of the element type.
    pub data: Vec<f64>,
}

impl Tensor {
    /// A contiguous tensor, row-major, of these values rounded to the type as a store would round them.
    ///
    /// # Errors
    /// [`InterpError::Count`] when their number is not that of the shape.
    pub fn new(elem: Elem, shape: &[usize], values: impl IntoIterator<Item = f64>) -> Result<Tensor, InterpError> {
        let data: Vec<f64> = values.into_iter().map(|x| elem.nearest(x)).collect();
        let wanted = shape.iter().fold(1usize, |n, &extent| n.saturating_mul(extent));
        if data.len() != wanted {
            return Err(InterpError::Count { shape: shape.to_vec(), wanted, got: data.len() });
        }
        Ok(Tensor { elem, shape: shape.to_vec(), strides: contiguous(shape), offset: 0, data })
    }

    /// A contiguous tensor of zeros.
    ///
    /// # Errors
    /// [`InterpError::Memory`] when that many elements cannot be had.
    pub fn zeros(elem: Elem, shape: &[usize]) -> Result<Tensor, InterpError> {
        let count = shape.iter().fold(1usize, |n, &extent| n.saturating_mul(extent));
        let mut data = Vec::new();
        data.try_reserve_exact(count).map_err(|_| InterpError::Memory { shape: shape.to_vec() })?;
        data.resize(count, 0.0);
        Ok(Tensor { elem, shape: shape.to_vec(), strides: contiguous(shape), offset: 0, data })
    }

    /// The element at these coordinates, one an axis; `None` outside.
    pub fn get(&self, index: &[usize]) -> Option<f64> {
        if index.len() != self.shape.len() || index.iter().zip(&self.shape).any(|(i, extent)| i >= extent) {
            return None;
        }
        let steps = index.iter().zip(&self.strides).map(|(&i, &stride)| i as i128 * stride as i128);
        let place = self.offset as i128 + steps.sum::<i128>();
        self.data.get(usize::try_from(place).ok()?).copied()
    }

    /// All elements in row-major order of the shape, whatever the strides; those outside the data are NaN.
    pub fn to_vec(&self) -> Vec<f64> {
        let mut out = Vec::new();
        if self.shape.contains(&0) {
            return out;
        }
        let mut index = vec![0; self.shape.len()];
        loop {
            out.push(self.get(&index).unwrap_or(f64::NAN));
            let mut axis = index.len();
            loop {
                if axis == 0 {
                    return out;
                }
                axis -= 1;
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
    }

    /// The least and the greatest place in `data` that the shape reaches; `None` for a tensor without elements.
    pub(crate) fn reach(&self) -> Option<(i128, i128)> {
        if self.shape.contains(&0) {
            return None;
        }
        let start = self.offset as i128;
        Some(self.shape.iter().zip(&self.strides).fold((start, start), |(low, high), (&extent, &stride)| {
            // A product of two 64-bit numbers, and a sum of few, fit 128 bits; beyond that they are far outside anyway.
            let far = (extent as i128 - 1).saturating_mul(stride as i128);
            (low.saturating_add(far.min(0)), high.saturating_add(far.max(0)))
        }))
    }
}

fn contiguous(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for axis in (1..shape.len()).rev() {
        let extent = isize::try_from(shape[axis]).unwrap_or(isize::MAX);
        strides[axis - 1] = strides[axis].saturating_mul(extent);
    }
    strides
}

/// What a kernel is given for one parameter.
#[derive(Clone, PartialEq, Debug)]
pub enum Arg {
    /// For a view.
    Tensor(Tensor),
    /// For a scalar: rounded to a float type, refused when an integer type cannot hold it.
    Scalar(f64),
}

impl Arg {
    /// The tensor, if it is one.
    pub fn tensor(&self) -> Option<&Tensor> {
        match self {
            Arg::Tensor(tensor) => Some(tensor),
            Arg::Scalar(_) => None,
        }
    }
}

impl From<Tensor> for Arg {
    fn from(tensor: Tensor) -> Arg {
        Arg::Tensor(tensor)
    }
}

impl From<f64> for Arg {
    fn from(scalar: f64) -> Arg {
        Arg::Scalar(scalar)
    }
}
