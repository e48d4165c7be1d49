//! AVX-512 with its products of bytes.

use super::x86::transposed_avx512;
use super::{Avx512, Piece};
use crate::cpu::digits::ByteSimd;
use std::arch::x86_64::*;

impl ByteSimd for Avx512 {
    type Bytes = __m512i;

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn apart_with_bytes(piece: impl Piece<Self>) {
        // SAFETY: the caller's promise.
        unsafe { piece.run() }
    }

    #[inline(always)]
    unsafe fn zeros() -> __m512i {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn load_lanes(from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_lanes(to: *mut u8, x: __m512i) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), x) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const u8, count: usize) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_epi8(first::<64>(count), from.cast()) }
    }

    #[inline(always)]
    unsafe fn repeat(from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn quarters<const DISTINCT: usize>(from: [*const u8; 4]) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b, c, d] = from.map(|from| from.cast::<__m128i>());
            let mut x = _mm512_broadcast_i32x4(_mm_loadu_si128(a));
            if DISTINCT == 4 {
                x = _mm512_mask_broadcast_i32x4(x, 0x00f0, _mm_loadu_si128(b));
            }
            if DISTINCT >= 2 {
                x = _mm512_mask_broadcast_i32x4(x, 0xff00, _mm_loadu_si128(c));
            }
            if DISTINCT == 4 {
                x = _mm512_mask_broadcast_i32x4(x, 0xf000, _mm_loadu_si128(d));
            }
            x
        }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512i, codes: __m512i, digits: __m512i) -> __m512i {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm512_dpbusd_epi32(sum, codes, digits) }
    }

    #[inline(always)]
    unsafe fn halves(x: __m512i) -> [__m512i; 2] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let low = _mm512_set1_epi8(0x0f);
            [_mm512_and_si512(x, low), _mm512_and_si512(_mm512_srli_epi16::<4>(x), low)]
        }
    }

    #[inline(always)]
    unsafe fn turned(x: &[__m512i; 16]) -> [__m512i; 16] {
        // SAFETY: the caller has the instruction set; both are 16 vectors of 512 bits.
        unsafe { std::mem::transmute(transposed_avx512(std::mem::transmute::<&[__m512i; 16], &[__m512; 16]>(x))) }
    }

    #[inline(always)]
    unsafe fn fours([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
            [
                _mm512_unpacklo_epi16(ab, cd),
                _mm512_unpackhi_epi16(ab, cd),
                _mm512_unpacklo_epi16(ab_high, cd_high),
                _mm512_unpackhi_epi16(ab_high, cd_high),
            ]
        }
    }

    #[inline(always)]
    unsafe fn in_digits(x: __m512) -> __m512i {
        // SAFETY: the caller has the instruction set.
        unsafe {
            // 128 more in each place makes the bytes digits without signs; taken away again without a carry.
            let middle = _mm512_set1_epi32(0x80_8080);
            let digits = _mm512_xor_si512(_mm512_add_epi32(_mm512_cvtps_epi32(x), middle), middle);
            let by_place = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_shuffle_epi8(digits, _mm512_broadcast_i32x4(by_place))
        }
    }

    #[inline(always)]
    unsafe fn place<const PLACE: i32>(x: __m512i) -> __m512i {
        // SAFETY: the caller has the instruction set.
        unsafe {
            match PLACE {
                0 => _mm512_shuffle_epi32::<0x00>(x),
                1 => _mm512_shuffle_epi32::<0x55>(x),
                _ => _mm512_shuffle_epi32::<0xaa>(x),
            }
        }
    }

    #[inline(always)]
    unsafe fn number([low, middle, high]: [__m512i; 3]) -> __m512 {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let low = _mm512_add_epi32(low, _mm512_slli_epi32::<8>(middle));
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0), _mm512_cvtepi32_ps(low))
        }
    }

    #[inline(always)]
    unsafe fn nearest(x: __m512) -> __m512 {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(x) }
    }

    #[inline(always)]
    unsafe fn evens_first(x: __m512) -> __m512 {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm512_permutexvar_ps(_mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15), x) }
    }

    #[inline(always)]
    unsafe fn evens_and_odds([a, b]: [__m512; 2]) -> [__m512; 2] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
            [_mm512_permutex2var_ps(a, evens, b), _mm512_permutex2var_ps(a, odds, b)]
        }
    }

    #[inline(always)]
    unsafe fn turns([a, b]: [__m512; 2]) -> [__m512; 2] {
        // SAFETY: the caller has the instruction set.
        unsafe { [_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)] }
    }

    #[inline(always)]
    unsafe fn of_quarters([a, b, c, d]: [f32; 4]) -> __m512 {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm512_setr_ps(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d) }
    }

    #[inline(always)]
    unsafe fn add_quarters([a, b, c, d]: [Option<*mut f32>; 4], x: __m512) {
        #[inline(always)]
        unsafe fn add(to: Option<*mut f32>, x: __m128) {
            // SAFETY: the caller's promise.
            unsafe {
                if let Some(to) = to {
                    _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), x));
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            add(a, _mm512_castps512_ps128(x));
            add(b, _mm512_extractf32x4_ps::<1>(x));
            add(c, _mm512_extractf32x4_ps::<2>(x));
            add(d, _mm512_extractf32x4_ps::<3>(x));
        }
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(first::<16>(count) as u16, from) }
    }

    #[inline(always)]
    unsafe fn store_some(to: *mut f32, count: usize, x: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_storeu_ps(to, first::<16>(count) as u16, x) }
    }
}

/// A bit for each of the first elements, of `N` at most.
#[inline(always)]
fn first<const N: usize>(count: usize) -> u64 {
    if count >= N { u64::MAX } else { (1 << count) - 1 }
}
