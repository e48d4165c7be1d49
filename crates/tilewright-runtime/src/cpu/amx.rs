//! Products of bf16 pairs by AMX: a tile has 16 rows of 64 bytes, and one instruction adds the product of two tiles to a third.
//!
//! Panels are those of [`pairs`](super::pairs): 16 rows of a panel's 32 columns of pairs are two tiles as they lie, and so are 16
//! rows of 16 pairs of the left operand. Like the vector instruction, tiles take subnormal numbers for zero.

use super::ahead::Coming;
use super::simd::{Avx512, Simd};
use std::arch::asm;
use std::sync::LazyLock;
use tilewright_compile::cpu::Dot;

/// Rows of a tile, and pairs or sums in a row of it.
const SIDE: usize = 16;
/// Columns of a panel.
const PANEL: usize = 2 * SIDE;

/// Whether the processor multiplies tiles of bf16 numbers and the system lets this process do so. It is asked once.
pub(super) fn detected() -> bool {
    static ALLOWED: LazyLock<bool> = LazyLock::new(|| has_tiles() && request());
    *ALLOWED
}

/// Whether the processor has tiles and their bf16 products.
#[allow(unused_unsafe, reason = "older compilers have these functions unsafe")]
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const FEATURES: u32 = 7;
    const BF16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    // SAFETY: every processor of x86-64 has the instruction.
    unsafe { __cpuid(0).eax >= FEATURES && __cpuid_count(FEATURES, 0).edx & (BF16 | TILES) == BF16 | TILES }
}

/// Linux has each process ask for the room that tiles take when a thread is interrupted.
#[cfg(target_os = "linux")]
fn request() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call reads and writes no memory of this process; without tiles or permission it returns an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn request() -> bool {
    false
}

/// What each tile's rows and bytes of a row are, as the processor reads it.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The sums of two tiles of rows by two of columns.
const SUMS: [[u8; 2]; 2] = [[0, 1], [2, 3]];
/// The left operand, one tile below the other.
const LEFT: [u8; 2] = [4, 5];
/// The right one, side by side.
const RIGHT: [u8; 2] = [6, 7];

/// How much of the two tiles in each direction there is. A second tile may be empty, the first one is not.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Extents {
    rows: [usize; 2],
    columns: [usize; 2],
    /// Pairs of the contracted axis.
    pairs: usize,
}

/// So many of two tiles.
fn halves(count: usize) -> [usize; 2] {
    [count.min(SIDE), count.saturating_sub(SIDE).min(SIDE)]
}

impl Extents {
    fn new(rows: usize, columns: usize, pairs: usize) -> Extents {
        Extents { rows: halves(rows), columns: halves(columns), pairs }
    }

    /// Has the tiles of this thread be of these extents.
    ///
    /// # Safety
    /// The processor has tiles.
    unsafe fn configure(&self) {
        let mut shapes = Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut shape = |tile: u8, rows: usize, lanes: usize| {
            if rows > 0 && lanes > 0 {
                shapes.rows[usize::from(tile)] = rows as u8;
                shapes.row_bytes[usize::from(tile)] = 4 * lanes as u16;
            }
        };
        for (one, sums) in SUMS.into_iter().enumerate() {
            shape(LEFT[one], self.rows[one], self.pairs);
            shape(RIGHT[one], self.pairs, self.columns[one]);
            for (tile, columns) in sums.into_iter().zip(self.columns) {
                shape(tile, self.rows[one], columns);
            }
        }
        // SAFETY: the caller's promise; 64 bytes are read.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
    }
}

/// The instructions on tiles, by number. The compiler itself uses no tiles.
///
/// # Safety
/// Tiles of this thread are configured, those named with rows; where there is memory, each row of the tile lies in it.
mod tile {
    use super::asm;

    #[inline(always)]
    pub unsafe fn zero<const T: u8>() {
        // SAFETY: the caller's promise.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, nomem)) };
    }

