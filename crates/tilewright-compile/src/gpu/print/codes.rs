//! Products whose right operands are codes: their numbers are decoded on the way to the matrix unit, or it takes the codes.

use super::Printer;
use super::dot::Shape;
use super::language::words;
use super::text::Text;
use crate::gpu::program::{Codes, Dot, DotOperand, Multiplied, Slot};
use crate::gpu::unit::Unit;

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
        let own = quotient("lane", 4);
        let word = remainder("lane", 4);
        let pitch_a = self.bytes_of("a_rows", left, &row.plus(&own), &word.times(64 / u32::from(codes.bits)));
        let key = column.plus(&own);
        let pitch = self.bytes_of("b_words", &dot.b, &key, &word.times(4));
        let by_group = self.bytes_of("b_scales", &codes.scales, &key, &Text::int(0));
        self.bytes_of("b_biases", &codes.biases, &key, &Text::int(0));
        let pitches = [pitch_a, pitch, by_group];
        match codes.multiplied {
            Multiplied::Numbers => self.numbers_of_rows(dot, codes, shape, pitches),
            Multiplied::Codes => {
                self.bytes_of("s_scales", &codes.scales, &column.plus(&word.times(2)), &Text::int(0));
                self.codes_of_rows(dot, codes, shape, pitches);
            }
        }
    }

    /// The numbers of q of a group, paired as codes are: `into[rows / 2][step]`.
    fn left_of_group(&mut self, codes: &Codes, down: u32, into: &str, pitch: u32) {
        let InWord { codes: in_word, steps, of_lanes } = InWord::of(codes);
        self.out.unrolled("rows", 2 * down, 1);
        self.out.unrolled("j", codes.group / of_lanes, 1);
        let vector = self.language.vector(2 * in_word);
        let at = atom("a_rows").plus(&atom("rows").times(8 * pitch)).plus(&atom("group").times(2 * codes.group));
        let at = at.plus(&atom("j").times(2 * of_lanes));
        self.out.line(format!("const {vector} w = {};", self.shared_at(vector, &at, true)));
        let parts = words("w", 2 * in_word);
        for k in 0..steps as usize {
            let (first, second) = (&parts[k], &parts[k + steps as usize]);
            let step = atom("j").times(steps).plus(&Text::int(k as u32)).text;
            for (of, part) in [("low", "rows % 2"), ("high", "rows % 2 + 2")] {
                self.out.line(format!("{into}[rows / 2][{step}][{part}] = pair_{of}({first}, {second});"));
            }
        }
        self.out.close();
        self.out.close();
    }

    fn numbers_of_rows(&mut self, dot: &Dot, codes: &Codes, shape: &Shape, [pitch_a, pitch, by_group]: [u32; 3]) {
        let Shape { down, across, .. } = *shape;
        let (bits, name) = (u32::from(codes.bits), dot.elem.name());
        let InWord { steps, of_lanes, .. } = InWord::of(codes);
        let in_group = codes.group / of_lanes;
        let step = |step: u32| atom("j").times(steps).plus(&Text::int(step)).text;
        self.out.unrolled("group", dot.depth / codes.group, 1);
        self.out.line(format!("unsigned a[{down}][{}][4];", in_group * steps));
        self.left_of_group(codes, down, "a", pitch_a);
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
            let pair =
                |pair: u32| number(codes, name, &shifted("word", (2 * k + pair) * bits), ["scale", "offset", "bias"]);
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

    /// Scores are sums of codes times their scales; biases, and what codes are less or more in 16 bits, are multiplied with the sums of q in a
    /// product of their own, `q_sums`: each number of it is three of bf16.
    fn codes_of_rows(&mut self, dot: &Dot, codes: &Codes, shape: &Shape, [pitch_a, pitch, by_group]: [u32; 3]) {
        let Shape { down, across, used, .. } = *shape;
        let bits = u32::from(codes.bits);
        let InWord { steps, of_lanes, .. } = InWord::of(codes);
        let in_group = codes.group / of_lanes;
        let groups = dot.depth / codes.group;
        // Two groups at a time, whose scales are a word, where few rows leave registers for their numbers of q.
        let pair = if down == 1 && groups.is_multiple_of(2) { 2 } else { 1 };
        let sum = self.fragment(dot.sum);

        self.out.unrolled("first", groups, pair);
        self.out.line(format!("unsigned a[{pair}][{down}][{}][4], q_sums[{down}][4];", in_group * steps));
        self.out.unrolled("i", pair, 1);
        self.out.line("const int group = first + i;");
        self.left_of_group(codes, down, "a[i]", pitch_a);
        self.out.close();
        self.out.unrolled("m", down, 1);
        self.out.line(format!("float sums[{pair}][4] = {{}};"));
        self.out.line("const unsigned ones[2] = {0x3f803f80u, 0x3f803f80u};");
        self.out.unrolled("i", pair, 1);
        self.out.unrolled("step", in_group * steps, 1);
        self.out.line("mma_m16n8k16_bf16(sums[i], a[i][m][step], ones);");
        self.out.close();
        self.out.close();
        for (register, half) in [(0, 0), (1, 2)] {
            if half >= used {
                self.out.line(format!("q_sums[m][{register}] = q_sums[m][{}] = 0u;", register + 2)); // no such rows
                continue;
            }
            let second = if pair == 2 { format!("sums[1][{half}]") } else { "0.0f".to_string() };
            self.out.line(format!("q_sums[m][{register}] = part_bf16(sums[0][{half}], {second}, lane % 4);"));
            self.out.line(format!("q_sums[m][{}] = less_{bits}_bf16(q_sums[m][{register}]);", register + 2));
        }
        self.out.close();

        self.out.unrolled("n", across, 1);
        let at = |base: &str, more: u32| {
            let of_key = atom(base).plus(&atom("n").times(8 * by_group)).plus(&Text::int(more * by_group));
            of_key.plus(&atom("first").times(2))
        };
        let kind = self.language.vector(2 * pair);
        let [biases, scales] = ["b_biases", "b_scales"].map(|base| self.shared_at(kind, &at(base, 0), true));
        self.out.line(format!("const unsigned summands[2] = {{{biases}, {scales}}};"));
        self.out.unrolled("m", down, 1);
        let index = atom("m").times(across).plus(&atom("n")).times(4).text;
        self.out.line(format!("mma_m16n8k16_bf16({sum} + {index}, q_sums[m], summands);"));
        self.out.close();
        let [left, right] = if pair == 2 && by_group == 4 {
            self.out.line(format!("const uint2 scales = {};", self.shared_at("uint2", &at("s_scales", 0), true)));
            ["scales.x", "scales.y"].map(str::to_string)
        } else {
            [0, 1].map(|key| self.shared_at(kind, &at("s_scales", key), true))
        };
        self.out.line(format!("const unsigned of_keys[2] = {{{left}, {right}}};"));
        self.out.unrolled("i", pair, 1);
        self.out.line(format!("float products[{down}][4] = {{}};"));
        self.out.unrolled("j", in_group, 1);
        let at = atom("b_words").plus(&atom("n").times(8 * pitch)).plus(&atom("j").times(16));
        let at = at.plus(&Text::loose("first + i").times(codes.group * bits / 8));
        self.out.line(format!("const unsigned word = {};", self.shared_at("unsigned", &at, true)));
        for k in 0..steps {
            let pair = |pair: u32| match (bits, 2 * k + pair) {
                (4, 0) => "near_code_4_bf16(word << 3)".to_string(),
                (4, at) => format!("near_code_4_bf16({})", shifted("word", at * bits - 3)),
                (_, at) => format!("code_8_bf16({})", shifted("word", at * bits)),
            };
            self.out.line(format!("const unsigned b{k}[2] = {{{}, {}}};", pair(0), pair(1)));
            self.out.unrolled("m", down, 1);
            let step = atom("j").times(steps).plus(&Text::int(k)).text;
            self.out.line(format!("mma_m16n8k16_bf16(products[m], a[i][m][{step}], b{k});"));
            self.out.close();
        }
        self.out.close();
        self.out.unrolled("m", down, 1);
        self.out.unrolled("r", used, 1);
        let at = atom("m").times(across).plus(&atom("n")).times(4).plus(&atom("r")).text;
        let scale = "i == 0 ? low_bf16(of_keys[r % 2]) : high_bf16(of_keys[r % 2])";
        self.out.line(format!("{sum}[{at}] = fmaf(products[m][r], {scale}, {sum}[{at}]);"));
        for _ in 0..5 {
            self.out.close();
        }
    }

    /// `p · v`: a lane takes neighbouring columns of four keys, one to each fragment of the sum. Codes of two keys make a pair. Where codes
    /// are multiplied, it is with weights times scales; biases, and what codes are less or more in 16 bits, are sums of their own.
    pub(super) fn mma_of_columns(&mut self, dot: &Dot, codes: &Codes, shape: &Shape, [row, column]: [Text; 2]) {
        let Shape { down, across, used, .. } = *shape;
        let (bits, name) = (u32::from(codes.bits), dot.elem.name());
        let Some(spread) = codes.spread else { return }; // such products have one
        let [_, n, _] = Unit::Mma.shape();
        let (neighbours, spreads) = (spread / n, across * n / spread);
        let bytes = neighbours * bits / 8;
        let exact = codes.multiplied == Multiplied::Codes;

        let pitch_a = self.left_rows(dot, &row);
        self.out.line(format!("const int own = {};", column.plus(&quotient("lane", 4).times(neighbours)).text));
        let key = remainder("lane", 4).times(2);
        let at = Text::product(&atom("own").times(bits), '/', &Text::int(8));
        let pitch = self.bytes_of("b_words", &dot.b, &key, &at);
        let at = Text::product(&column, '/', &Text::int(codes.group)).times(2);
        let by_group = self.bytes_of("b_scales", &codes.scales, &key, &at);
        self.bytes_of("b_biases", &codes.biases, &key, &at);
        if exact {
            self.out.line(format!("float less[{spreads}][{down}][4] = {{}};"));
        }
        self.steps_of_depth(dot, 16);
        self.left_of_step(dot, shape, pitch_a);
        self.factors_of_step(spreads, by_group);

        self.out.unrolled("s", spreads, 1);
        if !exact {
            for half in 0..2 {
                self.out.line(format!("const unsigned offset{half} = offset_{bits}_{name}(scales[s][{half}]);"));
            }
        } else {
            self.out.line(format!("unsigned scaled[{down}][4];"));
            let [first, second] = [0, 1].map(|half| format!("middle_{bits}_bf16(scales[s][{half}])"));
            self.out.line(format!("const unsigned middle[2] = {{{first}, {second}}};"));
            self.out.unrolled("m", down, 1);
            for part in 0..4 {
                let value = match part % 2 * 2 < used {
                    true => format!("fma_bf16x2(a[m][{part}], scales[s][{}], 0x80008000u)", part / 2),
                    false => "0u".to_string(), // no such rows
                };
                self.out.line(format!("scaled[m][{part}] = {value};"));
            }
            self.out.line("mma_m16n8k16_bf16(less[s][m], a[m], biases[s]);");
            self.out.line("mma_m16n8k16_bf16(less[s][m], a[m], middle);");
            if bits == 4 {
                self.out.line("const unsigned more[2] = {0xc308c308u, 0xc308c308u};"); // -128 - 8
                self.out.line("mma_m16n8k16_bf16(less[s][m], scaled[m], more);");
            }
            self.out.close();
        }
        let kind = self.language.vector(bytes);
        for (number, row) in [0, 1, 8, 9].into_iter().enumerate() {
            let at = atom("b_words").plus(&atom("k").times(pitch)).plus(&Text::int(row * pitch));
            let at = at.plus(&atom("s").times(spread * bits / 8));
            self.out.line(format!("const {kind} w{number} = {};", self.shared_at(kind, &at, true)));
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
            let pair = |of: &str, half: u32| match exact {
                true => format!("code_{bits}_bf16({of} >> {by})"),
                false => number(
                    codes,
                    name,
                    &format!("{of} >> {by}"),
                    [&format!("scales[s][{half}]"), &format!("offset{half}"), &format!("biases[s][{half}]")],
                ),
            };
            self.out.line(format!("const unsigned b[2] = {{{}, {}}};", pair("first", 0), pair("second", 1)));
            self.out.unrolled("m", down, 1);
            let column =
                atom("s").times(neighbours).plus(&atom("i")).plus(&Text::int(number_of_half as u32 * 16 / bits));
            let index = atom("m").times(across).plus(&column).times(4);
            let left = if exact { "scaled[m]" } else { "a[m]" };
            let sum = self.fragment(dot.sum);
            self.out.line(format!("mma_m16n8k16_{name}({sum} + {}, {left}, b);", index.text));
            for _ in 0..3 {
                self.out.close();
            }
        }
        self.out.close();
        self.out.close();
        if exact {
            self.out.unrolled("n", down * across, 1);
            self.out.unrolled("r", used, 1);
            let sum = self.fragment(dot.sum);
            let of = format!("less[n % {across} / {neighbours}][n / {across}][r]");
            self.out.line(format!("{sum}[n * 4 + r] += {of};"));
            self.out.close();
            self.out.close();
        }
    }

    /// `scales` and `biases` of the four keys of a lane, in pairs, for each spread of columns.
    fn factors_of_step(&mut self, spreads: u32, by_group: u32) {
        // Two groups of a key are a word, where no warp starts in between.
        let together = if spreads.is_multiple_of(2) && self.program.warps[1] == 1 { 2 } else { 1 };
        self.out.line(format!("unsigned scales[{spreads}][2], biases[{spreads}][2];"));
        let at = |base: &str, row: u32| {
            let of_key = atom(base).plus(&atom("k").times(by_group)).plus(&Text::int(row * by_group));
            of_key.plus(&atom("s").times(2))
        };
        self.out.unrolled("s", spreads, together);
        for (name, base) in [("scales", "b_scales"), ("biases", "b_biases")] {
            for half in 0..2 {
                let [first, second] = if together == 2 && by_group == 4 {
                    // A lane's two keys lie side by side.
                    let keys = self.shared_at("uint2", &at(base, 8 * half), true);
                    self.out.line(format!("const uint2 {name}{half} = {keys};"));
                    ["x", "y"].map(|key| format!("{name}{half}.{key}"))
                } else {
                    [0, 1]
                        .map(|key| self.shared_at(self.language.vector(2 * together), &at(base, 8 * half + key), true))
                };
                for (more, of) in ["low", "high"].into_iter().enumerate().take(together as usize) {
                    self.out.line(format!("{name}[s + {more}][{half}] = pair_{of}({first}, {second});"));
                }
            }
        }
        self.out.close();
    }
}

/// How the words of codes go to lanes in `q · kᵀ`.
struct InWord {
    /// Of a word.
    codes: u32,
    /// Steps of the unit's depth that are in the words of four lanes.
    steps: u32,
    /// Of four lanes, which take a word each.
    of_lanes: u32,
}

impl InWord {
    fn of(codes: &Codes) -> InWord {
        let of_word = 32 / u32::from(codes.bits);
        InWord { codes: of_word, steps: of_word / 4, of_lanes: 4 * of_word }
    }
}

fn atom(text: &str) -> Text {
    Text::atom(text)
}

fn quotient(of: &str, by: u32) -> Text {
    Text::product(&atom(of), '/', &Text::int(by))
}

fn remainder(of: &str, by: u32) -> Text {
    Text::product(&atom(of), '%', &Text::int(by))
}

fn shifted(word: &str, by: u32) -> String {
    if by == 0 { word.to_string() } else { format!("{word} >> {by}") }
}

/// The numbers of a pair of codes, low in both halves of a word.
fn number(codes: &Codes, elem: &str, pair: &str, [scale, offset, bias]: [&str; 3]) -> String {
    format!("number_{}_{elem}({pair}, {scale}, {offset}, {bias})", codes.bits)
}
