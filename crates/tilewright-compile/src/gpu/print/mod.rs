//! The one printer of C-family source: CUDA C++ and the Metal Shading Language differ in words (`language`), in the head of
//! the kernel, and in how matrix units are spoken to. It decides nothing: each step of the program becomes the same lines.

mod codes;
mod coordinates;
mod cuda;
mod dot;
mod fold;
mod head;
mod language;
mod map;
mod memory;
mod msl;
mod number;
mod shared;
mod text;

use super::layout::Axis;
use super::program::{Expr, For, Program, Slot, Step};
use super::source::{Arguments, Dialect, Source};
use language::Language;
use number::{Arithmetic, held, letter};
use std::collections::HashSet;
use text::{Lines, Text};
use tilewright_ir::Elem;

/// The source of a program whose shared memory is planned. `arguments` are those of the kernel that the program came from: its
/// parameters are the program's, in order.
pub fn render(program: &Program, dialect: Dialect, arguments: Arguments) -> Source {
    let language = match dialect {
        Dialect::Cuda => &cuda::CUDA,
        Dialect::Msl => &msl::MSL,
    };
    let mut printer = Printer {
        program,
        dialect,
        language,
        names: head::names(program),
        assigned: HashSet::new(),
        natural: HashSet::new(),
        bases: Vec::new(),
        bound: 0,
        out: Lines::default(),
    };
    printer.find_assigned(&program.steps);
    printer.out.open("");
    printer.steps(&program.steps);
    let threads = 32 * printer.warps();
    let text = printer.finish(&arguments);
    Source { dialect, text, entry: program.name.clone(), threads, shared_bytes: program.shared_bytes, arguments }
}

/// What is printed so far.
struct Printer<'a> {
    program: &'a Program,
    dialect: Dialect,
    language: &'static Language,
    /// Of the parameters.
    names: Vec<String>,
    /// Locals that are set after they are named.
    assigned: HashSet<u32>,
    /// Locals that are certainly not negative.
    natural: HashSet<u32>,
    /// Where a thread starts along an axis: name and expression.
    bases: Vec<(Axis, String)>,
    /// How many indices were given a name.
    bound: u32,
    /// The body.
    out: Lines,
}

