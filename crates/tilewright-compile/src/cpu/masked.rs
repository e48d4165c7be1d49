//! The scores of a softmax in a fused group: `select(attended, x * scale + bias * factor, otherwise)`, which runs as one
//! micro-op, with the largest of each row and what is attended by any row.
//!
//! Found by structure alone. `attended` is a conjunction of bounds on a number that each column has, of `bias != number` and
//! of at most one tile of cells; what is between is read by nothing else. The scale and the bias may be missing.

use super::lower::Lowering;
use super::program::{Any, Bias, Bounds, Extent, Masked, Operand, Place, Relation};
use super::units::folds_rows;
use super::vector::Fusion;
use tilewright_ir::op::{Elementwise, Reduce};
use tilewright_ir::{Elem, Inst, Op, ValueId};

/// Instructions that run as one, by what they read and make.
#[derive(Clone)]
pub(super) struct MaskedOf {
    pub x: ValueId,
    pub scale: Option<ValueId>,
    pub bias: Option<BiasOf>,
    /// A number a column, and its relations to numbers a row or to one.
    pub bounds: Option<(ValueId, Vec<(Relation, ValueId)>)>,
    pub cells: Option<ValueId>,
    pub otherwise: ValueId,
    /// The scores.
    pub result: ValueId,
    pub max: Option<ValueId>,
    pub any: Option<AnyOf>,
}

#[derive(Clone, Copy)]
pub(super) struct BiasOf {
    pub cells: ValueId,
    pub factor: ValueId,
    pub blocks: Option<ValueId>,
}

#[derive(Clone, Copy)]
pub(super) struct AnyOf {
    pub result: ValueId,
    /// A relation of the rows that count.
    pub of: Option<(ValueId, Relation, ValueId)>,
}

impl MaskedOf {
    pub fn operands(&self) -> Vec<ValueId> {
        let mut all = vec![self.x, self.otherwise];
        all.extend(self.scale);
        if let Some(BiasOf { cells, factor, blocks }) = self.bias {
            all.extend([cells, factor].into_iter().chain(blocks));
        }
        if let Some((of, relations)) = &self.bounds {
            all.push(*of);
            all.extend(relations.iter().map(|(_, bound)| *bound));
        }
        all.extend(self.cells);
        all.extend(self.any.and_then(|any| any.of).into_iter().flat_map(|(a, _, b)| [a, b]));
        all
    }

    /// The micro-op, with results in these places and operands there.
    pub fn at(&self, result: &dyn Fn(ValueId) -> Place, operand: &dyn Fn(ValueId) -> Operand) -> Masked {
        let place = |value: ValueId| operand(value).place;
        let bias = self.bias.map(|BiasOf { cells, factor, blocks }| Bias {
            cells: place(cells),
            factor: place(factor),
            blocks: blocks.map(place),
        });
        let bounds = self.bounds.as_ref().map(|(of, relations)| Bounds {
            of: place(*of),
            relations: relations.iter().map(|&(relation, bound)| (relation, operand(bound))).collect(),
        });
        let any = self.any.map(|any| Any {
            dst: result(any.result),
            of: any.of.map(|(a, relation, b)| (operand(a), relation, operand(b))),
        });
        Masked {
            x: place(self.x),
            scale: self.scale.map(place),
            bias,
            bounds,
            cells: self.cells.map(place),
            otherwise: place(self.otherwise),
            max: self.max.map(result),
            any,
        }
    }

    pub fn results(&self) -> Vec<ValueId> {
        [self.result].into_iter().chain(self.max).chain(self.any.map(|any| any.result)).collect()
    }
}

/// A group that is searched.
struct Search<'s, 'k, 'f> {
    lowering: &'s Lowering<'k>,
    fusion: &'s Fusion<'f>,
    /// Results of the instructions that the micro-op stands for.
    members: Vec<ValueId>,
}

/// What attends a pair.
#[derive(Clone, Default)]
struct Attended {
    column: Option<ValueId>,
    relations: Vec<(Relation, ValueId)>,
    cells: Option<ValueId>,
    /// A bias and the number that blocks.
    blocks: Option<(ValueId, ValueId)>,
}

