//! Which queries and keys a tile is about: index tiles for hooks, and intervals of keys.
//!
//! A tile of queries takes `queries` rows of q from `heads` neighbouring heads, head by head. Whatever reads these indices
//! need not know that.

use std::ops::Deref;
use tilewright_lang::prelude::*;

/// The queries of one tile: `rows = heads * queries` of them.
#[derive(Clone, Copy, Debug)]
pub struct Queries {
    /// Batch entry.
    pub batch: Scalar<i32>,
    /// Query head of the tile's first row.
    pub first_head: Scalar<i32>,
    /// Heads in the tile.
    pub heads: usize,
    /// Rows of q in the tile, of each head.
    pub queries: usize,
    /// Rows of q.
    pub q_len: Scalar<i32>,
    /// Keys that exist for this batch entry.
    pub kv_len: Scalar<i32>,
    /// Row in q of the tile's first query.
    pub first_row: Scalar<i32>,
    /// Position of the tile's first query.
    pub first: Scalar<i32>,
    /// Position of the tile's last query that exists; a tile may reach past the rows of q.
    pub last: Scalar<i32>,
    /// Query head: `[rows, 1]`, or `[1, 1]` when there is one.
    pub head: Tile<i32>,
    /// Row in q: `[rows, 1]`.
    pub row: Tile<i32>,
    /// Position: `[rows, 1]`.
    pub query: Tile<i32>,
}

/// The pairs of one score tile: the queries down, the keys across.
#[derive(Clone, Copy, Debug)]
pub struct Pairs {
    /// The queries.
    pub of: Queries,
    /// The first key.
    pub first_key: Scalar<i32>,
    /// How many keys.
    pub keys: usize,
    /// Logical key: `[1, keys]`. The last ones may not exist.
    pub key: Tile<i32>,
}

/// Keys `first..end`; nothing when `end <= first`.
#[derive(Clone, Copy, Debug, Carried)]
pub struct Keys {
    /// The first key.
    pub first: Scalar<i32>,
    /// One past the last key.
    pub end: Scalar<i32>,
}

/// Where a tile of queries starts and how large it is.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Batch entry.
    pub batch: Scalar<i32>,
    /// The first query head.
    pub first_head: Scalar<i32>,
    /// Heads.
    pub heads: usize,
    /// The first row of q.
    pub first_row: Scalar<i32>,
    /// Rows of q, of each head.
    pub queries: usize,
}

impl Block {
    /// The block of one program of a grid of query tiles, tiles of heads and batch entries.
    #[track_caller]
    pub fn of([tile, heads_before, batch]: [Scalar<i32>; 3], heads: usize, queries: usize) -> Block {
        Block { batch, first_head: heads_before * heads, heads, first_row: tile * queries, queries }
    }
}

impl Queries {
    /// The queries of a block; `q_start` is the position of the first row of q.
    #[track_caller]
    pub fn new(block: Block, q_len: Scalar<i32>, q_start: Scalar<i32>, kv_len: Scalar<i32>) -> Queries {
        let Block { batch, first_head, heads, first_row, queries } = block;
        let rows = heads * queries;
        let along = |axis| iota(&[heads, queries], axis).reshape(&[rows, 1]);
        let (head, row) = match heads {
            1 => (Tile::full(first_head, &[1, 1]), iota(&[rows, 1], 0) + first_row),
            _ => (along(0) + first_head, along(1) + first_row),
        };
        let last_row = (first_row + queries).min(q_len) - 1;
        Queries {
            batch,
            first_head,
            heads,
            queries,
            q_len,
            kv_len,
            first_row,
            first: q_start + first_row,
            last: q_start + last_row,
            head,
            row,
            query: row + q_start,
        }
    }

    /// How many there are.
    pub fn rows(&self) -> usize {
        self.heads * self.queries
    }

    /// These queries with the `keys` keys from `first_key` on.
    #[track_caller]
    pub fn with_keys(self, first_key: Scalar<i32>, keys: usize) -> Pairs {
        Pairs { of: self, first_key, keys, key: iota(&[1, keys], 1) + first_key }
    }

    /// The number of each query's head, from one a head: `[rows, 1]`, or `[1, 1]` when there is one head.
    #[track_caller]
    pub fn of_heads<E: Element>(&self, numbers: View<E, 1>) -> Tile<E> {
        let of_heads = numbers.load(self.first_head, [self.heads]).reshape(&[self.heads, 1]);
        match self.heads {
            1 => of_heads,
            heads => of_heads.broadcast(&[heads, self.queries]).reshape(&[self.rows(), 1]),
        }
    }

    /// The tile of q, or of another tensor `[q_heads, q_len, width]`, as `[rows, width]`.
    #[track_caller]
    pub fn load<E: Element>(&self, of: View<E, 3>, width: usize) -> Tile<E> {
        let place = [self.first_head, self.first_row, scalar(0)];
        of.load(place, [self.heads, self.queries, width]).reshape(&[self.rows(), width])
    }

    /// One number a query from `[q_heads, q_len]`, as `[rows, 1]`.
    #[track_caller]
    pub fn load_each<E: Element>(&self, of: View<E, 2>) -> Tile<E> {
        of.load([self.first_head, self.first_row], [self.heads, self.queries]).reshape(&[self.rows(), 1])
    }

    /// Writes `[rows, width]` to these queries of `[q_heads, q_len, width]`.
    #[track_caller]
    pub fn store<E: Element>(&self, to: ViewMut<E, 3>, tile: Tile<E>) {
        let width = tile.dims().last().copied().unwrap_or(1);
        to.store([self.first_head, self.first_row, scalar(0)], tile.reshape(&[self.heads, self.queries, width]));
    }

    /// Writes one number a query, `[rows, 1]`, to `[q_heads, q_len]`.
    #[track_caller]
    pub fn store_each<E: Element>(&self, to: ViewMut<E, 2>, tile: Tile<E>) {
        to.store([self.first_head, self.first_row], tile.reshape(&[self.heads, self.queries]));
    }
}

impl Deref for Pairs {
    type Target = Queries;

    fn deref(&self) -> &Queries {
        &self.of
    }
}

impl Pairs {
    /// Numbers of heads, rows and keys, `[heads or 1, queries or 1, keys]`, as `[rows or 1, keys]`.
    #[track_caller]
    pub fn spread<E: Element>(&self, tile: Tile<E>) -> Tile<E> {
        match tile.dims()[..] {
            [1, queries, keys] if self.heads == 1 || queries == 1 => tile.reshape(&[queries, keys]),
            _ => tile.broadcast(&[self.heads, self.queries, self.keys]).reshape(&[self.rows(), self.keys]),
        }
    }
}

#[tile]
impl Keys {
    /// Whether the `keys` keys from `first_key` on are all among these.
    pub fn hold(&self, first_key: Scalar<i32>, keys: usize) -> Scalar<bool> {
        self.first <= first_key && first_key + keys <= self.end
    }

    /// The keys of both.
    pub fn intersect(self, other: Keys) -> Keys {
        Keys { first: self.first.max(other.first), end: self.end.min(other.end) }
    }
}

/// One pair on the host, for the f64 reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Batch entry.
    pub batch: usize,
    /// Query head.
    pub head: usize,
    /// Row in q.
    pub row: usize,
    /// Position of the query; may be negative.
    pub query: i64,
    /// Logical key.
    pub key: i64,
    /// Rows of q.
    pub q_len: usize,
    /// Keys that exist for this batch entry.
    pub kv_len: usize,
}
