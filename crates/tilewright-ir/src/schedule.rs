//! How a kernel is cut into tiles: data beside the kernel, checked before anything is compiled.

use std::fmt;

/// The tile shape of an attention-like kernel: how many heads, queries and keys one step works on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Neighbouring query heads of one tile program, of one key/value head.
    pub heads: u32,
    /// Rows of q, of each of them.
    pub queries: u32,
    /// Keys of one step of its loop.
    pub keys: u32,
}

impl Schedule {
    /// Rows of a score tile.
    pub fn rows(self) -> u32 {
        self.heads.saturating_mul(self.queries)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schedule { heads, queries, keys } = self;
        write!(f, "heads={heads} queries={queries} keys={keys}")
    }
}

/// How the threads of a GPU share the work of one tile program. A CPU has no use for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Work {
    /// Warps (simdgroups) that share the rows of a product.
    pub rows: u32,
    /// Warps that share its columns.
    pub columns: u32,
    /// Tiles of a loop in shared memory at once: 1 copies a tile when it is needed, more copy ahead.
    pub stages: u32,
    /// Blocks of a multiprocessor that registers should leave room for.
    pub blocks: u32,
}

impl Work {
    /// Warps that a block can have, and blocks that a multiprocessor can be asked to hold.
    pub const MOST: u32 = 32;

    /// Warps of a block.
    pub fn warps(self) -> u32 {
        self.rows * self.columns
    }

    /// Whether blocks can share work so: powers of two for rows and columns, at most [`MOST`](Self::MOST) together; 1 to 8 stages;
    /// 1 to [`MOST`](Self::MOST) blocks.
    pub fn is_possible(self) -> bool {
        let Work { rows, columns, stages, blocks } = self;
        let powers = [rows, columns].iter().all(|n| n.is_power_of_two() && *n <= Work::MOST);
        powers && self.warps() <= Work::MOST && (1..=8).contains(&stages) && (1..=Work::MOST).contains(&blocks)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Work { rows, columns, stages, blocks } = self;
        write!(f, "rows={rows} columns={columns} stages={stages} blocks={blocks}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_no_block_can_have_is_not_possible() {
        let work = Work { rows: 4, columns: 8, stages: 8, blocks: 32 };
        assert!(work.is_possible());
        for wrong in [0, 3, 16, 1 << 16, 1 << 29, u32::MAX] {
            assert!(!Work { columns: wrong, ..work }.is_possible(), "{wrong} columns");
        }
        assert!(![0, 9].iter().any(|&stages| Work { stages, ..work }.is_possible()));
        assert!(![0, 33].iter().any(|&blocks| Work { blocks, ..work }.is_possible()));
    }
}
