//! The tuning table: which tile shape and how many splits serve which problem, and the limits that any of them keeps.

use crate::attention::{Extents, Splits};
use crate::cache::{Decoding, Format, Placement};
use crate::error::{AttentionError, MAX_SPLITS};
use crate::kernels::Rescaling;
use crate::variant::Variant;
use tilewright_ir::{Elem, Schedule, Work};
use tilewright_runtime::{DeviceInfo, DeviceKind};

mod gpu;
mod search;
mod tiles;

pub use search::{Candidate, Candidates, Tuning};

/// The most rows of a tile: heads times queries.
pub const MAX_ROWS: u32 = 1024;
/// The most keys of a tile.
pub const MAX_KEYS: u32 = 4096;
/// The most bytes that the tiles of one program may take as f32.
pub const MAX_TILE_BYTES: usize = 64 << 20;
/// Up to so many queries a sequence are a decode or a verify: the heads of a group become rows of one tile.
pub const MAX_VERIFY: usize = 64;
/// A share of the keys has at least so many, so that merging costs little beside walking.
const LEAST_SHARE: usize = 512;
/// A share of a GPU has at least so many keys.
const LEAST_SHARE_OF_GPU: usize = 256;
/// Programs for each thread, or multiprocessor, that splitting aims at, so that threads end together.
const PROGRAMS_PER_THREAD: usize = 2;

/// One row of the table: the schedule of problems with at most these dims.
#[derive(Clone, Copy)]
struct Row {
    /// The larger of head dim and value dim.
    max_dim: usize,
    /// Queries of a tile of one head in a prefill, when there are that many, and programs for all threads.
    queries: u32,
    /// Queries of a tile that some heads of a group share in a prefill, which pack keys and values once for all of them.
    shared: Option<u32>,
    /// Keys of a step of a prefill.
    keys: u32,
    /// Keys of a step of a decode or a verify, whose few rows leave more of the memory to keys.
    decode: u32,
    /// The same where keys lie in pages: the first page of a tile comes as a surprise to the processor.
    decode_pages: u32,
}

/// The first row that is wide enough counts. The tiles of a program (q, k, v, scores and the sum, as f32) should stay in
/// a core's second-level cache of 512 KiB to 2 MiB. Decode was measured with `examples/no_slow_path.rs`, shared prefill with
/// `tile bench prefill_h16 prefill_causal_h16 prefill_h8_d256 --tile heads=4,queries=64,keys=128`: 3 to 8 % faster than one head.
///
/// Above a row stand figures of cases that it serves, on two cores of an EPYC server with AVX-512 (bench/README.md);
/// `tile tune CASE` measures one again, beside other tiles.
const TABLE: [Row; 4] = [
    // prefill_h8_d64_1024/f32: 93 GFLOP/s
    // That is of one thread of the server of `tiles`, 5 % more than with 128 queries. On others it was not measured.
    Row { max_dim: 64, queries: 256, shared: Some(64), keys: 128, decode: 256, decode_pages: 512 },
    // prefill_causal_h16_d128_2048/f32: 350 GFLOP/s
    // sdpa_decode_2pass/f32: 0.97 ms
    Row { max_dim: 128, queries: 128, shared: Some(64), keys: 128, decode: 256, decode_pages: 512 },
    // prefill_causal_h8_d256_1024/f32: 321 GFLOP/s
    // decode_h16_d256_8192/f32: 4.49 ms
    Row { max_dim: 256, queries: 128, shared: Some(64), keys: 128, decode: 256, decode_pages: 256 },
    Row { max_dim: usize::MAX, queries: 64, shared: None, keys: 128, decode: 128, decode_pages: 128 },
];

/// The queries of a tile of one head in a prefill are not halved below this to give threads something to do.
const LEAST_QUERIES: u32 = 64;

/// Rows of a tile that heads share in a prefill, at most.
const SHARED_ROWS: u32 = 256;

/// How many splits of a query the merge reads at once.
pub(crate) fn merged_at_once(splits: usize, device: DeviceKind) -> usize {
    match device {
        DeviceKind::Cpu | DeviceKind::Interp => 8,
        DeviceKind::Cuda | DeviceKind::Metal => splits.checked_next_power_of_two().unwrap_or(usize::MAX).clamp(2, 32),
    }
}

/// What serves a problem.
pub(crate) struct Choice {
    /// The tile shape.
    pub schedule: Schedule,
    /// How a GPU's threads share it.
    pub work: Option<Work>,
    /// Why.
    pub reason: String,
}

/// What of a device decides on a schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    /// A processor, or the interpreter.
    Cpu {
        /// How many run tile programs.
        threads: usize,
        /// Whether it multiplies tiles of bf16 numbers.
        tiles: bool,
    },
    /// An NVIDIA GPU.
    Cuda {
        /// The most shared memory of a block, in bytes.
        shared_bytes: u32,
        /// [`usize::MAX`] where it is not known: enough for any problem.
        multiprocessors: usize,
    },
    /// An Apple GPU.
    Metal,
}

