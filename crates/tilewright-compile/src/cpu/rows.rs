//! Right operands of products that need not be packed: rows in memory that few rows of a left operand read where they lie,
//! and numbers that stand as codes.
//!
//! Codes are found by structure alone: `T(T(code * scale) + bias)`, or the same in f32, where codes are unpacked from words in
//! memory, scale and bias come from memory too, one for each row of a `[rows * groups, group]` tile, and nothing else reads what
//! is between.

use super::program::{ROWS_AT_ONCE, Target};
use std::collections::HashMap;
use tilewright_ir::op::{Elementwise, Memory, ShapeOp};
use tilewright_ir::{Elem, Inst, Kernel, Op, RegionId, ValueId};

/// The instructions of one region by what they make.
pub(super) struct Makers<'k> {
    kernel: &'k Kernel,
    uses: &'k HashMap<ValueId, usize>,
    by_result: HashMap<ValueId, &'k Inst>,
}

/// Instructions that load the parts of codes, and how they are to be understood.
#[derive(Clone, Debug)]
pub(super) struct CodesOf {
    /// Words, scales and biases: loads or gathers.
    pub parts: [Inst; 3],
    pub bits: u8,
    pub group: u32,
    /// The type that the product and the sum are rounded to; f32 where they are not.
    pub rounds: Elem,
    /// The type of scales and biases.
    pub scales: Elem,
    /// Everything that stands for the numbers, but for the last instruction.
    pub inner: Vec<ValueId>,
}

impl CodesOf {
    /// Whether a product of few rows multiplies the codes themselves.
    pub fn are_multiplied(&self, target: Target) -> bool {
        /// Neighbours in a row whose products add up: two quarters of a vector of bytes at least, and what fits an i32 at most.
        const GROUPS: [u32; 3] = [32, 64, 128];
        target.bytes && self.rounds == Elem::F32 && self.scales != Elem::F32 && GROUPS.contains(&self.group)
    }
}

