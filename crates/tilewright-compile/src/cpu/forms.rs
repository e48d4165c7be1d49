//! Which form each value is needed in.
//!
//! The right operand of a product is wanted as packed panels, and a load that only feeds products never becomes plain
//! lanes: it is packed straight from memory, transposed on the way if the product reads it through a transpose. A sum with
//! a product becomes a product that accumulates.

use std::collections::{HashMap, HashSet};
use tilewright_ir::op::{Elementwise, Matmul, ShapeOp};
use tilewright_ir::{Inst, Kernel, Op, RegionId, ValueId};

/// One form of one value: what a lowered step reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Form {
    /// Row-major lanes.
    Plain(ValueId),
    /// Panels of the `[k, n]` value.
    Packed(ValueId),
    /// Panels of the transpose of the `[n, k]` value.
    PackedTransposed(ValueId),
}

/// A product folded into the sum that uses it: `sum = addend + a b`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accumulation {
    pub addend: ValueId,
    pub a: ValueId,
    pub b: ValueId,
}

pub(super) struct Forms {
    needed: HashSet<Form>,
    /// Result of a matrix transpose to its source.
    transposes: HashMap<ValueId, ValueId>,
    /// By the result of the sum.
    accumulations: HashMap<ValueId, Accumulation>,
    /// Results of products that a sum took over.
    absorbed: HashSet<ValueId>,
}

impl Forms {
    pub fn new(kernel: &Kernel) -> Forms {
        let mut forms = Forms {
            needed: HashSet::new(),
            transposes: HashMap::new(),
            accumulations: HashMap::new(),
            absorbed: HashSet::new(),
        };
        let mut uses: HashMap<ValueId, usize> = HashMap::new();
        for region in &kernel.regions {
            for value in region.insts.iter().flat_map(|i| &i.operands).chain(&region.yields) {
                *uses.entry(*value).or_default() += 1;
            }
        }
        for region in 0..kernel.regions.len() {
            forms.find_accumulations(kernel, RegionId(region as u32), &uses);
        }
        let mut transposes = Vec::new();
        for region in &kernel.regions {
            forms.needed.extend(region.yields.iter().map(|&v| Form::Plain(v)));
            for inst in &region.insts {
                match (&inst.op, &inst.operands[..]) {
                    (Op::Matmul(Matmul::Dot), &[a, b]) => forms.needed.extend([Form::Plain(a), Form::Packed(b)]),
                    (Op::ShapeOp(ShapeOp::Transpose), &[source])
                        if kernel.ty(source).shape().is_some_and(|s| s.rank() == 2) =>
                    {
                        forms.transposes.insert(inst.results[0], source);
                        transposes.push((inst.results[0], source));
                    }
                    (
                        Op::Elementwise(_)
                        | Op::Reduce(_)
                        | Op::ShapeOp(_)
                        | Op::Matmul(_)
                        | Op::Memory(_)
                        | Op::Control(_),
                        operands,
                    ) => forms.needed.extend(operands.iter().map(|&v| Form::Plain(v))),
                }
            }
        }
        // A transpose of a transpose is made plain, so one level is enough.
        for &(result, source) in &transposes {
            if forms.needed.contains(&Form::Packed(result)) {
                forms.needed.insert(Form::PackedTransposed(source));
                if forms.transposes.contains_key(&source) {
                    forms.needed.insert(Form::Plain(source));
                }
            }
        }
        loop {
            let before = forms.needed.len();
            for &(result, source) in &transposes {
                if forms.needed.contains(&Form::Plain(result)) {
                    forms.needed.insert(Form::Plain(source));
                }
            }
            if forms.needed.len() == before {
                return forms;
            }
        }
    }

    fn find_accumulations(&mut self, kernel: &Kernel, region: RegionId, uses: &HashMap<ValueId, usize>) {
        let mut dots: HashMap<ValueId, (ValueId, ValueId)> = HashMap::new();
        for inst in kernel.insts(region) {
            if let (Op::Matmul(Matmul::Dot), &[a, b]) = (&inst.op, &inst.operands[..]) {
                dots.insert(inst.results[0], (a, b));
            }
            if let (Op::Elementwise(Elementwise::Add), &[x, y]) = (&inst.op, &inst.operands[..])
                && x != y
                && kernel.ty(x) == kernel.ty(y)
            {
                let product = [(x, y), (y, x)].into_iter().find_map(|(addend, dot)| {
                    let (a, b) = *dots.get(&dot).filter(|_| uses.get(&dot) == Some(&1))?;
                    Some((dot, Accumulation { addend, a, b }))
                });
                if let Some((dot, accumulation)) = product {
                    self.absorbed.insert(dot);
                    self.accumulations.insert(inst.results[0], accumulation);
                }
            }
        }
    }

    pub fn needs(&self, form: Form) -> bool {
        self.needed.contains(&form)
    }

    /// The sum's product, if this value is a sum that accumulates.
    pub fn accumulation(&self, sum: ValueId) -> Option<Accumulation> {
        self.accumulations.get(&sum).copied()
    }

    /// Whether an instruction makes nothing itself: a product taken over by its sum, or a transpose that is only packed.
    pub fn is_virtual(&self, inst: &Inst) -> bool {
        inst.results
            .iter()
            .any(|r| self.absorbed.contains(r) || (self.transposes.contains_key(r) && !self.needs(Form::Plain(*r))))
    }

    /// The packed form that stands for the right operand `b` of a product.
    pub fn packed(&self, b: ValueId) -> Form {
        match self.transposes.get(&b) {
            Some(&source) => Form::PackedTransposed(source),
            None => Form::Packed(b),
        }
    }

    /// Packed forms that have to be made where `value` is made.
    pub fn packs(&self, value: ValueId) -> impl Iterator<Item = Form> {
        let own = Form::Packed(value);
        let through = Form::PackedTransposed(value);
        let own = (self.needs(own) && !self.transposes.contains_key(&value)).then_some(own);
        [own, self.needs(through).then_some(through)].into_iter().flatten()
    }

    /// The forms that an instruction reads.
    pub fn reads(&self, inst: &Inst) -> Vec<Form> {
        if self.is_virtual(inst) {
            return Vec::new();
        }
        if let Some(sum) = inst.results.first().and_then(|&r| self.accumulation(r)) {
            return vec![Form::Plain(sum.addend), Form::Plain(sum.a), self.packed(sum.b)];
        }
        if let (Op::Matmul(Matmul::Dot), &[a, b]) = (&inst.op, &inst.operands[..]) {
            return vec![Form::Plain(a), self.packed(b)];
        }
        inst.operands.iter().map(|&v| Form::Plain(v)).collect()
    }
}
