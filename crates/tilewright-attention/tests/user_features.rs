//! Features as a user writes them: hooks of every phase, launch inputs, masks with holes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tilewright_attention::cases::Case;
use tilewright_attention::feature::{
    Feature, Input, InputValue, MaskHook, Pair, Pairs, Phase, Queries, ScoreHook, SinkHook,
};
use tilewright_attention::proof::prove;
use tilewright_attention::{Attention, AttentionError, Causal, Features};
use tilewright_ir::Elem;
use tilewright_lang::prelude::*;
use tilewright_runtime::{Device, Tensor};

macro_rules! keyed {
    ($($feature:ident),*) => { $(
        impl SpecValue for $feature {
            fn key(&self, into: &mut String) {
                into.push_str(stringify!($feature));
            }
        }
    )* };
}
keyed!(Cap, Slope, Sink, Holes, Counted);

/// `cap * tanh(score / cap)`.
#[derive(Clone, Debug)]
struct Cap(f64);

impl Feature for Cap {
    fn inputs(&self) -> Vec<Input<'_>> {
        vec![Input { name: "cap", value: InputValue::Scalar(self.0) }]
    }

    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        Some((Phase::Cap, self))
    }
}

impl ScoreHook for Cap {
    fn apply(&self, scores: Tile<f32>, _: &Pairs) -> Tile<f32> {
        let cap = launch_scalar::<f32>("cap");
        (scores / cap).tanh() * cap
    }

    fn reference(&self, _: &Pair, score: f64) -> f64 {
        self.0 * (score / self.0).tanh()
    }
}

/// `score + slope[head] * (key - position)`.
#[derive(Clone, Debug)]
struct Slope(Vec<f64>, Tensor);

impl Slope {
    fn new(slopes: &[f64]) -> Slope {
        Slope(slopes.to_vec(), Tensor::from_f64(Elem::F32, slopes, &[slopes.len()]).unwrap())
    }
}

impl Feature for Slope {
    fn inputs(&self) -> Vec<Input<'_>> {
        vec![Input { name: "slope", value: InputValue::Tensor(self.1.view()) }]
    }

    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        Some((Phase::Bias, self))
    }
}

impl ScoreHook for Slope {
    fn apply(&self, scores: Tile<f32>, at: &Pairs) -> Tile<f32> {
        scores + (at.key - at.query).cast::<f32>() * at.of_heads(launch_view::<f32, 1>("slope"))
    }

    fn reference(&self, at: &Pair, score: f64) -> f64 {
        score + self.0[at.head] * (at.key - at.query) as f64
    }
}

/// One logit a head in the denominator.
#[derive(Clone, Debug)]
struct Sink(Slope);

impl Feature for Sink {
    fn inputs(&self) -> Vec<Input<'_>> {
        vec![Input { name: "sink", value: InputValue::Tensor(self.0.1.view()) }]
    }

    fn sink(&self) -> Option<&dyn SinkHook> {
        Some(self)
    }
}

impl SinkHook for Sink {
    fn logit(&self, at: &Queries) -> Tile<f32> {
        at.of_heads(launch_view::<f32, 1>("sink"))
    }

    fn reference(&self, head: usize) -> f64 {
        self.0.0[head]
    }
}

/// Every third key is hidden, from every query.
#[derive(Clone, Copy, Debug)]
struct Holes;

impl Feature for Holes {
    fn mask(&self) -> Option<&dyn MaskHook> {
        Some(self)
    }
}

#[tile]
impl MaskHook for Holes {
    fn attended(&self, at: &Pairs) -> Tile<bool> {
        at.key % 3 != 1
    }

    fn reference(&self, at: &Pair) -> bool {
        at.key % 3 != 1
    }
}

fn case() -> Case {
    Case::new("user_features").heads(4, 2).lengths(19, 41).batch(2).kv_len(&[41, 11]).schedule(8, 16)
}

