//! From a request to a compiled kernel: which schedule, why, and how to launch it.

use crate::arguments;
use crate::attention::{Attention, Checked, Extents};
use crate::error::AttentionError;
use crate::forward::{AttentionForward, AttentionForwardArgs};
use crate::tuning;
use std::fmt;
use std::sync::Arc;
use tilewright_ir::{Diagnostics, Elem, Kernel, Schedule};
use tilewright_lang::{Float, bf16, f16};
use tilewright_runtime::{Device, Grid, Pipeline, TensorView, TensorViewMut};

/// A compiled kernel with its schedule, for any tensors of the planned shapes; strides, lengths, positions, the scale and
/// the features' inputs may differ from launch to launch. Cheap to clone.
#[derive(Clone)]
pub struct Plan(Arc<Planned>);

struct Planned {
    device: Device,
    pipeline: Pipeline,
    variant: Variant,
    key: String,
    shape: Extents,
    reason: String,
}

/// Everything that the kernel is specialised by: its specialisation values, and its element types as data.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Element type of q and o.
    pub q: Elem,
    /// Element type of k and v.
    pub kv: Elem,
    /// The values.
    pub spec: AttentionForward,
}

/// [`AttentionForward`]'s `key` and `trace` for some Rust types.
type Typed = (fn(&AttentionForward) -> String, fn(&AttentionForward) -> Result<Kernel, Diagnostics>);

impl Variant {
    /// The key under which its pipeline is kept.
    ///
    /// # Errors
    /// [`AttentionError::ElementMix`] for types that do not go together.
    pub fn key(&self) -> Result<String, AttentionError> {
        let (key, _) = self.typed()?;
        Ok(key(&self.spec))
    }

    /// The kernel.
    ///
    /// # Errors
    /// [`AttentionError::Schedule`] outside the schedule's limits, [`AttentionError::ElementMix`] for types that do not go
    /// together, [`AttentionError::Trace`] for a mistake in a feature.
    pub fn trace(&self) -> Result<Kernel, AttentionError> {
        let (_, trace) = self.typed()?;
        tuning::check(self.schedule(), self.spec.head_dim, self.spec.value_dim)?;
        Ok(trace(&self.spec)?)
    }

    /// The tile shape.
    pub fn schedule(&self) -> Schedule {
        let extent = |n: usize| u32::try_from(n).unwrap_or(u32::MAX); // far outside the limits
        Schedule { rows: extent(self.spec.rows), keys: extent(self.spec.keys) }
    }

    fn typed(&self) -> Result<Typed, AttentionError> {
        fn of<E: Float, C: Float>() -> Typed {
            (AttentionForward::key::<E, C>, AttentionForward::trace::<E, C>)
        }
        match (self.q, self.kv) {
            (Elem::F32, Elem::F32) => Ok(of::<f32, f32>()),
            (Elem::F32, Elem::F16) => Ok(of::<f32, f16>()),
            (Elem::F32, Elem::Bf16) => Ok(of::<f32, bf16>()),
            (Elem::F16, Elem::F16) => Ok(of::<f16, f16>()),
            (Elem::Bf16, Elem::Bf16) => Ok(of::<bf16, bf16>()),
            (q, kv) => Err(AttentionError::ElementMix { q, k: kv, v: kv }),
        }
    }
}

impl Plan {
    pub(crate) fn new(request: &Attention<'_>, shape: Extents, device: &Device) -> Result<Plan, AttentionError> {
        let (schedule, reason) = match request.requested_schedule() {
            Some(schedule) => (schedule, "as requested".to_string()),
            None => tuning::choose(&shape),
        };
        let variant = variant(request, &shape, schedule);
        let key = variant.key()?;
        let pipeline = device.compile_keyed(&key, || variant.trace())?;
        Ok(Plan(Arc::new(Planned { device: device.clone(), pipeline, variant, key, shape, reason })))
    }

    /// Runs the plan for a request of the planned shapes, types and features.
    ///
    /// # Errors
    /// A request that breaks the contract, [`AttentionError::Replan`] for one that the plan was not made for, outputs of
    /// another shape or type, and what goes wrong while the kernel runs.
    pub fn run(
        &self,
        request: &Attention<'_>,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
    ) -> Result<(), AttentionError> {
        let checked = request.check()?;
        let asked = variant(request, &checked.shape, request.requested_schedule().unwrap_or(self.schedule()));
        if checked.shape != self.0.shape || asked.key()? != self.0.key {
            let describe = |shape: &Extents, variant: &Variant| format!("{shape:?} as {variant}");
            return Err(AttentionError::Replan {
                planned: describe(&self.0.shape, self.variant()),
                got: describe(&checked.shape, &asked),
            });
        }
        self.launch(request, &checked, o, lse)
    }

