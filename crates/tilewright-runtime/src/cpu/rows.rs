//! Rows of a matrix in memory: where those lie that lie at equal distances, or, where elements lie apart or outside the bounds,
//! copies of a few rows as f32. What lies outside the bounds is zero.

use super::ahead;
use super::memory::{Columns, Place, Stored, with_stored};
use super::paired_rows::PairedRow;
use super::row::{
    Bf16Row, BytesRow, CodesRow, CopiedRow, ExactBf16, ExactF16, F16Row, F32Row, NibblesRow, Round, Row, ToBf16, ToF16,
    ToF32,
};
use super::simd::Simd;
use super::stream::TOGETHER;
use std::marker::PhantomData;
use std::ops::Range;
use tilewright_compile::cpu::ROWS_AT_ONCE;
use tilewright_ir::Elem;

/// Rows that are copied at a time.
const AT_ONCE: usize = ROWS_AT_ONCE as usize;

/// Where rows are read.
#[expect(clippy::large_enum_variant, reason = "one lives on the stack while a step runs")]
pub(super) enum Reader<'p> {
    /// Floats as they are stored.
    Stored(Rows<'p>),
    /// Codes and what they stand for.
    Codes(Codes<'p>),
}

/// Rows at equal distances, all of one kind.
pub(super) trait Block<V: Simd> {
    /// One of them.
    type Row: Row<V>;

    fn row(&self, at: usize) -> Self::Row;

    /// Four from one on, of which some exist, one at least; the others repeat the last of these.
    fn rows(&self, at: usize, exist: usize) -> [Self::Row; 4];

    /// Says that the rows as far ahead of these as is useful will be read soon, where reading these does not.
    fn prefetch(&self, rows: Range<usize>);
}

/// What is done with rows.
///
/// # Safety
/// The instruction set of `V`, and `count` rows that may be read, the first of which is number `first` of all; both are multiples of
/// [`Wanted::together`].
pub(super) trait Visitor<V: Simd> {
    unsafe fn visit<B: Block<V, Row: PairedRow<V>>>(&self, first: usize, count: usize, rows: &B);
}

/// Where rows of codes are.
pub(super) struct CodeRows {
    pub words: Run,
    pub scales: Run,
    pub biases: Run,
    pub group: usize,
    /// The type of scales and biases.
    pub elem: Elem,
}

/// Where rows at equal distances begin.
#[derive(Clone, Copy)]
pub(super) struct Run {
    start: *const u8,
    /// From one row to the next, in bytes.
    pub step: isize,
    /// From a row to the one to ask for when it is read, in bytes.
    pub ahead: isize,
    /// Of a row.
    bytes: usize,
    /// Rows that begin in one cache line, at least one.
    in_line: usize,
}

impl Run {
    /// Rows of floats one after the other.
    fn copied(start: *const f32, width: usize) -> Run {
        let bytes = width * size_of::<f32>();
        Run { start: start.cast(), step: bytes as isize, ahead: 0, bytes, in_line: 1 }
    }

    #[inline(always)]
    pub fn row(&self, at: usize) -> *const u8 {
        self.start.wrapping_offset(at as isize * self.step)
    }

    /// As [`Block::rows`].
    #[inline(always)]
    fn rows(&self, at: usize, exist: usize) -> [*const u8; 4] {
        let step = |beyond: usize| if beyond < exist { self.step } else { 0 };
        let first = self.row(at);
        let second = first.wrapping_offset(step(1));
        let third = second.wrapping_offset(step(2));
        [first, second, third, third.wrapping_offset(step(3))]
    }

    #[inline(always)]
    fn prefetch<V: Simd>(&self, rows: Range<usize>) {
        if self.ahead == 0 {
            return;
        }
        let mut row = rows.start;
        while row < rows.end {
            ahead::prefetch::<V>(self.row(row).wrapping_offset(self.ahead), self.bytes);
            row += self.in_line;
        }
    }
}

/// Rows of the kind that `Self::Row` is.
macro_rules! floats {
    ($name:ident, $row:ident, $bits:ty) => {
        struct $name(Run);

        impl<V: Simd> Block<V> for $name {
            type Row = $row;

            #[inline(always)]
            fn row(&self, at: usize) -> $row {
                $row { from: self.0.row(at).cast(), ahead: self.0.ahead }
            }

            #[inline(always)]
            fn rows(&self, at: usize, exist: usize) -> [$row; 4] {
                let [a, b, c, d] = self.0.rows(at, exist);
                let row = |from: *const u8| $row { from: from.cast(), ahead: self.0.ahead };
                [row(a), row(b), row(c), row(d)]
            }

            #[inline(always)]
            fn prefetch(&self, rows: Range<usize>) {
                if !ahead::by_vectors::<V, $bits>() {
                    self.0.prefetch::<V>(rows);
                }
            }
        }
    };
}
floats!(F32Rows, F32Row, f32);
floats!(CopiedRows, CopiedRow, f32);
floats!(F16Rows, F16Row, u16);
floats!(Bf16Rows, Bf16Row, u16);

/// Rows of codes.
#[derive(Clone, Copy)]
struct CodesRows<R> {
    words: Run,
    scales: Run,
    biases: Run,
    group: usize,
    rounds: PhantomData<R>,
}

impl<R: Round> CodesRows<R> {
    #[inline(always)]
    fn row(&self, at: usize) -> CodesRow<R> {
        let &CodesRows { words, scales, biases, group, rounds } = self;
        CodesRow { codes: words.row(at), scales: scales.row(at), biases: biases.row(at), group, rounds }
    }

    #[inline(always)]
    fn rows(&self, at: usize, exist: usize) -> [CodesRow<R>; 4] {
        let &CodesRows { group, rounds, .. } = self;
        let [words, scales, biases] =
            [self.words.rows(at, exist), self.scales.rows(at, exist), self.biases.rows(at, exist)];
        let row = |i: usize| CodesRow { codes: words[i], scales: scales[i], biases: biases[i], group, rounds };
        [row(0), row(1), row(2), row(3)]
    }
}

/// Rows of codes of the kind that `Self::Row` is.
macro_rules! codes {
    ($name:ident, $row:ident) => {
        struct $name<R>(CodesRows<R>);

        impl<V: Simd, R: Round> Block<V> for $name<R> {
            type Row = $row<R>;

            #[inline(always)]
            fn row(&self, at: usize) -> $row<R> {
                $row(self.0.row(at))
            }

            #[inline(always)]
            fn rows(&self, at: usize, exist: usize) -> [$row<R>; 4] {
                let [a, b, c, d] = self.0.rows(at, exist);
                [$row(a), $row(b), $row(c), $row(d)]
            }

            #[inline(always)]
            fn prefetch(&self, rows: Range<usize>) {
                let CodesRows { words, scales, biases, .. } = &self.0;
                [words, scales, biases].iter().for_each(|of| of.prefetch::<V>(rows.clone()));
            }
        }
    };
}
codes!(BytesRows, BytesRow);
codes!(NibblesRows, NibblesRow);

/// Which rows are wanted, and where copies of them have room.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub rows: usize,
    /// Rows are visited in multiples of this, 1 or 2; past the last one comes a row of zeros.
    pub together: usize,
    /// Numbers in a row.
    pub width: usize,
    /// How many rows they are multiplied with.
    pub uses: usize,
    /// Room for [`ROWS_AT_ONCE`] rows, at least.
    pub scratch: *mut f32,
}

