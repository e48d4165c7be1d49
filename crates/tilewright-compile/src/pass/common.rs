//! Common subexpressions: a pure instruction with the op and operands of an earlier one that is still in scope is replaced
//! by it. Features and the kernel each ask for positions and bounds; this makes them one.

use std::collections::HashMap;
use tilewright_ir::{Effect, Kernel, Op, RegionId, ValueId};

/// An op without regions, as a key: its name and attributes say all of it.
type Key = (String, Vec<ValueId>);

pub(super) fn run(kernel: &mut Kernel) {
    let mut same = HashMap::new();
    visit(kernel, Kernel::BODY, &mut HashMap::new(), &mut same);
    kernel.compact();
}

fn visit(
    kernel: &mut Kernel,
    region: RegionId,
    known: &mut HashMap<Key, ValueId>,
    same: &mut HashMap<ValueId, ValueId>,
) {
    let mut insts = std::mem::take(&mut kernel.regions[region.index()].insts);
    let mut added = Vec::new();
    insts.retain_mut(|inst| {
        for operand in &mut inst.operands {
            *operand = same.get(operand).copied().unwrap_or(*operand);
        }
        for nested in inst.op.regions() {
            visit(kernel, nested, known, same);
        }
        let [result] = inst.results[..] else { return true };
        match inst.op.effect() {
            Effect::Pure | Effect::Read => {}
            Effect::Write | Effect::Nested => return true,
        }
        let key = (describe(&inst.op), inst.operands.clone());
        match known.get(&key) {
            Some(&earlier) => {
                same.insert(result, earlier);
                false
            }
            None => {
                known.insert(key.clone(), result);
                added.push(key);
                true
            }
        }
    });
    let region = &mut kernel.regions[region.index()];
    region.insts = insts;
    for value in &mut region.yields {
        *value = same.get(value).copied().unwrap_or(*value);
    }
    for key in added {
        known.remove(&key); // out of scope
    }
}

fn describe(op: &Op) -> String {
    let attrs: Vec<String> = op.attrs().into_iter().map(|(name, text)| format!("{name}={text}")).collect();
    format!("{} {}", op.name(), attrs.join(" "))
}
