//! What a run found, as data and as lines.

use super::ceilings::{Ceilings, Roofline};
use super::peers::Ready;
use super::stats::{Ratio, Times};
use crate::check::Check;
use crate::output::{self, BAD, FAINT, paint};
use serde::Serialize;
use std::collections::BTreeMap;
use tilewright::attention::Extents;
use tilewright::attention::cases::Case;
use tilewright::prelude::Plan;

/// What a run found. Saved ones say which layout they have.
#[derive(Serialize)]
pub struct Report {
    /// Of this layout.
    pub format: &'static str,
    pub device: &'static str,
    pub instructions: &'static str,
    pub threads: usize,
    /// Multiply-adds of f32 in registers, in GFLOP/s.
    pub ceiling_gflops: Option<f64>,
    pub ceilings: Option<Ceilings>,
    /// Version and threads of each peer that was ready for a case, by name.
    pub peers: BTreeMap<String, String>,
    pub rows: Vec<Row>,
    /// What makes a figure doubtful.
    pub notes: Vec<String>,
}

/// The layout of [`Report`] as JSON.
pub const FORMAT: &str = "tilewright-bench-1";

#[derive(Serialize)]
pub struct Row {
    pub case: String,
    pub kernel: &'static str,
    pub schedule: String,
    pub dtype: &'static str,
    pub kv_dtype: &'static str,
    pub batch: usize,
    pub q_heads: usize,
    pub kv_heads: usize,
    pub q_len: usize,
    /// Length of the key axis.
    pub capacity: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub features: String,
    pub flops: u64,
    pub bytes: u64,
    #[serde(flatten)]
    pub times: Times,
    pub gflops: f64,
    pub gigabytes_per_second: f64,
    /// Of what the ceilings allow.
    pub percent: Option<f64>,
    pub roofline: Option<Roofline>,
    pub clock: Clock,
    /// Sets of inputs that were run in turn.
    pub sets: usize,
    /// Seconds to plan: to choose, and to compile what was not compiled before.
    pub plan_seconds: f64,
    /// Seconds of the host to put a run on a stream, without waiting for it.
    pub host_seconds: Option<f64>,
    pub explain: String,
    pub check: Check,
    /// The peers that were asked for, in that order.
    pub against: Vec<PeerRow>,
}

/// A peer on the case of a row.
#[derive(Serialize)]
pub struct PeerRow {
    pub peer: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// It ran in every round.
    Measured {
        /// The fastest of its ways.
        way: String,
        #[serde(flatten)]
        times: Times,
        /// How many times as long it took as ours.
        #[serde(flatten)]
        ratio: Ratio,
        /// Its error as a multiple of the bound that ours are held to, where that is above 1: it is not counted.
        #[serde(skip_serializing_if = "Option::is_none")]
        outside: Option<f64>,
        #[serde(flatten)]
        ready: Option<ReadyPeer>,
    },
    /// It did not.
    Missing {
        /// Why.
        reason: String,
    },
}

/// What a peer said of itself.
#[derive(Serialize)]
pub struct ReadyPeer {
    pub version: String,
    pub peer_threads: Option<usize>,
    /// Seconds of each way that it tried before the rounds.
    pub tried: BTreeMap<String, f64>,
    /// The largest error of each, as a multiple of the bound that ours are held to.
    pub errors: BTreeMap<String, f64>,
}

impl From<&Ready> for ReadyPeer {
    fn from(ready: &Ready) -> ReadyPeer {
        let Ready { version, threads, tried, errors } = ready.clone();
        ReadyPeer { version, peer_threads: threads, tried, errors }
    }
}

/// What the times of a row were taken with.
#[derive(Serialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The host's, around a run that waits.
    Host,
    /// The GPU's, around each run.
    Events,
    /// The GPU's, around a graph of runs.
    Graph,
}

/// How a case was timed.
pub struct Timing {
    pub clock: Clock,
    pub times: Times,
    /// Seconds.
    pub planned: f64,
    pub host: Option<f64>,
    pub sets: usize,
}

