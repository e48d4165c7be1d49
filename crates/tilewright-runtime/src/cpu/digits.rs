//! Products of few rows with codes that are multiplied as they lie. The numbers of the few rows become digits of base 256, and one
//! instruction multiplies four digits of a lane with four codes and adds them up, without an error. Scales and biases come to the sums:
//!
//! - keys, a group of columns after the other: `sum_d q_d (s c_d + b) = s (sum_d q_d c_d) + b (sum_d q_d)`;
//! - values, where scale and bias differ from row to row: `sum_j p_j (s_j c_j + b_j) = sum_j (p_j s_j) c_j + sum_j p_j b_j`.
//!
//! The numbers of a group share a unit. Queries have three digits, so each is off by about 2^-22 of the largest at most; and as biases
//! are multiplied with the sum of the rounded numbers, what is off is multiplied with keys, and not with codes, which are larger.
//! Weights, which may be rounded to 16 bits, have two digits and are off by about 2^-16; what is off is multiplied with the code in the
//! middle and added to the biases, so that weights that are off alike do not add up.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other processor multiplies bytes yet"))]

mod columns;

use super::rows::{CodeRows, Reader};
use super::simd::{Piece, Simd};
use super::stream::{Product, TOGETHER};
use columns::columns;
use tilewright_compile::cpu::DotRows;

/// Vectors of 16 lanes, of which one instruction multiplies bytes.
///
/// # Safety
/// As [`Simd`].
pub(super) trait ByteSimd: Simd {
    /// Four bytes in each lane, or an i32.
    type Bytes: Copy;

    /// As [`apart`](Simd::apart), with the instruction that multiplies bytes.
    unsafe fn apart_with_bytes(piece: impl Piece<Self>)
    where
        Self: Sized;

    unsafe fn zeros() -> Self::Bytes;
    unsafe fn load_lanes(from: *const u8) -> Self::Bytes;
    unsafe fn store_lanes(to: *mut u8, x: Self::Bytes);
    /// The first `count` bytes, and zeros.
    unsafe fn load_first(from: *const u8, count: usize) -> Self::Bytes;
    /// These four bytes in every lane.
    unsafe fn repeat(from: *const u8) -> Self::Bytes;
    /// 16 bytes for each quarter of a vector.
    unsafe fn quarters<const DISTINCT: usize>(from: [*const u8; 4]) -> Self::Bytes;
    /// The product of four codes with four digits, which have signs, added to each lane.
    unsafe fn dot(sum: Self::Bytes, codes: Self::Bytes, digits: Self::Bytes) -> Self::Bytes;
    /// The lower and the upper four bits of each byte.
    unsafe fn halves(x: Self::Bytes) -> [Self::Bytes; 2];
    /// Lane i of vector j to lane j of vector i.
    unsafe fn turned(x: &[Self::Bytes; 16]) -> [Self::Bytes; 16];
    /// Four rows of bytes as lanes with one byte of each: in quarter `L`, lane `i` of vector `v` is for byte `16 L + 4 v + i`.
    unsafe fn fours(rows: [Self::Bytes; 4]) -> [Self::Bytes; 4];

