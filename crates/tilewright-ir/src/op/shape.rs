//! Elements made or moved; none is changed.

use super::family::family;
use super::{RegionTypes, TypeError};
use crate::interp::{Tile, padded, zip};
use crate::kernel::ValueId;
use crate::types::{Elem, MAX_TILE_RANK, Shape, Type};

family! {
    /// Ops that make or move elements.
    ShapeOp:
    /// The coordinate along `axis` of each element, as i32.
    iota => Iota { axis: u8, shape: Shape } () -> ValueId, Pure;
    /// The operand repeated along its axes of extent 1; a scalar along all.
    broadcast => Broadcast { shape: Shape } (a) -> ValueId, Pure;
    /// The same elements in the same row-major order under another shape.
    reshape => Reshape { shape: Shape } (a) -> ValueId, Pure;
    /// The last two axes exchanged.
    transpose => Transpose (a) -> ValueId, Pure;
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
        }
    }
}
