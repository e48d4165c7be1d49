//! One launch: tensors that the GPU can reach, the kernel's struct of numbers, and the call.

use super::CudaDevice;
use super::driver::Named;
use super::memory::{Buffer, Window};
use super::pipeline::{CudaPipeline, Facts, fact};
use super::stream::{Kept, Stream};
use crate::device::{Arg, Grid};
use crate::error::{DeviceError, LaunchError, OutOfReach};
use crate::tensor::{Layout, Memory, MemoryMut};
use cudarc::driver::result;
use std::ffi::c_void;
use std::sync::Arc;
use tilewright_compile::gpu::{ArgumentSlot, Arguments};
use tilewright_ir::{Elem, Kernel};

/// Programs along the second and third axis of a grid, at most.
const MOST: u32 = 65535;

/// Whether a launch waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Until the results are there.
    Yes,
    /// Not at all.
    No,
}

impl CudaDevice {
    /// Launches on a stream. Tensors in memory of the host are copied there and back, which only a launch that waits can do.
    pub fn launch(
        &self,
        pipeline: &CudaPipeline,
        kernel: &Kernel,
        stream: &Stream,
        grid: Grid,
        args: &mut [Arg<'_>],
        wait: Wait,
    ) -> Result<(), LaunchError> {
        if let Some(axis) = (1..3).find(|&axis| grid[axis] > MOST) {
            let kernel = kernel.name.to_string();
            return Err(LaunchError::GridAxis { kernel, device: "cuda", grid, axis, most: MOST });
        }
        if **pipeline.context() != **self.home().context() {
            return Err(LaunchError::ForeignPipeline { kernel: kernel.name.to_string() });
        }
        self.check_memory(kernel, stream, args, wait)?;
        if grid.contains(&0) {
            return Ok(()); // the driver refuses a grid without programs
        }
        let failed = |error| LaunchError::Device { kernel: kernel.name.to_string(), error };
        stream.context().bind_to_thread().named("cuCtxSetCurrent").map_err(failed)?;
        match wait {
            Wait::No => self.enqueue(pipeline, stream, grid, &places(args), args, failed),
            Wait::Yes => {
                stream.not_recording("a launch that waits").map_err(failed)?;
                let staged = stage(stream, args).map_err(failed)?;
                let places: Vec<Option<Place<'_>>> = args.iter().zip(&staged).map(place).collect();
                let enqueued = self.enqueue(pipeline, stream, grid, &places, args, failed);
                // What was put on the stream is waited for whatever came of it.
                let done = stream.synchronize().map_err(failed);
                enqueued.and(done)?;
                drop(places);
                copy_back(args, &staged).map_err(failed)
            }
        }
    }

    /// Refuses tensors that this launch cannot reach.
    fn check_memory(&self, kernel: &Kernel, stream: &Stream, args: &[Arg<'_>], wait: Wait) -> Result<(), LaunchError> {
        let refuse = |param: usize, memory| {
            let param = kernel.params[param].name.to_string(); // as many as arguments, checked before
            Err(LaunchError::Memory { kernel: kernel.name.to_string(), param, memory })
        };
        if **stream.context() != **self.home().context() {
            let error = DeviceError::Without { device: "cuda", what: "stream of another GPU" };
            return Err(LaunchError::Device { kernel: kernel.name.to_string(), error });
        }
        for (param, arg) in args.iter().enumerate() {
            match memory(arg) {
                Some(Memory::Cuda(window)) if **window.buffer().context() != **self.home().context() => {
                    return refuse(param, OutOfReach::OtherGpu);
                }
                Some(Memory::Host(_)) if wait == Wait::No => {
                    return refuse(param, OutOfReach::Host);
                }
                Some(Memory::Cuda(_) | Memory::Host(_)) | None => {}
            }
        }
        Ok(())
    }

    fn enqueue(
        &self,
        pipeline: &CudaPipeline,
        stream: &Stream,
        grid: Grid,
        places: &[Option<Place<'_>>],
        args: &[Arg<'_>],
        failed: impl Fn(DeviceError) -> LaunchError,
    ) -> Result<(), LaunchError> {
        let views = || places.iter().flatten();
        let facts = Facts::of(views().map(|place| fact(place.layout, place.window.address())));
        let compiling = "compiling a kernel for tensors of another alignment";
        let module = pipeline.module(self, facts, || stream.not_recording(compiling))?;
        let mut numbers = pack(pipeline.arguments(), args);
        let mut addresses: Vec<u64> = views().map(|place| place.window.address()).collect();
        let pointers = addresses.iter_mut().map(|address| (address as *mut u64).cast::<c_void>());
        let mut params: Vec<*mut c_void> = pointers.chain([numbers.as_mut_ptr().cast::<c_void>()]).collect();
        let source = &module.source;
        // SAFETY: the function takes a pointer for each view and the struct that `pack` wrote, in this order; all pointers are
        // to memory of this context that the launch may use, checked above, and that is not released before the stream comes
        // past this launch. A kernel reaches nothing outside of its views, whatever their content.
        let launched = unsafe {
            result::launch_kernel(
                module.function,
                (grid[0], grid[1], grid[2]),
                (source.threads, 1, 1),
                source.shared_bytes,
                stream.cuda().cu_stream(),
                &mut params,
            )
        };
        launched.named("cuLaunchKernel").map_err(failed)?;
        views().for_each(|place| place.window.buffer().used_on(stream));
        stream.keep(|kept| {
            kept.push(Kept::Module(module.clone()));
            kept.extend(views().map(|place| Kept::Buffer(place.window.buffer().clone())));
        });
        Ok(())
    }
}

/// A tensor where the GPU can reach it.
struct Place<'a> {
    layout: &'a Layout,
    window: Window<'a>,
}

fn memory<'a>(arg: &'a Arg<'_>) -> Option<Memory<'a>> {
    match arg {
        Arg::Read(tensor) => Some(tensor.memory),
        Arg::Write(tensor) => Some(tensor.memory.as_read()),
        Arg::Scalar(_) => None,
    }
}

fn layout<'a>(arg: &'a Arg<'_>) -> Option<&'a Layout> {
    match arg {
        Arg::Read(tensor) => Some(&tensor.layout),
        Arg::Write(tensor) => Some(&tensor.layout),
        Arg::Scalar(_) => None,
    }
}

/// The tensors of a launch without any in memory of the host.
fn places<'a>(args: &'a [Arg<'_>]) -> Vec<Option<Place<'a>>> {
    args.iter().map(|arg| place((arg, &None))).collect()
}

fn place<'a>((arg, staged): (&'a Arg<'_>, &'a Option<Arc<Buffer>>)) -> Option<Place<'a>> {
    let window = match (memory(arg)?, staged) {
        (Memory::Cuda(window), _) => window,
        (Memory::Host(_), Some(copy)) => copy.window(),
        (Memory::Host(_), None) => return None, // refused by `check_memory`
    };
    Some(Place { layout: layout(arg)?, window })
}

/// Copies of the tensors in memory of the host. Outputs too: what a kernel does not write keeps what it holds.
fn stage(stream: &Stream, args: &[Arg<'_>]) -> Result<Vec<Option<Arc<Buffer>>>, DeviceError> {
    let copy = |arg| {
        let (Some(Memory::Host(bytes)), Some(layout)) = (memory(arg), layout(arg)) else { return Ok(None) };
        let bytes = &bytes[..layout.span_bytes()];
        let buffer = Buffer::new(stream, bytes.len())?;
        buffer.window().upload(bytes)?;
        Ok(Some(buffer))
    };
    args.iter().map(copy).collect()
}

fn copy_back(args: &mut [Arg<'_>], staged: &[Option<Arc<Buffer>>]) -> Result<(), DeviceError> {
    for (arg, copy) in args.iter_mut().zip(staged) {
        if let (Arg::Write(tensor), Some(copy)) = (arg, copy) {
            let span = tensor.layout.span_bytes();
            if let MemoryMut::Host(bytes) = &mut tensor.memory {
                copy.window().download_to(&mut bytes[..span])?;
            }
        }
    }
    Ok(())
}

/// The kernel's struct `Args`, as words so that it is aligned. Written as bytes, in the order of this machine, which is that
/// of the GPU: CUDA exists on little-endian machines only.
fn pack(arguments: &Arguments, args: &[Arg<'_>]) -> Vec<u64> {
    let mut bytes = vec![0u8; arguments.bytes as usize];
    let mut put = |at: usize, number: &[u8]| {
        if let Some(to) = bytes.get_mut(at..at + number.len()) {
            to.copy_from_slice(number);
        }
    };
    for (param, arg) in arguments.params.iter().zip(args) {
        match (param.slot, layout(arg), arg) {
            (ArgumentSlot::View { rank, strides, lens, .. }, Some(layout), _) => {
                for axis in 0..usize::from(rank) {
                    put(strides as usize + 8 * axis, &(layout.stride(axis) as i64).to_ne_bytes());
                    put(lens as usize + 4 * axis, &(layout.shape[axis] as i32).to_ne_bytes()); // at most i32::MAX
                }
            }
            (ArgumentSlot::Scalar { elem, at }, _, Arg::Scalar(number)) => {
                put(at as usize, &scalar_bits(*number, elem).to_ne_bytes())
            }
            // The arguments were checked against the parameters.
            (ArgumentSlot::View { .. }, None, _) | (ArgumentSlot::Scalar { .. }, _, Arg::Read(_) | Arg::Write(_)) => {}
        }
    }
    let word = |bytes: &[u8]| u64::from_ne_bytes(std::array::from_fn(|i| bytes[i]));
    bytes.chunks_exact(8).map(word).collect()
}

/// A scalar rounded to its element type, as the `float`, `int` or `unsigned` that the kernel takes.
fn scalar_bits(number: f64, elem: Elem) -> u32 {
    let rounded = elem.from_bits(elem.to_bits(number));
    if elem.is_float() { (rounded as f32).to_bits() } else { rounded as i64 as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_compile::gpu::Argument;
    use tilewright_ir::Access;

    #[test]
    fn scalars_are_rounded_to_their_type_and_widened() {
        assert_eq!(scalar_bits(0.1, Elem::F32), 0.1f32.to_bits());
        assert_eq!(scalar_bits(1.0 + 1.0 / 256.0, Elem::Bf16), 1f32.to_bits());
        assert_eq!(scalar_bits(-3.0, Elem::I8), (-3i32) as u32);
        assert_eq!(scalar_bits(-3.0, Elem::I32), (-3i32) as u32);
        assert_eq!(scalar_bits(4294967295.0, Elem::U32), u32::MAX);
        assert_eq!(scalar_bits(5.0, Elem::Bool), 1);
        assert_eq!(scalar_bits(f64::NEG_INFINITY, Elem::F16), f32::NEG_INFINITY.to_bits());
    }

    #[test]
    fn strides_lengths_and_scalars_go_where_the_layout_says() {
        let view = |elem, rank, strides, lens| ArgumentSlot::View {
            pointer: 0,
            elem,
            rank,
            access: Access::Read,
            strides,
            lens,
        };
        let named = |name: &str, slot| Argument { name: name.to_string(), slot };
        let arguments = Arguments {
            params: vec![
                named("x", view(Elem::F32, 2, 0, 24)),
                named("n", ArgumentSlot::Scalar { elem: Elem::I32, at: 36 }),
                named("y", view(Elem::F16, 1, 16, 32)),
            ],
            bytes: 40,
        };
        let x = Layout::new(Elem::F32, &[3, 5], &[1 << 33, 1]).unwrap();
        let y = Layout::new(Elem::F16, &[1], &[77]).unwrap();
        let (tensor, mut out) = ([0f32; 1], [half::f16::ZERO; 1]);
        let args = [
            Arg::Read(crate::TensorView { layout: x, ..crate::TensorView::from_slice(&tensor, &[1]).unwrap() }),
            Arg::Scalar(-2.0),
            Arg::Write(crate::TensorViewMut { layout: y, ..crate::TensorViewMut::from_slice(&mut out, &[1]).unwrap() }),
        ];
        let bytes: Vec<u8> = pack(&arguments, &args).into_iter().flat_map(u64::to_ne_bytes).collect();
        let i64_at = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let i32_at = |at: usize| i32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!([i64_at(0), i64_at(8)], [1 << 33, 1]);
        assert_eq!(i64_at(16), 0, "the stride of an axis with one entry is 0, whatever the tensor was made with");
        assert_eq!([i32_at(24), i32_at(28), i32_at(32), i32_at(36)], [3, 5, 1, -2]);
    }
}
