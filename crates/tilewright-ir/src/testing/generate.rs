//! Choices to programs. Each statement adds a few instructions; what does not fit the values at hand is left out.

use super::Program;
use super::fact::Fact;
use crate::interp::{Arg, Tensor};
use crate::kernel::{Access, Kernel, RegionId, ValueId};
use crate::op::{Elementwise, Literal, Op};
use crate::site::SiteId;
use crate::types::{Elem, Shape, Type};

mod flow;
mod memory;
mod pure;

/// The most instructions of one program.
const LARGEST_PROGRAM: usize = 160;
const DEEPEST: usize = 3;
const FLOATS: [Elem; 3] = [Elem::F32, Elem::F16, Elem::Bf16];

/// A tile that statements may use.
#[derive(Clone, Copy, Debug)]
struct Entry {
    value: ValueId,
    ty: Type,
    fact: Fact,
}

impl Entry {
    fn elem(&self) -> Elem {
        self.ty.elem()
    }

    fn shape(&self) -> Shape {
        self.ty.shape().unwrap_or_default() // entries are tiles
    }

    /// An i32 scalar that is a sensible place in a tensor.
    fn is_index(&self) -> bool {
        self.ty == Type::scalar(Elem::I32) && self.fact.bound <= Fact::INDEX
    }
}

/// A view of an input.
#[derive(Clone, Copy, Debug)]
struct Window {
    value: ValueId,
    rank: u8,
    fact: Fact,
}

struct Generator<'c> {
    choices: std::slice::Iter<'c, u32>,
    kernel: Kernel,
    region: RegionId,
    depth: usize,
    count: usize,
    grid: [u32; 3],
    /// Which program this is.
    program: ValueId,
    /// What is visible here, outermost first.
    pool: Vec<Entry>,
    windows: Vec<Window>,
    args: Vec<Arg>,
    tolerance: Vec<f64>,
    outputs: usize,
}

pub(super) fn generate(choices: &[u32]) -> Program {
    let mut g = Generator {
        choices: choices.iter(),
        kernel: Kernel::new("random"),
        region: Kernel::BODY,
        depth: 0,
        count: 0,
        grid: [1; 3],
        program: ValueId(0),
        pool: Vec::new(),
        windows: Vec::new(),
        args: Vec::new(),
        tolerance: Vec::new(),
        outputs: 0,
    };
    g.grid = [g.pick(3), g.pick(2), g.pick(2)].map(|n| 1 + n as u32);
    let _ = g.program_number();
    let _ = g.scalar_param();
    while !g.choices.as_slice().is_empty() && g.count < LARGEST_PROGRAM {
        // `None`: the statement found nothing to work on.
        let _ = g.statement();
    }
    for last in 0..4 {
        if let Some(entry) = g.pool.len().checked_sub(1 + last).map(|i| g.pool[i]) {
            let _ = g.store_of(entry);
        }
    }
    let Generator { kernel, grid, args, tolerance, .. } = g;
    Program { kernel, grid, args, tolerance }
}

