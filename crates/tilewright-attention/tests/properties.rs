//! Random requests against the f64 reference: every feature and every two of them, every cache format, one pass and
//! splits, odd sizes, every group, lengths for each batch entry, NaN where nothing counts, scores of 1e5, every order in
//! memory, every type.
//!
//! Kernels are few and shapes are many: a list of specialisations is drawn up first, and each serves many problems.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use tilewright_attention::cache::{Format, Placement};
use tilewright_attention::cases::{Case, Order, Values};
use tilewright_attention::{Features, Schedule, Splits, features};
use tilewright_ir::Elem::{self, Bf16, F16, F32};
use tilewright_lang::SpecValue;
use tilewright_runtime::Device;

/// The reference does at most this many operations a case.
const MOST_FLOPS: u64 = 20_000_000;
/// The most specialisations that all the tests of this file draw from.
const MOST_SPECIALISATIONS: usize = 300;
/// Cases of each element type on the CPU device.
const CASES: u32 = 3400;

const DIMS: [(usize, usize); 12] = [
    (64, 64),
    (1, 1),
    (128, 128),
    (3, 5),
    (33, 33),
    (96, 96),
    (8, 70),
    (65, 80),
    (192, 128),
    (16, 16),
    (256, 256),
    (576, 512),
];

/// Tile shapes; codes need heads that their groups divide, pages tiles that they divide.
const SCHEDULES: [(u32, u32, u32); 8] =
    [(1, 16, 32), (3, 4, 16), (1, 1, 16), (2, 8, 64), (1, 7, 13), (4, 1, 128), (1, 64, 128), (5, 2, 48)];

const FORMATS: [&str; 10] = [
    "dense",
    "ring",
    "paged(16)",
    "dense+k-q8g32+v-q8g32",
    "dense+tail",
    "dense+k-q4g64+v-q4g64",
    "paged(32)+k-q8g64",
    "ring+k-q4g32+v-q8g64",
    "paged(17)",
    "dense+k-q8g64+v-q4g32+tail",
];

/// What kernels are specialised by.
#[derive(Clone, Debug)]
struct Specialisation {
    types: (Elem, Elem),
    dims: (usize, usize),
    tile: (u32, u32, u32),
    format: Format,
    /// Places in `features::all()`, and of a sample of each.
    features: Vec<(usize, usize)>,
    split: bool,
}

/// The list for queries of one type: nothing, every sample of every feature, and every two features; types of the cache, dims,
/// tiles, formats and passes go around in turn.
fn specialisations(q: Elem) -> Vec<Specialisation> {
    let all = features::all();
    let extents = Case::new("any").extents();
    let samples: Vec<usize> = all.iter().map(|entry| (entry.samples)(&extents).len()).collect();
    let mut chosen = vec![Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for (entry, &count) in samples.iter().enumerate() {
        chosen.extend((0..count).map(|sample| vec![(entry, sample)]));
    }
    for first in 0..all.len() {
        for second in first + 1..all.len() {
            let turn = first + second;
            chosen.push(vec![(first, turn % samples[first]), (second, (turn + 1) % samples[second])]);
        }
    }
    chosen.push((0..all.len()).map(|entry| (entry, 0)).collect());
    let salt = match q {
        Elem::F16 => 1,
        Elem::Bf16 => 2,
        _ => 0,
    };
    let specialisation = |(at, features): (usize, Vec<(usize, usize)>)| {
        let turn = at + 3 * salt;
        let format = Format::parse(FORMATS[turn % FORMATS.len()]).unwrap();
        let dims = if format.keys == format.values && format.keys == Format::DENSE.keys {
            DIMS[turn % DIMS.len()]
        } else {
            [(64, 64), (128, 64), (256, 128)][turn % 3]
        };
        let (heads, queries, keys) = SCHEDULES[(turn / 2) % SCHEDULES.len()];
        let keys = match format.placement {
            Placement::Paged { page_size } => [page_size as u32, 3 * page_size as u32][turn % 2],
            Placement::Contiguous | Placement::Ring => keys,
        };
        let kv = [q, q, F16, Bf16][if q == F32 { turn % 4 } else { 0 }];
        Specialisation { types: (q, kv), dims, tile: (heads, queries, keys), format, features, split: turn % 3 == 0 }
    };
    chosen.into_iter().enumerate().map(specialisation).collect()
}

/// Lengths near the edges of tiles, and any others.
fn length(most: usize) -> impl Strategy<Value = usize> {
    let edges = prop::sample::select(vec![0usize, 1, 2, 13, 15, 16, 17, 31, 32, 33, 64, 65, 127, 128, 129]);
    prop_oneof![edges.prop_map(move |n| n.min(most)), 0..=most]
}

fn start() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(0)),
        2 => (-80i64..80).prop_map(Some),
        1 => prop::sample::select(vec![Some(1 << 29), Some(-(1 << 29))]),
    ]
}

