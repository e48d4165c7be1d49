//! Folds: in a thread, across the lanes of a warp, and across warps by way of shared memory.

use super::Printer;
use super::coordinates::{Register, digits_text};
use super::number::{Arithmetic, elementwise, literal};
use super::text::Text;
use crate::gpu::layout::{Axis, Of};
use crate::gpu::program::{BufferId, Fold, Slot};
use tilewright_ir::Elem;
use tilewright_ir::op::{Elementwise, Reduce};

/// What folds two elements.
fn pair(op: &Reduce) -> Elementwise {
    match op {
        Reduce::Sum { .. } => Elementwise::Add,
        Reduce::Max { .. } => Elementwise::Max,
        Reduce::Min { .. } => Elementwise::Min,
    }
}

/// What folding nothing gives.
fn identity(op: &Reduce, elem: Elem) -> f64 {
    match op {
        Reduce::Sum { .. } => 0.0,
        Reduce::Max { .. } => elem.least(),
        Reduce::Min { .. } => elem.greatest(),
    }
}

impl Printer<'_> {
    fn folded(&self, fold: &Fold, a: &str, b: &Text) -> String {
        let elem = self.program.fragments[fold.to.index()].elem;
        let operands = [Text::atom(a), b.clone()];
        elementwise(self.language, Arithmetic::Wrapping, &pair(&fold.op), elem, &operands).text
    }

    pub(super) fn fold(&mut self, fold: &Fold) {
        let program = self.program;
        let (from, to) = (&program.fragments[fold.from.index()], &program.fragments[fold.to.index()]);
        let names = [self.fragment(fold.from), self.fragment(fold.to)];
        let nothing = literal(self.language, to.elem, identity(&fold.op, to.elem));
        let what = match fold.op {
            Reduce::Sum { .. } => "sum",
            Reduce::Max { .. } => "largest",
            Reduce::Min { .. } => "smallest",
        };
        let along = match fold.axis {
            Axis::Down => "column",
            Axis::Across => "row",
        };
        self.out.line(format!("// {} = {what} of each {along} of {}", names[1], names[0]));

        let register = self.registers(&to.layout, 1);
        self.out.line(format!("{}[{}] = {};", names[1], register.plus(0).text, nothing.text));
        self.end(register);

        let register = self.registers(&from.layout, 1);
        self.skip_rows_beyond(&from.layout, from.extents[0], register);
        let mut value = Text::atom(format!("{}[{}]", names[0], register.plus(0).text));
        let (padded, extent) = match fold.axis {
            Axis::Down => (self.padded(fold.from)[0], from.extents[0]),
            Axis::Across => (self.padded(fold.from)[1], from.extents[1]),
        };
        if padded {
            let at = self.coordinate(&from.layout, fold.axis, register);
            value = Text::choice(&Text::compare(&at, "<", &Text::int(extent)), &value, &nothing);
        }
        let at = match register {
            Register::At(_) => Text::int(0),
            Register::Loop(_) => {
                let digits = from.layout.register_of_slice(&[fold.axis]);
                digits_text("r", &digits, from.layout.registers(), 1)
            }
        };
        let to_at = format!("{}[{}]", names[1], at.text);
        let text = self.folded(fold, &to_at, &value);
        self.out.line(format!("{to_at} = {text};"));
        self.end(register);

        let lanes: Vec<u32> = from
            .layout
            .digits(Of::Lane)
            .filter(|(_, digit)| digit.stride(fold.axis) > 0)
            .flat_map(|(place, digit)| (0..digit.size.ilog2()).map(move |bit| place << bit))
            .collect();
        if !lanes.is_empty() {
            let register = self.registers(&to.layout, 1);
            self.skip_rows_beyond(&to.layout, to.extents[0], register);
            let at = format!("{}[{}]", names[1], register.plus(0).text);
            for lane in lanes {
                let other = Text::atom(format!("{}{at}, {lane})", self.language.shuffle));
                let text = self.folded(fold, &at, &other);
                self.out.line(format!("{at} = {text};"));
            }
            self.end(register);
        }
        if let Some(buffer) = fold.exchange {
            self.share(fold, buffer);
        }
    }

    /// The digits of warps along the axis of a fold, as digits of the number of the part that a warp holds; and how many parts.
    fn parts(&self, fold: &Fold) -> (Vec<[u32; 3]>, u32) {
        let from = &self.program.fragments[fold.from.index()].layout;
        let mut parts = 1;
        let mut digits = Vec::new();
        for (place, digit) in from.digits(Of::Warp).filter(|(_, digit)| digit.stride(fold.axis) > 0) {
            digits.push([place, digit.size, parts]);
            parts *= digit.size;
        }
        (digits, parts)
    }

    /// Where an element of the result of a fold lies in the row of a part, and whether it may lie beyond.
    fn exchanged(&mut self, fold: &Fold, buffer: BufferId, register: Register) -> (Text, Option<String>) {
        let layout = &self.program.fragments[fold.to.index()].layout;
        let other = match fold.axis {
            Axis::Down => Axis::Across,
            Axis::Across => Axis::Down,
        };
        let columns = self.program.buffers[buffer.index()].extents[1];
        let at = self.coordinate(layout, other, register);
        let beyond = layout.extent(other) > columns;
        let check = beyond.then(|| format!("{} < {columns}", at.text));
        (at, check)
    }

    fn word_type(&self, fold: &Fold) -> &'static str {
        super::number::held(self.program.fragments[fold.to.index()].elem)
    }

    fn share(&mut self, fold: &Fold, buffer: BufferId) {
        let program = self.program;
        let to = &program.fragments[fold.to.index()];
        let from = &program.fragments[fold.from.index()];
        let (digits, _) = self.parts(fold);
        let part = digits_text("warp", &digits, self.warps(), 1);
        let base = self.slot(&Slot { buffer, at: None, ahead: 0 });
        let base = base.plus(&part.times(program.buffers[buffer.index()].pitch));
        let alone = self.first_replica(to.layout.replicas(Of::Lane), from.layout.replicas(Of::Warp));
        if let Some(alone) = &alone {
            self.out.open(format!("if ({alone})"));
        }
        let register = self.registers(&to.layout, 1);
        let (at, check) = self.exchanged(fold, buffer, register);
        let place = self.shared_at(self.word_type(fold), &base.plus(&at.times(4)), false);
        let check = check.map_or(String::new(), |check| format!("if ({check}) "));
        self.out.line(format!("{check}{place} = {}[{}];", self.fragment(fold.to), register.plus(0).text));
        self.end(register);
        if alone.is_some() {
            self.out.close();
        }
    }

    pub(super) fn combine(&mut self, fold: &Fold) {
        let Some(buffer) = fold.exchange else { return };
        let program = self.program;
        let to = &program.fragments[fold.to.index()];
        let (_, parts) = self.parts(fold);
        let pitch = program.buffers[buffer.index()].pitch;
        let base = self.slot(&Slot { buffer, at: None, ahead: 0 });
        let name = self.fragment(fold.to);
        self.out.line(format!("// {name} of all warps"));
        let register = self.registers(&to.layout, 1);
        let (at, check) = self.exchanged(fold, buffer, register);
        if let Some(check) = &check {
            self.out.open(format!("if ({check})"));
        }
        let own = format!("{name}[{}]", register.plus(0).text);
        let first = self.shared_at(self.word_type(fold), &base.plus(&at.times(4)), true);
        self.out.line(format!("{own} = {first};"));
        if parts > 1 {
            self.out.unrolled("part", parts, 1);
            let part = Text::atom("part").plus(&Text::int(0));
            // Part 0 is there already.
            let row = base.plus(&part.times(pitch)).plus(&at.times(4));
            let value = self.shared_at(self.word_type(fold), &row, true);
            let text = self.folded(fold, &own, &Text::atom(value));
            self.out.line(format!("if (part > 0) {own} = {text};"));
            self.out.close();
        }
        if check.is_some() {
            self.out.close();
        }
        self.end(register);
    }
}
