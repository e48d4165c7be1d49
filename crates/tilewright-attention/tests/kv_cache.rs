//! Caches that grow and shrink: what an append writes, byte by byte, and a cache against a plain list of tokens.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::Cell;
use std::collections::BTreeMap;
use support::{number, tensor_of};
use tilewright_attention::cache::{Encoding, KvCacheBuilder};
use tilewright_attention::reference::affine::{decode, encode};
use tilewright_attention::reference::{Bound, Problem, attention, compare};
use tilewright_attention::{Affine, Attention, CacheError, CacheShape, Causal, KvCache, Output, Rounding};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor};

const HEADS: usize = 2;
const DIMS: [usize; 2] = [64, 32];

/// A token: for keys and for values, the numbers that the cache gives back for each head.
type Token = [Vec<f64>; 2];

/// A cache and the list of tokens that it should hold.
struct Model {
    shape: CacheShape,
    encodings: [Encoding; 2],
    rounding: Rounding,
    /// Slots of a ring, and the window that it keeps.
    ring: Option<usize>,
    /// For each batch entry, the tokens that are there by their position.
    tokens: Vec<BTreeMap<usize, Token>>,
    lens: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Step {
    /// This many tokens for each batch entry.
    Append([usize; 2]),
    /// The same, of NaN and infinities, and then taken back.
    Poison([usize; 2]),
    /// A batch entry, and how much of it stays.
    Truncate(usize, f64),
}

impl Model {
    fn stored(&self, side: usize, numbers: &[f32]) -> Vec<f64> {
        let elem = self.shape.elem;
        match self.encodings[side] {
            Encoding::Stored => numbers.iter().map(|&x| elem.nearest(x.into())).collect(),
            Encoding::Affine(format) => {
                decode(&encode(numbers, elem, format, self.rounding).unwrap(), elem, format).unwrap()
            }
        }
    }

    /// Adds row `row` of new tokens to a batch entry, and drops what its slot held.
    fn push(&mut self, entry: usize, new: &[Vec<f32>; 2], n: usize, row: usize) {
        let token = [0, 1].map(|side| {
            let heads = (0..HEADS).flat_map(|head| {
                let at = ((entry * HEADS + head) * n + row) * DIMS[side];
                self.stored(side, &new[side][at..at + DIMS[side]])
            });
            heads.collect()
        });
        let position = self.lens[entry];
        if self.ring.is_some() && position >= self.shape.capacity {
            self.tokens[entry].remove(&(position - self.shape.capacity));
        }
        self.tokens[entry].insert(position, token);
        self.lens[entry] += 1;
    }

    /// Whether the tokens that a truncation must leave are there.
    fn may_truncate(&self, entry: usize, len: usize) -> bool {
        let window = self.ring.unwrap_or(self.shape.capacity);
        len == self.lens[entry] || (len.saturating_sub(window)..len).all(|at| self.tokens[entry].contains_key(&at))
    }

    fn truncate(&mut self, entry: usize, len: usize) {
        self.tokens[entry].retain(|&position, _| position < len);
        self.lens[entry] = len;
    }

    fn kv_len(&self) -> Vec<i32> {
        self.tokens.iter().map(|tokens| tokens.len() as i32).collect()
    }