/// What copies of rows are made from. No closure: those are compiled without the instruction set unless they happen to be inlined.
trait Source<V: Simd> {
    /// The numbers of some rows, of all that are wanted.
    ///
    /// # Safety
    /// As [`Reader::visit`], with room for them.
    unsafe fn copy(&self, some: Range<usize>, wanted: &Wanted, to: *mut f32);
}

impl Wanted {
    /// How many of a run of `count` rows are visited where they lie: whole groups of those that are visited together.
    #[inline(always)]
    fn in_place(&self, count: usize) -> usize {
        count / self.together * self.together
    }

    /// Has copies of rows visited, a few at a time.
    ///
    /// # Safety
    /// As [`Reader::visit`].
    #[inline(always)]
    unsafe fn copied<V: Simd>(&self, some: Range<usize>, source: &impl Source<V>, visitor: &impl Visitor<V>) {
        let Wanted { together, width, scratch, .. } = *self;
        let mut first = some.start;
        while first < some.end {
            let count = AT_ONCE.min(some.end - first);
            let visited = count.next_multiple_of(together);
            // SAFETY: the caller's promise; there is room for so many rows, all of which are written.
            unsafe {
                source.copy(first..first + count, self, scratch);
                std::ptr::write_bytes(scratch.add(count * width), 0, (visited - count) * width);
                visitor.visit(first, visited, &CopiedRows(Run::copied(scratch, width)));
            }
            first += count;
        }
    }
}