/// The scores that a choice ends, and the results that belong to them.
pub(super) fn masked(lowering: &Lowering<'_>, fusion: &Fusion<'_>, choice: &Inst) -> Option<(MaskedOf, Vec<ValueId>)> {
    let result = *choice.results.first()?;
    let mut search = Search { lowering, fusion, members: vec![result] };
    let (Op::Elementwise(Elementwise::Select), &[attended, score, otherwise]) = (&choice.op, &choice.operands[..])
    else {
        return None;
    };
    let shaped =
        search.is(attended, Extent::Full) && search.is(score, Extent::Full) && search.is(otherwise, Extent::One);
    if !shaped || lowering.kernel.ty(result).elem() != Elem::F32 || attended == score {
        return None;
    }
    let any = search.any(choice, attended);
    let mut found = Attended::default();
    let root = fusion.maker(attended).filter(|_| lowering.uses(attended) == 1 + usize::from(any.is_some()))?;
    search.members.push(attended);
    search.conjunction(root, &mut found)?;
    let (x, scale, bias) = search.score(score);
    let bias = match (bias, found.blocks) {
        (Some((cells, factor)), None) => Some((cells, factor, None)),
        (Some((cells, factor)), Some((blocked, blocks))) if blocked == cells => Some((cells, factor, Some(blocks))),
        (None, None) => None,
        (_, Some(_)) => return None,
    };
    let bias = match bias {
        Some((cells, factor, blocks)) => {
            let times = 1 + usize::from(blocks.is_some());
            Some(BiasOf { cells: search.stored(cells, times), factor, blocks })
        }
        None => None,
    };
    let max = fusion.insts.iter().find(|i| {
        let of = lowering.kernel.ty(result).shape();
        matches!(&i.op, Op::Reduce(Reduce::Max { axis }) if of.is_some_and(|s| usize::from(*axis) + 1 == s.rank()))
            && i.operands == [result]
            && search.is(i.results[0], Extent::Row)
    });
    let max = max.map(|i| i.results[0]);
    search.members.extend(max);
    let bounds = found.column.map(|column| (column, found.relations));
    let of = MaskedOf { x, scale, bias, bounds, cells: found.cells, otherwise, result, max, any };
    // Every operand is there when the choice is: none is made of what the micro-op makes.
    let place = |value: ValueId| fusion.insts.iter().position(|i| i.results.contains(&lowering.root(value)));
    let at = place(result)?;
    of.operands().into_iter().all(|v| place(v).is_none_or(|made| made < at)).then_some((of, search.members))
}

impl<'f> Search<'_, '_, 'f> {
    fn is(&self, value: ValueId, extent: Extent) -> bool {
        self.fusion.extent(self.lowering, value) == extent
    }

    fn elem(&self, value: ValueId) -> Elem {
        self.lowering.kernel.ty(value).elem()
    }

