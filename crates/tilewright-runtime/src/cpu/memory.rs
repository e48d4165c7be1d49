//! Views at run time, and the ways between tensors and lanes: load, gather, store.
//!
//! Nothing outside a view's bounds is touched; bounds never exceed the tensor, so no origin or index can lead outside it.

use super::simd::{self, Piece, Simd};
use super::{ahead, math};
use half::f16;
use tilewright_compile::cpu::Window;
use tilewright_ir::{Elem, MAX_TILE_RANK, MAX_VIEW_RANK};

/// A view of a tensor while a program runs.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// The element at coordinate 0 of every axis.
    pub base: *mut u8,
    pub elem: Elem,
    pub rank: usize,
    /// Length of each axis of the tensor.
    pub len: [i32; MAX_VIEW_RANK],
    /// Bounds of each axis: `0 <= first`, `last <= len`.
    pub first: [i32; MAX_VIEW_RANK],
    pub last: [i32; MAX_VIEW_RANK],
    /// In elements.
    pub stride: [isize; MAX_VIEW_RANK],
}

impl View {
    /// Lanes as a matrix of f32; its elements are moved as they are, whatever they are.
    pub fn of_lanes(lanes: *mut u32, rows: u32, cols: u32) -> View {
        let len = [rows as i32, cols as i32, 0, 0]; // an arena has less than 2^31 lanes
        let stride = [cols as isize, 1, 0, 0];
        View { base: lanes.cast(), rank: 2, len, last: len, stride, ..View::EMPTY }
    }

    /// A view of nothing.
    pub const EMPTY: View = View {
        base: std::ptr::null_mut(),
        elem: Elem::F32,
        rank: 0,
        len: [0; MAX_VIEW_RANK],
        first: [0; MAX_VIEW_RANK],
        last: [0; MAX_VIEW_RANK],
        stride: [0; MAX_VIEW_RANK],
    };

    /// The view at `index` of `axis`. An index outside the bounds leaves nothing: of a view without axes, that is a base of
    /// null, of others an axis without entries.
    pub fn at(&self, axis: usize, index: i32) -> View {
        let mut out = *self;
        let inside = index >= self.first[axis] && index < self.last[axis] && !self.base.is_null();
        out.base = match inside {
            true => self.base.wrapping_offset(index as isize * self.stride[axis] * self.elem.bytes() as isize),
            false => std::ptr::null_mut(),
        };
        out.rank -= 1;
        for next in axis..out.rank {
            out.len[next] = self.len[next + 1];
            out.first[next] = self.first[next + 1];
            out.last[next] = self.last[next + 1];
            out.stride[next] = self.stride[next + 1];
        }
        out
    }

    /// The same view with narrower bounds.
    pub fn limit(&self, axis: usize, first: i32, last: i32) -> View {
        let mut out = *self;
        out.first[axis] = self.first[axis].max(first);
        out.last[axis] = self.last[axis].min(last);
        out
    }
}

/// A tile-shaped place in a view, padded with leading axes to rank 3: planes of rows of columns.
pub(super) struct Place<'v> {
    view: &'v View,
    /// Axes of the view that lead to axis 0 of the padded place.
    missing: usize,
    origins: [i32; MAX_TILE_RANK],
    extents: [usize; MAX_TILE_RANK],
    /// One axis (padded) is taken at indices instead of consecutive places.
    indices: Option<(usize, *const u32)>,
    /// A lane for each row of all planes, 0 where nothing is read.
    keep: Option<*const u32>,
}

/// What windows are read through: views, and the lanes of their origins.
#[derive(Clone, Copy)]
pub(super) struct Places<'v> {
    pub views: &'v [View],
    pub lanes: *const u32,
}

impl<'v> Places<'v> {
    /// The place of a window, one axis of which may be taken at indices.
    ///
    /// # Safety
    /// The view and the lanes of the window exist.
    #[inline(always)]
    pub unsafe fn of(&self, window: &Window, indices: Option<(usize, *const u32)>) -> Place<'v> {
        let mut origins = [0; MAX_TILE_RANK];
        for (to, &lane) in origins.iter_mut().zip(&window.origins) {
            // SAFETY: the caller's promise.
            *to = unsafe { *self.lanes.add(lane as usize) } as i32;
        }
        let view = &self.views[window.view as usize];
        Place::new(view, &origins[..window.origins.len()], &window.extents, indices)
    }
}

