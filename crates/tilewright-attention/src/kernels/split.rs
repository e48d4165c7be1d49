//! The split pass of decode and verify: one share of the keys.

use super::row_state::RowState;
use super::walk::{Factor, Rescaling, Walk};
use crate::cache::{Decoding, Format};
use crate::feature::Features;
use crate::index::{Block, Keys, Queries};
use tilewright_lang::prelude::*;

/// Attention of a block of queries over one share of the keys, not yet normalised.
///
/// With `split_keys` 0 the keys that any query of the block may attend are shared out evenly over the `splits`; otherwise each
/// split has `split_keys` of them, whatever else is in the batch. Shares are whole tiles. Sinks are the merge's.
///
/// Shapes: q, q_start, kv_len and the cache as [`attention_forward`](super::attention_forward); `acc`
/// `[batch * splits, q_heads, q_len, value_dim]`, `max` (log2 units; what `acc` and `sum` are relative to) and `sum` `[batch * splits, q_heads, q_len]`. Grid: query
/// tiles times splits, `q_heads / heads`, batch.
///
/// # Source
/// Flash-Decoding (Dao, Haziza, Massa, Sizov, 2023).
#[kernel(entry(E in [f32, f16, bf16], C in [f32, f16, bf16]))]
pub fn attention_split<E: Float, C: Float>(
    q: View<E, 4>,
    q_start: View<i32, 1>,
    kv_len: View<i32, 1>,
    scale: Scalar<f32>,
    splits: Scalar<i32>,
    split_keys: Scalar<i32>,
    acc: ViewMut<f32, 4>,
    max: ViewMut<f32, 3>,
    sum: ViewMut<f32, 3>,
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
    let [program, heads_before, batch] = program_id();
    let (tile, split) = (program / splits, program % splits);
    let block = Block::of([tile, heads_before, batch], heads, queries);
    let at = Queries::new(block, q.len(2), q_start.get(batch), kv_len.get(batch));
    let kv_head = at.first_head / (q.len(1) / cache.kv_heads::<C>());

    let all = Keys { first: scalar(0), end: at.kv_len };
    let may = features.known(&at, all).may;
    let first = may.first / keys * keys;
    let tiles = ((may.end - first).max(0) + (keys - 1)) / keys;
    let even = (tiles + splits - 1) / splits * keys;
    let size = (split_keys > 0).select(split_keys, even);
    let share = Keys { first: first + split * size, end: first + (split + 1) * size };

    let q = at.load(q.at(batch), head_dim);
    let (features, cache) = (&features, &cache);
    let walk =
        Walk { q, at: &at, kv_head, scale, keys, head_dim, value_dim, features, cache, decoding, factor, rescaling };
    let state = walk.run::<C>(share, RowState::new(at.rows(), value_dim));

    let place = batch * splits + split;
    at.store(acc.at(place), state.acc);
    at.store_each(max.at(place), state.max);
    at.store_each(sum.at(place), state.sum);
}
