//! Fused groups: which results leave the group, and whose buffers they may take over.

use super::{Lowering, Scope, Wish};
use crate::cpu::forms::Form;
use crate::cpu::program::{Extent, LaneIndex, Step};
use crate::cpu::vector::Fusion;
use crate::cpu::weights::{Piece, pieces};
use std::collections::HashMap;
use tilewright_ir::{Inst, ValueId};

impl Lowering<'_> {
    pub(super) fn group(
        &mut self,
        scope: &mut Scope,
        at: usize,
        members: &[usize],
        wishes: &HashMap<ValueId, Wish>,
        out: &mut Vec<Step>,
    ) {
        let all = self.kernel.insts(scope.region);
        let insts: Vec<&Inst> = members.iter().map(|&m| &all[m]).collect();
        let mut fusion = Fusion::of(self, &insts);
        let weights = pieces(self, &fusion);
        let mut outputs = HashMap::new();
        for (position, inst) in insts.iter().enumerate() {
            let result = inst.results[0]; // every fusable op has one result
            let form = Form::Plain(result);
            let packed = !self.forms.packs(result).is_empty();
            let inside = insts.iter().flat_map(|i| &i.operands).filter(|&&v| self.root(v) == result).count();
            let escapes = scope.last.get(&form).is_some_and(|l| l.unit != at || l.times > inside);
            if !escapes && let Some(form) = self.in_pairs(&weights, result, inside) {
                fusion.paired.insert(result, self.make(scope, form));
            } else if escapes || packed {
                let lanes = match self.in_place(scope, at, position, &fusion, result, wishes, &outputs) {
                    Some(lanes) => lanes,
                    None => self.make(scope, form),
                };
                self.lanes.insert(form, lanes);
                outputs.insert(result, lanes);
            }
        }
        let vector = fusion.emit(self, &outputs);
        let computed = insts.iter().filter(|inst| self.loaded(inst.results[0]).is_none()).count() as u32;
        if computed > 0 && (vector.rows > 1 || vector.cols > 1) {
            self.stats.fused += computed;
            self.stats.loops += 1;
        }
        out.push(Step::Vector(vector));
        for inst in &insts {
            if outputs.contains_key(&inst.results[0]) {
                self.packs(scope, inst.results[0], None, out);
            }
        }
    }

    /// The pairs that weights are made in at once: nothing but their own sum, and products, read them.
    fn in_pairs(&self, pieces: &[Piece<'_>], result: ValueId, inside: usize) -> Option<Form> {
        let &[form @ Form::Pairs(_)] = self.forms.packs(result) else { return None };
        let even = self.shape(result).extent(1).is_some_and(|columns| columns.is_multiple_of(2));
        let alone = pieces.iter().any(|piece| match piece {
            Piece::Weights(weights) => weights.result == result && inside == usize::from(weights.sum.is_some()),
            Piece::Inst(_) | Piece::Load { .. } | Piece::ScaledMax(_) | Piece::Masked(_) => false,
        });
        (even && alone).then_some(form)
    }

    /// The lanes of a root that ends in this group before or where `result` is made, and that is read by the same rows,
    /// whatever shapes it is read in.
    #[expect(clippy::too_many_arguments, reason = "the state of one lowering step")]
    fn in_place(
        &mut self,
        scope: &mut Scope,
        at: usize,
        position: usize,
        fusion: &Fusion<'_>,
        result: ValueId,
        wishes: &HashMap<ValueId, Wish>,
        outputs: &HashMap<ValueId, LaneIndex>,
    ) -> Option<LaneIndex> {
        let extent = fusion.extent(self, result);
        if !matches!(extent, Extent::Full | Extent::Row) {
            return None;
        }
        let fits = |this: &Self, value: ValueId| {
            let last = scope.last.get(&Form::Plain(value)).copied().unwrap_or_default();
            this.size(Form::Plain(value)) == this.size(Form::Plain(result))
                && (last.times == 0 || last.unit < at || (last.unit == at && last.position <= position))
                && operands(fusion.insts).all(|v| this.root(v) != value || fusion.extent(this, v) == extent)
        };
        if let Some(wish) = wishes.get(&result)
            && fits(self, wish.occupant)
            && !outputs.values().any(|&o| o == wish.place)
            && self.free_for(scope, wish, at)
        {
            scope.hand_over(Form::Plain(wish.occupant), Form::Plain(result));
            scope.owned.remove(&Form::Plain(result)); // the place belongs to the control flow around
            return Some(wish.place);
        }
        // Its own operands come first: what a loop carries stays in its place.
        let (before, own) = fusion.insts[..=position].split_at(position);
        let from = operands(own).chain(operands(before)).map(|v| self.root(v)).find(|&v| {
            let ends_here = scope.last.get(&Form::Plain(v)).is_some_and(|l| l.unit == at);
            scope.reusable.contains(&Form::Plain(v)) && ends_here && fits(self, v) && !outputs.contains_key(&v)
        })?;
        scope.hand_over(Form::Plain(from), Form::Plain(result));
        Some(self.plain(from))
    }

    /// Whether nothing but its occupant lives in a wished place. A value that took the place over may still be there.
    fn free_for(&self, scope: &Scope, wish: &Wish, at: usize) -> bool {
        self.lanes.iter().all(|(form, &lanes)| {
            lanes != wish.place
                || *form == Form::Plain(wish.occupant)
                || scope.last.get(form).is_none_or(|l| l.unit < at)
        })
    }
}

fn operands(insts: &[&Inst]) -> impl Iterator<Item = ValueId> {
    insts.iter().flat_map(|i| &i.operands).copied()
}
