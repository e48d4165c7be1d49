//! Random programs that use every op, in both GPU dialects, against the reference interpreter. What has no lowering is refused
//! by name and never wrong.
#![allow(missing_docs)]

mod common;

use common::{DIALECTS, harness, rendered};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use tilewright_harness::Checks;
use tilewright_ir::testing::programs;

/// The same ones each time: compiling each takes a second. `TILEWRIGHT_RANDOM_PROGRAMS` asks for more.
const PROGRAMS: usize = 24;

#[test]
fn random_programs_compute_what_the_interpreter_computes_or_are_refused_by_name() {
    let Some(harness) = harness() else { return };
    let wanted = std::env::var("TILEWRIGHT_RANDOM_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(PROGRAMS);
    let mut runner = TestRunner::deterministic();
    let (mut right, mut refused) = (0, 0);
    let mut failures = Vec::new();
    for number in 0..50 * wanted {
        let program = programs().new_tree(&mut runner).unwrap().current();
        let dialect = DIALECTS[number % DIALECTS.len()];
        let got = rendered::run(&harness, dialect, &Checks::once(), &program.kernel, program.grid, &program.args);
        match got.and_then(|got| program.check(&got)) {
            Ok(compared) => right += usize::from(compared > 0),
            Err(problem) if rendered::is_refused(&problem) => refused += 1,
            Err(problem) => failures.push(format!("{dialect:?}, number {number}: {problem}")),
        }
        if right >= wanted || failures.len() >= 12 {
            break;
        }
    }
    println!("{right} programs are right, {refused} refused");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(right >= wanted, "only {right} programs run, {refused} are refused");
}