impl Machine {
    /// The machine of a device.
    pub fn of(device: &DeviceInfo) -> Machine {
        match device.kind {
            DeviceKind::Cpu | DeviceKind::Interp => {
                Machine::Cpu { threads: device.threads, tiles: device.multiplies_tiles() }
            }
            DeviceKind::Cuda => Machine::Cuda {
                shared_bytes: device.gpu.as_ref().map_or(u32::MAX, |gpu| gpu.shared_bytes),
                multiprocessors: device.threads,
            },
            DeviceKind::Metal => Machine::Metal,
        }
    }
}

/// Rows of a tile, at most, for which a processor multiplies codes where they lie; for more it makes them numbers of the matrix
/// product first.
const CODES_IN_PLACE: u32 = 8;

/// What decides on the numbers that codes are taken for.
pub(crate) struct Coding<'c> {
    pub cache: &'c Format,
    /// Element types of the queries, and of keys and values.
    pub types: [Elem; 2],
    /// Whether masks leave some.
    pub holes: bool,
    pub value_dim: usize,
    pub schedule: Schedule,
    pub work: Option<Work>,
}

/// What codes are taken for. Results of f32 are held to the exact numbers; elsewhere these are faster where codes are multiplied as they are.
pub(crate) fn decoding(of: &Coding<'_>, machine: Machine) -> Decoding {
    let few = of.schedule.heads.saturating_mul(of.schedule.queries) <= CODES_IN_PLACE;
    match machine {
        _ if of.types[0] == Elem::F32 || !of.cache.has_codes() => Decoding::Exact,
        Machine::Cpu { .. } if few => Decoding::Exact,
        Machine::Cuda { .. } if gpu::multiplies_codes(of) => Decoding::Exact,
        Machine::Cpu { .. } | Machine::Cuda { .. } | Machine::Metal => Decoding::Dequantised,
    }
}

/// When sums are rescaled. A GPU's warps skip it where no row of theirs needs it; only CUDA's were measured.
pub(crate) fn rescaling(machine: Machine) -> Rescaling {
    match machine {
        Machine::Cuda { .. } => Rescaling::Late,
        Machine::Cpu { .. } | Machine::Metal => Rescaling::Always,
    }
}

/// What serves a problem; `types` are the element types of the queries, and of keys and values.
pub(crate) fn choose(shape: &Extents, types: [Elem; 2], (cache, holes): (&Format, bool), machine: Machine) -> Choice {
    match machine {
        Machine::Cpu { threads, tiles } => {
            let (schedule, reason) = Row::of(shape, types, tiles).choice(shape, cache, threads);
            Choice { schedule, work: None, reason }
        }
        Machine::Cuda { shared_bytes, multiprocessors } => {
            gpu::choose(&gpu::Wanted { shape, types, cache, holes, shared_bytes, multiprocessors }, gpu::CUDA)
        }
        Machine::Metal => {
            let (shared_bytes, multiprocessors) = (gpu::ALL_FIT, usize::MAX);
            gpu::choose(&gpu::Wanted { shape, types, cache, holes, shared_bytes, multiprocessors }, gpu::METAL)
        }
    }
}

/// Powers of two, so that a stream of different lengths is served by a few kernels.
fn needed(shape: &Extents) -> u32 {
    u32::try_from(shape.q_len.max(1).next_power_of_two()).unwrap_or(u32::MAX)
}

