//! One launch: tensors that the GPU can reach, the kernel's struct of numbers, and the commands.

use super::in_flight::{Submitted, wait_for};
use super::pipeline::MetalPipeline;
use super::{Command, MetalDevice, MetalError, Stream, Window};
use crate::device::{Arg, Grid};
use crate::error::{DeviceError, LaunchError};
use crate::gpu::arguments::pack;
use crate::gpu::facts::{Facts, fact};
use crate::gpu::{self, Wait, staging};
use tilewright_compile::gpu::ArgumentSlot;
use tilewright_ir::{Access, Kernel};

/// A tensor where the GPU can reach it.
type Place<'a> = staging::Place<'a, Window<'a>>;

/// A launch that was submitted.
struct Launched {
    submitted: Submitted,
    /// For each parameter that it reads, on what the content depends.
    inputs: Vec<(String, Vec<Submitted>)>,
}

impl MetalDevice {
    /// Launches on a stream. Tensors in memory of the host are copied to buffers and back, which only a launch that waits can
    /// do.
    pub fn launch(
        &self,
        pipeline: &MetalPipeline,
        kernel: &Kernel,
        stream: &Stream,
        grid: Grid,
        args: &mut [Arg<'_>],
        wait: Wait,
    ) -> Result<(), LaunchError> {
        // Metal counts the threads of an axis in 32 bits; they lie along the first one.
        let most = u32::MAX / pipeline.source().threads;
        if grid[0] > most {
            let kernel = kernel.name.to_string();
            return Err(LaunchError::GridAxis { kernel, device: "metal", grid, axis: 0, most });
        }
        // All devices of a process have the same GPU.
        staging::check_memory(kernel, args, wait, |window| window.metal().is_some())?;
        if grid.contains(&0) {
            return Ok(()); // Metal refuses a grid without threadgroups
        }
        let failed = |error| LaunchError::Device { kernel: kernel.name.to_string(), error };
        match wait {
            Wait::No => self.submit(pipeline, stream, grid, &places(args, &[]), args, failed).map(|_| ()),
            Wait::Yes => {
                let staged = staging::stage(args, |bytes| Ok(gpu::Buffer::Metal(self.allocate(bytes)?)));
                let staged = staged.map_err(failed)?;
                let launched = self.submit(pipeline, stream, grid, &places(args, &staged), args, failed)?;
                let outcome = launched.submitted.wait();
                stream.forget(launched.submitted);
                outcome.map_err(|error| match error {
                    MetalError::Failed { message, .. } => {
                        LaunchError::Failed { kernel: kernel.name.to_string(), reason: message }
                    }
                    error => failed(error.into()),
                })?;
                for (param, sources) in &launched.inputs {
                    wait_for(sources).map_err(|error| failed(undefined(param, error).into()))?;
                }
                staging::copy_back(args, &staged).map_err(failed)
            }
        }
    }

    /// Refuses a tensor to read whose content is known to be undefined. Where that is not known yet, what is written from it
    /// becomes undefined with it.
    fn submit(
        &self,
        pipeline: &MetalPipeline,
        stream: &Stream,
        grid: Grid,
        places: &[Place<'_>],
        args: &[Arg<'_>],
        failed: impl Fn(DeviceError) -> LaunchError,
    ) -> Result<Launched, LaunchError> {
        let facts = Facts::of(places.iter().map(|place| fact(place.layout, place.window.offset() as u64)));
        let library = pipeline.library(self, facts)?;
        let views = library.source.arguments.params.iter().filter_map(|param| match param.slot {
            ArgumentSlot::View { access, .. } => Some((&param.name, access)),
            ArgumentSlot::Scalar { .. } => None,
        });
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for ((name, access), place) in views.zip(places) {
            match access {
                Access::Read => inputs.push((name.to_string(), place.window.buffer().sources())),
                Access::Write => outputs.push(place.window.buffer()),
            }
        }
        for (param, sources) in &inputs {
            if let Some(error) = sources.iter().find_map(|source| source.outcome()?.err()) {
                return Err(failed(undefined(param, error).into()));
            }
        }
        let tensors: Vec<_> =
            places.iter().map(|place| (place.window.buffer().memory(), place.window.offset())).collect();
        let command = Command::Launch {
            program: &library.program,
            grid: grid.map(|programs| programs as usize),
            threads: library.source.threads as usize,
            tensors: &tensors,
            numbers: &pack(&library.source.arguments, args),
        };
        // SAFETY: the program takes a pointer for each view and the struct that `pack` wrote, in this order, checked against
        // the kernel's parameters before; a kernel reaches nothing outside of its views, whatever their content. The tensors
        // are borrowed, and whoever copies them later waits for what `used_by` names.
        let submitted = unsafe { stream.submit(command, &library.name) }.map_err(|error| failed(error.into()))?;
        places.iter().for_each(|place| place.window.buffer().used_by(&submitted));
        for output in outputs {
            inputs.iter().for_each(|(_, sources)| output.written_by(sources));
            output.written_by(std::slice::from_ref(&submitted));
        }
        Ok(Launched { submitted, inputs })
    }
}

/// What this parameter's tensor depends on failed.
fn undefined(param: &str, error: MetalError) -> MetalError {
    MetalError::Undefined { param: param.to_string(), because: Box::new(error) }
}

fn places<'a>(args: &'a [Arg<'_>], staged: &'a [Option<gpu::Buffer>]) -> Vec<Place<'a>> {
    staging::places(args, staged, gpu::Window::metal)
}
