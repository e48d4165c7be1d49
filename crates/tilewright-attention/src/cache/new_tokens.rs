//! New tokens held against the slots that they go to, and their launch.

use super::append::{Destination, Slots};
use super::error::CacheError;
use super::format::Placement;
use super::launch::launch;
use super::tensors::{BATCH, HEADS, PAGE_SIZES, axes, float, paged_capacity, same};
use crate::arguments::Bound;
use crate::error::{AttentionError, MAX_LENGTH};
use crate::formula::{self, Numbers};
use crate::grids;
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Grid, Pipeline, TensorView};

/// The axes of new tokens.
pub(super) struct NewTokens {
    pub elem: Elem,
    batch: usize,
    pub heads: usize,
    n: usize,
    pub dim: usize,
}

/// The axes of a cache tensor that all its parts share.
#[derive(Clone, Copy)]
pub(super) struct CacheSlots {
    /// Batch entries or pages.
    pub outer: usize,
    /// Of each.
    pub count: usize,
}

/// One launch.
pub(super) struct Run {
    pub placement: Placement,
    /// Rows of a tile.
    pub tokens: usize,
    grid: Grid,
    position: Vec<i32>,
    first: Vec<i32>,
    end: Vec<i32>,
}

impl NewTokens {
    pub fn of(x: &TensorView<'_>) -> Result<NewTokens, CacheError> {
        let [batch, heads, n, dim] = axes("x", x)?;
        Ok(NewTokens { elem: float("x", x)?, batch, heads, n, dim })
    }

    pub fn matches_type(&self, tensor: &'static str, elem: Elem) -> Result<(), CacheError> {
        match elem == self.elem {
            true => Ok(()),
            false => Err(AttentionError::Element { tensor, got: elem, wanted: "the type of x" }.into()),
        }
    }

    /// Holds the shape of a cache tensor whose last axis is to be `width` against these tokens.
    pub fn matches(
        &self,
        tensor: &'static str,
        shape: &[usize],
        width: usize,
        at: &Destination<'_>,
    ) -> Result<CacheSlots, CacheError> {
        let &[outer, heads, count, last] = shape else {
            let axes = "batch or pages, heads, slots, dim";
            return Err(AttentionError::Rank { tensor, got: shape.len(), wanted: 4, axes }.into());
        };
        same(tensor, [HEADS, "last axis for this head dim"], [heads, last], "x", [self.heads, width])?;
        if !matches!(at.slots, Slots::Paged(_)) {
            same(tensor, [BATCH], [outer], "x", [self.batch])?;
        }
        Ok(CacheSlots { outer, count })
    }

    /// Holds positions and counts against the slots; `None` where there is nothing to write.
    pub fn run(&self, at: &Destination<'_>, slots: CacheSlots) -> Result<Option<Run>, CacheError> {
        for (what, got) in [("positions", at.positions.len()), ("counts", at.counts.len())] {
            if got != self.batch {
                return Err(AttentionError::EntryCount { what, got, batch: self.batch }.into());
            }
        }
        let (placement, capacity) = match at.slots {
            Slots::Contiguous => (Placement::Contiguous, slots.count),
            Slots::Ring => (Placement::Ring, slots.count),
            Slots::Paged(table) => {
                let page_size = slots.count;
                (Placement::Paged { page_size }, paged_capacity(table, self.batch, page_size)?)
            }
        };
        if capacity > MAX_LENGTH {
            return Err(AttentionError::Length { tensor: "the cache", got: capacity }.into());
        }
        let mut run = Run {
            placement,
            tokens: if at.counts.iter().all(|&n| n <= 1) { 1 } else { TOKENS },
            grid: [0; 3],
            position: Vec::new(),
            first: Vec::new(),
            end: Vec::new(),
        };
        let mut rows = 0;
        for (entry, (&position, &count)) in at.positions.iter().zip(at.counts).enumerate() {
            if count > self.n {
                return Err(CacheError::Tokens { tensor: "x", entry, tokens: count, length: self.n });
            }
            let ring = placement == Placement::Ring;
            if count > 0 && (capacity == 0 || !ring && position.checked_add(count).is_none_or(|end| end > capacity)) {
                return Err(CacheError::Overflow { entry, len: position, adding: count, capacity });
            }
            let first = if ring { count.saturating_sub(capacity) } else { 0 };
            // Of an entry without new tokens the position may be anything.
            let position = if count == 0 {
                0
            } else if ring {
                position % capacity
            } else {
                position
            };
            rows = rows.max(count - first);
            let too_long = |_| AttentionError::Length { tensor: "x", got: self.n };
            for (to, n) in [(&mut run.position, position), (&mut run.first, first), (&mut run.end, count)] {
                to.push(i32::try_from(n).map_err(too_long)?);
            }
        }
        self.check_pages(at, slots)?;
        let x = [self.batch, self.heads, self.n, self.dim];
        let numbers = Numbers { shapes: &[("x", &x)], values: &[("tokens", run.tokens), ("rows", rows)] };
        run.grid = formula::grid(&grids::NEW_TOKENS, &numbers).map_err(AttentionError::from)?;
        Ok(if run.grid.contains(&0) || self.dim == 0 { None } else { Some(run) })
    }

