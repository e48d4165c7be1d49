//! The library's kernels as GPUs get them: what the sources look like, and that a GPU's compiler takes them.

mod machine_code;
mod sources;

use std::collections::BTreeMap;
use tilewright_attention::{Machine, Tuned, library};
use tilewright_compile::gpu::{Access16, Dialect, Source, Target, compile};
use tilewright_compile::pass::run_gpu;

/// A kernel of the library with these values, the others as the planner chooses them.
fn tuned(kernel: &str, values: &[(&str, &str)], target: &Target) -> Result<Tuned, String> {
    let library = library();
    let entry = library.find(kernel).ok_or_else(|| format!("no kernel {kernel}"))?;
    let text: BTreeMap<_, _> = values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let machine = match target.dialect {
        Dialect::Cuda => Machine::Cuda { shared_bytes: target.shared_bytes, multiprocessors: usize::MAX },
        Dialect::Msl => Machine::Metal,
    };
    (entry.tuned)(text, machine).map_err(|error| error.to_string())
}

/// Its source, for well aligned tensors.
fn source(kernel: &str, tuned: &Tuned, target: &Target) -> Result<Source, String> {
    let library = library();
    let entry = library.find(kernel).ok_or_else(|| format!("no kernel {kernel}"))?;
    let traced = entry.spec.trace(&tuned.text).map_err(|error| error.to_string())?;
    let mut kernel = run_gpu(traced, None).map_err(|error| error.to_string())?;
    kernel.work = tuned.work;
    compile(&kernel, target, &Access16::likely(&kernel)).map_err(|error| error.to_string())
}
