//! Which instructions of a region run together, in which order.
//!
//! Elementwise ops and reductions along the last axis gather into groups over one `[rows, cols]` domain. An instruction may
//! join a group from further down when nothing that it needs stands between: all of them are pure. A tile from memory that
//! only elementwise ops read joins the group of the first of them.

use super::forms::Forms;
use std::collections::HashSet;
use tilewright_ir::op::{Control, Elementwise, Memory, Reduce, ShapeOp};
use tilewright_ir::{Elem, Inst, Kernel, Op, RegionId, Shape, Type, ValueId};

/// What becomes one step, by positions in the region.
#[derive(Debug)]
pub(super) enum Unit {
    /// One instruction on its own.
    Single(usize),
    /// Instructions fused into one loop, in order.
    Group(Vec<usize>),
}

impl Unit {
    pub fn members(&self) -> &[usize] {
        match self {
            Unit::Single(at) => std::slice::from_ref(at),
            Unit::Group(members) => members,
        }
    }
}

/// The rows and columns that a fused loop walks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Domain {
    pub rows: u32,
    pub cols: u32,
}

impl Domain {
    /// A tile seen as rows of its last axis.
    pub fn of(shape: Shape) -> Domain {
        let cols = shape.extent(shape.rank().wrapping_sub(1)).unwrap_or(1);
        let rows = shape.extents().rev().skip(1).product::<usize>();
        Domain { rows: rows as u32, cols: cols as u32 }
    }

    fn join(self, other: Domain) -> Option<Domain> {
        let axis = |a: u32, b: u32| match (a, b) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        };
        Some(Domain { rows: axis(self.rows, other.rows)?, cols: axis(self.cols, other.cols)? })
    }
}

/// How an instruction can run.
enum Way {
    /// Fused, over a domain with at least these rows and columns.
    Fused(Domain),
    /// From memory, in the loop of what reads it first.
    Loaded,
    /// On uniform scalars; also a fused loop, of one lane.
    Scalar,
    /// A view, a number known at launch: cheap, and free to run early.
    Early,
    /// On its own, in order.
    Alone,
    /// Nothing to run.
    Nothing,
}

fn way(kernel: &Kernel, forms: &Forms, inst: &Inst) -> Way {
    if forms.is_virtual(inst) {
        return Way::Nothing;
    }
    if inst
        .results
        .first()
        .is_some_and(|&r| forms.accumulation(r).is_some() || forms.codes(r).is_some() || forms.kept(r).is_some())
    {
        return Way::Alone;
    }
    let result = inst.results.first().and_then(|&r| kernel.ty(r).shape());
    let mut tiles = inst.operands.iter().chain(&inst.results).filter_map(|&v| kernel.ty(v).shape());
    let empty = tiles.any(|s| s.count() == 0);
    let fused = |shape: Shape| match shape.rank() {
        0 => Way::Scalar,
        _ if empty => Way::Alone, // a tile without elements has no domain; what it folds to has elements
        _ => Way::Fused(Domain::of(shape)),
    };
    let spread = |shape: Shape| {
        let fits = inst.operands.iter().all(|&v| kernel.ty(v).shape().is_some_and(|s| spreads_by_rows(s, shape)));
        if fits { fused(shape) } else { Way::Alone }
    };
    match (&inst.op, result) {
        (Op::Elementwise(Elementwise::Constant { .. }), _) => Way::Nothing,
        (_, Some(_)) if forms.loaded(inst.results[0]).is_some() => Way::Loaded,
        // Of reshapes only those of scalars get here.
        (Op::Elementwise(_) | Op::ShapeOp(ShapeOp::Broadcast { .. } | ShapeOp::Reshape { .. }), Some(shape)) => {
            spread(shape)
        }
        (Op::ShapeOp(ShapeOp::Iota { .. }), Some(shape)) => fused(shape),
        (Op::Reduce(reduce), _) => match kernel.ty(inst.operands[0]).shape() {
            Some(shape) if reduce.axis() + 1 == shape.rank() && !drops_nan(reduce, kernel.ty(inst.operands[0])) => {
                fused(shape)
            }
            Some(shape) if folds_rows(reduce, kernel.ty(inst.operands[0])) => fused(shape),
            _ => Way::Alone,
        },
        (Op::Control(Control::ProgramId { .. } | Control::ProgramCount { .. }), _)
        | (Op::Memory(Memory::Len { .. } | Memory::At { .. } | Memory::Limit { .. }), _) => Way::Early,
        (Op::Elementwise(_) | Op::ShapeOp(_) | Op::Matmul(_) | Op::Memory(_) | Op::Control(_), _) => Way::Alone,
    }
}

