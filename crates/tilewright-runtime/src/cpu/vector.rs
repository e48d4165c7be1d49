//! Fused loops: each micro-op passes over one block of rows that stays in the first-level cache.
//!
//! Dispatch is once a block, not once an element. The inner loops work on chunks of sixteen lanes in plain Rust, which the
//! compiler turns into the vectors of the instruction set that the whole function is compiled for.

use super::memory::{self, Places};
use super::simd::Simd;
use super::weights::Weights;
use super::{masked, math};
use tilewright_compile::cpu::{Extent, Lane, MicroKind, MicroOp, Operand, Place, VectorLoop};
use tilewright_ir::Elem;
use tilewright_ir::op::{Elementwise, Reduce};

/// Lanes of one chunk.
const CHUNK: usize = 16;

/// Runs a loop in the arena.
///
/// # Safety
/// The instruction set of `S`, and an arena and places with all lanes and views that the loop names.
#[inline(always)]
pub(super) unsafe fn run<S: Simd>(vector: &VectorLoop, arena: *mut u32, places: &Places<'_>) {
    let mut first = 0;
    while first < vector.rows {
        let rows = vector.block_rows.min(vector.rows - first);
        for op in &vector.ops {
            let folds = matches!(op.kind, MicroKind::FoldRows(_));
            let shared = matches!(op.extent, Extent::Col | Extent::One) && !folds;
            if let MicroKind::Masked(of) = &op.kind {
                // SAFETY: the caller's promise.
                unsafe { S::apart(masked::Pass { of, dst: op.dst, cols: vector.cols as usize, first, rows, arena }) };
            } else if let MicroKind::Load(window) = &op.kind {
                let dst = op.dst.offset as usize + first as usize * op.dst.row_stride as usize;
                // SAFETY: the caller's promise.
                unsafe {
                    let place = &places.of(window, None);
                    S::apart(memory::LoadRows {
                        place,
                        first: first as usize,
                        rows: rows as usize,
                        dst: arena.add(dst),
                    });
                }
            } else if first == 0 || !shared {
                // SAFETY: the caller's promise.
                unsafe { Block::new(vector, op, arena, first, rows).run::<S>(vector, op, arena) };
            }
        }
        first += rows;
    }
}

/// Lanes of an operand, seen from the rows of a block.
#[derive(Clone, Copy)]
struct Access {
    first: *const u32,
    /// Lanes from one row to the next.
    step: usize,
    /// One lane for the whole row.
    splat: bool,
}

/// One micro-op on one block: `rows` rows of `cols` lanes.
struct Block {
    rows: usize,
    cols: usize,
    dst: *mut u32,
    src: [Access; 3],
    /// The first row in the domain.
    origin: u32,
}