    /// Whole numbers up to [`largest`] as three digits each, the lowest first: of four neighbours the digits of one place are a lane, and
    /// so is what is not used.
    unsafe fn in_digits(x: Self::Vector) -> Self::Bytes;
    /// In each quarter the lane with the digits of place `PLACE`, four times.
    unsafe fn place<const PLACE: i32>(x: Self::Bytes) -> Self::Bytes;
    /// Sums of products of three places as numbers.
    unsafe fn number(places: [Self::Bytes; 3]) -> Self::Vector;
    /// The nearest whole numbers.
    unsafe fn nearest(x: Self::Vector) -> Self::Vector;
    /// Of each eight numbers those at even places, and then the others.
    unsafe fn evens_first(x: Self::Vector) -> Self::Vector;
    /// The numbers at even places of both vectors, and those at odd ones.
    unsafe fn evens_and_odds(x: [Self::Vector; 2]) -> [Self::Vector; 2];
    /// The numbers of two vectors in turns, in each quarter the first halves and then the second ones.
    unsafe fn turns(x: [Self::Vector; 2]) -> [Self::Vector; 2];
    /// One number for each quarter.
    unsafe fn of_quarters(x: [f32; 4]) -> Self::Vector;
    /// Adds quarter `L` to the four numbers at `to[L]`, if there are such.
    unsafe fn add_quarters(to: [Option<*mut f32>; 4], x: Self::Vector);
    /// The first `count` numbers, at most all, and zeros.
    unsafe fn load_some(from: *const f32, count: usize) -> Self::Vector;
    /// The first `count` numbers, at most all.
    unsafe fn store_some(to: *mut f32, count: usize, x: Self::Vector);
}

/// Lanes of a vector.
const LANES: usize = 16;
/// Bytes of a vector.
const BYTES: usize = 4 * LANES;
/// Digits of a query, and of a weight.
const OF_QUERY: usize = 3;
const OF_WEIGHT: usize = 2;
/// Keys whose sums are in registers together, at most.
const KEYS: usize = 2 * LANES;
/// Values whose sums are in registers together, at most: their weights have room as digits. Sums of 256 would fit an i32.
const VALUES: usize = 128;

/// Runs one product in the arena, whose right operand is codes.
///
/// # Safety
/// As [`super::stream::run`], with scratch lanes for [`ROWS_IN_DIGITS`](tilewright_compile::cpu::ROWS_IN_DIGITS) rows.
#[inline(always)]
pub(super) unsafe fn run<B: ByteSimd>(dot: &DotRows, reader: &Reader<'_>, arena: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let (product, wanted) = Product::of(dot, arena);
        let part = |rows: usize| wanted.scratch.add(rows * wanted.width);
        let digits = Digits {
            product: &product,
            width: wanted.width,
            room: part(0),
            columns: part(16),
            digits: part(24).cast(),
            units: part(40),
            sums: part(44),
        };
        let Reader::Codes(codes) = reader else { return reader.visit::<B>(wanted, &product) };
        if product.transposed {
            digits.take_queries::<B>(codes.group, codes.bits);
        }
        let mut first = 0;
        while first < wanted.rows {
            let (count, rows) = codes.in_place(first, wanted.rows, wanted.width);
            match (rows, product.transposed, codes.bits) {
                (Some(rows), true, 8) => digits.keys::<B, 8>(first, count, &rows),
                (Some(rows), true, _) => digits.keys::<B, 4>(first, count, &rows),
                (Some(rows), false, 8) => digits.values::<B, 8>(first, count, &rows),
                (Some(rows), false, _) => digits.values::<B, 4>(first, count, &rows),
                (None, ..) => codes.visit_copies::<B>(first..first + count, wanted, &product),
            }
            first += count;
        }
    }
}

/// A product, and room for what its operands are turned into.
struct Digits<'p> {
    product: &'p Product,
    /// Numbers in a row of codes.
    width: usize,
    /// The words of [`KEYS`] rows, turned: for each word of a row the lanes of all rows.
    room: *mut f32,
    /// Scales, and then biases, group after group.
    columns: *mut f32,
    /// Of the left operand: for each four neighbours, or rows of codes, a lane for each place, and one that is not used.
    digits: *mut u8,
    /// For each row of the left operand and each group, what its digits count.
    units: *mut f32,
    /// The same of what biases are multiplied with, or add up to.
    sums: *mut f32,
}

