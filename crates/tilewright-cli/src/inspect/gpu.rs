//! A kernel as a GPU gets it.

use super::{Args, Emit, Report, passed};
use crate::error::CliError;
use crate::settings;
use serde::Serialize;
use std::fmt;
use tilewright::attention::{KernelEntry, Machine, Tuned};
use tilewright::lang::SpecText;
use tilewright::runtime::cuda;
use tilewright_compile::gpu::{Access16, Dialect, Source, Target, compile};
use tilewright_compile::pass;

/// What a block of a kernel takes.
#[derive(Serialize)]
pub struct Needs {
    threads: u32,
    shared_bytes: u32,
    /// What the compiler of an NVIDIA GPU says, where it is present.
    #[serde(skip_serializing_if = "Option::is_none")]
    compiled: Option<Compiled>,
}

/// Registers of a thread, and bytes of its local memory for what did not fit them.
#[derive(Serialize)]
struct Compiled {
    arch: &'static str,
    registers: u32,
    spilled_bytes: u32,
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} threads, {} bytes of shared memory a block", self.threads, self.shared_bytes)?;
        let Some(Compiled { arch, registers, spilled_bytes }) = &self.compiled else { return Ok(()) };
        write!(f, "; {registers} registers and {spilled_bytes} bytes spilled a thread on {arch}")
    }
}

/// Bytes of threadgroup memory on every Apple GPU.
const METAL_SHARED: u32 = 32 << 10;

/// The kernel as its planner would choose it for a GPU, or as `given`.
pub fn report(args: &Args, entry: &KernelEntry, given: SpecText) -> Result<Report, CliError> {
    let target = target(args)?;
    let machine = match target.dialect {
        Dialect::Cuda => Machine::Cuda { shared_bytes: target.shared_bytes, multiprocessors: usize::MAX },
        Dialect::Msl => Machine::Metal,
    };
    let Tuned { text, work } = (entry.tuned)(given, machine).map_err(CliError::Refused)?;
    let work = args.work.as_deref().map_or(Ok(work), |asked| settings::work(asked, work).map(Some))?;
    let traced = entry.spec.trace(&text)?;
    let (after, mut kernel) = passed(traced, args.after.as_deref(), &pass::GPU_PASSES, pass::run_gpu)?;
    kernel.work = work;
    let mut report = Report::of(entry, &text, after, &kernel);
    if let Some(work) = work {
        report.specialisation += &format!(" work {work}");
    }
    if args.emit == Emit::GpuIr {
        report.text = (!args.stats).then(|| kernel.to_string());
        return Ok(report);
    }
    let mut facts = Access16::likely(&kernel);
    if args.any_layout {
        facts.fill(Access16::Any);
    }
    let source = compile(&kernel, &target, &facts).map_err(|error| CliError::Failed(error.to_string()))?;
    if args.stats {
        report.gpu = Some(needs(&source, &target)?);
        return Ok(report);
    }
    report.text = Some(match args.emit {
        Emit::Ptx => cuda::compile_ptx(&source, target.compute).map_err(|error| CliError::Failed(error.to_string()))?,
        Emit::Ir | Emit::Cpu | Emit::GpuIr | Emit::Cuda | Emit::Msl => source.text,
    });
    Ok(report)
}

fn target(args: &Args) -> Result<Target, CliError> {
    if args.emit == Emit::Msl {
        return Ok(Target { dialect: Dialect::Msl, compute: 0, shared_bytes: METAL_SHARED });
    }
    let shared_bytes = cuda::shared_bytes(args.compute).map_err(|error| CliError::Setting {
        text: format!("--compute {}", args.compute),
        wanted: format!("another one: {error}"),
    })?;
    Ok(Target { dialect: Dialect::Cuda, compute: args.compute, shared_bytes })
}

fn needs(source: &Source, target: &Target) -> Result<Needs, CliError> {
    let failed = |error: tilewright::runtime::DeviceError| CliError::Failed(error.to_string());
    let compiled = match target.dialect {
        Dialect::Cuda if cuda::nvrtc_version().is_ok() => {
            let resources = cuda::compile_cubin(source, target.compute).map_err(failed)?.resources;
            let arch = cuda::arch(target.compute).map_err(failed)?;
            Some(Compiled { arch, registers: resources.registers, spilled_bytes: resources.spill_stores })
        }
        Dialect::Cuda | Dialect::Msl => None,
    };
    Ok(Needs { threads: source.threads, shared_bytes: source.shared_bytes, compiled })
}
