//! From a request to compiled kernels: which schedule and splits, why, and how to launch them.

use crate::arguments;
use crate::attention::{Attention, Checked, Extents, Splits};
use crate::error::AttentionError;
use crate::formula::{self, Formula, Numbers};
use crate::grids;
use crate::kernels::{AttentionForwardArgs, AttentionMergeArgs, AttentionSplitArgs};
use crate::tuning::{self, Shares};
use crate::variant::{Traced, Variant};
use std::fmt;
use std::sync::Arc;
use tilewright_ir::Schedule;
use tilewright_runtime::{Device, Grid, Pipeline, TensorView, TensorViewMut};

/// Compiled kernels with their schedule, for any tensors of the planned shapes; strides, lengths, positions, the scale and
/// the features' inputs may differ from launch to launch. Cheap to clone.
#[derive(Clone)]
pub struct Plan(Arc<Planned>);

struct Planned {
    device: Device,
    passes: Passes,
    variant: Variant,
    key: String,
    /// As the request asked.
    asked: Splits,
    shape: Extents,
    reason: String,
    /// Tile programs along each axis, without splits.
    grid: Grid,
}

/// The compiled kernels.
enum Passes {
    /// One pass over all keys.
    Forward(Pipeline),
    /// Shares of the keys, then their sum.
    Split(SplitPasses),
}

/// The passes of keys that are shared out.
struct SplitPasses {
    split: Pipeline,
    split_grid: Grid,
    merge: Pipeline,
    merge_grid: Grid,
    splits: usize,
    /// Keys of each share; `None` shares out what there is.
    keys: Option<usize>,
}

/// What a launch needs beside the tensors.
struct Run<'r, 'a> {
    request: &'r Attention<'a>,
    checked: &'r Checked,
    q_start: TensorView<'r>,
    kv_len: TensorView<'r>,
}

impl Plan {
    pub(crate) fn new(request: &Attention<'_>, checked: &Checked, device: &Device) -> Result<Plan, AttentionError> {
        let shape = checked.shape;
        let info = device.info();
        let (variant, reason) = Variant::of(request, checked, &info)?;
        variant.check(&shape)?;
        let asked = request.requested_splits();
        let (shares, why) = tuning::shares(asked, &shape, variant.schedule, &info);
        let compile = |(key, trace): Traced| device.compile_keyed(&key, || trace().map_err(AttentionError::from));
        let grid = grid(&grids::FORWARD, &shape, variant.schedule, 1)?;
        let passes = match shares {
            Shares::Whole => Passes::Forward(compile(variant.forward()?)?),
            Shares::Split { splits, keys } => {
                // A share of a fixed size is summed up the same way whatever else there is.
                let at_once = tuning::merged_at_once(keys.map_or(splits, |_| usize::MAX), info.kind);
                let of = |formulas| self::grid(formulas, &shape, variant.schedule, splits);
                let (split_grid, merge_grid) = (of(&grids::SPLIT)?, of(&grids::MERGE)?);
                let (split, merge) = (compile(variant.split()?)?, compile(variant.merge(at_once)?)?);
                Passes::Split(SplitPasses { split, split_grid, merge, merge_grid, splits, keys })
            }
        };
        let key = variant.key()?;
        let reason = format!("{reason}; splits: {why}");
        Ok(Plan(Arc::new(Planned { device: device.clone(), passes, variant, key, asked, shape, reason, grid })))
    }

    /// Runs the plan for a request of the planned shapes, types and features.
    ///
    /// # Errors
    /// A request that breaks the contract, [`AttentionError::Replan`] for one that the plan was not made for, outputs of
    /// another shape or type, and what goes wrong while the kernels run.
    pub fn run(
        &self,
        request: &Attention<'_>,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
    ) -> Result<(), AttentionError> {
        self.launch(request, &self.hold(request)?, o, lse, None)
    }

    /// The same with the caller's scratch, f32 `[n]` of at least [`scratch_bytes`](Plan::scratch_bytes): nothing is
    /// allocated for what the passes hand on.
    ///
    /// # Errors
    /// As [`run`](Plan::run), and scratch that is too small or of another type.
    pub fn run_with(
        &self,
        request: &Attention<'_>,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
        scratch: &mut [f32],
    ) -> Result<(), AttentionError> {
        self.launch(request, &self.hold(request)?, o, lse, Some(scratch))
    }

