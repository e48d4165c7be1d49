//! From tile IR to the code of one thread.
//!
//! - `scalar`: uniform numbers, views, and addresses of elements
//! - `tile`: elementwise groups, movement, reductions, conversions between layouts, stores
//! - `dot`: products and their operands in shared memory
//! - `stage`: loops, and copies that run ahead of them
//! - `foresee`: numbers from memory that decide on such copies

mod dot;
mod foresee;
mod scalar;
mod stage;
mod tile;

use super::layout::Layout;
use super::place::{Home, Places};
use super::program::{Buffer, BufferId, Expr, Fragment, FragmentId, Local, LocalId, Param, Program, Slot, Step};
use super::source::Access16;
use scalar::Names;
use stage::Refill;
use std::collections::{BTreeSet, HashMap};
use thiserror::Error;
use tile::OpenMap;
use tilewright_ir::op::{Control, Matmul, Memory};
use tilewright_ir::{Elem, Inst, Kernel, Op, RegionId, Type, ValueId};

/// A kernel that no GPU code is made of yet.
#[derive(Clone, PartialEq, Debug, Error)]
#[error("{what} cannot be compiled for a GPU yet{place}")]
pub struct Unsupported {
    /// What, by name.
    pub what: String,
    /// Where it was written.
    pub place: String,
}

type Lowered<T> = Result<T, Unsupported>;

/// The program of a kernel whose values have their homes. `facts` has an entry for each view parameter.
pub(super) fn lower(places: &Places<'_>, facts: &[Access16]) -> Lowered<Program> {
    let kernel = places.kernel;
    let mut views = facts.iter();
    let params = kernel.params.iter().map(|param| {
        let ty = kernel.ty(param.value);
        let rank = if let Type::View { rank, .. } = ty { Some(rank) } else { None };
        let fact = rank.and_then(|_| views.next()).copied().unwrap_or(Access16::Any);
        (Param { name: param.name.to_string(), elem: ty.elem(), rank, access: param.access }, fact)
    });
    let (params, facts): (Vec<_>, Vec<_>) = params.unzip();
    let mut lowering = Lowering {
        places,
        facts,
        program: Program {
            name: kernel.name.to_string(),
            warps: [places.work.rows, places.work.columns],
            blocks: places.work.blocks,
            params,
            locals: Vec::new(),
            fragments: Vec::new(),
            buffers: Vec::new(),
            shared_bytes: 0,
            steps: Vec::new(),
        },
        steps: Vec::new(),
        names: Names::default(),
        fragments: HashMap::new(),
        slots: HashMap::new(),
        deferred: HashMap::new(),
        left: (0..kernel.values.len()).map(|at| places.uses(ValueId(at as u32))).collect(),
        open: None,
        pending: BTreeSet::new(),
        refill: None,
    };
    lowering.region(Kernel::BODY)?;
    lowering.flush();
    lowering.program.steps = lowering.steps;
    Ok(lowering.program)
}

/// Refuses tiles without elements, which no layout has.
///
/// # Errors
/// The first instruction that makes one.
pub(super) fn refuse_empty(kernel: &Kernel) -> Lowered<()> {
    for inst in kernel.regions.iter().flat_map(|region| &region.insts) {
        let empty = |value: &ValueId| kernel.ty(*value).shape().is_some_and(|shape| shape.extents().any(|e| e == 0));
        if inst.results.iter().any(empty) {
            return Err(unsupported(kernel, inst, "a tile without elements"));
        }
    }
    Ok(())
}

fn unsupported(kernel: &Kernel, inst: &Inst, what: &str) -> Unsupported {
    Unsupported {
        what: format!("{what} (`{}`)", inst.op.name()),
        place: match kernel.sites.get(inst.site) {
            Some(site) => format!(", at {}", site.location),
            None => String::new(),
        },
    }
}

