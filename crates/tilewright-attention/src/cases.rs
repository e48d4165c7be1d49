//! Test and benchmark cases: named shapes with features, types and inputs, made the same on every machine.

mod gemma_twin;

pub use gemma_twin::{GemmaTwin, gemma_twin};

use crate::attention::{Attention, Extents};
use crate::error::AttentionError;
use crate::feature::{Feature, Features};
use crate::pairs;
use crate::reference::{Bound, Mismatch, Problem, attention, compare};
use tilewright_ir::{Elem, Schedule};
use tilewright_runtime::{Device, Tensor, TensorError, TensorView};

/// What the inputs hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// About normal, standard deviation 1.
    Normal,
    /// Scores of about 1e5 that nearly tie: all keys are one key and a little noise.
    LargeLogits,
}

/// How tensors lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `[batch, heads, length, dim]`.
    HeadMajor,
    /// `[batch, length, heads, dim]`.
    SequenceMajor,
    /// Head-major, with a gap after every row and every head.
    Gaps,
}

/// One problem with everything that it needs.
#[derive(Clone, Debug)]
pub struct Case {
    name: String,
    q_elem: Elem,
    kv_elem: Elem,
    shape: Extents,
    kv_len: Option<Vec<i32>>,
    q_start: Option<i64>,
    scale: Option<f64>,
    features: Features,
    order: Order,
    values: Values,
    schedule: Option<Schedule>,
    lse: bool,
}

/// The tensors of a case.
#[derive(Clone, Debug)]
pub struct Inputs {
    q: Stored,
    k: Stored,
    v: Stored,
}

/// A tensor in some order.
#[derive(Clone, Debug)]
struct Stored {
    memory: Tensor,
    shape: [usize; 4],
    strides: [usize; 4],
}

/// A case that was within its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseReport {
    /// The case.
    pub name: String,
    /// The largest error of o.
    pub error: f64,
    /// The bound of the element of o that came nearest to it.
    pub bound: f64,
    /// The largest part of a bound that any element used up; at most 1.
    pub share: f64,
    /// Elements compared; never 0.
    pub compared: usize,
}

/// A case that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// It was refused, or did not run.
    #[error("{name}: {error}")]
    Refused {
        /// The case.
        name: String,
        /// Why.
        error: AttentionError,
    },
    /// It ran and the result is wrong.
    #[error("{name}: {error}")]
    Wrong {
        /// The case.
        name: String,
        /// Where, and how far off.
        error: Mismatch,
    },
}

impl Case {
    /// Two heads of dim 24, 16 queries and 32 keys, f32, nothing else; the methods change that.
    pub fn new(name: impl Into<String>) -> Case {
        let shape = Extents { batch: 1, q_heads: 2, kv_heads: 2, q_len: 16, capacity: 32, head_dim: 24, value_dim: 24 };
        Case {
            name: name.into(),
            q_elem: Elem::F32,
            kv_elem: Elem::F32,
            shape,
            kv_len: None,
            q_start: None,
            scale: None,
            features: Features::none(),
            order: Order::HeadMajor,
            values: Values::Normal,
            schedule: None,
            lse: true,
        }
    }

    /// Element types of q and o, and of k and v.
    pub fn types(mut self, q: Elem, kv: Elem) -> Case {
        (self.q_elem, self.kv_elem) = (q, kv);
        self
    }

    /// Batch entries.
    pub fn batch(mut self, batch: usize) -> Case {
        self.shape.batch = batch;
        self
    }

    /// Query heads, and key/value heads.
    pub fn heads(mut self, q_heads: usize, kv_heads: usize) -> Case {
        (self.shape.q_heads, self.shape.kv_heads) = (q_heads, kv_heads);
        self
    }

    /// Queries, and keys that there is room for.
    pub fn lengths(mut self, q_len: usize, capacity: usize) -> Case {
        (self.shape.q_len, self.shape.capacity) = (q_len, capacity);
        self
    }

    /// Head dim and value dim.
    pub fn dims(mut self, head_dim: usize, value_dim: usize) -> Case {
        (self.shape.head_dim, self.shape.value_dim) = (head_dim, value_dim);
        self
    }

    /// Keys that count, one number per batch entry.
    pub fn kv_len(mut self, kv_len: &[i32]) -> Case {
        self.kv_len = Some(kv_len.to_vec());
        self
    }

    /// Position of the first query.
    pub fn q_start(mut self, start: i64) -> Case {
        self.q_start = Some(start);
        self
    }

