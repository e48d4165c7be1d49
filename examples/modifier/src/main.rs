//! Attention with a score modifier of this crate on the CPU device, held against the modifier's own f64 reference.

use modifier::{BUCKETS, BucketBias};
use tilewright::attention::proof::prove;
use tilewright::attention::reference::{Bound, Problem, attention, compare};
use tilewright::prelude::*;

const Q_HEADS: usize = 8;
const KV_HEADS: usize = 2;
const TOKENS: usize = 300;
const DIM: usize = 64;

/// Numbers between -1 and 1 without a pattern.
fn noise(seed: f64, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i as f64 * 12.9898 + seed).sin() * 43758.5453).fract() as f32).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tensor = |seed, heads| Tensor::from_slice(&noise(seed, heads * TOKENS * DIM), &[1, heads, TOKENS, DIM]);
    let (q, k, v) = (tensor(1.0, Q_HEADS)?, tensor(2.0, KV_HEADS)?, tensor(3.0, KV_HEADS)?);
    let bias = BucketBias::new(&noise(4.0, 2 * BUCKETS * Q_HEADS), Q_HEADS)?;

    // Hook and reference say the same of every pair of every small problem.
    let two_heads = BucketBias::new(&noise(4.0, 2 * BUCKETS * 2), 2)?;
    let proof = prove(&Features::none().with(two_heads))?;
    println!("hooks     hold in {} tiles, {} pairs", proof.tiles, proof.pairs);

    for (name, request) in [
        ("all keys", Attention::new(q.view(), k.view(), v.view())),
        ("window", Attention::new(q.view(), k.view(), v.view()).window(Window::last(100))),
    ] {
        let request = request.feature(bias.clone()).lse();
        let out = request.run(&Device::cpu())?;
        let problem = Problem::of(&request)?;
        let wanted = attention(&problem);
        let bound = Bound::of(&problem, &wanted);
        let lse = out.lse.as_ref().map(|lse| lse.to_f64());
        let found = compare(&out.o.to_f64(), lse.as_deref(), &wanted, &bound)?;
        println!("{name:<9} largest error {:.1e} of {:.1e} allowed", found.error, found.bound);
    }
    Ok(())
}
