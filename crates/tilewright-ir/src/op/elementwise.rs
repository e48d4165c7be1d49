//! One result element from one element of each operand. Operands broadcast: equal ranks, each axis equal or 1; a scalar
//! goes with every tile.

use super::family::family;
use super::{Literal, RegionTypes, TypeError};
use crate::interp::{Tile, zip};
use crate::kernel::ValueId;
use crate::types::{Elem, Shape, Type};

family! {
    /// Ops that work element by element.
    Elementwise:
    /// A uniform scalar known at compile time: the nearest value of its type, for integers truncated and saturated.
    constant => Constant { value: Literal, elem: Elem } () -> ValueId, Pure;
    /// `-a`; wraps for integers.
    neg => Neg (a) -> ValueId, Pure;
    /// Bits flipped; for bool, the other one.
    not => Not (a) -> ValueId, Pure;
    /// Distance from zero; wraps for integers.
    abs => Abs (a) -> ValueId, Pure;
    /// 2 to the power of `a`.
    exp2 => Exp2 (a) -> ValueId, Pure;
    /// Logarithm to base 2.
    log2 => Log2 (a) -> ValueId, Pure;
    /// Hyperbolic tangent.
    tanh => Tanh (a) -> ValueId, Pure;
    /// Hyperbolic tangent, of which a device may lose what is below 2^-16 of it: for results of 16 bits.
    tanh_coarse => TanhCoarse (a) -> ValueId, Pure;
    /// `1 / sqrt(a)`.
    rsqrt => Rsqrt (a) -> ValueId, Pure;
    /// `1 / a`.
    recip => Recip (a) -> ValueId, Pure;
    /// The nearest integer, ties to even; keeps the sign of zero.
    round => Round (a) -> ValueId, Pure;
    /// The integer towards zero; keeps the sign of zero.
    trunc => Trunc (a) -> ValueId, Pure;
    /// `a + b`.
    add => Add (a, b) -> ValueId, Pure;
    /// `a - b`.
    sub => Sub (a, b) -> ValueId, Pure;
    /// `a * b`.
    mul => Mul (a, b) -> ValueId, Pure;
    /// `a / b`; truncates for integers, and an integer divided by zero is zero.
    div => Div (a, b) -> ValueId, Pure;
    /// The remainder with the sign of `a`; zero for an integer divided by zero.
    rem => Rem (a, b) -> ValueId, Pure;
    /// The larger; the number when one is NaN.
    max => Max (a, b) -> ValueId, Pure;
    /// The smaller; the number when one is NaN.
    min => Min (a, b) -> ValueId, Pure;
    /// Both bits set.
    and => And (a, b) -> ValueId, Pure;
    /// One or both bits set.
    or => Or (a, b) -> ValueId, Pure;
    /// One bit set, not both.
    xor => Xor (a, b) -> ValueId, Pure;
    /// `a` shifted up by `b` bits, modulo the width.
    shl => Shl (a, b) -> ValueId, Pure;
    /// `a` shifted down by `b` bits, modulo the width; keeps the sign of signed integers.
    shr => Shr (a, b) -> ValueId, Pure;
    /// `a < b`; false with NaN.
    lt => Lt (a, b) -> ValueId, Pure;
    /// `a <= b`; false with NaN.
    le => Le (a, b) -> ValueId, Pure;
    /// `a > b`; false with NaN.
    gt => Gt (a, b) -> ValueId, Pure;
    /// `a >= b`; false with NaN.
    ge => Ge (a, b) -> ValueId, Pure;
    /// `a == b`; false with NaN.
    eq => Eq (a, b) -> ValueId, Pure;
    /// `a != b`; true with NaN.
    ne => Ne (a, b) -> ValueId, Pure;
    /// `yes` where `cond` holds, `no` elsewhere.
    select => Select (cond, yes, no) -> ValueId, Pure;
    /// The nearest value of another element type, ties to even. Floats become integers by truncation, saturating, and NaN
    /// becomes 0; integers become narrower ones by wrapping; bool becomes 0 or 1.
    cast => Cast { to: Elem } (a) -> ValueId, Pure;
    /// The same bits as another element type of the same width.
    bitcast => Bitcast { to: Elem } (a) -> ValueId, Pure;
}

