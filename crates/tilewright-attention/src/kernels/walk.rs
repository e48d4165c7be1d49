//! The walk over the keys that forward and split share.

use super::row_state::RowState;
use crate::cache::{Decoding, Format, Loaded, Stretch};
use crate::feature::{Features, Known};
use crate::index::{Keys, Pairs, Queries};
use std::f32::consts::LOG2_E;
use std::fmt;
use tilewright_ir::Elem;
use tilewright_lang::prelude::*;

/// The most keys that are summed one after the other in f32, before sums are added to sums.
const LONGEST_SUM: usize = 4096;

/// The queries that walk, and what the walk is specialised by.
pub(crate) struct Walk<'s, E: Float> {
    /// `[rows, head_dim]`.
    pub q: Tile<E>,
    pub at: &'s Queries,
    /// The head whose keys and values the queries read.
    pub kv_head: Scalar<i32>,
    /// The factor of the scores.
    pub scale: Scalar<f32>,
    /// Keys of a step.
    pub keys: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub features: &'s Features,
    pub cache: &'s Format,
    pub decoding: Decoding,
    pub factor: Factor,
    pub rescaling: Rescaling,
}

/// What is known of the factor of the scores.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Factor {
    /// It is above zero: the largest score is that of the largest product.
    Positive,
    /// Nothing.
    Any,
}

impl Factor {
    /// What is known of this one, as the kernels hold it.
    pub fn of(scale: f64) -> Factor {
        if scale as f32 * LOG2_E > 0.0 { Factor::Positive } else { Factor::Any }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Factor::Positive => "positive",
            Factor::Any => "any",
        })
    }
}

impl SpecValue for Factor {
    fn key(&self, into: &mut String) {
        into.push_str(&self.to_string());
    }

    /// `positive` or `any`.
    fn parse(text: &str) -> Result<Factor, String> {
        match text {
            "positive" => Ok(Factor::Positive),
            "any" => Ok(Factor::Any),
            other => Err(format!("`{other}` is neither `positive` nor `any`")),
        }
    }
}

/// When what was summed is made relative to a larger score.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rescaling {
    /// With every larger one: weights are at most 1.
    Always,
    /// Once it is larger by a factor of 256 of the weights, so that most steps multiply nothing where that is skipped (FlashAttention-4,
    /// Dao et al., 2025).
    Late,
}

impl fmt::Display for Rescaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rescaling::Always => "always",
            Rescaling::Late => "late",
        })
    }
}

impl SpecValue for Rescaling {
    fn key(&self, into: &mut String) {
        into.push_str(&self.to_string());
    }

    /// `always` or `late`.
    fn parse(text: &str) -> Result<Rescaling, String> {
        match text {
            "always" => Ok(Rescaling::Always),
            "late" => Ok(Rescaling::Late),
            other => Err(format!("`{other}` is neither `always` nor `late`")),
        }
    }
}