    #[inline(always)]
    pub unsafe fn load<const T: u8>(from: *const f32, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            asm!("tileloadd tmm{t}, [{from} + {stride}]", t = const T, from = in(reg) from, stride = in(reg) 4 * stride,
                options(nostack, readonly));
        }
    }

    #[inline(always)]
    pub unsafe fn store<const T: u8>(to: *mut f32, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            asm!("tilestored [{to} + {stride}], tmm{t}", t = const T, to = in(reg) to, stride = in(reg) 4 * stride,
                options(nostack));
        }
    }

    #[inline(always)]
    pub unsafe fn multiply<const SUM: u8, const LEFT: u8, const RIGHT: u8>() {
        // SAFETY: the caller's promise.
        unsafe {
            asm!("tdpbf16ps tmm{s}, tmm{l}, tmm{r}", s = const SUM, l = const LEFT, r = const RIGHT, options(nostack, nomem));
        }
    }

    #[inline(always)]
    pub unsafe fn release() {
        // SAFETY: the caller's promise.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Runs one product of pairs in the arena. What is coming is not asked for: products of tiles end long before memory answers.
///
/// # Safety
/// [`detected`], and lanes for `a`, the panels of `b` and `c` in the arena, `c` apart from both.
pub(super) unsafe fn dot(dot: &Dot, arena: *mut u32, _: &mut Coming) {
    let Dot { a, b, c, m, n, k, accumulate, .. } = *dot;
    let (m, n, k) = (m as usize, n as usize, k as usize);
    // SAFETY: the lowering keeps these lanes inside the arena; blocks cover rows, columns and pairs once.
    unsafe {
        let (a, b, c) = (
            arena.add(a as usize).cast::<f32>().cast_const(),
            arena.add(b as usize).cast::<f32>().cast_const(),
            arena.add(c as usize).cast::<f32>(),
        );
        let mut configured = None;
        // Whole steps of the contracted axis, and what is left of it.
        let whole = k - k % SIDE;
        for (first, pairs, steps) in [(0, SIDE, k / SIDE), (whole, k % SIDE, 1)] {
            // Of a product of nothing, which is zero, the first part runs.
            if pairs == 0 || (steps == 0 && k > 0) {
                continue;
            }
            let add = accumulate || first > 0;
            for row in (0..m).step_by(PANEL) {
                for (panel, column) in (0..n).step_by(PANEL).enumerate() {
                    let extents = Extents::new(m - row, n - column, pairs);
                    if configured != Some(extents) {
                        extents.configure();
                        configured = Some(extents);
                    }
                    let block = Block {
                        a: a.add(row * k + first),
                        a_stride: k,
                        b: b.add((panel * k + first) * PANEL),
                        c: c.add(row * n + column),
                        c_stride: n,
                        steps,
                    };
                    match (extents.rows[1] > 0, extents.columns[1] > 0) {
                        (true, true) => block.run::<true, true>(add),
                        (true, false) => block.run::<true, false>(add),
                        (false, true) => block.run::<false, true>(add),
                        (false, false) => block.run::<false, false>(add),
                    }
                }
            }
        }
        if configured.is_some() {
            tile::release();
        }
    }
}

/// Sums of at most two tiles of rows by two of columns.
struct Block {
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
    steps: usize,
}

impl Block {
    /// `DOWN` and `ACROSS` say whether there are second tiles.
    ///
    /// # Safety
    /// Tiles are configured for the block, whose rows lie in memory.
    #[inline(always)]
    unsafe fn run<const DOWN: bool, const ACROSS: bool>(&self, add: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            let below = self.c.wrapping_add(SIDE * self.c_stride);
            if add {
                tile::load::<{ SUMS[0][0] }>(self.c, self.c_stride);
                if ACROSS {
                    tile::load::<{ SUMS[0][1] }>(self.c.wrapping_add(SIDE), self.c_stride);
                }
                if DOWN {
                    tile::load::<{ SUMS[1][0] }>(below, self.c_stride);
                }
                if DOWN && ACROSS {
                    tile::load::<{ SUMS[1][1] }>(below.wrapping_add(SIDE), self.c_stride);
                }
            } else {
                tile::zero::<{ SUMS[0][0] }>();
                if ACROSS {
                    tile::zero::<{ SUMS[0][1] }>();
                }
                if DOWN {
                    tile::zero::<{ SUMS[1][0] }>();
                }
                if DOWN && ACROSS {
                    tile::zero::<{ SUMS[1][1] }>();
                }
            }
            let (mut a, mut b) = (self.a, self.b);
            for _ in 0..self.steps {
                // What the next step reads, even past the last: the next panel, or nothing that matters.
                for row in 0..SIDE {
                    let next = b.wrapping_add((SIDE + row) * PANEL);
                    Avx512::prefetch(next.cast());
                    Avx512::prefetch(next.wrapping_add(SIDE).cast());
                }
                tile::load::<{ LEFT[0] }>(a, self.a_stride);
                tile::load::<{ RIGHT[0] }>(b, PANEL);
                tile::multiply::<{ SUMS[0][0] }, { LEFT[0] }, { RIGHT[0] }>();
                if ACROSS {
                    tile::load::<{ RIGHT[1] }>(b.wrapping_add(SIDE), PANEL);
                    tile::multiply::<{ SUMS[0][1] }, { LEFT[0] }, { RIGHT[1] }>();
                }
                if DOWN {
                    tile::load::<{ LEFT[1] }>(a.wrapping_add(SIDE * self.a_stride), self.a_stride);
                    tile::multiply::<{ SUMS[1][0] }, { LEFT[1] }, { RIGHT[0] }>();
                }
                if DOWN && ACROSS {
                    tile::multiply::<{ SUMS[1][1] }, { LEFT[1] }, { RIGHT[1] }>();
                }
                a = a.wrapping_add(SIDE);
                b = b.wrapping_add(SIDE * PANEL);
            }
            tile::store::<{ SUMS[0][0] }>(self.c, self.c_stride);
            if ACROSS {
                tile::store::<{ SUMS[0][1] }>(self.c.wrapping_add(SIDE), self.c_stride);
            }
            if DOWN {
                tile::store::<{ SUMS[1][0] }>(below, self.c_stride);
            }
            if DOWN && ACROSS {
                tile::store::<{ SUMS[1][1] }>(below.wrapping_add(SIDE), self.c_stride);
            }
        }
    }
}

