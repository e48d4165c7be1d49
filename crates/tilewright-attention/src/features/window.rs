//! A query sees the keys near its own position, and the first keys where they are kept as sinks.

use super::FeatureEntry;
use crate::cases::{Case, Values};
use crate::error::MAX_LENGTH;
use crate::feature::{Class, Feature, Features, Input, InputValue, Keys, MaskHook, Pair, Pairs, Queries};
use std::ops::Range;
use tilewright_lang::prelude::*;

/// A query sees the keys `position - left <= key <= position + right`, and the first `sinks` keys whatever its position.
///
/// The numbers come at launch: windows of one form, whatever their lengths, share a kernel. As text, the form:
/// `window(left,right,sinks)` with what is there, and `window` where nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Keys before the own position; `None` is all of them.
    pub left: Option<usize>,
    /// Keys after the own position; `None` is all of them.
    pub right: Option<usize>,
    /// The first keys that neither side blocks. Causal and `kv_len` still apply to them.
    pub sinks: usize,
}

const LEFT: &str = "window_left";
const RIGHT: &str = "window_right";
const SINKS: &str = "window_sinks";

/// No key is further from any position than this: a longer side is no side, and i32 does not overflow.
const FARTHEST: usize = 2 * MAX_LENGTH;

impl Window {
    /// So many keys to each side of the own position, which is always seen; `None` is all of them.
    pub fn new(left: Option<usize>, right: Option<usize>) -> Window {
        Window { left, right, sinks: 0 }
    }

    /// The last `keys` keys including the query's own, which counts also where `keys` is 0.
    pub fn last(keys: usize) -> Window {
        Window::new(Some(keys.saturating_sub(1)), Some(0))
    }

    /// The same, with the first `sinks` keys inside the window of every query.
    pub fn sinks(self, sinks: usize) -> Window {
        Window { sinks, ..self }
    }

    /// What the form has, by the names of text and of the launch inputs, with the numbers of the latter.
    fn parts(&self) -> impl Iterator<Item = (&'static str, &'static str, usize)> {
        let sinks = (self.sinks > 0).then_some(self.sinks.min(MAX_LENGTH));
        let [left, right] = [self.left, self.right].map(|side| Some(side?.min(FARTHEST)));
        [("left", LEFT, left), ("right", RIGHT, right), ("sinks", SINKS, sinks)]
            .into_iter()
            .filter_map(|(name, input, number)| Some((name, input, number?)))
    }

    /// The keys of `all` not before `low` less the left side, and not after `high` plus the right side.
    #[track_caller]
    fn between(&self, low: Scalar<i32>, high: Scalar<i32>, all: Keys) -> Keys {
        let first = match self.left {
            Some(_) => all.first.max(low - launch_scalar::<i32>(LEFT)),
            None => all.first,
        };
        let end = match self.right {
            // The bound keeps the sum inside i32, and no key is past it.
            Some(_) => all.end.min((high + 1).min(MAX_LENGTH) + launch_scalar::<i32>(RIGHT)),
            None => all.end,
        };
        Keys { first, end }
    }
}

impl SpecValue for Window {
    fn key(&self, key: &mut String) {
        let parts: Vec<&str> = self.parts().map(|(name, _, _)| name).collect();
        key.push_str("window");
        if !parts.is_empty() {
            key.push_str(&format!("({})", parts.join(",")));
        }
    }
}

impl Feature for Window {
    fn inputs(&self) -> Vec<Input<'_>> {
        let input = |(_, name, number): (_, _, usize)| Input { name, value: InputValue::Scalar(number as f64) };
        self.parts().map(input).collect()
    }

    fn mask(&self) -> Option<&dyn MaskHook> {
        Some(self)
    }
}

#[tile]
impl Window {
    /// With sinks the keys of a tile of queries are two intervals. Tiles of keys between them are skipped.
    fn two_intervals(&self, at: &Pairs) -> Class {
        let all = Keys { first: scalar(0), end: at.kv_len };
        let (may, must) = (self.between(at.first, at.last, all), self.between(at.last, at.first, all));
        let sinks = launch_scalar::<i32>(SINKS);
        let end = at.first_key + at.keys;
        let outside = end <= may.first || may.end <= at.first_key;
        // Where the intervals meet, a tile may lie across.
        let across = must.first <= sinks && end <= must.end;
        Class {
            none: Some(sinks <= at.first_key && outside),
            all: end <= sinks || must.hold(at.first_key, at.keys) || across,
        }
    }

    fn inside(&self, at: &Pairs) -> Tile<bool> {
        let after = self.left.map(|_| at.key + launch_scalar::<i32>(LEFT) >= at.query);
        let before = self.right.map(|_| at.key - launch_scalar::<i32>(RIGHT) <= at.query);
        match (after, before) {
            (Some(after), Some(before)) => after & before,
            (Some(side), None) | (None, Some(side)) => side,
            (None, None) => Tile::full(true, &[1, 1]),
        }
    }

    fn sink_keys(&self, at: &Pairs) -> Tile<bool> {
        at.key < launch_scalar::<i32>(SINKS)
    }

    /// The smallest interval that holds the window's keys and the sinks.
    fn hull(&self, window: Keys, all: Keys) -> Keys {
        let sinks = launch_scalar::<i32>(SINKS);
        let end = (window.first < window.end).select(window.end.max(sinks), sinks);
        Keys { first: all.first, end: all.end.min(end) }
    }
}