    /// The factor of the scores.
    pub fn scale(mut self, scale: f64) -> Case {
        self.scale = Some(scale);
        self
    }

    /// One more feature.
    pub fn feature(mut self, feature: impl Feature + 'static) -> Case {
        self.features = self.features.with(feature);
        self
    }

    /// These features as well.
    pub fn features(mut self, features: Features) -> Case {
        self.features = self.features.and(features);
        self
    }

    /// `[batch, length, heads, dim]` in memory.
    pub fn sequence_major(self) -> Case {
        self.order(Order::SequenceMajor)
    }

    /// The order in memory.
    pub fn order(mut self, order: Order) -> Case {
        self.order = order;
        self
    }

    /// What the inputs hold.
    pub fn values(mut self, values: Values) -> Case {
        self.values = values;
        self
    }

    /// The tile shape, instead of the planner's.
    pub fn schedule(mut self, queries: u32, keys: u32) -> Case {
        self.schedule = Some(Schedule { heads: 1, queries, keys });
        self
    }

    /// Without lse, as a benchmark runs it.
    pub fn without_lse(mut self) -> Case {
        self.lse = false;
        self
    }

    /// `causal_square/bf16`; with a cache of another type than q, `…/f32+bf16`.
    pub fn name(&self) -> String {
        let Case { name, q_elem, kv_elem, .. } = self;
        if q_elem == kv_elem { format!("{name}/{q_elem}") } else { format!("{name}/{q_elem}+{kv_elem}") }
    }

    /// Element types of q and of k.
    pub fn elements(&self) -> (Elem, Elem) {
        (self.q_elem, self.kv_elem)
    }

    /// Its extents.
    pub fn extents(&self) -> Extents {
        self.shape
    }

    /// The inputs: the same for the same case everywhere. Keys and values that no row attends are NaN.
    ///
    /// # Errors
    /// A shape that cannot be made or that the contract refuses.
    pub fn inputs(&self) -> Result<Inputs, AttentionError> {
        let mut inputs = self.clean_inputs()?;
        let attended = Problem::of(&self.request(&inputs)?)?.attended_keys();
        for stored in [&mut inputs.k, &mut inputs.v] {
            let mut values = stored.view()?.to_f64();
            let rows = values.chunks_mut(stored.shape[3]).zip(&attended);
            rows.filter(|(_, attended)| !**attended).for_each(|(row, _)| row.fill(f64::NAN));
            stored.fill(&values)?;
        }
        Ok(inputs)
    }

    /// Inputs in which every key holds numbers: for a benchmark, which need not look for those that do not count.
    ///
    /// # Errors
    /// A shape that cannot be made.
    pub fn clean_inputs(&self) -> Result<Inputs, AttentionError> {
        let Extents { batch, q_heads, kv_heads, q_len, capacity, head_dim, value_dim } = self.shape;
        let mut random = Random::new(&self.name);
        let q_shape = [batch, q_heads, q_len, head_dim];
        let k_shape = [batch, kv_heads, capacity, head_dim];
        let mut q = random.normals(q_shape);
        let mut k = random.normals(k_shape);
        if self.values == Values::LargeLogits {
            // With q and k of this size the terms of a score add up to 1e5 before the signs.
            let size = (1e5 / (0.7 * (head_dim as f64).sqrt())).sqrt();
            let key = random.normals([1, 1, 1, head_dim]);
            q.iter_mut().for_each(|x| *x *= size);
            for row in k.chunks_mut(head_dim) {
                row.iter_mut().zip(&key).for_each(|(x, base)| *x = size * (base + 1e-5 * *x));
            }
        }
        let v = random.normals([batch, kv_heads, capacity, value_dim]);
        Ok(Inputs {
            q: Stored::new(self.q_elem, q_shape, self.order, &q)?,
            k: Stored::new(self.kv_elem, k_shape, self.order, &k)?,
            v: Stored::new(self.kv_elem, [batch, kv_heads, capacity, value_dim], self.order, &v)?,
        })
    }

    /// The request of this case on such inputs.
    ///
    /// # Errors
    /// None for inputs of this case.
    pub fn request<'a>(&'a self, inputs: &'a Inputs) -> Result<Attention<'a>, AttentionError> {
        let request = Attention::new(inputs.q.view()?, inputs.k.view()?, inputs.v.view()?);
        let mut request = request.with_features(self.features.clone());
        if let Some(scale) = self.scale {
            request = request.scale(scale);
        }
        if let Some(start) = self.q_start {
            request = request.q_start(start);
        }
        if let Some(kv_len) = &self.kv_len {
            request = request.kv_len(kv_len);
        }
        if let Some(schedule) = self.schedule {
            request = request.schedule(schedule);
        }
        Ok(if self.lse { request.lse() } else { request })
    }

