//! Which form each value is needed in.
//!
//! The right operand of a product is wanted as packed panels. A reshaped tile is its source under another name: both have
//! the same lanes, which go by the name of the first, the *root*. A tile from memory that only feeds products never becomes
//! plain lanes: it is packed straight from memory, transposed on the way if the product reads it through a transpose. A sum
//! with a product becomes a product that accumulates.

use std::collections::{HashMap, HashSet};
use tilewright_ir::op::{Elementwise, Matmul, Memory, ShapeOp};
use tilewright_ir::{Inst, Kernel, Op, RegionId, Shape, ValueId};

/// One form of one value: what a lowered step reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Form {
    /// Row-major lanes, of a root.
    Plain(ValueId),
    /// Panels of the `[k, n]` value.
    Packed(ValueId),
    /// Panels of the transpose of the `[n, k]` value.
    PackedTransposed(ValueId),
}

impl Form {
    pub fn value(self) -> ValueId {
        match self {
            Form::Plain(value) | Form::Packed(value) | Form::PackedTransposed(value) => value,
        }
    }
}

/// A product folded into the sum that uses it: `sum = addend + a b`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accumulation {
    pub addend: ValueId,
    pub a: ValueId,
    pub b: ValueId,
}

#[derive(Default)]
pub(super) struct Forms {
    /// Values whose lanes are read as they are, all of them roots.
    plain: HashSet<ValueId>,
    /// The packed forms of each root and of its other names.
    packs: HashMap<ValueId, Vec<Form>>,
    /// Another name of a tile to what it is made of.
    reshapes: HashMap<ValueId, ValueId>,
    /// Result of a matrix transpose to its source.
    transposes: HashMap<ValueId, ValueId>,
    /// By the result of the sum.
    accumulations: HashMap<ValueId, Accumulation>,
    /// Results of products that a sum took over.
    absorbed: HashSet<ValueId>,
}

impl Forms {
    pub fn new(kernel: &Kernel) -> Forms {
        let mut forms = Forms::default();
        let mut uses: HashMap<ValueId, usize> = HashMap::new();
        for region in &kernel.regions {
            for value in region.insts.iter().flat_map(|i| &i.operands).chain(&region.yields) {
                *uses.entry(*value).or_default() += 1;
            }
        }
        for region in 0..kernel.regions.len() {
            forms.find_accumulations(kernel, RegionId(region as u32), &uses);
        }
        let insts = || kernel.regions.iter().flat_map(|r| &r.insts);
        // Tiles from memory whose rows are runs of neighbours, and their last extents.
        let mut rows: HashMap<ValueId, Option<usize>> = HashMap::new();
        for inst in insts() {
            match (&inst.op, &inst.operands[..]) {
                // A scalar is spread as by a broadcast: no step makes constants and arguments, so none could pack them.
                (Op::ShapeOp(ShapeOp::Reshape { .. }), &[source])
                    if kernel.ty(source).shape().is_some_and(|s| s.rank() > 0) =>
                {
                    forms.reshapes.insert(inst.results[0], source);
                }
                (Op::ShapeOp(ShapeOp::Transpose), &[source])
                    if kernel.ty(source).shape().is_some_and(|s| s.rank() == 2) =>
                {
                    forms.transposes.insert(inst.results[0], source);
                }
                (Op::Memory(Memory::Load { shape }), _) if shape.rank() >= 2 => {
                    rows.insert(inst.results[0], last_extent(*shape));
                }
                (Op::Memory(Memory::Gather { axis, shape }), _) if usize::from(*axis) + 1 < shape.rank() => {
                    rows.insert(inst.results[0], last_extent(*shape));
                }
                (
                    Op::Elementwise(_)
                    | Op::Reduce(_)
                    | Op::ShapeOp(_)
                    | Op::Matmul(_)
                    | Op::Memory(_)
                    | Op::Control(_),
                    _,
                ) => {}
            }
        }
        for region in &kernel.regions {
            let yields: Vec<ValueId> = region.yields.iter().map(|&v| forms.root(v)).collect();
            forms.plain.extend(yields);
        }
        for inst in insts() {
            if let (Op::Matmul(Matmul::Dot), &[a, b]) = (&inst.op, &inst.operands[..]) {
                forms.plain.insert(forms.root(a));
                let form = forms.packed(b);
                let (root, shape) = (forms.root(form.value()), kernel.ty(form.value()).shape());
                let packs = forms.packs.entry(root).or_default();
                if !packs.contains(&form) {
                    packs.push(form);
                }
                if rows.get(&root) != Some(&shape.and_then(last_extent)) {
                    forms.plain.insert(root);
                }
            } else if !inst.results.iter().any(|r| forms.reshapes.contains_key(r) || forms.transposes.contains_key(r)) {
                // Those two read their sources only where they are read themselves.
                let roots: Vec<ValueId> = inst.operands.iter().map(|&v| forms.root(v)).collect();
                forms.plain.extend(roots);
            }
        }
        loop {
            let made = forms.transposes.iter().filter(|(result, _)| forms.plain.contains(result));
            let sources: Vec<ValueId> = made.map(|(_, &source)| forms.root(source)).collect();
            let before = forms.plain.len();
            forms.plain.extend(sources);
            if forms.plain.len() == before {
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

    /// The value whose lanes these are: what a tile was before it was reshaped.
    pub fn root(&self, mut value: ValueId) -> ValueId {
        while let Some(&source) = self.reshapes.get(&value) {
            value = source;
        }
        value
    }

    /// Whether a root is read as plain lanes.
    pub fn needs_plain(&self, root: ValueId) -> bool {
        self.plain.contains(&root)
    }

    /// The sum's product, if this value is a sum that accumulates.
    pub fn accumulation(&self, sum: ValueId) -> Option<Accumulation> {
        self.accumulations.get(&sum).copied()
    }

    /// Whether an instruction makes nothing itself: a product taken over by its sum, another name of a tile, or a transpose
    /// that is only packed.
    pub fn is_virtual(&self, inst: &Inst) -> bool {
        inst.results.iter().any(|r| {
            self.absorbed.contains(r)
                || self.reshapes.contains_key(r)
                || (self.transposes.contains_key(r) && !self.needs_plain(*r))
        })
    }

    /// The packed form that stands for the right operand `b` of a product.
    pub fn packed(&self, b: ValueId) -> Form {
        match self.transposes.get(&b) {
            Some(&source) => Form::PackedTransposed(source),
            None => Form::Packed(b),
        }
    }

    /// Packed forms that have to be made where `root` is made.
    pub fn packs(&self, root: ValueId) -> &[Form] {
        self.packs.get(&root).map_or(&[], Vec::as_slice)
    }

    /// The forms that an instruction reads.
    pub fn reads(&self, inst: &Inst) -> Vec<Form> {
        let plain = |value: ValueId| Form::Plain(self.root(value));
        if self.is_virtual(inst) {
            return Vec::new();
        }
        if let Some(sum) = inst.results.first().and_then(|&r| self.accumulation(r)) {
            return vec![plain(sum.addend), plain(sum.a), self.packed(sum.b)];
        }
        if let (Op::Matmul(Matmul::Dot), &[a, b]) = (&inst.op, &inst.operands[..]) {
            return vec![plain(a), self.packed(b)];
        }
        inst.operands.iter().map(|&v| plain(v)).collect()
    }
}

fn last_extent(shape: Shape) -> Option<usize> {
    shape.extent(shape.rank().wrapping_sub(1))
}
