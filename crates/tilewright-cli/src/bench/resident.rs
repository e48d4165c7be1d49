//! Cases in memory of the device, timed by its own clock where it has one.

use super::report::{Clock, Row, Timing};
use super::stats::Times;
use crate::check::Check;
use crate::error::CliError;
use std::time::{Duration, Instant};
use tilewright::attention::cases::{Case, ResidentInputs};
use tilewright::attention::reference::{self, Bound};
use tilewright::attention::{Extents, Workspace};
use tilewright::prelude::{Attention, AttentionError, Device, DeviceTensor, Elem, Plan};
use tilewright::runtime::Stream;

/// Several sets of inputs in turn reach this many bytes, so that none is found in a cache of the device.
const PAST_CACHES: u64 = 256 << 20;
const MOST_SETS: u64 = 16;
/// Up to so many queries a run is short beside a launch, and is timed inside a recorded graph where the device records.
const SHORT: usize = 64;
/// Runs of a graph, at least.
const RECORDED: usize = 20;
/// Launches that are put on a stream before it is waited for, where the host's time is measured: fewer than it has room for.
const AHEAD: usize = 50;
/// Rounds of so many, where a run is short.
const ROUNDS: usize = 20;

/// One run after another over one set of inputs.
struct Run<'r> {
    request: Attention<'r>,
    o: DeviceTensor,
    lse: Option<DeviceTensor>,
    workspace: Workspace,
}

impl Run<'_> {
    fn wait(&mut self, plan: &Plan) -> Result<(), AttentionError> {
        let lse = self.lse.as_mut().map(DeviceTensor::view_mut);
        plan.run_with(&self.request, self.o.view_mut(), lse, &mut self.workspace)
    }

    fn put(&mut self, plan: &Plan, stream: &Stream) -> Result<(), AttentionError> {
        let lse = self.lse.as_mut().map(DeviceTensor::view_mut);
        plan.run_on(stream, &self.request, self.o.view_mut(), lse, &mut self.workspace)
    }
}

/// A plan with what it runs on: each set of inputs in turn.
pub(super) struct Runs<'r> {
    device: &'r Device,
    plan: &'r Plan,
    inputs: &'r [ResidentInputs],
    /// As many.
    runs: Vec<Run<'r>>,
    short: bool,
}

/// One row of the table. The check is against f64 on rows from the beginning, the middle and the end.
pub(super) fn measure(device: &Device, kernel: &'static str, case: &Case, long: Duration) -> Result<Row, CliError> {
    let inputs = inputs(device, case)?;
    let request = inputs[0].request().map_err(CliError::Refused)?; // there is at least one set
    let features = request.features().to_string();
    let started = Instant::now();
    let plan = request.plan(device).map_err(CliError::Refused)?;
    let planned = started.elapsed();
    let mut runs = Runs::new(device, &plan, case, &inputs)?;
    let (clock, times) = runs.times(long)?;
    let host = runs.relaunch()?;
    let check = runs.check()?;
    let times = Times::of(&[times]).ok_or_else(|| failed("a run took no time"))?;
    let timing = Timing { clock, times, planned: planned.as_secs_f64(), host, sets: inputs.len() };
    Ok(Row::new(kernel, case, &plan, features, timing, check))
}

/// Sets of inputs that are run in turn, at least one.
pub(super) fn inputs(device: &Device, case: &Case) -> Result<Vec<ResidentInputs>, CliError> {
    let inputs = (0..sets(case)).map(|set| ResidentInputs::new(case, device, set)).collect::<Result<Vec<_>, _>>();
    inputs.map_err(CliError::Refused)
}

impl<'r> Runs<'r> {
    /// Each run has run once.
    pub fn new(
        device: &'r Device,
        plan: &'r Plan,
        case: &Case,
        inputs: &'r [ResidentInputs],
    ) -> Result<Runs<'r>, CliError> {
        let shape = case.extents();
        let each = |inputs: &'r ResidentInputs| {
            let mut run = run(device, plan, inputs.request().map_err(CliError::Refused)?, &shape)?;
            // The first run compiles for other alignments, if any, and copies the lengths.
            run.wait(plan).map_err(failed)?;
            Ok(run)
        };
        let runs = inputs.iter().map(each).collect::<Result<Vec<_>, CliError>>()?;
        Ok(Runs { device, plan, inputs, runs, short: shape.q_len <= SHORT })
    }

    /// Seconds of runs for about so long, and the clock.
    pub fn times(&mut self, long: Duration) -> Result<(Clock, Vec<f64>), CliError> {
        let (plan, runs) = (self.plan, &mut self.runs);
        match self.device.stream() {
            Ok(stream) if self.short && stream.can_record() => Ok((Clock::Graph, graph(plan, stream, runs, long)?)),
            Ok(stream) => Ok((Clock::Events, events(plan, stream, runs, long)?)),
            Err(_) => Ok((Clock::Host, host(plan, runs, long)?)),
        }
    }

    /// Seconds of the host to put a run on a stream; `None` on a device without streams.
    fn relaunch(&mut self) -> Result<Option<f64>, CliError> {
        let rounds = if self.short { ROUNDS } else { 1 };
        let stream = self.device.stream().ok();
        stream.map(|stream| relaunch(self.plan, stream, &mut self.runs, rounds)).transpose()
    }

    /// The samples of the first set, held against f64.
    pub fn check(&self) -> Result<Check, CliError> {
        check(&self.inputs[0], &self.runs[0])
    }
}

/// How many sets of inputs are run in turn.
fn sets(case: &Case) -> usize {
    match case.extents().q_len <= SHORT {
        true => PAST_CACHES.div_ceil(case.bytes().max(1)).clamp(1, MOST_SETS) as usize,
        false => 1, // a prefill reads its keys many times over
    }
}