impl Row {
    /// Of ours alone.
    pub fn new(kernel: &'static str, case: &Case, plan: &Plan, features: String, timing: Timing, check: Check) -> Row {
        let Extents { batch, q_heads, kv_heads, q_len, capacity, head_dim, value_dim } = case.extents();
        let (dtype, kv_dtype) = case.elements();
        let Timing { clock, times, planned, host, sets } = timing;
        let (flops, bytes) = (case.flops(), case.bytes());
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
            flops,
            bytes,
            gflops: output::rate(flops as f64, times.seconds),
            gigabytes_per_second: output::rate(bytes as f64, times.seconds),
            times,
            percent: None,
            roofline: None,
            clock,
            sets,
            plan_seconds: planned,
            host_seconds: host,
            explain: plan.explain(),
            check,
            against: Vec::new(),
        }
    }

    /// The peer that was fastest, its median, and how it stands to ours. Twins of ours are no peers, nor is what computes
    /// outside of the bound that ours are held to.
    pub fn best_peer(&self) -> Option<(&str, f64, Ratio)> {
        let peers = self.against.iter().filter(|peer| !super::OWN.contains(&peer.peer.as_str()));
        let measured = peers.filter_map(|peer| match &peer.outcome {
            Outcome::Measured { times, ratio, outside: None, .. } => Some((peer.peer.as_str(), times.seconds, *ratio)),
            Outcome::Measured { outside: Some(_), .. } | Outcome::Missing { .. } => None,
        });
        measured.min_by(|one, other| one.1.total_cmp(&other.1))
    }

    /// Ours or the best peer, whoever was faster, and its median.
    pub fn fastest_side(&self) -> (&str, f64) {
        match self.best_peer() {
            Some((peer, seconds, _)) if seconds < self.times.seconds => (peer, seconds),
            Some(_) | None => ("tilewright", self.times.seconds),
        }
    }

    /// For people: ours, then a line for each peer.
    pub fn line(&self, width: usize) -> String {
        // The ceilings as measured; `judge` may raise them at the end.
        let percent = self.roofline.map(|roof| 100.0 * roof.least_seconds / self.times.seconds);
        let percent = percent.map_or("-".to_string(), |percent| format!("{percent:.1}%"));
        let limit = self.roofline.map_or("-", |roof| roof.limit.name());
        let times = times_text(&self.times);
        let mut line = format!(
            "{:width$}{times}{:>11.1}{:>11.1}{percent:>11}{limit:>11}{:>11.1e}{:>11.1e}",
            self.case, self.gflops, self.gigabytes_per_second, self.check.error, self.check.bound
        );
        if !self.check.holds {
            line = format!("{line} {}", paint(BAD, "outside of the bound"));
        }
        for PeerRow { peer, outcome } in &self.against {
            line.push('\n');
            line.push_str(&match outcome {
                Outcome::Measured { way, times, ratio: Ratio { ratio, ratio_low, ratio_high }, outside, .. } => {
                    let name = if way.is_empty() { format!("  {peer}") } else { format!("  {peer} ({way})") };
                    let ratio = format!("{ratio:.2}x as long [{ratio_low:.2}, {ratio_high:.2}]");
                    let line = format!("{name:width$}{}   {ratio}", times_text(times));
                    match outside {
                        Some(error) => format!("{line} {}", paint(BAD, not_counted(*error))),
                        None => line,
                    }
                }
                Outcome::Missing { reason } => paint(FAINT, format!("  {peer} {}", reason.escape_debug())),
            });
        }
        line
    }
}

/// Why a way of a peer does not count.
pub fn not_counted(error: f64) -> String {
    format!("not counted: its error is {error:.1} times the bound")
}

fn times_text(times: &Times) -> String {
    [times.seconds, times.fastest, times.slowest].map(output::duration).map(|time| format!("{time:>11}")).concat()
}

impl Report {
    /// What stands above the rows.
    pub fn heading(&self, width: usize) -> String {
        let mut device = format!("{} ({}), {} threads", self.device, self.instructions, self.threads);
        if let Some(Ceilings { fma_gflops, bf16_gflops, .. }) = &self.ceilings {
            device.push_str(&format!(", ceilings: f32 multiply-add {fma_gflops:.1} GFLOP/s"));
            device.extend(bf16_gflops.map(|bf16| format!(", bf16 {bf16:.1}")));
        }
        if let Some(Ceilings { read_gigabytes_per_second: read, copy_gigabytes_per_second: copy, .. }) = &self.ceilings
        {
            device.push_str(&format!(", memory read {read:.1} GB/s, copied {copy:.1}"));
        }
        let columns = ["median", "fastest", "slowest", "GFLOP/s", "GB/s", "ceiling", "limit", "error", "bound"];
        let columns: String = columns.iter().map(|column| format!("{column:>11}")).collect();
        format!("{device}\n{}", paint(FAINT, format!("{:width$}{columns}", "case")))
    }
}
