//! Exhaustive proof, at small sizes, that a feature's hooks say what its references say.
//!
//! The kernels take `may`, `must` and `class` at their word; a wrong interval is a wrong result in a few rows only. So every
//! feature, also a user's own, is held against its reference in every tile of every small problem.

use crate::arguments;
use crate::attention::Extents;
use crate::error::AttentionError;
use crate::feature::{Block, Features, Keys, MaskHook, Pair, Queries};
use std::ops::{Range, RangeInclusive};
use tilewright_lang::prelude::*;
use tilewright_runtime::{Device, TensorViewMut};

/// The largest number of queries and keys that is tried; positions go further on both sides.
const MAX_Q_LEN: usize = 5;
const MAX_KV_LEN: usize = 6;
const HEADS: usize = 2;
const POSITIONS: RangeInclusive<i32> = -7..=8;
/// The tiles that are tried: heads, queries, keys. Some reach past the rows of q and past the keys.
const TILES: [(usize, usize, usize); 5] = [(1, 1, 1), (1, 2, 2), (1, 3, 4), (2, 1, 3), (2, 2, 1)];

/// The largest problem that [`prove`] tries, for features whose inputs have extents.
pub const LARGEST: Extents = Extents {
    batch: 1,
    q_heads: HEADS,
    kv_heads: HEADS,
    q_len: MAX_Q_LEN,
    capacity: MAX_KV_LEN,
    head_dim: 1,
    value_dim: 1,
};

/// What was found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Query tiles tried; never 0.
    pub tiles: usize,
    /// Pairs compared; never 0.
    pub pairs: usize,
    /// Tiles of keys inside `may` that are not loaded, since no pair of them is attended.
    pub skipped: usize,
    /// Tiles of keys of which the masks are not asked, since every pair is attended.
    pub unmasked: usize,
}

/// Where hooks and reference disagree.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The hooks could not be run.
    #[error(transparent)]
    Refused(#[from] AttentionError),
    /// A hook says something else than the reference.
    #[error("{hook} is wrong for {at:?} in a tile of {rows} rows from row {first_row} of q: {fact}")]
    Wrong {
        /// Which hook.
        hook: &'static str,
        /// A pair that shows it.
        at: Pair,
        /// Rows of the tile.
        rows: usize,
        /// The tile's first row.
        first_row: usize,
        /// What is wrong.
        fact: &'static str,
    },
}

/// Writes what the hooks say for each tile of queries and each tile of keys.
///
/// Shapes: `bounds` `[head tiles, query tiles, 4]`, may and must; `classes` `[head tiles, query tiles, key tiles * 2]`, none
/// and all; `places` `[1, 3, q_heads, q_len]`, the head, row and position of each query; `attended` and `scores`, [`plain`]
/// ones as features change them, `[q_heads, q_len, keys]`.
#[kernel]
fn probe(
    q_len: Scalar<i32>,
    q_start: Scalar<i32>,
    kv_len: Scalar<i32>,
    bounds: ViewMut<i32, 3>,
    classes: ViewMut<i32, 3>,
    places: ViewMut<i32, 4>,
    attended: ViewMut<i32, 3>,
    scores: ViewMut<f32, 3>,
    heads: usize,
    queries: usize,
    keys: usize,
    features: Features,
) {
    let [block, heads_before, batch] = program_id();
    let at = Queries::new(Block::of([block, heads_before, batch], heads, queries), q_len, q_start, kv_len);
    let known = features.known(&at, Keys { first: scalar(0), end: kv_len });
    let (may, must) = (known.may, known.must());
    for (place, bound) in [may.first, may.end, must.first, must.end].into_iter().enumerate() {
        bounds.at(heads_before).at(block).set(place, bound);
    }
    for (place, index) in [at.head, at.row, at.query].into_iter().enumerate() {
        at.store_each(places.at(0).at(place), index.broadcast(&[at.rows(), 1]));
    }
    for tile in 0..MAX_KV_LEN.div_ceil(keys) {
        let pairs = at.with_keys(scalar(tile * keys), keys);
        let class = known.class(&pairs, may);
        let said = classes.at(heads_before).at(block);
        said.set(2 * tile, class.none.unwrap_or(scalar(false)).cast::<i32>());
        said.set(2 * tile + 1, class.all.cast::<i32>());
        let existing = (pairs.key < kv_len).broadcast(&[at.rows(), keys]);
        let all = features.attended(existing, &pairs).cast::<i32>().reshape(&[heads, queries, keys]);
        attended.store([at.first_head, at.first_row, pairs.first_key], all);
        let mut changed = features.change((at.row * 2 - pairs.key * 3).cast::<f32>() * 0.375, &pairs);
        if let Some(bias) = features.bias(&pairs) {
            changed += bias;
        }
        scores.store([at.first_head, at.first_row, pairs.first_key], changed.reshape(&[heads, queries, keys]));
    }
}