impl<'k> Makers<'k> {
    pub fn new(kernel: &'k Kernel, uses: &'k HashMap<ValueId, usize>, region: RegionId) -> Makers<'k> {
        let results = kernel.insts(region).iter().filter_map(|inst| Some((*inst.results.first()?, inst)));
        Makers { kernel, uses, by_result: results.collect() }
    }

    /// The instruction that makes a value which is read once.
    pub fn single(&self, value: ValueId) -> Option<&'k Inst> {
        self.by_result.get(&value).copied().filter(|_| self.uses.get(&value) == Some(&1))
    }

    /// Whether a value is zero, repeated.
    pub fn is_zero(&self, value: ValueId) -> bool {
        match self.anywhere(value).map(|inst| (&inst.op, &inst.operands[..])) {
            Some((Op::Elementwise(Elementwise::Constant { value, .. }), _)) => value.0.to_bits() == 0,
            Some((Op::ShapeOp(ShapeOp::Broadcast { .. } | ShapeOp::Reshape { .. }), &[of])) => self.is_zero(of),
            None
            | Some((
                Op::Elementwise(_) | Op::ShapeOp(_) | Op::Reduce(_) | Op::Matmul(_) | Op::Memory(_) | Op::Control(_),
                _,
            )) => false,
        }
    }

    /// The instruction that makes a value, of this region or of one around it.
    fn anywhere(&self, value: ValueId) -> Option<&'k Inst> {
        let insts = || self.kernel.regions.iter().flat_map(|region| &region.insts);
        insts().find(|inst| inst.results.contains(&value))
    }

    /// The instruction behind reshapes and casts that nothing else reads, all of which go to `through`. The casts change no
    /// number, but for one that rounds to `rounds`, which there must be unless that is f32.
    fn behind(&self, mut value: ValueId, rounds: Elem, through: &mut Vec<ValueId>) -> Option<&'k Inst> {
        let mut rounded = rounds == Elem::F32;
        loop {
            let inst = self.single(value)?;
            through.push(value);
            let from = inst.operands.first().copied();
            match (&inst.op, from) {
                (Op::ShapeOp(ShapeOp::Reshape { .. }), Some(from)) => value = from,
                (Op::Elementwise(Elementwise::Cast { to }), Some(from)) if self.kernel.ty(from).elem().is_float() => {
                    match *to {
                        to if to == self.kernel.ty(from).elem() || to == Elem::F32 => {}
                        to if to == rounds && !rounded => rounded = true,
                        _ => return None,
                    }
                    value = from;
                }
                (
                    Op::Elementwise(_)
                    | Op::Reduce(_)
                    | Op::ShapeOp(_)
                    | Op::Matmul(_)
                    | Op::Memory(_)
                    | Op::Control(_),
                    _,
                ) => return rounded.then_some(inst),
            }
        }
    }

    /// Elements of a tile.
    fn count(&self, value: ValueId) -> usize {
        self.kernel.ty(value).shape().map_or(0, |shape| shape.count())
    }

    fn last_extent(&self, value: ValueId) -> Option<usize> {
        let shape = self.kernel.ty(value).shape()?;
        shape.extent(shape.rank().wrapping_sub(1))
    }

    /// A tile from memory of so many rows of so many elements.
    fn loaded(&self, value: ValueId, [count, width]: [usize; 2], through: &mut Vec<ValueId>) -> Option<Inst> {
        let inst = self.behind(value, Elem::F32, through)?;
        let rows = match &inst.op {
            Op::Memory(Memory::Load { shape }) => shape.rank() >= 2,
            Op::Memory(Memory::Gather { axis, shape }) => usize::from(*axis) + 1 < shape.rank(),
            _ => false,
        };
        let shaped = self.last_extent(inst.results[0]) == Some(width) && self.count(inst.results[0]) == count * width;
        (rows && shaped).then(|| inst.clone())
    }

    /// The codes that `root`, read as rows of `width` numbers, is made of.
    pub fn codes(&self, root: ValueId, width: usize) -> Option<CodesOf> {
        if cfg!(target_endian = "big") {
            return None; // the codes of a word are the bytes as they lie
        }
        let mut inner = Vec::new();
        let rounds = self.kernel.ty(root).elem();
        let rows = self.count(root) / width.max(1);
        let sum = self.behind(root, rounds, &mut inner)?;
        let (Op::Elementwise(Elementwise::Add), &[x, y]) = (&sum.op, &sum.operands[..]) else { return None };
        let group = self.last_extent(sum.results[0])?;
        if group == 0 || !group.is_multiple_of(ROWS_AT_ONCE as usize) || !width.is_multiple_of(group) {
            return None;
        }
        [(x, y), (y, x)].into_iter().find_map(|(scaled, bias)| {
            let mut inner = inner.clone();
            let product = self.behind(scaled, rounds, &mut inner)?;
            let (Op::Elementwise(Elementwise::Mul), &[x, y]) = (&product.op, &product.operands[..]) else {
                return None;
            };
            let same = self.kernel.ty(product.results[0]).shape() == self.kernel.ty(sum.results[0]).shape();
            let biases = same.then(|| self.of_groups(bias, [rows, width / group], &mut inner)).flatten()?;
            [(x, y), (y, x)].into_iter().find_map(|(code, scale)| {
                let mut inner = inner.clone();
                let (words, bits) = self.unpacked(code, [rows, width], &mut inner)?;
                let scales = self.of_groups(scale, [rows, width / group], &mut inner)?;
                inner.retain(|&value| value != root);
                let elem = self.kernel.ty(scales.results[0]).elem();
                let parts = [words, scales, biases.clone()];
                Some(CodesOf { parts, bits, group: group as u32, rounds, scales: elem, inner })
            })
        })
    }

    /// One number a group, from memory.
    fn of_groups(&self, value: ValueId, groups: [usize; 2], through: &mut Vec<ValueId>) -> Option<Inst> {
        let inst = self.loaded(value, groups, through)?;
        let one_a_row = self.last_extent(value) == Some(1);
        (one_a_row && self.kernel.ty(inst.results[0]).elem().is_float()).then_some(inst)
    }

    /// Words from memory whose codes, as numbers, the value holds.
    fn unpacked(&self, value: ValueId, [rows, width]: [usize; 2], through: &mut Vec<ValueId>) -> Option<(Inst, u8)> {
        let cast = self.behind(value, Elem::F32, through)?;
        let (Op::Elementwise(Elementwise::Cast { .. }), &[codes]) = (&cast.op, &cast.operands[..]) else { return None };
        let unpack = self.behind(codes, Elem::F32, through)?;
        let Op::ShapeOp(ShapeOp::Unpack { bits: bits @ (4 | 8) }) = unpack.op else { return None };
        let words = self.loaded(unpack.operands[0], [rows, width * usize::from(bits) / 32], through)?;
        (self.kernel.ty(words.results[0]).elem() == Elem::U32).then_some((words, bits))
    }
}
