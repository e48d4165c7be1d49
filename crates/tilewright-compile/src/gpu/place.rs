//! Operand placement and register layouts: where each value of a kernel lives.
//!
//! Products decide. Their sums lie as the matrix unit leaves them, and so does everything of the same shape, with rows and
//! columns folded to one as slices of it; so elementwise ops, reductions and broadcasts never move data. Right operands of
//! products live in shared memory, and what is computed for them (unpacked codes) lies in rows of wide vectors. In a kernel
//! without products everything lies in such rows. Where a layout does not fit its use, the lowering converts through shared
//! memory: layouts decide speed, never meaning.

use super::codes::{Coded, Decoded};
use super::layout::{Axis, Layout};
use super::source::Dialect;
use super::unit::Unit;
use std::collections::HashMap;
use tilewright_ir::op::{Control, Elementwise, Matmul, ShapeOp};
use tilewright_ir::{Effect, Elem, Inst, Kernel, Op, Region, RegionId, Shape, Type, ValueId, Work};

/// Where a value lives.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Home {
    /// A number that every thread holds.
    Uniform,
    /// A view: known while compiling, but for its numbers.
    View,
    /// Computed from row and column wherever it is needed.
    Virtual,
    /// A tile in shared memory.
    Shared,
    /// Registers.
    Registers(Layout),
}

/// What defines a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Def {
    /// A parameter, by position.
    Param(u32),
    /// An argument of a region, by position.
    Arg(RegionId, usize),
    /// The instruction of a region at a position; which of its results.
    Inst(RegionId, usize, usize),
}

/// The values of a kernel and their homes.
pub(super) struct Places<'k> {
    pub kernel: &'k Kernel,
    pub work: Work,
    pub dialect: Dialect,
    defs: Vec<Option<Def>>,
    /// Operands and yields that name each value.
    uses: Vec<u32>,
    /// The last instruction that names each value.
    users: Vec<Option<(RegionId, usize)>>,
    /// Whether something else than movement names it.
    read: Vec<bool>,
    homes: Vec<Home>,
    canonical: Canonical,
    decoded: Decoded,
}

/// Rows and columns of a tile as a matrix: the last axis across.
pub(super) fn matrix(shape: Shape) -> [u32; 2] {
    let columns = shape.extents().next_back().unwrap_or(1);
    let rows: usize = shape.extents().rev().skip(1).product();
    [rows as u32, columns as u32] // extents fit 32 bits, and tiles are small
}

impl<'k> Places<'k> {
    pub fn of(kernel: &'k Kernel, work: Work, dialect: Dialect) -> Places<'k> {
        let mut places = Places {
            kernel,
            work,
            dialect,
            defs: vec![None; kernel.values.len()],
            uses: vec![0; kernel.values.len()],
            users: vec![None; kernel.values.len()],
            read: vec![false; kernel.values.len()],
            homes: vec![Home::View; kernel.values.len()],
            canonical: Canonical::default(),
            decoded: Decoded::default(),
        };
        for (at, param) in kernel.params.iter().enumerate() {
            places.defs[param.value.index()] = Some(Def::Param(at as u32));
        }
        for (id, region) in kernel.regions.iter().enumerate() {
            let id = RegionId(id as u32);
            for (at, arg) in region.args.iter().enumerate() {
                places.defs[arg.index()] = Some(Def::Arg(id, at));
            }
            for (at, inst) in region.insts.iter().enumerate() {
                for (n, result) in inst.results.iter().enumerate() {
                    places.defs[result.index()] = Some(Def::Inst(id, at, n));
                }
                let moves = matches!(
                    inst.op,
                    Op::ShapeOp(ShapeOp::Broadcast { .. } | ShapeOp::Reshape { .. } | ShapeOp::Transpose)
                );
                for operand in &inst.operands {
                    places.uses[operand.index()] += 1;
                    places.users[operand.index()] = Some((id, at));
                    places.read[operand.index()] |= !moves;
                }
            }
            for value in &region.yields {
                places.uses[value.index()] += 1;
                places.read[value.index()] = true;
            }
        }
        places.assign();
        places
    }

    pub fn def(&self, value: ValueId) -> Option<Def> {
        self.defs[value.index()]
    }

    /// The instruction that defines a value.
    pub fn inst(&self, value: ValueId) -> Option<&'k Inst> {
        match self.def(value)? {
            Def::Inst(region, at, _) => Some(&self.kernel.regions[region.index()].insts[at]),
            Def::Param(_) | Def::Arg(..) => None,
        }
    }

