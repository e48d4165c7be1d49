//! Vectors of each instruction set: the few operations that loops of plain Rust do not become.

/// Vectors of one instruction set.
///
/// # Safety
/// Every function needs the instruction set; loads and stores need `LANES` valid floats.
pub(super) trait Simd {
    /// One register.
    type Vector: Copy;
    /// Floats in a register.
    const LANES: usize;
    /// Registers across a panel.
    const ACROSS: usize;
    /// Rows of a register block: `ROWS * ACROSS` accumulators, `ACROSS` operands and one broadcast fill the registers.
    const ROWS: usize;

    unsafe fn splat(x: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, x: Self::Vector);
    /// `a * b + c`.
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// Rows and columns of a square of lanes exchanged.
    #[inline(always)]
    unsafe fn transposed(x: [[u32; 8]; 8]) -> [[u32; 8]; 8] {
        std::array::from_fn(|row| std::array::from_fn(|col| x[col][row]))
    }

    /// Eight f16 to f32, exactly; NaN stays NaN.
    #[inline(always)]
    unsafe fn widened(x: [u16; 8]) -> [u32; 8] {
        x.map(widened_half)
    }

    /// Says that this cache line will be read soon; any address may be named.
    #[inline(always)]
    fn prefetch(at: *const u8) {
        let _ = at;
    }

    /// Multiply-adds on sixteen independent registers: the floating-point operations done, and a number that keeps the
    /// compiler from dropping them.
    #[inline(always)]
    unsafe fn fma_chain(rounds: u64) -> (u64, f32) {
        const CHAINS: usize = 16;
        // SAFETY: the caller has the instruction set; `out` holds enough floats.
        unsafe {
            let (a, b) = (Self::splat(std::hint::black_box(0.999_9)), Self::splat(std::hint::black_box(1e-4)));
            let mut sums = [b; CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = Self::fma(*sum, a, b);
                }
            }
            let mut out = [0.0f32; 16];
            let mut total = 0.0;
            for sum in sums {
                Self::store(out.as_mut_ptr(), sum);
                total += out[0];
            }
            (rounds * (CHAINS * Self::LANES * 2) as u64, total)
        }
    }
}

/// One f16 to f32: a product by 2^112 moves the exponent, exactly for subnormals too; infinity and NaN keep theirs.
#[inline(always)]
pub(super) fn widened_half(x: u16) -> u32 {
    let (sign, rest) = (u32::from(x & 0x8000) << 16, u32::from(x & 0x7fff));
    let scaled = (f32::from_bits(rest << 13) * f32::from_bits(0x7780_0000)).to_bits();
    sign | if rest >= 0x7c00 { scaled | 0x7f80_0000 } else { scaled }
}

/// Plain Rust.
pub(super) struct Portable;

impl Simd for Portable {
    type Vector = [f32; 8];
    const LANES: usize = 8;
    const ACROSS: usize = 2;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 8] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: [f32; 8]) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}