#[tile]
impl<E: Float> Walk<'_, E> {
    /// Adds the keys of `share` that the queries attend to `state`, tile after tile; `C` is the type of a cache's numbers.
    ///
    /// Tiles start at multiples of `keys` whatever is skipped, so skipping changes no bit of the result.
    ///
    /// # Source
    /// FlashAttention-2 (Dao, 2023), algorithm 1.
    pub fn run<C: Float>(&self, share: Keys, state: RowState) -> RowState {
        let mut state = state;
        let known = self.features.known(self.at, share);
        let walked = self.features.walked(self.at, known.may);
        for stretch in self.cache.stretches::<C>(self.at) {
            let own = stretch.keys.intersect(walked);
            if E::ELEM == Elem::F32 {
                // Many equal terms round one way: f32 results keep their bound because no sum gets long.
                let run = (LONGEST_SUM / self.keys).max(1) * self.keys;
                for first in (stretch.first_tile(own, run)..own.end).step_by(run) {
                    let mut part = RowState::new(self.at.rows(), self.value_dim);
                    let keys = Keys { first, end: first + run }.intersect(own);
                    self.tiles::<C>(&stretch, &known, keys, &mut part);
                    state.merge(part);
                }
            } else {
                self.tiles::<C>(&stretch, &known, own, &mut state);
            }
        }
        state
    }

    /// Adds the tiles of a stretch that hold keys of `own`.
    fn tiles<C: Float>(&self, stretch: &Stretch, known: &Known<'_>, own: Keys, state: &mut RowState) {
        for j in (stretch.first_tile(own, self.keys)..own.end).step_by(self.keys) {
            let at = self.at.with_keys(j, self.keys);
            let class = known.class(&at, own);
            let tile = KeyTile { stretch, own, at: &at };
            if let Some(none) = class.none {
                if !none {
                    self.add::<C>(&tile, class.all, state);
                }
            } else {
                self.add::<C>(&tile, class.all, state);
            }
        }
    }

    /// Adds one tile of keys. Where `all` holds, every query attends every key of it and the masks add nothing.
    fn add<C: Float>(&self, tile: &KeyTile<'_>, all: Scalar<bool>, state: &mut RowState) {
        if all {
            self.step::<C>(tile, Masks::Skip, state);
        } else {
            self.step::<C>(tile, Masks::Ask, state);
        }
    }

    fn step<C: Float>(&self, tile: &KeyTile<'_>, masks: Masks, state: &mut RowState) {
        let Walk { q, kv_head, decoding, head_dim, value_dim, .. } = *self;
        let KeyTile { stretch, own, at } = *tile;
        // What no query attends is not loaded: it may be NaN.
        let dots = match stretch.load_keys::<C>(at, own, kv_head, (head_dim, decoding)) {
            Loaded::Rounded(keys) => q.dot(keys.t()),
            Loaded::Exact(keys) => q.dot(keys.t()),
        };
        match stretch.load_values::<C>(at, own, kv_head, (value_dim, decoding)) {
            Loaded::Rounded(values) => self.attend(tile, masks, dots, values, state),
            Loaded::Exact(values) => self.attend(tile, masks, dots, values, state),
        }
    }

    /// Adds the keys of a tile, whose products with the queries are `dots`.
    fn attend<V: Float>(
        &self,
        tile: &KeyTile<'_>,
        masks: Masks,
        dots: Tile<f32>,
        mut values: Tile<V>,
        state: &mut RowState,
    ) {
        let Walk { scale, features, .. } = *self;
        let KeyTile { stretch, own, at } = *tile;
        // Where nothing but the factor changes a product, it is left to the exponent.
        let bias = features.bias(at);
        let plain = self.factor == Factor::Positive && !features.change_scores() && bias.is_none();
        let factor = plain.then_some(scale * LOG2_E);
        let mut scores = if plain {
            dots
        } else if features.change_scores() {
            features.change(dots * scale, at) * LOG2_E
        } else {
            dots * (scale * LOG2_E)
        };
        if masks == Masks::Ask {
            if let Some(bias) = bias {
                scores += bias * LOG2_E;
            }
            let attended = features.attended((at.key >= own.first) & (at.key < own.end), at);
            scores = attended.select(scores, f32::NEG_INFINITY);
            if features.leave_holes() || !stretch.zero_outside() {
                let exists = at.row < at.q_len; // what rows past the last query attend does not count
                let by_any = (attended & exists).cast::<i32>().max_along(0).t();
                values = (by_any != 0).select(values, Tile::full(Scalar::<V>::new(0.0), &[1, 1]));
            }
        }
        state.step(scores, factor, values, self.rescaling);
    }
}

/// Whether masks are asked about a tile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Masks {
    Ask,
    Skip,
}

/// One tile of keys: where it lies, and which of its keys the queries may attend.
#[derive(Clone, Copy)]
struct KeyTile<'t> {
    stretch: &'t Stretch,
    own: Keys,
    at: &'t Pairs,
}
