//! `tile test`: every case of the library on every device present.

use crate::devices::{self, DeviceName};
use crate::error::CliError;
use crate::output::{self, BAD, FAINT, GOOD, Progress, paint};
use serde::Serialize;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tilewright::attention::CacheError;
use tilewright::attention::cases::{CaseError, TestCase};
use tilewright::attention::{KernelEntry, Library};
use tilewright::prelude::{AttentionError, Device, LaunchError};

/// Runs the cases of the library and compares each result with f64.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only cases whose kernel or name holds this text.
    filter: Option<String>,
    /// Of these cases only so many, as varied as they are; always the same ones.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only on this device: cpu, cuda (cuda:1 for the second GPU), metal (not tried on Apple hardware yet) or interp.
    #[arg(long)]
    device: Option<DeviceName>,
    /// Name the cases and run none.
    #[arg(long)]
    list: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    device: &'static str,
    kernel: &'static str,
    case: String,
    passed: bool,
    #[serde(flatten)]
    result: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Passed {
        error: f64,
        bound: f64,
        compared: usize,
    },
    /// It ran, and the result is wrong, or the run broke off.
    Failed {
        reason: String,
    },
    /// It did not run.
    Refused {
        refused: String,
    },
}

/// How many cases came out in which way.
#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    refused: usize,
}

impl Counts {
    fn of<'r>(rows: impl Iterator<Item = &'r Row>) -> Counts {
        let mut counts = Counts::default();
        for row in rows {
            match row.result {
                Outcome::Passed { .. } => counts.passed += 1,
                Outcome::Failed { .. } => counts.failed += 1,
                Outcome::Refused { .. } => counts.refused += 1,
            }
        }
        counts
    }

    fn line(&self, of: &str) -> Result<(), CliError> {
        let Counts { passed, failed, refused } = self;
        let style = if failed + refused == 0 { GOOD } else { BAD };
        output::line(paint(style, format!("{of}: {passed} passed, {failed} failed, {refused} refused")))
    }
}

/// Runs the command.
pub fn run(args: &Args, library: &Library) -> Result<(), CliError> {
    let mut cases = matching(library, args.filter.as_slice(), |entry| (entry.cases)(), TestCase::name)?;
    if let Some(limit) = args.limit {
        cases = varied(cases, limit);
    }
    if args.list {
        return list(&cases, TestCase::name, args.json);
    }
    let devices = devices::present(args.device)?;
    let progress = Progress::new("cases", devices.len() * cases.len());
    let mut rows = Vec::new();
    for device in &devices {
        for (kernel, case) in &cases {
            let row = run_one(device, kernel, case);
            match &row.result {
                Outcome::Failed { reason } if !args.json => {
                    progress.line(format!("{} on {}: {reason}", paint(BAD, "failed"), row.device))?;
                }
                Outcome::Refused { refused } if !args.json => {
                    progress.line(format!("{} on {}: {refused}", paint(BAD, "refused"), row.device))?;
                }
                Outcome::Passed { .. } | Outcome::Failed { .. } | Outcome::Refused { .. } => {}
            }
            rows.push(row);
            progress.step();
        }
    }
    drop(progress);

    let missed = rows.iter().filter(|row| !row.passed).count();
    if args.json {
        output::json(&rows)?;
    } else {
        summary(&rows, &devices)?;
        let untested: Vec<&str> = untested(library).collect();
        if args.filter.is_none() && !untested.is_empty() {
            output::line(paint(BAD, format!("without a case: {}", untested.join(", "))))?;
        }
    }
    match missed {
        0 => Ok(()),
        missed => Err(CliError::CasesFailed { failed: missed, of: rows.len() }),
    }
}

/// For each device: the counts of each kernel, the names of what did not pass, the counts of all.
fn summary(rows: &[Row], devices: &[Device]) -> Result<(), CliError> {
    for device in devices.iter().map(|device| device.info().name) {
        let of_device = || rows.iter().filter(move |row| row.device == device);
        let mut kernels: Vec<&str> = of_device().map(|row| row.kernel).collect();
        kernels.dedup(); // they come one kernel after the other
        if kernels.len() > 1 {
            for kernel in kernels {
                let counts = Counts::of(of_device().filter(|row| row.kernel == kernel));
                counts.line(&format!("{device} {kernel}"))?;
            }
        }
        let missed: Vec<String> =
            of_device().filter(|row| !row.passed).map(|row| format!("{} {}", row.kernel, row.case)).collect();
        if !missed.is_empty() {
            output::line(paint(BAD, format!("{device}: not passed: {}", missed.join(", "))))?;
        }
        Counts::of(of_device()).line(device)?;
    }
    Ok(())
}

