//! Attention in f64, written from the contract with plain loops: what every kernel is compared with.
//!
//! Nothing here is shared with the kernels but the request that states the problem, and the f64 halves of the features'
//! hooks. A key that a row does not attend is never touched for that row, so NaN there changes nothing.

pub mod affine;
mod bound;
mod compare;
mod unroll;

pub use bound::Bound;
pub use compare::{Comparison, Elements, Mismatch, Miss, compare, compare_elements};

use crate::Attention;
use crate::cache::Decoding;
use crate::error::AttentionError;
use crate::feature::{Features, Pair};
use tilewright_ir::Elem;
use unroll::{Side, unroll};

/// One problem: a request with its tensors read into f64, row-major in the logical order.
#[derive(Clone, Debug)]
pub struct Problem {
    pub(crate) batch: usize,
    pub(crate) q_heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) q_len: usize,
    /// Length of the key axis; `kv_len` says how much of it counts.
    pub(crate) capacity: usize,
    pub(crate) head_dim: usize,
    pub(crate) value_dim: usize,
    /// One per batch entry.
    pub(crate) kv_len: Vec<usize>,
    /// Position of the first query of each batch entry.
    pub(crate) q_start: Vec<i64>,
    pub(crate) scale: f64,
    pub(crate) features: Features,
    pub(crate) q_elem: Elem,
    /// The last row of each so many is computed; 1 for all.
    row_step: usize,
    q: Vec<f64>,
    /// Codes as their exact numbers.
    k: Vec<f64>,
    v: Vec<f64>,
    /// Keys and values of the dequantised cache, which the textbook computation reads, if they are codes.
    dequantised: Option<[Vec<f64>; 2]>,
}

/// What attention gives, and the sizes that its error bound depends on.
#[derive(Clone, Debug)]
pub struct Reference {
    /// `[batch, q_heads, q_len, value_dim]`, row-major.
    pub o: Vec<f64>,
    /// `[batch, q_heads, q_len]`, natural logarithm; `-inf` where a row attends to nothing.
    pub lse: Vec<f64>,
    /// The largest finite `|scale| * sum_d |q_d k_d|` of the attended pairs, or what features changed a score by where that
    /// is larger and the key has weight: scores are f32, and a large bias costs them places as large products do.
    pub largest_score: f64,
    /// The largest finite `|v|` of the attended keys.
    pub largest_value: f64,
    /// How many (query row, key) pairs are attended.
    pub pairs: u64,
}

/// One query row: its place, and the attended keys with their scores.
struct Row<'p> {
    problem: &'p Problem,
    batch: usize,
    head: usize,
    row: usize,
}

impl Problem {
    /// Reads the tensors of a request.
    ///
    /// # Errors
    /// The same refusals as [`Attention::plan`], except those that are about a device or a schedule.
    pub fn of(request: &Attention<'_>) -> Result<Problem, AttentionError> {
        let checked = request.check()?;
        let shape = checked.shape;
        let cache = request.cache();
        let unrolled = |decoding| {
            let keys = unroll(cache, Side::Keys, decoding, &checked)?;
            Ok::<_, AttentionError>([keys, unroll(cache, Side::Values, decoding, &checked)?])
        };
        let [k, v] = unrolled(Decoding::Exact)?;
        let dequantised = cache.format().has_codes().then(|| unrolled(Decoding::Dequantised)).transpose()?;
        Ok(Problem {
            batch: shape.batch,
            q_heads: shape.q_heads,
            kv_heads: shape.kv_heads,
            q_len: shape.q_len,
            capacity: shape.capacity,
            head_dim: shape.head_dim,
            value_dim: shape.value_dim,
            kv_len: checked.kv_len.iter().map(|&n| n as usize).collect(), // the check refuses negative lengths
            q_start: checked.q_start.iter().map(|&p| p.into()).collect(),
            scale: checked.scale,
            features: request.features().clone(),
            q_elem: request.q().elem(),
            row_step: 1,
            q: request.q().to_f64()?,
            k,
            v,
            dequantised,
        })
    }

