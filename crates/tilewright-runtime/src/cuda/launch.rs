//! One launch: tensors that the GPU can reach, the kernel's struct of numbers, and the call.

use super::CudaDevice;
use super::driver::Named;
use super::memory::{Buffer, Window};
use super::pipeline::CudaPipeline;
use super::stream::{Kept, Stream};
use crate::device::{Arg, Grid};
use crate::error::{DeviceError, LaunchError};
use crate::gpu::arguments::pack;
use crate::gpu::facts::{Facts, fact};
use crate::gpu::{self, Wait, staging};
use cudarc::driver::result;
use std::ffi::c_void;
use tilewright_ir::Kernel;

/// A tensor where the GPU can reach it.
type Place<'a> = staging::Place<'a, Window<'a>>;

/// Programs along the second and third axis of a grid, at most.
const MOST: u32 = 65535;

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
            Wait::No => self.enqueue(pipeline, stream, grid, &places(args, &[]), args, failed),
            Wait::Yes => {
                stream.not_recording("a launch that waits").map_err(failed)?;
                let staged = staging::stage(args, |bytes| Ok(gpu::Buffer::Cuda(Buffer::new(stream, bytes)?)));
                let staged = staged.map_err(failed)?;
                let places = places(args, &staged);
                let enqueued = self.enqueue(pipeline, stream, grid, &places, args, failed);
                // What was put on the stream is waited for whatever came of it.
                let done = stream.synchronize().map_err(failed);
                enqueued.and(done)?;
                drop(places);
                staging::copy_back(args, &staged).map_err(failed)
            }
        }
    }

    /// Refuses a stream and tensors that this launch cannot reach.
    fn check_memory(&self, kernel: &Kernel, stream: &Stream, args: &[Arg<'_>], wait: Wait) -> Result<(), LaunchError> {
        if **stream.context() != **self.home().context() {
            let error = DeviceError::Without { device: "cuda", what: "stream of another GPU" };
            return Err(LaunchError::Device { kernel: kernel.name.to_string(), error });
        }
        staging::check_memory(kernel, args, wait, |window| {
            window.cuda().is_some_and(|window| **window.buffer().context() == **self.home().context())
        })
    }

    fn enqueue(
        &self,
        pipeline: &CudaPipeline,
        stream: &Stream,
        grid: Grid,
        places: &[Place<'_>],
        args: &[Arg<'_>],
        failed: impl Fn(DeviceError) -> LaunchError,
    ) -> Result<(), LaunchError> {
        let facts = Facts::of(places.iter().map(|place| fact(place.layout, place.window.address())));
        let compiling = "compiling a kernel for tensors of another alignment";
        let module = pipeline.module(self, facts, || stream.not_recording(compiling))?;
        let mut numbers = pack(pipeline.arguments(), args);
        let mut addresses: Vec<u64> = places.iter().map(|place| place.window.address()).collect();
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
        places.iter().for_each(|place| place.window.buffer().used_on(stream));
        stream.keep(|kept| {
            kept.push(Kept::Module(module.clone()));
            kept.extend(places.iter().map(|place| Kept::Buffer(place.window.buffer().clone())));
        });
        Ok(())
    }
}

fn places<'a>(args: &'a [Arg<'_>], staged: &'a [Option<gpu::Buffer>]) -> Vec<Place<'a>> {
    staging::places(args, staged, gpu::Window::cuda)
}
