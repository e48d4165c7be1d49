//! The walk over the keys that forward and split share.

use super::row_state::RowState;
use crate::cache::{Format, Stretch};
use crate::feature::Features;
use crate::index::{Keys, Pairs, Queries};
use std::f32::consts::LOG2_E;
use tilewright_lang::prelude::*;

/// What a walk is specialised by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'s> {
    /// Keys of a step.
    pub keys: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub features: &'s Features,
    pub cache: &'s Format,
}

#[tile]
impl Walk<'_> {
    /// Adds the keys of `share` that the queries attend to `state`, tile after tile. `q` is `[rows, head_dim]`.
    ///
    /// Tiles start at multiples of `keys` whatever is skipped, so skipping changes no bit of the result.
    ///
    /// # Source
    /// FlashAttention-2 (Dao, 2023), algorithm 1.
    pub fn run<E: Float, C: Float>(
        &self,
        q: Tile<E>,
        at: &Queries,
        kv_head: Scalar<i32>,
        share: Keys,
        scale: Scalar<f32>,
        state: RowState,
    ) -> RowState {
        let mut state = state;
        let known = self.features.known(at, share);
        for stretch in self.cache.stretches::<C>(at) {
            let own = stretch.keys.intersect(known.may);
            for j in (stretch.first_tile(own, self.keys)..own.end).step_by(self.keys) {
                let at = at.with_keys(j, self.keys);
                let class = known.class(&at, own);
                let tile = TileOf { stretch: &stretch, own, kv_head, at: &at };
                if let Some(none) = class.none {
                    if !none {
                        self.step::<E, C>(q, &tile, class.all, scale, &mut state);
                    }
                } else {
                    self.step::<E, C>(q, &tile, class.all, scale, &mut state);
                }
            }
        }
        state
    }

    /// Adds one tile of keys. Where `all` holds, every query attends every key of it and the masks add nothing.
    fn step<E: Float, C: Float>(
        &self,
        q: Tile<E>,
        tile: &TileOf<'_>,
        all: Scalar<bool>,
        scale: Scalar<f32>,
        state: &mut RowState,
    ) {
        let Walk { features, .. } = *self;
        let TileOf { stretch, own, kv_head, at } = *tile;
        // What no query attends is not loaded: it may be NaN.
        let dots = q.dot(stretch.load_keys::<C>(at, own, kv_head, self.head_dim).t());
        let mut values = stretch.load_values::<C>(at, own, kv_head, self.value_dim);
        let mut scores =
            if features.change_scores() { features.change(dots * scale, at) * LOG2_E } else { dots * (scale * LOG2_E) };
        if !all {
            if let Some(bias) = features.bias(at) {
                scores += bias * LOG2_E;
            }
            let attended = features.attended((at.key >= own.first) & (at.key < own.end), at);
            scores = attended.select(scores, f32::NEG_INFINITY);
            if features.leave_holes() || stretch.reads_past() {
                let exists = at.row < at.q_len; // what rows past the last query attend does not count
                let by_any = (attended & exists).cast::<i32>().max_along(0).t();
                values = (by_any != 0).select(values, Tile::full(Scalar::<C>::new(0.0), &[1, 1]));
            }
        }
        state.step(scores, values);
    }
}

/// One tile of keys: where it lies, and which of its keys the queries may attend.
#[derive(Clone, Copy)]
struct TileOf<'t> {
    stretch: &'t Stretch,
    own: Keys,
    kv_head: Scalar<i32>,
    at: &'t Pairs,
}
