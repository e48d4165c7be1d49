//! What single operations mean under the harness, against formulas in Rust.
#![allow(missing_docs)]

mod common;

use common::small::{THREADS, kernel, launch, map};
use common::{DIALECTS, edited_product_of_f16, harness, run};
use tilewright_compile::gpu::Dialect;
use tilewright_harness::{Blocks, Checks, HarnessError, Run, Sanitizer};
use tilewright_ir::Elem;

/// Ties, subnormals, the ends of the ranges, NaN.
const HARD: [f32; 16] = [
    0.0,
    -0.0,
    1.0 + 1.0 / 256.0,
    1.0 + 3.0 / 256.0,
    1.0 + 1.0 / 2048.0,
    -1.0 - 3.0 / 2048.0,
    1e-40,
    -6e-8,
    3e-8,
    65519.0,
    65520.0,
    3.4e38,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MIN_POSITIVE,
];

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

fn check(got: &[f32], wanted: impl Fn(usize) -> f32) {
    assert_eq!(got.len(), THREADS);
    for (i, &y) in got.iter().enumerate() {
        assert!(same(y, wanted(i)), "thread {i}: {y}, wanted {}", wanted(i));
    }
}

#[test]
fn narrow_floats_round_to_nearest_even() {
    let Some(harness) = harness() else { return };
    for (elem, cuda, msl) in [
        (Elem::Bf16, "__bfloat162float(__float2bfloat16_rn(x[i]))", "float(bfloat(x[i]))"),
        (Elem::F16, "__half2float(__float2half_rn(x[i]))", "float(half(x[i]))"),
    ] {
        let rounded = |i: usize| elem.from_bits(elem.to_bits(f64::from(HARD[i % 16]))) as f32;
        check(&map(&harness, Dialect::Cuda, &format!("y[i] = {cuda};"), &HARD), rounded);
        check(&map(&harness, Dialect::Msl, &format!("y[i] = {msl};"), &HARD), rounded);
    }
}

#[test]
fn nan_and_infinity_follow_ieee_754() {
    let Some(harness) = harness() else { return };
    let (max, exp2) = (["fmaxf", "max"], ["exp2f", "fast::exp2"]);
    for (d, dialect) in DIALECTS.into_iter().enumerate() {
        let body = format!("y[i] = {}(x[i], 2.0f);", max[d]);
        check(&map(&harness, dialect, &body, &HARD), |i| HARD[i % 16].max(2.0));
        check(&map(&harness, dialect, "y[i] = x[i] - x[i];", &HARD), |i| HARD[i % 16] - HARD[i % 16]);
        check(&map(&harness, dialect, "y[i] = x[i] == x[i] ? 1.0f : 0.0f;", &HARD), |i| {
            if HARD[i % 16].is_nan() { 0.0 } else { 1.0 }
        });
        let powers = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -3.0, 10.0];
        check(&map(&harness, dialect, &format!("y[i] = {}(x[i]);", exp2[d]), &powers), |i| powers[i % 5].exp2());
    }
}

#[test]
fn half_rounds_after_each_operation() {
    let Some(harness) = harness() else { return };
    let got = map(&harness, Dialect::Msl, "half h = half(x[i]); y[i] = float(h + 1.0h + 1.0h);", &[2048.0]);
    check(&got, |_| 2048.0);
    let got =
        map(&harness, Dialect::Msl, "bfloat h = bfloat(x[i]); y[i] = float(h + bfloat(1) + bfloat(1));", &[256.0]);
    check(&got, |_| 256.0);
    // One rounding only where the kernel says fma.
    let third = 1.0f32 / 3.0;
    let got = map(&harness, Dialect::Msl, "y[i] = x[i] * 3.0f - 1.0f;", &[third]);
    check(&got, |_| third * 3.0 - 1.0);
    check(&map(&harness, Dialect::Cuda, "y[i] = fmaf(x[i], 3.0f, -1.0f);", &[third]), |_| third.mul_add(3.0, -1.0));
}

