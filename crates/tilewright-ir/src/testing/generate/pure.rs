//! Statements that compute.

use super::{Entry, FLOATS, Generator};
use crate::kernel::ValueId;
use crate::op::{Elementwise, Matmul, Reduce, ShapeOp};
use crate::testing::fact::Fact;
use crate::types::{Elem, Shape, Type};

/// Functions are taken of values at least this large where they grow steep below.
const FLOOR: f64 = 0.125;
/// `exp2` is taken of values at most this large.
const CEILING: f64 = 6.0;
/// At most so many words are unpacked, each into up to 16 codes.
const MOST_WORDS: usize = 64;

impl Generator<'_> {
    pub(super) fn literal(&mut self) -> Option<Entry> {
        let elem = self.one_of(&Elem::ALL)?;
        let (value, fact) = match elem {
            Elem::F32 | Elem::F16 | Elem::Bf16 => (self.pick(33) as f64 / 8.0 - 2.0, Fact::exact(4.0, 0.125)),
            Elem::Bool => (self.pick(2) as f64, Fact::exact(1.0, 1.0)),
            Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 => (self.pick(9) as f64, Fact::exact(8.0, 1.0)),
        };
        let value = self.constant(value, elem)?;
        self.keep(value, fact)
    }

    pub(super) fn unary(&mut self) -> Option<Entry> {
        let a = self.find(|_| true)?;
        let op = match a.elem() {
            Elem::Bool => Elementwise::Not,
            Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 => {
                self.pool_op(&[Elementwise::Neg, Elementwise::Not, Elementwise::Abs])
            }
            Elem::F32 | Elem::F16 | Elem::Bf16 => self.pool_op(&[Elementwise::Neg, Elementwise::Abs]),
        };
        let fact = if a.elem().is_float() { a.fact } else { Fact::INT };
        let value = self.emit(op, &[a.value])?;
        self.keep(value, fact)
    }

    fn pool_op(&mut self, ops: &[Elementwise]) -> Elementwise {
        let i = self.pick(ops.len());
        ops[i].clone() // `pick` stays below the length, which is not 0
    }

    /// Another tile of the same element type that broadcasts with `a`.
    fn partner(&mut self, a: Entry) -> Option<Entry> {
        self.find(|e| e.elem() == a.elem() && e.shape().broadcast(a.shape()).is_some())
    }

    pub(super) fn binary(&mut self) -> Option<Entry> {
        use Elementwise::{Add, And, Div, Max, Min, Mul, Or, Rem, Shl, Shr, Sub, Xor};
        let a = self.find(|_| true)?;
        let b = self.partner(a)?;
        let [x, y] = [a.value, b.value];
        let elem = a.elem();
        let (op, fact) = match elem {
            Elem::Bool => (self.pool_op(&[And, Or, Xor]), Fact::INT),
            Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 => {
                let op = self.pool_op(&[Add, Sub, Mul, Div, Rem, Max, Min, And, Or, Xor, Shl, Shr]);
                (op, Fact::INT)
            }
            Elem::F32 | Elem::F16 | Elem::Bf16 => match self.pick(7) {
                0 => (Add, a.fact.sum(b.fact).rounded(elem)?),
                1 => (Sub, a.fact.sum(b.fact).rounded(elem)?),
                2 | 3 => (Mul, a.fact.product(b.fact).rounded(elem)?),
                4 => (Max, a.fact.either(b.fact)),
                5 => (Min, a.fact.either(b.fact)),
                _ => return self.quotient(a, b),
            },
        };
        let value = self.emit(op, &[x, y])?;
        self.keep(value, fact)
    }

    /// A division by something that is not small, or the remainder of an exact number by a power of two.
    fn quotient(&mut self, a: Entry, b: Entry) -> Option<Entry> {
        let elem = a.elem();
        if a.fact.is_exact() && self.pick(2) == 0 {
            let two = self.constant(2.0, elem)?;
            let value = self.emit(Elementwise::Rem, &[a.value, two])?;
            return self.keep(value, Fact::exact(2.0, a.fact.grain.min(1.0)));
        }
        let size = self.emit(Elementwise::Abs, &[b.value])?;
        let divisor = self.at_least(size, elem)?;
        let slope = 1.0 / FLOOR;
        let bound = a.fact.bound * slope;
        let error = a.fact.error * slope + a.fact.bound * slope * slope * b.fact.error;
        let fact = Fact { bound, error, grain: 0.0 }.function(bound, 1.0, elem)?;
        let value = self.emit(Elementwise::Div, &[a.value, divisor])?;
        self.keep(value, fact)
    }

    fn at_least(&mut self, value: ValueId, elem: Elem) -> Option<ValueId> {
        let floor = self.constant(FLOOR, elem)?;
        self.emit(Elementwise::Max, &[value, floor])
    }

    pub(super) fn function(&mut self) -> Option<Entry> {
        use Elementwise::{Exp2, Log2, Max, Min, Recip, Rsqrt, Tanh, TanhCoarse};
        let a = self.find(|e| e.elem().is_float())?;
        let elem = a.elem();
        let (op, operand, bound, slope) = match self.pick(5) {
            0 => {
                let [low, high] = [self.constant(-CEILING, elem)?, self.constant(CEILING, elem)?];
                let above = self.emit(Max, &[a.value, low])?;
                let between = self.emit(Min, &[above, high])?;
                (Exp2, between, CEILING.exp2(), CEILING.exp2())
            }
            1 if elem == Elem::F32 => (Tanh, a.value, 1.0, 1.0),
            1 => (TanhCoarse, a.value, 1.0, 1.0), // good for 16 bits
            2 => (Log2, self.at_least(a.value, elem)?, a.fact.bound.max(8.0).log2(), 12.0),
            3 => (Rsqrt, self.at_least(a.value, elem)?, 3.0, 12.0),
            _ => (Recip, self.at_least(a.value, elem)?, 1.0 / FLOOR, 1.0 / (FLOOR * FLOOR)),
        };
        let fact = a.fact.function(bound, slope, elem)?;
        let value = self.emit(op, &[operand])?;
        self.keep(value, fact)
    }

    /// To an integer: of exact floats, because a small error may become a whole step.
    pub(super) fn whole(&mut self) -> Option<Entry> {
        let a = self.find(|e| e.elem().is_float() && e.fact.is_exact())?;
        let op = self.pool_op(&[Elementwise::Round, Elementwise::Trunc]);
        let value = self.emit(op, &[a.value])?;
        // Grains are powers of two.
        self.keep(value, Fact::exact(a.fact.bound.ceil(), a.fact.grain.max(1.0)))
    }

    pub(super) fn compare(&mut self) -> Option<Entry> {
        use Elementwise::{Eq, Ge, Gt, Le, Lt, Ne};
        let a = self.find(|e| e.fact.is_exact())?;
        let b = self.find(|e| e.fact.is_exact() && e.elem() == a.elem() && e.shape().broadcast(a.shape()).is_some())?;
        let op = if a.elem() == Elem::Bool { self.pool_op(&[Eq, Ne]) } else { self.pool_op(&[Lt, Le, Gt, Ge, Eq, Ne]) };
        let value = self.emit(op, &[a.value, b.value])?;
        self.keep(value, Fact::exact(1.0, 1.0))
    }

    pub(super) fn select(&mut self) -> Option<Entry> {
        let yes = self.find(|_| true)?;
        let no = self.partner(yes)?;
        let shape = yes.shape().broadcast(no.shape())?;
        let cond = self.find(|e| e.elem() == Elem::Bool && e.shape().broadcast(shape).is_some())?;
        let value = self.emit(Elementwise::Select, &[cond.value, yes.value, no.value])?;
        self.keep(value, yes.fact.either(no.fact))
    }

    pub(super) fn cast(&mut self) -> Option<Entry> {
        let a = self.find(|_| true)?;
        let to = self.one_of(&Elem::ALL)?;
        let (operand, fact) = match (a.elem().is_float(), to.is_float()) {
            (true, true) => (a.value, a.fact.rounded(to)?),
            (true, false) if !a.fact.is_exact() => return None,
            (_, false) => (a.value, Fact::INT),
            (false, true) if a.elem() == Elem::Bool => (a.value, Fact::exact(1.0, 1.0)),
            (false, true) => {
                let mask = self.constant(63.0, a.elem())?;
                (self.emit(Elementwise::And, &[a.value, mask])?, Fact::exact(63.0, 1.0))
            }
        };
        let value = self.emit(Elementwise::Cast { to }, &[operand])?;
        self.keep(value, fact)
    }

    /// Among integers, from an exact float without its sign, or to a float between 1 and 2.
    pub(super) fn bitcast(&mut self) -> Option<Entry> {
        let a = self.find(|e| e.elem().bytes() != 2 && e.elem() != Elem::Bool && e.fact.is_exact())?;
        let (operand, to, fact) = match a.elem() {
            Elem::F32 => (self.emit(Elementwise::Abs, &[a.value])?, Elem::U32, Fact::INT),
            Elem::I8 => (a.value, Elem::U8, Fact::INT),
            Elem::U8 => (a.value, Elem::I8, Fact::INT),
            Elem::I32 if self.pick(2) == 0 => (a.value, Elem::U32, Fact::INT),
            Elem::U32 if self.pick(2) == 0 => (a.value, Elem::I32, Fact::INT),
            from => {
                let mask = self.constant(f64::from(0x007f_ffff), from)?;
                let one = self.constant(f64::from(0x3f80_0000), from)?;
                let digits = self.emit(Elementwise::And, &[a.value, mask])?;
                let bits = self.emit(Elementwise::Or, &[digits, one])?;
                (bits, Elem::F32, Fact::exact(2.0, 2f64.powi(-23)))
            }
        };
        let value = self.emit(Elementwise::Bitcast { to }, &[operand])?;
        self.keep(value, fact)
    }

    pub(super) fn iota(&mut self) -> Option<Entry> {
        let shape = self.shape();
        let axis = self.pick(shape.rank()) as u8;
        let value = self.emit(ShapeOp::Iota { axis, shape }, &[])?;
        self.keep(value, Fact::exact(8.0, 1.0))
    }

    pub(super) fn broadcast(&mut self) -> Option<Entry> {
        let a = self.find(|e| e.shape().rank() == 0 || e.shape().extents().any(|n| n == 1))?;
        let shape = if a.shape().rank() == 0 {
            self.shape()
        } else {
            let extents: Vec<usize> = a.shape().extents().map(|n| if n == 1 { 1 + self.pick(5) } else { n }).collect();
            Shape::new(&extents)?
        };
        let value = self.emit(ShapeOp::Broadcast { shape }, &[a.value])?;
        self.keep(value, a.fact)
    }

    pub(super) fn reshape(&mut self) -> Option<Entry> {
        let a = self.find(|_| true)?;
        let count = a.shape().count();
        let divisor = (1..=count).filter(|d| count.is_multiple_of(*d)).nth(self.pick(3)).unwrap_or(1);
        let last = a.shape().extents().next_back().unwrap_or(1);
        let shape = match self.pick(5) {
            0 => Shape::new(&[count])?,
            1 => Shape::new(&[divisor, count / divisor])?,
            2 => Shape::new(&[count / divisor, 1, divisor])?,
            3 => Shape::new(&[count / last.max(1), last])?, // the same rows
            _ => Shape::new(&[count / divisor, divisor])?,
        };
        let value = self.emit(ShapeOp::Reshape { shape }, &[a.value])?;
        self.keep(value, a.fact)
    }

    pub(super) fn transpose(&mut self) -> Option<Entry> {
        let a = self.find(|e| e.shape().rank() >= 2)?;
        let value = self.emit(ShapeOp::Transpose, &[a.value])?;
        self.keep(value, a.fact)
    }

    pub(super) fn unpack(&mut self) -> Option<Entry> {
        let words = |e: &Entry| e.elem().bytes() == 4 && e.elem().is_int() && e.shape().rank() > 0;
        let a = self.find(|e| words(e) && e.shape().count() <= MOST_WORDS)?;
        let bits = self.one_of(&[2, 4, 8])?;
        let words = match a.elem() {
            Elem::U32 => a.value,
            _ => self.emit(Elementwise::Cast { to: Elem::U32 }, &[a.value])?,
        };
        let value = self.emit(ShapeOp::Unpack { bits }, &[words])?;
        self.keep(value, Fact::INT)
    }

    pub(super) fn reduce(&mut self) -> Option<Entry> {
        let a = self.find(|e| e.shape().rank() > 0 && e.elem() != Elem::Bool)?;
        let axis = self.pick(a.shape().rank()) as u8;
        let extent = a.shape().extent(axis as usize)?;
        let (op, fact) = match self.pick(3) {
            0 if a.elem().is_float() => (Reduce::Sum { axis }, a.fact.sum_of(extent, a.elem())?),
            0 => (Reduce::Sum { axis }, Fact::INT),
            1 => (Reduce::Max { axis }, a.fact),
            _ => (Reduce::Min { axis }, a.fact),
        };
        let value = self.emit(op, &[a.value])?;
        self.keep(value, fact)
    }

    /// A product with a tile that fits, else with the same tile transposed.
    pub(super) fn dot(&mut self) -> Option<Entry> {
        let a = self.find(|e| e.shape().rank() == 2 && e.elem().is_float())?;
        let inner = a.shape().extent(1)?;
        let same = self.pick(4) > 0;
        let fits = |e: &Entry| {
            let elem = if same { e.elem() == a.elem() } else { FLOATS.contains(&e.elem()) };
            elem && e.shape().rank() == 2 && e.shape().extent(0) == Some(inner)
        };
        let b = match self.find(fits) {
            Some(b) => b,
            None => Entry { value: self.emit(ShapeOp::Transpose, &[a.value])?, ..a },
        };
        let fact = a.fact.product(b.fact).sum_of(inner, Elem::F32)?;
        let value = self.emit(Matmul::Dot, &[a.value, b.value])?;
        debug_assert!(matches!(self.kernel.ty(value), Type::Tile { elem: Elem::F32, .. }));
        self.keep(value, fact)
    }
}
