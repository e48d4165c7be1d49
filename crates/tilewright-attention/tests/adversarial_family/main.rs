//! Random requests, all formats and features at once, against f64 loops that share no code with the library; and a few cases
//! that chance does not find.

mod memory;
mod run;
mod spec;

use memory::{Rng, tensor_of};
use run::run;
use spec::{change, respecialise, spec};
use tilewright_attention::{Attention, AttentionError, Cache, Mask, Splits, Window};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor};

/// Runs each request, the same plan with other numbers, and the plan with a request that it was not made for.
fn every(device: &Device, seeds: std::ops::Range<u64>) {
    let mut compared = 0;
    let mut wrong = Vec::new();
    for seed in seeds {
        let rng = &mut Rng(seed);
        let first = spec(rng);
        let (mut changed, mut other) = (first.clone(), first.clone());
        change(rng, &mut changed);
        respecialise(rng, &mut other);
        let mut plan = None;
        for (spec, replan) in [(first, false), (changed, false), (other, true)] {
            if replan && plan.is_none() {
                continue; // the first was refused
            }
            match run(rng.next(), device, &spec, &mut plan, replan) {
                Ok(n) => compared += n,
                Err(error) => wrong.push(format!("{seed}, replan {replan}: {spec:?}\n{error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(compared > 100_000, "{compared}");
}

#[test]
fn any_request_is_right_or_refused_on_the_cpu() {
    every(&Device::cpu(), 0..150);
}

#[test]
fn any_request_is_right_or_refused_on_the_interpreter() {
    every(&Device::interp(), 1000..1015);
}

fn numbers(shape: &[usize]) -> Tensor {
    let mut rng = Rng(shape.iter().product::<usize>() as u64);
    let all: Vec<f64> = (0..shape.iter().product()).map(|_| rng.number()).collect();
    tensor_of(Elem::F32, &all, shape)
}

#[test]
fn a_window_longer_than_any_cache_needs_a_longer_ring_than_a_full_one() {
    let (q, k) = (numbers(&[1, 1, 3, 8]), numbers(&[1, 1, 20, 8]));
    let request = Attention::over(q.view(), Cache::new(k.view(), k.view()).ring(&[7])).window(Window::last(usize::MAX));
    let error = request.clone().run(&Device::cpu()).unwrap_err();
    assert!(matches!(error, AttentionError::RingCapacity { needed: usize::MAX, .. }), "{error}");
    assert!(request.kv_len(&[19]).run(&Device::cpu()).is_ok());
}

#[test]
fn a_mask_of_an_empty_batch_over_pages_gives_empty_outputs() {
    let (q, pool) = (numbers(&[0, 1, 3, 8]), numbers(&[4, 1, 16, 8]));
    let mask = Mask::new(Tensor::from_slice(&[true; 48], &[48]).unwrap()).unwrap();
    let request = Attention::over(q.view(), Cache::new(pool.view(), pool.view()).paged(&[])).mask(mask);
    assert_eq!(request.run(&Device::cpu()).unwrap().o.shape(), [0, 1, 3, 8]);
}

#[test]
fn pages_of_an_empty_pool_serve_no_keys_and_no_others() {
    let (q, pool) = (numbers(&[1, 1, 1, 8]), Tensor::zeros(Elem::F32, &[0, 1, 16, 8]).unwrap());
    let request = |table| Attention::over(q.view(), Cache::new(pool.view(), pool.view()).paged(table));
    let out = request(&[-1]).kv_len(&[0]).run(&Device::cpu()).unwrap();
    assert_eq!(out.o.to_f64(), [0.0; 8]);
    assert_eq!(request(&[]).run(&Device::cpu()).unwrap().o.to_f64(), [0.0; 8]);
    let error = request(&[0]).kv_len(&[1]).run(&Device::cpu()).unwrap_err();
    assert!(matches!(error, AttentionError::Page { got: 0, pages: 0, .. }), "{error}");
}

#[test]
fn a_query_of_nan_makes_its_own_row_nan_and_no_other() {
    let (heads, rows, dim) = (4, 5, 16);
    let k = numbers(&[1, 2, 300, dim]);
    let mut values = numbers(&[1, heads, rows, dim]).to_f64();
    let bad = 2 * rows + 3;
    for splits in [1, 3] {
        let run = |q: &[f64]| {
            let q = tensor_of(Elem::F32, q, &[1, heads, rows, dim]);
            let request = Attention::new(q.view(), k.view(), k.view()).causal().lse().splits(Splits::Count(splits));
            let out = request.run(&Device::cpu()).unwrap();
            (out.o.to_f64(), out.lse.unwrap().to_f64())
        };
        values[bad * dim + 4] = 1.0;
        let clean = run(&values);
        values[bad * dim + 4] = f64::NAN;
        let with_nan = run(&values);
        for row in 0..heads * rows {
            let same = clean.0[row * dim..][..dim] == with_nan.0[row * dim..][..dim] && clean.1[row] == with_nan.1[row];
            let nan = with_nan.0[row * dim..][..dim].iter().all(|x| x.is_nan()) && with_nan.1[row].is_nan();
            assert!(if row == bad { nan } else { same }, "row {row} of {splits} splits");
        }
    }
}

#[test]
fn tensors_whose_rows_share_memory_are_read_as_the_rows_they_are() {
    let (q, k) = (numbers(&[1, 1, 1, 16]), numbers(&[1, 1, 70, 16]));
    let shared_q = q.view().with_strides(&[2, 4, 3, 16], &[0, 0, 0, 1]).unwrap();
    let shared_k = k.view().with_strides(&[2, 2, 70, 16], &[0, 0, 16, 1]).unwrap();
    let one = Attention::new(q.view(), k.view(), k.view()).run(&Device::cpu()).unwrap().o.to_f64();
    let all = Attention::new(shared_q, shared_k, shared_k).run(&Device::cpu()).unwrap().o.to_f64();
    assert_eq!(all.len(), 24 * 16);
    assert!(all.chunks(16).flat_map(|row| row.iter().zip(&one)).all(|(x, y)| (x - y).abs() < 1e-6));
}

#[test]
fn a_mean_over_many_keys_keeps_the_bound() {
    for keys in [10_000, 100_000] {
        let (q, k) =
            (Tensor::zeros(Elem::F32, &[1, 1, 1, 4]).unwrap(), Tensor::zeros(Elem::F32, &[1, 1, keys, 4]).unwrap());
        let value = 0.3f32;
        let v = Tensor::from_slice(&vec![value; keys * 4], &[1, 1, keys, 4]).unwrap();
        let out = Attention::new(q.view(), k.view(), v.view()).splits(Splits::Count(1)).run(&Device::cpu()).unwrap();
        let far = (out.o.to_f64()[0] - f64::from(value)).abs();
        assert!(far <= 2e-6 * f64::from(value), "{keys} keys: {far}");
    }
}
