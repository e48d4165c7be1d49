//! The `.tile` files of the kernel language on both GPU dialects: one suite, every device.
#![allow(missing_docs)]

mod common;

use common::{DIALECTS, harness, rendered};
use std::path::Path;
use tilewright_harness::Checks;
use tilewright_ir::testing::tile_file::check_folder;

#[test]
#[ignore = "some cases have no lowering yet"]
fn tile_files_compute_what_they_say_in_both_dialects() {
    let Some(harness) = harness() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tilewright-ir/tests");
    let mut failures = Vec::new();
    for dialect in DIALECTS {
        let report = check_folder(&folder, "gpu", &mut |kernel, grid, args| {
            rendered::run(&harness, dialect, &Checks::orders(), kernel, grid, args)
        });
        let report = report.expect("readable files");
        assert!(report.cases > 0 && report.compared > 0, "no case was found");
        failures.extend(report.failures.iter().map(|f| format!("{dialect:?}: {f}")));
    }
    assert!(failures.is_empty(), "{} cases fail\n{}", failures.len(), failures.join("\n"));
}
