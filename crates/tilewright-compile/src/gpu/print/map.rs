//! Elementwise steps.

use super::Printer;
use super::coordinates::{Register, digits_of_register, wanted};
use super::number::{Arithmetic, elementwise, held};
use super::text::Text;
use crate::gpu::layout::{Digit, Of};
use crate::gpu::program::{Fragment, FragmentId, Map, MapOp, MapOperand};
use tilewright_ir::Elem;
use tilewright_ir::op::Elementwise;

/// Longer expressions get a name of their own.
const INLINE: usize = 48;

impl Printer<'_> {
    pub(super) fn map(&mut self, map: &Map) {
        let Some(&(_, first)) = map.results.first() else { return };
        let extents = self.program.fragments[first.index()].extents;
        let register = self.registers(&map.layout, 1);
        self.open_single(register);
        let reads = |operand: &MapOperand| matches!(operand, MapOperand::Fragment(_) | MapOperand::Code(..));
        if map.ops.iter().flat_map(|op| &op.operands).any(reads) {
            self.skip_rows_beyond(&map.layout, extents[0], register);
        }
        let exprs = map.ops.iter().flat_map(|op| &op.operands).filter_map(|operand| match operand {
            MapOperand::Expr(expr) => Some(expr),
            MapOperand::Temporary(_) | MapOperand::Fragment(_) | MapOperand::Code(..) => None,
        });
        self.name_coordinates(&map.layout, register, wanted(exprs));
        let mut temporaries: Vec<Text> = Vec::with_capacity(map.ops.len());
        for (number, op) in map.ops.iter().enumerate() {
            let operands: Vec<Text> = op
                .operands
                .iter()
                .map(|operand| match operand {
                    MapOperand::Temporary(number) => temporaries[*number as usize].clone(),
                    MapOperand::Fragment(fragment) => {
                        let at = self.lined_up(&map.layout, extents, *fragment, register);
                        Text::atom(format!("{}[{}]", self.fragment(*fragment), at.text))
                    }
                    MapOperand::Expr(expr) => self.expr(expr),
                    MapOperand::Code(fragment, bits) => self.code(*fragment, *bits, register),
                })
                .collect();
            let value = match self.language.rounded(&op.op) {
                Some(name) if op.of == Elem::F32 && bits_read(map, number as u32) => {
                    Text::atom(format!("{name}({}, {})", operands[0].text, operands[1].text))
                }
                _ => elementwise(self.language, Arithmetic::Wrapping, &op.op, op.of, &operands),
            };
            let constant = matches!(op.op, Elementwise::Constant { .. });
            let short = value.text.len() <= INLINE && map.results.len() == 1 && uses(map, number as u32) == 1;
            temporaries.push(if constant || short {
                value
            } else {
                self.out.line(format!("const {} t{number} = {};", held(op.elem), value.text));
                Text::atom(format!("t{number}"))
            });
        }
        for &(number, to) in &map.results {
            let to = self.fragment(to);
            self.out.line(format!("{to}[{}] = {};", register.plus(0).text, temporaries[number as usize].text));
        }
        self.close_single();
    }

    /// A code of the word that lines up: the codes of a word are neighbouring registers.
    fn code(&self, words: FragmentId, bits: u8, register: Register) -> Text {
        let (bits, codes) = (u32::from(bits), 32 / u32::from(bits));
        let words = self.fragment(words);
        let mask = Text::atom(format!("{}u", (1u64 << bits) - 1));
        let (word, shift) = match register {
            Register::At(at) => (Text::int(at / codes), Text::int(at % codes * bits)),
            Register::Loop(_) => {
                let r = Text::atom("r");
                let code = Text::product(&r, '%', &Text::int(codes));
                (Text::product(&r, '/', &Text::int(codes)), code.times(bits))
            }
        };
        Text::infix(&Text::infix(&Text::atom(format!("{words}[{}]", word.text)), ">>", &shift), "&", &mask)
    }

    pub(super) fn assign(&mut self, to: FragmentId, from: FragmentId) {
        let [to_name, from_name] = [to, from].map(|fragment| self.fragment(fragment));
        self.for_each(to, |at| format!("{to_name}[{at}] = {from_name}[{at}];"));
    }
}

