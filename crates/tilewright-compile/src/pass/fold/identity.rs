//! The identities that fold an instruction.

use tilewright_ir::op::{Elementwise, Memory, ShapeOp};
use tilewright_ir::{Op, ValueId};

/// The operand, or operand of an operand, that an op gives back; the caller checks that it has the result's type. `int` says
/// whether the first operand holds no floats; `known` gives the number in all elements of a value, and `maker` what made it.
pub(super) fn operand<'m>(
    op: &Op,
    operands: &[ValueId],
    int: bool,
    known: impl Fn(ValueId) -> Option<f64>,
    maker: impl Fn(ValueId) -> Option<(&'m Op, &'m [ValueId])>,
) -> Option<ValueId> {
    match op {
        Op::Elementwise(op) => elementwise(op, operands, int, known, maker),
        Op::ShapeOp(ShapeOp::Broadcast { .. } | ShapeOp::Reshape { .. }) => Some(operands[0]), // to the same shape
        Op::ShapeOp(ShapeOp::Transpose) => {
            let (made, from) = maker(operands[0])?;
            (made == op).then(|| from[0])
        }
        Op::ShapeOp(ShapeOp::Iota { .. } | ShapeOp::Unpack { .. }) => None,
        // The same bounds again.
        Op::Memory(Memory::Limit { .. }) => {
            let (made, from) = maker(operands[0])?;
            (made == op && from[1..] == operands[1..]).then_some(operands[0])
        }
        Op::Memory(
            Memory::Len { .. } | Memory::At { .. } | Memory::Load { .. } | Memory::Gather { .. } | Memory::Store,
        ) => None,
        Op::Reduce(_) | Op::Matmul(_) | Op::Control(_) => None,
    }
}

fn elementwise<'m>(
    op: &Elementwise,
    operands: &[ValueId],
    int: bool,
    known: impl Fn(ValueId) -> Option<f64>,
    maker: impl Fn(ValueId) -> Option<(&'m Op, &'m [ValueId])>,
) -> Option<ValueId> {
    use Elementwise::*;
    let [a, b] = [operands.first(), operands.get(1)].map(|v| v.copied());
    let [x, y] = [a, b].map(|v| v.and_then(&known));
    // The bits, so that -0 differs from 0.
    let is = |number: Option<f64>, wanted: f64| number.map(f64::to_bits) == Some(wanted.to_bits());
    let (one_a, zero_a, one_b, zero_b) = (is(x, 1.0), is(x, 0.0), is(y, 1.0), is(y, 0.0));
    match op {
        Add if int && zero_b || is(y, -0.0) && !int => a,
        Add if int && zero_a || is(x, -0.0) && !int => b,
        Sub if zero_b => a,
        Mul if one_b => a,
        Mul if one_a => b,
        Mul if int && zero_b => b,
        Mul if int && zero_a => a,
        Div if one_b => a,
        Max | Min | And | Or if a == b => a,
        Max | Min if int => contained(op, a?, b?, &maker),
        Or | Xor if zero_b => a,
        Or | Xor if zero_a => b,
        And if zero_b => b,
        And if zero_a => a,
        Shl | Shr if zero_b => a,
        Select if b == operands.get(2).copied() => b,
        Select => x.map(|holds| operands[if holds != 0.0 { 1 } else { 2 }]),
        Not => {
            let (made, from) = maker(a?)?;
            (*made == Op::Elementwise(Not)).then(|| from[0])
        }
        // To the same type: integers are not rounded.
        Cast { .. } | Bitcast { .. } if int => a,
        Add | Sub | Mul | Div | Max | Min | And | Or | Xor | Shl | Shr | Cast { .. } | Bitcast { .. } => None,
        Constant { .. } | Neg | Abs | Exp2 | Log2 | Tanh | TanhCoarse | Rsqrt | Recip | Round | Trunc | Rem => None,
        Lt | Le | Gt | Ge | Eq | Ne => None,
    }
}

/// `min(a, min(a, b))` is `min(a, b)`, and `max` is alike: the inner one, where there is one.
fn contained<'m>(
    op: &Elementwise,
    a: ValueId,
    b: ValueId,
    maker: &impl Fn(ValueId) -> Option<(&'m Op, &'m [ValueId])>,
) -> Option<ValueId> {
    let holds = |outer: ValueId, inner: ValueId| {
        maker(outer).is_some_and(|(made, from)| *made == Op::Elementwise(op.clone()) && from.contains(&inner))
    };
    if holds(a, b) {
        Some(a)
    } else if holds(b, a) {
        Some(b)
    } else {
        None
    }
}

/// What an op of an integer value with itself gives, whatever the value.
pub(super) fn of_itself(op: &Elementwise, operands: &[ValueId]) -> Option<f64> {
    use Elementwise::*;
    let [a, b] = operands else { return None };
    if a != b {
        return None;
    }
    match op {
        Le | Ge | Eq => Some(1.0),
        Lt | Gt | Ne | Sub | Xor => Some(0.0),
        Constant { .. } | Neg | Not | Abs | Exp2 | Log2 | Tanh | TanhCoarse | Rsqrt | Recip | Round | Trunc => None,
        Add | Mul | Div | Rem | Max | Min | And | Or | Shl | Shr | Select | Cast { .. } | Bitcast { .. } => None,
    }
}