fn run<'r>(device: &Device, plan: &Plan, request: Attention<'r>, shape: &Extents) -> Result<Run<'r>, CliError> {
    let o = device.zeros(request.q().elem(), &shape.o())?;
    let lse = if request.wants_lse() { Some(device.zeros(Elem::F32, &shape.lse())?) } else { None };
    Ok(Run { request, o, lse, workspace: plan.workspace().map_err(failed)? })
}

/// Between events around each run.
fn events(plan: &Plan, stream: &Stream, runs: &mut [Run<'_>], long: Duration) -> Result<Vec<f64>, CliError> {
    const TOGETHER: usize = 5;
    let (mut times, started) = (Vec::new(), Instant::now());
    let mut uncounted = 1;
    while times.len() < 3 || started.elapsed() < long {
        let mut points = vec![stream.event().map_err(failed)?];
        for round in 0..TOGETHER {
            runs[round % runs.len()].put(plan, stream).map_err(failed)?;
            points.push(stream.event().map_err(failed)?);
        }
        for pair in points.windows(2) {
            times.push(pair[1].since(&pair[0]).map_err(failed)?.as_secs_f64());
        }
        if uncounted > 0 {
            (uncounted, times) = (uncounted - 1, Vec::new()); // clocks and caches were cold
        }
    }
    Ok(times)
}

/// Inside a recorded graph with the runs in turn; each time is the mean of one launch of the graph.
fn graph(plan: &Plan, stream: &Stream, runs: &mut [Run<'_>], long: Duration) -> Result<Vec<f64>, CliError> {
    let recorded = RECORDED.next_multiple_of(runs.len());
    let graph = stream.capture(|stream| -> Result<(), AttentionError> {
        (0..recorded).try_for_each(|round| runs[round % runs.len()].put(plan, stream))
    });
    let graph = graph.map_err(failed)?;
    let once = || -> Result<f64, CliError> {
        let before = stream.event().map_err(failed)?;
        graph.launch(stream).map_err(failed)?;
        let after = stream.event().map_err(failed)?;
        Ok(after.since(&before).map_err(failed)?.as_secs_f64() / recorded as f64)
    };
    for _ in 0..3 {
        once()?; // is not counted
    }
    let (mut times, started) = (Vec::new(), Instant::now());
    while times.len() < 5 || started.elapsed() < long {
        times.push(once()?);
    }
    Ok(times)
}

/// The host's time to put one run on a stream, without waiting for it: the median of rounds.
fn relaunch(plan: &Plan, stream: &Stream, runs: &mut [Run<'_>], rounds: usize) -> Result<f64, CliError> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        stream.synchronize().map_err(failed)?;
        let started = Instant::now();
        for round in 0..AHEAD {
            runs[round % runs.len()].put(plan, stream).map_err(failed)?;
        }
        times.push(started.elapsed().as_secs_f64() / AHEAD as f64);
    }
    stream.synchronize().map_err(failed)?;
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2]) // at least one round
}

/// By the host's clock, on a device without streams.
fn host(plan: &Plan, runs: &mut [Run<'_>], long: Duration) -> Result<Vec<f64>, CliError> {
    let (mut times, began) = (Vec::new(), Instant::now());
    while times.len() < 3 || began.elapsed() < long {
        let round = times.len() % runs.len();
        let started = Instant::now();
        runs[round].wait(plan).map_err(failed)?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(times)
}

/// The samples of the first set, held against f64.
fn check(inputs: &ResidentInputs, run: &Run<'_>) -> Result<Check, CliError> {
    let o = run.o.download()?;
    let mut worst: Option<Check> = None;
    for sample in inputs.samples() {
        let problem = inputs.problem(sample).map_err(CliError::Refused)?;
        let wanted = reference::attention(&problem);
        let bound = Bound::of(&problem, &wanted);
        let got = inputs.rows_of(&o, sample).map_err(failed)?;
        let check = Check::of("o", "f64", &got, &wanted.o, |x| bound.o(x));
        worst = Some(match worst {
            Some(before) => before.and(check),
            None => check,
        });
    }
    worst.ok_or_else(|| CliError::Failed("a case without rows has nothing to check".to_string()))
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright::prelude::Causal;

    #[test]
    fn a_case_in_memory_of_the_device_is_timed_and_checked() {
        let device = Device::cpu_with_threads(2);
        let small = Case::new("small").types(Elem::F16, Elem::F16).batch(3).heads(4, 2).dims(32, 32);
        for case in [small.clone().lengths(1, 300), small.without_lse().lengths(70, 90).feature(Causal)] {
            let row = measure(&device, "attention", &case, Duration::ZERO).unwrap();
            assert!(row.check.holds && row.check.compared > 3 * 32, "{}", row.check.line());
            assert!(row.times.seconds > 0.0 && row.times.runs >= 3 && row.flops == case.flops(), "{}", row.case);
            assert!(row.explain.contains("kernels"), "{}", row.explain);
        }
    }

    #[test]
    fn short_runs_take_turns_with_enough_inputs_to_pass_caches() {
        let decode =
            |keys| Case::new("decode").types(Elem::Bf16, Elem::Bf16).heads(32, 8).dims(128, 128).lengths(1, keys);
        assert_eq!(sets(&decode(4096)), 16, "16.8 MB each");
        assert_eq!(sets(&decode(32768)), 2);
        assert_eq!(sets(&decode(131072)), 1);
        assert_eq!(sets(&decode(64).lengths(128, 128)), 1);
    }
}
