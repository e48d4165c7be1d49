//! What a feature of attention is: hooks that run in fixed phases, each with its f64 twin.
//!
//! Hooks see index tiles (position of the query, key, row in q) and the head, never how rows are laid out in a tile. The
//! phases are fixed (cap, bias, mask, sink), so the order in which features are given cannot change what is computed.

mod composed;

pub use crate::index::{Block, Keys, Pair, Pairs, Queries};
pub use composed::{Features, Known};

use crate::attention::Extents;
use std::fmt;
use std::ops::Range;
use tilewright_ir::Schedule;
use tilewright_lang::prelude::*;
use tilewright_runtime::TensorView;

/// When a score hook runs: caps before biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// On `scale * q.k`, as a soft cap does.
    Cap,
    /// After all caps.
    Bias,
}

/// Changes scores, in natural (not log2) units, before any mask.
pub trait ScoreHook {
    /// The changed scores; `[rows, keys]` as they came.
    fn apply(&self, scores: Tile<f32>, at: &Pairs) -> Tile<f32>;
    /// The same for one score.
    fn reference(&self, at: &Pair, score: f64) -> f64;
}

/// What is known of a whole tile of pairs.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// No pair is attended: keys and values are not loaded. `None` where that is never known.
    pub none: Option<Scalar<bool>>,
    /// Every pair is attended and nothing is added: the hooks of the mask are not asked.
    pub all: Scalar<bool>,
}

/// Says which pairs are attended.
pub trait MaskHook {
    /// True where a pair is attended: any shape that broadcasts to `[rows, keys]`. It need not look at `kv_len`.
    fn attended(&self, at: &Pairs) -> Tile<bool>;
    /// The same for one pair.
    fn reference(&self, at: &Pair) -> bool;
    /// The keys that a query attends, where they are one interval (`at.key` does not matter): counting does not visit each.
    fn interval(&self, at: &Pair) -> Option<Range<i64>> {
        let _ = at;
        None
    }
    /// Keys outside which no query of the tile attends anything; part of `all`.
    fn may(&self, at: &Queries, all: Keys) -> Keys {
        let _ = at;
        all
    }
    /// The same where numbers in memory say it, such as a class map's: part of `all`. It decides on the tiles that are walked, but not
    /// on how keys are shared out, so that results keep their bits.
    fn walked(&self, at: &Queries, all: Keys) -> Keys {
        let _ = at;
        all
    }
    /// Keys of `all` that every query of the tile attends. A tile of keys inside them skips the mask.
    fn must(&self, at: &Queries, all: Keys) -> Keys {
        let _ = at;
        Keys { end: all.first, ..all }
    }
    /// What is added to the score of each attended pair, in natural units, after all score hooks: any shape that broadcasts
    /// to `[rows, keys]`. Asked only where `attended` is.
    fn bias(&self, at: &Pairs) -> Option<Tile<f32>> {
        let _ = at;
        None
    }
    /// The same for one pair that is attended.
    fn reference_bias(&self, at: &Pair) -> f64 {
        let _ = at;
        0.0
    }
    /// What is known of the tile as a whole, where intervals cannot say it.
    fn class(&self, at: &Pairs) -> Option<Class> {
        let _ = at;
        None
    }
    /// How many keys before its own position a query may attend, not counting those that every later query attends too;
    /// `None` is all of them.
    fn reach(&self) -> Option<usize> {
        None
    }
    /// Whether, for some tile, a key inside `may` may be attended by no query of the tile, by this mask alone or beside
    /// others. Values there must be kept from the product, since they may be NaN.
    ///
    /// `false` says that a query attends one interval of keys that holds its own position, that neither end of it goes back
    /// from one position to the next, and that `may` is exactly the interval from the first of the first query to the last
    /// of the last. Masks of which all say so leave no holes together.
    fn leaves_holes(&self) -> bool {
        true
    }
    /// Whether heads differ.
    fn differs_by_head(&self) -> bool {
        true
    }
}

/// A logit that adds to the denominator of each row and to nothing else.
pub trait SinkHook {
    /// In natural units: `[rows, 1]`, or `[1, 1]` when all are the same.
    fn logit(&self, at: &Queries) -> Tile<f32>;
    /// The same for one head.
    fn reference(&self, head: usize) -> f64;
}

/// What a feature brings at launch: a kernel parameter of this name, which its hooks reach through
/// [`launch_scalar`] and [`launch_view`].
#[derive(Clone, Copy, Debug)]
pub struct Input<'f> {
    /// Unique among the inputs of a request.
    pub name: &'f str,
    /// Its value.
    pub value: InputValue<'f>,
}

/// A number or a tensor.
#[derive(Clone, Copy, Debug)]
pub enum InputValue<'f> {
    /// For [`launch_scalar`].
    Scalar(f64),
    /// For [`launch_view`].
    Tensor(TensorView<'f>),
}

/// One aspect of attention: a mask, a bias, a cap, a sink, or several of them.
///
/// Its [`SpecValue`] key tells it from other features of its type where a kernel could come out different; what comes at
/// launch (a slope, a mask's bytes) are its [`inputs`](Feature::inputs) and become kernel parameters.
pub trait Feature: SpecValue + fmt::Debug + Send + Sync {
    /// Whether it fits problems of these extents, where its inputs have extents of their own.
    ///
    /// # Errors
    /// What is wrong, what was expected, and the next step.
    fn check(&self, shape: &Extents, kv_len: &[i32]) -> Result<(), String> {
        let _ = (shape, kv_len);
        Ok(())
    }
    /// The tile shape that it was made for, if it serves only one.
    fn schedule(&self) -> Option<Schedule> {
        None
    }
    /// What comes at launch.
    fn inputs(&self) -> Vec<Input<'_>> {
        Vec::new()
    }
    /// Its effect on scores.
    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        None
    }
    /// Which pairs it lets be attended.
    fn mask(&self) -> Option<&dyn MaskHook> {
        None
    }
    /// What it adds to the denominators.
    fn sink(&self) -> Option<&dyn SinkHook> {
        None
    }
}
