//! New tokens into the tensors of a cache, as they are or as codes.

use super::error::CacheError;
use super::launch::compiled;
use super::new_tokens::NewTokens;
use super::tensors::{BATCH, Codes, LENGTH, axes, float, same};
use crate::error::AttentionError;
use crate::kernels::{CacheAppend, CacheAppendArgs, CacheQuantise, CacheQuantiseArgs};
use crate::quant::{Affine, Rounding};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor, TensorView, TensorViewMut};

/// Where new tokens go: the first `counts[b]` rows of batch entry `b` to positions `positions[b]` and on.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// How positions are slots.
    pub slots: Slots<'a>,
    /// Position of the first new token; one a batch entry.
    pub positions: &'a [usize],
    /// New tokens; one a batch entry.
    pub counts: &'a [usize],
}

/// How positions are slots of a cache's tensors.
#[derive(Clone, Copy, Debug)]
pub enum Slots<'a> {
    /// Position `p` is slot `p`; past the last is refused.
    Contiguous,
    /// Position `p` is slot `p mod capacity`. Of more new tokens than slots, only the last are written.
    Ring,
    /// Position `p` is slot `p mod page_size` of page `table[b][p / page_size]`; the tensors are `[pages, heads, page_size, …]`.
    Paged(&'a [i32]),
}

/// Affine codes to be written; the axes are those of [`Codes`].
#[derive(Debug)]
pub struct CodesMut<'a> {
    /// u32 words.
    pub w: TensorViewMut<'a>,
    /// In the activation type.
    pub scales: TensorViewMut<'a>,
    /// Like the scales.
    pub biases: TensorViewMut<'a>,
    /// Bits and groups.
    pub format: Affine,
}

/// Affine codes in tensors of their own.
#[derive(Clone, Debug)]
pub struct CodeTensors {
    /// u32 words.
    pub w: Tensor,
    /// In the activation type.
    pub scales: Tensor,
    /// Like the scales.
    pub biases: Tensor,
    /// Bits and groups.
    pub format: Affine,
}

/// Writes tokens x `[batch, heads, n, dim]` into a cache tensor `[batch, heads, capacity, dim]` of the same type, and no
/// other byte.
///
/// # Errors
/// Tensors and numbers that do not fit each other, [`CacheError::Overflow`] past the capacity; nothing is written then.
pub fn append(
    device: &Device,
    x: TensorView<'_>,
    to: TensorViewMut<'_>,
    at: &Destination<'_>,
) -> Result<(), CacheError> {
    let new = NewTokens::of(&x)?;
    new.matches_type("the cache", to.elem())?;
    let slots = new.matches("the cache", to.shape(), new.dim, at)?;
    let Some(run) = new.run(at, slots)? else { return Ok(()) };
    let spec = CacheAppend { tokens: run.tokens, dim: new.dim, placement: run.placement };
    let pipeline = compiled!(device, spec, new.elem)?;
    let [position, first, end] = run.each_entry()?;
    run.launch(device, &pipeline, CacheAppendArgs { x, position, first, end, to }.bind(), at)
}

/// Encodes tokens x `[batch, heads, n, dim]` and writes the codes into a cache's tensors, and no other byte.
///
/// # Errors
/// As [`append`], and a head dim that the group does not divide.
pub fn quantise_append(
    device: &Device,
    x: TensorView<'_>,
    to: CodesMut<'_>,
    at: &Destination<'_>,
    rounding: Rounding,
) -> Result<(), CacheError> {
    let new = NewTokens::of(&x)?;
    let CodesMut { w, scales, biases, format } = to;
    let (words, groups) = (format.words(new.dim)?, format.groups(new.dim)?);
    if w.elem() != Elem::U32 {
        return Err(AttentionError::Element { tensor: "w", got: w.elem(), wanted: "u32" }.into());
    }
    new.matches_type("scales", scales.elem())?;
    new.matches_type("biases", biases.elem())?;
    let slots = new.matches("w", w.shape(), words, at)?;
    for (name, part) in [("scales", &scales), ("biases", &biases)] {
        let of = new.matches(name, part.shape(), groups, at)?;
        same(name, [BATCH, LENGTH], [of.outer, of.count], "w", [slots.outer, slots.count])?;
    }
    let Some(run) = new.run(at, slots)? else { return Ok(()) };
    let spec = CacheQuantise { tokens: run.tokens, dim: new.dim, format, rounding, placement: run.placement };
    let pipeline = compiled!(device, spec, new.elem)?;
    let [position, first, end] = run.each_entry()?;
    let own = CacheQuantiseArgs { x, position, first, end, w, scales, biases };
    run.launch(device, &pipeline, own.bind(), at)
}

/// Encodes x `[batch, heads, n, dim]`, f32, f16 or bf16, into tensors of its own.
///
/// # Errors
/// Another rank or type, a strided last axis, and a head dim that the group does not divide.
pub fn quantise(
    device: &Device,
    x: TensorView<'_>,
    format: Affine,
    rounding: Rounding,
) -> Result<CodeTensors, CacheError> {
    let [batch, heads, n, dim] = axes("x", &x)?;
    let mut codes = CodeTensors::zeros(format, float("x", &x)?, [batch, heads, n], dim)?;
    let (positions, counts) = (vec![0; batch], vec![n; batch]);
    let at = Destination { slots: Slots::Contiguous, positions: &positions, counts: &counts };
    quantise_append(device, x, codes.view_mut(), &at, rounding)?;
    Ok(codes)
}

impl CodeTensors {
    /// Codes, scales and biases of zero for `[batch, heads, slots]` vectors of `dim` numbers of type `elem`.
    ///
    /// # Errors
    /// A head dim that the group does not divide, and sizes that cannot be allocated.
    pub fn zeros(
        format: Affine,
        elem: Elem,
        [batch, heads, slots]: [usize; 3],
        dim: usize,
    ) -> Result<CodeTensors, CacheError> {
        let (words, groups) = (format.words(dim)?, format.groups(dim)?);
        let of_groups = || Tensor::zeros(elem, &[batch, heads, slots, groups]);
        let w = Tensor::zeros(Elem::U32, &[batch, heads, slots, words])?;
        Ok(CodeTensors { w, scales: of_groups()?, biases: of_groups()?, format })
    }

    /// To be read.
    pub fn view(&self) -> Codes<'_> {
        let CodeTensors { w, scales, biases, format } = self;
        Codes { w: w.view(), scales: scales.view(), biases: biases.view(), format: *format }
    }

    /// To be written.
    pub fn view_mut(&mut self) -> CodesMut<'_> {
        let CodeTensors { w, scales, biases, format } = self;
        CodesMut { w: w.view_mut(), scales: scales.view_mut(), biases: biases.view_mut(), format: *format }
    }
}
