//! Arithmetic whose bits are part of a format.

use tilewright_lang::prelude::*;

/// The nearest numbers of `E`. Ops may keep more digits than their type between them, as the interpreter does; the bits of a
/// number have no more.
#[tile]
pub(crate) fn rounded<E: Float>(x: Tile<f32>) -> Tile<E> {
    x.bitcast::<u32>().bitcast::<f32>().cast()
}
