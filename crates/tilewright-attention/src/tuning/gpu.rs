//! The tile shapes of GPUs, a table for each kind, and how their threads share the work.

use super::{Choice, Coding, MAX_VERIFY, needed, packed_heads};
use crate::attention::Extents;
use crate::cache::{Encoding, Format, Placement};
use crate::quant::Affine;
use crate::variant::Variant;
use tilewright_ir::{Elem, Schedule, Work};

mod search;

#[cfg(test)]
pub(super) use search::with;
pub(super) use search::{Limits, candidates, row_of};

/// What a row is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Many queries.
    Prefill,
    /// Up to 64 queries, which share their keys with the heads of a group.
    Few,
}

/// One row of a table: problems with at most these dims and rows.
#[derive(Clone, Copy)]
pub(super) struct Row {
    phase: Phase,
    /// Bytes of an element of q: 2 goes to matrix units.
    bytes: usize,
    /// The larger of head dim and value dim.
    max_dim: usize,
    /// Rows of a tile: queries of a prefill, heads times queries otherwise.
    rows: u32,
    keys: u32,
    work: Work,
    serves: Serves,
}

/// Which requests a row's sums leave registers for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Serves {
    All,
    /// Those whose keys and values are no codes.
    Stored,
    /// Of these, those whose masks leave no holes.
    Plain,
    /// Those whose keys and values are no codes and lie in one tensor, not in pages, and whose programs have a multiprocessor each.
    Alone,
    /// Those whose keys and values are codes that products take as words: of one tensor, and with no holes.
    Codes,
}

const fn row(phase: Phase, bytes: usize, max_dim: usize, rows: u32, keys: u32, work: [u32; 4]) -> Row {
    let [down, across, stages, blocks] = work;
    Row {
        phase,
        bytes,
        max_dim,
        rows,
        keys,
        work: Work { rows: down, columns: across, stages, blocks },
        serves: Serves::All,
    }
}

/// Any dim.
const ANY: usize = usize::MAX;

