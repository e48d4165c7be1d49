//! Tiles in registers: elementwise groups, movement, reductions, conversions between layouts, loads and stores.

use super::scalar::{MOST_MULTIPLE, here, int, reindex};
use super::{Lowered, Lowering};
use crate::gpu::layout::{Axis, Layout, Of};
use crate::gpu::place::{Home, slice};
use crate::gpu::program::{
    Address, Expr, Fold, Fragment, FragmentId, Map, MapOp, MapOperand, Place, Slot, Step, Transfer,
};
use crate::gpu::source::Access16;
use tilewright_ir::op::{Elementwise, Memory, Reduce, ShapeOp};
use tilewright_ir::{Elem, Inst, Op, Shape, ValueId};

/// An elementwise group that is being gathered.
pub(super) struct OpenMap {
    layout: Layout,
    extents: [u32; 2],
    ops: Vec<MapOp>,
    /// The value that each op makes.
    made: Vec<ValueId>,
}

impl<'k> Lowering<'_, 'k> {
    /// Makes a tile in registers of this layout.
    pub(super) fn tile(&mut self, inst: &'k Inst, result: ValueId, layout: &Layout) -> Lowered<()> {
        if self.fragments.contains_key(&result) {
            return Ok(()); // loaded ahead
        }
        match &inst.op {
            Op::Elementwise(Elementwise::Add) if self.takes_product(inst) => self.add_product(inst, result),
            Op::Elementwise(Elementwise::Mul) if self.places.rescaled(result).is_some() => Ok(()),
            Op::Elementwise(Elementwise::TanhCoarse) => self.tanh(inst, result, layout),
            Op::Elementwise(op) => self.elementwise(inst, op, result, layout),
            Op::Reduce(op) => self.reduce(inst, op, result),
            Op::Memory(Memory::Load { .. } | Memory::Gather { .. }) => {
                if self.places.only_moved(result) {
                    return Ok(()); // loaded where it was moved to
                }
                self.load(result, layout)
            }
            Op::ShapeOp(ShapeOp::Broadcast { .. } | ShapeOp::Reshape { .. } | ShapeOp::Transpose)
                if self.moved_load(result).is_some() =>
            {
                if self.places.only_moved(result) {
                    return Ok(());
                }
                self.load(result, layout)
            }
            Op::ShapeOp(ShapeOp::Broadcast { .. }) => {
                self.open_for(layout, self.places.matrix(result));
                let operand = self.operand(inst.operands[0], result, layout)?;
                self.push(result, layout, identity(self.places.elem(result), operand));
                Ok(())
            }
            Op::ShapeOp(ShapeOp::Reshape { .. }) => self.reshape(inst, result, layout),
            Op::ShapeOp(ShapeOp::Transpose) => self.transpose(inst, result, layout),
            Op::ShapeOp(ShapeOp::Unpack { bits }) => self.unpack(inst, *bits, result, layout),
            Op::ShapeOp(ShapeOp::Iota { .. }) | Op::Matmul(_) | Op::Memory(_) | Op::Control(_) => {
                Err(self.unsupported(inst, "a tile in registers"))
            }
        }
    }

    fn elementwise(&mut self, inst: &'k Inst, op: &Elementwise, result: ValueId, layout: &Layout) -> Lowered<()> {
        self.open_for(layout, self.places.matrix(result));
        let operands = inst.operands.iter().map(|&o| self.operand(o, result, layout)).collect::<Lowered<Vec<_>>>()?;
        let of = inst.operands.first().map_or(Elem::F32, |&o| self.places.elem(o));
        self.push(result, layout, MapOp { op: op.clone(), elem: self.places.elem(result), of, operands });
        Ok(())
    }

    fn tanh(&mut self, inst: &'k Inst, result: ValueId, layout: &Layout) -> Lowered<()> {
        let from = self.fragment_in(inst.operands[0], layout)?;
        let to = self.fragment(self.places.elem(result), self.places.matrix(result), layout.clone());
        self.steps.push(Step::Tanh { to, from });
        self.fragments.insert(result, to);
        Ok(())
    }

    /// Closes the open group unless it is of this layout and these extents.
    fn open_for(&mut self, layout: &Layout, extents: [u32; 2]) {
        if self.open.as_ref().is_some_and(|open| open.layout != *layout || open.extents != extents) {
            self.flush();
        }
    }

    /// Adds an op to the group of its layout.
    fn push(&mut self, result: ValueId, layout: &Layout, op: MapOp) {
        let extents = self.places.matrix(result);
        self.open_for(layout, extents);
        let fresh = || OpenMap { layout: layout.clone(), extents, ops: Vec::new(), made: Vec::new() };
        let open = self.open.get_or_insert_with(fresh);
        open.ops.push(op);
        open.made.push(result);
    }

    /// An operand of an op of the tile `result`, whose layout is `layout`.
    fn operand(&mut self, value: ValueId, result: ValueId, layout: &Layout) -> Lowered<MapOperand> {
        let made = self.open.as_ref().and_then(|open| open.made.iter().position(|&m| m == value));
        if let Some(at) = made {
            if self.open.as_ref().is_some_and(|open| open.layout == *layout) {
                self.left[value.index()] = self.left[value.index()].saturating_sub(1);
                return Ok(MapOperand::Temporary(at as u32));
            }
            self.flush();
        }
        let extents = [self.places.matrix(value), self.places.matrix(result)];
        if (0..2).any(|axis| extents[0][axis] != extents[1][axis] && extents[0][axis] != 1) {
            return Ok(MapOperand::Fragment(self.spread(value, result, layout)?));
        }
        match self.places.home(value) {
            Home::Uniform => Ok(MapOperand::Expr(self.number(value)?)),
            Home::Virtual => Ok(MapOperand::Expr(self.virtual_element(value)?)),
            Home::View | Home::Shared | Home::Registers(_) => {
                let wanted = slice(layout, self.places.matrix(result), self.places.matrix(value));
                Ok(MapOperand::Fragment(self.fragment_in(value, &wanted)?))
            }
        }
    }

    /// A tile of several axes, some of which broadcast between others, in registers as large as the result.
    fn spread(&mut self, value: ValueId, result: ValueId, layout: &Layout) -> Lowered<FragmentId> {
        let Home::Registers(own) = self.places.home(value).clone() else {
            let what = "a broadcast between other axes".to_string();
            return Err(super::Unsupported { what, place: String::new() });
        };
        let (of, to) = (self.places.shape(value), self.places.shape(result));
        let coordinates = of.extents().zip(here(to));
        let coordinates = coordinates.map(|(extent, c)| if extent == 1 { Expr::Int(0) } else { c }).collect();
        let [rows, columns] = self.places.matrix(value).map(|extent| extent as usize);
        let matrix = Shape::new(&[rows, columns]).unwrap_or(of); // two extents of a shape that exists
        let mut place = reindex(coordinates, of, matrix).into_iter();
        let place = [0; 2].map(|_| place.next().unwrap_or(Expr::Int(0)));
        let from = self.in_some_layout(value, &own)?;
        Ok(self.converted(from, layout, self.places.matrix(result), place))
    }

    /// Closes the open group. What is still needed goes to registers of its own.
    pub(super) fn flush(&mut self) {
        let Some(open) = self.open.take() else { return };
        let mut results = Vec::new();
        for (at, &value) in open.made.iter().enumerate() {
            if self.left[value.index()] > 0 {
                let fragment = self.fragment(self.places.elem(value), open.extents, open.layout.clone());
                self.fragments.insert(value, fragment);
                results.push((at as u32, fragment));
            }
        }
        if !results.is_empty() {
            self.steps.push(Step::Map(Map { layout: open.layout, ops: open.ops, results }));
        }
    }

    /// A virtual value at the element at hand.
    fn virtual_element(&mut self, value: ValueId) -> Lowered<Expr> {
        self.element_at(value, here(self.places.shape(value)))
    }

    /// The element of a virtual value, or of a number, at these coordinates of its tile.
    fn element_at(&mut self, value: ValueId, coordinates: Vec<Expr>) -> Lowered<Expr> {
        let (root, coordinates) = self.root_at(value, coordinates);
        match self.places.inst(root) {
            Some(Inst { op: Op::ShapeOp(ShapeOp::Iota { axis, .. }), .. }) => {
                Ok(coordinates[usize::from(*axis)].clone())
            }
            Some(Inst { op: Op::Elementwise(op), operands, .. }) if matches!(self.places.home(root), Home::Virtual) => {
                let of = operands.iter().map(|&operand| {
                    let extents = self.places.shape(operand).extents().collect::<Vec<_>>();
                    let repeated = extents.iter().zip(&coordinates);
                    let at = repeated.map(|(&extent, c)| if extent == 1 { Expr::Int(0) } else { c.clone() }).collect();
                    self.element_at(operand, at)
                });
                let of = of.collect::<Lowered<Vec<_>>>()?;
                match (op, &of[..]) {
                    (Elementwise::Add | Elementwise::Mul, [a, b]) => Ok(int(op.clone(), a.clone(), b.clone())),
                    _ => Ok(Expr::Op(op.clone(), Elem::I32, of)),
                }
            }
            _ => self.number(root),
        }
    }

    /// What a value is moved from, and which of its elements is the one at hand.
    pub(super) fn root(&self, value: ValueId) -> (ValueId, Vec<Expr>) {
        self.root_at(value, here(self.places.shape(value)))
    }

    /// The same for an element at these coordinates.
    fn root_at(&self, value: ValueId, mut coordinates: Vec<Expr>) -> (ValueId, Vec<Expr>) {
        let mut at = value;
        while let Some(inst) = self.places.inst(at) {
            let Op::ShapeOp(op) = &inst.op else { break };
            let Some(&from) = inst.operands.first() else { break };
            let (of, to) = (self.places.shape(at), self.places.shape(from));
            coordinates = match op {
                ShapeOp::Reshape { .. } => reindex(coordinates, of, to),
                ShapeOp::Transpose => {
                    let rank = coordinates.len();
                    coordinates.swap(rank - 2, rank - 1); // the typing rule asks for two axes
                    coordinates
                }
                ShapeOp::Broadcast { .. } => {
                    let repeated = to.extents().zip(coordinates);
                    repeated.map(|(extent, c)| if extent == 1 { Expr::Int(0) } else { c }).collect()
                }
                ShapeOp::Iota { .. } | ShapeOp::Unpack { .. } => break,
            };
            at = from;
        }
        (at, coordinates)
    }

    /// The load that a value is a moved copy of.
    pub(super) fn moved_load(&self, value: ValueId) -> Option<(&'k Inst, Vec<Expr>)> {
        let (root, coordinates) = self.root(value);
        let inst = self.places.inst(root)?;
        let is_load = matches!(inst.op, Op::Memory(Memory::Load { .. } | Memory::Gather { .. }));
        let in_memory = !matches!(self.places.home(root), Home::Shared);
        (is_load && in_memory).then_some((inst, coordinates))
    }

    /// Loads a value, or what it was moved from, into registers of this layout.
    fn load(&mut self, value: ValueId, layout: &Layout) -> Lowered<()> {
        let Some((inst, coordinates)) = self.moved_load(value) else {
            return Ok(()); // asked for loads only
        };
        let address = self.address(inst, &coordinates)?;
        let fragment = self.fragment(self.places.elem(value), self.places.matrix(value), layout.clone());
        let vector = self.vector(inst, &address, fragment);
        self.steps.push(Step::Load(Transfer { fragment, address, vector }));
        self.fragments.insert(value, fragment);
        Ok(())
    }

    /// How many neighbouring registers are neighbours in memory, for one access of at most 16 bytes.
    fn vector(&self, inst: &Inst, address: &Address, fragment: FragmentId) -> u32 {
        let fragment = &self.program.fragments[fragment.index()];
        let neighbours = match fragment.layout.digits(Of::Register).next() {
            Some((1, digit)) if digit.across == 1 && digit.down == 0 => digit.size,
            _ => 1,
        };
        let most = 16 / fragment.elem.bytes() as u32;
        let first = self.first_column(inst, address);
        let fits = |v: &u32| {
            [neighbours, fragment.extents[1], first].iter().all(|count| count.is_multiple_of(*v)) && *v <= most
        };
        let wide = [16, 8, 4, 2].into_iter().find(fits);
        if self.tensor_access(address) == Access16::Aligned { wide.unwrap_or(1) } else { 1 }
    }

    /// A power of two of which the column of the tensor that a tile starts at is a multiple; 1 where its columns are not the
    /// tensor's.
    fn first_column(&self, inst: &Inst, address: &Address) -> u32 {
        let origin_counts = matches!(inst.op, Op::Memory(Memory::Load { .. } | Memory::Store));
        match (address.axes.last().map(|place| &place.index), inst.operands.last()) {
            (Some(Expr::Column), _) => MOST_MULTIPLE,
            (Some(Expr::Op(Elementwise::Add, _, sum)), Some(&origin)) if origin_counts && sum[1] == Expr::Column => {
                self.multiple_of(origin)
            }
            _ => 1,
        }
    }

    /// How the rows of a tile may be accessed: as those of the tensor, where its columns are the tensor's from the first on, all
    /// of which are inside or none.
    pub(super) fn row_access(&self, address: &Address) -> Access16 {
        match address.axes.last() {
            Some(Place { index: Expr::Column, .. }) => self.tensor_access(address),
            _ => Access16::Any,
        }
    }

    /// How rows of the tensor may be accessed, where no bound cuts them.
    fn tensor_access(&self, address: &Address) -> Access16 {
        let Some(axis) = address.axes.len().checked_sub(1) else { return Access16::Any };
        let Place { first, last, .. } = &address.axes[axis];
        let whole = *first == Expr::Int(0) && *last == Expr::Len(address.param, axis as u8);
        let fact = self.facts.get(address.param as usize).filter(|_| whole);
        fact.copied().unwrap_or(Access16::Any)
    }

    /// A value in registers of this layout: where it is already, or a converted copy.
    pub(super) fn fragment_in(&mut self, value: ValueId, layout: &Layout) -> Lowered<FragmentId> {
        if self.open.as_ref().is_some_and(|open| open.made.contains(&value)) {
            self.flush();
        }
        if let Some(&fragment) = self.fragments.get(&value) {
            if self.program.fragments[fragment.index()].layout == *layout {
                return Ok(fragment);
            }
            return Ok(self.converted(fragment, layout, self.places.matrix(value), [Expr::Row, Expr::Column]));
        }
        let (elem, extents) = (self.places.elem(value), self.places.matrix(value));
        match self.places.home(value) {
            Home::Shared => {
                let Some(from) = self.slots.get(&value).cloned() else {
                    return Err(self.nowhere(value));
                };
                let to = self.fragment(elem, extents, layout.clone());
                self.settle(&[from.buffer]);
                self.steps.push(Step::Get { to, from, place: [Expr::Row, Expr::Column] });
                Ok(to)
            }
            Home::Uniform | Home::Virtual => {
                let element = match self.places.home(value) {
                    Home::Virtual => self.virtual_element(value)?,
                    _ => self.number(value)?,
                };
                Ok(self.filled(elem, extents, layout, element))
            }
            Home::Registers(_) if self.moved_load(value).is_some() => {
                self.load(value, layout)?;
                match self.fragments.remove(&value) {
                    Some(fragment) => Ok(fragment),
                    None => self.fragment_in(value, layout),
                }
            }
            Home::Registers(_) | Home::View => Err(self.nowhere(value)),
        }
    }

    fn nowhere(&self, value: ValueId) -> super::Unsupported {
        match self.places.inst(value) {
            Some(inst) => self.unsupported(inst, "a tile before it is made"),
            None => super::Unsupported { what: "a tile before it is made".into(), place: String::new() },
        }
    }

    /// Registers that hold a number, or a function of row and column.
    pub(super) fn filled(&mut self, elem: Elem, extents: [u32; 2], layout: &Layout, element: Expr) -> FragmentId {
        let to = self.fragment(elem, extents, layout.clone());
        let ops = vec![identity(elem, MapOperand::Expr(element))];
        self.steps.push(Step::Map(Map { layout: layout.clone(), ops, results: vec![(0, to)] }));
        to
    }

    /// A copy in another layout, through shared memory; `place` says where in the copy's source an element of it stands.
    fn converted(&mut self, from: FragmentId, layout: &Layout, extents: [u32; 2], place: [Expr; 2]) -> FragmentId {
        let source = self.program.fragments[from.index()].clone();
        // Rounding happens at casts and stores; this is neither.
        let elem = if source.elem.is_float() { Elem::F32 } else { source.elem };
        let buffer = self.buffer(format!("exchange{}", from.0), elem, source.extents, 1);
        let slot = Slot { buffer, at: None, ahead: 0 };
        let to = self.fragment(source.elem, extents, layout.clone());
        self.steps.push(Step::Put { to: slot.clone(), from });
        self.steps.push(Step::Get { to, from: slot, place });
        to
    }

    fn reshape(&mut self, inst: &'k Inst, result: ValueId, layout: &Layout) -> Lowered<()> {
        let operand = inst.operands[0];
        let (from, to) = (self.places.matrix(operand), self.places.matrix(result));
        if matches!(self.places.home(operand), Home::Uniform) {
            let element = self.number(operand)?;
            let fragment = self.filled(self.places.elem(result), to, layout, element);
            self.fragments.insert(result, fragment);
            return Ok(());
        }
        if self.open.as_ref().is_some_and(|open| open.made.contains(&operand)) {
            self.flush();
        }
        let source = match self.fragments.get(&operand) {
            Some(&fragment) => fragment,
            None => match self.places.home(operand) {
                Home::Registers(own) => self.fragment_in(operand, &own.clone())?,
                _ => return Err(self.unsupported(inst, "this reshape")),
            },
        };
        let own = self.program.fragments[source.index()].layout.clone();
        if let Some(reshaped) = own.reshape(from[1], to[1]).filter(|_| from[1] != to[1] || from == to) {
            let fragment = self.fragment(self.places.elem(result), to, reshaped);
            self.steps.push(Step::Assign { to: fragment, from: source });
            self.fragments.insert(result, fragment);
            return Ok(());
        }
        let of = |m: [u32; 2]| Shape::new(&[m[0] as usize, m[1] as usize]).unwrap_or(Shape::SCALAR);
        let at = reindex(here(of(to)), of(to), of(from));
        let [Some(row), Some(column)] = [0, 1].map(|axis| at.get(axis).cloned()) else {
            return Err(self.unsupported(inst, "this reshape"));
        };
        let fragment = self.converted(source, layout, to, [row, column]);
        self.fragments.insert(result, fragment);
        Ok(())
    }

    fn transpose(&mut self, inst: &'k Inst, result: ValueId, layout: &Layout) -> Lowered<()> {
        let operand = inst.operands[0];
        if self.places.shape(operand).extents().rev().skip(2).any(|e| e != 1) {
            return Err(self.unsupported(inst, "a transpose of several matrices"));
        }
        let turned = [Expr::Column, Expr::Row];
        if let Home::Shared = self.places.home(operand) {
            let from = self.slot_of(operand)?;
            let to = self.fragment(self.places.elem(result), self.places.matrix(result), layout.clone());
            self.settle(&[from.buffer]);
            self.steps.push(Step::Get { to, from, place: turned });
            self.fragments.insert(result, to);
            return Ok(());
        }
        let Home::Registers(own) = self.places.home(operand) else {
            return Err(self.unsupported(inst, "this transpose"));
        };
        let source = self.in_some_layout(operand, &own.clone())?;
        let fragment = self.converted(source, layout, self.places.matrix(result), turned);
        self.fragments.insert(result, fragment);
        Ok(())
    }

    /// A value in registers as it is, or in `otherwise` when it is not there yet.
    pub(super) fn in_some_layout(&mut self, value: ValueId, otherwise: &Layout) -> Lowered<FragmentId> {
        if self.open.as_ref().is_some_and(|open| open.made.contains(&value)) {
            self.flush();
        }
        match self.fragments.get(&value) {
            Some(&fragment) => Ok(fragment),
            None => self.fragment_in(value, otherwise),
        }
    }

    fn unpack(&mut self, inst: &'k Inst, bits: u8, result: ValueId, layout: &Layout) -> Lowered<()> {
        let codes = 32 / u32::from(bits);
        let Some(of_words) = layout.of_words(codes) else {
            return Err(self.unsupported(inst, "codes whose words lie in other threads"));
        };
        self.open_for(layout, self.places.matrix(result));
        let words = self.fragment_in(inst.operands[0], &of_words)?;
        self.push(result, layout, identity(Elem::U8, MapOperand::Code(words, bits)));
        Ok(())
    }

    fn reduce(&mut self, inst: &'k Inst, op: &Reduce, result: ValueId) -> Lowered<()> {
        let operand = inst.operands[0];
        let shape = self.places.shape(operand);
        let last = shape.rank() - 1; // the typing rule checked the axis
        let others = shape.extents().enumerate().filter(|&(a, e)| a != last && a != op.axis() && e != 1).count();
        let axis = match op.axis() {
            a if a == last => Axis::Across,
            _ if others == 0 => Axis::Down,
            _ => return Err(self.unsupported(inst, "a reduction of the outer of two axes")),
        };
        let Home::Registers(otherwise) = self.places.home(result).clone() else {
            return Err(self.unsupported(inst, "this reduction"));
        };
        let own = match self.places.home(operand) {
            Home::Registers(own) => own.clone(),
            Home::Uniform | Home::View | Home::Virtual | Home::Shared => self.places.canonical(operand),
        };
        let from = self.in_some_layout(operand, &own)?;
        self.flush();
        let Some(extent) = shape.extent(op.axis()) else { return Err(self.unsupported(inst, "this reduction")) };
        if extent == 1 && self.program.fragments[from.index()].layout == otherwise {
            self.fragments.insert(result, from);
            return Ok(());
        }
        let layout = self.program.fragments[from.index()].layout.clone();
        let to = self.fragment(self.places.elem(result), self.places.matrix(result), layout.without(axis));
        let exchanged = layout.digits(Of::Warp).any(|(_, d)| d.stride(axis) > 0);
        let exchange = exchanged.then(|| {
            let warps: u32 = layout.digits(Of::Warp).filter(|(_, d)| d.stride(axis) > 0).map(|(_, d)| d.size).product();
            let other = if axis == Axis::Across { Axis::Down } else { Axis::Across };
            let elem = if self.places.elem(result).is_float() { Elem::F32 } else { Elem::I32 };
            self.buffer(format!("fold{}", to.0), elem, [warps, layout.extent(other)], 1)
        });
        let fold = Fold { op: op.clone(), from, axis, to, exchange };
        self.steps.push(Step::Fold(fold.clone()));
        if exchange.is_some() {
            self.steps.push(Step::Combine(fold));
        }
        self.fragments.insert(result, to);
        Ok(())
    }

    pub(super) fn store(&mut self, inst: &'k Inst) -> Lowered<()> {
        let stored = inst.operands[1];
        if self.places.shape(stored).rank() == 0 {
            return self.store_number(inst, stored);
        }
        // A reshape of what is in registers is written from there.
        let mut value = stored;
        while let Some(Inst { op: Op::ShapeOp(ShapeOp::Reshape { .. }), operands, .. }) = self.places.inst(value) {
            if !matches!(self.places.home(operands[0]), Home::Registers(_)) || self.moved_load(operands[0]).is_some() {
                break;
            }
            value = operands[0];
        }
        let own = match self.places.home(value) {
            Home::Registers(own) => own.clone(),
            Home::Uniform | Home::View | Home::Virtual | Home::Shared => self.places.canonical(value),
        };
        let fragment = self.in_some_layout(value, &own)?;
        self.flush();
        let of = self.places.shape(value);
        let coordinates = reindex(here(of), of, self.places.shape(stored));
        let address = self.address(inst, &coordinates)?;
        let fragment = self.neighbours_first(fragment);
        let vector = self.vector(inst, &address, fragment);
        self.steps.push(Step::Store(Transfer { fragment, address, vector }));
        Ok(())
    }

    /// Registers with neighbours along a row side by side.
    fn neighbours_first(&mut self, from: FragmentId) -> FragmentId {
        let Fragment { elem, extents, layout } = self.program.fragments[from.index()].clone();
        let ordered = layout.neighbours_first();
        if ordered == layout {
            return from;
        }
        let to = self.fragment(elem, extents, ordered);
        self.steps.push(Step::Reorder { to, from });
        to
    }

    fn store_number(&mut self, inst: &'k Inst, stored: ValueId) -> Lowered<()> {
        let element = self.number(stored)?;
        self.flush();
        let layout = Layout::replicated(self.places.work.warps());
        let fragment = self.filled(self.places.elem(stored), [1, 1], &layout, element);
        let address = self.address(inst, &[])?;
        self.steps.push(Step::Store(Transfer { fragment, address, vector: 1 }));
        Ok(())
    }

    /// Zeros in the columns from `extent` on, which a product would add up.
    pub(super) fn without_padding(&mut self, from: FragmentId, extent: u32) -> FragmentId {
        let fragment = self.program.fragments[from.index()].clone();
        if fragment.layout.extent(Axis::Across) == extent {
            return from;
        }
        let to = self.fragment(fragment.elem, fragment.extents, fragment.layout.clone());
        let inside = MapOp {
            op: Elementwise::Lt,
            elem: Elem::Bool,
            of: Elem::I32,
            operands: vec![
                MapOperand::Expr(Expr::Column),
                MapOperand::Expr(int(Elementwise::Add, Expr::Int(0), Expr::Int(i64::from(extent)))),
            ],
        };
        let zero = MapOperand::Expr(Expr::Literal(fragment.elem, 0.0));
        let kept = MapOp {
            op: Elementwise::Select,
            elem: fragment.elem,
            of: Elem::Bool,
            operands: vec![MapOperand::Temporary(0), MapOperand::Fragment(from), zero],
        };
        let ops = vec![inside, kept];
        self.steps.push(Step::Map(Map { layout: fragment.layout, ops, results: vec![(1, to)] }));
        to
    }
}

/// The op that keeps what it is given.
fn identity(elem: Elem, operand: MapOperand) -> MapOp {
    MapOp { op: Elementwise::Bitcast { to: elem }, elem, of: elem, operands: vec![operand] }
}