impl MaskHook for Window {
    fn attended(&self, at: &Pairs) -> Tile<bool> {
        if self.sinks == 0 { self.inside(at) } else { self.inside(at) | self.sink_keys(at) }
    }

    fn reference(&self, at: &Pair) -> bool {
        let within = |side: Option<usize>, distance: i64| side.is_none_or(|most| distance <= keys(most));
        at.key < keys(self.sinks) || within(self.left, at.query - at.key) && within(self.right, at.key - at.query)
    }

    fn interval(&self, at: &Pair) -> Option<Range<i64>> {
        let first = self.left.map_or(i64::MIN, |left| at.query.saturating_sub(keys(left)));
        let end = self.right.map_or(i64::MAX, |right| at.query.saturating_add(keys(right)).saturating_add(1));
        match keys(self.sinks) {
            0 => Some(first..end),
            sinks => (first <= sinks).then_some(0..end.max(sinks)),
        }
    }

    fn may(&self, at: &Queries, all: Keys) -> Keys {
        let window = self.between(at.first, at.last, all);
        if self.sinks == 0 { window } else { self.hull(window, all) }
    }

    fn must(&self, at: &Queries, all: Keys) -> Keys {
        self.between(at.last, at.first, all)
    }

    fn class(&self, at: &Pairs) -> Option<Class> {
        (self.sinks > 0).then(|| self.two_intervals(at))
    }

    /// Sinks do not count: a ring holds its oldest keys, whichever they are.
    fn reach(&self) -> Option<usize> {
        self.left
    }

    /// Neighbouring queries' windows overlap or touch; sinks may lie apart.
    fn leaves_holes(&self) -> bool {
        self.sinks > 0
    }

    fn differs_by_head(&self) -> bool {
        false
    }
}

/// A number of keys where positions are i64.
fn keys(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) const ENTRY: FeatureEntry = FeatureEntry {
    name: "window",
    parse,
    samples: |_| {
        let windows = [
            Window::last(1),
            Window::last(3),
            Window::last(37),
            Window::new(Some(2), Some(1)),
            Window::new(None, Some(2)),
            Window::new(Some(17), None),
            Window::new(Some(usize::MAX), Some(usize::MAX)),
            Window::last(2).sinks(1),
            Window::last(20).sinks(33),
            Window::new(Some(0), Some(1)).sinks(2),
            Window::new(None, Some(0)).sinks(4),
            Window::new(Some(3), None).sinks(usize::MAX),
        ];
        windows.into_iter().map(|window| Features::none().with(window)).collect()
    },
    cases,
};

/// The form of a window: its numbers do not change the kernel.
fn parse(of: &str) -> Result<Features, String> {
    let mut window = Window::default();
    for part in of.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part {
            "left" => window.left = Some(1),
            "right" => window.right = Some(0),
            "sinks" => window.sinks = 1,
            part => return Err(format!("a window has left, right and sinks, not `{part}`")),
        }
    }
    Ok(Features::none().with(window))
}

fn cases() -> Vec<Case> {
    let case = |name, window: Window| Case::new(name).feature(window).schedule(16, 32).lengths(50, 150);
    let last = Window::last;
    vec![
        case("window_of_one", last(1)),
        case("window_of_a_tile_of_keys", last(32)),
        case("window_short_of_a_tile", last(31)),
        case("window_past_a_tile", last(33)),
        case("window_of_every_key", last(150)),
        case("window_longer_than_any_cache", last(usize::MAX)),
        case("window_to_the_left", Window::new(Some(40), None)),
        case("window_to_the_right", Window::new(None, Some(5))).q_start(20),
        case("window_to_both_sides", Window::new(Some(9), Some(33))).q_start(40),
        case("window_without_sides", Window::default()),
        case("window_and_causal", Window::new(Some(20), Some(7))).feature(super::Causal),
        case("window_before_the_first_key", last(20)).q_start(-30),
        case("window_after_the_last_key", last(20)).q_start(145),
        case("window_far_after_the_last_key", Window::new(Some(usize::MAX), Some(usize::MAX))).q_start(1 << 29),
        case("window_far_before_the_first_key", Window::new(Some(3), Some(usize::MAX))).q_start(-(1 << 29)),
        case("window_of_one_query", last(40)).lengths(1, 150),
        case("window_uneven_batch", last(10)).batch(4).lengths(18, 70).kv_len(&[70, 33, 0, 7]),
        case("window_groups_of_three", last(25)).heads(6, 2),
        case("window_logits_of_1e5", last(25)).values(Values::LargeLogits),
        case("window_sinks", last(20).sinks(4)),
        case("window_sinks_of_a_tile", last(20).sinks(32)),
        case("window_sinks_past_a_tile", last(20).sinks(33)),
        case("window_sinks_that_meet_the_window", last(60).sinks(50)),
        case("window_sinks_of_every_key", last(20).sinks(usize::MAX)),
        case("window_sinks_after_the_query", last(2).sinks(40)).q_start(0),
        case("window_sinks_and_causal", last(2).sinks(40)).q_start(0).feature(super::Causal),
        case("window_sinks_alone", last(20).sinks(4)).q_start(500),
        case("window_sinks_far_away", last(20).sinks(4)).q_start(1 << 29),
        case("window_sinks_of_one_query", last(20).sinks(4)).lengths(1, 150),
        case("window_sinks_uneven_batch", last(10).sinks(3)).batch(5).lengths(18, 70).kv_len(&[70, 33, 0, 7, 2]),
    ]
}
