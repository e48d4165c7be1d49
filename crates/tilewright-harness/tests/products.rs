//! A handwritten kernel in each dialect: right as it stands, and each way to break it is found.
#![allow(missing_docs)]

mod common;

use common::{DIALECTS, barrier, edited, harness, product, run, wrong_elements};
use tilewright_compile::gpu::Dialect;
use tilewright_harness::{CopyTiming, HarnessError, LaneOrder, Options, Run, Sanitizer};

#[test]
fn a_product_is_right_in_every_order_of_threads_and_copies() {
    let Some(harness) = harness() else { return };
    for dialect in DIALECTS {
        let module = harness.compile(&product(dialect), Options::default()).unwrap();
        for order in [LaneOrder::Forward, LaneOrder::Reverse, LaneOrder::Random(1), LaneOrder::Random(2)] {
            for copies in [CopyTiming::Late, CopyTiming::AtOnce] {
                assert_eq!(wrong_elements(&module, Run { order, copies, ..Run::default() }).unwrap(), 0, "{dialect:?}");
            }
        }
    }
}

#[test]
fn sanitizers_find_nothing_in_a_right_kernel() {
    let Some(harness) = harness() else { return };
    for dialect in DIALECTS {
        for sanitizer in [Sanitizer::Address, Sanitizer::Thread] {
            for order in [LaneOrder::Forward, LaneOrder::Reverse, LaneOrder::Random(3)] {
                let run = run(&harness, &product(dialect), Some(sanitizer), Run { order, ..Run::default() });
                assert_eq!(run.unwrap(), 0, "{dialect:?} {sanitizer:?} {order:?}");
            }
        }
    }
}

#[test]
fn a_removed_barrier_is_a_race() {
    let Some(harness) = harness() else { return };
    for dialect in DIALECTS {
        for comment in ["filled", "used"] {
            let source = edited(dialect, &barrier(dialect, comment), "");
            for order in [LaneOrder::Forward, LaneOrder::Reverse] {
                let run = run(&harness, &source, Some(Sanitizer::Thread), Run { order, ..Run::default() });
                assert!(matches!(run, Err(HarnessError::Race { .. })), "{dialect:?} {comment} {order:?}: {run:?}");
            }
        }
    }
}

#[test]
fn a_write_outside_a_tensor_is_found_without_a_sanitizer() {
    let Some(harness) = harness() else { return };
    for dialect in DIALECTS {
        let source = edited(dialect, "if (row < rows && column < columns) // inside", "if (column < columns)");
        let run = run(&harness, &source, None, Run::default());
        assert!(matches!(run, Err(HarnessError::OutOfBounds { .. })), "{dialect:?}: {run:?}");
    }
}

#[test]
fn a_read_outside_a_tensor_is_found() {
    let Some(harness) = harness() else { return };
    let sources = [
        edited(Dialect::Cuda, "bool valid = row < rows && k < depth;", "bool valid = k < depth;"),
        edited(Dialect::Msl, "r < rows && k < depth ?", "k < depth ?"),
    ];
    for source in sources {
        let run = run(&harness, &source, Some(Sanitizer::Address), Run::default());
        assert!(matches!(run, Err(HarnessError::OutOfBounds { .. })), "{:?}: {run:?}", source.dialect);
    }
}

#[test]
fn an_access_outside_shared_memory_is_found() {
    let Some(harness) = harness() else { return };
    let sources = [
        edited(Dialect::Cuda, "(warp * 16 + lane % 16) * 64", "(warp * 16 + lane % 16 + 240) * 64"),
        edited(Dialect::Msl, "left + simd * 8 * 16 + k", "&left[0] + (simd * 8 + 48) * 16 + k"),
    ];
    for source in sources {
        let run = run(&harness, &source, Some(Sanitizer::Address), Run::default());
        assert!(matches!(run, Err(HarnessError::OutOfBounds { .. })), "{:?}: {run:?}", source.dialect);
    }
}

#[test]
fn a_missing_wait_is_a_wrong_result_and_a_race() {
    let Some(harness) = harness() else { return };
    let source = edited(Dialect::Cuda, "cp_async_wait<1>();", "");
    assert!(run(&harness, &source, None, Run::default()).unwrap() > 0);
    let late = edited(Dialect::Cuda, "cp_async_wait<1>();", "cp_async_wait<2>();");
    assert!(run(&harness, &late, None, Run::default()).unwrap() > 0);
    let after =
        edited(Dialect::Cuda, "cp_async_wait<1>();\n        __syncthreads();", "__syncthreads(); cp_async_wait<1>();");
    let run = run(&harness, &after, Some(Sanitizer::Thread), Run::default());
    assert!(matches!(run, Err(HarnessError::Race { .. })), "{run:?}");
}

#[test]
fn a_barrier_that_some_threads_do_not_reach_is_an_error() {
    let Some(harness) = harness() else { return };
    let index = |dialect| if dialect == Dialect::Cuda { "thread" } else { "thread_index" };
    for dialect in DIALECTS {
        let filled = barrier(dialect, "filled");
        let used = barrier(dialect, "used");
        let thread = index(dialect);
        let without = edited(dialect, &filled, &format!("if ({thread} != 5) {filled}"));
        let ended = edited(dialect, &used, &format!("if ({thread} == 70) return; {used}"));
        for source in [without, ended] {
            for order in [LaneOrder::Forward, LaneOrder::Reverse, LaneOrder::Random(4)] {
                let run = run(&harness, &source, None, Run { order, ..Run::default() });
                assert!(matches!(run, Err(HarnessError::Divergence { .. })), "{dialect:?} {order:?}: {run:?}");
            }
        }
    }
}

#[test]
fn a_pointer_into_the_wrong_address_space_does_not_compile() {
    let Some(harness) = harness() else { return };
    for (from, to) in [
        ("simdgroup_load(x, left", "device const bfloat* p = left; simdgroup_load(x, left"),
        ("simdgroup_load(x, left", "const thread bfloat* p = a; simdgroup_load(x, left"),
        ("simdgroup_load(x, left", "auto p = (device const bfloat*)left; simdgroup_load(x, p"),
        ("simdgroup_load(x, left", "auto p = (const thread bfloat*)left; simdgroup_load(x, p"),
        ("args.alpha * sums", "(args.alpha = 1.0f) * sums"),
        ("args.alpha * sums", "double(args.alpha) * sums"),
    ] {
        let run = run(&harness, &edited(Dialect::Msl, from, to), None, Run::default());
        let Err(HarnessError::Compile { output, .. }) = run else { panic!("{to}: {run:?}") };
        assert!(output.contains("kernel.metal:"), "{to}: {output}");
    }
}
