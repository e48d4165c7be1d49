//! The weights of a softmax in a fused group: `exp2(x * scale - shift)` and the sums of its rows, which run as one micro-op.
//!
//! Found by structure alone: the product and the difference are read by nothing else, `shift` has a number a row, `scale` is
//! one number. The scale and the sum may be missing.

use super::lower::Lowering;
use super::masked::{MaskedOf, masked};
use super::program::Extent;
use super::vector::Fusion;
use tilewright_ir::op::{Elementwise, Reduce};
use tilewright_ir::{Elem, Inst, Op, ValueId};

/// What one micro-op of a group computes.
pub(super) enum Piece<'k> {
    /// One instruction.
    Inst(&'k Inst),
    /// The weights of a softmax.
    Weights(Weights),
    /// The scores of a softmax.
    Masked(Box<MaskedOf>),
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
            Piece::Masked(masked) => masked.operands(),
        }
    }

    pub fn results(&self) -> Vec<ValueId> {
        match self {
            Piece::Inst(inst) => inst.results.clone(),
            Piece::Weights(Weights { result, sum, .. }) => [*result].into_iter().chain(*sum).collect(),
            Piece::Masked(masked) => masked.results(),
        }
    }
}

/// The members of a group, positions among `insts`, with the instructions of a piece side by side where the one that it is
/// found by stands: what ends or begins between them would share their places otherwise.
pub(super) fn side_by_side(lowering: &Lowering<'_>, insts: &[Inst], members: &[usize]) -> Vec<usize> {
    let of_group: Vec<&Inst> = members.iter().map(|&m| &insts[m]).collect();
    let fusion = Fusion::of(lowering, &of_group);
    let found = found(lowering, &fusion);
    let mut order = Vec::new();
    for &member in members {
        let result = insts[member].results[0]; // every fusable op has one result
        match found.iter().find(|found| found.members.contains(&result)) {
            None => order.push(member),
            Some(found) if found.by == result => {
                order.extend(members.iter().filter(|&&m| found.members.contains(&insts[m].results[0])));
            }
            Some(_) => {}
        }
    }
    order
}

/// The pieces of a group whose members stand in that order.
pub(super) fn pieces<'k>(lowering: &Lowering<'_>, fusion: &Fusion<'k>) -> Vec<Piece<'k>> {
    let mut found = found(lowering, fusion);
    let mut pieces = Vec::new();
    for &inst in fusion.insts {
        let result = inst.results[0]; // every fusable op has one result
        match found.iter().position(|found| found.members.contains(&result)) {
            None => pieces.push(Piece::Inst(inst)),
            Some(at) if found[at].by == result => {
                pieces.push(std::mem::replace(&mut found[at].piece, Piece::Inst(inst)));
            }
            Some(_) => {}
        }
    }
    pieces
}

/// Instructions that run as one.
struct Found<'k> {
    piece: Piece<'k>,
    /// The result of the instruction that they are found by.
    by: ValueId,
    /// Their results.
    members: Vec<ValueId>,
}

/// All of a group; none shares an instruction with another.
fn found<'k>(lowering: &Lowering<'_>, fusion: &Fusion<'k>) -> Vec<Found<'k>> {
    let mut all: Vec<Found<'k>> = Vec::new();
    for inst in fusion.insts {
        let weights = weights(lowering, fusion, inst).map(|(of, members)| (Piece::Weights(of), of.result, members));
        let masked = || {
            let (of, members) = masked(lowering, fusion, inst)?;
            let by = of.result;
            Some((Piece::Masked(Box::new(of)), by, members))
        };
        if let Some((piece, by, members)) = weights.or_else(masked)
            && !all.iter().any(|found| found.members.iter().any(|member| members.contains(member)))
        {
            all.push(Found { piece, by, members });
        }
    }
    all
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
