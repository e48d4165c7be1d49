//! The merge pass of decode and verify.

use super::row_state::RowState;
use crate::feature::Features;
use crate::index::{Block, Queries};
use tilewright_lang::prelude::*;

/// Combines what the splits of a query found, `at_once` after `at_once` in their order; an empty split changes nothing.
///
/// Shapes: as [`attention_split`](super::attention_split) wrote and [`attention_forward`](super::attention_forward) writes.
/// Grid: `q_len`, `q_heads`, batch.
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
    at_once: usize,
    value_dim: usize,
    features: Features,
) {
    let [first_row, first_head, batch] = program_id();
    let block = Block { batch, first_head, heads: 1, first_row, queries: 1 };
    let at = Queries::new(block, max.len(2), q_start.get(batch), kv_len.get(batch));
    // Of this query alone: one row a split.
    let acc = acc.at_axis(2, first_row).at_axis(1, first_head);
    let each = [max, sum].map(|of| of.at_axis(2, first_row).at_axis(1, first_head));

    let mut state = RowState::with_sinks(&features, &at, value_dim);
    for split in (0..splits).step_by(at_once) {
        let place = batch * splits + split;
        let [max, sum] = each.map(|of| of.load(place, [at_once]).reshape(&[at_once, 1]));
        let exists = iota(&[at_once, 1], 0) + split < splits;
        state.merge_rows(
            exists.select(max, f32::NEG_INFINITY),
            exists.select(sum, 0.0),
            exists.select(acc.load([place, scalar(0)], [at_once, value_dim]), 0.0),
        );
    }

    at.store(o.at(batch), state.output().cast());
    if let Some(lse) = lse {
        at.store_each(lse.at(batch), state.lse());
    }
}