    /// Holds a request against the contract and against what was planned.
    fn hold(&self, request: &Attention<'_>) -> Result<Checked, AttentionError> {
        let checked = request.check()?;
        let (mut asked, _) = Variant::of(request, &checked, &self.0.device.info())?;
        if request.requested_schedule().is_none() {
            asked.schedule = self.schedule();
        }
        let splits = request.requested_splits();
        if checked.shape != self.0.shape || asked.key()? != self.0.key || splits != self.0.asked {
            let describe =
                |shape: &Extents, variant: &Variant, splits| format!("{shape:?} as {variant}, splits {splits:?}");
            return Err(AttentionError::Replan {
                planned: describe(&self.0.shape, self.variant(), self.0.asked),
                got: describe(&checked.shape, &asked, splits),
            });
        }
        Ok(checked)
    }

    pub(crate) fn launch(
        &self,
        request: &Attention<'_>,
        checked: &Checked,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
        scratch: Option<&mut [f32]>,
    ) -> Result<(), AttentionError> {
        request.check_outputs(&checked.shape, &o, lse.as_ref())?;
        let needed = self.scratch_bytes();
        if let Some(scratch) = &scratch
            && size_of_val(&**scratch) < needed
        {
            return Err(AttentionError::Scratch { got: size_of_val(&**scratch), needed });
        }
        if checked.shape.is_empty() {
            return Ok(());
        }
        let batch = [checked.shape.batch];
        let run = Run {
            request,
            checked,
            q_start: TensorView::from_slice(&checked.q_start, &batch)?,
            kv_len: TensorView::from_slice(&checked.kv_len, &batch)?,
        };
        match &self.0.passes {
            Passes::Forward(pipeline) => {
                let Run { q_start, kv_len, .. } = run;
                let own = AttentionForwardArgs { q: *request.q(), q_start, kv_len, scale: checked.scale, o, lse };
                self.one(pipeline, self.grid(), own.bind(), request)
            }
            Passes::Split(passes) => match scratch {
                Some(scratch) => self.split_and_merge(passes, &run, o, lse, scratch),
                None => self.split_and_merge(passes, &run, o, lse, &mut vec![0.0; needed / size_of::<f32>()]),
            },
        }
    }

    fn split_and_merge(
        &self,
        passes: &SplitPasses,
        run: &Run<'_, '_>,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
        scratch: &mut [f32],
    ) -> Result<(), AttentionError> {
        let SplitPasses { split, split_grid, merge, merge_grid, splits, keys } = passes;
        let Extents { batch, q_heads, q_len, value_dim, .. } = run.checked.shape;
        let (q_start, kv_len) = (run.q_start, run.kv_len);
        let each = [batch * splits, q_heads, q_len];
        let rows = each.iter().product::<usize>();
        let (acc, rest) = scratch.split_at_mut(rows * value_dim);
        let (max, rest) = rest.split_at_mut(rows);
        let sum = &mut rest[..rows];
        let acc_shape = [each[0], q_heads, q_len, value_dim];

        let own = AttentionSplitArgs {
            q: *run.request.q(),
            q_start,
            kv_len,
            scale: run.checked.scale,
            splits: *splits as f64,
            split_keys: keys.unwrap_or(0) as f64, // 0 is what the kernel takes for even shares
            acc: TensorViewMut::from_slice(acc, &acc_shape)?,
            max: TensorViewMut::from_slice(max, &each)?,
            sum: TensorViewMut::from_slice(sum, &each)?,
        };
        self.one(split, *split_grid, own.bind(), run.request)?;

        let own = AttentionMergeArgs {
            acc: TensorView::from_slice(acc, &acc_shape)?,
            max: TensorView::from_slice(max, &each)?,
            sum: TensorView::from_slice(sum, &each)?,
            q_start,
            kv_len,
            splits: *splits as f64,
            o,
            lse,
        };
        self.one(merge, *merge_grid, own.bind(), run.request)
    }