fn check(case: Case) {
    for (q, kv) in [(Elem::F32, Elem::F32), (Elem::Bf16, Elem::Bf16), (Elem::F32, Elem::F16)] {
        for device in [Device::interp(), Device::cpu()] {
            let report = case.clone().types(q, kv).run(&device).unwrap();
            assert!(report.compared > 0);
        }
    }
}

const SLOPES: [f64; 4] = [0.5, 0.25, -0.125, 0.0];

#[test]
fn a_cap_from_a_launch_number() {
    check(case().feature(Cap(0.75)));
}

#[test]
fn a_bias_from_a_launch_tensor() {
    check(case().feature(Slope::new(&SLOPES)).feature(Causal));
}

#[test]
fn a_sink_takes_part_of_every_row_and_all_of_an_empty_one() {
    check(case().feature(Sink(Slope::new(&[1.0, -3.0, 0.0, 2.5]))).feature(Causal));
}

#[test]
fn a_sink_of_minus_infinity_is_no_sink() {
    let none = f64::NEG_INFINITY;
    let sink = Sink(Slope::new(&[none, none, 1.0, none]));
    let (q, k) = (Tensor::zeros(Elem::F32, &[1, 4, 3, 8]).unwrap(), Tensor::zeros(Elem::F32, &[1, 4, 2, 8]).unwrap());
    let out = Attention::new(q.view(), k.view(), k.view()).causal().feature(sink).lse().run(&Device::interp()).unwrap();
    assert!(out.o.to_f64().iter().all(|o| *o == 0.0));
    let lse = out.lse.unwrap().to_f64();
    assert_eq!(lse[0], none, "the first row attends to nothing");
    assert!((lse[1] - 0.0).abs() < 1e-6 && (lse[6] - 1.0).abs() < 1e-6, "{lse:?}");
}

#[test]
fn values_in_the_holes_of_a_mask_may_be_nan() {
    // `Case::inputs` fills what no row attends with NaN.
    check(case().feature(Holes));
    check(case().feature(Holes).feature(Causal));
}

#[test]
fn masks_with_holes_are_proved_like_any_other() {
    assert!(prove(&Features::none().with(Holes)).unwrap().pairs > 10_000);
    assert!(prove(&Features::none().with(Holes).with(Causal)).unwrap().pairs > 10_000);
}

#[test]
fn the_order_of_features_changes_nothing() {
    let all = [1, 2].map(|turn| {
        let case = case();
        let sink = Sink(Slope::new(&SLOPES));
        let case = if turn == 1 {
            case.feature(Cap(2.0)).feature(Slope::new(&SLOPES)).feature(Causal).feature(Holes).feature(sink)
        } else {
            case.feature(sink).feature(Holes).feature(Causal).feature(Slope::new(&SLOPES)).feature(Cap(2.0))
        };
        check(case.clone());
        let inputs = case.inputs().unwrap();
        let out = case.request(&inputs).unwrap().run(&Device::interp()).unwrap();
        out.o.as_bytes().to_vec()
    });
    assert_eq!(all[0], all[1]);
}

/// Keys so far behind the position, or less far before it: two types with the same keys.
#[derive(Clone, Copy, Debug)]
struct Side<const RIGHT: bool>(i32);

impl<const RIGHT: bool> SpecValue for Side<RIGHT> {
    fn key(&self, into: &mut String) {
        self.0.key(into);
    }
}

impl<const RIGHT: bool> Feature for Side<RIGHT> {
    fn mask(&self) -> Option<&dyn MaskHook> {
        Some(self)
    }
}

#[tile]
impl<const RIGHT: bool> MaskHook for Side<RIGHT> {
    fn attended(&self, at: &Pairs) -> Tile<bool> {
        let distance = at.key - at.query;
        if RIGHT { distance < self.0 } else { distance <= -self.0 }
    }

    fn reference(&self, at: &Pair) -> bool {
        let distance = at.key - at.query;
        if RIGHT { distance < self.0.into() } else { distance <= (-self.0).into() }
    }
}

fn key(value: &dyn SpecValue) -> String {
    let mut key = String::new();
    value.key(&mut key);
    key
}

