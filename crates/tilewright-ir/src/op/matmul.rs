//! Products of matrices.

use super::family::family;
use super::{RegionTypes, TypeError};
use crate::interp::Tile;
use crate::kernel::ValueId;
use crate::types::{Elem, Shape, Type};

family! {
    /// Ops that a matrix unit serves.
    Matmul:
    /// `[m, k] x [k, n]` to `[m, n]`: products and sums in f32, whatever the operands' float type, in any order.
    dot => Dot (a, b) -> ValueId, Pure;
}

impl Matmul {
    pub(super) fn infer(&self, operands: &[Type], _: &[RegionTypes]) -> Result<Vec<Type>, TypeError> {
        match self {
            Matmul::Dot => {
                let [Type::Tile { elem: ea, shape: a }, Type::Tile { elem: eb, shape: b }] = *operands else {
                    return Err(TypeError::new(format!("`dot` of {} and {}", operands[0], operands[1]))
                        .help("load tiles from the views first"));
                };
                if !ea.is_float() || !eb.is_float() {
                    return Err(
                        TypeError::new(format!("`dot` of {ea} and {eb}")).help("it takes floats; convert with `cast`")
                    );
                }
                let fits = a.rank() == 2 && b.rank() == 2 && a.extent(1) == b.extent(0);
                let shape = [a.extent(0), b.extent(1)].into_iter().flatten().collect::<Vec<_>>();
                match Shape::new(&shape) {
                    Some(shape) if fits => Ok(vec![Type::tile(Elem::F32, shape)]),
                    _ => {
                        let transposed = a.rank() == 2 && b.rank() == 2 && a.extent(1) == b.extent(1);
                        Err(TypeError::new(format!("`dot` of tiles of shape {a} and {b}: the inner extents differ"))
                            .help(if transposed {
                                "transpose the right tile with `.t()`"
                            } else {
                                "`dot` takes [m, k] and [k, n]"
                            }))
                    }
                }
            }
        }
    }

    /// The result for operands that passed [`infer`](Self::infer), of the shape that it gave. Sums run in f64.
    pub(crate) fn eval(&self, operands: &[&Tile], shape: Shape) -> Tile {
        match self {
            Matmul::Dot => {
                let [a, b] = [operands[0], operands[1]]; // the signature was checked
                let inner = a.shape().extent(1).unwrap_or(0);
                let columns = shape.extent(1).unwrap_or(0);
                let mut out = vec![0.0; shape.count()];
                if inner * columns > 0 {
                    for (out, a) in out.chunks_exact_mut(columns).zip(a.data().chunks_exact(inner)) {
                        for (&a, b) in a.iter().zip(b.data().chunks_exact(columns)) {
                            for (out, &b) in out.iter_mut().zip(b) {
                                *out += a * b;
                            }
                        }
                    }
                }
                Tile::made(Elem::F32, shape, out)
            }
        }
    }
}
