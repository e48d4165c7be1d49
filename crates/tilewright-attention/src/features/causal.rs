//! A query sees the keys up to its own position.

use super::{FeatureEntry, bare};
use crate::cases::{Case, Values};
use crate::feature::{Feature, Features, Keys, MaskHook, Pair, Pairs, Queries};
use std::ops::Range;
use tilewright_lang::prelude::*;

/// A query sees the keys up to its own position: `key <= position(query)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Causal;

impl SpecValue for Causal {
    fn key(&self, key: &mut String) {
        key.push_str("causal");
    }
}

impl Feature for Causal {
    fn mask(&self) -> Option<&dyn MaskHook> {
        Some(self)
    }
}

#[tile]
impl MaskHook for Causal {
    fn attended(&self, at: &Pairs) -> Tile<bool> {
        at.key <= at.query
    }

    fn reference(&self, at: &Pair) -> bool {
        at.key <= at.query
    }

    fn interval(&self, at: &Pair) -> Option<Range<i64>> {
        Some(0..at.query + 1)
    }

    fn may(&self, at: &Queries, all: Keys) -> Keys {
        Keys { end: all.end.min(at.last + 1), ..all }
    }

    fn must(&self, at: &Queries, all: Keys) -> Keys {
        Keys { end: all.end.min(at.first + 1), ..all }
    }

    /// The last query of a tile sees all that any of them sees.
    fn leaves_holes(&self) -> bool {
        false
    }

    fn differs_by_head(&self) -> bool {
        false
    }
}

pub(super) const ENTRY: FeatureEntry = FeatureEntry {
    name: "causal",
    parse: |of| bare("causal", of).map(|()| Features::none().with(Causal)),
    samples: |_| vec![Features::none().with(Causal)],
    cases,
};

fn cases() -> Vec<Case> {
    let case = |name| Case::new(name).feature(Causal).schedule(16, 32);
    vec![
        case("causal_one_tile").lengths(16, 32),
        case("causal_short_of_a_tile").lengths(15, 31),
        case("causal_past_a_tile").lengths(17, 33),
        case("causal_square").lengths(48, 48),
        case("causal_long_cache").lengths(5, 100),
        case("causal_more_queries_than_keys").lengths(40, 9),
        case("causal_no_keys").lengths(3, 0),
        case("causal_one_query_one_key").lengths(1, 1),
        case("causal_from_the_top_left").lengths(20, 37).q_start(0),
        case("causal_all_before_the_first_key").lengths(7, 20).q_start(-7),
        case("causal_half_before_the_first_key").lengths(20, 20).q_start(-10),
        case("causal_all_after_the_last_key").lengths(20, 20).q_start(1000),
        case("causal_far_away").lengths(4, 20).q_start(1 << 29),
        case("causal_uneven_batch").batch(4).lengths(18, 70).kv_len(&[70, 33, 0, 7]),
        case("causal_groups_of_three").heads(6, 2).lengths(33, 50),
        case("causal_logits_of_1e5").lengths(20, 40).values(Values::LargeLogits),
        case("causal_sequence_major").heads(4, 2).lengths(19, 41).sequence_major(),
        case("causal_wide_heads").dims(576, 512).lengths(17, 34),
    ]
}
