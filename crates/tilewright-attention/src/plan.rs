//! From a request to compiled kernels: which schedule and splits, why, and how to launch them.

use crate::arguments;
use crate::attention::{Attention, Checked, Extents, Splits};
use crate::error::AttentionError;
use crate::feature::Input;
use crate::formula::{self, Formula, Numbers};
use crate::grids;
use crate::kernels::{AttentionForwardArgs, AttentionMergeArgs, AttentionSplitArgs};
use crate::tuning::{self, Shares};
use crate::variant::{Traced, Variant};
use crate::workspace::{Order, Ready, Workspace};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tilewright_ir::Schedule;
use tilewright_runtime::Stream;
use tilewright_runtime::{Device, Grid, Pipeline, TensorView, TensorViewMut};

/// Compiled kernels with their schedule, for any tensors of the planned shapes; strides, lengths, positions, the scale and
/// the features' inputs may differ from launch to launch. Cheap to clone.
#[derive(Clone)]
pub struct Plan(Arc<Planned>);

struct Planned {
    device: Device,
    passes: Passes,
    variant: Variant,
    /// As the request asked.
    asked: Splits,
    shape: Extents,
    reason: String,
    /// Tile programs along each axis, without splits.
    grid: Grid,
    /// For runs that bring none, when nobody uses it.
    idle: Mutex<Option<Workspace>>,
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

impl Plan {
    pub(crate) fn new(request: &Attention<'_>, checked: &Checked, device: &Device) -> Result<Plan, AttentionError> {
        let shape = checked.shape;
        let info = device.info();
        let (variant, reason) = Variant::of(request, checked, &info)?;
        variant.check(&shape)?;
        let asked = request.requested_splits();
        let held = tuning::held(&variant, &shape, &info);
        let (shares, why) = tuning::shares(asked, &shape, (variant.schedule, held), &info);
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
        let reason = format!("{reason}; splits: {why}");
        Ok(Plan(Arc::new(Planned {
            device: device.clone(),
            passes,
            variant,
            asked,
            shape,
            reason,
            grid,
            idle: Mutex::default(),
        })))
    }

    /// Runs the plan for a request of the planned shapes, types and features, and returns when it is done. A GPU takes tensors
    /// in its own memory as they are; those in memory of the host are copied there and back. The plan keeps a workspace for
    /// the next such run.
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
        self.launch(request, &self.hold(request)?, o, lse)
    }

    /// The same with the caller's workspace.
    ///
    /// # Errors
    /// As [`run`](Plan::run), and a workspace with less scratch than [`scratch_bytes`](Plan::scratch_bytes).
    pub fn run_with(
        &self,
        request: &Attention<'_>,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        self.put(request, &self.hold(request)?, o, lse, workspace, Order::Waiting)
    }

    /// Puts the run on a stream of a GPU and returns at once. All tensors of the request and the outputs must be in memory of
    /// the GPU. Nothing is allocated or copied where the workspace holds what the request says ([`prepare_on`](Plan::prepare_on)),
    /// which is what a stream that records a graph asks for.
    ///
    /// # Errors
    /// As [`run_with`](Plan::run_with), and a device that is no GPU. What fails while the kernels run is said by the next call
    /// that waits.
    pub fn run_on(
        &self,
        stream: &Stream,
        request: &Attention<'_>,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        self.put(request, &self.hold(request)?, o, lse, workspace, Order::On(stream))
    }

    /// Copies the lengths, positions, tables and features' tensors of a request to the workspace, in the order of a stream. A
    /// graph that was recorded with the workspace computes with them from then on.
    ///
    /// # Errors
    /// As [`run_on`](Plan::run_on).
    pub fn prepare_on(
        &self,
        stream: &Stream,
        request: &Attention<'_>,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        let checked = self.hold(request)?;
        workspace.ready(request, &checked, Order::On(stream)).map(|_| ())
    }

    /// Memory of the device for runs of this plan.
    ///
    /// # Errors
    /// A device that gives no memory.
    pub fn workspace(&self) -> Result<Workspace, AttentionError> {
        Workspace::new(&self.0.device, self.partial_rows(), self.0.shape.value_dim)
    }

    /// Holds a request against the contract and against what was planned.
    fn hold(&self, request: &Attention<'_>) -> Result<Checked, AttentionError> {
        let checked = request.check()?;
        let splits = request.requested_splits();
        if checked.shape == self.0.shape && splits == self.0.asked && self.variant().serves(request, &checked) {
            return Ok(checked);
        }
        let (mut asked, _) = Variant::of(request, &checked, &self.0.device.info())?;
        if request.requested_schedule().is_none() {
            asked.schedule = self.schedule();
        }
        let describe =
            |shape: &Extents, variant: &Variant, splits| format!("{shape:?} as {variant}, splits {splits:?}");
        Err(AttentionError::Replan {
            planned: describe(&self.0.shape, self.variant(), self.0.asked),
            got: describe(&checked.shape, &asked, splits),
        })
    }

