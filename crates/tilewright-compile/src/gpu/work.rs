//! How the work of a tile is shared out where nobody says.

use super::place::matrix;
use super::source::Dialect;
use super::unit::Unit;
use tilewright_ir::op::Matmul;
use tilewright_ir::{Elem, Kernel, Op, Shape, Work};

/// The most f32 sums that a thread should hold of one tile: half of its registers.
const MOST_SUMS: u32 = 128;
/// The most warps of a block.
const MOST_WARPS: u32 = 16;

/// Rows of products over as many warps as have some, and columns over more where a thread would hold too many sums.
pub(super) fn of(kernel: &Kernel, dialect: Dialect) -> Work {
    let insts = kernel.regions.iter().flat_map(|r| &r.insts);
    let products = insts.filter(|i| matches!(i.op, Op::Matmul(Matmul::Dot)));
    let sums: Vec<[u32; 2]> =
        products.map(|i| matrix(kernel.ty(i.results[0]).shape().unwrap_or(Shape::SCALAR))).collect();
    let Some(tallest) = sums.iter().map(|[m, _]| *m).max() else {
        return Work { rows: 4, columns: 1, stages: 1, blocks: 1 };
    };
    let [m, n, _] = Unit::of(dialect, Elem::F16).shape();
    let mut work = Work { rows: tallest.div_ceil(m).next_power_of_two().min(4), columns: 1, stages: 2, blocks: 1 };
    let held = |work: Work| {
        let of = |&[rows, columns]: &[u32; 2]| {
            let own = rows.next_multiple_of(m * work.rows) * columns.next_multiple_of(n * work.columns);
            own / (32 * work.warps())
        };
        sums.iter().map(of).max().unwrap_or(0)
    };
    while held(work) > MOST_SUMS && work.warps() < MOST_WARPS {
        if 2 * m * work.rows <= tallest { work.rows *= 2 } else { work.columns *= 2 }
    }
    work
}
