//! `tile inspect`: a kernel of the library as the compiler sees it.

mod gpu;

use crate::error::CliError;
use crate::output::{self, FAINT, paint};
use serde::Serialize;
use std::collections::BTreeMap;
use tilewright::attention::{KernelEntry, Library};
use tilewright::lang::SpecText;
use tilewright::lang::ir::{Diagnostics, Kernel, Op};
use tilewright::prelude::Device;
use tilewright_compile::pass::{self, Pass};

/// Prints the IR of a kernel for one specialisation.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kernel; without one, the kernels and passes are listed.
    kernel: Option<String>,
    /// Types of the kernel's type parameters, in their order; the last one stands for all that follow.
    #[arg(long, value_name = "TYPE[,TYPE]")]
    types: Option<String>,
    /// A value of the specialisation, as in `head_dim=64` or `features=causal`; `inspect` without a kernel lists them.
    /// What is left out is as the planner chooses it.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Stop after this pass of the compiler, or `trace` for none [default: after all]. Sources of GPUs have passes of their
    /// own.
    #[arg(long, value_name = "PASS")]
    after: Option<String>,
    /// What to print.
    #[arg(long, value_enum, default_value = "ir")]
    emit: Emit,
    /// Sources of GPUs: how the threads of a block share the work, as in `rows=4,columns=1,stages=2,blocks=2` [default: as
    /// tuned].
    #[arg(long, value_name = "NAME=N,…")]
    work: Option<String>,
    /// CUDA: the compute capability, times ten.
    #[arg(long, value_name = "N", default_value_t = 90)]
    compute: u32,
    /// Sources of GPUs: for tensors of any strides and addresses; without it, for rows of whole 16 bytes at multiples of 16.
    #[arg(long)]
    any_layout: bool,
    /// Count the operations instead, and say what share of them the CPU device runs fused, or what the kernel takes of a GPU.
    #[arg(long)]
    stats: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Emit {
    /// The IR after the passes.
    Ir,
    /// What the CPU device runs: steps and fused loops over lanes.
    Cpu,
    /// The IR after the passes of GPUs.
    GpuIr,
    /// CUDA C++.
    Cuda,
    /// What NVRTC makes of it, before it is machine code.
    Ptx,
    /// The Metal Shading Language.
    Msl,
}

/// The name that `--after` takes for a kernel that no pass has seen.
const TRACE: &str = "trace";

#[derive(Serialize)]
struct Report {
    kernel: &'static str,
    specialisation: String,
    after: String,
    instructions: usize,
    ops: BTreeMap<&'static str, usize>,
    /// How the CPU device runs the tile ops; only after all passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<String>,
    /// What the kernel takes of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<gpu::Needs>,
    /// The text that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, library: &Library) -> Result<(), CliError> {
    let Some(name) = &args.kernel else { return list(&library.entries, args.json) };
    let Some(entry) = library.find(name) else {
        let known = library.entries.iter().map(|entry| entry.name().to_string()).collect();
        return Err(CliError::UnknownName { what: "kernel", name: name.clone(), known });
    };
    let given = given(args, entry)?;
    let report = match args.emit {
        Emit::Ir | Emit::Cpu => for_cpu(args, entry, given)?,
        Emit::GpuIr | Emit::Cuda | Emit::Ptx | Emit::Msl => gpu::report(args, entry, given)?,
    };
    if args.json {
        return output::json(&report);
    }
    if let Some(text) = &report.text {
        return output::line(text.trim_end());
    }
    output::line(paint(FAINT, &report.specialisation))?;
    output::line(format!("{} instructions after {}", report.instructions, report.after))?;
    report.ops.iter().try_for_each(|(op, count)| output::line(format!("{count:6} {op}")))?;
    report.gpu.iter().try_for_each(|needs| output::line(format!("on a GPU: {needs}")))?;
    report.cpu.iter().try_for_each(|stats| output::line(format!("on the CPU: {stats}")))
}

