//! Loops, and copies that run ahead of them.
//!
//! What a loop copies to shared memory at an address that its counter decides is copied some passes before it is needed, into
//! slots that take turns: the copies of the first passes stand before the loop, and each pass starts the copies of the pass
//! that takes the slot which the last pass has left. A copy under a condition that the counter decides is made where the
//! condition will hold.
//!
//! With one stage the tiles take turns instead: the first one of the next pass is copied while the others of this pass are
//! worked on, and those are copied while the first one is.

use super::foresee::Foreseen;
use super::scalar::Names;
use super::{Declared, Lowered, Lowering};
use crate::gpu::place::{Def, Home};
use crate::gpu::program::{Expr, For, FragmentId, LocalId, Slot, Step};
use std::collections::HashMap;
use tilewright_ir::op::{Control, Elementwise, Memory, ShapeOp};
use tilewright_ir::{Elem, Inst, Op, RegionId, ValueId};

/// A copy that can run ahead.
#[derive(Clone)]
pub(super) struct Ahead {
    value: ValueId,
    slot: Slot,
    /// The branches around it, and which way of each leads to it.
    pub guards: Vec<(ValueId, bool)>,
}

/// The counter of a loop, as values.
#[derive(Clone)]
pub(super) struct Range {
    pub counter: ValueId,
    last: Expr,
    pub step: Expr,
    /// What decides on copies ahead and is loaded before that.
    pub foreseen: Vec<Foreseen>,
}

/// With one stage: the copy of the next pass that starts when a tile has been used.
pub(super) struct Refill {
    /// The loop's body.
    pub body: RegionId,
    /// The tile.
    pub value: ValueId,
    copy: Ahead,
    range: Range,
    counter: LocalId,
    /// What had a name before the pass: names made in it are of this pass.
    names: Names,
}

