//! A whole kernel through the front end: the online softmax of one head, with hooks of a trait that the kernel's author made
//! up. It stands here, beside the library's attention, to show that the language alone is enough for it, and what the
//! generated structs and the entry offer.

mod run;

use std::f32::consts::{LN_2, LOG2_E};
use std::sync::Arc;
use std::time::Instant;
use tilewright_lang::ir::interp::Tensor;
use tilewright_lang::ir::{Elem, Kernel, Op, Region};
use tilewright_lang::prelude::*;
use tilewright_lang::{HostValue, SpecText};

/// What is done to the scores of one tile: queries down, keys across.
trait Hook: SpecValue {
    fn adjust(&self, scores: Tile<f32>, query: Tile<i32>, key: Tile<i32>) -> Tile<f32>;
}

#[derive(Clone, Copy, Debug)]
struct Causal;

#[tile]
impl Hook for Causal {
    fn adjust(&self, scores: Tile<f32>, query: Tile<i32>, key: Tile<i32>) -> Tile<f32> {
        (key > query).select(f32::NEG_INFINITY, scores)
    }
}

/// The cap is given at launch.
#[derive(Clone, Copy, Debug)]
struct Softcap;

#[tile]
impl Hook for Softcap {
    fn adjust(&self, scores: Tile<f32>, _: Tile<i32>, _: Tile<i32>) -> Tile<f32> {
        let cap = launch_scalar::<f32>("softcap");
        (scores / cap).tanh() * cap
    }
}

#[derive(Clone, Default)]
struct Hooks(Vec<Arc<dyn Hook>>);

#[tile]
impl Hook for Hooks {
    fn adjust(&self, scores: Tile<f32>, query: Tile<i32>, key: Tile<i32>) -> Tile<f32> {
        let mut scores = scores;
        for hook in &self.0 {
            scores = hook.adjust(scores, query, key);
        }
        scores
    }
}

impl SpecValue for Causal {
    fn key(&self, into: &mut String) {
        into.push_str("causal");
    }
}

impl SpecValue for Softcap {
    fn key(&self, into: &mut String) {
        into.push_str("softcap");
    }
}

impl SpecValue for Hooks {
    fn key(&self, into: &mut String) {
        self.0.key(into);
    }

    fn parse(text: &str) -> Result<Self, String> {
        let one = |word: &str| -> Result<Arc<dyn Hook>, String> {
            match word {
                "causal" => Ok(Arc::new(Causal)),
                "softcap" => Ok(Arc::new(Softcap)),
                other => Err(format!("no hook `{other}`")),
            }
        };
        text.split(',').filter(|w| !w.is_empty()).map(one).collect::<Result<_, _>>().map(Hooks)
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} hooks", self.0.len())
    }
}

/// Shapes: q and o `[q_len, head_dim]`, k and v `[kv_len, head_dim]`, lse `[q_len, 1]`. Grid: blocks of `rows` queries.
#[kernel(entry(E in [f32, f16], C in [f32, bf16], H = Hooks))]
fn attend<E: Float, C: Float, H: Hook + Clone>(
    q: View<E, 2>,
    k: View<C, 2>,
    v: View<C, 2>,
    scale: Scalar<f32>,
    o: ViewMut<E, 2>,
    lse: Option<ViewMut<f32, 2>>,
    rows: usize,
    keys: usize,
    head_dim: usize,
    hooks: H,
) {
    let [block, _, _] = program_id();
    let first = block * rows;
    let queries = q.load(first, [rows, head_dim]);
    let mut max = Tile::full(f32::NEG_INFINITY, &[rows, 1]);
    let mut sum = Tile::full(0.0, &[rows, 1]);
    let mut acc = Tile::full(0.0, &[rows, head_dim]);
    for j in (0..k.len(0)).step_by(keys) {
        let (query, key) = (iota(&[rows, 1], 0) + first, iota(&[1, keys], 1) + j);
        let dots = queries.dot(k.load(j, [keys, head_dim]).t()) * scale;
        let mut scores = hooks.adjust(dots, query, key) * LOG2_E;
        if j + keys > k.len(0) {
            scores = (key >= k.len(0)).select(f32::NEG_INFINITY, scores);
        }
        let before = max;
        max = max.max(scores.row_max());
        let rescale = (before - max).exp2();
        let p = (scores - max).exp2();
        sum = sum * rescale + p.row_sum();
        acc = acc * rescale + p.cast::<C>().dot(v.load(j, [keys, head_dim]));
    }
    o.store(first, (acc / sum).cast());
    if let Some(lse) = lse {
        lse.store(first, (max + sum.log2()) * LN_2);
    }
}

