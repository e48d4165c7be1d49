//! What a launch refuses, and what a device keeps between launches.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use tilewright_ir::{Kernel, text};
use tilewright_runtime::{Arg, Device, LaunchError, Tensor, TensorView, TensorViewMut};

/// Adds a number to four elements for each program.
const SHIFT: &str = "kernel shift(x: view<f32, 1>, by: f32, out y: view<f32, 1>) {
  %i = program_id axis=0
  %4 = constant value=4 elem=i32
  %at = mul %i, %4
  %a = load %x, %at shape=[4]
  %b = add %a, %by
  store %y, %b, %at
}";

/// A product, whose packed side looks different on each instruction set.
const PRODUCT: &str = "kernel product(x: view<f32, 2>, out y: view<f32, 2>) {
  %0 = constant value=0 elem=i32
  %a = load %x, %0, %0 shape=[5, 5]
  %b = dot %a, %a
  store %y, %b, %0, %0
}";

fn kernel(text: &str) -> Kernel {
    text::parse(text).expect("a kernel that parses")
}

fn shift(device: &Device, x: &[f32], by: f64) -> Result<Vec<f32>, LaunchError> {
    let pipeline = device.compile(kernel(SHIFT))?;
    let mut y = vec![0f32; x.len()];
    let programs = x.len().div_ceil(4) as u32;
    let mut args = [
        Arg::Read(TensorView::from_slice(x, &[x.len()]).expect("as long as its shape")),
        Arg::Scalar(by),
        Arg::Write(TensorViewMut::from_slice(&mut y, &[x.len()]).expect("as long as its shape")),
    ];
    device.launch(&pipeline, [programs, 1, 1], &mut args)?;
    Ok(y)
}

fn all_devices() -> Vec<Device> {
    common::devices().into_iter().map(|(_, d)| d).chain([Device::interp()]).collect()
}

