//! `tile tune`: which schedules serve a benchmark case best, and the row of the tuning table that says so.

mod report;
mod search;

use crate::bench::{self, Bed};
use crate::check::Check;
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
/// rounds in which each runs in turn beside the table's choice. Schedules that do not fit the device, whose registers
/// spill, that fail, or that no row of the table can say are counted with the reason.
///
/// What is printed at the end is the row of the table (tuning.rs, or tuning/gpu.rs) with which the best one serves such
/// cases, below its measurement. A schedule replaces the table's choice only if it was faster in every round; its
/// result is held against f64. One that is wrong is refused by name, the next best takes its place, and the exit code
/// is 1.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only cases whose kernel or name holds one of these texts; prefill and decode, types and head dims are parts of
    /// names.
    filters: Vec<String>,
    /// Where to run: cpu, cuda (cuda:1 for the second GPU) or metal (not tried on Apple hardware yet).
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
    let found = all(args, &device, &cases, &mut report);
    // What ends the run later takes nothing from what was found before.
    if found.is_err() && report.cases.is_empty() {
        return found;
    }
    if to_stdout {
        output::json(&report)?;
    }
    let text = output::to_json(&report)?;
    json.map_or(Ok(()), |file| file.write(|to| to.write_all(text.as_bytes())))?;
    found
}

/// The search for one case after the other, until one gives nothing.
///
/// # Errors
/// A schedule that was wrong, or else what ended the search.
fn all(args: &Args, device: &Device, cases: &[(&'static str, Case)], report: &mut Report) -> Result<(), CliError> {
    let mut wrong = None;
    for (kernel, case) in cases {
        match tune(args, device, &report.machine, (kernel, case)) {
            Ok((tuned, of_case)) => {
                if args.json.as_deref() != Some(Path::new("-")) {
                    output::line(&tuned)?;
                }
                report.cases.push(tuned);
                wrong = wrong.or(of_case);
            }
            Err(error) if wrong.is_some() => {
                output::warn(error);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    wrong.map_or(Ok(()), Err)
}

/// The search for one case, and the first schedule of it that was fast and wrong.
///
/// # Errors
/// A case of which no schedule is left; the first that was wrong, if one was.
fn tune(
    args: &Args,
    device: &Device,
    machine: &Machine,
    (kernel, case): (&'static str, &Case),
) -> Result<(Tuned, Option<CliError>), CliError> {
    let bed = Bed::new(device, case, bench::on_gpu(args.device))?;
    let tuning = Tuning::of(&bed.request()?, &device.info()).map_err(CliError::Refused)?;
    let Candidates { kept, refused, left_out } = tuning.candidates(args.limit.into());
    let progress = Progress::new("schedules compiled", kept.len());
    let (ready, reasons) = search::compile(device, || bed.request(), &kept, || progress.step());
    drop(progress);
    let refused = refused.into_iter().map(|(reason, count)| Refusal { count, reason: reason.to_string() });
    let mut refused: Vec<Refusal> = refused.chain(reasons).collect();
    let none = |refused: &[Refusal]| {
        let reason = refused.last().map_or_else(|| "there is none".to_string(), |last| last.reason.clone());
        CliError::NoSchedule { case: case.name(), tried: kept.len(), reason }
    };
    if ready.is_empty() {
        return Err(none(&refused));
    }

    let chosen = tuning.chosen();
    let present = ready.iter().position(|ready| ready.candidate.same(&chosen));
    let stages = Stages { rounds: args.rounds.into(), long: args.seconds };
    let progress = Progress::new("runs", stages.steps(ready.len()));
    let (measured, failed) = search::halve(ready.len(), present, &stages, |at, long| {
        let times = bed.round(&ready[at].plan, long);
        progress.step();
        times
    });
    drop(progress);
    refused.extend(search::by_reason(failed));

    let (mut dropped, mut wrong) = (Vec::new(), None);
    let (Measured { at, times, .. }, check) = loop {
        let Some(best) = search::best(&measured, present, &dropped) else {
            return Err(wrong.unwrap_or_else(|| none(&refused)));
        };
        let Ready { candidate, plan, .. } = &ready[best.at];
        let error = match bed.check(plan) {
            Ok(check) if check.holds => break (best, check),
            Ok(Check { error, bound, .. }) => {
                CliError::WrongSchedule { case: case.name(), schedule: candidate.to_string(), error, bound }
            }
            Err(error) => error,
        };
        dropped.push(best.at);
        refused.push(Refusal { count: 1, reason: error.to_string() });
        if matches!(error, CliError::WrongSchedule { .. }) {
            wrong = wrong.or(Some(error));
        }
    };
    let Some(row) = tuning.row(&ready[*at].candidate) else { return Err(none(&refused)) };
    let measurement = report::measurement(case, times, machine);
    let right = measured.iter().filter(|measured| !dropped.contains(&measured.at));
    let schedules = right.map(|measured| {
        let Ready { candidate, spilled, .. } = &ready[measured.at];
        Schedule {
            schedule: candidate.to_string(),
            row: tuning.row(candidate),
            table: Some(measured.at) == present,
            finalist: measured.finalist,
            spilled_bytes: *spilled,
            times: measured.times.clone(),
            ratio: measured.ratio,
        }
    });
    let tuned = Tuned {
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
    };
    Ok((tuned, wrong))
}