impl Digits<'_> {
    /// Writes the left operand of keys as digits.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn take_queries<B: ByteSimd>(&self, group: usize, bits: u8) {
        let &Digits { product, width, digits, units, sums, .. } = self;
        let groups = width / group;
        for row in 0..product.m {
            for at in 0..groups {
                // SAFETY: the caller's promise.
                unsafe {
                    let from = product.a.add(row * width + at * group);
                    let mut largest = B::splat(0.0);
                    let mut poison = B::splat(0.0);
                    for column in (0..group).step_by(LANES) {
                        let x = B::load(from.add(column));
                        largest = B::larger(largest, size::<B>(x));
                        poison = B::fma(x, B::splat(0.0), poison);
                    }
                    let unit = unit_of(OF_QUERY, B::largest([largest; 4])[0]);
                    let (mut sum, up) = (B::splat(0.0), B::splat(1.0 / unit));
                    for column in (0..group).step_by(LANES) {
                        let x = B::nearest(B::mul(B::load(from.add(column)), up));
                        sum = B::add(sum, x);
                        // Codes of four bits come with those at even places first.
                        let x = if bits == 4 { B::evens_first(x) } else { x };
                        B::store_lanes(digits.add(4 * (row * width + at * group + column)), B::in_digits(x));
                    }
                    // What is no number stays none, though digits cannot say so.
                    let [sum, poison, ..] = B::sums([sum, poison, sum, sum]);
                    *units.add(row * groups + at) = unit;
                    *sums.add(row * groups + at) = sum * unit + poison;
                }
            }
        }
    }

    /// Adds to `c[m][first + i]` the product of row m of the left operand with row i of codes.
    ///
    /// # Safety
    /// As [`run`], with `count` rows that may be read.
    #[inline(always)]
    unsafe fn keys<B: ByteSimd, const BITS: usize>(&self, first: usize, count: usize, rows: &CodeRows) {
        let &Digits { product, width, columns: affine, .. } = self;
        let groups = width / rows.group;
        for start in (0..count).step_by(KEYS) {
            let exist = KEYS.min(count - start);
            // SAFETY: the caller's promise.
            unsafe {
                for half in 0..exist.div_ceil(LANES) {
                    self.turn::<B>(start, half, count, rows, width * BITS / 8);
                }
                columns::<B>(&rows.scales, rows.elem, start..start + exist, groups, affine, KEYS);
                columns::<B>(&rows.biases, rows.elem, start..start + exist, groups, affine.add(groups * KEYS), KEYS);
                for top in (0..product.m).step_by(TOGETHER) {
                    B::apart_with_bytes(Scores::<BITS> { of: self, top, key: first + start, exist, rows, start });
                }
            }
        }
    }

    /// Turns the words of 16 rows, the last of which may repeat.
    ///
    /// # Safety
    /// As [`keys`](Self::keys).
    #[inline(always)]
    unsafe fn turn<B: ByteSimd>(&self, start: usize, half: usize, count: usize, rows: &CodeRows, bytes: usize) {
        let start = start + half * LANES;
        let (first, last) = (rows.words.row(start), count - 1 - start);
        for block in (0..bytes).step_by(BYTES) {
            let some = BYTES.min(bytes - block);
            // SAFETY: the caller's promise.
            unsafe {
                let mut of_rows = [B::zeros(); LANES];
                for (at, of_row) in of_rows.iter_mut().enumerate() {
                    let from = first.wrapping_offset(at.min(last) as isize * rows.words.step).wrapping_add(block);
                    *of_row = some_bytes::<B>(from, some);
                }
                // Words that do not exist are zero, and read by nobody.
                for (word, lanes) in B::turned(&of_rows).into_iter().enumerate() {
                    B::store_lanes(self.room.cast::<u8>().add(((block / 4 + word) * 2 + half) * BYTES), lanes);
                }
            }
        }
    }

    /// Products of `M` rows of the left operand from `top` on with `A` vectors of keys, `exist` of which do.
    ///
    /// # Safety
    /// As [`keys`](Self::keys).
    #[inline(always)]
    unsafe fn scores<B: ByteSimd, const BITS: usize, const M: usize, const A: usize>(
        &self,
        (top, key, exist): (usize, usize, usize),
        rows: &CodeRows,
        start: usize,
    ) {
        let group = rows.group;
        let &Digits { product, width, room, columns, digits, units, sums } = self;
        let Product { c, m, n, .. } = *product;
        let (groups, words) = (width / group, group * BITS / 32);
        // Rows that do not exist repeat the last one.
        let row = |i: usize| top + i.min(m - top - 1);
        let left: [*const u8; M] = std::array::from_fn(|i| digits.wrapping_add(4 * row(i) * width).cast_const());
        // SAFETY: the caller's promise.
        unsafe {
            let mut all = [[B::splat(0.0); A]; M];
            for of_group in 0..groups {
                let mut places = [[[B::zeros(); OF_QUERY]; A]; M];
                for word in of_group * words..(of_group + 1) * words {
                    if A == 2 && top == 0 {
                        // Two of the lines that so many rows ahead have, for each word of a row.
                        for line in [2 * word, 2 * word + 1] {
                            let row = rows.words.row(start + line % KEYS).wrapping_offset(rows.words.ahead);
                            B::prefetch(row.wrapping_add(line / KEYS * BYTES));
                        }
                    }
                    let [mut first, mut second] = [[B::zeros(); A]; 2];
                    for (half, (first, second)) in first.iter_mut().zip(&mut second).enumerate() {
                        let lanes = B::load_lanes(room.cast::<u8>().add((word * 2 + half) * BYTES));
                        [*first, *second] = if BITS == 4 { B::halves(lanes) } else { [lanes; 2] };
                    }
                    for (at, codes) in [first, second].iter().enumerate().take(8 / BITS) {
                        let four = word * (8 / BITS) + at;
                        for (places, left) in places.iter_mut().zip(&left) {
                            for place in 0..OF_QUERY {
                                let digits = B::repeat(left.add(4 * (4 * four + place)));
                                for (places, &codes) in places.iter_mut().zip(codes) {
                                    places[place] = B::dot(places[place], codes, digits);
                                }
                            }
                        }
                    }
                }
                for (i, (all, places)) in all.iter_mut().zip(&places).enumerate() {
                    let at = row(i) * groups + of_group;
                    let (unit, sum) = (B::splat(*units.add(at)), B::splat(*sums.add(at)));
                    for (half, (all, &places)) in all.iter_mut().zip(places).enumerate() {
                        let scales = columns.add(of_group * KEYS + half * LANES);
                        let (scale, bias) = (B::load(scales), B::load(scales.add(groups * KEYS)));
                        let number = B::mul(B::number(places), unit);
                        *all = B::fma(scale, number, B::fma(bias, sum, *all));
                    }
                }
            }
            for (i, all) in all.iter().enumerate().take(m - top) {
                for (half, &all) in all.iter().enumerate() {
                    let (to, some) = (c.add((top + i) * n + key + half * LANES), LANES.min(exist - half * LANES));
                    B::store_some(to, some, B::add(B::load_some(to, some), all));
                }
            }
        }
    }

    /// Adds to row m of `c` rows of codes times numbers of row m of the left operand.
    ///
    /// # Safety
    /// As [`keys`](Self::keys).
    #[inline(always)]
    unsafe fn values<B: ByteSimd, const BITS: usize>(&self, first: usize, count: usize, rows: &CodeRows) {
        let &Digits { product, width, columns: affine, .. } = self;
        let groups = width / rows.group;
        // The digits of all rows of the left operand have room.
        let most = VALUES * TOGETHER / product.m.next_multiple_of(TOGETHER);
        // A row is asked for while all of those before it are multiplied; in short runs rows ahead lie elsewhere.
        let ahead = if count >= most { most as isize * rows.words.step } else { rows.words.ahead };
        for start in (0..count).step_by(most) {
            let exist = most.min(count - start);
            // SAFETY: the caller's promise.
            unsafe {
                columns::<B>(&rows.scales, rows.elem, start..start + exist, groups, affine, most);
                columns::<B>(&rows.biases, rows.elem, start..start + exist, groups, affine.add(groups * most), most);
                self.take_weights::<B, BITS>(first + start, exist, groups, most);
                for block in (0..width * BITS / 8).step_by(BYTES) {
                    let of_block = |byte: usize| ((block + byte) * 8 / BITS / rows.group).min(groups - 1);
                    let of = [0, 16, 32, 48].map(of_block);
                    let place = Values { start, exist, most, ahead, block, of, groups };
                    if of[0] == of[3] {
                        self.sums_of_block::<B, BITS, 1>(&place, rows);
                    } else if BITS == 8 || of[0] == of[1] && of[2] == of[3] {
                        // Groups of 32 and more are two quarters of bytes, or more.
                        self.sums_of_block::<B, BITS, 2>(&place, rows);
                    } else {
                        self.sums_of_block::<B, BITS, 4>(&place, rows);
                    }
                }
            }
        }
    }

    /// Writes the products of the left operand with scales as digits.
    ///
    /// # Safety
    /// As [`values`](Self::values).
    #[inline(always)]
    unsafe fn take_weights<B: ByteSimd, const BITS: usize>(
        &self,
        first: usize,
        exist: usize,
        groups: usize,
        most: usize,
    ) {
        let &Digits { product, columns, digits, units, sums, .. } = self;
        for row in 0..product.m {
            for group in 0..groups {
                // SAFETY: the caller's promise.
                unsafe {
                    let weights = product.a.add(row * product.k + first);
                    let scales = columns.add(group * most);
                    let biases_of = scales.add(groups * most);
                    let mut largest = B::splat(0.0);
                    let mut biases = B::splat(0.0);
                    let mut poison = B::splat(0.0);
                    for at in (0..exist).step_by(LANES) {
                        let weight = B::load_some(weights.add(at), LANES.min(exist - at));
                        let x = B::mul(weight, B::load(scales.add(at)));
                        largest = B::larger(largest, size::<B>(x));
                        poison = B::fma(x, B::splat(0.0), poison);
                        biases = B::fma(weight, B::load(biases_of.add(at)), biases);
                    }
                    let unit = unit_of(OF_WEIGHT, B::largest([largest; 4])[0]);
                    let (up, down, middle) =
                        (B::splat(1.0 / unit), B::splat(-unit), B::splat((1 << (BITS - 1)) as f32));
                    for at in (0..exist).step_by(LANES) {
                        let weight = B::load_some(weights.add(at), LANES.min(exist - at));
                        let exact = B::mul(weight, B::load(scales.add(at)));
                        let x = B::nearest(B::mul(exact, up));
                        biases = B::fma(middle, B::fma(x, down, exact), biases);
                        B::store_lanes(digits.add(4 * ((row * groups + group) * most + at)), B::in_digits(x));
                    }
                    let [biases, poison, ..] = B::sums([biases, poison, poison, poison]);
                    *units.add(row * groups + group) = unit;
                    *sums.add(row * groups + group) = biases + poison;
                }
            }
        }
    }

    /// Sums of the columns of one vector of bytes of a row.
    ///
    /// # Safety
    /// As [`values`](Self::values).
    #[inline(always)]
    unsafe fn sums_of_block<B: ByteSimd, const BITS: usize, const DISTINCT: usize>(
        &self,
        place: &Values,
        rows: &CodeRows,
    ) {
        for top in (0..self.product.m).step_by(TOGETHER) {
            // SAFETY: the caller's promise.
            unsafe { B::apart_with_bytes(Sums::<BITS, DISTINCT> { of: self, top, place, rows }) };
        }
    }

    /// The same for `M` rows of the left operand.
    ///
    /// # Safety
    /// As [`values`](Self::values).
    #[inline(always)]
    unsafe fn sums_of_rows<B: ByteSimd, const BITS: usize, const DISTINCT: usize, const M: usize>(
        &self,
        top: usize,
        place: &Values,
        rows: &CodeRows,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            self.sums_of_part::<B, BITS, DISTINCT, M, 0>(top, place, rows);
            self.sums_of_part::<B, BITS, DISTINCT, M, 1>(top, place, rows);
            if BITS == 4 {
                self.sums_of_part::<B, BITS, DISTINCT, M, 2>(top, place, rows);
                self.sums_of_part::<B, BITS, DISTINCT, M, 3>(top, place, rows);
            }
        }
    }

    /// The same for two vectors of columns.
    ///
    /// # Safety
    /// As [`values`](Self::values).
    #[inline(always)]
    unsafe fn sums_of_part<B: ByteSimd, const BITS: usize, const DISTINCT: usize, const M: usize, const PART: usize>(
        &self,
        top: usize,
        place: &Values,
        rows: &CodeRows,
    ) {
        let &Digits { product, width, digits, units, sums, .. } = self;
        let &Values { start, exist, most, ahead, block, of, groups } = place;
        let Product { c, m, n, .. } = *product;
        let some = BYTES.min(width * BITS / 8 - block);
        let row = |i: usize| top + i.min(m - top - 1);
        let left: [[*const u8; 4]; M] = std::array::from_fn(|i| {
            of.map(|group| digits.wrapping_add(4 * (row(i) * groups + group) * most).cast_const())
        });
        // SAFETY: the caller's promise.
        unsafe {
            let mut places = [[[B::zeros(); OF_WEIGHT]; 2]; M];
            let step = rows.words.step;
            let mut first = rows.words.row(start).wrapping_add(block);
            for four in 0..exist.div_ceil(4) {
                // Rows that do not exist have no weight.
                let after = |at: usize| if 4 * four + at < exist { at as isize * step } else { 0 };
                let from = [0, after(1), after(2), after(3)].map(|offset| first.wrapping_offset(offset));
                first = first.wrapping_offset(4 * step);
                if top == 0 {
                    // Each part asks for its share of the values after these.
                    for at in 0..BITS / 4 {
                        B::prefetch(from[(PART * BITS / 4 + at) % 4].wrapping_offset(ahead));
                    }
                }
                let of_rows = [
                    some_bytes::<B>(from[0], some),
                    some_bytes::<B>(from[1], some),
                    some_bytes::<B>(from[2], some),
                    some_bytes::<B>(from[3], some),
                ];
                let fours = B::fours(of_rows);
                let codes =
                    if BITS == 4 { B::halves(fours[PART]) } else { [fours[2 * PART % 4], fours[(2 * PART + 1) % 4]] };
                for (places, left) in places.iter_mut().zip(&left) {
                    let of_quarters = left.map(|from| from.wrapping_add(16 * four));
                    let digits = B::quarters::<DISTINCT>(of_quarters);
                    let digits = [B::place::<0>(digits), B::place::<1>(digits)];
                    for (places, &codes) in places.iter_mut().zip(&codes) {
                        for (place, &digits) in places.iter_mut().zip(&digits) {
                            *place = B::dot(*place, codes, digits);
                        }
                    }
                }
            }
            for (i, places) in places.iter().enumerate().take(m - top) {
                let first = row(i) * groups;
                let unit = B::of_quarters(of.map(|group| *units.add(first + group)));
                let bias = B::of_quarters(of.map(|group| *sums.add(first + group)));
                let [[low_x, high_x], [low_y, high_y]] = *places;
                let x = B::fma(B::number([low_x, high_x, B::zeros()]), unit, bias);
                let y = B::fma(B::number([low_y, high_y, B::zeros()]), unit, bias);
                let ([x, y], first) = match BITS {
                    4 => (B::turns([x, y]), 2 * (block + 4 * PART)),
                    _ => ([x, y], block + 8 * PART),
                };
                for (column, x) in [(first, x), (first + 4, y)] {
                    let to = |quarter: usize| {
                        let column = column + quarter * 16 * 8 / BITS;
                        (column < n).then(|| c.wrapping_add((top + i) * n + column))
                    };
                    B::add_quarters([to(0), to(1), to(2), to(3)], x);
                }
            }
        }
    }
}

