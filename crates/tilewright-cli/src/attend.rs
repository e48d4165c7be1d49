//! `tile attend`: attention over the tensors of a file.

mod args;
mod inputs;
mod layout;
mod report;
mod request;
mod tokens;

pub use args::Args;
pub use inputs::Inputs;

use crate::check;
use crate::error::CliError;
use crate::output::{self, OutputFile};
use crate::tensors::{self, Written};
use report::Report;
use std::time::Instant;
use tilewright::prelude::{Attention, AttentionError, Elem, Plan, Tensor};

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliError> {
    let inputs = Inputs::read(args)?;
    let device = args.device.open()?;
    let inputs = inputs.encoded(args, &device)?;
    let request = request::request(args, &inputs, &device)?;
    let plan = request.plan(&device).map_err(CliError::Refused)?;
    let file = OutputFile::check(&args.output)?;

    let mut o = Tensor::zeros(inputs.q()?.elem(), &inputs.o_shape())?;
    let mut lse = match request.wants_lse() {
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
        let lse = lse.as_ref().filter(|_| args.lse).map(|lse| Written::tensor("lse", lse));
        tensors::write(&file, &[Written::tensor("o", &o)].into_iter().chain(lse).collect::<Vec<_>>())?;
    }
    let report = Report {
        output: missed.is_empty().then(|| args.output.display().to_string()),
        device: device.info().name,
        kernel: plan.kernels(),
        cache: plan.variant().cache.to_string(),
        features: request.features().to_string(),
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
        report.print(&device)?;
    }
    match missed.is_empty() {
        true => Ok(()),
        false => Err(CliError::Miss { names: missed }),
    }
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
    let run = plan.run(request, inputs.layout().view_mut(o)?, lse);
    run.map_err(|e: AttentionError| CliError::Failed(e.to_string()))?;
    Ok(started.elapsed().as_secs_f64())
}
