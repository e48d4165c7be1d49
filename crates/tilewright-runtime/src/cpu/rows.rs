//! Rows of a matrix in memory, a few at a time: where each lies, or, where its elements lie apart or outside the bounds, a
//! copy as f32. What lies outside the bounds is zero.

use super::memory::{Columns, Place, Stored, Strip, with_stored};
use super::row::{Bf16Row, BytesRow, CodesRow, F16Row, F32Row, NibblesRow, Round, Row, ToBf16, ToF16, ToF32};
use super::simd::Simd;
use super::stream::TOGETHER;
use std::marker::PhantomData;
use tilewright_compile::cpu::ROWS_AT_ONCE;
use tilewright_ir::Elem;

/// Rows that are read at a time.
pub(super) const AT_ONCE: usize = ROWS_AT_ONCE as usize;

/// How many rows before they are read those are asked for that lie anywhere.
const AHEAD: usize = 2 * AT_ONCE;

/// The same of rows at equal distances, which the processor foresees, but not across all of several rows: without, decode over
/// 32768 keys takes 1.8 times as long in bf16 and 1.1 times in f32 (`tile bench decode_h32_d128_32768`; 16, 32 and 64 were no better).
const AHEAD_IN_STRIP: usize = AT_ONCE;

/// Where rows are read.
#[expect(clippy::large_enum_variant, reason = "one lives on the stack while a step runs")]
pub(super) enum Reader<'p> {
    /// Floats as they are stored.
    Stored(Rows<'p>),
    /// Codes and what they stand for.
    Codes(Codes<'p>),
}

/// Some rows, all of one kind.
pub(super) trait Block<V: Simd> {
    /// One of them.
    type Row: Row<V>;

    fn row(&self, at: usize) -> Self::Row;
}

/// What is done with a block of rows.
///
/// # Safety
/// The instruction set of `V`, and rows that may be read.
pub(super) trait Visitor {
    unsafe fn visit<V: Simd, B: Block<V>>(&self, rows: &B);
}

/// Rows that begin at these addresses, of the kind that `Self::Row` is.
macro_rules! floats {
    ($name:ident, $row:ident) => {
        struct $name([*const u8; AT_ONCE]);

        impl<V: Simd> Block<V> for $name {
            type Row = $row;

            #[inline(always)]
            fn row(&self, at: usize) -> $row {
                $row(self.0[at].cast())
            }
        }
    };
}
floats!(F32Rows, F32Row);
floats!(F16Rows, F16Row);
floats!(Bf16Rows, Bf16Row);

/// Rows of codes, whose parts begin at these addresses.
struct CodesRows<R> {
    words: [*const u8; AT_ONCE],
    scales: [*const u8; AT_ONCE],
    biases: [*const u8; AT_ONCE],
    group: usize,
    rounds: PhantomData<R>,
}

impl<R: Round> CodesRows<R> {
    #[inline(always)]
    fn row(&self, at: usize) -> CodesRow<R> {
        let CodesRows { words, scales, biases, group, rounds } = self;
        CodesRow { codes: words[at], scales: scales[at], biases: biases[at], group: *group, rounds: *rounds }
    }
}

struct BytesRows<'c, R>(&'c CodesRows<R>);
struct NibblesRows<'c, R>(&'c CodesRows<R>);

impl<V: Simd, R: Round> Block<V> for BytesRows<'_, R> {
    type Row = BytesRow<R>;

    #[inline(always)]
    fn row(&self, at: usize) -> BytesRow<R> {
        BytesRow(self.0.row(at))
    }
}

impl<V: Simd, R: Round> Block<V> for NibblesRows<'_, R> {
    type Row = NibblesRow<R>;

    #[inline(always)]
    fn row(&self, at: usize) -> NibblesRow<R> {
        NibblesRow(self.0.row(at))
    }
}

/// Which rows are wanted, and where copies of them have room.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// The first, and how many: 1 to [`AT_ONCE`]. Further ones of a block repeat the last.
    pub first: usize,
    pub count: usize,
    /// Numbers in a row.
    pub width: usize,
    /// How many rows they are multiplied with.
    pub uses: usize,
    /// Room for `count` rows.
    pub scratch: *mut f32,
}

impl Wanted {
    /// The copies: rows one after the other, past `count` the last.
    #[inline(always)]
    fn copied(&self) -> F32Rows {
        let Wanted { count, width, scratch, .. } = *self;
        F32Rows(std::array::from_fn(|row| scratch.wrapping_add(row.min(count - 1) * width).cast_const().cast()))
    }
}

