//! The tensors of a launch where the GPU can reach them: those in memory of the host are copied there and back.

use crate::device::Arg;
use crate::error::{DeviceError, LaunchError, OutOfReach};
use crate::gpu::arguments::{layout, memory};
use crate::gpu::{Buffer, Wait, Window};
use crate::tensor::{Layout, Memory, MemoryMut};
use tilewright_ir::Kernel;

/// A tensor where the GPU can reach it. `W` is that GPU's window.
pub(crate) struct Place<'a, W> {
    pub layout: &'a Layout,
    pub window: W,
}

/// Refuses tensors that a launch cannot reach: in memory of a GPU for which `reaches` is false, and in memory of the host
/// where the launch does not wait. `args` are as many as the kernel has parameters.
pub(crate) fn check_memory(
    kernel: &Kernel,
    args: &[Arg<'_>],
    wait: Wait,
    reaches: impl Fn(Window<'_>) -> bool,
) -> Result<(), LaunchError> {
    for (param, arg) in kernel.params.iter().zip(args) {
        let refused = match memory(arg) {
            Some(Memory::Gpu(window)) if !reaches(window) => OutOfReach::OtherGpu,
            Some(Memory::Host(_)) if wait == Wait::No => OutOfReach::Host,
            Some(Memory::Gpu(_) | Memory::Host(_)) | None => continue,
        };
        let (kernel, param) = (kernel.name.to_string(), param.name.to_string());
        return Err(LaunchError::Memory { kernel, param, memory: refused });
    }
    Ok(())
}

/// Copies of the tensors in memory of the host, one entry an argument. Outputs too: what a kernel does not write keeps what
/// it holds.
pub(crate) fn stage(
    args: &[Arg<'_>],
    allocate: impl Fn(usize) -> Result<Buffer, DeviceError>,
) -> Result<Vec<Option<Buffer>>, DeviceError> {
    let copy = |arg| {
        let (Some(Memory::Host(bytes)), Some(layout)) = (memory(arg), layout(arg)) else { return Ok(None) };
        let bytes = &bytes[..layout.span_bytes()];
        let buffer = allocate(bytes.len())?;
        buffer.window().upload(bytes)?;
        Ok(Some(buffer))
    };
    args.iter().map(copy).collect()
}

/// The tensors of a launch, in order: where they lie, or their copies. `staged` may be empty where none lies in memory of the
/// host, and `of` gives the windows of this GPU; [`check_memory`] has refused others.
pub(crate) fn places<'a, W>(
    args: &'a [Arg<'_>],
    staged: &'a [Option<Buffer>],
    of: impl Fn(Window<'a>) -> Option<W>,
) -> Vec<Place<'a, W>> {
    let place = |(index, arg): (usize, &'a Arg<'_>)| {
        let window = match memory(arg)? {
            Memory::Gpu(window) => window,
            Memory::Host(_) => staged.get(index)?.as_ref()?.window(),
        };
        Some(Place { layout: layout(arg)?, window: of(window)? })
    };
    args.iter().enumerate().filter_map(place).collect()
}

/// Copies the outputs in memory of the host back to where they belong. Waits for the launch.
pub(crate) fn copy_back(args: &mut [Arg<'_>], staged: &[Option<Buffer>]) -> Result<(), DeviceError> {
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
