//! Scores of 16-bit queries with fewer operations: they are held to a bound of 16 bits, and what is done here costs f32 a few
//! units in the last place, or [`tanh`](Elementwise::Tanh) all but 16 bits.
//!
//! - `tanh` of a tile becomes `tanh_coarse`.
//! - A tile divided by a number is multiplied by its reciprocal.
//! - A tile multiplied by two numbers is multiplied by their product.
//!
//! Numbers lie where products and reciprocals of two of them are no subnormals: scales, caps and the like.

use super::edit::take_insts;
use super::narrow;
use std::collections::HashMap;
use tilewright_ir::op::Elementwise;
use tilewright_ir::{Elem, Inst, Kernel, Op, RegionId, Shape, SiteId, Type, ValueId};

pub(super) fn run(kernel: &mut Kernel) {
    if !narrow::rounds_scores(kernel) {
        return;
    }
    let mut uses: HashMap<ValueId, u32> = HashMap::new();
    for region in &kernel.regions {
        let operands = region.insts.iter().flat_map(|inst| &inst.operands).chain(&region.yields);
        operands.for_each(|value| *uses.entry(*value).or_default() += 1);
    }
    // Tiles that are products of a tile and a number.
    let mut scaled: HashMap<ValueId, [ValueId; 2]> = HashMap::new();
    for region in (0..kernel.regions.len() as u32).map(RegionId) {
        let mut insts = Vec::new();
        for mut inst in take_insts(kernel, region) {
            if let ([result], Op::Elementwise(op)) = (&inst.results[..], &inst.op)
                && is_f32(kernel, *result, |shape| shape.rank() > 0)
            {
                let (result, op) = (*result, op.clone());
                match op {
                    Elementwise::Tanh => inst.op = Elementwise::TanhCoarse.into(),
                    Elementwise::Mul | Elementwise::Div => {
                        if let Some([tile, number]) = tile_and_number(kernel, &op, &inst.operands) {
                            let number = match op {
                                Elementwise::Div => {
                                    made(kernel, region, &mut insts, Elementwise::Recip, &[number], inst.site)
                                }
                                _ => number,
                            };
                            let once = uses.get(&tile) == Some(&1);
                            let [tile, number] = match scaled.get(&tile).filter(|_| once) {
                                Some(&[inner, by]) => {
                                    let of = [by, number];
                                    [inner, made(kernel, region, &mut insts, Elementwise::Mul, &of, inst.site)]
                                }
                                None => [tile, number],
                            };
                            (inst.op, inst.operands) = (Elementwise::Mul.into(), vec![tile, number]);
                            scaled.insert(result, [tile, number]);
                        }
                    }
                    _ => {}
                }
            }
            insts.push(inst);
        }
        kernel.regions[region.index()].insts = insts;
    }
}

fn is_f32(kernel: &Kernel, value: ValueId, shape: impl Fn(Shape) -> bool) -> bool {
    matches!(kernel.ty(value), Type::Tile { elem: Elem::F32, shape: own } if shape(own))
}

/// The operands of an op that scales a tile by a number.
fn tile_and_number(kernel: &Kernel, op: &Elementwise, operands: &[ValueId]) -> Option<[ValueId; 2]> {
    let &[a, b] = operands else { return None };
    let number = |value| is_f32(kernel, value, |shape| shape.rank() == 0);
    match (number(a), number(b), op) {
        (false, true, _) => Some([a, b]),
        (true, false, Elementwise::Mul) => Some([b, a]),
        _ => None,
    }
}

/// A number made here.
fn made(
    kernel: &mut Kernel,
    region: RegionId,
    insts: &mut Vec<Inst>,
    op: Elementwise,
    operands: &[ValueId],
    site: SiteId,
) -> ValueId {
    let result = kernel.add_value(Type::tile(Elem::F32, Shape::SCALAR), region, site);
    insts.push(Inst { op: op.into(), operands: operands.to_vec(), results: vec![result], site });
    result
}
