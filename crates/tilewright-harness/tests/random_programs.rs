//! Random programs that use every op, in both GPU dialects, against the reference interpreter. What has no lowering is refused
//! by name and never wrong.
#![allow(missing_docs)]

mod common;

use common::{DIALECTS, harness, rendered};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use tilewright_compile::gpu::Dialect;
use tilewright_harness::{Checks, Harness};
use tilewright_ir::testing::{Program, programs};

/// The same ones each time: compiling each takes a second. `TILEWRIGHT_RANDOM_PROGRAMS` asks for more.
const PROGRAMS: usize = 24;
/// Smaller programs that are tried in place of a wrong one.
const SHRINKING: usize = 60;

/// Elements compared, or what is wrong.
fn check(harness: &Harness, dialect: Dialect, program: &Program) -> Result<usize, String> {
    let got = rendered::run(harness, dialect, &Checks::once(), &program.kernel, program.grid, &program.args);
    got.and_then(|got| program.check(&got).map_err(|e| format!("{e}\n{}", source(dialect, program))))
}

fn source(dialect: Dialect, program: &Program) -> String {
    rendered::render(&program.kernel, dialect).map_or_else(|refused| refused, |source| source.text)
}

/// What is wrong with the smallest program that is wrong as this one is.
fn shrunk(harness: &Harness, dialect: Dialect, mut tree: impl ValueTree<Value = Program>, problem: String) -> String {
    let mut smallest = problem;
    let mut goes_on = tree.simplify();
    for _ in 0..SHRINKING {
        if !goes_on {
            break;
        }
        goes_on = match check(harness, dialect, &tree.current()) {
            Err(problem) if !rendered::is_refused(&problem) => {
                smallest = problem;
                tree.simplify()
            }
            Ok(_) | Err(_) => tree.complicate(),
        };
    }
    smallest
}

#[test]
fn random_programs_compute_what_the_interpreter_computes_or_are_refused_by_name() {
    let Some(harness) = harness() else { return };
    let wanted = std::env::var("TILEWRIGHT_RANDOM_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(PROGRAMS);
    let mut runner = TestRunner::deterministic();
    let mut right = 0;
    let mut refused = BTreeMap::<String, usize>::new();
    for number in 0..50 * wanted {
        let tree = programs().new_tree(&mut runner).expect("any choices will do");
        let dialect = DIALECTS[number % DIALECTS.len()];
        match check(&harness, dialect, &tree.current()) {
            Ok(compared) => right += usize::from(compared > 0),
            Err(problem) if rendered::is_refused(&problem) => *refused.entry(problem).or_default() += 1,
            Err(problem) => panic!("{dialect:?}, {number}: {}", shrunk(&harness, dialect, tree, problem)),
        }
        if right >= wanted {
            break;
        }
    }
    println!("{right} programs are right; refused: {refused:#?}");
    assert!(right >= wanted, "only {right} programs run");
}
