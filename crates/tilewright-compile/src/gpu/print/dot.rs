//! Products of tiles by matrix units.

use super::Printer;
use super::text::Text;
use crate::gpu::program::{Dot, DotOperand, FragmentId};
use crate::gpu::unit::Unit;
use tilewright_ir::Elem;

/// The fragments of a product in one warp.
pub(super) struct Shape {
    /// Fragments of the sum down and across.
    pub down: u32,
    pub across: u32,
    /// Fragments of a left operand in registers across.
    pub left: u32,
    /// Registers of a fragment of [`Unit::Mma`] that hold rows of the sum: half of them where it has no more than 8.
    pub used: u32,
}

impl Printer<'_> {
    pub(super) fn dot(&mut self, dot: &Dot) {
        let program = self.program;
        let sum = &program.fragments[dot.sum.index()];
        let [m, n, depth] = dot.unit.shape();
        let down = sum.extents[0].div_ceil(m * program.warps[0]).max(1);
        let across = sum.extents[1].div_ceil(n * program.warps[1]).max(1);
        let left = match &dot.a {
            DotOperand::Fragment(a) => {
                program.fragments[a.index()].layout.registers() / (dot.unit.sum_registers() * down).max(1)
            }
            DotOperand::Shared(_) => 0,
        };
        let used = if sum.extents[0] <= 8 { 2 } else { 4 };
        let shape = Shape { down, across, left, used };
        let a = match &dot.a {
            DotOperand::Fragment(a) => self.fragment(*a),
            DotOperand::Shared(slot) => program.buffers[slot.buffer.index()].name.clone(),
        };
        let b = &program.buffers[dot.b.buffer.index()].name;
        let transposed = if dot.transposed { "ᵀ" } else { "" };
        let name = self.fragment(dot.sum);
        self.out.line(format!("// {name} += {a} · {b}{transposed}"));
        self.out.open("");
        let warp = Text::atom("warp");
        let [warp_down, warp_across] = match program.warps {
            [1, 1] => [Text::int(0), Text::int(0)],
            [1, _] => [Text::int(0), warp],
            [_, 1] => [warp, Text::int(0)],
            [w, _] => [Text::product(&warp, '%', &Text::int(w)), Text::product(&warp, '/', &Text::int(w))],
        };
        let first = [warp_down.times(m * down), warp_across.times(n * across)];
        match dot.unit {
            Unit::Mma if let Some(codes) = &dot.codes => match dot.transposed {
                true => self.mma_of_rows(dot, codes, &shape, first),
                false => self.mma_of_columns(dot, codes, &shape, first),
            },
            Unit::Mma => self.mma(dot, &shape, first, depth),
            Unit::Lanes => self.lanes(dot, &shape, first),
            Unit::Simdgroup => self.simdgroup(dot, &shape, first, depth),
        }
        self.out.close();
    }

    /// Names the address of an operand's element for a lane: bytes from `row` and `column` of a buffer.
    fn operand(&mut self, name: &str, slot: &crate::gpu::program::Slot, row: &Text, column: &Text) -> u32 {
        let buffer = &self.program.buffers[slot.buffer.index()];
        let address = self.slot(slot).plus(&row.times(buffer.pitch)).plus(&column.times(buffer.elem.bytes() as u32));
        self.out.line(format!("{}const unsigned char* const {name} = {};", self.language.shared, address.text));
        buffer.pitch
    }

    /// The loop over the depth, by fragments.
    pub(super) fn steps_of_depth(&mut self, dot: &Dot, step: u32) {
        self.out.line("#pragma unroll");
        self.out.open(format!("for (int k = 0; k < {}; k += {step})", dot.depth));
    }

    /// A register of a left operand in registers; zero beyond the tile, whose padding may be anything.
    fn left(&mut self, a: FragmentId, index: &Text, more: u32, depth: u32, column: &Text) -> Text {
        let fragment = &self.program.fragments[a.index()];
        let value = Text::atom(format!("{}[{}]", self.fragment(a), index.plus(&Text::int(more)).text));
        if depth > fragment.extents[1] || self.padded(a)[1] {
            let inside = Text::compare(column, "<", &Text::int(fragment.extents[1]));
            return Text::choice(&inside, &value, &Text::atom("0.0f"));
        }
        value
    }

    /// Names where a lane finds its rows of a left operand in shared memory, and gives the bytes from one to the next.
    pub(super) fn left_rows(&mut self, dot: &Dot, row: &Text) -> u32 {
        let lane = Text::atom("lane");
        match &dot.a {
            DotOperand::Shared(slot) => {
                let column = Text::product(&lane, '/', &Text::int(16)).times(8);
                self.operand("a_rows", slot, &row.plus(&Text::product(&lane, '%', &Text::int(16))), &column)
            }
            DotOperand::Fragment(_) => 0,
        }
    }

    /// The left operand's fragments of one step of the depth, `a`.
    pub(super) fn left_of_step(&mut self, dot: &Dot, shape: &Shape, pitch_a: u32) {
        let Shape { down, left, .. } = *shape;
        self.out.line(format!("unsigned a[{down}][4];"));
        self.out.unrolled("m", down, 1);
        match &dot.a {
            DotOperand::Shared(_) => {
                let at =
                    Text::atom("a_rows").plus(&Text::atom("m").times(16 * pitch_a)).plus(&Text::atom("k").times(2));
                self.out.line(format!("ldmatrix_x4(a[m], {});", at.text));
            }
            DotOperand::Fragment(a) => {
                // Columns k to k + 15 are two fragments of the earlier sum.
                let k = Text::product(&Text::atom("k"), '/', &Text::int(8));
                let index = Text::atom("m").times(left).plus(&k).times(4);
                let pack = format!("pack_{}", dot.elem.name());
                let rows = self.program.fragments[a.index()].extents[0];
                for part in 0..4 {
                    if part % 2 == 1 && rows <= 8 {
                        self.out.line(format!("a[m][{part}] = 0u;")); // no such rows
                        continue;
                    }
                    let beyond = (part / 2 + 1) * 8 + dot.depth - 16 > left * 8;
                    let column = Text::atom("k").plus(&Text::product(
                        &Text::product(&Text::atom("lane"), '%', &Text::int(4)),
                        '*',
                        &Text::int(2),
                    ));
                    let pair = [0, 1].map(|j| {
                        let column = column.plus(&Text::int(part / 2 * 8 + j));
                        self.left(*a, &index, 2 * part + j, dot.depth, &column)
                    });
                    let mut value = Text::call(&pack, &[&pair[0], &pair[1]]);
                    if beyond {
                        let inside = Text::loose(format!("k + {} < {}", part / 2 * 8, left * 8));
                        value = Text::choice(&inside, &value, &Text::atom("0u"));
                    }
                    self.out.line(format!("a[m][{part}] = {};", value.text));
                }
            }
        }
        self.out.close();
    }

    fn mma(&mut self, dot: &Dot, shape: &Shape, [row, column]: [Text; 2], step: u32) {
        let Shape { down, across, .. } = *shape;
        let lane = Text::atom("lane");
        let low = |by: u32| Text::product(&lane, '%', &Text::int(by));
        let high = |by: u32| Text::product(&lane, '/', &Text::int(by));
        let sum = self.fragment(dot.sum);
        let pitch_a = self.left_rows(dot, &row);
        let (b_row, b_column) = if dot.transposed {
            let k = Text::product(&high(8), '%', &Text::int(2)).times(8);
            (column.plus(&low(8)).plus(&high(16).times(8)), k)
        } else {
            (low(16), column.plus(&high(16).times(8)))
        };
        let pitch_b = self.operand("b_rows", &dot.b, &b_row, &b_column);
        self.steps_of_depth(dot, step);

        self.left_of_step(dot, shape, pitch_a);

        let trans = if dot.transposed { "" } else { "_trans" };
        let at = |n: Text| {
            let base = Text::atom("b_rows");
            match dot.transposed {
                true => base.plus(&n.times(8 * pitch_b)).plus(&Text::atom("k").times(2)),
                false => base.plus(&Text::atom("k").times(pitch_b)).plus(&n.times(16)),
            }
        };
        let multiply = format!("mma_m16n8k16_{}", dot.elem.name());
        let row_of = |m: &str| Text::atom(m).times(across);
        let pairs = across / 2;
        if pairs > 0 {
            self.out.unrolled("n", 2 * pairs, 2);
            self.out.line("unsigned b[4];");
            self.out.line(format!("ldmatrix_x4{trans}(b, {});", at(Text::atom("n")).text));
            self.out.unrolled("m", down, 1);
            let index = row_of("m").plus(&Text::atom("n"));
            for j in 0..2 {
                let at = index.plus(&Text::int(j)).times(4).text;
                let b = if j == 0 { "b" } else { "b + 2" };
                self.out.line(format!("{multiply}({sum} + {at}, a[m], {b});"));
            }
            self.out.close();
            self.out.close();
        }
        if across % 2 == 1 {
            self.out.line("unsigned b[2];");
            self.out.line(format!("ldmatrix_x2{trans}(b, {});", at(Text::int(across - 1)).text));
            self.out.unrolled("m", down, 1);
            let at = row_of("m").plus(&Text::int(across - 1)).times(4).text;
            self.out.line(format!("{multiply}({sum} + {at}, a[m], b);"));
            self.out.close();
        }
        self.out.close();
    }

    fn lanes(&mut self, dot: &Dot, shape: &Shape, [row, column]: [Text; 2]) {
        let Shape { down, across, .. } = *shape;
        let DotOperand::Shared(slot) = &dot.a else { return };
        let sum = self.fragment(dot.sum);
        let lane = Text::atom("lane");
        let own_row = row.plus(&Text::product(&lane, '/', &Text::int(4)));
        let own_column = column.plus(&Text::product(&lane, '%', &Text::int(4)).times(2));
        let pitch_a = self.operand("a_rows", slot, &own_row, &Text::int(0));
        let (b_row, b_column) = if dot.transposed { (own_column, Text::int(0)) } else { (Text::int(0), own_column) };
        let pitch_b = self.operand("b_rows", &dot.b, &b_row, &b_column);
        let elems = [slot, &dot.b].map(|slot| self.program.buffers[slot.buffer.index()].elem);
        let read = |printer: &Self, elem: Elem, at: Text| {
            let at = printer.shared_at(printer.language.stored(elem), &at, true);
            printer.language.up(elem, &at).text
        };
        let bytes = elems.map(|elem| elem.bytes() as u32);
        self.out.line("#pragma unroll 4");
        self.out.open(format!("for (int k = 0; k < {}; ++k)", dot.depth));
        self.out.line(format!("float a[{}];", 2 * down));
        self.out.unrolled("m", 2 * down, 1);
        let at = Text::atom("a_rows").plus(&Text::atom("m").times(8 * pitch_a)).plus(&Text::atom("k").times(bytes[0]));
        let value = read(self, elems[0], at);
        self.out.line(format!("a[m] = {value};"));
        self.out.close();
        self.out.unrolled("n", 2 * across, 1);
        let n = Text::product(&Text::atom("n"), '/', &Text::int(2));
        let n = n.times(8).plus(&Text::product(&Text::atom("n"), '%', &Text::int(2)));
        let at = match dot.transposed {
            true => Text::atom("b_rows").plus(&n.times(pitch_b)).plus(&Text::atom("k").times(bytes[1])),
            false => Text::atom("b_rows").plus(&Text::atom("k").times(pitch_b)).plus(&n.times(bytes[1])),
        };
        let value = read(self, elems[1], at);
        self.out.line(format!("const float b = {value};"));
        self.out.unrolled("m", 2 * down, 1);
        let index = format!("(m / 2 * {across} + n / 2) * 4 + m % 2 * 2 + n % 2");
        let fma = self.language.function("fma");
        self.out.line(format!("{sum}[{index}] = {fma}(a[m], b, {sum}[{index}]);"));
        for _ in 0..3 {
            self.out.close();
        }
    }

    fn simdgroup(&mut self, dot: &Dot, shape: &Shape, [row, column]: [Text; 2], step: u32) {
        let Shape { down, across, left, .. } = *shape;
        let sum = self.fragment(dot.sum);
        let kind = self.language.stored(dot.elem);
        self.out.line("const int own_row = lane / 16 * 4 + lane / 2 % 4;");
        self.out.line("const int own_column = lane / 8 % 2 * 4 + lane % 2 * 2;");
        let [own_row, own_column] = [Text::atom("own_row"), Text::atom("own_column")];
        let pitch_a = match &dot.a {
            DotOperand::Shared(slot) => self.operand("a_rows", slot, &row.plus(&own_row), &own_column),
            DotOperand::Fragment(_) => 0,
        };
        let (b_row, b_column) =
            if dot.transposed { (column.plus(&own_column), own_row) } else { (own_row, column.plus(&own_column)) };
        let pitch_b = self.operand("b_rows", &dot.b, &b_row, &b_column);
        self.steps_of_depth(dot, step);
        self.out.line(format!("{kind}2 a[{down}];"));
        self.out.unrolled("m", down, 1);
        let value = match &dot.a {
            DotOperand::Shared(slot) => {
                let at = Text::atom("a_rows").plus(&Text::atom("m").times(8 * pitch_a));
                let elem = self.program.buffers[slot.buffer.index()].elem;
                let at = at.plus(&Text::atom("k").times(elem.bytes() as u32));
                self.pair_of(elem, dot.elem, &at, &at.plus(&Text::int(elem.bytes() as u32)))
            }
            DotOperand::Fragment(a) => {
                let k = Text::product(&Text::atom("k"), '/', &Text::int(8));
                let index = Text::atom("m").times(left).plus(&k).times(2);
                let pair = [0, 1].map(|j| {
                    let at = Text::atom("k").plus(&Text::atom("own_column")).plus(&Text::int(j));
                    let value = self.left(*a, &index, j, dot.depth, &at);
                    self.language.down(dot.elem, &value)
                });
                let pair = Text::call(&format!("{kind}2"), &[&pair[0], &pair[1]]);
                if dot.depth > left * 8 {
                    let inside = Text::compare(&Text::atom("k"), "<", &Text::int(left * 8));
                    Text::choice(&inside, &pair, &Text::atom(format!("{kind}2(0)"))).text
                } else {
                    pair.text
                }
            }
        };
        self.out.line(format!("a[m] = {value};"));
        self.out.close();
        self.out.unrolled("n", across, 1);
        let elem = self.program.buffers[dot.b.buffer.index()].elem;
        let bytes = elem.bytes() as u32;
        let base = Text::atom("b_rows");
        let (at, next) = match dot.transposed {
            true => (base.plus(&Text::atom("n").times(8 * pitch_b)).plus(&Text::atom("k").times(bytes)), pitch_b),
            false => (base.plus(&Text::atom("k").times(pitch_b)).plus(&Text::atom("n").times(8 * bytes)), bytes),
        };
        let value = self.pair_of(elem, dot.elem, &at, &at.plus(&Text::int(next)));
        self.out.line(format!("const {kind}2 b = {value};"));
        self.out.unrolled("m", down, 1);
        let index = Text::atom("m").times(across).plus(&Text::atom("n")).times(2);
        self.out.line(format!("multiply_8x8<{kind}>({sum} + {}, a[m], b);", index.text));
        for _ in 0..3 {
            self.out.close();
        }
    }
    /// Two elements of shared memory as a vector of the unit's type: one word where they lie side by side and need no cast.
    fn pair_of(&self, elem: Elem, to: Elem, first: &Text, second: &Text) -> String {
        let kind = self.language.stored(to);
        if elem == to && *second == first.plus(&Text::int(elem.bytes() as u32)) {
            return self.shared_at(&format!("{kind}2"), first, true);
        }
        let pair = [first, second].map(|at| {
            let value = self.shared_at(self.language.stored(elem), at, true);
            if elem == to { Text::atom(value) } else { self.language.down(to, &self.language.up(elem, &value)) }
        });
        Text::call(&format!("{kind}2"), &[&pair[0], &pair[1]]).text
    }
}