#[test]
fn arguments_that_do_not_fit_are_refused_by_name_and_nothing_is_written() {
    for device in all_devices() {
        let pipeline = device.compile(kernel(SHIFT)).unwrap();
        let x = [1f32; 8];
        let ints = [1i32; 8];
        let mut y = [9f32; 8];
        let mut other = [9f32; 8];
        let refusal = |args: &mut [Arg<'_>]| device.launch(&pipeline, [2, 1, 1], args).unwrap_err();

        let read = || Arg::Read(TensorView::from_slice(&x, &[8]).unwrap());
        assert_eq!(
            refusal(&mut [read(), Arg::Scalar(1.0)]),
            LaunchError::ArgumentCount { kernel: "shift".to_string(), wanted: 3, got: 2 }
        );
        let mut cases: Vec<([Arg<'_>; 3], &str, &str)> = Vec::new();
        let out = TensorViewMut::from_slice(&mut y, &[8]).unwrap();
        cases.push(([Arg::Scalar(2.0), Arg::Scalar(1.0), Arg::Write(out)], "x", "the number 2"));
        let swapped = TensorViewMut::from_slice(&mut other, &[8]).unwrap();
        cases.push(([Arg::Write(swapped), Arg::Scalar(1.0), read()], "x", "an output f32[8]"));
        cases.push(([read(), read(), read()], "by", "f32[8]"));
        cases.push(([read(), Arg::Scalar(1.0), read()], "y", "f32[8]"));
        let wrong = Arg::Read(TensorView::from_slice(&ints, &[8]).unwrap());
        cases.push(([wrong, Arg::Scalar(1.0), read()], "x", "i32[8]"));
        let flat = TensorView::from_slice(&x, &[8]).unwrap().with_strides(&[2, 4], &[4, 1]).unwrap();
        cases.push(([Arg::Read(flat), Arg::Scalar(1.0), read()], "x", "f32[2, 4]"));
        for (mut args, name, given) in cases {
            match refusal(&mut args) {
                LaunchError::Argument { kernel, param, wanted, got } => {
                    assert_eq!((kernel.as_str(), param.as_str()), ("shift", name));
                    assert!(got.starts_with(given), "{got} is not {given}");
                    assert_eq!(wanted.starts_with("an output"), name == "y", "{wanted}");
                }
                error => panic!("another refusal: {error}"),
            }
        }
        assert_eq!((y, other), ([9.0; 8], [9.0; 8]));
    }
}

#[test]
fn a_kernel_that_needs_more_working_memory_than_a_thread_has_is_refused() {
    // 32 tiles of 64 MiB, all used again at the end.
    let tiles: String = (0..32).map(|i| format!("  %t{i} = load %x, %n{i}, %0 shape=[4096, 4096]\n")).collect();
    let origins: String = (0..32).map(|i| format!("  %n{i} = constant value={i} elem=i32\n")).collect();
    let uses: String = (0..32).map(|i| format!("  store %y, %t{i}, %0, %0\n")).collect();
    let again: String = (0..32).map(|i| format!("  store %y, %t{i}, %n1, %0\n")).collect();
    let text = format!(
        "kernel large(x: view<f32, 2>, out y: view<f32, 2>) {{\n  %0 = constant value=0 elem=i32\n{origins}{tiles}{uses}{again}}}"
    );
    for (name, device) in common::devices() {
        match device.compile(kernel(&text)).map(|_| ()) {
            Err(LaunchError::Unsupported { device, kernel, reason }) => {
                assert_eq!((device, kernel.as_str()), ("cpu", "large"));
                assert!(reason.contains("use smaller tiles"), "{reason}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_kernel_that_does_not_verify_is_refused_and_not_kept() {
    for device in all_devices() {
        let mut broken = kernel(SHIFT);
        broken.add_region(Kernel::BODY);
        match device.compile(broken).map(|_| ()) {
            Err(LaunchError::Kernel(found)) => assert!(found.to_string().contains("region 1"), "{found}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(device.cached_pipelines(), 0);
    }
}

#[test]
fn a_pipeline_of_another_device_is_refused() {
    let mut devices: Vec<Device> = common::on_every_isa().collect();
    devices.push(Device::interp());
    let x = [1f32; 25];
    for (i, from) in devices.iter().enumerate() {
        let pipeline = from.compile(kernel(PRODUCT)).unwrap();
        for (j, to) in devices.iter().enumerate() {
            let mut y = [9f32; 25];
            let mut args = [
                Arg::Read(TensorView::from_slice(&x, &[5, 5]).unwrap()),
                Arg::Write(TensorViewMut::from_slice(&mut y, &[5, 5]).unwrap()),
            ];
            let ran = to.launch(&pipeline, [1, 1, 1], &mut args);
            if i == j {
                assert_eq!((ran, y), (Ok(()), [5.0; 25]));
            } else {
                assert_eq!((ran, y), (Err(LaunchError::ForeignPipeline { kernel: "product".to_string() }), [9.0; 25]));
            }
        }
    }
}

#[test]
fn a_pipeline_runs_on_a_device_with_other_threads() {
    let (one, two) = (Device::cpu_with_threads(1), Device::cpu_with_threads(2));
    let pipeline = one.compile(kernel(PRODUCT)).unwrap();
    let x = Tensor::from_f64(tilewright_ir::Elem::F32, &[1.0; 25], &[5, 5]).unwrap();
    let mut y = Tensor::zeros(tilewright_ir::Elem::F32, &[5, 5]).unwrap();
    two.launch(&pipeline, [1, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap();
    assert_eq!(y.to_f64(), [5.0; 25]);
}

#[test]
fn a_grid_with_an_axis_that_no_program_id_counts_is_refused() {
    for device in all_devices() {
        let pipeline = device.compile(kernel(PRODUCT)).unwrap();
        let x = [1f32; 25];
        let mut y = [9f32; 25];
        let mut args = [
            Arg::Read(TensorView::from_slice(&x, &[5, 5]).unwrap()),
            Arg::Write(TensorViewMut::from_slice(&mut y, &[5, 5]).unwrap()),
        ];
        let longest = i32::MAX as u32;
        for grid in [[longest + 1, 1, 1], [1, u32::MAX, 1], [0, 0, u32::MAX], [u32::MAX; 3]] {
            assert_eq!(device.launch(&pipeline, grid, &mut args), Err(LaunchError::Grid { grid }));
        }
        assert_eq!(device.launch(&pipeline, [0, longest, longest], &mut args), Ok(()));
        assert_eq!(device.launch(&pipeline, [1, longest, 0], &mut args), Ok(()));
        assert_eq!(y, [9.0; 25], "a grid of zero runs nothing");
    }
}

#[test]
fn strides_of_axes_without_a_next_entry_may_be_anything() {
    for device in all_devices() {
        let pipeline = device.compile(kernel(SHIFT)).unwrap();
        for (shape, stride, programs, wanted) in [
            (1usize, usize::MAX, 1, [3.0, 9.0]),
            (1, isize::MAX as usize, 3, [3.0, 9.0]),
            (0, usize::MAX, 3, [9.0, 9.0]),
        ] {
            let x = [1f32, 7.0];
            let mut y = [9f32; 2];
            let x = TensorView::from_slice(&x, &[2]).unwrap().with_strides(&[shape], &[stride]).unwrap();
            let out = TensorViewMut::from_slice(&mut y, &[2]).unwrap().with_strides(&[shape], &[stride]).unwrap();
            let mut args = [Arg::Read(x), Arg::Scalar(2.0), Arg::Write(out)];
            assert_eq!(device.launch(&pipeline, [programs, 1, 1], &mut args), Ok(()), "{}", device.info().name);
            assert_eq!(y, wanted, "{}", device.info().isa);
        }
    }
}

#[test]
fn equal_kernels_share_a_pipeline() {
    for device in all_devices() {
        assert_eq!(device.cached_pipelines(), 0);
        device.compile(kernel(SHIFT)).unwrap();
        device.compile(kernel(SHIFT)).unwrap();
        device.clone().compile(kernel(&SHIFT.replace("%at", "%first"))).unwrap();
        device.compile(kernel(&format!("\n{}", SHIFT.replace('\n', "\n\n")))).unwrap(); // on other lines
        assert_eq!(device.cached_pipelines(), 1);
        device.compile(kernel(&SHIFT.replace("add", "sub"))).unwrap();
        assert_eq!(device.cached_pipelines(), 2);
    }
}

#[test]
fn a_known_key_is_not_traced_again_and_a_failure_is_not_kept() {
    let device = Device::cpu();
    let traced = AtomicUsize::new(0);
    let trace = |text: &str| {
        traced.fetch_add(1, Ordering::Relaxed);
        Ok::<Kernel, LaunchError>(kernel(text))
    };
    let refused = LaunchError::Failed { kernel: "shift".to_string(), reason: "not today".to_string() };
    assert_eq!(device.compile_keyed("shift", || Err(refused.clone())).map(|_| ()), Err(refused));
    for _ in 0..3 {
        let pipeline = device.compile_keyed("shift", || trace(SHIFT)).unwrap();
        assert_eq!(pipeline.kernel().name, "shift");
    }
    assert_eq!((traced.load(Ordering::Relaxed), device.cached_pipelines()), (1, 1));
    // Another key of the same kernel is traced and then finds the same pipeline.
    device.compile_keyed("shift again", || trace(SHIFT)).unwrap();
    assert_eq!((traced.load(Ordering::Relaxed), device.cached_pipelines()), (2, 1));
}

#[test]
fn launches_from_many_threads_do_not_disturb_one_another() {
    for (name, device) in common::devices() {
        let x: Vec<f32> = (0..103).map(|i| i as f32).collect();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (x, device, name) = (&x, device.clone(), &name);
                scope.spawn(move || {
                    for round in 0..25 {
                        let by = thread * 1000 + round;
                        let wanted: Vec<f32> = x.iter().map(|x| x + by as f32).collect();
                        assert_eq!(shift(&device, x, f64::from(by)), Ok(wanted), "{name}");
                    }
                });
            }
        });
        assert_eq!(device.cached_pipelines(), 1, "{name}");
    }
}

#[test]
fn a_scalar_is_rounded_to_its_element_type() {
    for device in all_devices() {
        let sum = shift(&device, &[0.0], 0.1).unwrap();
        assert_eq!(sum, [0.1f32], "{}", device.info().name);
    }
}

#[test]
fn a_launch_far_longer_than_the_last_one_wakes_the_other_threads_and_misses_nothing() {
    let device = Device::cpu_with_threads(3);
    for length in [8, 8, 8, 400_003, 8, 40_001] {
        let x: Vec<f32> = (0..length).map(|i| i as f32).collect();
        let wanted: Vec<f32> = x.iter().map(|x| x + 2.0).collect();
        assert_eq!(shift(&device, &x, 2.0), Ok(wanted), "{length} elements");
    }
}
