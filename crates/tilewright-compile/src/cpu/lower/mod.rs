//! Where each value lives, and the steps.
//!
//! A region is lowered unit by unit. A buffer is given back after the unit that uses it last, and a result takes over the
//! buffer of an operand that ends there when rows are written only after they were read: so the accumulator of a loop,
//! rescaled and added to in every pass, stays in one place.

mod control;
mod group;
mod single;

use super::arena::Arena;
use super::forms::{Form, Forms, uses};
use super::program::*;
use super::units::{Unit, units};
use super::weights::side_by_side;
use crate::pass::rounds_scores;
use std::collections::{HashMap, HashSet};
use tilewright_ir::op::Elementwise;
use tilewright_ir::{Elem, Inst, Kernel, Op, RegionId, Shape, Type, ValueId};

/// The most lanes that a program may need: 1 GiB for each thread.
pub const MAX_LANES: u64 = 1 << 28;

/// A kernel whose tiles do not fit the working memory of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("its tiles need {} bytes of working memory a thread, at most {} are served; use smaller tiles", lanes * 4, MAX_LANES * 4)]
pub struct TooLarge {
    /// Lanes needed.
    pub lanes: u64,
}

/// Lowers a verified kernel for the CPU.
///
/// # Errors
/// [`TooLarge`] above [`MAX_LANES`].
pub fn lower(kernel: &Kernel, target: Target) -> Result<Program, TooLarge> {
    // Digits of weights keep less of them than f32 does.
    let target = Target { bytes: target.bytes && rounds_scores(kernel), ..target };
    let forms = Forms::new(kernel, target);
    let mut lowering = Lowering {
        kernel,
        target,
        forms: &forms,
        arena: Arena::default(),
        lanes: HashMap::new(),
        views: HashMap::new(),
        view_count: 0,
        constants: Vec::new(),
        one: 0,
        uses: uses(kernel),
        stats: Stats::default(),
    };
    let exponents = |inst: &Inst| inst.op == Op::Elementwise(Elementwise::Exp2);
    if kernel.regions.iter().flat_map(|r| &r.insts).any(exponents) {
        lowering.one = lowering.constant_lane(1.0, Elem::F32);
    }
    let params = kernel.params.iter().map(|p| lowering.param(p.value)).collect();
    // Constants are written before the first program runs, so their lanes are theirs alone.
    for inst in kernel.regions.iter().flat_map(|r| &r.insts) {
        if let Op::Elementwise(Elementwise::Constant { value, elem }) = inst.op {
            lowering.constant(inst.results[0], value.0, elem);
        }
    }
    let mut steps = Vec::new();
    lowering.region(Kernel::BODY, &[], &HashMap::new(), &[], &mut steps);
    let lanes = lowering.arena.size();
    if lanes > MAX_LANES {
        return Err(TooLarge { lanes });
    }
    Ok(Program {
        steps,
        lanes: lanes as u32,
        constants: lowering.constants,
        params,
        views: lowering.view_count,
        stats: lowering.stats,
    })
}

pub(super) struct Lowering<'k> {
    pub kernel: &'k Kernel,
    pub target: Target,
    pub arena: Arena,
    forms: &'k Forms,
    lanes: HashMap<Form, LaneIndex>,
    views: HashMap<ValueId, ViewIndex>,
    view_count: u32,
    constants: Vec<(LaneIndex, u32)>,
    /// The lane of the number one, where there are exponentials.
    pub one: LaneIndex,
    uses: HashMap<ValueId, usize>,
    stats: Stats,
}

/// A place that a value should be made in, because control flow hands it on from there, and the value that is in it before.
#[derive(Clone, Copy)]
struct Wish {
    place: LaneIndex,
    occupant: ValueId,
}

/// Where a form is read: the unit, the position in it, and how often.
#[derive(Clone, Copy, Default)]
struct LastUse {
    unit: usize,
    position: usize,
    times: usize,
}

/// What is known of the values of one region while it is lowered.
struct Scope {
    region: RegionId,
    last: HashMap<Form, LastUse>,
    /// Forms whose lanes go back to the arena after their last use.
    owned: HashSet<Form>,
    /// Forms whose lanes a result may take over after their last use: the owned ones, a loop's carried values, and what the
    /// surroundings lend.
    reusable: HashSet<Form>,
}