struct Lowering<'p, 'k> {
    places: &'p Places<'k>,
    /// For each parameter.
    facts: Vec<Access16>,
    program: Program,
    /// Of the block being made.
    steps: Vec<Step>,
    /// Uniform numbers that have a name here.
    names: Names,
    /// Values in registers.
    fragments: HashMap<ValueId, FragmentId>,
    /// Values in shared memory.
    slots: HashMap<ValueId, Slot>,
    /// Products that the sum they are added to will make.
    deferred: HashMap<ValueId, &'k Inst>,
    /// Uses of each value that are still to come.
    left: Vec<u32>,
    /// The elementwise group being gathered.
    open: Option<OpenMap>,
    /// Buffers into which copies go that nothing has waited for.
    pending: BTreeSet<BufferId>,
    /// What a loop with one stage copies as soon as it has been used.
    refill: Option<Refill>,
}

impl<'k> Lowering<'_, 'k> {
    fn region(&mut self, region: RegionId) -> Lowered<()> {
        let insts: &'k [Inst] = self.places.kernel.insts(region);
        insts.iter().try_for_each(|inst| self.inst(inst))
    }

    fn inst(&mut self, inst: &'k Inst) -> Lowered<()> {
        match &inst.op {
            Op::Control(Control::For { body }) => self.for_range(inst, *body),
            Op::Control(Control::If { then, otherwise }) => self.if_else(inst, *then, *otherwise),
            Op::Memory(Memory::Store) => self.store(inst),
            Op::Matmul(Matmul::Dot) => self.dot_or_defer(inst),
            Op::Control(Control::ProgramId { .. } | Control::ProgramCount { .. })
            | Op::Elementwise(_)
            | Op::Reduce(_)
            | Op::ShapeOp(_)
            | Op::Memory(_) => {
                let [result] = inst.results[..] else { return Err(self.unsupported(inst, "an op without result")) };
                if self.places.is_absorbed(inst) {
                    return Ok(());
                }
                match self.places.home(result) {
                    Home::Uniform => self.uniform(inst, result),
                    Home::View | Home::Virtual => Ok(()), // made where they are used
                    Home::Shared => self.shared_value(inst, result),
                    Home::Registers(layout) => self.tile(inst, result, layout),
                }
            }
        }
    }

    fn if_else(&mut self, inst: &'k Inst, then: RegionId, otherwise: RegionId) -> Lowered<()> {
        self.flush();
        let cond = self.number(inst.operands[0])?;
        let in_place = self.shared_results(inst, [then, otherwise])?;
        let results = self.declare(&inst.results)?;
        let mut ways = Vec::new();
        let before = self.pending.clone();
        let slots = self.slots.clone();
        let mut pending = BTreeSet::new();
        for region in [then, otherwise] {
            let outer = std::mem::take(&mut self.steps);
            let names = self.names.clone();
            self.region(region)?;
            self.flush();
            let yields = &self.places.kernel.regions[region.index()].yields;
            let mut given = Vec::new();
            for ((&result, &value), place) in inst.results.iter().zip(yields).zip(&in_place) {
                match place {
                    Some(slot) => self.put_in_place(value, slot)?,
                    None => given.push((result, value)),
                }
            }
            self.assign(&results, &given)?;
            self.flush();
            self.names = names;
            self.slots = slots.clone();
            pending.append(&mut std::mem::replace(&mut self.pending, before.clone()));
            ways.push(std::mem::replace(&mut self.steps, outer));
        }
        let otherwise = ways.pop().unwrap_or_default();
        let then = ways.pop().unwrap_or_default();
        self.steps.push(Step::If { cond, then, otherwise });
        self.pending = pending;
        Ok(())
    }

    /// Names for results of control flow: registers or a number for each, but for those in shared memory.
    fn declare(&mut self, values: &[ValueId]) -> Lowered<HashMap<ValueId, Declared>> {
        let mut declared = HashMap::new();
        for &value in values {
            let made = match self.places.home(value) {
                Home::Uniform => {
                    let local = self.local(self.places.elem(value));
                    let zero = Expr::Literal(self.places.elem(value), 0.0);
                    self.steps.push(Step::Let(local, zero));
                    self.names.set(value, Expr::Local(local));
                    Declared::Number(local)
                }
                Home::Registers(layout) => {
                    let fragment = self.fragment(self.places.elem(value), self.places.matrix(value), layout.clone());
                    self.fragments.insert(value, fragment);
                    Declared::Registers(fragment)
                }
                Home::Shared => continue,
                Home::View | Home::Virtual => {
                    return Err(Unsupported { what: "a view as a result".to_string(), place: String::new() });
                }
            };
            declared.insert(value, made);
        }
        Ok(declared)
    }

    /// Gives declared names their values, all at once: a value may be another's old one.
    fn assign(&mut self, declared: &HashMap<ValueId, Declared>, given: &[(ValueId, ValueId)]) -> Lowered<()> {
        let (mut numbers, mut registers) = (Vec::new(), Vec::new());
        for (name, value) in given {
            match declared.get(name) {
                Some(Declared::Number(to)) => numbers.push((*to, self.number(*value)?)),
                Some(Declared::Registers(to)) => {
                    let layout = self.program.fragments[to.index()].layout.clone();
                    registers.push((*to, self.fragment_in(*value, &layout)?));
                }
                None => {}
            }
        }
        self.flush();
        // What is read after it was set goes through a copy of its own.
        for at in 0..numbers.len() {
            let (set, read) = numbers.split_at_mut(at);
            let from = &mut read[0].1;
            if let Expr::Local(old) = *from
                && set.iter().any(|(to, _)| *to == old)
            {
                *from = self.name(self.program.locals[old.index()].elem, Expr::Local(old));
            }
        }
        for at in 0..registers.len() {
            let (set, read) = registers.split_at_mut(at);
            let from = &mut read[0].1;
            if set.iter().any(|(to, _)| to == from) {
                let Fragment { elem, extents, layout } = self.program.fragments[from.index()].clone();
                let copy = self.fragment(elem, extents, layout);
                self.steps.push(Step::Assign { to: copy, from: *from });
                *from = copy;
            }
        }
        self.steps.extend(numbers.into_iter().map(|(to, from)| Step::Set(to, from)));
        let moved = registers.into_iter().filter(|(to, from)| to != from);
        self.steps.extend(moved.map(|(to, from)| Step::Assign { to, from }));
        Ok(())
    }

    fn local(&mut self, elem: Elem) -> LocalId {
        self.program.locals.push(Local { elem });
        LocalId(self.program.locals.len() as u32 - 1)
    }

    fn fragment(&mut self, elem: Elem, extents: [u32; 2], layout: Layout) -> FragmentId {
        self.program.fragments.push(Fragment { elem, extents, layout });
        FragmentId(self.program.fragments.len() as u32 - 1)
    }

    /// Shared memory for a tile, with rows that eight at a time lie in different banks.
    fn buffer(&mut self, name: String, elem: Elem, extents: [u32; 2], slots: u32) -> BufferId {
        let chunks = (extents[1] * elem.bytes() as u32).div_ceil(16);
        self.buffer_of(name, elem, extents, slots, 16 * (chunks | 1))
    }

    /// The same with so many bytes from one row to the next.
    fn buffer_of(&mut self, name: String, elem: Elem, extents: [u32; 2], slots: u32, pitch: u32) -> BufferId {
        self.program.buffers.push(Buffer { name, elem, extents, pitch, slots, offset: 0 });
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    fn unsupported(&self, inst: &Inst, what: &str) -> Unsupported {
        unsupported(self.places.kernel, inst, what)
    }
}

/// What a result of control flow is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Declared {
    Number(LocalId),
    Registers(FragmentId),
}
