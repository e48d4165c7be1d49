//! Uniform numbers, views, and addresses of elements.

use super::{Lowered, Lowering, Unsupported};
use crate::gpu::place::Def;
use crate::gpu::program::{Address, Expr, Place, Step};
use std::collections::HashMap;
use tilewright_ir::op::{Control, Elementwise, Memory, ShapeOp};
use tilewright_ir::{Elem, Inst, Op, Shape, Type, ValueId};

/// What uniform numbers are called in the block being made.
#[derive(Clone, Default)]
pub(super) struct Names(HashMap<ValueId, Expr>);

impl Names {
    pub fn set(&mut self, value: ValueId, name: Expr) {
        self.0.insert(value, name);
    }
}

/// A view: which tensor, and where along each of its axes.
#[derive(Clone)]
pub(super) struct View {
    pub param: u32,
    pub axes: Vec<ViewAxis>,
}

#[derive(Clone)]
pub(super) struct ViewAxis {
    /// The index of an axis that went away.
    pub index: Option<Expr>,
    pub first: Expr,
    pub last: Expr,
}

impl View {
    /// The position among the tensor's axes of the `axis`-th that is left.
    fn open(&self, axis: usize) -> usize {
        let open = self.axes.iter().enumerate().filter(|(_, a)| a.index.is_none());
        open.map(|(at, _)| at).nth(axis).unwrap_or(0) // the typing rule checked the axis
    }
}

/// The largest power of two that [`multiple_of`](Lowering::multiple_of) looks for.
pub(super) const MOST_MULTIPLE: u32 = 16;

/// An i32 op, worked out where its operands are known. Divisions are of numbers that are not negative.
pub(super) fn int(op: Elementwise, a: Expr, b: Expr) -> Expr {
    use Elementwise::{Add, Div, Mul, Rem};
    match (&op, &a, &b) {
        (Add, Expr::Int(0), _) => return b,
        (Add | Elementwise::Sub, _, Expr::Int(0)) | (Mul | Div, _, Expr::Int(1)) => return a,
        (Mul, Expr::Int(1), _) => return b,
        (Mul, Expr::Int(0), _) | (Mul, _, Expr::Int(0)) | (Rem, _, Expr::Int(1)) => return Expr::Int(0),
        (Add, Expr::Int(x), Expr::Int(y)) => return Expr::Int(x + y),
        (Mul, Expr::Int(x), Expr::Int(y)) => return Expr::Int(x * y),
        (Div, Expr::Int(x), Expr::Int(y)) if *y > 0 => return Expr::Int(x / y),
        (Rem, Expr::Int(x), Expr::Int(y)) if *y > 0 => return Expr::Int(x % y),
        _ => {}
    }
    Expr::Op(op, Elem::I32, vec![a, b])
}

/// The coordinates in a tile of shape `to` of the element at these coordinates of shape `from`, both in row-major order.
pub(super) fn reindex(coordinates: Vec<Expr>, from: Shape, to: Shape) -> Vec<Expr> {
    let kept = |shape: Shape| shape.extents().enumerate().filter(|&(_, e)| e != 1).collect::<Vec<_>>();
    let (mut source, mut target) = (kept(from), kept(to));
    let mut out = vec![Expr::Int(0); to.rank()];
    // Last axes that agree keep their coordinate.
    while let (Some(&(a, x)), Some(&(b, y))) = (source.last(), target.last()) {
        if x != y {
            break;
        }
        out[b] = coordinates[a].clone();
        source.pop();
        target.pop();
    }
    let place = |sum, &(axis, extent): &(usize, usize)| {
        int(Elementwise::Add, int(Elementwise::Mul, sum, Expr::Int(extent as i64)), coordinates[axis].clone())
    };
    let mut rest = source.iter().fold(Expr::Int(0), place);
    while let Some((axis, extent)) = target.pop() {
        if target.is_empty() {
            out[axis] = rest;
            break;
        }
        out[axis] = int(Elementwise::Rem, rest.clone(), Expr::Int(extent as i64));
        rest = int(Elementwise::Div, rest, Expr::Int(extent as i64));
    }
    out
}

/// The coordinates of the element at hand, for a tile of this shape.
pub(super) fn here(shape: Shape) -> Vec<Expr> {
    let [rows, columns] = crate::gpu::place::matrix(shape);
    let matrix = Shape::new(&[rows as usize, columns as usize]).unwrap_or(shape); // two extents of a shape that exists
    let at = |extent, axis| if extent == 1 { Expr::Int(0) } else { axis };
    reindex(vec![at(rows, Expr::Row), at(columns, Expr::Column)], matrix, shape)
}

