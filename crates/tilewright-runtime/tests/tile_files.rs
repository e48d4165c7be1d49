//! The `.tile` files of the kernel language on the CPU device: one suite, every device.

mod common;

use std::path::Path;
use tilewright_ir::Op;
use tilewright_ir::testing::tile_file::check_folder;

#[test]
fn tile_files_compute_what_they_say_on_every_instruction_set() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tilewright-ir/tests");
    let wide = "a cast rounds even to the type that the value has"; // f32 lanes are rounded before the cast
    let mut failures = Vec::new();
    for (name, device) in common::devices() {
        let report = check_folder(&folder, "cpu", &mut |kernel, grid, args| common::run(&device, kernel, grid, args));
        let report = report.expect("readable files");
        assert!(report.cases > 0 && report.compared > 0, "no case was found");
        assert_eq!(report.skipped, [wide]);
        failures.extend(report.failures.iter().map(|f| format!("{name}: {f}")));
        let missing: Vec<_> = Op::names().filter(|n| !report.ops.contains(n)).collect();
        assert!(!report.failures.is_empty() || missing.is_empty(), "no case runs {missing:?}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
