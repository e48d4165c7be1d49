//! Test and benchmark cases: named shapes with features, types and inputs, made the same on every machine.

mod cache_case;
mod class_case;
mod gemma_twin;
mod inputs;
mod random;
mod resident;
mod test_case;

pub use cache_case::CacheCase;
pub use class_case::ClassCase;
pub use gemma_twin::{GemmaTwin, gemma_twin};
pub use inputs::Inputs;
pub use resident::{ResidentInputs, Sample};
pub use test_case::TestCase;

use crate::attention::{Attention, Extents, Splits};
use crate::cache::{Cache, CacheError, Encoding, Format, Placement};
use crate::error::AttentionError;
use crate::feature::{Feature, Features};
use crate::features::Mask;
use crate::pairs;
use crate::quant::Affine;
use crate::reference::{Bound, Mismatch, Problem, attention, compare};
use tilewright_ir::{Elem, Schedule, Work};
use tilewright_runtime::{Device, TensorView};

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
    /// A mask whose tiles are classified on the device first.
    classified: Option<Mask>,
    order: Order,
    values: Values,
    format: Format,
    ring_start: Option<Vec<i32>>,
    splits: Splits,
    schedule: Option<Schedule>,
    work: Option<Work>,
    lse: bool,
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
    /// What its kernels were specialised by.
    pub kernel: String,
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
    /// A case of a cache was refused, or did not run.
    #[error("{name}: {error}")]
    Cache {
        /// The case.
        name: String,
        /// Why.
        error: CacheError,
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
            classified: None,
            order: Order::HeadMajor,
            values: Values::Normal,
            format: Format::DENSE,
            ring_start: None,
            splits: Splits::Auto,
            schedule: None,
            work: None,
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

    /// A mask of all batch entries and heads, whose tiles a benchmark in memory of the device ([`ResidentInputs`]) classifies.
    pub(crate) fn classified(mut self, mask: Mask) -> Case {
        self.classified = Some(mask);
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

    /// The cache format. With pages the room for keys becomes whole pages, of which the same number of keys counts as before.
    pub fn cache(mut self, format: Format) -> Case {
        self.format = format;
        if let Placement::Paged { page_size } = format.placement {
            let keys = self.shape.capacity;
            self.shape.capacity = keys.next_multiple_of(page_size);
            self.kv_len.get_or_insert_with(|| vec![keys as i32; self.shape.batch]);
        }
        self
    }

    /// Where the rings start, one slot per batch entry, instead of anywhere.
    pub fn ring_start(mut self, start: &[i32]) -> Case {
        self.ring_start = Some(start.to_vec());
        self
    }

    /// Into how many shares the keys are split.
    pub fn splits(mut self, splits: Splits) -> Case {
        self.splits = splits;
        self
    }

    /// The tile shape, of one head, instead of the planner's.
    pub fn schedule(self, queries: u32, keys: u32) -> Case {
        self.tile(Schedule { heads: 1, queries, keys })
    }

    /// The tile shape, instead of the planner's.
    pub fn tile(mut self, schedule: Schedule) -> Case {
        self.schedule = Some(schedule);
        self
    }

    /// How a GPU's threads share the work of a tile, instead of the planner's way.
    pub fn work(mut self, work: Work) -> Case {
        self.work = Some(work);
        self
    }

    /// Without lse, as a benchmark runs it.
    pub fn without_lse(mut self) -> Case {
        self.lse = false;
        self
    }

    /// What it was named, without types.
    pub fn label(&self) -> &str {
        &self.name
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

    /// Its cache format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Its extents.
    pub fn extents(&self) -> Extents {
        self.shape
    }

    /// The inputs: the same for the same case everywhere. Keys and values that no row attends are NaN, and so are slots
    /// that hold no token; page numbers that are not used lead nowhere.
    ///
    /// # Errors
    /// A shape that cannot be made or that the contract refuses.
    pub fn inputs(&self) -> Result<Inputs, AttentionError> {
        let clean = self.clean_inputs()?;
        let attended = Problem::of(&self.request(&clean)?)?.attended_keys();
        Inputs::new(self, Some(&attended))
    }

    /// Inputs in which every key holds numbers: for a benchmark, which need not look for those that do not count.
    ///
    /// # Errors
    /// A shape that cannot be made.
    pub fn clean_inputs(&self) -> Result<Inputs, AttentionError> {
        Inputs::new(self, None)
    }

    /// The request of this case on such inputs.
    ///
    /// # Errors
    /// None for inputs of this case.
    pub fn request<'a>(&'a self, inputs: &'a Inputs) -> Result<Attention<'a>, AttentionError> {
        Ok(self.request_over(inputs.q()?, inputs.cache()?))
    }

    fn request_over<'a>(&'a self, q: TensorView<'a>, cache: Cache<'a>) -> Attention<'a> {
        let mut request = Attention::over(q, cache).with_features(self.features.clone()).splits(self.splits);
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
        if let Some(work) = self.work {
            request = request.work(work);
        }
        if self.lse { request.lse() } else { request }
    }

    /// Runs it on a device and holds the result against the f64 reference.
    ///
    /// # Errors
    /// What was refused, or the first wrong element; a case with no elements is wrong.
    pub fn run(&self, device: &Device) -> Result<CaseReport, CaseError> {
        let refused = |error: AttentionError| CaseError::Refused { name: self.name(), error };
        let inputs = self.inputs().map_err(refused)?;
        let request = self.request(&inputs).map_err(refused)?;
        let plan = request.plan(device).map_err(refused)?;
        let kernel = plan.variant().key().map_err(refused)?;
        let out = request.run(device).map_err(refused)?;
        let problem = Problem::of(&request).map_err(refused)?.held_to(plan.variant().decoding);
        let wanted = attention(&problem);
        let bound = Bound::of(&problem, &wanted);
        let lse = out.lse.as_ref().map(|lse| lse.to_f64());
        let found = compare(&out.o.to_f64(), lse.as_deref(), &wanted, &bound)
            .map_err(|error| CaseError::Wrong { name: self.name(), error })?;
        Ok(CaseReport {
            name: self.name(),
            error: found.error,
            bound: found.bound,
            share: found.share,
            compared: found.compared,
            kernel,
        })
    }

    /// Keys that count, one number per batch entry.
    fn lengths_of_entries(&self) -> Vec<i32> {
        let given = self.kv_len.iter().flatten().copied();
        given.chain(std::iter::repeat(self.shape.capacity as i32)).take(self.shape.batch).collect()
    }

    /// How many (query row, key) pairs are attended, over all heads.
    pub fn attended_pairs(&self) -> u64 {
        let q_len = self.shape.q_len;
        let kv_len: Vec<i64> = self.lengths_of_entries().into_iter().map(i64::from).collect();
        let q_start = |keys: &i64| self.q_start.unwrap_or(keys - q_len as i64);
        let features = match &self.classified {
            Some(mask) => self.features.clone().with(mask.clone()),
            None => self.features.clone(),
        };
        pairs::attended(&self.shape, &kv_len, &kv_len.iter().map(q_start).collect::<Vec<_>>(), &features)
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
        let of_token = |encoding: Encoding, dim: usize| match encoding {
            Encoding::Stored => dim * self.kv_elem.bytes(),
            Encoding::Affine(Affine { bits, group }) => {
                dim * bits.width() / 8 + dim / group.size() * 2 * self.kv_elem.bytes()
            }
        };
        let token = of_token(self.format.keys, shape.head_dim) + of_token(self.format.values, shape.value_dim);
        let cache = shape.kv_heads * keys * token;
        let queries = shape.batch * shape.q_heads * shape.q_len * dims * self.q_elem.bytes();
        (cache + queries) as u64
    }
}
