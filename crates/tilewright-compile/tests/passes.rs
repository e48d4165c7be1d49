//! The `.tile` files in `passes`: kernels before and after a pass.
//!
//! A file says `// pass: name` once. A case starts with `// case: what it shows`, and then come `// before` and a kernel,
//! and `// after` and the exact text of the kernel that the pass makes of it.

use std::path::Path;
use tilewright_compile::pass::{PASSES, Pass, run};
use tilewright_ir::testing::programs;
use tilewright_ir::text::parse;
use tilewright_ir::verify::verify;

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
    for pass in PASSES {
        assert!(seen.contains(&pass.name), "no file tests the pass `{}`", pass.name);
    }
}

fn pass_of(text: &str) -> Option<&'static Pass> {
    let name = text.lines().find_map(|l| l.strip_prefix("// pass:"))?.trim();
    PASSES.iter().find(|p| p.name == name)
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
    assert_eq!(run(kernel, None).expect("it verifies").count(), 2);
}

#[test]
fn a_kernel_that_does_not_verify_is_refused_before_the_first_pass() {
    let mut kernel = parse("kernel k() {\n}").expect("a kernel that parses");
    kernel.add_region(tilewright_ir::Kernel::BODY);
    let found = run(kernel, None).expect_err("a region belongs to no op");
    assert!(!found.to_string().contains("please report"), "{found}");
}