    /// The same problem for a kernel that takes codes for these numbers: where they are exact, the textbook computation, whose error is
    /// the bound of 16-bit types, reads them too.
    pub fn held_to(mut self, decoding: Decoding) -> Problem {
        if decoding == Decoding::Exact {
            self.dequantised = None;
        }
        self
    }

    /// The same problem over the dequantised cache.
    pub fn over_dequantised(mut self) -> Problem {
        if let Some([k, v]) = self.dequantised.take() {
            (self.k, self.v) = (k, v);
        }
        self
    }

    /// The same problem with only the last query row of each `step`, where all of them would take too long. The results
    /// hold these rows and no others.
    pub fn every_nth_row(self, step: usize) -> Problem {
        Problem { row_step: step.max(1), ..self }
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let heads = (0..self.batch).flat_map(|batch| (0..self.q_heads).map(move |head| (batch, head)));
        let rows = move || (self.row_step - 1..self.q_len).step_by(self.row_step);
        heads.flat_map(move |(batch, head)| rows().map(move |row| Row { problem: self, batch, head, row }))
    }

    /// How many (query row, key) pairs are attended, over all heads.
    pub fn attended_pairs(&self) -> u64 {
        self.rows().map(|row| row.attended().count() as u64).sum()
    }

    /// For each `[batch, kv_heads, capacity]` whether some row attends it; what does not count may hold anything.
    pub fn attended_keys(&self) -> Vec<bool> {
        let mut attended = vec![false; self.batch * self.kv_heads * self.capacity];
        for row in self.rows() {
            row.attended().for_each(|key| attended[row.key_index(key)] = true);
        }
        attended
    }
}

impl<'p> Row<'p> {
    fn pair(&self, key: usize) -> Pair {
        let p = self.problem;
        Pair {
            batch: self.batch,
            head: self.head,
            row: self.row,
            query: p.q_start[self.batch] + self.row as i64,
            key: key as i64,
            q_len: p.q_len,
            kv_len: p.kv_len[self.batch],
        }
    }

    fn attended(&self) -> impl Iterator<Item = usize> {
        let p = self.problem;
        let masks = move |key| p.features.masks().all(|mask| mask.reference(&self.pair(key)));
        (0..p.kv_len[self.batch]).filter(move |&key| masks(key))
    }

    fn key_index(&self, key: usize) -> usize {
        let p = self.problem;
        let kv_head = self.head / (p.q_heads / p.kv_heads);
        (self.batch * p.kv_heads + kv_head) * p.capacity + key
    }

    fn query(&self) -> &'p [f64] {
        let p = self.problem;
        let row = (self.batch * p.q_heads + self.head) * p.q_len + self.row;
        &p.q[row * p.head_dim..][..p.head_dim]
    }

    fn key(&self, key: usize) -> &'p [f64] {
        let dim = self.problem.head_dim;
        &self.problem.k[self.key_index(key) * dim..][..dim]
    }

    fn value(&self, key: usize) -> &'p [f64] {
        let dim = self.problem.value_dim;
        &self.problem.v[self.key_index(key) * dim..][..dim]
    }

    /// Cap first, then biases, as the contract orders them.
    fn modify(&self, key: usize, score: f64) -> f64 {
        self.problem.features.reference(&self.pair(key), score)
    }

    /// A sink of `-inf` is none.
    fn sinks(&self) -> impl Iterator<Item = f64> {
        let sinks = self.problem.features.sinks().map(|sink| sink.reference(self.head));
        sinks.filter(|&sink| sink != f64::NEG_INFINITY)
    }
}

/// A score that is so much below the largest of its row has a weight below what the bounds can see.
const NO_WEIGHT: f64 = 30.0;

