//! Forward attention.

use super::row_state::RowState;
use super::walk::{Factor, Rescaling, Walk};
use crate::cache::{Decoding, Format};
use crate::feature::Features;
use crate::index::{Block, Keys, Queries};
use tilewright_lang::prelude::*;

/// Attention of `queries` rows of q of `heads` neighbouring heads, in one pass over the keys in tiles of `keys`.
///
/// Shapes: q `[batch, q_heads, q_len, head_dim]`, o likewise with `value_dim`; `q_start`, the position of the first query, and
/// `kv_len` `[batch]`; lse `[batch, q_heads, q_len]`; keys and values as [`Format`] says. Grid: query tiles, `q_heads / heads`,
/// batch.
///
/// # Source
/// FlashAttention-2 (Dao, 2023), algorithm 1.
#[kernel(entry(E in [f32, f16, bf16], C in [f32, f16, bf16]))]
pub fn attention_forward<E: Float, C: Float>(
    q: View<E, 4>,
    q_start: View<i32, 1>,
    kv_len: View<i32, 1>,
    scale: Scalar<f32>,
    o: ViewMut<E, 4>,
    lse: Option<ViewMut<f32, 3>>,
    heads: usize,
    queries: usize,
    keys: usize,
    head_dim: usize,
    value_dim: usize,
    features: Features,
    cache: Format,
    decoding: Decoding,
    factor: Factor,
    rescaling: Rescaling,
) {
    // The last queries first: they often attend to the most keys.
    let ([tile, heads_before, batch], [tiles]) = (program_id(), program_count());
    let block = Block::of([tiles - 1 - tile, heads_before, batch], heads, queries);
    let batch = block.batch;
    let at = Queries::new(block, q.len(2), q_start.get(batch), kv_len.get(batch));
    let kv_head = at.first_head / (q.len(1) / cache.kv_heads::<C>());

    let state = RowState::with_sinks(&features, &at, value_dim);
    let q = at.load(q.at(batch), head_dim);
    let all = Keys { first: scalar(0), end: at.kv_len };
    let (features, cache) = (&features, &cache);
    let walk =
        Walk { q, at: &at, kv_head, scale, keys, head_dim, value_dim, features, cache, decoding, factor, rescaling };
    let state = walk.run::<C>(all, state);

    at.store(o.at(batch), state.output().cast());
    if let Some(lse) = lse {
        at.store_each(lse.at(batch), state.lse());
    }
}
