//! Weights take the type of the values: a `dot` of f32 weights with an f16 or bf16 tile becomes one of two 16-bit tiles, which
//! is what a matrix unit multiplies. On a GPU they also take bf16 with exact codes whose scales are bf16, which it multiplies as they are.
//!
//! The accuracy contract allows it for the weights of the softmax and nothing else: "`P` may be rounded to the value type
//! before its product with V; `q*scale` and scores may not be rounded below f32." So the f32 side must be made by `exp2`,
//! moved or selected at most. A kernel that has another product with an f32 tile has f32 queries, whose results are held to
//! the bound of f32: there the weights stay f32 too.

use super::edit::take_insts;
use std::collections::HashMap;
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
    narrow_where(kernel, |other| other.stored.or(other.scales.filter(|&to| to == Elem::Bf16)));
}

/// Of bf16 values alone, which a CPU multiplies in pairs, unless it reads them where they lie and they are no whole vectors.
pub(super) fn run_pairs(kernel: &mut Kernel) {
    narrow_where(kernel, |other| other.stored.filter(|&to| to == Elem::Bf16));
}

/// The 16-bit types of what weights are multiplied with.
struct Other {
    /// Its own.
    stored: Option<Elem>,
    /// Of the scales and biases of exact codes.
    scales: Option<Elem>,
}

/// Narrows weights to the type that `wanted` names.
fn narrow_where(kernel: &mut Kernel, wanted: fn(Other) -> Option<Elem>) {
    if !rounds_scores(kernel) {
        return;
    }
    let weights = Weights::of(kernel);
    // The side of a product that is narrowed, and its type.
    let narrowed = |dot: &Inst| {
        (0..2).find_map(|side| {
            let [from, other] = [dot.operands[side], dot.operands[1 - side]];
            let elem = kernel.ty(other).elem();
            let stored = matches!(elem, Elem::F16 | Elem::Bf16).then_some(elem);
            let to = wanted(Other { stored, scales: weights.scales_of(other) })?;
            (kernel.ty(from).elem() == Elem::F32 && weights.has(from)).then_some((side, to))
        })
    };
    let dots = kernel.regions.iter().flat_map(|r| &r.insts).filter(|inst| inst.op == Op::Matmul(Matmul::Dot));
    let narrowed: HashMap<ValueId, (usize, Elem)> =
        dots.filter_map(|dot| Some((*dot.results.first()?, narrowed(dot)?))).collect();
    for region in (0..kernel.regions.len() as u32).map(RegionId) {
        let mut insts = Vec::new();
        for mut inst in take_insts(kernel, region) {
            if let Some(&(side, to)) = inst.results.first().and_then(|result| narrowed.get(result)) {
                narrow(kernel, region, &mut inst, &mut insts, side, to);
            }
            insts.push(inst);
        }
        kernel.regions[region.index()].insts = insts;
    }
}

/// Puts a cast in front of one side of a product.
fn narrow(kernel: &mut Kernel, region: RegionId, dot: &mut Inst, before: &mut Vec<Inst>, side: usize, to: Elem) {
    let from = dot.operands[side];
    let Some(shape) = kernel.ty(from).shape() else { return };
    let cast = kernel.add_value(Type::tile(to, shape), region, dot.site);
    let op = Elementwise::Cast { to }.into();
    before.push(Inst { op, operands: vec![from], results: vec![cast], site: dot.site });
    dot.operands[side] = cast;
}

/// Which values are weights: made by `exp2`, and between 0 and 1, or 256 where sums are rescaled late.
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

    /// The type of the scales and biases of f32 numbers of codes.
    fn scales_of(&self, value: ValueId) -> Option<Elem> {
        let maker = self.makers.get(&value)?;
        if self.kernel.ty(value).elem() != Elem::F32 || !self.are_codes(value) {
            return None;
        }
        match (&maker.op, &maker.operands[..]) {
            (Op::Elementwise(Elementwise::Add | Elementwise::Mul), &[x, y]) => {
                [x, y].into_iter().find_map(|side| self.stored(side))
            }
            (_, operands) => operands.iter().find_map(|&of| self.scales_of(of)),
        }
    }

    /// Whether a value is 16-bit numbers from memory.
    fn is_stored(&self, value: ValueId) -> bool {
        self.stored(value).is_some()
    }

    /// The type of 16-bit numbers from memory.
    fn stored(&self, value: ValueId) -> Option<Elem> {
        let maker = self.makers.get(&value)?;
        match (&maker.op, &maker.operands[..]) {
            (Op::ShapeOp(ShapeOp::Reshape { .. }), &[of]) | (Op::Elementwise(Elementwise::Cast { .. }), &[of]) => {
                self.stored(of)
            }
            (Op::Memory(_), _) => Some(self.kernel.ty(value).elem()).filter(|e| matches!(e, Elem::F16 | Elem::Bf16)),
            (Op::Elementwise(_) | Op::ShapeOp(_) | Op::Reduce(_) | Op::Matmul(_) | Op::Control(_), _) => None,
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
