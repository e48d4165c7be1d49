//! The online softmax.

use super::walk::Rescaling;
use crate::feature::Features;
use crate::index::Queries;
use std::f32::consts::{LN_2, LOG2_E};
use tilewright_lang::prelude::*;

/// How much a row's maximum may grow, in log2 units, before what was summed is rescaled late: no weight exceeds 256.
const LATE: f32 = 8.0;

/// The online softmax of the rows of a tile: FlashAttention-2, algorithm 1.
///
/// Units: `max` is in log2 of the scaled score; `sum` and `acc` are relative to it.
#[derive(Clone, Copy, Debug, Carried)]
pub(crate) struct RowState {
    /// The largest score so far, or with [`Rescaling::Late`] one that is at most [`LATE`] smaller: `[rows, 1]`.
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
    pub fn step<E: Float>(
        &mut self,
        scores: Tile<f32>,
        factor: Option<Scalar<f32>>,
        values: Tile<E>,
        rescaling: Rescaling,
    ) {
        let scaled = |tile: Tile<f32>| match factor {
            Some(factor) => tile * factor,
            None => tile,
        };
        let max = self.max.max(scaled(scores.row_max()));
        let max = match rescaling {
            Rescaling::Always => max,
            Rescaling::Late => (max > self.max + LATE).select(max, self.max),
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;
    use tilewright_runtime::{Device, TensorView, TensorViewMut};

    const ROWS: usize = 6;
    const KEYS: usize = 4;
    const TILES: usize = 4;

    /// Steps over tiles of scores, `[ROWS, TILES * KEYS]` in log2 units, and values `[TILES * KEYS, 1]`.
    #[kernel]
    fn walked(scores: View<f32, 2>, values: View<f32, 2>, out: ViewMut<f32, 2>, rescaling: Rescaling) {
        let mut state = RowState::new(ROWS, 1);
        for tile in 0..TILES {
            let (first, zero) = (scalar((tile * KEYS) as i32), scalar(0));
            let scores = scores.load([zero, first], [ROWS, KEYS]);
            state.step(scores, None, values.load([first, zero], [KEYS, 1]), rescaling);
        }
        out.store([0, 0], state.output());
        out.store([0, 1], state.lse());
        out.store([0, 2], state.max);
    }

    #[test]
    fn late_rescaling_gives_the_softmax_whatever_a_maximum_grows_by() {
        let none = f32::NEG_INFINITY;
        // What the largest score of each tile is.
        let rows: [[f32; TILES]; ROWS] = [
            [0.0, 7.0, 14.0, 21.0],
            [0.0, 8.0, 16.0, 24.0],
            [0.0, 9.0, 18.0, 27.0],
            [none, none, -3.0, 4.0],
            [100.0, -100.0, 107.9, none],
            [none; TILES],
        ];
        let lower = [0.0, -0.5, -3.0, -20.0];
        let scores: Vec<f32> =
            rows.iter().flat_map(|row| row.iter().flat_map(|top| lower.map(|less| top + less))).collect();
        let values: Vec<f32> = (0..TILES * KEYS).map(|key| key as f32).collect();
        for rescaling in [Rescaling::Always, Rescaling::Late] {
            let mut out = [f32::NAN; ROWS * 3];
            let spec = Walked { rescaling };
            let device = Device::interp();
            let pipeline = device.compile(spec.trace().unwrap()).unwrap();
            let own = WalkedArgs {
                scores: TensorView::from_slice(&scores, &[ROWS, TILES * KEYS]).unwrap(),
                values: TensorView::from_slice(&values, &[TILES * KEYS, 1]).unwrap(),
                out: TensorViewMut::from_slice(&mut out, &[ROWS, 3]).unwrap(),
            };
            let mut args = arguments::in_order(pipeline.kernel(), own.bind(), Vec::new(), Vec::new()).unwrap();
            device.launch(&pipeline, [1, 1, 1], &mut args).unwrap();
            drop(args);
            for (row, (got, scores)) in out.chunks(3).zip(scores.chunks(TILES * KEYS)).enumerate() {
                let weights: Vec<f64> = scores.iter().map(|&score| f64::from(score).exp2()).collect();
                let sum: f64 = weights.iter().sum();
                let mean: f64 = weights.iter().enumerate().map(|(key, weight)| key as f64 * weight).sum::<f64>() / sum;
                let expected = if sum == 0.0 { [0.0, f64::NEG_INFINITY] } else { [mean, sum.ln()] };
                for (got, expected) in got.iter().zip(expected) {
                    let near = (f64::from(*got) - expected).abs() <= 1e-5 * expected.abs();
                    assert!(near || f64::from(*got) == expected, "{rescaling}, row {row}: {got} for {expected}");
                }
            }
            // Rows whose maximum is not the largest score: it grew by no more than 8 at a time.
            let stale = |row: usize| out[3 * row + 2] < rows[row].into_iter().fold(none, f32::max);
            let late = rescaling == Rescaling::Late;
            assert_eq!([0, 1, 2, 3, 4, 5].map(stale), [late, late, false, late, late, false], "{rescaling}");
        }
    }
}