/// Of the rows for a problem's dims whose blocks fit a multiprocessor's shared memory, the first with as many rows as the problem counts, or
/// the first of those with the most. So the best comes first, and smaller ones for GPUs with less memory come after it.
///
/// Above a row stand figures of cases that it serves, on an H200 (bench/README.md); `tile tune --device cuda CASE`
/// measures one again, beside other rows. Of the other rows none is recorded.
pub(super) const CUDA: &[Row] = &[
    // prefill_d64_b4_h32_l4096/bf16: 300 TFLOP/s
    // prefill_causal_d64_b4_h32_l4096/bf16: 272 TFLOP/s
    row(Phase::Prefill, 2, 64, 128, 64, [4, 1, 2, 2]),
    // prefill_d128_b2_h16_l8192/bf16: 346 TFLOP/s
    // prefill_causal_d128_b8_h16_l2048/bf16: 270 TFLOP/s
    Row { serves: Serves::Plain, ..row(Phase::Prefill, 2, 128, 128, 48, [4, 1, 2, 2]) },
    // Causal as a mask with its class map, B8 H16 L2048: 235 TFLOP/s, 233 with 2 stages; 48 keys spill.
    Row { serves: Serves::Stored, ..row(Phase::Prefill, 2, 128, 128, 32, [4, 1, 3, 2]) },
    Row { serves: Serves::Stored, ..row(Phase::Prefill, 2, 128, 128, 32, [4, 1, 2, 1]) },
    row(Phase::Prefill, 2, 128, 64, 32, [4, 1, 2, 2]),
    // prefill_d256_b2_h8_l8192/bf16: 283 TFLOP/s
    // prefill_causal_d256_b2_h8_l8192/bf16: 265 TFLOP/s
    row(Phase::Prefill, 2, 256, 64, 64, [4, 1, 1, 2]),
    // prefill_causal_d512_b1_h8_l4096/bf16: 170 TFLOP/s
    row(Phase::Prefill, 2, 512, 64, 64, [2, 4, 1, 1]),
    row(Phase::Prefill, 2, ANY, 32, 32, [2, 4, 1, 1]),
    row(Phase::Prefill, 2, ANY, 32, 16, [2, 2, 1, 1]),
    row(Phase::Prefill, 4, 64, 64, 64, [4, 1, 1, 1]),
    row(Phase::Prefill, 4, 128, 64, 32, [4, 2, 1, 1]),
    row(Phase::Prefill, 4, 256, 32, 32, [2, 4, 1, 1]),
    row(Phase::Prefill, 4, ANY, 32, 16, [2, 4, 1, 1]),
    row(Phase::Prefill, 4, ANY, 16, 16, [1, 4, 1, 1]),
    row(Phase::Prefill, 4, ANY, 16, 16, [1, 2, 1, 1]), // up to dim 512 in 99 KiB
    // A warp a block: nothing is decoded twice, and no warp waits for another. Tiles are no squares: scores and sums of values lie in two ways.
    Row { serves: Serves::Codes, ..row(Phase::Few, 2, 64, 16, 32, [1, 1, 2, 8]) },
    // decode_int4_d128_b16_h32_kv8_l8192/bf16: 61.4 us
    Row { serves: Serves::Codes, ..row(Phase::Few, 2, 128, 16, 64, [1, 1, 2, 8]) },
    // decode_int8_d128_b16_h32_kv8_l8192/bf16: 85.3 us
    Row { serves: Serves::Codes, ..row(Phase::Few, 2, 128, 16, 32, [1, 1, 2, 8]) },
    Row { serves: Serves::Codes, ..row(Phase::Few, 2, 128, 16, 32, [1, 1, 2, 4]) },
    // decode_d64_b16_h32_kv8_l8192/bf16: 66.5 us
    Row { serves: Serves::Alone, ..row(Phase::Few, 2, 64, 16, 256, [1, 4, 2, 1]) },
    Row { serves: Serves::Stored, ..row(Phase::Few, 2, 64, 16, 128, [1, 4, 2, 2]) },
    // One block to a multiprocessor that reads far ahead, and half as many shares to merge: of programs that are split into no
    // shares at all, nothing is merged.
    // decode_d128_b1_h32_kv8_l4096/bf16: 10.1 us
    // decode_d128_b1_h32_kv8_l32768/bf16: 38.6 us
    // decode_d128_b1_h32_kv8_l131072/bf16: 133.1 us
    // decode_d128_b16_h32_kv8_l8192/bf16: 127.4 us (132.5 us with 96 keys [1, 4, 3, 1], within 0.8 % of it in the other cases)
    // decode_ring_d128_b16_h32_kv8_l8192/bf16: 131.4 us
    Row { serves: Serves::Alone, ..row(Phase::Few, 2, 128, 16, 128, [1, 8, 2, 1]) },
    // decode_d128_b64_h32_kv8_l4096/bf16: 253.5 us (255.0 us with the next row)
    Row { serves: Serves::Stored, ..row(Phase::Few, 2, 128, 16, 64, [1, 2, 1, 4]) },
    row(Phase::Few, 2, 128, 16, 64, [1, 4, 2, 2]),
    // decode_d256_b1_h16_kv8_l65536/bf16: 130.8 us
    Row { serves: Serves::Alone, ..row(Phase::Few, 2, 256, 16, 64, [1, 8, 2, 1]) },
    row(Phase::Few, 2, 256, 16, 64, [1, 4, 2, 1]),
    row(Phase::Few, 2, ANY, 16, 32, [1, 4, 2, 1]),
    row(Phase::Few, 2, ANY, 16, 32, [1, 4, 1, 1]),
    Row { serves: Serves::Codes, ..row(Phase::Few, 2, 128, 64, 64, [1, 4, 2, 2]) },
    // verify_q8_d128_b1_h32_kv8_l4096/bf16: 12.2 us
    // verify_q8_d128_b1_h32_kv8_l65536/bf16: 73.8 us
    Row { serves: Serves::Stored, ..row(Phase::Few, 2, 128, 32, 64, [2, 2, 2, 2]) },
    // verify_q16_d128_b16_h32_kv8_l8192/bf16: 157 us
    row(Phase::Few, 2, 128, 64, 64, [4, 1, 2, 2]),
    row(Phase::Few, 2, 256, 64, 32, [4, 2, 2, 1]),
    row(Phase::Few, 2, 512, 64, 32, [4, 2, 1, 1]),
    row(Phase::Few, 2, ANY, 32, 32, [2, 4, 1, 1]),
    row(Phase::Few, 2, ANY, 32, 16, [2, 2, 1, 1]),
    row(Phase::Few, 4, 128, 16, 32, [1, 4, 2, 1]),
    row(Phase::Few, 4, 256, 16, 32, [1, 8, 1, 1]),
    row(Phase::Few, 4, ANY, 16, 16, [1, 8, 1, 1]),
    row(Phase::Few, 4, ANY, 16, 16, [1, 4, 1, 1]),
    row(Phase::Few, 4, ANY, 16, 16, [1, 2, 1, 1]),
    row(Phase::Few, 4, 128, 64, 32, [4, 2, 1, 1]),
    row(Phase::Few, 4, 256, 64, 16, [4, 2, 1, 1]),
    row(Phase::Few, 4, ANY, 32, 16, [2, 4, 1, 1]),
];

