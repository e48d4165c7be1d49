//! Numbers that decide on copies ahead and come from memory, such as the classes of a mask's tiles: they are loaded some passes
//! before they are asked for, and move on from pass to pass.

use super::scalar::int;
use super::stage::{Ahead, Range};
use super::{Lowered, Lowering};
use crate::gpu::place::Home;
use crate::gpu::program::{Expr, LocalId, Step};
use tilewright_ir::op::{Elementwise, Memory};
use tilewright_ir::{Elem, Op, RegionId, ValueId};

/// Passes from the load of a number to the copies that it decides on: where passes do nothing, loads are all that takes time.
const DISTANCE: u32 = 4;

/// A number that is loaded ahead: the names of its values in this pass and in those after it.
#[derive(Clone)]
pub(super) struct Foreseen {
    value: ValueId,
    passes: Vec<LocalId>,
}

impl<'k> Lowering<'_, 'k> {
    /// Loads the numbers that decide on these copies for the first passes. `first` is where the counter starts.
    pub(super) fn foresee(
        &mut self,
        range: &Range,
        first: &Expr,
        ahead: &[Ahead],
        body: RegionId,
    ) -> Lowered<Vec<Foreseen>> {
        let mut loads = Vec::new();
        for &(guard, _) in ahead.iter().flat_map(|copy| &copy.guards) {
            self.loads_of(guard, body, &mut loads);
        }
        let last = self.places.work.stages.max(2) - 1 + DISTANCE;
        let mut foreseen = Vec::new();
        for value in loads {
            let mut passes = Vec::new();
            for pass in 0..last {
                let number = self.load_for(range, first, pass, value)?;
                let local = self.local(self.places.elem(value));
                self.steps.push(Step::Let(local, number));
                passes.push(local);
            }
            foreseen.push(Foreseen { value, passes });
        }
        Ok(foreseen)
    }

    /// Loads them for the pass that is the furthest ahead.
    pub(super) fn foresee_next(&mut self, range: &Range, counter: LocalId) -> Lowered<Vec<Expr>> {
        let mut next = Vec::new();
        for one in &range.foreseen {
            next.push(self.load_for(range, &Expr::Local(counter), one.passes.len() as u32, one.value)?);
        }
        Ok(next)
    }

    /// What they are called in the pass that comes so many after this one.
    pub(super) fn name_foreseen(&mut self, range: &Range, pass: u32) {
        for one in &range.foreseen {
            if let Some(&local) = one.passes.get(pass as usize) {
                self.names.set(one.value, Expr::Local(local));
            }
        }
    }

    /// The end of a pass: what was ahead comes nearer.
    pub(super) fn move_foreseen(&mut self, range: &Range, next: Vec<Expr>) {
        for (one, next) in range.foreseen.iter().zip(next) {
            for pair in one.passes.windows(2) {
                self.steps.push(Step::Set(pair[0], Expr::Local(pair[1])));
            }
            self.steps.extend(one.passes.last().map(|&last| Step::Set(last, next)));
        }
    }

    /// The number of the pass that comes so many after that of a counter.
    fn load_for(&mut self, range: &Range, counter: &Expr, passes: u32, value: ValueId) -> Lowered<Expr> {
        let names = self.names.clone();
        let distance = int(Elementwise::Mul, range.step.clone(), Expr::Int(i64::from(passes)));
        let counter = self.name(Elem::I32, int(Elementwise::Add, counter.clone(), distance));
        self.names.set(range.counter, counter);
        let number = self.number(value)?;
        self.names = names;
        Ok(number)
    }

    /// The loads in a loop's body that a number depends on.
    fn loads_of(&self, value: ValueId, body: RegionId, found: &mut Vec<ValueId>) {
        let uniform = matches!(self.places.home(value), Home::Uniform);
        let Some(inst) = self.places.inst(value) else { return };
        if !uniform || self.places.kernel.values[value.index()].region != body {
            return;
        }
        if let Op::Memory(Memory::Load { .. }) = inst.op {
            if !found.contains(&value) {
                found.push(value);
            }
            return;
        }
        inst.operands.iter().for_each(|&operand| self.loads_of(operand, body, found));
    }
}
