//! `tile tune`: which schedules serve a benchmark case best, and the row of the tuning table that says so.

mod report;
mod search;

use crate::bench::{self, Bed};
use crate::devices::DeviceName;
use crate::error::CliError;
use crate::output::{self, OutputFile, Progress};
use crate::test::list;
use report::{FORMAT, Machine, Report, Schedule, Tuned};
use search::{Measured, Ready, Refusal, Stages};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tilewright::attention::cases::Case;
use tilewright::attention::{Candidates, Library, Tuning};
use tilewright::prelude::Device;
use tilewright::runtime::cpu::Isa;

/// Measures valid schedules and prints rows for the tuning table.
///
/// For each benchmark case (`tile bench --list`; a GPU has cases of its own) the table's choice and the schedules most
/// like it are compiled, and measured as `tile bench` measures. All run shortly, the best eighth of them longer, in
/// rounds in which each runs in turn beside the table's choice. Schedules that do not fit the device, or whose
/// registers spill, are counted with the reason.
///
/// What is printed at the end is the row of the table (tuning.rs, or tuning/gpu.rs) with which the best one serves such
/// cases, below its measurement. A schedule replaces the table's choice only if it was faster in every round; its
/// result is held against f64.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only cases whose kernel or name holds one of these texts; prefill and decode, types and head dims are parts of
    /// names.
    filters: Vec<String>,
    /// Where to run: cpu, or cuda (cuda:1 for the second GPU).
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
    /// Threads of the cpu device [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Vector instructions of the cpu device, such as avx2 [default: the best that the processor has].
    #[arg(long, value_name = "NAME", value_parser = bench::isa)]
    isa: Option<Isa>,
    /// Measure each of the best schedules for about this long, and each of all for a tenth of it.
    #[arg(long, default_value = "1", value_name = "S", value_parser = bench::duration)]
    seconds: Duration,
    /// The best ones in so many rounds; each runs at least once in each.
    #[arg(long, default_value = "5", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// At most so many schedules a case: the table's choice, and those that differ least from it.
    #[arg(long, default_value = "96", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
    /// Name the cases and measure none.
    #[arg(long)]
    list: bool,
    /// Write JSON to this file, or to standard output for `-` or nothing.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, library: &Library) -> Result<(), CliError> {
    if args.device == DeviceName::Interp {
        let wanted = "a device with a tuning table: cpu, cuda or metal".to_string();
        return Err(CliError::Setting { text: format!("--device {}", args.device), wanted });
    }
    let cases = || bench::cases(library, &args.filters, args.device);
    if args.list {
        return list(&cases()?, Case::name, args.json.is_some());
    }
    let device = bench::open(args.device, args.threads, args.isa)?;
    let cases = cases()?;
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    let json = args.json.as_deref().filter(|_| !to_stdout).map(OutputFile::check).transpose()?;
    let machine = Machine::of(&device.info());
    if !to_stdout {
        output::line(&machine)?;
    }
    let mut report = Report { format: FORMAT, machine, cases: Vec::new() };
    for (kernel, case) in &cases {
        let tuned = tune(args, &device, &report.machine, (kernel, case))?;
        if !to_stdout {
            output::line(&tuned)?;
        }
        report.cases.push(tuned);
    }
    if to_stdout {
        output::json(&report)?;
    }
    let text = output::to_json(&report)?;
    json.map_or(Ok(()), |file| file.write(|to| to.write_all(text.as_bytes())))
}

/// The search for one case.
fn tune(
    args: &Args,
    device: &Device,
    machine: &Machine,
    (kernel, case): (&'static str, &Case),
) -> Result<Tuned, CliError> {
    let bed = Bed::new(device, case, bench::on_gpu(args.device))?;
    let tuning = Tuning::of(&bed.request()?, &device.info()).map_err(CliError::Refused)?;
    let Candidates { kept, refused, left_out } = tuning.candidates(args.limit.into());
    let progress = Progress::new("schedules compiled", kept.len());
    let (ready, reasons) = search::compile(device, || bed.request(), &kept, || progress.step());
    drop(progress);
    let refused = refused.into_iter().map(|(reason, count)| Refusal { count, reason: reason.to_string() });
    let refused: Vec<Refusal> = refused.chain(reasons).collect();
    if ready.is_empty() {
        let reason = refused.last().map_or_else(|| "there is none".to_string(), |last| last.reason.clone());
        return Err(CliError::NoSchedule { case: case.name(), tried: kept.len(), reason });
    }

    let chosen = tuning.chosen();
    let present = ready.iter().position(|ready| ready.candidate.same(&chosen));
    let stages = Stages { rounds: args.rounds.into(), long: args.seconds };
    let progress = Progress::new("runs", stages.steps(ready.len()));
    let measured = search::halve(ready.len(), present, &stages, |at, long| {
        let times = bed.round(&ready[at].plan, long);
        progress.step();
        times.map_err(|error| CliError::Failed(format!("{} with {}: {error}", case.name(), ready[at].candidate)))
    })?;
    drop(progress);

    let rows: Vec<Option<String>> = ready.iter().map(|ready| tuning.row(&ready.candidate)).collect();
    let best = search::best(&measured, present, |at| rows[at].is_some());
    let Some(best) = best.and_then(|best| Some((best, rows[best.at].clone()?))) else {
        let reason = "the table has no row for those that were measured".to_string();
        return Err(CliError::NoSchedule { case: case.name(), tried: kept.len(), reason });
    };
    let (Measured { at, times, .. }, row) = best;
    let check = bed.check(&ready[*at].plan)?;
    if !check.holds {
        let (case, schedule) = (case.name(), ready[*at].candidate.to_string());
        return Err(CliError::WrongSchedule { case, schedule, error: check.error, bound: check.bound });
    }
    let measurement = report::measurement(case, times, machine);
    let schedules = measured.iter().map(|measured| {
        let Ready { candidate, spilled, .. } = &ready[measured.at];
        Schedule {
            schedule: candidate.to_string(),
            row: rows[measured.at].clone(),
            table: Some(measured.at) == present,
            finalist: measured.finalist,
            spilled_bytes: *spilled,
            times: measured.times.clone(),
            ratio: measured.ratio,
        }
    });
    Ok(Tuned {
        case: case.name(),
        kernel,
        tried: kept.len(),
        left_out,
        refused,
        schedules: schedules.collect(),
        best: ready[*at].candidate.to_string(),
        changed: Some(*at) != present,
        check,
        replaces: tuning.row(&chosen),
        row,
        measurement,
    })
}