impl Elementwise {
    pub(super) fn infer(&self, operands: &[Type], _: &[RegionTypes]) -> Result<Vec<Type>, TypeError> {
        use Elementwise::*;
        if let Some(view) = operands.iter().find(|t| matches!(t, Type::View { .. })) {
            return Err(
                TypeError::new(format!("`{}` of a {view}", self.name())).help("load a tile from the view first")
            );
        }
        let elem = |i: usize| operands[i].elem(); // the signature was checked
        let allow = |allowed: bool, rule: &str| {
            if allowed {
                return Ok(());
            }
            Err(TypeError::new(format!("`{}` of {}", self.name(), elem(0)))
                .help(format!("it takes {rule}; convert with `cast`")))
        };
        let same = |a: usize, b: usize| {
            if elem(a) == elem(b) {
                return Ok(());
            }
            Err(TypeError::new(format!("`{}` of {} and {}", self.name(), elem(a), elem(b)))
                .help("element types never mix silently: convert with `cast`"))
        };
        let number = |i: usize| elem(i) != Elem::Bool;
        let result = match self {
            Constant { elem, .. } => *elem,
            Neg | Abs => {
                allow(number(0), "numbers")?;
                elem(0)
            }
            Not => {
                allow(!elem(0).is_float(), "bool or integers")?;
                elem(0)
            }
            Exp2 | Log2 | Tanh | TanhCoarse | Rsqrt | Recip | Round | Trunc => {
                allow(elem(0).is_float(), "floats")?;
                elem(0)
            }
            Add | Sub | Mul | Div | Rem | Max | Min => {
                same(0, 1)?;
                allow(number(0), "numbers")?;
                elem(0)
            }
            And | Or | Xor => {
                same(0, 1)?;
                allow(!elem(0).is_float(), "bool or integers")?;
                elem(0)
            }
            Shl | Shr => {
                same(0, 1)?;
                allow(elem(0).is_int(), "integers")?;
                elem(0)
            }
            Lt | Le | Gt | Ge => {
                same(0, 1)?;
                allow(number(0), "numbers")?;
                Elem::Bool
            }
            Eq | Ne => {
                same(0, 1)?;
                Elem::Bool
            }
            Select => {
                allow(elem(0) == Elem::Bool, "bool as its condition")?;
                same(1, 2)?;
                elem(1)
            }
            Cast { to } => {
                if *to == Elem::Bool && elem(0) != Elem::Bool {
                    return Err(
                        TypeError::new(format!("`cast` of {} to bool", elem(0))).help("compare with zero: `x.ne(0)`")
                    );
                }
                *to
            }
            Bitcast { to } => {
                if to.bytes() != elem(0).bytes() || (*to == Elem::Bool) != (elem(0) == Elem::Bool) {
                    return Err(TypeError::new(format!("`bitcast` of {} to {to}", elem(0))).help(format!(
                        "the widths are {} and {} bytes; they must be equal, and neither bool",
                        elem(0).bytes(),
                        to.bytes()
                    )));
                }
                *to
            }
        };
        Ok(vec![Type::tile(result, self.broadcast(operands)?)])
    }

