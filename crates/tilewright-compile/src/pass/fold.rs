//! What is known when a kernel is compiled is computed then: pure ops of constants, branches on constants, and ops that give
//! back one of their operands. Equal expressions are made one on the way, because `max(a, a)` is `a` only then.
//!
//! Integers follow every identity; floats only those that hold for every number, -0, infinity and NaN included: `x * 1`,
//! `x / 1`, `x - 0`, `x + -0`, but not `x + 0`. A float is folded only where the result is a number of its type, so that
//! nothing is rounded that was not.

mod identity;

use super::edit::{Same, is_free, rehome, take_insts};
use std::collections::HashMap;
use tilewright_ir::interp::Tile;
use tilewright_ir::op::{Control, Elementwise, Literal, ShapeOp};
use tilewright_ir::{Inst, Kernel, Op, RegionId, Shape, SiteId, Type, ValueId};

pub(super) fn run(kernel: &mut Kernel) {
    loop {
        let before = kernel.clone();
        super::common::run(kernel);
        let mut folder = Folder { same: Same::default(), uniform: HashMap::new(), makers: HashMap::new() };
        folder.visit(kernel, Kernel::BODY);
        folder.same.finish(kernel);
        // Each round but the last one has fewer instructions that are neither a constant nor its broadcast.
        if *kernel == before {
            return;
        }
    }
}

struct Folder {
    same: Same,
    /// The values that have one number in each element, and that number.
    uniform: HashMap<ValueId, f64>,
    /// The free instructions seen so far, by their results.
    makers: HashMap<ValueId, (Op, Vec<ValueId>)>,
}

impl Folder {
    fn visit(&mut self, kernel: &mut Kernel, region: RegionId) {
        let mut insts = Vec::new();
        for inst in take_insts(kernel, region) {
            self.inst(kernel, region, inst, &mut insts);
        }
        let held = &mut kernel.regions[region.index()];
        held.insts = insts;
        self.same.rename(&mut held.yields);
    }

    /// Appends what becomes of an instruction.
    fn inst(&mut self, kernel: &mut Kernel, region: RegionId, mut inst: Inst, out: &mut Vec<Inst>) {
        self.same.rename(&mut inst.operands);
        if let Op::Control(Control::If { then, otherwise }) = inst.op {
            if let Some(&cond) = self.uniform.get(&inst.operands[0]) {
                let taken = if cond != 0.0 { then } else { otherwise };
                return self.inline(kernel, region, taken, &inst, out);
            }
            self.visit(kernel, then);
            self.visit(kernel, otherwise);
        } else if let Op::Control(Control::For { body }) = inst.op {
            let [first, last, step] = [0, 1, 2].map(|i| self.uniform.get(&inst.operands[i]));
            let idle = step.is_some_and(|&s| s <= 0.0) || matches!((first, last), (Some(a), Some(b)) if a >= b);
            if idle {
                return inst.results.iter().zip(&inst.operands[3..]).for_each(|(&r, &init)| self.same.set(r, init));
            }
            self.visit(kernel, body);
        } else if is_free(&inst) {
            let result = inst.results[0]; // a free instruction has one
            if let Some(equal) = self.operand_of_same_value(kernel, &inst) {
                return self.same.set(result, equal);
            }
            if let Some(number) = self.number(kernel, &inst) {
                self.uniform.insert(result, number);
                return replace_by_constant(kernel, region, inst, number, out);
            }
            self.makers.insert(result, (inst.op.clone(), inst.operands.clone()));
        }
        out.push(inst);
    }

    /// The instructions of a region in place of the op that runs it.
    fn inline(&mut self, kernel: &mut Kernel, around: RegionId, taken: RegionId, inst: &Inst, out: &mut Vec<Inst>) {
        for inner in take_insts(kernel, taken) {
            rehome(kernel, &inner, around);
            self.inst(kernel, around, inner, out);
        }
        let yields = std::mem::take(&mut kernel.regions[taken.index()].yields);
        inst.results.iter().zip(yields).for_each(|(&result, yielded)| self.same.set(result, yielded));
    }

    /// The number that all elements of a result have, where the operands say it.
    fn number(&self, kernel: &Kernel, inst: &Inst) -> Option<f64> {
        match &inst.op {
            Op::Elementwise(op) => {
                let int = inst.operands.first().is_some_and(|&v| !kernel.ty(v).elem().is_float());
                if let Some(number) = identity::of_itself(op, &inst.operands).filter(|_| int) {
                    return Some(number);
                }
                let scalars: Option<Vec<Tile>> = inst
                    .operands
                    .iter()
                    .map(|v| Some(Tile::scalar(kernel.ty(*v).elem(), *self.uniform.get(v)?)))
                    .collect();
                let made = inst.op.eval(&scalars?.iter().collect::<Vec<_>>()).ok()?;
                let number = made.data()[0]; // a scalar has one element
                (made.elem().nearest(number) == number).then_some(number)
            }
            Op::ShapeOp(ShapeOp::Broadcast { .. } | ShapeOp::Reshape { .. } | ShapeOp::Transpose) => {
                self.uniform.get(&inst.operands[0]).copied()
            }
            Op::ShapeOp(ShapeOp::Iota { .. } | ShapeOp::Unpack { .. }) => None,
            Op::Reduce(_) | Op::Matmul(_) | Op::Memory(_) | Op::Control(_) => None,
        }
    }

    /// The value that an instruction gives back unchanged.
    fn operand_of_same_value(&self, kernel: &Kernel, inst: &Inst) -> Option<ValueId> {
        let known = |value: ValueId| self.uniform.get(&value).copied();
        let maker = |value: ValueId| self.makers.get(&value).map(|(op, operands)| (op, &operands[..]));
        let int = inst.operands.first().is_some_and(|&v| !kernel.ty(v).elem().is_float());
        let value = identity::operand(&inst.op, &inst.operands, int, known, maker)?;
        // An operand that is broadcast is not the result.
        (kernel.ty(value) == kernel.ty(inst.results[0])).then_some(value)
    }
}

/// Appends a constant, and for a tile its broadcast, in place of an instruction. What is that already stays.
fn replace_by_constant(kernel: &mut Kernel, region: RegionId, inst: Inst, number: f64, out: &mut Vec<Inst>) {
    let result = inst.results[0]; // a free instruction has one
    let (elem, shape) = match kernel.ty(result) {
        Type::Tile { elem, shape } => (elem, shape),
        Type::View { .. } => return out.push(inst), // a view has no number
    };
    let of_scalar = |inst: &Inst| inst.operands.iter().all(|&v| kernel.ty(v).is_scalar());
    let done = match &inst.op {
        Op::Elementwise(Elementwise::Constant { .. }) => true,
        Op::ShapeOp(ShapeOp::Broadcast { .. }) => of_scalar(&inst),
        Op::Elementwise(_) | Op::ShapeOp(_) | Op::Reduce(_) | Op::Matmul(_) | Op::Memory(_) | Op::Control(_) => false,
    };
    if done {
        return out.push(inst);
    }
    let site: SiteId = inst.site;
    let constant = Elementwise::Constant { value: Literal(number), elem };
    if shape == Shape::SCALAR {
        return out.push(Inst { op: constant.into(), operands: Vec::new(), results: inst.results, site });
    }
    let scalar = kernel.add_value(Type::scalar(elem), region, site);
    out.push(Inst { op: constant.into(), operands: Vec::new(), results: vec![scalar], site });
    out.push(Inst { op: ShapeOp::Broadcast { shape }.into(), operands: vec![scalar], results: inst.results, site });
}
