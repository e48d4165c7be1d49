//! Matrices into panels for the product, straight from a view or from lanes, transposed on the way if need be. The rows are
//! those of a place in a view, which may be pages taken at indices; what lies outside the bounds is zero.

use super::ahead::Ahead;
use super::memory::{Columns, Place, Stored, copy_run, with_stored};
use super::simd::Simd;
use tilewright_ir::Elem;

/// Packs a `[k, n]` matrix into panels of `panel` columns.
///
/// # Safety
/// `dst` has room for `k * n` floats, n rounded up to the panel. The place has k rows of n columns, columns that are not
/// taken at indices, and a lane for each index of another axis. The instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn pack_rows<V: Simd>(source: &Place<'_>, dst: *mut f32, k: u32, n: u32, panel: u32) {
    let (k, n, panel) = (k as usize, n as usize, panel as usize);
    debug_assert!(n == 0 || source.rows() == k);
    // SAFETY: the caller's promise; only rows and columns inside the bounds are read.
    unsafe {
        if !(source.is_inside() && n.is_multiple_of(panel)) {
            std::ptr::write_bytes(dst, 0, k * n.next_multiple_of(panel));
        }
        let ahead = Ahead::of(source);
        let Columns { first, last, stride, skip } = source.columns();
        with_stored!(source.elem(), S => source.each_row(|row, from| {
            ahead.prefetch::<V, 1>(row, &[from]);
            let mut from = from.wrapping_offset(skip).cast::<S>().cast_const();
            let mut col = first;
            while col < last {
                let end = ((col / panel + 1) * panel).min(last);
                let to = dst.add((col / panel * k + row) * panel + col % panel).cast::<u32>();
                if stride == 1 {
                    copy_run::<S, V>(from, to, end - col);
                } else {
                    for i in 0..end - col {
                        *to.add(i) = from.wrapping_offset(i as isize * stride).read().lane();
                    }
                }
                from = from.wrapping_offset((end - col) as isize * stride);
                col = end;
            }
        }))
    }
}

