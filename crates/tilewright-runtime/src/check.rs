//! What is asked of a launch's arguments before a device sees them.

use crate::device::Arg;
use crate::error::{LaunchError, OutOfReach};
use crate::tensor::Layout;
use tilewright_ir::{Access, Kernel, Type};

/// Refuses arguments that do not fit the kernel's parameters: their number, kinds, element types and ranks.
pub(crate) fn check_args(kernel: &Kernel, args: &[Arg<'_>]) -> Result<(), LaunchError> {
    let name = || kernel.name.to_string();
    if args.len() != kernel.params.len() {
        return Err(LaunchError::ArgumentCount { kernel: name(), wanted: kernel.params.len(), got: args.len() });
    }
    for (param, arg) in kernel.params.iter().zip(args) {
        let ty = kernel.ty(param.value);
        let fits = |layout: &Layout| matches!(ty, Type::View { elem, rank } if elem == layout.elem && rank as usize == layout.rank());
        let good = match arg {
            Arg::Read(t) => param.access == Access::Read && fits(&t.layout),
            Arg::Write(t) => param.access == Access::Write && fits(&t.layout),
            Arg::Scalar(_) => ty.is_scalar(),
        };
        if !good {
            let wanted = match param.access {
                Access::Read => ty.to_string(),
                Access::Write => format!("an output {ty}"),
            };
            let got = match arg {
                Arg::Read(t) => format!("{t:?}"),
                Arg::Write(t) => format!("an output {t:?}"),
                Arg::Scalar(x) => format!("the number {x}"),
            };
            return Err(LaunchError::Argument { kernel: name(), param: param.name.to_string(), wanted, got });
        }
    }
    Ok(())
}

/// Refuses tensors in memory of a GPU.
pub(crate) fn check_host_memory(kernel: &Kernel, args: &[Arg<'_>]) -> Result<(), LaunchError> {
    for (param, arg) in kernel.params.iter().zip(args) {
        let on_host = match arg {
            Arg::Read(t) => t.host_bytes().is_some(),
            Arg::Write(t) => t.as_read().host_bytes().is_some(),
            Arg::Scalar(_) => true,
        };
        if !on_host {
            let (kernel, param) = (kernel.name.to_string(), param.name.to_string());
            return Err(LaunchError::Memory { kernel, param, memory: OutOfReach::Gpu });
        }
    }
    Ok(())
}
