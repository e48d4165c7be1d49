//! The reference interpreter as a device: slow, every number an f64 until a cast or a store rounds it.

use crate::device::{Arg, Grid};
use crate::error::LaunchError;
use crate::tensor::TensorView;
use tilewright_ir::Kernel;
use tilewright_ir::interp::{self, Tensor};

/// Copies the arguments into the interpreter's tensors, runs the grid, and copies the outputs back.
pub(crate) fn launch(kernel: &Kernel, grid: Grid, args: &mut [Arg<'_>]) -> Result<(), LaunchError> {
    let mut copies = args.iter().map(|arg| copy_in(kernel, arg)).collect::<Result<Vec<_>, _>>()?;
    interp::run(kernel, grid, &mut copies).map_err(|e| failed(kernel, &e))?;
    for (arg, copy) in args.iter_mut().zip(&copies) {
        if let (Arg::Write(view), Some(tensor)) = (arg, copy.tensor()) {
            view.copy_from_f64(&tensor.to_vec()).map_err(|e| failed(kernel, &e))?;
        }
    }
    Ok(())
}

fn copy_in(kernel: &Kernel, arg: &Arg<'_>) -> Result<interp::Arg, LaunchError> {
    let tensor = |view: TensorView<'_>| {
        let values = view.to_f64().map_err(|e| failed(kernel, &e))?;
        Ok(interp::Arg::Tensor(Tensor::new(view.elem(), view.shape(), values).map_err(|e| failed(kernel, &e))?))
    };
    match arg {
        Arg::Read(view) => tensor(*view),
        // What the kernel does not write keeps what it holds.
        Arg::Write(view) => tensor(view.as_read()),
        Arg::Scalar(number) => Ok(interp::Arg::Scalar(*number)),
    }
}

fn failed(kernel: &Kernel, reason: &dyn std::error::Error) -> LaunchError {
    LaunchError::Failed { kernel: kernel.name.to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use crate::{Arg, Device, TensorView, TensorViewMut};
    use tilewright_ir::op::{Control, Memory};
    use tilewright_ir::{Access, Elem, Kernel, Shape, SiteId, Type};

    /// Copies three elements from where the grid says.
    fn copy_three() -> Kernel {
        let mut kernel = Kernel::new("copy_three");
        let site = SiteId(0);
        let view = Type::View { elem: Elem::F32, rank: 1 };
        let x = kernel.add_param("x", view, Access::Read, site);
        let y = kernel.add_param("y", view, Access::Write, site);
        let mut push = |op, operands: &[_]| kernel.push(Kernel::BODY, op, operands, site).unwrap();
        let three = Shape::new(&[3]).unwrap();
        let id = push(Control::ProgramId { axis: 0 }.into(), &[])[0];
        let tile = push(Memory::Load { shape: three }.into(), &[x, id])[0];
        push(Memory::Store.into(), &[y, tile, id]);
        kernel
    }

    #[test]
    fn strides_are_honoured_and_what_is_not_written_stays() {
        let device = Device::interp();
        let x = [1f32, 0.0, 2.0, 0.0, 3.0];
        let mut y = [9f32; 8];
        let x = TensorView::from_slice(&x, &[5]).unwrap().with_strides(&[3], &[2]).unwrap();
        let out = TensorViewMut::from_slice(&mut y, &[8]).unwrap().with_strides(&[4], &[2]).unwrap();
        let pipeline = device.compile(copy_three()).unwrap();
        device.launch(&pipeline, [1, 1, 1], &mut [Arg::Read(x), Arg::Write(out)]).unwrap();
        assert_eq!(y, [1.0, 9.0, 2.0, 9.0, 3.0, 9.0, 9.0, 9.0]);
    }
}