    /// Runs it on a device and holds the result against the f64 reference.
    ///
    /// # Errors
    /// What was refused, or the first wrong element; a case with no elements is wrong.
    pub fn run(&self, device: &Device) -> Result<CaseReport, CaseError> {
        let refused = |error: AttentionError| CaseError::Refused { name: self.name(), error };
        let inputs = self.inputs().map_err(refused)?;
        let request = self.request(&inputs).map_err(refused)?;
        let out = request.run(device).map_err(refused)?;
        let problem = Problem::of(&request).map_err(refused)?;
        let wanted = attention(&problem);
        let bound = Bound::of(&problem, &wanted);
        let lse = out.lse.as_ref().map(|lse| lse.view().to_f64());
        let found = compare(&out.o.view().to_f64(), lse.as_deref(), &wanted, &bound)
            .map_err(|error| CaseError::Wrong { name: self.name(), error })?;
        Ok(CaseReport {
            name: self.name(),
            error: found.error,
            bound: found.bound,
            share: found.share,
            compared: found.compared,
        })
    }

    /// How many (query row, key) pairs are attended, over all heads.
    pub fn attended_pairs(&self) -> u64 {
        let Extents { batch, q_len, capacity, .. } = self.shape;
        let given = self.kv_len.iter().flatten().map(|&n| i64::from(n));
        let kv_len: Vec<i64> = given.chain(std::iter::repeat(capacity as i64)).take(batch).collect();
        let q_start = |keys: &i64| self.q_start.unwrap_or(keys - q_len as i64);
        pairs::attended(&self.shape, &kv_len, &kv_len.iter().map(q_start).collect::<Vec<_>>(), &self.features)
    }

    /// Multiplications and additions of both products over the attended pairs.
    pub fn flops(&self) -> u64 {
        self.shape.flops(self.attended_pairs())
    }

    /// Bytes of the keys and values that count, read once, and of q and o.
    pub fn bytes(&self) -> u64 {
        let shape = &self.shape;
        let keys: usize = match &self.kv_len {
            Some(kv_len) => kv_len.iter().map(|&n| usize::try_from(n).unwrap_or(0)).sum(),
            None => shape.batch * shape.capacity,
        };
        let dims = shape.head_dim + shape.value_dim;
        let cache = shape.kv_heads * keys * dims * self.kv_elem.bytes();
        let queries = shape.batch * shape.q_heads * shape.q_len * dims * self.q_elem.bytes();
        (cache + queries) as u64
    }
}

impl Stored {
    fn new(elem: Elem, shape: [usize; 4], order: Order, values: &[f64]) -> Result<Stored, TensorError> {
        let [batch, heads, length, dim] = shape;
        let (strides, count) = match order {
            Order::HeadMajor => ([heads * length * dim, length * dim, dim, 1], batch * heads * length * dim),
            Order::SequenceMajor => ([length * heads * dim, dim, heads * dim, 1], batch * heads * length * dim),
            Order::Gaps => {
                let (row, head) = (dim + 3, length * (dim + 3) + 5);
                ([heads * head + 1, head, row, 1], batch * (heads * head + 1))
            }
        };
        let mut stored = Stored { memory: Tensor::zeros(elem, &[count])?, shape, strides };
        stored.fill(values)?;
        Ok(stored)
    }

    fn fill(&mut self, values: &[f64]) -> Result<(), TensorError> {
        self.memory.view_mut().with_strides(&self.shape, &self.strides)?.copy_from_f64(values);
        Ok(())
    }

    fn view(&self) -> Result<TensorView<'_>, TensorError> {
        self.memory.view().with_strides(&self.shape, &self.strides)
    }
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn new(name: &str) -> Random {
        // FNV-1a, so that each case has its own numbers.
        Random(name.bytes().fold(0xcbf29ce484222325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100000001b3)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d049bb133111eb);
        x ^ (x >> 31)
    }

    /// The sum of four uniform numbers, with standard deviation 1: near enough to normal, and bounded by 3.5.
    fn normal(&mut self) -> f64 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
        (sum as f64 / 65536.0 - 2.0) * 3f64.sqrt()
    }

    fn normals(&mut self, shape: [usize; 4]) -> Vec<f64> {
        (0..shape.iter().product()).map(|_| self.normal()).collect()
    }
}
