//! The tile shapes of GPUs, and how their threads share the work.

use super::{Choice, MAX_VERIFY, packed_heads, whole_pages};
use crate::attention::Extents;
use crate::cache::Format;
use tilewright_ir::{Elem, Schedule, Work};

/// What a row is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Many queries.
    Prefill,
    /// Up to 64 queries, which share their keys with the heads of a group.
    Few,
}

/// One row of the table: problems with at most these dims and rows.
struct Row {
    phase: Phase,
    /// Bytes of an element of q: 2 goes to matrix units.
    bytes: usize,
    /// The larger of head dim and value dim.
    max_dim: usize,
    /// Rows of a tile: queries of a prefill, heads times queries otherwise.
    rows: u32,
    keys: u32,
    work: Work,
}

const fn row(phase: Phase, bytes: usize, max_dim: usize, rows: u32, keys: u32, work: [u32; 4]) -> Row {
    let [down, across, stages, blocks] = work;
    Row { phase, bytes, max_dim, rows, keys, work: Work { rows: down, columns: across, stages, blocks } }
}

/// Any dim.
const ANY: usize = usize::MAX;

/// The first row that fits counts; the last number of rows of each kind takes all above.
const TABLE: &[Row] = &[
    row(Phase::Prefill, 2, 64, 128, 64, [4, 1, 2, 2]),
    row(Phase::Prefill, 2, 128, 128, 32, [4, 1, 2, 2]),
    row(Phase::Prefill, 2, 256, 128, 32, [8, 1, 2, 1]),
    row(Phase::Prefill, 2, ANY, 64, 32, [4, 2, 1, 1]),
    row(Phase::Prefill, 4, 64, 64, 64, [4, 1, 1, 1]),
    row(Phase::Prefill, 4, 128, 64, 32, [4, 2, 1, 1]),
    row(Phase::Prefill, 4, 256, 32, 32, [2, 4, 1, 1]),
    row(Phase::Prefill, 4, ANY, 32, 16, [2, 4, 1, 1]),
    row(Phase::Few, 2, 128, 16, 64, [1, 4, 2, 2]),
    row(Phase::Few, 2, 256, 16, 64, [1, 4, 2, 1]),
    row(Phase::Few, 2, ANY, 16, 32, [1, 8, 2, 1]),
    row(Phase::Few, 2, 128, 64, 64, [4, 1, 2, 2]),
    row(Phase::Few, 2, 256, 64, 32, [4, 2, 2, 1]),
    row(Phase::Few, 2, ANY, 64, 32, [4, 2, 1, 1]),
    row(Phase::Few, 4, 128, 16, 32, [1, 4, 2, 1]),
    row(Phase::Few, 4, 256, 16, 32, [1, 8, 1, 1]),
    row(Phase::Few, 4, ANY, 16, 16, [1, 8, 1, 1]),
    row(Phase::Few, 4, 128, 64, 32, [4, 2, 1, 1]),
    row(Phase::Few, 4, 256, 64, 16, [4, 2, 1, 1]),
    row(Phase::Few, 4, ANY, 32, 16, [2, 4, 1, 1]),
];

/// What serves a problem on a GPU whose blocks have so many bytes of shared memory.
pub(super) fn choose(shape: &Extents, [q, kv]: [Elem; 2], cache: &Format, shared_bytes: u32) -> Choice {
    let _ = (kv, shared_bytes);
    let dim = shape.head_dim.max(shape.value_dim);
    let needed = u32::try_from(shape.q_len.max(1).next_power_of_two()).unwrap_or(u32::MAX);
    let few = shape.q_len <= MAX_VERIFY;
    let phase = if few { Phase::Few } else { Phase::Prefill };
    let group = u32::try_from(shape.q_heads / shape.kv_heads).unwrap_or(u32::MAX);
    let wanted = if few { group.saturating_mul(needed) } else { needed };
    let fits = |row: &&Row| row.phase == phase && row.bytes == q.bytes() && dim <= row.max_dim;
    let rows = || TABLE.iter().filter(fits);
    let row = rows().find(|row| wanted <= row.rows).or(rows().last()).unwrap_or(&TABLE[0]); // every kind has a row
    let queries = needed.min(row.rows);
    let heads = if few { packed_heads(group as usize, queries, row.rows) } else { 1 };
    let schedule = Schedule { heads, queries, keys: whole_pages(row.keys, cache) };
    let dims = if row.max_dim == ANY { "any dims".to_string() } else { format!("dims up to {}", row.max_dim) };
    let reason = format!("GPU table row for {dims}, {} rows", row.rows);
    Choice { schedule, work: Some(row.work), reason }
}
