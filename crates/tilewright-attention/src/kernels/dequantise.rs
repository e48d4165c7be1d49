//! A cache back to plain tensors.

use crate::cache::Format;
use crate::index::{Block, Keys, Queries};
use tilewright_lang::prelude::*;

/// Writes the tokens `0..kv_len` of a cache in logical order, decoded where they are codes; `T(T(scale * code) + bias)`. Slots
/// of `o` past them keep their bytes.
///
/// The tokens are those that the format calls keys.
///
/// Shapes: kv_len `[batch]`; o `[batch, heads, n, dim]`; the cache as [`Format`] says. Grid: tiles of `tokens` rows, heads,
/// batch.
#[kernel(entry(E in [f32, f16, bf16]))]
pub fn cache_dequantise<E: Float>(kv_len: View<i32, 1>, o: ViewMut<E, 4>, tokens: usize, dim: usize, cache: Format) {
    let [block, head, batch] = program_id();
    let own = Keys { first: block * tokens, end: (block + 1) * tokens };
    let query = Block { batch, first_head: head, heads: 1, first_row: scalar(0), queries: 1 };
    let at = Queries::new(query, scalar(1), scalar(0), kv_len.get(batch)).with_keys(own.first, tokens);
    for stretch in cache.stretches::<E>(&at) {
        let own = own.intersect(stretch.keys);
        let tile = stretch.dequantise_keys::<E>(&at, own, head, dim);
        o.at(batch).at(head).limit(own.first, own.end).store(at.first_key, tile);
    }
}