impl Row {
    /// The row of a problem's dims, in the table of its types.
    fn of(shape: &Extents, types: [Elem; 2], tiles: bool) -> &'static Row {
        let table = if tiles && types == [Elem::Bf16; 2] { &tiles::TABLE[..] } else { &TABLE };
        let dim = shape.head_dim.max(shape.value_dim);
        table.iter().find(|row| dim <= row.max_dim).unwrap_or(&table[table.len() - 1])
    }

    /// The tile shape for so many threads, and why.
    fn choice(&self, shape: &Extents, cache: &Format, threads: usize) -> (Schedule, String) {
        let needed = needed(shape);
        let dims =
            if self.max_dim == usize::MAX { "larger dims".to_string() } else { format!("dims up to {}", self.max_dim) };
        let (schedule, rows) = if shape.q_len <= MAX_VERIFY {
            let heads = packed_heads(shape.q_heads / shape.kv_heads, needed, MAX_ROWS);
            let of_group = if heads == 1 { String::new() } else { format!("{heads} heads of a group times ") };
            let keys = match cache.placement {
                Placement::Contiguous | Placement::Ring => self.decode,
                Placement::Paged { .. } => self.decode_pages,
            };
            let keys = whole_pages(keys, cache);
            (Schedule { heads, queries: needed, keys }, format!(", rows are {of_group}{} queries", shape.q_len))
        } else {
            let keys = whole_pages(self.keys, cache);
            match self.shared.and_then(|queries| Some((shared_heads(shape, queries, threads)?, queries))) {
                Some((heads, queries)) => (
                    Schedule { heads, queries, keys },
                    format!(", rows are {heads} heads of a group times {queries} queries"),
                ),
                None => {
                    (Schedule { heads: 1, queries: self.queries_for(shape, threads).min(needed), keys }, String::new())
                }
            }
        };
        let bytes = tile_bytes(schedule, shape.head_dim, shape.value_dim);
        (schedule, format!("table row for {dims}{rows}; tiles take {} KiB", bytes.div_ceil(1024)))
    }

    /// The queries of a tile of one head: fewer where threads would be idle.
    fn queries_for(&self, shape: &Extents, threads: usize) -> u32 {
        let programs = |queries: u32| shape.batch * shape.q_heads * shape.q_len.div_ceil(queries as usize);
        let mut queries = self.queries;
        while queries > LEAST_QUERIES && programs(queries) < threads {
            queries /= 2;
        }
        queries
    }
}

/// The heads of a group that share a tile of so many queries in a prefill; none where that would leave threads idle.
fn shared_heads(shape: &Extents, queries: u32, threads: usize) -> Option<u32> {
    let heads = packed_heads(shape.q_heads / shape.kv_heads, queries, SHARED_ROWS);
    let programs = shape.batch * (shape.q_heads / heads as usize) * shape.q_len.div_ceil(queries as usize);
    (heads > 1 && programs >= PROGRAMS_PER_THREAD * threads).then_some(heads)
}

/// The most heads of a group whose queries fit one tile; the others are further tiles.
fn packed_heads(group: usize, queries: u32, rows: u32) -> u32 {
    let fit = (rows / queries).max(1) as usize;
    let heads = (1..=group.min(fit)).rev().find(|heads| group.is_multiple_of(*heads)).unwrap_or(1);
    heads as u32 // at most MAX_ROWS
}

/// A tile of keys is whole pages.
fn whole_pages(keys: u32, cache: &Format) -> u32 {
    match cache.placement {
        Placement::Contiguous | Placement::Ring => keys,
        Placement::Paged { page_size } => (keys / page_size as u32).max(1) * page_size as u32, // at most 256
    }
}

/// How the keys are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shares {
    /// Not at all: one pass.
    Whole,
    /// Into so many shares, of so many keys each, or even ones.
    Split { splits: usize, keys: Option<usize> },
}

/// How many blocks of few queries a multiprocessor holds: two, or as many as they were made for, but no more than have room.
pub(crate) fn held(variant: &Variant, shape: &Extents, device: &DeviceInfo) -> usize {
    // Work that no block can have is refused when the kernel is compiled.
    let Some(work) = variant.work.filter(|work| work.is_possible()) else { return PROGRAMS_PER_THREAD };
    let made_for = PROGRAMS_PER_THREAD.max(work.blocks as usize);
    let Some(gpu) = &device.gpu else { return made_for };
    made_for.min((gpu.shared_bytes / gpu::block_bytes(variant, shape, work)) as usize).max(1)
}

/// How the keys of a problem are split, and why.
///
/// The rule: as many shares as give each thread two programs, each of at least 512 keys; on a GPU as many as its
/// multiprocessors hold at once, which is `held` times their number, each of at least 256 keys. Shares are whole tiles, so
/// no more than that leaves something for. Prefill is never split: its query tiles keep all threads busy.
pub(crate) fn shares(
    asked: Splits,
    shape: &Extents,
    (schedule, held): (Schedule, usize),
    device: &DeviceInfo,
) -> (Shares, String) {
    let threads = device.threads;
    match asked {
        Splits::Count(1) => (Shares::Whole, "as requested".to_string()),
        Splits::Count(splits) => (Shares::Split { splits, keys: None }, "as requested".to_string()),
        Splits::Keys(keys) => {
            let keys = keys.next_multiple_of(schedule.keys as usize);
            let splits = shape.capacity.div_ceil(keys).max(1);
            (Shares::Split { splits, keys: Some(keys) }, "as requested".to_string())
        }
        Splits::Auto if shape.q_len > MAX_VERIFY => (Shares::Whole, "query tiles fill the device".to_string()),
        Splits::Auto => {
            let blocks = shape.q_len.div_ceil(schedule.queries as usize);
            let programs = (shape.batch * (shape.q_heads / schedule.heads as usize) * blocks).max(1);
            let (wanted, least) = match device.kind {
                DeviceKind::Cpu | DeviceKind::Interp => {
                    ((PROGRAMS_PER_THREAD * threads).div_ceil(programs), LEAST_SHARE)
                }
                // A block that waits for a free place costs a whole round.
                DeviceKind::Cuda | DeviceKind::Metal => {
                    (held * threads / programs, LEAST_SHARE_OF_GPU.max(schedule.keys as usize))
                }
            };
            let tiles = shape.capacity.div_ceil(schedule.keys as usize);
            let most = wanted.min(shape.capacity / least).clamp(1, MAX_SPLITS);
            match tiles.div_ceil(tiles.div_ceil(most).max(1)) {
                0 | 1 if wanted > 1 => (Shares::Whole, format!("{} keys are too few to share", shape.capacity)),
                0 | 1 => (Shares::Whole, format!("{programs} programs for {threads} threads")),
                splits => (Shares::Split { splits, keys: None }, format!("{programs} programs for {threads} threads")),
            }
        }
    }
}