#[test]
fn shuffles_move_values_between_lanes_of_a_warp() {
    let Some(harness) = harness() else { return };
    let x: Vec<f32> = (0..THREADS).map(|i| i as f32).collect();
    let partner = |lane: fn(usize) -> usize| move |i: usize| (i / 32 * 32 + lane(i % 32)) as f32;
    for (cuda, msl, lane) in [
        ("__shfl_xor_sync(0xffffffff, x[i], 5)", "simd_shuffle_xor(x[i], 5)", (|l| l ^ 5) as fn(usize) -> usize),
        ("__shfl_sync(0xffffffff, x[i], 9)", "simd_shuffle(x[i], 9)", |_| 9),
        ("__shfl_sync(0xffffffff, x[i], i / 2)", "simd_shuffle(x[i], (i / 2) % 32)", |_| 0),
        ("__shfl_down_sync(0xffffffff, x[i], 3)", "simd_shuffle_down(x[i], 3)", |l| if l + 3 < 32 { l + 3 } else { l }),
        ("__shfl_up_sync(0xffffffff, x[i], 3)", "simd_shuffle_up(x[i], 3)", |l| if l >= 3 { l - 3 } else { l }),
    ] {
        let wanted =
            |i: usize| if cuda.contains("i / 2") { (i / 32 * 32 + i / 2 % 32) as f32 } else { partner(lane)(i) };
        check(&map(&harness, Dialect::Cuda, &format!("y[i] = {cuda};"), &x), wanted);
        check(&map(&harness, Dialect::Msl, &format!("y[i] = {msl};"), &x), wanted);
    }
}

#[test]
fn ldmatrix_gives_each_lane_two_neighbours_of_a_row_or_column() {
    let Some(harness) = harness() else { return };
    // Four 8x8 matrices, one behind the other: element e of 16 bits holds e. Register r of warp w is written by warp w.
    let store = "unsigned short* m = (unsigned short*)shared;
        for (int e = i; e < 256; e += 64) m[e] = e;
        __syncthreads();
        unsigned r[4] = {0, 0, 0, 0};";
    for (call, count, transposed) in [
        ("ldmatrix_x4", 4, false),
        ("ldmatrix_x4_trans", 4, true),
        ("ldmatrix_x2", 2, false),
        ("ldmatrix_x2_trans", 2, true),
    ] {
        for register in 0..count {
            let body = format!(
                "{store} {call}(r, m + i % 32 * 8); y[i] = r[{register}] & 0xffff; y[i] += 1000.0f * (r[{register}] >> 16);"
            );
            check(&map(&harness, Dialect::Cuda, &body, &[0.0]), |i| {
                let (major, pair) = (i % 32 / 4, i % 4 * 2);
                let at = |pair: usize| register * 64 + if transposed { pair * 8 + major } else { major * 8 + pair };
                (at(pair) + 1000 * at(pair + 1)) as f32
            });
        }
    }
}

#[test]
fn a_product_of_f16_is_right() {
    let Some(harness) = harness() else { return };
    assert_eq!(run(&harness, &edited_product_of_f16(), None, Run::default()).unwrap(), 0);
}

#[test]
fn simdgroup_matrices_store_what_they_load() {
    let Some(harness) = harness() else { return };
    let x: Vec<f32> = (0..THREADS).map(|i| i as f32).collect();
    let body = |transposed| {
        format!(
            "simdgroup_matrix<float, 8, 8> m;
             simdgroup_load(m, x, 8, ulong2(0, 0), {transposed});
             if (i < 32) simdgroup_store(m, y, 8);"
        )
    };
    check(&map(&harness, Dialect::Msl, &body(false), &x), |i| i as f32);
    check(&map(&harness, Dialect::Msl, &body(true), &x), |i| (i % 8 * 8 + i / 8) as f32);
    let place = "simdgroup_matrix<float, 8, 8> m(1.0f); y[i] = m.thread_elements()[i % 2];";
    check(&map(&harness, Dialect::Msl, place, &x), |i| {
        let (row, column) = (i % 32 / 16 * 4 + i / 2 % 4, i % 32 / 8 % 2 * 4 + i % 2 * 2 + i % 2);
        if row == column { 1.0 } else { 0.0 }
    });
}

