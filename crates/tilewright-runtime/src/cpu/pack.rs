//! Matrices into panels for the product, straight from a view or from lanes, transposed on the way if need be.

use super::memory::{Stored, View, copy_run, with_stored};
use super::simd::Simd;
use tilewright_ir::Elem;

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