impl Printer<'_> {
    pub(super) fn reorder(&mut self, to: FragmentId, from: FragmentId) {
        let [layout, source] = [to, from].map(|of| self.program.fragments[of.index()].layout.clone());
        let (to, from) = (self.fragment(to), self.fragment(from));
        let place = |digit: Digit| source.digits(Of::Register).find(|(_, own)| *own == digit).map_or(0, |(at, _)| at);
        let digits: Vec<[u32; 3]> =
            layout.digits(Of::Register).map(|(at, digit)| [at, digit.size, place(digit)]).collect();
        let register = self.registers(&layout, 1);
        let at = digits_of_register(&layout, &digits, register);
        self.out.line(format!("{to}[{}] = {from}[{}];", register.plus(0).text, at.text));
        self.end(register);
    }

    pub(super) fn scale(&mut self, to: FragmentId, by: FragmentId) {
        let program = self.program;
        let (whole, factors) = (&program.fragments[to.index()], &program.fragments[by.index()]);
        let [name, factor] = [to, by].map(|fragment| self.fragment(fragment));
        let beyond = factors.layout.rows_held(factors.extents[0]);
        let held = |r: &u32| beyond.iter().all(|(place, size, held)| r / place % size < *held);
        let changed = |r| format!("{factor}[{r}] != 1.0f");
        let changed: Vec<String> = (0..factors.layout.registers()).filter(held).map(changed).collect();
        self.out.line(format!("// {name} *= {factor}"));
        self.out.open(format!("if ({}{}))", self.language.any, changed.join(" || ")));
        let register = self.registers(&whole.layout, 1);
        self.skip_rows_beyond(&whole.layout, whole.extents[0], register);
        let at = self.lined_up(&whole.layout, whole.extents, by, register);
        self.out.line(format!("{name}[{}] *= {factor}[{}];", register.plus(0).text, at.text));
        self.end(register);
        self.out.close();
    }
}

impl Printer<'_> {
    pub(super) fn tanh(&mut self, to: FragmentId, from: FragmentId) {
        let [to_name, from_name] = [to, from].map(|fragment| self.fragment(fragment));
        let largest = format!("largest_{to_name}");
        let function = |name: &'static str| self.language.function(name);
        let [fmax, fabs] = ["fmax", "fabs"].map(function);
        self.out.line(format!("// {to_name} = tanh({from_name})"));
        self.out.line(format!("float {largest} = 0.0f;"));
        self.for_each(to, |at| format!("{largest} = {fmax}({largest}, {fabs}({from_name}[{at}]));"));
        self.out.open(format!("if ({}{largest} > tanh_near_up_to()))", self.language.any));
        self.for_each(to, |at| format!("{to_name}[{at}] = tanh_coarse({from_name}[{at}]);"));
        self.out.turn("else");
        self.for_each(to, |at| format!("{to_name}[{at}] = tanh_near({from_name}[{at}]);"));
        self.out.close();
    }

    /// A line for each register of a fragment that holds rows of the tile.
    fn for_each(&mut self, fragment: FragmentId, line: impl Fn(&str) -> String) {
        let Fragment { layout, extents, .. } = &self.program.fragments[fragment.index()];
        let register = self.registers(layout, 1);
        self.skip_rows_beyond(layout, extents[0], register);
        self.out.line(line(&register.plus(0).text));
        self.end(register);
    }
}

/// Whether the bits of a temporary are asked for: then it is no part of a longer operation, which would round once.
fn bits_read(map: &Map, number: u32) -> bool {
    let reads = |op: &MapOp| op.operands.contains(&MapOperand::Temporary(number));
    map.ops.iter().any(|op| matches!(op.op, Elementwise::Bitcast { to: Elem::U32 }) && reads(op))
}

/// How often a temporary is read.
fn uses(map: &Map, number: u32) -> usize {
    let operands = map.ops.iter().flat_map(|op| &op.operands);
    operands.filter(|operand| **operand == MapOperand::Temporary(number)).count()
        + map.results.iter().filter(|(result, _)| *result == number).count()
}
