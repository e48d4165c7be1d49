//! From a group of instructions to the micro-ops of a fused loop.

use super::forms::Form;
use super::lower::Lowering;
use super::program::{Extent, Lane, LaneIndex, MicroKind, MicroOp, Operand, Place, VectorLoop};
use super::units::{Domain, folds_rows};
use super::weights::{Piece, ScaledMax, Weights, pieces};
use std::collections::HashMap;
use tilewright_ir::op::{Elementwise, ShapeOp};
use tilewright_ir::{Elem, Inst, Op, Shape, ValueId};

impl Extent {
    fn of(shape: Shape, domain: Domain) -> Extent {
        let own = Domain::of(shape);
        match (own.rows == domain.rows, own.cols == domain.cols) {
            (true, true) => Extent::Full,
            (true, false) => Extent::Row,
            (false, true) => Extent::Col,
            (false, false) => Extent::One,
        }
    }
}

impl Domain {
    /// The smallest domain of a group.
    fn of_group(lowering: &Lowering<'_>, insts: &[&Inst]) -> Domain {
        let shapes = insts
            .iter()
            .flat_map(|i| i.operands.iter().chain(&i.results))
            .filter_map(|&v| lowering.kernel.ty(v).shape());
        shapes
            .map(Domain::of)
            .fold(Domain { rows: 1, cols: 1 }, |a, b| Domain { rows: a.rows.max(b.rows), cols: a.cols.max(b.cols) })
    }

    /// Lanes of a value of this extent in a tile.
    fn lanes(self, extent: Extent, rows: u32) -> u64 {
        match extent {
            Extent::Full => u64::from(rows) * u64::from(self.cols),
            Extent::Row => rows.into(),
            Extent::Col => self.cols.into(),
            Extent::One => 1,
        }
    }

    fn row_stride(self, extent: Extent) -> u32 {
        match extent {
            Extent::Full => self.cols,
            Extent::Row => 1,
            Extent::Col | Extent::One => 0,
        }
    }
}

/// A fused loop under construction.
pub(super) struct Fusion<'f> {
    pub domain: Domain,
    pub insts: &'f [&'f Inst],
    /// Operands that were repeated over the whole domain, and where.
    pub repeated: Vec<(ValueId, LaneIndex)>,
    /// Weights that are made in pairs, and where.
    pub paired: HashMap<ValueId, LaneIndex>,
}

