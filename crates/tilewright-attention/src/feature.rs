//! What a feature of attention is: hooks that run in fixed phases, each with its f64 twin.
//!
//! Hooks see index tiles (position of the query, key, row in q) and the head, never how rows are laid out in a tile. The
//! phases are fixed (cap, bias, mask, sink), so the order in which features are given cannot change what is computed.

use crate::features;
use std::any::{TypeId, type_name};
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;
use tilewright_lang::prelude::*;
use tilewright_runtime::TensorView;

/// The queries of one tile.
#[derive(Clone, Copy, Debug, Carried)]
pub struct Queries {
    /// Batch entry.
    pub batch: Scalar<i32>,
    /// Query head.
    pub head: Scalar<i32>,
    /// Rows of q.
    pub q_len: Scalar<i32>,
    /// Keys that exist for this batch entry.
    pub kv_len: Scalar<i32>,
    /// Row in q of the tile's first query.
    pub first_row: Scalar<i32>,
    /// Position of the tile's first query.
    pub first: Scalar<i32>,
    /// Position of the tile's last query that exists; a tile may reach past the rows of q.
    pub last: Scalar<i32>,
    /// Row in q: `[rows, 1]`.
    pub row: Tile<i32>,
    /// Position: `[rows, 1]`.
    pub query: Tile<i32>,
}

/// The pairs of one score tile: the queries down, the keys across.
#[derive(Clone, Copy, Debug, Carried)]
pub struct Pairs {
    /// The queries.
    pub queries: Queries,
    /// Logical key: `[1, keys]`. The last ones may not exist.
    pub key: Tile<i32>,
}

/// Keys `first..end`; nothing when `end <= first`.
#[derive(Clone, Copy, Debug, Carried)]
pub struct Keys {
    /// The first key.
    pub first: Scalar<i32>,
    /// One past the last key.
    pub end: Scalar<i32>,
}

/// One pair on the host, for the f64 reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Batch entry.
    pub batch: usize,
    /// Query head.
    pub head: usize,
    /// Row in q.
    pub row: usize,
    /// Position of the query; may be negative.
    pub query: i64,
    /// Logical key.
    pub key: i64,
    /// Rows of q.
    pub q_len: usize,
    /// Keys that exist for this batch entry.
    pub kv_len: usize,
}

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
    /// Whether, for some tile, a key inside `may` is attended by no query of the tile. Values there must be kept from the
    /// product, since they may be NaN.
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
    /// In natural units.
    fn logit(&self, at: &Queries) -> Scalar<f32>;
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

impl Queries {
    /// The `rows` queries from `first_row` on; `q_start` is the position of the first row of q.
    #[track_caller]
    pub fn new(
        [batch, head]: [Scalar<i32>; 2],
        first_row: Scalar<i32>,
        rows: usize,
        q_len: Scalar<i32>,
        q_start: Scalar<i32>,
        kv_len: Scalar<i32>,
    ) -> Queries {
        let row = iota(&[rows, 1], 0) + first_row;
        let last_row = (first_row + rows).min(q_len) - 1;
        Queries {
            batch,
            head,
            q_len,
            kv_len,
            first_row,
            first: q_start + first_row,
            last: q_start + last_row,
            row,
            query: row + q_start,
        }
    }

    /// These queries with the `keys` keys from `first_key` on.
    #[track_caller]
    pub fn with_keys(self, first_key: Scalar<i32>, keys: usize) -> Pairs {
        Pairs { queries: self, key: iota(&[1, keys], 1) + first_key }
    }
}

impl Deref for Pairs {
    type Target = Queries;

    fn deref(&self) -> &Queries {
        &self.queries
    }
}

#[tile]
impl Keys {
    /// Whether the `keys` keys from `first_key` on are all among these.
    pub fn hold(&self, first_key: Scalar<i32>, keys: usize) -> Scalar<bool> {
        self.first <= first_key && first_key + keys <= self.end
    }

    /// The keys of both.
    pub fn intersect(self, other: Keys) -> Keys {
        Keys { first: self.first.max(other.first), end: self.end.min(other.end) }
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

    /// Whether a key that no query of a tile attends may stand between keys that some query attends.
    pub fn leave_holes(&self) -> bool {
        self.masks().any(|mask| mask.leaves_holes())
    }

    /// Scores in natural units after all caps and biases.
    pub fn change(&self, scores: Tile<f32>, at: &Pairs) -> Tile<f32> {
        let capped = self.scores(Phase::Cap).fold(scores, |scores, hook| hook.apply(scores, at));
        self.scores(Phase::Bias).fold(capped, |scores, hook| hook.apply(scores, at))
    }

    /// True where every mask attends.
    pub fn attended(&self, existing: Tile<bool>, at: &Pairs) -> Tile<bool> {
        self.masks().fold(existing, |all, mask| all & mask.attended(at))
    }

    /// The keys that some query of the tile may attend.
    #[track_caller]
    pub fn may(&self, at: &Queries) -> Keys {
        let all = Keys { first: scalar(0), end: at.kv_len };
        self.masks().fold(all, |keys, mask| keys.intersect(mask.may(at, all)))
    }

    /// The keys of `may` that every query of the tile attends.
    pub fn must(&self, at: &Queries, may: Keys) -> Keys {
        self.masks().fold(may, |keys, mask| keys.intersect(mask.must(at, may)))
    }
}
