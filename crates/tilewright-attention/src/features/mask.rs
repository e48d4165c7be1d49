//! A mask given as a tensor: which pairs are attended, or what is added to their scores.

mod cases;
mod classes;

pub(super) use cases::ENTRY;
pub(crate) use cases::{additive, boolean, made};
pub use classes::{ClassMap, ClassifiedMask};

use crate::attention::Extents;
use crate::error::AttentionError;
use crate::feature::{Feature, Input, InputValue, Keys, MaskHook, Pair, Pairs, Queries};
use std::fmt;
use std::sync::Arc;
use tilewright_ir::Elem;
use tilewright_lang::prelude::*;
use tilewright_runtime::{Tensor, TensorView};

/// Which pairs are attended, as a tensor of rank 1 `[kv]`, 2 `[q, kv]`, 3 `[heads, q, kv]` or 4 `[batch, heads, q, kv]`.
///
/// Every axis but the last may be 1 and then serves all. The last axis counts logical keys; keys past its end are blocked.
/// Cheap to clone: clones share the tensor.
///
/// | elements | meaning |
/// | --- | --- |
/// | bool, u8 | a pair is attended where the cell is not zero |
/// | f32, f16, bf16, whatever the type of q | the cell is added to the score, in natural units; `-inf` blocks the pair |
///
/// A large negative number is added like any other. A cell that is NaN or `+inf` makes the row NaN, as the formula does.
#[derive(Clone)]
pub struct Mask {
    tensor: Arc<Tensor>,
    /// `[batch, heads, q, kv]`.
    shape: [usize; 4],
    cells: Cells,
    each: Each,
}

/// What the cells are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cells {
    /// bool, and u8, whose bytes mean the same.
    Bool,
    F32,
    F16,
    Bf16,
}

/// The axes along which the cells differ; the others have extent 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Each {
    batch: bool,
    head: bool,
    query: bool,
}

impl Cells {
    fn elem(self) -> Elem {
        match self {
            Cells::Bool => Elem::Bool,
            Cells::F32 => Elem::F32,
            Cells::F16 => Elem::F16,
            Cells::Bf16 => Elem::Bf16,
        }
    }
}

impl Mask {
    /// A mask of these cells.
    ///
    /// # Errors
    /// A rank other than 1 to 4, or elements that are no cells of a mask.
    pub fn new(tensor: impl Into<Arc<Tensor>>) -> Result<Mask, AttentionError> {
        let tensor = tensor.into();
        let refuse = |reason: String| Err(AttentionError::Feature { feature: "mask".to_string(), reason });
        let given = tensor.shape();
        if given.is_empty() {
            return refuse("it has rank 0; give `[kv]`, `[q, kv]`, `[heads, q, kv]` or `[batch, heads, q, kv]`".into());
        }
        let cells = match tensor.elem() {
            Elem::Bool | Elem::U8 => Cells::Bool,
            Elem::F32 => Cells::F32,
            Elem::F16 => Cells::F16,
            Elem::Bf16 => Cells::Bf16,
            elem @ (Elem::I32 | Elem::U32 | Elem::I8) => {
                return refuse(format!(
                    "it holds {elem}; bool and u8 say what is attended, f32, f16 and bf16 are added"
                ));
            }
        };
        let mut shape = [1; 4];
        shape[4 - given.len()..].copy_from_slice(given); // a tensor has at most 4 axes
        let [batch, head, query, _] = shape.map(|extent| extent != 1);
        Ok(Mask { tensor, shape, cells, each: Each { batch, head, query } })
    }

    /// Its extents as `[batch, heads, q, kv]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The cells as they were given.
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// What the cell of a pair adds to the score; `None` where it blocks.
    fn cell(&self, at: &Pair) -> Option<f64> {
        let [_, heads, queries, keys] = self.shape;
        let key = usize::try_from(at.key).ok().filter(|&key| key < keys)?;
        let along = |each, index| if each { index } else { 0 };
        let plane = along(self.each.batch, at.batch) * heads + along(self.each.head, at.head);
        let cell = (plane * queries + along(self.each.query, at.row)) * keys + key;
        let bytes = self.tensor.as_bytes().get(cell * self.cells.elem().bytes()..)?;
        let added = match self.cells {
            Cells::Bool => return bytes.first().filter(|&&byte| byte != 0).map(|_| 0.0),
            Cells::F32 => f64::from(f32::from_ne_bytes(*bytes.first_chunk()?)),
            Cells::F16 => f64::from(f16::from_ne_bytes(*bytes.first_chunk()?)),
            Cells::Bf16 => f64::from(bf16::from_ne_bytes(*bytes.first_chunk()?)),
        };
        (added != f64::NEG_INFINITY).then_some(added)
    }

