//! On a real Metal device; without one each test says that it is skipped.

use super::device::MetalDevice;
use super::error::MetalError;
use super::limits::LimitError;
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

/// The device, or a line that says why there is none.
fn device() -> Option<MetalDevice> {
    MetalDevice::new().map_err(|error| println!("skipped: {error}")).ok()
}

/// The second tensor after `expression` ran over `x` with `a`, read from the second element of its buffer on.
fn run(device: &MetalDevice, expression: &str, x: &[f32], a: f32) -> Result<Vec<f32>, MetalError> {
    let pipeline = device.compile(&elementwise(expression))?;
    let bytes = 4 * x.len();
    let (input, output) = (device.alloc(bytes)?, device.alloc(bytes + 4)?);
    input.upload(0, &x.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<_>>())?;
    let len = x.len() as i32;
    let mut args = Vec::new();
    args.extend([1_i64, 1].iter().flat_map(|n| n.to_ne_bytes()));
    args.extend([len, len].iter().flat_map(|n| n.to_ne_bytes()));
    args.extend(a.to_ne_bytes());
    args.extend([0; 4]);
    let grid = [(len as u32).div_ceil(32), 1, 1];
    let time = device.launch(&pipeline, grid, &[(&input, 0), (&output, 4)], &args)?.wait()?;
    println!("{} on {}: {time:?}", x.len(), device.info().name);
    let mut got = vec![0; bytes];
    output.download(4, &mut got)?;
    Ok(got.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect())
}

#[test]
fn a_launch_reads_its_tensors_and_numbers_and_writes_at_an_offset() {
    let Some(device) = device() else { return };
    let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let expected: Vec<f32> = x.iter().map(|x| 2.0 * x + 1.0).collect();
    assert_eq!(run(&device, "a * x + 1.0f", &x, 2.0).unwrap(), expected);
}

#[test]
fn an_empty_grid_runs_nothing() {
    let Some(device) = device() else { return };
    assert_eq!(run(&device, "x", &[], 0.0).unwrap(), []);
}

#[test]
fn infinities_and_nan_are_as_ieee_754_has_them() {
    let Some(device) = device() else { return };
    let x = [f32::NEG_INFINITY, f32::NAN, 1.0];
    assert_eq!(run(&device, "isnan(x) ? 3.0f : isinf(x) ? 2.0f : 1.0f", &x, 0.0).unwrap(), [2.0, 3.0, 1.0]);
    assert_eq!(run(&device, "fast::exp2(x - a)", &x[..1], 5.0).unwrap(), [0.0]);
}

#[test]
fn a_refused_source_gives_the_compilers_message() {
    let Some(device) = device() else { return };
    match run(&device, "not_declared", &[1.0], 0.0) {
        Err(MetalError::Compile { kernel, message }) => {
            assert_eq!(kernel, "k");
            assert!(message.contains("not_declared"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_buffer_that_is_too_large_and_a_copy_past_its_end_are_refused() {
    let Some(device) = device() else { return };
    assert!(matches!(device.alloc(usize::MAX / 2), Err(MetalError::Limit(LimitError::Buffer { .. }))));
    let buffer = device.alloc(8).unwrap();
    let error = MetalError::Limit(LimitError::Range { start: 4, end: 12, bytes: 8 });
    assert_eq!(buffer.upload(4, &[0; 8]), Err(error.clone()));
    assert_eq!(buffer.download(4, &mut [0; 8]), Err(error));
}

#[test]
fn a_buffer_of_another_device_is_refused() {
    let (Some(device), Some(other)) = (device(), device()) else { return };
    let pipeline = device.compile(&elementwise("x")).unwrap();
    let (here, there) = (device.alloc(4).unwrap(), other.alloc(4).unwrap());
    let launched = device.launch(&pipeline, [1, 1, 1], &[(&here, 0), (&there, 0)], &[0; 32]).map(|_| ());
    assert_eq!(launched, Err(MetalError::ForeignBuffer { kernel: "k".into(), index: 1 }));
}
