//! `tile attend`: attention over the tensors of a file.

use crate::check::{self, Check};
use crate::devices::DeviceName;
use crate::error::CliError;
use crate::output::{self, OutputFile};
use crate::request::{Inputs, Layout};
use crate::tensors;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;
use tilewright::prelude::{Attention, AttentionError, Device, Elem, Plan, Tensor};

/// Computes attention over q, k and v of a safetensors file and writes o.
///
/// Tensors: q, k, v of rank 4, `[B,H,L,D]`, or 3, `[H,L,D]`; optional kv_len `[B]`. If the file also holds o or lse, the error
/// against them is printed, and a result outside of the error bound fails.
#[derive(clap::Args, Debug)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    /// The safetensors file with q, k and v.
    input: PathBuf,
    /// Where to write o (and lse), as safetensors.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Where to run.
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceName,
    /// Round q, k and v to this type first; o has it too.
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// How q, k, v and o lie in memory.
    #[arg(long, value_enum, default_value = "bhld")]
    layout: Layout,
    /// What scores are multiplied by [default: 1/sqrt(head dim)].
    #[arg(long, value_parser = finite)]
    scale: Option<f64>,
    /// Let no query see keys after its own position.
    #[arg(long)]
    causal: bool,
    /// Position of the first query [default: the last query sees the last key].
    #[arg(long, value_name = "N")]
    q_start: Option<i64>,
    /// Write lse `[B,H,L]` as well: the natural logarithm of each row's softmax denominator.
    #[arg(long)]
    lse: bool,
    /// Say which kernel and schedule run, and why.
    #[arg(long)]
    explain: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    later: LaterFlags,
}

