//! The request: what to compute, checked against the contract before anything runs.

use crate::error::{AttentionError, MAX_HEAD_DIM, MAX_LENGTH};
use crate::feature::{Feature, Features};
use crate::features::Causal;
use crate::forward::ATTENTION_FORWARD;
use crate::pairs;
use crate::plan::Plan;
use std::f64::consts::LOG2_E;
use tilewright_ir::{Elem, Schedule};
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
    k: TensorView<'a>,
    v: TensorView<'a>,
    scale: Option<f64>,
    q_start: Option<i64>,
    kv_len: Option<&'a [i32]>,
    features: Features,
    lse: bool,
    schedule: Option<Schedule>,
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

/// A request that keeps the contract.
pub(crate) struct Checked {
    pub shape: Extents,
    /// One per batch entry.
    pub kv_len: Vec<i32>,
    /// Position of the first query, one per batch entry.
    pub q_start: Vec<i32>,
    pub scale: f64,
}

impl<'a> Attention<'a> {
    /// Attention of `q` over all keys and values, with scale `1/sqrt(head_dim)`.
    pub fn new(q: TensorView<'a>, k: TensorView<'a>, v: TensorView<'a>) -> Self {
        let features = Features::none();
        Attention { q, k, v, scale: None, q_start: None, kv_len: None, features, lse: false, schedule: None }
    }

    /// The factor of `q . k`.
    pub fn scale(self, scale: f64) -> Self {
        Attention { scale: Some(scale), ..self }
    }

    /// A query sees the keys up to its own position.
    pub fn causal(self) -> Self {
        self.feature(Causal)
    }

    /// Row i of q is at position `start + i`. Without it the last row is at the last key.
    pub fn q_start(self, start: i64) -> Self {
        Attention { q_start: Some(start), ..self }
    }

    /// How many keys of each batch entry count; the others may hold anything.
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

    /// This tile shape instead of the planner's.
    pub fn schedule(self, schedule: Schedule) -> Self {
        Attention { schedule: Some(schedule), ..self }
    }

    /// Chooses a schedule and compiles the kernel, or finds it compiled.
    ///
    /// # Errors
    /// Every way in which the request breaks the contract, and what the device cannot compile.
    pub fn plan(&self, device: &Device) -> Result<Plan, AttentionError> {
        Plan::new(self, self.check()?.shape, device)
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
        Plan::new(self, checked.shape, device)?.launch(self, checked, o, lse)
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

    /// Holds the request against the contract.
    pub(crate) fn check(&self) -> Result<Checked, AttentionError> {
        let shape = self.extents()?;
        let scale = self.scale.unwrap_or(1.0 / (shape.head_dim as f64).sqrt());
        // The kernel works in units of log2: what it multiplies scores by must be finite.
        if !((scale * LOG2_E) as f32).is_finite() {
            return Err(AttentionError::Scale { scale });
        }
        let kv_len = match self.kv_len {
            None => vec![shape.capacity as i32; shape.batch], // at most MAX_LENGTH
            Some(kv_len) if kv_len.len() != shape.batch => {
                return Err(AttentionError::KvLenCount { got: kv_len.len(), batch: shape.batch });
            }
            Some(kv_len) => kv_len.to_vec(),
        };
        let fits = |n: i32| usize::try_from(n).is_ok_and(|n| n <= shape.capacity);
        if let Some((entry, &got)) = kv_len.iter().enumerate().find(|&(_, &n)| !fits(n)) {
            return Err(AttentionError::KvLen { entry, got, capacity: shape.capacity });
        }
        let q_start = match self.q_start {
            None => kv_len.iter().map(|&n| n - shape.q_len as i32).collect(),
            Some(start) if start.unsigned_abs() > MAX_LENGTH as u64 => {
                return Err(AttentionError::Position { got: start });
            }
            Some(start) => vec![start as i32; shape.batch],
        };
        self.check_inputs()?;
        Ok(Checked { shape, kv_len, q_start, scale })
    }

    fn extents(&self) -> Result<Extents, AttentionError> {
        let [batch, q_heads, q_len, head_dim] = axes("q", &self.q)?;
        let [k_batch, kv_heads, capacity, k_dim] = axes("k", &self.k)?;
        let [v_batch, v_heads, v_len, value_dim] = axes("v", &self.v)?;
        let (q, k, v) = (self.q.elem(), self.k.elem(), self.v.elem());
        if k != v || (q != k && q != Elem::F32) {
            return Err(AttentionError::ElementMix { q, k, v });
        }
        for (tensor, axis, got, other, wanted) in [
            ("k", "batch", k_batch, "q", batch),
            ("v", "batch", v_batch, "q", batch),
            ("v", "number of heads", v_heads, "k", kv_heads),
            ("v", "length", v_len, "k", capacity),
            ("k", "head dim", k_dim, "q", head_dim),
        ] {
            if got != wanted {
                return Err(AttentionError::Extent { tensor, axis, got, other, wanted });
            }
        }
        for (tensor, axis, got) in [
            ("q", "heads", q_heads),
            ("k", "heads", kv_heads),
            ("q", "head dim", head_dim),
            ("v", "value dim", value_dim),
        ] {
            if got == 0 {
                return Err(AttentionError::Zero { tensor, axis });
            }
        }
        if !q_heads.is_multiple_of(kv_heads) {
            return Err(AttentionError::Heads { q_heads, kv_heads });
        }
        for (axis, got) in [("head_dim", head_dim), ("value_dim", value_dim)] {
            if got > MAX_HEAD_DIM {
                return Err(AttentionError::HeadDim { axis, got });
            }
        }
        for (tensor, got) in [("q", q_len), ("k", capacity)] {
            if got > MAX_LENGTH {
                return Err(AttentionError::Length { tensor, got });
            }
        }
        Ok(Extents { batch, q_heads, kv_heads, q_len, capacity, head_dim, value_dim })
    }

    /// Two inputs of one name would silently share a parameter.
    fn check_inputs(&self) -> Result<(), AttentionError> {
        let own = ATTENTION_FORWARD.launch.iter().map(|(name, _)| *name);
        let mut names: Vec<&str> = own.chain(self.features.inputs().map(|input| input.name)).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(AttentionError::InputName { name: pair[0].to_string() }),
            None => Ok(()),
        }
    }

