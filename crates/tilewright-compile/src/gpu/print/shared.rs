//! Shared memory: registers to and from it, and copies of tiles of tensors into it.

use super::coordinates::{Register, wanted};
use super::language::words;
use super::number::literal;
use super::text::Text;
use super::{Printer, mentions};
use crate::gpu::layout::{Axis, Digit, Layout, Of};
use crate::gpu::program::{Buffer, Copy, Expr, FragmentId, Slot};
use crate::gpu::source::Dialect;
use tilewright_ir::Elem;
use tilewright_ir::op::Elementwise;

/// Loops of at most this many passes are unrolled whole.
const UNROLLED: u32 = 16;

/// How many neighbouring registers, from the first, are neighbours in the rows of a buffer and lie in one word of 4, 8 or 16
/// bytes: 1 where none are.
fn group(layout: &Layout, buffer: &Buffer, transposed: bool) -> u32 {
    let (along, away) = if transposed { (Axis::Down, Axis::Across) } else { (Axis::Across, Axis::Down) };
    let fits = |digit: &Digit| digit.stride(along) == 1 && digit.stride(away) == 0;
    let Some((1, first)) = layout.digits(Of::Register).next().filter(|(_, digit)| fits(digit)) else { return 1 };
    let bytes = buffer.elem.bytes() as u32;
    let others = || {
        let of = [Of::Register, Of::Lane, Of::Warp];
        of.into_iter().flat_map(|of| layout.digits(of)).filter(|(_, d)| d.stride(along) != 1 || d.of != Of::Register)
    };
    let fits = |size: u32| {
        first.size.is_multiple_of(size)
            && buffer.pitch.is_multiple_of(size * bytes)
            && others().all(|(_, digit)| digit.stride(along).is_multiple_of(size))
    };
    [16, 8, 4].into_iter().map(|whole| whole / bytes).find(|&size| size > 1 && fits(size)).unwrap_or(1)
}

