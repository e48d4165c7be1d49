//! Loops and branches: where carried values live, and what is copied at the end of a region.

use super::{Lowering, Scope, Wish};
use crate::cpu::forms::Form;
use crate::cpu::program::Step;
use std::collections::{HashMap, HashSet};
use tilewright_ir::op::Control;
use tilewright_ir::{Inst, RegionId, ValueId};

impl Lowering<'_> {
    pub(super) fn control(&mut self, scope: &mut Scope, at: usize, inst: &Inst, op: &Control, out: &mut Vec<Step>) {
        match op {
            Control::ProgramId { axis } => {
                let dst = self.make(scope, Form::Plain(inst.results[0]));
                out.push(Step::ProgramId { axis: *axis, dst });
            }
            Control::ProgramCount { axis } => {
                let dst = self.make(scope, Form::Plain(inst.results[0]));
                out.push(Step::ProgramCount { axis: *axis, dst });
            }
            Control::For { body } => self.for_range(scope, at, inst, *body, out),
            Control::If { then, otherwise } => self.if_else(scope, at, inst, [*then, *otherwise], out),
        }
        for &result in &inst.results {
            self.packs(scope, result, None, out);
        }
    }

    fn for_range(&mut self, scope: &mut Scope, at: usize, inst: &Inst, body: RegionId, out: &mut Vec<Step>) {
        let kernel = self.kernel;
        let data = &kernel.regions[body.index()];
        let (range, inits) = inst.operands.split_at(3); // the op's signature
        let counter = self.arena.take(1);
        self.lanes.insert(Form::Plain(data.args[0]), counter);
        let mut wishes = HashMap::new();
        for (((&init, &arg), &result), &yielded) in
            inits.iter().zip(&data.args[1..]).zip(&inst.results).zip(&data.yields)
        {
            let (from, to) = (self.plain_form(init), Form::Plain(result));
            let ends = scope.last.get(&from).is_some_and(|l| l.unit == at && l.times == 1);
            let place = if ends && scope.reusable.contains(&from) {
                scope.hand_over(from, to);
                self.plain(init)
            } else {
                let src = self.plain(init);
                let dst = self.make(scope, to);
                out.push(Step::Copy { src, dst, lanes: self.size(to) as u32 });
                dst
            };
            self.lanes.insert(Form::Plain(arg), place);
            self.lanes.insert(to, place);
            wishes.insert(self.root(yielded), Wish { place, occupant: arg });
        }
        let mut steps = Vec::new();
        self.region(body, &inst.results, &wishes, &[], &mut steps);
        self.arena.give(counter, 1);
        let [first, last, step] = [range[0], range[1], range[2]].map(|v| self.plain(v));
        out.push(Step::For { first, last, step, counter, body: steps });
    }

    fn if_else(
        &mut self,
        scope: &mut Scope,
        at: usize,
        inst: &Inst,
        [then, otherwise]: [RegionId; 2],
        out: &mut Vec<Step>,
    ) {
        let kernel = self.kernel;
        let yields = [then, otherwise]
            .map(|r| kernel.regions[r.index()].yields.iter().map(|&v| self.root(v)).collect::<Vec<_>>());
        let mut read = Vec::new();
        self.reads(inst, &mut |form| {
            if let Form::Plain(value) = form
                && !read.contains(&value)
            {
                read.push(value);
            }
        });
        let mut lent = Vec::new();
        let mut wishes = [HashMap::new(), HashMap::new()];
        let mut taken: HashSet<ValueId> = HashSet::new();
        for (i, &result) in inst.results.iter().enumerate() {
            // A value that one branch leaves as it is, and that ends here: the other branch changes it in place.
            let kept = yields.iter().map(|y| y[i]).find(|&v| {
                let form = Form::Plain(v);
                kernel.values[v.index()].region == scope.region
                    && scope.reusable.contains(&form)
                    && scope.ends(form, at)
                    && !taken.contains(&v)
                    && yields.iter().all(|y| y.iter().enumerate().all(|(j, &other)| other != v || j == i))
            });
            let to = Form::Plain(result);
            // Or one that both branches change, such as the accumulator of a loop.
            let lends = || {
                read.iter().copied().find(|&v| {
                    let form = Form::Plain(v);
                    kernel.values[v.index()].region == scope.region
                        && scope.reusable.contains(&form)
                        && scope.ends(form, at)
                        && self.size(form) == self.size(to)
                        && self.size(form) > 1
                        && !taken.contains(&v)
                        && yields.iter().all(|y| !y.contains(&v))
                })
            };
            let value = match kept {
                Some(value) => value,
                None => {
                    let Some(value) = lends() else {
                        self.make(scope, to);
                        continue;
                    };
                    lent.push(Form::Plain(value));
                    value
                }
            };
            taken.insert(value);
            let place = self.plain(value);
            for (branch, wishes) in yields.iter().zip(&mut wishes) {
                wishes.insert(branch[i], Wish { place, occupant: value });
            }
            scope.hand_over(Form::Plain(value), to);
            self.lanes.insert(to, place);
        }
        let cond = self.plain(inst.operands[0]);
        let [then, otherwise] = [(then, &wishes[0]), (otherwise, &wishes[1])].map(|(region, wishes)| {
            let mut steps = Vec::new();
            self.region(region, &inst.results, wishes, &lent, &mut steps);
            steps
        });
        out.push(Step::If { cond, then, otherwise });
    }

    /// Copies what a region yields to where its results live, as if all at once.
    pub(super) fn hand_back(&mut self, region: RegionId, results: &[ValueId], out: &mut Vec<Step>) {
        let yields = &self.kernel.regions[region.index()].yields;
        let moves =
            yields.iter().zip(results).map(|(&y, &r)| (self.plain(y), self.plain(r), self.size(Form::Plain(r)) as u32));
        let moves: Vec<_> = moves.filter(|(src, dst, _)| src != dst).collect();
        let mut temporaries = Vec::new();
        let mut last = Vec::new();
        for &(src, dst, lanes) in &moves {
            let overwritten = moves.iter().any(|&(_, other, _)| other == src);
            if overwritten {
                let temporary = self.arena.take(lanes.into());
                temporaries.push((temporary, lanes));
                out.push(Step::Copy { src, dst: temporary, lanes });
                last.push(Step::Copy { src: temporary, dst, lanes });
            } else {
                last.push(Step::Copy { src, dst, lanes });
            }
        }
        out.extend(last);
        for (temporary, lanes) in temporaries {
            self.arena.give(temporary, lanes.into());
        }
    }
}
