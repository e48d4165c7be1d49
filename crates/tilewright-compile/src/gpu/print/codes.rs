//! Products whose right operands are decoded from codes on their way to the matrix unit.

use super::Printer;
use super::dot::Shape;
use super::language::words;
use super::text::Text;
use crate::gpu::program::{Codes, Dot, DotOperand, Slot};

impl Printer<'_> {
    /// Names an address in a slot for a lane, and gives the bytes from one row to the next.
    fn bytes_of(&mut self, name: &str, slot: &Slot, row: &Text, bytes: &Text) -> u32 {
        let pitch = self.program.buffers[slot.buffer.index()].pitch;
        let address = self.slot(slot).plus(&row.times(pitch)).plus(bytes);
        self.out.line(format!("const unsigned char* const {name} = {};", address.text));
        pitch
    }

    /// `q · kᵀ`: a lane takes words of one key. Codes that lie half a word apart come out as a pair, and the numbers of q are paired
    /// alike.
    pub(super) fn mma_of_rows(&mut self, dot: &Dot, codes: &Codes, shape: &Shape, [row, column]: [Text; 2]) {
        let DotOperand::Shared(left) = &dot.a else { return }; // such products have nothing else
        let Shape { down, across, .. } = *shape;
        let (bits, name) = (u32::from(codes.bits), dot.elem.name());
        let in_word = 32 / bits;
        // Four lanes take a word each; so many steps of the unit's depth are in it.
        let (numbers, steps) = (4 * in_word, in_word / 4);
        let in_group = codes.group / numbers;
        let atom = |text: &str| Text::atom(text);
        let own = Text::product(&atom("lane"), '/', &Text::int(4));
        let word = Text::product(&atom("lane"), '%', &Text::int(4));
        let pitch_a = self.bytes_of("a_rows", left, &row.plus(&own), &word.times(2 * in_word));
        let key = column.plus(&own);
        let pitch = self.bytes_of("b_words", &dot.b, &key, &word.times(4));
        let by_group = self.bytes_of("b_scales", &codes.scales, &key, &Text::int(0));
        self.bytes_of("b_biases", &codes.biases, &key, &Text::int(0));
        self.out.unrolled("group", dot.depth / codes.group, 1);
        let step = |step: u32| atom("j").times(steps).plus(&Text::int(step)).text;

        self.out.line(format!("unsigned a[{down}][{}][4];", in_group * steps));
        self.out.unrolled("rows", 2 * down, 1);
        self.out.unrolled("j", in_group, 1);
        let vector = self.language.vector(2 * in_word);
        let at = atom("a_rows").plus(&atom("rows").times(8 * pitch_a)).plus(&atom("group").times(2 * codes.group));
        let at = at.plus(&atom("j").times(2 * numbers));
        self.out.line(format!("const {vector} w = {};", self.shared_at(vector, &at, true)));
        let parts = words("w", 2 * in_word);
        for k in 0..steps as usize {
            let (first, second) = (&parts[k], &parts[k + steps as usize]);
            for (of, part) in [("low", "rows % 2"), ("high", "rows % 2 + 2")] {
                self.out.line(format!("a[rows / 2][{}][{part}] = pair_{of}({first}, {second});", step(k as u32)));
            }
        }
        self.out.close();
        self.out.close();

        self.out.unrolled("n", across, 1);
        for (value, of) in [("scale", "b_scales"), ("bias", "b_biases")] {
            let at = atom(of).plus(&atom("n").times(8 * by_group)).plus(&atom("group").times(2));
            let number = self.shared_at("unsigned short", &at, true);
            self.out.line(format!("const unsigned {value} = twice({number});"));
        }
        self.out.line(format!("const unsigned offset = offset_{bits}_{name}(scale);"));
        self.out.unrolled("j", in_group, 1);
        let at = atom("b_words").plus(&atom("n").times(8 * pitch)).plus(&atom("group").times(codes.group * bits / 8));
        let at = at.plus(&atom("j").times(16));
        self.out.line(format!("const unsigned word = {};", self.shared_at("unsigned", &at, true)));
        for k in 0..steps {
            let pair = |pair: u32| number(codes, name, &shifted("word", (2 * k + pair) * bits), "");
            self.out.line(format!("const unsigned b{k}[2] = {{{}, {}}};", pair(0), pair(1)));
            self.out.unrolled("m", down, 1);
            let index = atom("m").times(across).plus(&atom("n")).times(4);
            let sum = self.fragment(dot.sum);
            self.out.line(format!("mma_m16n8k16_{name}({sum} + {}, a[m][{}], b{k});", index.text, step(k)));
            self.out.close();
        }
        for _ in 0..3 {
            self.out.close();
        }
    }

    /// `p · v`: a lane takes neighbouring columns of four keys, one to each fragment of the sum. Codes of two keys make a pair.
    pub(super) fn mma_of_columns(&mut self, dot: &Dot, codes: &Codes, shape: &Shape, [row, column]: [Text; 2]) {
        let Shape { down, across, .. } = *shape;
        let (bits, name) = (u32::from(codes.bits), dot.elem.name());
        let bytes = across * bits / 8;
        let atom = |text: &str| Text::atom(text);
        let pitch_a = self.left_rows(dot, &row);
        let own = column.plus(&Text::product(&atom("lane"), '/', &Text::int(4)).times(across));
        self.out.line(format!("const int own = {};", own.text));
        let key = Text::product(&atom("lane"), '%', &Text::int(4)).times(2);
        let at = Text::product(&atom("own").times(bits), '/', &Text::int(8));
        let pitch = self.bytes_of("b_words", &dot.b, &key, &at);
        let at = Text::product(&atom("own"), '/', &Text::int(codes.group)).times(2);
        let by_group = self.bytes_of("b_scales", &codes.scales, &key, &at);
        self.bytes_of("b_biases", &codes.biases, &key, &at);
        self.steps_of_depth(dot, 16);
        self.left_of_step(dot, shape, pitch_a);
        let rows = [0, 1, 8, 9];
        let of_row =
            |base: &str, pitch: u32, row: u32| atom(base).plus(&atom("k").times(pitch)).plus(&Text::int(row * pitch));
        let kind = self.language.vector(bytes);
        for (number, row) in rows.into_iter().enumerate() {
            let word = self.shared_at(kind, &of_row("b_words", pitch, row), true);
            self.out.line(format!("const {kind} w{number} = {word};"));
        }
        for pair in 0..2 {
            for (value, of) in [("scale", "b_scales"), ("bias", "b_biases")] {
                let [first, second] =
                    [0, 1].map(|j| self.shared_at("unsigned short", &of_row(of, by_group, rows[2 * pair + j]), true));
                self.out.line(format!("const unsigned {value}{pair} = pair_low({first}, {second});"));
            }
            self.out.line(format!("const unsigned offset{pair} = offset_{bits}_{name}(scale{pair});"));
        }
        let parts: Vec<Vec<String>> = (0..4).map(|row| words(&format!("w{row}"), bytes)).collect();
        let halves = ["low", "high"].into_iter().take(if bytes == 2 { 1 } else { 2 });
        let halves: Vec<(usize, &str)> =
            (0..parts[0].len()).flat_map(|part| halves.clone().map(move |half| (part, half))).collect();
        for (number_of_half, (part, half)) in halves.into_iter().enumerate() {
            self.out.open("");
            for (name, rows) in [("first", [0, 1]), ("second", [2, 3])] {
                let [a, b] = rows.map(|row| &parts[row][part]);
                self.out.line(format!("const unsigned {name} = pair_{half}({a}, {b});"));
            }
            self.out.unrolled("i", 16 / bits, 1);
            let by = atom("i").times(bits).text;
            let pair = |of: &str, at: &str| number(codes, name, &format!("{of} >> {by}"), at);
            self.out.line(format!("const unsigned b[2] = {{{}, {}}};", pair("first", "0"), pair("second", "1")));
            self.out.unrolled("m", down, 1);
            let column = atom("i").plus(&Text::int(number_of_half as u32 * 16 / bits));
            let index = atom("m").times(across).plus(&column).times(4);
            let sum = self.fragment(dot.sum);
            self.out.line(format!("mma_m16n8k16_{name}({sum} + {}, a[m], b);", index.text));
            for _ in 0..3 {
                self.out.close();
            }
        }
        self.out.close();
    }
}

fn shifted(word: &str, by: u32) -> String {
    if by == 0 { word.to_string() } else { format!("{word} >> {by}") }
}

/// The numbers of a pair of codes, low in both halves of a word; `at` tells scale and bias apart from others.
fn number(codes: &Codes, elem: &str, pair: &str, at: &str) -> String {
    format!("number_{}_{elem}({pair}, scale{at}, offset{at}, bias{at})", codes.bits)
}
