//! The reference interpreter: the meaning of a kernel, plain and slow.
//!
//! Floats are f64 and are rounded to their type only by a cast to it and by a store; integers are exact. What each op
//! computes stands in the file of its family.
//!
//! [`Tensor`] and [`Arg`] are the interpreter's own: f64 values that may lie anywhere. A device has tensors and arguments of
//! its own, of bytes in its memory; code that uses both writes `interp::Tensor`.

mod tensor;
mod tile;

pub use tensor::{Arg, Tensor};
pub use tile::Tile;
pub(crate) use tile::{Slot, padded, zip};

use crate::diagnostic::Diagnostics;
use crate::kernel::{Kernel, Param, RegionId, ValueId};
use crate::op::{Op, Place, View};
use crate::types::{Elem, Type};
use crate::verify::verify;

/// Why a kernel could not be run.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterpError {
    /// The kernel itself is broken.
    #[error("the kernel does not verify\n{0}")]
    Invalid(Diagnostics),
    /// Too few or too many arguments.
    #[error("kernel `{kernel}` takes {wanted} arguments and got {got}")]
    ArgCount {
        /// The kernel.
        kernel: String,
        /// How many parameters it has.
        wanted: usize,
        /// How many arguments were given.
        got: usize,
    },
    /// An argument of another kind, element type or rank than its parameter.
    #[error("parameter `{name}` is {wanted} and got {got}")]
    ArgType {
        /// The parameter.
        name: String,
        /// Its type.
        wanted: Type,
        /// What was given.
        got: String,
    },
    /// A tensor whose strides lead outside its data, or that has no stride for an axis.
    #[error("argument `{name}` of shape {shape:?} and strides {strides:?} does not fit its {len} elements of data")]
    Layout {
        /// The parameter.
        name: String,
        /// The lengths of the axes.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<isize>,
        /// How many elements there are.
        len: usize,
    },
    /// An axis, or the grid along one, that an i32 cannot count.
    #[error("`{what}` is {len} long along axis {axis}; at most 2147483647 can be counted")]
    TooLong {
        /// The parameter, or the grid.
        what: String,
        /// The axis.
        axis: usize,
        /// Its length.
        len: usize,
    },
    /// A number that the element type cannot hold.
    #[error("argument `{name}` holds {value} as {elem}, which is no value of that type; `Tensor::new` rounds")]
    Value {
        /// The parameter.
        name: String,
        /// The number.
        value: f64,
        /// The type.
        elem: Elem,
    },
    /// Values for a tensor whose number is not that of its shape.
    #[error("a tensor of shape {shape:?} holds {wanted} elements and got {got}")]
    Count {
        /// The lengths of the axes.
        shape: Vec<usize>,
        /// Their product.
        wanted: usize,
        /// How many values were given.
        got: usize,
    },
    /// A tensor that does not fit memory.
    #[error("a tensor of shape {shape:?} does not fit memory")]
    Memory {
        /// The lengths of the axes.
        shape: Vec<usize>,
    },
}

/// Runs every program of the grid, axis 0 fastest, one after another. `args` stand in the order of the parameters; the
/// tensors of outputs are written in place.
///
/// # Errors
/// A kernel that does not verify, or arguments that do not fit its parameters; nothing is run then.
pub fn run(kernel: &Kernel, grid: [u32; 3], args: &mut [Arg]) -> Result<(), InterpError> {
    verify(kernel).map_err(InterpError::Invalid)?;
    if args.len() != kernel.params.len() {
        return Err(InterpError::ArgCount {
            kernel: kernel.name.to_string(),
            wanted: kernel.params.len(),
            got: args.len(),
        });
    }
    for (axis, &len) in grid.iter().enumerate() {
        if i32::try_from(len).is_err() {
            return Err(InterpError::TooLong { what: "grid".to_string(), axis, len: len as usize });
        }
    }
    let mut slots = vec![None; kernel.values.len()];
    for (i, (param, arg)) in kernel.params.iter().zip(args.iter()).enumerate() {
        slots[param.value.index()] = Some(bind(param, kernel.ty(param.value), i, arg)?);
    }
    if grid.contains(&0) {
        return Ok(()); // no program, however long the other axes are
    }
    let mut machine = Machine { kernel, args, slots, place: Place { id: [0; 3], count: grid } };
    for z in 0..grid[2] {
        for y in 0..grid[1] {
            for x in 0..grid[0] {
                machine.place.id = [x, y, z];
                machine.region(Kernel::BODY, Vec::new());
            }
        }
    }
    Ok(())
}

