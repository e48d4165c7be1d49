//! What passes that move and replace values share.

use std::collections::HashMap;
use tilewright_ir::{Effect, Inst, Kernel, RegionId, ValueId};

/// Values that turned out to be others.
#[derive(Default)]
pub(super) struct Same(HashMap<ValueId, ValueId>);

impl Same {
    /// From now on `value` is `other`, which must be in scope wherever `value` is used.
    pub fn set(&mut self, value: ValueId, other: ValueId) {
        self.0.insert(value, self.of(other));
    }

    /// What a value is now.
    pub fn of(&self, mut value: ValueId) -> ValueId {
        while let Some(&other) = self.0.get(&value) {
            value = other;
        }
        value
    }

    /// Renames these values.
    pub fn rename(&self, values: &mut [ValueId]) {
        values.iter_mut().for_each(|v| *v = self.of(*v));
    }

    /// Renames all uses in the kernel and drops what is not named any more.
    pub fn finish(&self, kernel: &mut Kernel) {
        for region in &mut kernel.regions {
            self.rename(&mut region.yields);
            region.insts.iter_mut().for_each(|inst| self.rename(&mut inst.operands));
        }
        kernel.compact();
    }

    /// Renames the uses in a region and in those nested in it.
    pub fn rename_in(&self, kernel: &mut Kernel, region: RegionId) {
        let held = &mut kernel.regions[region.index()];
        self.rename(&mut held.yields);
        held.insts.iter_mut().for_each(|inst| self.rename(&mut inst.operands));
        let nested: Vec<RegionId> = held.insts.iter().flat_map(|inst| inst.op.regions()).collect();
        nested.into_iter().for_each(|region| self.rename_in(kernel, region));
    }
}

/// Whether an instruction may run elsewhere, as often as one likes: it runs no region and writes nothing. It has one result.
pub(super) fn is_free(inst: &Inst) -> bool {
    match inst.op.effect() {
        Effect::Pure | Effect::Read => inst.results.len() == 1,
        Effect::Write | Effect::Nested => false,
    }
}

/// Says that an instruction, with all that is nested in it, stands in `region` now.
pub(super) fn rehome(kernel: &mut Kernel, inst: &Inst, region: RegionId) {
    for result in &inst.results {
        kernel.values[result.index()].region = region;
    }
    for nested in inst.op.regions() {
        kernel.regions[nested.index()].parent = Some(region);
    }
}

/// The instructions of a region, taken out of it.
pub(super) fn take_insts(kernel: &mut Kernel, region: RegionId) -> Vec<Inst> {
    std::mem::take(&mut kernel.regions[region.index()].insts)
}
