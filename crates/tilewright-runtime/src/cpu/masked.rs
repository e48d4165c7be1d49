//! The scores of a softmax in one pass: scale, bias, mask and the largest of each row.
//!
//! Four rows at a time share the numbers of their columns. No intrinsic stands in a closure (see `simd`).

use super::simd::{Piece, Simd};
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

/// Rows `first` to `first + rows` of a domain of `cols` columns, in an arena with all lanes that the op names.
pub(super) struct Pass<'m> {
    pub of: &'m Masked,
    pub dst: Place,
    pub cols: usize,
    pub first: u32,
    pub rows: u32,
    pub arena: *mut u32,
}

impl<S: Simd> Piece<S> for Pass<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Pass { of, dst, cols, first, rows, arena } = self;
        let block = Block { of, arena, dst, first: first as usize, cols };
        // SAFETY: the caller's promise, in all of these.
        unsafe {
            if let Some(any) = &of.any
                && first == 0
            {
                std::ptr::write_bytes(block.lane(any.dst, 0), 0, cols);
            }
            match (of.bias.is_some(), of.cells.is_some()) {
                (false, false) => block.run::<S, false, false>(rows as usize),
                (false, true) => block.run::<S, false, true>(rows as usize),
                (true, false) => block.run::<S, true, false>(rows as usize),
                (true, true) => block.run::<S, true, true>(rows as usize),
            }
        }
    }
}

/// What a row is asked with.
#[derive(Clone, Copy)]
struct Row {
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
    /// As [`Pass`] is run.
    #[inline(always)]
    unsafe fn lane(&self, place: Place, step: usize) -> *mut u32 {
        // SAFETY: the lowering keeps all lanes inside the arena.
        unsafe { self.arena.add(place.offset as usize + self.first * place.row_stride as usize + step) }
    }

    /// The i32 number of a row.
    ///
    /// # Safety
    /// As [`Pass`] is run.
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
    /// As [`Pass`] is run.
    #[inline(always)]
    unsafe fn one(&self, place: Place) -> f32 {
        // SAFETY: the caller's promise.
        f32::from_bits(unsafe { *self.lane(place, 0) })
    }

