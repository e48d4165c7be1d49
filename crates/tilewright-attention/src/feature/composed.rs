//! Features composed: their hooks, phase by phase, as the kernels and the reference ask for them.

use super::{Class, Feature, Input, Keys, MaskHook, Pair, Pairs, Phase, Queries, ScoreHook, SinkHook};
use crate::attention::Extents;
use crate::features;
use std::any::{TypeId, type_name};
use std::fmt;
use std::sync::Arc;
use tilewright_ir::Schedule;
use tilewright_lang::prelude::*;

/// Features composed. The order in which they were added does not matter: they are kept, and run, in the order of their
/// keys.
///
/// As text, each by its name: `causal`, and `none` for no features; `+` joins several.
#[derive(Clone, Debug, Default)]
pub struct Features(Vec<Composed>);

#[derive(Clone)]
struct Composed {
    /// The type and the feature's own key: other users' features may have an equal key, or a type of the same name.
    key: String,
    shown: String,
    feature: Arc<dyn Feature>,
}

impl Composed {
    fn new<F: Feature + 'static>(feature: F) -> Composed {
        let mut own = String::new();
        feature.key(&mut own);
        let of_type = type_name::<F>();
        let without_generics = of_type.split('<').next().unwrap_or(of_type);
        let short = without_generics.rsplit("::").next().unwrap_or(without_generics);
        let names_itself = own.starts_with(char::is_alphabetic);
        Composed {
            key: format!("{of_type} {own} {:?}", TypeId::of::<F>()),
            shown: if names_itself { own } else { format!("{short}({own})") },
            feature: Arc::new(feature),
        }
    }
}

impl SpecValue for Composed {
    fn key(&self, into: &mut String) {
        into.push_str(&self.key);
    }
}

impl fmt::Debug for Composed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.feature.fmt(f)
    }
}

impl SpecValue for Features {
    fn key(&self, into: &mut String) {
        self.0.as_slice().key(into);
    }

    fn parse(text: &str) -> Result<Features, String> {
        features::parse(text)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|composed| &*composed.shown).collect();
        f.pad(&if names.is_empty() { "none".to_string() } else { names.join("+") })
    }
}

impl Features {
    /// No features: every query sees every key.
    pub fn none() -> Features {
        Features::default()
    }

    /// These and one more.
    pub fn with(self, feature: impl Feature + 'static) -> Features {
        self.and(Features(vec![Composed::new(feature)]))
    }

    /// These and those.
    pub fn and(mut self, others: Features) -> Features {
        self.0.extend(others.0);
        self.0.sort_by(|a, b| a.key.cmp(&b.key));
        self
    }

    fn all(&self) -> impl Iterator<Item = &dyn Feature> {
        self.0.iter().map(|composed| &*composed.feature)
    }

    /// The hooks of one phase on scores.
    pub fn scores(&self, phase: Phase) -> impl Iterator<Item = &dyn ScoreHook> {
        self.all().filter_map(|f| f.score()).filter(move |(p, _)| *p == phase).map(|(_, hook)| hook)
    }

    /// The masks.
    pub fn masks(&self) -> impl Iterator<Item = &dyn MaskHook> {
        self.all().filter_map(|f| f.mask())
    }

    /// The sinks.
    pub fn sinks(&self) -> impl Iterator<Item = &dyn SinkHook> {
        self.all().filter_map(|f| f.sink())
    }

