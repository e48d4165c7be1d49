//! The weights of a softmax in a fused group: `exp2(x * scale - shift)` and the sums of its rows, which run as one micro-op.
//!
//! Found by structure alone: the product and the difference are read by nothing else, `shift` has a number a row, `scale` is
//! one number. The scale and the sum may be missing.

use super::lower::Lowering;
use super::program::Extent;
use super::vector::Fusion;
use tilewright_ir::op::{Elementwise, Reduce};
use tilewright_ir::{Elem, Inst, Op, ValueId};

/// What one micro-op of a group computes.
pub(super) enum Piece<'k> {
    /// One instruction.
    Inst(&'k Inst),
    /// Several.
    Weights(Weights),
}

/// Instructions that run as one.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    pub x: ValueId,
    pub scale: Option<ValueId>,
    pub shift: ValueId,
    /// The weights.
    pub result: ValueId,
    pub sum: Option<ValueId>,
}

impl Piece<'_> {
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Piece::Inst(inst) => inst.operands.clone(),
            Piece::Weights(Weights { x, scale, shift, .. }) => [*x].into_iter().chain(*scale).chain([*shift]).collect(),
        }
    }

    pub fn results(&self) -> Vec<ValueId> {
        match self {
            Piece::Inst(inst) => inst.results.clone(),
            Piece::Weights(Weights { result, sum, .. }) => [*result].into_iter().chain(*sum).collect(),
        }
    }
}

/// The members of a group, positions among `insts`, with the instructions of weights side by side where their exponential
/// stands: what ends or begins between them would share their places otherwise.
pub(super) fn side_by_side(lowering: &Lowering<'_>, insts: &[Inst], members: &[usize]) -> Vec<usize> {
    let of_group: Vec<&Inst> = members.iter().map(|&m| &insts[m]).collect();
    let fusion = Fusion::of(lowering, &of_group);
    let found: Vec<(Weights, Vec<ValueId>)> =
        of_group.iter().filter_map(|inst| weights(lowering, &fusion, inst)).collect();
    let mut order = Vec::new();
    for &member in members {
        let result = insts[member].results[0]; // every fusable op has one result
        match found.iter().find(|(_, results)| results.contains(&result)) {
            None => order.push(member),
            Some((weights, results)) if weights.result == result => {
                let made = |value: &ValueId| members.iter().find(|&&m| insts[m].results[0] == *value);
                order.extend(results.iter().filter_map(made));
            }
            Some(_) => {}
        }
    }
    order
}

/// The pieces of a group whose members stand in that order.
pub(super) fn pieces<'k>(lowering: &Lowering<'_>, fusion: &Fusion<'k>) -> Vec<Piece<'k>> {
    let found: Vec<(Weights, Vec<ValueId>)> =
        fusion.insts.iter().filter_map(|inst| weights(lowering, fusion, inst)).collect();
    let mut pieces = Vec::new();
    for &inst in fusion.insts {
        let result = inst.results[0]; // every fusable op has one result
        match found.iter().find(|(_, members)| members.contains(&result)) {
            None => pieces.push(Piece::Inst(inst)),
            Some((weights, _)) if weights.result == result => pieces.push(Piece::Weights(*weights)),
            Some(_) => {}
        }
    }
    pieces
}

/// The weights that an exponential ends, and the results that belong to them, in order.
fn weights(lowering: &Lowering<'_>, fusion: &Fusion<'_>, exponential: &Inst) -> Option<(Weights, Vec<ValueId>)> {
    let result = *exponential.results.first()?;
    let is = |value: ValueId, extent: Extent| fusion.extent(lowering, value) == extent;
    let float = |value: ValueId| lowering.kernel.ty(value).elem() == Elem::F32;
    // An instruction of the group that makes a value which nothing but the next one reads.
    let inner = |value: ValueId| {
        let inst = fusion.insts.iter().find(|i| i.results.first() == Some(&value))?;
        (lowering.uses(value) == 1 && is(value, Extent::Full) && float(value)).then_some(*inst)
    };
    if exponential.op != Op::Elementwise(Elementwise::Exp2) || !is(result, Extent::Full) || !float(result) {
        return None;
    }
    let difference = inner(exponential.operands[0])?;
    let (Op::Elementwise(Elementwise::Sub), &[x, shift]) = (&difference.op, &difference.operands[..]) else {
        return None;
    };
    if !is(x, Extent::Full) || !is(shift, Extent::Row) {
        return None;
    }
    let mut members = vec![difference.results[0], result];
    let scaled = inner(x).and_then(|product| match (&product.op, &product.operands[..]) {
        (Op::Elementwise(Elementwise::Mul), &[a, b]) if is(a, Extent::Full) && is(b, Extent::One) => {
            Some((product, a, b))
        }
        (Op::Elementwise(Elementwise::Mul), &[a, b]) if is(b, Extent::Full) && is(a, Extent::One) => {
            Some((product, b, a))
        }
        _ => None,
    });
    let (x, scale) = match scaled {
        Some((product, x, scale)) => {
            members.insert(0, product.results[0]);
            (x, Some(scale))
        }
        None => (x, None),
    };
    let sum = fusion.insts.iter().find(|i| {
        let of = lowering.kernel.ty(result).shape();
        matches!(&i.op, Op::Reduce(Reduce::Sum { axis }) if of.is_some_and(|s| usize::from(*axis) + 1 == s.rank()))
            && i.operands == [result]
    });
    let sum = sum.map(|i| i.results[0]);
    members.extend(sum);
    Some((Weights { x, scale, shift, result, sum }, members))
}