/// The scores of some keys and of up to [`TOGETHER`] rows of the left operand.
struct Scores<'d, const BITS: usize> {
    of: &'d Digits<'d>,
    top: usize,
    key: usize,
    exist: usize,
    rows: &'d CodeRows,
    start: usize,
}

impl<B: ByteSimd, const BITS: usize> Piece<B> for Scores<'_, BITS> {
    #[inline(always)]
    unsafe fn run(self) {
        let Scores { of, top, key, exist, rows, start } = self;
        let place = (top, key, exist);
        // SAFETY: the promise of `Digits::keys`.
        unsafe {
            match (of.product.m - top, exist > LANES) {
                (1, true) => of.scores::<B, BITS, 1, 2>(place, rows, start),
                (1, false) => of.scores::<B, BITS, 1, 1>(place, rows, start),
                (2, true) => of.scores::<B, BITS, 2, 2>(place, rows, start),
                (2, false) => of.scores::<B, BITS, 2, 1>(place, rows, start),
                (_, true) => of.scores::<B, BITS, TOGETHER, 2>(place, rows, start),
                (_, false) => of.scores::<B, BITS, TOGETHER, 1>(place, rows, start),
            }
        }
    }
}

/// The sums of some columns of values for up to [`TOGETHER`] rows of the left operand.
struct Sums<'d, const BITS: usize, const DISTINCT: usize> {
    of: &'d Digits<'d>,
    top: usize,
    place: &'d Values,
    rows: &'d CodeRows,
}

