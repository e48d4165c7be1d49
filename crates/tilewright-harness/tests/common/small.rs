//! Kernels of a few lines: `y[i] = ...` of `x[i]` for the 64 threads of one block.

use tilewright_compile::gpu::{Argument, ArgumentSlot, Arguments, Dialect, Source};
use tilewright_harness::{Arg, Checks, Harness, HarnessError, Tensor, TensorMut};
use tilewright_ir::{Access, Elem};

pub const THREADS: usize = 64;

/// A kernel with this body over `x`, `y` (f32), `i` (the thread), `warp_shared` (512 bytes) and `args.number`.
pub fn kernel(dialect: Dialect, number: Elem, body: &str) -> Source {
    let ty = match number {
        Elem::F32 | Elem::F16 | Elem::Bf16 => "float",
        Elem::I32 | Elem::I8 => "int",
        Elem::U32 | Elem::U8 | Elem::Bool => "unsigned",
    };
    let args = format!("struct Args {{ long x_stride[1], y_stride[1]; int x_len[1], y_len[1]; {ty} number; }};");
    let text = match dialect {
        Dialect::Cuda => format!(
            "{args}
extern \"C\" __global__ void small(const float* __restrict__ x, float* __restrict__ y, const Args args) {{
    extern __shared__ unsigned char shared[];
    const int i = threadIdx.x;
    {body}
}}
"
        ),
        Dialect::Msl => format!(
            "#include <metal_stdlib>
using namespace metal;
{args}
kernel void small(device const float* x [[buffer(0)]], device float* y [[buffer(1)]], constant Args& args [[buffer(2)]],
                  uint i [[thread_index_in_threadgroup]], uint3 group [[threadgroup_position_in_grid]]) {{
    alignas(16) threadgroup uchar shared[512];
    {body}
}}
"
        ),
    };
    let view = |pointer: u32, access| ArgumentSlot::View {
        pointer,
        elem: Elem::F32,
        rank: 1,
        access,
        strides: 8 * pointer,
        lens: 16 + 4 * pointer,
    };
    let param = |name: &str, slot| Argument { name: name.to_string(), slot };
    let params = vec![
        param("x", view(0, Access::Read)),
        param("y", view(1, Access::Write)),
        param("number", ArgumentSlot::Scalar { elem: number, at: 24 }),
    ];
    let arguments = Arguments { params, bytes: 32 };
    let (entry, threads) = ("small".to_string(), THREADS as u32);
    Source { dialect, text, entry, threads, shared_bytes: 512, arguments }
}

/// Runs it over `x`, which is repeated as often as it takes; `y` starts as NaN.
pub fn launch(
    harness: &Harness,
    source: &Source,
    x: &[f32],
    number: f64,
    grid: u32,
    checks: &Checks,
) -> Result<Vec<f32>, HarnessError> {
    let x: Vec<u8> = x.iter().cycle().take(THREADS).flat_map(|x| x.to_ne_bytes()).collect();
    let mut y: Vec<u8> = (0..THREADS).flat_map(|_| f32::NAN.to_ne_bytes()).collect();
    let mut args = [
        Arg::Read(Tensor { elem: Elem::F32, shape: &[THREADS], strides: &[1], bytes: &x }),
        Arg::Write(TensorMut { elem: Elem::F32, shape: &[THREADS], strides: &[1], bytes: &mut y }),
        Arg::Scalar(number),
    ];
    harness.launch(source, [grid, 1, 1], &mut args, checks)?;
    Ok(y.chunks_exact(4).map(|y| f32::from_ne_bytes([y[0], y[1], y[2], y[3]])).collect())
}

/// The results of one body in one dialect, in every order, with both sanitizers.
pub fn map(harness: &Harness, dialect: Dialect, body: &str, x: &[f32]) -> Vec<f32> {
    launch(harness, &kernel(dialect, Elem::F32, body), x, 0.0, 1, &Checks::all()).unwrap()
}