impl Block {
    #[inline(always)]
    unsafe fn new(vector: &VectorLoop, op: &MicroOp, arena: *mut u32, first: u32, rows: u32) -> Block {
        let (rows, cols) = (rows as usize, vector.cols as usize);
        let at = |offset: u32, stride: u32| offset as usize + first as usize * stride as usize;
        let reduces = matches!(op.kind, MicroKind::Reduce { .. } | MicroKind::ScaledMax);
        // A row of a `Row` value is one lane, so its block is a single row; equal extents lie contiguous.
        let flat = match op.extent {
            Extent::Full => op.src.iter().all(|s| matches!(s.extent, Extent::Full | Extent::One)),
            Extent::Row | Extent::Col | Extent::One => true,
        };
        let iota = matches!(op.kind, MicroKind::IotaRow { .. } | MicroKind::IotaCol);
        let (rows, cols) = match op.extent {
            _ if matches!(op.kind, MicroKind::FoldRows(_)) => (rows, cols),
            _ if reduces => (if op.src[0].extent == Extent::Full { rows } else { 1 }, cols),
            Extent::Full if flat && !iota => (1, rows * cols),
            Extent::Full => (rows, cols),
            Extent::Row if iota => (rows, 1),
            Extent::Row => (1, rows),
            Extent::Col => (1, cols),
            Extent::One => (1, 1),
        };
        let access = |s: &Operand| Access {
            // SAFETY: the lowering keeps all lanes inside the arena.
            first: unsafe { arena.add(at(s.place.offset, s.place.row_stride)) },
            step: match s.extent {
                Extent::Full => vector.cols as usize,
                Extent::Row => 1,
                Extent::Col | Extent::One => 0,
            },
            splat: match s.extent {
                Extent::Full | Extent::Col => false,
                Extent::Row => op.extent == Extent::Full,
                Extent::One => op.extent != Extent::One,
            },
        };
        let src = [access(&op.src[0]), access(&op.src[1]), access(&op.src[2])];
        // SAFETY: as above.
        let dst = unsafe { arena.add(at(op.dst.offset, op.dst.row_stride)) };
        Block { rows, cols, dst, src, origin: first }
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, vector: &VectorLoop, op: &MicroOp, arena: *mut u32) {
        // SAFETY: the caller's promise, for each arm.
        unsafe {
            match &op.kind {
                MicroKind::Map { op, lane, wrap } => {
                    self.map::<S>(op, *lane, wrap.is_some());
                    self.wrap(*wrap, self.rows * self.cols);
                }
                MicroKind::Cast { from, to } => self.cast(*from, *to),
                MicroKind::Bitcast { from, to } => self.bitcast(*from, *to),
                MicroKind::Copy => self.unary(|x| x),
                MicroKind::IotaRow { divide, modulo } => {
                    for row in 0..self.rows {
                        let value = (self.origin + row as u32) / divide % modulo;
                        std::slice::from_raw_parts_mut(self.dst.add(row * self.cols), self.cols).fill(value);
                    }
                }
                MicroKind::IotaCol => {
                    for row in 0..self.rows {
                        for col in 0..self.cols {
                            *self.dst.add(row * self.cols + col) = col as u32;
                        }
                    }
                }
                MicroKind::Weights { sum, pairs } => {
                    let [x, scale, shift] = self.src;
                    let of_rows = |sum: Place| sum.offset as usize + self.origin as usize * sum.row_stride as usize;
                    let weights = Weights {
                        rows: self.rows,
                        columns: vector.cols as usize,
                        x: x.first.cast(),
                        scale: f32::from_bits(*scale.first),
                        shift: (shift.first.cast(), shift.step),
                        dst: self.dst,
                        sum: sum.map(|sum| arena.add(of_rows(sum)).cast()),
                    };
                    match pairs {
                        false => weights.numbers::<S>(),
                        true => S::weights_in_pairs(&weights),
                    }
                }
                MicroKind::ScaledMax => self.max_of_rows::<S>(f32::from_bits(*self.src[1].first)),
                MicroKind::Masked(_) | MicroKind::Load(_) => {} // not by blocks
                MicroKind::FoldRows(lane) => match lane {
                    Lane::Signed => self.fold_all(|a, b| (a as i32).max(b as i32) as u32),
                    Lane::Unsigned | Lane::Mask | Lane::Float => self.fold_all(u32::max), // of integers alone
                },
                MicroKind::Reduce { op, lane, wrap } => {
                    self.reduce::<S>(op, *lane);
                    self.wrap(*wrap, self.rows);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn map<S: Simd>(&self, op: &Elementwise, lane: Lane, eight_bits: bool) {
        use Elementwise::*;
        use Lane::{Float, Mask, Signed, Unsigned};
        let bits = |x: f32| x.to_bits();
        let float = f32::from_bits;
        let width = if eight_bits { 7 } else { 31 }; // of a shift, as a mask
        // SAFETY: the caller's promise, for each arm.
        unsafe {
            match (op, lane) {
                (Neg, Float) => self.unary(|a| a ^ 0x8000_0000),
                (Neg, Signed | Unsigned | Mask) => self.unary(|a| a.wrapping_neg()),
                (Not, Float | Signed | Unsigned | Mask) => self.unary(|a| !a),
                (Abs, Float) => self.unary(|a| a & 0x7fff_ffff),
                (Abs, Signed) => self.unary(|a| (a as i32).wrapping_abs() as u32),
                (Abs, Unsigned | Mask) => self.unary(|a| a),
                (Exp2, _) => self.exp2::<S>(),
                (Log2, _) => self.unary(|a| bits(float(a).log2())),
                (Tanh | TanhCoarse, _) => self.unary(|a| bits(math::tanh_either(S::FMA, float(a)))),
                (Rsqrt, _) => self.unary(|a| bits(1.0 / float(a).sqrt())),
                (Recip, _) => self.unary(|a| bits(1.0 / float(a))),
                (Round, _) => self.unary(|a| bits(math::round_either(S::FMA, float(a)))),
                (Trunc, _) => self.unary(|a| bits(math::trunc_either(S::FMA, float(a)))),
                (Add, Float) => self.binary(|a, b| bits(float(a) + float(b))),
                (Add, Signed | Unsigned | Mask) => self.binary(u32::wrapping_add),
                (Sub, Float) => self.binary(|a, b| bits(float(a) - float(b))),
                (Sub, Signed | Unsigned | Mask) => self.binary(u32::wrapping_sub),
                (Mul, Float) if self.keeps_rows() => self.scale_rows(),
                (Mul, Float) => self.binary(|a, b| bits(float(a) * float(b))),
                (Mul, Signed | Unsigned | Mask) => self.binary(u32::wrapping_mul),
                (Div, Float) => self.binary(|a, b| bits(float(a) / float(b))),
                (Div, Signed) => self.binary(|a, b| if b == 0 { 0 } else { (a as i32).wrapping_div(b as i32) as u32 }),
                (Div, Unsigned | Mask) => self.binary(|a, b| a.checked_div(b).unwrap_or(0)),
                (Rem, Float) => self.binary(|a, b| bits(float(a) % float(b))),
                (Rem, Signed) => self.binary(|a, b| if b == 0 { 0 } else { (a as i32).wrapping_rem(b as i32) as u32 }),
                (Rem, Unsigned | Mask) => self.binary(|a, b| a.checked_rem(b).unwrap_or(0)),
                (Max, Float) => self.binary(|a, b| bits(math::max(float(a), float(b)))),
                (Max, Signed) => self.binary(|a, b| (a as i32).max(b as i32) as u32),
                (Max, Unsigned | Mask) => self.binary(|a, b| a.max(b)),
                (Min, Float) => self.binary(|a, b| bits(math::min(float(a), float(b)))),
                (Min, Signed) => self.binary(|a, b| (a as i32).min(b as i32) as u32),
                (Min, Unsigned | Mask) => self.binary(|a, b| a.min(b)),
                (And, Float | Signed | Unsigned | Mask) => self.binary(|a, b| a & b),
                (Or, Float | Signed | Unsigned | Mask) => self.binary(|a, b| a | b),
                (Xor, Float | Signed | Unsigned | Mask) => self.binary(|a, b| a ^ b),
                (Shl, Float | Signed | Unsigned | Mask) => self.binary(|a, b| a << (b & width)),
                (Shr, Signed) => self.binary(|a, b| ((a as i32) >> (b & width)) as u32),
                (Shr, Float | Unsigned | Mask) => self.binary(|a, b| a >> (b & width)),
                (Lt, Float) => self.binary(|a, b| mask(float(a) < float(b))),
                (Lt, Signed) => self.binary(|a, b| mask((a as i32) < b as i32)),
                (Lt, Unsigned | Mask) => self.binary(|a, b| mask(a < b)),
                (Le, Float) => self.binary(|a, b| mask(float(a) <= float(b))),
                (Le, Signed) => self.binary(|a, b| mask(a as i32 <= b as i32)),
                (Le, Unsigned | Mask) => self.binary(|a, b| mask(a <= b)),
                (Gt, Float) => self.binary(|a, b| mask(float(a) > float(b))),
                (Gt, Signed) => self.binary(|a, b| mask(a as i32 > b as i32)),
                (Gt, Unsigned | Mask) => self.binary(|a, b| mask(a > b)),
                (Ge, Float) => self.binary(|a, b| mask(float(a) >= float(b))),
                (Ge, Signed) => self.binary(|a, b| mask(a as i32 >= b as i32)),
                (Ge, Unsigned | Mask) => self.binary(|a, b| mask(a >= b)),
                (Eq, Float) => self.binary(|a, b| mask(float(a) == float(b))),
                (Eq, Signed | Unsigned | Mask) => self.binary(|a, b| mask(a == b)),
                (Ne, Float) => self.binary(|a, b| mask(float(a) != float(b))),
                (Ne, Signed | Unsigned | Mask) => self.binary(|a, b| mask(a != b)),
                (Select, Float | Signed | Unsigned | Mask) if self.src[0].splat => self.select_rows(),
                (Select, Float | Signed | Unsigned | Mask) => self.select(),
                // Constants stand in the arena, casts have kinds of their own: the lowering makes neither a map.
                (Constant { .. } | Cast { .. } | Bitcast { .. }, _) => {}
            }
        }
    }

    /// Wraps results to an 8-bit type.
    #[inline(always)]
    unsafe fn wrap(&self, to: Option<Elem>, lanes: usize) {
        // SAFETY: the lanes of the result.
        let lanes = unsafe { std::slice::from_raw_parts_mut(self.dst, lanes) };
        match to {
            Some(Elem::I8) => lanes.iter_mut().for_each(|x| *x = *x as i8 as i32 as u32),
            Some(_) => lanes.iter_mut().for_each(|x| *x &= 0xff), // u8
            None => {}
        }
    }

    #[inline(always)]
    unsafe fn cast(&self, from: Elem, to: Elem) {
        let float = f32::from_bits;
        // SAFETY: the caller's promise, for each arm.
        unsafe {
            match (Lane::from(from), to) {
                (Lane::Float, Elem::F32) => self.unary(|a| a),
                (Lane::Float, Elem::F16) => self.unary(|a| math::round_f16(float(a)).to_bits()),
                (Lane::Float, Elem::Bf16) => self.unary(|a| math::round_bf16(float(a)).to_bits()),
                (Lane::Float, Elem::I32) => self.unary(|a| float(a) as i32 as u32),
                (Lane::Float, Elem::U32) => self.unary(|a| float(a) as u32),
                (Lane::Float, Elem::I8) => self.unary(|a| float(a) as i8 as i32 as u32),
                (Lane::Float, Elem::U8) => self.unary(|a| u32::from(float(a) as u8)),
                (Lane::Float, Elem::Bool) => self.unary(|a| mask(float(a) != 0.0)),
                (Lane::Signed, Elem::F32) => self.unary(|a| (a as i32 as f32).to_bits()),
                (Lane::Unsigned, Elem::F32) => self.unary(|a| (a as f32).to_bits()),
                // Through f64, which holds every integer: one rounding.
                (Lane::Signed, Elem::F16 | Elem::Bf16) => {
                    self.unary(|a| (to.nearest(f64::from(a as i32)) as f32).to_bits())
                }
                (Lane::Unsigned, Elem::F16 | Elem::Bf16) => self.unary(|a| (to.nearest(f64::from(a)) as f32).to_bits()),
                (Lane::Mask, Elem::F32 | Elem::F16 | Elem::Bf16) => self.unary(|a| a & 1.0f32.to_bits()),
                (Lane::Mask, Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8) => self.unary(|a| a & 1),
                (Lane::Signed | Lane::Unsigned, Elem::I32 | Elem::U32) => self.unary(|a| a),
                (Lane::Signed | Lane::Unsigned, Elem::I8) => self.unary(|a| a as i8 as i32 as u32),
                (Lane::Signed | Lane::Unsigned, Elem::U8) => self.unary(|a| a & 0xff),
                (Lane::Signed | Lane::Unsigned | Lane::Mask, Elem::Bool) => self.unary(|a| mask(a != 0)),
            }
        }
    }

    #[inline(always)]
    unsafe fn bitcast(&self, from: Elem, to: Elem) {
        let float = f32::from_bits;
        // SAFETY: the caller's promise, for each arm.
        unsafe {
            match (from, to) {
                (Elem::F16, Elem::Bf16) => self.unary(|a| u32::from(half::f16::from_f32(float(a)).to_bits()) << 16),
                (Elem::Bf16, Elem::F16) => self.unary(|a| {
                    let bits = math::round_bf16(float(a)).to_bits() >> 16;
                    half::f16::from_bits(bits as u16).to_f32().to_bits()
                }),
                (_, Elem::I8) => self.unary(|a| a as i8 as i32 as u32),
                (_, Elem::U8) => self.unary(|a| a & 0xff),
                // 32-bit lanes are their own bits.
                (_, Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::I32 | Elem::U32 | Elem::Bool) => self.unary(|a| a),
            }
        }
    }

    #[inline(always)]
    unsafe fn reduce<S: Simd>(&self, op: &Reduce, lane: Lane) {
        let float = f32::from_bits;
        // SAFETY: the caller's promise, for each arm.
        unsafe {
            match (op, lane) {
                (Reduce::Sum { .. }, Lane::Float) => {
                    self.fold_rows::<S>(1.0, 0.0, |a, b| S::add(a, b), |a, b| a + b, |x| S::sums(x));
                }
                (Reduce::Sum { .. }, Lane::Signed | Lane::Unsigned | Lane::Mask) => self.fold(0, u32::wrapping_add),
                (Reduce::Max { .. }, Lane::Float) => self.max_of_rows::<S>(1.0),
                (Reduce::Max { .. }, Lane::Signed) => {
                    self.fold(i32::MIN as u32, |a, b| (a as i32).max(b as i32) as u32)
                }
                (Reduce::Max { .. }, Lane::Unsigned | Lane::Mask) => self.fold(0, |a, b| a.max(b)),
                (Reduce::Min { .. }, Lane::Float) => {
                    self.fold(f32::INFINITY.to_bits(), |a, b| if float(b) < float(a) { b } else { a })
                }
                (Reduce::Min { .. }, Lane::Signed) => {
                    self.fold(i32::MAX as u32, |a, b| (a as i32).min(b as i32) as u32)
                }
                (Reduce::Min { .. }, Lane::Unsigned | Lane::Mask) => self.fold(u32::MAX, |a, b| a.min(b)),
            }
        }
    }

    /// All rows to one; the first of all begins the result.
    #[inline(always)]
    unsafe fn fold_all(&self, f: impl Fn(u32, u32) -> u32) {
        for row in 0..self.rows {
            // SAFETY: the caller's promise: `cols` lanes a row and of the result.
            unsafe {
                let from = self.src[0].row(row);
                match self.origin as usize + row {
                    0 => each(self.dst, self.cols, [from], |[a]| a),
                    _ => each(self.dst, self.cols, [self.dst.cast_const(), from], |[a, b]| f(a, b)),
                }
            }
        }
    }

    /// Each row to one lane: four chunks of partial results side by side, then one another.
    #[inline(always)]
    unsafe fn fold(&self, start: u32, f: impl Fn(u32, u32) -> u32) {
        for row in 0..self.rows {
            // SAFETY: `cols` lanes a row, one lane of the result a row.
            unsafe {
                let src = self.src[0].first.add(row * self.src[0].step);
                let mut parts = [[start; CHUNK]; 4];
                let mut col = 0;
                while col + 4 * CHUNK <= self.cols {
                    for (i, part) in parts.iter_mut().enumerate() {
                        combine(part, &chunk(src.add(col + i * CHUNK)), &f);
                    }
                    col += 4 * CHUNK;
                }
                while col + CHUNK <= self.cols {
                    combine(&mut parts[0], &chunk(src.add(col)), &f);
                    col += CHUNK;
                }
                let [mut all, b, mut c, d] = parts;
                combine(&mut all, &b, &f);
                combine(&mut c, &d, &f);
                combine(&mut all, &c, &f);
                let mut width = CHUNK / 2;
                while width > 0 {
                    let (low, high) = all.split_at_mut(width);
                    for (a, &b) in low.iter_mut().zip(&*high) {
                        *a = f(*a, b);
                    }
                    width /= 2;
                }
                let mut out = all[0];
                while col < self.cols {
                    out = f(out, *src.add(col));
                    col += 1;
                }
                *self.dst.add(row) = out;
            }
        }
    }

    /// The largest number of each row times `factor`; a number already there wins over NaN.
    #[inline(always)]
    unsafe fn max_of_rows<S: Simd>(&self, factor: f32) {
        let larger = |a, b| if b > a { b } else { a };
        // SAFETY: the caller's promise.
        unsafe { self.fold_rows::<S>(factor, f32::NEG_INFINITY, |a, b| S::larger(a, b), larger, |x| S::largest(x)) }
    }

    /// Each row of floats, all times `factor`, to one lane: two vectors of partial results side by side, and then four rows at a time.
    #[inline(always)]
    unsafe fn fold_rows<S: Simd>(
        &self,
        factor: f32,
        start: f32,
        join: impl Fn(S::Vector, S::Vector) -> S::Vector,
        one: impl Fn(f32, f32) -> f32,
        last: impl Fn([S::Vector; 4]) -> [f32; 4],
    ) {
        for first in (0..self.rows).step_by(4) {
            let rows = 4.min(self.rows - first);
            // SAFETY: `cols` lanes a row, one lane of the result a row.
            unsafe {
                let (mut parts, mut rest) = ([S::splat(start); 4], [start; 4]);
                let factors = S::splat(factor);
                for (row, (part, rest)) in parts.iter_mut().zip(&mut rest).enumerate().take(rows) {
                    let src = self.src[0].row(first + row).cast::<f32>();
                    let mut two = [*part; 2];
                    let mut col = 0;
                    while col + 2 * S::LANES <= self.cols {
                        two[0] = join(two[0], S::mul(S::load(src.add(col)), factors));
                        two[1] = join(two[1], S::mul(S::load(src.add(col + S::LANES)), factors));
                        col += 2 * S::LANES;
                    }
                    if col + S::LANES <= self.cols {
                        two[0] = join(two[0], S::mul(S::load(src.add(col)), factors));
                        col += S::LANES;
                    }
                    *part = join(two[0], two[1]);
                    for col in col..self.cols {
                        *rest = one(*rest, *src.add(col) * factor);
                    }
                }
                for (row, (part, rest)) in last(parts).into_iter().zip(rest).enumerate().take(rows) {
                    *self.dst.add(first + row) = one(part, rest).to_bits();
                }
            }
        }
    }

    /// Whether rows are changed where they stand by a number each.
    #[inline(always)]
    fn keeps_rows(&self) -> bool {
        let [a, b, _] = self.src;
        std::ptr::eq(a.first, self.dst) && !a.splat && b.splat && b.step == 1
    }

    /// Rows times a number each, in place; a row times one stays as it is.
    #[inline(always)]
    unsafe fn scale_rows(&self) {
        let [a, b, _] = self.src;
        // SAFETY: the caller's promise.
        unsafe {
            self.rows(|dst, row| {
                let factor = f32::from_bits(*b.row(row));
                if factor != 1.0 {
                    each(dst, self.cols, [a.row(row)], |[a]| (f32::from_bits(a) * factor).to_bits());
                }
            });
        }
    }

    #[inline(always)]
    unsafe fn exp2<S: Simd>(&self) {
        let [a, ..] = self.src;
        // SAFETY: the caller's promise.
        unsafe {
            if a.splat {
                return self.unary(|a| math::exp2_either(S::FMA, f32::from_bits(a)).to_bits());
            }
            self.rows(|dst, row| {
                let (from, to) = (a.row(row).cast::<f32>(), dst.cast::<f32>());
                let mut col = 0;
                while col + S::LANES <= self.cols {
                    S::store(to.add(col), S::exp2(S::load(from.add(col))));
                    col += S::LANES;
                }
                for col in col..self.cols {
                    *to.add(col) = math::exp2_either(S::FMA, *from.add(col));
                }
            });
        }
    }

    #[inline(always)]
    unsafe fn unary(&self, f: impl Fn(u32) -> u32 + Copy) {
        let [a, ..] = self.src;
        // SAFETY: the caller's promise.
        unsafe {
            self.rows(|dst, row| match a.splat {
                false => each(dst, self.cols, [a.row(row)], |[a]| f(a)),
                true => {
                    let x = f(*a.row(row));
                    std::slice::from_raw_parts_mut(dst, self.cols).fill(x);
                }
            });
        }
    }

    #[inline(always)]
    unsafe fn binary(&self, f: impl Fn(u32, u32) -> u32 + Copy) {
        let [a, b, _] = self.src;
        // SAFETY: the caller's promise.
        unsafe {
            self.rows(|dst, row| match (a.splat, b.splat) {
                (false, false) => each(dst, self.cols, [a.row(row), b.row(row)], |[a, b]| f(a, b)),
                (false, true) => {
                    let b = *b.row(row);
                    each(dst, self.cols, [a.row(row)], |[a]| f(a, b));
                }
                (true, false) => {
                    let a = *a.row(row);
                    each(dst, self.cols, [b.row(row)], |[b]| f(a, b));
                }
                (true, true) => {
                    let x = f(*a.row(row), *b.row(row));
                    std::slice::from_raw_parts_mut(dst, self.cols).fill(x);
                }
            });
        }
    }

    /// A mask a row, so that the row is one side or the other as it is.
    #[inline(always)]
    unsafe fn select_rows(&self) {
        let [set, yes, no] = self.src;
        // SAFETY: the caller's promise.
        unsafe {
            self.rows(|dst, row| {
                let side = if *set.row(row) != 0 { yes } else { no };
                let from = side.row(row);
                if side.splat {
                    std::slice::from_raw_parts_mut(dst, self.cols).fill(*from);
                } else if !std::ptr::eq(from, dst) {
                    each(dst, self.cols, [from], |[a]| a);
                }
            });
        }
    }

    #[inline(always)]
    unsafe fn select(&self) {
        let [set, yes, no] = self.src;
        let f = |set: u32, yes: u32, no: u32| (set & yes) | (!set & no);
        // SAFETY: the caller's promise.
        unsafe {
            self.rows(|dst, row| match (yes.splat, no.splat) {
                (false, false) => {
                    each(dst, self.cols, [set.row(row), yes.row(row), no.row(row)], |[c, y, n]| f(c, y, n))
                }
                (true, false) => {
                    let y = *yes.row(row);
                    each(dst, self.cols, [set.row(row), no.row(row)], |[c, n]| f(c, y, n));
                }
                (false, true) => {
                    let n = *no.row(row);
                    each(dst, self.cols, [set.row(row), yes.row(row)], |[c, y]| f(c, y, n));
                }
                (true, true) => {
                    let (y, n) = (*yes.row(row), *no.row(row));
                    each(dst, self.cols, [set.row(row)], |[c]| f(c, y, n));
                }
            });
        }
    }

    #[inline(always)]
    unsafe fn rows(&self, mut f: impl FnMut(*mut u32, usize)) {
        for row in 0..self.rows {
            // SAFETY: rows of a result are contiguous.
            f(unsafe { self.dst.add(row * self.cols) }, row);
        }
    }
}

impl Access {
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *const u32 {
        // SAFETY: the caller stays inside the block.
        unsafe { self.first.add(row * self.step) }
    }
}

#[inline(always)]
fn mask(x: bool) -> u32 {
    u32::from(x).wrapping_neg()
}

#[inline(always)]
unsafe fn chunk(from: *const u32) -> [u32; CHUNK] {
    // SAFETY: the caller has a chunk there.
    unsafe { from.cast::<[u32; CHUNK]>().read_unaligned() }
}

/// Lane by lane, `a = f(a, b)`.
#[inline(always)]
fn combine(a: &mut [u32; CHUNK], b: &[u32; CHUNK], f: &impl Fn(u32, u32) -> u32) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a = f(*a, b);
    }
}

/// `dst[i] = f(src[i]…)`; `dst` may be one of the sources.
#[inline(always)]
unsafe fn each<const N: usize>(dst: *mut u32, n: usize, src: [*const u32; N], f: impl Fn([u32; N]) -> u32) {
    let mut i = 0;
    // SAFETY: the caller has n lanes in each; a chunk is read before its place is written.
    unsafe {
        while i + CHUNK <= n {
            let x: [[u32; CHUNK]; N] = std::array::from_fn(|s| chunk(src[s].add(i)));
            let out: [u32; CHUNK] = std::array::from_fn(|l| f(std::array::from_fn(|s| x[s][l])));
            dst.add(i).cast::<[u32; CHUNK]>().write_unaligned(out);
            i += CHUNK;
        }
        while i < n {
            *dst.add(i) = f(std::array::from_fn(|s| *src[s].add(i)));
            i += 1;
        }
    }
}