    /// The loop with this body.
    pub fn loop_of(&self, body: RegionId) -> Option<&'k Inst> {
        let mut insts = self.kernel.regions.iter().flat_map(|region| &region.insts);
        insts.find(|inst| matches!(inst.op, Op::Control(Control::For { body: own }) if own == body))
    }

    pub fn uses(&self, value: ValueId) -> u32 {
        self.uses[value.index()]
    }

    pub fn home(&self, value: ValueId) -> &Home {
        &self.homes[value.index()]
    }

    pub fn elem(&self, value: ValueId) -> Elem {
        self.kernel.ty(value).elem()
    }

    pub fn shape(&self, value: ValueId) -> Shape {
        self.kernel.ty(value).shape().unwrap_or(Shape::SCALAR)
    }

    pub fn matrix(&self, value: ValueId) -> [u32; 2] {
        matrix(self.shape(value))
    }

    /// The element type and unit of a product.
    pub fn unit(&self, dot: &Inst) -> (Unit, Elem) {
        if let Some(coded) = dot.results.first().and_then(|&result| self.coded(result)) {
            return (Unit::Mma, coded.elem);
        }
        let (a, b) = (self.elem(dot.operands[0]), self.elem(dot.operands[1]));
        let elem = if a == b { a } else { Elem::F32 };
        (Unit::of(self.dialect, elem), elem)
    }

    fn dots(&self) -> impl Iterator<Item = &'k Inst> + use<'k> {
        let insts = self.kernel.regions.iter().flat_map(|r| &r.insts);
        insts.filter(|i| matches!(i.op, Op::Matmul(Matmul::Dot)))
    }

    /// A value behind transposes, and whether their number is odd.
    pub fn behind_transposes(&self, mut value: ValueId) -> (ValueId, bool) {
        let mut odd = false;
        while let Some(Inst { op: Op::ShapeOp(ShapeOp::Transpose), operands, .. }) = self.inst(value) {
            (value, odd) = (operands[0], !odd);
        }
        (value, odd)
    }

    /// What the right operand of a product is decoded from on its way to the matrix unit.
    pub fn coded(&self, product: ValueId) -> Option<Coded> {
        self.decoded.products.get(&product).copied()
    }

    /// Whether a value is the scales or biases of a decoded operand.
    pub fn goes_with_codes(&self, value: ValueId) -> bool {
        self.decoded.products.values().any(|coded| [coded.scales, coded.biases].contains(&value))
    }

    /// Whether a product computes a value from codes on its way.
    pub fn is_decoded(&self, value: ValueId) -> bool {
        self.decoded.absorbed.contains(&value)
    }

    /// The layout of the sum of a product.
    pub fn sum_layout(&self, product: ValueId, unit: Unit) -> Layout {
        let [m, n] = self.matrix(product);
        let warps = [self.work.rows, self.work.columns];
        match self.decoded.spread.get(&[m, n]) {
            Some(&spread) => Unit::lane_columns(m, n, warps, spread),
            None => unit.sum_layout(m, n, warps),
        }
    }

    /// The last instruction that names a value.
    pub fn user(&self, value: ValueId) -> Option<(RegionId, usize)> {
        self.users[value.index()]
    }

    /// Whether a value is only moved about.
    pub fn only_moved(&self, value: ValueId) -> bool {
        !self.read[value.index()]
    }

    /// The layout of tiles of a value's shape where nothing asks for another.
    pub fn canonical(&self, value: ValueId) -> Layout {
        self.canonical.layout(self.matrix(value))
    }

    fn assign(&mut self) {
        self.decoded = self.decoded_products();
        self.canonical = Canonical::of(self);
        for at in 0..self.kernel.values.len() {
            let value = ValueId(at as u32);
            self.homes[at] = match self.kernel.ty(value) {
                Type::View { .. } => Home::View,
                Type::Tile { shape, .. } if shape.rank() == 0 => Home::Uniform,
                Type::Tile { shape, .. } => Home::Registers(self.canonical.layout(matrix(shape))),
            };
        }
        self.virtuals();
        let mut vectors = Vec::new();
        for dot in self.dots() {
            if let Some(&Coded { words, scales, biases, .. }) = self.decoded.products.get(&dot.results[0]) {
                [words, scales, biases].iter().for_each(|value| self.homes[value.index()] = Home::Shared);
            }
            let (b, _) = self.behind_transposes(dot.operands[1]);
            if !self.decoded.absorbed.contains(&b) {
                vectors.push(b);
                self.homes[b.index()] = Home::Shared;
            }
            // A branch that changes a loaded tile or leaves it as it is does so in shared memory.
            for yielded in self.yielded(b) {
                if self.is_load(yielded) {
                    self.homes[yielded.index()] = Home::Shared;
                }
            }
            let a = dot.operands[0];
            let (unit, _) = self.unit(dot);
            let computed = matches!(self.home(a), Home::Registers(_)) && !self.is_load(a);
            if !computed || unit == Unit::Lanes || self.work.columns > 1 {
                self.homes[a.index()] = Home::Shared;
            }
        }
        // Words of codes in a loop are copied ahead of their use as the operands of products are.
        for inst in self.kernel.regions.iter().skip(1).flat_map(|r| &r.insts) {
            let Op::ShapeOp(ShapeOp::Unpack { .. }) = inst.op else { continue };
            let words = inst.operands[0];
            let loaded = self.inst(words).is_some_and(|i| matches!(i.op, Op::Memory(_)));
            if self.canonical.unit.is_some() && loaded && self.kernel.values[words.index()].region != Kernel::BODY {
                self.homes[words.index()] = Home::Shared;
            }
        }
        for b in vectors {
            self.prefer(b, self.vectors(b), true);
        }
    }

    /// Rows of vectors of 16 bytes, or of the codes of whole words where a tile is unpacked.
    pub fn vectors(&self, value: ValueId) -> Layout {
        let [rows, columns] = self.matrix(value);
        let vector = (16 / self.elem(value).bytes() as u32).max(self.codes(value));
        Layout::blocked(rows, columns, vector, self.work.warps())
    }

    /// How many codes of a word become neighbours in what is computed from them; 1 where nothing is unpacked.
    fn codes(&self, value: ValueId) -> u32 {
        let Some(inst) = self.inst(value) else { return 1 };
        let of = |values: &[ValueId]| values.iter().map(|&v| self.codes(v)).max().unwrap_or(1);
        match &inst.op {
            Op::ShapeOp(ShapeOp::Unpack { bits }) => 32 / u32::from(*bits),
            Op::Elementwise(_) | Op::ShapeOp(ShapeOp::Reshape { .. }) => of(&inst.operands),
            Op::Control(Control::If { .. }) => of(&self.yielded(value)),
            Op::ShapeOp(ShapeOp::Broadcast { .. } | ShapeOp::Iota { .. } | ShapeOp::Transpose)
            | Op::Reduce(_)
            | Op::Matmul(_)
            | Op::Memory(_)
            | Op::Control(Control::For { .. } | Control::ProgramId { .. } | Control::ProgramCount { .. }) => 1,
        }
    }

    /// What the ways of a branch leave as this result of it; nothing for other values.
    pub fn yielded(&self, value: ValueId) -> Vec<ValueId> {
        match (self.inst(value).map(|i| &i.op), self.def(value)) {
            (Some(Op::Control(Control::If { then, otherwise })), Some(Def::Inst(_, _, n))) => {
                [then, otherwise].map(|way| self.kernel.regions[way.index()].yields[n]).to_vec()
            }
            _ => Vec::new(),
        }
    }

    /// Whether everything that names a value stands in one of these regions, or in one nested in them.
    pub fn named_only_in(&self, value: ValueId, regions: [RegionId; 2]) -> bool {
        let inside = |at: usize| {
            let mut at = Some(RegionId(at as u32));
            while let Some(region) = at {
                if regions.contains(&region) {
                    return true;
                }
                at = self.kernel.regions[region.index()].parent;
            }
            false
        };
        let names = |region: &Region| {
            region.yields.contains(&value) || region.insts.iter().any(|inst| inst.operands.contains(&value))
        };
        self.kernel.regions.iter().enumerate().all(|(at, region)| !names(region) || inside(at))
    }

    /// The load that a value is, perhaps under another shape: the element-for-element copy of a part of a tensor.
    pub fn loaded(&self, value: ValueId) -> Option<&'k Inst> {
        let inst = self.inst(value)?;
        match &inst.op {
            Op::ShapeOp(ShapeOp::Reshape { .. }) => self.loaded(inst.operands[0]),
            op => matches!(op.effect(), Effect::Read).then_some(inst),
        }
    }

    /// Whether a value is [`loaded`](Self::loaded).
    pub fn is_load(&self, value: ValueId) -> bool {
        self.loaded(value).is_some()
    }

    /// What is a function of row or column alone: `iota` and uniform numbers, moved about, and sums of them. To keep them would
    /// take registers that sums of products need.
    fn virtuals(&mut self) {
        // Definitions stand before uses in the order of regions and instructions but for loops, whose values are not virtual.
        for region in &self.kernel.regions {
            for inst in &region.insts {
                let is_virtual = match &inst.op {
                    Op::ShapeOp(ShapeOp::Iota { .. }) => true,
                    Op::ShapeOp(ShapeOp::Broadcast { .. } | ShapeOp::Reshape { .. } | ShapeOp::Transpose) => {
                        matches!(self.home(inst.operands[0]), Home::Uniform | Home::Virtual)
                    }
                    Op::Elementwise(Elementwise::Add | Elementwise::Sub) => {
                        let known = |o: &ValueId| matches!(self.home(*o), Home::Uniform | Home::Virtual);
                        let [result] = inst.results[..] else { continue };
                        let slice = self.matrix(result).contains(&1) && self.elem(result) == Elem::I32;
                        slice && inst.operands.iter().all(known)
                    }
                    Op::ShapeOp(ShapeOp::Unpack { .. })
                    | Op::Elementwise(_)
                    | Op::Reduce(_)
                    | Op::Matmul(_)
                    | Op::Memory(_)
                    | Op::Control(_) => false,
                };
                if let ([result], true) = (&inst.results[..], is_virtual)
                    && self.shape(*result).rank() > 0
                {
                    self.homes[result.index()] = Home::Virtual;
                }
            }
        }
    }

    /// Asks for a layout of what a value is computed from.
    fn prefer(&mut self, value: ValueId, layout: Layout, root: bool) {
        let Some(inst) = self.inst(value) else { return };
        if !root {
            match self.home(value) {
                Home::Registers(_) => self.homes[value.index()] = Home::Registers(layout.clone()),
                Home::Uniform | Home::View | Home::Virtual | Home::Shared => return,
            }
        }
        let of = self.matrix(value);
        match &inst.op {
            Op::Elementwise(_) => {
                for &operand in &inst.operands {
                    self.prefer(operand, slice(&layout, of, self.matrix(operand)), false);
                }
            }
            Op::ShapeOp(ShapeOp::Broadcast { .. }) => {
                let operand = inst.operands[0];
                self.prefer(operand, slice(&layout, of, self.matrix(operand)), false);
            }
            Op::ShapeOp(ShapeOp::Reshape { .. }) => {
                let operand = inst.operands[0];
                if let Some(layout) = layout.reshape(of[1], self.matrix(operand)[1]) {
                    self.prefer(operand, layout, false);
                }
            }
            Op::ShapeOp(ShapeOp::Unpack { bits }) => {
                if let Some(layout) = layout.of_words(32 / u32::from(*bits)) {
                    self.prefer(inst.operands[0], layout, false);
                }
            }
            Op::Control(Control::If { .. }) => {
                for yielded in self.yielded(value) {
                    self.prefer(yielded, layout.clone(), false);
                }
            }
            Op::ShapeOp(ShapeOp::Iota { .. } | ShapeOp::Transpose)
            | Op::Reduce(_)
            | Op::Matmul(_)
            | Op::Memory(_)
            | Op::Control(Control::For { .. } | Control::ProgramId { .. } | Control::ProgramCount { .. }) => {}
        }
    }
}

