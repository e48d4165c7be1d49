//! One axis folded to extent 1, so that the result broadcasts back.

use super::family::family;
use super::{RegionTypes, TypeError};
use crate::interp::Tile;
use crate::kernel::ValueId;
use crate::types::{Elem, Shape, Type};

family! {
    /// Ops that fold one axis of a tile.
    Reduce:
    /// The sum along `axis`; 0 of nothing. Floats are summed in any order.
    reduce_sum => Sum { axis: u8 } (a) -> ValueId, Pure;
    /// The largest along `axis`, NaN ignored; the least value of the type of nothing.
    reduce_max => Max { axis: u8 } (a) -> ValueId, Pure;
    /// The smallest along `axis`, NaN ignored; the greatest value of the type of nothing.
    reduce_min => Min { axis: u8 } (a) -> ValueId, Pure;
}

impl Reduce {
    /// The axis that is folded.
    pub fn axis(&self) -> usize {
        match self {
            Reduce::Sum { axis } | Reduce::Max { axis } | Reduce::Min { axis } => *axis as usize,
        }
    }

    pub(super) fn infer(&self, operands: &[Type], _: &[RegionTypes]) -> Result<Vec<Type>, TypeError> {
        let [Type::Tile { elem, shape }] = *operands else {
            return Err(TypeError::new(format!("`{}` of a {}", self.name(), operands[0]))
                .help("load a tile from the view first"));
        };
        if elem == Elem::Bool {
            return Err(TypeError::new(format!("`{}` of bool", self.name())).help("convert with `cast`"));
        }
        let Some(folded) = shape.with_extent(self.axis(), 1) else {
            return Err(TypeError::new(format!(
                "`{}` along axis {} of a tile of shape {shape}",
                self.name(),
                self.axis()
            ))
            .help(format!("the tile has {} axes, counted from 0", shape.rank())));
        };
        Ok(vec![Type::tile(elem, folded)])
    }

    /// The result for an operand that passed [`infer`](Self::infer), of the shape that it gave.
    pub(crate) fn eval(&self, operands: &[&Tile], shape: Shape) -> Tile {
        let from = operands[0]; // the signature was checked
        let elem = from.elem();
        let data = match self {
            Reduce::Sum { .. } if elem.is_float() => self.fold(from, shape, 0.0, |sum, x| sum + x),
            Reduce::Sum { .. } => self.fold(from, shape, 0.0, |sum, x| elem.wrap((sum + x) as i64)),
            Reduce::Max { .. } => self.fold(from, shape, elem.least(), f64::max),
            Reduce::Min { .. } => self.fold(from, shape, elem.greatest(), f64::min),
        };
        Tile::made(elem, shape, data)
    }

    fn fold(&self, from: &Tile, shape: Shape, start: f64, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let extent = from.shape().extent(self.axis()).unwrap_or(1);
        let inner: usize = from.shape().extents().skip(self.axis() + 1).product();
        let mut out = vec![start; shape.count()];
        if extent * inner == 0 {
            return out;
        }
        for (out, block) in out.chunks_exact_mut(inner).zip(from.data().chunks_exact(extent * inner)) {
            for row in block.chunks_exact(inner) {
                for (out, &x) in out.iter_mut().zip(row) {
                    *out = f(*out, x);
                }
            }
        }
        out
    }
}
