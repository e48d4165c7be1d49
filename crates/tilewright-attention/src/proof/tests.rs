use super::*;
use crate::feature::{Class, Feature, Input, InputValue, Pairs, Phase, ScoreHook};
use crate::features::{self, Causal, Window};

#[test]
fn every_feature_of_the_library_says_what_its_reference_says_in_every_small_problem() {
    for sample in features::all().iter().flat_map(|entry| (entry.samples)(&LARGEST)) {
        let proof = prove(&sample).unwrap_or_else(|error| panic!("{sample}: {error}"));
        assert!(proof.tiles > 1000 && proof.pairs > 10_000, "{sample}: {proof:?}");
    }
}

#[test]
fn every_two_features_of_the_library_say_it_together() {
    let samples: Vec<Vec<Features>> = features::all().iter().map(|entry| (entry.samples)(&LARGEST)).collect();
    // A mask with each other feature; what has no mask says nothing of pairs.
    let masks = |of: &Features| of.masks().count() > 0;
    let mut proved = 0;
    for (i, ones) in samples.iter().enumerate() {
        for others in &samples[i + 1..] {
            for one in ones {
                for other in others.iter().filter(|other| masks(one) && masks(other)) {
                    let both = one.clone().and(other.clone());
                    // In each tile in turn: what a tile shape shows, it shows of many pairs.
                    let tile = &TILES[proved % TILES.len()..][..1];
                    prove_in(&both, tile).unwrap_or_else(|error| panic!("{one:?} and {other:?}: {error}"));
                    proved += 1;
                }
            }
        }
    }
    assert!(proved >= 12, "{proved}");
}

#[test]
fn tiles_between_sinks_and_window_are_skipped_and_those_inside_need_no_mask() {
    let proof = |window: Window| prove(&Features::none().with(window)).unwrap();
    let (plain, sinks) = (proof(Window::last(2)), proof(Window::last(2).sinks(1)));
    assert_eq!(plain.skipped, 0);
    assert!(sinks.skipped > 500, "{sinks:?}");
    assert!(sinks.unmasked > plain.unmasked && plain.unmasked > 1000, "{plain:?} {sinks:?}");
}

#[test]
fn windows_that_meet_in_one_leave_no_holes_together() {
    let causal = Features::none().with(Causal);
    let window = Features::none().with(Window::new(Some(1), Some(2)));
    let sinks = Features::none().with(Window::last(1).sinks(2));
    assert!(!causal.clone().and(window.clone()).leave_holes());
    assert!(causal.and(sinks).leave_holes());
    assert!(!window.leave_holes() && !Features::none().leave_holes());
}

#[test]
fn no_features_attend_to_everything() {
    assert!(prove(&Features::none()).unwrap().pairs > 10_000);
}

/// Causal, or a window with a sink, with one hook that is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    May,
    Must,
    Attended,
    Holes,
    /// Keys after the position only: no hole alone, and nothing but holes beside causal.
    Future,
    Interval,
    Reach,
    None,
    All,
    /// A bias where a tile of all skips it.
    Bias,
    /// Scores a thousandth too large.
    Score,
}

const WITH_SINK: Window = Window { left: Some(1), right: Some(0), sinks: 1 };

impl SpecValue for Broken {
    fn key(&self, into: &mut String) {
        into.push_str(&format!("{self:?}"));
    }
}

impl Broken {
    /// What it is but for its mistake.
    fn meant(&self) -> &dyn MaskHook {
        match self {
            Broken::Reach | Broken::None | Broken::All => &WITH_SINK,
            Broken::May
            | Broken::Must
            | Broken::Attended
            | Broken::Holes
            | Broken::Future
            | Broken::Interval
            | Broken::Bias
            | Broken::Score => &Causal,
        }
    }
}

impl Feature for Broken {
    fn inputs(&self) -> Vec<Input<'_>> {
        match self {
            Broken::Reach | Broken::None | Broken::All => WITH_SINK_INPUTS.into(),
            _ => Vec::new(),
        }
    }

    fn mask(&self) -> Option<&dyn MaskHook> {
        Some(self)
    }

    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        (*self == Broken::Score).then_some((Phase::Bias, self))
    }
}

impl ScoreHook for Broken {
    fn apply(&self, scores: Tile<f32>, _: &Pairs) -> Tile<f32> {
        scores * 1.001
    }

    fn reference(&self, _: &Pair, score: f64) -> f64 {
        score
    }
}

const WITH_SINK_INPUTS: [Input<'static>; 3] = [
    Input { name: "window_left", value: InputValue::Scalar(1.0) },
    Input { name: "window_right", value: InputValue::Scalar(0.0) },
    Input { name: "window_sinks", value: InputValue::Scalar(1.0) },
];

#[tile]
impl MaskHook for Broken {
    fn attended(&self, at: &Pairs) -> Tile<bool> {
        match self {
            Broken::Attended => at.key < at.query,
            Broken::Future => at.key > at.query,
            _ => self.meant().attended(at),
        }
    }

    fn reference(&self, at: &Pair) -> bool {
        if *self == Broken::Future { at.key > at.query } else { self.meant().reference(at) }
    }

    fn interval(&self, at: &Pair) -> Option<Range<i64>> {
        match self {
            Broken::Interval => Some(0..at.query),
            Broken::Future => None,
            _ => self.meant().interval(at),
        }
    }

    fn may(&self, at: &Queries, all: Keys) -> Keys {
        match self {
            Broken::May => Keys { end: all.end.min(at.last), ..all },
            Broken::Holes => all,
            Broken::Future => Keys { first: all.first.max(at.first + 1), ..all },
            _ => self.meant().may(at, all),
        }
    }

    fn must(&self, at: &Queries, all: Keys) -> Keys {
        match self {
            Broken::Must => Keys { end: all.end.min(at.first + 2), ..all },
            Broken::Future => Keys { first: all.first.max(at.last + 1), ..all },
            _ => self.meant().must(at, all),
        }
    }

    fn reference_bias(&self, _: &Pair) -> f64 {
        if *self == Broken::Bias { 0.5 } else { 0.0 }
    }

    fn class(&self, at: &Pairs) -> Option<Class> {
        let class = self.meant().class(at)?;
        match self {
            Broken::None => Some(Class { none: Some(at.first_key > 0), ..class }),
            Broken::All => Some(Class { all: at.first_key <= 1, ..class }),
            _ => Some(class),
        }
    }

    fn reach(&self) -> Option<usize> {
        if *self == Broken::Reach { Some(0) } else { self.meant().reach() }
    }

    fn leaves_holes(&self) -> bool {
        self.meant().leaves_holes()
    }
}

#[test]
fn a_hook_that_is_wrong_is_found() {
    for (broken, name) in [
        (Broken::May, "may"),
        (Broken::Must, "must"),
        (Broken::Attended, "attended"),
        (Broken::Holes, "leaves_holes"),
        (Broken::Future, "leaves_holes"),
        (Broken::Interval, "interval"),
        (Broken::Reach, "reach"),
        (Broken::None, "class"),
        (Broken::All, "class"),
        (Broken::Bias, "must"),
        (Broken::Score, "score"),
    ] {
        match prove(&Features::none().with(broken)) {
            Err(ProofError::Wrong { hook, .. }) => assert_eq!(hook, name, "{broken:?}"),
            other => panic!("{broken:?}: {other:?}"),
        }
    }
}