impl<'v> Place<'v> {
    pub fn new(view: &'v View, origins: &[i32], extents: &[u32], indices: Option<(usize, *const u32)>) -> Place<'v> {
        let missing = MAX_TILE_RANK - extents.len();
        let mut place = Place {
            view,
            missing,
            origins: [0; MAX_TILE_RANK],
            extents: [1; MAX_TILE_RANK],
            indices: None,
            keep: None,
        };
        for (to, &extent) in place.extents[missing..].iter_mut().zip(extents) {
            *to = extent as usize;
        }
        let gathered = indices.map(|(axis, _)| axis);
        let axes = (0..extents.len()).filter(|&a| Some(a) != gathered);
        for (axis, &origin) in axes.zip(origins) {
            place.origins[missing + axis] = origin;
        }
        place.indices = indices.map(|(axis, lanes)| (axis + missing, lanes));
        place
    }

    /// The same without the rows whose lane is 0: they are outside the bounds. There is a lane for each row of all planes.
    pub fn keeping(self, keep: Option<*const u32>) -> Place<'v> {
        Place { keep, ..self }
    }

    /// Whether a row is kept.
    ///
    /// # Safety
    /// There is such a row, and a lane for it where rows are chosen.
    #[inline(always)]
    unsafe fn keeps(&self, row: usize) -> bool {
        // SAFETY: the caller's promise.
        self.keep.is_none_or(|lanes| unsafe { *lanes.add(row) != 0 })
    }

    /// Rows of all planes.
    pub fn rows(&self) -> usize {
        self.extents[0] * self.extents[1]
    }

    /// Whether an axis is taken at indices.
    pub fn is_gathered(&self) -> bool {
        self.indices.is_some()
    }

    /// How elements stand in memory.
    pub fn elem(&self) -> Elem {
        self.view.elem
    }

    /// Whether all of it lies inside the bounds.
    ///
    /// # Safety
    /// As [`coordinate`](Self::coordinate) and [`keeps`](Self::keeps).
    #[inline(always)]
    pub unsafe fn is_inside(&self) -> bool {
        !self.view.base.is_null()
            // SAFETY: the caller's promise.
            && (self.keep.is_none() || (0..self.rows()).all(|row| unsafe { self.keeps(row) }))
            && (self.missing..MAX_TILE_RANK).all(|axis| {
                if let Some((gathered, _)) = self.indices
                    && gathered == axis
                {
                    // SAFETY: the caller's promise.
                    return (0..self.extents[axis]).all(|at| unsafe { self.coordinate(axis, at) }.is_some());
                }
                let (first, last) = (self.view.first[axis - self.missing], self.view.last[axis - self.missing]);
                let origin = i64::from(self.origins[axis]);
                origin >= i64::from(first) && origin + self.extents[axis] as i64 <= i64::from(last)
            })
    }

    /// The columns inside the bounds, of a view that has them, along an axis that is not taken at indices.
    #[inline(always)]
    pub fn columns(&self) -> Columns {
        let axis = MAX_TILE_RANK - 1 - self.missing;
        let (origin, extent) = (i64::from(self.origins[2]), self.extents[2] as i64);
        let first = (i64::from(self.view.first[axis]) - origin).clamp(0, extent);
        let last = (i64::from(self.view.last[axis]) - origin).clamp(first, extent);
        let stride = self.view.stride[axis];
        let skip = ((origin + first) as isize).wrapping_mul(stride).wrapping_mul(self.view.elem.bytes() as isize);
        Columns { first: first as usize, last: last as usize, stride, skip }
    }

