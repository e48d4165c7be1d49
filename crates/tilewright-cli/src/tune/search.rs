//! Schedules compiled side by side and measured one after the other, the good ones longer than the others.

use crate::bench::{Ratio, Times};
use crate::error::CliError;
use rayon::prelude::*;
use serde::Serialize;
use std::time::Duration;
use tilewright::attention::Candidate;
use tilewright::prelude::{Attention, Device, Pipeline, Plan};
use tilewright::runtime::cuda::Resources;

/// A schedule that the device can run.
pub struct Ready {
    pub candidate: Candidate,
    pub plan: Plan,
    /// Bytes of a thread's registers that go to local memory.
    pub spilled: u32,
}

/// Schedules that were not measured.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub count: usize,
    /// Of the first of them; the others differ from it in numbers.
    pub reason: String,
}

/// Compiles all candidates, several at once. The first one is the table's choice, which may spill: what is there today
/// is measured.
pub fn compile<'a>(
    device: &Device,
    request: impl Fn() -> Result<Attention<'a>, CliError> + Sync,
    candidates: &[Candidate],
    step: impl Fn() + Sync,
) -> (Vec<Ready>, Vec<Refusal>) {
    let one = |(at, candidate): (usize, &Candidate)| -> Result<Ready, String> {
        let asked = request().map_err(|error| error.to_string())?.schedule(candidate.schedule);
        let asked = candidate.work.into_iter().fold(asked, Attention::work);
        let plan = asked.plan(device).map_err(|error| error.to_string());
        step();
        let plan = plan?;
        let spilled =
            plan.pipelines().filter_map(Pipeline::resources).map(|Resources { spill_stores, .. }| spill_stores);
        match spilled.max().unwrap_or(0) {
            spilled if spilled > 0 && at > 0 => Err(format!("{spilled} bytes of a thread's registers spill")),
            spilled => Ok(Ready { candidate: *candidate, plan, spilled }),
        }
    };
    let all: Vec<Result<Ready, String>> = candidates.par_iter().enumerate().map(one).collect();
    let (mut ready, mut reasons) = (Vec::new(), Vec::new());
    for one in all {
        match one {
            Ok(one) => ready.push(one),
            Err(reason) => reasons.push(reason),
        }
    }
    (ready, by_reason(reasons))
}

/// Reasons that differ in numbers alone are one.
fn by_reason(reasons: Vec<String>) -> Vec<Refusal> {
    let kind =
        |reason: &str| reason.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect::<String>();
    let mut found: Vec<(String, Refusal)> = Vec::new();
    for reason in reasons {
        let reason = reason.lines().next().unwrap_or_default().to_string();
        let this = kind(&reason);
        match found.iter_mut().find(|(kind, _)| *kind == this) {
            Some((_, refusal)) => refusal.count += 1,
            None => found.push((this, Refusal { count: 1, reason })),
        }
    }
    found.into_iter().map(|(_, refusal)| refusal).collect()
}

/// How long schedules are measured.
pub struct Stages {
    /// Of the best ones, at least one.
    pub rounds: usize,
    /// For all rounds of one of the best together.
    pub long: Duration,
}

/// Rounds in which all are measured, each of them for a twentieth of what the best ones are.
const SHORT_ROUNDS: usize = 2;
const SHORTER: u32 = 20;
/// Of so many one is measured longer, and at least [`LEAST`].
const ONE_OF: usize = 8;
const LEAST: usize = 4;

impl Stages {
    /// How many schedules of all are measured longer, besides the table's choice.
    fn finalists(count: usize) -> usize {
        count.div_ceil(ONE_OF).max(LEAST)
    }

    /// How often something is measured, at most.
    pub fn steps(&self, count: usize) -> usize {
        SHORT_ROUNDS * count + self.rounds * (Stages::finalists(count) + 1).min(count)
    }
}

/// The times of a schedule.
pub struct Measured {
    /// Its place.
    pub at: usize,
    /// Whether it was measured longer.
    pub finalist: bool,
    pub times: Times,
    /// How many times as long the table's choice took, in the same rounds.
    pub ratio: Option<Ratio>,
}

/// Measures `count` schedules for a short time and the best of them, with the one at `present`, for longer; the fastest
/// first. `once` gives the seconds of each run of one of them for about so long.
///
/// # Errors
/// What `once` returns, and a run that took no time.
pub fn halve(
    count: usize,
    present: Option<usize>,
    stages: &Stages,
    mut once: impl FnMut(usize, Duration) -> Result<Vec<f64>, CliError>,
) -> Result<Vec<Measured>, CliError> {
    let all: Vec<usize> = (0..count).collect();
    let mut screened = in_rounds(&all, SHORT_ROUNDS, present, false, |at| once(at, stages.long / SHORTER))?;
    // In so few runs a slow spell of the machine would decide, which the fastest one of two rounds hardly hits.
    screened.sort_by(|one, other| one.times.fastest.total_cmp(&other.times.fastest));
    let rest = screened.split_off(Stages::finalists(count).min(count));
    let (back, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(|measured| Some(measured.at) == present);
    let best: Vec<usize> = screened.iter().chain(&back).map(|measured| measured.at).collect();
    let each = stages.long / u32::try_from(stages.rounds.max(1)).unwrap_or(u32::MAX);
    let mut measured = in_rounds(&best, stages.rounds.max(1), present, true, |at| once(at, each))?;
    measured.extend(rest);
    Ok(measured)
}

/// In each round one after the other, every other round from the other end; the fastest first.
fn in_rounds(
    which: &[usize],
    rounds: usize,
    present: Option<usize>,
    finalist: bool,
    mut once: impl FnMut(usize) -> Result<Vec<f64>, CliError>,
) -> Result<Vec<Measured>, CliError> {
    let mut taken: Vec<Vec<Vec<f64>>> = vec![Vec::new(); which.len()];
    for round in 0..rounds {
        let mut turns: Vec<usize> = (0..which.len()).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for turn in turns {
            taken[turn].push(once(which[turn])?);
        }
    }
    let no_time = || CliError::Failed("a run took no time".to_string());
    let times = taken.iter().map(|rounds| Times::of(rounds).ok_or_else(no_time)).collect::<Result<Vec<_>, _>>()?;
    let of_present = which.iter().position(|at| Some(*at) == present).map(|turn| times[turn].clone());
    let each = |(&at, times): (&usize, Times)| {
        let ratio = of_present.as_ref().and_then(|present| Ratio::of(present, &times));
        Measured { at, finalist, times, ratio }
    };
    let mut measured: Vec<Measured> = which.iter().zip(times).map(each).collect();
    measured.sort_by(|one, other| one.times.seconds.total_cmp(&other.times.seconds));
    Ok(measured)
}

/// The fastest that has a row and was faster than the table's choice in every round, or else that choice.
pub fn best(measured: &[Measured], present: Option<usize>, has_row: impl Fn(usize) -> bool) -> Option<&Measured> {
    let faster = |one: &Measured| one.ratio.is_none_or(|ratio| ratio.ratio_low > 1.0);
    let mut finalists = measured.iter().filter(|one| one.finalist);
    finalists.find(|one| Some(one.at) == present || (has_row(one.at) && faster(one)))
}

#[cfg(test)]
mod tests;