impl<B: ByteSimd, const BITS: usize, const DISTINCT: usize> Piece<B> for Sums<'_, BITS, DISTINCT> {
    #[inline(always)]
    unsafe fn run(self) {
        let Sums { of, top, place, rows } = self;
        // SAFETY: the promise of `Digits::values`.
        unsafe {
            match of.product.m - top {
                1 => of.sums_of_rows::<B, BITS, DISTINCT, 1>(top, place, rows),
                2 => of.sums_of_rows::<B, BITS, DISTINCT, 2>(top, place, rows),
                _ => of.sums_of_rows::<B, BITS, DISTINCT, TOGETHER>(top, place, rows),
            }
        }
    }
}

/// Some values, and some of their columns.
struct Values {
    /// The first one.
    start: usize,
    exist: usize,
    /// From the digits of one group to those of the next, in numbers.
    most: usize,
    /// From a row to the one to ask for when it is read, in bytes.
    ahead: isize,
    /// The first byte of a row.
    block: usize,
    /// The groups of the four quarters of a vector of bytes.
    of: [usize; 4],
    groups: usize,
}

/// The first `some` bytes, at most a vector, and zeros.
///
/// # Safety
/// The instruction set of `B`, and so many bytes.
#[inline(always)]
unsafe fn some_bytes<B: ByteSimd>(from: *const u8, some: usize) -> B::Bytes {
    // SAFETY: the caller's promise.
    unsafe { if some == BYTES { B::load_lanes(from) } else { B::load_first(from, some) } }
}

/// The largest number of so many digits that its negative has too.
const fn largest(places: usize) -> f32 {
    (127 << (8 * (places - 1))) as f32
}

/// What so many digits of numbers up to this size count. Of numbers below about 1e-37 nothing is left: of scores and weights those do
/// not count.
fn unit_of(places: usize, size: f32) -> f32 {
    const SMALLEST: f32 = 1e-30;
    size.max(SMALLEST) / largest(places)
}

/// Absolute values.
///
/// # Safety
/// The instruction set of `B`.
#[inline(always)]
unsafe fn size<B: ByteSimd>(x: B::Vector) -> B::Vector {
    // SAFETY: the caller's promise.
    unsafe { B::and(x, B::splat(f32::from_bits(i32::MAX as u32))) }
}
