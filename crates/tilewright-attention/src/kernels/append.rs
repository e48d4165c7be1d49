//! New tokens into a dense cache.

use super::new_tokens::NewTokens;
use crate::cache::Placement;
use tilewright_lang::prelude::*;

/// Writes tokens into a cache tensor, and no other byte.
///
/// Row `i` of x goes to position `position + i`, for the rows `first..end` of each batch entry.
///
/// Shapes: x `[batch, heads, n, dim]`; position, first and end `[batch]`; to `[batch, heads, capacity, dim]`, or
/// `[pages, heads, page_size, dim]` with `pages` `[batch, pages]`. Grid: tiles of `tokens` rows, heads, batch.
#[kernel(entry(E in [f32, f16, bf16]))]
pub fn cache_append<E: Float>(
    x: View<E, 4>,
    position: View<i32, 1>,
    first: View<i32, 1>,
    end: View<i32, 1>,
    to: ViewMut<E, 4>,
    tokens: usize,
    dim: usize,
    placement: Placement,
) {
    let [block, head, batch] = program_id();
    let new = NewTokens::new(block, tokens, batch, position, first, end);
    let tile = x.at(batch).at(head).load(new.row, [tokens, dim]);
    for run in new.runs(placement, to.len(2)) {
        run.store(to, head, tile);
    }
}