/// An expression in which `$round` is what the numbers of codes are rounded to, and the type of their scales; `exact` codes are not rounded.
macro_rules! with_round {
    ($codes:ident, $round:ident => $body:expr) => {
        match ($codes.rounds, $codes.scales.place.elem()) {
            (Elem::Bf16, _) => with_round!(@ToBf16, $round => $body),
            (Elem::F16, _) => with_round!(@ToF16, $round => $body),
            _ => with_round!(exact $codes, $round => $body),
        }
    };
    (exact $codes:ident, $round:ident => $body:expr) => {
        match $codes.scales.place.elem() {
            Elem::Bf16 => with_round!(@ExactBf16, $round => $body),
            Elem::F16 => with_round!(@ExactF16, $round => $body),
            Elem::F32 | Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool => {
                with_round!(@ToF32, $round => $body)
            }
        }
    };
    (@$kind:ident, $round:ident => $body:expr) => {{
        type $round = $kind;
        $body
    }};
}

impl Reader<'_> {
    /// Has all rows visited, in order.
    ///
    /// # Safety
    /// The instruction set of `V`; the scratch rows are as `wanted` says; the places have lanes for their indices, and rows of
    /// `width` numbers, whole vectors of them.
    #[inline(always)]
    pub unsafe fn visit<V: Simd>(&self, wanted: Wanted, visitor: &impl Visitor<V>) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Reader::Stored(rows) => rows.visit::<V>(wanted, visitor),
                Reader::Codes(codes) if codes.rounds == Elem::F32 => {
                    with_round!(exact codes, R => codes.visit::<V, R>(wanted, visitor))
                }
                // Rounded ones are for tiles of many rows, which are decoded in one step: here they need not be fast.
                Reader::Codes(codes) => codes.visit_copies::<V>(0..wanted.rows, wanted, visitor),
            }
        }
    }

    /// The numbers of all `rows` rows of codes to `dst`.
    ///
    /// # Safety
    /// As [`visit`](Self::visit), with room for all rows.
    #[inline(always)]
    pub unsafe fn decode<V: Simd>(&self, rows: usize, width: usize, dst: *mut f32) {
        let Reader::Codes(codes) = self else { return };
        // SAFETY: the caller's promise.
        unsafe { with_round!(codes, R => codes.decode::<V, R>(0..rows, rows, width, dst)) }
    }
}

/// Rows of one place, and where they are.
pub(super) struct Rows<'p> {
    place: Place<'p>,
    columns: Columns,
}

