//! The end of a trace: what first passes left behind goes, and ids become dense.

use std::collections::HashMap;
use tilewright_ir::verify::verify;
use tilewright_ir::{Diagnostics, Inst, Kernel, RegionId, ValueId};

/// The kernel without what its body does not reach, its values numbered in the order in which they are defined.
///
/// It is verified in every build. That is about a quarter of a trace: some 15 of 57 microseconds for attention in 65
/// instructions.
///
/// # Errors
/// What the verifier finds: a mistake of the tracer, because every mistake of the user was found before.
pub(super) fn finish(traced: Kernel, aliases: &HashMap<ValueId, ValueId>) -> Result<Kernel, Diagnostics> {
    let mut kernel = Kernel::new(traced.name.clone());
    kernel.sites = traced.sites.clone();
    let mut copy = Copy { from: &traced, to: kernel, aliases, names: vec![None; traced.values.len()] };
    for param in &traced.params {
        let value = copy.define(param.value, Kernel::BODY);
        copy.to.params.push(tilewright_ir::Param { name: param.name.clone(), access: param.access, value });
    }
    copy.region(Kernel::BODY, Kernel::BODY);
    verify(&copy.to)?;
    Ok(copy.to)
}

struct Copy<'k> {
    from: &'k Kernel,
    to: Kernel,
    aliases: &'k HashMap<ValueId, ValueId>,
    /// The new name of each old value, once it is defined.
    names: Vec<Option<ValueId>>,
}

impl Copy<'_> {
    fn define(&mut self, old: ValueId, region: RegionId) -> ValueId {
        let value = self.from.values[old.index()]; // an id of this kernel
        let new = self.to.add_value(value.ty, region, value.site);
        self.names[old.index()] = Some(new); // as long as `from.values`
        new
    }

    fn name(&self, mut old: ValueId) -> ValueId {
        while let Some(&next) = self.aliases.get(&old) {
            old = next;
        }
        // Every operand was checked against its region when it was recorded, so it is defined before its use. If one were
        // not, it would become an id of no value, which `verify` refuses.
        self.names[old.index()].unwrap_or(ValueId(u32::MAX))
    }

    fn region(&mut self, old: RegionId, new: RegionId) {
        let from = &self.from.regions[old.index()]; // an id of this kernel
        let args = from.args.iter().map(|&v| self.define(v, new)).collect();
        self.to.regions[new.index()].args = args; // just added
        for inst in &from.insts {
            let mut op = inst.op.clone();
            for nested in op.regions_mut() {
                let copied = self.to.add_region(new);
                self.region(*nested, copied);
                *nested = copied;
            }
            let operands = inst.operands.iter().map(|&v| self.name(v)).collect();
            let results = inst.results.iter().map(|&v| self.define(v, new)).collect();
            self.to.regions[new.index()].insts.push(Inst { op, operands, results, site: inst.site });
        }
        let yields = from.yields.iter().map(|&v| self.name(v)).collect();
        self.to.regions[new.index()].yields = yields;
    }
}
