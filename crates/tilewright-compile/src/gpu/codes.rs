//! Right operands of products that are numbers of codes: such a product takes words, scales and biases from shared memory as a
//! tensor has them. Where the numbers are rounded, `T(T(code * scale) + bias)`, each warp decodes in registers what it multiplies. Where
//! they are exact, `scale * code + bias`, it multiplies the codes, which are exact in 16 bits, and scales and biases come to the sums.
//!
//! The codes of a word lie side by side in the depth of `q · kᵀ`, whose order is free as long as both operands keep to it, and
//! side by side in the columns of `p · v`: there a lane takes neighbouring columns of a group, and the sum lies so
//! ([`Unit::lane_columns`](super::unit::Unit::lane_columns)).

use super::place::{Places, matrix};
use super::program::Multiplied;
use super::source::Dialect;
use super::unit::Unit;
use std::collections::{HashMap, HashSet};
use tilewright_ir::op::{Elementwise, Matmul, ShapeOp};
use tilewright_ir::{Elem, Inst, Op, Shape, ValueId};

/// What the right operand of a product is decoded from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Coded {
    /// u32 `[rows, columns * bits / 32]`.
    pub words: ValueId,
    /// `[rows, columns / group]`.
    pub scales: ValueId,
    /// As the scales.
    pub biases: ValueId,
    /// Of a code: 4 or 8.
    pub bits: u8,
    /// Neighbouring columns that share a scale and a bias.
    pub group: u32,
    /// Of scales and biases, and what the unit takes.
    pub elem: Elem,
    /// As numbers or as codes.
    pub multiplied: Multiplied,
    /// Columns of a sum that lie in eight lanes; none where the rows of the codes are columns of the product.
    pub spread: Option<u32>,
}

/// The products of a kernel whose right operands are decoded on the way.
#[derive(Default)]
pub(super) struct Decoded {
    /// By result.
    pub products: HashMap<ValueId, Coded>,
    /// What is computed between words, scales and biases and a product, and so by the product.
    pub absorbed: HashSet<ValueId>,
    /// Shapes of sums whose columns lie as words have them: so many neighbours lie in eight lanes.
    pub spread: HashMap<[u32; 2], u32>,
}

/// A product that may decode its right operand.
struct Candidate {
    coded: Coded,
    /// What it would compute on its way.
    absorbed: Vec<ValueId>,
}

/// The values of a chain of instructions, each of which only the next one names.
struct Chain<'p, 'k> {
    places: &'p Places<'k>,
    values: Vec<ValueId>,
}

impl<'k> Chain<'_, 'k> {
    /// The instruction that makes a value of the chain.
    fn inst(&mut self, value: ValueId) -> Option<&'k Inst> {
        self.values.push(value);
        (self.places.uses(value) == 1).then(|| self.places.inst(value)).flatten()
    }

    /// A value behind reshapes.
    fn behind_reshapes(&mut self, mut value: ValueId) -> ValueId {
        while let Some(Inst { op: Op::ShapeOp(ShapeOp::Reshape { .. }), operands, .. }) = self.places.inst(value) {
            if self.places.uses(value) != 1 {
                break;
            }
            self.values.push(value);
            value = operands[0];
        }
        value
    }

    /// What a value is the cast of.
    fn cast(&mut self, value: ValueId, to: Elem) -> Option<ValueId> {
        let inst = self.inst(value)?;
        (inst.op == Op::Elementwise(Elementwise::Cast { to })).then(|| inst.operands[0])
    }

    /// The two operands of an op.
    fn pair(&mut self, value: ValueId, op: Elementwise) -> Option<[ValueId; 2]> {
        let inst = self.inst(value)?;
        (inst.op == Op::Elementwise(op)).then(|| [inst.operands[0], inst.operands[1]])
    }

    /// Factors or summands of groups, `[rows, groups]`: a load that is reshaped to a column and cast.
    fn of_groups(&mut self, value: ValueId, wanted: [u32; 2]) -> Option<ValueId> {
        let mut value = self.cast(value, Elem::F32)?;
        while self.places.matrix(value) != wanted {
            let inst = self.inst(value)?;
            let Op::ShapeOp(ShapeOp::Reshape { .. }) = inst.op else { return None };
            value = inst.operands[0];
        }
        (self.places.uses(value) == 1 && self.places.is_load(value)).then_some(value)
    }

    /// What numbers of codes are computed from, rounded or not.
    fn coded(&mut self, value: ValueId) -> Option<Coded> {
        let [rows, columns] = self.places.matrix(value);
        let elem = self.places.elem(value);
        let by_groups = self.behind_reshapes(value);
        let (multiplied, [codes, scales], biases) = if elem == Elem::F32 {
            let [product, biases] = self.pair(by_groups, Elementwise::Add)?;
            (Multiplied::Codes, self.pair(product, Elementwise::Mul)?, biases)
        } else {
            let sum = self.cast(by_groups, elem)?;
            let [rounded, biases] = self.pair(sum, Elementwise::Add)?;
            let rounded = self.cast(rounded, Elem::F32)?;
            let product = self.cast(rounded, elem)?;
            (Multiplied::Numbers, self.pair(product, Elementwise::Mul)?, biases)
        };
        let codes = self.cast(codes, Elem::F32)?;
        let codes = self.behind_reshapes(codes);
        let unpack = self.inst(codes)?;
        let Op::ShapeOp(ShapeOp::Unpack { bits: bits @ (4 | 8) }) = unpack.op else { return None };
        let words = unpack.operands[0];
        // Rows of groups: the columns of a group side by side.
        let group = self.places.matrix(by_groups)[1];
        if !columns.is_multiple_of(group) || self.places.matrix(words) != [rows, columns * u32::from(bits) / 32] {
            return None;
        }
        let scales = self.of_groups(scales, [rows, columns / group])?;
        let biases = self.of_groups(biases, [rows, columns / group])?;
        let loaded = self.places.uses(words) == 1 && self.places.is_load(words);
        let [stored, of_biases] = [scales, biases].map(|value| self.places.elem(value));
        let types = stored == of_biases && (multiplied == Multiplied::Codes || stored == elem);
        let coded = Coded { words, scales, biases, bits, group, elem: stored, multiplied, spread: None };
        (loaded && types).then_some(coded)
    }
}

