//! NVIDIA GPUs. Without one, what is said instead is checked; what needs one is skipped with a printed line.

use tilewright_compile::gpu::{Access16, Dialect, Target, compile};
use tilewright_ir::op::{Control, Elementwise, Memory};
use tilewright_ir::{Access, Elem, Kernel, Shape, SiteId, Type};
use tilewright_runtime::cuda;
use tilewright_runtime::{Arg, Device, DeviceError, LaunchError, Stream, Tensor, TensorView, TensorViewMut};

const ROW: usize = 8;

/// Adds `x` to itself, rows of eight, one a program.
fn double() -> Kernel {
    let mut kernel = Kernel::new("doubled");
    let site = SiteId(0);
    let view = Type::View { elem: Elem::F32, rank: 2 };
    let x = kernel.add_param("x", view, Access::Read, site);
    let y = kernel.add_param("y", view, Access::Write, site);
    let mut push = |op, operands: &[_]| kernel.push(Kernel::BODY, op, operands, site).unwrap();
    let id = push(Control::ProgramId { axis: 0 }.into(), &[])[0];
    let column = push(Control::ProgramId { axis: 1 }.into(), &[])[0];
    let tile = push(Memory::Load { shape: Shape::new(&[1, ROW]).unwrap() }.into(), &[x, id, column])[0];
    let sum = push(Elementwise::Add.into(), &[tile, tile])[0];
    push(Memory::Store.into(), &[y, sum, id, column]);
    kernel
}

/// The first GPU; where there is none, the reason on the terminal.
fn gpu() -> Option<Device> {
    Device::cuda(0).map_err(|absent| eprintln!("skipped: {absent}")).ok()
}

fn numbers(rows: usize) -> Tensor {
    let values: Vec<f64> = (0..rows * ROW).map(|i| i as f64).collect();
    Tensor::from_f64(Elem::F32, &values, &[rows, ROW]).unwrap()
}

fn doubled(rows: usize) -> Vec<f64> {
    (0..rows * ROW).map(|i| 2.0 * i as f64).collect()
}

#[test]
fn an_absent_gpu_is_a_typed_error_that_says_what_to_do() {
    let Err(error) = Device::cuda(1000) else { panic!("there is no GPU of that number") };
    match (&error, cuda::gpus()) {
        (DeviceError::NoCudaDriver, Err(DeviceError::NoCudaDriver)) => {
            assert!(error.to_string().contains("install the NVIDIA driver"), "{error}")
        }
        (DeviceError::NoDevice { ordinal: 1000, found }, Ok(gpus)) => assert_eq!(*found, gpus.len()),
        (error, gpus) => panic!("{error:?}, {gpus:?}"),
    }
}

#[test]
fn a_kernel_compiles_for_every_architecture_and_any_alignment_without_a_gpu() {
    if let Err(absent) = cuda::nvrtc_version() {
        return eprintln!("skipped: {absent}");
    }
    let kernel = tilewright_compile::pass::run_gpu(double(), None).unwrap();
    for (compute, shared_bytes) in [(80, 163 << 10), (90, 227 << 10), (120, 99 << 10)] {
        for fact in [Access16::Any, Access16::Aligned] {
            let target = Target { dialect: Dialect::Cuda, compute, shared_bytes };
            let source = compile(&kernel, &target, &[fact; 2]).unwrap();
            let cubin = cuda::compile_cubin(&source, compute).unwrap();
            assert!(cubin.bytes.starts_with(b"\x7fELF") && cubin.resources.registers > 0, "{compute} {fact:?}");
        }
    }
}

#[test]
fn what_only_a_gpu_has_is_refused_by_others() {
    let device = Device::cpu_with_threads(1);
    let error = DeviceError::Without { device: "cpu", what: "streams" };
    assert_eq!(device.stream().err(), Some(error));
}

