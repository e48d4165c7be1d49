//! Rows of memory are asked for some time before they are read: the processor foresees rows at equal distances, but not far
//! enough and no farther than a page, and rows of pages not at all. Decode over keys and values in memory is half as fast without.

use super::memory::{Columns, Place};
use super::simd::Simd;

pub(super) const LINE: usize = 64;

/// How many rows of so many bytes lie between the one that is read and the one that is asked for. Of what was measured with rows of
/// 128 to 1024 bytes, 4 to 16 KB are best.
pub(super) fn rows_ahead(bytes: usize) -> usize {
    const AHEAD: usize = 8192;
    AHEAD.div_ceil(bytes.max(LINE))
}

/// Asks for a row; any address may be named.
#[inline(always)]
pub(super) fn prefetch<V: Simd>(row: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(LINE) {
        V::prefetch(row.wrapping_add(line));
    }
}

/// Whether reading a vector of such elements asks for the one ahead of it. Of smaller ones too many lie in a line: there whole rows
/// are asked for.
pub(super) const fn by_vectors<V: Simd, T>() -> bool {
    V::LANES * size_of::<T>() >= LINE / 2
}

/// What to ask for while the rows of a place are read in order.
pub(super) struct Ahead<'p> {
    place: &'p Place<'p>,
    /// From a row to the one to ask for, in bytes, where all lie at equal distances.
    distance: Option<isize>,
    rows: usize,
    /// From coordinate 0 of the last axis to what is read of a row, in bytes, and how many those are.
    skip: isize,
    bytes: usize,
}

impl<'p> Ahead<'p> {
    /// For a place whose view has columns, none of them taken at indices.
    pub fn of(place: &'p Place<'p>) -> Ahead<'p> {
        let Columns { first, last, skip, .. } = place.columns();
        let bytes = (last - first) * place.elem().bytes();
        let rows = rows_ahead(bytes);
        Ahead { place, distance: place.step().map(|step| step.wrapping_mul(rows as isize)), rows, skip, bytes }
    }

    /// Asks for what lies ahead of a line of a row, where that is known without asking for the row.
    #[inline(always)]
    pub fn prefetch_line<V: Simd>(&self, line: *const u8) {
        if let Some(distance) = self.distance {
            V::prefetch(line.wrapping_offset(distance));
        }
    }

    /// Whether all rows lie at equal distances: each line is enough to know the one ahead.
    pub fn is_even(&self) -> bool {
        self.distance.is_some()
    }

    /// Asks for the rows that lie ahead of these, the first of which is number `first`.
    ///
    /// # Safety
    /// The place has a lane for each of its indices; the instruction set of `V`.
    #[inline(always)]
    pub unsafe fn prefetch<V: Simd, const N: usize>(&self, first: usize, rows: &[*mut u8; N]) {
        match self.distance {
            Some(distance) => {
                for row in rows {
                    prefetch::<V>(row.wrapping_offset(distance.wrapping_add(self.skip)), self.bytes);
                }
            }
            None if self.place.is_gathered() => {
                // SAFETY: the caller's promise.
                let rows: [*mut u8; N] = unsafe { self.place.some_rows(first + self.rows) };
                for row in rows.into_iter().filter(|row| !row.is_null()) {
                    prefetch::<V>(row.wrapping_offset(self.skip), self.bytes);
                }
            }
            None => {}
        }
    }
}