    pub(crate) fn check_outputs(
        &self,
        shape: &Extents,
        o: &TensorViewMut<'_>,
        lse: Option<&TensorViewMut<'_>>,
    ) -> Result<(), AttentionError> {
        output("o", o, &shape.o(), self.q.elem())?;
        contiguous("o", o.shape(), o.strides())?;
        match lse {
            Some(lse) if self.lse => output("lse", lse, &shape.lse(), Elem::F32),
            None if !self.lse => Ok(()),
            _ => Err(AttentionError::Lse { requested: self.lse }),
        }
    }

    /// The queries.
    pub fn q(&self) -> &TensorView<'a> {
        &self.q
    }

    /// The keys.
    pub fn k(&self) -> &TensorView<'a> {
        &self.k
    }

    /// The values.
    pub fn v(&self) -> &TensorView<'a> {
        &self.v
    }

    /// The features asked for.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether lse was asked for.
    pub fn wants_lse(&self) -> bool {
        self.lse
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

/// The extents of an input of rank 4 with float elements and a contiguous last axis.
fn axes(tensor: &'static str, view: &TensorView<'_>) -> Result<[usize; 4], AttentionError> {
    let axes = <[usize; 4]>::try_from(view.shape()).map_err(|_| AttentionError::Rank {
        tensor,
        got: view.shape().len(),
        wanted: 4,
        axes: "batch, heads, length, dim",
    })?;
    if !view.elem().is_float() {
        return Err(AttentionError::Element { tensor, got: view.elem(), wanted: "f32, f16 or bf16" });
    }
    contiguous(tensor, view.shape(), view.strides())?;
    Ok(axes)
}

/// An axis of extent 0 or 1 has no neighbours, so its stride says nothing.
fn contiguous(tensor: &'static str, shape: &[usize], strides: &[usize]) -> Result<(), AttentionError> {
    match (shape.last(), strides.last()) {
        (Some(&extent), Some(&stride)) if extent > 1 && stride != 1 => Err(AttentionError::Stride { tensor, stride }),
        _ => Ok(()),
    }
}

fn output(tensor: &'static str, view: &TensorViewMut<'_>, wanted: &[usize], elem: Elem) -> Result<(), AttentionError> {
    if view.shape() != wanted {
        return Err(AttentionError::OutputShape { tensor, got: view.shape().to_vec(), wanted: wanted.to_vec() });
    }
    if view.elem() != elem {
        return Err(AttentionError::OutputElement { tensor, got: view.elem(), wanted: elem });
    }
    Ok(())
}
