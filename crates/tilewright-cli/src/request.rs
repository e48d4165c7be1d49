//! From the tensors of a file to the views of an attention call.

use crate::error::CliError;
use crate::output;
use crate::tensors::{TensorFile, rounded};
use std::path::Path;
use tilewright::prelude::{Elem, Tensor, TensorError, TensorView, TensorViewMut};

/// How q, k, v and o lie in the file. `lse` is `[B,H,L]` in both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Layout {
    /// Head-major: `[B,H,L,D]`, or `[H,L,D]`.
    Bhld,
    /// Sequence-major: `[B,L,H,D]`, or `[L,H,D]`.
    Blhd,
}

/// Tensors that an attention call takes.
const INPUTS: [&str; 4] = ["q", "k", "v", "kv_len"];
/// Tensors that its results are compared with.
const EXPECTED: [&str; 2] = ["o", "lse"];
/// Tensors of the design that this version refuses by name.
const LATER: [&str; 6] = ["mask", "sinks", "alibi", "ring_start", "tree", "pages"];
/// Suffixes of a quantised `k` or `v`, refused by name as well.
const LATER_SUFFIXES: [&str; 3] = ["w", "scales", "biases"];

/// The tensors of one attention call, as they lie in the file.
pub struct Inputs {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Layout,
    /// Valid keys of each batch entry.
    pub kv_len: Option<Vec<i32>>,
    /// `o` of the file, in the layout of q.
    pub expected_o: Option<Tensor>,
    /// `lse` of the file.
    pub expected_lse: Option<Tensor>,
    /// Whether q, k or v were rounded to a narrower type on the way in.
    pub rounded: bool,
}

impl Inputs {
    /// Reads what the call needs, and refuses every tensor that it does not know. With `dtype`, q, k and v are rounded to it.
    ///
    /// # Errors
    /// Missing, unknown or misshapen tensors, and element types that are no floats.
    pub fn read(path: &Path, layout: Layout, dtype: Option<Elem>) -> Result<Inputs, CliError> {
        let file = TensorFile::read(path)?;
        file.names().try_for_each(known)?;

        let mut narrowed = false;
        let mut floats = |name| {
            let tensor = file.floats(name)?;
            let Some(to) = dtype else { return Ok(tensor) };
            narrowed |= !holds(to, tensor.elem());
            let Some(rounded) = rounded(&tensor, to)? else { return Ok::<_, CliError>(tensor) };
            let infinite = |t: &Tensor| t.view().to_f64().into_iter().filter(|x| x.is_infinite()).count();
            let overflowed = infinite(&rounded) - infinite(&tensor); // rounding keeps infinities
            if overflowed > 0 {
                output::warn(format!(
                    "{overflowed} of the numbers of `{name}` are too large for {to} and become infinite"
                ));
            }
            Ok(rounded)
        };
        let (q, k, v) = (floats("q")?, floats("k")?, floats("v")?);
        let rank = q.shape().len();
        for (name, tensor) in [("q", &q), ("k", &k), ("v", &v)] {
            let wanted = match tensor.shape().len() {
                3 | 4 if tensor.shape().len() == rank => continue,
                3 | 4 => format!("the rank of q, {rank},"),
                _ => match layout {
                    Layout::Bhld => "[B,H,L,D] or [H,L,D]".to_string(),
                    Layout::Blhd => "[B,L,H,D] or [L,H,D]".to_string(),
                },
            };
            return Err(CliError::Tensor { name: name.to_string(), got: describe(tensor), wanted });
        }

        let mut inputs =
            Inputs { q, k, v, layout, kv_len: None, expected_o: None, expected_lse: None, rounded: narrowed };
        if file.has("kv_len") {
            inputs.kv_len = Some(file.integers("kv_len", inputs.logical_q()[0])?);
        }
        if file.has("o") {
            inputs.expected_o = Some(shaped("o", file.floats("o")?, &inputs.o_shape())?);
        }
        if file.has("lse") {
            inputs.expected_lse = Some(shaped("lse", file.floats("lse")?, &inputs.lse_shape())?);
        }
        Ok(inputs)
    }