    /// Calls `f(row, from)` for each row inside the bounds, counted through all planes; `from` is where coordinate 0 of the
    /// last axis is.
    ///
    /// # Safety
    /// As [`coordinate`](Self::coordinate).
    #[inline(always)]
    pub unsafe fn each_row(&self, mut f: impl FnMut(usize, *mut u8)) {
        if self.view.base.is_null() {
            return;
        }
        let [planes, rows, _] = self.extents;
        let bytes = self.view.elem.bytes() as isize;
        for plane in 0..planes {
            // SAFETY: the caller's promise.
            let Some(p) = (unsafe { self.coordinate(0, plane) }) else { continue };
            for row in 0..rows {
                // SAFETY: the caller's promise.
                let Some(r) = (unsafe { self.coordinate(1, row).filter(|_| self.keeps(plane * rows + row)) }) else {
                    continue;
                };
                f(plane * rows + row, self.view.base.wrapping_offset((p + r) * bytes));
            }
        }
    }

    /// Where the rows from `first` on are, as `each_row` says it; null outside the bounds and past the last row.
    ///
    /// # Safety
    /// As [`coordinate`](Self::coordinate).
    #[inline(always)]
    pub unsafe fn some_rows<const N: usize>(&self, first: usize) -> [*mut u8; N] {
        let [planes, rows, _] = self.extents;
        let bytes = self.view.elem.bytes() as isize;
        let (mut plane, mut row) = (first / rows.max(1), first % rows.max(1));
        let mut out = [std::ptr::null_mut(); N];
        let mut at = 0;
        while at < N && plane < planes && !self.view.base.is_null() {
            // SAFETY: the caller's promise; the plane and its rows exist.
            let base = unsafe { self.coordinate(0, plane) };
            let run = (rows - row).min(N - at);
            for (i, to) in out[at..at + run].iter_mut().enumerate() {
                // SAFETY: as above.
                let kept = unsafe { self.coordinate(1, row + i).filter(|_| self.keeps(plane * rows + row + i)) };
                if let Some((p, r)) = base.zip(kept) {
                    *to = self.view.base.wrapping_offset((p + r) * bytes);
                }
            }
            (plane, row, at) = (plane + 1, 0, at + run);
        }
        out
    }

    /// From one row to the next in bytes, where all lie at equal distances: one plane, not taken at indices.
    #[inline(always)]
    pub fn step(&self) -> Option<isize> {
        let axis = 1usize.checked_sub(self.missing)?;
        let even = self.extents[0] == 1 && self.indices.is_none();
        even.then(|| self.view.stride[axis].wrapping_mul(self.view.elem.bytes() as isize))
    }

    /// As many rows as these right after the last of them, as far as there are so many inside the bounds, if all lie at equal
    /// distances.
    pub fn following(&self) -> Option<Strip> {
        let (step, axis, rows) = (self.step()?, 1 - self.missing, self.rows());
        // SAFETY: no axis is taken at indices.
        let [first] = unsafe { self.some_rows::<1>(0) };
        let left = i64::from(self.view.last[axis]) - i64::from(self.origins[1]) - rows as i64;
        (!first.is_null()).then(|| Strip {
            start: Some(first.wrapping_offset(step.wrapping_mul(rows as isize))),
            step,
            ahead: 0,
            rows: left.clamp(0, rows as i64) as usize,
        })
    }

