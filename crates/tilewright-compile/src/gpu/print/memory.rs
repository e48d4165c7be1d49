//! Tensors: where elements are, and loads and stores of registers.

use super::Printer;
use super::coordinates::{Register, wanted};
use super::language::words;
use super::number::literal;
use super::text::Text;
use crate::gpu::layout::{Axis, Of};
use crate::gpu::program::{Address, Expr, Place, Transfer};
use tilewright_ir::Elem;
use tilewright_ir::op::Elementwise;

/// An element of a tensor.
pub(super) struct Located {
    /// The tensor.
    pub pointer: String,
    /// In elements.
    pub offset: Text,
    /// When it exists.
    pub checks: Vec<Text>,
}

impl Located {
    pub fn element(&self) -> String {
        format!("{}[{}]", self.pointer, self.offset.text)
    }

    /// The address of the element this many further on.
    pub fn pointer(&self, more: u32) -> String {
        Text::atom(self.pointer.as_str()).plus(&self.offset).plus(&Text::int(more)).text
    }

    /// The condition of existing, where there is one.
    pub fn inside(&self) -> Option<Text> {
        Text::all(&self.checks)
    }
}

/// All numbers of an address.
pub(super) fn exprs(address: &Address) -> impl Iterator<Item = &Expr> {
    address.axes.iter().flat_map(|place| [&place.index, &place.first, &place.last])
}

