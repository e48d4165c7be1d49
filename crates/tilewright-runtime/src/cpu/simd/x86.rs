//! What takes several steps with AVX and AVX-512.

use std::arch::x86_64::*;

/// 2 to the power of each lane, by a polynomial of 2^f for f from 0 to 1. Lanes below `least`
/// give zero, without the detour that the processor takes for numbers too small to be normal.
///
/// # Safety
/// AVX-512.
#[inline(always)]
pub(super) unsafe fn exp2_avx512<const N: usize>(x: __m512, least: f32, polynomial: &[f32; N]) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let some = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(least)); // also of NaN
        let f = _mm512_reduce_ps::<_MM_FROUND_TO_NEG_INF>(x); // 0 of infinity
        let mut p = _mm512_set1_ps(polynomial[0]);
        for &c in &polynomial[1..] {
            p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c));
        }
        _mm512_maskz_scalef_ps(some, p, x)
    }
}

/// [`Simd::column_sums`](super::Simd::column_sums): half as many vectors after each step, whose lanes are sums of twice as many.
///
/// # Safety
/// AVX-512.
#[inline(always)]
pub(super) unsafe fn column_sums_avx512(x: &[[__m512; 4]; 4]) -> [[f32; 4]; 4] {
    /// Of each quarter of a column's four vectors the sums.
    #[inline(always)]
    unsafe fn quarters(a: __m512, b: __m512, c: __m512, d: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            let ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b))); // a b a b
            let cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
            let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
            _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high))
        }
    }
    /// Sums of two quarters, then of all.
    #[inline(always)]
    unsafe fn halves<const FIRST: i32, const SECOND: i32>(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_add_ps(_mm512_shuffle_f32x4::<FIRST>(a, b), _mm512_shuffle_f32x4::<SECOND>(a, b)) }
    }
    // SAFETY: the caller's promise; a register is as large as the sixteen sums.
    unsafe {
        let q0 = quarters(x[0][0], x[1][0], x[2][0], x[3][0]);
        let q1 = quarters(x[0][1], x[1][1], x[2][1], x[3][1]);
        let q2 = quarters(x[0][2], x[1][2], x[2][2], x[3][2]);
        let q3 = quarters(x[0][3], x[1][3], x[2][3], x[3][3]);
        let (low, high) = (halves::<0x44, 0xee>(q0, q1), halves::<0x44, 0xee>(q2, q3));
        std::mem::transmute(halves::<0x88, 0xdd>(low, high))
    }
}

/// A function that folds the lanes of each of four vectors to one, quarters with quarters.
macro_rules! four_folds {
    ($name:ident, $what:literal, $fold:ident) => {
        #[doc = $what]
        ///
        /// # Safety
        /// AVX.
        #[inline(always)]
        pub(super) unsafe fn $name(x: [__m256; 4]) -> [f32; 4] {
            #[inline(always)]
            unsafe fn quarter(x: __m256) -> __m128 {
                // SAFETY: the caller's promise.
                unsafe { $fold(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x)) }
            }
            // SAFETY: the caller's promise.
            unsafe {
                let [a, b, c, d] = [quarter(x[0]), quarter(x[1]), quarter(x[2]), quarter(x[3])];
                let ab = $fold(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b)); // a b a b
                let cd = $fold(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
                std::mem::transmute($fold(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)))
            }
        }
    };
}
/// A function that folds the two halves of a vector.
macro_rules! half_folds {
    ($name:ident, $fold:ident) => {
        /// # Safety
        /// AVX-512.
        #[inline(always)]
        pub(super) unsafe fn $name(x: __m512) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { $fold(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x)) }
        }
    };
}
half_folds!(half_sum, _mm256_add_ps);
half_folds!(half_largest, _mm256_max_ps);
four_folds!(sums_avx, "The sums of the lanes of four vectors.", _mm_add_ps);
four_folds!(largest_avx, "The largest lanes of four vectors.", _mm_max_ps);

