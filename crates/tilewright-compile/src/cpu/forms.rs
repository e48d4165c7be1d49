//! Which form each value is needed in.
//!
//! The right operand of a product is wanted as packed panels. A reshaped tile is its source under another name: both have
//! the same lanes, which go by the name of the first, the *root*. A tile from memory that only feeds products never becomes
//! plain lanes: it is packed straight from memory, transposed on the way if the product reads it through a transpose. A sum
//! with a product becomes a product that accumulates. A matrix from memory that only elementwise ops read is loaded in their
//! loop, and so is each plane that a broadcast makes of it.

use super::program::{MAX_STREAMED, Target};
use super::rows::{CodesOf, Makers};
use std::collections::{HashMap, HashSet};
use tilewright_ir::op::{Elementwise, Matmul, Memory, ShapeOp};
use tilewright_ir::{Elem, Inst, Kernel, Op, RegionId, Shape, ValueId};

/// One form of one value: what a lowered step reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Form {
    /// Row-major lanes, of a root.
    Plain(ValueId),
    /// Row-major lanes of the left operand of a product, two neighbours each.
    Pairs(ValueId),
    /// Panels of the `[k, n]` value, or of the transpose of the `[n, k]` value.
    Packed { value: ValueId, transposed: bool, pairs: bool },
}

impl Form {
    pub fn value(self) -> ValueId {
        match self {
            Form::Plain(value) | Form::Pairs(value) | Form::Packed { value, .. } => value,
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
    /// Results that no step makes: of products that a sum took over, and of what is read where it lies.
    absorbed: HashSet<ValueId>,
    /// Numbers that stand as codes, by their root.
    codes: HashMap<ValueId, CodesOf>,
    /// Right operands that products read row by row where they lie.
    streamed: HashMap<ValueId, Streamed>,
    /// The operands of products of pairs.
    paired: HashSet<(ValueId, ValueId)>,
    /// Right operands of products that are packed from memory, but for some rows.
    kept: HashMap<ValueId, Kept>,
    /// Tiles that are loaded in the loops of those that read them, and what loads them.
    for_loops: HashMap<ValueId, Inst>,
}

/// Rows of a tile from memory where a mask says so, and zero where not.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// A load or gather.
    pub source: Inst,
    /// `[rows, 1]`.
    pub keep: ValueId,
}

/// A right operand that is read row by row where it lies.
#[derive(Clone, Debug)]
pub(super) struct Streamed {
    pub rows: RowsOf,
    /// Whether its rows are the columns of the operand.
    pub transposed: bool,
}

/// What makes the rows of a matrix.
#[derive(Clone, Debug)]
pub(super) enum RowsOf {
    /// A load or gather.
    Stored(Inst),
    /// Three of them.
    Codes(CodesOf),
}

impl RowsOf {
    /// The loads and gathers.
    fn parts(&self) -> &[Inst] {
        match self {
            RowsOf::Stored(inst) => std::slice::from_ref(inst),
            RowsOf::Codes(codes) => &codes.parts,
        }
    }
}

impl Forms {
    pub fn new(kernel: &Kernel, target: Target) -> Forms {
        let mut forms = Forms::default();
        let uses = uses(kernel);
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
        let makers: Vec<Makers<'_>> =
            (0..kernel.regions.len()).map(|region| Makers::new(kernel, &uses, RegionId(region as u32))).collect();
        for (region, inst) in kernel.regions.iter().enumerate().flat_map(|(at, r)| r.insts.iter().map(move |i| (at, i)))
        {
            if let (Op::Matmul(Matmul::Dot), &[_, b]) = (&inst.op, &inst.operands[..]) {
                let root = forms.root(forms.packed(b, false).value());
                let once = forms.names(b).iter().all(|&name| makers[region].single(name).is_some());
                if let Some(kept) = forms.find_kept(kernel, &makers[region], root).filter(|_| once) {
                    forms.absorbed.insert(kept.source.results[0]);
                    forms.kept.insert(root, kept);
                }
            }
        }
        let in_regions = kernel.regions.iter().enumerate().flat_map(|(at, r)| r.insts.iter().map(move |i| (at, i)));
        for (region, inst) in in_regions {
            if let (Op::Matmul(Matmul::Dot), &[a, b]) = (&inst.op, &inst.operands[..]) {
                let streamed = forms.stream(kernel, &makers[region], inst, target);
                let pairs = target.pairs && [a, b].iter().all(|&v| kernel.ty(v).elem() == Elem::Bf16);
                // Rows that are read where they lie are paired there, whole vectors of what is read alike at a time.
                let whole = streamed.is_none_or(|alike| alike.is_multiple_of(2 * target.lanes as usize));
                let pairs = pairs && whole;
                let from = if pairs { forms.pair(kernel, &makers[region], a, b) } else { forms.root(a) };
                forms.plain.insert(from);
                if streamed.is_some() {
                    continue;
                }
                let form = forms.packed(b, pairs);
                let (root, shape) = (forms.root(form.value()), kernel.ty(form.value()).shape());
                let packs = forms.packs.entry(root).or_default();
                if !packs.contains(&form) {
                    packs.push(form);
                }
                if !forms.kept.contains_key(&root) && rows.get(&root) != Some(&shape.and_then(last_extent)) {
                    forms.plain.insert(root);
                }
            } else if let Some(kept) = inst.results.first().and_then(|r| forms.kept.get(r)) {
                forms.plain.insert(forms.root(kept.keep));
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
                break;
            }
        }
        forms.find_for_loops(kernel);
        forms
    }

