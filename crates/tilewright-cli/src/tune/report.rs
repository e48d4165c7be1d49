//! What a search found, as data and as lines.

use super::search::Refusal;
use crate::bench::{Ratio, Times};
use crate::check::Check;
use crate::output::{FAINT, GOOD, duration, paint};
use serde::Serialize;
use std::fmt;
use tilewright::attention::cases::Case;
use tilewright::runtime::DeviceInfo;

/// What a run found.
#[derive(Serialize)]
pub struct Report {
    /// Of this layout.
    pub format: &'static str,
    #[serde(flatten)]
    pub machine: Machine,
    pub cases: Vec<Tuned>,
}

/// The layout of [`Report`] as JSON.
pub const FORMAT: &str = "tilewright-tune-1";

/// What was measured on.
#[derive(Serialize)]
pub struct Machine {
    pub device: &'static str,
    /// The maker's name of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    pub instructions: &'static str,
    pub threads: usize,
}

/// One case.
#[derive(Serialize)]
pub struct Tuned {
    pub case: String,
    pub kernel: &'static str,
    /// Schedules that were compiled, or refused then or later.
    pub tried: usize,
    /// Schedules that were not, because they differ more from the table's choice.
    pub left_out: usize,
    pub refused: Vec<Refusal>,
    /// Those that were measured longer, then the others; the fastest first.
    pub schedules: Vec<Schedule>,
    /// The schedule of the row.
    pub best: String,
    /// Whether it is another than the table's choice.
    pub changed: bool,
    pub check: Check,
    /// The row that serves the case now.
    pub replaces: Option<String>,
    /// The row for the table, and the line above it.
    pub row: String,
    pub measurement: String,
}

/// One schedule with its times.
#[derive(Serialize)]
pub struct Schedule {
    pub schedule: String,
    /// With which the table would choose it.
    pub row: Option<String>,
    /// Whether the table chooses it now.
    pub table: bool,
    /// Whether it was measured longer.
    pub finalist: bool,
    /// A thread's.
    pub spilled_bytes: u32,
    #[serde(flatten)]
    pub times: Times,
    /// How many times as long the table's choice took.
    #[serde(flatten)]
    pub ratio: Option<Ratio>,
}

impl Machine {
    /// A device.
    pub fn of(info: &DeviceInfo) -> Machine {
        let model = info.gpu.as_ref().map(|gpu| gpu.model.clone());
        Machine { device: info.name, model, instructions: info.isa, threads: info.threads }
    }
}

/// `NVIDIA H200 (sm_90a)`, or `cpu (avx2), 2 threads`.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { device, model, instructions, threads } = self;
        match model {
            Some(model) => write!(f, "{model} ({instructions})"),
            None if *threads == 1 => write!(f, "{device} ({instructions}), 1 thread"),
            None => write!(f, "{device} ({instructions}), {threads} threads"),
        }
    }
}

/// The line above a row: which case took how long, with the least and the most of the rounds, and where.
pub fn measurement(case: &Case, times: &Times, machine: &Machine) -> String {
    let least = times.rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = times.rounds.iter().copied().fold(0.0, f64::max);
    let [median, least, most] = [times.seconds, least, most].map(duration);
    format!("// {}: {median} [{least}, {most}], {machine}", case.name())
}

impl fmt::Display for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (finalists, others): (Vec<_>, Vec<_>) = self.schedules.iter().partition(|schedule| schedule.finalist);
        writeln!(f, "\n{}: {} schedules tried, {} measured", self.case, self.tried, self.schedules.len())?;
        for Refusal { count, reason } in &self.refused {
            writeln!(f, "{}", paint(FAINT, format!("{count:>6} refused: {}", reason.escape_debug())))?;
        }
        if self.left_out > 0 {
            let why = "left out: they differ more from the table's choice (`--limit`)";
            writeln!(f, "{}", paint(FAINT, format!("{:>6} {why}", self.left_out)))?;
        }
        let width = finalists.iter().map(|one| one.schedule.len()).max().unwrap_or(0);
        let columns: String = ["median", "fastest", "slowest", "faster"].map(|name| format!("{name:>11}")).concat();
        writeln!(f, "{}", paint(FAINT, format!("{:width$}{columns}", "schedule")))?;
        for one in &finalists {
            writeln!(f, "{}", one.line(width))?;
        }
        if let (Some(first), Some(last)) = (others.first(), others.last()) {
            let [first, last] = [first, last].map(|one| duration(one.times.fastest));
            let text = format!("{} others took {first} to {last} at best (`--json` has them)", others.len());
            writeln!(f, "{}", paint(FAINT, text))?;
        }
        if let Some(first) = finalists.first().filter(|first| first.schedule != self.best) {
            writeln!(f, "{} was not faster than the table's choice in every round", first.schedule)?;
        }
        writeln!(f, "{}", self.check.line())?;
        match (&self.replaces, self.changed) {
            (Some(now), true) => writeln!(f, "for the table, in place of `{now}`:")?,
            (None, true) => writeln!(f, "for the table:")?,
            (_, false) => writeln!(f, "the table's choice stays:")?,
        }
        write!(f, "    {}\n    {}", self.measurement, paint(GOOD, &self.row))
    }
}

impl Schedule {
    /// For people.
    fn line(&self, width: usize) -> String {
        let Times { seconds, fastest, slowest, .. } = self.times;
        let times = [seconds, fastest, slowest].map(|time| format!("{:>11}", duration(time))).concat();
        let ratio = match (self.table, self.ratio) {
            (true, _) => "  the table's".to_string(),
            (false, Some(Ratio { ratio, ratio_low, ratio_high })) => {
                format!("{:>11} [{ratio_low:.2}, {ratio_high:.2}]", format!("{ratio:.2}x"))
            }
            (false, None) => String::new(),
        };
        let spills = match self.spilled_bytes {
            0 => String::new(),
            bytes => format!(", {bytes} bytes of a thread's registers spill"),
        };
        format!("{:width$}{times}{ratio}{spills}", self.schedule)
    }
}
