//! Passes from IR to IR. Each is one file; the verifier runs after each in debug builds and in tests.

mod coarse;
mod common;
mod dead;
mod edit;
mod factor;
mod fold;
mod invariant;
mod narrow;

pub(crate) use narrow::rounds_scores;
use tilewright_ir::{Diagnostic, Diagnostics, Kernel};

/// One step of the pipeline.
#[derive(Clone, Copy)]
pub struct Pass {
    /// The name that `tile inspect --after` takes.
    pub name: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    run: fn(&mut Kernel),
}

/// All passes, in order.
pub const PASSES: [Pass; 2] = [
    Pass { name: "common", summary: "computes equal pure expressions once", run: common::run },
    Pass { name: "dead", summary: "drops what no store depends on", run: dead::run },
];

/// The passes for a CPU that multiplies bf16 numbers in pairs, in order.
pub const PAIRS_PASSES: [Pass; 3] = [
    PASSES[0],
    Pass { name: "narrow", summary: "rounds softmax weights to the type of bf16 values", run: narrow::run_pairs },
    PASSES[1],
];

/// The passes of kernels for GPUs, in order. `coarse` and `narrow` round; the others change no bit.
pub const GPU_PASSES: [Pass; 7] = [
    Pass { name: "fold", summary: "computes what is known, and equal pure expressions once", run: fold::run },
    Pass { name: "factor", summary: "does once what both branches of an `if_else` do", run: factor::run },
    Pass { name: "coarse", summary: "computes scores of 16-bit queries with fewer operations", run: coarse::run },
    Pass { name: "invariant", summary: "computes before a loop what does not change in it", run: invariant::run },
    PASSES[0],
    Pass { name: "narrow", summary: "rounds softmax weights to the type of the values", run: narrow::run },
    PASSES[1],
];

impl Pass {
    /// Runs this pass alone.
    ///
    /// # Errors
    /// In debug builds, what the verifier finds after it: a bug of the pass, which is named.
    pub fn apply(&self, kernel: &mut Kernel) -> Result<(), Diagnostics> {
        (self.run)(kernel);
        if cfg!(debug_assertions) {
            tilewright_ir::verify::verify(kernel).map_err(|mut found| {
                for d in &mut found.0 {
                    d.notes.push(format!("found after pass `{}`: please report this", self.name));
                }
                found
            })?;
        }
        Ok(())
    }
}

/// Runs the passes of all devices up to and including the one named `last`, or all.
///
/// # Errors
/// A name that no pass has; what the verifier finds, before the first pass or after one: the latter is a bug of that pass,
/// which is named.
pub fn run(kernel: Kernel, last: Option<&str>) -> Result<Kernel, Diagnostics> {
    run_list(&PASSES, kernel, last)
}

/// Runs [`PAIRS_PASSES`].
///
/// # Errors
/// As for [`run`].
pub fn run_pairs(kernel: Kernel) -> Result<Kernel, Diagnostics> {
    run_list(&PAIRS_PASSES, kernel, None)
}

/// Runs [`GPU_PASSES`] up to and including the one named `last`, or all.
///
/// # Errors
/// As for [`run`].
pub fn run_gpu(kernel: Kernel, last: Option<&str>) -> Result<Kernel, Diagnostics> {
    run_list(&GPU_PASSES, kernel, last)
}

fn run_list(passes: &[Pass], mut kernel: Kernel, last: Option<&str>) -> Result<Kernel, Diagnostics> {
    if let Some(unknown) = last.filter(|name| passes.iter().all(|pass| pass.name != *name)) {
        let names = passes.iter().map(|pass| pass.name).collect::<Vec<_>>().join(", ");
        let problem = Diagnostic::new(format!("no pass is called `{unknown}`")).help(format!("the passes are {names}"));
        return Err(Diagnostics(vec![problem]));
    }
    tilewright_ir::verify::verify(&kernel)?;
    for pass in passes {
        pass.apply(&mut kernel)?;
        if last == Some(pass.name) {
            break;
        }
    }
    Ok(kernel)
}