/// Products of tiles in a chain, for measuring the ceiling: how many operations were done.
///
/// # Safety
/// [`detected`].
pub(super) unsafe fn chain(rounds: u64) -> u64 {
    const ALL: Extents = Extents { rows: [SIDE; 2], columns: [SIDE; 2], pairs: SIDE };
    // SAFETY: the caller's promise; operands are zero from when tiles are configured.
    unsafe {
        ALL.configure();
        for _ in 0..rounds {
            tile::multiply::<{ SUMS[0][0] }, { LEFT[0] }, { RIGHT[0] }>();
            tile::multiply::<{ SUMS[0][1] }, { LEFT[0] }, { RIGHT[1] }>();
            tile::multiply::<{ SUMS[1][0] }, { LEFT[1] }, { RIGHT[0] }>();
            tile::multiply::<{ SUMS[1][1] }, { LEFT[1] }, { RIGHT[1] }>();
        }
        tile::release();
    }
    rounds * 4 * (2 * SIDE * SIDE * 2 * SIDE) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    /// A product of extents that fill tiles, that end within one, and that are less than one, against f64.
    #[test]
    fn products_of_any_extents_are_those_of_f64() {
        if !detected() {
            return println!("skipped: this processor multiplies no tiles");
        }
        let number = |seed: usize| bf16::from_f32((seed * 2_654_435_761 % 1009) as f32 / 128.0 - 3.9);
        let mut compared = 0;
        for m in [1usize, 15, 16, 17, 32, 33, 70] {
            for n in [1usize, 16, 17, 32, 40, 64, 81] {
                for k in [0usize, 1, 15, 16, 17, 48, 50] {
                    let across = n.next_multiple_of(PANEL);
                    let (b, c) = (m * k, m * k + k * across);
                    let mut arena = vec![0u32; c + m * n];
                    let pair = |x: bf16, y: bf16| u32::from(x.to_bits()) | u32::from(y.to_bits()) << 16;
                    let left = |row: usize, at: usize| number(row * 2 * k + at);
                    let right = |at: usize, column: usize| number(7919 + at * n + column);
                    for row in 0..m {
                        for at in 0..k {
                            arena[row * k + at] = pair(left(row, 2 * at), left(row, 2 * at + 1));
                        }
                    }
                    for at in 0..k {
                        for column in 0..n {
                            let lane = b + (column / PANEL * k + at) * PANEL + column % PANEL;
                            arena[lane] = pair(right(2 * at, column), right(2 * at + 1, column));
                        }
                    }
                    for accumulate in [false, true] {
                        arena[c..].fill(if accumulate { 2.5f32 } else { f32::NAN }.to_bits());
                        let [m, n, k] = [m, n, k].map(|x| x as u32);
                        let product = Dot { a: 0, b: b as u32, c: c as u32, m, n, k, accumulate, pairs: true };
                        // SAFETY: the processor has tiles, and there is room.
                        unsafe { dot(&product, arena.as_mut_ptr(), &mut { Coming::NOTHING }) };
                        for (at, got) in arena[c..].iter().map(|&bits| f64::from(f32::from_bits(bits))).enumerate() {
                            let (row, column) = (at / n as usize, at % n as usize);
                            let terms =
                                (0..2 * k as usize).map(|at| left(row, at).to_f64() * right(at, column).to_f64());
                            let wanted = terms.sum::<f64>() + if accumulate { 2.5 } else { 0.0 };
                            assert!((got - wanted).abs() <= 1e-3, "{m}x{n}x{k} at {row}, {column}: {got}, {wanted}");
                            compared += 1;
                        }
                    }
                }
            }
        }
        assert!(compared > 50_000, "{compared}");
    }
}