/// The layout of an operand of extents `to` that broadcasts to a tile of extents `of` in this layout.
pub(super) fn slice(layout: &Layout, of: [u32; 2], to: [u32; 2]) -> Layout {
    broadcast_axes(of, to).into_iter().fold(layout.clone(), |layout, axis| layout.without(axis))
}

/// The axes along which a tile of extents `to` is repeated to fill extents `of`.
pub(super) fn broadcast_axes(of: [u32; 2], to: [u32; 2]) -> Vec<Axis> {
    let axes = [Axis::Down, Axis::Across].into_iter().zip(of.into_iter().zip(to));
    axes.filter(|(_, (of, to))| of != to && *to == 1).map(|(axis, _)| axis).collect()
}

/// The layout of a shape in a kernel.
#[derive(Default)]
struct Canonical {
    /// The unit whose sums lie about, if there are products.
    unit: Option<Unit>,
    warps: [u32; 2],
    /// Shapes of sums whose columns lie as words of codes have them.
    spread: HashMap<[u32; 2], u32>,
    /// The widest tile with each number of rows, and the tallest with each number of columns.
    widest: HashMap<u32, u32>,
    tallest: HashMap<u32, u32>,
    /// Neighbouring elements of a thread where there are no products.
    vector: u32,
    /// Whether a product has one row: its shape is then that of a row folded down, and lies as the sum does.
    single: bool,
}

