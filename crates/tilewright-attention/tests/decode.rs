//! Decode and verify: splits, groups, scratch, batches.

use tilewright_attention::cache::{Format, Placement};
use tilewright_attention::cases::Case;
use tilewright_attention::{Attention, AttentionError, Causal, Schedule, Softcap, Splits, Window};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor};

fn decode(q_len: usize, keys: usize) -> Case {
    Case::new("decode").heads(8, 2).dims(64, 64).lengths(q_len, keys).feature(Causal)
}

fn output(case: &Case, device: &Device) -> (Vec<f64>, Vec<u8>, Vec<u8>) {
    let inputs = case.inputs().unwrap();
    let out = case.request(&inputs).unwrap().run(device).unwrap();
    (out.o.to_f64(), out.o.as_bytes().to_vec(), out.lse.unwrap().as_bytes().to_vec())
}

#[test]
fn any_number_of_splits_gives_the_same_within_rounding_and_twice_the_same_bits() {
    for device in [Device::cpu(), Device::interp()] {
        for (q_len, keys) in [(1, 1000), (8, 1000), (1, 3), (1, 0)] {
            let whole = output(&decode(q_len, keys).splits(Splits::Count(1)), &device).0;
            for splits in [1, 2, 3, 7, 32, 64, 100] {
                let case = decode(q_len, keys).splits(Splits::Count(splits));
                case.run(&device).unwrap_or_else(|error| panic!("{splits} splits of {keys} keys: {error}"));
                let (o, o_bits, lse_bits) = output(&case, &device);
                let far = o.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(!o.is_empty() && far <= 1e-6, "{splits} splits of {keys} keys are {far} off");
                let again = output(&case, &device);
                assert!(again.1 == o_bits && again.2 == lse_bits, "{splits} splits of {keys} keys");
            }
        }
    }
}

#[test]
fn every_group_size_is_right() {
    let device = Device::cpu();
    for group in 1..=16 {
        for (q_len, splits) in [(1, Splits::Count(3)), (1, Splits::Count(1)), (5, Splits::Auto), (64, Splits::Count(2))]
        {
            let case = Case::new(format!("group_of_{group}")).heads(2 * group, 2).dims(40, 24);
            let case = case.lengths(q_len, 300).kv_len(&[260]).splits(splits).feature(Causal);
            case.run(&device).unwrap_or_else(|error| panic!("group of {group}, {q_len} queries: {error}"));
        }
    }
    // More rows than one tile holds: the group is cut.
    let case = Case::new("group_of_48").heads(48, 1).dims(16, 16).lengths(64, 100).feature(Causal);
    case.run(&device).unwrap();
}

#[test]
fn every_tuned_head_dim_decodes() {
    for dim in [64, 96, 128, 256, 512] {
        for (q, kv) in
            [(Elem::F32, Elem::F32), (Elem::F16, Elem::F16), (Elem::Bf16, Elem::Bf16), (Elem::F32, Elem::F16)]
        {
            let case = Case::new(format!("decode_d{dim}")).heads(4, 2).dims(dim, dim).lengths(1, 700).types(q, kv);
            case.clone().splits(Splits::Count(4)).run(&Device::cpu()).unwrap();
            case.run(&Device::cpu()).unwrap();
        }
    }
}

/// Bits of o of the entry of `batch` that is the same in every batch.
fn of_first_entry(splits: Splits, batch: usize) -> Vec<u8> {
    let (heads, keys, dim) = (8, 900, 64);
    let numbers = |salt: u64, n: usize| -> Vec<f32> {
        (0..n as u64).map(|i| ((i * 2_654_435_761 + salt * 97) % 1009) as f32 / 504.5 - 1.0).collect()
    };
    let q = numbers(1, batch * heads * dim);
    let (k, v) = (numbers(2, batch * 2 * keys * dim), numbers(3, batch * 2 * keys * dim));
    let lengths: Vec<i32> = (0..batch).map(|entry| [801, 3, 900, 0, 512, 513, 64, 700][entry]).collect();
    let tensor = |data: &[f32], shape: &[usize]| Tensor::from_slice(data, shape).unwrap();
    let (q, k, v) =
        (tensor(&q, &[batch, heads, 1, dim]), tensor(&k, &[batch, 2, keys, dim]), tensor(&v, &[batch, 2, keys, dim]));
    let out = Attention::new(q.view(), k.view(), v.view()).kv_len(&lengths).splits(splits).run(&Device::cpu());
    out.unwrap().o.as_bytes()[..heads * dim * 4].to_vec()
}

#[test]
fn shares_of_a_fixed_size_do_not_depend_on_the_rest_of_the_batch() {
    for keys in [1, 128, 256, 300, 1000] {
        assert!(of_first_entry(Splits::Keys(keys), 1) == of_first_entry(Splits::Keys(keys), 8), "{keys} keys a share");
    }
}