impl<'k> Lowering<'_, 'k> {
    /// Names a uniform value where it is defined.
    pub(super) fn uniform(&mut self, inst: &'k Inst, result: ValueId) -> Lowered<()> {
        if matches!(inst.op, Op::ShapeOp(_) | Op::Reduce(_)) {
            return Err(self.unsupported(inst, "a number made from a tile"));
        }
        self.number(result).map(|_| ())
    }

    /// A uniform value: its name, or what it is computed from, named now.
    pub(super) fn number(&mut self, value: ValueId) -> Lowered<Expr> {
        if let Some(name) = self.names.0.get(&value) {
            return Ok(name.clone());
        }
        let computed = match self.places.def(value) {
            Some(Def::Param(at)) => Expr::Scalar(at),
            Some(Def::Inst(..)) => {
                let Some(inst) = self.places.inst(value) else { return Err(self.unknown()) };
                self.computed(inst)?
            }
            Some(Def::Arg(..)) | None => return Err(self.unknown()),
        };
        let simple = matches!(
            computed,
            Expr::Int(_) | Expr::Literal(..) | Expr::Local(_) | Expr::Scalar(_) | Expr::Len(..) | Expr::Program(_)
        );
        let name = if simple { computed } else { self.name(self.places.elem(value), computed) };
        self.names.set(value, name.clone());
        Ok(name)
    }

    /// A name for a number.
    pub(super) fn name(&mut self, elem: Elem, value: Expr) -> Expr {
        let local = self.local(elem);
        self.steps.push(Step::Let(local, value));
        Expr::Local(local)
    }

    fn unknown(&self) -> Unsupported {
        Unsupported { what: "a number that is not defined here".to_string(), place: String::new() }
    }

    fn computed(&mut self, inst: &'k Inst) -> Lowered<Expr> {
        Ok(match &inst.op {
            Op::Elementwise(Elementwise::Constant { value, elem }) => match elem {
                Elem::I32 => Expr::Int(elem.nearest(value.0) as i64),
                _ => Expr::Literal(*elem, elem.nearest(value.0)),
            },
            Op::Elementwise(op) => {
                let operands = inst.operands.iter().map(|&o| self.number(o)).collect::<Lowered<Vec<_>>>()?;
                let of = self.places.elem(inst.operands[0]);
                match (op, &operands[..]) {
                    (Elementwise::Add | Elementwise::Mul, [a, b]) if of == Elem::I32 => {
                        int(op.clone(), a.clone(), b.clone())
                    }
                    _ => Expr::Op(op.clone(), of, operands),
                }
            }
            Op::Control(Control::ProgramId { axis }) => Expr::Program(*axis),
            Op::Control(Control::ProgramCount { axis }) => Expr::Programs(*axis),
            Op::Memory(Memory::Len { axis }) => {
                let view = self.view(inst.operands[0])?;
                Expr::Len(view.param, view.open(usize::from(*axis)) as u8)
            }
            Op::Memory(Memory::Load { .. }) => Expr::Element(Box::new(self.address(inst, &[])?)),
            Op::ShapeOp(ShapeOp::Reshape { .. } | ShapeOp::Broadcast { .. })
                if self.places.shape(inst.operands[0]).rank() == 0 =>
            {
                self.number(inst.operands[0])?
            }
            Op::Control(Control::For { .. } | Control::If { .. })
            | Op::Memory(Memory::At { .. } | Memory::Limit { .. } | Memory::Gather { .. } | Memory::Store)
            | Op::ShapeOp(_)
            | Op::Reduce(_)
            | Op::Matmul(_) => return Err(self.unsupported(inst, "a number")),
        })
    }

    /// A power of two of which an i32 is a multiple in every launch; it stays one where sums and products wrap.
    pub(super) fn multiple_of(&self, value: ValueId) -> u32 {
        let both = |a: ValueId, b: ValueId| self.multiple_of(a).min(self.multiple_of(b));
        if let Some(Def::Arg(region, 0)) = self.places.def(value) {
            let range = self.places.loop_of(region); // whose first argument is its counter
            return range.map_or(1, |range| both(range.operands[0], range.operands[2]));
        }
        let Some(Inst { op: Op::Elementwise(op), operands, .. }) = self.places.inst(value) else { return 1 };
        match (op, &operands[..]) {
            (Elementwise::Constant { value, .. }, _) => match value.0 as i64 {
                0 => MOST_MULTIPLE,
                known => MOST_MULTIPLE.min(1 << known.trailing_zeros().min(31)),
            },
            (Elementwise::Mul, &[a, b]) => MOST_MULTIPLE.min(self.multiple_of(a) * self.multiple_of(b)),
            (Elementwise::Add | Elementwise::Sub | Elementwise::Min | Elementwise::Max, &[a, b]) => both(a, b),
            (Elementwise::Select, &[_, a, b]) => both(a, b),
            _ => 1,
        }
    }

    /// What a view looks at.
    pub(super) fn view(&mut self, value: ValueId) -> Lowered<View> {
        let inst = match self.places.def(value) {
            Some(Def::Param(param)) => {
                let Type::View { rank, .. } = self.places.kernel.ty(value) else { return Err(self.unknown()) };
                let whole = |axis| ViewAxis { index: None, first: Expr::Int(0), last: Expr::Len(param, axis) };
                return Ok(View { param, axes: (0..rank).map(whole).collect() });
            }
            Some(Def::Inst(..)) | Some(Def::Arg(..)) | None => self.places.inst(value),
        };
        let Some(inst) = inst else { return Err(self.unknown()) };
        let mut view = self.view(inst.operands[0])?;
        match &inst.op {
            Op::Memory(Memory::At { axis }) => {
                let at = view.open(usize::from(*axis));
                view.axes[at].index = Some(self.number(inst.operands[1])?);
            }
            Op::Memory(Memory::Limit { axis }) => {
                let at = view.open(usize::from(*axis));
                let (first, last) = (self.number(inst.operands[1])?, self.number(inst.operands[2])?);
                let axis = view.axes[at].clone();
                let bound = |op, a, b| Expr::Op(op, Elem::I32, vec![a, b]);
                view.axes[at].first = self.name(Elem::I32, bound(Elementwise::Max, axis.first, first));
                view.axes[at].last = self.name(Elem::I32, bound(Elementwise::Min, axis.last, last));
            }
            _ => return Err(self.unsupported(inst, "a view")),
        }
        Ok(view)
    }

    /// The element of a load, gather or store at these coordinates of its tile.
    pub(super) fn address(&mut self, inst: &'k Inst, coordinates: &[Expr]) -> Lowered<Address> {
        let view = self.view(inst.operands[0])?;
        let (gathered, origins) = match &inst.op {
            Op::Memory(Memory::Gather { axis, .. }) => (Some(usize::from(*axis)), &inst.operands[2..]),
            Op::Memory(Memory::Store) => (None, &inst.operands[2..]),
            _ => (None, &inst.operands[1..]),
        };
        let mut origins = origins.iter();
        let mut axes = Vec::new();
        let mut open = 0;
        for axis in view.axes {
            let index = match axis.index {
                Some(index) => index,
                None => {
                    let coordinate = coordinates[open].clone();
                    let index = if gathered == Some(open) {
                        self.gathered(inst.operands[1], coordinate)?
                    } else {
                        let origin = origins.next().map_or(Ok(Expr::Int(0)), |&o| self.number(o))?;
                        int(Elementwise::Add, origin, coordinate)
                    };
                    open += 1;
                    index
                }
            };
            axes.push(Place { index, first: axis.first, last: axis.last });
        }
        Ok(Address { param: view.param, axes })
    }

    /// The entry of a table of indices: read from the tensor that it was loaded from, or computed where it is needed.
    fn gathered(&mut self, indices: ValueId, at: Expr) -> Lowered<Expr> {
        self.entry(indices, &[at])
    }

    /// The element of a tile at these coordinates, from what the tile is computed from.
    fn entry(&mut self, value: ValueId, at: &[Expr]) -> Lowered<Expr> {
        let shape = self.places.shape(value);
        if shape.rank() == 0 {
            return self.number(value);
        }
        let Some(inst) = self.places.inst(value) else { return Err(self.unknown()) };
        match &inst.op {
            Op::Memory(Memory::Load { .. }) => Ok(Expr::Element(Box::new(self.address(inst, at)?))),
            Op::ShapeOp(ShapeOp::Iota { axis, .. }) => Ok(at[usize::from(*axis)].clone()),
            Op::ShapeOp(ShapeOp::Reshape { .. }) => {
                let from = self.places.shape(inst.operands[0]);
                self.entry(inst.operands[0], &reindex(at.to_vec(), shape, from))
            }
            Op::ShapeOp(ShapeOp::Broadcast { .. }) => self.entry_of_operand(inst.operands[0], at),
            Op::Elementwise(op) => {
                let Some(&first) = inst.operands.first() else { return self.computed(inst) };
                let operands = inst.operands.iter().map(|&o| self.entry_of_operand(o, at));
                let operands = operands.collect::<Lowered<Vec<_>>>()?;
                Ok(Expr::Op(op.clone(), self.places.elem(first), operands))
            }
            Op::ShapeOp(ShapeOp::Transpose | ShapeOp::Unpack { .. })
            | Op::Memory(_)
            | Op::Control(_)
            | Op::Reduce(_)
            | Op::Matmul(_) => Err(self.unsupported(inst, "a gather at computed indices")),
        }
    }

    /// The element of an operand that broadcasts to a tile, at coordinates of the tile.
    fn entry_of_operand(&mut self, value: ValueId, at: &[Expr]) -> Lowered<Expr> {
        let own = self.places.shape(value).extents().zip(at);
        let own: Vec<Expr> = own.map(|(extent, at)| if extent == 1 { Expr::Int(0) } else { at.clone() }).collect();
        self.entry(value, &own)
    }
}