#[test]
fn scalars_arrive_as_their_element_type() {
    let Some(harness) = harness() else { return };
    for dialect in DIALECTS {
        for (elem, number, wanted) in [
            (Elem::F32, 0.1, 0.1f32),
            (Elem::Bf16, 1.0 + 1.0 / 256.0, 1.0),
            (Elem::F16, -70000.0, f32::NEG_INFINITY),
            (Elem::I32, -5.0, -5.0),
            (Elem::I8, -3.0, -3.0),
            (Elem::U32, 4294967040.0, 4294967040.0),
            (Elem::U8, 200.0, 200.0),
            (Elem::Bool, 1.0, 1.0),
        ] {
            let source = kernel(dialect, elem, "y[i] = float(args.number);");
            check(&launch(&harness, &source, &[0.0], number, 1, &Checks::once()).unwrap(), |_| wanted);
        }
    }
}

#[test]
fn an_empty_grid_writes_nothing() {
    let Some(harness) = harness() else { return };
    for dialect in DIALECTS {
        let source = kernel(dialect, Elem::F32, "y[i] = 1.0f;");
        check(&launch(&harness, &source, &[0.0], 0.0, 0, &Checks::all()).unwrap(), |_| f32::NAN);
    }
}

#[test]
fn memory_that_nothing_wrote_is_nan() {
    let Some(harness) = harness() else { return };
    check(&map(&harness, Dialect::Cuda, "y[i] = ((float*)shared)[i];", &[0.0]), |_| f32::NAN);
    check(&map(&harness, Dialect::Msl, "y[i] = ((threadgroup float*)shared)[i];", &[0.0]), |_| f32::NAN);
}

#[test]
fn blocks_that_write_one_element_race_unless_they_run_in_turn() {
    let Some(harness) = harness() else { return };
    for dialect in DIALECTS {
        // Not by the same thread of each block, which counts as one thread.
        let index = if dialect == Dialect::Cuda { "blockIdx.x" } else { "group.x" };
        let source = kernel(dialect, Elem::F32, &format!("y[i ^ {index}] = 1.0f;"));
        let mut checks = Checks { sanitizers: vec![Sanitizer::Thread], ..Checks::once() };
        let raced = launch(&harness, &source, &[0.0], 0.0, 2, &checks);
        assert!(matches!(raced, Err(HarnessError::Race { .. })), "{dialect:?}: {raced:?}");
        checks.blocks = Blocks::InTurn;
        check(&launch(&harness, &source, &[0.0], 0.0, 2, &checks).unwrap(), |_| 1.0);
    }
}

#[test]
fn a_result_that_depends_on_the_order_of_threads_is_unsteady() {
    let Some(harness) = harness() else { return };
    for dialect in DIALECTS {
        let source = kernel(dialect, Elem::F32, "y[0] = float(i);");
        let result = launch(&harness, &source, &[0.0], 0.0, 1, &Checks::orders());
        assert!(matches!(result, Err(HarnessError::Unsteady { output: 0, .. })), "{dialect:?}: {result:?}");
    }
}

#[test]
fn lanes_at_different_operations_of_their_warp_are_divergent() {
    let Some(harness) = harness() else { return };
    for (dialect, body) in [
        (Dialect::Cuda, "y[i] = i % 2 ? __shfl_xor_sync(~0u, x[i], 1) : __shfl_xor_sync(~0u, x[i], 2);"),
        (Dialect::Cuda, "if (i % 32 < 8) __syncwarp(); y[i] = 0.0f;"),
        (Dialect::Msl, "if (i % 2) y[i] = simd_shuffle_xor(x[i], 1); else y[i] = simd_shuffle(x[i], 2);"),
        (Dialect::Msl, "if (i % 32 < 8) simdgroup_barrier(mem_flags::mem_threadgroup); y[i] = 0.0f;"),
    ] {
        let result = launch(&harness, &kernel(dialect, Elem::F32, body), &[0.0], 0.0, 1, &Checks::once());
        assert!(matches!(result, Err(HarnessError::Divergence { .. })), "{body}: {result:?}");
    }
}

