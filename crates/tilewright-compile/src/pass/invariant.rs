//! What does not change from pass to pass of a loop is computed before it. Inputs are never written, so loads are as good as
//! anything else.
//!
//! Of what stands under a branch in the loop only scalars and views move: they cost nothing where the branch is not taken. A
//! tile there waits for its branch. A `broadcast` computes nothing and would only keep its tile alive: of it, too, only scalars
//! move.

use super::edit::{is_free, rehome, take_insts};
use tilewright_ir::op::{Control, ShapeOp};
use tilewright_ir::{Inst, Kernel, Op, RegionId, Type};

pub(super) fn run(kernel: &mut Kernel) {
    visit(kernel, Kernel::BODY);
}

/// Innermost first: what leaves an inner loop may leave the outer one.
fn visit(kernel: &mut Kernel, region: RegionId) {
    let mut insts = Vec::new();
    for inst in take_insts(kernel, region) {
        for nested in inst.op.regions() {
            visit(kernel, nested);
        }
        if let Op::Control(Control::For { body }) = inst.op {
            leave(kernel, body, body, region, &mut insts);
        }
        insts.push(inst);
    }
    kernel.regions[region.index()].insts = insts;
}

/// Moves what may leave `from`, a region of the loop with this body, to `before`, which stands in `around`.
fn leave(kernel: &mut Kernel, from: RegionId, body: RegionId, around: RegionId, before: &mut Vec<Inst>) {
    let mut kept = Vec::new();
    for inst in take_insts(kernel, from) {
        let fixed = inst.operands.iter().all(|v| !is_within(kernel, kernel.values[v.index()].region, body));
        let cheap = || match kernel.ty(inst.results[0]) {
            Type::View { .. } => true,
            Type::Tile { shape, .. } => shape.rank() == 0,
        };
        let computed = from == body && !matches!(inst.op, Op::ShapeOp(ShapeOp::Broadcast { .. }));
        if is_free(&inst) && fixed && (computed || cheap()) {
            rehome(kernel, &inst, around);
            before.push(inst);
            continue;
        }
        if let Op::Control(Control::If { then, otherwise }) = inst.op {
            leave(kernel, then, body, around, before);
            leave(kernel, otherwise, body, around, before);
        }
        kept.push(inst);
    }
    kernel.regions[from.index()].insts = kept;
}

/// Whether a region is `outer` or nested in it.
fn is_within(kernel: &Kernel, region: RegionId, outer: RegionId) -> bool {
    std::iter::successors(Some(region), |r| kernel.regions[r.index()].parent).any(|r| r == outer)
}
