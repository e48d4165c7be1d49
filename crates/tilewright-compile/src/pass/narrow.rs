//! Weights take the type of the values: a `dot` of f32 weights with an f16 or bf16 tile becomes one of two 16-bit tiles, which
//! is what a matrix unit multiplies.
//!
//! The accuracy contract allows it for the weights of the softmax and nothing else: "`P` may be rounded to the value type
//! before its product with V; `q*scale` and scores may not be rounded below f32." So the f32 side must be made by `exp2`,
//! moved or selected at most. A kernel that has another product with an f32 tile has f32 queries, whose results are held to
//! the bound of f32: there the weights stay f32 too.

use super::edit::take_insts;
use std::collections::HashMap;
use tilewright_ir::op::{Control, Elementwise, Matmul, ShapeOp};
use tilewright_ir::{Elem, Inst, Kernel, Op, RegionId, Type, ValueId};

/// Whether products are of 16-bit tiles, and of f32 weights at most: results are held to a bound of 16 bits.
pub(super) fn rounds_scores(kernel: &Kernel) -> bool {
    let weights = Weights::of(kernel);
    let dots = kernel.regions.iter().flat_map(|r| &r.insts).filter(|inst| inst.op == Op::Matmul(Matmul::Dot));
    let sides: Vec<ValueId> = dots.flat_map(|inst| [inst.operands[0], inst.operands[1]]).collect(); // the verifier counted them
    let wide = |value: &&ValueId| kernel.ty(**value).elem() == Elem::F32;
    sides.iter().any(|side| !wide(&side)) && sides.iter().filter(wide).all(|side| weights.has(*side))
}

pub(super) fn run(kernel: &mut Kernel) {
    narrow_where(kernel, |_| true);
}

/// Of bf16 values alone, which a CPU multiplies in pairs, unless it reads them where they lie and they are no whole vectors.
pub(super) fn run_pairs(kernel: &mut Kernel) {
    narrow_where(kernel, |to| to == Elem::Bf16);
}

/// Narrows the products whose type `wanted` takes.
fn narrow_where(kernel: &mut Kernel, wanted: fn(Elem) -> bool) {
    if !rounds_scores(kernel) {
        return;
    }
    for region in (0..kernel.regions.len() as u32).map(RegionId) {
        let mut insts = Vec::new();
        for mut inst in take_insts(kernel, region) {
            if inst.op == Op::Matmul(Matmul::Dot) {
                narrow(kernel, region, &mut inst, &mut insts, wanted);
            }
            insts.push(inst);
        }
        kernel.regions[region.index()].insts = insts;
    }
}

/// Puts a cast in front of the product where one side is f32 and the other is not.
fn narrow(kernel: &mut Kernel, region: RegionId, dot: &mut Inst, before: &mut Vec<Inst>, wanted: fn(Elem) -> bool) {
    let elems = [0, 1].map(|side| kernel.ty(dot.operands[side]).elem());
    let (side, to) = match elems {
        [Elem::F32, to @ (Elem::F16 | Elem::Bf16)] => (0, to),
        [to @ (Elem::F16 | Elem::Bf16), Elem::F32] => (1, to),
        _ => return,
    };
    if !wanted(to) {
        return;
    }
    let from = dot.operands[side];
    let Some(shape) = kernel.ty(from).shape() else { return };
    let cast = kernel.add_value(Type::tile(to, shape), region, dot.site);
    let op = Elementwise::Cast { to }.into();
    before.push(Inst { op, operands: vec![from], results: vec![cast], site: dot.site });
    dot.operands[side] = cast;
}

/// Which values are weights: between 0 and 1, and made by `exp2`.
struct Weights<'k> {
    makers: HashMap<ValueId, &'k Inst>,
    kernel: &'k Kernel,
}

impl Weights<'_> {
    fn of(kernel: &Kernel) -> Weights<'_> {
        let insts = kernel.regions.iter().flat_map(|r| &r.insts);
        Weights { makers: insts.flat_map(|i| i.results.iter().map(move |&r| (r, i))).collect(), kernel }
    }

    fn has(&self, value: ValueId) -> bool {
        let Some(maker) = self.makers.get(&value) else { return false }; // a parameter, or an argument of a region
        let each = |operands: &[ValueId]| operands.iter().all(|&v| self.has(v) || self.is_zero(v));
        match &maker.op {
            Op::Elementwise(Elementwise::Exp2) => true,
            Op::Elementwise(Elementwise::Select) => {
                maker.operands[1..].iter().any(|&v| self.has(v)) && each(&maker.operands[1..])
            }
            Op::ShapeOp(ShapeOp::Broadcast { .. } | ShapeOp::Reshape { .. } | ShapeOp::Transpose) => {
                self.has(maker.operands[0])
            }
            Op::Control(Control::If { then, otherwise }) => {
                let place = maker.results.iter().position(|&r| r == value);
                place.is_some_and(|i| {
                    [then, otherwise].iter().all(|region| self.has(self.kernel.regions[region.index()].yields[i]))
                })
            }
            Op::Elementwise(_) | Op::ShapeOp(_) | Op::Reduce(_) | Op::Matmul(_) | Op::Memory(_) | Op::Control(_) => {
                false
            }
        }
    }

    fn is_zero(&self, value: ValueId) -> bool {
        self.makers.get(&value).is_some_and(|maker| match &maker.op {
            Op::Elementwise(Elementwise::Constant { value, .. }) => value.0 == 0.0,
            Op::ShapeOp(ShapeOp::Broadcast { .. }) => self.is_zero(maker.operands[0]),
            Op::Elementwise(_) | Op::ShapeOp(_) | Op::Reduce(_) | Op::Matmul(_) | Op::Memory(_) | Op::Control(_) => {
                false
            }
        })
    }
}