/// The score of a pair before features change it, as in [`probe`].
fn plain(at: &Pair) -> f64 {
    (at.row as i64 * 2 - at.key * 3) as f64 * 0.375
}

/// How far a changed score may be off, relative to its size: f32 and an elementary function or two.
const SCORE_ERROR: f64 = 1e-5;

/// Holds masks and changes of scores against their references in every small problem: tiles of every small number of
/// queries and keys, of one head and of two.
///
/// # Errors
/// The first disagreement, and what the interpreter refuses.
pub fn prove(features: &Features) -> Result<Proof, ProofError> {
    prove_in(features, &TILES)
}

/// The same in some of the tiles.
fn prove_in(features: &Features, tiles: &[(usize, usize, usize)]) -> Result<Proof, ProofError> {
    let device = Device::interp();
    let mut proof = Proof { tiles: 0, pairs: 0, skipped: 0, unmasked: 0 };
    for &(heads, queries, keys) in tiles {
        for q_len in 1..=MAX_Q_LEN {
            for kv_len in 0..=MAX_KV_LEN {
                for q_start in POSITIONS {
                    let problem = Problem { features, heads, queries, keys, q_len, kv_len, q_start };
                    problem.check(&problem.run(&device)?, &mut proof)?;
                }
            }
        }
    }
    Ok(proof)
}

struct Problem<'f> {
    features: &'f Features,
    heads: usize,
    queries: usize,
    keys: usize,
    q_len: usize,
    kv_len: usize,
    q_start: i32,
}

/// What the hooks said, as [`probe`] writes it.
struct Said {
    bounds: Vec<i32>,
    classes: Vec<i32>,
    places: Vec<i32>,
    attended: Vec<i32>,
    scores: Vec<f32>,
}

/// A tile of queries.
#[derive(Clone)]
struct QueryTile {
    heads: Range<usize>,
    rows: Range<usize>,
    /// May and must.
    bounds: [Range<i32>; 2],
    /// None and all, of each tile of keys.
    classes: Vec<[bool; 2]>,
}