impl Scope {
    fn ends(&self, form: Form, unit: usize) -> bool {
        self.last.get(&form).is_none_or(|l| l.unit <= unit)
    }

    fn own(&mut self, form: Form) {
        self.owned.insert(form);
        self.reusable.insert(form);
    }

    /// `to` lives where `from` lived.
    fn hand_over(&mut self, from: Form, to: Form) {
        if self.owned.remove(&from) {
            self.owned.insert(to);
        }
        if self.reusable.remove(&from) {
            self.reusable.insert(to);
        }
    }
}

impl Lowering<'_> {
    fn param(&mut self, value: ValueId) -> ParamSlot {
        match self.kernel.ty(value) {
            Type::Tile { elem, .. } => {
                let lane = self.arena.take(1);
                self.lanes.insert(Form::Plain(value), lane);
                ParamSlot::Scalar(lane, elem)
            }
            Type::View { .. } => ParamSlot::View(self.new_view(value)),
        }
    }

    fn new_view(&mut self, value: ValueId) -> ViewIndex {
        let view = self.view_count;
        self.view_count += 1;
        self.views.insert(value, view);
        view
    }

    /// The lanes of a form that has been made. Lowering follows program order, so every operand has been.
    pub(super) fn lanes_of(&self, form: Form) -> LaneIndex {
        self.lanes[&form]
    }

    fn view_of(&self, value: ValueId) -> ViewIndex {
        self.views[&value]
    }

    /// What a tile was before it was reshaped: the value whose lanes these are.
    pub(super) fn root(&self, value: ValueId) -> ValueId {
        self.forms.root(value)
    }

    /// The load that makes a value in the loop of those that read it.
    pub(super) fn loaded(&self, value: ValueId) -> Option<&Inst> {
        self.forms.loaded(value)
    }

    fn plain_form(&self, value: ValueId) -> Form {
        Form::Plain(self.root(value))
    }

    fn plain(&self, value: ValueId) -> LaneIndex {
        self.lanes_of(self.plain_form(value))
    }

    fn shape(&self, value: ValueId) -> Shape {
        self.kernel.ty(value).shape().unwrap_or(Shape::SCALAR)
    }

    /// Lanes that a form takes.
    fn size(&self, form: Form) -> u64 {
        let shape = self.shape(form.value());
        let (rows, cols) = (shape.extent(0).unwrap_or(1) as u64, shape.extent(1).unwrap_or(1) as u64);
        match form {
            Form::Plain(_) => shape.count() as u64,
            Form::Pairs(_) => rows * cols.div_ceil(2),
            Form::Packed { transposed, pairs, .. } => {
                let (k, n) = if transposed { (cols, rows) } else { (rows, cols) };
                let k = if pairs { k.div_ceil(2) } else { k };
                k * n.next_multiple_of(u64::from(self.target.panel))
            }
        }
    }

    /// New lanes for a form, owned by the scope.
    fn make(&mut self, scope: &mut Scope, form: Form) -> LaneIndex {
        let lanes = self.arena.take(self.size(form));
        self.lanes.insert(form, lanes);
        scope.own(form);
        lanes
    }

    fn constant(&mut self, value: ValueId, literal: f64, elem: Elem) {
        let lane = self.constant_lane(literal, elem);
        self.lanes.insert(Form::Plain(value), lane);
    }

    /// The lane of a constant. To be asked for before any lane was given back.
    fn constant_lane(&mut self, literal: f64, elem: Elem) -> LaneIndex {
        let bits = lane_bits(literal, elem);
        if let Some(&(lane, _)) = self.constants.iter().find(|c| c.1 == bits) {
            return lane;
        }
        let lane = self.arena.take(1);
        self.constants.push((lane, bits));
        lane
    }

    /// How often a value is read, yields included.
    pub(super) fn uses(&self, value: ValueId) -> usize {
        self.uses.get(&value).copied().unwrap_or(0)
    }

    /// Lowers a region. `results` are the values of the surrounding region that its yields become; `lent` are forms from
    /// there that nobody reads once the region has.
    fn region(
        &mut self,
        region: RegionId,
        results: &[ValueId],
        wishes: &HashMap<ValueId, Wish>,
        lent: &[Form],
        out: &mut Vec<Step>,
    ) {
        let kernel = self.kernel;
        let mut units = units(kernel, self.forms, region);
        for unit in &mut units {
            if let Unit::Group(members) = unit {
                *members = side_by_side(self, kernel.insts(region), members);
            }
        }
        let mut scope = self.scope(region, &units);
        scope.reusable.extend(lent);
        for &arg in &kernel.regions[region.index()].args {
            self.packs(&mut scope, arg, None, out);
        }
        for (at, unit) in units.iter().enumerate() {
            match unit {
                Unit::Group(members) => self.group(&mut scope, at, members, wishes, out),
                Unit::Single(member) => self.single(&mut scope, at, &kernel.insts(region)[*member], out),
            }
            let dead = scope.owned.iter().copied().filter(|&f| scope.ends(f, at)).collect();
            self.release(&mut scope, dead);
        }
        self.hand_back(region, results, out);
        let rest = scope.owned.iter().copied().collect();
        self.release(&mut scope, rest);
    }

    /// Gives the lanes of these forms back.
    fn release(&mut self, scope: &mut Scope, mut forms: Vec<Form>) {
        forms.sort_unstable_by_key(|f| self.lanes[f]); // the same program for the same kernel
        for form in forms {
            scope.owned.remove(&form);
            scope.reusable.remove(&form);
            self.arena.give(self.lanes[&form], self.size(form));
        }
    }

    fn scope(&self, region: RegionId, units: &[Unit]) -> Scope {
        let insts = self.kernel.insts(region);
        let mut last: HashMap<Form, LastUse> = HashMap::new();
        let mut read = |form: Form, unit: usize, position: usize| {
            let entry = last.entry(form).or_default();
            let times = if entry.unit == unit { entry.times + 1 } else { 1 };
            *entry = LastUse { unit, position, times };
        };
        for (at, unit) in units.iter().enumerate() {
            for (position, &member) in unit.members().iter().enumerate() {
                self.reads(&insts[member], &mut |form| read(form, at, position));
            }
        }
        let data = &self.kernel.regions[region.index()];
        for &value in &data.yields {
            read(self.plain_form(value), usize::MAX, 0);
        }
        // The counter of a loop and what it carries; only the latter may be overwritten, the counter is the loop's own.
        let reusable = data.args.iter().skip(1).map(|&a| Form::Plain(a)).collect();
        Scope { region, last, owned: HashSet::new(), reusable }
    }

    /// The forms that an instruction reads, nested ones included.
    fn reads(&self, inst: &Inst, read: &mut dyn FnMut(Form)) {
        for form in self.forms.reads(inst) {
            read(form);
        }
        for region in inst.op.regions() {
            let data = &self.kernel.regions[region.index()];
            for nested in &data.insts {
                self.reads(nested, read);
            }
            for &value in &data.yields {
                read(self.plain_form(value));
            }
        }
    }

    /// Makes the packed forms of a root that has just been made, from its lanes or from what `memory` says: where it lies, and
    /// the mask of its rows.
    fn packs(
        &mut self,
        scope: &mut Scope,
        root: ValueId,
        memory: Option<(&PackSource, Option<LaneIndex>)>,
        out: &mut Vec<Step>,
    ) {
        let forms = self.forms;
        for &form in forms.packs(root) {
            let shape = self.shape(form.value());
            let (rows, cols) = (shape.extent(0).unwrap_or(1) as u32, shape.extent(1).unwrap_or(1) as u32);
            let dst = self.make(scope, form);
            let Form::Packed { transposed, pairs, .. } = form else {
                out.push(Step::Pair { src: self.plain(root), dst, rows, columns: cols });
                continue;
            };
            let (k, n) = if transposed { (cols, rows) } else { (rows, cols) };
            let lanes = || (PackSource::Lanes(self.plain(root)), None);
            let (source, keep) = memory.map_or_else(lanes, |(source, keep)| (source.clone(), keep));
            out.push(Step::Pack(Pack { source, transposed, pairs, k, n, keep, dst }));
        }
    }
}

/// The lane of a scalar of this element type.
pub fn lane_bits(value: f64, elem: Elem) -> u32 {
    let value = elem.nearest(value);
    match Lane::from(elem) {
        Lane::Float => (value as f32).to_bits(),
        Lane::Signed => value as i32 as u32,
        Lane::Unsigned => value as u32,
        Lane::Mask if value != 0.0 => u32::MAX,
        Lane::Mask => 0,
    }
}