    /// # Safety
    /// As [`Pass`] is run.
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> Row {
        let Masked { bounds, any, .. } = self.of;
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
            Row { low, high, counts: f32::from_bits(u32::from(counts)) }
        }
    }

    /// Rows `first` to `first + N`.
    ///
    /// # Safety
    /// As [`Pass`] is run.
    #[inline(always)]
    unsafe fn some_rows<const N: usize>(&self, first: usize) -> [Row; N] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut rows = [self.row(first); N];
            let mut at = 1;
            while at < N {
                rows[at] = self.row(first + at);
                at += 1;
            }
            rows
        }
    }

    /// The least and the greatest number of all columns; any will do where nothing bounds them.
    ///
    /// # Safety
    /// As [`Pass`] is run.
    #[inline(always)]
    unsafe fn numbers(&self) -> (i32, i32) {
        let (mut least, mut greatest) = (i32::MAX, i32::MIN);
        if let Some(bounds) = &self.of.bounds {
            // SAFETY: the caller's promise: a lane for each column.
            for &number in unsafe { std::slice::from_raw_parts(self.lane(bounds.of, 0), self.cols) } {
                (least, greatest) = (least.min(number as i32), greatest.max(number as i32));
            }
        }
        (least, greatest)
    }

    /// Whether each column is known to be attended by some row, or nobody asks.
    ///
    /// # Safety
    /// As [`Pass`] is run.
    #[inline(always)]
    unsafe fn all_attended(&self) -> bool {
        self.of.any.as_ref().is_none_or(|any| {
            // SAFETY: the caller's promise: a lane for each column.
            let lanes = unsafe { std::slice::from_raw_parts(self.lane(any.dst, 0), self.cols) };
            lanes.iter().fold(1, |all, &lane| all & lane) != 0
        })
    }

    /// Most rows attend all columns as far as bounds go, and most columns are attended by the first rows: what stands at
    /// the edges is asked alone where there is one.
    ///
    /// # Safety
    /// As [`Pass`] is run.
    #[inline(always)]
    unsafe fn run<S: Simd, const BIAS: bool, const CELLS: bool>(&self, count: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (least, greatest) = self.numbers();
            let mut attended = self.all_attended();
            let inside = |row: &Row| row.low <= least && greatest <= row.high;
            let mut first = 0;
            while first + ROWS <= count {
                let rows = self.some_rows::<ROWS>(first);
                if attended && rows.iter().all(inside) {
                    self.rows::<S, ROWS, BIAS, CELLS, false>(first, &rows);
                } else {
                    self.rows::<S, ROWS, BIAS, CELLS, true>(first, &rows);
                    attended = attended || self.all_attended();
                }
                first += ROWS;
            }
            while first < count {
                self.rows::<S, 1, BIAS, CELLS, true>(first, &self.some_rows(first));
                first += 1;
            }
        }
    }

    /// `N` rows. Without `EDGE` all of them attend every column as far as bounds go, and each column is known to be attended.
    ///
    /// # Safety
    /// As [`Pass`] is run.
    #[inline(always)]
    unsafe fn rows<S: Simd, const N: usize, const BIAS: bool, const CELLS: bool, const EDGE: bool>(
        &self,
        first: usize,
        rows: &[Row; N],
    ) {
        let Masked { x, scale, bias, bounds, cells, otherwise, max, any } = self.of;
        // SAFETY: the caller's promise; whole vectors of columns, and then one column after another.
        unsafe {
            let scale = scale.map_or(1.0, |scale| self.one(scale));
            let factor = bias.map_or(0.0, |Bias { factor, .. }| self.one(factor));
            // Nothing is equal to NaN.
            let blocks = bias.and_then(|bias| bias.blocks).map_or(f32::NAN, |blocks| self.one(blocks));
            let otherwise = self.one(*otherwise);
            // Rows follow each other in all of these.
            let full = |place: Place| self.lane(place, first * self.cols).cast::<f32>();
            let or_none = |place: Option<Place>| place.map_or(std::ptr::null(), |place| full(place).cast_const());
            let (x, to) = (full(*x).cast_const(), full(self.dst));
            let (biases, cells) = (or_none(bias.map(|bias| bias.cells)), or_none(*cells));
            let column = bounds.as_ref().map(|bounds| self.lane(bounds.of, 0).cast_const());
            let any = any.as_ref().map(|any| self.lane(any.dst, 0));
            let (scales, factors) = (S::splat(scale), S::splat(factor));
            let (blocking, others) = (S::splat(blocks), S::splat(otherwise));
            let all = S::splat(f32::from_bits(u32::MAX));
            let mut best = [S::splat(f32::NEG_INFINITY); 4];
            let mut rest = [f32::NEG_INFINITY; 4];
            let mut col = 0;
            while col + S::LANES <= self.cols {
                let numbers = match column {
                    Some(column) if EDGE => S::load(column.add(col).cast()),
                    Some(_) | None => scales, // any will do
                };
                let mut attended = match any {
                    Some(any) if EDGE => S::load(any.add(col).cast()),
                    Some(_) | None => others, // any will do
                };
                let mut at = 0;
                while at < N {
                    let (row, lane) = (&rows[at], at * self.cols + col);
                    let mut score = S::mul(S::load(x.add(lane)), scales);
                    let mut set = if EDGE { S::between(numbers, row.low, row.high) } else { all };
                    if BIAS {
                        let bias = S::load(biases.add(lane));
                        score = S::add(score, S::mul(bias, factors));
                        set = S::and(set, S::differ(bias, blocking));
                    }
                    if CELLS {
                        set = S::and(set, S::load(cells.add(lane)));
                    }
                    if EDGE || BIAS || CELLS {
                        score = S::choose(set, score, others);
                    }
                    S::store(to.add(lane), score);
                    best[at] = S::larger(best[at], score);
                    if EDGE {
                        attended = S::or(attended, S::and(set, S::splat(row.counts)));
                    }
                    at += 1;
                }
                if EDGE && let Some(any) = any {
                    S::store(any.add(col).cast(), attended);
                }
                col += S::LANES;
            }
            for (at, (row, rest)) in rows.iter().zip(&mut rest).enumerate() {
                for col in col..self.cols {
                    let lane = at * self.cols + col;
                    let number = column.map_or(row.low, |column| *column.add(col) as i32);
                    let mut score = *x.add(lane) * scale;
                    let mut set = row.low <= number && number <= row.high;
                    if BIAS {
                        let bias = *biases.add(lane);
                        score += bias * factor;
                        set &= bias != blocks;
                    }
                    if CELLS {
                        set &= (*cells.add(lane)).to_bits() != 0;
                    }
                    let score = if set { score } else { otherwise };
                    *to.add(lane) = score;
                    if score > *rest {
                        *rest = score;
                    }
                    if set && let Some(any) = any {
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
