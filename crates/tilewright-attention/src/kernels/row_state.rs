//! The online softmax.

use crate::feature::Features;
use crate::index::Queries;
use std::f32::consts::{LN_2, LOG2_E};
use tilewright_lang::prelude::*;

/// The online softmax of the rows of a tile: FlashAttention-2, algorithm 1.
///
/// Units: `max` is in log2 of the scaled score; `sum` and `acc` are relative to it.
#[derive(Clone, Copy, Debug, Carried)]
pub(crate) struct RowState {
    /// The largest score so far: `[rows, 1]`.
    pub max: Tile<f32>,
    /// The sum of the weights: `[rows, 1]`.
    pub sum: Tile<f32>,
    /// The weighted sum of the values: `[rows, value_dim]`.
    pub acc: Tile<f32>,
}

#[tile]
impl RowState {
    /// Rows that have seen nothing.
    pub fn new(rows: usize, value_dim: usize) -> RowState {
        RowState {
            max: Tile::full(f32::NEG_INFINITY, &[rows, 1]),
            sum: Tile::full(0.0, &[rows, 1]),
            acc: Tile::full(0.0, &[rows, value_dim]),
        }
    }

    /// Rows that have seen the sinks of the features and no key.
    pub fn with_sinks(features: &Features, at: &Queries, value_dim: usize) -> RowState {
        let mut state = RowState::new(at.rows(), value_dim);
        for sink in features.sinks() {
            state.sink(sink.logit(at));
        }
        state
    }

    /// Adds keys with these scores `[rows, keys]`, in log2 units once they are multiplied by `factor`, which is above zero, and
    /// values `[keys, value_dim]`. A score of `-inf` adds nothing. The weights are f32: only where products of 16-bit
    /// numbers are faster are they rounded, by a pass.
    pub fn step<E: Float>(&mut self, scores: Tile<f32>, factor: Option<Scalar<f32>>, values: Tile<E>) {
        let scaled = |tile: Tile<f32>| match factor {
            Some(factor) => tile * factor,
            None => tile,
        };
        let max = self.max.max(scaled(scores.row_max()));
        let safe = finite(max);
        let rescale = (self.max - safe).exp2();
        let p = (scaled(scores) - safe).exp2();
        self.max = max;
        self.sum = self.sum * rescale + p.row_sum();
        self.acc = self.acc * rescale + p.dot(values);
    }

    /// Adds what other keys gave to the same rows.
    pub fn merge(&mut self, other: RowState) {
        let max = self.max.max(other.max);
        let safe = finite(max);
        let (own, others) = ((self.max - safe).exp2(), (other.max - safe).exp2());
        self.max = max;
        self.sum = self.sum * own + other.sum * others;
        self.acc = self.acc * own + other.acc * others;
    }

    /// Adds, to a state of one row, what other keys gave to it: `max` and `sum` `[n, 1]`, `acc` `[n, value_dim]`.
    pub fn merge_rows(&mut self, max: Tile<f32>, sum: Tile<f32>, acc: Tile<f32>) {
        let all = max.max_along(0);
        let weights = (max - finite(all)).exp2();
        self.merge(RowState { max: all, sum: (sum * weights).sum_along(0), acc: (acc * weights).sum_along(0) });
    }

    /// Adds a logit, in natural units, `[rows, 1]` or `[1, 1]`, to the denominators.
    pub fn sink(&mut self, logit: Tile<f32>) {
        let logit = logit * LOG2_E;
        let max = self.max.max(logit);
        let safe = finite(max);
        self.sum = self.sum * (self.max - safe).exp2() + (logit - safe).exp2();
        self.max = max;
    }

    /// `[rows, value_dim]`; zero where nothing was added.
    pub fn output(&self) -> Tile<f32> {
        self.acc * (self.sum == 0.0).select(1.0, self.sum).recip()
    }

    /// `[rows, 1]`, natural logarithm of the sum; `-inf` where nothing was added.
    pub fn lse(&self) -> Tile<f32> {
        (self.max + self.sum.log2()) * LN_2
    }
}

/// 0 in place of `-inf`, because `-inf - -inf` is NaN and `-inf - 0` has weight 0.
#[tile]
fn finite(max: Tile<f32>) -> Tile<f32> {
    (max == f32::NEG_INFINITY).select(0.0, max)
}
