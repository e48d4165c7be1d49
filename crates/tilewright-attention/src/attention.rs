//! The request: what to compute.

mod check;

pub(crate) use check::Checked;

use crate::cache::Cache;
use crate::error::AttentionError;
use crate::feature::{Feature, Features};
use crate::features::{Alibi, Causal, Mask, Sinks, Softcap, Tree, Window};
use crate::pairs;
use crate::plan::Plan;
use crate::tuning::{self, Machine};
use std::sync::Arc;
use tilewright_ir::{Elem, Schedule, Work};
use tilewright_runtime::{Device, Tensor, TensorView, TensorViewMut};

/// A request for attention: `softmax(scale * q k^T + …) v`, built up by methods and then planned or run.
///
/// Shapes: q `[batch, q_heads, q_len, head_dim]`, k `[batch, kv_heads, capacity, head_dim]`, v the same with `value_dim`. The
/// last axis is contiguous; other strides are free, so a sequence-major tensor is a view with other strides. Element types:
/// all f32, all f16 or all bf16; an f32 q may read an f16 or bf16 cache.
///
/// ```no_run
/// use tilewright_attention::Attention;
/// use tilewright_runtime::{Device, Tensor};
/// use tilewright_ir::Elem;
///
/// let q = Tensor::zeros(Elem::F32, &[1, 8, 16, 64])?;
/// let k = Tensor::zeros(Elem::F32, &[1, 2, 128, 64])?;
/// let v = k.clone();
/// let out = Attention::new(q.view(), k.view(), v.view()).causal().lse().run(&Device::cpu())?;
/// assert_eq!(out.o.shape(), [1, 8, 16, 64]);
/// # Ok::<(), tilewright_attention::AttentionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Attention<'a> {
    q: TensorView<'a>,
    cache: Cache<'a>,
    scale: Option<f64>,
    q_start: Option<i64>,
    kv_len: Option<&'a [i32]>,
    features: Features,
    lse: bool,
    splits: Splits,
    schedule: Option<Schedule>,
    work: Option<Work>,
}

/// Into how many shares the keys of a sequence are split, each walked by its own programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Splits {
    /// As many as the device needs to be busy.
    #[default]
    Auto,
    /// So many; those that find no keys add nothing. One needs no second pass.
    Count(usize),
    /// So many that each has this number of keys, rounded up to whole tiles: the result of a sequence does not depend on
    /// what else is in the batch.
    Keys(usize),
}

/// What a request gives.
#[derive(Clone, Debug)]
pub struct Output {
    /// `[batch, q_heads, q_len, value_dim]`, contiguous, in q's type.
    pub o: Tensor,
    /// `[batch, q_heads, q_len]` f32, when it was asked for.
    pub lse: Option<Tensor>,
}

/// The extents of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Batch entries.
    pub batch: usize,
    /// Heads of q.
    pub q_heads: usize,
    /// Heads of k and v.
    pub kv_heads: usize,
    /// Rows of q.
    pub q_len: usize,
    /// Length of the key axis; `kv_len` says how much of it counts.
    pub capacity: usize,
    /// Last axis of q and k.
    pub head_dim: usize,
    /// Last axis of v and o.
    pub value_dim: usize,
}

impl<'a> Attention<'a> {
    /// Attention of `q` over all keys and values, with scale `1/sqrt(head_dim)`.
    pub fn new(q: TensorView<'a>, k: TensorView<'a>, v: TensorView<'a>) -> Self {
        Attention::over(q, Cache::new(k, v))
    }

    /// Attention of `q` over a cache, with scale `1/sqrt(head_dim)`.
    pub fn over(q: TensorView<'a>, cache: Cache<'a>) -> Self {
        Attention {
            q,
            cache,
            scale: None,
            q_start: None,
            kv_len: None,
            features: Features::none(),
            lse: false,
            splits: Splits::Auto,
            schedule: None,
            work: None,
        }
    }

