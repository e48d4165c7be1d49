//! The library's kernels after the passes of GPUs: they verify, products are there once, and nothing of the cache is loaded
//! under a branch that both ways share.

use std::collections::BTreeMap;
use tilewright_attention::{KernelEntry, library};
use tilewright_compile::pass::run_gpu;
use tilewright_ir::op::{Control, Matmul, Memory};
use tilewright_ir::{Inst, Kernel, Op, RegionId, ValueId};

/// The kernel of this name with these values, as the passes leave it.
fn passed(name: &str, values: &[(&str, &str)]) -> Kernel {
    let library = library();
    let entry = library.find(name).unwrap_or_else(|| panic!("no kernel {name}"));
    let text = values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    after_passes(entry, text)
}

fn after_passes(entry: &KernelEntry, text: BTreeMap<String, String>) -> Kernel {
    let text = (entry.complete)(text).unwrap_or_else(|e| panic!("{}: {e}", entry.name()));
    let traced = entry.spec.trace(&text).unwrap_or_else(|e| panic!("{}: {e}", entry.name()));
    let passed = run_gpu(traced, None).unwrap_or_else(|e| panic!("{} {text:?}: {e}", entry.name()));
    tilewright_ir::verify::verify(&passed).unwrap_or_else(|e| panic!("{} {text:?}: {e}", entry.name()));
    passed
}

fn forward<'v>(values: &[(&'v str, &'v str)]) -> Kernel {
    let all = [("E", "bf16"), ("C", "bf16"), ("head_dim", "128"), ("queries", "128"), ("keys", "64")];
    passed("attention_forward", &[&all, values].concat())
}

/// Calls `see` with each instruction and how many `if_else` stand around it.
fn walk<'k>(kernel: &'k Kernel, region: RegionId, ifs: usize, see: &mut dyn FnMut(&'k Inst, usize)) {
    for inst in kernel.insts(region) {
        see(inst, ifs);
        let inner = ifs + usize::from(matches!(inst.op, Op::Control(Control::If { .. })));
        for nested in inst.op.regions() {
            walk(kernel, nested, inner, see);
        }
    }
}

fn dots(kernel: &Kernel) -> usize {
    let mut count = 0;
    walk(kernel, Kernel::BODY, 0, &mut |inst, _| count += usize::from(inst.op == Op::Matmul(Matmul::Dot)));
    count
}

/// For each load of a parameter: its name and how many `if_else` stand around it.
fn loads(kernel: &Kernel) -> Vec<(String, usize)> {
    let mut of: BTreeMap<ValueId, String> = kernel.params.iter().map(|p| (p.value, p.name.to_string())).collect();
    let mut found = Vec::new();
    walk(kernel, Kernel::BODY, 0, &mut |inst, ifs| {
        let Op::Memory(op) = &inst.op else { return };
        let name = of[&inst.operands[0]].clone();
        match op {
            Memory::Load { .. } | Memory::Gather { .. } => found.push((name, ifs)),
            Memory::At { .. } | Memory::Limit { .. } => drop(of.insert(inst.results[0], name)),
            Memory::Len { .. } | Memory::Store => {}
        }
    });
    found
}

#[test]
fn a_forward_kernel_has_each_product_once_and_loads_before_it_branches() {
    for (values, products) in [
        (&[("features", "causal")][..], 2),
        (&[("features", "none")][..], 2),
        (&[("features", "causal"), ("cache", "ring")][..], 4),
        (&[("features", "causal"), ("cache", "paged(16)")][..], 2),
    ] {
        let kernel = forward(values);
        assert_eq!(dots(&kernel), products, "{values:?}\n{kernel}");
        let of_cache: Vec<_> = loads(&kernel).into_iter().filter(|(name, _)| name == "k" || name == "v").collect();
        assert_eq!(of_cache.len(), products, "{values:?}: a load a product");
        assert!(of_cache.iter().all(|(_, ifs)| *ifs == 0), "{values:?}: {of_cache:?}\n{kernel}");
    }
}