#[test]
fn scratch_is_the_callers_when_given_and_refused_when_too_small() {
    let device = Device::cpu();
    let case = decode(2, 700).splits(Splits::Count(5));
    let inputs = case.inputs().unwrap();
    let request = case.request(&inputs).unwrap();
    let plan = request.plan(&device).unwrap();
    assert_eq!(plan.scratch_bytes(), 8 * 2 * 5 * (64 + 2) * 4);
    let (mut o, mut lse) =
        (Tensor::zeros(Elem::F32, &[1, 8, 2, 64]).unwrap(), Tensor::zeros(Elem::F32, &[1, 8, 2]).unwrap());
    let mut workspace = plan.workspace().unwrap();
    assert_eq!(workspace.scratch_bytes(), plan.scratch_bytes());
    for _ in 0..2 {
        plan.run_with(&request, o.view_mut(), Some(lse.view_mut()), &mut workspace).unwrap();
        assert_eq!(o.to_f64(), output(&case, &device).0);
    }

    let fewer = case.clone().splits(Splits::Count(4));
    let fewer = fewer.request(&inputs).unwrap().plan(&device).unwrap();
    let mut small = fewer.workspace().unwrap();
    let error = plan.run_with(&request, o.view_mut(), Some(lse.view_mut()), &mut small).unwrap_err();
    assert_eq!(error, AttentionError::Scratch { got: fewer.scratch_bytes(), needed: plan.scratch_bytes() });
}

#[test]
fn a_workspace_serves_other_lengths_pages_and_features_of_the_same_kernels() {
    for device in [Device::cpu(), Device::interp()] {
        let case = |name: &str, keys: i32, cap: f64| {
            let format = Format { placement: Placement::Paged { page_size: 16 }, ..Format::DENSE };
            let case = Case::new(name).heads(4, 2).dims(32, 32).lengths(2, 96).kv_len(&[keys]);
            case.cache(format).feature(Causal).feature(Softcap(cap)).splits(Splits::Count(3))
        };
        let mut workspace = None;
        for (name, keys, cap) in [("one", 96, 2.0), ("two", 40, 2.0), ("three", 40, 0.5), ("one", 96, 2.0)] {
            let case = case(name, keys, cap);
            let inputs = case.inputs().unwrap();
            let request = case.request(&inputs).unwrap();
            let plan = request.plan(&device).unwrap();
            let workspace = workspace.get_or_insert_with(|| plan.workspace().unwrap());
            let mut o = Tensor::zeros(Elem::F32, &[1, 4, 2, 32]).unwrap();
            let mut lse = Tensor::zeros(Elem::F32, &[1, 4, 2]).unwrap();
            plan.run_with(&request, o.view_mut(), Some(lse.view_mut()), workspace).unwrap();
            assert_eq!(o.to_f64(), output(&case, &device).0, "{name}");
            case.run(&device).unwrap();
        }
    }
}

#[test]
fn the_planner_splits_only_what_leaves_threads_idle() {
    let device = Device::cpu_with_threads(4);
    let splits = |heads: usize, q_len: usize, keys: usize| {
        let case = Case::new("planned").heads(heads, heads).dims(16, 16).lengths(q_len, keys);
        let inputs = case.clean_inputs().unwrap();
        case.request(&inputs).unwrap().plan(&device).unwrap().splits()
    };
    assert_eq!(splits(1, 1, 8192), 8); // two programs for each thread
    assert_eq!(splits(2, 1, 8192), 4);
    assert_eq!(splits(8, 1, 8192), 1);
    assert_eq!(splits(1, 1, 1100), 2); // at least 512 keys each
    assert_eq!(splits(1, 1, 900), 1);
    assert_eq!(splits(1, 65, 8192), 1); // prefill
}

#[test]
fn numbers_of_splits_that_cannot_be_are_refused() {
    for splits in [Splits::Count(0), Splits::Keys(0), Splits::Count(1 << 20)] {
        let case = decode(1, 10).splits(splits);
        let inputs = case.clean_inputs().unwrap();
        let error = case.request(&inputs).unwrap().plan(&Device::cpu()).unwrap_err();
        assert!(matches!(error, AttentionError::Splits { .. }), "{splits:?}: {error}");
    }
}

#[test]
fn a_ring_from_any_slot_gives_what_the_unrolled_cache_gives() {
    let device = Device::cpu();
    let mut outputs = Vec::new();
    for start in 0..37 {
        for (q_len, kv_len, window) in [(1, 37, 30), (4, 36, 20), (8, 37, 30), (1, 5, 100)] {
            let case = Case::new("ring").heads(4, 2).dims(256, 256).types(Elem::F32, Elem::F16).lengths(q_len, 37);
            let case = case.kv_len(&[kv_len]).tile(Schedule { heads: 2, queries: 8, keys: 16 });
            let case = case.feature(Window::last(window)).splits(Splits::Count(2));
            let ring = case.clone().cache(Format { placement: Placement::Ring, ..Format::DENSE }).ring_start(&[start]);
            ring.run(&device).unwrap_or_else(|error| panic!("from slot {start}: {error}"));
            outputs.push((output(&case, &device).0, output(&ring, &device).0));
        }
    }
    let far =
        |(dense, ring): &(Vec<f64>, Vec<f64>)| dense.iter().zip(ring).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(
        outputs.iter().all(|pair| !pair.0.is_empty() && far(pair) <= 2e-6),
        "{:?}",
        outputs.iter().map(far).fold(0.0, f64::max)
    );
}