/// `limit` cases, from each kernel about as many, in the order of a hash of their names: neighbours are often alike.
fn varied(cases: Vec<(&'static str, TestCase)>, limit: usize) -> Vec<(&'static str, TestCase)> {
    let mut by_kernel: BTreeMap<&str, Vec<(u64, usize)>> = BTreeMap::new();
    for (at, (kernel, case)) in cases.iter().enumerate() {
        by_kernel.entry(kernel).or_default().push((hash(&case.name()), at));
    }
    by_kernel.values_mut().for_each(|of| of.sort_unstable());
    // One of each kernel, then another one of each, …
    let mut turns: Vec<(usize, usize)> =
        by_kernel.values().flat_map(|of| of.iter().enumerate().map(|(turn, (_, at))| (turn, *at))).collect();
    turns.sort_unstable();
    turns.truncate(limit);
    let chosen: Vec<usize> = turns.into_iter().map(|(_, at)| at).collect();
    let all = cases.into_iter().enumerate();
    all.filter(|(at, _)| chosen.contains(at)).map(|(_, case)| case).collect()
}

/// FNV-1a: the same on every machine and in every version of Rust.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Kernels of which nothing was tested.
fn untested(library: &Library) -> impl Iterator<Item = &'static str> {
    library.entries.iter().filter(|entry| (entry.cases)().is_empty()).map(KernelEntry::name)
}

/// The cases of all kernels whose kernel or name holds one of `filters`, all without one; a case whose name is a filter stands
/// alone for it.
///
/// # Errors
/// [`CliError::NoCase`].
pub fn matching<C>(
    library: &Library,
    filters: &[String],
    cases: impl Fn(&KernelEntry) -> Vec<C>,
    name: impl Fn(&C) -> String,
) -> Result<Vec<(&'static str, C)>, CliError> {
    let all = library.entries.iter().flat_map(|entry| cases(entry).into_iter().map(|case| (entry.name(), case)));
    let mut all: Vec<(&'static str, C)> = all.collect();
    let of = all.len();
    let mut kept = vec![filters.is_empty(); of];
    for filter in filters {
        let exact = all.iter().any(|(_, case)| name(case) == *filter);
        let holds = |(kernel, case): &(&'static str, C)| {
            name(case) == *filter || (!exact && format!("{kernel} {}", name(case)).contains(filter))
        };
        let found: Vec<bool> = all.iter().map(holds).collect();
        if !found.contains(&true) {
            return Err(CliError::NoCase { filter: filter.clone(), of });
        }
        kept.iter_mut().zip(found).for_each(|(kept, found)| *kept |= found);
    }
    let mut kept = kept.into_iter();
    all.retain(|_| kept.next() == Some(true));
    match all.is_empty() {
        true => Err(CliError::NoCase { filter: String::new(), of }),
        false => Ok(all),
    }
}

/// Names the cases.
pub fn list<C>(cases: &[(&'static str, C)], name: impl Fn(&C) -> String, json: bool) -> Result<(), CliError> {
    if json {
        return output::json(&cases.iter().map(|(_, case)| name(case)).collect::<Vec<_>>());
    }
    cases.iter().try_for_each(|(kernel, case)| output::line(format!("{} {}", paint(FAINT, kernel), name(case))))
}

/// Runs a case; one that panics has failed, and the next one runs.
fn run_one(device: &Device, kernel: &'static str, case: &TestCase) -> Row {
    let outcome = || match case.run(device) {
        Ok(report) => Outcome::Passed { error: report.error, bound: report.bound, compared: report.compared },
        Err(error) if ran(&error) => Outcome::Failed { reason: error.to_string() },
        Err(error) => Outcome::Refused { refused: error.to_string() },
    };
    let panicked = |_| Outcome::Failed { reason: format!("{}: a panic; please report it", case.name()) };
    let result = catch_unwind(AssertUnwindSafe(outcome)).unwrap_or_else(panicked);
    let passed = matches!(result, Outcome::Passed { .. });
    Row { device: device.info().name, kernel, case: case.name(), passed, result }
}

/// Whether a case that did not pass was run, or is a failure of the device.
fn ran(error: &CaseError) -> bool {
    let broke = |error: &AttentionError| {
        let AttentionError::Launch(error) = error else { return false };
        matches!(error, LaunchError::Device { .. } | LaunchError::Stream(_) | LaunchError::Failed { .. })
    };
    match error {
        CaseError::Wrong { .. } => true,
        CaseError::Refused { error, .. } => broke(error),
        CaseError::Cache { error: CacheError::Attention(error), .. } => broke(error),
        CaseError::Cache { .. } => false,
        _ => true, // of a later version
    }
}
