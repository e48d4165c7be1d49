//! Lanes handed out and given back while a program is lowered.

use super::program::LaneIndex;

/// Every value starts on a cache line.
const ALIGN: u64 = 16;

/// Counts in 64 bits, so that a program that is too large is seen: its size is checked when it is whole, and what lanes it
/// names beyond 32 bits does not matter then.
#[derive(Default)]
pub(super) struct Arena {
    end: u64,
    free: Vec<Range>,
}

#[derive(Clone, Copy)]
struct Range {
    first: u64,
    lanes: u64,
}

impl Arena {
    /// The smallest free range that fits, or new lanes.
    pub fn take(&mut self, lanes: u64) -> LaneIndex {
        let lanes = lanes.max(1).next_multiple_of(ALIGN);
        let fit = (0..self.free.len()).filter(|&i| self.free[i].lanes >= lanes).min_by_key(|&i| self.free[i].lanes);
        let first = match fit {
            Some(i) => {
                let range = self.free.swap_remove(i);
                if range.lanes > lanes {
                    self.free.push(Range { first: range.first + lanes, lanes: range.lanes - lanes });
                }
                range.first
            }
            None => {
                let first = self.end;
                self.end = self.end.saturating_add(lanes);
                first
            }
        };
        first as LaneIndex
    }

    /// Gives back what [`take`](Arena::take) gave for this many lanes.
    pub fn give(&mut self, first: LaneIndex, lanes: u64) {
        let mut range = Range { first: u64::from(first), lanes: lanes.max(1).next_multiple_of(ALIGN) };
        // Join neighbours, so that a later tile finds room.
        while let Some(i) =
            self.free.iter().position(|f| f.first + f.lanes == range.first || range.first + range.lanes == f.first)
        {
            let neighbour = self.free.swap_remove(i);
            range = Range { first: range.first.min(neighbour.first), lanes: range.lanes + neighbour.lanes };
        }
        self.free.push(range);
    }

    /// Lanes in all.
    pub fn size(&self) -> u64 {
        self.end
    }
}