    /// The tokens in order, `[batch, heads, room, dim]`, with NaN behind.
    fn dense(&self, side: usize, room: usize) -> Vec<f64> {
        let dim = DIMS[side];
        let mut all = vec![f64::NAN; self.shape.batch * HEADS * room * dim];
        for (entry, tokens) in self.tokens.iter().enumerate() {
            for (place, token) in tokens.values().enumerate() {
                for head in 0..HEADS {
                    let at = ((entry * HEADS + head) * room + place) * dim;
                    all[at..at + dim].copy_from_slice(&token[side][head * dim..][..dim]);
                }
            }
        }
        all
    }
}

/// New tokens for both batch entries, the first row numbered `seed`.
fn new_tokens(n: usize, seed: usize, poison: bool) -> [Vec<f32>; 2] {
    DIMS.map(|dim| {
        let of = |i: usize| match (poison, i % 3) {
            (false, _) => number(seed * 7919 + i) as f32,
            (true, 0) => f32::INFINITY,
            (true, _) => f32::NAN,
        };
        (0..2 * HEADS * n * dim).map(of).collect()
    })
}

fn step(capacity: usize) -> impl Strategy<Value = Step> {
    let count = prop_oneof![2 => 0usize..=3, 1 => 0..=capacity + 2];
    let counts = [count.clone(), count];
    prop_oneof![
        4 => counts.clone().prop_map(Step::Append),
        1 => counts.prop_map(Step::Poison),
        3 => (0usize..2, 0.0f64..=1.0).prop_map(|(entry, share)| Step::Truncate(entry, share)),
    ]
}

/// What a builder is told.
type Choice = fn(KvCacheBuilder) -> KvCacheBuilder;

/// Formats, by name.
fn caches() -> Vec<(&'static str, Choice)> {
    vec![
        ("dense", |cache| cache),
        ("ring", |cache| cache.ring(5)),
        ("strict ring", |cache| cache.ring(37)),
        ("pages of 16", |cache| cache.paged(16)),
        ("few pages of 17", |cache| cache.paged(17).pool(4)),
        ("codes", |cache| cache.quantised(affine("q8g64"), affine("q4g32"))),
        ("codes away", |cache| cache.quantised(affine("q4g32"), affine("q8g32")).rounding(Rounding::Away)),
        ("ring of codes", |cache| cache.ring(5).quantised(affine("q4g64"), affine("q4g32"))),
        ("pages of codes", |cache| cache.paged(16).quantised(affine("q4g32"), affine("q8g32"))),
        ("keys as codes", |cache| cache.paged(24).keys(Encoding::Affine(affine("q8g32")))),
        ("values as codes", |cache| cache.values(Encoding::Affine(affine("q4g32")))),
    ]
}

fn affine(text: &str) -> Affine {
    text.parse().unwrap()
}

/// Holds the cache against its model, and says how many numbers were compared.
fn check(device: &Device, cache: &KvCache, model: &Model) -> Result<usize, TestCaseError> {
    let (shape, kv_len) = (model.shape, model.kv_len());
    prop_assert_eq!(cache.lens(), &model.lens[..]);
    prop_assert_eq!(cache.kv_len(), &kv_len[..]);
    let room = kv_len.iter().max().copied().unwrap_or(0).max(1) as usize;

    // As the device gives the tokens back.
    for (side, dim) in DIMS.into_iter().enumerate() {
        let empty = vec![f64::NAN; shape.batch * HEADS * room * dim];
        let mut o = tensor_of(shape.elem, &empty, &[shape.batch, HEADS, room, dim]);
        match side {
            0 => cache.view().dequantise_keys(device, cache.kv_len(), o.view_mut()),
            _ => cache.view().dequantise_values(device, cache.kv_len(), o.view_mut()),
        }
        .map_err(fail)?;
        for (at, (got, wanted)) in o.to_f64().iter().zip(model.dense(side, room)).enumerate() {
            let same = *got == wanted || got.is_nan() && wanted.is_nan();
            prop_assert!(same, "side {side} number {at}: {got} in place of {wanted}");
        }
    }

    // As the reference reads the cache, and as the model says.
    let q: Vec<f64> = (0..shape.batch * 2 * HEADS * 3 * DIMS[0]).map(number).collect();
    let q = tensor_of(shape.elem, &q, &[shape.batch, 2 * HEADS, 3, DIMS[0]]);
    let over = Attention::over(q.view(), cache.view()).feature(Causal).lse();
    let problem = Problem::of(&over).map_err(fail)?;
    let wanted = attention(&problem);
    let [k, v] =
        [0, 1].map(|side| tensor_of(shape.elem, &model.dense(side, room), &[shape.batch, HEADS, room, DIMS[side]]));
    let dense = Attention::new(q.view(), k.view(), v.view()).kv_len(&kv_len).feature(Causal).lse();
    let of_model = attention(&Problem::of(&dense).map_err(fail)?);
    let of_cache = attention(&problem.clone().over_dequantised());
    prop_assert_eq!(&of_cache.o, &of_model.o);
    prop_assert_eq!(&of_cache.lse, &of_model.lse);

    // As attention reads it.
    let out = over.run(device).map_err(fail)?;
    let lse = out.lse.as_ref().map(|lse| lse.to_f64());
    let found = compare(&out.o.to_f64(), lse.as_deref(), &wanted, &Bound::of(&problem, &wanted));
    Ok(found.map_err(fail)?.compared)
}

fn fail(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// Runs steps on a cache and on its model; the numbers compared, and the truncations refused.
fn run(
    device: &Device,
    builder: KvCacheBuilder,
    mut model: Model,
    steps: &[Step],
) -> Result<(usize, usize), TestCaseError> {
    let mut cache = builder.build().map_err(fail)?;
    let (mut compared, mut refused) = (0, 0);
    let format = cache.format();
    model.encodings = [format.keys, format.values];
    for (seed, step) in steps.iter().enumerate() {
        match *step {
            Step::Append(counts) | Step::Poison(counts) => {
                let poison = matches!(step, Step::Poison(_));
                let n = counts[0].max(counts[1]);
                let new = new_tokens(n, seed, poison);
                let [k, v] = [0, 1].map(|side| {
                    let numbers: Vec<f64> = new[side].iter().map(|&x| x.into()).collect();
                    tensor_of(model.shape.elem, &numbers, &[2, HEADS, n, DIMS[side]])
                });
                let fits = |entry: usize| model.lens[entry] + counts[entry] <= model.shape.capacity;
                if poison && model.ring.is_some() && !(fits(0) && fits(1)) {
                    continue; // it would overwrite what cannot come back
                }
                let before = model.lens.clone();
                match cache.append_counts(device, k.view(), v.view(), &counts) {
                    Ok(()) if poison => {
                        (0..2).try_for_each(|entry| cache.truncate(entry, before[entry])).map_err(fail)?
                    }
                    Ok(()) => {
                        prop_assert!(model.ring.is_some() || fits(0) && fits(1));
                        for (entry, &count) in counts.iter().enumerate() {
                            (0..count).for_each(|row| model.push(entry, &new, n, row));
                        }
                    }
                    Err(CacheError::Overflow { entry, len, adding, capacity }) => {
                        prop_assert!(model.ring.is_none() && !fits(entry) && capacity == model.shape.capacity);
                        prop_assert_eq!((len, adding), (model.lens[entry], counts[entry]));
                    }
                    Err(CacheError::Pages { needed, free, .. }) => prop_assert!(needed > free),
                    Err(error) => return Err(fail(error)),
                }
            }
            Step::Truncate(entry, share) => {
                let len = (share * model.lens[entry] as f64).round() as usize;
                match cache.truncate(entry, len) {
                    Ok(()) => {
                        prop_assert!(model.may_truncate(entry, len), "{entry} to {len} was not refused");
                        model.truncate(entry, len);
                    }
                    Err(CacheError::Overwritten { .. }) => {
                        prop_assert!(!model.may_truncate(entry, len), "{entry} to {len} was refused");
                        refused += 1;
                    }
                    Err(error) => return Err(fail(error)),
                }
            }
        }
        compared += check(device, &cache, &model)?;
    }
    Ok((compared, refused))
}

fn check_random(device: &Device, cases: u32) {
    let (compared, refused) = (Cell::new(0), Cell::new(0));
    let types = prop::sample::select(vec![Elem::F32, Elem::F16, Elem::Bf16]);
    let strategy = (types, prop::collection::vec(step(37), 1..12));
    for (name, build) in caches() {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let result = TestRunner::new_with_rng(config, rng).run(&strategy, |(elem, steps)| {
            let [head_dim, value_dim] = DIMS;
            let shape = CacheShape { batch: 2, kv_heads: HEADS, capacity: 37, head_dim, value_dim, elem };
            let ring = name.contains("ring").then_some(if name.contains("strict") { 37 } else { 5 });
            let model = Model {
                shape,
                encodings: [Encoding::Stored; 2],
                rounding: if name.contains("away") { Rounding::Away } else { Rounding::TiesToEven },
                ring,
                tokens: vec![BTreeMap::new(); 2],
                lens: vec![0; 2],
            };
            let (numbers, refusals) = run(device, build(KvCache::builder(shape)), model, &steps)?;
            compared.set(compared.get() + numbers);
            refused.set(refused.get() + refusals);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(compared.get() > 10_000 * cases as usize, "compared {}", compared.get());
    assert!(refused.get() > 0, "no truncation was refused");
}

#[test]
fn a_cache_holds_what_a_list_of_tokens_holds_on_the_cpu() {
    check_random(&Device::cpu(), 60);
}

#[test]
fn a_cache_holds_what_a_list_of_tokens_holds_on_the_interpreter() {
    check_random(&Device::interp(), 3);
}

#[test]
fn a_view_counts_the_tokens_that_are_there_and_no_others() {
    let device = Device::cpu();
    let shape = CacheShape { batch: 2, kv_heads: 1, capacity: 40, head_dim: 16, value_dim: 16, elem: Elem::F32 };
    for builder in [KvCache::builder(shape), KvCache::builder(shape).ring(8), KvCache::builder(shape).paged(16)] {
        let mut cache = builder.build().unwrap();
        let new = Tensor::from_slice(&[1.0f32; 2 * 3 * 16], &[2, 1, 3, 16]).unwrap();
        cache.append_counts(&device, new.view(), new.view(), &[3, 1]).unwrap();
        let q = Tensor::zeros(Elem::F32, &[2, 1, 1, 16]).unwrap();
        let over = || Attention::over(q.view(), cache.view()).lse();
        let lse = |out: Output| out.lse.unwrap().to_vec::<f32>().unwrap();
        // Every score is 0, so lse is the logarithm of how many keys count.
        let [all, fewer] = [over(), over().kv_len(&[2, 0])].map(|request| lse(request.run(&device).unwrap()));
        assert!((all[0] - 3f32.ln()).abs() < 1e-6 && all[1].abs() < 1e-6, "{all:?}");
        assert!((fewer[0] - 2f32.ln()).abs() < 1e-6 && fewer[1] == f32::NEG_INFINITY, "{fewer:?}");
    }
}

#[test]
fn pages_are_given_back_and_taken_again() {
    let shape = CacheShape { batch: 2, kv_heads: 1, capacity: 64, head_dim: 8, value_dim: 8, elem: Elem::F32 };
    let mut cache = KvCache::builder(shape).paged(16).pool(4).build().unwrap();
    let device = Device::cpu();
    let x = Tensor::zeros(Elem::F32, &[2, 1, 64, 8]).unwrap();
    let append = |cache: &mut KvCache, counts| cache.append_counts(&device, x.view(), x.view(), counts);
    append(&mut cache, &[33, 16]).unwrap();
    assert_eq!(cache.free_pages(), Some(0));
    let error = append(&mut cache, &[0, 1]).unwrap_err();
    assert_eq!(error.to_string(), "1 pages are needed and 0 of 4 are free; truncate entries, or make the pool larger");
    append(&mut cache, &[15, 0]).unwrap();
    cache.truncate(0, 16).unwrap();
    assert_eq!(cache.free_pages(), Some(2));
    append(&mut cache, &[0, 32]).unwrap();
    assert_eq!((cache.lens(), cache.free_pages()), (&[16, 48][..], Some(0)));
}

#[test]
fn what_a_cache_cannot_be_is_refused_by_name() {
    let shape = CacheShape { batch: 2, kv_heads: 3, capacity: 64, head_dim: 64, value_dim: 32, elem: Elem::F16 };
    let build = |shape: CacheShape, with: fn(KvCacheBuilder) -> KvCacheBuilder| {
        with(KvCache::builder(shape)).build().map(|_| ()).unwrap_err().to_string()
    };
    for (got, wanted) in [
        (
            build(shape, |cache| cache.ring(8).paged(16)),
            "a ring of pages is not served; the nearest that is: a ring, or pages",
        ),
        (
            build(shape, |cache| cache.pool(16)),
            "a pool without pages is not served; the nearest that is: pages of 16 tokens",
        ),
        (build(shape, |cache| cache.paged(15)), "pages of 15 tokens; 16 to 256 are served"),
        (
            build(shape, |cache| cache.ring(65)),
            "a ring of 64 slots cannot keep the last 65 tokens; the window is 1 to 64",
        ),
        (
            build(shape, |cache| cache.quantised(affine("q4g64"), affine("q4g64"))),
            "32 values do not divide into groups of 64; groups of 32 fit",
        ),
        (
            build(CacheShape { elem: Elem::I8, ..shape }, |cache| cache),
            "the cache holds i8; it may hold f32, f16 or bf16",
        ),
        (
            build(CacheShape { head_dim: 0, ..shape }, |cache| cache),
            "the cache has no head dim; only the batch and the lengths may be 0",
        ),
        (
            build(CacheShape { head_dim: 577, ..shape }, |cache| cache),
            "head_dim 577 is above 576; split the head, or project it to at most 576",
        ),
        (
            build(CacheShape { batch: 1 << 62, ..shape }, |cache| cache.paged(16).pool(4)),
            "the batch has 4611686018427387904 as its length; at most 536870912 is served",
        ),
    ] {
        assert_eq!(got, wanted);
    }
}

#[test]
fn what_a_cache_cannot_do_is_refused_and_changes_nothing() {
    let shape = CacheShape { batch: 2, kv_heads: 3, capacity: 10, head_dim: 4, value_dim: 2, elem: Elem::F32 };
    let device = Device::cpu();
    let mut cache = KvCache::builder(shape).ring(4).build().unwrap();
    let new = |elem, n| {
        [4, 2].map(|dim| tensor_of(elem, &(0..2 * 3 * n * dim).map(number).collect::<Vec<_>>(), &[2, 3, n, dim]))
    };
    let [k, v] = new(Elem::F32, 13);
    cache.append(&device, k.view(), v.view()).unwrap();
    let read = |cache: &KvCache| {
        let mut o = Tensor::zeros(Elem::F32, &[2, 3, 10, 4]).unwrap();
        cache.view().dequantise_keys(&device, cache.kv_len(), o.view_mut()).unwrap();
        o.to_vec::<f32>().unwrap()
    };
    let before = read(&cache);

    let [other, _] = new(Elem::F16, 13);
    let mut append = |k: &Tensor, v: &Tensor, counts: &[usize]| {
        cache.append_counts(&device, k.view(), v.view(), counts).unwrap_err().to_string()
    };
    let [short, _] = new(Elem::F32, 12);
    for (got, wanted) in [
        (append(&k, &k, &[1, 1]), "v has 4 as its value dim and the cache has 2; they must be equal"),
        (append(&short, &v, &[1, 1]), "v has 13 as its length and k has 12; they must be equal"),
        (append(&other, &v, &[1, 1]), "k holds f16; it may hold the type of the cache"),
        (append(&k, &v, &[1]), "counts has 1 entries and the batch 2; give one for each batch entry"),
        (append(&k, &v, &[1, 14]), "14 tokens of batch entry 1 and k has 13; at most that many can be asked for"),
    ] {
        assert_eq!(got, wanted);
    }
    for (entry, len, wanted) in [
        (2, 0, "there is no batch entry 2; the cache has 2, counted from 0"),
        (0, 14, "batch entry 0 has 13 tokens and cannot be truncated to 14; append instead"),
        (
            1,
            6,
            "the ring of batch entry 1 has overwritten the tokens before 3; truncated to 6 it would need those from 2 on, \
             so compute the last 4 again",
        ),
    ] {
        assert_eq!(cache.truncate(entry, len).unwrap_err().to_string(), wanted);
    }
    assert_eq!((cache.lens(), cache.kv_len()), (&[13, 13][..], &[10, 10][..]));
    assert_eq!(read(&cache), before);
    cache.truncate(1, 7).unwrap();
    assert_eq!((cache.lens(), cache.kv_len()), (&[13, 7][..], &[10, 4][..]));
    cache.truncate(1, 0).unwrap();
    assert_eq!((cache.lens(), cache.kv_len()), (&[13, 0][..], &[10, 0][..]));
}