impl Canonical {
    fn of(places: &Places<'_>) -> Canonical {
        let unit = places.dots().map(|dot| places.unit(dot).0).next();
        let (mut widest, mut tallest) = (HashMap::new(), HashMap::new());
        let mut vector = 4;
        for value in &places.kernel.values {
            let Type::Tile { shape, .. } = value.ty else { continue };
            let [rows, columns] = matrix(shape);
            let wide: &mut u32 = widest.entry(rows).or_insert(1);
            *wide = columns.max(*wide);
            let tall: &mut u32 = tallest.entry(columns).or_insert(1);
            *tall = rows.max(*tall);
        }
        for inst in places.kernel.regions.iter().flat_map(|r| &r.insts) {
            if let Op::ShapeOp(ShapeOp::Unpack { bits }) = inst.op {
                vector = vector.max(32 / u32::from(bits));
            }
        }
        let single = places.dots().any(|dot| places.matrix(dot.results[0])[0] == 1);
        let warps = [places.work.rows, places.work.columns];
        Canonical { unit, warps, spread: places.decoded.spread.clone(), widest, tallest, vector, single }
    }

    fn layout(&self, [rows, columns]: [u32; 2]) -> Layout {
        let full = |rows, columns| match (self.unit, self.spread.get(&[rows, columns])) {
            (Some(_), Some(&spread)) => Unit::lane_columns(rows, columns, self.warps, spread),
            (Some(unit), None) => unit.sum_layout(rows, columns, self.warps),
            (None, _) => Layout::blocked(rows, columns, self.vector.min(columns), self.warps[0] * self.warps[1]),
        };
        match (rows, columns) {
            (1, columns) if self.single && columns > 1 => full(1, columns),
            (1, 1) if self.single => full(1, 1).without(Axis::Across),
            (1, 1) => full(1, 1).without(Axis::Down).without(Axis::Across),
            (rows, 1) => full(rows, self.widest.get(&rows).copied().unwrap_or(1)).without(Axis::Across),
            (1, columns) => full(self.tallest.get(&columns).copied().unwrap_or(1), columns).without(Axis::Down),
            (rows, columns) => full(rows, columns),
        }
    }
}
