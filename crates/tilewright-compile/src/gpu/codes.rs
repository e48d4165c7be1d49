//! Right operands of products that are numbers of codes, `T(T(code * scale) + bias)`: such a product takes words, scales and
//! biases from shared memory as a tensor has them, and each warp decodes in registers what it multiplies.
//!
//! The codes of a word lie side by side in the depth of `q · kᵀ`, whose order is free as long as both operands keep to it, and
//! side by side in the columns of `p · v`: there a lane takes neighbouring columns, and the sum lies so
//! ([`Unit::lane_columns`](super::unit::Unit::lane_columns)).

use super::place::{Places, matrix};
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
}

/// The products of a kernel whose right operands are decoded on the way.
#[derive(Default)]
pub(super) struct Decoded {
    /// By result.
    pub products: HashMap<ValueId, Coded>,
    /// What is computed between words, scales and biases and a product, and so by the product.
    pub absorbed: HashSet<ValueId>,
    /// Shapes of sums whose columns lie as words have them.
    pub spread: HashSet<[u32; 2]>,
}

/// A product that may decode its right operand.
struct Candidate {
    coded: Coded,
    /// What it would compute on its way.
    absorbed: Vec<ValueId>,
    /// Whether the rows of the codes are columns of the product.
    transposed: bool,
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

    /// What the numbers `T(T(code * scale) + bias)` are computed from.
    fn coded(&mut self, value: ValueId, elem: Elem) -> Option<Coded> {
        let [rows, columns] = self.places.matrix(value);
        let by_groups = self.behind_reshapes(value);
        let sum = self.cast(by_groups, elem)?;
        let [product, biases] = self.pair(sum, Elementwise::Add)?;
        let product = self.cast(product, Elem::F32)?;
        let product = self.cast(product, elem)?;
        let [codes, scales] = self.pair(product, Elementwise::Mul)?;
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
        let types = [scales, biases].iter().all(|&v| self.places.elem(v) == elem);
        (loaded && types).then_some(Coded { words, scales, biases, bits, group })
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
            // Tiles of one shape lie one way.
            let spreads = |of: &Option<Candidate>| of.as_ref().is_some_and(|of| !of.transposed);
            let mut alike = dots.iter().zip(&all).filter(|(other, _)| shape(other) == shape(dot));
            if !candidate.transposed && !alike.all(|(_, of)| spreads(of)) {
                continue;
            }
            found.products.insert(dot.results[0], candidate.coded);
            found.absorbed.extend(&candidate.absorbed);
            if !candidate.transposed {
                found.spread.insert(shape(dot));
            }
        }
        found
    }

    /// What a product's right operand is decoded from, where the matrix unit can take it so.
    fn decoded(&self, dot: &Inst) -> Option<Candidate> {
        let (unit, elem) = self.unit(dot);
        let (right, transposed) = self.behind_transposes(dot.operands[1]);
        let mut chain = Chain { places: self, values: Vec::new() };
        let coded = chain.coded(right, elem)?;
        let [rows, columns] = self.matrix(right);
        let [_, n, k] = unit.shape();
        let warps = self.work.columns;
        let bits = u32::from(coded.bits);
        let whole = if transposed {
            let [words, group] = [4 * 32 / bits, coded.group];
            rows.is_multiple_of(n * warps) && group.is_multiple_of(words) && self.is_load(dot.operands[0])
        } else {
            let lane = columns / (n * warps);
            rows.is_multiple_of(k)
                && columns.is_multiple_of(n * warps)
                && coded.group.is_multiple_of(lane)
                && [16, 32, 64, 128].contains(&(lane * bits))
        };
        let absorbed = chain.values;
        (unit == Unit::Mma && whole && self.uses(dot.operands[1]) == 1).then_some(Candidate {
            coded,
            absorbed,
            transposed,
        })
    }
}
