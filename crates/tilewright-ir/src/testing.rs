//! Random well-typed programs that use every op, with arguments to run them on: for the tests of whatever runs kernels.
//!
//! The programs are made so that a device that computes in f32 can be compared with the interpreter, which computes in
//! f64: each float value carries a bound of its size and of its error. Where a value may differ, it never decides
//! anything (no comparison, no conversion to an integer); where it decides, it is exact on every device.

mod fact;
mod generate;
pub mod tile_file;
pub mod tools;

use crate::interp::{Arg, InterpError, run};
use crate::kernel::Kernel;
use proptest::strategy::Strategy;

/// A kernel, the grid and the arguments to run it on, and how exact the outputs must be.
#[derive(Clone, Debug)]
pub struct Program {
    /// A kernel that verifies.
    pub kernel: Kernel,
    /// A few programs.
    pub grid: [u32; 3],
    /// One argument a parameter. Outputs are filled with ones; places that no view reaches hold NaN.
    pub args: Vec<Arg>,
    /// For each argument the largest absolute error of an element; 0 for inputs, integers, and exact floats.
    pub tolerance: Vec<f64>,
}

impl Program {
    /// The program that these choices lead to. Any choices will do; fewer make a smaller program.
    pub fn from_choices(choices: &[u32]) -> Program {
        generate::generate(choices)
    }

    /// The arguments after a run in the reference interpreter.
    ///
    /// # Errors
    /// Those of the interpreter: none for a generated program.
    pub fn expected(&self) -> Result<Vec<Arg>, InterpError> {
        let mut args = self.args.clone();
        run(&self.kernel, self.grid, &mut args)?;
        Ok(args)
    }

    /// Compares the arguments after a run on a device with the interpreter's; returns how many elements were compared.
    ///
    /// # Errors
    /// The first element that differs by more than the tolerance, an argument of another layout, or nothing to compare.
    pub fn check(&self, got: &[Arg]) -> Result<usize, String> {
        let expected = self.expected().map_err(|e| e.to_string())?;
        let mut compared = 0;
        for (i, param) in self.kernel.params.iter().enumerate() {
            let name = &param.name;
            let (Some(Arg::Tensor(wanted)), Some(Arg::Tensor(found))) = (expected.get(i), got.get(i)) else { continue };
            if wanted.shape != found.shape || wanted.elem != found.elem {
                return Err(format!("argument `{name}` has another shape or element type"));
            }
            for (place, (wanted, found)) in wanted.to_vec().into_iter().zip(found.to_vec()).enumerate() {
                compared += 1;
                let tolerance = self.tolerance[i]; // one for each parameter
                if (wanted - found).is_nan() || (wanted - found).abs() > tolerance {
                    return Err(format!(
                        "element {place} of `{name}` is {found}, expected {wanted} within {tolerance}\n{}",
                        self.kernel
                    ));
                }
            }
        }
        if compared == 0 { Err("no element was compared".to_string()) } else { Ok(compared) }
    }
}

/// Random programs, which shrink to smaller ones.
pub fn programs() -> impl Strategy<Value = Program> {
    use proptest::prelude::any;
    proptest::collection::vec(any::<u32>(), 0..400).prop_map(|choices| Program::from_choices(&choices))
}

#[cfg(test)]
mod tests;
