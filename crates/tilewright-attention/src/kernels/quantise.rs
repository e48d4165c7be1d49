//! New tokens into a quantised cache.

use super::new_tokens::NewTokens;
use super::rounded::rounded;
use crate::cache::Placement;
use crate::quant::{Affine, Rounding};
use tilewright_lang::prelude::*;

/// Encodes tokens and writes their codes into a cache's tensors, and no other byte.
///
/// Row `i` of x goes to position `position + i`, for the rows `first..end` of each batch entry.
///
/// Shapes: x `[batch, heads, n, dim]`; position, first and end `[batch]`; w u32 `[batch, heads, capacity, dim * bits / 32]`,
/// scales and biases `[batch, heads, capacity, dim / group]`, or all three with `[pages, heads, page_size, …]` and `pages`
/// `[batch, pages]`. Grid: tiles of `tokens` rows, heads, batch.
///
/// # Source
/// The `affine` mode of MLX's `quantize` (Apple, <https://github.com/ml-explore/mlx>).
#[kernel(entry(E in [f32, f16, bf16]))]
pub fn cache_quantise<E: Float>(
    x: View<E, 4>,
    position: View<i32, 1>,
    first: View<i32, 1>,
    end: View<i32, 1>,
    w: ViewMut<u32, 4>,
    scales: ViewMut<E, 4>,
    biases: ViewMut<E, 4>,
    tokens: usize,
    dim: usize,
    format: Affine,
    rounding: Rounding,
    placement: Placement,
) {
    let [block, head, batch] = program_id();
    let new = NewTokens::new(block, tokens, batch, position, first, end);
    let (group, per_word) = (format.group.size(), format.bits.codes_per_word());
    let groups = dim / group;

    let rows = x.at(batch).at(head).load(new.row, [tokens, dim]);
    let encoded = encode(rows.reshape(&[tokens * groups, group]).cast(), format, rounding);
    let words = pack(encoded.codes, format).reshape(&[tokens, dim / per_word]);
    let scale = encoded.scale.cast().reshape(&[tokens, groups]);
    let bias = encoded.bias.cast().reshape(&[tokens, groups]);
    for run in new.runs(placement, w.len(2)) {
        run.store(w, head, words);
        run.store(scales, head, scale);
        run.store(biases, head, bias);
    }
}

/// Groups as codes: `[groups, group]`, with `[groups, 1]` scales and biases before they are rounded.
#[derive(Clone, Copy)]
struct Encoded {
    codes: Tile<u32>,
    scale: Tile<f32>,
    bias: Tile<f32>,
}

/// Encodes groups, one a row. A code that would be NaN is 0.
#[tile]
fn encode(x: Tile<f32>, format: Affine, rounding: Rounding) -> Encoded {
    let largest = format.bits.largest() as f32;
    let (low, high) = (x.min_along(1), x.max_along(1));
    let step = rounded(rounded(high - low) / largest).max(1e-7);
    let from_low = low.abs() > high.abs();
    let edge = from_low.select(low, high);
    let step = from_low.select(step, -step);
    // Snapping makes zero a code of its own wherever the group spans it.
    let at_zero = round(rounded(edge / step), rounding);
    let snaps = at_zero != 0.0;
    let scale = snaps.select(rounded(edge / at_zero), step);
    let bias = snaps.select(edge, 0.0);
    let codes = round(rounded(rounded(x - bias) / scale), rounding).max(0.0).min(largest).cast();
    Encoded { codes, scale, bias }
}

/// The nearest integer. The remainder of a truncation is exact, and NaN of an infinity, which stays as it is.
#[tile]
fn round(x: Tile<f32>, rounding: Rounding) -> Tile<f32> {
    match rounding {
        Rounding::TiesToEven => x.round(),
        Rounding::Away => {
            let whole = x.trunc();
            let rest = x - whole;
            whole + (rest >= 0.5).cast::<f32>() - (rest <= -0.5).cast::<f32>()
        }
    }
}

/// Codes `[n, m]` as words `[n * m * bits / 32, 1]`: those of a word have no bits in common, so their sum joins them.
#[tile]
fn pack(codes: Tile<u32>, format: Affine) -> Tile<u32> {
    let per_word = format.bits.codes_per_word();
    let count: usize = codes.dims().iter().product();
    let shifts = (iota(&[1, per_word], 1) * format.bits.width()).cast::<u32>();
    (codes.reshape(&[count / per_word, per_word]) << shifts).row_sum()
}