fn scale() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![4 => Just(None), 1 => (-1.0f64..2.0).prop_map(Some)]
}

fn splits() -> impl Strategy<Value = Splits> {
    prop_oneof![(2usize..9).prop_map(Splits::Count), (1usize..200).prop_map(Splits::Keys)]
}

prop_compose! {
    fn case(list: Vec<Specialisation>)(
        seed in any::<u64>(),
        of in prop::sample::select(list),
        batch in 1usize..=3,
        kv_heads in 1usize..=3,
        group in 1usize..=9,
        q_len in length(70).prop_map(|n| n.max(1)),
        capacity in length(150),
        kv_len in prop::option::of(prop::array::uniform3(0.0f64..=1.0)),
        start in start(),
        scale in scale(),
        splits in splits(),
        order in prop::sample::select(vec![Order::HeadMajor, Order::SequenceMajor, Order::Gaps]),
        large in prop::bool::weighted(0.15),
    ) -> (Case, Fit) {
        let (heads, queries, keys) = of.tile;
        let dims = of.dims;
        let (mut batch, mut kv_heads, mut q_len) = (batch, kv_heads, q_len);
        let group = group.next_multiple_of(heads as usize);
        let flops = |b: usize, h: usize, n: usize| (2 * b * h * group * n * capacity.max(1) * (dims.0 + dims.1)) as u64;
        // The batch shrinks first, then the queries, then the key/value heads: groups stay.
        while flops(batch, kv_heads, q_len) > MOST_FLOPS && (batch, q_len, kv_heads) != (1, 1, 1) {
            if batch > 1 {
                batch -= 1;
            } else if q_len > 1 {
                q_len = q_len.div_ceil(2);
            } else {
                kv_heads = 1;
            }
        }
        let mut case = Case::new(format!("random_{seed:x}"))
            .types(of.types.0, of.types.1)
            .dims(dims.0, dims.1)
            .batch(batch)
            .heads(kv_heads * group, kv_heads)
            .lengths(q_len, capacity)
            .order(order)
            .tile(Schedule { heads, queries, keys })
            .splits(if of.split { splits } else { Splits::Count(1) })
            .values(if large { Values::LargeLogits } else { Values::Normal });
        if let Some(shares) = kv_len {
            let lengths: Vec<i32> = shares[..batch].iter().map(|share| (share * capacity as f64).round() as i32).collect();
            case = case.kv_len(&lengths);
        }
        if let Some(start) = start.filter(|_| of.format.placement != Placement::Ring) {
            case = case.q_start(start);
        }
        if let Some(scale) = scale.filter(|_| !large) {
            case = case.scale(scale);
        }
        with_features(case.cache(of.format), of, q_len, capacity)
    }
}

/// Whether a case has the features of its specialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It has.
    Kept,
    /// No lengths near the drawn ones serve them, so it has none.
    Dropped,
}