    /// Matrices from memory that nothing but elementwise ops of their region reads, as they are or once for each plane.
    fn find_for_loops(&mut self, kernel: &Kernel) {
        let is_matrix = |shape: Shape| {
            let columns = last_extent(shape).unwrap_or(1);
            shape.rank() >= 2 && columns > 1 && shape.count() > columns
        };
        for (at, region) in kernel.regions.iter().enumerate() {
            let mut found: HashMap<ValueId, Inst> = HashMap::new();
            for inst in &region.insts {
                let load = match (&inst.op, &inst.operands[..]) {
                    (Op::Memory(Memory::Load { shape }), _) => {
                        let plain = |r| self.packs(r).is_empty() && self.needs_plain(r);
                        (is_matrix(*shape) && plain(inst.results[0])).then(|| inst.clone())
                    }
                    (Op::ShapeOp(ShapeOp::Broadcast { shape }), &[from]) => {
                        // Rows are counted as they lie in memory, whatever the tile was reshaped to.
                        let alike = |v: ValueId| kernel.ty(v).shape().and_then(last_extent) == last_extent(*shape);
                        let of_planes = kernel.ty(from).shape().is_some_and(|from| repeats_planes(from, *shape));
                        let in_loop = of_planes && alike(self.root(from)) && self.packs(inst.results[0]).is_empty();
                        found.get(&self.root(from)).filter(|_| in_loop).cloned()
                    }
                    (
                        Op::Elementwise(_)
                        | Op::Reduce(_)
                        | Op::ShapeOp(_)
                        | Op::Matmul(_)
                        | Op::Memory(_)
                        | Op::Control(_),
                        _,
                    ) => None,
                };
                found.extend(load.map(|load| (inst.results[0], load)));
            }
            let yields = kernel.regions.iter().flat_map(|r| &r.yields);
            let mut elsewhere: HashSet<ValueId> = yields.map(|&v| self.root(v)).collect();
            let mut in_loops = HashSet::new();
            for (other, inst) in
                kernel.regions.iter().enumerate().flat_map(|(at, r)| r.insts.iter().map(move |i| (at, i)))
            {
                let made = |r: &ValueId| self.reshapes.contains_key(r) || found.contains_key(r);
                if inst.results.iter().any(made) {
                    continue; // another name, or one of these
                }
                let accumulates = inst.results.iter().any(|&r| self.accumulation(r).is_some());
                let fused = other == at && matches!(inst.op, Op::Elementwise(_)) && !accumulates;
                if fused { &mut in_loops } else { &mut elsewhere }.extend(inst.operands.iter().map(|&v| self.root(v)));
            }
            // Where lanes are needed, all read those.
            let plain: HashSet<ValueId> =
                found.iter().filter(|(value, _)| elsewhere.contains(value)).map(|(_, load)| load.results[0]).collect();
            for (value, load) in found.into_iter().filter(|(_, load)| !plain.contains(&load.results[0])) {
                match in_loops.contains(&value) {
                    true => self.for_loops.extend([(value, load)]),
                    false => self.absorbed.extend([value]), // only planes are made of it
                }
            }
        }
    }

