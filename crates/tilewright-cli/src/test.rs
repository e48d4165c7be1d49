//! `tile test`: every case of the library on every device present.

use crate::devices::{self, DeviceName};
use crate::error::CliError;
use crate::output::{self, BAD, FAINT, GOOD, Progress, paint};
use serde::Serialize;
use tilewright::attention::cases::TestCase;
use tilewright::attention::{KernelEntry, Library};
use tilewright::prelude::Device;

/// Runs the cases of the library and compares each result with f64.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only cases whose kernel or name holds this text.
    filter: Option<String>,
    /// Only on this device: cpu, cuda (cuda:1 for the second GPU), metal (not in this version) or interp.
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
    Passed { error: f64, bound: f64, compared: usize },
    Failed { reason: String },
}

/// Runs the command.
pub fn run(args: &Args, library: &Library) -> Result<(), CliError> {
    let devices = devices::present(args.device)?;
    let cases = matching(library, args.filter.as_deref(), |entry| (entry.cases)(), TestCase::name)?;
    if args.list {
        return list(&cases, TestCase::name, args.json);
    }
    let progress = Progress::new("cases", devices.len() * cases.len());
    let mut rows = Vec::new();
    for device in &devices {
        for (kernel, case) in &cases {
            let row = run_one(device, kernel, case);
            if let (false, Outcome::Failed { reason }) = (args.json, &row.result) {
                progress.line(format!("{} on {}: {reason}", paint(BAD, "failed"), row.device))?;
            }
            rows.push(row);
            progress.step();
        }
    }
    drop(progress);

    let failed: Vec<&Row> = rows.iter().filter(|row| !row.passed).collect();
    if args.json {
        output::json(&rows)?;
    } else {
        for device in devices.iter().map(|d| d.info().name) {
            let of_device = rows.iter().filter(|row| row.device == device);
            let passed = of_device.clone().filter(|row| row.passed).count();
            let failed = of_device.count() - passed;
            let style = if failed == 0 { GOOD } else { BAD };
            output::line(paint(style, format!("{device}: {passed} passed, {failed} failed")))?;
        }
        let untested: Vec<&str> = untested(library).collect();
        if args.filter.is_none() && !untested.is_empty() {
            output::line(paint(BAD, format!("without a case: {}", untested.join(", "))))?;
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(CliError::CasesFailed { failed: failed.len(), of: rows.len() }),
    }
}

/// Kernels of which nothing was tested.
fn untested(library: &Library) -> impl Iterator<Item = &'static str> {
    library.entries.iter().filter(|entry| (entry.cases)().is_empty()).map(KernelEntry::name)
}

/// The cases of all kernels whose kernel or name holds `filter`; one whose name is `filter` stands alone.
///
/// # Errors
/// [`CliError::NoCase`].
pub fn matching<C>(
    library: &Library,
    filter: Option<&str>,
    cases: impl Fn(&KernelEntry) -> Vec<C>,
    name: impl Fn(&C) -> String,
) -> Result<Vec<(&'static str, C)>, CliError> {
    let all = library.entries.iter().flat_map(|entry| cases(entry).into_iter().map(|case| (entry.name(), case)));
    let mut all: Vec<(&'static str, C)> = all.collect();
    let of = all.len();
    if let Some(filter) = filter {
        let exact = all.iter().any(|(_, case)| name(case) == filter);
        all.retain(|(kernel, case)| {
            name(case) == filter || (!exact && format!("{kernel} {}", name(case)).contains(filter))
        });
    }
    match all.is_empty() {
        true => Err(CliError::NoCase { filter: filter.unwrap_or_default().to_string(), of }),
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

fn run_one(device: &Device, kernel: &'static str, case: &TestCase) -> Row {
    let (passed, result) = match case.run(device) {
        Ok(report) => (true, Outcome::Passed { error: report.error, bound: report.bound, compared: report.compared }),
        Err(error) => (false, Outcome::Failed { reason: error.to_string() }),
    };
    Row { device: device.info().name, kernel, case: case.name(), passed, result }
}
