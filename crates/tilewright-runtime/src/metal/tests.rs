//! The device over the fake; on a Mac over its GPU, and without one each test says that it is skipped.

use crate::error::OutOfReach;
use crate::metal::MetalError;
use crate::{Arg, Device, DeviceError, DeviceKind, LaunchError, Tensor, TensorError, TensorView, TensorViewMut};
use tilewright_ir::op::{Control, Elementwise, Memory};
use tilewright_ir::{Access, Elem, Kernel, Shape, SiteId, Type};

const ROW: usize = 8;

/// Adds `x` to itself, rows of eight, one a program.
fn double(name: &'static str) -> Kernel {
    let mut kernel = Kernel::new(name);
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

fn device() -> Option<Device> {
    Device::metal().map_err(|absent| eprintln!("skipped: {absent}")).ok()
}

fn numbers(rows: usize) -> Tensor {
    let values: Vec<f64> = (0..rows * ROW).map(|i| i as f64).collect();
    Tensor::from_f64(Elem::F32, &values, &[rows, ROW]).unwrap()
}

/// The numbers of [`numbers`], times this.
fn times(factor: f64, rows: usize) -> Vec<f64> {
    (0..rows * ROW).map(|i| factor * i as f64).collect()
}

#[test]
fn every_thread_may_use_a_device_and_what_it_makes() {
    fn shared<T: Send + Sync>() {}
    shared::<(Device, crate::Pipeline, crate::DeviceTensor, crate::Stream, crate::Event)>();
}

#[test]
fn a_device_says_what_it_is() {
    let Some(device) = device() else { return };
    let info = device.info();
    assert_eq!((info.kind, info.name), (DeviceKind::Metal, "metal"));
    let metal = info.metal.unwrap();
    assert!(metal.family.starts_with("Apple ") && info.isa == metal.family, "{metal:?}");
    assert!(info.gpu.is_none() && metal.shared_bytes >= 32 << 10 && !metal.model.is_empty(), "{metal:?}");
    assert!(device.compile(double("doubled")).unwrap().listing().contains("#include <metal_stdlib>"));
}

#[test]
fn a_launch_gives_the_same_from_memory_of_the_host_and_of_the_gpu() {
    let Some(device) = device() else { return };
    let pipeline = device.compile(double("doubled")).unwrap();
    let x = numbers(4);
    let mut y = Tensor::zeros(Elem::F32, &[4, ROW]).unwrap();
    device.launch(&pipeline, [4, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap();
    assert_eq!(y.to_f64(), times(2.0, 4));
    let (x, mut y) = (device.upload(x.view()).unwrap(), device.zeros(Elem::F32, &[4, ROW]).unwrap());
    assert_eq!(x.download().unwrap().to_f64(), times(1.0, 4));
    assert_eq!(y.download().unwrap().to_f64(), [0.0; 4 * ROW]);
    device.launch(&pipeline, [4, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap();
    assert_eq!(y.download().unwrap().to_f64(), times(2.0, 4));
    let mut z = Tensor::zeros(Elem::F32, &[4, ROW]).unwrap();
    device.launch(&pipeline, [4, 1, 1], &mut [Arg::Read(y.view()), Arg::Write(z.view_mut())]).unwrap();
    assert_eq!(z.to_f64(), times(4.0, 4), "one of each");
}

#[test]
fn offsets_strides_and_what_is_not_written_are_honoured() {
    let Some(device) = device() else { return };
    let pipeline = device.compile(double("doubled")).unwrap();
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
    y.view_mut().window(1, &[1], &[1]).unwrap().copy_from_f64(&[7.0]).unwrap();
    assert_eq!(y.download().unwrap().to_f64()[..3], [-1.0, 7.0, -1.0]);
    let empty = device.zeros(Elem::F32, &[0, 4]).unwrap();
    assert_eq!(device.upload(empty.view()).unwrap().download().unwrap().to_f64(), []);
}

#[test]
fn what_did_not_wait_is_waited_for_by_whoever_copies_the_tensor() {
    let Some(device) = device() else { return };
    let pipeline = device.compile(double("doubled")).unwrap();
    let stream = device.stream().unwrap();
    let mut x = device.upload(numbers(2).view()).unwrap();
    let [mut y, mut z] = [0; 2].map(|_| device.zeros(Elem::F32, &[2, ROW]).unwrap());
    device.launch_async(stream, &pipeline, [2, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap();
    device.launch_async(stream, &pipeline, [2, 1, 1], &mut [Arg::Read(y.view()), Arg::Write(z.view_mut())]).unwrap();
    // Before `x` is overwritten, the launch that reads it is waited for.
    x.copy_from(Tensor::zeros(Elem::F32, &[2, ROW]).unwrap().view()).unwrap();
    drop(x);
    assert_eq!(z.download().unwrap().to_f64(), times(4.0, 2));
    assert_eq!(y.download().unwrap().to_f64(), times(2.0, 2));
}

#[test]
fn a_copy_on_a_stream_is_seen_by_what_comes_after_it_alone() {
    let Some(device) = device() else { return };
    let pipeline = device.compile(double("doubled")).unwrap();
    let stream = device.stream().unwrap();
    let mut x = device.upload(numbers(1).view()).unwrap();
    let [mut before, mut after] = [0; 2].map(|_| device.zeros(Elem::F32, &[1, ROW]).unwrap());
    let launch = |x: TensorView<'_>, y: TensorViewMut<'_>| {
        device.launch_async(stream, &pipeline, [1, 1, 1], &mut [Arg::Read(x), Arg::Write(y)]).unwrap();
    };
    launch(x.view(), before.view_mut());
    x.copy_from_on(stream, Tensor::from_f64(Elem::F32, &[5.0; ROW], &[1, ROW]).unwrap().view()).unwrap();
    launch(x.view(), after.view_mut());
    assert_eq!(after.download().unwrap().to_f64(), [10.0; ROW]);
    assert_eq!(before.download().unwrap().to_f64(), times(2.0, 1));
    assert_eq!(x.download().unwrap().to_f64(), [5.0; ROW]);
    let mut alone = device.zeros(Elem::U8, &[3]).unwrap();
    alone.copy_from_on(stream, TensorView::from_slice(&[1u8, 2, 3], &[3]).unwrap()).unwrap();
    assert_eq!(alone.download().unwrap().to_f64(), [1.0, 2.0, 3.0]);
}

#[test]
fn another_stream_is_ordered_by_an_event_and_timed() {
    let Some(device) = device() else { return };
    let pipeline = device.compile(double("doubled")).unwrap();
    let (one, two) = (device.stream().unwrap(), device.stream().unwrap().fork().unwrap());
    let x = device.upload(numbers(2).view()).unwrap();
    let [mut y, mut z] = [0; 2].map(|_| device.zeros(Elem::F32, &[2, ROW]).unwrap());
    let start = one.event().unwrap();
    device.launch_async(one, &pipeline, [2, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap();
    let end = one.event().unwrap();
    two.wait(&end).unwrap();
    device.launch_async(&two, &pipeline, [2, 1, 1], &mut [Arg::Read(y.view()), Arg::Write(z.view_mut())]).unwrap();
    assert_eq!(z.download().unwrap().to_f64(), times(4.0, 2));
    let time = end.since(&start).unwrap();
    assert!(time.as_secs_f64() > 0.0 && time.as_secs_f64() < 1.5, "{time:?}");
    assert_eq!(one.event().unwrap().since(&end).unwrap().as_nanos(), 0, "nothing was launched between them");
    assert_eq!(start.since(&end).unwrap().as_nanos(), 0, "the order is wrong");
    one.synchronize().unwrap();
    two.synchronize().unwrap();
}

#[test]
fn a_launch_that_does_not_wait_refuses_memory_of_the_host() {
    let Some(device) = device() else { return };
    let pipeline = device.compile(double("doubled")).unwrap();
    let (x, mut y) = (numbers(1), device.zeros(Elem::F32, &[1, ROW]).unwrap());
    let args = &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())];
    let refused = device.launch_async(device.stream().unwrap(), &pipeline, [1, 1, 1], args).unwrap_err();
    let LaunchError::Memory { param, memory: OutOfReach::Host, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(param, "x");
    let cpu = Device::cpu_with_threads(1);
    let x = device.upload(x.view()).unwrap();
    let mut y = Tensor::zeros(Elem::F32, &[1, ROW]).unwrap();
    let pipeline = cpu.compile(double("doubled")).unwrap();
    let refused = cpu.launch(&pipeline, [1, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap_err();
    assert!(matches!(refused, LaunchError::Memory { memory: OutOfReach::Gpu, .. }), "{refused:?}");
    let refused =
        device.launch(&pipeline, [1, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]).unwrap_err();
    assert!(matches!(refused, LaunchError::ForeignPipeline { .. }), "{refused:?}");
}

#[test]
fn threads_of_an_axis_are_counted_in_32_bits_and_an_empty_grid_runs_nothing() {
    let Some(device) = device() else { return };
    let pipeline = device.compile(double("doubled")).unwrap();
    let (x, mut y) = (numbers(1), Tensor::zeros(Elem::F32, &[1, ROW]).unwrap());
    let mut launch = |grid| device.launch(&pipeline, grid, &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]);
    let refused = launch([i32::MAX as u32, 1, 1]).unwrap_err();
    let LaunchError::GridAxis { axis: 0, most, device: "metal", .. } = refused else { panic!("{refused:?}") };
    assert!(((1 << 22) - 1..1 << 27).contains(&most), "{most} for 32 to 1024 threads");
    assert!(launch([1, 0, 1]).is_ok());
    assert_eq!(y.to_f64(), [0.0; ROW]);
}

#[test]
fn what_metal_does_not_have_is_refused_by_name() {
    let Some(device) = device() else { return };
    let without = |what| DeviceError::Without { device: "metal", what };
    let recorded = device.stream().unwrap().capture(|_| Ok::<_, DeviceError>(()));
    assert_eq!(recorded.err(), Some(without("graphs of recorded launches")));
    assert!(!device.stream().unwrap().can_record());
    // SAFETY: refused before anything is read.
    let borrowed = unsafe { device.borrow_gpu_memory(Elem::F32, &[1], 4096, Box::new(())) };
    assert_eq!(borrowed.map(|_| ()), Err(TensorError::Device(without("memory of an NVIDIA GPU"))));
    let huge = device.zeros(Elem::U8, &[i32::MAX as usize, 1 << 20]).map(|_| ());
    let limit = |error: &_| matches!(error, TensorError::Device(DeviceError::Metal(MetalError::Limit(_))));
    assert!(huge.as_ref().is_err_and(limit), "{huge:?}");
}

/// What only the fake can be made to do.
#[cfg(not(target_vendor = "apple"))]
mod failures {
    use super::*;
    use crate::DeviceTensor;

    #[test]
    fn a_source_that_the_compiler_refuses_is_an_error_with_its_words() {
        let Err(error) = device().unwrap().compile(double("refused")) else { panic!("it was compiled") };
        assert_eq!(error.to_string(), "`refused`: the Metal compiler refused it: error: refused");
    }

    #[test]
    fn a_kernel_that_is_too_large_for_the_gpu_is_unsupported() {
        let Err(error) = device().unwrap().compile(double("many_registers")) else { panic!("it was compiled") };
        assert!(matches!(&error, LaunchError::Unsupported { device: "metal", .. }), "{error:?}");
        assert!(error.to_string().contains("registers for 16; take smaller tiles"), "{error}");
    }

    #[test]
    fn a_failure_on_the_gpu_is_said_by_whoever_waits() {
        let device = device().unwrap();
        let pipeline = device.compile(double("fails")).unwrap();
        let (x, mut y) = (numbers(1), Tensor::zeros(Elem::F32, &[1, ROW]).unwrap());
        let launched = device.launch(&pipeline, [1, 1, 1], &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())]);
        let failed = LaunchError::Failed { kernel: "fails".into(), reason: "a page fault".into() };
        assert_eq!(launched, Err(failed));

        let (x, mut y) = (device.upload(x.view()).unwrap(), device.zeros(Elem::F32, &[1, ROW]).unwrap());
        let stream = device.stream().unwrap().fork().unwrap();
        let args = &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())];
        device.launch_async(&stream, &pipeline, [1, 1, 1], args).unwrap();
        let after = stream.event().unwrap();
        let failed = DeviceError::Metal(MetalError::Failed { what: "fails".into(), message: "a page fault".into() });
        assert_eq!(after.synchronize(), Err(failed.clone()));
        assert_eq!(stream.synchronize(), Err(failed.clone()));
        assert_eq!(stream.synchronize(), Ok(()), "it was said");
        assert_eq!(y.download().map(|_| ()), Err(TensorError::Device(failed)));
    }

    fn page_fault() -> DeviceError {
        DeviceError::Metal(MetalError::Failed { what: "fails".into(), message: "a page fault".into() })
    }

    /// Submits one program of the kernel of this name.
    fn submit(device: &Device, name: &'static str, x: &DeviceTensor, y: &mut DeviceTensor) -> Result<(), LaunchError> {
        let pipeline = device.compile(double(name)).unwrap();
        let args = &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())];
        device.launch_async(device.stream().unwrap(), &pipeline, [1, 1, 1], args)
    }

    fn tensors<const N: usize>(device: &Device) -> [DeviceTensor; N] {
        [0; N].map(|_| device.upload(numbers(1).view()).unwrap())
    }

    #[test]
    fn what_a_failed_launch_writes_is_undefined_until_it_is_overwritten() {
        let device = device().unwrap();
        let [x, mut y, mut z] = tensors(&device);
        let content = |tensor: &DeviceTensor| tensor.download().map(|tensor| tensor.to_f64());
        let undefined = Err(TensorError::Device(page_fault()));
        submit(&device, "fails", &x, &mut y).unwrap();
        assert_eq!([content(&y), content(&y)], [undefined.clone(), undefined.clone()]);
        assert_eq!(content(&x), Ok(times(1.0, 1)), "it was only read");
        assert_eq!(submit(&device, "doubled", &x, &mut y), Ok(()));
        assert_eq!(content(&y), undefined, "a kernel may leave elements as they were");
        // A part is no whole.
        y.view_mut().window(0, &[1], &[1]).unwrap().copy_from_f64(&[1.0]).unwrap_err();
        assert_eq!(content(&y), undefined);
        y.copy_from(numbers(1).view()).unwrap();
        assert_eq!(content(&y), Ok(times(1.0, 1)));
        submit(&device, "fails", &x, &mut y).unwrap();
        y.copy_from_on(device.stream().unwrap(), numbers(1).view()).unwrap();
        submit(&device, "doubled", &y, &mut z).unwrap();
        assert_eq!((content(&y), content(&z)), (Ok(times(1.0, 1)), Ok(times(2.0, 1))));
    }

    #[test]
    fn a_launch_that_reads_what_a_failed_one_wrote_fails() {
        let device = device().unwrap();
        let pipeline = device.compile(double("doubled")).unwrap();
        let [x, mut y, mut z, mut last] = tensors(&device);
        submit(&device, "fails", &x, &mut y).unwrap();
        // Nobody knows of the failure yet.
        submit(&device, "doubled", &y, &mut z).unwrap();
        submit(&device, "doubled", &z, &mut last).unwrap();
        let mut out = Tensor::zeros(Elem::F32, &[1, ROW]).unwrap();
        let mut launch =
            |x: TensorView<'_>| device.launch(&pipeline, [1, 1, 1], &mut [Arg::Read(x), Arg::Write(out.view_mut())]);
        let because = MetalError::Failed { what: "fails".into(), message: "a page fault".into() };
        let error = MetalError::Undefined { param: "x".into(), because: Box::new(because) }.into();
        let refused = Err(LaunchError::Device { kernel: "doubled".into(), error });
        assert_eq!(launch(y.view()), refused);
        assert_eq!(launch(y.view()), refused, "once it is known");
        assert_eq!(submit(&device, "doubled", &last, &mut z), refused);
        for tensor in [&z, &last] {
            assert_eq!(tensor.download().map(|_| ()), Err(TensorError::Device(page_fault())));
        }
        assert_eq!(launch(x.view()), Ok(()));
        assert_eq!(out.to_f64(), times(2.0, 1));
    }

    #[test]
    fn what_a_failed_launch_only_read_can_be_overwritten() {
        let device = device().unwrap();
        let [mut x, mut y] = tensors(&device);
        submit(&device, "fails", &x, &mut y).unwrap();
        assert_eq!(x.copy_from(Tensor::zeros(Elem::F32, &[1, ROW]).unwrap().view()), Ok(()));
        assert_eq!(x.download().unwrap().to_f64(), [0.0; ROW]);
    }

    #[test]
    fn the_failure_of_a_launch_that_waited_is_said_once() {
        let device = device().unwrap();
        let pipeline = device.compile(double("fails")).unwrap();
        let [x, mut y] = tensors(&device);
        let args = &mut [Arg::Read(x.view()), Arg::Write(y.view_mut())];
        let failed = LaunchError::Failed { kernel: "fails".into(), reason: "a page fault".into() };
        assert_eq!(device.launch(&pipeline, [1, 1, 1], args), Err(failed));
        assert_eq!(device.stream().unwrap().synchronize(), Ok(()));
        assert_eq!(y.download().map(|_| ()), Err(TensorError::Device(page_fault())));
    }

    #[test]
    fn nobody_is_held_up_while_another_thread_waits_for_the_gpu() {
        use crate::metal::fake::HELD;
        use std::{sync::mpsc, thread, time::Duration};
        let device = &device().unwrap();
        let [x, mut y, mut z] = tensors(device);
        let x = &x;
        submit(device, "held", x, &mut y).unwrap();
        thread::scope(|scope| {
            // One waits for the stream, and then one for a tensor that the launch reads.
            scope.spawn(|| device.stream().unwrap().synchronize().unwrap());
            HELD.wait(); // the kernel has begun
            scope.spawn(|| x.download().unwrap());
            thread::sleep(Duration::from_millis(20));
            let (done, is_done) = mpsc::channel();
            scope.spawn(move || {
                let stream = device.stream().unwrap();
                submit(device, "doubled", x, &mut z).unwrap();
                let event = stream.event().unwrap();
                stream.wait(&event).unwrap();
                done.send(()).unwrap();
            });
            let was_done = is_done.recv_timeout(Duration::from_secs(5));
            HELD.wait(); // and may end
            assert_eq!(was_done, Ok(()));
        });
    }

    #[test]
    fn one_text_is_compiled_once_a_device() {
        use crate::metal::MetalDevice;
        use std::sync::Arc;
        use tilewright_compile::gpu::Access16;
        let device = MetalDevice::open().unwrap();
        let program = |name| {
            let kernel = tilewright_compile::pass::run_gpu(double(name), None).unwrap();
            let source = tilewright_compile::gpu::compile(&kernel, &device.target, &[Access16::Any; 2]).unwrap();
            device.programs.get_or_compile(&device.gpu, &source).unwrap()
        };
        assert!(Arc::ptr_eq(&program("doubled"), &program("doubled")));
        assert!(!Arc::ptr_eq(&program("doubled"), &program("other")));
    }
}
