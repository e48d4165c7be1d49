//! The matrix units: fragment shapes, and which lane holds what of them.

use super::layout::{Digit, Layout};
use super::source::Dialect;
use tilewright_ir::Elem;

/// How a product of tiles is computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unit {
    /// `mma.sync.m16n8k16` of f16 or bf16 with f32 sums.
    Mma,
    /// `simdgroup_matrix` of 8 by 8, of f32, f16 or bf16 with f32 sums.
    Simdgroup,
    /// Multiply-adds in f32, with the fragments of [`Mma`](Unit::Mma): CUDA's matrix units would round f32.
    Lanes,
}

impl Unit {
    /// The unit for a product whose operands are of type `elem`.
    pub fn of(dialect: Dialect, elem: Elem) -> Unit {
        match (dialect, elem) {
            (Dialect::Msl, _) => Unit::Simdgroup,
            (Dialect::Cuda, Elem::F16 | Elem::Bf16) => Unit::Mma,
            (Dialect::Cuda, _) => Unit::Lanes,
        }
    }

    /// Rows, columns and depth of one fragment product.
    pub fn shape(self) -> [u32; 3] {
        match self {
            Unit::Mma | Unit::Lanes => [16, 8, 16],
            Unit::Simdgroup => [8, 8, 8],
        }
    }

    /// Registers of a thread for the sum of one fragment.
    pub fn sum_registers(self) -> u32 {
        match self {
            Unit::Mma | Unit::Lanes => 4,
            Unit::Simdgroup => 2,
        }
    }

    /// The layout of a sum of `rows` by `columns`, shared out over `warps` down and across: fragment after fragment along a row,
    /// then the rows below.
    pub fn sum_layout(self, rows: u32, columns: u32, warps: [u32; 2]) -> Layout {
        let [m, n, _] = self.shape();
        let down = rows.div_ceil(m * warps[0]).max(1);
        let across = columns.div_ceil(n * warps[1]).max(1);
        let fragment = match self {
            Unit::Mma | Unit::Lanes => [
                Digit::register(2, 0, 1),
                Digit::register(2, 8, 0),
                Digit::lane(4, 0, 2),
                Digit::lane(8, 1, 0),
                Digit::lane(1, 0, 0),
            ],
            Unit::Simdgroup => [
                Digit::register(2, 0, 1),
                Digit::lane(2, 0, 2),
                Digit::lane(4, 1, 0),
                Digit::lane(2, 0, 4),
                Digit::lane(2, 4, 0),
            ],
        };
        let block = [
            Digit::register(across, 0, n),
            Digit::register(down, m, 0),
            Digit::warp(warps[0], m * down, 0),
            Digit::warp(warps[1], 0, n * across),
        ];
        Layout::new(fragment.into_iter().chain(block))
    }

    /// The layout of a sum of [`Mma`](Unit::Mma) whose columns lie `spread` by `spread` in eight lanes, so that those that a lane brings of
    /// the right operand, one to a fragment, are neighbours.
    pub fn lane_columns(rows: u32, columns: u32, warps: [u32; 2], spread: u32) -> Layout {
        let [m, n, _] = Unit::Mma.shape();
        let down = rows.div_ceil(m * warps[0]).max(1);
        let across = columns.div_ceil(n * warps[1]).max(1);
        let neighbours = spread / n;
        Layout::new([
            Digit::register(2, 0, neighbours),
            Digit::register(2, 8, 0),
            Digit::register(neighbours, 0, 1),
            Digit::register(across / neighbours, 0, spread),
            Digit::register(down, m, 0),
            Digit::lane(4, 0, 2 * neighbours),
            Digit::lane(8, 1, 0),
            Digit::warp(warps[0], m * down, 0),
            Digit::warp(warps[1], 0, n * across),
        ])
    }
}