    /// The rows from `first` on that lie at equal distances, or the ones that are outside the bounds, in one plane. A row is asked
    /// for so many rows before it is read.
    ///
    /// # Safety
    /// As [`coordinate`](Self::coordinate) and [`keeps`](Self::keeps); there is such a row.
    #[inline(always)]
    pub unsafe fn strip_from(&self, first: usize, ahead: usize) -> Strip {
        let [planes, rows, _] = self.extents;
        let (plane, row) = (first / rows, first % rows);
        if self.view.base.is_null() {
            return Strip { start: None, step: 0, ahead: 0, rows: planes * rows - first };
        }
        let gathered = self.indices.is_some_and(|(axis, _)| axis == 1);
        if gathered || self.keep.is_some() || self.missing > 1 {
            // SAFETY: the caller's promise.
            let [start] = unsafe { self.some_rows::<1>(first) };
            return Strip { start: (!start.is_null()).then_some(start), step: 0, ahead: 0, rows: 1 };
        }
        let (axis, bytes) = (1 - self.missing, self.view.elem.bytes() as isize);
        let step = self.view.stride[axis].wrapping_mul(bytes);
        let origin = i64::from(self.origins[1]);
        let [begin, end] = [self.view.first[axis], self.view.last[axis]]
            .map(|bound| (i64::from(bound) - origin).clamp(0, rows as i64) as usize);
        // SAFETY: the caller's promise.
        let plane_at = |plane: usize| (plane < planes).then(|| unsafe { self.coordinate(0, plane) }).flatten();
        match plane_at(plane) {
            Some(at) if (begin..end).contains(&row) => {
                let along = (origin as isize + row as isize).wrapping_mul(step);
                let next = if planes == 1 || ahead < rows {
                    step.wrapping_mul(ahead as isize)
                } else {
                    // The last planes ask for the last one.
                    let next = plane_at((plane + ahead / rows).min(planes - 1));
                    next.map_or(0, |next| (next - at).wrapping_mul(bytes))
                };
                let start = self.view.base.wrapping_offset(at.wrapping_mul(bytes).wrapping_add(along));
                Strip { start: Some(start), step, ahead: next, rows: end - row }
            }
            Some(_) if row < begin => Strip { start: None, step, ahead: 0, rows: begin - row },
            _ => Strip { start: None, step, ahead: 0, rows: rows - row },
        }
    }

    /// The coordinate in the view of place coordinate `at` along `axis`; `None` outside the bounds.
    ///
    /// # Safety
    /// The indices, if any, have a lane for `at`.
    #[inline(always)]
    unsafe fn coordinate(&self, axis: usize, at: usize) -> Option<isize> {
        let position = match self.indices {
            // SAFETY: the caller's promise.
            Some((gathered, lanes)) if gathered == axis => i64::from(unsafe { *lanes.add(at) } as i32),
            _ => i64::from(self.origins[axis]) + at as i64,
        };
        if axis < self.missing {
            return Some(0);
        }
        let axis = axis - self.missing;
        let inside = position >= i64::from(self.view.first[axis]) && position < i64::from(self.view.last[axis]);
        inside.then(|| position as isize * self.view.stride[axis])
    }

    /// Calls `f(lane, element, count, stride)` for each run of places along the last axis that lie inside the bounds:
    /// `count` lanes from `lane` on, elements `stride` apart.
    ///
    /// # Safety
    /// As [`coordinate`](Self::coordinate).
    #[inline(always)]
    unsafe fn runs(&self, mut f: impl FnMut(usize, *mut u8, usize, isize)) {
        let cols = self.extents[2];
        let gathered = self.indices.is_some_and(|(axis, _)| axis == 2);
        let columns = (self.missing < MAX_TILE_RANK && !gathered).then(|| self.columns());
        let bytes = self.view.elem.bytes() as isize;
        // SAFETY: the caller's promise.
        unsafe {
            self.each_row(|row, from| {
                // `f` stands here once, so that it is inlined: it is compiled for the caller's instruction set alone.
                for part in 0..if gathered { cols } else { 1 } {
                    let run = match columns {
                        Some(Columns { first, last, .. }) if last <= first => None,
                        Some(Columns { first, last, stride, skip }) => Some((first, skip, last - first, stride)),
                        None if gathered => self.coordinate(2, part).map(|c| (part, c * bytes, 1, 1)),
                        None => Some((0, 0, 1, 1)), // a view without axes
                    };
                    if let Some((col, skip, count, stride)) = run {
                        f(row * cols + col, from.wrapping_offset(skip), count, stride);
                    }
                }
            });
        }
    }
}

/// Rows at equal distances.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// Coordinate 0 of the last axis in the first row; none outside the bounds.
    pub start: Option<*mut u8>,
    /// From one row to the next, in bytes.
    pub step: isize,
    /// From a row to the one to ask for when it is read, in bytes; 0 where none is known.
    pub ahead: isize,
    /// How many.
    pub rows: usize,
}

