//! Scales and biases of rows as columns: those of one group are neighbours.

use super::{ByteSimd, LANES};
use crate::cpu::ahead::LINE;
use crate::cpu::row::{ExactBf16, ExactF16, Round};
use crate::cpu::rows::Run;
use std::ops::Range;
use tilewright_ir::Elem;

/// The numbers of some rows, one for each group, column after column: from one to the next are `stride` numbers, a multiple of 16.
/// What is past the last row, up to the next 16th, is zero.
///
/// # Safety
/// The instruction set of `B`; such rows of f16 or bf16 numbers, and room for `groups` columns.
#[inline(always)]
pub(super) unsafe fn columns<B: ByteSimd>(
    from: &Run,
    elem: Elem,
    rows: Range<usize>,
    groups: usize,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match elem {
            Elem::Bf16 => columns_of::<B, ExactBf16>(from, rows, groups, to, stride),
            _ => columns_of::<B, ExactF16>(from, rows, groups, to, stride),
        }
    }
}

/// The same of one type.
///
/// # Safety
/// As [`columns`].
#[inline(always)]
unsafe fn columns_of<B: ByteSimd, R: Round>(
    from: &Run,
    rows: Range<usize>,
    groups: usize,
    to: *mut f32,
    stride: usize,
) {
    let dense = from.step == (groups * size_of::<u16>()) as isize;
    for first in rows.clone().step_by(LANES) {
        let exist = LANES.min(rows.end - first);
        let (place, start) = (to.wrapping_add(first - rows.start), from.row(first));
        for line in (0..LANES * groups * size_of::<u16>()).step_by(LINE) {
            B::prefetch(start.wrapping_offset(from.ahead).wrapping_add(line));
        }
        // SAFETY: the caller's promise.
        unsafe {
            match groups {
                1 if dense && exist == LANES => apart::<B, R, 1>(start, place, stride),
                2 if dense && exist == LANES => apart::<B, R, 2>(start, place, stride),
                4 if dense && exist == LANES => apart::<B, R, 4>(start, place, stride),
                8 if dense && exist == LANES => apart::<B, R, 8>(start, place, stride),
                _ => {
                    for group in 0..groups {
                        for row in 0..LANES {
                            let number = if row < exist { R::one(from.row(first + row), group) } else { 0.0 };
                            *place.add(group * stride + row) = number;
                        }
                    }
                }
            }
        }
    }
}

/// `16 G` numbers, of which each `G`th is of one column.
///
/// # Safety
/// As [`columns`].
#[inline(always)]
unsafe fn apart<B: ByteSimd, R: Round, const G: usize>(from: *const u8, to: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut all = [B::splat(0.0); G];
        for (at, vector) in all.iter_mut().enumerate() {
            *vector = R::load::<B>(from, at * LANES);
        }
        let mut level = 1;
        while level < G {
            let before = all;
            for at in 0..G / 2 {
                [all[at], all[G / 2 + at]] = B::evens_and_odds([before[2 * at], before[2 * at + 1]]);
            }
            level *= 2;
        }
        for (column, &vector) in all.iter().enumerate() {
            B::store(to.add(column * stride), vector);
        }
    }
}