#[test]
fn a_tensor_of_the_cpu_is_used_where_it_lies() {
    let device = Device::cpu_with_threads(1);
    let pipeline = device.compile(double()).unwrap();
    let x = device.upload(numbers(3).view()).unwrap();
    let mut y = device.zeros(Elem::F32, &[3, ROW]).unwrap();
    device.launch(&pipeline, [3, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap();
    assert_eq!(y.download().unwrap().to_f64(), doubled(3));
    y.copy_from(x.view()).unwrap();
    assert_eq!(y.download().unwrap().to_f64(), numbers(3).to_f64());
    let refused = y.copy_from(numbers(2).view()).unwrap_err();
    assert_eq!(refused.to_string(), "a tensor f32[2, 8] cannot be copied to one f32[3, 8]");
}

#[test]
fn a_tensor_survives_the_way_to_the_gpu_and_back() {
    let Some(device) = gpu() else { return };
    let x = device.upload(numbers(5).view()).unwrap();
    assert_eq!(x.download().unwrap().to_f64(), numbers(5).to_f64());
    // Turned, from element 1 on.
    let part = x.view().window(1, &[ROW, 2], &[1, ROW]);
    assert!(matches!(part, Ok(ref part) if part.host_bytes().is_none()));
    let part = x.view().window(1, &[3, 2], &[1, ROW]).unwrap();
    assert_eq!(part.to_f64().unwrap(), [1.0, 9.0, 2.0, 10.0, 3.0, 11.0]);
    assert_eq!(device.upload(part).unwrap().download().unwrap().to_f64(), part.to_f64().unwrap());
    let mut zeros = device.zeros(Elem::F16, &[3]).unwrap();
    assert_eq!(zeros.download().unwrap().to_f64(), [0.0; 3]);
    zeros.view_mut().window(1, &[1], &[1]).unwrap().copy_from_f64(&[7.0]).unwrap();
    assert_eq!(zeros.download().unwrap().to_f64(), [0.0, 7.0, 0.0]);
    assert_eq!(device.zeros(Elem::F32, &[0, 4]).unwrap().download().unwrap().to_f64(), []);
}

#[test]
fn tensors_of_a_gpu_are_refused_by_the_host_devices() {
    let Some(gpu) = gpu() else { return };
    let x = gpu.upload(numbers(1).view()).unwrap();
    for device in [Device::cpu_with_threads(1), Device::interp()] {
        let pipeline = device.compile(double()).unwrap();
        let mut y = Tensor::zeros(Elem::F32, &[1, ROW]).unwrap();
        let args = &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())];
        let refused = device.launch(&pipeline, [1, 1, 1], args).unwrap_err();
        assert!(matches!(&refused, LaunchError::Memory { param, .. } if param == "x"), "{refused:?}");
    }
}

