//! Matrices in pairs: a lane has the bf16 numbers of two neighbours along the contracted axis, which one instruction multiplies
//! and adds. Numbers are bf16 in the source already, or rounded here. The instruction takes subnormal numbers for zero.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other processor multiplies pairs yet"))]

use super::ahead::Ahead;
use super::math;
use super::memory::{Columns, Place, Stored, with_stored};
use super::simd::Simd;
use tilewright_ir::Elem;

/// Two bf16 numbers of lanes, which may hold more digits.
#[inline(always)]
fn rounded(first: u32, second: u32) -> u32 {
    let bits = |x: u32| math::round_bf16(f32::from_bits(x)).to_bits();
    bits(first) >> 16 | bits(second) & 0xffff_0000
}

/// Rows of numbers to rows of pairs.
///
/// # Safety
/// `rows * columns` lanes in `src`, and as many pairs in `dst`; AVX-512 with BF16.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn pair(src: *const u32, dst: *mut u32, rows: usize, columns: usize) {
    use std::arch::x86_64::*;
    const AT_ONCE: usize = 32;
    let pairs = columns.div_ceil(2);
    for row in 0..rows {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (src.add(row * columns), dst.add(row * pairs));
            let mut at = 0;
            while at + AT_ONCE <= columns {
                let (low, high) = (_mm512_loadu_ps(from.add(at).cast()), _mm512_loadu_ps(from.add(at + 16).cast()));
                to.add(at / 2).cast::<__m512bh>().write_unaligned(_mm512_cvtne2ps_pbh(high, low));
                at += AT_ONCE;
            }
            while at < columns {
                let second = if at + 1 < columns { *from.add(at + 1) } else { 0 };
                *to.add(at / 2) = rounded(*from.add(at), second);
                at += 2;
            }
        }
    }
}

/// Where packed pairs go: panels of `panel` columns of `k` rows, two of them a lane.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub dst: *mut u32,
    pub k: usize,
    pub n: usize,
    pub panel: usize,
}

impl Panels {
    /// The lane of row `k` (and of its neighbour) in a column.
    #[inline(always)]
    fn lane(&self, k: usize, column: usize) -> *mut u32 {
        let rows = self.k.div_ceil(2);
        self.dst.wrapping_add((column / self.panel * rows + k / 2) * self.panel + column % self.panel)
    }

    /// # Safety
    /// There is room.
    #[inline(always)]
    unsafe fn clear(&self) {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::write_bytes(self.dst, 0, self.k.div_ceil(2) * self.n.next_multiple_of(self.panel)) };
    }

    /// Writes one half of a lane.
    ///
    /// # Safety
    /// There is room.
    #[inline(always)]
    unsafe fn half(&self, k: usize, column: usize, bits: u32) {
        // SAFETY: the caller's promise; on the processors that have pairs the lower half comes first.
        unsafe {
            *self.lane(k, column).cast::<u16>().add(k % 2) =
                (math::round_bf16(f32::from_bits(bits)).to_bits() >> 16) as u16
        };
    }
}

