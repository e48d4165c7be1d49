//! A product of matrices in both dialects, its inputs and its f64 reference.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod rendered;
pub mod small;

use tilewright_compile::gpu::{Argument, ArgumentSlot, Arguments, Dialect, Source};
use tilewright_harness::{Arg, Harness, HarnessError, Module, Options, Run, Sanitizer, Tensor, TensorMut};
use tilewright_ir::testing::tools;
use tilewright_ir::{Access, Elem};

pub const DIALECTS: [Dialect; 2] = [Dialect::Cuda, Dialect::Msl];

/// The harness, or `None` with a line that says what is missing.
pub fn harness() -> Option<Harness> {
    tools::present(Harness::available())
}

/// `c = alpha * a b` with bf16 operands and an f32 result.
pub fn product(dialect: Dialect) -> Source {
    let view = |pointer: u32, elem, access| ArgumentSlot::View {
        pointer,
        elem,
        rank: 2,
        access,
        strides: 16 * pointer,
        lens: 48 + 8 * pointer,
    };
    let param = |name: &str, slot| Argument { name: name.to_string(), slot };
    Source {
        dialect,
        text: match dialect {
            Dialect::Cuda => include_str!("../kernels/product.cu"),
            Dialect::Msl => include_str!("../kernels/product.metal"),
        }
        .to_string(),
        entry: "product".to_string(),
        threads: 128,
        shared_bytes: match dialect {
            Dialect::Cuda => 2 * (64 * 64 + 32 * 32),
            Dialect::Msl => 2 * (32 * 16 + 16 * 16),
        },
        arguments: Arguments {
            params: vec![
                param("a", view(0, Elem::Bf16, Access::Read)),
                param("b", view(1, Elem::Bf16, Access::Read)),
                param("c", view(2, Elem::F32, Access::Write)),
                param("alpha", ArgumentSlot::Scalar { elem: Elem::F32, at: 72 }),
            ],
            bytes: 80,
        },
    }
}

/// The kernel with one piece of its text replaced, which must be there.
pub fn edited(dialect: Dialect, from: &str, to: &str) -> Source {
    let mut source = product(dialect);
    assert!(source.text.contains(from), "no `{from}` in the kernel");
    source.text = source.text.replace(from, to);
    source
}

/// The CUDA kernel with f16 operands.
pub fn edited_product_of_f16() -> Source {
    let mut source = product(Dialect::Cuda);
    source.text = source.text.replace("__nv_bfloat16", "__half").replace("mma_m16n8k16_bf16", "mma_m16n8k16_f16");
    for param in &mut source.arguments.params {
        if let ArgumentSlot::View { elem: elem @ Elem::Bf16, .. } = &mut param.slot {
            *elem = Elem::F16;
        }
    }
    source
}

/// The barrier whose line ends with this comment, in both dialects.
pub fn barrier(dialect: Dialect, comment: &str) -> String {
    match dialect {
        Dialect::Cuda => format!("__syncthreads(); // {comment}"),
        Dialect::Msl => format!("threadgroup_barrier(mem_flags::mem_threadgroup); // {comment}"),
    }
}

const ROWS: usize = 70;
const DEPTH: usize = 72;
const COLUMNS: usize = 24;
/// Between the starts of two rows of the result.
const ROW_STEP: usize = 29;

/// Whole numbers up to 7, so that every sum is exact in f32.
fn values(count: usize, seed: u32) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        f64::from(state >> 24) % 15.0 - 7.0
    };
    (0..count).map(|_| next()).collect()
}

fn bytes(elem: Elem, values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|&x| (elem.to_bits(x) as u16).to_ne_bytes()).collect()
}

/// Launches a product of 70x72 and 72x24 and returns how many elements of the result are wrong; what lies between the rows
/// of the result counts too.
pub fn wrong_elements(module: &Module, run: Run) -> Result<usize, HarnessError> {
    let (a, b) = (values(ROWS * DEPTH, 1), values(DEPTH * COLUMNS, 2));
    let elem = match module.source().arguments.params[0].slot {
        ArgumentSlot::View { elem, .. } | ArgumentSlot::Scalar { elem, .. } => elem,
    };
    let (a_bytes, b_bytes) = (bytes(elem, &a), bytes(elem, &b));
    let mut c_bytes: Vec<u8> = (0..ROWS * ROW_STEP).flat_map(|_| 99f32.to_ne_bytes()).collect();
    let tall = match module.source().dialect {
        Dialect::Cuda => 64,
        Dialect::Msl => 32,
    };
    let grid = [ROWS.div_ceil(tall) as u32, COLUMNS.div_ceil(16) as u32, 1];
    let mut args = [
        Arg::Read(Tensor { elem, shape: &[ROWS, DEPTH], strides: &[DEPTH, 1], bytes: &a_bytes }),
        Arg::Read(Tensor { elem, shape: &[DEPTH, COLUMNS], strides: &[COLUMNS, 1], bytes: &b_bytes }),
        Arg::Write(TensorMut {
            elem: Elem::F32,
            shape: &[ROWS, COLUMNS],
            strides: &[ROW_STEP, 1],
            bytes: &mut c_bytes,
        }),
        Arg::Scalar(0.5),
    ];
    module.launch(grid, &mut args, run)?;
    let c: Vec<f32> = c_bytes.chunks_exact(4).map(|x| f32::from_ne_bytes([x[0], x[1], x[2], x[3]])).collect();
    assert_eq!(c.len(), ROWS * ROW_STEP);
    let wanted = |i: usize| {
        let (row, column) = (i / ROW_STEP, i % ROW_STEP);
        let product = |k: usize| a[row * DEPTH + k] * b[k * COLUMNS + column];
        if column < COLUMNS { 0.5 * (0..DEPTH).map(product).sum::<f64>() } else { 99.0 }
    };
    Ok((0..c.len()).filter(|&i| f64::from(c[i]) != wanted(i)).count())
}

/// Compiles and launches.
pub fn run(harness: &Harness, source: &Source, sanitizer: Option<Sanitizer>, run: Run) -> Result<usize, HarnessError> {
    wrong_elements(&harness.compile(source, Options { sanitizer })?, run)
}
