//! How the compiler is told to treat numbers, and what it says: on a real Metal device alone; without one each test says that
//! it is skipped.

use super::super::pipeline::Programs;
use super::super::{Command, MetalError, Stream};
use super::Gpu;
use std::sync::Arc;
use tilewright_compile::gpu::{Argument, ArgumentSlot, Arguments, Dialect, Source};
use tilewright_ir::{Access, Elem};

/// Writes `expression` of `x`, an element of the first tensor, and `a`, the scalar, to the second tensor.
fn elementwise(expression: &str) -> Source {
    let view = |pointer, access| ArgumentSlot::View {
        pointer,
        elem: Elem::F32,
        rank: 1,
        access,
        strides: 8 * pointer,
        lens: 16 + 4 * pointer,
    };
    let params = [
        ("x", view(0, Access::Read)),
        ("y", view(1, Access::Write)),
        ("a", ArgumentSlot::Scalar { elem: Elem::F32, at: 24 }),
    ];
    let text = format!(
        "#include <metal_stdlib>
         using namespace metal;
         struct Args {{ long stride[2]; int len[2]; float a; }};
         kernel void k(device const float* xs [[buffer(0)]], device float* ys [[buffer(1)]],
                       constant Args& args [[buffer(2)]], uint i [[thread_position_in_grid]]) {{
             if (int(i) < args.len[0]) {{
                 float x = xs[i * args.stride[0]], a = args.a;
                 ys[i * args.stride[1]] = {expression};
             }}
         }}"
    );
    Source {
        dialect: Dialect::Msl,
        text,
        entry: "k".into(),
        threads: 32,
        shared_bytes: 0,
        arguments: Arguments {
            params: params.map(|(name, slot)| Argument { name: name.into(), slot }).to_vec(),
            bytes: 32,
        },
    }
}

/// The GPU, or a line that says why there is none.
fn gpu() -> Option<Arc<Gpu>> {
    Gpu::open().map(Arc::new).map_err(|error| println!("skipped: {error}")).ok()
}

/// The second tensor after `expression` ran over `x`, at most 32 numbers, with `a`, from the second element of its memory on.
fn run(gpu: &Arc<Gpu>, expression: &str, x: &[f32], a: f32) -> Result<Vec<f32>, MetalError> {
    let program = Programs::default().get_or_compile(gpu, &elementwise(expression))?;
    let (input, output) = (gpu.memory(4 * x.len()).unwrap(), gpu.memory(4 * x.len() + 4).unwrap());
    // SAFETY: so many bytes, and nothing was submitted yet.
    unsafe { input.write(0, &x.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<_>>()) };
    let len = x.len() as u64;
    let command = Command::Launch {
        program: &program,
        grid: [1, 1, 1],
        threads: 32,
        tensors: &[(&input, 0), (&output, 4)],
        numbers: &[1, 1, len | len << 32, u64::from(a.to_bits())],
    };
    // SAFETY: the tensors and the struct of the source above.
    unsafe { Stream::new(gpu)?.submit(command, &Arc::from("k")) }?.wait()?;
    let mut got = vec![0; 4 * x.len()];
    // SAFETY: so many bytes, and the launch is done.
    unsafe { output.read(4, &mut got) };
    Ok(got.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect())
}

#[test]
fn infinities_and_nan_are_as_ieee_754_has_them() {
    let Some(gpu) = gpu() else { return };
    let x = [f32::NEG_INFINITY, f32::NAN, 1.0];
    assert_eq!(run(&gpu, "isnan(x) ? 3.0f : isinf(x) ? 2.0f : 1.0f", &x, 0.0).unwrap(), [2.0, 3.0, 1.0]);
    assert_eq!(run(&gpu, "fast::exp2(x - a)", &x[..1], 5.0).unwrap(), [0.0]);
}

#[test]
fn a_refused_source_gives_the_compilers_message() {
    let Some(gpu) = gpu() else { return };
    match run(&gpu, "not_declared", &[1.0], 0.0) {
        Err(MetalError::Compile { message }) => assert!(message.contains("not_declared"), "{message}"),
        other => panic!("{other:?}"),
    }
}
