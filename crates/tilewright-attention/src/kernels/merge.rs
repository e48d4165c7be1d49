//! The merge pass of decode and verify.

use super::row_state::RowState;
use crate::feature::Features;
use crate::index::{Block, Queries};
use tilewright_lang::prelude::*;

/// Combines what the splits of a block of queries found, in their order; an empty split changes nothing.
///
/// Shapes: as [`attention_split`](super::attention_split) wrote and [`attention_forward`](super::attention_forward) writes.
/// Grid: query tiles, `q_heads / heads`, batch.
///
/// # Source
/// Flash-Decoding (Dao, Haziza, Massa, Sizov, 2023).
#[kernel(entry(E in [f32, f16, bf16]))]
pub fn attention_merge<E: Float>(
    acc: View<f32, 4>,
    max: View<f32, 3>,
    sum: View<f32, 3>,
    q_start: View<i32, 1>,
    kv_len: View<i32, 1>,
    splits: Scalar<i32>,
    o: ViewMut<E, 4>,
    lse: Option<ViewMut<f32, 3>>,
    heads: usize,
    queries: usize,
    value_dim: usize,
    features: Features,
) {
    let block = Block::of(program_id(), heads, queries);
    let batch = block.batch;
    let at = Queries::new(block, max.len(2), q_start.get(batch), kv_len.get(batch));

    let mut state = RowState::with_sinks(&features, &at, value_dim);
    for split in 0..splits {
        let place = batch * splits + split;
        let other = RowState {
            max: at.load_each(max.at(place)),
            sum: at.load_each(sum.at(place)),
            acc: at.load(acc.at(place), value_dim),
        };
        state.merge(other);
    }

    at.store(o.at(batch), state.output().cast());
    if let Some(lse) = lse {
        at.store_each(lse.at(batch), state.lse());
    }
}