/// Whether folding one column differs from copying it: the largest and smallest ignore NaN.
fn drops_nan(reduce: &Reduce, operand: Type) -> bool {
    let one = operand.shape().is_some_and(|s| s.extent(reduce.axis()) == Some(1));
    let ignores = match reduce {
        Reduce::Max { .. } | Reduce::Min { .. } => true,
        Reduce::Sum { .. } => false,
    };
    one && ignores && operand.elem().is_float()
}

/// Whether a reduction folds all rows of a matrix to one, in whatever order: its result is whole after the last row.
pub(super) fn folds_rows(reduce: &Reduce, operand: Type) -> bool {
    let integers = match operand.elem() {
        Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 => true,
        Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::Bool => false,
    };
    let largest = match reduce {
        Reduce::Max { axis: 0 } => true,
        Reduce::Max { .. } | Reduce::Min { .. } | Reduce::Sum { .. } => false,
    };
    // A matrix of one row or column is spread as a row or a lane.
    let matrix = operand.shape().is_some_and(|s| s.rank() == 2 && s.extents().all(|extent| extent > 1));
    integers && largest && matrix
}

/// Whether a tile of shape `from` spreads over `to` by whole rows, whole columns, both or neither. Only rank 3 can miss.
fn spreads_by_rows(from: Shape, to: Shape) -> bool {
    let (f, t) = (Domain::of(from), Domain::of(to));
    from.rank() == 0 || ((f.rows == t.rows || f.rows == 1) && (f.cols == t.cols || f.cols == 1))
}

pub(super) fn units(kernel: &Kernel, forms: &Forms, region: RegionId) -> Vec<Unit> {
    let insts = kernel.insts(region);
    let ways: Vec<Way> = insts.iter().map(|i| way(kernel, forms, i)).collect();
    let mut done: Vec<bool> = ways.iter().map(|w| matches!(w, Way::Nothing)).collect();
    let mut units = Vec::new();
    let region = Region { kernel, forms, insts, ways: &ways };
    for start in 0..insts.len() {
        if done[start] || matches!(ways[start], Way::Loaded) {
            continue;
        }
        // What cannot be loaded in the loop of its reader is loaded before it, in a loop of its own.
        for load in region.loads_of(&done, start).into_iter().filter(|&load| !region.shares_rows(start, load)) {
            units.push(Unit::Group(vec![load]));
            done[load] = true;
        }
        match ways[start] {
            Way::Fused(domain) => region.gather(&mut done, start, domain, &mut units),
            Way::Scalar => {
                // Neighbours join: a run of scalar ops is one loop of one lane.
                let run = (start..insts.len())
                    .take_while(|&i| done[i] || matches!(ways[i], Way::Scalar))
                    .filter(|&i| !done[i]);
                let members: Vec<usize> = run.collect();
                for &member in &members {
                    done[member] = true;
                }
                units.push(Unit::Group(members));
            }
            Way::Early | Way::Alone => {
                done[start] = true;
                units.push(Unit::Single(start));
            }
            Way::Loaded | Way::Nothing => {}
        }
    }
    units
}

/// Instructions and how each can run.
struct Region<'r> {
    kernel: &'r Kernel,
    forms: &'r Forms,
    insts: &'r [Inst],
    ways: &'r [Way],
}

