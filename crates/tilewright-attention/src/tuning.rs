//! The tuning table: which tile shape serves which problem, and the limits that any of them keeps.

use crate::attention::Extents;
use crate::error::AttentionError;
use tilewright_ir::Schedule;

/// The most query rows of a tile.
pub const MAX_ROWS: u32 = 1024;
/// The most keys of a tile.
pub const MAX_KEYS: u32 = 4096;
/// The most bytes that the tiles of one program may take as f32.
pub const MAX_TILE_BYTES: usize = 64 << 20;

/// One row of the table: the schedule of problems with at most these dims.
struct Row {
    /// The larger of head dim and value dim.
    max_dim: usize,
    /// Query rows, when there are that many.
    rows: u32,
    keys: u32,
}

/// The first row that is wide enough counts. The tiles of a program (q, k, v, scores and the sum, as f32) should stay in
/// a core's second-level cache of 512 KiB to 2 MiB.
const TABLE: [Row; 2] = [Row { max_dim: 256, rows: 128, keys: 128 }, Row { max_dim: usize::MAX, rows: 64, keys: 128 }];

/// The schedule for a problem, and why.
pub(crate) fn choose(shape: &Extents) -> (Schedule, String) {
    let dim = shape.head_dim.max(shape.value_dim);
    let row = TABLE.iter().find(|row| dim <= row.max_dim).unwrap_or(&TABLE[TABLE.len() - 1]);
    // Powers of two, so that a stream of different lengths is served by a few kernels.
    let needed = u32::try_from(shape.q_len.max(1).next_power_of_two()).unwrap_or(u32::MAX);
    let schedule = Schedule { rows: row.rows.min(needed), keys: row.keys };
    let bytes = tile_bytes(schedule, shape.head_dim, shape.value_dim);
    let dims =
        if row.max_dim == usize::MAX { "larger dims".to_string() } else { format!("dims up to {}", row.max_dim) };
    let fewer = if schedule.rows < row.rows { format!(", rows for {} queries", shape.q_len) } else { String::new() };
    (schedule, format!("table row for {dims}{fewer}; tiles take {} KiB", bytes.div_ceil(1024)))
}

/// Bytes of the tiles of one program as f32.
fn tile_bytes(schedule: Schedule, head_dim: usize, value_dim: usize) -> usize {
    let (rows, keys) = (schedule.rows as usize, schedule.keys as usize);
    4 * (rows * (head_dim + value_dim) + keys * (head_dim + value_dim) + rows * keys)
}

/// Holds a schedule against its limits.
pub(crate) fn check(schedule: Schedule, head_dim: usize, value_dim: usize) -> Result<(), AttentionError> {
    let refuse = |reason: String| Err(AttentionError::Schedule { schedule, reason });
    if !(1..=MAX_ROWS).contains(&schedule.rows) {
        return refuse(format!("rows must be 1 to {MAX_ROWS}"));
    }
    if !(1..=MAX_KEYS).contains(&schedule.keys) {
        return refuse(format!("keys must be 1 to {MAX_KEYS}"));
    }
    let bytes = tile_bytes(schedule, head_dim, value_dim);
    if bytes > MAX_TILE_BYTES {
        return refuse(format!(
            "its tiles take {bytes} bytes; at most {MAX_TILE_BYTES} are served, halve rows or keys"
        ));
    }
    Ok(())
}