    /// An instruction of the group that makes a value which is read so often.
    fn inner(&self, value: ValueId, times: usize) -> Option<&'f Inst> {
        self.fusion.maker(value).filter(|_| self.lowering.uses(value) == times)
    }

    /// A full value times one number.
    fn product(&self, value: ValueId) -> Option<(ValueId, ValueId)> {
        let inst = self.inner(value, 1)?;
        let (Op::Elementwise(Elementwise::Mul), &[a, b]) = (&inst.op, &inst.operands[..]) else { return None };
        [(a, b), (b, a)].into_iter().find(|&(a, b)| self.is(a, Extent::Full) && self.is(b, Extent::One))
    }

    /// What a score is made of: a number, its factor, a bias and its factor.
    fn score(&mut self, score: ValueId) -> (ValueId, Option<ValueId>, Option<(ValueId, ValueId)>) {
        let sum = self.inner(score, 1).and_then(|inst| {
            let (Op::Elementwise(Elementwise::Add), &[a, b]) = (&inst.op, &inst.operands[..]) else { return None };
            let full = self.is(a, Extent::Full) && self.is(b, Extent::Full);
            self.product(b).filter(|_| full && a != b).map(|bias| (a, b, bias))
        });
        let (x, bias) = match sum {
            Some((x, product, bias)) => {
                self.members.extend([score, product]);
                (x, Some(bias))
            }
            None => (score, None),
        };
        match self.product(x) {
            Some((of, scale)) => {
                self.members.push(x);
                (of, Some(scale), bias)
            }
            None => (x, None, bias),
        }
    }

    /// The cells of a bias as they lie: f16 and bf16 numbers are their own f32 numbers.
    fn stored(&mut self, cells: ValueId, times: usize) -> ValueId {
        let from = self.inner(cells, times).and_then(|inst| {
            let (Op::Elementwise(Elementwise::Cast { to: Elem::F32 }), &[from]) = (&inst.op, &inst.operands[..]) else {
                return None;
            };
            self.elem(from).is_float().then_some(from)
        });
        if from.is_some() {
            self.members.push(cells);
        }
        from.unwrap_or(cells)
    }

    /// Takes a conjunction apart.
    fn conjunction(&mut self, inst: &Inst, found: &mut Attended) -> Option<()> {
        if let (Op::Elementwise(Elementwise::And), &[a, b]) = (&inst.op, &inst.operands[..]) {
            if a == b {
                return None;
            }
            for part in [a, b] {
                let (before, members) = (found.clone(), self.members.len());
                match self.inner(part, 1) {
                    Some(inner) if self.conjunction(inner, found).is_some() => self.members.push(part),
                    _ if before.cells.is_none() && self.is(part, Extent::Full) => {
                        *found = Attended { cells: Some(part), ..before };
                        self.members.truncate(members);
                    }
                    _ => return None,
                }
            }
            return Some(());
        }
        if let (Op::Elementwise(Elementwise::Ne), &[a, b]) = (&inst.op, &inst.operands[..]) {
            let fits = self.elem(a) == Elem::F32 && self.is(a, Extent::Full) && self.is(b, Extent::One);
            return (fits && found.blocks.replace((a, b)).is_none()).then_some(());
        }
        let (a, relation, b) = self.relation(inst)?;
        let (column, relation, bound) = match (self.is(a, Extent::Col), self.is(b, Extent::Col)) {
            (true, false) => (a, relation, b),
            (false, true) => (b, relation.mirrored(), a),
            _ => return None,
        };
        if self.is(bound, Extent::Full) || found.column.is_some_and(|of| of != column) {
            return None;
        }
        found.column = Some(column);
        found.relations.push((relation, bound));
        Some(())
    }

    fn relation(&self, inst: &Inst) -> Option<(ValueId, Relation, ValueId)> {
        const RELATIONS: [(Op, Relation); 4] = [
            (Op::Elementwise(Elementwise::Lt), Relation::Less),
            (Op::Elementwise(Elementwise::Le), Relation::LessOrEqual),
            (Op::Elementwise(Elementwise::Gt), Relation::Greater),
            (Op::Elementwise(Elementwise::Ge), Relation::GreaterOrEqual),
        ];
        let (_, relation) = RELATIONS.iter().find(|(op, _)| *op == inst.op)?;
        let &[a, b] = &inst.operands[..] else { return None };
        (self.elem(a) == Elem::I32).then_some((a, *relation, b))
    }

    /// The fold of `attended` over all rows, where the choice reads it and nothing else does.
    fn any(&mut self, choice: &Inst, attended: ValueId) -> Option<AnyOf> {
        let reader = |of: ValueId| {
            let mut readers =
                self.fusion.insts.iter().filter(|i| i.operands.contains(&of) && i.results != choice.results);
            readers.next().filter(|_| readers.next().is_none()).copied()
        };
        if self.lowering.uses(attended) != 2 {
            return None;
        }
        let mut members = Vec::new();
        let mut next = reader(attended)?;
        let mut of = None;
        if let (Op::Elementwise(Elementwise::And), &[a, b]) = (&next.op, &next.operands[..]) {
            let rows = if a == attended { b } else { a };
            let maker = self.inner(rows, 1).filter(|_| self.is(rows, Extent::Row))?;
            of = Some(self.relation(maker)?);
            let row_or_one = |v: ValueId| self.is(v, Extent::Row) || self.is(v, Extent::One);
            of.filter(|&(a, _, b)| row_or_one(a) && row_or_one(b))?;
            members.extend([rows, next.results[0]]);
            self.inner(next.results[0], 1)?;
            next = reader(next.results[0])?;
        }
        let (Op::Elementwise(Elementwise::Cast { to: Elem::I32 }), &[cast]) = (&next.op, &next.results[..]) else {
            return None;
        };
        self.inner(cast, 1)?;
        let fold = reader(cast)?;
        let folds = matches!(&fold.op, Op::Reduce(op) if folds_rows(op, self.lowering.kernel.ty(cast)));
        let result = fold.results[0];
        members.extend([cast, result]);
        folds.then(|| self.members.extend(members))?;
        Some(AnyOf { result, of })
    }
}
