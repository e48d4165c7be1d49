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
pub fn by_reason(reasons: Vec<String>) -> Vec<Refusal> {
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
/// first. `once` gives the seconds of each run of one of them for about so long. Also why others were not measured to
/// the end: what `once` returned, or a run that took no time.
pub fn halve(
    count: usize,
    present: Option<usize>,
    stages: &Stages,
    mut once: impl FnMut(usize, Duration) -> Result<Vec<f64>, CliError>,
) -> (Vec<Measured>, Vec<String>) {
    let all: Vec<usize> = (0..count).collect();
    let short = |at| once(at, stages.long / SHORTER);
    let (mut screened, mut reasons) = in_rounds(&all, SHORT_ROUNDS, present, false, short);
    // In so few runs a slow spell of the machine would decide, which the fastest one of two rounds hardly hits.
    screened.sort_by(|one, other| one.times.fastest.total_cmp(&other.times.fastest));
    let rest = screened.split_off(Stages::finalists(count).min(screened.len()));
    let (back, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(|measured| Some(measured.at) == present);
    let best: Vec<usize> = screened.iter().chain(&back).map(|measured| measured.at).collect();
    let each = stages.long / u32::try_from(stages.rounds.max(1)).unwrap_or(u32::MAX);
    let (mut measured, late) = in_rounds(&best, stages.rounds.max(1), present, true, |at| once(at, each));
    measured.extend(rest);
    reasons.extend(late);
    (measured, reasons)
}

/// In each round one after the other, every other round from the other end; the fastest first. One that fails has no
/// further turn.
fn in_rounds(
    which: &[usize],
    rounds: usize,
    present: Option<usize>,
    finalist: bool,
    mut once: impl FnMut(usize) -> Result<Vec<f64>, CliError>,
) -> (Vec<Measured>, Vec<String>) {
    let mut taken: Vec<Result<Vec<Vec<f64>>, String>> = vec![Ok(Vec::new()); which.len()];
    for round in 0..rounds {
        let mut turns: Vec<usize> = (0..which.len()).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for turn in turns {
            if let Ok(rounds) = &mut taken[turn] {
                match once(which[turn]) {
                    Ok(seconds) => rounds.push(seconds),
                    Err(error) => taken[turn] = Err(error.to_string()),
                }
            }
        }
    }
    let (mut timed, mut reasons) = (Vec::new(), Vec::new());
    for (&at, rounds) in which.iter().zip(taken) {
        match rounds.and_then(|rounds| Times::of(&rounds).ok_or_else(|| "a run took no time".to_string())) {
            Ok(times) => timed.push((at, times)),
            Err(reason) => reasons.push(reason),
        }
    }
    let of_present = timed.iter().find(|(at, _)| Some(*at) == present).map(|(_, times)| times.clone());
    let each = |(at, times): (usize, Times)| {
        let ratio = of_present.as_ref().and_then(|present| Ratio::of(present, &times));
        Measured { at, finalist, times, ratio }
    };
    let mut measured: Vec<Measured> = timed.into_iter().map(each).collect();
    measured.sort_by(|one, other| one.times.seconds.total_cmp(&other.times.seconds));
    (measured, reasons)
}

/// The fastest that was faster than the table's choice in every round, or else that choice. Those that were dropped are
/// none of them: where the table's choice is, the fastest of the others.
pub fn best<'m>(measured: &'m [Measured], present: Option<usize>, dropped: &[usize]) -> Option<&'m Measured> {
    let present = present.filter(|at| !dropped.contains(at));
    let faster = |one: &Measured| one.ratio.is_none_or(|ratio| ratio.ratio_low > 1.0);
    let mut finalists = measured.iter().filter(|one| one.finalist && !dropped.contains(&one.at));
    finalists.find(|one| present.is_none_or(|at| one.at == at) || faster(one))
}

#[cfg(test)]
mod tests;
