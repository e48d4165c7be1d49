//! Dead code: an instruction that writes nothing, nested ones included, and whose results nobody uses is dropped.

use std::collections::HashSet;
use tilewright_ir::{Kernel, RegionId, ValueId};

pub(super) fn run(kernel: &mut Kernel) {
    let mut used = HashSet::new();
    visit(kernel, Kernel::BODY, &mut used);
    kernel.compact();
}

/// From the end to the start, so that a user is seen before what it uses.
fn visit(kernel: &mut Kernel, region: RegionId, used: &mut HashSet<ValueId>) {
    used.extend(&kernel.regions[region.index()].yields);
    let insts = std::mem::take(&mut kernel.regions[region.index()].insts);
    let mut kept = Vec::with_capacity(insts.len());
    for inst in insts.into_iter().rev() {
        if !kernel.writes(&inst) && !inst.results.iter().any(|r| used.contains(r)) {
            continue;
        }
        used.extend(&inst.operands);
        for nested in inst.op.regions() {
            visit(kernel, nested, used);
        }
        kept.push(inst);
    }
    kept.reverse();
    kernel.regions[region.index()].insts = kept;
}