    /// Holds the pages that are written against the pool, and against each other.
    fn check_pages(&self, at: &Destination<'_>, slots: CacheSlots) -> Result<(), CacheError> {
        let Slots::Paged(table) = at.slots else { return Ok(()) };
        let mut written = Vec::new();
        let each = table.len() / self.batch.max(1);
        for (entry, (&position, &count)) in at.positions.iter().zip(at.counts).enumerate().filter(|(_, (_, n))| **n > 0)
        {
            for place in position / slots.count..(position + count).div_ceil(slots.count) {
                let got = table[entry * each + place];
                if !usize::try_from(got).is_ok_and(|page| page < slots.outer) {
                    return Err(AttentionError::Page { entry, place, got, pages: slots.outer }.into());
                }
                written.push(got);
            }
        }
        written.sort_unstable();
        match written.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(CacheError::SharedPage { page: pair[0] }),
            None => Ok(()),
        }
    }
}

/// Rows of a tile of more than one; no more than a page has.
const TOKENS: usize = *PAGE_SIZES.start();

impl Run {
    pub fn each_entry(&self) -> Result<[TensorView<'_>; 3], CacheError> {
        let batch = [self.position.len()];
        Ok([
            TensorView::from_slice(&self.position, &batch)?,
            TensorView::from_slice(&self.first, &batch)?,
            TensorView::from_slice(&self.end, &batch)?,
        ])
    }

    pub fn launch(
        &self,
        device: &Device,
        pipeline: &Pipeline,
        own: Bound<'_>,
        at: &Destination<'_>,
    ) -> Result<(), CacheError> {
        let mut pages = Vec::new();
        if let Slots::Paged(table) = at.slots {
            let batch = self.position.len();
            pages.push(("pages", TensorView::from_slice(table, &[batch, table.len() / batch])?));
        }
        launch(device, pipeline, self.grid, own, pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_launch_has_a_program_for_each_tile_of_the_longest_entry(
            counts in prop::collection::vec(0usize..100, 1..5),
            heads in 1usize..5,
            spare in 0usize..20,
        ) {
            let batch = counts.len();
            let longest = counts.iter().copied().max().unwrap_or(0);
            let new = NewTokens { elem: Elem::F32, batch, heads, n: longest + spare, dim: 8 };
            let at = Destination { slots: Slots::Contiguous, positions: &vec![0; batch], counts: &counts };
            let run = new.run(&at, CacheSlots { outer: batch, count: 128 }).expect("it fits");
            let tile = if longest <= 1 { 1 } else { 16 };
            let tiles = (0..longest).step_by(tile).count();
            match run {
                Some(run) => prop_assert_eq!(run.grid.map(|n| n as usize), [tiles, heads, batch]),
                None => prop_assert_eq!(longest, 0),
            }
        }
    }
}
