//! The `.tile` files beside this one on the reference interpreter. `tilewright_ir::testing::tile_file` says what stands in
//! them; the devices of the runtime run the same files.

use std::path::Path;
use tilewright_ir::interp::{Arg, run};
use tilewright_ir::testing::tile_file::{Case, check_folder};
use tilewright_ir::{Kernel, Op};

fn interpret(kernel: &Kernel, grid: [u32; 3], args: &[Arg]) -> Result<Vec<Arg>, String> {
    let mut args = args.to_vec();
    run(kernel, grid, &mut args).map_err(|e| e.to_string())?;
    Ok(args)
}

#[test]
fn tile_files_compute_what_they_say_and_cover_every_op() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let report = check_folder(&folder, "interp", &mut interpret).expect("readable files");
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    assert!(report.cases > 0 && report.compared > 0 && report.skipped.is_empty(), "no case was found");
    let missing: Vec<_> = Op::names().filter(|n| !report.ops.contains(n)).collect();
    assert!(missing.is_empty(), "no case runs {missing:?}");
}

#[test]
fn a_case_that_is_wrong_fails() {
    let text = "// case: wrong\nkernel k(x: f32, out y: view<f32, 0>) { store %y, %x }\n// run: x=2 y=f32[]\n";
    let fails = |more: &str| {
        let cases = Case::split(&format!("{text}{more}"));
        cases.iter().any(|case| case.check(&mut interpret).is_err())
    };
    assert!(!fails("// expect y: 2"));
    assert!(fails(""));
    assert!(fails("// expect y: 3"));
    assert!(fails("// expect y: NaN"));
    assert!(fails("// expect y ~0.5: NaN"));
    assert!(fails("// expect y: 2 2"));
    assert!(fails("// expect z: 2"));
    assert!(fails("// error: something"));
}

#[test]
fn a_runner_that_gives_nothing_back_fails() {
    let text =
        "// case: one\nkernel k(x: f32, out y: view<f32, 0>) { store %y, %x }\n// run: x=2 y=f32[]\n// expect y: 2";
    let case = &Case::split(text)[0];
    assert!(case.check(&mut |_, _, _| Ok(Vec::new())).is_err());
    assert_eq!(case.check(&mut |_, _, _| Err("no device".to_string())), Err("no device".to_string()));
}