impl Reader<'_> {
    /// Has some rows visited.
    ///
    /// # Safety
    /// The instruction set of `V`; the scratch rows are as `wanted` says; the places have lanes for their indices, and rows of
    /// `width` numbers, whole vectors of them.
    #[inline(always)]
    pub unsafe fn visit<V: Simd>(&self, wanted: Wanted, visitor: &impl Visitor) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Reader::Stored(rows) => rows.visit::<V>(wanted, visitor),
                Reader::Codes(codes) => match codes.rounds {
                    Elem::Bf16 => codes.visit::<V, ToBf16>(wanted, visitor),
                    Elem::F16 => codes.visit::<V, ToF16>(wanted, visitor),
                    Elem::F32 | Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool => {
                        codes.visit::<V, ToF32>(wanted, visitor);
                    }
                },
            }
        }
    }

    /// The numbers of all `count` rows of codes to `dst`.
    ///
    /// # Safety
    /// As [`visit`](Self::visit), with room for all rows.
    #[inline(always)]
    pub unsafe fn decode<V: Simd>(&self, count: usize, width: usize, dst: *mut f32) {
        /// Codes that are used often are written to the scratch rows, which are here where the numbers belong.
        struct Written;
        impl Visitor for Written {
            #[inline(always)]
            unsafe fn visit<V: Simd, B: Block<V>>(&self, _: &B) {}
        }
        for first in (0..count).step_by(AT_ONCE) {
            let scratch = dst.wrapping_add(first * width);
            let wanted = Wanted { first, count: AT_ONCE.min(count - first), width, uses: usize::MAX, scratch };
            // SAFETY: the caller's promise.
            unsafe { self.visit::<V>(wanted, &Written) };
        }
    }
}

/// Rows of one place, and where they are.
pub(super) struct Rows<'p> {
    place: Place<'p>,
    strip: Option<Strip>,
    columns: Columns,
}