impl Printer<'_> {
    fn warps(&self) -> u32 {
        self.program.warps.iter().product()
    }

    fn find_assigned(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Set(local, _) => {
                    self.assigned.insert(local.0);
                }
                Step::For(step) => self.find_assigned(&step.body),
                Step::If { then, otherwise, .. } => {
                    self.find_assigned(then);
                    self.find_assigned(otherwise);
                }
                Step::Let(..)
                | Step::Map(_)
                | Step::Assign { .. }
                | Step::Reorder { .. }
                | Step::Scale { .. }
                | Step::Tanh { .. }
                | Step::Load(_)
                | Step::Store(_)
                | Step::Fold(_)
                | Step::Combine(_)
                | Step::Put { .. }
                | Step::Get { .. }
                | Step::Clear(_)
                | Step::Copy(_)
                | Step::Commit
                | Step::Wait(_)
                | Step::Barrier
                | Step::Dot(_) => {}
            }
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        let cuda = self.dialect == Dialect::Cuda;
        match step {
            Step::Let(local, value) => {
                if self.natural(value) && !self.assigned.contains(&local.0) {
                    self.natural.insert(local.0);
                }
                let value = self.expr(value).text;
                let elem = self.program.locals[local.index()].elem;
                let fixed = if self.assigned.contains(&local.0) { "" } else { "const " };
                self.out.line(format!("{fixed}{} {} = {value};", held(elem), self.local(local.0)));
            }
            Step::Set(local, value) => {
                let value = self.expr(value).text;
                self.out.line(format!("{} = {value};", self.local(local.0)));
            }
            Step::Map(map) => self.map(map),
            Step::Assign { to, from } => self.assign(*to, *from),
            Step::Reorder { to, from } => self.reorder(*to, *from),
            Step::Scale { to, by } => self.scale(*to, *by),
            Step::Tanh { to, from } => self.tanh(*to, *from),
            Step::Load(transfer) => self.load(transfer),
            Step::Store(transfer) => self.store(transfer),
            Step::Fold(fold) => self.fold(fold),
            Step::Combine(fold) => self.combine(fold),
            Step::Put { to, from } => self.put(to, *from),
            Step::Get { to, from, place } => self.get(*to, from, place),
            Step::Clear(slot) => self.clear(slot),
            Step::Copy(copy) => self.copy(copy),
            Step::Commit if cuda => self.out.line("cp_async_commit();"),
            Step::Wait(groups) if cuda => self.out.line(format!("cp_async_wait<{groups}>();")),
            Step::Commit | Step::Wait(_) => {} // copies are done when their statement is
            Step::Barrier => self.out.line(self.language.barrier),
            Step::Dot(dot) => self.dot(dot),
            Step::For(step) => self.for_loop(step),
            Step::If { cond, then, otherwise } => {
                let cond = self.expr(cond).text;
                self.out.open(format!("if ({cond})"));
                self.steps(then);
                if !otherwise.is_empty() {
                    self.out.turn("else");
                    self.steps(otherwise);
                }
                self.out.close();
            }
        }
    }

    fn for_loop(&mut self, step: &For) {
        let first = self.expr(&step.first).text;
        let last = self.uniform(&step.last);
        let by = self.uniform(&step.step);
        let name = self.local(step.counter.0);
        if self.natural(&step.first) {
            self.natural.insert(step.counter.0);
        }
        let (last, by_text) = (last.tight(), by.tight());
        let (guard, next) = match by.positive() {
            Some(_) => (String::new(), format!("{name} += {by_text}")),
            // Any step: the counter does not wrap where the last pass ends.
            None => (
                format!("{by_text} > 0 && "),
                format!(
                    "{name} = (unsigned){last} - (unsigned){name} > (unsigned){by_text} ? {name} + {by_text} : {last}"
                ),
            ),
        };
        self.out.open(format!("for (int {name} = {first}; {guard}{name} < {last}; {next})"));
        self.steps(&step.body);
        self.out.close();
    }

    /// An expression whose value is used more than once, or must not change: a name or a number.
    fn uniform(&mut self, expr: &Expr) -> Text {
        let text = self.expr(expr);
        let fixed = match expr {
            Expr::Local(local) => !self.assigned.contains(&local.0),
            Expr::Int(_)
            | Expr::Literal(..)
            | Expr::Program(_)
            | Expr::Programs(_)
            | Expr::Len(..)
            | Expr::Scalar(_) => true,
            Expr::Row | Expr::Column => true,
            Expr::Op(..) | Expr::Element(_) => text.value.is_some(),
        };
        if fixed { text } else { self.bind(text) }
    }

    /// Gives an index a name.
    fn bind(&mut self, text: Text) -> Text {
        let name = format!("at_{}", self.bound);
        self.bound += 1;
        self.out.line(format!("const int {name} = {};", text.text));
        Text::atom(name)
    }

    fn local(&self, local: u32) -> String {
        format!("{}{local}", letter(self.program.locals[local as usize].elem))
    }

    fn fragment(&self, fragment: super::program::FragmentId) -> String {
        format!("f{}", fragment.0)
    }

    /// The first byte of a slot.
    fn slot(&self, slot: &Slot) -> Text {
        let buffer = &self.program.buffers[slot.buffer.index()];
        let base = Text::atom(head::buffer_name(self.program, slot.buffer));
        let Some(at) = slot.at.filter(|_| buffer.slots > 1) else { return base };
        let at = Text::atom(self.local(at.0));
        let at = match slot.ahead {
            0 => at,
            ahead => Text::product(&at.plus(&Text::int(ahead)), '%', &Text::int(buffer.slots)),
        };
        base.plus(&at.times(buffer.slot_bytes()))
    }

    /// A number: uniform, or of the element at hand, whose coordinates are called `row` and `column`.
    fn expr(&mut self, expr: &Expr) -> Text {
        match expr {
            Expr::Int(value) => number::literal(self.language, Elem::I32, *value as f64),
            Expr::Literal(elem, value) => number::literal(self.language, *elem, *value),
            Expr::Local(local) => Text::atom(self.local(local.0)),
            Expr::Program(axis) => Text::atom(format!("program_{axis}")),
            Expr::Programs(axis) => Text::atom(format!("programs_{axis}")),
            Expr::Len(param, axis) => Text::atom(format!("args.{}_len[{axis}]", self.names[*param as usize])),
            Expr::Scalar(param) => {
                let name = format!("args.{}", self.names[*param as usize]);
                match self.program.params[*param as usize].elem {
                    Elem::Bool => Text::compare(&Text::atom(name), "!=", &Text::atom("0")),
                    Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 => {
                        Text::atom(name)
                    }
                }
            }
            Expr::Op(op, of, operands) => {
                let operands: Vec<Text> = operands.iter().map(|operand| self.expr(operand)).collect();
                number::elementwise(self.language, Arithmetic::Plain, op, *of, &operands)
            }
            Expr::Element(address) => {
                let elem = self.program.params[address.param as usize].elem;
                let place = self.locate(address, false);
                let value = self.language.up(elem, &place.element());
                match place.inside() {
                    None => value,
                    Some(inside) => {
                        let zero = number::literal(self.language, elem, 0.0);
                        Text::choice(&inside, &value, &zero)
                    }
                }
            }
            Expr::Row => Text::atom("row"),
            Expr::Column => Text::atom("column"),
        }
    }
}

/// Whether an expression depends on the row (or column) of the element at hand.
fn mentions(expr: &Expr, axis: Axis) -> bool {
    match expr {
        Expr::Row => axis == Axis::Down,
        Expr::Column => axis == Axis::Across,
        Expr::Op(_, _, operands) => operands.iter().any(|operand| mentions(operand, axis)),
        Expr::Element(address) => {
            address.axes.iter().any(|p| [&p.index, &p.first, &p.last].iter().any(|expr| mentions(expr, axis)))
        }
        Expr::Int(_)
        | Expr::Literal(..)
        | Expr::Local(_)
        | Expr::Program(_)
        | Expr::Programs(_)
        | Expr::Len(..)
        | Expr::Scalar(_) => false,
    }
}
