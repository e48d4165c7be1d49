//! Exhaustive proof, at small sizes, that a mask's hooks say what its reference says.
//!
//! The forward kernel splits its loop from `may` and `must` alone and trusts them; a wrong interval is a wrong result in a
//! few rows only. So every feature, also a user's own, is held against its reference in every tile of every small problem.

use crate::arguments;
use crate::attention::Extents;
use crate::error::AttentionError;
use crate::feature::{Block, Features, Keys, Pair, Queries};
use tilewright_lang::prelude::*;
use tilewright_runtime::{Device, TensorViewMut};

/// The largest number of queries, keys and rows of a tile that is tried; positions go further on both sides.
const MAX_Q_LEN: usize = 5;
const MAX_KV_LEN: usize = 6;
const MAX_ROWS: usize = 3;
const HEADS: usize = 2;
const POSITIONS: std::ops::RangeInclusive<i32> = -7..=8;

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
}

/// Where hooks and reference disagree.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The hooks could not be run.
    #[error(transparent)]
    Refused(#[from] AttentionError),
    /// A hook says something else than the reference.
    #[error("{hook} is wrong for {at:?} in a tile of {rows} rows from {first_row}: {fact}")]
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

/// Writes what the hooks say for each tile: may and must `[heads, tiles, 4]`, attended `[heads, rows, keys]`.
#[kernel]
fn probe(
    q_len: Scalar<i32>,
    q_start: Scalar<i32>,
    kv_len: Scalar<i32>,
    bounds: ViewMut<i32, 3>,
    attended: ViewMut<i32, 3>,
    rows: usize,
    keys: usize,
    features: Features,
) {
    let [block, head, batch] = program_id();
    let first_row = block * rows;
    let tile = Block { batch, first_head: head, heads: 1, first_row, queries: rows };
    let at = Queries::new(tile, q_len, q_start, kv_len);
    let known = features.known(&at, Keys { first: scalar(0), end: kv_len });
    let (may, must) = (known.may, known.must());
    for (place, bound) in [may.first, may.end, must.first, must.end].into_iter().enumerate() {
        bounds.at(head).at(block).set(place, bound);
    }
    let pairs = at.with_keys(scalar(0), keys);
    let existing = (pairs.key < kv_len).broadcast(&[rows, keys]);
    attended.at(head).store(first_row, features.attended(existing, &pairs).cast());
}

/// Holds the masks of these features against their references in every small problem.
///
/// # Errors
/// The first disagreement, and what the interpreter refuses.
pub fn prove(features: &Features) -> Result<Proof, ProofError> {
    let device = Device::interp();
    let mut proof = Proof { tiles: 0, pairs: 0 };
    for rows in 1..=MAX_ROWS {
        for q_len in 1..=MAX_Q_LEN {
            for kv_len in 0..=MAX_KV_LEN {
                for q_start in POSITIONS {
                    let problem = Problem { features, rows, q_len, kv_len, q_start };
                    problem.check(&problem.run(&device)?, &mut proof)?;
                }
            }
        }
    }
    Ok(proof)
}

struct Problem<'f> {
    features: &'f Features,
    rows: usize,
    q_len: usize,
    kv_len: usize,
    q_start: i32,
}

/// What the hooks said.
struct Said {
    bounds: Vec<i32>,
    attended: Vec<i32>,
}