impl Generator<'_> {
    /// One of `count` choices; the first when the choices have run out.
    fn pick(&mut self, count: usize) -> usize {
        self.choices.next().map_or(0, |&c| c as usize % count.max(1))
    }

    fn one_of<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        let i = self.pick(among.len());
        among.get(i).copied()
    }

    /// One of the visible tiles for which this holds.
    fn find(&mut self, fits: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let fitting: Vec<Entry> = self.pool.iter().copied().filter(fits).collect();
        // Newer values are likelier, so that programs grow deep.
        let back = self.pick(fitting.len()).min(self.pick(fitting.len()));
        fitting.len().checked_sub(1 + back).map(|i| fitting[i])
    }

    /// Appends an op; `None` when its typing rule refuses the operands.
    fn push(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Option<Vec<ValueId>> {
        self.kernel.push(self.region, op.into(), operands, SiteId::UNKNOWN).ok()
    }

    /// Appends an op with one result; `None` when its typing rule refuses the operands.
    fn emit(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Option<ValueId> {
        let results = self.push(op, operands)?;
        self.count += 1;
        results.first().copied()
    }

    fn constant(&mut self, value: f64, elem: Elem) -> Option<ValueId> {
        self.emit(Elementwise::Constant { value: Literal(value), elem }, &[])
    }

    /// Makes a tile visible.
    fn keep(&mut self, value: ValueId, fact: Fact) -> Option<Entry> {
        let entry = Entry { value, ty: self.kernel.ty(value), fact };
        self.pool.push(entry);
        Some(entry)
    }

    fn shape(&mut self) -> Shape {
        let rank = self.pick(4);
        self.shape_of_rank(rank)
    }

    fn shape_of_rank(&mut self, rank: usize) -> Shape {
        let extents: Vec<usize> = (0..rank).map(|_| 1 + self.pick(5)).collect();
        Shape::new(&extents).unwrap_or_default()
    }

    fn statement(&mut self) -> Option<Entry> {
        match self.pick(36) {
            0..=2 => self.load(),
            3 => self.gather(),
            4 => self.literal(),
            5 => self.unary(),
            6..=10 => self.binary(),
            11 => self.compare(),
            12 => self.select(),
            13 | 14 => self.cast(),
            15 => self.bitcast(),
            16 => self.iota(),
            17 => self.broadcast(),
            18 => self.reshape(),
            19 => self.transpose(),
            20 => self.reduce(),
            21 | 22 => self.dot(),
            23..=26 => self.function(),
            27 => self.repeat(),
            28 => self.branch(),
            29 | 30 => self.store(),
            31 => self.length(),
            32 => self.whole(),
            33 => self.unpack(),
            _ => self.rows_dot(),
        }
    }

    /// The programs of the grid, counted.
    fn program_number(&mut self) -> Option<()> {
        use crate::op::Control::{ProgramCount, ProgramId};
        let mut number = self.emit(ProgramId { axis: 2 }, &[])?;
        for axis in [1, 0] {
            let count = self.emit(ProgramCount { axis }, &[])?;
            let id = self.emit(ProgramId { axis }, &[])?;
            let outer = self.emit(Elementwise::Mul, &[number, count])?;
            number = self.emit(Elementwise::Add, &[outer, id])?;
        }
        self.program = number;
        self.keep(number, Fact::exact(12.0, 1.0))?;
        Some(())
    }

    fn scalar_param(&mut self) -> Option<()> {
        let elem = self.one_of(&[Elem::F32, Elem::I32, Elem::U32, Elem::Bool])?;
        let value = match elem {
            Elem::Bool => self.pick(2) as f64,
            Elem::I32 => self.pick(7) as f64 - 3.0,
            Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::U32 | Elem::I8 | Elem::U8 => self.pick(9) as f64,
        };
        let fact = Fact::exact(8.0, 1.0);
        let param = self.kernel.add_param("scalar", Type::scalar(elem), Access::Read, SiteId::UNKNOWN);
        self.args.push(Arg::Scalar(value));
        self.tolerance.push(0.0);
        self.keep(param, fact)?;
        Some(())
    }

    /// Numbers of a type, for a tensor: floats are exact in every float type.
    fn numbers(&mut self, elem: Elem, count: usize) -> (Vec<f64>, Fact) {
        let small = self.pick(2) == 0;
        let mut state = self.pick(usize::MAX) as u64;
        let mut next = || {
            // Knuth's linear congruential generator; the high bits are the good ones.
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as i64
        };
        let numbers = (0..count).map(|_| match elem {
            Elem::F32 | Elem::F16 | Elem::Bf16 => (next() % 65 - 32) as f64 / 8.0,
            Elem::Bool => (next() % 2) as f64,
            Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 if small => elem.wrap(next() % 9 - 2).clamp(-8.0, 8.0),
            Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 => elem.wrap(next() * 4 + 3),
        });
        let fact = match elem {
            Elem::F32 | Elem::F16 | Elem::Bf16 => Fact::exact(4.0, 0.125),
            Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 if small => Fact::exact(8.0, 1.0),
            Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 => Fact::INT,
            Elem::Bool => Fact::exact(1.0, 1.0),
        };
        (numbers.collect(), fact)
    }

    /// Adds a parameter for a tensor.
    fn tensor_param(&mut self, name: String, access: Access, tensor: Tensor, tolerance: f64) -> ValueId {
        let ty = Type::View { elem: tensor.elem, rank: tensor.shape.len() as u8 };
        self.args.push(Arg::Tensor(tensor));
        self.tolerance.push(tolerance);
        self.kernel.add_param(name, ty, access, SiteId::UNKNOWN)
    }
}