/// Flags of the design that this version knows by name and refuses.
#[derive(clap::Args, Debug)]
struct LaterFlags {
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
    window: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
    window_sinks: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
    softcap: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
    group: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
    splits: Option<String>,
    #[arg(long, hide = true)]
    class_map: bool,
    #[arg(long, hide = true, value_enum, default_value = "dense")]
    kv: KvFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum KvFormat {
    Dense,
    Int8,
    Int4,
}

impl LaterFlags {
    fn refuse(&self) -> Result<(), CliError> {
        const MASKS: &str = "leave it out: masks are none or `--causal`";
        const QUANTISED: &str = "leave it out: keys and values are read as f32, f16 or bf16";
        const SPLITS: &str = "leave it out: every query tile walks all of its keys";
        let kv = match self.kv {
            KvFormat::Dense => None,
            KvFormat::Int8 => Some("--kv int8"),
            KvFormat::Int4 => Some("--kv int4"),
        };
        let refused = [
            (self.window.is_some().then_some("--window"), MASKS),
            (self.window_sinks.is_some().then_some("--window-sinks"), MASKS),
            (self.softcap.is_some().then_some("--softcap"), "leave it out: scores are not capped"),
            (self.class_map.then_some("--class-map"), MASKS),
            (kv, QUANTISED),
            (self.group.is_some().then_some("--group"), QUANTISED),
            (self.splits.is_some().then_some("--splits"), SPLITS),
        ];
        match refused.into_iter().find_map(|(flag, instead)| Some((flag?, instead))) {
            Some((flag, instead)) => Err(CliError::LaterFlag { flag: flag.to_string(), instead }),
            None => Ok(()),
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// A path that is no UTF-8 is shown with replacement characters.
    output: Option<String>,
    device: &'static str,
    kernel: String,
    schedule: String,
    splits: usize,
    /// Between the passes.
    scratch_bytes: usize,
    /// Of all tile programs that run at once.
    working_bytes: usize,
    seconds: f64,
    gflops: f64,
    dtype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<String>,
    checks: Vec<Check>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliError> {
    args.later.refuse()?;
    let dtype = args.dtype.map(|dtype| match dtype {
        Dtype::F32 => Elem::F32,
        Dtype::F16 => Elem::F16,
        Dtype::Bf16 => Elem::Bf16,
    });
    let inputs = Inputs::read(&args.input, args.layout, dtype)?;
    let device = args.device.open()?;
    let request = request(args, &inputs)?;
    let plan = request.plan(&device).map_err(CliError::Refused)?;
    let file = OutputFile::check(&args.output)?;

    let mut o = Tensor::zeros(inputs.q()?.elem(), &inputs.o_shape())?;
    let mut lse = match args.lse || inputs.expected_lse.is_some() {
        true => Some(Tensor::zeros(Elem::F32, &inputs.lse_shape())?),
        false => None,
    };
    let seconds = output::with_spinner("attention", || execute(&plan, &request, &inputs, &mut o, lse.as_mut()))?;
    let checks = output::with_spinner("comparing with f64", || check::check(&inputs, &request, &o, lse.as_ref()))?;

    let missed = checks.iter().filter(|c| !c.holds).map(|c| match c.compared {
        0 => format!("{} has no elements, so nothing was compared", c.tensor),
        _ => c.tensor.to_string(),
    });
    let missed: Vec<String> = missed.collect();
    if missed.is_empty() {
        let mut tensors = vec![("o", o.shape(), &o)];
        tensors.extend(lse.as_ref().filter(|_| args.lse).map(|lse| ("lse", lse.shape(), lse)));
        tensors::write(&file, &tensors)?;
    }
    let report = Report {
        output: missed.is_empty().then(|| args.output.display().to_string()),
        device: device.info().name,
        kernel: plan.kernels(),
        schedule: plan.schedule().to_string(),
        splits: plan.splits(),
        scratch_bytes: plan.scratch_bytes(),
        working_bytes: plan.working_bytes(),
        seconds,
        gflops: output::rate(request.flops().map_err(CliError::Refused)? as f64, seconds),
        dtype: o.elem().name(),
        shape: o.shape().to_vec(),
        explain: args.explain.then(|| plan.explain()),
        checks,
    };
    if args.json {
        output::json(&report)?;
    } else {
        print(&report, &device)?;
    }
    match missed.is_empty() {
        true => Ok(()),
        false => Err(CliError::Miss { names: missed }),
    }
}

fn request<'a>(args: &Args, inputs: &'a Inputs) -> Result<Attention<'a>, CliError> {
    let mut request = Attention::new(inputs.q()?, inputs.k()?, inputs.v()?);
    if let Some(scale) = args.scale {
        request = request.scale(scale);
    }
    if args.causal {
        request = request.causal();
    }
    if let Some(start) = args.q_start {
        request = request.q_start(start);
    }
    if let Some(kv_len) = &inputs.kv_len {
        request = request.kv_len(kv_len);
    }
    if args.lse || inputs.expected_lse.is_some() {
        request = request.lse();
    }
    Ok(request)
}

/// Gives the seconds that the run took.
fn execute(
    plan: &Plan,
    request: &Attention<'_>,
    inputs: &Inputs,
    o: &mut Tensor,
    lse: Option<&mut Tensor>,
) -> Result<f64, CliError> {
    let [batch, heads, len, _] = inputs.logical_q();
    let lse = match lse {
        Some(lse) => Some(lse.view_mut().with_strides(&[batch, heads, len], &[heads * len, len, 1])?),
        None => None,
    };
    let started = Instant::now();
    plan.run(request, inputs.head_major_mut(o)?, lse).map_err(|e: AttentionError| CliError::Failed(e.to_string()))?;
    Ok(started.elapsed().as_secs_f64())
}

fn print(report: &Report, device: &Device) -> Result<(), CliError> {
    if let Some(explain) = &report.explain {
        output::line(explain.trim_end())?;
    }
    let info = device.info();
    output::line(format!(
        "o {} {:?}: {} {} on {} ({}, {} thread{}), {}, {:.1} GFLOP/s",
        report.dtype,
        report.shape,
        report.kernel,
        report.schedule,
        report.device,
        info.isa,
        info.threads,
        if info.threads == 1 { "" } else { "s" },
        output::duration(report.seconds),
        report.gflops,
    ))?;
    report.checks.iter().try_for_each(|check| output::line(check.line()))
}

fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        Ok(_) => Err("a finite number is needed".to_string()),
        Err(error) => Err(error.to_string()),
    }
}
