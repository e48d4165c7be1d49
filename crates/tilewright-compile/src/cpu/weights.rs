//! The weights of a softmax in a fused group: `exp2(x * scale - shift)` and the sums of its rows, which run as one micro-op.
//!
//! Found by structure alone: the product and the difference are read by nothing else, `shift` has a number a row, `scale` is
//! one number. The scale and the sum may be missing. Where the largest product of each row is wanted too, it is found from `x`, in a
//! micro-op of its own, and the product is never stored.

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
    /// A tile from memory.
    Load { load: Inst, result: ValueId },
    /// The weights of a softmax.
    Weights(Weights),
    /// The largest product of each row, where the product is that of weights.
    ScaledMax(ScaledMax),
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

/// The largest product of each row.
#[derive(Clone, Copy)]
pub(super) struct ScaledMax {
    pub x: ValueId,
    pub scale: ValueId,
    pub result: ValueId,
}

impl Piece<'_> {
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Piece::Inst(inst) => inst.operands.clone(),
            Piece::Load { load, .. } => load.operands[1..].to_vec(), // but for the view
            Piece::Weights(Weights { x, scale, shift, .. }) => [*x].into_iter().chain(*scale).chain([*shift]).collect(),
            Piece::ScaledMax(ScaledMax { x, scale, .. }) => vec![*x, *scale],
            Piece::Masked(masked) => masked.operands(),
        }
    }

    /// A result each lane of which is made of the same lane of those operands that have as many.
    pub fn by_lanes(&self) -> Option<(ValueId, Vec<ValueId>)> {
        match self {
            Piece::Inst(inst) if matches!(inst.op, Op::Elementwise(_)) => {
                Some((inst.results[0], inst.operands.clone()))
            }
            Piece::Masked(masked) => Some((masked.result, masked.operands())),
            Piece::Inst(_) | Piece::Load { .. } | Piece::Weights(_) | Piece::ScaledMax(_) => None,
        }
    }

    pub fn results(&self) -> Vec<ValueId> {
        match self {
            Piece::Inst(inst) => inst.results.clone(),
            Piece::Load { result, .. } => vec![*result],
            Piece::Weights(Weights { result, sum, .. }) => [*result].into_iter().chain(*sum).collect(),
            Piece::ScaledMax(ScaledMax { result, .. }) => vec![*result],
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
            None => pieces.push(match lowering.loaded(result) {
                Some(load) => Piece::Load { load: load.clone(), result },
                None => Piece::Inst(inst),
            }),
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
        let weights = weights(lowering, fusion, inst);
        let masked = || {
            let (of, members) = masked(lowering, fusion, inst)?;
            let by = of.result;
            Some(vec![Found { piece: Piece::Masked(Box::new(of)), by, members }])
        };
        let new = weights.or_else(masked).unwrap_or_default();
        let taken = |member: &ValueId| all.iter().any(|found| found.members.contains(member));
        if !new.iter().flat_map(|found| &found.members).any(taken) {
            all.extend(new);
        }
    }
    all
}

/// The weights that an exponential ends, and the largest product of each row where that is found before.
fn weights<'k>(lowering: &Lowering<'_>, fusion: &Fusion<'_>, exponential: &Inst) -> Option<Vec<Found<'k>>> {
    let result = *exponential.results.first()?;
    let is = |value: ValueId, extent: Extent| fusion.extent(lowering, value) == extent;
    let float = |value: ValueId| lowering.kernel.ty(value).elem() == Elem::F32;
    // An instruction of the group that makes a value which is read so often.
    let inner = |value: ValueId, times: usize| {
        let inst = fusion.maker(value)?;
        (lowering.uses(value) == times && is(value, Extent::Full) && float(value)).then_some(inst)
    };
    // What folds the rows of a value.
    let folded = |value: ValueId, how: fn(&Reduce) -> Option<u8>| {
        let rank = lowering.kernel.ty(value).shape()?.rank();
        let folds = |inst: &&&Inst| match &inst.op {
            Op::Reduce(op) => inst.operands == [value] && how(op).is_some_and(|axis| usize::from(axis) + 1 == rank),
            _ => false,
        };
        fusion.insts.iter().find(folds).map(|inst| inst.results[0])
    };
    if exponential.op != Op::Elementwise(Elementwise::Exp2) || !is(result, Extent::Full) || !float(result) {
        return None;
    }
    let difference = inner(exponential.operands[0], 1)?;
    let (Op::Elementwise(Elementwise::Sub), &[x, shift]) = (&difference.op, &difference.operands[..]) else {
        return None;
    };
    if !is(x, Extent::Full) || !is(shift, Extent::Row) {
        return None;
    }
    let mut members = vec![difference.results[0], result];
    let max = folded(x, |op| if let Reduce::Max { axis } = op { Some(*axis) } else { None });
    // It is found where it stands, and `x` is kept until the exponential.
    let place = |value: ValueId| fusion.insts.iter().position(|i| i.results.first() == Some(&value));
    let max = max.filter(|&max| is(max, Extent::Row) && place(max) < place(result));
    let scaled =
        inner(x, 1 + usize::from(max.is_some())).and_then(|product| match (&product.op, &product.operands[..]) {
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
    let max = max.zip(scale).map(|(result, scale)| Found {
        piece: Piece::ScaledMax(ScaledMax { x, scale, result }),
        by: result,
        members: vec![result],
    });
    let sum = folded(result, |op| if let Reduce::Sum { axis } = op { Some(*axis) } else { None });
    members.extend(sum);
    let weights = Weights { x, scale, shift, result, sum };
    Some(max.into_iter().chain([Found { piece: Piece::Weights(weights), by: result, members }]).collect())
}
