//! Weights take the type of the values: a `dot` of f32 weights with an f16 or bf16 tile becomes one of two 16-bit tiles, which
//! is what a matrix unit multiplies.
//!
//! The accuracy contract allows it for the weights of the softmax and nothing else: "`P` may be rounded to the value type
//! before its product with V; `q*scale` and scores may not be rounded below f32." So the f32 side must be made by `exp2`,
//! moved or selected at most. A kernel that has another product with an f32 tile has f32 queries, whose results are held to
//! the bound of f32: there the weights stay f32 too.

use super::edit::take_insts;
use std::collections::{HashMap, HashSet};
use tilewright_ir::op::{Control, Elementwise, Matmul, ShapeOp};
use tilewright_ir::{Elem, Inst, Kernel, Op, RegionId, Type, ValueId};

/// Whether products are of 16-bit tiles, of f32 weights and of codes at most: results are held to a bound of 16 bits.
pub(crate) fn rounds_scores(kernel: &Kernel) -> bool {
    let weights = Weights::of(kernel);
    let dots = kernel.regions.iter().flat_map(|r| &r.insts).filter(|inst| inst.op == Op::Matmul(Matmul::Dot));
    let dots: Vec<[ValueId; 2]> = dots.map(|inst| [inst.operands[0], inst.operands[1]]).collect(); // the verifier counted them
    let narrow = |value: ValueId| kernel.ty(value).elem() != Elem::F32;
    let rounded = |value: ValueId| narrow(value) || weights.has(value);
    dots.iter().flatten().any(|&side| narrow(side))
        && dots.iter().all(|&[a, b]| rounded(a) && (rounded(b) || weights.are_codes(b)))
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
    let weights = Weights::of(kernel);
    let weights: HashSet<ValueId> = weights.makers.keys().copied().filter(|&value| weights.has(value)).collect();
    for region in (0..kernel.regions.len() as u32).map(RegionId) {
        let mut insts = Vec::new();
        for mut inst in take_insts(kernel, region) {
            if inst.op == Op::Matmul(Matmul::Dot) {
                narrow(kernel, region, &mut inst, &mut insts, |from, to| weights.contains(&from) && wanted(to));
            }
            insts.push(inst);
        }
        kernel.regions[region.index()].insts = insts;
    }
}

/// Puts a cast in front of the product where one side is f32 and the other is not, if the value may become that type.
fn narrow(
    kernel: &mut Kernel,
    region: RegionId,
    dot: &mut Inst,
    before: &mut Vec<Inst>,
    wanted: impl Fn(ValueId, Elem) -> bool,
) {
    let elems = [0, 1].map(|side| kernel.ty(dot.operands[side]).elem());
    let (side, to) = match elems {
        [Elem::F32, to @ (Elem::F16 | Elem::Bf16)] => (0, to),
        [to @ (Elem::F16 | Elem::Bf16), Elem::F32] => (1, to),
        _ => return,
    };
    let from = dot.operands[side];
    if !wanted(from, to) {
        return;
    }
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

    /// Whether a value is the numbers of codes, `scale * code + bias` with a scale and a bias of 16 bits, rows of which may be zero.
    fn are_codes(&self, value: ValueId) -> bool {
        let Some(maker) = self.makers.get(&value) else { return false };
        match (&maker.op, &maker.operands[..]) {
            (Op::ShapeOp(ShapeOp::Unpack { .. }), _) => true,
            (Op::ShapeOp(ShapeOp::Reshape { .. } | ShapeOp::Transpose), &[of])
            | (Op::Elementwise(Elementwise::Cast { .. }), &[of]) => self.are_codes(of),
            (Op::Elementwise(Elementwise::Add | Elementwise::Mul), &[x, y]) => {
                [(x, y), (y, x)].into_iter().any(|(codes, other)| self.is_stored(other) && self.are_codes(codes))
            }
            (Op::Elementwise(Elementwise::Select), &[_, x, zero]) => self.are_codes(x) && self.is_zero(zero),
            (
                Op::Elementwise(_) | Op::ShapeOp(_) | Op::Reduce(_) | Op::Matmul(_) | Op::Memory(_) | Op::Control(_),
                _,
            ) => false,
        }
    }

    /// Whether a value is 16-bit numbers from memory.
    fn is_stored(&self, value: ValueId) -> bool {
        let Some(maker) = self.makers.get(&value) else { return false };
        match (&maker.op, &maker.operands[..]) {
            (Op::ShapeOp(ShapeOp::Reshape { .. }), &[of]) | (Op::Elementwise(Elementwise::Cast { .. }), &[of]) => {
                self.is_stored(of)
            }
            (Op::Memory(_), _) => matches!(self.kernel.ty(value).elem(), Elem::F16 | Elem::Bf16),
            (Op::Elementwise(_) | Op::ShapeOp(_) | Op::Reduce(_) | Op::Matmul(_) | Op::Control(_), _) => false,
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
