//! The `.tile` files in `passes`: kernels before and after a pass.
//!
//! A file says `// pass: name` once. A case starts with `// case: what it shows`, and then come `// before` and a kernel,
//! and `// after` and the exact text of the kernel that the pass makes of it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use tilewright_compile::pass::{GPU_PASSES, PASSES, Pass, run, run_gpu};
use tilewright_ir::interp::Arg;
use tilewright_ir::op::{Control, Elementwise};
use tilewright_ir::testing::{Program, programs};
use tilewright_ir::text::parse;
use tilewright_ir::verify::verify;
use tilewright_ir::{Access, Effect, Elem, Inst, Kernel, Op, SiteId, Type, ValueId};

#[test]
fn passes_make_what_the_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes");
    let mut seen = Vec::new();
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of the files") {
        let path = entry.expect("an entry of the folder").path();
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let pass = pass_of(&text).unwrap_or_else(|| panic!("{} names no pass", path.display()));
        seen.push(pass.name);
        let cases: Vec<&str> = text.split("// case:").skip(1).collect();
        assert!(!cases.is_empty(), "{} has no case", path.display());
        for case in cases {
            let name = case.lines().next().unwrap_or_default().trim();
            if let Err(problem) = check(pass, case) {
                failures.push(format!("{}: {name}: {problem}", pass.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for pass in PASSES.iter().chain(&GPU_PASSES) {
        assert!(seen.contains(&pass.name), "no file tests the pass `{}`", pass.name);
    }
}

fn pass_of(text: &str) -> Option<&'static Pass> {
    let name = text.lines().find_map(|l| l.strip_prefix("// pass:"))?.trim();
    PASSES.iter().chain(&GPU_PASSES).find(|p| p.name == name)
}

fn check(pass: &Pass, case: &str) -> Result<(), String> {
    let (_, rest) = case.split_once("// before\n").ok_or("there is no `// before`")?;
    let (before, after) = rest.split_once("// after\n").ok_or("there is no `// after`")?;
    let mut kernel = parse(before).map_err(|e| e.to_string())?;
    verify(&kernel).map_err(|e| e.to_string())?;
    pass.apply(&mut kernel).map_err(|e| e.to_string())?;
    verify(&kernel).map_err(|e| e.to_string())?;
    let made = kernel.to_string();
    if made.trim() == after.trim() { Ok(()) } else { Err(format!("the pass made\n{made}and not\n{}\n", after.trim())) }
}

#[test]
fn a_case_that_is_wrong_fails() {
    let case = " wrong\n// before\nkernel k() {\n}\n// after\n";
    let dead = &PASSES[1];
    assert_eq!(check(dead, &format!("{case}kernel k() {{\n}}\n")), Ok(()));
    assert!(check(dead, &format!("{case}kernel other() {{\n}}\n")).is_err());
    assert!(check(dead, case).is_err());
    assert!(check(dead, " no kernels\n").is_err());
}

#[test]
fn each_pass_may_run_again_and_changes_nothing_then() {
    use proptest::strategy::{Strategy, ValueTree};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut smaller = 0;
    for _ in 0..200 {
        let program = programs().new_tree(&mut runner).expect("no program is refused").current();
        let all = run(program.kernel.clone(), None).unwrap_or_else(|e| panic!("{e}\n{}", program.kernel));
        smaller += usize::from(all.count() < program.kernel.count());
        let again = run(all.clone(), None).unwrap_or_else(|e| panic!("{e}\n{all}"));
        assert_eq!(again, all);
        let mut made = program.clone();
        made.kernel = all;
        // The same kernel to the interpreter, bit by bit.
        made.tolerance = vec![0.0; made.args.len()];
        let expected = program.expected().unwrap_or_else(|e| panic!("{e}"));
        assert!(made.check(&expected).unwrap_or_else(|e| panic!("{e}")) > 0);
    }
    assert!(smaller > 100, "only {smaller} programs became smaller");
}

/// Passes that round.
const ROUND: [&str; 2] = ["coarse", "narrow"];

#[test]
fn the_passes_of_gpus_change_no_bit_and_may_run_again() {
    use proptest::strategy::{Strategy, ValueTree};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut changed = vec![0; GPU_PASSES.len()];
    for _ in 0..400 {
        let program = programs().new_tree(&mut runner).expect("no program is refused").current();
        let expected = program.expected().unwrap_or_else(|e| panic!("{e}"));
        let mut made = program.clone();
        made.tolerance = vec![0.0; made.args.len()];
        for (pass, changed) in GPU_PASSES.iter().zip(&mut changed) {
            let before = made.kernel.clone();
            pass.apply(&mut made.kernel).unwrap_or_else(|e| panic!("{e}\n{before}"));
            *changed += usize::from(made.kernel.to_string() != before.to_string());
            let once = made.kernel.clone();
            pass.apply(&mut made.kernel).unwrap_or_else(|e| panic!("{e}\n{once}"));
            assert_eq!(made.kernel.to_string(), once.to_string(), "`{}` again, at first\n{before}", pass.name);
            if ROUND.contains(&pass.name) {
                made.kernel = before;
                continue;
            }
            // The same kernel to the interpreter, bit by bit.
            let compared = made.check(&expected).unwrap_or_else(|e| panic!("`{}`: {e}\n{before}", pass.name));
            assert!(compared > 0);
        }
    }
    for (pass, changed) in GPU_PASSES.iter().zip(changed).filter(|(pass, _)| !ROUND.contains(&pass.name)) {
        assert!(changed > 0, "`{}` changed no program", pass.name);
    }
}

/// The program with a stretch of its body in both branches of an `if_else`, of which the second one does something else at
/// one place; `None` where that would make no kernel.
fn branched(program: &Program, choices: [usize; 4]) -> Option<Program> {
    let mut made = program.clone();
    let kernel = &mut made.kernel;
    let cond = kernel.add_param("branch", Type::scalar(Elem::Bool), Access::Read, SiteId::UNKNOWN);
    made.args.push(Arg::Scalar((choices[3] % 2) as f64));
    made.tolerance.push(0.0);
    let body = std::mem::take(&mut kernel.regions[0].insts);
    let free = |inst: &Inst| matches!(inst.op.effect(), Effect::Pure | Effect::Read);
    let first = choices[0] % body.len();
    let wanted = 1 + choices[1] % 24;
    let count = body[first..].iter().take(wanted).take_while(|inst| free(inst)).count();
    let (inside, after) = body[first..].split_at(count);
    let mut used: HashSet<ValueId> = after.iter().flat_map(|inst| inst.operands.iter().copied()).collect();
    used.extend(kernel.regions.iter().flat_map(|r| r.insts.iter().flat_map(|i| i.operands.iter()).chain(&r.yields)));
    let made_here: Vec<ValueId> = inside.iter().flat_map(|inst| inst.results.iter().copied()).collect();
    let results: Vec<ValueId> = made_here.into_iter().filter(|v| used.contains(v)).collect();
    let copies = [kernel.add_region(Kernel::BODY), kernel.add_region(Kernel::BODY)];
    let other = choices[2] % count.max(1);
    for (nth, &region) in copies.iter().enumerate() {
        let mut names = HashMap::new();
        for (place, inst) in inside.iter().enumerate() {
            let mut operands: Vec<ValueId> = inst.operands.iter().map(|v| *names.get(v).unwrap_or(v)).collect();
            let mut op = inst.op.clone();
            if nth == 1 && place == other {
                operands.reverse();
                if op == Op::from(Elementwise::Add) {
                    op = Elementwise::Sub.into();
                }
            }
            let pushed = kernel.push(region, op, &operands, SiteId::UNKNOWN).ok()?;
            names.extend(inst.results.iter().copied().zip(pushed));
        }
        kernel.regions[region.index()].yields = results.iter().map(|v| names[v]).collect();
    }
    let op = Control::If { then: copies[0], otherwise: copies[1] };
    let head = body[..first].to_vec();
    let branch = Inst { op: op.into(), operands: vec![cond], results, site: SiteId::UNKNOWN };
    kernel.regions[0].insts = head.into_iter().chain([branch]).chain(after.iter().cloned()).collect();
    kernel.compact();
    verify(kernel).is_ok().then_some(made)
}

#[test]
fn what_two_branches_share_is_found_in_random_programs_and_no_bit_changes() {
    use proptest::strategy::{Strategy, ValueTree};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let choices = (programs(), [0usize..1 << 20, 0..1 << 20, 0..1 << 20, 0..2]);
    let factor = GPU_PASSES.iter().find(|pass| pass.name == "factor").expect("the pass");
    let (mut tried, mut smaller) = (0, 0);
    for _ in 0..1500 {
        let (program, choices) = choices.new_tree(&mut runner).expect("no program is refused").current();
        let Some(mut made) = branched(&program, choices) else { continue };
        let expected = made.expected().unwrap_or_else(|e| panic!("{e}"));
        let before = made.kernel.clone();
        factor.apply(&mut made.kernel).unwrap_or_else(|e| panic!("{e}\n{before}"));
        let found = made.expected().unwrap_or_else(|e| panic!("{e}"));
        // Also NaN, which the programs hold where a branch does something else: as text.
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{before}\n{}", made.kernel);
        let once = made.kernel.clone();
        factor.apply(&mut made.kernel).unwrap_or_else(|e| panic!("{e}\n{once}"));
        assert_eq!(made.kernel, once, "it may run again\n{before}");
        for pass in GPU_PASSES.iter().filter(|pass| !ROUND.contains(&pass.name)) {
            pass.apply(&mut made.kernel).unwrap_or_else(|e| panic!("{e}\n{before}"));
            let found = made.expected().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "`{}`\n{before}\n{}", pass.name, made.kernel);
        }
        tried += 1;
        smaller += usize::from(once.count() < before.count());
    }
    assert!(tried > 500, "only {tried} programs had a branch");
    assert!(smaller > tried / 2, "only {smaller} of {tried} programs became smaller");
}

#[test]
fn passes_stop_after_the_one_that_is_named() {
    let text = "kernel k(x: f32, out y: view<f32, 0>) {
      %a = add %x, %x
      %b = add %x, %x
      %c = mul %x, %x
      store %y, %b
    }";
    let kernel = parse(text).expect("a kernel that parses");
    assert_eq!(run(kernel.clone(), Some("common")).expect("it verifies").count(), 3);
    assert_eq!(run(kernel.clone(), Some("dead")).expect("it verifies").count(), 2);
    assert_eq!(run_gpu(kernel.clone(), Some("common")).expect("it verifies").count(), 3);
    assert_eq!(run_gpu(kernel.clone(), None).expect("it verifies").count(), 2);
    let unknown = run_gpu(kernel.clone(), Some("faster")).expect_err("no such pass").to_string();
    assert!(unknown.contains("factor"), "{unknown}");
    assert_eq!(run(kernel, None).expect("it verifies").count(), 2);
}

#[test]
fn a_kernel_that_does_not_verify_is_refused_before_the_first_pass() {
    let mut kernel = parse("kernel k() {\n}").expect("a kernel that parses");
    kernel.add_region(tilewright_ir::Kernel::BODY);
    let found = run(kernel, None).expect_err("a region belongs to no op");
    assert!(!found.to_string().contains("please report"), "{found}");
}