    /// Runs with the plan's own workspace.
    pub(crate) fn launch(
        &self,
        request: &Attention<'_>,
        checked: &Checked,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
    ) -> Result<(), AttentionError> {
        let idle = || self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().take();
        let mut workspace = match kept {
            Some(workspace) => workspace,
            None => self.workspace()?,
        };
        let done = self.put(request, checked, o, lse, &mut workspace, Order::Waiting);
        *idle() = Some(workspace);
        done
    }

    fn put(
        &self,
        request: &Attention<'_>,
        checked: &Checked,
        o: TensorViewMut<'_>,
        lse: Option<TensorViewMut<'_>>,
        workspace: &mut Workspace,
        order: Order<'_>,
    ) -> Result<(), AttentionError> {
        request.check_outputs(&checked.shape, &o, lse.as_ref())?;
        workspace.check(self.partial_rows(), self.0.shape.value_dim)?;
        if checked.shape.is_empty() {
            return Ok(());
        }
        let ready = workspace.ready(request, checked, order)?;
        match &self.0.passes {
            Passes::Forward(pipeline) => {
                let Ready { q_start, kv_len, .. } = ready;
                let own = AttentionForwardArgs { q: *request.q(), q_start, kv_len, scale: checked.scale, o, lse };
                let brought = (ready.cache, ready.inputs);
                self.one(pipeline, self.grid(), own.bind(), brought, order)
            }
            Passes::Split(passes) => self.split_and_merge(passes, (request, checked), ready, (o, lse), order),
        }
    }

    fn split_and_merge(
        &self,
        passes: &SplitPasses,
        (request, checked): (&Attention<'_>, &Checked),
        ready: Ready<'_>,
        (o, lse): (TensorViewMut<'_>, Option<TensorViewMut<'_>>),
        order: Order<'_>,
    ) -> Result<(), AttentionError> {
        let SplitPasses { split, split_grid, merge, merge_grid, splits, keys } = passes;
        let Extents { batch, q_heads, q_len, value_dim, .. } = checked.shape;
        let Ready { q_start, kv_len, cache, inputs, mut partial } = ready;
        let acc_shape = [batch * splits, q_heads, q_len, value_dim];

        let [acc, max, sum] = partial.write(&acc_shape)?;
        let own = AttentionSplitArgs {
            q: *request.q(),
            q_start,
            kv_len,
            scale: checked.scale,
            splits: *splits as f64,
            split_keys: keys.unwrap_or(0) as f64, // 0 is what the kernel takes for even shares
            acc,
            max,
            sum,
        };
        self.one(split, *split_grid, own.bind(), (cache.clone(), inputs.clone()), order)?;

        let [acc, max, sum] = partial.read(&acc_shape)?;
        let own = AttentionMergeArgs { acc, max, sum, q_start, kv_len, splits: *splits as f64, o, lse };
        self.one(merge, *merge_grid, own.bind(), (cache, inputs), order)
    }

    /// Launches one pass; it takes what it asks for of the cache's tensors and the features' inputs.
    fn one<'a>(
        &self,
        pipeline: &Pipeline,
        grid: Grid,
        own: arguments::Bound<'a>,
        (cache, inputs): (Vec<(&'static str, TensorView<'a>)>, Vec<Input<'a>>),
        order: Order<'_>,
    ) -> Result<(), AttentionError> {
        let mut args = arguments::in_order(pipeline.kernel(), own, cache, inputs)?;
        let device = &self.0.device;
        let launched = match order {
            Order::Waiting => device.launch(pipeline, grid, &mut args),
            Order::On(stream) => device.launch_async(stream, pipeline, grid, &mut args),
        };
        Ok(launched?)
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
        self.partial_rows() * (self.0.shape.value_dim + 2) * size_of::<f32>()
    }

    /// Rows of values that the passes hand on.
    fn partial_rows(&self) -> usize {
        let Extents { batch, q_heads, q_len, .. } = self.0.shape;
        match self.0.passes {
            Passes::Forward(_) => 0,
            Passes::Split(SplitPasses { splits, .. }) => batch * q_heads * q_len * splits,
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
        f.debug_struct("Plan").field("variant", self.variant()).field("grid", &self.grid()).finish()
    }
}
