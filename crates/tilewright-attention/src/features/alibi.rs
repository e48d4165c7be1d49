//! A bias that grows with the distance, by another slope for each head.

use super::per_head::{PerHead, for_heads};
use super::{FeatureEntry, bare};
use crate::attention::Extents;
use crate::cases::Case;
use crate::feature::{Feature, Features, Input, InputValue, Pair, Pairs, Phase, ScoreHook};
use std::sync::Arc;
use tilewright_lang::prelude::*;
use tilewright_runtime::Tensor;

/// Adds `slope[head] * (key - position)` to each score, in natural units.
///
/// The slopes come at launch. As text: `alibi`.
///
/// # Source
/// ALiBi (Press, Smith, Lewis, 2022), arXiv:2108.12409.
#[derive(Clone, Debug)]
pub struct Alibi(PerHead);

const SLOPES: &str = "alibi_slopes";

impl Alibi {
    /// Slopes `[q_heads]` f32, finite; the request refuses others.
    pub fn new(slopes: impl Into<Arc<Tensor>>) -> Alibi {
        Alibi(PerHead::new(slopes.into()))
    }
}

impl SpecValue for Alibi {
    fn key(&self, key: &mut String) {
        key.push_str("alibi");
    }
}

impl Feature for Alibi {
    fn check(&self, shape: &Extents, _: &[i32]) -> Result<(), String> {
        self.0.check(shape, f64::is_finite, "a finite slope")
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![Input { name: SLOPES, value: InputValue::Tensor(self.0.view()) }]
    }

    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        Some((Phase::Bias, self))
    }
}

impl ScoreHook for Alibi {
    fn apply(&self, scores: Tile<f32>, at: &Pairs) -> Tile<f32> {
        scores + (at.key - at.query).cast::<f32>() * at.of_heads(launch_view::<f32, 1>(SLOPES))
    }

    fn reference(&self, at: &Pair, score: f64) -> f64 {
        score + self.0.of(at.head) * (at.key - at.query) as f64
    }
}

pub(super) const ENTRY: FeatureEntry = FeatureEntry {
    name: "alibi",
    // Any: they come at launch.
    parse: |of| bare("alibi", of).map(|()| Features::none().with(Alibi::new(for_heads(1, |_| 0.0)))),
    samples: |extents| vec![Features::none().with(usual(extents.q_heads))],
    cases,
};

/// The paper's slopes: a geometric series that ends at 2^-8.
fn usual(heads: usize) -> Alibi {
    Alibi::new(for_heads(heads, |head| (-8.0 * (head + 1) as f64 / heads as f64).exp2()))
}

fn cases() -> Vec<Case> {
    let case = |name, heads| Case::new(name).heads(heads, heads).schedule(16, 32).lengths(20, 70);
    let slopes = |slopes: [f64; 4]| Alibi::new(for_heads(4, |head| slopes[head]));
    vec![
        case("alibi", 8).feature(usual(8)),
        case("alibi_and_causal", 8).feature(usual(8)).feature(super::Causal),
        case("alibi_of_groups", 8).heads(8, 2).feature(usual(8)).feature(super::Causal),
        case("alibi_of_any_sign", 4).feature(slopes([0.0, -0.5, 1.0, -1.0 / 3.0])),
        case("alibi_of_one_query", 8).heads(8, 2).lengths(1, 150).feature(usual(8)),
        case("alibi_from_the_top_left", 4).q_start(0).feature(usual(4)).feature(super::Causal),
        case("alibi_uneven_batch", 4).batch(3).kv_len(&[70, 0, 33]).feature(usual(4)).feature(super::Causal),
        case("alibi_after_a_softcap", 4).feature(usual(4)).feature(super::Softcap(0.5)),
        case("alibi_in_a_window", 4).feature(usual(4)).feature(super::Window::last(30).sinks(3)),
    ]
}
