//! Programs that are hard on the CPU device, beyond the random ones: NaN and infinity, odd shapes, strides, values that
//! change places. What they must compute is what the reference interpreter computes.

mod common;

use std::path::Path;
use tilewright_ir::testing::tile_file::check_folder;

#[test]
fn hard_programs_compute_what_the_interpreter_computes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adversarial");
    let mut failures = Vec::new();
    for (name, device) in common::devices() {
        let report = check_folder(&folder, "cpu", &mut |kernel, grid, args| common::run(&device, kernel, grid, args));
        let report = report.expect("readable files");
        assert!(report.cases >= 40 && report.skipped.is_empty(), "{} cases", report.cases);
        failures.extend(report.failures.iter().map(|f| format!("{name}: {f}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