    /// The factor of `q . k`.
    pub fn scale(self, scale: f64) -> Self {
        Attention { scale: Some(scale), ..self }
    }

    /// A query sees the keys up to its own position.
    pub fn causal(self) -> Self {
        self.feature(Causal)
    }

    /// A query sees the keys near its own position: [`Window::last`] is a causal sliding window.
    pub fn window(self, window: Window) -> Self {
        self.feature(window)
    }

    /// Scores become `cap * tanh(score / cap)`, before any bias; a cap from 1e-30 to 1e30.
    pub fn softcap(self, cap: f64) -> Self {
        self.feature(Softcap(cap))
    }

    /// Each head's logit, `[q_heads]` f32, adds to its softmax denominators; `-inf` is no sink.
    pub fn sinks(self, logits: impl Into<Arc<Tensor>>) -> Self {
        self.feature(Sinks::new(logits))
    }

    /// Adds `slope[head] * (key - position)` to each score; slopes `[q_heads]` f32.
    pub fn alibi(self, slopes: impl Into<Arc<Tensor>>) -> Self {
        self.feature(Alibi::new(slopes))
    }

    /// A mask given as a tensor.
    pub fn mask(self, mask: Mask) -> Self {
        self.feature(mask)
    }

    /// A mask given as a tensor, after looking at each of its tiles: those of which nothing is attended are skipped. Worth it
    /// for a prefill whose mask has whole tiles blocked, and where one mask serves several layers
    /// ([`Mask::classify`] once, then [`feature`](Attention::feature)). The tile shape is the one asked for before, or the
    /// planner's.
    ///
    /// # Errors
    /// As [`Mask::classify`], and tensors that break the contract.
    pub fn classified_mask(self, mask: &Mask, device: &Device) -> Result<Self, AttentionError> {
        let schedule = match self.schedule {
            Some(asked) => asked,
            None => {
                let (types, machine) = ([self.q.elem(), self.cache.elem()], Machine::of(&device.info()));
                let shape = self.extents()?;
                // Heads with classes of their own share no tile, as heads with keys of their own do not.
                let kv_heads = if mask.is_of_each_head() { shape.q_heads } else { shape.kv_heads };
                let shape = Extents { kv_heads, ..shape };
                tuning::choose(&shape, types, (&self.cache.format(), true), machine).schedule
            }
        };
        Ok(self.feature(mask.classify(device, schedule)?))
    }

    /// Which of the drafted tokens each query sees.
    pub fn tree(self, tree: Tree) -> Self {
        self.feature(tree)
    }

    /// Row i of q is at position `start + i`. Without it the last row is at the last key.
    pub fn q_start(self, start: i64) -> Self {
        Attention { q_start: Some(start), ..self }
    }

    /// How many keys of each batch entry count; the others may hold anything. Without it all of them do, or what the cache
    /// says.
    pub fn kv_len(self, kv_len: &'a [i32]) -> Self {
        Attention { kv_len: Some(kv_len), ..self }
    }

    /// Also gives the natural logarithm of each softmax denominator.
    pub fn lse(self) -> Self {
        Attention { lse: true, ..self }
    }

    /// One more feature, from this library or the user's own.
    pub fn feature(self, feature: impl Feature + 'static) -> Self {
        Attention { features: self.features.with(feature), ..self }
    }

    /// These features and no others.
    pub fn with_features(self, features: Features) -> Self {
        Attention { features, ..self }
    }

    /// Into how many shares the keys are split.
    pub fn splits(self, splits: Splits) -> Self {
        Attention { splits, ..self }
    }

    /// This tile shape instead of the planner's.
    pub fn schedule(self, schedule: Schedule) -> Self {
        Attention { schedule: Some(schedule), ..self }
    }

    /// This sharing of the work of a tile among a GPU's threads instead of the planner's. Other devices have no use for it.
    pub fn work(self, work: Work) -> Self {
        Attention { work: Some(work), ..self }
    }