/// Attention of every row, in f64.
pub fn attention(problem: &Problem) -> Reference {
    let rows = problem.batch * problem.q_heads * problem.q_len;
    let mut out = Reference {
        o: Vec::with_capacity(rows * problem.value_dim),
        lse: Vec::with_capacity(rows),
        largest_score: 0.0,
        largest_value: 0.0,
        pairs: 0,
    };
    for row in problem.rows() {
        let (mut scores, mut changes) = (Vec::new(), Vec::new());
        for key in row.attended() {
            let (mut dot, mut size) = (0.0, 0.0);
            for (q, k) in row.query().iter().zip(row.key(key)) {
                dot += q * k;
                size += (q * k).abs();
            }
            out.largest_score = larger(out.largest_score, problem.scale.abs() * size);
            out.largest_value = row.value(key).iter().fold(out.largest_value, |most, v| larger(most, v.abs()));
            out.pairs += 1;
            let score = row.modify(key, problem.scale * dot);
            if score != f64::NEG_INFINITY {
                scores.push((key, score)); // an additive -inf blocks
                changes.push((score, (score - problem.scale * dot).abs()));
            }
        }
        let largest = changes.iter().map(|&(score, _)| score).fold(f64::NEG_INFINITY, f64::max);
        let with_weight = changes.iter().filter(|(score, _)| *score > largest - NO_WEIGHT);
        out.largest_score = with_weight.fold(out.largest_score, |most, &(_, change)| larger(most, change));
        let max = scores.iter().map(|&(_, s)| s).chain(row.sinks()).fold(f64::NEG_INFINITY, f64::max);
        let weight = |score: f64| (score - max).exp();
        let sum: f64 = scores.iter().map(|&(_, s)| weight(s)).chain(row.sinks().map(weight)).sum();
        let start = out.o.len();
        out.o.resize(start + problem.value_dim, 0.0);
        for &(key, score) in &scores {
            let p = weight(score) / sum;
            out.o[start..].iter_mut().zip(row.value(key)).for_each(|(o, v)| *o += p * v);
        }
        let nothing = scores.is_empty() && row.sinks().next().is_none();
        out.lse.push(if nothing { f64::NEG_INFINITY } else { max + sum.ln() });
    }
    out
}

/// The larger of a finite number and one that counts only when it is finite.
fn larger(most: f64, x: f64) -> f64 {
    if x.is_finite() { most.max(x) } else { most }
}

/// What the textbook computation gives.
pub struct Textbook {
    /// As [`Reference::o`].
    pub o: Vec<f64>,
    /// As [`Reference::lse`].
    pub lse: Vec<f64>,
}

/// The textbook computation in `elem`: codes dequantised, scores and softmax in f32, P rounded to `elem`, PV summed in f32, o
/// rounded to `elem`. Its error is the yardstick for f16 and bf16.
pub fn textbook(problem: &Problem, elem: Elem) -> Textbook {
    let mut out = Textbook { o: Vec::new(), lse: Vec::new() };
    for row in problem.rows() {
        let p = problem;
        let [k, v] = p.dequantised.as_ref().map_or([&p.k, &p.v], |[k, v]| [k, v]);
        let key = |key: usize| &k[row.key_index(key) * p.head_dim..][..p.head_dim];
        let value = |key: usize| &v[row.key_index(key) * p.value_dim..][..p.value_dim];
        let score = |at: usize| {
            let dot = row.query().iter().zip(key(at)).fold(0f32, |sum, (&q, &k)| sum + q as f32 * k as f32);
            row.modify(at, f64::from(dot * p.scale as f32)) as f32
        };
        let scores: Vec<(usize, f32)> =
            row.attended().map(|key| (key, score(key))).filter(|&(_, s)| s != f32::NEG_INFINITY).collect();
        let sinks = || row.sinks().map(|s| s as f32);
        let max = scores.iter().map(|&(_, s)| s).chain(sinks()).fold(f32::NEG_INFINITY, f32::max);
        let weight = |score: f32| (score - max).exp();
        let sum: f32 = scores.iter().map(|&(_, s)| weight(s)).chain(sinks().map(weight)).sum();
        let mut o = vec![0f32; p.value_dim];
        for &(key, score) in &scores {
            let p = elem.nearest(f64::from(weight(score) / sum)) as f32;
            o.iter_mut().zip(value(key)).for_each(|(o, &v)| *o += p * v as f32);
        }
        out.o.extend(o.into_iter().map(|o| elem.nearest(f64::from(o))));
        out.lse.push(f64::from(max + sum.ln()));
    }
    out
}