fn for_cpu(args: &Args, entry: &KernelEntry, given: SpecText) -> Result<Report, CliError> {
    if args.work.is_some() {
        return Err(CliError::LaterFlag {
            flag: "--work with --emit ir or cpu".to_string(),
            instead: "a CPU has no use for it; `--emit gpu-ir`, `cuda`, `ptx` and `msl` take it",
        });
    }
    let text = (entry.complete)(given).map_err(CliError::Refused)?;
    let traced = entry.spec.trace(&text)?;
    let (after, kernel) = passed(traced, args.after.as_deref(), &pass::PASSES, pass::run)?;
    let whole = pass::PASSES.last().is_none_or(|last| last.name == after);
    if args.emit == Emit::Cpu && !whole {
        let flags = format!("--after {after} with --emit cpu");
        return Err(CliError::LaterFlag { flag: flags, instead: "the CPU program is made after all passes" });
    }
    let pipeline = whole.then(|| Device::cpu_with_threads(1).compile(kernel.clone())).transpose();
    let pipeline = pipeline.map_err(|error| CliError::Failed(error.to_string()))?;
    let listing = || match (&pipeline, args.emit) {
        (Some(pipeline), Emit::Cpu) => pipeline.listing(),
        _ => kernel.to_string(),
    };
    Ok(Report {
        cpu: pipeline.as_ref().and_then(|p| p.stats()).map(|stats| stats.to_string()),
        text: (!args.stats).then(listing),
        ..Report::of(entry, &text, after, &kernel)
    })
}

impl Report {
    /// What is said of every kernel.
    fn of(entry: &KernelEntry, text: &SpecText, after: String, kernel: &Kernel) -> Report {
        let mut ops = BTreeMap::new();
        let all = kernel.regions.iter().flat_map(|region| &region.insts);
        all.for_each(|inst| *ops.entry(Op::name(&inst.op)).or_insert(0) += 1);
        let values: Vec<String> = text.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (kernel, specialisation) = (entry.name(), values.join(" "));
        Report {
            kernel,
            specialisation,
            after,
            instructions: ops.values().sum(),
            ops,
            cpu: None,
            gpu: None,
            text: None,
        }
    }
}

fn list(entries: &[KernelEntry], json: bool) -> Result<(), CliError> {
    if json {
        return output::json(&entries.iter().map(|entry| (entry.name(), entry.summary)).collect::<BTreeMap<_, _>>());
    }
    for entry in entries {
        output::line(format!("{}: {}", entry.name(), entry.summary))?;
        for (name, choices) in entry.spec.types {
            output::line(paint(FAINT, format!("  {name} in {}", choices.join(", "))))?;
        }
        for (name, ty) in entry.spec.spec {
            output::line(paint(FAINT, format!("  {name}: {ty}")))?;
        }
    }
    output::line(format!("passes, for --after: {}", pass_names(&pass::PASSES).join(", ")))?;
    output::line(format!("and for GPUs: {}", pass_names(&pass::GPU_PASSES).join(", ")))
}

fn pass_names(passes: &[Pass]) -> Vec<&'static str> {
    std::iter::once(TRACE).chain(passes.iter().map(|pass| pass.name)).collect()
}

/// The kernel after the passes up to `last`, and the name of the last one that ran.
fn passed(
    kernel: Kernel,
    last: Option<&str>,
    passes: &[Pass],
    run: fn(Kernel, Option<&str>) -> Result<Kernel, Diagnostics>,
) -> Result<(String, Kernel), CliError> {
    let names = pass_names(passes);
    let last = last.or(names.last().copied()).unwrap_or(TRACE);
    if !names.contains(&last) {
        let known = names.into_iter().map(str::to_string).collect();
        return Err(CliError::UnknownName { what: "pass", name: last.to_string(), known });
    }
    let kernel = match last {
        TRACE => kernel,
        last => run(kernel, Some(last)).map_err(|error| CliError::Failed(error.to_string()))?,
    };
    Ok((last.to_string(), kernel))
}

/// The values of a specialisation that the flags say.
fn given(args: &Args, entry: &KernelEntry) -> Result<SpecText, CliError> {
    let mut text = SpecText::new();
    for setting in &args.set {
        let Some((name, value)) = setting.split_once('=') else {
            return Err(CliError::Setting { text: setting.clone(), wanted: "NAME=VALUE".to_string() });
        };
        text.insert(name.to_string(), value.to_string());
    }
    if let Some(types) = &args.types {
        let given: Vec<&str> = types.split(',').collect();
        if given.len() > entry.spec.types.len().max(1) {
            return Err(CliError::Setting {
                text: format!("--types {types}"),
                wanted: "at most one type a parameter".to_string(),
            });
        }
        // The last one stands for all that follow.
        let given = given.iter().chain(std::iter::repeat(&given[given.len() - 1])); // `split` gives at least one
        for ((name, _), ty) in entry.spec.types.iter().zip(given) {
            text.insert(name.to_string(), ty.to_string());
        }
    }
    Ok(text)
}