impl<'p> Rows<'p> {
    pub fn new(place: Place<'p>) -> Rows<'p> {
        let columns = place.columns();
        Rows { place, columns }
    }

    /// How many rows from `first` on, of `rows`, lie at equal distances, and where, or are all outside the bounds.
    ///
    /// # Safety
    /// The place has lanes for its indices.
    #[inline(always)]
    unsafe fn run(&self, first: usize, rows: usize) -> (usize, Option<Run>) {
        let Columns { first: left, last: right, skip, .. } = self.columns;
        let bytes = (right - left) * self.place.elem().bytes();
        // SAFETY: the caller's promise.
        let strip = unsafe { self.place.strip_from(first, ahead::rows_ahead(bytes)) };
        let start = strip.start.map(|start| start.wrapping_offset(skip).cast_const());
        let in_line = (ahead::LINE / strip.step.unsigned_abs().max(1)).max(1);
        let run = start.map(|start| Run { start, step: strip.step, ahead: strip.ahead, bytes, in_line });
        (strip.rows.min(rows - first), run)
    }

    /// As [`Reader::visit`].
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn visit<V: Simd>(&self, wanted: Wanted, visitor: &impl Visitor<V>) {
        let Wanted { rows, together, width, .. } = wanted;
        let mut first = 0;
        while first < rows {
            // SAFETY: the caller's promise.
            unsafe {
                let (count, run) = self.run(first, rows);
                let count = wanted.in_place(count);
                match run.filter(|_| count > 0) {
                    Some(run) if self.are_whole(Elem::F32, width) => visitor.visit(first, count, &F32Rows(run)),
                    Some(run) if V::WIDENS && self.are_whole(Elem::Bf16, width) => {
                        visitor.visit(first, count, &Bf16Rows(run));
                    }
                    Some(run) if V::WIDENS && self.are_whole(Elem::F16, width) => {
                        visitor.visit(first, count, &F16Rows(run));
                    }
                    _ => wanted.copied(first..rows.min(first + count.max(together)), self, visitor),
                }
                first += count.max(together);
            }
        }
    }

    /// The numbers of a row whose elements lie anywhere.
    ///
    /// # Safety
    /// A row of this place; `to` has room for `width` floats.
    #[inline(never)]
    unsafe fn scattered(&self, from: *const u8, width: usize, to: *mut f32) {
        for at in 0..width {
            // SAFETY: the caller's promise.
            unsafe { *to.add(at) = self.float(Some(from), at) };
        }
    }

    /// Whether rows have `width` elements of this type side by side.
    #[inline(always)]
    fn are_whole(&self, elem: Elem, width: usize) -> bool {
        let Columns { first, last, stride, .. } = self.columns;
        self.place.elem() == elem && first == 0 && last == width && stride == 1
    }

    /// The lane of one element of a row, zero outside the bounds.
    ///
    /// # Safety
    /// A row of this place.
    #[inline(always)]
    unsafe fn lane(&self, row: Option<*const u8>, at: usize) -> u32 {
        let Columns { first, last, stride, .. } = self.columns;
        let Some(row) = row.filter(|_| at >= first && at < last) else { return 0 };
        let offset = (at - first) as isize * stride;
        // SAFETY: inside the bounds.
        with_stored!(self.place.elem(), S => unsafe { row.cast::<S>().wrapping_offset(offset).read().lane() })
    }

    /// As [`lane`](Self::lane), of floats.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn float(&self, row: Option<*const u8>, at: usize) -> f32 {
        // SAFETY: the caller's promise.
        f32::from_bits(unsafe { self.lane(row, at) })
    }
}