#[test]
fn a_barrier_of_a_warp_orders_its_lanes_and_no_others() {
    let Some(harness) = harness() else { return };
    let barriers = [
        (Dialect::Cuda, "float* s = (float*)shared;", "__syncwarp();"),
        (
            Dialect::Msl,
            "threadgroup float* s = (threadgroup float*)shared;",
            "simdgroup_barrier(mem_flags::mem_threadgroup);",
        ),
    ];
    let checks = Checks { sanitizers: vec![Sanitizer::Thread], ..Checks::once() };
    let x: Vec<f32> = (0..THREADS).map(|i| i as f32).collect();
    for (dialect, memory, barrier) in barriers {
        let read = |from: &str, barrier: &str| {
            let body = format!("{memory} s[i] = x[i]; {barrier} y[i] = s[{from}];");
            launch(&harness, &kernel(dialect, Elem::F32, &body), &x, 0.0, 1, &checks)
        };
        check(&read("i ^ 31", barrier).unwrap(), |i| (i ^ 31) as f32);
        for result in [read("i ^ 32", barrier), read("i ^ 31", "")] {
            assert!(matches!(result, Err(HarnessError::Race { .. })), "{dialect:?}: {result:?}");
        }
    }
}

#[test]
fn a_buffer_that_is_filled_while_it_is_read_is_a_race() {
    let Some(harness) = harness() else { return };
    let body = "float* s = (float*)shared;
        s[i] = 1.0f;
        __syncthreads();
        float before = s[i ^ 1];
        cp_async_4(&s[i], &x[i], true);
        cp_async_commit();
        cp_async_wait<0>();
        y[i] = before;";
    let source = kernel(Dialect::Cuda, Elem::F32, body);
    let checks = Checks { sanitizers: vec![Sanitizer::Thread], ..Checks::once() };
    let result = launch(&harness, &source, &[2.0], 0.0, 1, &checks);
    assert!(matches!(result, Err(HarnessError::Race { .. })), "{result:?}");
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let Some(harness) = harness() else { return };
    let mut source = kernel(Dialect::Cuda, Elem::F32, "y[i] = x[i];");
    source.arguments.params.swap(1, 2);
    let result = launch(&harness, &source, &[0.0], 0.0, 1, &Checks::once());
    assert!(matches!(result, Err(HarnessError::Argument { index: 1, .. })), "{result:?}");
    let mut source = kernel(Dialect::Cuda, Elem::F32, "y[i] = x[i];");
    source.arguments.bytes = 40;
    let result = launch(&harness, &source, &[0.0], 0.0, 1, &Checks::once());
    assert!(matches!(result, Err(HarnessError::Compile { .. })), "{result:?}");
}

#[test]
fn misaligned_accesses_long_shifts_and_indices_outside_a_local_array_are_undefined() {
    let Some(harness) = harness() else { return };
    for (dialect, body) in [
        (Dialect::Cuda, "y[i] = ((const float4*)(x + 1))->x;"),
        (Dialect::Msl, "float4 v = *(device const float4*)(x + 1); y[i] = v.x;"),
        (Dialect::Msl, "uint4 v = *(threadgroup uint4*)(shared + 8); y[i] = v.x;"),
        (Dialect::Cuda, "float r[4] = {1, 2, 3, 4}; y[i] = r[i % 4 + int(x[i])];"),
        (Dialect::Msl, "float r[4] = {1, 2, 3, 4}; y[i] = r[i % 4 + uint(x[i])];"),
        (Dialect::Cuda, "y[i] = 1u << (i + 5);"),
    ] {
        let source = kernel(dialect, Elem::F32, body);
        for checks in [Checks::once(), Checks { runs: vec![], sanitizers: vec![Sanitizer::Address], ..Checks::once() }]
        {
            let result = launch(&harness, &source, &[1.0], 0.0, 1, &checks);
            assert!(matches!(result, Err(HarnessError::Undefined { .. })), "{body}: {result:?}");
        }
    }
}
