//! Elements made, moved or taken apart; nothing is computed from them.

use super::family::family;
use super::{RegionTypes, TypeError};
use crate::interp::{Tile, padded, zip};
use crate::kernel::ValueId;
use crate::types::{Elem, MAX_TILE_RANK, Shape, Type};

family! {
    /// Ops that make, move or take apart elements.
    ShapeOp:
    /// The coordinate along `axis` of each element, as i32.
    iota => Iota { axis: u8, shape: Shape } () -> ValueId, Pure;
    /// The operand repeated along its axes of extent 1; a scalar along all.
    broadcast => Broadcast { shape: Shape } (a) -> ValueId, Pure;
    /// The same elements in the same row-major order under another shape.
    reshape => Reshape { shape: Shape } (a) -> ValueId, Pure;
    /// The last two axes exchanged.
    transpose => Transpose (a) -> ValueId, Pure;
    /// The codes of `bits` bits (2, 4 or 8) in u32 words, as u8: `[.., n]` to `[.., n * 32 / bits]`, of rank 1 to 3. The
    /// first code of a word is its lowest bits.
    unpack => Unpack { bits: u8 } (words) -> ValueId, Pure;
}

/// How many codes of this many bits a word of 32 bits holds; `None` where `unpack` has no such codes.
fn codes_of_word(bits: u8) -> Option<usize> {
    matches!(bits, 2 | 4 | 8).then(|| 32 / bits as usize)
}

impl ShapeOp {
    pub(super) fn infer(&self, operands: &[Type], _: &[RegionTypes]) -> Result<Vec<Type>, TypeError> {
        let tile = |i: usize| match operands[i] {
            Type::Tile { elem, shape } => Ok((elem, shape)),
            view => {
                Err(TypeError::new(format!("`{}` of a {view}", self.name())).help("load a tile from the view first"))
            }
        };
        Ok(vec![match self {
            ShapeOp::Iota { axis, shape } => {
                if *axis as usize >= shape.rank() {
                    return Err(TypeError::new(format!("`iota` along axis {axis} of a tile of shape {shape}")));
                }
                Type::tile(Elem::I32, *shape)
            }
            ShapeOp::Broadcast { shape } => {
                let (elem, from) = tile(0)?;
                if from.broadcast(*shape) != Some(*shape) {
                    return Err(TypeError::new(format!("`broadcast` of a tile of shape {from} to {shape}"))
                        .help("the ranks must be equal, and each axis equal or 1"));
                }
                Type::tile(elem, *shape)
            }
            ShapeOp::Reshape { shape } => {
                let (elem, from) = tile(0)?;
                if from.count() != shape.count() {
                    return Err(TypeError::new(format!("`reshape` of a tile of shape {from} to {shape}"))
                        .help(format!("they hold {} and {} elements", from.count(), shape.count())));
                }
                Type::tile(elem, *shape)
            }
            ShapeOp::Transpose => {
                let (elem, from) = tile(0)?;
                let mut extents: Vec<usize> = from.extents().collect();
                let rank = extents.len();
                if rank < 2 {
                    return Err(
                        TypeError::new(format!("`transpose` of a tile of shape {from}")).help("it needs rank 2 or 3")
                    );
                }
                extents.swap(rank - 2, rank - 1);
                Type::tile(elem, Shape::new(&extents).unwrap_or(from)) // the same extents fit again
            }
            ShapeOp::Unpack { bits } => {
                let (elem, from) = tile(0)?;
                let refuse = |of: String, help: String| TypeError::new(format!("`unpack` of {of}")).help(help);
                if elem != Elem::U32 {
                    return Err(refuse(
                        elem.to_string(),
                        "codes are packed in u32 words: load them as u32".to_string(),
                    ));
                }
                let Some(codes) = codes_of_word(*bits) else {
                    let help = "a code has 2, 4 or 8 bits, so that a word holds 16, 8 or 4".to_string();
                    return Err(refuse(format!("codes of {bits} bits"), help));
                };
                let mut extents: Vec<usize> = from.extents().collect();
                let Some(words) = extents.last_mut() else {
                    return Err(refuse("a scalar".to_string(), "it needs rank 1, 2 or 3".to_string()));
                };
                *words = words.saturating_mul(codes);
                let Some(shape) = Shape::new(&extents) else {
                    let help = format!("each word becomes {codes} codes, and an extent fits 32 bits");
                    return Err(refuse(format!("a tile of shape {from}"), help));
                };
                Type::tile(Elem::U8, shape)
            }
        }])
    }

    /// The result for operands that passed [`infer`](Self::infer), of the shape that it gave.
    pub(crate) fn eval(&self, operands: &[&Tile], shape: Shape) -> Tile {
        // The signature was checked: all but `iota` have an operand.
        match self {
            ShapeOp::Iota { axis, .. } => {
                let axis = MAX_TILE_RANK - shape.rank() + *axis as usize;
                let [depth, rows, columns] = padded(shape);
                let mut data = Vec::with_capacity(shape.count());
                for i in 0..depth {
                    for j in 0..rows {
                        data.extend((0..columns).map(|k| [i, j, k][axis] as f64));
                    }
                }
                Tile::made(Elem::I32, shape, data)
            }
            ShapeOp::Broadcast { .. } => Tile::made(operands[0].elem(), shape, zip([operands[0]], shape, |[x]| x)),
            ShapeOp::Reshape { .. } => Tile::made(operands[0].elem(), shape, operands[0].data().to_vec()),
            ShapeOp::Transpose => {
                let from = operands[0].data();
                let [depth, rows, columns] = padded(shape);
                let mut data = Vec::with_capacity(shape.count());
                for i in 0..depth {
                    for j in 0..rows {
                        data.extend((0..columns).map(|k| from[(i * columns + k) * rows + j]));
                    }
                }
                Tile::made(operands[0].elem(), shape, data)
            }
            ShapeOp::Unpack { bits } => {
                let words = operands[0].data().iter().map(|&word| word as u32);
                let codes = |word: u32| (0..32).step_by(usize::from(*bits)).map(move |at| word >> at);
                let data = words.flat_map(codes).map(|code| f64::from(code & ((1 << bits) - 1)));
                Tile::made(Elem::U8, shape, data.collect())
            }
        }
    }
}