/// The same for Metal, whose threadgroups have 32 KiB: a tile of queries, one of keys and one of values lie there. f32 with dims
/// above 256 does not fit. None of them was measured.
pub(super) const METAL: &[Row] = &[
    row(Phase::Prefill, 2, 128, 32, 32, [4, 1, 1, 1]),
    row(Phase::Prefill, 2, 256, 16, 16, [2, 2, 1, 1]),
    row(Phase::Prefill, 2, ANY, 8, 8, [1, 1, 1, 1]),
    row(Phase::Prefill, 4, 64, 32, 32, [4, 1, 1, 1]),
    row(Phase::Prefill, 4, 128, 16, 16, [2, 2, 1, 1]),
    row(Phase::Prefill, 4, ANY, 8, 8, [1, 1, 1, 1]),
    row(Phase::Few, 2, 128, 8, 32, [1, 4, 1, 1]),
    row(Phase::Few, 2, 128, 32, 32, [4, 1, 1, 1]),
    row(Phase::Few, 2, 256, 16, 16, [2, 2, 1, 1]),
    row(Phase::Few, 2, ANY, 8, 8, [1, 1, 1, 1]),
    row(Phase::Few, 4, 64, 32, 32, [4, 1, 1, 1]),
    row(Phase::Few, 4, 128, 16, 16, [2, 2, 1, 1]),
    row(Phase::Few, 4, ANY, 8, 8, [1, 1, 1, 1]),
];

/// A limit of shared memory that every row keeps.
pub(super) const ALL_FIT: u32 = u32::MAX;

/// Bytes of shared memory that a block of few queries takes, about.
pub(super) fn block_bytes(variant: &Variant, shape: &Extents, work: Work) -> u32 {
    let (types, cache) = ([variant.q, variant.kv], &variant.cache);
    let decoded = are_decoded(cache, variant.features.leave_holes(), types);
    let serves = if decoded { Serves::Codes } else { Serves::All };
    let [rows, keys] = [variant.schedule.rows(), variant.schedule.keys];
    let row = Row { phase: Phase::Few, bytes: variant.q.bytes(), max_dim: ANY, rows, keys, work, serves };
    row.shared_bytes(shape, types, cache)
}

/// Whether keys and values lie in one tensor each, not in pages.
fn is_one_tensor(cache: &Format) -> bool {
    !cache.tail && matches!(cache.placement, Placement::Contiguous | Placement::Ring)
}

/// Whether keys and values are codes that products take as words.
fn are_decoded(cache: &Format, holes: bool, types: [Elem; 2]) -> bool {
    let coded = [cache.keys, cache.values].iter().all(|encoding| matches!(encoding, Encoding::Affine(_)));
    coded && is_one_tensor(cache) && !holes && types[0] == types[1]
}