impl<'p> Rows<'p> {
    pub fn new(place: Place<'p>) -> Rows<'p> {
        let (strip, columns) = (place.strip(), place.columns());
        Rows { place, strip, columns }
    }

    /// Where the rows from `first` on begin, at the first element inside the bounds; null outside, past `count` the last.
    ///
    /// # Safety
    /// The place has lanes for its indices; the instruction set of `V`.
    #[inline(always)]
    unsafe fn from<V: Simd>(&self, first: usize, count: usize) -> [*const u8; AT_ONCE] {
        let mut rows: [*mut u8; AT_ONCE] = match &self.strip {
            Some(strip) => {
                self.expect::<V>(strip.places(first + AHEAD_IN_STRIP));
                strip.some_rows(first)
            }
            None => {
                // SAFETY: the caller's promise.
                let [rows, next] = unsafe { [self.place.some_rows(first), self.place.some_rows(first + AHEAD)] };
                self.expect::<V>(next);
                rows
            }
        };
        for row in count..AT_ONCE {
            rows[row] = rows[count - 1];
        }
        rows.map(
            |row| if row.is_null() { std::ptr::null() } else { row.wrapping_offset(self.columns.skip).cast_const() },
        )
    }

    /// Says that rows will be read soon.
    #[inline(always)]
    fn expect<V: Simd>(&self, rows: [*mut u8; AT_ONCE]) {
        const LINE: usize = 64;
        let bytes = (self.columns.last - self.columns.first) * self.place.elem().bytes();
        for row in rows {
            for line in (0..bytes).step_by(LINE) {
                V::prefetch(row.wrapping_offset(self.columns.skip).wrapping_add(line));
            }
        }
    }

    /// As [`Reader::visit`].
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn visit<V: Simd>(&self, wanted: Wanted, visitor: &impl Visitor) {
        let Wanted { first, count, width, scratch, .. } = wanted;
        // SAFETY: the caller's promise.
        unsafe {
            let rows = self.from::<V>(first, count);
            let all = rows.iter().all(|row| !row.is_null());
            if all && self.are_whole(Elem::F32, width) {
                visitor.visit::<V, _>(&F32Rows(rows));
            } else if V::WIDENS && all && self.are_whole(Elem::Bf16, width) {
                visitor.visit::<V, _>(&Bf16Rows(rows));
            } else if V::WIDENS && all && self.are_whole(Elem::F16, width) {
                visitor.visit::<V, _>(&F16Rows(rows));
            } else {
                for (row, &from) in rows.iter().enumerate().take(count) {
                    let to = scratch.add(row * width);
                    if from.is_null() {
                        std::ptr::write_bytes(to, 0, width);
                    } else if self.are_whole(Elem::F32, width) {
                        std::ptr::copy_nonoverlapping(from.cast(), to, width);
                    } else if self.are_whole(Elem::Bf16, width) {
                        write::<V, _>(Bf16Row(from.cast()), width, to);
                    } else if self.are_whole(Elem::F16, width) {
                        write::<V, _>(F16Row(from.cast()), width, to);
                    } else {
                        self.scattered(from, width, to);
                    }
                }
                visitor.visit::<V, _>(&wanted.copied());
            }
        }
    }

    /// The numbers of a row whose elements lie anywhere.
    ///
    /// # Safety
    /// A row of this place, or null; `to` has room for `width` floats.
    #[inline(never)]
    unsafe fn scattered(&self, from: *const u8, width: usize, to: *mut f32) {
        for at in 0..width {
            // SAFETY: the caller's promise.
            unsafe { *to.add(at) = self.float(from, at) };
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
    /// A row of this place, or null.
    #[inline(always)]
    unsafe fn lane(&self, row: *const u8, at: usize) -> u32 {
        let Columns { first, last, stride, .. } = self.columns;
        if row.is_null() || at < first || at >= last {
            return 0;
        }
        let offset = (at - first) as isize * stride;
        // SAFETY: inside the bounds.
        with_stored!(self.place.elem(), S => unsafe { row.cast::<S>().wrapping_offset(offset).read().lane() })
    }

    /// As [`lane`](Self::lane), of floats.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn float(&self, row: *const u8, at: usize) -> f32 {
        // SAFETY: the caller's promise.
        f32::from_bits(unsafe { self.lane(row, at) })
    }
}

/// `T(T(scale * code) + bias)`, with a scale and a bias for each `group` neighbours.
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
    /// The rows where they lie, or their numbers where these are used often or do not lie side by side.
    ///
    /// # Safety
    /// As [`Reader::visit`].
    #[inline(always)]
    unsafe fn visit<V: Simd, R: Round>(&self, wanted: Wanted, visitor: &impl Visitor) {
        let Wanted { first, count, width, uses, scratch } = wanted;
        let parts = [&self.words, &self.scales, &self.biases];
        // SAFETY: the caller's promise.
        unsafe {
            let rows = CodesRows::<R> {
                words: parts[0].from::<V>(first, count),
                scales: parts[1].from::<V>(first, count),
                biases: parts[2].from::<V>(first, count),
                group: self.group,
                rounds: PhantomData,
            };
            let whole = self.words.are_whole(Elem::U32, width * usize::from(self.bits) / 32)
                && parts[1..].iter().all(|part| part.are_whole(R::ELEM, width / self.group));
            let all =
                [&rows.words, &rows.scales, &rows.biases].iter().all(|part| part.iter().all(|row| !row.is_null()));
            match (whole && all && V::DECODES, self.bits) {
                (true, 8) if uses <= TOGETHER => return visitor.visit::<V, _>(&BytesRows(&rows)),
                (true, _) if uses <= TOGETHER => return visitor.visit::<V, _>(&NibblesRows(&rows)),
                _ => {}
            }
            for row in 0..count {
                let (codes, to) = (rows.row(row), scratch.add(row * width));
                let parts = [codes.codes, codes.scales, codes.biases];
                if parts.iter().all(|part| part.is_null()) {
                    std::ptr::write_bytes(to, 0, width);
                    continue;
                }
                match (whole && parts.iter().all(|part| !part.is_null()), self.bits) {
                    (true, 8) => write::<V, _>(BytesRow(codes), width, to),
                    (true, _) => write::<V, _>(NibblesRow(codes), width, to),
                    (false, _) => self.scattered::<R>(parts, width, to),
                }
            }
            visitor.visit::<V, _>(&wanted.copied());
        }
    }

    /// The numbers of a row whose elements lie anywhere.
    ///
    /// # Safety
    /// As [`Reader::visit`].
    #[inline(never)]
    unsafe fn scattered<R: Round>(&self, [words, scales, biases]: [*const u8; 3], width: usize, to: *mut f32) {
        let bits = usize::from(self.bits);
        for at in 0..width {
            // SAFETY: the caller's promise.
            unsafe {
                let word = self.words.lane(words, at * bits / 32);
                let code = (word >> (at * bits % 32) & ((1 << bits) - 1)) as f32;
                let (scale, bias) =
                    (self.scales.float(scales, at / self.group), self.biases.float(biases, at / self.group));
                *to.add(at) = R::round_one(R::round_one(code * scale) + bias);
            }
        }
    }
}

/// All numbers of a row.
///
/// # Safety
/// As [`Row`]; `to` has room for `width` floats.
#[inline(always)]
unsafe fn write<V: Simd, R: Row<V>>(row: R, width: usize, to: *mut f32) {
    let mut at = 0;
    while at < width {
        let end = at + row.stretch(width);
        // SAFETY: the caller's promise.
        unsafe {
            let state = row.state(at);
            while at < end {
                V::store(to.add(at), row.load(&state, at));
                at += V::LANES;
            }
        }
    }
}