/// Columns of a place that lie inside the bounds.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub first: usize,
    pub last: usize,
    /// From one to the next, in elements.
    pub stride: isize,
    /// From coordinate 0 of the axis to the first of them, in bytes.
    pub skip: isize,
}

/// How elements of a type stand in memory.
pub(super) trait Stored: Copy {
    /// The integer of this size that can be written whole.
    type Bits;
    fn lane(self) -> u32;
    /// Eight elements to lanes.
    ///
    /// # Safety
    /// The instruction set of `V`.
    #[inline(always)]
    unsafe fn lanes<V: Simd>(x: [Self; 8]) -> [u32; 8] {
        x.map(Self::lane)
    }
    /// As many elements as a vector has lanes.
    ///
    /// # Safety
    /// The instruction set of `V`, and as many elements.
    #[inline(always)]
    unsafe fn vector<V: Simd>(from: *const Self) -> V::Vector {
        // SAFETY: the caller's promise.
        unsafe { V::made(|lane| f32::from_bits(from.add(lane).read().lane())) }
    }
    fn bits(lane: u32) -> Self::Bits;
    /// Of eight lanes.
    ///
    /// # Safety
    /// The instruction set of `V`.
    #[inline(always)]
    unsafe fn eight_bits<V: Simd>(lanes: [u32; 8]) -> [Self::Bits; 8] {
        lanes.map(Self::bits)
    }
    /// Writes one element. Programs of a grid may store to the same element: which of them wins is unspecified, but it is
    /// one of them, so the write is atomic.
    ///
    /// # Safety
    /// `to` is an element of an output, aligned to its size.
    unsafe fn write(to: *mut Self, bits: Self::Bits);
}

macro_rules! stored {
    ($name:ident, $bits:ident, $atomic:ident, |$from:ident| $lane:expr, |$to:ident| $store:expr $(, eight $eight:ident)? $(, to eight $narrow:ident)? $(, vector $vector:ident)?) => {
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(super) struct $name($bits);

        impl Stored for $name {
            type Bits = $bits;
            #[inline(always)]
            fn lane(self) -> u32 {
                let $from = self.0;
                $lane
            }
            $(
                #[inline(always)]
                unsafe fn lanes<V: Simd>(x: [Self; 8]) -> [u32; 8] {
                    // SAFETY: the caller's promise.
                    unsafe { V::$eight(x.map(|x| x.0)) }
                }
            )?
            $(
                #[inline(always)]
                unsafe fn eight_bits<V: Simd>(lanes: [u32; 8]) -> [$bits; 8] {
                    // SAFETY: the caller's promise.
                    unsafe { V::$narrow(lanes) }
                }
            )?
            $(
                #[inline(always)]
                unsafe fn vector<V: Simd>(from: *const Self) -> V::Vector {
                    // SAFETY: the caller's promise.
                    unsafe { V::$vector(from.cast()) }
                }
            )?
            #[inline(always)]
            fn bits($to: u32) -> $bits {
                $store
            }
            #[inline(always)]
            unsafe fn write(to: *mut Self, bits: $bits) {
                // SAFETY: the caller's promise; nothing reads or writes the element otherwise while a launch runs.
                unsafe { std::sync::atomic::$atomic::from_ptr(to.cast()) }.store(bits, std::sync::atomic::Ordering::Relaxed);
            }
        }
    };
}

stored!(Word, u32, AtomicU32, |x| x, |lane| lane, vector load);
stored!(Bf16Bits, u16, AtomicU16, |x| u32::from(x) << 16, |lane| {
    (math::round_bf16(f32::from_bits(lane)).to_bits() >> 16) as u16
}, to eight narrowed_bf16, vector load_bf16);
stored!(
    F16Bits,
    u16,
    AtomicU16,
    |x| simd::widened_half(x),
    |lane| f16::from_f32(f32::from_bits(lane)).to_bits(),
    eight widened,
    to eight narrowed_f16,
    vector load_f16
);
stored!(SignedByte, u8, AtomicU8, |x| x as i8 as i32 as u32, |lane| lane as u8);
stored!(Byte, u8, AtomicU8, |x| u32::from(x), |lane| lane as u8);
stored!(BoolByte, u8, AtomicU8, |x| u32::from(x != 0).wrapping_neg(), |lane| u8::from(lane != 0));