/// Whether CUDA's matrix units multiply the codes of a cache themselves: those of bf16, where the columns of a lane lie in one group and
/// scores do not have the shape of sums of values.
pub(super) fn multiplies_codes(of: &Coding<'_>) -> bool {
    let work = of.work.filter(|work| work.is_possible()); // else refused where it is compiled
    let (Encoding::Affine(Affine { bits, group }), Some(work)) = (of.cache.values, work) else { return false };
    let (warps, keys) = (work.columns as usize, of.schedule.keys as usize);
    let columns = of.value_dim / warps;
    let spread = columns.min(group.size());
    let of_lanes = of.value_dim.is_multiple_of(8 * warps)
        && columns.is_multiple_of(spread)
        && group.size().is_multiple_of(spread)
        && spread * bits.width() >= 8 * 16;
    let tiles = keys.is_multiple_of(16) && keys.is_multiple_of(8 * warps) && keys != of.value_dim;
    of.types[0] == Elem::Bf16 && are_decoded(of.cache, of.holes, of.types) && of_lanes && tiles
}

impl Row {
    /// Bytes of shared memory that a block takes, about, and rather too many: tiles of q, keys and values, weights where warps
    /// share the columns, and what is unpacked.
    fn shared_bytes(&self, shape: &Extents, [q, kv]: [Elem; 2], cache: &Format) -> u32 {
        // A row of a tile, with what keeps rows apart in the banks.
        let of = |dim: usize, bytes: usize| (dim * bytes + 16) as u32;
        let Work { columns, stages, .. } = self.work;
        let side = |encoding: Encoding, dim: usize| match encoding {
            Encoding::Stored => stages * of(dim, kv.bytes()),
            // Decoded on the way: scales and biases lie close, and no decoded tile is there.
            Encoding::Affine(Affine { bits, group }) if self.serves == Serves::Codes => {
                let scales = (dim.div_ceil(group.size()) * kv.bytes()).next_multiple_of(4) as u32;
                stages * (of(dim * bits.width() / 8, 1) + 2 * scales)
            }
            Encoding::Affine(Affine { bits, group }) => {
                let scales = of(dim.div_ceil(group.size()), kv.bytes());
                stages * (of(dim * bits.width() / 8, 1) + 2 * scales) + of(dim, q.bytes())
            }
        };
        // Products take 16 keys at a time, and each of the warps beside each other takes 8 at least.
        let least = self.keys.next_multiple_of(16);
        let keys = least.next_multiple_of(8 * columns);
        let weights = if columns > 1 { of(keys as usize, q.bytes()) + 8 * columns } else { 0 };
        let rows = self.rows * (of(shape.head_dim, q.bytes()) + weights);
        rows + keys * side(cache.keys, shape.head_dim) + least * side(cache.values, shape.value_dim) + 512
    }
}

/// What decides on the row of a problem.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'p> {
    pub shape: &'p Extents,
    /// Element types of the queries, and of keys and values.
    pub types: [Elem; 2],
    pub cache: &'p Format,
    /// Whether masks leave some.
    pub holes: bool,
    /// Of a block, or [`ALL_FIT`].
    pub shared_bytes: u32,
    pub multiprocessors: usize,
}