/// Packs a `[k, n]` matrix.
///
/// # Safety
/// There is room for the panels. The place has k rows of n columns, columns that are not taken at indices, and a lane for each
/// index of another axis. The instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn pack_rows<V: Simd>(source: &Place<'_>, to: Panels) {
    let ahead = Ahead::of(source);
    let Columns { first, last, stride, skip } = source.columns();
    let whole = |elem| source.elem() == elem && stride == 1 && first == 0 && last == to.n;
    // SAFETY: the caller's promise; only rows and columns inside the bounds are read.
    unsafe {
        if !(source.is_inside() && to.k.is_multiple_of(2) && to.n.is_multiple_of(to.panel)) {
            to.clear();
        }
        for k in (0..to.k).step_by(2) {
            let rows: [*mut u8; 2] = source.some_rows(k);
            ahead.prefetch::<V, 2>(k, &rows);
            let rows = rows.map(|row| if row.is_null() { row } else { row.wrapping_offset(skip) });
            let both = !rows[0].is_null() && !rows[1].is_null();
            let panels = (0..to.n).step_by(to.panel).map(|column| (column, to.panel.min(to.n - column)));
            if both && whole(Elem::Bf16) && to.panel == 2 * V::LANES && to.n.is_multiple_of(to.panel) {
                let mut lane = to.lane(k, 0).cast::<f32>();
                for column in (0..to.n).step_by(to.panel) {
                    let first = V::load(rows[0].cast::<u16>().cast_const().add(column).cast());
                    let second = V::load(rows[1].cast::<u16>().cast_const().add(column).cast());
                    let [low, high] = V::in_turns(first, second);
                    V::store(lane, low);
                    V::store(lane.add(V::LANES), high);
                    lane = lane.wrapping_add(to.k.div_ceil(2) * to.panel);
                }
            } else if both && whole(Elem::Bf16) {
                for (column, count) in panels {
                    let at = |row: usize| rows[row].cast::<u16>().cast_const().add(column);
                    zip(at(0), at(1), to.lane(k, column), count, |a, b| u32::from(a) | u32::from(b) << 16);
                }
            } else if both && whole(Elem::F32) {
                for (column, count) in panels {
                    let at = |row: usize| rows[row].cast::<u32>().cast_const().add(column);
                    zip(at(0), at(1), to.lane(k, column), count, rounded);
                }
            } else {
                scattered(source, k, &rows, |row, column, bits| to.half(k + row, column, bits));
            }
        }
    }
}

/// Two rows as one of pairs.
///
/// # Safety
/// As many numbers in both, and room.
#[inline(always)]
unsafe fn zip<T: Copy>(first: *const T, second: *const T, to: *mut u32, count: usize, pair: impl Fn(T, T) -> u32) {
    const CHUNK: usize = 16;
    let mut at = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while at + CHUNK <= count {
            let a = first.add(at).cast::<[T; CHUNK]>().read_unaligned();
            let b = second.add(at).cast::<[T; CHUNK]>().read_unaligned();
            let mut out = [0; CHUNK];
            for lane in 0..CHUNK {
                out[lane] = pair(a[lane], b[lane]);
            }
            to.add(at).cast::<[u32; CHUNK]>().write_unaligned(out);
            at += CHUNK;
        }
        while at < count {
            *to.add(at) = pair(*first.add(at), *second.add(at));
            at += 1;
        }
    }
}

/// Packs a `[k, n]` matrix that is stored as `[n, k]`, in squares of sixteen pairs, or of eight: a pair is one word of a row.
///
/// # Safety
/// As [`pack_rows`], with n rows of k columns.
#[inline(always)]
pub(super) unsafe fn pack_transposed<V: Simd>(source: &Place<'_>, to: Panels) {
    const SQUARE: usize = 8;
    const WIDE: usize = 16;
    let ahead = Ahead::of(source);
    let Columns { first, last, stride, skip } = source.columns();
    let whole =
        source.elem() == Elem::Bf16 && stride == 1 && first == 0 && last == to.k && to.k.is_multiple_of(2 * SQUARE);
    // SAFETY: the caller's promise; only rows and columns inside the bounds are read.
    unsafe {
        if !(source.is_inside() && to.k.is_multiple_of(2) && to.n.is_multiple_of(to.panel)) {
            to.clear();
        }
        let mut left = 0;
        if V::LANES == WIDE && whole && to.k.is_multiple_of(2 * WIDE) && to.panel.is_multiple_of(WIDE) {
            while left + WIDE <= to.n {
                let rows: [*mut u8; WIDE] = source.some_rows(left);
                if rows.iter().any(|row| row.is_null()) {
                    break;
                }
                if !ahead.is_even() {
                    ahead.prefetch::<V, WIDE>(left, &rows);
                }
                for k in (0..to.k).step_by(2 * WIDE) {
                    let mut x = [V::splat(0.0); WIDE];
                    for (x, row) in x.iter_mut().zip(rows) {
                        let from = row.wrapping_offset(skip).cast::<u16>().cast_const().add(k);
                        ahead.prefetch_line::<V>(from.cast());
                        *x = V::load(from.cast());
                    }
                    for (pair, lanes) in V::transposed_vectors(&x).into_iter().enumerate() {
                        V::store(to.lane(k + 2 * pair, left).cast(), lanes);
                    }
                }
                left += WIDE;
            }
        }
        for column in (left..to.n).step_by(SQUARE) {
            let rows: [*mut u8; SQUARE] = source.some_rows(column);
            ahead.prefetch::<V, SQUARE>(column, &rows);
            let rows = rows.map(|row| if row.is_null() { row } else { row.wrapping_offset(skip) });
            if whole && rows.iter().all(|row| !row.is_null()) {
                for k in (0..to.k).step_by(2 * SQUARE) {
                    let mut x = [[0; SQUARE]; SQUARE];
                    for (x, row) in x.iter_mut().zip(rows) {
                        *x = row.cast::<u16>().add(k).cast::<[u32; SQUARE]>().read_unaligned();
                    }
                    for (pair, lanes) in V::transposed(x).into_iter().enumerate() {
                        to.lane(k + 2 * pair, column).cast::<[u32; SQUARE]>().write_unaligned(lanes);
                    }
                }
            } else {
                scattered(source, column, &rows, |row, k, bits| to.half(k, column + row, bits));
            }
        }
    }
}

