//! What of each kernel is exported ahead of time, and what a launch of it needs to know.

use crate::formula::Formula::{self, Axis, Mul, Number, Value};
use crate::grids;
use std::fmt::Display;
use tilewright_ir::Elem;
use tilewright_lang::SpecText;

/// How a kernel is exported: the specialisations, and the launch as formulas of the tensors' shapes.
#[derive(Clone, Copy, Debug)]
pub struct Export {
    /// Tile programs along each axis: what this library itself launches with.
    pub grid: &'static [Formula; 3],
    /// Shapes of tensor parameters. An axis that is itself is free; a parameter that is not here may have any shape that the
    /// kernel's documentation gives it.
    pub shapes: &'static [(&'static str, &'static [Formula])],
    /// The first number must be a multiple of the second. Where the specialisation lacks a tensor, its lines do not apply.
    pub multiples: &'static [(Formula, Formula)],
    /// Numbers that only the grid depends on, and what they are.
    pub numbers: &'static [(&'static str, &'static str)],
    /// The specialisations for some element types and head dims; equal ones count once.
    pub specialise: fn(&Wanted) -> Vec<SpecText>,
}

/// What an export is for: element types, head dims, and what the GPU has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Of q and o.
    pub q: Elem,
    /// Of k and v, or of their scales.
    pub kv: Elem,
    /// Last axis of q and k.
    pub head_dim: usize,
    /// Last axis of v and o.
    pub value_dim: usize,
    /// Bytes of shared memory that a block (threadgroup) may have.
    pub shared_bytes: usize,
}

impl Export {
    /// Types that are exported where none are named: of q and o, and of k and v.
    pub const TYPES: [(Elem, Elem); 2] = [(Elem::F16, Elem::F16), (Elem::Bf16, Elem::Bf16)];
    /// Head dims that are exported where none are named.
    pub const HEAD_DIMS: [usize; 5] = [64, 96, 128, 256, 512];
}

/// Attention in one pass: prefill.
pub(super) const FORWARD: Export = Export {
    grid: &grids::FORWARD,
    shapes: &[
        ("q", &Q),
        ("q_start", &[Axis("q", 0)]),
        ("kv_len", &[Axis("q", 0)]),
        ("o", &O),
        ("lse", &[Axis("q", 0), Axis("q", 1), Axis("q", 2)]),
        K,
        V,
    ],
    multiples: &GROUPS,
    numbers: &[],
    specialise: prefill,
};

/// One share of the keys: decode of one query, and verify of eight. Groups of four heads are rows of one tile.
pub(super) const SPLIT: Export = Export {
    grid: &grids::SPLIT,
    shapes: &[
        ("q", &Q),
        ("q_start", &[Axis("q", 0)]),
        ("kv_len", &[Axis("q", 0)]),
        ("acc", &[PARTS, Axis("q", 1), Axis("q", 2), Value("value_dim")]),
        ("max", &[PARTS, Axis("q", 1), Axis("q", 2)]),
        ("sum", &[PARTS, Axis("q", 1), Axis("q", 2)]),
        K,
        V,
    ],
    multiples: &GROUPS,
    numbers: &[],
    specialise: decode_and_verify,
};

/// The shares combined.
pub(super) const MERGE: Export = Export {
    grid: &grids::MERGE,
    shapes: &[
        ("o", &[Axis("o", 0), Axis("o", 1), Axis("o", 2), Value("value_dim")]),
        ("q_start", &[Axis("o", 0)]),
        ("kv_len", &[Axis("o", 0)]),
        ("acc", &[MERGED, Axis("o", 1), Axis("o", 2), Value("value_dim")]),
        ("max", &[MERGED, Axis("o", 1), Axis("o", 2)]),
        ("sum", &[MERGED, Axis("o", 1), Axis("o", 2)]),
        ("lse", &[Axis("o", 0), Axis("o", 1), Axis("o", 2)]),
    ],
    multiples: &[],
    numbers: &[],
    specialise: |wanted| vec![text([("E", &wanted.q), ("value_dim", &wanted.value_dim), ("lse", &false)])],
};

/// The classes of a mask of bool, and of one of the type of q.
pub(super) const CLASSIFY: Export = Export {
    grid: &grids::CLASSIFY,
    shapes: &[("classes", &[Axis("mask", 0), Axis("mask", 1), grids::CLASSIFY[1], grids::CLASSIFY[0]])],
    multiples: &[],
    numbers: &[],
    specialise: |wanted| {
        let (queries, keys) = tile(wanted);
        [Elem::Bool, wanted.q].map(|cells| text([("E", &cells), ("queries", &queries), ("keys", &keys)])).to_vec()
    },
};

/// New tokens, one by one and sixteen a tile, into a dense cache.
pub(super) const APPEND: Export = Export {
    grid: &grids::NEW_TOKENS,
    shapes: &[
        X,
        ENTRIES[0],
        ENTRIES[1],
        ENTRIES[2],
        ("to", &[Axis("to", 0), Axis("x", 1), Axis("to", 2), Value("dim")]),
    ],
    multiples: &[],
    numbers: &NEW_ROWS,
    specialise: new_tokens,
};

/// The same as codes of 8 and of 4 bits.
pub(super) const QUANTISE: Export = Export {
    grid: &grids::NEW_TOKENS,
    shapes: &[X, ENTRIES[0], ENTRIES[1], ENTRIES[2]],
    multiples: &[],
    numbers: &NEW_ROWS,
    specialise: |wanted| {
        let with = |format: String| move |text| with(text, [("format", &format)]);
        codes(wanted).into_iter().flat_map(|format| new_tokens(wanted).into_iter().map(with(format))).collect()
    },
};