macro_rules! simd {
    ($name:ident, $arch:ident, $vector:ident, $lanes:literal, across $across:literal, rows $rows:literal, $splat:ident, $load:ident, $store:ident, |$a:ident, $b:ident, $c:ident| $fma:expr $(, transposed $transposed:ident, widened $widened:ident)?) => {
        /// Vectors of this instruction set.
        pub(super) struct $name;

        impl Simd for $name {
            type Vector = std::arch::$arch::$vector;
            const LANES: usize = $lanes;
            const ACROSS: usize = $across;
            const ROWS: usize = $rows;

            #[inline(always)]
            unsafe fn splat(x: f32) -> Self::Vector {
                // SAFETY: the caller's promise.
                unsafe { std::arch::$arch::$splat(x) }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self::Vector {
                // SAFETY: the caller's promise.
                unsafe { std::arch::$arch::$load(from) }
            }
            #[inline(always)]
            unsafe fn store(to: *mut f32, x: Self::Vector) {
                // SAFETY: the caller's promise.
                unsafe { std::arch::$arch::$store(to, x) }
            }
            #[inline(always)]
            unsafe fn fma($a: Self::Vector, $b: Self::Vector, $c: Self::Vector) -> Self::Vector {
                // SAFETY: the caller's promise.
                unsafe { $fma }
            }
            $(
                #[inline(always)]
                unsafe fn transposed(x: [[u32; 8]; 8]) -> [[u32; 8]; 8] {
                    // SAFETY: the caller's promise.
                    unsafe { $transposed(x) }
                }
                #[inline(always)]
                unsafe fn widened(x: [u16; 8]) -> [u32; 8] {
                    // SAFETY: the caller's promise.
                    unsafe { $widened(x) }
                }
                #[inline(always)]
                fn prefetch(at: *const u8) {
                    // SAFETY: a hint: nothing is read, and a bad address is ignored.
                    unsafe { std::arch::$arch::_mm_prefetch::<{ std::arch::$arch::_MM_HINT_T0 }>(at.cast()) }
                }
            )?
        }
    };
}

// 32 registers of 16: 14 rows by 2 are 28 sums, 2 operands, and broadcasts come from memory.
#[cfg(target_arch = "x86_64")]
simd!(Avx512, x86_64, __m512, 16, across 2, rows 14, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, |a, b, c| {
    std::arch::x86_64::_mm512_fmadd_ps(a, b, c)
}, transposed transposed_avx, widened widened_f16c);
// 16 registers of 8: 6 rows by 2 are 12 sums, 2 operands, 1 broadcast.
#[cfg(target_arch = "x86_64")]
simd!(Avx2, x86_64, __m256, 8, across 2, rows 6, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, |a, b, c| {
    std::arch::x86_64::_mm256_fmadd_ps(a, b, c)
}, transposed transposed_avx, widened widened_f16c);
// 32 registers of 4: 6 rows by 4 are 24 sums, 4 operands, 1 broadcast.
#[cfg(target_arch = "aarch64")]
simd!(Neon, aarch64, float32x4_t, 4, across 4, rows 6, vdupq_n_f32, vld1q_f32, vst1q_f32, |a, b, c| {
    std::arch::aarch64::vfmaq_f32(c, a, b)
});

/// Pairs, then quadruples, then halves change places.
///
/// # Safety
/// AVX.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transposed_avx(x: [[u32; 8]; 8]) -> [[u32; 8]; 8] {
    use std::arch::x86_64::*;
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

/// Eight f16 to f32.
///
/// # Safety
/// AVX and F16C.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn widened_f16c(x: [u16; 8]) -> [u32; 8] {
    use std::arch::x86_64::*;
    // SAFETY: the caller has F16C; eight halves are as large as a register of 128 bits, eight floats as one of 256.
    unsafe { std::mem::transmute(_mm256_cvtph_ps(std::mem::transmute::<[u16; 8], __m128i>(x))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_exactly() {
        let all: Vec<[u16; 8]> = (0..=u16::MAX / 8).map(|i| std::array::from_fn(|lane| i * 8 + lane as u16)).collect();
        let check = |name: &str, widened: &dyn Fn([u16; 8]) -> [u32; 8]| {
            for &halves in &all {
                for (half, got) in halves.into_iter().zip(widened(halves).map(f32::from_bits)) {
                    let wanted = half::f16::from_bits(half).to_f32();
                    let same = got.to_bits() == wanted.to_bits() || (got.is_nan() && wanted.is_nan());
                    assert!(same, "{name}: {half:#06x} gives {got:e}, not {wanted:e}");
                }
            }
        };
        assert_eq!(all.len() * 8, 1 << 16);
        // SAFETY: plain Rust needs no instruction set.
        check("portable", &|x| unsafe { Portable::widened(x) });
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx") && is_x86_feature_detected!("f16c") {
            #[target_feature(enable = "avx,f16c")]
            unsafe fn widened(x: [u16; 8]) -> [u32; 8] {
                // SAFETY: the caller's promise.
                unsafe { Avx2::widened(x) }
            }
            // SAFETY: the processor has both.
            check("f16c", &|x| unsafe { widened(x) });
        }
    }

    #[test]
    fn a_square_is_transposed() {
        let x: [[u32; 8]; 8] = std::array::from_fn(|r| std::array::from_fn(|c| (8 * r + c) as u32));
        let wanted: [[u32; 8]; 8] = std::array::from_fn(|r| std::array::from_fn(|c| x[c][r]));
        // SAFETY: plain Rust needs no instruction set.
        assert_eq!(unsafe { Portable::transposed(x) }, wanted);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx") {
            // SAFETY: the processor has AVX.
            assert_eq!(unsafe { transposed_avx(x) }, wanted);
        }
    }
}
