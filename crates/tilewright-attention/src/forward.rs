//! Forward attention.

use crate::feature::{Features, Queries};
use crate::row_state::RowState;
use std::f32::consts::LOG2_E;
use tilewright_lang::prelude::*;

/// Attention of `rows` queries of one head over the keys in tiles of `keys`.
///
/// Shapes: q `[batch, q_heads, q_len, head_dim]`, k `[batch, kv_heads, capacity, head_dim]`, v and o likewise with
/// `value_dim`; `q_start`, the position of the first query, and `kv_len` `[batch]`; lse `[batch, q_heads, q_len]`. Grid:
/// query tiles, q_heads, batch.
///
/// # Source
/// FlashAttention-2 (Dao, 2023), algorithm 1.
#[kernel(entry(E in [f32, f16, bf16], C in [f32, f16, bf16]))]
pub fn attention_forward<E: Float, C: Float>(
    q: View<E, 4>,
    k: View<C, 4>,
    v: View<C, 4>,
    q_start: View<i32, 1>,
    kv_len: View<i32, 1>,
    scale: Scalar<f32>,
    o: ViewMut<E, 4>,
    lse: Option<ViewMut<f32, 3>>,
    rows: usize,
    keys: usize,
    head_dim: usize,
    value_dim: usize,
    features: Features,
) {
    let [block, head, batch] = program_id();
    let kv_head = head / (q.len(1) / k.len(1));
    let first_row = block * rows;
    let at = Queries::new([batch, head], first_row, rows, q.len(2), q_start.get(batch), kv_len.get(batch));
    let may = features.may(&at);
    let must = features.must(&at, may);

    // What no query attends is not loaded: it may be NaN.
    let k = k.at(batch).at(kv_head).limit(may.first, may.end);
    let v = v.at(batch).at(kv_head).limit(may.first, may.end);
    let queries = q.at(batch).at(head).load(first_row, [rows, head_dim]);
    let mut state = RowState::new(rows, value_dim);
    for sink in features.sinks() {
        state.sink(sink.logit(&at) * LOG2_E);
    }

    for j in (may.first..may.end).step_by(keys) {
        let at = at.with_keys(j, keys);
        let dots = queries.dot(k.load(j, [keys, head_dim]).t());
        let mut values = v.load(j, [keys, value_dim]);
        let mut scores = if features.change_scores() {
            features.change(dots * scale, &at) * LOG2_E
        } else {
            dots * (scale * LOG2_E)
        };
        if !must.hold(j, keys) {
            let attended = features.attended(at.key < may.end, &at);
            scores = attended.select(scores, f32::NEG_INFINITY);
            if features.leave_holes() {
                let exists = at.row < at.q_len; // what rows past the last query attend does not count
                let by_any = (attended & exists).cast::<i32>().max_along(0).t();
                values = (by_any != 0).select(values, Tile::full(Scalar::<C>::new(0.0), &[1, 1]));
            }
        }
        state.step(scores, values);
    }

    o.at(batch).at(head).store(first_row, state.output().cast());
    if let Some(lse) = lse {
        lse.at(batch).at(head).store(first_row, state.lse());
    }
}