impl<'f> Fusion<'f> {
    /// A loop over the smallest domain of these.
    pub fn of(lowering: &Lowering<'_>, insts: &'f [&'f Inst]) -> Fusion<'f> {
        Fusion { domain: Domain::of_group(lowering, insts), insts, repeated: Vec::new(), paired: HashMap::new() }
    }

    pub fn extent(&self, lowering: &Lowering<'_>, value: ValueId) -> Extent {
        Extent::of(lowering.kernel.ty(value).shape().unwrap_or(Shape::SCALAR), self.domain)
    }

    /// The instruction of the group that makes a value.
    pub fn maker(&self, value: ValueId) -> Option<&'f Inst> {
        self.insts.iter().find(|inst| inst.results.first() == Some(&value)).copied()
    }

    /// Where an operand or result that lives in a buffer is.
    fn buffer(&self, extent: Extent, offset: LaneIndex) -> Place {
        Place { offset, row_stride: self.domain.row_stride(extent) }
    }

    /// Emits the loop. `outputs` says which results live in buffers, all others become block registers.
    pub fn emit(&self, lowering: &mut Lowering<'_>, outputs: &HashMap<ValueId, LaneIndex>) -> VectorLoop {
        let Domain { rows, cols } = self.domain;
        // What is loaded shares the first-level cache with what it is loaded for.
        let loads = self.insts.iter().filter(|inst| lowering.loaded(inst.results[0]).is_some()).count() as u32;
        let block_rows = (lowering.target.block / (1 + loads) / cols.max(1)).clamp(1, rows.max(1));
        let mut places: HashMap<ValueId, Place> = HashMap::new();
        for (&value, &offset) in outputs {
            places.insert(value, self.buffer(self.extent(lowering, value), offset));
        }
        let pairs = |(&value, &offset): (&ValueId, &LaneIndex)| (value, Place { offset, row_stride: cols / 2 });
        places.extend(self.paired.iter().map(pairs));
        let pieces = pieces(lowering, self);
        let mut last_use: HashMap<ValueId, usize> = HashMap::new();
        for (at, piece) in pieces.iter().enumerate() {
            last_use.extend(piece.operands().into_iter().map(|v| (lowering.root(v), at)));
        }
        // What every block shares comes first: a lane given back by a block register would be overwritten by the next block.
        let mut taken: Vec<(LaneIndex, u64)> = Vec::new();
        for value in pieces.iter().flat_map(Piece::results) {
            let extent = self.extent(lowering, value);
            if matches!(extent, Extent::Col | Extent::One) && !places.contains_key(&value) {
                let lanes = self.domain.lanes(extent, block_rows);
                let offset = lowering.arena.take(lanes);
                taken.push((offset, lanes));
                places.insert(value, Place { offset, row_stride: 0 });
            }
        }
        let mut registers: HashMap<ValueId, (LaneIndex, u64)> = HashMap::new();
        let mut ops = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            if let Some((result, operands)) = piece.by_lanes()
                && !places.contains_key(&result)
            {
                // A register that ends here becomes the result's: each lane is read before it is written.
                let extent = self.extent(lowering, result);
                let ends = operands.iter().filter(|&&v| self.extent(lowering, v) == extent).map(|&v| lowering.root(v));
                let from = ends.filter(|v| last_use.get(v) == Some(&at)).find_map(|v| Some((v, registers.remove(&v)?)));
                if let Some((from, lanes)) = from {
                    registers.insert(result, lanes);
                    places.insert(result, places[&from]);
                }
            }
            for result in piece.results() {
                places.entry(result).or_insert_with(|| {
                    let lanes = self.domain.lanes(self.extent(lowering, result), block_rows);
                    let offset = lowering.arena.take(lanes);
                    registers.insert(result, (offset, lanes));
                    Place { offset, row_stride: 0 }
                });
            }
            let place = |value: ValueId| places[&value];
            let operand = |value: ValueId| {
                if let Some(&(_, offset)) = self.repeated.iter().find(|(v, _)| *v == value) {
                    return Operand { place: self.buffer(Extent::Full, offset), extent: Extent::Full };
                }
                let (extent, root) = (self.extent(lowering, value), lowering.root(value));
                let place = places.get(&root).copied();
                let place = place.unwrap_or_else(|| self.buffer(extent, lowering.lanes_of(Form::Plain(root))));
                Operand { place, extent }
            };
            ops.push(match piece {
                Piece::Inst(inst) => {
                    let result = inst.results[0]; // every fusable op has one result
                    let (extent, dst) = (self.extent(lowering, result), places[&result]);
                    let operands: Vec<Operand> = inst.operands.iter().map(|&v| operand(v)).collect();
                    let first = operands.first().copied().unwrap_or(Operand { place: dst, extent });
                    let get = |i: usize| operands.get(i).copied().unwrap_or(first);
                    MicroOp { kind: self.kind(lowering, inst, first.extent), extent, dst, src: [first, get(1), get(2)] }
                }
                Piece::Load { load, result } => {
                    let (extent, dst) = (self.extent(lowering, *result), places[result]);
                    let none = Operand { place: dst, extent };
                    MicroOp { kind: MicroKind::Load(lowering.window(load, 1)), extent, dst, src: [none; 3] }
                }
                Piece::Weights(Weights { x, scale, shift, result, sum }) => {
                    let one = Operand { place: self.buffer(Extent::One, lowering.one), extent: Extent::One };
                    let pairs = self.paired.contains_key(result);
                    MicroOp {
                        kind: MicroKind::Weights { sum: sum.map(|sum| places[&sum]), pairs },
                        extent: Extent::Full,
                        dst: places[result],
                        src: [operand(*x), scale.map_or(one, operand), operand(*shift)],
                    }
                }
                Piece::ScaledMax(ScaledMax { x, scale, result }) => MicroOp {
                    kind: MicroKind::ScaledMax,
                    extent: Extent::Row,
                    dst: places[result],
                    src: [operand(*x), operand(*scale), operand(*scale)],
                },
                Piece::Masked(of) => MicroOp {
                    kind: MicroKind::Masked(Box::new(of.at(&place, &operand))),
                    extent: Extent::Full,
                    dst: places[&of.result],
                    src: [operand(of.x); 3],
                },
            });
            for value in piece.operands().into_iter().chain(piece.results()) {
                let value = lowering.root(value);
                if last_use.get(&value).copied().unwrap_or(at) <= at
                    && let Some((offset, lanes)) = registers.remove(&value)
                {
                    lowering.arena.give(offset, lanes);
                }
            }
        }
        for (offset, lanes) in taken {
            lowering.arena.give(offset, lanes);
        }
        VectorLoop { rows, cols, block_rows, ops }
    }

    fn kind(&self, lowering: &Lowering<'_>, inst: &Inst, first: Extent) -> MicroKind {
        let result = lowering.kernel.ty(inst.results[0]);
        let operand = inst.operands.first().map_or(result, |&v| lowering.kernel.ty(v));
        let wrap = |elem: Elem| matches!(elem, Elem::I8 | Elem::U8).then_some(elem);
        match &inst.op {
            Op::Elementwise(Elementwise::Cast { to }) => MicroKind::Cast { from: operand.elem(), to: *to },
            Op::Elementwise(Elementwise::Bitcast { to }) => MicroKind::Bitcast { from: operand.elem(), to: *to },
            Op::Elementwise(op) => {
                // `select` works on what it chooses from; everything else on its first operand.
                let lane = Lane::from(if *op == Elementwise::Select { result.elem() } else { operand.elem() });
                MicroKind::Map { op: op.clone(), lane, wrap: wrap(result.elem()) }
            }
            Op::Reduce(op) => match first {
                _ if folds_rows(op, operand) => MicroKind::FoldRows(Lane::from(operand.elem())),
                Extent::Row | Extent::One if self.domain.cols != 1 => MicroKind::Copy, // one column: nothing to fold
                _ => MicroKind::Reduce { op: op.clone(), lane: Lane::from(operand.elem()), wrap: wrap(result.elem()) },
            },
            Op::ShapeOp(ShapeOp::Iota { axis, shape }) => {
                let axis = *axis as usize;
                if axis + 1 == shape.rank() {
                    return MicroKind::IotaCol;
                }
                let inner: usize = shape.extents().skip(axis + 1).rev().skip(1).product();
                MicroKind::IotaRow {
                    divide: inner.max(1) as u32,
                    modulo: shape.extent(axis).unwrap_or(1).max(1) as u32,
                }
            }
            Op::ShapeOp(
                ShapeOp::Broadcast { .. } | ShapeOp::Reshape { .. } | ShapeOp::Transpose | ShapeOp::Unpack { .. },
            )
            | Op::Matmul(_)
            | Op::Memory(_)
            | Op::Control(_) => MicroKind::Copy, // only what spreads is ever fused
        }
    }
}