/// A cache of codes of 8 and of 4 bits as numbers.
pub(super) const DEQUANTISE: Export = Export {
    grid: &grids::DEQUANTISE,
    shapes: &[
        ("kv_len", &[Axis("o", 0)]),
        ("o", &[Axis("o", 0), Axis("o", 1), Axis("o", 2), Value("dim")]),
        ("k", &[Axis("k", 0), Axis("o", 1), Axis("k", 2), Value("dim")]),
    ],
    multiples: &[],
    numbers: &[("rows", "the most tokens of a batch entry; `o.shape[2]` serves all of them")],
    specialise: |wanted| {
        let cache = codes(wanted).map(|format| format!("dense+k-{format}"));
        cache.map(|cache| text([("E", &wanted.kv), ("dim", &wanted.head_dim), ("cache", &cache)])).to_vec()
    },
};

/// Batch, query heads, queries, head dim.
const Q: [Formula; 4] = [Axis("q", 0), Axis("q", 1), Axis("q", 2), Value("head_dim")];
/// As q, with the value dim.
const O: [Formula; 4] = [Axis("q", 0), Axis("q", 1), Axis("q", 2), Value("value_dim")];
/// The outermost axis is batch entries or pages.
const K: (&str, &[Formula]) = ("k", &[Axis("k", 0), Axis("k", 1), Axis("k", 2), Value("head_dim")]);
const V: (&str, &[Formula]) = ("v", &[Axis("k", 0), Axis("k", 1), Axis("k", 2), Value("value_dim")]);
/// Shares of all batch entries, as q says.
const PARTS: Formula = Mul(&Axis("q", 0), &Number("splits"));
/// The same as o says.
const MERGED: Formula = Mul(&Axis("o", 0), &Number("splits"));
/// Query heads are whole tiles of whole groups, of a dense cache and of one of codes.
const GROUPS: [(Formula, Formula); 2] =
    [(Axis("q", 1), Mul(&Value("heads"), &Axis("k", 1))), (Axis("q", 1), Mul(&Value("heads"), &Axis("k_w", 1)))];
/// Batch, heads, new tokens, dim.
const X: (&str, &[Formula]) = ("x", &[Axis("x", 0), Axis("x", 1), Axis("x", 2), Value("dim")]);
/// One number a batch entry.
const ENTRIES: [(&str, &[Formula]); 3] =
    [("position", &[Axis("x", 0)]), ("first", &[Axis("x", 0)]), ("end", &[Axis("x", 0)])];
const NEW_ROWS: [(&str, &str); 1] =
    [("rows", "the most tokens that a batch entry writes, `end - first`; `x.shape[2]` serves all of them")];

/// Causal, over a dense cache, one head a tile.
fn prefill(wanted: &Wanted) -> Vec<SpecText> {
    let (queries, keys) = tile(wanted);
    vec![with(attention(wanted), [("heads", &1), ("queries", &queries), ("keys", &keys), ("lse", &false)])]
}

/// The same for groups of four heads: one query of each, and eight.
fn decode_and_verify(wanted: &Wanted) -> Vec<SpecText> {
    let (_, keys) = tile(wanted);
    [1, 8].map(|queries| with(attention(wanted), [("heads", &4), ("queries", &queries), ("keys", &keys)])).to_vec()
}

fn attention(wanted: &Wanted) -> SpecText {
    let Wanted { q, kv, head_dim, value_dim, .. } = wanted;
    let types_and_dims = text([("E", q), ("C", kv), ("head_dim", head_dim), ("value_dim", value_dim)]);
    with(types_and_dims, [("features", &"causal"), ("cache", &"dense")])
}

/// One a tile, and sixteen.
fn new_tokens(wanted: &Wanted) -> Vec<SpecText> {
    [1, 16].map(|tokens| text([("E", &wanted.kv), ("dim", &wanted.head_dim), ("tokens", &tokens)])).to_vec()
}

/// Codes of 8 and of 4 bits, in the larger of the groups that divide the head dim.
fn codes(wanted: &Wanted) -> [String; 2] {
    let group = if wanted.head_dim.is_multiple_of(64) { 64 } else { 32 };
    [8, 4].map(|bits| format!("q{bits}g{group}"))
}

/// The largest queries and keys of a tile whose q and two stages of k and v fit shared memory, their rows eight elements apart,
/// and whose sum fits the registers; the smallest where none does, which the compiler refuses by name.
fn tile(wanted: &Wanted) -> (usize, usize) {
    const TILES: [(usize, usize); 7] = [(64, 64), (64, 32), (32, 32), (64, 16), (32, 16), (32, 8), (16, 8)];
    const MOST_SUMS: usize = 64 * 256;
    let dim = wanted.head_dim.max(wanted.value_dim);
    let row = (dim + 8) * wanted.q.bytes().max(wanted.kv.bytes());
    let fits = |&&(queries, keys): &&(usize, usize)| {
        row * (queries + 4 * keys) <= wanted.shared_bytes && queries * dim <= MOST_SUMS
    };
    TILES.iter().find(fits).copied().unwrap_or(TILES[TILES.len() - 1])
}

fn text<const N: usize>(values: [(&str, &dyn Display); N]) -> SpecText {
    with(SpecText::new(), values)
}

fn with<const N: usize>(mut text: SpecText, values: [(&str, &dyn Display); N]) -> SpecText {
    text.extend(values.map(|(name, value)| (name.to_string(), value.to_string())));
    text
}