#[test]
fn a_launch_on_the_gpu_gives_the_same_from_host_and_gpu_memory() {
    let Some(device) = gpu() else { return };
    let pipeline = device.compile(double()).unwrap();
    assert!(pipeline.resources().unwrap().registers > 0);
    let x = numbers(4);
    let mut y = Tensor::zeros(Elem::F32, &[4, ROW]).unwrap();
    device.launch(&pipeline, [4, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap();
    assert_eq!(y.to_f64(), doubled(4));
    let (x, mut y) = (device.upload(x.view()).unwrap(), device.zeros(Elem::F32, &[4, ROW]).unwrap());
    device.launch(&pipeline, [4, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap();
    assert_eq!(y.download().unwrap().to_f64(), doubled(4));
}

#[test]
fn offsets_strides_and_what_is_not_written_are_honoured_on_the_gpu() {
    let Some(device) = gpu() else { return };
    let pipeline = device.compile(double()).unwrap();
    // Odd strides and an odd start: nothing is aligned to 16 bytes, so the kernel is compiled a second time.
    let x: Vec<f32> = (0..40).map(|i| i as f32).collect();
    let mut y = [-1f32; 40];
    let expected: Vec<f32> = (0..40)
        .map(|i| match (i as usize).checked_sub(3).map(|at| (at / 11, at % 11)) {
            Some((row, column)) if row < 3 && column < ROW => 2.0 * (1 + 9 * row + column) as f32,
            _ => -1.0,
        })
        .collect();
    let view = TensorView::from_slice(&x, &[40]).unwrap().window(1, &[3, ROW], &[9, 1]).unwrap();
    let out = TensorViewMut::from_slice(&mut y, &[40]).unwrap().window(3, &[3, ROW], &[11, 1]).unwrap();
    device.launch(&pipeline, [3, 1, 1], &mut [Arg::Read(view), Arg::Write(out)]).unwrap();
    assert_eq!(y.as_slice(), expected);
    let x = device.upload(TensorView::from_slice(&x, &[40]).unwrap()).unwrap();
    let mut y = device.upload(TensorView::from_slice(&[-1f32; 40], &[40]).unwrap()).unwrap();
    let view = x.view().window(1, &[3, ROW], &[9, 1]).unwrap();
    let out = y.view_mut().window(3, &[3, ROW], &[11, 1]).unwrap();
    device.launch(&pipeline, [3, 1, 1], &mut [Arg::Read(view), Arg::Write(out)]).unwrap();
    assert_eq!(y.download().unwrap().to_vec::<f32>().unwrap(), expected);
}

#[test]
fn a_launch_that_does_not_wait_takes_memory_of_the_gpu_alone() {
    let Some(device) = gpu() else { return };
    let pipeline = device.compile(double()).unwrap();
    let stream = device.stream().unwrap();
    let mut y = device.zeros(Elem::F32, &[1, ROW]).unwrap();
    let x = numbers(1);
    let args = &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())];
    let refused = device.launch_async(stream, &pipeline, [1, 1, 1], args).unwrap_err();
    assert!(matches!(&refused, LaunchError::Memory { param, .. } if param == "x"), "{refused:?}");
    let x = device.upload(x.view()).unwrap();
    device.launch_async(stream, &pipeline, [1, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap();
    drop(x);
    assert_eq!(y.download().unwrap().to_f64(), doubled(1));
}

#[test]
fn a_grid_that_the_gpu_cannot_run_is_refused() {
    let Some(device) = gpu() else { return };
    let pipeline = device.compile(double()).unwrap();
    let (x, mut y) = (numbers(1), Tensor::zeros(Elem::F32, &[1, ROW]).unwrap());
    let mut launch = |grid| device.launch(&pipeline, grid, &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]);
    let refused = launch([1, 65536, 1]).unwrap_err();
    assert!(matches!(refused, LaunchError::GridAxis { axis: 1, most: 65535, .. }), "{refused:?}");
    assert!(launch([1, 1, 0]).is_ok(), "a grid without programs runs none");
    assert_eq!(y.to_f64(), [0.0; ROW]);
}

#[test]
fn another_stream_is_ordered_by_an_event_and_timed() {
    let Some(device) = gpu() else { return };
    let pipeline = device.compile(double()).unwrap();
    let (one, two): (&Stream, Stream) = (device.stream().unwrap(), device.stream().unwrap().fork().unwrap());
    let x = device.upload(numbers(2).view()).unwrap();
    let [mut y, mut z] = [0; 2].map(|_| device.zeros(Elem::F32, &[2, ROW]).unwrap());
    let start = one.event().unwrap();
    device.launch_async(one, &pipeline, [2, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap();
    let end = one.event().unwrap();
    two.wait(&end).unwrap();
    device.launch_async(&two, &pipeline, [2, 1, 1], &mut [Arg::Read(y.view()), Arg::Write(z.view_mut())]).unwrap();
    let expected: Vec<f64> = doubled(2).iter().map(|x| 2.0 * x).collect();
    // The copy waits for the second stream although it is put on the first.
    assert_eq!(z.download().unwrap().to_f64(), expected);
    let time = end.since(&start).unwrap();
    assert!(time.as_secs_f64() > 0.0 && time.as_secs_f64() < 1.0, "{time:?}");
}

#[test]
fn a_recorded_graph_runs_again_on_new_numbers_and_keeps_its_memory() {
    let Some(device) = gpu() else { return };
    let pipeline = device.compile(double()).unwrap();
    let stream = device.stream().unwrap();
    let mut x = device.zeros(Elem::F32, &[2, ROW]).unwrap();
    let [mut y, mut between] = [0; 2].map(|_| device.zeros(Elem::F32, &[2, ROW]).unwrap());
    let recorded = stream.capture(|stream| {
        let args = &mut [Arg::Read(x.view()), Arg::Write(between.view_mut())];
        device.launch_async(stream, &pipeline, [2, 1, 1], args)?;
        device.launch_async(stream, &pipeline, [2, 1, 1], &mut [Arg::Read(between.view()), Arg::Write(y.view_mut())])
    });
    let graph = recorded.unwrap();
    drop((between, pipeline));
    assert_eq!(y.download().unwrap().to_f64(), [0.0; 2 * ROW], "nothing ran while it was recorded");
    for round in 1..3 {
        let values: Vec<f64> = (0..2 * ROW).map(|i| (round * i) as f64).collect();
        x.copy_from(Tensor::from_f64(Elem::F32, &values, &[2, ROW]).unwrap().view()).unwrap();
        graph.launch(stream).unwrap();
        let expected: Vec<f64> = values.iter().map(|x| 4.0 * x).collect();
        assert_eq!(y.download().unwrap().to_f64(), expected, "round {round}");
    }
}

#[test]
fn the_host_takes_less_than_10_us_for_a_launch() {
    let Some(device) = gpu() else { return };
    let pipeline = device.compile(double()).unwrap();
    let stream = device.stream().unwrap();
    let x = device.upload(numbers(1).view()).unwrap();
    let mut y = device.zeros(Elem::F32, &[1, ROW]).unwrap();
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let start = std::time::Instant::now();
        for _ in 0..50 {
            let args = &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())];
            device.launch_async(stream, &pipeline, [1, 1, 1], args).unwrap();
        }
        best = best.min(start.elapsed().as_secs_f64() / 50.0);
        stream.synchronize().unwrap();
    }
    eprintln!("{:.2} us a launch", best * 1e6);
    assert!(best < 10e-6, "{best}");
}
