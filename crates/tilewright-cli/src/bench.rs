//! `tile bench`: how fast the benchmark cases of the library run, and how far from f64.

mod resident;

use crate::check::Check;
use crate::devices::DeviceName;
use crate::error::CliError;
use crate::output::{self, BAD, FAINT, OutputFile, Progress, paint};
use crate::settings;
use crate::test::{list, matching};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tilewright::attention::cases::Case;
use tilewright::attention::reference::{self, Bound, Problem};
use tilewright::attention::{Extents, KernelEntry, Library, Splits};
use tilewright::lang::ir::{Schedule, Work};
use tilewright::prelude::{Attention, Device, Elem, Plan, Tensor};
use tilewright::runtime::{DeviceKind, cpu::fma_peak};

/// Measures the benchmark cases.
///
/// A row is the median of many runs with the fastest and slowest, GFLOP/s counted as 2 * (D + Dv) for each attended
/// pair of each query head, GB/s of the keys and values read once with q and o, the percentage of this machine's f32
/// multiply-add ceiling (measured in the same run), and the error against f64 on a sample of rows.
///
/// A GPU has cases of its own, whose tensors lie in its memory. A prefill is timed by events on the GPU, a decode or verify
/// inside a recorded graph, with several inputs in turn so that none stays in a cache.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only cases whose kernel or name holds this text.
    filter: Option<String>,
    /// Where to run: cpu, cuda (cuda:1 for the second GPU), metal (not in this version) or interp (slow, in f64).
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
    /// Threads of the cpu device [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Measure each case for about this long, and at least three times.
    #[arg(long, default_value = "1", value_name = "S", value_parser = duration)]
    seconds: Duration,
    /// The tile shape, as in `heads=4,queries=1,keys=64` [default: as tuned].
    #[arg(long, value_name = "NAME=N,…")]
    tile: Option<String>,
    /// On a GPU: how the threads of a block share a tile, as in `rows=1,columns=4,stages=2,blocks=2`; what is left out is 1
    /// [default: as tuned].
    #[arg(long, value_name = "NAME=N,…")]
    work: Option<String>,
    /// Into how many shares the keys are split [default: as many as the device needs].
    #[arg(long, value_name = "N")]
    splits: Option<usize>,
    /// Name the cases and measure none.
    #[arg(long)]
    list: bool,
    /// Write JSON to this file, or to standard output for `-` or nothing.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    device: &'static str,
    instructions: &'static str,
    threads: usize,
    /// Multiply-adds of f32 in registers, in GFLOP/s.
    ceiling_gflops: Option<f64>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    case: String,
    kernel: &'static str,
    schedule: String,
    dtype: &'static str,
    kv_dtype: &'static str,
    batch: usize,
    q_heads: usize,
    kv_heads: usize,
    q_len: usize,
    /// Length of the key axis.
    capacity: usize,
    head_dim: usize,
    value_dim: usize,
    features: String,
    flops: u64,
    bytes: u64,
    /// The median.
    seconds: f64,
    fastest: f64,
    slowest: f64,
    runs: usize,
    gflops: f64,
    gigabytes_per_second: f64,
    percent: Option<f64>,
    clock: Clock,
    /// Sets of inputs that were run in turn.
    sets: usize,
    /// Seconds to plan: to choose, and to compile what was not compiled before.
    plan_seconds: f64,
    /// Seconds of the host to put a run on a stream, without waiting for it.
    host_seconds: Option<f64>,
    explain: String,
    check: Check,
}

/// What the times of a row were taken with.
#[derive(Serialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Clock {
    /// The host's, around a run that waits.
    Host,
    /// The GPU's, around each run.
    Events,
    /// The GPU's, around a graph of runs.
    Graph,
}

/// How a case was timed.
struct Timing {
    clock: Clock,
    /// Seconds, of at least one run.
    times: Vec<f64>,
    planned: Duration,
    host: Option<f64>,
    sets: usize,
}

/// What the command line asks of all cases.
struct Asked {
    tile: Option<Schedule>,
    work: Option<Work>,
    splits: Option<Splits>,
}