impl<'k> Lowering<'_, 'k> {
    pub(super) fn for_range(&mut self, inst: &'k Inst, body: RegionId) -> Lowered<()> {
        self.flush();
        let [first, last, step] = [0, 1, 2].map(|at| self.number(inst.operands[at]));
        let (first, last, step) = (first?, last?, step?);
        let results = self.declare(&inst.results)?;
        let given: Vec<_> = inst.results.iter().copied().zip(inst.operands[3..].iter().copied()).collect();
        self.assign(&results, &given)?;

        let region = &self.places.kernel.regions[body.index()];
        let [counter, carried @ ..] = &region.args[..] else { return Err(self.unsupported(inst, "a loop")) };
        let local = self.local(Elem::I32);
        let outer_names = self.names.clone();
        let outer_slots = self.slots.clone();
        for (&arg, result) in carried.iter().zip(&inst.results) {
            match results.get(result) {
                Some(Declared::Number(number)) => self.names.set(arg, Expr::Local(*number)),
                Some(Declared::Registers(fragment)) => {
                    self.fragments.insert(arg, *fragment);
                }
                None => return Err(self.unsupported(inst, "a loop that carries this")),
            }
        }
        let mut range = Range { counter: *counter, last: last.clone(), step: step.clone(), foreseen: Vec::new() };
        let stages = self.places.work.stages;
        let pending = self.pending.clone();
        let mut ahead = self.ahead(body, *counter);
        range.foreseen = self.foresee(&range, &first, &ahead, body)?;
        let range_of_pass = range.clone();
        let staged = !ahead.is_empty();
        let stage = (staged && stages > 1).then(|| self.local(Elem::I32));
        let outer_refill = self.refill.take();
        if let Some(stage) = stage {
            for copy in &mut ahead {
                let slot = self.operand_slot(copy.value, stages);
                copy.slot = Slot { at: Some(stage), ..slot };
            }
            self.start_ahead(&range, &first, &ahead, stage)?;
        } else if staged {
            for copy in &mut ahead {
                copy.slot = self.operand_slot(copy.value, 1);
            }
            let start = self.name(Elem::I32, first.clone());
            self.copies_for(&range, start, &ahead[..1], [0, 0])?;
        }

        let loads = self.small_loads(body, *counter);
        let mut next_loads = Vec::new();
        if !loads.is_empty() {
            self.names.set(*counter, first.clone());
            for &value in &loads {
                next_loads.push(self.load_now(value)?);
            }
        }

        let outer = std::mem::take(&mut self.steps);
        self.names.set(*counter, Expr::Local(local));
        let foreseen = self.foresee_next(&range, local)?;
        self.name_foreseen(&range, 0);
        if let Some(stage) = stage {
            // The groups of the passes after this one may still be under way.
            self.steps.push(Step::Wait(stages - 2));
            self.pending.clear();
            self.next_ahead(&range, local, &ahead)?;
            for copy in &ahead {
                self.slots.insert(copy.value, Slot { at: Some(stage), ahead: 0, ..copy.slot.clone() });
            }
        } else if staged {
            self.steps.push(Step::Wait(0));
            self.pending.clear();
            if ahead.len() > 1 {
                self.copies_for(&range, Expr::Local(local), &ahead[1..], [0, 0])?;
                self.pending.extend(ahead[1..].iter().map(|copy| copy.slot.buffer));
            }
            for copy in &ahead {
                self.slots.insert(copy.value, copy.slot.clone());
            }
            let Ahead { value, .. } = ahead[0];
            let names = self.names.clone();
            self.refill = Some(Refill { body, value, copy: ahead.remove(0), range, counter: local, names });
        }
        for (&value, &next) in loads.iter().zip(&next_loads) {
            self.load_next(&range_of_pass, local, value, next)?;
        }
        self.region(body)?;
        self.flush();
        self.refill_now()?;
        self.refill = outer_refill;
        let yields: Vec<_> = inst.results.iter().copied().zip(region.yields.iter().copied()).collect();
        self.assign(&results, &yields)?;
        self.move_foreseen(&range_of_pass, foreseen);
        if let Some(stage) = stage {
            self.steps.push(Step::Set(stage, next_stage(stage, stages)));
        }
        let body = std::mem::replace(&mut self.steps, outer);
        self.steps.push(Step::For(For { counter: local, first, last, step, body }));
        self.names = outer_names;
        for (&result, declared) in &results {
            if let Declared::Number(number) = declared {
                self.names.set(result, Expr::Local(*number));
            }
        }
        self.slots = outer_slots;
        if staged {
            self.steps.push(Step::Wait(0));
            self.pending.clear();
        } else {
            self.pending.extend(pending); // no pass, no wait
        }
        Ok(())
    }

    /// Loads of a loop that decodes its tiles, of few registers, that the counter decides: scales and biases of codes. They are
    /// loaded a pass before they are needed.
    fn small_loads(&self, body: RegionId, counter: ValueId) -> Vec<ValueId> {
        /// The most registers of such a load.
        const SMALL: u32 = 16;
        let insts = self.places.kernel.insts(body);
        let decodes = insts.iter().any(|inst| matches!(inst.op, Op::ShapeOp(ShapeOp::Unpack { .. })));
        if !decodes {
            return Vec::new();
        }
        let mut known = HashMap::from([(counter, true)]);
        let candidates = insts.iter().filter_map(|inst| {
            let [value] = inst.results[..] else { return None };
            let load = self.places.loaded(value)?;
            let small = matches!(self.places.home(value), Home::Registers(layout) if layout.registers() <= SMALL);
            (small && !self.places.only_moved(value) && !self.places.is_decoded(value)).then_some((value, load))
        });
        let decided = |load: &Inst, known: &mut _| load.operands.iter().all(|&o| self.decided(o, body, known));
        let found: Vec<_> = candidates.collect();
        found.into_iter().filter(|(_, load)| decided(load, &mut known)).map(|(value, _)| value).collect()
    }

    /// Loads a value with the names as they are now.
    fn load_now(&mut self, value: ValueId) -> Lowered<FragmentId> {
        let Home::Registers(layout) = self.places.home(value).clone() else {
            return Err(super::Unsupported { what: "a load ahead".to_string(), place: String::new() });
        };
        let names = self.names.clone();
        self.flush();
        let fragment = self.fragment_in(value, &layout)?;
        self.names = names;
        Ok(fragment)
    }

    /// Hands a pass what was loaded for it, and loads for the next one.
    fn load_next(&mut self, range: &Range, counter: LocalId, value: ValueId, next: FragmentId) -> Lowered<()> {
        let fragment = self.program.fragments[next.index()].clone();
        let now = self.fragment(fragment.elem, fragment.extents, fragment.layout);
        self.steps.push(Step::Assign { to: now, from: next });
        let names = self.names.clone();
        let ahead = super::scalar::int(Elementwise::Add, Expr::Local(counter), range.step.clone());
        let ahead = self.name(Elem::I32, ahead);
        self.names.set(range.counter, ahead);
        let loaded = self.load_now(value)?;
        self.names = names;
        self.steps.push(Step::Assign { to: next, from: loaded });
        self.fragments.insert(value, now);
        Ok(())
    }

    /// Starts the copy of the next pass into the tile that has been used.
    pub(super) fn refill_now(&mut self) -> Lowered<()> {
        let Some(Refill { copy, range, counter, names, .. }) = self.refill.take() else { return Ok(()) };
        self.flush();
        self.settle_all();
        let of_pass = std::mem::replace(&mut self.names, names);
        let next = super::scalar::int(Elementwise::Add, Expr::Local(counter), range.step.clone());
        let next = self.name(Elem::I32, next);
        self.copies_for(&range, next, &[copy], [0, 1])?;
        self.names = of_pass;
        Ok(())
    }

    /// The copies of the first passes.
    fn start_ahead(&mut self, range: &Range, first: &Expr, ahead: &[Ahead], stage: LocalId) -> Lowered<()> {
        self.steps.push(Step::Let(stage, Expr::Int(0)));
        let passes = self.places.work.stages - 1;
        for pass in 0..passes {
            let distance = super::scalar::int(Elementwise::Mul, range.step.clone(), Expr::Int(i64::from(pass)));
            let counter = super::scalar::int(Elementwise::Add, first.clone(), distance);
            let counter = self.name(Elem::I32, counter);
            self.copies_for(range, counter, ahead, [pass, pass])?;
        }
        Ok(())
    }

    /// The copies of a pass that comes later.
    fn next_ahead(&mut self, range: &Range, counter: LocalId, ahead: &[Ahead]) -> Lowered<()> {
        let passes = self.places.work.stages - 1;
        let distance = super::scalar::int(Elementwise::Mul, range.step.clone(), Expr::Int(i64::from(passes)));
        let next = super::scalar::int(Elementwise::Add, Expr::Local(counter), distance);
        let next = self.name(Elem::I32, next);
        self.copies_for(range, next, ahead, [passes, passes])
    }

    /// One group of copies: those of the pass whose counter is `counter`, if there is such a pass. It comes `passes` after the one at
    /// hand, and its slot `distance` after that one's.
    fn copies_for(
        &mut self,
        range: &Range,
        counter: Expr,
        ahead: &[Ahead],
        [distance, passes]: [u32; 2],
    ) -> Lowered<()> {
        let names = self.names.clone();
        let outer = std::mem::take(&mut self.steps);
        self.names.set(range.counter, counter.clone());
        self.name_foreseen(range, passes);
        for copy in ahead {
            let to = Slot { ahead: distance, ..copy.slot.clone() };
            let around = std::mem::take(&mut self.steps);
            let before: Names = self.names.clone();
            let mut cond: Option<Expr> = None;
            for &(guard, holds) in &copy.guards {
                let guard = self.number(guard)?;
                let guard = if holds { guard } else { Expr::Op(Elementwise::Not, Elem::Bool, vec![guard]) };
                cond = Some(match cond {
                    Some(others) => Expr::Op(Elementwise::And, Elem::Bool, vec![others, guard]),
                    None => guard,
                });
            }
            let conditions = std::mem::replace(&mut self.steps, around);
            self.steps.extend(conditions);
            let around = std::mem::take(&mut self.steps);
            self.copy_uncommitted(copy.value, &to)?;
            let copied = std::mem::replace(&mut self.steps, around);
            match cond {
                Some(cond) => self.steps.push(Step::If { cond, then: copied, otherwise: Vec::new() }),
                None => self.steps.extend(copied),
            }
            self.names = before;
        }
        let then = std::mem::replace(&mut self.steps, outer);
        let cond = Expr::Op(Elementwise::Lt, Elem::I32, vec![counter, range.last.clone()]);
        self.steps.push(Step::If { cond, then, otherwise: Vec::new() });
        self.steps.push(Step::Commit);
        self.names = names;
        Ok(())
    }

    fn copy_uncommitted(&mut self, value: ValueId, to: &Slot) -> Lowered<()> {
        let pending = self.pending.clone();
        self.copy(value, to)?;
        if let Some(Step::Commit) = self.steps.last() {
            self.steps.pop();
        }
        self.pending = pending;
        Ok(())
    }

    /// The loads of a loop's body that go to shared memory and that the counter alone decides.
    fn ahead(&self, body: RegionId, counter: ValueId) -> Vec<Ahead> {
        let mut found = Vec::new();
        let mut known = HashMap::from([(counter, true)]);
        self.ahead_in(body, body, &mut Vec::new(), &mut known, &mut found);
        found
    }

    fn ahead_in(
        &self,
        body: RegionId,
        region: RegionId,
        guards: &mut Vec<(ValueId, bool)>,
        known: &mut HashMap<ValueId, bool>,
        found: &mut Vec<Ahead>,
    ) {
        for inst in self.places.kernel.insts(region) {
            match &inst.op {
                Op::Control(Control::If { then, otherwise }) => {
                    if self.decided(inst.operands[0], body, known) {
                        for (way, holds) in [(*then, true), (*otherwise, false)] {
                            guards.push((inst.operands[0], holds));
                            self.ahead_in(body, way, guards, known, found);
                            guards.pop();
                        }
                    }
                }
                Op::Memory(Memory::Load { .. } | Memory::Gather { .. }) | Op::ShapeOp(ShapeOp::Reshape { .. }) => {
                    let [value] = inst.results[..] else { continue };
                    let Some(load) = self.places.loaded(value) else { continue };
                    let shared = matches!(self.places.home(value), Home::Shared);
                    if shared && load.operands.iter().all(|&o| self.decided(o, body, known)) {
                        // The slot is made when all are known.
                        let slot = Slot { buffer: crate::gpu::program::BufferId(0), at: None, ahead: 0 };
                        found.push(Ahead { value, slot, guards: guards.clone() });
                    }
                }
                Op::Memory(_)
                | Op::Control(_)
                | Op::Elementwise(_)
                | Op::Reduce(_)
                | Op::ShapeOp(_)
                | Op::Matmul(_) => {}
            }
        }
    }

    /// Whether a value is known as soon as the counter is: a number, a view or a table of indices.
    fn decided(&self, value: ValueId, body: RegionId, known: &mut HashMap<ValueId, bool>) -> bool {
        if let Some(&known) = known.get(&value) {
            return known;
        }
        let decided = match self.places.def(value) {
            Some(Def::Param(_)) => true,
            Some(Def::Arg(region, _)) => !self.inside(region, body),
            Some(Def::Inst(region, ..)) if !self.inside(region, body) => true,
            Some(Def::Inst(..)) => self.places.inst(value).is_some_and(|inst| {
                let follows = match &inst.op {
                    Op::Elementwise(_) => matches!(self.places.home(value), Home::Uniform),
                    Op::Memory(Memory::Load { .. }) => !matches!(self.places.home(value), Home::Shared),
                    Op::Memory(Memory::Len { .. } | Memory::At { .. } | Memory::Limit { .. }) => true,
                    Op::Control(Control::ProgramId { .. } | Control::ProgramCount { .. }) => true,
                    Op::Memory(Memory::Gather { .. } | Memory::Store)
                    | Op::Control(_)
                    | Op::ShapeOp(_)
                    | Op::Reduce(_)
                    | Op::Matmul(_) => false,
                };
                follows && inst.operands.iter().all(|&o| self.decided(o, body, known))
            }),
            None => false,
        };
        known.insert(value, decided);
        decided
    }

    /// Whether a region is `outer` or nested in it.
    fn inside(&self, region: RegionId, outer: RegionId) -> bool {
        let mut at = Some(region);
        while let Some(region) = at {
            if region == outer {
                return true;
            }
            at = self.places.kernel.regions[region.index()].parent;
        }
        false
    }
}

/// The slot that comes after `stage`.
fn next_stage(stage: LocalId, stages: u32) -> Expr {
    let i32s = |op, a, b| Expr::Op(op, Elem::I32, vec![a, b]);
    let next = i32s(Elementwise::Add, Expr::Local(stage), Expr::Int(1));
    let wraps = i32s(Elementwise::Eq, next.clone(), Expr::Int(i64::from(stages)));
    Expr::Op(Elementwise::Select, Elem::Bool, vec![wraps, Expr::Int(0), next])
}