/// Packs a `[k, n]` matrix that is stored as `[n, k]`, in squares of sixteen where vectors are as wide, or of eight.
///
/// # Safety
/// As [`pack_rows`], with n rows of k columns.
#[inline(always)]
pub(super) unsafe fn pack_transposed<V: Simd>(source: &Place<'_>, dst: *mut f32, k: u32, n: u32, panel: u32) {
    const SQUARE: usize = 8;
    const WIDE: usize = 16;
    let (k, n, panel) = (k as usize, n as usize, panel as usize);
    debug_assert!(k == 0 || source.rows() == n);
    // SAFETY: the caller's promise; only rows and columns inside the bounds are read.
    unsafe {
        if !(source.is_inside() && n.is_multiple_of(panel)) {
            std::ptr::write_bytes(dst, 0, k * n.next_multiple_of(panel));
        }
        let ahead = Ahead::of(source);
        let Columns { first, last, stride, skip } = source.columns();
        with_stored!(source.elem(), S => {
            let to = |row: usize, col: usize| dst.add((row / panel * k + col) * panel + row % panel).cast::<u32>();
            let mut top = 0;
            if V::LANES == WIDE && stride == 1 && panel.is_multiple_of(WIDE) && (last - first).is_multiple_of(WIDE) {
                while top + WIDE <= n {
                    let rows: [*mut u8; WIDE] = source.some_rows(top);
                    if rows.iter().any(|row| row.is_null()) {
                        break;
                    }
                    if !ahead.is_even() {
                        ahead.prefetch::<V, WIDE>(top, &rows);
                    }
                    for col in (first..last).step_by(WIDE) {
                        let mut x = [V::splat(0.0); WIDE];
                        for (x, row) in x.iter_mut().zip(rows) {
                            let from = row.wrapping_offset(skip).cast::<S>().cast_const().add(col - first);
                            ahead.prefetch_line::<V>(from.cast());
                            *x = S::vector::<V>(from);
                        }
                        for (c, lanes) in V::transposed_vectors(&x).into_iter().enumerate() {
                            V::store(to(top, col + c).cast(), lanes);
                        }
                    }
                    top += WIDE;
                }
            }
            for row in (top..n).step_by(SQUARE) {
                let rows: [*mut u8; SQUARE] = source.some_rows(row);
                ahead.prefetch::<V, SQUARE>(row, &rows);
                let starts = rows.map(|from| from.wrapping_offset(skip).cast::<S>().cast_const());
                let at = |r: usize, col: usize| starts[r].wrapping_offset((col - first) as isize * stride);
                let square = stride == 1 && rows.iter().all(|r| !r.is_null());
                let mut col = first;
                while square && col + SQUARE <= last {
                    let x: [[u32; SQUARE]; SQUARE] = std::array::from_fn(|r| {
                        S::lanes::<V>(at(r, col).cast::<[S; SQUARE]>().read_unaligned())
                    });
                    for (c, lanes) in V::transposed(x).into_iter().enumerate() {
                        to(row, col + c).cast::<[u32; SQUARE]>().write_unaligned(lanes);
                    }
                    col += SQUARE;
                }
                for (r, _) in rows.iter().enumerate().filter(|(_, from)| !from.is_null()) {
                    for col in col..last {
                        *to(row + r, col) = at(r, col).read().lane();
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::View;
    use super::super::simd::Portable;
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
        let place = Place::new(&view, &[-1, 3], &[6, 4], None);
        let inside = |r: usize, c: usize| if (2..4).contains(&r) && c < 2 { data[(r - 1) * 5 + c + 3] } else { 0.0 };
        let mut plain = vec![f32::NAN; 6 * 16];
        let mut turned = vec![f32::NAN; 4 * 16];
        // SAFETY: both have room for one panel of 16 columns.
        unsafe {
            pack_rows::<Portable>(&place, plain.as_mut_ptr(), 6, 4, 16);
            pack_transposed::<Portable>(&place, turned.as_mut_ptr(), 4, 6, 16);
        }
        for r in 0..6 {
            for c in 0..4 {
                assert_eq!(plain[r * 16 + c], inside(r, c));
                assert_eq!(turned[c * 16 + r], inside(r, c));
            }
        }
        assert!(plain.iter().chain(&turned).all(|x| !x.is_nan()));
    }

    #[test]
    fn every_instruction_set_packs_the_transpose_of_what_it_packs() {
        const PANEL: usize = 32;
        let bits: Vec<u32> = (0..50 * 64).map(|i| ((i % 251) as f32 - 90.5).to_bits()).collect();
        let halves: Vec<u16> = (0..50 * 64).map(|i| half::f16::from_f32((i % 251) as f32 - 90.5).to_bits()).collect();
        let shorts: Vec<u16> = bits.iter().map(|bits| (bits >> 16) as u16).collect();
        let mut compared = 0;
        for isa in crate::cpu::isa::Isa::available() {
            let kernels = isa.kernels();
            for (elem, base) in [
                (Elem::F32, bits.as_ptr().cast::<u8>()),
                (Elem::F16, halves.as_ptr().cast()),
                (Elem::Bf16, shorts.as_ptr().cast()),
                (Elem::I32, bits.as_ptr().cast()),
            ] {
                let (len, stride) = ([50, 64, 0, 0], [64, 1, 0, 0]);
                let view =
                    View { base: base.cast_mut(), elem, rank: 2, len, last: [47, 64, 0, 0], stride, ..View::EMPTY };
                // Squares of sixteen and others, and rows and columns outside the bounds.
                for (origin, rows, columns) in
                    [(0, 40, 64), (3, 33, 48), (-2, 20, 16), (20, 30, 64), (5, 16, 24), (1, 7, 5)]
                {
                    let place = Place::new(&view, &[origin, 0], &[rows, columns], None);
                    let [rows, columns] = [rows, columns].map(|x| x as usize);
                    let mut plain = vec![f32::NAN; rows * columns.next_multiple_of(PANEL)];
                    let mut turned = vec![f32::NAN; columns * rows.next_multiple_of(PANEL)];
                    // SAFETY: the processor has the instruction set, and there is room for the panels.
                    unsafe {
                        (kernels.pack_rows)(&place, plain.as_mut_ptr(), rows as u32, columns as u32, PANEL as u32);
                        (kernels.pack_transposed)(
                            &place,
                            turned.as_mut_ptr(),
                            columns as u32,
                            rows as u32,
                            PANEL as u32,
                        );
                    }
                    for row in 0..rows {
                        for col in 0..columns {
                            let number = plain[(col / PANEL * rows + row) * PANEL + col % PANEL].to_bits();
                            let got = turned[(row / PANEL * columns + col) * PANEL + row % PANEL].to_bits();
                            assert_eq!(got, number, "{} {elem:?} {rows}x{columns}: {row}, {col}", isa.name());
                            let slot = origin + row as i32;
                            let lane = bits[(slot.clamp(0, 49) as usize * 64) + col];
                            let wanted = if !(0..47).contains(&slot) {
                                0
                            } else if elem == Elem::Bf16 {
                                lane & 0xffff_0000
                            } else {
                                lane
                            };
                            assert_eq!(number, wanted, "{} {elem:?} {rows}x{columns}: {row}, {col}", isa.name());
                            compared += 1;
                        }
                    }
                }
            }
        }
        assert!(compared > 10_000, "{compared}");
    }

    #[test]
    fn packing_pages_takes_rows_at_indices_and_leaves_zeros_outside_the_bounds() {
        let data: Vec<f32> = (0..3 * 5 * 10).map(|x| x as f32 + 1.0).collect();
        let view = View {
            base: data.as_ptr().cast_mut().cast(),
            elem: Elem::F32,
            rank: 3,
            len: [3, 5, 10, 0],
            first: [0, 0, 1, 0],
            last: [3, 4, 10, 0],
            stride: [50, 10, 1, 0],
        };
        let pages = [2, u32::MAX, 0, 3, 2];
        let place = Place::new(&view, &[1, 0], &[5, 5, 12], Some((0, pages.as_ptr())));
        let wanted = |r: usize, c: usize| match pages[r / 5] {
            page @ 0..3 if r % 5 < 3 && (1..10).contains(&c) => data[page as usize * 50 + (r % 5 + 1) * 10 + c],
            _ => 0.0,
        };
        let mut plain = vec![f32::NAN; 25 * 16];
        let mut turned = vec![f32::NAN; 12 * 32];
        // SAFETY: one panel of 16 columns, and two.
        unsafe {
            pack_rows::<Portable>(&place, plain.as_mut_ptr(), 25, 12, 16);
            pack_transposed::<Portable>(&place, turned.as_mut_ptr(), 12, 25, 16);
        }
        for r in 0..25 {
            for c in 0..12 {
                assert_eq!(plain[r * 16 + c], wanted(r, c), "row {r}, column {c}");
                assert_eq!(turned[(r / 16 * 12 + c) * 16 + r % 16], wanted(r, c), "row {r}, column {c}");
            }
        }
        assert!(plain.iter().chain(&turned).all(|x| !x.is_nan()));
    }
}