impl Wanted<'_> {
    fn dim(&self) -> usize {
        self.shape.head_dim.max(self.shape.value_dim)
    }

    fn few(&self) -> bool {
        self.shape.q_len <= MAX_VERIFY
    }

    /// Query heads of a key/value head.
    fn group(&self) -> u32 {
        u32::try_from(self.shape.q_heads / self.shape.kv_heads).unwrap_or(u32::MAX)
    }

    fn queries(&self) -> u32 {
        needed(self.shape)
    }

    /// As many as one tile can use.
    fn rows(&self) -> u32 {
        if self.few() { self.group().saturating_mul(self.queries()) } else { self.queries() }
    }

    /// Whether a row is for such dims and types.
    fn of(&self, row: &Row) -> bool {
        let phase = if self.few() { Phase::Few } else { Phase::Prefill };
        row.phase == phase && row.bytes == self.types[0].bytes() && self.dim() <= row.max_dim
    }

    /// Whether as many of its blocks as it is meant for share a multiprocessor, whose memory is hardly more than a
    /// block's: there it is the best.
    fn fits(&self, row: &Row) -> bool {
        let taken = || row.work.blocks * row.shared_bytes(self.shape, self.types, self.cache);
        self.shared_bytes == ALL_FIT || taken() <= self.shared_bytes
    }

    fn serves(&self, row: &Row) -> bool {
        let Wanted { cache, holes, types, .. } = *self;
        let stored = [cache.keys, cache.values].iter().all(|encoding| matches!(encoding, Encoding::Stored));
        match row.serves {
            Serves::All => true,
            Serves::Stored => stored,
            Serves::Alone => {
                stored && is_one_tensor(cache) && self.shape.batch * self.shape.kv_heads <= self.multiprocessors
            }
            Serves::Plain => stored && !holes,
            Serves::Codes => are_decoded(cache, holes, types),
        }
    }

    /// The row that serves it.
    fn row<'t>(&self, table: &'t [Row]) -> &'t Row {
        let rows = || table.iter().filter(|row| self.of(row) && self.fits(row) && self.serves(row));
        let most = rows().map(|row| row.rows).max();
        let row = rows().find(|row| self.rows() <= row.rows).or(rows().find(|row| Some(row.rows) == most));
        // Where none fits, the compiler says by how much.
        row.or(table.iter().rfind(|row| self.of(row))).unwrap_or(&table[0]) // every kind has a row for any dims
    }
}

/// What serves a problem on a GPU.
pub(super) fn choose(wanted: &Wanted<'_>, table: &[Row]) -> Choice {
    wanted.row(table).choice(wanted)
}

impl Row {
    fn choice(&self, wanted: &Wanted<'_>) -> Choice {
        let queries = wanted.queries().min(self.rows);
        let heads = if wanted.few() { packed_heads(wanted.group() as usize, queries, self.rows) } else { 1 };
        let schedule = Schedule { heads, queries, keys: of_pages(self.keys, wanted.cache) };
        let dims = if self.max_dim == ANY { "any dims".to_string() } else { format!("dims up to {}", self.max_dim) };
        let reason = format!("GPU table row for {dims}, {} rows", self.rows);
        Choice { schedule, work: Some(self.work), reason }
    }
}