    /// Queries `[batch, q_heads, q_len, head_dim]`.
    pub fn q(&self) -> Result<TensorView<'_>, TensorError> {
        self.head_major(&self.q)
    }

    /// Keys `[batch, kv_heads, capacity, head_dim]`.
    pub fn k(&self) -> Result<TensorView<'_>, TensorError> {
        self.head_major(&self.k)
    }

    /// Values `[batch, kv_heads, capacity, value_dim]`.
    pub fn v(&self) -> Result<TensorView<'_>, TensorError> {
        self.head_major(&self.v)
    }

    /// A tensor in the file's layout, seen as `[batch, heads, len, dim]`.
    pub fn head_major<'a>(&self, tensor: &'a Tensor) -> Result<TensorView<'a>, TensorError> {
        let (shape, strides) = head_major(tensor.shape(), self.layout);
        tensor.view().with_strides(&shape, &strides)
    }

    /// As [`head_major`](Self::head_major), to be written.
    pub fn head_major_mut<'a>(&self, tensor: &'a mut Tensor) -> Result<TensorViewMut<'a>, TensorError> {
        let (shape, strides) = head_major(tensor.shape(), self.layout);
        tensor.view_mut().with_strides(&shape, &strides)
    }

    /// The shape of `o` in the file: rank and layout of q, the last axis of v.
    pub fn o_shape(&self) -> Vec<usize> {
        let mut shape = self.q.shape().to_vec();
        if let (Some(to), Some(from)) = (shape.last_mut(), self.v.shape().last()) {
            *to = *from;
        }
        shape
    }

    /// The shape of `lse` in the file: `[B,H,L]`, or `[H,L]` where q has rank 3.
    pub fn lse_shape(&self) -> Vec<usize> {
        self.logical_q()[4 - self.q.shape().len()..3].to_vec() // q has rank 3 or 4
    }

    /// The shape of q as `[batch, q_heads, q_len, head_dim]`.
    pub fn logical_q(&self) -> [usize; 4] {
        head_major(self.q.shape(), self.layout).0
    }
}

fn known(name: &str) -> Result<(), CliError> {
    let quantised = |of: &str| {
        name.strip_prefix(of).and_then(|rest| rest.strip_prefix('.')).is_some_and(|s| LATER_SUFFIXES.contains(&s))
    };
    if INPUTS.contains(&name) || EXPECTED.contains(&name) {
        Ok(())
    } else if LATER.contains(&name) || quantised("k") || quantised("v") {
        Err(CliError::LaterTensor { name: name.to_string() })
    } else {
        Err(CliError::UnknownTensor { name: name.to_string() })
    }
}

/// Whether every number of type `narrow` is one of type `wide`.
fn holds(wide: Elem, narrow: Elem) -> bool {
    wide == Elem::F32 || wide == narrow
}

fn shaped(name: &str, tensor: Tensor, wanted: &[usize]) -> Result<Tensor, CliError> {
    if tensor.shape() == wanted {
        return Ok(tensor);
    }
    let (got, wanted) = (describe(&tensor), format!("shape {wanted:?}"));
    Err(CliError::Tensor { name: name.to_string(), got, wanted })
}

fn describe(tensor: &Tensor) -> String {
    format!("{} {:?}", tensor.elem(), tensor.shape())
}

/// Shape and strides, head-major, of a contiguous tensor of rank 3 or 4 in this layout. Missing axes are 1.
fn head_major(shape: &[usize], layout: Layout) -> ([usize; 4], [usize; 4]) {
    let mut full = [1; 4];
    for (to, from) in full.iter_mut().rev().zip(shape.iter().rev()) {
        *to = *from;
    }
    let [batch, x, y, dim] = full;
    // An empty axis has no neighbours: any stride will do, and 0 would overlap outputs.
    let row = dim.max(1);
    let (inner, outer) = (y.max(1) * row, x.max(1) * y.max(1) * row);
    match layout {
        Layout::Bhld => ([batch, x, y, dim], [outer, inner, row, 1]),
        Layout::Blhd => ([batch, y, x, dim], [outer, row, inner, 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_major_is_head_major_with_other_strides() {
        assert_eq!(head_major(&[2, 5, 3, 8], Layout::Bhld), ([2, 5, 3, 8], [120, 24, 8, 1]));
        assert_eq!(head_major(&[2, 5, 3, 8], Layout::Blhd), ([2, 3, 5, 8], [120, 8, 24, 1]));
        assert_eq!(head_major(&[5, 3, 8], Layout::Blhd), ([1, 3, 5, 8], [120, 8, 24, 1]));
    }

    #[test]
    fn only_names_with_a_meaning_are_read() {
        for name in ["q", "k", "v", "kv_len", "o", "lse"] {
            assert!(known(name).is_ok());
        }
        for name in ["mask", "sinks", "alibi", "ring_start", "tree", "pages", "k.w", "v.scales", "k.biases"] {
            assert!(matches!(known(name), Err(CliError::LaterTensor { .. })), "{name}");
        }
        for name in ["Q", "query", "k.", "k.weight", "q.w", "kvlen", ""] {
            assert!(matches!(known(name), Err(CliError::UnknownTensor { .. })), "{name}");
        }
    }
}