/// Runs `$body` with `$stored` as the type of `$elem`.
macro_rules! with_stored {
    ($elem:expr, $stored:ident => $body:expr) => {
        match $elem {
            Elem::F32 | Elem::I32 | Elem::U32 => {
                type $stored = $crate::cpu::memory::Word;
                $body
            }
            Elem::F16 => {
                type $stored = $crate::cpu::memory::F16Bits;
                $body
            }
            Elem::Bf16 => {
                type $stored = $crate::cpu::memory::Bf16Bits;
                $body
            }
            Elem::I8 => {
                type $stored = $crate::cpu::memory::SignedByte;
                $body
            }
            Elem::U8 => {
                type $stored = $crate::cpu::memory::Byte;
                $body
            }
            Elem::Bool => {
                type $stored = $crate::cpu::memory::BoolByte;
                $body
            }
        }
    };
}
pub(super) use with_stored;

/// A tile from memory; zero outside the bounds.
///
/// # Safety
/// `dst` has a lane for each element of the place, and so have its indices along their axis. The instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn load<V: Simd>(place: &Place<'_>, dst: *mut u32) {
    let count = place.extents.iter().product();
    // Not as `Ahead::of`: this may be a view without columns, or with columns that are taken at indices.
    let distance =
        place.step().map(|step| step.wrapping_mul(ahead::rows_ahead(place.extents[2] * place.elem().bytes()) as isize));
    // SAFETY: the caller's promise; runs stay inside the bounds of the view, and these inside the tensor.
    unsafe {
        if !place.is_inside() {
            std::ptr::write_bytes(dst, 0, count);
        }
        with_stored!(place.view.elem, S => place.runs(|lane, from, count, stride| {
            let (from, to) = (from.cast::<S>().cast_const(), dst.add(lane));
            if stride == 1 {
                if let Some(distance) = distance {
                    ahead::prefetch::<V>(from.cast::<u8>().wrapping_offset(distance), count * size_of::<S>());
                }
                return copy_run::<S, V>(from, to, count);
            }
            for i in 0..count {
                *to.add(i) = from.offset(i as isize * stride).read().lane();
            }
        }))
    }
}

/// Rows from `first` on of a tile from memory whose columns are not taken at indices; zero outside the bounds. After the last
/// row comes the first again. There are rows, and a view with columns; `dst` has a lane for each element of `rows` of them.
///
/// Rows of one plane are asked for ahead, and beside the last of them what lies to the right of the first: the tile of a
/// loop's next turn.
pub(super) struct LoadRows<'p, 'v> {
    pub place: &'p Place<'v>,
    pub first: usize,
    pub rows: usize,
    pub dst: *mut u32,
}

impl<V: Simd> Piece<V> for LoadRows<'_, '_> {
    #[inline(always)]
    unsafe fn run(self) {
        let LoadRows { place, first, rows, dst } = self;
        let (columns, width, all) = (place.columns(), place.extents[2], place.rows());
        let count = columns.last - columns.first;
        let bytes = count * place.elem().bytes();
        let ahead = ahead::rows_ahead(bytes).min(all);
        let mut done = 0;
        while done < rows {
            // SAFETY: the caller's promise; only what is inside the bounds is read.
            unsafe {
                let row = (first + done) % all;
                let strip = place.strip_from(row, ahead);
                let end = row + strip.rows.min(rows - done);
                let to = dst.add(done * width);
                let inside = strip.start.filter(|_| count > 0);
                if inside.is_none() || count < width {
                    std::ptr::write_bytes(to, 0, (end - row) * width);
                }
                if let Some(start) = inside {
                    let down = strip.step.wrapping_mul(ahead as isize);
                    let right = down.wrapping_sub(strip.step.wrapping_mul(all as isize)).wrapping_add(bytes as isize);
                    with_stored!(place.view.elem, S => for at in row..end {
                        let from = start.wrapping_offset(strip.step.wrapping_mul((at - row) as isize) + columns.skip);
                        if columns.stride == 1 {
                            ahead::prefetch::<V>(from.wrapping_offset(if at + ahead < all { down } else { right }), bytes);
                        }
                        let (from, to) = (from.cast::<S>().cast_const(), to.add((at - row) * width + columns.first));
                        match columns.stride {
                            1 => copy_run::<S, V>(from, to, count),
                            stride => {
                                for i in 0..count {
                                    *to.add(i) = from.offset(i as isize * stride).read().lane();
                                }
                            }
                        }
                    })
                }
                done += end - row;
            }
        }
    }
}

