//! `tile bench`: how fast the benchmark cases of the library run, how far from f64, and how other libraries do on them.

mod baseline;
mod bed;
mod ceilings;
mod html;
mod measure;
mod peers;
mod report;
mod resident;
mod stats;

pub(crate) use bed::Bed;
pub(crate) use stats::{Ratio, Times};

use crate::devices::DeviceName;
use crate::error::CliError;
use crate::output::{self, BAD, OutputFile, Progress, paint};
use crate::settings;
use crate::test::{list, matching};
use ceilings::Ceilings;
use measure::{Against, Rounds};
use peers::Peers;
use report::{FORMAT, Outcome, Report, Row};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tilewright::attention::cases::Case;
use tilewright::attention::{KernelEntry, Library, Splits};
use tilewright::lang::ir::{Schedule, Work};
use tilewright::prelude::Device;
use tilewright::runtime::{DeviceKind, cpu::Isa};

/// Measures the benchmark cases.
///
/// A row is the median of several rounds with the fastest and slowest run, GFLOP/s counted as 2 * (D + Dv) for each
/// attended pair of each query head, GB/s of the keys and values read once with q and o, the percentage of what this
/// machine's ceilings allow (arithmetic, or reads of so many bytes, whichever takes longer; measured in the same run), and
/// the error against f64 on a sample of rows.
///
/// A GPU has cases of its own, whose tensors lie in its memory. A prefill is timed by events on the GPU, a decode or verify
/// inside a recorded graph, with several inputs in turn so that none stays in a cache.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only cases whose kernel or name holds one of these texts.
    filters: Vec<String>,
    /// Where to run: cpu, cuda (cuda:1 for the second GPU), metal (not tried on Apple hardware yet) or interp (slow, in f64).
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
    /// Threads of the cpu device [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Vector instructions of the cpu device, such as avx2 [default: the best that the processor has].
    #[arg(long, value_name = "NAME", value_parser = isa)]
    isa: Option<Isa>,
    /// Measure each side of a case for about this long.
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
    /// In so many rounds, in which ours and the peers take turns; each runs at least once in each.
    #[arg(long, default_value = "5", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// On the same cases also: torch, openvino, onnxruntime, mlx, candle, or any other that the folder of peers has; dense
    /// (ours over a dense cache); one_thread (ours).
    #[arg(long, value_name = "PEER,...", value_delimiter = ',')]
    against: Vec<String>,
    /// The folder of peers [default: bench/peers here or above].
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// The Python with the peers' packages [default: TILEWRIGHT_PYTHON, that of bench/setup, or python3].
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Name the cases and measure none.
    #[arg(long)]
    list: bool,
    /// Write JSON to this file, or to standard output for `-` or nothing.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Write a page with plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Keep the report by this name, in the user's cache folder.
    #[arg(long, value_name = "NAME")]
    save: Option<baseline::Name>,
    /// Compare with the report that was kept by this name: exit code 1 where a case became slower.
    #[arg(long, value_name = "NAME")]
    compare: Option<baseline::Name>,
    /// By more than so many percent.
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percent)]
    threshold: f64,
}

/// Peers that are ours.
const OWN: [&str; 2] = ["dense", "one_thread"];

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
    let on_gpu = on_gpu(args.device);
    let cases = || cases(library, &args.filters, args.device);
    if args.list {
        return list(&cases()?, Case::name, args.json.is_some());
    }
    let device = open(args.device, args.threads, args.isa)?;
    let asked = Asked {
        tile: args.tile.as_deref().map(settings::tile).transpose()?,
        work: args.work.as_deref().map(|text| settings::work(text, None)).transpose()?,
        splits: args.splits.map(Splits::Count),
    };
    let cases: Vec<_> = cases()?.into_iter().map(|(kernel, case)| (kernel, asked.of(case))).collect();
    let rounds = rounds(args)?;
    let before = args.compare.as_ref().map(baseline::Name::load).transpose()?;
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    let json = args.json.as_deref().filter(|_| !to_stdout).map(OutputFile::check).transpose()?;
    let html = args.html.as_deref().map(OutputFile::check).transpose()?;
    let kept = args.save.as_ref().map(baseline::Name::output).transpose()?;

    let info = device.info();
    let mut ceilings = match info.kind {
        DeviceKind::Cpu => Some(Ceilings::measure(info.threads)),
        DeviceKind::Interp | DeviceKind::Cuda | DeviceKind::Metal => None,
    };
    let mut report = Report {
        format: FORMAT,
        device: info.name,
        instructions: info.isa,
        threads: info.threads,
        ceiling_gflops: ceilings.as_ref().map(|ceilings| ceilings.fma_gflops),
        ceilings: ceilings.clone(),
        peers: BTreeMap::new(),
        rows: Vec::new(),
        notes: Vec::new(),
    };
    let width = width(&cases, &args.against);
    let progress = Progress::new("cases", cases.len());
    if !to_stdout {
        progress.line(report.heading(width))?;
    }
    for (kernel, case) in &cases {
        let row = match on_gpu {
            true => resident::measure(&device, kernel, case, args.seconds)?,
            false => measure::measure(&device, (kernel, case), &rounds, ceilings.as_mut())?,
        };
        if !to_stdout {
            progress.line(row.line(width))?;
        }
        report.peers.extend(versions(&row));
        report.rows.push(row);
        progress.step();
    }
    drop(progress);
    report.notes = ceilings::judge(&mut report.rows);

    if to_stdout {
        output::json(&report)?;
    } else {
        report.peers.iter().try_for_each(|(peer, version)| output::line(format!("{peer}: {version}")))?;
        report.notes.iter().try_for_each(|note| output::line(paint(BAD, note)))?;
    }
    let failed = report.rows.iter().filter(|row| !row.check.holds).count();
    let text = output::to_json(&report)?;
    // A wrong result's time is nothing to compare with.
    for file in [json, kept.filter(|_| failed == 0)].into_iter().flatten() {
        file.write(|to| to.write_all(text.as_bytes()))?;
    }
    if let Some(file) = html {
        file.write(|to| to.write_all(html::page(&report).as_bytes()))?;
    }
    if failed > 0 {
        return Err(CliError::CasesFailed { failed, of: report.rows.len() });
    }
    match (&args.compare, before) {
        (Some(name), Some(before)) => before.compare(name, &report, args.threshold, to_stdout),
        (None, _) | (_, None) => Ok(()),
    }
}