    /// The cells of a tile of pairs, `[rows or 1, keys]`; zero past the tensor's end.
    #[track_caller]
    fn load<E: Element>(&self, at: &Pairs) -> Tile<E> {
        let of_batch = launch_view::<E, 4>(INPUT).at(self.batch(at));
        let (first_head, heads) = if self.each.head { (at.first_head, at.heads) } else { (scalar(0), 1) };
        let (first_row, queries) = if self.each.query { (at.first_row, at.queries) } else { (scalar(0), 1) };
        at.spread(of_batch.load([first_head, first_row, at.first_key], [heads, queries, at.keys]))
    }

    #[track_caller]
    fn batch(&self, at: &Queries) -> Scalar<i32> {
        if self.each.batch { at.batch } else { scalar(0) }
    }

    /// How many keys the mask says something about.
    #[track_caller]
    fn keys(&self) -> Scalar<i32> {
        match self.cells {
            Cells::Bool => launch_view::<bool, 4>(INPUT).len(3),
            Cells::F32 => launch_view::<f32, 4>(INPUT).len(3),
            Cells::F16 => launch_view::<f16, 4>(INPUT).len(3),
            Cells::Bf16 => launch_view::<bf16, 4>(INPUT).len(3),
        }
    }

    /// The tensor as the kernel sees it.
    fn view(&self) -> Option<TensorView<'_>> {
        // It always fits: the elements are as many and as wide as they were.
        TensorView::from_bytes(self.cells.elem(), self.tensor.as_bytes(), &self.shape).ok()
    }
}

/// The name of the tensor among the kernel's parameters.
const INPUT: &str = "mask";

impl SpecValue for Mask {
    /// `mask(bool,heads,q)`: the type of the cells and the axes along which they differ.
    fn key(&self, key: &mut String) {
        let axes = [(self.each.batch, ",batch"), (self.each.head, ",heads"), (self.each.query, ",q")];
        let axes: String = axes.into_iter().filter(|(each, _)| *each).map(|(_, name)| name).collect();
        key.push_str(&format!("mask({}{axes})", self.cells.elem()));
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({} {:?})", self.tensor.elem(), self.shape)
    }
}

impl Feature for Mask {
    fn check(&self, shape: &Extents, _: &[i32]) -> Result<(), String> {
        let [batch, heads, queries, keys] = self.shape;
        for (axis, got, wanted) in
            [("batch", batch, shape.batch), ("heads", heads, shape.q_heads), ("q", queries, shape.q_len)]
        {
            if got != wanted && got != 1 {
                return Err(format!("its axis `{axis}` has {got} places and the problem {wanted}; give {wanted} or 1"));
            }
        }
        // Without batch entries a page table says nothing of the key axis, and there is nothing to attend.
        if keys > shape.capacity && shape.batch > 0 {
            let capacity = shape.capacity;
            return Err(format!("it has {keys} keys and the key axis {capacity}; give at most {capacity}"));
        }
        Ok(())
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        self.view().map(|view| Input { name: INPUT, value: InputValue::Tensor(view) }).into_iter().collect()
    }

    fn mask(&self) -> Option<&dyn MaskHook> {
        Some(self)
    }
}

#[tile]
impl MaskHook for Mask {
    fn attended(&self, at: &Pairs) -> Tile<bool> {
        match (self.cells, self.bias(at)) {
            (Cells::F32 | Cells::F16 | Cells::Bf16, Some(bias)) => (bias != f32::NEG_INFINITY) & (at.key < self.keys()),
            (Cells::Bool, _) | (_, None) => self.load::<bool>(at),
        }
    }

    fn reference(&self, at: &Pair) -> bool {
        self.cell(at).is_some()
    }

    fn may(&self, _: &Queries, all: Keys) -> Keys {
        Keys { end: all.end.min(self.keys()), ..all }
    }

    fn bias(&self, at: &Pairs) -> Option<Tile<f32>> {
        match self.cells {
            Cells::Bool => None,
            Cells::F32 => Some(self.load::<f32>(at)),
            Cells::F16 => Some(self.load::<f16>(at).cast()),
            Cells::Bf16 => Some(self.load::<bf16>(at).cast()),
        }
    }

    fn reference_bias(&self, at: &Pair) -> f64 {
        self.cell(at).unwrap_or(0.0)
    }

    fn differs_by_head(&self) -> bool {
        self.each.head
    }
}
