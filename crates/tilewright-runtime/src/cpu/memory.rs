//! Views at run time, and the ways between tensors and lanes: load, gather, store, pack.
//!
//! Nothing outside a view's bounds is touched; bounds never exceed the tensor, so no origin or index can lead outside it.

use super::math;
use super::simd::Simd;
use half::f16;
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

/// A tile-shaped place in a view, padded with leading axes to rank 3.
pub(super) struct Place<'v> {
    view: &'v View,
    /// Axes of the view that lead to axis 0 of the padded place.
    missing: usize,
    origins: [i32; MAX_TILE_RANK],
    extents: [usize; MAX_TILE_RANK],
    /// One axis (padded) is taken at indices instead of consecutive places.
    indices: Option<(usize, *const u32)>,
}

impl<'v> Place<'v> {
    pub fn new(view: &'v View, origins: &[i32], extents: &[u32], indices: Option<(usize, *const u32)>) -> Place<'v> {
        let missing = MAX_TILE_RANK - extents.len();
        let mut place =
            Place { view, missing, origins: [0; MAX_TILE_RANK], extents: [1; MAX_TILE_RANK], indices: None };
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

    /// Whether all of it lies inside the bounds; not asked of gathered places, whose indices say.
    fn is_inside(&self) -> bool {
        let axes = self.missing..MAX_TILE_RANK;
        self.indices.is_none()
            && !self.view.base.is_null()
            && axes.into_iter().all(|axis| {
                let (first, last) = (self.view.first[axis - self.missing], self.view.last[axis - self.missing]);
                let origin = i64::from(self.origins[axis]);
                origin >= i64::from(first) && origin + self.extents[axis] as i64 <= i64::from(last)
            })
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
        if self.view.base.is_null() {
            return;
        }
        let [planes, rows, cols] = self.extents;
        let bytes = self.view.elem.bytes() as isize;
        for plane in 0..planes {
            for row in 0..rows {
                // SAFETY: the caller's promise.
                let (Some(p), Some(r)) = (unsafe { self.coordinate(0, plane) }, unsafe { self.coordinate(1, row) })
                else {
                    continue;
                };
                let lane = (plane * rows + row) * cols;
                let base = self.view.base.wrapping_offset((p + r) * bytes);
                if self.missing == MAX_TILE_RANK {
                    f(lane, base, 1, 1); // a view without axes
                } else if self.indices.is_some_and(|(axis, _)| axis == 2) {
                    for col in 0..cols {
                        // SAFETY: the caller's promise.
                        if let Some(c) = unsafe { self.coordinate(2, col) } {
                            f(lane + col, base.wrapping_offset(c * bytes), 1, 1);
                        }
                    }
                } else {
                    let axis = 2 - self.missing;
                    let origin = i64::from(self.origins[2]);
                    let first = (i64::from(self.view.first[axis]) - origin).clamp(0, cols as i64);
                    let last = (i64::from(self.view.last[axis]) - origin).clamp(first, cols as i64);
                    let stride = self.view.stride[axis];
                    let start = (origin + first) as isize * stride * bytes;
                    if last > first {
                        f(lane + first as usize, base.wrapping_offset(start), (last - first) as usize, stride);
                    }
                }
            }
        }
    }
}

/// How elements of a type stand in memory.
trait Stored: Copy {
    /// The integer of this size that can be written whole.
    type Bits;
    fn lane(self) -> u32;
    fn bits(lane: u32) -> Self::Bits;
    /// Writes one element. Programs of a grid may store to the same element: which of them wins is unspecified, but it is
    /// one of them, so the write is atomic.
    ///
    /// # Safety
    /// `to` is an element of an output, aligned to its size.
    unsafe fn write(to: *mut Self, bits: Self::Bits);
}

macro_rules! stored {
    ($(#[$doc:meta])* $name:ident, $bits:ident, $atomic:ident, |$from:ident| $lane:expr, |$to:ident| $store:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        struct $name($bits);

        impl Stored for $name {
            type Bits = $bits;
            #[inline(always)]
            fn lane(self) -> u32 {
                let $from = self.0;
                $lane
            }
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

stored!(Word, u32, AtomicU32, |x| x, |lane| lane);
stored!(Bf16Bits, u16, AtomicU16, |x| u32::from(x) << 16, |lane| {
    (math::round_bf16(f32::from_bits(lane)).to_bits() >> 16) as u16
});
stored!(
    /// Widened by moving the exponent with a product by 2^112, which is exact for subnormals too; infinity and NaN keep
    /// theirs.
    F16Bits,
    u16,
    AtomicU16,
    |x| {
        let (sign, rest) = (u32::from(x & 0x8000) << 16, u32::from(x & 0x7fff));
        let scaled = (f32::from_bits(rest << 13) * f32::from_bits(0x7780_0000)).to_bits();
        sign | if rest >= 0x7c00 { scaled | 0x7f80_0000 } else { scaled }
    },
    |lane| f16::from_f32(f32::from_bits(lane)).to_bits()
);
stored!(SignedByte, u8, AtomicU8, |x| x as i8 as i32 as u32, |lane| lane as u8);
stored!(Byte, u8, AtomicU8, |x| u32::from(x), |lane| lane as u8);
stored!(BoolByte, u8, AtomicU8, |x| u32::from(x != 0).wrapping_neg(), |lane| u8::from(lane != 0));

/// Runs `$body` with `$stored` as the type of `$elem`.
macro_rules! with_stored {
    ($elem:expr, $stored:ident => $body:expr) => {
        match $elem {
            Elem::F32 | Elem::I32 | Elem::U32 => {
                type $stored = Word;
                $body
            }
            Elem::F16 => {
                type $stored = F16Bits;
                $body
            }
            Elem::Bf16 => {
                type $stored = Bf16Bits;
                $body
            }
            Elem::I8 => {
                type $stored = SignedByte;
                $body
            }
            Elem::U8 => {
                type $stored = Byte;
                $body
            }
            Elem::Bool => {
                type $stored = BoolByte;
                $body
            }
        }
    };
}

/// A tile from memory; zero outside the bounds.
///
/// # Safety
/// `dst` has a lane for each element of the place, and so have its indices along their axis.
pub(super) unsafe fn load(place: &Place<'_>, dst: *mut u32) {
    let count = place.extents.iter().product();
    // SAFETY: the caller's promise; runs stay inside the bounds of the view, and these inside the tensor.
    unsafe {
        if !place.is_inside() {
            std::ptr::write_bytes(dst, 0, count);
        }
        with_stored!(place.view.elem, S => place.runs(|lane, from, count, stride| {
            let (from, to) = (from.cast::<S>().cast_const(), dst.add(lane));
            if stride == 1 {
                return copy_run(from, to, count);
            }
            for i in 0..count {
                *to.add(i) = from.offset(i as isize * stride).read().lane();
            }
        }))
    }
}

/// A tile to memory, inside the bounds.
///
/// # Safety
/// `src` has a lane for each element of the place, and the view is one of an output.
pub(super) unsafe fn store(place: &Place<'_>, src: *const u32) {
    // SAFETY: the caller's promise; runs stay inside the bounds of the view, and these inside the tensor, whose elements are
    // aligned.
    unsafe {
        with_stored!(place.view.elem, S => place.runs(|lane, to, count, stride| {
            let (from, to) = (src.add(lane), to.cast::<S>());
            if stride == 1 {
                return (0..count).for_each(|i| S::write(to.add(i), S::bits(*from.add(i))));
            }
            for i in 0..count {
                S::write(to.offset(i as isize * stride), S::bits(*from.add(i)));
            }
        }))
    }
}

/// A matrix to be packed: rows and columns, of which some lie inside the bounds; all others are zero.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// The element at row 0 and column 0, which may lie outside the bounds.
    base: *const u8,
    elem: Elem,
    row_stride: isize,
    col_stride: isize,
    /// Rows and columns inside the bounds.
    rows: [usize; 2],
    cols: [usize; 2],
}

impl Rows {
    /// From lanes, row-major and whole.
    pub fn from_lanes(lanes: *const u32, rows: u32, cols: u32) -> Rows {
        Rows {
            base: lanes.cast(),
            elem: Elem::F32,
            row_stride: cols as isize,
            col_stride: 1,
            rows: [0, rows as usize],
            cols: [0, cols as usize],
        }
    }

    /// From a view of rank 2.
    pub fn from_view(view: &View, origins: &[i32], extents: &[u32]) -> Rows {
        let range = |axis: usize| {
            let (origin, extent) = (i64::from(origins[axis]), i64::from(extents[axis]));
            let first = (i64::from(view.first[axis]) - origin).clamp(0, extent);
            let last = (i64::from(view.last[axis]) - origin).clamp(first, extent);
            [first as usize, if view.base.is_null() { first as usize } else { last as usize }]
        };
        let origin = origins[0] as isize * view.stride[0] + origins[1] as isize * view.stride[1];
        Rows {
            base: view.base.wrapping_offset(origin.wrapping_mul(view.elem.bytes() as isize)),
            elem: view.elem,
            row_stride: view.stride[0],
            col_stride: view.stride[1],
            rows: range(0),
            cols: range(1),
        }
    }
}

/// Packs a `[k, n]` matrix into panels of `panel` columns.
///
/// # Safety
/// `dst` has room for `k * n` floats, n rounded up to the panel.
#[inline(always)]
pub(super) unsafe fn pack_rows(source: Rows, dst: *mut f32, k: u32, n: u32, panel: u32) {
    let (k, n, panel) = (k as usize, n as usize, panel as usize);
    let whole = source.rows == [0, k] && source.cols == [0, n] && n.is_multiple_of(panel);
    // SAFETY: the caller's promise; only rows and columns inside the bounds are read.
    unsafe {
        if !whole {
            std::ptr::write_bytes(dst, 0, k * n.next_multiple_of(panel));
        }
        with_stored!(source.elem, S => {
            let base = source.base.cast::<S>();
            for row in source.rows[0]..source.rows[1] {
                let from = base.wrapping_offset(row as isize * source.row_stride);
                let mut col = source.cols[0];
                while col < source.cols[1] {
                    let end = ((col / panel + 1) * panel).min(source.cols[1]);
                    let to = dst.add((col / panel * k + row) * panel + col % panel).cast::<u32>();
                    let from = from.wrapping_offset(col as isize * source.col_stride);
                    if source.col_stride == 1 {
                        copy_run::<S>(from, to, end - col);
                    } else {
                        for i in 0..end - col {
                            *to.add(i) = from.wrapping_offset(i as isize * source.col_stride).read().lane();
                        }
                    }
                    col = end;
                }
            }
        })
    }
}

#[inline(always)]
unsafe fn copy_run<S: Stored>(from: *const S, to: *mut u32, count: usize) {
    const CHUNK: usize = 16;
    let mut i = 0;
    // SAFETY: the caller has `count` elements on both sides.
    unsafe {
        while i + CHUNK <= count {
            let x = from.add(i).cast::<[S; CHUNK]>().read_unaligned();
            to.add(i).cast::<[u32; CHUNK]>().write_unaligned(x.map(S::lane));
            i += CHUNK;
        }
        while i < count {
            *to.add(i) = (*from.add(i)).lane();
            i += 1;
        }
    }
}

/// Packs a `[k, n]` matrix that is stored as `[n, k]`, in squares of eight.
///
/// # Safety
/// As [`pack_rows`]; the instruction set that this is compiled for.
#[inline(always)]
pub(super) unsafe fn pack_transposed<V: Simd>(source: Rows, dst: *mut f32, k: u32, n: u32, panel: u32) {
    const SQUARE: usize = 8;
    let (k, n, panel) = (k as usize, n as usize, panel as usize);
    let whole = source.rows == [0, n] && source.cols == [0, k] && n.is_multiple_of(panel);
    // SAFETY: the caller's promise; only rows and columns inside the bounds are read.
    unsafe {
        if !whole {
            std::ptr::write_bytes(dst, 0, k * n.next_multiple_of(panel));
        }
        with_stored!(source.elem, S => {
            let base = source.base.cast::<S>();
            let at = |row: usize, col: usize| base.wrapping_offset(row as isize * source.row_stride + col as isize * source.col_stride);
            let to = |row: usize, col: usize| dst.add((row / panel * k + col) * panel + row % panel).cast::<u32>();
            let mut row = source.rows[0];
            while row < source.rows[1] {
                let square = row.is_multiple_of(SQUARE) && row + SQUARE <= source.rows[1] && source.col_stride == 1;
                let rows = if square { SQUARE } else { 1 };
                let mut col = source.cols[0];
                while square && col + SQUARE <= source.cols[1] {
                    let x: [[u32; SQUARE]; SQUARE] = std::array::from_fn(|r| {
                        at(row + r, col).cast::<[S; SQUARE]>().read_unaligned().map(S::lane)
                    });
                    for (c, lanes) in V::transposed(x).into_iter().enumerate() {
                        to(row, col + c).cast::<[u32; SQUARE]>().write_unaligned(lanes);
                    }
                    col += SQUARE;
                }
                while col < source.cols[1] {
                    for r in row..row + rows {
                        *to(r, col) = at(r, col).read().lane();
                    }
                    col += 1;
                }
                row += rows;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let wanted = f16::from_bits(bits).to_f32();
            let got = f32::from_bits(F16Bits(bits).lane());
            assert!(got.to_bits() == wanted.to_bits() || (got.is_nan() && wanted.is_nan()), "{bits:#06x}");
        }
    }

    #[test]
    fn packing_a_window_leaves_zeros_outside_the_bounds() {
        let data: Vec<f32> = (0..20).map(|x| x as f32 + 1.0).collect();
        let view = View {
            base: data.as_ptr().cast_mut().cast(),
            elem: Elem::F32,
            rank: 2,
            len: [4, 5, 0, 0],
            first: [1, 0, 0, 0],
            last: [3, 5, 0, 0],
            stride: [5, 1, 0, 0],
        };
        let rows = Rows::from_view(&view, &[-1, 3], &[6, 4]);
        let inside = |r: usize, c: usize| if (2..4).contains(&r) && c < 2 { data[(r - 1) * 5 + c + 3] } else { 0.0 };
        let mut plain = vec![f32::NAN; 6 * 16];
        let mut turned = vec![f32::NAN; 4 * 16];
        // SAFETY: both have room for one panel of 16 columns.
        unsafe {
            pack_rows(rows, plain.as_mut_ptr(), 6, 4, 16);
            pack_transposed::<crate::cpu::simd::Portable>(rows, turned.as_mut_ptr(), 4, 6, 16);
        }
        for r in 0..6 {
            for c in 0..4 {
                assert_eq!(plain[r * 16 + c], inside(r, c));
                assert_eq!(turned[c * 16 + r], inside(r, c));
            }
        }
        assert!(plain.iter().chain(&turned).all(|x| !x.is_nan()));
    }
}