/// Pairs, then quadruples, then halves change places.
///
/// # Safety
/// AVX.
#[inline(always)]
pub(super) unsafe fn transposed_avx(x: [[u32; 8]; 8]) -> [[u32; 8]; 8] {
    // SAFETY: the caller has AVX; a row is as large as a register.
    unsafe {
        let x: [__m256; 8] = std::mem::transmute(x);
        let pair = |i: usize| (_mm256_unpacklo_ps(x[i], x[i + 1]), _mm256_unpackhi_ps(x[i], x[i + 1]));
        let [(a0, a1), (b0, b1), (c0, c1), (d0, d1)] = [pair(0), pair(2), pair(4), pair(6)];
        let quad = |a, b| (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b));
        let [(t0, t1), (t2, t3), (u0, u1), (u2, u3)] = [quad(a0, b0), quad(a1, b1), quad(c0, d0), quad(c1, d1)];
        let low = |t, u| _mm256_permute2f128_ps::<0x20>(t, u);
        let high = |t, u| _mm256_permute2f128_ps::<0x31>(t, u);
        std::mem::transmute([
            low(t0, u0),
            low(t1, u1),
            low(t2, u2),
            low(t3, u3),
            high(t0, u0),
            high(t1, u1),
            high(t2, u2),
            high(t3, u3),
        ])
    }
}

/// Lanes of four rows change places inside of each quarter, then quarters do.
///
/// # Safety
/// AVX-512.
#[inline(always)]
pub(super) unsafe fn transposed_avx512(x: &[__m512; 16]) -> [__m512; 16] {
    /// Of four rows the columns `4 * quarter + 0`, then those `+ 1`, …
    #[inline(always)]
    unsafe fn quarters(x: &[__m512; 16], first: usize) -> [__m512; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b, c, d] = [x[first], x[first + 1], x[first + 2], x[first + 3]];
            let (low, high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let (ab, ab_high) = (_mm512_castps_pd(low), _mm512_castps_pd(high));
            let (low, high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (cd, cd_high) = (_mm512_castps_pd(low), _mm512_castps_pd(high));
            [
                _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)),
                _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high)),
            ]
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        let q = [quarters(x, 0), quarters(x, 4), quarters(x, 8), quarters(x, 12)];
        let mut out = *x;
        for column in 0..4 {
            let [a, b, c, d] = [q[0][column], q[1][column], q[2][column], q[3][column]];
            let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            let (even_below, odd_below) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
            out[column] = _mm512_shuffle_f32x4::<0x88>(even, even_below);
            out[4 + column] = _mm512_shuffle_f32x4::<0x88>(odd, odd_below);
            out[8 + column] = _mm512_shuffle_f32x4::<0xdd>(even, even_below);
            out[12 + column] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_below);
        }
        out
    }
}

/// Eight f32 to the nearest f16.
///
/// # Safety
/// AVX and F16C.
#[inline(always)]
pub(super) unsafe fn narrowed_f16c(x: [u32; 8]) -> [u16; 8] {
    // SAFETY: as in `widened_f16c`.
    unsafe {
        let x = std::mem::transmute::<[u32; 8], __m256>(x);
        std::mem::transmute(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x))
    }
}

/// Eight f32 to the nearest bf16.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn narrowed_bf16_avx2(x: [u32; 8]) -> [u16; 8] {
    // SAFETY: the caller has AVX2; eight floats are as large as a register of 256 bits, eight halves as one of 128.
    unsafe {
        let x = std::mem::transmute::<[u32; 8], __m256i>(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(x), _mm256_set1_epi32(1));
        let up = _mm256_add_epi32(_mm256_add_epi32(x, odd), _mm256_set1_epi32(0x7fff));
        let quiet = _mm256_or_si256(x, _mm256_set1_epi32(0x0040_0000));
        let numbers = _mm256_castsi256_ps(x);
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(numbers, numbers));
        let upper = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(up, quiet, nan));
        std::mem::transmute(_mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256::<1>(upper)))
    }
}

/// Eight f16 to f32.
///
/// # Safety
/// AVX and F16C.
#[inline(always)]
pub(super) unsafe fn widened_f16c(x: [u16; 8]) -> [u32; 8] {
    // SAFETY: the caller has F16C; eight halves are as large as a register of 128 bits, eight floats as one of 256.
    unsafe { std::mem::transmute(_mm256_cvtph_ps(std::mem::transmute::<[u16; 8], __m128i>(x))) }
}