    pub(crate) fn launch(
        &self,
        request: &Attention<'_>,
        checked: &Checked,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
    ) -> Result<(), AttentionError> {
        request.check_outputs(&checked.shape, &o, lse.as_ref())?;
        if checked.shape.is_empty() {
            return Ok(());
        }
        let batch = [checked.shape.batch];
        let own = AttentionForwardArgs {
            q: *request.q(),
            k: *request.k(),
            v: *request.v(),
            q_start: TensorView::from_slice(&checked.q_start, &batch)?,
            kv_len: TensorView::from_slice(&checked.kv_len, &batch)?,
            scale: checked.scale,
            o,
            lse,
        };
        let mut args = arguments::in_order(self.0.pipeline.kernel(), own.bind(), request.features())?;
        Ok(self.0.device.launch(&self.0.pipeline, self.grid(), &mut args)?)
    }

    /// The tile shape.
    pub fn schedule(&self) -> Schedule {
        self.0.variant.schedule()
    }

    /// Tile programs along each axis: query tiles, query heads, batch.
    pub fn grid(&self) -> Grid {
        let shape = &self.0.shape;
        let tiles = shape.q_len.div_ceil(self.schedule().rows as usize);
        // The checked lengths fit; no tensor in memory has as many heads or batch entries as u32 counts.
        [tiles, shape.q_heads, shape.batch].map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    }

    /// Bytes of working memory of one tile program.
    pub fn scratch_bytes(&self) -> usize {
        self.0.pipeline.scratch_bytes()
    }

    /// Bytes of working memory of all the tile programs that run at once.
    pub fn total_scratch_bytes(&self) -> usize {
        self.scratch_bytes().saturating_mul(self.programs_at_once())
    }

    /// One for each thread of the device, or fewer where the grid has fewer.
    fn programs_at_once(&self) -> usize {
        let programs = self.grid().into_iter().fold(1usize, |all, n| all.saturating_mul(n as usize));
        self.0.device.info().threads.min(programs)
    }

    /// What the kernel was specialised by.
    pub fn variant(&self) -> &Variant {
        &self.0.variant
    }

    /// The compiled kernel.
    pub fn pipeline(&self) -> &Pipeline {
        &self.0.pipeline
    }

    /// Kernel, schedule, grid, scratch bytes of a program and in all, and why.
    pub fn explain(&self) -> String {
        self.to_string()
    }
}

fn variant(request: &Attention<'_>, shape: &Extents, schedule: Schedule) -> Variant {
    Variant {
        q: request.q().elem(),
        kv: request.k().elem(),
        spec: AttentionForward {
            rows: schedule.rows as usize,
            keys: schedule.keys as usize,
            head_dim: shape.head_dim,
            value_dim: shape.value_dim,
            features: request.features().clone(),
            lse: request.wants_lse(),
        },
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Variant { q, kv, spec: AttentionForward { head_dim, value_dim, features, lse, .. } } = self;
        write!(f, "q {q}, k and v {kv}, head dim {head_dim}, value dim {value_dim}, features {features}, lse {lse}, ")?;
        write!(f, "{}", self.schedule())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Variant { q, kv, spec: AttentionForward { head_dim, value_dim, features, lse, .. } } = self.variant();
        let [tiles, heads, batch] = self.grid();
        let info = self.0.device.info();
        writeln!(f, "kernel    {} on {} ({})", self.0.pipeline.kernel().name, info.name, info.isa)?;
        writeln!(f, "types     q {q}, k and v {kv}, head dim {head_dim}, value dim {value_dim}, lse {lse}")?;
        writeln!(f, "features  {features}")?;
        writeln!(f, "schedule  {}: {}", self.schedule(), self.0.reason)?;
        writeln!(f, "grid      {tiles} query tiles x {heads} heads x {batch} batch entries")?;
        let (one, all) = (self.scratch_bytes(), self.total_scratch_bytes());
        write!(f, "scratch   {one} bytes a program, {all} for the {} at once", self.programs_at_once())
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("key", &self.0.key).field("grid", &self.grid()).finish()
    }
}