    /// Launches one pass; it takes what it asks for of the cache's tensors and the features' inputs.
    fn one<'a>(
        &self,
        pipeline: &Pipeline,
        grid: Grid,
        own: arguments::Bound<'a>,
        request: &'a Attention<'_>,
    ) -> Result<(), AttentionError> {
        let cache = request.cache().tensors(self.0.shape.batch)?;
        let mut args = arguments::in_order(pipeline.kernel(), own, cache, request.features())?;
        Ok(self.0.device.launch(pipeline, grid, &mut args)?)
    }

    /// The tile shape.
    pub fn schedule(&self) -> Schedule {
        self.0.variant.schedule
    }

    /// How many shares the keys are split into; 1 is a single pass.
    pub fn splits(&self) -> usize {
        match self.0.passes {
            Passes::Forward(_) => 1,
            Passes::Split(SplitPasses { splits, .. }) => splits,
        }
    }

    /// Tile programs along each axis: query tiles, tiles of query heads, batch. The split pass has as many for each split.
    pub fn grid(&self) -> Grid {
        self.0.grid
    }

    /// The grid of each of the [`pipelines`](Plan::pipelines).
    pub fn grids(&self) -> Vec<Grid> {
        match self.0.passes {
            Passes::Forward(_) => vec![self.0.grid],
            Passes::Split(SplitPasses { split_grid, merge_grid, .. }) => vec![split_grid, merge_grid],
        }
    }

    /// Bytes of f32 scratch that the passes hand on: `batch * q_heads * q_len * splits * (value_dim + 2) * 4`, 0 for one
    /// pass.
    pub fn scratch_bytes(&self) -> usize {
        let Extents { batch, q_heads, q_len, value_dim, .. } = self.0.shape;
        match self.0.passes {
            Passes::Forward(_) => 0,
            Passes::Split(SplitPasses { splits, .. }) => {
                batch * q_heads * q_len * splits * (value_dim + 2) * size_of::<f32>()
            }
        }
    }

    /// Bytes of working memory of one tile program.
    pub fn program_bytes(&self) -> usize {
        self.pipelines().map(Pipeline::scratch_bytes).max().unwrap_or(0)
    }

    /// Bytes of working memory of all the tile programs that run at once.
    pub fn working_bytes(&self) -> usize {
        self.program_bytes().saturating_mul(self.programs_at_once())
    }

    /// One for each thread of the device, or fewer where the grid has fewer.
    fn programs_at_once(&self) -> usize {
        let programs = self.grid().into_iter().fold(self.splits(), |all, n| all.saturating_mul(n as usize));
        self.0.device.info().threads.min(programs)
    }

    /// What the kernels were specialised by.
    pub fn variant(&self) -> &Variant {
        &self.0.variant
    }

    /// The compiled kernels, in the order in which they run.
    pub fn pipelines(&self) -> impl Iterator<Item = &Pipeline> {
        match &self.0.passes {
            Passes::Forward(forward) => vec![forward],
            Passes::Split(SplitPasses { split, merge, .. }) => vec![split, merge],
        }
        .into_iter()
    }

    /// Their names, joined by `+`.
    pub fn kernels(&self) -> String {
        self.pipelines().map(|pipeline| pipeline.kernel().name.to_string()).collect::<Vec<_>>().join("+")
    }

    /// Kernels, schedule, grid, splits, memory, and why.
    pub fn explain(&self) -> String {
        self.to_string()
    }
}

/// The grid of a pass.
fn grid(formulas: &[Formula; 3], shape: &Extents, schedule: Schedule, splits: usize) -> Result<Grid, AttentionError> {
    let Extents { batch, q_heads, q_len, head_dim, value_dim, .. } = *shape;
    let (q, o) = ([batch, q_heads, q_len, head_dim], [batch, q_heads, q_len, value_dim]);
    let values = [("heads", schedule.heads as usize), ("queries", schedule.queries as usize), ("splits", splits)];
    Ok(formula::grid(formulas, &Numbers { shapes: &[("q", &q), ("o", &o)], values: &values })?)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Variant { q, kv, head_dim, value_dim, features, cache, lse, .. } = self.variant();
        let [tiles, heads, batch] = self.grid();
        let info = self.0.device.info();
        writeln!(f, "kernels   {} on {} ({})", self.kernels(), info.name, info.isa)?;
        writeln!(f, "types     q {q}, k and v {kv}, head dim {head_dim}, value dim {value_dim}, lse {lse}")?;
        writeln!(f, "cache     {cache}")?;
        writeln!(f, "features  {features}")?;
        writeln!(f, "schedule  {}, {} splits: {}", self.schedule(), self.splits(), self.0.reason)?;
        writeln!(f, "grid      {tiles} query tiles x {heads} tiles of heads x {batch} batch entries")?;
        writeln!(f, "scratch   {} bytes between the passes", self.scratch_bytes())?;
        let (one, all) = (self.program_bytes(), self.working_bytes());
        write!(f, "working   {one} bytes a program, {all} for the {} at once", self.programs_at_once())
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("key", &self.0.key).field("grid", &self.grid()).finish()
    }
}
