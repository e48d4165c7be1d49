//! What a feature of attention is: hooks that run in fixed phases, each with its f64 twin.
//!
//! Hooks see index tiles (position of the query, key, row in q) and the head, never how rows are laid out in a tile. The
//! phases are fixed (cap, bias, mask, sink), so the order in which features are given cannot change what is computed.

use crate::attention::Extents;
use crate::features;
pub use crate::index::{Block, Keys, Pair, Pairs, Queries};
use std::any::{TypeId, type_name};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
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
    /// No pair is attended: keys and values are not loaded.
    pub none: Scalar<bool>,
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
    pub fn class(&self, at: &Pairs, own: Keys) -> Knowledge {
        let mut must = own;
        let mut classes = Vec::new();
        for (mask, keys) in &self.musts {
            match mask.class(at) {
                Some(class) => classes.push((class, *keys)),
                None => must = must.intersect(*keys),
            }
        }
        let mut known = Knowledge { none: None, all: must.hold(at.first_key, at.keys) };
        for (class, keys) in classes {
            known.none = Some(match known.none {
                Some(none) => none | class.none,
                None => class.none,
            });
            known.all &= class.all | keys.hold(at.first_key, at.keys);
        }
        known
    }
}

/// What is known of a tile of pairs.
#[derive(Clone, Copy, Debug)]
pub struct Knowledge {
    /// No pair is attended; `None` where that is never known.
    pub none: Option<Scalar<bool>>,
    /// Every pair is attended and no mask adds anything.
    pub all: Scalar<bool>,
}