impl Places<'_> {
    /// The products that decode their right operands.
    pub(super) fn decoded_products(&self) -> Decoded {
        let mut found = Decoded::default();
        if self.dialect != Dialect::Cuda {
            return found;
        }
        let dots: Vec<&Inst> =
            self.kernel.regions.iter().flat_map(|r| &r.insts).filter(|i| i.op == Op::Matmul(Matmul::Dot)).collect();
        let shape = |dot: &Inst| matrix(self.kernel.ty(dot.results[0]).shape().unwrap_or(Shape::SCALAR));
        let all: Vec<Option<Candidate>> = dots.iter().map(|dot| self.decoded(dot)).collect();
        for (dot, of) in dots.iter().zip(&all) {
            let Some(candidate) = of else { continue };
            if let Some(spread) = candidate.coded.spread {
                // Tiles of one shape lie one way.
                let mut alike = dots.iter().zip(&all).filter(|(other, _)| shape(other) == shape(dot));
                if !alike.all(|(_, of)| of.as_ref().is_some_and(|of| of.coded.spread == Some(spread))) {
                    continue;
                }
                found.spread.insert(shape(dot), spread);
            }
            found.products.insert(dot.results[0], candidate.coded);
            found.absorbed.extend(&candidate.absorbed);
        }
        found
    }

    /// What a product's right operand is decoded from, where the matrix unit can take it so.
    fn decoded(&self, dot: &Inst) -> Option<Candidate> {
        let (right, transposed) = self.behind_transposes(dot.operands[1]);
        let mut chain = Chain { places: self, values: Vec::new() };
        let mut coded = chain.coded(right)?;
        let Coded { group, elem, multiplied, .. } = coded;
        let bits = u32::from(coded.bits);
        let [rows, columns] = self.matrix(right);
        let [_, n, k] = Unit::Mma.shape();
        let warps = self.work.columns;
        coded.spread = if transposed {
            let words = 4 * 32 / bits;
            let whole = rows.is_multiple_of(n * warps) && group.is_multiple_of(words) && self.is_load(dot.operands[0]);
            whole.then_some(None)
        } else {
            let own = columns / warps;
            let spread = if own.is_multiple_of(group) { group } else { own };
            let whole = rows.is_multiple_of(k)
                && columns.is_multiple_of(n * warps)
                && group.is_multiple_of(spread)
                && [16, 32, 64, 128].contains(&(spread / n * bits));
            whole.then_some(Some(spread))
        }?;
        // Codes are exact in 8 bits of a fraction; of weights times a scale, f16 would lose those that are small.
        let types = match multiplied {
            Multiplied::Numbers => Unit::of(self.dialect, elem) == Unit::Mma,
            Multiplied::Codes => elem == Elem::Bf16,
        };
        let absorbed = chain.values;
        let fits = types && self.elem(dot.operands[0]) == elem && self.uses(dot.operands[1]) == 1;
        fits.then_some(Candidate { coded, absorbed })
    }

    /// Whether a value is exact numbers of codes.
    pub(super) fn is_exact_codes(&self, value: ValueId) -> bool {
        let mut chain = Chain { places: self, values: Vec::new() };
        chain.coded(value).is_some_and(|coded| coded.multiplied == Multiplied::Codes)
    }
}
