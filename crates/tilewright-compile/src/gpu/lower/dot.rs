//! Products, and their operands in shared memory.

use super::{Lowered, Lowering};
use crate::gpu::Access16;
use crate::gpu::Dialect;
use crate::gpu::codes::Coded;
use crate::gpu::layout::{Axis, Layout};
use crate::gpu::place::Home;
use crate::gpu::program::{BufferId, Codes, Copy, Dot, DotOperand, Expr, FragmentId, Slot, Step};
use crate::gpu::unit::Unit;
use tilewright_ir::op::{Elementwise, Matmul, ShapeOp};
use tilewright_ir::{Elem, Inst, Op, RegionId, ValueId};

impl<'k> Lowering<'_, 'k> {
    /// A product; one that is only added to something waits for that.
    pub(super) fn dot_or_defer(&mut self, inst: &'k Inst) -> Lowered<()> {
        let [result] = inst.results[..] else { return Err(self.unsupported(inst, "a product")) };
        if self.places.is_added(result) {
            self.deferred.insert(result, inst);
            return Ok(());
        }
        let sum = self.dot(inst, None)?;
        self.fragments.insert(result, sum);
        Ok(())
    }

    /// Whether an addition is of a product that waits for it.
    pub(super) fn takes_product(&self, add: &Inst) -> bool {
        add.operands.iter().any(|o| self.deferred.contains_key(o))
    }

    /// `x + a · b`: the product is added to where `x` lies.
    pub(super) fn add_product(&mut self, add: &'k Inst, result: ValueId) -> Lowered<()> {
        let [x, y] = add.operands[..] else { return Err(self.unsupported(add, "an addition")) };
        let (product, other) = match (self.deferred.remove(&x), self.deferred.remove(&y)) {
            (None, Some(dot)) => (dot, x),
            (Some(dot), None) => (dot, y),
            (Some(first), Some(second)) => {
                let sum = self.dot(first, None)?;
                self.fragments.insert(x, sum);
                (second, x)
            }
            (None, None) => return Err(self.unsupported(add, "an addition")),
        };
        let sum = self.dot(product, Some(other))?;
        self.fragments.insert(result, sum);
        Ok(())
    }

    /// Multiplies, and adds to a copy of `start` or to zero.
    fn dot(&mut self, inst: &'k Inst, start: Option<ValueId>) -> Lowered<FragmentId> {
        let [result] = inst.results[..] else { return Err(self.unsupported(inst, "a product")) };
        let [a, b] = inst.operands[..] else { return Err(self.unsupported(inst, "a product")) };
        let (unit, elem) = self.places.unit(inst);
        if unit == Unit::Lanes && self.places.elem(a) != Elem::F32 && self.places.is_exact_codes(b) {
            return Err(
                self.unsupported(inst, "a product of 16-bit numbers with exact codes that no matrix unit takes so")
            );
        }
        let warps = [self.places.work.rows, self.places.work.columns];
        let [m, n] = self.places.matrix(result);
        let k = self.places.matrix(a)[1];
        let layout = self.places.sum_layout(result, unit);
        let a = match self.places.home(a) {
            Home::Registers(_) => {
                // The unit's operands are packed from f32 in any case: a cast to their type is part of that.
                let a = self.places.rounded_from(a, elem).unwrap_or(a);
                let fragment = self.fragment_in(a, &unit.sum_layout(m, k, warps))?;
                DotOperand::Fragment(self.without_padding(fragment, k))
            }
            Home::Uniform | Home::View | Home::Virtual | Home::Shared => DotOperand::Shared(self.slot_of(a)?),
        };
        let (right, transposed) = self.places.behind_transposes(b);
        let coded = self.places.coded(result);
        let b = self.slot_of(coded.map_or(right, |coded| coded.words))?;
        let codes = match coded {
            Some(Coded { scales, biases, bits, group, multiplied, spread, .. }) => {
                let (scales, biases) = (self.slot_of(scales)?, self.slot_of(biases)?);
                Some(Codes { scales, biases, bits, group, multiplied, spread })
            }
            None => None,
        };
        let sum = match start {
            Some(value) => {
                let rescaled = self.places.rescaled(value);
                let from = self.fragment_in(rescaled.map_or(value, |[tile, _]| tile), &layout)?;
                let by = rescaled.map(|[_, by]| self.fragment_in(by, &layout.without(Axis::Across))).transpose()?;
                let sum = self.fragment(Elem::F32, [m, n], layout);
                self.flush();
                self.steps.push(Step::Assign { to: sum, from });
                self.steps.extend(by.map(|by| Step::Scale { to: sum, by }));
                sum
            }
            None => {
                self.flush();
                self.filled(Elem::F32, [m, n], &layout, Expr::Literal(Elem::F32, 0.0))
            }
        };
        let mut read = vec![b.buffer];
        if let DotOperand::Shared(slot) = &a {
            read.push(slot.buffer);
        }
        read.extend(codes.iter().flat_map(|codes| [codes.scales.buffer, codes.biases.buffer]));
        self.settle(&read);
        let depth = k.next_multiple_of(unit.shape()[2]);
        self.steps.push(Step::Dot(Dot { unit, elem, sum, a, b, codes, transposed, depth }));
        if self.refill.as_ref().is_some_and(|refill| {
            let here = self.places.kernel.values[result.index()].region == refill.body;
            here && refill.value == right && self.places.named_once(inst.operands[1])
        }) {
            self.refill_now()?;
        }
        Ok(sum)
    }

    /// Waits for copies where nothing has waited for one into these buffers.
    pub(super) fn settle(&mut self, used: &[BufferId]) {
        if used.iter().any(|buffer| self.pending.contains(buffer)) {
            self.settle_all();
        }
    }

    /// Waits for all copies that nothing has waited for.
    pub(super) fn settle_all(&mut self) {
        if !self.pending.is_empty() {
            self.pending.clear();
            self.steps.push(Step::Wait(0));
        }
    }

    /// The shared memory of an operand of a product.
    pub(super) fn slot_of(&mut self, value: ValueId) -> Lowered<Slot> {
        if let Some(slot) = self.slots.get(&value) {
            return Ok(slot.clone());
        }
        // A number or an index everywhere has no instruction that would have put it there.
        let layout = self.computed_layout(value);
        let from = self.in_some_layout(value, &layout)?;
        let slot = self.operand_slot(value, 1);
        self.flush();
        self.put(&slot, from);
        self.slots.insert(value, slot.clone());
        Ok(slot)
    }

    /// A tile that lives in shared memory: copied there from a tensor, or computed and put there.
    pub(super) fn shared_value(&mut self, inst: &'k Inst, result: ValueId) -> Lowered<()> {
        if self.slots.contains_key(&result) {
            return Ok(()); // a copy ran ahead
        }
        if self.places.is_load(result) {
            let slot = self.operand_slot(result, 1);
            self.copy(result, &slot)?;
            self.slots.insert(result, slot);
            return Ok(());
        }
        if matches!(inst.op, Op::Matmul(Matmul::Dot)) {
            return Err(self.unsupported(inst, "a product as the operand of a product"));
        }
        let layout = self.computed_layout(result);
        self.tile(inst, result, &layout)?;
        self.slot_of(result).map(|_| ())
    }

    /// The layout in which an operand of a product is computed.
    fn computed_layout(&self, value: ValueId) -> Layout {
        if self.places.is_left_operand(value) { self.places.canonical(value) } else { self.places.vectors(value) }
    }

    /// Copies a tile to shared memory, asynchronously where its rows go by 16 or 4 bytes.
    pub(super) fn copy(&mut self, value: ValueId, to: &Slot) -> Lowered<()> {
        let (root, coordinates) = self.root(value);
        let Some(inst) = self.places.inst(root) else { return Ok(()) }; // asked for loads only
        let address = self.address(inst, &coordinates)?;
        let elem = self.places.elem(value);
        let extents = self.places.matrix(value);
        let whole = |bytes: u32| (extents[1] * elem.bytes() as u32).is_multiple_of(bytes);
        let cuda = self.places.dialect == Dialect::Cuda;
        let chunk = match self.row_access(&address) {
            Access16::Aligned if whole(16) => Some(16),
            Access16::Aligned | Access16::Words if whole(4) && cuda => Some(4),
            Access16::Aligned | Access16::Words | Access16::Any => None,
        };
        self.flush();
        let asynchronous = chunk.is_some() && cuda;
        self.steps.push(Step::Copy(Copy { to: to.clone(), extents, address, chunk, asynchronous }));
        if asynchronous {
            self.steps.push(Step::Commit);
            self.pending.insert(to.buffer);
        }
        Ok(())
    }

    /// New shared memory for an operand of a product, with room for what products read beyond the tile.
    pub(super) fn operand_slot(&mut self, value: ValueId, slots: u32) -> Slot {
        let [rows, columns] = self.places.matrix(value);
        let mut extents = [rows, columns];
        let work = self.places.work;
        for dot in self.places.products_of(value) {
            let (unit, _) = self.places.unit(dot);
            let [m, n, k] = unit.shape();
            let wide = |extent: u32, fragment: u32, warps: u32| extent.next_multiple_of(fragment * warps);
            let (right, transposed) = self.places.behind_transposes(dot.operands[1]);
            let needed = match right == value || self.places.yielded(right).contains(&value) {
                true if transposed => [wide(rows, n, work.columns), columns.next_multiple_of(k)],
                true => [rows.next_multiple_of(k), wide(columns, n, work.columns)],
                false => [wide(rows, m, work.rows), columns.next_multiple_of(k)],
            };
            extents = [extents[0].max(needed[0]), extents[1].max(needed[1])];
        }
        let elem = self.places.elem(value);
        let name = match self.places.loaded(value) {
            Some(inst) => self.tensor_name(inst),
            None => "tile".to_string(),
        };
        let name = format!("{name}{}", value.0);
        let row = extents[1] * elem.bytes() as u32;
        // Short rows of what goes with codes lie together.
        let buffer = match self.places.goes_with_codes(value) && row < 16 {
            true => self.buffer_of(name, elem, extents, slots, row.next_multiple_of(4)),
            false => self.buffer(name, elem, extents, slots),
        };
        Slot { buffer, at: None, ahead: 0 }
    }

    fn tensor_name(&self, load: &Inst) -> String {
        let mut view = load.operands[0];
        while let Some(inst) = self.places.inst(view) {
            view = inst.operands[0];
        }
        let param = self.places.kernel.params.iter().find(|p| p.value == view);
        param.map_or("tile".to_string(), |p| format!("{}_", p.name))
    }

    /// Writes registers to shared memory; what products read beyond the tile is zero.
    fn put(&mut self, to: &Slot, from: FragmentId) {
        let padded = self.program.buffers[to.buffer.index()].extents != self.program.fragments[from.index()].extents;
        if padded {
            self.steps.push(Step::Clear(to.clone()));
        }
        self.steps.push(Step::Put { to: to.clone(), from });
    }

    /// For each result of a branch that lives in shared memory, the place where both ways leave it.
    pub(super) fn shared_results(&mut self, inst: &'k Inst, ways: [RegionId; 2]) -> Lowered<Vec<Option<Slot>>> {
        let mut places = Vec::new();
        for (n, &result) in inst.results.iter().enumerate() {
            if !matches!(self.places.home(result), Home::Shared) {
                places.push(None);
                continue;
            }
            let yielded = ways.map(|way| self.places.kernel.regions[way.index()].yields[n]);
            // One way often leaves a tile as it was: the other changes it where it lies, if nothing else will look there.
            let here = self.places.kernel.values[result.index()].region;
            let elsewhere = |value: ValueId| {
                let others =
                    ways.iter().flat_map(|way| self.places.kernel.regions[way.index()].yields.iter().enumerate());
                others.into_iter().any(|(at, other)| at != n && *other == value)
            };
            let free = |value: &&ValueId| {
                let own = self.places.kernel.values[value.index()].region == here;
                own && self.places.named_only_in(**value, ways) && !elsewhere(**value)
            };
            let there = yielded.iter().filter(free).find_map(|value| self.slots.get(value).cloned());
            let slot = match there {
                Some(slot) => slot,
                None => self.operand_slot(result, 1),
            };
            self.slots.insert(result, slot.clone());
            places.push(Some(slot));
        }
        Ok(places)
    }

    /// Leaves a value in shared memory where the result of a branch is expected.
    pub(super) fn put_in_place(&mut self, value: ValueId, slot: &Slot) -> Lowered<()> {
        if self.slots.get(&value) == Some(slot) {
            return Ok(());
        }
        let layout = self.computed_layout(value);
        let from = self.in_some_layout(value, &layout)?;
        self.flush();
        self.put(slot, from);
        Ok(())
    }
}

