//! One number a head, as features take them.

use crate::attention::Extents;
use std::sync::Arc;
use tilewright_ir::Elem;
use tilewright_runtime::{Tensor, TensorView};

/// Numbers `[q_heads]` f32, and the same for references.
#[derive(Clone, Debug)]
pub(super) struct PerHead {
    tensor: Arc<Tensor>,
    numbers: Vec<f64>,
}

impl PerHead {
    pub(super) fn new(tensor: Arc<Tensor>) -> PerHead {
        let numbers = tensor.to_f64();
        PerHead { tensor, numbers }
    }

    /// Refuses another type or shape, and numbers that are not `allowed`, with what is expected instead.
    pub(super) fn check(&self, shape: &Extents, allowed: fn(f64) -> bool, expected: &str) -> Result<(), String> {
        if self.tensor.elem() != Elem::F32 || self.tensor.shape() != [shape.q_heads] {
            let (elem, got) = (self.tensor.elem(), self.tensor.shape());
            return Err(format!("a tensor of {elem} {got:?}; give f32 [{}], one number a query head", shape.q_heads));
        }
        match self.numbers.iter().position(|&x| !allowed(x)) {
            Some(head) => Err(format!("{} for head {head}; give {expected}", self.numbers[head])),
            None => Ok(()),
        }
    }

    pub(super) fn view(&self) -> TensorView<'_> {
        self.tensor.view()
    }

    /// The number of a head that [`check`](PerHead::check) found there.
    pub(super) fn of(&self, head: usize) -> f64 {
        self.numbers[head]
    }
}

/// A tensor of one number for each of so many heads, for samples and cases.
pub(super) fn for_heads(heads: usize, number: impl Fn(usize) -> f64) -> Tensor {
    let numbers: Vec<f32> = (0..heads).map(|head| number(head) as f32).collect();
    // Made one line before with so many numbers, so the shape fits.
    Tensor::from_slice(&numbers, &[heads]).expect("one number a head has that shape")
}