fn spec<H: Hook + Clone>(hooks: H) -> Attend<H> {
    Attend { rows: 16, keys: 8, head_dim: 24, hooks, lse: true }
}

fn params(kernel: &Kernel) -> Vec<&str> {
    kernel.params.iter().map(|p| p.name.as_ref()).collect()
}

#[test]
fn hooks_bring_their_own_launch_parameters() {
    let kernel = spec(Hooks(vec![Arc::new(Softcap), Arc::new(Causal)])).trace::<f16, bf16>().unwrap();
    assert_eq!(params(&kernel), ["q", "k", "v", "scale", "o", "lse", "softcap"]);
    let ops: Vec<&str> = kernel.regions.iter().flat_map(|r| &r.insts).map(|i| Op::name(&i.op)).collect();
    for (name, count) in [("for_range", 1), ("if_else", 1), ("dot", 2), ("store", 2), ("tanh", 1)] {
        assert_eq!(ops.iter().filter(|&&op| op == name).count(), count, "{name} in {ops:?}");
    }
}

#[test]
fn an_optional_parameter_that_is_not_there_leaves_no_trace() {
    let kernel = Attend { lse: false, ..spec(Hooks::default()) }.trace::<f32, bf16>().unwrap();
    assert_eq!(params(&kernel), ["q", "k", "v", "scale", "o"]);
}

#[test]
fn the_loop_carries_only_what_changes() {
    let kernel = spec(Causal).trace::<f32, f32>().unwrap();
    let for_loop = kernel.regions.iter().flat_map(|r| &r.insts).find(|i| i.op.name() == "for_range").unwrap();
    assert_eq!(for_loop.results.len(), 3, "max, sum and acc");
}

#[test]
fn tracing_twice_gives_the_same_kernel() {
    let [a, b] = [(), ()].map(|()| spec(Causal).trace::<f16, bf16>().unwrap());
    assert_eq!(a, b);
    let defined = |r: &Region| r.args.len() + r.insts.iter().map(|i| i.results.len()).sum::<usize>();
    let defined: usize = a.regions.iter().map(defined).sum();
    assert_eq!(a.values.len(), a.params.len() + defined, "no value is left from a first pass");
}

#[test]
fn the_entry_offers_the_product_of_its_element_types() {
    let text = |e: &str, c: &str| -> SpecText {
        let values = [("rows", "16"), ("keys", "8"), ("head_dim", "24"), ("hooks", "causal,softcap"), ("lse", "false")];
        values.into_iter().chain([("E", e), ("C", c)]).map(|(a, b)| (a.to_string(), b.to_string())).collect()
    };
    for e in ["f32", "f16"] {
        for c in ["f32", "bf16"] {
            let kernel = ATTEND.trace(&text(e, c)).unwrap();
            let elem = |i: usize| kernel.ty(kernel.params[i].value).elem().name();
            assert_eq!((elem(0), elem(1)), (e, c));
        }
    }
    assert_eq!(ATTEND.types, [("E", &["f32", "f16"][..]), ("C", &["f32", "bf16"][..])]);
    assert_eq!(ATTEND.launch[5], ("lse", "Option<ViewMut<f32, 2>>"));
    let wrong = |text: SpecText| ATTEND.trace(&text).unwrap_err().to_string();
    assert_eq!(wrong(text("f64", "f32")), "`E` is one of f32, f16, not `f64`");
    let mut misspelt = text("f32", "f32");
    misspelt.insert("row".into(), "1".into());
    assert!(wrong(misspelt).starts_with("`row` is no specialisation value of this kernel; it has E, C, rows"));
    let mut bad = text("f32", "f32");
    bad.insert("rows".into(), "many".into());
    assert_eq!(wrong(bad), "`rows`: `many` is no usize");
    let mut missing = text("f32", "f32");
    missing.remove("rows");
    assert_eq!(wrong(missing), "`rows` is missing: give rows=VALUE");
}

