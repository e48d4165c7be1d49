//! The scores of a softmax in one pass: scale, bias, mask and the largest of each row.
//!
//! Four rows at a time share the numbers of their columns. No intrinsic stands in a closure (see `simd`).

use super::simd::Simd;
use tilewright_compile::cpu::{Any, Bias, Bounds, Extent, Masked, Operand, Place, Relation};

/// Rows that are done together.
const ROWS: usize = 4;

/// A block of rows.
struct Block<'m> {
    of: &'m Masked,
    arena: *mut u32,
    dst: Place,
    /// The first row in the domain.
    first: usize,
    cols: usize,
}

/// Rows `first` to `first + rows` of a domain of `cols` columns.
///
/// # Safety
/// The instruction set of `S`, and an arena with all lanes that the op names.
#[inline(always)]
pub(super) unsafe fn run<S: Simd>(of: &Masked, dst: Place, cols: usize, first: u32, rows: u32, arena: *mut u32) {
    let block = Block { of, arena, dst, first: first as usize, cols };
    // SAFETY: the caller's promise, in all of these.
    unsafe {
        if let Some(any) = &of.any
            && first == 0
        {
            std::ptr::write_bytes(block.lane(any.dst, 0), 0, cols);
        }
        match (of.bias.is_some(), of.cells.is_some(), of.any.is_some()) {
            (false, false, false) => block.run::<S, false, false, false>(rows as usize),
            (false, false, true) => block.run::<S, false, false, true>(rows as usize),
            (false, true, false) => block.run::<S, false, true, false>(rows as usize),
            (false, true, true) => block.run::<S, false, true, true>(rows as usize),
            (true, false, false) => block.run::<S, true, false, false>(rows as usize),
            (true, false, true) => block.run::<S, true, false, true>(rows as usize),
            (true, true, false) => block.run::<S, true, true, false>(rows as usize),
            (true, true, true) => block.run::<S, true, true, true>(rows as usize),
        }
    }
}

/// What a row is asked with.
#[derive(Clone, Copy)]
struct Row {
    x: *const f32,
    bias: *const f32,
    cells: *const f32,
    to: *mut f32,
    /// The least and the greatest number of a column that it attends.
    low: i32,
    high: i32,
    /// 1 where it counts, as to whether any attends a column.
    counts: f32,
}

