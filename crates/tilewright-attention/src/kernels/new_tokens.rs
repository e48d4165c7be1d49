//! Where new tokens go in a cache.

use crate::cache::Placement;
use tilewright_lang::prelude::*;

/// The new tokens of one tile: consecutive rows of the input, and the position of the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewTokens {
    /// Row of the input that the tile starts at.
    pub row: Scalar<i32>,
    batch: Scalar<i32>,
    /// Of the first row.
    position: Scalar<i32>,
    /// Rows from there on that are written; at most 0 past the last.
    count: Scalar<i32>,
}

/// A run of slots that takes rows of a tile. A tile that goes on in another page, or at the start of a ring, has two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotRun {
    /// Batch entry, or page.
    outer: Scalar<i32>,
    /// Slot of the tile's first row; below 0 where the run takes the rows after it.
    origin: Scalar<i32>,
    /// Slots that may be written.
    first: Scalar<i32>,
    end: Scalar<i32>,
}

impl NewTokens {
    /// The `block`th `tokens` of the rows `first[batch]..end[batch]` of an input whose row 0 is at `position[batch]`.
    #[track_caller]
    pub fn new(
        block: Scalar<i32>,
        tokens: usize,
        batch: Scalar<i32>,
        position: View<i32, 1>,
        first: View<i32, 1>,
        end: View<i32, 1>,
    ) -> NewTokens {
        let row = first.get(batch) + block * tokens;
        NewTokens { row, batch, position: position.get(batch) + row, count: end.get(batch) - row }
    }

    /// Where they go. `slots` are those of the cache tensor; a ring has at least as many as tokens are written, and a page
    /// as many as the tile has rows, so that two runs take all.
    #[track_caller]
    pub fn runs(&self, placement: Placement, slots: Scalar<i32>) -> Vec<SlotRun> {
        let NewTokens { batch, position, count, .. } = *self;
        let run = |outer, origin: Scalar<i32>| SlotRun { outer, origin, first: origin.max(0), end: origin + count };
        match placement {
            Placement::Contiguous => vec![run(batch, position)],
            Placement::Ring => {
                let slot = position % slots;
                vec![run(batch, slot), run(batch, slot - slots)]
            }
            Placement::Paged { page_size } => {
                let table = launch_view::<i32, 2>("pages").at(batch);
                let (page, slot) = (position / page_size, position % page_size);
                vec![run(table.get(page), slot), run(table.get(page + 1), slot - page_size)]
            }
        }
    }
}

impl SlotRun {
    /// Writes the rows of `tile` that belong here.
    #[track_caller]
    pub fn store<E: Element>(&self, to: ViewMut<E, 4>, head: Scalar<i32>, tile: Tile<E>) {
        to.at(self.outer).at(head).limit(self.first, self.end).store(self.origin, tile);
    }
}