    /// Chooses a schedule and compiles the kernel, or finds it compiled.
    ///
    /// # Errors
    /// Every way in which the request breaks the contract, and what the device cannot compile.
    pub fn plan(&self, device: &Device) -> Result<Plan, AttentionError> {
        Plan::new(self, &self.check()?, device)
    }

    /// Plans, allocates the outputs and runs.
    ///
    /// # Errors
    /// As [`plan`](Attention::plan), and what goes wrong while the kernel runs.
    pub fn run(&self, device: &Device) -> Result<Output, AttentionError> {
        let checked = self.check()?;
        let mut o = Tensor::zeros(self.q.elem(), &checked.shape.o())?;
        let mut lse = if self.lse { Some(Tensor::zeros(Elem::F32, &checked.shape.lse())?) } else { None };
        self.launch(&checked, device, o.view_mut(), lse.as_mut().map(Tensor::view_mut))?;
        Ok(Output { o, lse })
    }

    /// Plans and runs into the caller's tensors: `o` `[batch, q_heads, q_len, value_dim]` in q's type, `lse`
    /// `[batch, q_heads, q_len]` f32 exactly when [`lse`](Attention::lse) was asked for.
    ///
    /// # Errors
    /// As [`run`](Attention::run), and outputs of another shape or type.
    pub fn run_into(
        &self,
        device: &Device,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
    ) -> Result<(), AttentionError> {
        self.launch(&self.check()?, device, o, lse)
    }

    fn launch(
        &self,
        checked: &Checked,
        device: &Device,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
    ) -> Result<(), AttentionError> {
        if checked.shape.is_empty() {
            return self.check_outputs(&checked.shape, &o, lse.as_ref());
        }
        Plan::new(self, checked, device)?.launch(self, checked, o, lse)
    }

    /// How many (query row, key) pairs are attended, over all heads.
    ///
    /// # Errors
    /// As [`plan`](Attention::plan), except what is about a device or a schedule.
    pub fn attended_pairs(&self) -> Result<u64, AttentionError> {
        let Checked { shape, kv_len, q_start, .. } = self.check()?;
        let [kv_len, q_start] = [kv_len, q_start].map(|all| all.into_iter().map(i64::from).collect::<Vec<_>>());
        Ok(pairs::attended(&shape, &kv_len, &q_start, &self.features))
    }

    /// Multiplications and additions of both products over the attended pairs.
    ///
    /// # Errors
    /// As [`attended_pairs`](Attention::attended_pairs).
    pub fn flops(&self) -> Result<u64, AttentionError> {
        Ok(self.extents()?.flops(self.attended_pairs()?))
    }

    /// The queries.
    pub fn q(&self) -> &TensorView<'a> {
        &self.q
    }

    /// The keys and values.
    pub fn cache(&self) -> &Cache<'a> {
        &self.cache
    }

    /// The features asked for.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether lse was asked for.
    pub fn wants_lse(&self) -> bool {
        self.lse
    }

    /// The splits asked for.
    pub fn requested_splits(&self) -> Splits {
        self.splits
    }

    /// The sharing of the work asked for.
    pub fn requested_work(&self) -> Option<Work> {
        self.work
    }

    /// The schedule asked for.
    pub fn requested_schedule(&self) -> Option<Schedule> {
        self.schedule
    }
}

impl Extents {
    /// The shape of o.
    pub fn o(&self) -> [usize; 4] {
        [self.batch, self.q_heads, self.q_len, self.value_dim]
    }

    /// The shape of lse.
    pub fn lse(&self) -> [usize; 3] {
        [self.batch, self.q_heads, self.q_len]
    }

    /// Multiplications and additions of both products for so many attended pairs.
    pub fn flops(&self, pairs: u64) -> u64 {
        2 * pairs * (self.head_dim + self.value_dim) as u64
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.batch == 0 || self.q_len == 0
    }
}