/// The case with the features of a specialisation, and with lengths that they serve: a draft tree lies within the cache, and a
/// full ring still has every window.
fn with_features(case: Case, of: Specialisation, q_len: usize, capacity: usize) -> (Case, Fit) {
    let batch = case.extents().batch;
    let shorter = case.clone().lengths(q_len.min(capacity).max(1), capacity).kv_len(&vec![capacity as i32; batch]);
    let not_full = shorter.clone().kv_len(&vec![capacity as i32 - 1; batch]);
    let shortest = not_full.clone().lengths(q_len.min(capacity.max(2) - 1), capacity);
    let none = case.clone();
    let fitted = [case, shorter, not_full, shortest].into_iter().map(|case| {
        let case = case.cache(of.format); // pages round the room for keys up
        let (all, extents) = (features::all(), case.extents());
        let chosen = of.features.iter().map(|&(entry, sample)| {
            let mut samples = (all[entry].samples)(&extents);
            samples.swap_remove(sample % samples.len())
        });
        case.features(chosen.fold(Features::none(), Features::and))
    });
    let device = Device::interp();
    let served = |case: &Case| match case.clean_inputs() {
        Ok(inputs) => case.request(&inputs).is_ok_and(|request| request.plan(&device).is_ok()),
        Err(_) => false,
    };
    match fitted.into_iter().find(served) {
        Some(case) => (case, Fit::Kept),
        None => (none, Fit::Dropped),
    }
}

/// Runs `cases` random cases over the list, and fails when fewer were compared or more kernels were made.
fn check(device: &Device, list: Vec<Specialisation>, cases: u32) {
    let most = list.len();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // The same cases every time: a failure is the change's, not the day's.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (ran, compared, kernels) = (Cell::new(0u32), Cell::new(0usize), RefCell::new(HashSet::new()));
    let dropped = Cell::new(0u32);
    let result = runner.run(&case(list), |(case, fit)| {
        let report = case.run(device).map_err(|error| TestCaseError::fail(format!("{error}\n{case:?}")))?;
        prop_assert!(report.compared > 0 && report.share <= 1.0, "{report:?}");
        kernels.borrow_mut().insert(report.kernel);
        ran.set(ran.get() + 1);
        dropped.set(dropped.get() + u32::from(fit == Fit::Dropped));
        compared.set(compared.get() + report.compared);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert_eq!(ran.get(), cases);
    assert!(compared.get() > 100 * cases as usize, "only {} elements compared", compared.get());
    println!("{} of {cases} cases without their features, {} kernels", dropped.get(), kernels.borrow().len());
    assert!(dropped.get() <= cases / 20, "{} of {cases} cases lost their features", dropped.get());
    // More kernels than the list has: which axes of a mask are 1 follows from the lengths.
    let kernels = kernels.borrow().len();
    assert!(kernels <= MOST_SPECIALISATIONS / 3 && (cases < 1000 || kernels >= most), "{kernels} kernels of {most}");
}

#[test]
fn the_list_is_short_and_has_every_two_features() {
    let lists: Vec<_> = [F32, F16, Bf16].into_iter().flat_map(specialisations).collect();
    assert!(lists.len() <= MOST_SPECIALISATIONS, "{} specialisations", lists.len());
    let names = features::all().len();
    for q in [F32, F16, Bf16] {
        for first in 0..names {
            for second in first + 1..names {
                let has = |s: &Specialisation| {
                    s.types.0 == q && [first, second].iter().all(|entry| s.features.iter().any(|(at, _)| at == entry))
                };
                assert!(lists.iter().any(has), "{q} {first} {second}");
            }
        }
    }
}

#[test]
fn random_requests_in_f32_are_right_on_the_cpu() {
    check(&Device::cpu_with_threads(1), specialisations(F32), CASES);
}

#[test]
fn random_requests_in_f16_are_right_on_the_cpu() {
    check(&Device::cpu_with_threads(1), specialisations(F16), CASES);
}

#[test]
fn random_requests_in_bf16_are_right_on_the_cpu() {
    check(&Device::cpu_with_threads(1), specialisations(Bf16), CASES);
}

#[test]
fn random_requests_are_right_on_the_interpreter() {
    let list = [F32, F16, Bf16].into_iter().flat_map(specialisations).collect();
    check(&Device::interp(), list, 60);
}