/// Whether a device has cases of its own, in its memory.
pub(crate) fn on_gpu(device: DeviceName) -> bool {
    match device {
        DeviceName::Cpu | DeviceName::Interp => false,
        DeviceName::Cuda(_) | DeviceName::Metal => true,
    }
}

/// The benchmark cases of a device, or those that a filter leaves.
pub(crate) fn cases(
    library: &Library,
    filters: &[String],
    device: DeviceName,
) -> Result<Vec<(&'static str, Case)>, CliError> {
    let of = |entry: &KernelEntry| if on_gpu(device) { (entry.gpu_benches)() } else { (entry.benches)() };
    matching(library, filters, of, Case::name)
}

/// Opens a device with what only a CPU can be asked for.
pub(crate) fn open(name: DeviceName, threads: Option<u16>, isa: Option<Isa>) -> Result<Device, CliError> {
    let only_cpu = |text: String| CliError::Setting { text, wanted: "`--device cpu`".to_string() };
    match (name, threads, isa) {
        (DeviceName::Cpu, threads, isa) => Device::cpu_with(threads.map(usize::from), isa)
            .ok_or_else(|| CliError::Setting { text: format!("--isa {}", isa.map_or("", Isa::name)), wanted: isas() }),
        (device, None, None) => device.open(),
        (_, Some(threads), _) => Err(only_cpu(format!("--threads {threads}"))),
        (_, None, Some(isa)) => Err(only_cpu(format!("--isa {}", isa.name()))),
    }
}

/// How cases are measured: with which peers, and for how long.
fn rounds(args: &Args) -> Result<Rounds, CliError> {
    let peers = Peers { folder: args.peers.as_deref(), python: args.python.as_deref() };
    let mut against = Vec::new();
    for name in &args.against {
        if args.device != DeviceName::Cpu {
            let text = format!("--against {name}");
            return Err(CliError::Setting { text, wanted: "`--device cpu` or bench/gpu.py".to_string() });
        }
        let side = match name.as_str() {
            "dense" => Against::Dense,
            "one_thread" => Against::OneThread(open(args.device, Some(1), args.isa)?),
            _ => Against::Peer(peers.find(name)?),
        };
        against.push((name.clone(), side));
    }
    Ok(Rounds { rounds: args.rounds.into(), each: args.seconds / u32::from(args.rounds), against })
}

/// Version and threads of each peer that was ready.
fn versions(row: &Row) -> impl Iterator<Item = (String, String)> {
    row.against.iter().filter_map(|peer| match &peer.outcome {
        Outcome::Measured { ready: Some(ready), .. } => {
            let threads = ready.peer_threads.map_or("threads unknown".to_string(), |n| format!("{n} threads"));
            Some((peer.peer.clone(), format!("{}, {threads}", ready.version)))
        }
        Outcome::Measured { ready: None, .. } | Outcome::Missing { .. } => None,
    })
}

/// Of the first column: cases, and peers with the names of their ways.
fn width(cases: &[(&'static str, Case)], peers: &[String]) -> usize {
    const WAY: usize = 24;
    let cases = cases.iter().map(|(_, case)| case.name().len());
    cases.chain(peers.iter().map(|peer| peer.len() + WAY)).max().unwrap_or(0)
}

pub(crate) fn isa(text: &str) -> Result<Isa, String> {
    Isa::available().into_iter().find(|isa| isa.name() == text).ok_or_else(|| format!("this processor has {}", isas()))
}

/// The instruction sets of this processor.
fn isas() -> String {
    Isa::available().into_iter().map(Isa::name).collect::<Vec<_>>().join(", ")
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "a number of percent is needed".to_string())?;
    match percent.is_finite() && percent >= 0.0 {
        true => Ok(percent),
        false => Err("0 or more is needed".to_string()),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is needed".to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