/// Calls `f(row, column, lane)` for each element of some rows that lies inside the bounds; `rows` begin at the first of them.
///
/// # Safety
/// Rows of the source from `top` on, or null.
#[inline(always)]
unsafe fn scattered(source: &Place<'_>, top: usize, rows: &[*mut u8], mut f: impl FnMut(usize, usize, u32)) {
    let Columns { first, last, stride, .. } = source.columns();
    for (row, from) in rows.iter().enumerate().take(source.rows().saturating_sub(top)) {
        for column in first..last {
            if from.is_null() {
                break;
            }
            let offset = (column - first) as isize * stride;
            // SAFETY: inside the bounds.
            let lane = with_stored!(source.elem(), S => unsafe { from.cast::<S>().cast_const().wrapping_offset(offset).read().lane() });
            f(row, column, lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::View;
    use super::super::simd::Portable;
    use super::*;
    use half::bf16;

    const PANEL: usize = 16;

    /// Every row and column inside the bounds of a view is packed where it belongs, and everything else is zero.
    fn check(
        view: &View,
        origins: &[i32],
        extents: &[u32],
        indices: Option<&[u32]>,
        wanted: impl Fn(usize, usize) -> f32,
    ) {
        let rows: usize = extents[..extents.len() - 1].iter().product::<u32>() as usize;
        let columns = extents[extents.len() - 1] as usize;
        let place = Place::new(view, origins, extents, indices.map(|lanes| (0, lanes.as_ptr())));
        for transposed in [false, true] {
            let (k, n) = if transposed { (columns, rows) } else { (rows, columns) };
            let pairs = k.div_ceil(2);
            let mut lanes = vec![0xabab_abab_u32; pairs * n.next_multiple_of(PANEL)];
            let to = Panels { dst: lanes.as_mut_ptr(), k, n, panel: PANEL };
            // SAFETY: plain Rust needs no instruction set; there is room for the panels, and a lane for each index.
            unsafe {
                match transposed {
                    false => pack_rows::<Portable>(&place, to),
                    true => pack_transposed::<Portable>(&place, to),
                }
            }
            let best = crate::cpu::isa::Isa::available()[0];
            if let Some(kernels) = best.kernels().pairs.filter(|_| best.target().pairs) {
                let mut others = vec![0xcdcd_cdcd_u32; lanes.len()];
                let to = Panels { dst: others.as_mut_ptr(), ..to };
                // SAFETY: as above; the processor has the instruction set.
                unsafe { (if transposed { kernels.pack_transposed } else { kernels.pack_rows })(&place, to) };
                assert_eq!(others, lanes, "{extents:?} transposed {transposed}, by vectors");
            }
            for (at, lane) in lanes.iter().enumerate() {
                let (panel, pair, column) = (at / PANEL / pairs, at / PANEL % pairs, at % PANEL);
                for half in 0..2 {
                    let (k_at, n_at) = (2 * pair + half, panel * PANEL + column);
                    let (row, col) = if transposed { (n_at, k_at) } else { (k_at, n_at) };
                    let number = if row < rows && col < columns { wanted(row, col) } else { 0.0 };
                    let got = bf16::from_bits((lane >> (16 * half)) as u16).to_f32();
                    assert_eq!(got, number, "{extents:?} transposed {transposed}, row {row}, column {col}");
                }
            }
        }
    }

    #[test]
    fn matrices_of_any_size_are_packed_in_pairs_and_zeros_past_their_ends() {
        for (rows, columns) in [(1usize, 1usize), (2, 16), (7, 33), (8, 32), (16, 48), (33, 31), (40, 64), (35, 96)] {
            let data: Vec<bf16> = (0..rows * columns).map(|i| bf16::from_f32((i % 251) as f32 - 90.0)).collect();
            let len = [rows as i32, columns as i32, 0, 0];
            let stride = [columns as isize, 1, 0, 0];
            let base = data.as_ptr().cast_mut().cast();
            let view = View { base, elem: Elem::Bf16, rank: 2, len, last: len, stride, ..View::EMPTY };
            check(&view, &[0, 0], &[rows as u32, columns as u32], None, |r, c| data[r * columns + c].to_f32());
            // A window that begins before the tensor and ends after it.
            let extents = [rows as u32 + 3, columns as u32 + 2];
            check(&view, &[-1, 0], &extents, None, |r, c| match r {
                1.. if r <= rows && c < columns => data[(r - 1) * columns + c].to_f32(),
                _ => 0.0,
            });
        }
    }

    #[test]
    fn lanes_and_pages_are_packed_in_pairs() {
        let lanes: Vec<f32> = (0..24 * 32).map(|i| i as f32 / 4.0).collect();
        let view = View::of_lanes(lanes.as_ptr().cast_mut().cast(), 24, 32);
        check(&view, &[0, 0], &[24, 32], None, |r, c| bf16::from_f32(lanes[r * 32 + c]).to_f32());

        let data: Vec<bf16> = (0..3 * 4 * 16).map(|i| bf16::from_f32(i as f32 + 1.0)).collect();
        let (len, stride) = ([3, 4, 16, 0], [64, 16, 1, 0]);
        let base = data.as_ptr().cast_mut().cast();
        let view = View { base, elem: Elem::Bf16, rank: 3, len, last: len, stride, ..View::EMPTY };
        let pages = [2, u32::MAX, 0, 7];
        check(&view, &[0, 0], &[4, 4, 16], Some(&pages), |r, c| match pages[r / 4] {
            page @ 0..3 => data[page as usize * 64 + r % 4 * 16 + c].to_f32(),
            _ => 0.0,
        });
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_are_rounded_to_pairs_as_the_half_crate_rounds_them() {
        let pairs = crate::cpu::isa::Isa::available()[0];
        let (true, Some(kernels)) = (pairs.target().pairs, pairs.kernels().pairs) else {
            return println!("skipped: this processor has no products of pairs");
        };
        for columns in [1usize, 2, 31, 32, 33, 64, 95] {
            let numbers: Vec<f32> = (0..3 * columns).map(|i| (i as f32 - 40.0) * 1.234_567).collect();
            let mut got = vec![0u32; 3 * columns.div_ceil(2)];
            // SAFETY: the processor has the instructions, and there is room.
            unsafe { (kernels.pair)(numbers.as_ptr().cast(), got.as_mut_ptr(), 3, columns as u32) };
            for (at, lane) in got.iter().enumerate() {
                let (row, pair) = (at / columns.div_ceil(2), at % columns.div_ceil(2));
                let number =
                    |c: usize| if c < columns { bf16::from_f32(numbers[row * columns + c]) } else { bf16::ZERO };
                let wanted = u32::from(number(2 * pair).to_bits()) | u32::from(number(2 * pair + 1).to_bits()) << 16;
                assert_eq!(*lane, wanted, "{columns} columns, row {row}, pair {pair}");
            }
        }
    }
}
