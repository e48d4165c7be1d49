//! The example as a user would run it, and its modifier at the edges of its buckets.

use modifier::{BUCKETS, BucketBias};
use std::process::Command;
use tilewright::attention::reference::{Bound, Problem, attention, compare};
use tilewright::prelude::*;

#[test]
fn the_example_runs_and_says_how_far_off_it_is() {
    let out = Command::new(env!("CARGO_BIN_EXE_modifier")).output().unwrap();
    let (said, failed) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success(), "{failed}");
    assert_eq!(said.matches("largest error").count(), 2, "{said}");
}

#[test]
fn each_distance_has_the_bias_of_its_bucket() {
    // Scores are the biases alone: a bias that were a bucket off would show in lse.
    let biases: Vec<f32> = (0..2 * BUCKETS).map(|bucket| bucket as f32 * 0.75).collect();
    let zeros = |len| Tensor::zeros(Elem::F32, &[1, 1, len, 4]).unwrap();
    let (q, k) = (zeros(1), zeros(1));
    for distance in -40i64..=40 {
        for device in [Device::interp(), Device::cpu()] {
            let request = Attention::new(q.view(), k.view(), k.view())
                .feature(BucketBias::new(&biases, 1).unwrap())
                .q_start(-distance)
                .lse();
            let out = request.run(&device).unwrap();
            let problem = Problem::of(&request).unwrap();
            let wanted = attention(&problem);
            let lse = out.lse.unwrap().to_f64();
            let bound = Bound::of(&problem, &wanted);
            compare(&out.o.to_f64(), Some(&lse), &wanted, &bound).unwrap();
            let bucket = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6].get(distance.unsigned_abs() as usize).unwrap_or(&7);
            let after = if distance > 0 { BUCKETS } else { 0 };
            assert!((lse[0] - 0.75 * (bucket + after) as f64).abs() < 1e-5, "{distance}: {lse:?}");
        }
    }
}

#[test]
fn biases_for_other_heads_are_refused() {
    let q = Tensor::zeros(Elem::F32, &[1, 3, 2, 4]).unwrap();
    let request =
        Attention::new(q.view(), q.view(), q.view()).feature(BucketBias::new(&[0.0; 4 * BUCKETS], 2).unwrap());
    let error = request.run(&Device::cpu()).unwrap_err();
    assert_eq!(error.to_string(), "bucket_bias: biases for 2 heads; give them for 3");
}