impl Problem<'_> {
    fn tiles(&self) -> usize {
        self.q_len.div_ceil(self.rows)
    }

    fn run(&self, device: &Device) -> Result<Said, AttentionError> {
        let spec = Probe { rows: self.rows, keys: MAX_KV_LEN, features: self.features.clone() };
        let pipeline = device.compile_keyed(&spec.key(), || spec.trace().map_err(AttentionError::from))?;
        let mut bounds = vec![0i32; HEADS * self.tiles() * 4];
        let mut attended = vec![0i32; HEADS * self.q_len * MAX_KV_LEN];
        {
            let own = ProbeArgs {
                q_len: self.q_len as f64,
                q_start: self.q_start.into(),
                kv_len: self.kv_len as f64,
                bounds: TensorViewMut::from_slice(&mut bounds, &[HEADS, self.tiles(), 4])?,
                attended: TensorViewMut::from_slice(&mut attended, &[HEADS, self.q_len, MAX_KV_LEN])?,
            };
            let mut args = arguments::in_order(pipeline.kernel(), own.bind(), Vec::new(), self.features)?;
            device.launch(&pipeline, [self.tiles() as u32, HEADS as u32, 1], &mut args)?;
        }
        Ok(Said { bounds, attended })
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

    fn check(&self, said: &Said, proof: &mut Proof) -> Result<(), ProofError> {
        for head in 0..HEADS {
            for tile in 0..self.tiles() {
                proof.tiles += 1;
                self.check_tile(said, head, tile, proof)?;
            }
        }
        Ok(())
    }

    fn check_tile(&self, said: &Said, head: usize, tile: usize, proof: &mut Proof) -> Result<(), ProofError> {
        let first_row = tile * self.rows;
        let rows = first_row..(first_row + self.rows).min(self.q_len);
        let bounds = &said.bounds[(head * self.tiles() + tile) * 4..][..4]; // four for each tile
        let within = |key: usize, place: usize| (bounds[place]..bounds[place + 1]).contains(&(key as i32));
        let wrong = |hook, at, fact| Err(ProofError::Wrong { hook, at, rows: self.rows, first_row, fact });
        for key in 0..MAX_KV_LEN {
            let exists = key < self.kv_len;
            let mut by_some = false;
            for row in rows.clone() {
                let at = self.pair(head, row, key);
                let attends = exists && self.features.masks().all(|mask| mask.reference(&at));
                proof.pairs += 1;
                by_some |= attends;
                if (said.attended[(head * self.q_len + row) * MAX_KV_LEN + key] != 0) != attends {
                    return wrong("attended", at, "it differs from the reference");
                }
                if attends && !within(key, 0) {
                    return wrong("may", at, "the pair is attended and the key is outside");
                }
                if !attends && within(key, 2) {
                    return wrong("must", at, "the pair is not attended and the key is inside");
                }
                for mask in self.features.masks() {
                    if mask.interval(&at).is_some_and(|keys| keys.contains(&at.key) != mask.reference(&at)) {
                        return wrong("interval", at, "it differs from the reference");
                    }
                }
            }
            if within(key, 0) && !by_some && !self.features.leave_holes() {
                return wrong(
                    "leaves_holes",
                    self.pair(head, first_row, key),
                    "no query attends this key inside `may`",
                );
            }
            if within(key, 0) && !exists {
                return wrong("may", self.pair(head, first_row, key), "the key does not exist");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::{Feature, Keys, MaskHook, Pairs};
    use crate::features::{self, Causal};
    use std::ops::Range;

    #[test]
    fn every_feature_of_the_library_says_what_its_reference_says_in_every_small_problem() {
        for sample in features::all().iter().flat_map(|entry| (entry.samples)(&LARGEST)) {
            let proof = prove(&sample).unwrap_or_else(|error| panic!("{sample}: {error}"));
            assert!(proof.tiles > 1000 && proof.pairs > 10_000, "{sample}: {proof:?}");
        }
    }

    #[test]
    fn no_features_attend_to_everything() {
        assert!(prove(&Features::none()).unwrap().pairs > 10_000);
    }

    /// Causal with one hook shifted by one.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Broken {
        May,
        Must,
        Attended,
        Holes,
    }

    impl SpecValue for Broken {
        fn key(&self, into: &mut String) {
            into.push_str(&format!("{self:?}"));
        }
    }

    impl Feature for Broken {
        fn mask(&self) -> Option<&dyn MaskHook> {
            Some(self)
        }
    }

    #[tile]
    impl MaskHook for Broken {
        fn attended(&self, at: &Pairs) -> Tile<bool> {
            if *self == Broken::Attended { at.key < at.query } else { at.key <= at.query }
        }

        fn reference(&self, at: &Pair) -> bool {
            at.key <= at.query
        }

        fn interval(&self, at: &Pair) -> Option<Range<i64>> {
            Causal.interval(at)
        }

        fn may(&self, at: &Queries, all: Keys) -> Keys {
            match self {
                Broken::May => Keys { end: all.end.min(at.last), ..all },
                Broken::Holes => all,
                Broken::Must | Broken::Attended => Causal.may(at, all),
            }
        }

        fn must(&self, at: &Queries, all: Keys) -> Keys {
            if *self == Broken::Must { Keys { end: all.end.min(at.first + 2), ..all } } else { Causal.must(at, all) }
        }

        fn leaves_holes(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_hook_that_is_off_by_one_is_found() {
        for (broken, name) in [
            (Broken::May, "may"),
            (Broken::Must, "must"),
            (Broken::Attended, "attended"),
            (Broken::Holes, "leaves_holes"),
        ] {
            match prove(&Features::none().with(broken)) {
                Err(ProofError::Wrong { hook, .. }) => assert_eq!(hook, name),
                other => panic!("{broken:?}: {other:?}"),
            }
        }
    }
}
