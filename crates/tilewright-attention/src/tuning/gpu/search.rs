//! Rows of a GPU's table that are worth measuring for a problem, and rows as text.

use super::{ANY, Row, Serves, Wanted};
use crate::tuning::{Candidate, Choice, search::NO_ROW};
use std::fmt;
use tilewright_ir::Work;

/// Rows of a tile.
const ROWS: [u32; 6] = [8, 16, 32, 64, 128, 256];
/// Keys of a step.
const KEYS: [u32; 8] = [8, 16, 32, 48, 64, 96, 128, 256];
/// Warps down and across.
const WARPS: [[u32; 2]; 10] = [[1, 1], [2, 1], [4, 1], [8, 1], [1, 2], [2, 2], [4, 2], [1, 4], [2, 4], [1, 8]];
const STAGES: [u32; 3] = [1, 2, 3];
const BLOCKS: [u32; 5] = [1, 2, 3, 4, 8];

/// What a kind of GPU has.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Rows and keys of its matrix unit: what a warp has at least.
    pub least: u32,
    /// 32-bit registers of a multiprocessor, where they are known.
    pub registers: Option<u32>,
}

impl Limits {
    /// NVIDIA's of compute capability 8.0 and later.
    pub const CUDA: Limits = Limits { least: 16, registers: Some(65536) };
    /// Apple's.
    pub const METAL: Limits = Limits { least: 8, registers: None };
}

/// The most registers of a thread.
const MOST_REGISTERS: u32 = 255;
/// What a thread needs besides sums: addresses, operands, the softmax of its rows. Tiles that leave less spill for
/// certain.
const BESIDE_SUMS: u32 = 32;

impl Row {
    /// Whether the sums of a tile and its scores leave a thread registers, when as many blocks share a multiprocessor
    /// as it is meant for.
    fn leaves_registers(&self, value_dim: usize, registers: u32) -> bool {
        let threads = 32 * self.work.warps();
        let sums = u64::from(self.rows) * (value_dim as u64 + u64::from(self.keys)) / u64::from(threads);
        let there = (registers / (threads * self.work.blocks)).min(MOST_REGISTERS);
        sums + u64::from(BESIDE_SUMS) <= u64::from(there)
    }
}

impl Wanted<'_> {
    /// Rows of the row that serves it.
    pub fn rows_of(&self, table: &[Row]) -> u32 {
        self.row(table).rows
    }
}

/// Ways to serve a problem, each of them once, and how many others cannot for which reason.
pub fn candidates(wanted: &Wanted<'_>, table: &[Row], limits: Limits) -> (Vec<Candidate>, Vec<(&'static str, usize)>) {
    let Limits { least, registers } = limits;
    let present = wanted.row(table);
    // More rows than one tile can use change nothing.
    let most = ROWS.into_iter().find(|&rows| wanted.rows().max(least) <= rows).unwrap_or(ROWS[ROWS.len() - 1]);
    let shapes = ROWS.into_iter().filter(|rows| (least..=most).contains(rows));
    let shapes = shapes.flat_map(|rows| KEYS.into_iter().filter(|&keys| least <= keys).map(move |keys| (rows, keys)));
    let (mut idle, mut crowded, mut full, mut unsaid) = (0, 0, 0, 0);
    let mut kept: Vec<Candidate> = Vec::new();
    for (rows, keys) in shapes {
        for work in works() {
            let row = Row { rows, keys, work, ..*present };
            let Choice { schedule, work, .. } = row.choice(wanted);
            let candidate = Candidate { schedule, work, rows };
            if rows < least * row.work.rows {
                idle += 1;
            } else if !wanted.fits(&row) {
                crowded += 1;
            } else if registers.is_some_and(|there| !row.leaves_registers(wanted.shape.value_dim, there)) {
                full += 1;
            } else if kept.iter().any(|other| other.same(&candidate)) {
                // Another row says the same.
            } else if row_of(wanted, table, &candidate).is_none() {
                unsaid += 1;
            } else {
                kept.push(candidate);
            }
        }
    }
    let refused = [
        ("warps without rows of their own", idle),
        ("blocks that do not fit the shared memory of a multiprocessor together", crowded),
        ("tiles whose sums leave a thread fewer than 32 registers", full),
        (NO_ROW, unsaid),
    ];
    (kept, refused.into_iter().filter(|(_, count)| *count > 0).collect())
}

/// All ways to share the work of a tile.
fn works() -> impl Iterator<Item = Work> {
    let each = |[rows, columns]: [u32; 2]| {
        let stages = move |stages| BLOCKS.map(|blocks| Work { rows, columns, stages, blocks });
        STAGES.into_iter().flat_map(stages)
    };
    WARPS.into_iter().flat_map(each)
}

/// The row with which the table would choose this, in place of the one that serves the problem now; `None` where there
/// is none, as where another row would serve it then.
pub fn row_of(wanted: &Wanted<'_>, table: &[Row], candidate: &Candidate) -> Option<Row> {
    let present = wanted.row(table);
    let chooses = |row: &Row| {
        let Choice { schedule, work, .. } = row.choice(wanted);
        (schedule, work) == (candidate.schedule, candidate.work)
    };
    if chooses(present) {
        return Some(*present);
    }
    let row = Row { rows: candidate.rows, keys: candidate.schedule.keys, work: candidate.work?, ..*present };
    let copy = with(wanted, table, row);
    (wanted.fits(&row) && chooses(wanted.row(&copy))).then_some(row)
}

/// The table with `row` in place of the one that serves the problem.
pub(in crate::tuning) fn with(wanted: &Wanted<'_>, table: &[Row], row: Row) -> Vec<Row> {
    let present = wanted.row(table);
    table.iter().map(|other| if std::ptr::eq(other, present) { row } else { *other }).collect()
}

/// As it stands in the table.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { phase, bytes, max_dim, rows, keys, work, serves } = self;
        let Work { rows: down, columns: across, stages, blocks } = work;
        let dim = if *max_dim == ANY { "ANY".to_string() } else { max_dim.to_string() };
        let row =
            format!("row(Phase::{phase:?}, {bytes}, {dim}, {rows}, {keys}, [{down}, {across}, {stages}, {blocks}])");
        match serves {
            Serves::All => write!(f, "{row},"),
            Serves::Stored | Serves::Alone | Serves::Plain | Serves::Codes => {
                write!(f, "Row {{ serves: Serves::{serves:?}, ..{row} }},")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CUDA, METAL};
    use super::*;

    #[test]
    fn rows_of_the_table_leave_a_thread_registers() {
        for row in CUDA {
            let dim = if row.max_dim == ANY { 512 } else { row.max_dim };
            assert!(row.leaves_registers(dim, 65536), "{row}");
        }
        let none = Row { rows: 128, work: Work { rows: 1, columns: 1, stages: 1, blocks: 1 }, ..CUDA[0] };
        assert!(!none.leaves_registers(64, 65536), "256 sums a thread for each 64 columns");
    }
    #[test]
    fn a_row_is_written_as_it_stands_in_the_table() {
        let text = include_str!("../gpu.rs");
        for row in CUDA.iter().chain(METAL) {
            let line = |line: &str| line.trim().split(" // ").next() == Some(&row.to_string());
            assert!(text.lines().any(line), "{row}");
        }
    }
}
