//! How many tile programs each kernel is launched with, along each axis.

use crate::formula::Formula::{self, Axis, CeilDiv, Div, Min, Mul, Number, Value};

/// Query tiles, tiles of query heads, batch.
pub(crate) const FORWARD: [Formula; 3] = [QUERY_TILES, Div(&Axis("q", 1), &Value("heads")), Axis("q", 0)];

/// Query tiles times splits, tiles of query heads, batch.
pub(crate) const SPLIT: [Formula; 3] = [Mul(&QUERY_TILES, &Number("splits")), FORWARD[1], FORWARD[2]];

/// Queries, query heads, batch.
pub(crate) const MERGE: [Formula; 3] = [Axis("o", 2), Axis("o", 1), Axis("o", 0)];

/// Key tiles, query tiles, planes.
pub(crate) const CLASSIFY: [Formula; 3] = [
    CeilDiv(&Axis("mask", 3), &Value("keys")),
    CeilDiv(&Axis("mask", 2), &Value("queries")),
    Mul(&Axis("mask", 0), &Axis("mask", 1)),
];

/// Tiles of new tokens, heads, batch: of `cache_append` and `cache_quantise`. `rows` is the most that a batch entry writes.
pub(crate) const NEW_TOKENS: [Formula; 3] =
    [CeilDiv(&Min(&Number("rows"), &Axis("x", 2)), &Value("tokens")), Axis("x", 1), Axis("x", 0)];

/// Tiles of tokens, heads, batch. `rows` is the most tokens of a batch entry.
pub(crate) const DEQUANTISE: [Formula; 3] =
    [CeilDiv(&Min(&Number("rows"), &Axis("o", 2)), &Value("tokens")), Axis("o", 1), Axis("o", 0)];

const QUERY_TILES: Formula = CeilDiv(&Axis("q", 2), &Value("queries"));