impl<V: Simd> Source<V> for Rows<'_> {
    #[inline(always)]
    unsafe fn copy(&self, some: Range<usize>, wanted: &Wanted, to: *mut f32) {
        let &Wanted { rows, width, .. } = wanted;
        let mut first = some.start;
        while first < some.end {
            // SAFETY: the caller's promise.
            unsafe {
                let (count, run) = self.run(first, rows);
                let count = count.min(some.end - first);
                for row in 0..count {
                    let to = to.add((first - some.start + row) * width);
                    let Some(from) = run.map(|run| run.row(row)) else {
                        std::ptr::write_bytes(to, 0, width);
                        continue;
                    };
                    if self.are_whole(Elem::Bf16, width) {
                        write::<V, _>(Bf16Row { from: from.cast(), ahead: 0 }, width, to);
                    } else if self.are_whole(Elem::F16, width) {
                        write::<V, _>(F16Row { from: from.cast(), ahead: 0 }, width, to);
                    } else {
                        self.scattered(from, width, to);
                    }
                }
                first += count;
            }
        }
    }
}

/// `T(T(scale * code) + bias)`, with a scale and a bias for each `group` neighbours; T is f32, or their type.
pub(super) struct Codes<'p> {
    pub words: Rows<'p>,
    pub scales: Rows<'p>,
    pub biases: Rows<'p>,
    pub bits: u8,
    pub group: usize,
    /// The type T.
    pub rounds: Elem,
}

impl Codes<'_> {
    /// Rows of codes from `first` on: how many, and where they are if they lie side by side.
    ///
    /// # Safety
    /// As [`Rows::run`].
    #[inline(always)]
    pub unsafe fn in_place(&self, first: usize, rows: usize, width: usize) -> (usize, Option<CodeRows>) {
        let &Codes { ref words, ref scales, ref biases, bits, group, .. } = self;
        let elem = scales.place.elem();
        let whole = words.are_whole(Elem::U32, width * usize::from(bits) / 32)
            && [scales, biases].iter().all(|of| of.are_whole(elem, width / group));
        // SAFETY: the caller's promise.
        let [(a, words), (b, scales), (c, biases)] = [words, scales, biases].map(|of| unsafe { of.run(first, rows) });
        let rows = words.zip(scales).zip(biases).filter(|_| whole);
        let rows = rows.map(|((words, scales), biases)| CodeRows { words, scales, biases, group, elem });
        (a.min(b).min(c), rows)
    }

    /// The same to be read as numbers.
    ///
    /// # Safety
    /// As [`Rows::run`].
    #[inline(always)]
    unsafe fn run<R: Round>(&self, first: usize, rows: usize, width: usize) -> (usize, Option<CodesRows<R>>) {
        // SAFETY: the caller's promise.
        let (count, rows) = unsafe { self.in_place(first, rows, width) };
        let rows = rows.filter(|rows| rows.elem == R::ELEM);
        let rows = rows.map(|CodeRows { words, scales, biases, group, .. }| CodesRows {
            words,
            scales,
            biases,
            group,
            rounds: PhantomData,
        });
        (count, rows)
    }

    /// Has copies of the numbers of some rows visited.
    ///
    /// # Safety
    /// As [`Reader::visit`].
    #[inline(always)]
    pub unsafe fn visit_copies<V: Simd>(&self, some: Range<usize>, wanted: Wanted, visitor: &impl Visitor<V>) {
        // SAFETY: the caller's promise.
        unsafe {
            with_round!(self, R => wanted.copied(some, &Numbers::<R> { of: self, rounds: PhantomData }, visitor));
        }
    }

    /// The rows where they lie, or their numbers where these are used often or do not lie side by side.
    ///
    /// # Safety
    /// As [`Reader::visit`].
    #[inline(always)]
    unsafe fn visit<V: Simd, R: Round>(&self, wanted: Wanted, visitor: &impl Visitor<V>) {
        let Wanted { rows, together, width, uses, .. } = wanted;
        let mut first = 0;
        while first < rows {
            // SAFETY: the caller's promise.
            unsafe {
                let (count, codes) = self.run::<R>(first, rows, width);
                let count = wanted.in_place(count);
                match (codes.filter(|_| count > 0 && V::DECODES && uses <= TOGETHER), self.bits) {
                    (Some(codes), 8) => visitor.visit(first, count, &BytesRows(codes)),
                    (Some(codes), _) => visitor.visit(first, count, &NibblesRows(codes)),
                    (None, _) => {
                        let numbers = Numbers::<R> { of: self, rounds: PhantomData };
                        wanted.copied(first..rows.min(first + count.max(together)), &numbers, visitor);
                    }
                }
                first += count.max(together);
            }
        }
    }

    /// The numbers of some rows, of `rows`, to `dst`.
    ///
    /// # Safety
    /// As [`Reader::decode`].
    #[inline(always)]
    unsafe fn decode<V: Simd, R: Round>(&self, some: Range<usize>, rows: usize, width: usize, dst: *mut f32) {
        let mut first = some.start;
        while first < some.end {
            // SAFETY: the caller's promise.
            unsafe {
                let (count, codes) = self.run::<R>(first, rows, width);
                let count = count.min(some.end - first);
                let to = dst.add((first - some.start) * width);
                match (codes, self.bits) {
                    (Some(codes), 8) => write_all::<V, _>(&BytesRows(codes), count, width, to),
                    (Some(codes), _) => write_all::<V, _>(&NibblesRows(codes), count, width, to),
                    (None, _) => {
                        (0..count).for_each(|row| self.scattered::<R>(first + row, rows, width, to.add(row * width)));
                    }
                }
                first += count;
            }
        }
    }

    /// The numbers of a row whose elements lie anywhere, or outside the bounds.
    ///
    /// # Safety
    /// As [`Reader::decode`].
    #[inline(never)]
    unsafe fn scattered<R: Round>(&self, row: usize, rows: usize, width: usize, to: *mut f32) {
        let bits = usize::from(self.bits);
        // SAFETY: the caller's promise.
        unsafe {
            let start = |of: &Rows<'_>| of.run(row, rows).1.map(|run| run.start);
            let parts @ [words, scales, biases] = [&self.words, &self.scales, &self.biases].map(start);
            if parts.iter().all(Option::is_none) {
                return std::ptr::write_bytes(to, 0, width);
            }
            for at in 0..width {
                let word = self.words.lane(words, at * bits / 32);
                let code = (word >> (at * bits % 32) & ((1 << bits) - 1)) as f32;
                let (scale, bias) =
                    (self.scales.float(scales, at / self.group), self.biases.float(biases, at / self.group));
                *to.add(at) = R::round_one(R::round_one(code * scale) + bias);
            }
        }
    }
}

