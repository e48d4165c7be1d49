//! Rows of memory are asked for some time before they are read: the processor foresees rows at equal distances, but not far
//! enough and no farther than a page, and rows of pages not at all. Decode over keys and values in memory is half as fast without.

use super::memory::{Columns, Place, Strip};
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

/// Rows that are asked for line by line while a product runs: those that the next turn of a loop packs, if it goes on.
#[derive(Clone, Copy)]
pub(super) struct Coming {
    /// What is read of the first row.
    row: *const u8,
    /// From one row to the next, in bytes.
    step: isize,
    /// Of a row.
    bytes: usize,
    /// Of the first row, those asked for already.
    asked: usize,
    rows: usize,
    pace: Pace,
}

/// So many lines in so many turns.
#[derive(Clone, Copy)]
struct Pace {
    lines: usize,
    turns: usize,
    /// Lines that are due, times `turns`.
    due: usize,
}

impl Coming {
    pub const NOTHING: Coming = Coming {
        row: std::ptr::null(),
        step: 0,
        bytes: 0,
        asked: 0,
        rows: 0,
        pace: Pace { lines: 0, turns: 1, due: 0 },
    };

    /// The rows that follow those of a place with columns, none of them taken at indices.
    pub fn after(place: &Place<'_>) -> Coming {
        let Columns { first, last, skip, .. } = place.columns();
        let bytes = (last - first) * place.elem().bytes();
        place.following().map_or(Coming::NOTHING, |Strip { start, step, rows, .. }| Coming {
            row: start.map_or(std::ptr::null(), |start| start.wrapping_offset(skip)),
            step,
            bytes,
            asked: 0,
            rows: if bytes > 0 { rows } else { 0 },
            ..Coming::NOTHING
        })
    }

    /// Has all lines be asked for evenly in so many turns, as far as one a turn does it: a burst of them would hold up what the product
    /// reads. With many more turns than lines, as in a prefill, memory takes a small part of the time and none is asked for.
    pub fn spread(&mut self, turns: usize) {
        const MOST_TURNS: usize = 4;
        let lines = self.rows * self.bytes.div_ceil(LINE);
        if turns > MOST_TURNS * lines {
            *self = Coming::NOTHING;
        } else {
            self.pace = Pace { lines, turns, due: 0 };
        }
    }

    /// Asks for the next line if it is due. It goes to the second-level cache: the first holds what the product reads.
    #[inline(always)]
    pub fn turn<V: Simd>(&mut self) {
        self.pace.due += self.pace.lines;
        if self.pace.due >= self.pace.turns && self.rows > 0 {
            self.pace.due -= self.pace.turns;
            V::prefetch_far(self.row.wrapping_add(self.asked));
            self.asked += LINE;
            if self.asked >= self.bytes {
                (self.row, self.asked) = (self.row.wrapping_offset(self.step), 0);
                self.rows -= 1;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::super::memory::View;
    use super::super::simd::Portable;
    use super::*;

    /// Ten rows of 40 floats, 48 apart, of which rows 1 to 9 are inside the bounds.
    fn view(data: &[f32]) -> View {
        View {
            base: data.as_ptr().cast_mut().cast(),
            rank: 2,
            len: [10, 40, 0, 0],
            first: [1, 0, 0, 0],
            last: [9, 40, 0, 0],
            stride: [48, 1, 0, 0],
            ..View::EMPTY
        }
    }

    #[test]
    fn what_follows_a_place_are_its_next_rows_as_far_as_they_are_inside_the_bounds() {
        let data = vec![0.0f32; 480];
        let view = view(&data);
        // Of a place that starts so, with so many rows: where the rows after it start, and how many are inside.
        for (origin, rows, wanted) in [(1, 3, (4, 3)), (4, 4, (8, 1)), (5, 4, (9, 0))] {
            let coming = Coming::after(&Place::new(&view, &[origin, 8], &[rows, 32], None));
            let row = data.as_ptr().wrapping_add(wanted.0 * 48 + 8);
            assert_eq!((coming.row, coming.rows), (row.cast(), wanted.1), "{origin} {rows}");
            assert_eq!((coming.step, coming.bytes), (4 * 48, 4 * 32));
        }
        // The first row is outside, rows are taken at indices, or there are planes of them.
        let indices = [3u32, 2];
        for place in [
            Place::new(&view, &[0, 0], &[3, 40], None),
            Place::new(&view, &[0], &[2, 40], Some((0, indices.as_ptr()))),
            Place::new(&View { rank: 3, ..view }, &[1, 1, 0], &[2, 2, 1], None),
        ] {
            assert_eq!(Coming::after(&place).rows, 0);
        }
    }

    #[test]
    fn lines_are_asked_for_evenly_and_once_and_not_where_turns_are_many() {
        let data = vec![0.0f32; 480];
        let view = view(&data);
        let four_rows = || Coming::after(&Place::new(&view, &[1, 0], &[4, 40], None)); // of three lines each
        let mut coming = four_rows();
        coming.spread(24);
        for turn in 1..=30 {
            coming.turn::<Portable>();
            let asked = 12 - (3 * coming.rows - coming.asked / LINE);
            assert_eq!(asked, 12.min(turn / 2), "turn {turn}");
        }
        let mut coming = four_rows();
        coming.spread(49);
        assert_eq!(coming.rows, 0);
    }
}
