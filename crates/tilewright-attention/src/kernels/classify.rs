//! The classes of a mask's tiles.

use tilewright_lang::prelude::*;

/// Looks at one tile of one plane of a mask and writes its class: 0 where every cell blocks, 2 where every cell attends and
/// adds nothing, else 1. Cells past the mask's end do not count.
///
/// A cell of bool blocks where it is false; one of a float blocks where it is `-inf`, and adds nothing where it is zero. NaN
/// does neither.
///
/// Shapes: mask `[batch, heads, q, kv]`; classes `[batch, heads, query tiles, key tiles]`. Grid: key tiles, query tiles,
/// `batch * heads`.
#[kernel(entry(E in [bool, f32, f16, bf16]))]
pub fn attention_classify<E: Element>(mask: View<E, 4>, classes: ViewMut<u8, 4>, queries: usize, keys: usize) {
    let [key_tile, query_tile, plane] = program_id();
    let (batch, head) = (plane / mask.len(1), plane % mask.len(1));
    let (first_row, first_key) = (query_tile * queries, key_tile * keys);
    let cells = mask.at(batch).at(head).load([first_row, first_key], [queries, keys]).cast::<f32>();
    let (blocks, adds_nothing) =
        if E::ELEM.is_float() { (cells == f32::NEG_INFINITY, cells == 0.0) } else { (cells == 0.0, cells != 0.0) };

    let row = iota(&[queries, 1], 0) + first_row;
    let key = iota(&[1, keys], 1) + first_key;
    let missing = (row >= mask.len(2)) | (key >= mask.len(3));
    let none = everywhere(blocks | missing);
    let all = everywhere(adds_nothing | missing);
    let class: Tile<i32> = none.select(0, all.select::<i32>(2, 1));
    classes.at(batch).at(head).store([query_tile, key_tile], class.cast());
}

/// Whether it holds in the whole tile: `[1, 1]`.
#[tile]
fn everywhere(holds: Tile<bool>) -> Tile<bool> {
    holds.cast::<i32>().min_along(1).min_along(0) != 0
}