    /// Whether kernels made for these serve those: the same features, whatever they bring at launch.
    pub(crate) fn have_kernels_of(&self, other: &Features) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.key == b.key)
    }

    /// Whether they are the very same values, so that what they bring at launch is the same too.
    pub(crate) fn are(&self, other: &Features) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| Arc::ptr_eq(&a.feature, &b.feature))
    }

    /// What all of them bring at launch.
    pub fn inputs(&self) -> impl Iterator<Item = Input<'_>> {
        self.all().flat_map(|f| f.inputs())
    }

    /// Whether any feature changes scores; then they are needed in natural units.
    pub fn change_scores(&self) -> bool {
        self.all().any(|f| f.score().is_some())
    }

    /// Whether a key inside what the queries of a tile may attend is perhaps attended by none of them.
    ///
    /// Where each mask says that it leaves none, all together leave none: intervals that hold the query's position and never
    /// go back meet in one that does the same, so the first query's first key and the last query's last key are the ends of
    /// what is attended, and are where all the `may` meet.
    pub fn leave_holes(&self) -> bool {
        self.masks().any(|mask| mask.leaves_holes())
    }

    /// Scores in natural units after all caps and biases.
    pub fn change(&self, scores: Tile<f32>, at: &Pairs) -> Tile<f32> {
        let capped = self.scores(Phase::Cap).fold(scores, |scores, hook| hook.apply(scores, at));
        self.scores(Phase::Bias).fold(capped, |scores, hook| hook.apply(scores, at))
    }

    /// The f64 twin of [`change`](Features::change) and [`bias`](Features::bias) for one attended pair.
    pub fn reference(&self, at: &Pair, score: f64) -> f64 {
        let capped = self.scores(Phase::Cap).fold(score, |score, hook| hook.reference(at, score));
        let biased = self.scores(Phase::Bias).fold(capped, |score, hook| hook.reference(at, score));
        self.masks().fold(biased, |score, mask| score + mask.reference_bias(at))
    }

    /// What the masks add to scores, in natural units.
    pub fn bias(&self, at: &Pairs) -> Option<Tile<f32>> {
        self.masks().filter_map(|mask| mask.bias(at)).reduce(|sum, bias| sum + bias)
    }

    /// How many keys before its own position a query may attend at most; `None` is all of them.
    pub fn reach(&self) -> Option<usize> {
        self.masks().filter_map(|mask| mask.reach()).min()
    }

    /// The tile shape that one of them was made for.
    pub(crate) fn schedule(&self) -> Option<Schedule> {
        self.all().find_map(|feature| feature.schedule())
    }

    /// Whether all fit problems of these extents.
    ///
    /// # Errors
    /// The first feature that does not: its text, and what is wrong.
    pub fn check(&self, shape: &Extents, kv_len: &[i32]) -> Result<(), (String, String)> {
        let checked = |c: &Composed| c.feature.check(shape, kv_len).map_err(|reason| (c.shown.clone(), reason));
        self.0.iter().try_for_each(checked)
    }

    /// True where every mask attends.
    pub fn attended(&self, existing: Tile<bool>, at: &Pairs) -> Tile<bool> {
        self.masks().fold(existing, |all, mask| all & mask.attended(at))
    }

    /// The keys of `all` that are walked for these queries.
    #[track_caller]
    pub fn walked(&self, at: &Queries, all: Keys) -> Keys {
        self.masks().fold(all, |keys, mask| keys.intersect(mask.walked(at, all)))
    }

    /// What the masks know of these queries over the keys of `all`.
    #[track_caller]
    pub fn known(&self, at: &Queries, all: Keys) -> Known<'_> {
        let may = self.masks().fold(all, |keys, mask| keys.intersect(mask.may(at, all)));
        let musts = self.masks().map(|mask| (mask, mask.must(at, all))).collect();
        Known { may, musts }
    }
}

/// What masks know of the queries of a tile.
pub struct Known<'f> {
    /// The keys that some query of the tile may attend.
    pub may: Keys,
    musts: Vec<(&'f dyn MaskHook, Keys)>,
}

impl Known<'_> {
    /// The keys that every query of the tile attends, as the intervals say.
    pub fn must(&self) -> Keys {
        self.musts.iter().fold(self.may, |keys, (_, must)| keys.intersect(*must))
    }
}

#[tile]
impl Known<'_> {
    /// What is known of a tile of keys of which `own` may be attended.
    pub fn class(&self, at: &Pairs, own: Keys) -> Class {
        let mut must = own;
        let mut classes = Vec::new();
        for (mask, keys) in &self.musts {
            match mask.class(at) {
                Some(class) => classes.push((class, *keys)),
                None => must = must.intersect(*keys),
            }
        }
        let mut known = Class { none: None, all: must.hold(at.first_key, at.keys) };
        for (class, keys) in classes {
            known.none = match (known.none, class.none) {
                (Some(one), Some(other)) => Some(one | other),
                (one, None) | (None, one) => one,
            };
            known.all &= class.all | keys.hold(at.first_key, at.keys);
        }
        known
    }
}
