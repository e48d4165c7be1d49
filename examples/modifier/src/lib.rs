//! A score modifier that the library does not have: a relative bias by buckets of distance, as in T5.
//!
//! Near distances have a bucket each; far ones share buckets that widen with the logarithm of the distance. Each head has a
//! learned bias for each bucket.

use tilewright::attention::Extents;
use tilewright::attention::feature::{Input, InputValue, Pair, Pairs, Phase, ScoreHook};
use tilewright::lang::prelude::*;
use tilewright::prelude::*;

/// Buckets on each side of the query; the keys after it have as many of their own.
pub const BUCKETS: usize = 8;
/// Distances from 0 on that have a bucket each.
const EXACT: usize = BUCKETS / 2;
/// Where the wider buckets start; the last one has no end. `EXACT * 2^(i/2)`, rounded up: two buckets each time that the
/// distance doubles.
const STARTS: [i32; BUCKETS - EXACT] = [4, 6, 8, 12];

/// Adds `bias[bucket(key - position)][head]` to each score, in natural units.
#[derive(Clone, Debug)]
pub struct BucketBias {
    /// `[2 * BUCKETS, q_heads]` f32: the buckets of keys up to the query's own position, then of those after it.
    bias: Tensor,
    /// The same for the reference.
    numbers: Vec<f64>,
}

impl BucketBias {
    /// The biases, row-major `[2 * BUCKETS, q_heads]`.
    ///
    /// # Errors
    /// Another number of biases than that.
    pub fn new(bias: &[f32], q_heads: usize) -> Result<BucketBias, TensorError> {
        let numbers = bias.iter().map(|&x| x.into()).collect();
        Ok(BucketBias { bias: Tensor::from_slice(bias, &[2 * BUCKETS, q_heads])?, numbers })
    }
}

/// What the kernel is specialised by: nothing but the feature itself. The biases come at launch.
impl SpecValue for BucketBias {
    fn key(&self, key: &mut String) {
        key.push_str("bucket_bias");
    }
}

impl Feature for BucketBias {
    fn check(&self, shape: &Extents, _: &[i32]) -> Result<(), String> {
        match self.bias.shape()[1] {
            heads if heads == shape.q_heads => Ok(()),
            heads => Err(format!("biases for {heads} heads; give them for {}", shape.q_heads)),
        }
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![Input { name: "bucket_bias", value: InputValue::Tensor(self.bias.view()) }]
    }

    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        Some((Phase::Bias, self))
    }
}

#[tile]
impl ScoreHook for BucketBias {
    fn apply(&self, scores: Tile<f32>, at: &Pairs) -> Tile<f32> {
        let distance = at.key - at.query;
        let mut bucket = distance.abs().min(EXACT - 1);
        for start in STARTS {
            bucket += (distance.abs() >= start).cast::<i32>();
        }
        let bucket = bucket + (distance > 0).cast::<i32>() * BUCKETS;
        // A sum over the few buckets, since tiles are not indexed by tiles.
        let bias = launch_view::<f32, 2>("bucket_bias");
        let mut scores = scores;
        for i in 0..2 * BUCKETS {
            scores += (bucket == i).select(at.of_heads(bias.at(i)), 0.0);
        }
        scores
    }

    /// From the definition, by the logarithm.
    fn reference(&self, at: &Pair, score: f64) -> f64 {
        let distance = (at.key - at.query).unsigned_abs() as usize;
        let bucket = if distance < EXACT {
            distance
        } else {
            // A power of two is exact in f64; the others are far from the next bucket.
            let wide = (2.0 * (distance as f64 / EXACT as f64).log2()).floor() as usize;
            (EXACT + wide).min(BUCKETS - 1)
        };
        let bucket = if at.key > at.query { bucket + BUCKETS } else { bucket };
        let heads = self.numbers.len() / (2 * BUCKETS);
        score + self.numbers[bucket * heads + at.head]
    }
}
