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
}

/// [`Simd::in_turns`](super::Simd::in_turns).
///
/// # Safety
/// AVX-512.
#[inline(always)]
pub(super) unsafe fn in_turns_avx512(first: __m512, second: __m512) -> [__m512; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let [first, second] = [_mm512_castps_si512(first), _mm512_castps_si512(second)];
        let low = _mm512_permutex2var_epi16(first, lanes(&TURNS[0]), second);
        let high = _mm512_permutex2var_epi16(first, lanes(&TURNS[1]), second);
        [_mm512_castsi512_ps(low), _mm512_castsi512_ps(high)]
    }
}

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