/// Checks one argument against its parameter.
fn bind(param: &Param, wanted: Type, position: usize, arg: &Arg) -> Result<Slot, InterpError> {
    let name = || param.name.to_string();
    match (wanted, arg) {
        (Type::Tile { elem, .. }, &Arg::Scalar(value)) => {
            let nearest = elem.nearest(value);
            if !elem.is_float() && nearest != value {
                return Err(InterpError::Value { name: name(), value, elem });
            }
            Ok(Slot::from(Tile::scalar(elem, nearest)))
        }
        (Type::View { elem, rank }, Arg::Tensor(tensor)) => {
            if tensor.elem != elem || tensor.shape.len() != rank as usize {
                let got = format!("a tensor of {} of rank {}", tensor.elem, tensor.shape.len());
                return Err(InterpError::ArgType { name: name(), wanted, got });
            }
            if let Some((axis, &len)) = tensor.shape.iter().enumerate().find(|(_, n)| i32::try_from(**n).is_err()) {
                return Err(InterpError::TooLong { what: name(), axis, len });
            }
            let inside = tensor.reach().is_none_or(|(low, high)| low >= 0 && high < tensor.data.len() as i128);
            if tensor.strides.len() != tensor.shape.len() || !inside {
                return Err(InterpError::Layout {
                    name: name(),
                    shape: tensor.shape.clone(),
                    strides: tensor.strides.clone(),
                    len: tensor.data.len(),
                });
            }
            if let Some(&value) = tensor.data.iter().find(|&&x| !x.is_nan() && elem.nearest(x) != x) {
                return Err(InterpError::Value { name: name(), value, elem });
            }
            if let Some(&value) = tensor.data.iter().find(|x| x.is_nan() && !elem.is_float()) {
                return Err(InterpError::Value { name: name(), value, elem });
            }
            Ok(Slot::View(View::of(position, tensor)))
        }
        (Type::Tile { .. }, Arg::Tensor(_)) => {
            Err(InterpError::ArgType { name: name(), wanted, got: "a tensor".to_string() })
        }
        (Type::View { .. }, Arg::Scalar(_)) => {
            Err(InterpError::ArgType { name: name(), wanted, got: "a scalar".to_string() })
        }
    }
}

/// One program at a time.
struct Machine<'a> {
    kernel: &'a Kernel,
    args: &'a mut [Arg],
    slots: Vec<Option<Slot>>,
    place: Place,
}

impl Machine<'_> {
    /// Runs a region once and returns what it yields.
    fn region(&mut self, region: RegionId, entering: Vec<Slot>) -> Vec<Slot> {
        let kernel = self.kernel;
        let region = &kernel.regions[region.index()]; // the verifier checked all ids
        self.define(&region.args, entering);
        for inst in &region.insts {
            let operands: Vec<Slot> = inst.operands.iter().map(|&v| self.slot(v)).collect();
            let tiles = || operands.iter().map(Slot::tile).collect::<Vec<_>>();
            let made = || match inst.results.first().map(|&v| kernel.ty(v)) {
                Some(Type::Tile { elem, shape }) => (elem, shape),
                _ => unreachable!("the verifier checked the types of the results"),
            };
            let results = match &inst.op {
                Op::Elementwise(op) => vec![op.eval(&tiles(), made().1).into()],
                Op::Reduce(op) => vec![op.eval(&tiles(), made().1).into()],
                Op::ShapeOp(op) => vec![op.eval(&tiles(), made().1).into()],
                Op::Matmul(op) => vec![op.eval(&tiles(), made().1).into()],
                Op::Memory(op) => op.eval(&operands, self.args).into_iter().collect(),
                Op::Control(op) => {
                    let place = self.place;
                    op.eval(&place, &operands, &mut |region, entering| self.region(region, entering))
                }
            };
            self.define(&inst.results, results);
        }
        region.yields.iter().map(|&v| self.slot(v)).collect()
    }

    fn define(&mut self, values: &[ValueId], slots: Vec<Slot>) {
        for (value, slot) in values.iter().zip(slots) {
            self.slots[value.index()] = Some(slot);
        }
    }

    fn slot(&self, value: ValueId) -> Slot {
        match &self.slots[value.index()] {
            Some(slot) => slot.clone(),
            None => unreachable!("the verifier checked that each value is defined before it is used"),
        }
    }
}

#[cfg(test)]
mod tests;
