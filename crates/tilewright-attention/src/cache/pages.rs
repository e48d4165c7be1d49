//! Which pages of a pool each batch entry holds.

use super::error::CacheError;

/// A pool of pages, and the page table of each batch entry.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    page_size: usize,
    /// Pages of the pool.
    count: usize,
    /// Places in the table of one batch entry.
    places: usize,
    /// Page numbers, `places` for each batch entry; 0 past those that it holds.
    table: Vec<i32>,
    /// Pages that each batch entry holds.
    held: Vec<usize>,
    /// Pages that none holds; the last is taken first.
    free: Vec<i32>,
}

impl Pages {
    /// `count` free pages for `batch` entries of at most `capacity` tokens.
    pub fn new(page_size: usize, batch: usize, capacity: usize, count: usize) -> Pages {
        let places = capacity.div_ceil(page_size);
        let free = (0..i32::try_from(count).unwrap_or(i32::MAX)).rev().collect();
        Pages { page_size, count, places, table: vec![0; batch * places], held: vec![0; batch], free }
    }

    /// The page table: page numbers of each batch entry, row after row.
    pub fn table(&self) -> &[i32] {
        &self.table
    }

    /// Pages that no batch entry holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes the pages for so many tokens of each batch entry, which its table has places for, or none at all.
    pub fn reserve(&mut self, lens: impl Iterator<Item = usize> + Clone) -> Result<(), CacheError> {
        let wanted = lens.map(|len| len.div_ceil(self.page_size));
        let needed = wanted.clone().zip(&self.held).map(|(wanted, held)| wanted.saturating_sub(*held)).sum();
        if needed > self.free.len() {
            return Err(CacheError::Pages { needed, free: self.free.len(), pages: self.count });
        }
        for (entry, wanted) in wanted.enumerate() {
            while self.held[entry] < wanted
                && let Some(page) = self.free.pop()
            {
                self.table[entry * self.places + self.held[entry]] = page;
                self.held[entry] += 1;
            }
        }
        Ok(())
    }

    /// Gives back the pages of a batch entry past its first `len` tokens.
    pub fn release(&mut self, entry: usize, len: usize) {
        let kept = len.div_ceil(self.page_size);
        while self.held[entry] > kept {
            self.held[entry] -= 1;
            let place = &mut self.table[entry * self.places + self.held[entry]];
            self.free.push(std::mem::take(place));
        }
    }
}