impl Region<'_> {
    /// Fuses what it can from `start` on. Scalars and views that stand between run before the group.
    fn gather(&self, done: &mut [bool], start: usize, mut domain: Domain, units: &mut Vec<Unit>) {
        let mut members = Vec::new();
        let mut early: Vec<Unit> = Vec::new();
        let mut made: HashSet<ValueId> = HashSet::new(); // by the group
        let mut skipped: HashSet<ValueId> = HashSet::new(); // by what stays behind
        for (at, inst) in self.insts.iter().enumerate().skip(start) {
            if done[at] {
                continue;
            }
            let waits = |on: &HashSet<ValueId>| inst.operands.iter().any(|&v| on.contains(&self.forms.root(v)));
            let loads = self.loads_of(done, at);
            let ready = |&load: &usize| {
                let asked = self.forms.loaded(self.insts[load].results[0]).map_or(&[][..], |load| &load.operands);
                let made_here = |v: ValueId| skipped.contains(&v) || made.contains(&v);
                self.shares_rows(at, load) && !asked.iter().any(|&v| made_here(self.forms.root(v)))
            };
            let joined = match self.ways[at] {
                Way::Loaded => continue,
                Way::Fused(other)
                    if !waits(&skipped) && !self.reads_other_rows(inst, &made) && loads.iter().all(ready) =>
                {
                    domain.join(other)
                }
                _ => None,
            };
            if let Some(joined) = joined {
                domain = joined;
                for load in loads {
                    made.extend(&self.insts[load].results);
                    members.push(load);
                    done[load] = true;
                }
                // What reads all rows folded has to wait for the last.
                let whole = match &inst.op {
                    Op::Reduce(reduce) => folds_rows(reduce, self.kernel.ty(inst.operands[0])),
                    Op::Elementwise(_) | Op::ShapeOp(_) | Op::Matmul(_) | Op::Memory(_) | Op::Control(_) => false,
                };
                if whole { &mut skipped } else { &mut made }.extend(&inst.results);
                members.push(at);
                done[at] = true;
            } else if matches!(self.ways[at], Way::Scalar | Way::Early) && !waits(&skipped) && !waits(&made) {
                match (&self.ways[at], early.last_mut()) {
                    (Way::Scalar, Some(Unit::Group(run))) => run.push(at),
                    (Way::Scalar, _) => early.push(Unit::Group(vec![at])),
                    _ => early.push(Unit::Single(at)),
                }
                done[at] = true;
            } else {
                skipped.extend(&inst.results);
            }
        }
        units.extend(early);
        units.push(Unit::Group(members));
    }

    /// The loads not done yet that an instruction reads.
    fn loads_of(&self, done: &[bool], reader: usize) -> Vec<usize> {
        let operands: Vec<ValueId> = self.insts[reader].operands.iter().map(|&v| self.forms.root(v)).collect();
        let loads = (0..reader).filter(|&at| !done[at] && matches!(self.ways[at], Way::Loaded));
        loads.filter(|&at| operands.contains(&self.insts[at].results[0])).collect()
    }

    /// Whether an instruction can read a tile in the loop that loads it: as the rows that it has in memory.
    fn shares_rows(&self, reader: usize, load: usize) -> bool {
        let made = HashSet::from([self.insts[load].results[0]]);
        matches!(self.ways[reader], Way::Fused(_)) && !self.reads_other_rows(&self.insts[reader], &made)
    }

    /// Whether an instruction reads one of these tiles reshaped to other rows: they have to be whole before.
    fn reads_other_rows(&self, inst: &Inst, made: &HashSet<ValueId>) -> bool {
        let domain = |value: ValueId| self.kernel.ty(value).shape().map(Domain::of);
        inst.operands.iter().any(|&v| {
            let root = self.forms.root(v);
            made.contains(&root) && domain(v) != domain(root)
        })
    }
}
