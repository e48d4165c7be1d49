//! Instructions that are steps of their own: products, memory, and what passes over a tile in another order.

use super::{Lowering, Scope};
use crate::cpu::forms::{Form, RowsOf, Streamed};
use crate::cpu::program::*;
use crate::cpu::rows::CodesOf;
use crate::cpu::units::Domain;
use crate::cpu::vector::Fusion;
use std::collections::HashMap;
use tilewright_ir::op::{Matmul, Memory, ShapeOp};
use tilewright_ir::{Inst, Op, Shape, ValueId};

impl Lowering<'_> {
    pub(super) fn single(&mut self, scope: &mut Scope, at: usize, inst: &Inst, out: &mut Vec<Step>) {
        if let Some(sum) = inst.results.first().and_then(|&r| self.forms.accumulation(r)) {
            let result = inst.results[0];
            let addend = self.plain_form(sum.addend);
            let ends = scope.last.get(&addend).is_some_and(|l| l.unit == at && l.times == 1);
            let c = if ends && scope.reusable.contains(&addend) {
                scope.hand_over(addend, Form::Plain(result));
                self.lanes.insert(Form::Plain(result), self.plain(sum.addend));
                self.plain(sum.addend)
            } else {
                let src = self.plain(sum.addend);
                let dst = self.make(scope, Form::Plain(result));
                out.push(Step::Copy { src, dst, lanes: self.size(addend) as u32 });
                dst
            };
            self.dot(sum.a, sum.b, c, true, result, out);
            return self.packs(scope, result, None, out);
        }
        if let Some(codes) = inst.results.first().and_then(|&r| self.forms.codes(r)) {
            let result = inst.results[0];
            let dst = self.make(scope, Form::Plain(result));
            let shape = self.shape(codes.parts[0].results[0]);
            let count = shape.extents().rev().skip(1).product::<usize>() as u32;
            let columns = shape.extents().next_back().unwrap_or(1) as u32 * 32 / u32::from(codes.bits);
            let rows = Rows::Codes(self.codes(codes));
            out.push(Step::Decode { rows, count, columns, dst });
            return self.packs(scope, result, None, out);
        }
        if let Some(kept) = inst.results.first().and_then(|&r| self.forms.kept(r)) {
            let (source, keep) = (self.stored(&kept.source), self.plain(kept.keep));
            return self.packs(scope, inst.results[0], Some((&source, Some(keep))), out);
        }
        match &inst.op {
            Op::Control(op) => self.control(scope, at, inst, op, out),
            Op::Memory(op) => self.memory(scope, inst, op, out),
            Op::Matmul(Matmul::Dot) => {
                let c = self.make(scope, Form::Plain(inst.results[0]));
                self.dot(inst.operands[0], inst.operands[1], c, false, inst.results[0], out);
                self.packs(scope, inst.results[0], None, out);
            }
            Op::Reduce(op) => {
                let src = self.plain(inst.operands[0]);
                let ty = self.kernel.ty(inst.operands[0]);
                let shape = self.shape(inst.operands[0]);
                let part = |range: std::ops::Range<usize>| {
                    shape.extents().skip(range.start).take(range.len()).product::<usize>() as u32
                };
                let (outer, extent, inner) =
                    (part(0..op.axis()), part(op.axis()..op.axis() + 1), part(op.axis() + 1..shape.rank()));
                let dst = self.make(scope, Form::Plain(inst.results[0]));
                self.stats.unfused += 1;
                out.push(Step::Reduce {
                    op: op.clone(),
                    lane: ty.elem().into(),
                    elem: ty.elem(),
                    src,
                    dst,
                    outer,
                    extent,
                    inner,
                });
                self.packs(scope, inst.results[0], None, out);
            }
            Op::ShapeOp(op) => {
                let src = inst.operands.first().map(|&v| self.plain(v));
                let dst = self.make(scope, Form::Plain(inst.results[0]));
                self.stats.unfused += 1;
                if let Some(src) = src {
                    out.push(self.moved(op, inst, src, dst));
                }
                self.packs(scope, inst.results[0], None, out);
            }
            Op::Elementwise(_) => self.spread(scope, inst, out),
        }
    }

    fn dot(&mut self, a: ValueId, b: ValueId, c: LaneIndex, accumulate: bool, result: ValueId, out: &mut Vec<Step>) {
        let (a_shape, c_shape) = (self.shape(a), self.shape(result));
        let extent = |s: Shape, axis| s.extent(axis).unwrap_or(1) as u32;
        let (m, n, k) = (extent(c_shape, 0), extent(c_shape, 1), extent(a_shape, 1));
        self.stats.dots += 1;
        let pairs = self.forms.are_paired(a, b);
        let a = if pairs { self.lanes_of(Form::Pairs(a)) } else { self.plain(a) };
        let Some(Streamed { rows, transposed }) = self.forms.streamed(b) else {
            let b = self.lanes_of(self.forms.packed(b, pairs));
            let k = if pairs { k.div_ceil(2) } else { k };
            return out.push(Step::Dot(Dot { a, b, c, m, n, k, accumulate, pairs }));
        };
        let width = if *transposed { k } else { n };
        let b = match rows {
            RowsOf::Stored(inst) => Rows::Stored(self.stored(inst)),
            RowsOf::Codes(codes) => Rows::Codes(self.codes(codes)),
        };
        let by = match rows {
            _ if pairs => Arithmetic::Pairs,
            RowsOf::Codes(codes) if codes.are_multiplied(self.target) => Arithmetic::Bytes,
            RowsOf::Codes(_) | RowsOf::Stored(_) => Arithmetic::Numbers,
        };
        let scratch_rows = if by == Arithmetic::Bytes { ROWS_IN_DIGITS } else { ROWS_AT_ONCE };
        let scratch_lanes = u64::from(scratch_rows) * u64::from(width);
        let scratch = self.arena.take(scratch_lanes);
        self.arena.give(scratch, scratch_lanes);
        out.push(Step::DotRows(DotRows { a, b, transposed: *transposed, c, m, n, k, accumulate, by, scratch }));
    }

    fn codes(&self, codes: &CodesOf) -> Codes {
        let [words, scales, biases] = &codes.parts;
        let [words, scales, biases] = [words, scales, biases].map(|part| self.stored(part));
        Codes { words, scales, biases, bits: codes.bits, group: codes.group, rounds: codes.rounds }
    }

    /// Where a load or gather finds its tile.
    fn stored(&self, inst: &Inst) -> PackSource {
        match &inst.op {
            Op::Memory(Memory::Gather { axis, .. }) => {
                PackSource::Gather { window: self.window(inst, 2), axis: *axis, indices: self.plain(inst.operands[1]) }
            }
            _ => PackSource::Window(self.window(inst, 1)),
        }
    }

    /// The window of a load or gather, whose operands are origins from `first` on.
    pub(in crate::cpu) fn window(&self, inst: &Inst, first: usize) -> Window {
        let origins = inst.operands[first..].iter().map(|&v| self.plain(v)).collect();
        let extents = self.shape(inst.results[0]).extents().map(|e| e as u32).collect();
        Window { view: self.view_of(inst.operands[0]), origins, extents }
    }

    fn moved(&self, op: &ShapeOp, inst: &Inst, src: LaneIndex, dst: LaneIndex) -> Step {
        let (from, to) = (self.shape(inst.operands[0]), self.shape(inst.results[0]));
        match op {
            ShapeOp::Transpose => {
                let Domain { rows, cols } = Domain::of(from);
                let outer = if from.rank() == 3 { from.extent(0).unwrap_or(1) as u32 } else { 1 };
                Step::Transpose { src, dst, outer, rows: rows / outer.max(1), cols }
            }
            ShapeOp::Broadcast { .. } => Step::Broadcast { src, dst, from: padded(from), to: padded(to) },
            // Rows of words become rows of codes, so all words lie in one row.
            ShapeOp::Unpack { bits } => Step::Unpack { src, dst, words: from.count() as u32, bits: *bits },
            // A reshaped tile is its source, and an empty iota has no source.
            ShapeOp::Reshape { .. } | ShapeOp::Iota { .. } => Step::Copy { src, dst, lanes: to.count() as u32 },
        }
    }

    /// An elementwise op whose operands spread over a middle axis: they are repeated first.
    fn spread(&mut self, scope: &mut Scope, inst: &Inst, out: &mut Vec<Step>) {
        let result = inst.results[0];
        let to = self.shape(result);
        let lanes = to.count() as u64;
        let mut repeated: Vec<(ValueId, LaneIndex)> = Vec::new();
        for &operand in &inst.operands {
            let from = self.shape(operand);
            if from.rank() == 0 || from == to || repeated.iter().any(|(v, _)| *v == operand) {
                continue;
            }
            let dst = self.arena.take(lanes);
            out.push(Step::Broadcast { src: self.plain(operand), dst, from: padded(from), to: padded(to) });
            self.stats.unfused += 1;
            repeated.push((operand, dst));
        }
        let dst = self.make(scope, Form::Plain(result));
        let fusion = Fusion { domain: Domain::of(to), insts: &[inst], repeated, paired: HashMap::new() };
        let vector = fusion.emit(self, &HashMap::from([(result, dst)]));
        out.push(Step::Vector(vector));
        for (_, temporary) in fusion.repeated {
            self.arena.give(temporary, lanes);
        }
        self.packs(scope, result, None, out);
    }

    fn memory(&mut self, scope: &mut Scope, inst: &Inst, op: &Memory, out: &mut Vec<Step>) {
        let view = self.view_of(inst.operands[0]);
        let lanes = |this: &Self, from: usize| inst.operands[from..].iter().map(|&v| this.plain(v)).collect::<Vec<_>>();
        let extents = |shape: Shape| shape.extents().map(|e| e as u32).collect::<Vec<_>>();
        match op {
            Memory::Len { axis } => {
                let dst = self.make(scope, Form::Plain(inst.results[0]));
                out.push(Step::ViewLen { view, axis: *axis, dst });
            }
            Memory::At { axis } => {
                let index = self.plain(inst.operands[1]);
                let dst = self.new_view(inst.results[0]);
                out.push(Step::ViewAt { view, axis: *axis, index, dst });
            }
            Memory::Limit { axis } => {
                let (first, last) = (self.plain(inst.operands[1]), self.plain(inst.operands[2]));
                let dst = self.new_view(inst.results[0]);
                out.push(Step::Limit { view, axis: *axis, first, last, dst });
            }
            Memory::Load { .. } | Memory::Gather { .. } => {
                let (source, result) = (self.stored(inst), inst.results[0]);
                if !self.forms.needs_plain(result) {
                    return self.packs(scope, result, Some((&source, None)), out);
                }
                let dst = self.make(scope, Form::Plain(result));
                match source {
                    PackSource::Window(window) => out.push(Step::Load { window, dst }),
                    PackSource::Gather { window, axis, indices } => {
                        out.push(Step::Gather { window, axis, indices, dst });
                    }
                    PackSource::Lanes(src) => {
                        out.push(Step::Copy { src, dst, lanes: self.size(Form::Plain(result)) as u32 })
                    }
                }
                self.packs(scope, result, None, out);
            }
            Memory::Store => {
                let shape = self.shape(inst.operands[1]);
                let window = Window { view, origins: lanes(self, 2), extents: extents(shape) };
                out.push(Step::Store { window, src: self.plain(inst.operands[1]) });
            }
        }
    }
}

/// Extents of a shape, with leading ones to rank 3.
fn padded(shape: Shape) -> [u32; 3] {
    let mut all = [1; 3];
    for (to, extent) in all.iter_mut().rev().zip(shape.extents().rev()) {
        *to = extent as u32;
    }
    all
}