/// What codes stand for.
struct Numbers<'c, R> {
    of: &'c Codes<'c>,
    rounds: PhantomData<R>,
}

impl<V: Simd, R: Round> Source<V> for Numbers<'_, R> {
    #[inline(always)]
    unsafe fn copy(&self, some: Range<usize>, wanted: &Wanted, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { self.of.decode::<V, R>(some, wanted.rows, wanted.width, to) }
    }
}

/// All numbers of some rows, which are asked for ahead.
///
/// # Safety
/// As [`Row`]; `to` has room for them.
#[inline(always)]
unsafe fn write_all<V: Simd, B: Block<V>>(rows: &B, count: usize, width: usize, to: *mut f32) {
    for row in 0..count {
        if row.is_multiple_of(AT_ONCE) {
            rows.prefetch(row..count.min(row + AT_ONCE));
        }
        // SAFETY: the caller's promise.
        unsafe { write::<V, _>(rows.row(row), width, to.add(row * width)) };
    }
}

/// All numbers of a row.
///
/// # Safety
/// As [`Row`]; `to` has room for `width` floats.
#[inline(always)]
unsafe fn write<V: Simd, R: Row<V>>(row: R, width: usize, to: *mut f32) {
    let stretch = row.stretch(width);
    for (number, first) in (0..width).step_by(stretch).enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let state = row.state(number);
            for at in (first..first + stretch).step_by(V::LANES) {
                V::store(to.add(at), row.load(&state, at));
            }
        }
    }
}