impl Asked {
    fn of(&self, mut case: Case) -> Case {
        if let Some(tile) = self.tile {
            case = case.tile(tile);
        }
        if let Some(work) = self.work {
            case = case.work(work);
        }
        match self.splits {
            Some(splits) => case.splits(splits),
            None => case,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, library: &Library) -> Result<(), CliError> {
    let on_gpu = match args.device {
        DeviceName::Cpu | DeviceName::Interp | DeviceName::Metal => false,
        DeviceName::Cuda(_) => true,
    };
    let of = |entry: &KernelEntry| if on_gpu { (entry.gpu_benches)() } else { (entry.benches)() };
    let cases = || matching(library, args.filter.as_deref(), of, Case::name);
    if args.list {
        return list(&cases()?, Case::name, args.json.is_some());
    }
    let device = open(args)?;
    let asked = Asked {
        tile: args.tile.as_deref().map(settings::tile).transpose()?,
        work: args.work.as_deref().map(|text| settings::work(text, None)).transpose()?,
        splits: args.splits.map(Splits::Count),
    };
    let cases: Vec<_> = cases()?.into_iter().map(|(kernel, case)| (kernel, asked.of(case))).collect();
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    let file = match &args.json {
        Some(path) if !to_stdout => Some(OutputFile::check(path)?),
        _ => None,
    };

    let info = device.info();
    let ceiling = ceiling(&device);
    let mut report = Report {
        device: info.name,
        instructions: info.isa,
        threads: info.threads,
        ceiling_gflops: ceiling,
        rows: Vec::new(),
    };
    let progress = Progress::new("cases", cases.len());
    if !to_stdout {
        progress.line(heading(&report, &cases))?;
    }
    for (kernel, case) in &cases {
        let row = match on_gpu {
            true => resident::measure(&device, kernel, case, args.seconds)?,
            false => measure(&device, kernel, case, args.seconds, ceiling)?,
        };
        if !to_stdout {
            progress.line(row.line(width(&cases)))?;
        }
        report.rows.push(row);
        progress.step();
    }
    drop(progress);

    if to_stdout {
        output::json(&report)?;
    } else if let Some(file) = file {
        let text = output::to_json(&report)?;
        file.write(|to| to.write_all(text.as_bytes()))?;
    }
    match report.rows.iter().filter(|row| !row.check.holds).count() {
        0 => Ok(()),
        failed => Err(CliError::CasesFailed { failed, of: report.rows.len() }),
    }
}

fn open(args: &Args) -> Result<Device, CliError> {
    match (args.device, args.threads) {
        (DeviceName::Cpu, Some(threads)) => Ok(Device::cpu_with_threads(threads.into())),
        (device, None) => device.open(),
        (_, Some(threads)) => {
            Err(CliError::Setting { text: format!("--threads {threads}"), wanted: "`--device cpu`".to_string() })
        }
    }
}

/// What the device could do at most: f32 multiply-adds of all its threads, in GFLOP/s.
fn ceiling(device: &Device) -> Option<f64> {
    let info = device.info();
    match info.kind {
        DeviceKind::Cpu => Some(fma_peak(info.threads)),
        DeviceKind::Interp | DeviceKind::Cuda | DeviceKind::Metal => None,
    }
}

fn measure(
    device: &Device,
    kernel: &'static str,
    case: &Case,
    long: Duration,
    ceiling: Option<f64>,
) -> Result<Row, CliError> {
    let inputs = case.clean_inputs().map_err(CliError::Refused)?;
    let request = case.request(&inputs).map_err(CliError::Refused)?;
    let started = Instant::now();
    let plan = request.plan(device).map_err(CliError::Refused)?;
    let planned = started.elapsed();
    let Extents { batch, q_heads, q_len, value_dim, .. } = case.extents();
    let (dtype, _) = case.elements();
    let mut o = Tensor::zeros(dtype, &[batch, q_heads, q_len, value_dim])?;
    let mut lse = match request.wants_lse() {
        true => Some(Tensor::zeros(Elem::F32, &[batch, q_heads, q_len])?),
        false => None,
    };

    let mut once = || time(&plan, &request, &mut o, lse.as_mut());
    once()?; // warms caches, and is not counted
    let (mut times, started) = (Vec::new(), Instant::now());
    while times.len() < 3 || started.elapsed() < long {
        times.push(once()?);
    }
    let check = sampled(case, &request, &o)?;
    let timing = Timing { clock: Clock::Host, times, planned, host: None, sets: 1 };
    Ok(Row::new(kernel, case, &plan, request.features().to_string(), timing, ceiling, check))
}

fn time(plan: &Plan, request: &Attention<'_>, o: &mut Tensor, lse: Option<&mut Tensor>) -> Result<f64, CliError> {
    let started = Instant::now();
    plan.run(request, o.view_mut(), lse.map(Tensor::view_mut)).map_err(|e| CliError::Failed(e.to_string()))?;
    Ok(started.elapsed().as_secs_f64())
}

/// Operations that the f64 reference may take for one row of the table.
const REFERENCE_OPERATIONS: u64 = 200_000_000;

/// Every n-th row of `o` beside the f64 reference, n as small as the reference stays quick.
fn sampled(case: &Case, request: &Attention<'_>, o: &Tensor) -> Result<Check, CliError> {
    let Extents { q_len, value_dim, .. } = case.extents();
    let step =
        usize::try_from(case.flops().div_ceil(REFERENCE_OPERATIONS)).unwrap_or(usize::MAX).clamp(1, q_len.max(1));
    let problem = Problem::of(request).map_err(CliError::Refused)?.every_nth_row(step);
    let wanted = reference::attention(&problem);
    let bound = Bound::of(&problem, &wanted);
    // The last row of each `step`, as the reference takes them.
    let heads = o.to_f64();
    let rows =
        heads.chunks(q_len.max(1) * value_dim).flat_map(|head| head.chunks(value_dim).skip(step - 1).step_by(step));
    let got: Vec<f64> = rows.flatten().copied().collect();
    Ok(Check::of("o", "f64", &got, &wanted.o, |x| bound.o(x)))
}

fn width(cases: &[(&'static str, Case)]) -> usize {
    cases.iter().map(|(_, case)| case.name().len()).max().unwrap_or(0)
}

fn heading(report: &Report, cases: &[(&'static str, Case)]) -> String {
    let ceiling = match report.ceiling_gflops {
        Some(ceiling) => format!(", ceiling {ceiling:.1} GFLOP/s"),
        None => String::new(),
    };
    let device = format!("{} ({}), {} threads{ceiling}", report.device, report.instructions, report.threads);
    let columns = ["median", "fastest", "slowest", "GFLOP/s", "GB/s", "ceiling", "error", "bound"];
    let columns: String = columns.iter().map(|column| format!("{column:>11}")).collect();
    format!("{device}\n{}", paint(FAINT, format!("{:width$}{columns}", "case", width = width(cases))))
}

impl Row {
    fn new(
        kernel: &'static str,
        case: &Case,
        plan: &Plan,
        features: String,
        timing: Timing,
        ceiling: Option<f64>,
        check: Check,
    ) -> Row {
        let Extents { batch, q_heads, kv_heads, q_len, capacity, head_dim, value_dim } = case.extents();
        let (dtype, kv_dtype) = case.elements();
        let Timing { clock, mut times, planned, host, sets } = timing;
        times.sort_by(f64::total_cmp);
        let seconds = times[times.len() / 2]; // at least one
        let gflops = output::rate(case.flops() as f64, seconds);
        Row {
            case: case.name(),
            kernel,
            schedule: plan.schedule().to_string(),
            dtype: dtype.name(),
            kv_dtype: kv_dtype.name(),
            batch,
            q_heads,
            kv_heads,
            q_len,
            capacity,
            head_dim,
            value_dim,
            features,
            flops: case.flops(),
            bytes: case.bytes(),
            seconds,
            fastest: times[0],
            slowest: times[times.len() - 1],
            runs: times.len(),
            gflops,
            gigabytes_per_second: output::rate(case.bytes() as f64, seconds),
            percent: ceiling.map(|ceiling| 100.0 * gflops / ceiling),
            clock,
            sets,
            plan_seconds: planned.as_secs_f64(),
            host_seconds: host,
            explain: plan.explain(),
            check,
        }
    }

    fn line(&self, width: usize) -> String {
        let percent = self.percent.map_or("-".to_string(), |percent| format!("{percent:.1}%"));
        let [median, fastest, slowest] = [self.seconds, self.fastest, self.slowest].map(output::duration);
        let line = format!(
            "{:width$}{median:>11}{fastest:>11}{slowest:>11}{:>11.1}{:>11.1}{percent:>11}{:>11.1e}{:>11.1e}",
            self.case, self.gflops, self.gigabytes_per_second, self.check.error, self.check.bound
        );
        match self.check.holds {
            true => line,
            false => format!("{line} {}", paint(BAD, "outside of the bound")),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is needed".to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