/// A tile of keys is whole pages, or a whole part of one where that has more keys.
fn of_pages(keys: u32, cache: &Format) -> u32 {
    match cache.placement {
        Placement::Contiguous | Placement::Ring => keys,
        Placement::Paged { page_size } => {
            let page = page_size as u32; // at most 256
            let part = (1..=keys).rev().find(|keys| page.is_multiple_of(*keys)).unwrap_or(1);
            (keys / page * page).max(part)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(elem: Elem, dim: usize, q_len: usize, shared_kib: u32) -> (u32, u32) {
        let shape = Extents { batch: 1, q_heads: 4, kv_heads: 1, q_len, capacity: 4096, head_dim: dim, value_dim: dim };
        let (types, shared_bytes) = ([elem; 2], shared_kib << 10);
        let wanted =
            Wanted { shape: &shape, types, cache: &Format::DENSE, holes: false, shared_bytes, multiprocessors: 132 };
        let Choice { schedule, .. } = choose(&wanted, CUDA);
        (schedule.rows(), schedule.keys)
    }

    #[test]
    fn a_prefill_gets_the_first_row_of_its_dims() {
        for dim in [64, 128, 256] {
            let first = CUDA.iter().find(|row| (row.phase, row.bytes, row.max_dim) == (Phase::Prefill, 2, dim));
            let first = first.map(|row| (row.rows, row.keys));
            assert_eq!(Some(chosen(Elem::Bf16, dim, 4096, 227)), first, "{dim}");
        }
    }

    #[test]
    fn a_gpu_with_less_shared_memory_gets_smaller_tiles() {
        for (elem, dim, q_len) in [(Elem::Bf16, 512, 1024), (Elem::Bf16, 256, 1), (Elem::F32, 512, 1024)] {
            let ((rows, keys), (fewer_rows, fewer_keys)) =
                (chosen(elem, dim, q_len, 227), chosen(elem, dim, q_len, 99));
            assert!(fewer_rows * fewer_keys < rows * keys, "{elem} {dim} {q_len}");
        }
    }

    #[test]
    fn a_decode_has_multiprocessors_to_itself_where_there_are_enough_of_them() {
        let keys = |batch, placement, shared_kib: u32| {
            let shape =
                Extents { batch, q_heads: 32, kv_heads: 8, q_len: 1, capacity: 4096, head_dim: 128, value_dim: 128 };
            let cache = &Format { placement, ..Format::DENSE };
            let (types, shared_bytes) = ([Elem::Bf16; 2], shared_kib << 10);
            let wanted = Wanted { shape: &shape, types, cache, holes: false, shared_bytes, multiprocessors: 132 };
            choose(&wanted, CUDA).schedule.keys
        };
        assert_eq!([1, 16, 17].map(|batch| keys(batch, Placement::Contiguous, 227)), [128, 128, 64]);
        assert_eq!(keys(16, Placement::Ring, 227), 128);
        assert_eq!(keys(16, Placement::Paged { page_size: 16 }, 227), 64);
        assert_eq!(keys(16, Placement::Contiguous, 99), 64);
    }

    #[test]
    fn codes_are_multiplied_where_a_lane_s_columns_lie_in_one_group() {
        let multiplied = |cache: &str, [q, kv]: [Elem; 2], holes, (value_dim, keys, warps)| {
            use tilewright_lang::SpecValue as _;
            let cache = &Format::parse(cache).expect("a format");
            let schedule = Schedule { heads: 4, queries: 1, keys };
            let work = Some(Work { rows: 1, columns: warps, stages: 2, blocks: 1 });
            multiplies_codes(&Coding { cache, types: [q, kv], holes, value_dim, schedule, work })
        };
        let [f16, bf16] = [[Elem::F16; 2], [Elem::Bf16; 2]];
        assert!(
            !multiplied("dense+k-q8g64+v-q4g64", bf16, false, (128, 64, 0)),
            "no warps at all are refused elsewhere"
        );
        let codes = "dense+k-q8g64+v-q4g64";
        for shape in [(128, 64, 1), (128, 64, 4), (64, 32, 2), (192, 32, 1), (576, 32, 1)] {
            assert!(multiplied(codes, bf16, false, shape), "{shape:?}");
        }
        // Scores like sums; columns of two groups; half a lane's codes; a fragment of keys for half of the warps.
        for shape in [(64, 64, 1), (192, 32, 2), (64, 32, 4), (128, 16, 4)] {
            assert!(!multiplied(codes, bf16, false, shape), "{shape:?}");
        }
        assert!(!multiplied(codes, f16, false, (128, 64, 1)) && !multiplied(codes, bf16, true, (128, 64, 1)));
        for cache in ["dense+k-q8g64", "paged(16)+k-q8g64+v-q4g64", "dense+k-q8g64+v-q4g64+tail"] {
            assert!(!multiplied(cache, bf16, false, (128, 64, 1)), "{cache}");
        }
    }

    #[test]
    fn every_dim_has_a_row_that_fits_the_least_memory_but_f32_above_512() {
        for (elem, dims) in [(Elem::Bf16, 1..=576), (Elem::F16, 1..=576), (Elem::F32, 1..=512)] {
            for dim in dims.step_by(5) {
                for q_len in [1, 16, 1024] {
                    let shape = Extents {
                        batch: 1,
                        q_heads: 4,
                        kv_heads: 1,
                        q_len,
                        capacity: 4096,
                        head_dim: dim,
                        value_dim: dim,
                    };
                    let fits = |row: &Row| row.shared_bytes(&shape, [elem; 2], &Format::DENSE) <= 99 << 10;
                    let phase = if q_len <= MAX_VERIFY { Phase::Few } else { Phase::Prefill };
                    let served = |row: &Row| row.phase == phase && row.bytes == elem.bytes() && dim <= row.max_dim;
                    assert!(CUDA.iter().any(|row| served(row) && fits(row)), "{elem} {dim} {q_len}");
                }
            }
        }
    }
}