#[test]
fn values_that_only_rows_past_the_queries_would_attend_may_be_nan() {
    // The third tile of 8 rows holds 3 queries; its other rows would see the last keys.
    check(case().feature(Side::<false>(4)));
}

#[test]
fn features_of_two_types_with_one_key_are_two_kernels() {
    let device = Device::interp();
    assert_eq!(key(&Side::<false>(4)), key(&Side::<true>(4)));
    assert_ne!(key(&Features::none().with(Side::<false>(4))), key(&Features::none().with(Side::<true>(4))));
    assert!(case().feature(Side::<false>(4)).run(&device).unwrap().compared > 0);
    assert!(case().feature(Side::<true>(4)).run(&device).unwrap().compared > 0);
    assert_eq!(device.cached_pipelines(), 2);
}

#[test]
fn features_of_two_types_of_one_name_are_two_kernels() {
    macro_rules! named_the_same {
        () => {{
            #[derive(Debug)]
            struct Same;
            keyed!(Same);
            impl Feature for Same {}
            key(&Features::none().with(Same))
        }};
    }
    assert_ne!(named_the_same!(), named_the_same!());
}

#[test]
fn any_order_of_features_is_one_kernel() {
    let both = |a: Features, b: Features| (key(&a.clone().and(b.clone())), a.and(b).to_string());
    let left = |n| Features::none().with(Side::<false>(n));
    let right = |n| Features::none().with(Side::<true>(n));
    assert_eq!(both(left(4), right(4)), both(right(4), left(4)));
    assert_ne!(both(left(4), right(5)).0, both(left(5), right(4)).0);
    assert_ne!(both(left(4), left(4)).0, key(&left(4)));
    assert_eq!(left(4).with(Causal).to_string(), "causal+Side(4)");
    let device = Device::interp();
    for case in [case().feature(Causal).feature(Holes), case().feature(Holes).feature(Causal)] {
        assert!(case.run(&device).unwrap().compared > 0);
    }
    assert_eq!(device.cached_pipelines(), 1);
}

#[test]
fn two_inputs_of_one_name_are_refused() {
    let inputs = case().clean_inputs().unwrap();
    let case = case().feature(Cap(1.0)).feature(Cap(2.0));
    let error = case.request(&inputs).unwrap().plan(&Device::interp()).unwrap_err();
    assert_eq!(error, AttentionError::InputName { name: "cap".into() });
}

/// Counts how often its hooks are traced.
#[derive(Clone, Debug)]
struct Counted(Arc<AtomicUsize>);

impl Feature for Counted {
    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        Some((Phase::Bias, self))
    }
}

impl ScoreHook for Counted {
    fn apply(&self, scores: Tile<f32>, _: &Pairs) -> Tile<f32> {
        self.0.fetch_add(1, Ordering::Relaxed);
        scores
    }

    fn reference(&self, _: &Pair, score: f64) -> f64 {
        score
    }
}

#[test]
fn a_relaunch_does_not_trace_again() {
    let traced = Arc::new(AtomicUsize::new(0));
    let case = case().feature(Counted(traced.clone()));
    let inputs = case.inputs().unwrap();
    let device = Device::interp();
    case.request(&inputs).unwrap().run(&device).unwrap();
    let first = traced.load(Ordering::Relaxed);
    assert!(first > 0);
    case.request(&inputs).unwrap().run(&device).unwrap();
    assert_eq!(traced.load(Ordering::Relaxed), first);
    assert_eq!(device.cached_pipelines(), 1);
}

#[test]
fn launch_values_may_change_without_a_new_kernel() {
    let device = Device::interp();
    let run = |cap: f64| {
        let case = case().feature(Cap(cap));
        let inputs = case.inputs().unwrap();
        case.request(&inputs).unwrap().run(&device).unwrap().o.to_f64()
    };
    assert_ne!(run(0.5), run(5.0));
    assert_eq!(device.cached_pipelines(), 1);
}
