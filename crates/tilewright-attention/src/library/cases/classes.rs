//! Masks whose tiles are classified.

use crate::cases::ClassCase;
use crate::features::mask::{additive, boolean, made};
use tilewright_ir::Elem;

/// What a cell holds, by its batch entry, head, query and key.
type Cell = fn([usize; 4]) -> f64;

const NONE: f64 = f64::NEG_INFINITY;

/// What fills a mask: its name, the types that can hold it, and a cell.
const FILLS: [(&str, &[Elem], Cell); 9] = [
    ("scattered", &[Elem::Bool, Elem::U8], boolean),
    ("nothing", &[Elem::Bool, Elem::U8], |_| 0.0),
    ("everything", &[Elem::Bool], |_| 1.0),
    ("causal", &[Elem::Bool], |at| (at[3] <= at[2] + 30).into()),
    ("added", &[Elem::F32, Elem::F16, Elem::Bf16], additive),
    ("added_blocks", &[Elem::F32, Elem::F16, Elem::Bf16], |at| if at[3] <= at[2] + 30 { 0.0 } else { NONE }),
    ("added_large", &[Elem::F32], |_| -1e9),
    ("added_stripes", &[Elem::F32, Elem::Bf16], |at| [NONE, 0.0, 1.0][at[3] / 16 % 3]),
    ("added_nan", &[Elem::F32], |at| if at[3] == 16 { f64::NAN } else { 0.0 }),
];

/// `[batch, heads, q, kv]`, with the queries and keys of a tile; last tiles are whole, of one cell, and short of one.
const SHAPES: [([usize; 4], u32, u32); 8] = [
    ([1, 1, 1, 1], 16, 32),
    ([1, 1, 32, 64], 16, 32),
    ([1, 1, 33, 65], 16, 32),
    ([1, 1, 31, 63], 16, 32),
    ([1, 1, 1, 100], 16, 16),
    ([2, 3, 20, 40], 8, 16),
    ([1, 2, 40, 70], 64, 128),
    ([1, 1, 7, 9], 3, 5),
];

/// Every fill in every shape.
pub(super) fn cases() -> Vec<ClassCase> {
    let mut all = Vec::new();
    for (name, elems, cell) in FILLS {
        for (shape, queries, keys) in SHAPES {
            for &elem in elems {
                let [batch, heads, rows, columns] = shape;
                let name = format!("classes_of_{name}_{batch}x{heads}x{rows}x{columns}_by_{queries}x{keys}");
                all.extend(made(elem, shape, cell).map(|mask| ClassCase::new(name, mask, queries, keys)));
            }
        }
    }
    all
}