impl Printer<'_> {
    /// An element, or a word, of shared memory.
    pub(super) fn shared_at(&self, kind: &str, address: &Text, read: bool) -> String {
        let space = self.language.shared;
        format!("*({space}{}{kind}*){}", if read { "const " } else { "" }, address.tight())
    }

    /// The address in a buffer of a register's element, and the checks that it lies in the buffer.
    fn buffered(
        &mut self,
        layout: &Layout,
        slot: &Slot,
        transposed: bool,
        register: Register,
    ) -> (Text, Option<Text>, [Text; 2]) {
        let buffer = &self.program.buffers[slot.buffer.index()];
        let row = self.coordinate(layout, Axis::Down, register);
        let column = self.coordinate(layout, Axis::Across, register);
        let (down, across) = if transposed { (&column, &row) } else { (&row, &column) };
        let reach = [layout.extent(Axis::Down), layout.extent(Axis::Across)];
        let reach = if transposed { [reach[1], reach[0]] } else { reach };
        let checks = [(down, reach[0], buffer.extents[0]), (across, reach[1], buffer.extents[1])];
        let checks = checks.into_iter().filter(|(_, reach, extent)| reach > extent);
        let checks = checks.map(|(at, _, extent)| Text::compare(at, "<", &Text::int(extent)));
        let checks = Text::all(&checks.collect::<Vec<Text>>());
        let bytes = buffer.elem.bytes() as u32;
        let address = self.slot(slot).plus(&down.times(buffer.pitch)).plus(&across.times(bytes));
        (address, checks, [row, column])
    }

    pub(super) fn put(&mut self, to: &Slot, from: FragmentId) {
        let program = self.program;
        let (buffer, fragment) = (&program.buffers[to.buffer.index()], &program.fragments[from.index()]);
        let layout = &fragment.layout;
        let name = self.fragment(from);
        self.out.line(format!("// {} = {name}", buffer.name));
        let alone = self.first_replica(layout.replicas(Of::Lane), layout.replicas(Of::Warp));
        if let Some(alone) = &alone {
            self.out.open(format!("if ({alone})"));
        }
        let group = group(layout, buffer, false);
        let register = self.registers(layout, group);
        let (address, checks, [row, column]) = self.buffered(layout, to, false, register);
        let padded = self.padded(from);
        let zero = literal(self.language, fragment.elem, 0.0);
        let value = |more: u32| {
            let value = Text::atom(format!("{name}[{}]", register.plus(more).text));
            let mut checks = Vec::new();
            if padded[0] {
                checks.push(Text::compare(&row, "<", &Text::int(fragment.extents[0])));
            }
            if padded[1] {
                checks.push(Text::compare(&column.plus(&Text::int(more)), "<", &Text::int(fragment.extents[1])));
            }
            match Text::all(&checks) {
                None => value,
                Some(inside) => Text::choice(&inside, &value, &zero),
            }
        };
        if let Some(checks) = &checks {
            self.out.open(format!("if ({})", checks.text));
        }
        let bytes = buffer.elem.bytes() as u32;
        let line = if group == 1 {
            let kind = self.language.stored(buffer.elem);
            let value = self.language.down(buffer.elem, &value(0)).text;
            format!("{} = {value};", self.shared_at(kind, &address, false))
        } else {
            let all: Vec<Text> = (0..group).map(value).collect();
            let in_word = (4 / bytes) as usize;
            let words: Vec<Text> = all.chunks(in_word).map(|x| self.language.word(buffer.elem, x)).collect();
            let to = self.shared_at(self.language.vector(group * bytes), &address, false);
            format!("{to} = {};", self.language.made(&words))
        };
        self.out.line(line);
        if checks.is_some() {
            self.out.close();
        }
        self.end(register);
        if alone.is_some() {
            self.out.close();
        }
    }

    pub(super) fn get(&mut self, to: FragmentId, from: &Slot, place: &[Expr; 2]) {
        let transposed = match place {
            [Expr::Row, Expr::Column] => false,
            [Expr::Column, Expr::Row] => true,
            _ => return self.get_placed(to, from, place),
        };
        let program = self.program;
        let (buffer, fragment) = (&program.buffers[from.buffer.index()], &program.fragments[to.index()]);
        let name = self.fragment(to);
        self.out.line(format!("// {name} = {}{}", buffer.name, if transposed { "ᵀ" } else { "" }));
        let group = group(&fragment.layout, buffer, transposed);
        let register = self.registers(&fragment.layout, group);
        self.open_single(register);
        let (address, inside, _) = self.buffered(&fragment.layout, from, transposed, register);
        let bytes = buffer.elem.bytes() as u32;
        if group == 1 {
            let at = self.shared_at(self.language.stored(buffer.elem), &address, true);
            let value = self.language.up(buffer.elem, &at);
            let value = match inside {
                None => value,
                Some(inside) => Text::choice(&inside, &value, &literal(self.language, fragment.elem, 0.0)),
            };
            self.out.line(format!("{name}[{}] = {};", register.plus(0).text, value.text));
        } else {
            let kind = self.language.vector(group * bytes);
            let value = self.shared_at(kind, &address, true);
            let value = match inside {
                None => value,
                Some(inside) => {
                    let zeros = self.language.made(&vec![Text::atom("0u"); (group * bytes / 4) as usize]);
                    format!("{} ? {value} : {zeros}", inside.text)
                }
            };
            self.out.line(format!("const {kind} w = {value};"));
            let words = words("w", group * bytes);
            for j in 0..group {
                let value = self.language.part(buffer.elem, &words[(j * bytes / 4) as usize], j % (4 / bytes));
                self.out.line(format!("{name}[{}] = {};", register.plus(j).text, value.text));
            }
        }
        self.close_single();
    }

    /// Each element from where expressions of its row and column say.
    fn get_placed(&mut self, to: FragmentId, from: &Slot, place: &[Expr; 2]) {
        let program = self.program;
        let (buffer, fragment) = (&program.buffers[from.buffer.index()], &program.fragments[to.index()]);
        let name = self.fragment(to);
        self.out.line(format!("// {name} = {}, reshaped", buffer.name));
        let register = self.registers(&fragment.layout, 1);
        self.open_single(register);
        self.name_coordinates(&fragment.layout, register, wanted(place));
        let [row, column] = [&place[0], &place[1]].map(|at| self.expr(at));
        let padded = self.padded(to);
        let mut checks = Vec::new();
        for (k, axis) in [Axis::Down, Axis::Across].into_iter().enumerate() {
            if padded[k] {
                let at = self.coordinate(&fragment.layout, axis, register);
                checks.push(Text::compare(&at, "<", &Text::int(fragment.extents[k])));
            }
        }
        let bytes = buffer.elem.bytes() as u32;
        let address = self.slot(from).plus(&row.times(buffer.pitch)).plus(&column.times(bytes));
        let value = self.language.up(buffer.elem, &self.shared_at(self.language.stored(buffer.elem), &address, true));
        let value = match Text::all(&checks) {
            None => value,
            Some(inside) => Text::choice(&inside, &value, &literal(self.language, fragment.elem, 0.0)),
        };
        self.out.line(format!("{name}[{}] = {};", register.plus(0).text, value.text));
        self.close_single();
    }

    /// Zeros all over a slot.
    pub(super) fn clear(&mut self, slot: &Slot) {
        let buffer = &self.program.buffers[slot.buffer.index()];
        self.out.line(format!("// {} = 0", buffer.name));
        let threads = 32 * self.warps();
        let start = self.slot(slot);
        self.out.open(format!("for (int at = 16 * tid; at < {}; at += {})", buffer.slot_bytes(), 16 * threads));
        let to = self.shared_at(self.language.vector(16), &start.plus(&Text::atom("at")), false);
        self.out.line(format!("{to} = {};", self.language.made(&vec![Text::atom("0u"); 4])));
        self.out.close();
    }

    /// The axis along which the rows of a copy lie one after the other, where the passes of a thread go straight down it.
    fn straight(&self, copy: &Copy, chunks: u32, passes: u32) -> Option<usize> {
        let buffer = &self.program.buffers[copy.to.buffer.index()];
        let threads = 32 * self.warps();
        let even = threads.is_multiple_of(chunks) && (buffer.extents[0] * chunks).is_multiple_of(threads);
        let whole = copy.chunk.is_some() && passes > 1 && passes <= UNROLLED && buffer.extents == copy.extents;
        let mut down = copy.address.axes.iter().enumerate().filter(|(_, place)| mentions(&place.index, Axis::Down));
        let (axis, place) = down.next()?;
        let steps = match &place.index {
            Expr::Row => true,
            Expr::Op(Elementwise::Add, Elem::I32, of) => {
                matches!(&of[..], [first, Expr::Row] if !mentions(first, Axis::Down))
            }
            _ => false,
        };
        (even && whole && steps && down.next().is_none()).then_some(axis)
    }

    /// The function that copies so many bytes of a row to shared memory.
    fn copy_function(&self, bytes: u32) -> String {
        match self.dialect {
            Dialect::Cuda => format!("cp_async_{bytes}"),
            Dialect::Msl => format!("copy_{bytes}"),
        }
    }

    /// A copy whose passes go straight down an axis: addresses differ by a number of rows, and a tile that lies inside is
    /// copied without looking at each row.
    fn copy_straight(&mut self, copy: &Copy, axis: usize, slot: &Text, [step, chunks, passes]: [u32; 3]) {
        let program = self.program;
        let buffer = &program.buffers[copy.to.buffer.index()];
        let bytes = buffer.elem.bytes() as u32;
        let rows = 32 * self.warps() / chunks;
        let place = &copy.address.axes[axis];
        let origin = match &place.index {
            Expr::Op(_, _, of) => self.expr(&of[0]),
            _ => Text::int(0),
        };
        let [first, last] = [self.expr(&place.first), self.expr(&place.last)];
        self.out.line(format!("const int row = {};", Text::product(&Text::atom("tid"), '/', &Text::int(chunks)).text));
        let column = Text::product(&Text::atom("tid"), '%', &Text::int(chunks)).times(step);
        self.out.line(format!("const int column = {};", column.text));
        let located = self.locate_unchecked(&copy.address, true, Some(axis));
        let inside = located.inside().map_or("true".to_string(), |inside| inside.text);
        self.out.line(format!("const bool inside = {inside};"));
        let pointer = Text::atom(located.pointer.as_str()).plus(&located.offset).text;
        let elem = self.language.stored(buffer.elem);
        let space = self.language.device;
        self.out.line(format!("{space}const {elem}* const from = {pointer};"));
        let name = &self.names[copy.address.param as usize];
        let wide = self.language.wide;
        self.out.line(format!("const {wide} step = {rows} * ({wide})args.{name}_stride[{axis}];"));
        let at = origin.plus(&Text::atom("row"));
        let target = slot.plus(&Text::atom("row").times(buffer.pitch)).plus(&Text::atom("column").times(bytes));
        let target = target.plus(&Text::atom("pass").times(rows * buffer.pitch));
        let copied = self.copy_function(step * bytes);
        // An end past the largest i32 is no end before the last index.
        let origin_wide =
            if origin.value.is_some() { origin.clone() } else { Text::atom(format!("({wide}){}", origin.tight())) };
        let end = origin_wide.plus(&Text::int(copy.extents[0]));
        let all = [Text::compare(&origin, ">=", &first), Text::compare(&last, ">=", &end)];
        let all = Text::all(&all).map_or(String::new(), |all| all.text);
        self.out.open(format!("if (inside && {all})"));
        self.out.unrolled("pass", passes, 1);
        self.out.line(format!("{copied}({}, from + pass * step, true);", target.text));
        self.out.close();
        self.out.turn("else");
        self.out.unrolled("pass", passes, 1);
        let place = at.plus(&Text::atom("pass").times(rows));
        let each = [Text::compare(&place, ">=", &first), Text::compare(&place, "<", &last)];
        let each = Text::all(&each).map_or(String::new(), |each| each.text);
        self.out.line(format!("{copied}({}, from + pass * step, inside && {each});", target.text));
        self.out.close();
        self.out.close();
    }

    pub(super) fn copy(&mut self, copy: &Copy) {
        let program = self.program;
        let buffer = &program.buffers[copy.to.buffer.index()];
        let elem = program.params[copy.address.param as usize].elem;
        let bytes = buffer.elem.bytes() as u32;
        let step = copy.chunk.map_or(1, |chunk| chunk / bytes);
        let chunks = buffer.extents[1].div_ceil(step);
        let total = buffer.extents[0] * chunks;
        let threads = 32 * self.warps();
        let passes = total.div_ceil(threads);
        let tensor = &self.names[copy.address.param as usize];
        let ahead = match copy.to.ahead {
            0 => String::new(),
            ahead => format!(", {ahead} ahead"),
        };
        self.out.line(format!("// {} = {tensor}[…]{ahead}", buffer.name));
        let slot = self.slot(&copy.to);
        let slot = if slot.text.contains(' ') {
            self.out.open("");
            let space = self.language.shared;
            self.out.line(format!("{space}unsigned char* const to = {};", slot.text));
            Text::atom("to")
        } else {
            self.out.open("");
            slot
        };
        let tid = Text::atom("tid");
        if let Some(axis) = self.straight(copy, chunks, passes) {
            self.copy_straight(copy, axis, &slot, [step, chunks, passes]);
            self.out.close();
            return;
        }
        // Where threads are a multiple of the chunks of a row, a thread stays in its column.
        let (row, chunk) = if passes == 1 {
            (Text::product(&tid, '/', &Text::int(chunks)), Text::product(&tid, '%', &Text::int(chunks)))
        } else if threads.is_multiple_of(chunks) {
            let further = Text::atom("pass").times(threads / chunks);
            let row = Text::product(&tid, '/', &Text::int(chunks)).plus(&further);
            (row, Text::product(&tid, '%', &Text::int(chunks)))
        } else {
            let number = tid.plus(&Text::atom("pass").times(threads));
            (Text::product(&number, '/', &Text::int(chunks)), Text::product(&number, '%', &Text::int(chunks)))
        };
        if passes > 1 {
            self.out.line(if passes <= UNROLLED { "#pragma unroll" } else { "#pragma unroll 4" });
            self.out.open(format!("for (int pass = 0; pass < {passes}; ++pass)"));
        }
        let partial = !total.is_multiple_of(threads);
        if partial {
            let number = if passes == 1 { tid } else { tid.plus(&Text::atom("pass").times(threads)) };
            self.out.open(format!("if ({} < {total})", number.text));
        }
        self.out.line(format!("const int row = {};", row.text));
        self.out.line(format!("const int column = {};", chunk.times(step).text));
        let mut place = self.locate(&copy.address, copy.chunk.is_some());
        for (k, name) in ["row", "column"].into_iter().enumerate() {
            if buffer.extents[k] > copy.extents[k] {
                place.checks.push(Text::compare(&Text::atom(name), "<", &Text::int(copy.extents[k])));
            }
        }
        self.name_offset(&mut place);
        let [row, column] = [Text::atom("row"), Text::atom("column")];
        let address = slot.plus(&row.times(buffer.pitch)).plus(&column.times(bytes));
        let inside = place.inside();
        if let Some(chunk) = copy.chunk {
            let name = self.copy_function(chunk);
            let inside = inside.map_or("true".to_string(), |inside| inside.text);
            self.out.line(format!("const bool inside = {inside};"));
            self.out.line(format!("{name}({}, {}, inside);", address.text, place.pointer(0)));
        } else {
            let kind = self.language.stored(buffer.elem);
            let own = if elem == buffer.elem {
                Text::atom(place.element())
            } else {
                self.language.down(buffer.elem, &self.language.up(elem, &place.element()))
            };
            let zero = Text::atom(format!("({kind})0.0f"));
            let zero = if buffer.elem.is_float() { zero } else { Text::atom(format!("({kind})0")) };
            let value = match inside {
                None => own,
                Some(inside) => Text::choice(&inside, &own, &zero),
            };
            self.out.line(format!("{} = {};", self.shared_at(kind, &address, false), value.text));
        }
        if partial {
            self.out.close();
        }
        if passes > 1 {
            self.out.close();
        }
        self.out.close();
    }
}
