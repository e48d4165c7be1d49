//! Scores between two bounds.

use super::{FeatureEntry, bare};
use crate::attention::Extents;
use crate::cases::{Case, Values};
use crate::feature::{Feature, Features, Input, InputValue, Pair, Pairs, Phase, ScoreHook};
use tilewright_lang::prelude::*;

/// Scores become `cap * tanh(score / cap)`, before any bias.
///
/// The cap, from 1e-30 to 1e30, comes at launch: all caps share a kernel. As text: `softcap`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softcap(pub f64);

const CAP: &str = "softcap";

impl SpecValue for Softcap {
    fn key(&self, key: &mut String) {
        key.push_str("softcap");
    }
}

impl Feature for Softcap {
    fn check(&self, _: &Extents, _: &[i32]) -> Result<(), String> {
        // Beyond these a quotient of f32 could lose what counts.
        match (1e-30..=1e30).contains(&self.0) {
            true => Ok(()),
            false => Err(format!("a cap of {}; give one from 1e-30 to 1e30, or leave it out", self.0)),
        }
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![Input { name: CAP, value: InputValue::Scalar(self.0) }]
    }

    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        Some((Phase::Cap, self))
    }
}

impl ScoreHook for Softcap {
    fn apply(&self, scores: Tile<f32>, _: &Pairs) -> Tile<f32> {
        let cap = launch_scalar::<f32>(CAP);
        (scores / cap).tanh() * cap
    }

    fn reference(&self, _: &Pair, score: f64) -> f64 {
        self.0 * (score / self.0).tanh()
    }
}

pub(super) const ENTRY: FeatureEntry = FeatureEntry {
    name: "softcap",
    // Any: it comes at launch.
    parse: |of| bare("softcap", of).map(|()| Features::none().with(Softcap(50.0))),
    samples: |_| [0.5, 30.0].map(|cap| Features::none().with(Softcap(cap))).into(),
    cases,
};

fn cases() -> Vec<Case> {
    let case = |name, cap| Case::new(name).feature(Softcap(cap)).schedule(16, 32).lengths(20, 70);
    vec![
        case("softcap_of_50", 50.0),
        case("softcap_below_one", 0.25),
        case("softcap_that_caps_nothing", 1e6),
        case("softcap_that_leaves_nothing", 1e-6),
        case("softcap_largest", 1e30),
        case("softcap_smallest", 1e-30),
        case("softcap_of_logits_of_1e5", 30.0).values(Values::LargeLogits),
        case("softcap_and_causal", 2.0).feature(super::Causal),
        case("softcap_and_window", 2.0).feature(super::Window::last(9).sinks(2)),
        case("softcap_of_groups", 5.0).heads(6, 2),
    ]
}