/// Bytes of the tiles of one program as f32.
fn tile_bytes(schedule: Schedule, head_dim: usize, value_dim: usize) -> usize {
    let (rows, keys) = (schedule.rows() as usize, schedule.keys as usize);
    4 * (rows * (head_dim + value_dim) + keys * (head_dim + value_dim) + rows * keys)
}

/// Holds a schedule against its limits.
pub(crate) fn check(
    schedule: Schedule,
    head_dim: usize,
    value_dim: usize,
    cache: &Format,
) -> Result<(), AttentionError> {
    let refuse = |reason: String| Err(AttentionError::Schedule { schedule, reason });
    if schedule.heads == 0 || schedule.queries == 0 || schedule.rows() > MAX_ROWS {
        return refuse(format!("heads times queries must be 1 to {MAX_ROWS}"));
    }
    if !(1..=MAX_KEYS).contains(&schedule.keys) {
        return refuse(format!("keys must be 1 to {MAX_KEYS}"));
    }
    if let Placement::Paged { page_size } = cache.placement
        && !(schedule.keys as usize).is_multiple_of(page_size)
        && !page_size.is_multiple_of(schedule.keys as usize)
    {
        return refuse(format!("keys must be whole pages of {page_size}, or a whole part of one"));
    }
    let bytes = tile_bytes(schedule, head_dim, value_dim);
    if bytes > MAX_TILE_BYTES {
        return refuse(format!(
            "its tiles take {bytes} bytes; at most {MAX_TILE_BYTES} are served, halve queries or keys"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_in_place_for_as_many_rows_as_the_compiler_reads_any() {
        assert_eq!(CODES_IN_PLACE, tilewright_compile::cpu::MAX_STREAMED);
    }

    #[test]
    fn heads_share_a_tile_of_a_prefill_only_where_no_thread_is_left_idle() {
        let schedule = |q_len, threads| {
            let [head_dim, value_dim] = [128; 2];
            let shape = Extents { batch: 1, q_heads: 8, kv_heads: 2, q_len, capacity: 4096, head_dim, value_dim };
            let types = [Elem::F32; 2];
            choose(&shape, types, (&Format::DENSE, false), Machine::Cpu { threads, tiles: false }).schedule
        };
        assert_eq!(schedule(128, 2), Schedule { heads: 4, queries: 64, keys: 128 });
        assert_eq!(schedule(128, 16), Schedule { heads: 1, queries: 64, keys: 128 });
        assert_eq!(schedule(2048, 16), Schedule { heads: 4, queries: 64, keys: 128 });
    }

    #[test]
    fn the_planner_leaves_no_share_without_keys() {
        let mut compared = 0;
        for (kind, threads) in [(DeviceKind::Cpu, 2), (DeviceKind::Cpu, 7), (DeviceKind::Cuda, 132)] {
            let device = DeviceInfo { kind, name: "made up", threads, isa: "none", gpu: None, metal: None };
            for capacity in (0..2000).step_by(77).chain([32768, 131072, 131073]) {
                for (batch, keys) in [(1, 64), (3, 64), (1, 256), (16, 48)] {
                    let [head_dim, value_dim] = [128; 2];
                    let shape = Extents { batch, q_heads: 8, kv_heads: 8, q_len: 1, capacity, head_dim, value_dim };
                    let schedule = Schedule { heads: 1, queries: 1, keys };
                    let (shares, _) = shares(Splits::Auto, &shape, (schedule, PROGRAMS_PER_THREAD), &device);
                    let Shares::Split { splits, keys: None } = shares else { continue };
                    let tiles = capacity.div_ceil(keys as usize);
                    let of_each = tiles.div_ceil(splits);
                    assert!((splits - 1) * of_each < tiles, "{kind:?} {threads}: {splits} shares of {tiles} tiles");
                    compared += 1;
                }
            }
        }
        assert!(compared > 50, "{compared}");
    }
}
