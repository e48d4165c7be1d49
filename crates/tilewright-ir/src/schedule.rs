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
    /// Warps of a block.
    pub fn warps(self) -> u32 {
        self.rows * self.columns
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Work { rows, columns, stages, blocks } = self;
        write!(f, "rows={rows} columns={columns} stages={stages} blocks={blocks}")
    }
}