/// A tile to memory, inside the bounds.
///
/// # Safety
/// `src` has a lane for each element of the place, and the view is one of an output. The instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn store<V: Simd>(place: &Place<'_>, src: *const u32) {
    // SAFETY: the caller's promise; runs stay inside the bounds of the view, and these inside the tensor, whose elements are
    // aligned.
    unsafe {
        with_stored!(place.view.elem, S => place.runs(|lane, to, count, stride| {
            let (from, to) = (src.add(lane), to.cast::<S>());
            let eights = if stride == 1 { count / 8 } else { 0 };
            for eight in 0..eights {
                let lanes = from.add(8 * eight).cast::<[u32; 8]>().read_unaligned();
                for (i, bits) in S::eight_bits::<V>(lanes).into_iter().enumerate() {
                    S::write(to.add(8 * eight + i), bits);
                }
            }
            for i in 8 * eights..count {
                S::write(to.offset(i as isize * stride), S::bits(*from.add(i)));
            }
        }))
    }
}

/// A run of neighbours to lanes.
///
/// # Safety
/// `count` elements on both sides; the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn copy_run<S: Stored, V: Simd>(from: *const S, to: *mut u32, count: usize) {
    const CHUNK: usize = 8;
    let mut i = 0;
    // SAFETY: the caller has `count` elements on both sides.
    unsafe {
        while i + 2 * CHUNK <= count {
            let x = from.add(i).cast::<[[S; CHUNK]; 2]>().read_unaligned();
            to.add(i).cast::<[[u32; CHUNK]; 2]>().write_unaligned(x.map(|x| S::lanes::<V>(x)));
            i += 2 * CHUNK;
        }
        while i < count {
            *to.add(i) = (*from.add(i)).lane();
            i += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_are_where_each_of_their_rows_is() {
        let data = [0u8; 1];
        let view = View {
            base: data.as_ptr().cast_mut(), // no row is read
            elem: Elem::Bf16,
            rank: 3,
            len: [4, 6, 8, 0],
            first: [1, 1, 0, 0],
            last: [4, 5, 8, 0],
            stride: [100, 10, 1, 0],
        };
        let (planes, slots) = ([3, u32::MAX, 0, 2, 1], [2, 9, 0, 1, 4, 3]);
        let mut inside = 0;
        for (origins, indices) in
            [(&[0, -1, 0][..], None), (&[-1, 0], Some((0, planes.as_ptr()))), (&[0, 0], Some((1, slots.as_ptr())))]
        {
            let place = Place::new(&view, origins, &[5, 6, 8], indices);
            let mut row = 0;
            while row < place.rows() {
                // SAFETY: there is an index for each plane, or for each row of one.
                let strip = unsafe { place.strip_from(row, 8) };
                assert!(strip.rows > 0);
                for at in 0..strip.rows {
                    // SAFETY: as above.
                    let [wanted] = unsafe { place.some_rows::<1>(row + at) };
                    let got = strip.start.map(|start| start.wrapping_offset(at as isize * strip.step));
                    assert_eq!(got, (!wanted.is_null()).then_some(wanted), "{indices:?}, row {}", row + at);
                    inside += usize::from(got.is_some());
                }
                row += strip.rows;
            }
            assert_eq!(row, place.rows());
        }
        assert!(inside > 20, "{inside}");
    }
}