    /// The load that makes a value in the loop of those that read it.
    pub fn loaded(&self, value: ValueId) -> Option<&Inst> {
        self.for_loops.get(&value)
    }

    /// A value and what it is a transpose or another shape of, down to what was computed.
    fn names(&self, value: ValueId) -> Vec<ValueId> {
        let mut names = vec![value];
        let mut name = value;
        while let Some(&source) = self.transposes.get(&name).or_else(|| self.reshapes.get(&name)) {
            names.push(source);
            name = source;
        }
        names
    }

    /// The rows that a right operand of a product, which nothing else reads, keeps of a tile that nothing else reads either.
    fn find_kept(&self, kernel: &Kernel, makers: &Makers<'_>, root: ValueId) -> Option<Kept> {
        let choice = makers.single(root)?;
        let (Op::Elementwise(Elementwise::Select), &[keep, mut name, zero]) = (&choice.op, &choice.operands[..]) else {
            return None;
        };
        let shape = kernel.ty(root).shape()?;
        let (rows, width) = (shape.extent(0)?, shape.extent(1)?);
        let of_rows = kernel.ty(keep).shape().is_some_and(|s| s.extents().eq([rows, 1]));
        if shape.rank() != 2 || !of_rows || kernel.ty(name).shape() != Some(shape) || !makers.is_zero(zero) {
            return None;
        }
        let source = loop {
            let inst = makers.single(name)?;
            match self.reshapes.get(&name) {
                Some(&from) => name = from,
                None => break inst,
            }
        };
        let in_rows = match &source.op {
            Op::Memory(Memory::Load { shape }) => shape.rank() >= 2 && last_extent(*shape) == Some(width),
            Op::Memory(Memory::Gather { axis, shape }) => {
                usize::from(*axis) + 1 < shape.rank() && last_extent(*shape) == Some(width)
            }
            _ => false,
        };
        in_rows.then(|| Kept { source: source.clone(), keep })
    }

    /// Has the operands of a product stand in pairs, and says what the left one is made of: one that was rounded for the product
    /// alone is rounded there.
    fn pair(&mut self, kernel: &Kernel, makers: &Makers<'_>, a: ValueId, b: ValueId) -> ValueId {
        let rounded = makers.single(a).and_then(|maker| match (&maker.op, &maker.operands[..]) {
            (Op::Elementwise(Elementwise::Cast { to: Elem::Bf16 }), &[from]) if kernel.ty(from).elem() == Elem::F32 => {
                Some(from)
            }
            _ => None,
        });
        self.absorbed.extend(rounded.map(|_| a));
        let root = self.root(rounded.unwrap_or(a));
        self.paired.insert((a, b));
        let made = self.packs.entry(root).or_default();
        if !made.contains(&Form::Pairs(a)) {
            made.push(Form::Pairs(a));
        }
        root
    }

