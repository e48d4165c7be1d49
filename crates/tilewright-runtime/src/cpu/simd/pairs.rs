//! AVX-512 with its products of bf16 numbers.

use super::{Avx512, Avx512Pairs};
use crate::cpu::paired_rows::PairSimd;
use std::arch::x86_64::*;

impl PairSimd for Avx512Pairs {
    type Numbers = Avx512;

    #[inline(always)]
    unsafe fn rounded(first: __m512, second: __m512) -> __m512 {
        // SAFETY: the caller has the instruction set.
        unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(second, first)) }
    }

    #[inline(always)]
    unsafe fn of_bytes(from: *const u8, [scale, bias]: [__m512; 2]) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            // What is rounded first has codes 0, 16, 1, 17, … and then 8, 24, 9, 25, …: of its lanes those with the even numbers are
            // codes 0 to 15, and the odd ones 16 to 31.
            let (low, high) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(16).cast()));
            let first = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_unpacklo_epi8(low, high)));
            let second = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_unpackhi_epi8(low, high)));
            let scaled = _mm512_castps_si512(Self::rounded(_mm512_mul_ps(first, scale), _mm512_mul_ps(second, scale)));
            let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(scaled));
            let odd = _mm512_castsi512_ps(_mm512_and_si512(scaled, _mm512_set1_epi32(-0x1_0000)));
            Self::rounded(_mm512_add_ps(even, bias), _mm512_add_ps(odd, bias))
        }
    }

    #[inline(always)]
    unsafe fn table_of([scale, bias]: [__m512; 2]) -> __m512 {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let codes = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
            let scaled: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(_mm512_mul_ps(codes, scale)));
            let scaled = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(scaled)));
            let numbers: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(_mm512_add_ps(scaled, bias)));
            // A look-up reads five bits, of which the highest belongs to another code.
            _mm512_castsi512_ps(_mm512_broadcast_i64x4(numbers))
        }
    }

    #[inline(always)]
    unsafe fn at_nibbles(from: *const u8, table: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            // Each byte in two lanes of 16 bits, shifted down in the second.
            let codes = _mm512_broadcast_i32x4(_mm_loadu_si128(from.cast()));
            let codes = _mm512_shuffle_epi8(codes, lanes(&TWICE));
            let codes = _mm512_srlv_epi16(codes, _mm512_set1_epi32(4 << 16));
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(codes, _mm512_castps_si512(table)))
        }
    }

    #[inline(always)]
    unsafe fn in_turns(first: __m512, second: __m512) -> [__m512; 2] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let [first, second] = [_mm512_castps_si512(first), _mm512_castps_si512(second)];
            let low = _mm512_permutex2var_epi16(first, lanes(&TURNS[0]), second);
            let high = _mm512_permutex2var_epi16(first, lanes(&TURNS[1]), second);
            [_mm512_castsi512_ps(low), _mm512_castsi512_ps(high)]
        }
    }
}

/// For each byte which one it is taken from, of the same quarter: lane `i` of 16 bits takes byte `i / 2`.
const TWICE: [u8; 64] = {
    let mut from = [0x80; 64]; // zero
    let mut lane = 0;
    while lane < 32 {
        from[2 * lane] = (lane / 2) as u8;
        lane += 1;
    }
    from
};

/// For each lane of 16 bits which one it is taken from, of two vectors in turns: the first half of both, and the second.
const TURNS: [[u16; 32]; 2] = {
    let mut from = [[0; 32]; 2];
    let mut lane = 0;
    while lane < 64 {
        from[lane / 32][lane % 32] = (lane / 2 + lane % 2 * 32) as u16;
        lane += 1;
    }
    from
};

/// The lanes of a constant.
///
/// # Safety
/// AVX-512; 64 bytes.
#[inline(always)]
unsafe fn lanes<T>(from: &T) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(from).cast()) }
}
