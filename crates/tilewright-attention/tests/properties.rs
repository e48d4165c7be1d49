//! Random requests against the f64 reference: odd sizes, every group, lengths for each batch entry, NaN where nothing
//! counts, scores of 1e5, any order in memory, every type.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::Cell;
use tilewright_attention::cases::{Case, Order, Values};
use tilewright_attention::{Features, features};
use tilewright_ir::Elem::{self, Bf16, F16, F32};
use tilewright_runtime::Device;

/// The reference does at most this many operations a case.
const MOST_FLOPS: u64 = 20_000_000;

const TYPES: [(Elem, Elem); 5] = [(F32, F32), (F16, F16), (Bf16, Bf16), (F32, F16), (F32, Bf16)];
const DIMS: [(usize, usize); 11] =
    [(1, 1), (3, 5), (8, 70), (16, 16), (33, 33), (64, 64), (65, 80), (80, 80), (128, 128), (192, 128), (576, 512)];
/// Few, so that few kernels are compiled; `None` is the planner's choice.
const SCHEDULES: [Option<(u32, u32)>; 5] = [None, Some((16, 32)), Some((1, 16)), Some((7, 13)), Some((64, 128))];

/// Lengths near the edges of tiles, and any others.
fn length(most: usize) -> impl Strategy<Value = usize> {
    let edges = prop::sample::select(vec![0usize, 1, 2, 13, 15, 16, 17, 31, 32, 33, 64, 65, 127, 128, 129]);
    prop_oneof![edges.prop_map(move |n| n.min(most)), 0..=most]
}

fn heads() -> impl Strategy<Value = (usize, usize)> {
    (1usize..=3, 1usize..=9).prop_map(|(kv_heads, group)| (kv_heads * group, kv_heads))
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

prop_compose! {
    fn case()(
        seed in any::<u64>(),
        types in prop::sample::select(TYPES.to_vec()),
        dims in prop::sample::select(DIMS.to_vec()),
        schedule in prop::sample::select(SCHEDULES.to_vec()),
        batch in 1usize..=3,
        heads in heads(),
        q_len in length(70).prop_map(|n| n.max(1)),
        capacity in length(150),
        kv_len in prop::option::of(prop::array::uniform3(0.0f64..=1.0)),
        start in start(),
        scale in scale(),
        chosen in prop::collection::vec(prop::option::of(any::<prop::sample::Index>()), features::all().len()),
        order in prop::sample::select(vec![Order::HeadMajor, Order::SequenceMajor, Order::Gaps]),
        large in prop::bool::weighted(0.15),
    ) -> Case {
        let ((mut q_heads, mut kv_heads), mut batch, mut q_len) = (heads, batch, q_len);
        let flops = |b: usize, h: usize, n: usize| (2 * b * h * n * capacity.max(1) * (dims.0 + dims.1)) as u64;
        // The batch shrinks first, then the queries, then the key/value heads: groups stay.
        while flops(batch, q_heads, q_len) > MOST_FLOPS && (batch, q_len, kv_heads) != (1, 1, 1) {
            if batch > 1 {
                batch -= 1;
            } else if q_len > 1 {
                q_len = q_len.div_ceil(2);
            } else {
                q_heads /= kv_heads;
                kv_heads = 1;
            }
        }
        let mut case = Case::new(format!("random_{seed:x}"))
            .types(types.0, types.1)
            .dims(dims.0, dims.1)
            .batch(batch)
            .heads(q_heads, kv_heads)
            .lengths(q_len, capacity)
            .order(order)
            .values(if large { Values::LargeLogits } else { Values::Normal });
        let mut lengths = vec![capacity as i32; batch];
        if let Some(shares) = kv_len {
            lengths = shares[..batch].iter().map(|share| (share * capacity as f64).round() as i32).collect();
            case = case.kv_len(&lengths);
        }
        if let Some(start) = start {
            case = case.q_start(start);
        }
        if let Some(scale) = scale.filter(|_| !large) {
            case = case.scale(scale);
        }
        if let Some((rows, keys)) = schedule {
            case = case.schedule(rows, keys);
        }
        // Each feature of the library is there, as one of its samples, or not; a tree needs its drafts in the cache.
        let extents = case.extents();
        let chosen = features::all().into_iter().zip(chosen).filter_map(|(entry, chosen)| {
            Some(chosen?.get(&(entry.samples)(&extents)).clone())
        });
        let fitting = chosen.filter(|features| features.check(&extents, &lengths).is_ok());
        case.features(fitting.fold(Features::none(), Features::and))
    }
}

/// Runs `cases` random cases, and fails when fewer were compared.
fn check(device: &Device, cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // The same cases every time: a failure is the change's, not the day's.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (ran, compared) = (Cell::new(0u32), Cell::new(0usize));
    let result = runner.run(&case(), |case| {
        let report = case.run(device).map_err(|error| TestCaseError::fail(format!("{error}\n{case:?}")))?;
        prop_assert!(report.compared > 0 && report.share <= 1.0, "{report:?}");
        ran.set(ran.get() + 1);
        compared.set(compared.get() + report.compared);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert_eq!(ran.get(), cases);
    assert!(compared.get() > 100 * cases as usize, "only {} elements compared", compared.get());
}

#[test]
fn random_requests_are_right_on_the_cpu() {
    check(&Device::cpu(), 2200);
}

#[test]
fn random_requests_are_right_on_the_interpreter() {
    check(&Device::interp(), 40);
}