    /// Has the right operand of a product read where it lies, if it can be and packing it would cost more, and says how many
    /// neighbours in a row are read alike: a group of codes, or all; else finds its codes, if it stands as codes.
    fn stream(&mut self, kernel: &Kernel, makers: &Makers<'_>, dot: &Inst, target: Target) -> Option<usize> {
        let (a, b) = (dot.operands[0], dot.operands[1]);
        let (matrix, transposed) = match self.transposes.get(&b) {
            Some(&source) => (source, true),
            None => (b, false),
        };
        let root = self.root(matrix);
        let extents =
            |value: ValueId| kernel.ty(value).shape().map(|s| [s.extent(0).unwrap_or(1), s.extent(1).unwrap_or(1)]);
        let ([m, _], [rows, width]) = (extents(a)?, extents(matrix)?);
        let codes = makers.codes(root, width);
        if let Some(codes) = &codes {
            self.absorbed.extend(&codes.inner);
        }
        let stored = || {
            let inst = makers.single(root)?;
            let in_rows = match &inst.op {
                Op::Memory(Memory::Load { shape }) => shape.rank() >= 2 && last_extent(*shape) == Some(width),
                Op::Memory(Memory::Gather { axis, shape }) => {
                    usize::from(*axis) + 1 < shape.rank() && last_extent(*shape) == Some(width)
                }
                _ => false,
            };
            (in_rows && kernel.ty(root).elem().is_float()).then(|| RowsOf::Stored(inst.clone()))
        };
        let once = self.names(b).iter().all(|&name| makers.single(name).is_some());
        let fits = m <= MAX_STREAMED as usize && rows > 0 && width.is_multiple_of(target.lanes as usize) && width > 0;
        match codes.clone().map(RowsOf::Codes).or_else(stored).filter(|_| once && fits) {
            Some(rows) => {
                self.absorbed.insert(root);
                self.streamed.insert(b, Streamed { rows, transposed });
                Some(codes.map_or(width, |codes| codes.group as usize))
            }
            None => {
                self.codes.extend(codes.map(|codes| (root, codes)));
                None
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

    /// The codes that a root stands as.
    pub fn codes(&self, root: ValueId) -> Option<&CodesOf> {
        self.codes.get(&root)
    }

    /// The rows that a root keeps of what lies in memory.
    pub fn kept(&self, root: ValueId) -> Option<&Kept> {
        self.kept.get(&root)
    }

    /// How a product reads its right operand, where that is not packed.
    pub fn streamed(&self, b: ValueId) -> Option<&Streamed> {
        self.streamed.get(&b)
    }

    /// The numbers that loads and gathers are asked for with: origins and indices.
    fn asked<'f>(&'f self, parts: &'f [Inst]) -> impl Iterator<Item = Form> + 'f {
        parts.iter().flat_map(|part| &part.operands[1..]).map(|&v| Form::Plain(self.root(v)))
    }

    /// What a product reads of its operands.
    fn of_product(&self, a: ValueId, b: ValueId) -> Vec<Form> {
        let pairs = self.are_paired(a, b);
        let left = if pairs { Form::Pairs(a) } else { Form::Plain(self.root(a)) };
        match self.streamed.get(&b) {
            Some(streamed) => self.asked(streamed.rows.parts()).chain([left]).collect(),
            None => vec![left, self.packed(b, pairs)],
        }
    }

    /// Whether the operands of a product stand in pairs.
    pub fn are_paired(&self, a: ValueId, b: ValueId) -> bool {
        self.paired.contains(&(a, b))
    }

    /// The packed form that stands for the right operand `b` of a product.
    pub fn packed(&self, b: ValueId, pairs: bool) -> Form {
        match self.transposes.get(&b) {
            Some(&value) => Form::Packed { value, transposed: true, pairs },
            None => Form::Packed { value: b, transposed: false, pairs },
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
            return [plain(sum.addend)].into_iter().chain(self.of_product(sum.a, sum.b)).collect();
        }
        if let (Op::Matmul(Matmul::Dot), &[a, b]) = (&inst.op, &inst.operands[..]) {
            return self.of_product(a, b);
        }
        if let Some(codes) = inst.results.first().and_then(|r| self.codes.get(r)) {
            return self.asked(&codes.parts).collect();
        }
        if let Some(kept) = inst.results.first().and_then(|r| self.kept.get(r)) {
            return self.asked(std::slice::from_ref(&kept.source)).chain([plain(kept.keep)]).collect();
        }
        if let Some(load) = inst.results.first().and_then(|&r| self.loaded(r)) {
            return self.asked(std::slice::from_ref(load)).collect();
        }
        inst.operands.iter().map(|&v| plain(v)).collect()
    }
}

/// How often each value is read, yields included.
pub(super) fn uses(kernel: &Kernel) -> HashMap<ValueId, usize> {
    let mut uses = HashMap::new();
    for region in &kernel.regions {
        for value in region.insts.iter().flat_map(|i| &i.operands).chain(&region.yields) {
            *uses.entry(*value).or_default() += 1;
        }
    }
    uses
}

/// Whether a broadcast repeats one plane of rows and columns.
fn repeats_planes(from: Shape, to: Shape) -> bool {
    let planes = [from, to].map(|shape| if shape.rank() == 3 { shape.extent(0) } else { None });
    matches!(planes, [Some(1), Some(1..)]) && from.extents().skip(1).eq(to.extents().skip(1))
}

fn last_extent(shape: Shape) -> Option<usize> {
    shape.extent(shape.rank().wrapping_sub(1))
}