impl Block<'_> {
    /// A lane of a place: of a row of the block, where it has one a row; else the first lane there.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn lane(&self, place: Place, step: usize) -> *mut u32 {
        // SAFETY: the lowering keeps all lanes inside the arena.
        unsafe { self.arena.add(place.offset as usize + self.first * place.row_stride as usize + step) }
    }

    /// The i32 number of a row.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn number(&self, operand: &Operand, row: usize) -> i32 {
        let step = match operand.extent {
            Extent::Row => row,
            Extent::Full | Extent::Col | Extent::One => 0,
        };
        // SAFETY: the caller's promise.
        unsafe { *self.lane(operand.place, step) as i32 }
    }

    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn one(&self, place: Place) -> f32 {
        // SAFETY: the caller's promise.
        f32::from_bits(unsafe { *self.lane(place, 0) })
    }

    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> Row {
        let Masked { x, bias, bounds, cells, any, .. } = self.of;
        let (mut low, mut high) = (i64::from(i32::MIN), i64::from(i32::MAX));
        // SAFETY: the caller's promise, in all of these.
        unsafe {
            if let Some(Bounds { relations, .. }) = bounds {
                for (relation, bound) in relations {
                    let bound = i64::from(self.number(bound, row));
                    match relation {
                        Relation::Less => high = high.min(bound - 1),
                        Relation::LessOrEqual => high = high.min(bound),
                        Relation::Greater => low = low.max(bound + 1),
                        Relation::GreaterOrEqual => low = low.max(bound),
                    }
                }
            }
            // Bounds beyond all numbers leave none.
            let (low, high) = match (i32::try_from(low), i32::try_from(high)) {
                (Ok(low), Ok(high)) => (low, high),
                _ => (1, 0),
            };
            let counts = match any {
                Some(Any { of: Some((a, relation, b)), .. }) => {
                    let (a, b) = (self.number(a, row), self.number(b, row));
                    match relation {
                        Relation::Less => a < b,
                        Relation::LessOrEqual => a <= b,
                        Relation::Greater => a > b,
                        Relation::GreaterOrEqual => a >= b,
                    }
                }
                Some(Any { of: None, .. }) | None => true,
            };
            let full = |place: Place| self.lane(place, row * self.cols).cast::<f32>();
            let or_none = |place: Option<Place>| place.map_or(std::ptr::null(), |place| full(place).cast_const());
            Row {
                x: full(*x),
                bias: or_none(bias.map(|bias| bias.cells)),
                cells: or_none(*cells),
                to: full(self.dst),
                low,
                high,
                counts: f32::from_bits(u32::from(counts)),
            }
        }
    }

    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn run<S: Simd, const BIAS: bool, const CELLS: bool, const ANY: bool>(&self, rows: usize) {
        let mut row = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while row + ROWS <= rows {
                self.rows::<S, ROWS, BIAS, CELLS, ANY>(row);
                row += ROWS;
            }
            while row < rows {
                self.rows::<S, 1, BIAS, CELLS, ANY>(row);
                row += 1;
            }
        }
    }

    /// `N` rows.
    ///
    /// # Safety
    /// As [`run`].
    #[inline(always)]
    unsafe fn rows<S: Simd, const N: usize, const BIAS: bool, const CELLS: bool, const ANY: bool>(&self, first: usize) {
        let Masked { scale, bias, bounds, otherwise, max, any, .. } = self.of;
        // SAFETY: the caller's promise; whole vectors of columns, and then one column after another.
        unsafe {
            let scale = scale.map_or(1.0, |scale| self.one(scale));
            let factor = bias.map_or(0.0, |Bias { factor, .. }| self.one(factor));
            // Nothing is equal to NaN.
            let blocks = bias.and_then(|bias| bias.blocks).map_or(f32::NAN, |blocks| self.one(blocks));
            let otherwise = self.one(*otherwise);
            let column = bounds.as_ref().map(|bounds| self.lane(bounds.of, 0).cast_const());
            let any = any.as_ref().map_or(std::ptr::null_mut(), |any| self.lane(any.dst, 0));
            let mut rows = [self.row(first); N];
            let mut at = 1;
            while at < N {
                rows[at] = self.row(first + at);
                at += 1;
            }
            let (scales, factors) = (S::splat(scale), S::splat(factor));
            let (blocking, others) = (S::splat(blocks), S::splat(otherwise));
            let mut best = [S::splat(f32::NEG_INFINITY); 4];
            let mut rest = [f32::NEG_INFINITY; 4];
            let mut col = 0;
            while col + S::LANES <= self.cols {
                let numbers = match column {
                    Some(column) => S::load(column.add(col).cast()),
                    None => scales, // any will do
                };
                let mut by_any = if ANY { S::load(any.add(col).cast()) } else { others };
                let mut at = 0;
                while at < N {
                    let row = &rows[at];
                    let mut score = S::mul(S::load(row.x.add(col)), scales);
                    let mut set = S::between(numbers, row.low, row.high);
                    if BIAS {
                        let bias = S::load(row.bias.add(col));
                        score = S::add(score, S::mul(bias, factors));
                        set = S::and(set, S::differ(bias, blocking));
                    }
                    if CELLS {
                        set = S::and(set, S::load(row.cells.add(col)));
                    }
                    let score = S::choose(set, score, others);
                    S::store(row.to.add(col), score);
                    best[at] = S::larger(best[at], score);
                    if ANY {
                        by_any = S::or(by_any, S::and(set, S::splat(row.counts)));
                    }
                    at += 1;
                }
                if ANY {
                    S::store(any.add(col).cast(), by_any);
                }
                col += S::LANES;
            }
            for (row, rest) in rows.iter().zip(&mut rest) {
                for col in col..self.cols {
                    let number = column.map_or(row.low, |column| *column.add(col) as i32);
                    let mut score = *row.x.add(col) * scale;
                    let mut set = row.low <= number && number <= row.high;
                    if BIAS {
                        let bias = *row.bias.add(col);
                        score += bias * factor;
                        set &= bias != blocks;
                    }
                    if CELLS {
                        set &= (*row.cells.add(col)).to_bits() != 0;
                    }
                    let score = if set { score } else { otherwise };
                    *row.to.add(col) = score;
                    if score > *rest {
                        *rest = score;
                    }
                    if ANY && set {
                        *any.add(col) |= row.counts.to_bits();
                    }
                }
            }
            if let Some(max) = max {
                for (at, (best, rest)) in S::largest(best).into_iter().zip(rest).enumerate().take(N) {
                    *self.lane(*max, first + at) = (if rest > best { rest } else { best }).to_bits();
                }
            }
        }
    }
}
