//! A logit of each head that adds to the softmax denominator of its rows and to nothing else.

use super::per_head::{PerHead, for_heads};
use super::{FeatureEntry, bare};
use crate::attention::Extents;
use crate::cases::Case;
use crate::feature::{Feature, Features, Input, InputValue, Queries, SinkHook};
use std::sync::Arc;
use tilewright_lang::prelude::*;
use tilewright_runtime::Tensor;

/// A sink logit for each query head, in natural units: it adds to the softmax denominator and to nothing else. `-inf` is no
/// sink. A row that attends to nothing gives `o = 0` and `lse` the logit.
///
/// The logits come at launch. As text: `sinks`.
#[derive(Clone, Debug)]
pub struct Sinks(PerHead);

const LOGITS: &str = "sink_logits";

impl Sinks {
    /// Logits `[q_heads]` f32, finite or `-inf`; the request refuses others.
    pub fn new(logits: impl Into<Arc<Tensor>>) -> Sinks {
        Sinks(PerHead::new(logits.into()))
    }
}

impl SpecValue for Sinks {
    fn key(&self, key: &mut String) {
        key.push_str("sinks");
    }
}

impl Feature for Sinks {
    fn check(&self, shape: &Extents, _: &[i32]) -> Result<(), String> {
        self.0.check(shape, |x| x.is_finite() || x == f64::NEG_INFINITY, "a finite number, or -inf for no sink")
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![Input { name: LOGITS, value: InputValue::Tensor(self.0.view()) }]
    }

    fn sink(&self) -> Option<&dyn SinkHook> {
        Some(self)
    }
}

impl SinkHook for Sinks {
    fn logit(&self, at: &Queries) -> Tile<f32> {
        at.of_heads(launch_view::<f32, 1>(LOGITS))
    }

    fn reference(&self, head: usize) -> f64 {
        self.0.of(head)
    }
}

pub(super) const ENTRY: FeatureEntry = FeatureEntry {
    name: "sinks",
    // Any: they come at launch.
    parse: |of| bare("sinks", of).map(|()| Features::none().with(Sinks::new(for_heads(1, |_| 0.0)))),
    samples: |extents| vec![Features::none().with(some(extents.q_heads))],
    cases,
};

/// Sinks of all sorts: none, weak, strong.
fn some(heads: usize) -> Sinks {
    Sinks::new(for_heads(heads, |head| [0.5, f64::NEG_INFINITY, -3.0, 4.25][head % 4]))
}

fn cases() -> Vec<Case> {
    let case = |name, heads, sinks| Case::new(name).heads(heads, heads).feature(sinks).schedule(16, 32).lengths(20, 70);
    let same = |heads, logit: f64| Sinks::new(for_heads(heads, |_| logit));
    vec![
        case("sinks_of_each_head", 4, some(4)),
        case("sinks_of_groups", 8, some(8)).heads(8, 2),
        case("sinks_that_are_none", 2, same(2, f64::NEG_INFINITY)).feature(super::Causal).q_start(-3),
        case("sinks_of_rows_without_keys", 4, some(4)).feature(super::Causal).q_start(-7),
        case("sinks_without_any_keys", 4, some(4)).lengths(3, 0),
        case("sinks_stronger_than_all_keys", 2, same(2, 60.0)),
        case("sinks_weaker_than_all_keys", 2, same(2, -1e5)),
        case("sinks_of_one_query", 8, some(8)).heads(8, 2).lengths(1, 150),
        case("sinks_beside_a_window", 4, some(4)).feature(super::Window::last(9).sinks(2)),
    ]
}