impl Problem<'_> {
    fn head_tiles(&self) -> usize {
        HEADS / self.heads
    }

    fn query_tiles(&self) -> usize {
        self.q_len.div_ceil(self.queries)
    }

    fn key_tiles(&self) -> usize {
        MAX_KV_LEN.div_ceil(self.keys)
    }

    fn run(&self, device: &Device) -> Result<Said, AttentionError> {
        let Problem { heads, queries, keys, q_len, .. } = *self;
        let spec = Probe { heads, queries, keys, features: self.features.clone() };
        let pipeline = device.compile_keyed(&spec.key(), || spec.trace().map_err(AttentionError::from))?;
        let tiles = [self.head_tiles(), self.query_tiles()];
        let [bounds_shape, classes_shape] = [4, 2 * self.key_tiles()].map(|each| [tiles[0], tiles[1], each]);
        let (places_shape, attended_shape) = ([1, 3, HEADS, q_len], [HEADS, q_len, MAX_KV_LEN]);
        let numbers = |shape: &[usize]| vec![0i32; shape.iter().product()];
        let mut said = Said {
            bounds: numbers(&bounds_shape),
            classes: numbers(&classes_shape),
            places: numbers(&places_shape),
            attended: numbers(&attended_shape),
            scores: vec![0.0; attended_shape.iter().product()],
        };
        {
            let own = ProbeArgs {
                q_len: q_len as f64,
                q_start: self.q_start.into(),
                kv_len: self.kv_len as f64,
                bounds: TensorViewMut::from_slice(&mut said.bounds, &bounds_shape)?,
                classes: TensorViewMut::from_slice(&mut said.classes, &classes_shape)?,
                places: TensorViewMut::from_slice(&mut said.places, &places_shape)?,
                attended: TensorViewMut::from_slice(&mut said.attended, &attended_shape)?,
                scores: TensorViewMut::from_slice(&mut said.scores, &attended_shape)?,
            };
            let mut args =
                arguments::in_order(pipeline.kernel(), own.bind(), Vec::new(), self.features.inputs().collect())?;
            let grid = [self.query_tiles() as u32, self.head_tiles() as u32, 1]; // a few
            device.launch(&pipeline, grid, &mut args)?;
        }
        Ok(said)
    }

    fn pair(&self, head: usize, row: usize, key: usize) -> Pair {
        Pair {
            batch: 0,
            head,
            row,
            query: i64::from(self.q_start) + row as i64,
            key: key as i64,
            q_len: self.q_len,
            kv_len: self.kv_len,
        }
    }

    fn tile(&self, said: &Said, heads: usize, queries: usize) -> QueryTile {
        let place = heads * self.query_tiles() + queries;
        let bounds = &said.bounds[4 * place..][..4];
        let width = 2 * self.key_tiles();
        let first_row = queries * self.queries;
        QueryTile {
            heads: heads * self.heads..(heads + 1) * self.heads,
            rows: first_row..(first_row + self.queries).min(self.q_len),
            bounds: [bounds[0]..bounds[1], bounds[2]..bounds[3]],
            classes: said.classes[place * width..][..width].chunks(2).map(|c| [c[0] != 0, c[1] != 0]).collect(),
        }
    }

    fn check(&self, said: &Said, proof: &mut Proof) -> Result<(), ProofError> {
        for heads in 0..self.head_tiles() {
            for queries in 0..self.query_tiles() {
                proof.tiles += 1;
                let tile = self.tile(said, heads, queries);
                self.check_tile(said, &tile, proof)?;
                let [may, _] = &tile.bounds;
                let width = self.keys as i32;
                let meets = |first: i32| may.start < may.end.min(first + width) && first < may.end;
                let met = tile.classes.iter().zip((0..).step_by(self.keys)).filter(|&(_, first)| meets(first));
                for ([none, all], _) in met {
                    proof.skipped += usize::from(*none);
                    proof.unmasked += usize::from(*all);
                }
            }
        }
        Ok(())
    }

    fn check_tile(&self, said: &Said, tile: &QueryTile, proof: &mut Proof) -> Result<(), ProofError> {
        for key in 0..MAX_KV_LEN {
            let mut by_some = false;
            for head in tile.heads.clone() {
                for row in tile.rows.clone() {
                    let at = self.pair(head, row, key);
                    proof.pairs += 1;
                    let (attends, fault) = self.check_pair(said, tile, &at);
                    by_some |= attends;
                    if let Some((hook, fact)) = fault {
                        return self.wrong(tile, at, hook, fact);
                    }
                }
            }
            let at = self.pair(tile.heads.start, tile.rows.start, key);
            let may = tile.bounds[0].contains(&(key as i32));
            if may && !by_some && !self.features.leave_holes() {
                return self.wrong(tile, at, "leaves_holes", "no query attends this key inside `may`");
            }
            if may && key >= self.kv_len {
                return self.wrong(tile, at, "may", "the key does not exist");
            }
        }
        Ok(())
    }

    fn wrong(&self, tile: &QueryTile, at: Pair, hook: &'static str, fact: &'static str) -> Result<(), ProofError> {
        Err(ProofError::Wrong { hook, at, rows: self.heads * self.queries, first_row: tile.rows.start, fact })
    }

    /// Whether the pair is attended, and the first hook that is wrong about it.
    fn check_pair(&self, said: &Said, tile: &QueryTile, at: &Pair) -> (bool, Option<(&'static str, &'static str)>) {
        let Pair { head, row, query, key, .. } = *at;
        let exists = key < self.kv_len as i64;
        let attends = exists && self.features.masks().all(|mask| mask.reference(at));
        let adds = attends && self.features.masks().any(|mask| mask.reference_bias(at) != 0.0);
        let place = head * self.q_len + row;
        let said_attended = said.attended[place * MAX_KV_LEN + key as usize] != 0;
        let index = |which: usize| i64::from(said.places[which * HEADS * self.q_len + place]);
        let [may, must] = tile.bounds.clone().map(|keys| keys.contains(&(key as i32)));
        let [none, all] = tile.classes[key as usize / self.keys];
        let interval =
            |mask: &dyn MaskHook| mask.interval(at).is_some_and(|keys| keys.contains(&key) != mask.reference(at));
        let faults = [
            (
                "index tiles",
                "not the pair's head, row and position",
                [0, 1, 2].map(index) != [head as i64, row as i64, query],
            ),
            ("attended", "it differs from the reference", said_attended != attends),
            ("may", "the pair is attended and the key is outside", attends && !may),
            ("must", "the pair is not attended and the key is inside", !attends && must),
            ("must", "something is added to the pair and the key is inside", adds && must),
            ("class", "the pair is attended in a tile of none", attends && none),
            ("class", "the pair is not attended in a tile of all", !attends && all),
            ("class", "something is added to the pair in a tile of all", adds && all),
            ("score", "the changed score differs from the reference", attends && self.is_off(said, at)),
            ("interval", "it differs from the reference", self.features.masks().any(interval)),
            ("reach", "the key is further and a later query does not attend it", exists && self.beyond_reach(at)),
            ("leaves_holes", "the mask is no interval about each position", exists && self.is_no_band(at)),
        ];
        (attends, faults.into_iter().find(|(_, _, wrong)| *wrong).map(|(hook, fact, _)| (hook, fact)))
    }

    /// Whether the score that the hooks gave is not the reference's.
    fn is_off(&self, said: &Said, at: &Pair) -> bool {
        let got = f64::from(said.scores[(at.head * self.q_len + at.row) * MAX_KV_LEN + at.key as usize]);
        let plain = plain(at);
        let wanted = self.features.reference(at, plain);
        let allowed = SCORE_ERROR * wanted.abs().max(plain.abs()).max(1.0);
        let agrees = got == wanted || (got - wanted).abs() <= allowed; // infinities are equal or off, NaN is off
        !agrees
    }

    /// Whether a mask attends a key beyond its reach that a later query does not attend.
    fn beyond_reach(&self, at: &Pair) -> bool {
        let later = |row: usize| self.pair(at.head, row, at.key as usize);
        self.features.masks().any(|mask| {
            let beyond = mask.reach().is_some_and(|reach| at.query - at.key > reach as i64);
            beyond && mask.reference(at) && (at.row + 1..self.q_len).any(|row| !mask.reference(&later(row)))
        })
    }

    /// Whether a mask that says that it leaves no holes attends something else than an interval of keys that holds the
    /// query's position, with ends that do not go back.
    fn is_no_band(&self, at: &Pair) -> bool {
        let exists = |key: i64| (0..self.kv_len as i64).contains(&key);
        let misses = |mask: &dyn MaskHook, query: i64, key: i64| {
            let row = at.row as i64 + query - at.query;
            let there = exists(key) && (0..self.q_len as i64).contains(&row);
            there && !mask.reference(&self.pair(at.head, row as usize, key as usize))
        };
        self.features.masks().filter(|mask| !mask.leaves_holes()).any(|mask| {
            let (query, key) = (at.query, at.key);
            match mask.reference(at) {
                false => query == key,
                // The key nearer to the position, and the query nearer to the key.
                true if key > query => misses(mask, query, key - 1) || misses(mask, query + 1, key),
                true if key < query => misses(mask, query, key + 1) || misses(mask, query - 1, key),
                true => false,
            }
        })
    }
}

#[cfg(test)]
mod tests;
