//! The library's kernels after the passes of GPUs: they verify, products are there once, and nothing of the cache is loaded
//! under a branch that both ways share.

use std::collections::{BTreeMap, HashSet};
use tilewright_attention::cases::Case;
use tilewright_attention::{KernelEntry, Mask, Schedule, library};
use tilewright_compile::pass::run_gpu;
use tilewright_ir::op::{Control, Matmul, Memory, ShapeOp};
use tilewright_ir::verify::verify;
use tilewright_ir::{Elem, Inst, Kernel, Op, RegionId, ValueId};
use tilewright_runtime::{Device, Tensor};

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
    verify(&passed).unwrap_or_else(|e| panic!("{} {text:?}: {e}", entry.name()));
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

#[test]
fn a_tile_that_a_class_map_skips_is_not_loaded_and_one_that_counts_has_each_product_once() {
    let device = Device::interp();
    let schedule = Schedule { heads: 1, queries: 32, keys: 64 };
    let tensor = Tensor::from_f64(Elem::Bool, &[1.0; 64 * 128], &[1, 1, 64, 128]).expect("a tensor");
    let mask = Mask::new(tensor).expect("a mask").classify(&device, schedule).expect("its classes");
    let case = Case::new("classes").lengths(64, 128).types(Elem::Bf16, Elem::Bf16).tile(schedule).feature(mask);
    let [kernel] = &kernels_of(&case, &device)[..] else { panic!("the plan has one kernel") };
    let kernel = run_gpu(kernel.clone(), None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(dots(&kernel), 2, "{kernel}");
    let of_cache: Vec<_> = loads(&kernel).into_iter().filter(|(name, _)| name == "k" || name == "v").collect();
    assert_eq!(of_cache, [("k".to_string(), 1), ("v".to_string(), 1)], "{kernel}");
}

/// What a plan for a case compiles, before any pass.
fn kernels_of(case: &Case, device: &Device) -> Vec<Kernel> {
    let inputs = case.inputs().unwrap_or_else(|e| panic!("{}: {e}", case.name()));
    let request = case.request(&inputs).unwrap_or_else(|e| panic!("{}: {e}", case.name()));
    let plan = request.plan(device).unwrap_or_else(|e| panic!("{}: {e}", case.name()));
    plan.pipelines().map(|pipeline| pipeline.kernel().clone()).collect()
}

/// Whether a region or one nested in it has a product.
fn has_dot(kernel: &Kernel, region: RegionId) -> bool {
    let mut found = false;
    walk(kernel, region, 0, &mut |inst, _| found |= inst.op == Op::Matmul(Matmul::Dot));
    found
}

#[test]
fn every_kernel_of_the_library_verifies_after_the_passes_and_no_branch_repeats_a_product() {
    let device = Device::interp();
    let mut seen = HashSet::new();
    let mut with_dots = 0;
    for entry in library().entries {
        after_passes(&entry, BTreeMap::new());
        for case in (entry.cases)().iter().filter_map(|case| case.attention()) {
            for kernel in kernels_of(case, &device) {
                if !seen.insert(kernel.to_string()) {
                    continue;
                }
                let passed = run_gpu(kernel.clone(), None).unwrap_or_else(|e| panic!("{}: {e}", case.name()));
                verify(&passed).unwrap_or_else(|e| panic!("{}: {e}", case.name()));
                let again = run_gpu(passed.clone(), None).unwrap_or_else(|e| panic!("{}: {e}", case.name()));
                assert_eq!(again.to_string(), passed.to_string(), "{}", case.name());
                walk(&passed, Kernel::BODY, 0, &mut |inst, _| {
                    let Op::Control(Control::If { then, otherwise }) = inst.op else { return };
                    let both = has_dot(&passed, then) && has_dot(&passed, otherwise);
                    assert!(!both, "{}: a product in both branches\n{passed}", case.name());
                });
                with_dots += usize::from(dots(&passed) > 0 && 2 * dots(&passed) <= dots(&kernel));
                check_elements(&passed, case);
            }
        }
    }
    assert!(seen.len() > 100 && with_dots > 50, "only {} kernels, {with_dots} with products", seen.len());
}

/// Products of 16-bit queries are of 16 bits on both sides, and those of f32 queries are of f32 where they were. These kernels are a
/// CPU's, which may take codes for their exact numbers.
fn check_elements(kernel: &Kernel, case: &Case) {
    let narrow = case.elements().0 != Elem::F32;
    let mut codes = false;
    walk(kernel, Kernel::BODY, 0, &mut |inst, _| codes |= matches!(inst.op, Op::ShapeOp(ShapeOp::Unpack { .. })));
    walk(kernel, Kernel::BODY, 0, &mut |inst, _| {
        if inst.op == Op::Matmul(Matmul::Dot) {
            let [a, b] = [0, 1].map(|i| kernel.ty(inst.operands[i]).elem());
            let exact = codes && b == Elem::F32;
            let holds = if narrow { a == b && a != Elem::F32 || exact } else { a == Elem::F32 };
            assert!(holds, "{}: {a} and {b}", case.name());
        }
    });
}