impl Printer<'_> {
    /// Whether an index is certainly not negative.
    pub(super) fn natural(&self, expr: &Expr) -> bool {
        let all = |operands: &[Expr]| operands.iter().all(|operand| self.natural(operand));
        match expr {
            Expr::Int(value) => *value >= 0,
            Expr::Local(local) => self.natural.contains(&local.0),
            Expr::Program(_) | Expr::Programs(_) | Expr::Len(..) | Expr::Row | Expr::Column => true,
            Expr::Op(Elementwise::Max, Elem::I32, operands) => operands.iter().any(|operand| self.natural(operand)),
            Expr::Op(Elementwise::Add | Elementwise::Mul | Elementwise::Div, Elem::I32, operands) => all(operands),
            Expr::Op(Elementwise::Rem | Elementwise::Min, Elem::I32, operands) => all(operands),
            Expr::Op(..) | Expr::Literal(..) | Expr::Scalar(_) | Expr::Element(_) => false,
        }
    }

    /// Where an element is; `unit`: the last axis has stride 1.
    pub(super) fn locate(&mut self, address: &Address, unit: bool) -> Located {
        self.locate_unchecked(address, unit, None)
    }

    /// The same without the checks of one axis.
    pub(super) fn locate_unchecked(&mut self, address: &Address, unit: bool, unchecked: Option<usize>) -> Located {
        let pointer = self.names[address.param as usize].clone();
        let mut offset = Text::int(0);
        let mut checks = Vec::new();
        for (axis, place) in address.axes.iter().enumerate() {
            let index = self.uniform(&place.index);
            let [first, last] = [self.expr(&place.first), self.expr(&place.last)];
            if unchecked != Some(axis) {
                self.check_index(place, [&index, &first, &last], &mut checks);
            }
            if unit && axis + 1 == address.axes.len() {
                offset = offset.plus(&index);
            } else if !index.is_zero() {
                let wide = Text::atom(format!("({}){}", self.language.wide, index.tight()));
                let stride = Text::atom(format!("args.{pointer}_stride[{axis}]"));
                offset = offset.plus(&Text::product(&wide, '*', &stride));
            }
        }
        Located { pointer, offset, checks }
    }

    /// Adds the checks that an index, whose text is given with those of its bounds, is inside them.
    fn check_index(&self, place: &Place, [index, first, last]: [&Text; 3], checks: &mut Vec<Text>) {
        let from_zero = first.value.is_some_and(|first| first <= 0.0);
        let plain = matches!(place.index, Expr::Row | Expr::Column) || index.value.is_some();
        if from_zero && !plain {
            // What is below zero, or past the largest number and so below zero too, is larger than any length.
            let [index, last] = [index, last].map(|x| Text::atom(format!("(unsigned){}", x.tight())));
            checks.push(Text::compare(&index, "<", &last));
            return;
        }
        if !(from_zero && self.natural(&place.index)) {
            checks.push(Text::compare(index, ">=", first));
        }
        if !matches!((index.value, last.value), (Some(index), Some(last)) if index < last) {
            checks.push(Text::compare(index, "<", last));
        }
    }

    /// Gives the offset a name, unless it is short.
    pub(super) fn name_offset(&mut self, place: &mut Located) {
        if place.offset.text.len() > 24 {
            self.out.line(format!("const {} offset = {};", self.language.wide, place.offset.text));
            place.offset = Text::atom("offset");
        }
    }

    /// A wide access to a tensor: a value of `bytes` bytes.
    pub(super) fn device_at(&self, bytes: u32, address: &str, read: bool) -> String {
        let (space, kind) = (self.language.device, self.language.vector(bytes));
        format!("*({space}{}{kind}*)({address})", if read { "const " } else { "" })
    }

    /// Adds the checks that a register is one of the tile, where the layout reaches beyond it.
    fn check_padding(&mut self, transfer: &Transfer, register: Register, checks: &mut Vec<Text>) {
        let fragment = &self.program.fragments[transfer.fragment.index()];
        let padded = self.padded(transfer.fragment);
        for (k, axis) in [Axis::Down, Axis::Across].into_iter().enumerate() {
            if padded[k] {
                let at = self.coordinate(&fragment.layout, axis, register);
                checks.push(Text::compare(&at, "<", &Text::int(fragment.extents[k])));
            }
        }
    }

    fn describe(&self, transfer: &Transfer) -> [String; 2] {
        [self.fragment(transfer.fragment), self.names[transfer.address.param as usize].clone()]
    }

    pub(super) fn load(&mut self, transfer: &Transfer) {
        let program = self.program;
        let fragment = &program.fragments[transfer.fragment.index()];
        let elem = program.params[transfer.address.param as usize].elem;
        let [name, tensor] = self.describe(transfer);
        self.out.line(format!("// {name} = {tensor}[…]"));
        let register = self.registers(&fragment.layout, transfer.vector);
        self.open_single(register);
        self.name_coordinates(&fragment.layout, register, wanted(exprs(&transfer.address)));
        let mut place = self.locate(&transfer.address, transfer.vector > 1);
        self.check_padding(transfer, register, &mut place.checks);
        self.name_offset(&mut place);
        let inside = place.inside();
        let bytes = elem.bytes() as u32;
        let zero = literal(self.language, elem, 0.0);
        let whole = transfer.vector * bytes;
        if transfer.vector == 1 {
            for more in 0..transfer.vector {
                let offset = place.offset.plus(&Text::int(more));
                let value = self.language.up(elem, &format!("{}[{}]", place.pointer, offset.text));
                let value = match &inside {
                    None => value,
                    Some(inside) => Text::choice(inside, &value, &zero),
                };
                self.out.line(format!("{name}[{}] = {};", register.plus(more).text, value.text));
            }
        } else {
            let piece = whole.min(16);
            let zeros = self.language.made(&vec![Text::atom("0u"); piece.div_ceil(4) as usize]);
            if let Some(inside) = &inside {
                self.out.line(format!("const bool inside = {};", inside.text));
            }
            for (number, from) in (0..transfer.vector).step_by((piece / bytes) as usize).enumerate() {
                let value = self.device_at(piece, &place.pointer(from), true);
                let kind = self.language.vector(piece.max(4));
                let value = if inside.is_some() { format!("inside ? {value} : {zeros}") } else { value };
                self.out.line(format!("const {kind} w{number} = {value};"));
                let words = words(&format!("w{number}"), piece);
                for j in 0..piece / bytes {
                    let value = self.language.part(elem, &words[(j * bytes / 4) as usize], j % (4 / bytes));
                    self.out.line(format!("{name}[{}] = {};", register.plus(from + j).text, value.text));
                }
            }
        }
        self.close_single();
    }

    pub(super) fn store(&mut self, transfer: &Transfer) {
        let program = self.program;
        let fragment = &program.fragments[transfer.fragment.index()];
        let elem = program.params[transfer.address.param as usize].elem;
        let [name, tensor] = self.describe(transfer);
        self.out.line(format!("// {tensor}[…] = {name}"));
        let replicas = |of| fragment.layout.replicas(of);
        let alone = self.first_replica(replicas(Of::Lane), replicas(Of::Warp));
        if let Some(alone) = &alone {
            self.out.open(format!("if ({alone})"));
        }
        let register = self.registers(&fragment.layout, transfer.vector);
        self.open_single(register);
        self.name_coordinates(&fragment.layout, register, wanted(exprs(&transfer.address)));
        let mut place = self.locate(&transfer.address, transfer.vector > 1);
        self.check_padding(transfer, register, &mut place.checks);
        self.name_offset(&mut place);
        let inside = place.inside();
        if let Some(inside) = &inside {
            self.out.open(format!("if ({})", inside.text));
        }
        let bytes = elem.bytes() as u32;
        let whole = transfer.vector * bytes;
        let value = |more: u32| Text::atom(format!("{name}[{}]", register.plus(more).text));
        if whole < 4 || transfer.vector == 1 {
            for more in 0..transfer.vector {
                let offset = place.offset.plus(&Text::int(more)).text;
                let value = self.language.down(elem, &value(more)).text;
                self.out.line(format!("{}[{offset}] = {value};", place.pointer));
            }
        } else {
            let piece = whole.min(16);
            for from in (0..transfer.vector).step_by((piece / bytes) as usize) {
                let all: Vec<Text> = (from..from + piece / bytes).map(value).collect();
                let words: Vec<Text> = all.chunks((4 / bytes) as usize).map(|x| self.language.word(elem, x)).collect();
                let to = self.device_at(piece, &place.pointer(from), false);
                self.out.line(format!("{to} = {};", self.language.made(&words)));
            }
        }
        if inside.is_some() {
            self.out.close();
        }
        self.close_single();
        if alone.is_some() {
            self.out.close();
        }
    }

    /// A block of its own for the names of a single register.
    pub(super) fn open_single(&mut self, register: Register) {
        if let Register::At(_) = register {
            self.out.open("");
        }
    }

    /// Closes that block, or the loop over registers.
    pub(super) fn close_single(&mut self) {
        self.out.close();
    }
}