#[test]
fn keys_tell_types_and_values_apart() {
    let one = spec(Hooks(vec![Arc::new(Causal)]));
    let two = spec(Hooks(vec![Arc::new(Causal), Arc::new(Softcap)]));
    let keys = [
        one.key::<f32, f32>(),
        one.key::<f16, f32>(),
        one.key::<f32, f16>(),
        two.key::<f32, f32>(),
        Attend { lse: false, ..one.clone() }.key::<f32, f32>(),
        Attend { rows: 1, keys: 68, ..one.clone() }.key::<f32, f32>(),
    ];
    for (i, key) in keys.iter().enumerate() {
        assert!(key.starts_with("attend<"), "{key}");
        assert!(!keys[..i].contains(key), "{key}");
    }
}

#[test]
fn arguments_bind_by_name() {
    let args = AttendArgs { q: 1, k: 2, v: 3, scale: 0.5, o: "o", lse: None };
    let expected = [
        ("q", HostValue::In(1)),
        ("k", HostValue::In(2)),
        ("v", HostValue::In(3)),
        ("scale", HostValue::Scalar(0.5)),
        ("o", HostValue::Out("o")),
    ];
    assert_eq!(args.bind(), expected);
}

#[test]
fn tracing_takes_less_than_a_millisecond() {
    let spec = Attend { rows: 128, keys: 64, head_dim: 128, hooks: Causal, lse: true };
    let once = || {
        let start = Instant::now();
        let kernel = spec.trace::<f16, bf16>().unwrap();
        (start.elapsed(), kernel.count())
    };
    // The fastest of many: the machine may be busy.
    let (fastest, ops) = (0..200).map(|_| once()).min().unwrap();
    assert!(fastest.as_micros() < 1000, "{ops} ops in {fastest:?}");
}

const Q_LEN: usize = 37;
const KV_LEN: usize = 53;
const HEAD_DIM: usize = 24;
const CAP: f64 = 1.5;

fn random(len: usize, seed: u64) -> Tensor {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) as f64 / (1u64 << 31) as f64) * 2.0 - 1.0
    };
    Tensor::new(Elem::F32, &[len, HEAD_DIM], std::iter::repeat_with(next).take(len * HEAD_DIM)).unwrap()
}

/// `o`, then `lse`, row by row from the definition.
fn direct(q: &Tensor, k: &Tensor, v: &Tensor, hooks: &str) -> Vec<f64> {
    let (mut o, mut lse) = (Vec::new(), Vec::new());
    for i in 0..Q_LEN {
        let score = |j: usize| {
            let dot: f64 = (0..HEAD_DIM).map(|d| q.get(&[i, d]).unwrap() * k.get(&[j, d]).unwrap()).sum();
            if hooks.contains("softcap") { CAP * (dot / CAP).tanh() } else { dot }
        };
        let seen = if hooks.contains("causal") { i + 1 } else { KV_LEN };
        let weights: Vec<f64> = (0..seen).map(|j| score(j).exp()).collect();
        let sum: f64 = weights.iter().sum();
        lse.push(sum.ln());
        o.extend((0..HEAD_DIM).map(|d| {
            let column = weights.iter().enumerate().map(|(j, w)| w / sum * v.get(&[j, d]).unwrap());
            column.sum::<f64>()
        }));
    }
    o.append(&mut lse);
    o
}

#[test]
fn the_kernel_computes_attention() {
    let (q, k, v) = (random(Q_LEN, 1), random(KV_LEN, 2), random(KV_LEN, 3));
    for hooks in ["", "causal", "softcap,causal"] {
        let kernel = spec(Hooks::parse(hooks).unwrap()).trace::<f32, f32>().unwrap();
        let mut o = Tensor::zeros(Elem::F32, &[Q_LEN, HEAD_DIM]).unwrap();
        let mut lse = Tensor::zeros(Elem::F32, &[Q_LEN, 1]).unwrap();
        let args = AttendArgs { q: &q, k: &k, v: &v, scale: 1.0, o: &mut o, lse: Some(&mut lse) };
        let mut values = args.bind();
        if hooks.contains("softcap") {
            values.push(("softcap", HostValue::Scalar(CAP)));
        }
        run::run(&kernel, [Q_LEN.div_ceil(16) as u32, 1, 1], values);
        let got = [o.to_vec(), lse.to_vec()].concat();
        let expected = direct(&q, &k, &v, hooks);
        assert_eq!((got.len(), expected.len()), (Q_LEN * (HEAD_DIM + 1), Q_LEN * (HEAD_DIM + 1)));
        for (got, expected) in got.into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{hooks}: {got}, not {expected}");
        }
    }
}
