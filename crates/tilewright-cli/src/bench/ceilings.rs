//! What the machine could do at most, measured in the run that uses it.

use super::report::Row;
use serde::Serialize;
use std::collections::BTreeMap;
use tilewright::prelude::Elem;
use tilewright::runtime::cpu::{bf16_peak, copy_peak, fma_peak, read_peak};

/// How many times as long as the fastest round of ours the slowest one may take.
const UNSTEADY: f64 = 1.25;
/// More than any cache holds.
const MEMORY: usize = 512 << 20;

/// Ceilings of a CPU with so many threads.
#[derive(Serialize, Clone, Debug)]
pub struct Ceilings {
    #[serde(skip)]
    threads: usize,
    /// Multiply-adds of f32 in registers, in GFLOP/s.
    pub fma_gflops: f64,
    /// The processor's own bf16 products, where it has them, in GFLOP/s.
    pub bf16_gflops: Option<f64>,
    /// Reads of memory that no cache holds, in GB/s.
    pub read_gigabytes_per_second: f64,
    /// Copies of such memory, what is read and what is written together, in GB/s.
    pub copy_gigabytes_per_second: f64,
    /// The same reads again and again over as many bytes as a row has, by that number: in part from caches.
    #[serde(skip)]
    by_bytes: BTreeMap<u64, f64>,
}

/// What a row cannot be faster than.
#[derive(Serialize, Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Which of the two takes longer.
    pub limit: Limit,
    /// Seconds that it takes at least.
    pub least_seconds: f64,
    /// The ceiling of arithmetic for the row's type, in GFLOP/s.
    pub compute_gflops: f64,
    /// Reads of so many bytes, in GB/s.
    pub read_gigabytes_per_second: f64,
}

/// What ends first.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// Operations.
    Compute,
    /// Bytes read.
    Memory,
}

impl Limit {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Compute => "compute",
            Limit::Memory => "memory",
        }
    }
}

impl Ceilings {
    /// Measures them.
    pub fn measure(threads: usize) -> Ceilings {
        Ceilings {
            threads,
            fma_gflops: fma_peak(threads),
            bf16_gflops: bf16_peak(threads),
            read_gigabytes_per_second: read_peak(threads, MEMORY),
            copy_gigabytes_per_second: copy_peak(threads, MEMORY / 2),
            by_bytes: BTreeMap::new(),
        }
    }

    /// Arithmetic on this type, in GFLOP/s. f16 is computed as f32.
    pub fn compute(&self, elem: Elem) -> f64 {
        match elem {
            Elem::Bf16 => self.bf16_gflops.unwrap_or(0.0).max(self.fma_gflops),
            Elem::F32 | Elem::F16 | Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool => self.fma_gflops,
        }
    }

    /// What bounds so many operations of this type on so many bytes.
    pub fn roofline(&mut self, elem: Elem, flops: u64, bytes: u64) -> Roofline {
        let (threads, memory) = (self.threads, self.read_gigabytes_per_second);
        let read = *self.by_bytes.entry(bytes).or_insert_with(|| match usize::try_from(bytes) {
            Ok(few) if few < MEMORY => read_peak(threads, few),
            Ok(_) | Err(_) => memory,
        });
        roofline(self.compute(elem), read, flops, bytes)
    }
}

fn roofline(compute_gflops: f64, read: f64, flops: u64, bytes: u64) -> Roofline {
    let (compute, memory) = (flops as f64 / compute_gflops / 1e9, bytes as f64 / read / 1e9);
    let (limit, least_seconds) = if compute >= memory { (Limit::Compute, compute) } else { (Limit::Memory, memory) };
    Roofline { limit, least_seconds, compute_gflops, read_gigabytes_per_second: read }
}

/// Gives each row the percentage of its ceiling: the best of what was measured and of what any row of the run reached, a
/// peer's too. Says which rows were faster than the measured ceilings allow: there the instrument was wrong. Says how many
/// rows the machine disturbed.
pub fn judge(rows: &mut [Row]) -> Vec<String> {
    let mut notes = Vec::new();
    // Arithmetic of a type is one ceiling for all its rows.
    let mut reached: BTreeMap<&str, f64> = BTreeMap::new();
    for row in rows.iter() {
        let Some(roof) = row.roofline else { continue };
        let (who, seconds) = row.fastest_side();
        let rate = row.flops as f64 / seconds / 1e9;
        let best = reached.entry(row.dtype).or_default();
        *best = best.max(rate);
        if seconds < roof.least_seconds {
            let (case, limit) = (&row.case, roof.limit.name());
            let percent = 100.0 * roof.least_seconds / seconds;
            notes.push(format!(
                "{case}: {who} reached {percent:.0} % of the measured {limit} ceiling, so that measurement was too low; \
                 percentages are of what was reached"
            ));
        }
    }
    let unsteady = |row: &&Row| {
        let rounds = row.times.rounds.iter().copied();
        rounds.clone().fold(0.0, f64::max) > UNSTEADY * rounds.fold(f64::INFINITY, f64::min)
    };
    let count = rows.iter().filter(unsteady).count();
    if count > 0 {
        let (of, percent) = (rows.len(), 100.0 * (UNSTEADY - 1.0));
        notes.push(format!(
            "in {count} of {of} rows our rounds differ by more than {percent:.0} %: this machine did something else"
        ));
    }
    for row in rows.iter_mut() {
        let Some(roof) = row.roofline else { continue };
        let compute = reached.get(row.dtype).copied().unwrap_or(0.0).max(roof.compute_gflops);
        let (_, fastest) = row.fastest_side();
        let read = roof.read_gigabytes_per_second.max(row.bytes as f64 / fastest / 1e9);
        let least = roofline(compute, read, row.flops, row.bytes).least_seconds;
        row.percent = Some(100.0 * least / row.times.seconds);
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_bound_by_what_takes_longer() {
        // 100 GFLOP/s and 10 GB/s.
        let compute = roofline(100.0, 10.0, 1_000_000_000, 1_000_000);
        assert_eq!((compute.limit, compute.least_seconds), (Limit::Compute, 0.01));
        let memory = roofline(100.0, 10.0, 1_000_000, 1_000_000_000);
        assert_eq!((memory.limit, memory.least_seconds), (Limit::Memory, 0.1));
    }
}
