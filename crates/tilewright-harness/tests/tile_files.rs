//! The `.tile` files of the kernel language on both GPU dialects: one suite, every device.
#![allow(missing_docs)]

mod common;

use common::{DIALECTS, harness, rendered};
use std::path::Path;
use tilewright_compile::gpu::Dialect;
use tilewright_harness::{Checks, Harness};
use tilewright_ir::testing::tile_file::{Report, check_folder};

fn check(harness: &Harness, dialect: Dialect) -> Report {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tilewright-ir/tests");
    let report = check_folder(&folder, "gpu", &mut |kernel, grid, args| {
        rendered::run(harness, dialect, &Checks::orders(), kernel, grid, args)
    });
    report.expect("readable files")
}

#[test]
fn tile_files_compute_what_they_say_in_both_dialects_or_are_refused_by_name() {
    let Some(harness) = harness() else { return };
    let reports = std::thread::scope(|scope| {
        let harness = &harness;
        let running = DIALECTS.map(|dialect| scope.spawn(move || check(harness, dialect)));
        running.map(|report| report.join().expect("no panic"))
    });
    let mut failures = Vec::new();
    for (dialect, report) in DIALECTS.iter().zip(&reports) {
        assert!(report.cases > 0 && report.compared > 0, "no case was found");
        let (refused, wrong): (Vec<_>, Vec<_>) = report.failures.iter().partition(|f| rendered::is_refused(f));
        println!("{dialect:?}: {} of {} cases are refused", refused.len(), report.cases);
        refused.iter().for_each(|refused| println!("  {refused}"));
        failures.extend(wrong.iter().map(|f| format!("{dialect:?}: {f}")));
    }
    assert!(failures.is_empty(), "{} cases fail\n{}", failures.len(), failures.join("\n"));
}