impl crate::gpu::place::Places<'_> {
    /// Whether the one use of a product adds it to something else, in the same region.
    fn is_added(&self, product: ValueId) -> bool {
        let (1, Some((region, at))) = (self.uses(product), self.user(product)) else { return false };
        let defined = self.kernel.values[product.index()].region;
        let user = &self.kernel.regions[region.index()].insts[at];
        let same = |value: &ValueId| {
            [0, self.shape(product).rank()].contains(&self.shape(*value).rank())
                && (self.shape(*value).rank() == 0 || self.matrix(*value) == self.matrix(product))
        };
        let adds = matches!(user.op, Op::Elementwise(Elementwise::Add)) && user.operands.iter().all(same);
        region == defined && adds
    }

    /// Where a value is a tile times one factor a row and only has a product added to it: the tile and the factors.
    pub fn rescaled(&self, value: ValueId) -> Option<[ValueId; 2]> {
        let inst = self.inst(value)?;
        let (1, Some((region, at))) = (self.uses(value), self.user(value)) else { return None };
        let user = &self.kernel.regions[region.index()].insts[at];
        let adds = matches!(user.op, Op::Elementwise(Elementwise::Add))
            && user
                .operands
                .iter()
                .any(|&o| self.inst(o).is_some_and(|i| matches!(i.op, Op::Matmul(Matmul::Dot))) && self.is_added(o));
        let here = self.kernel.values[value.index()].region == region;
        let [tile, by] = inst.operands[..] else { return None };
        let [rows, columns] = self.matrix(value);
        let fits = self.matrix(tile) == [rows, columns] && self.matrix(by) == [rows, 1] && columns > 1;
        let computed = [tile, by].iter().all(|&v| matches!(self.home(v), Home::Registers(_)));
        let multiplies = matches!(inst.op, Op::Elementwise(Elementwise::Mul));
        (multiplies && adds && here && fits && computed).then_some([tile, by])
    }

    /// Whether a value, and what it is the transpose of, is named once.
    fn named_once(&self, mut value: ValueId) -> bool {
        while self.uses(value) == 1 {
            match self.inst(value) {
                Some(Inst { op: Op::ShapeOp(ShapeOp::Transpose), operands, .. }) => value = operands[0],
                Some(_) | None => return true,
            }
        }
        false
    }

    /// The products that a value is an operand of, through transposes on the right.
    fn products_of(&self, value: ValueId) -> impl Iterator<Item = &Inst> {
        let insts = self.kernel.regions.iter().flat_map(|r| &r.insts);
        insts.filter(move |i| {
            let takes = |operand: ValueId| operand == value || self.yielded(operand).contains(&value);
            matches!(i.op, Op::Matmul(Matmul::Dot))
                && (takes(i.operands[0]) || takes(self.behind_transposes(i.operands[1]).0))
        })
    }

    /// Whether products take a value from the left.
    fn is_left_operand(&self, value: ValueId) -> bool {
        self.products_of(value).any(|dot| dot.operands[0] == value)
    }

    /// The f32 tile that a value is the cast of, to the type that a unit takes.
    fn rounded_from(&self, value: ValueId, elem: Elem) -> Option<ValueId> {
        let inst = self.inst(value)?;
        let from = *inst.operands.first()?;
        let rounds = matches!(inst.op, Op::Elementwise(Elementwise::Cast { to }) if to == elem);
        (rounds && self.elem(from) == Elem::F32 && matches!(self.home(from), Home::Registers(_))).then_some(from)
    }

    /// Whether products take what an instruction would make as it was before: a transpose on the right, as it lies; a cast on
    /// the left, as it is packed.
    pub fn is_absorbed(&self, inst: &Inst) -> bool {
        let [result] = inst.results[..] else { return false };
        if self.is_decoded(result) {
            return true;
        }
        let side = match &inst.op {
            Op::ShapeOp(ShapeOp::Transpose) => 1,
            Op::Elementwise(Elementwise::Cast { to }) if matches!(self.home(result), Home::Registers(_)) => {
                if self.rounded_from(result, *to).is_none() || !matches!(to, Elem::F16 | Elem::Bf16) {
                    return false;
                }
                0
            }
            Op::ShapeOp(_) | Op::Elementwise(_) | Op::Reduce(_) | Op::Matmul(_) | Op::Memory(_) | Op::Control(_) => {
                return false;
            }
        };
        let insts = self.kernel.regions.iter().flat_map(|r| &r.insts);
        let taken = insts.filter(|i| matches!(i.op, Op::Matmul(Matmul::Dot)) && i.operands[side] == result);
        let by_unit = |i: &Inst| side == 1 || self.unit(i).1 == self.elem(result);
        taken.filter(|i| by_unit(i)).count() as u32 == self.uses(result)
    }
}