    /// The result for operands that passed [`infer`](Self::infer), of the shape that it gave.
    pub(crate) fn eval(&self, operands: &[&Tile], shape: Shape) -> Tile {
        use Elementwise::*;
        // The operands of an op of the table: the signature was checked.
        let one = || operands[0];
        let elem = match self {
            Constant { elem, .. } => *elem,
            Cast { to } | Bitcast { to } => *to,
            Lt | Le | Gt | Ge | Eq | Ne => Elem::Bool,
            Select => operands[1].elem(),
            Neg | Not | Abs | Exp2 | Log2 | Tanh | TanhCoarse | Rsqrt | Recip | Round | Trunc | Add | Sub | Mul
            | Div | Rem | Max | Min | And | Or | Xor | Shl | Shr => one().elem(),
        };
        let compare = |holds: fn(f64, f64) -> bool| {
            zip([operands[0], operands[1]], shape, |[a, b]| f64::from(u8::from(holds(a, b))))
        };
        let data = match self {
            Constant { value, .. } => vec![elem.nearest(value.0)],
            Neg => unary(one(), elem, |a| -a, |a| -a),
            Not => unary(one(), elem, |a| a, |a| !a),
            Abs => unary(one(), elem, f64::abs, i64::abs),
            Exp2 => float(one(), f64::exp2),
            Log2 => float(one(), f64::log2),
            Tanh | TanhCoarse => float(one(), f64::tanh),
            Rsqrt => float(one(), |a| 1.0 / a.sqrt()),
            Recip => float(one(), |a| 1.0 / a),
            Round => float(one(), f64::round_ties_even),
            Trunc => float(one(), f64::trunc),
            Add => binary(operands, shape, elem, |a, b| a + b, |a, b| a + b),
            Sub => binary(operands, shape, elem, |a, b| a - b, |a, b| a - b),
            Mul => binary(operands, shape, elem, |a, b| a * b, i64::wrapping_mul),
            // Operands are of at most 32 bits, so a quotient in 64 bits cannot overflow.
            Div => binary(operands, shape, elem, |a, b| a / b, |a, b| a.checked_div(b).unwrap_or(0)),
            Rem => binary(operands, shape, elem, |a, b| a % b, |a, b| a.checked_rem(b).unwrap_or(0)),
            Max => binary(operands, shape, elem, f64::max, i64::max),
            Min => binary(operands, shape, elem, f64::min, i64::min),
            And => binary(operands, shape, elem, |a, _| a, |a, b| a & b),
            Or => binary(operands, shape, elem, |a, _| a, |a, b| a | b),
            Xor => binary(operands, shape, elem, |a, _| a, |a, b| a ^ b),
            Shl => {
                let width = 8 * elem.bytes() as i64;
                binary(operands, shape, elem, |a, _| a, |a, b| a << b.rem_euclid(width))
            }
            Shr => {
                let width = 8 * elem.bytes() as i64;
                binary(operands, shape, elem, |a, _| a, |a, b| a >> b.rem_euclid(width))
            }
            Lt => compare(|a, b| a < b),
            Le => compare(|a, b| a <= b),
            Gt => compare(|a, b| a > b),
            Ge => compare(|a, b| a >= b),
            Eq => compare(|a, b| a == b),
            Ne => compare(|a, b| a != b),
            Select => {
                zip([operands[0], operands[1], operands[2]], shape, |[c, yes, no]| if c != 0.0 { yes } else { no })
            }
            Cast { to } if one().elem().is_float() => float(one(), |a| to.nearest(a)),
            Cast { to } => float(one(), |a| to.wrap(a as i64)),
            Bitcast { to } => {
                let from = one().elem();
                float(one(), |a| to.from_bits(from.to_bits(a)))
            }
        };
        Tile::made(elem, shape, data)
    }

    fn broadcast(&self, operands: &[Type]) -> Result<Shape, TypeError> {
        let shapes = operands.iter().filter_map(|t| t.shape());
        shapes.clone().try_fold(Shape::SCALAR, Shape::broadcast).ok_or_else(|| {
            let shapes: Vec<String> = shapes.map(|s| s.to_string()).collect();
            let (last, first) =
                shapes.split_last().map_or((String::new(), String::new()), |(l, f)| (l.clone(), f.join(", ")));
            TypeError::new(format!("`{}` of tiles of shape {first} and {last}", self.name()))
                .help("the ranks must be equal, and each axis equal or 1")
        })
    }
}

fn float(a: &Tile, f: impl Fn(f64) -> f64) -> Vec<f64> {
    a.data().iter().map(|&a| f(a)).collect()
}

/// Floats by one rule; integers and bool by another, in 64 bits, and then wrapped to their width.
fn unary(a: &Tile, elem: Elem, of_floats: impl Fn(f64) -> f64, of_ints: impl Fn(i64) -> i64) -> Vec<f64> {
    if elem.is_float() { float(a, of_floats) } else { float(a, |a| elem.wrap(of_ints(a as i64))) }
}

/// The same for two operands that broadcast.
fn binary(
    operands: &[&Tile],
    shape: Shape,
    elem: Elem,
    of_floats: impl Fn(f64, f64) -> f64,
    of_ints: impl Fn(i64, i64) -> i64,
) -> Vec<f64> {
    let both = [operands[0], operands[1]]; // the signature was checked
    if elem.is_float() {
        zip(both, shape, |[a, b]| of_floats(a, b))
    } else {
        zip(both, shape, |[a, b]| elem.wrap(of_ints(a as i64, b as i64)))
    }
}
