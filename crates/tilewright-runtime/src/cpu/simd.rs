//! Vectors of each instruction set: the few operations that loops of plain Rust do not become.
//!
//! No intrinsic stands in a closure, nor in a function that is passed on: these are compiled without the instruction set, and
//! every intrinsic in them becomes a call unless the compiler happens to inline them.

use super::math;
#[cfg(target_arch = "x86_64")]
use super::weights;
use super::weights::Weights;

#[cfg(target_arch = "x86_64")]
mod bytes;
#[cfg(target_arch = "x86_64")]
mod pairs;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
use pairs::in_turns_avx512;
#[cfg(target_arch = "x86_64")]
use x86::{
    column_sums_avx512, exp2_avx512, half_largest, half_sum, largest_avx, narrowed_bf16_avx2, narrowed_f16c, sums_avx,
    transposed_avx, transposed_avx512, widened_f16c,
};

/// Code over vectors of `V` that becomes a function of its own, by [`Simd::apart`]. All code over vectors is inlined into the functions of
/// an instruction set, and the time that a compiler takes for one of them grows with the square of its size.
pub(super) trait Piece<V> {
    /// To be inlined always, as all code over vectors.
    ///
    /// # Safety
    /// The instruction set of `V`, and what the implementation says.
    unsafe fn run(self);
}

/// Vectors of one instruction set.
///
/// # Safety
/// Every function needs the instruction set; loads and stores need `LANES` valid elements.
pub(super) trait Simd {
    /// One register.
    type Vector: Copy;
    /// Sixteen numbers to look up.
    type Table: Copy;
    /// Floats in a register.
    const LANES: usize;
    /// Registers across a panel.
    const ACROSS: usize;
    /// Rows of a register block: `ROWS * ACROSS` accumulators, `ACROSS` operands and one broadcast fill the registers.
    const ROWS: usize;
    /// Rows of a register block across two panels; 0 where there are too few registers.
    const ROWS_OF_TWO: usize;
    /// Whether there is a fused multiply-add.
    const FMA: bool;
    /// Whether products widen rows of 16-bit floats in registers, and whether they decode codes there. Otherwise rows are
    /// copied first, which keeps the program small.
    const WIDENS: bool;
    const DECODES: bool;

    /// Runs a piece as a function of its own.
    unsafe fn apart(piece: impl Piece<Self>)
    where
        Self: Sized;

    unsafe fn splat(x: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, x: Self::Vector);
    /// `a * b + c`.
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `b` where it is larger, else `a`: a number in `a` wins over NaN in `b`.
    unsafe fn larger(a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// A mask: all bits where the integer in a lane is at least `low` and at most `high`.
    #[inline(always)]
    unsafe fn between(x: Self::Vector, low: i32, high: i32) -> Self::Vector {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::map(x, |x| mask(low <= x.to_bits() as i32 && x.to_bits() as i32 <= high)) }
    }

    /// A mask: all bits where the numbers differ.
    #[inline(always)]
    unsafe fn differ(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::zip(a, b, |a, b| mask(a != b)) }
    }

    /// The bits of both.
    #[inline(always)]
    unsafe fn and(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::zip(a, b, |a, b| f32::from_bits(a.to_bits() & b.to_bits())) }
    }

    /// The bits of either.
    #[inline(always)]
    unsafe fn or(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::zip(a, b, |a, b| f32::from_bits(a.to_bits() | b.to_bits())) }
    }

    /// `yes` where the mask is set, else `no`.
    #[inline(always)]
    unsafe fn choose(set: Self::Vector, yes: Self::Vector, no: Self::Vector) -> Self::Vector {
        // SAFETY: the caller has the instruction set.
        unsafe {
            Self::or(Self::and(set, yes), Self::zip(no, set, |no, set| f32::from_bits(no.to_bits() & !set.to_bits())))
        }
    }

    /// `a + b`.
    #[inline(always)]
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::fma(Self::splat(1.0), a, b) }
    }

    /// 2 to the power of each lane, within the bound of [`math::exp2`].
    #[inline(always)]
    unsafe fn exp2(x: Self::Vector) -> Self::Vector {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::map(x, |x| math::exp2_either(Self::FMA, x)) }
    }

    /// 2 to the power of each lane, for a result that is rounded to bf16: within 3e-7 of it, and exact for 0. What is too small to be
    /// normal may be zero.
    #[inline(always)]
    unsafe fn exp2_of_bf16(x: Self::Vector) -> Self::Vector {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::exp2(x) }
    }

    /// Weights in pairs of bf16 numbers, where the processor has them: nothing else is lowered to this.
    ///
    /// # Safety
    /// As [`Weights::pairs`].
    #[inline(always)]
    unsafe fn weights_in_pairs(_: &Weights) {}

    /// Halves of lanes of two vectors in turns: lane i has half i of both, and in the second result half `LANES + i`.
    #[inline(always)]
    unsafe fn in_turns(first: Self::Vector, second: Self::Vector) -> [Self::Vector; 2] {
        let (mut x, mut y) = ([0.0f32; WIDEST], [0.0f32; WIDEST]);
        let half = |of: &[f32; WIDEST], at: usize| of[at / 2].to_bits() >> (at % 2 * 16) & 0xffff;
        // SAFETY: the caller has the instruction set; a vector has at most as many lanes.
        unsafe {
            Self::store(x.as_mut_ptr(), first);
            Self::store(y.as_mut_ptr(), second);
            [0, Self::LANES]
                .map(|from| Self::made(|lane| f32::from_bits(half(&x, from + lane) | half(&y, from + lane) << 16)))
        }
    }

    /// The sums of the lanes of four vectors.
    #[inline(always)]
    unsafe fn sums(x: [Self::Vector; 4]) -> [f32; 4] {
        // SAFETY: the caller has the instruction set.
        x.map(|x| unsafe { Self::fold(x, |a, b| a + b) })
    }

    /// The sums of the lanes of four rows of four vectors, by columns: of the first vector of each row, of the second, …
    #[inline(always)]
    unsafe fn column_sums(x: &[[Self::Vector; 4]; 4]) -> [[f32; 4]; 4] {
        let of = |column: usize| [x[0][column], x[1][column], x[2][column], x[3][column]];
        // SAFETY: the caller has the instruction set.
        unsafe { [Self::sums(of(0)), Self::sums(of(1)), Self::sums(of(2)), Self::sums(of(3))] }
    }

    /// The largest lanes of four vectors without NaN.
    #[inline(always)]
    unsafe fn largest(x: [Self::Vector; 4]) -> [f32; 4] {
        // SAFETY: the caller has the instruction set.
        x.map(|x| unsafe { Self::fold(x, |a, b| if b > a { b } else { a }) })
    }

    /// bf16 numbers as f32.
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::Vector {
        // SAFETY: the caller's promise.
        unsafe { Self::made(|lane| f32::from_bits(u32::from(from.add(lane).read_unaligned()) << 16)) }
    }

    /// A bf16 number in every lane.
    #[inline(always)]
    unsafe fn splat_bf16(from: *const u16) -> Self::Vector {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(f32::from_bits(u32::from(from.read_unaligned()) << 16)) }
    }

    /// f16 numbers as f32.
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::Vector {
        // SAFETY: the caller's promise.
        unsafe { Self::made(|lane| f32::from_bits(widened_half(from.add(lane).read_unaligned()))) }
    }

    /// Codes of 8 bits as numbers.
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self::Vector {
        // SAFETY: the caller's promise.
        unsafe { Self::made(|lane| f32::from(*from.add(lane))) }
    }

    /// A table of sixteen numbers.
    unsafe fn table(from: &[f32; 16]) -> Self::Table;
    /// The entries of a table at codes of 4 bits, the lower half of a byte first: `LANES / 2` bytes.
    unsafe fn look_up_nibbles(from: *const u8, table: &Self::Table) -> Self::Vector;

    /// `a * b`.
    #[inline(always)]
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: the caller has the instruction set. Adding -0 changes nothing.
        unsafe { Self::fma(a, b, Self::splat(-0.0)) }
    }

    /// The nearest bf16 numbers; NaN whose lower half is not zero may become anything.
    #[inline(always)]
    unsafe fn round_bf16(x: Self::Vector) -> Self::Vector {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::map(x, math::round_bf16) }
    }

    /// The numbers themselves.
    #[inline(always)]
    unsafe fn round_f32(x: Self::Vector) -> Self::Vector {
        x
    }

    /// The nearest f16 numbers.
    #[inline(always)]
    unsafe fn round_f16(x: Self::Vector) -> Self::Vector {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::map(x, math::round_f16) }
    }

    /// Rows and columns of a square of lanes exchanged.
    #[inline(always)]
    unsafe fn transposed(x: [[u32; 8]; 8]) -> [[u32; 8]; 8] {
        std::array::from_fn(|row| std::array::from_fn(|col| x[col][row]))
    }

    /// The same of sixteen vectors; called only where they have sixteen lanes.
    #[inline(always)]
    unsafe fn transposed_vectors(x: &[Self::Vector; 16]) -> [Self::Vector; 16] {
        let mut lanes = [[0.0f32; WIDEST]; 16];
        let mut out = *x;
        // SAFETY: the caller has the instruction set; a vector has at most as many lanes.
        unsafe {
            x.iter().zip(&mut lanes).for_each(|(x, lanes)| Self::store(lanes.as_mut_ptr(), *x));
            out.iter_mut().enumerate().for_each(|(lane, out)| *out = Self::made(|row| lanes[row][lane]));
        }
        out
    }

    /// Eight f16 to f32, exactly; NaN stays NaN.
    #[inline(always)]
    unsafe fn widened(x: [u16; 8]) -> [u32; 8] {
        x.map(widened_half)
    }

    /// Eight f32 to the nearest f16; NaN stays NaN.
    #[inline(always)]
    unsafe fn narrowed_f16(x: [u32; 8]) -> [u16; 8] {
        x.map(|x| half::f16::from_f32(f32::from_bits(x)).to_bits())
    }

    /// Eight f32 to the nearest bf16; NaN stays NaN.
    #[inline(always)]
    unsafe fn narrowed_bf16(x: [u32; 8]) -> [u16; 8] {
        x.map(|x| (math::round_bf16(f32::from_bits(x)).to_bits() >> 16) as u16)
    }

    /// Says that this cache line will be read soon; any address may be named.
    #[inline(always)]
    fn prefetch(at: *const u8) {
        let _ = at;
    }

    /// The same of a line that will be read later: the second-level cache is near enough.
    #[inline(always)]
    fn prefetch_far(at: *const u8) {
        let _ = at;
    }

    /// A vector of what each lane is given.
    #[inline(always)]
    unsafe fn made(f: impl Fn(usize) -> f32) -> Self::Vector {
        let lanes: [f32; WIDEST] = std::array::from_fn(|lane| if lane < Self::LANES { f(lane) } else { 0.0 });
        // SAFETY: the caller has the instruction set; a vector has at most as many lanes.
        unsafe { Self::load(lanes.as_ptr()) }
    }

    /// Each lane on its own.
    #[inline(always)]
    unsafe fn map(x: Self::Vector, f: impl Fn(f32) -> f32) -> Self::Vector {
        let mut lanes = [0.0f32; WIDEST];
        // SAFETY: the caller has the instruction set; a vector has at most as many lanes.
        unsafe {
            Self::store(lanes.as_mut_ptr(), x);
            lanes[..Self::LANES].iter_mut().for_each(|x| *x = f(*x));
            Self::load(lanes.as_ptr())
        }
    }

    /// Each two lanes on their own.
    #[inline(always)]
    unsafe fn zip(a: Self::Vector, b: Self::Vector, f: impl Fn(f32, f32) -> f32) -> Self::Vector {
        let (mut x, mut y) = ([0.0f32; WIDEST], [0.0f32; WIDEST]);
        // SAFETY: the caller has the instruction set; a vector has at most as many lanes.
        unsafe {
            Self::store(x.as_mut_ptr(), a);
            Self::store(y.as_mut_ptr(), b);
            x[..Self::LANES].iter_mut().zip(&y).for_each(|(x, &y)| *x = f(*x, y));
            Self::load(x.as_ptr())
        }
    }

    /// All lanes to one, halves with halves.
    #[inline(always)]
    unsafe fn fold(x: Self::Vector, f: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = [0.0f32; WIDEST];
        // SAFETY: the caller has the instruction set; a vector has at most as many lanes.
        unsafe { Self::store(lanes.as_mut_ptr(), x) };
        let mut width = Self::LANES / 2;
        while width > 0 {
            for lane in 0..width {
                lanes[lane] = f(lanes[lane], lanes[lane + width]);
            }
            width /= 2;
        }
        lanes[0]
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
            let mut out = [0.0f32; WIDEST];
            let mut total = 0.0;
            for sum in sums {
                Self::store(out.as_mut_ptr(), sum);
                total += out[0];
            }
            (rounds * (CHAINS * Self::LANES * 2) as u64, total)
        }
    }
}

/// A lane of a mask.
#[inline(always)]
fn mask(set: bool) -> f32 {
    f32::from_bits(u32::from(set).wrapping_neg())
}

/// The most lanes of a vector.
pub(super) const WIDEST: usize = 16;

/// One f16 to f32: a product by 2^112 moves the exponent, exactly for subnormals too; infinity and NaN keep theirs.
#[inline(always)]
pub(super) fn widened_half(x: u16) -> u32 {
    let (sign, rest) = (u32::from(x & 0x8000) << 16, u32::from(x & 0x7fff));
    let scaled = (f32::from_bits(rest << 13) * f32::from_bits(0x7780_0000)).to_bits();
    sign | if rest >= 0x7c00 { scaled | 0x7f80_0000 } else { scaled }
}

/// The code of four bits at a place, the lower half of a byte first.
///
/// # Safety
/// There are as many codes.
#[inline(always)]
unsafe fn nibble(from: *const u8, at: usize) -> u8 {
    // SAFETY: the caller's promise.
    unsafe { *from.add(at / 2) >> (at % 2 * 4) & 15 }
}

/// Plain Rust.
pub(super) struct Portable;

impl Simd for Portable {
    type Vector = [f32; 8];
    type Table = [f32; 16];
    const LANES: usize = 8;
    const ACROSS: usize = 2;
    const ROWS: usize = 4;
    const ROWS_OF_TWO: usize = 0;
    const FMA: bool = false;
    const WIDENS: bool = false;
    const DECODES: bool = false;

    #[inline(never)]
    unsafe fn apart(piece: impl Piece<Self>) {
        // SAFETY: the caller's promise.
        unsafe { piece.run() }
    }

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
    #[inline(always)]
    unsafe fn larger(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| if b[i] > a[i] { b[i] } else { a[i] })
    }
    #[inline(always)]
    unsafe fn table(from: &[f32; 16]) -> [f32; 16] {
        *from
    }
    #[inline(always)]
    unsafe fn look_up_nibbles(from: *const u8, table: &[f32; 16]) -> [f32; 8] {
        // SAFETY: the caller's promise.
        unsafe { Self::made(|lane| table[usize::from(nibble(from, lane))]) }
    }
}

/// Implements [`Simd`] with the intrinsics of a processor family: each function is one expression of them.
macro_rules! simd {
    ($name:ident, $arch:ident, $vector:ident, table $table:ty, lanes $lanes:literal, across $across:literal, rows $rows:literal and $rows_of_two:literal, widens $widens:literal, decodes $decodes:literal, features $features:literal,
     $(fn $f:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $body:expr;)*) => {
        /// Vectors of this instruction set.
        pub(super) struct $name;

        const _: () = {
            use std::arch::$arch::*;
            type Vector = $vector;

            impl Simd for $name {
                type Vector = Vector;
                type Table = $table;
                const LANES: usize = $lanes;
                const ACROSS: usize = $across;
                const ROWS: usize = $rows;
                const ROWS_OF_TWO: usize = $rows_of_two;
                const FMA: bool = true;
                const WIDENS: bool = $widens;
                const DECODES: bool = $decodes;

                #[inline(never)]
                #[target_feature(enable = $features)]
                unsafe fn apart(piece: impl Piece<Self>) {
                    // SAFETY: the caller's promise.
                    unsafe { piece.run() }
                }

                $(
                    #[inline(always)]
                    #[allow(unused_unsafe, reason = "what is safe differs between the processors")]
                    unsafe fn $f($($arg: $ty),*) $(-> $ret)? {
                        // SAFETY: the caller's promise.
                        unsafe { $body }
                    }
                )*

                #[cfg(target_arch = "x86_64")]
                #[inline(always)]
                fn prefetch(at: *const u8) {
                    // SAFETY: a hint: nothing is read, and a bad address is ignored.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
                }

                #[cfg(target_arch = "x86_64")]
                #[inline(always)]
                fn prefetch_far(at: *const u8) {
                    // SAFETY: as above.
                    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
                }
            }
        };
    };
}

// 32 registers of 16: 14 rows by 2 are 28 sums, 2 operands, and broadcasts come from memory.
#[cfg(target_arch = "x86_64")]
simd!(Avx512, x86_64, __m512, table __m512, lanes 16, across 2, rows 14 and 6, widens true, decodes true,
    features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c",
    fn splat(x: f32) -> Vector = _mm512_set1_ps(x);
    fn load(from: *const f32) -> Vector = _mm512_loadu_ps(from);
    fn store(to: *mut f32, x: Vector) = _mm512_storeu_ps(to, x);
    fn fma(a: Vector, b: Vector, c: Vector) -> Vector = _mm512_fmadd_ps(a, b, c);
    fn add(a: Vector, b: Vector) -> Vector = _mm512_add_ps(a, b);
    fn larger(a: Vector, b: Vector) -> Vector = _mm512_max_ps(b, a);
    fn between(x: Vector, low: i32, high: i32) -> Vector = {
        let x = _mm512_castps_si512(x);
        let set = _mm512_cmpge_epi32_mask(x, _mm512_set1_epi32(low));
        let set = _mm512_mask_cmple_epi32_mask(set, x, _mm512_set1_epi32(high));
        _mm512_castsi512_ps(_mm512_movm_epi32(set))
    };
    fn differ(a: Vector, b: Vector) -> Vector = {
        _mm512_castsi512_ps(_mm512_movm_epi32(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(a, b)))
    };
    fn and(a: Vector, b: Vector) -> Vector = _mm512_and_ps(a, b);
    fn or(a: Vector, b: Vector) -> Vector = _mm512_or_ps(a, b);
    fn choose(set: Vector, yes: Vector, no: Vector) -> Vector = {
        _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(set)), no, yes)
    };
    fn exp2(x: Vector) -> Vector = exp2_avx512(x, math::EXP2_ZERO, &math::EXP2_ABOVE);
    fn exp2_of_bf16(x: Vector) -> Vector = exp2_avx512(x, math::EXP2_NORMAL, &math::EXP2_OF_BF16);
    fn weights_in_pairs(weights: &Weights) -> () = weights::pairs_avx512(weights);
    fn sums(x: [Vector; 4]) -> [f32; 4] = {
        let [a, b, c, d] = x;
        sums_avx([half_sum(a), half_sum(b), half_sum(c), half_sum(d)])
    };
    fn column_sums(x: &[[Vector; 4]; 4]) -> [[f32; 4]; 4] = column_sums_avx512(x);
    fn largest(x: [Vector; 4]) -> [f32; 4] = {
        let [a, b, c, d] = x;
        largest_avx([half_largest(a), half_largest(b), half_largest(c), half_largest(d)])
    };
    fn load_bf16(from: *const u16) -> Vector = {
        let halves = _mm256_loadu_si256(from.cast());
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    };
    fn splat_bf16(from: *const u16) -> Vector = {
        // From memory to all lanes at once, not through a register of the integer unit.
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_set1_epi16(from.cast::<i16>().read_unaligned())))
    };
    fn load_f16(from: *const u16) -> Vector = _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
    fn load_bytes(from: *const u8) -> Vector = {
        _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))
    };
    fn table(from: &[f32; 16]) -> __m512 = _mm512_loadu_ps(from.as_ptr());
    fn look_up_nibbles(from: *const u8, table: &__m512) -> Vector = {
        // Eight codes in each lane, shifted down by as far as the lane's own lies up; a look-up reads the lowest four bits.
        let of_word = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
        let up = _mm512_set_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
        let words = _mm512_permutexvar_epi32(of_word, _mm512_castsi128_si512(_mm_loadl_epi64(from.cast())));
        _mm512_permutexvar_ps(_mm512_srlv_epi32(words, up), *table)
    };
    fn mul(a: Vector, b: Vector) -> Vector = _mm512_mul_ps(a, b);
    fn round_bf16(x: Vector) -> Vector = {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let up = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
        _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(-0x1_0000)))
    };
    fn round_f16(x: Vector) -> Vector = _mm512_cvtph_ps(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x));
    fn transposed(x: [[u32; 8]; 8]) -> [[u32; 8]; 8] = transposed_avx(x);
    fn transposed_vectors(x: &[Vector; 16]) -> [Vector; 16] = transposed_avx512(x);
    fn in_turns(first: Vector, second: Vector) -> [Vector; 2] = in_turns_avx512(first, second);
    fn widened(x: [u16; 8]) -> [u32; 8] = widened_f16c(x);
    fn narrowed_f16(x: [u32; 8]) -> [u16; 8] = narrowed_f16c(x);
    fn narrowed_bf16(x: [u32; 8]) -> [u16; 8] = narrowed_bf16_avx2(x);
);
// The same registers as pairs of bf16 numbers: a product multiplies both of a lane.
#[cfg(target_arch = "x86_64")]
simd!(Avx512Pairs, x86_64, __m512, table __m512, lanes 16, across 2, rows 14 and 6, widens true, decodes true,
    features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512bf16",
    fn splat(x: f32) -> Vector = _mm512_set1_ps(x);
    fn load(from: *const f32) -> Vector = _mm512_loadu_ps(from);
    fn store(to: *mut f32, x: Vector) = _mm512_storeu_ps(to, x);
    fn fma(a: Vector, b: Vector, c: Vector) -> Vector = {
        _mm512_dpbf16_ps(c, std::mem::transmute::<Vector, __m512bh>(a), std::mem::transmute::<Vector, __m512bh>(b))
    };
    fn add(a: Vector, b: Vector) -> Vector = _mm512_add_ps(a, b);
    fn sums(x: [Vector; 4]) -> [f32; 4] = Avx512::sums(x);
    fn column_sums(x: &[[Vector; 4]; 4]) -> [[f32; 4]; 4] = column_sums_avx512(x);
    fn larger(a: Vector, b: Vector) -> Vector = Avx512::larger(a, b);
    fn in_turns(first: Vector, second: Vector) -> [Vector; 2] = in_turns_avx512(first, second);
    fn table(from: &[f32; 16]) -> __m512 = Avx512::table(from);
    fn look_up_nibbles(from: *const u8, table: &__m512) -> Vector = Avx512::look_up_nibbles(from, table);
);
// 16 registers of 8: 6 rows by 2 are 12 sums, 2 operands, 1 broadcast.
#[cfg(target_arch = "x86_64")]
simd!(Avx2, x86_64, __m256, table [__m256; 2], lanes 8, across 2, rows 6 and 0, widens true, decodes false,
    features "avx2,fma,f16c",
    fn splat(x: f32) -> Vector = _mm256_set1_ps(x);
    fn load(from: *const f32) -> Vector = _mm256_loadu_ps(from);
    fn store(to: *mut f32, x: Vector) = _mm256_storeu_ps(to, x);
    fn fma(a: Vector, b: Vector, c: Vector) -> Vector = _mm256_fmadd_ps(a, b, c);
    fn add(a: Vector, b: Vector) -> Vector = _mm256_add_ps(a, b);
    fn larger(a: Vector, b: Vector) -> Vector = _mm256_max_ps(b, a);
    fn between(x: Vector, low: i32, high: i32) -> Vector = {
        let x = _mm256_castps_si256(x);
        let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(low), x);
        let above = _mm256_cmpgt_epi32(x, _mm256_set1_epi32(high));
        let outside = _mm256_or_si256(below, above);
        _mm256_castsi256_ps(_mm256_xor_si256(outside, _mm256_set1_epi32(-1)))
    };
    fn differ(a: Vector, b: Vector) -> Vector = _mm256_cmp_ps::<_CMP_NEQ_UQ>(a, b);
    fn and(a: Vector, b: Vector) -> Vector = _mm256_and_ps(a, b);
    fn or(a: Vector, b: Vector) -> Vector = _mm256_or_ps(a, b);
    fn choose(set: Vector, yes: Vector, no: Vector) -> Vector = _mm256_blendv_ps(no, yes, set);
    fn sums(x: [Vector; 4]) -> [f32; 4] = sums_avx(x);
    fn largest(x: [Vector; 4]) -> [f32; 4] = largest_avx(x);
    fn load_bf16(from: *const u16) -> Vector = {
        let halves = _mm_loadu_si128(from.cast());
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
    };
    fn load_f16(from: *const u16) -> Vector = _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
    fn load_bytes(from: *const u8) -> Vector = {
        _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())))
    };
    fn table(from: &[f32; 16]) -> [__m256; 2] = [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))];
    fn look_up_nibbles(from: *const u8, table: &[__m256; 2]) -> Vector = {
        // Eight codes in each lane, shifted down by as far as the lane's own lies up; a look-up reads the lowest three bits.
        let up = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
        let codes = _mm256_srlv_epi32(_mm256_set1_epi32(from.cast::<i32>().read_unaligned()), up);
        let low = _mm256_permutevar8x32_ps(table[0], codes);
        let high = _mm256_permutevar8x32_ps(table[1], codes);
        _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes)))
    };
    fn mul(a: Vector, b: Vector) -> Vector = _mm256_mul_ps(a, b);
    fn round_f16(x: Vector) -> Vector = _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x));
    fn transposed(x: [[u32; 8]; 8]) -> [[u32; 8]; 8] = transposed_avx(x);
    fn widened(x: [u16; 8]) -> [u32; 8] = widened_f16c(x);
    fn narrowed_f16(x: [u32; 8]) -> [u16; 8] = narrowed_f16c(x);
    fn narrowed_bf16(x: [u32; 8]) -> [u16; 8] = narrowed_bf16_avx2(x);
);
// 32 registers of 4: 6 rows by 4 are 24 sums, 4 operands, 1 broadcast.
#[cfg(target_arch = "aarch64")]
simd!(Neon, aarch64, float32x4_t, table [f32; 16], lanes 4, across 4, rows 6 and 0, widens false, decodes false,
    features "neon",
    fn splat(x: f32) -> Vector = vdupq_n_f32(x);
    fn load(from: *const f32) -> Vector = vld1q_f32(from);
    fn store(to: *mut f32, x: Vector) = vst1q_f32(to, x);
    fn fma(a: Vector, b: Vector, c: Vector) -> Vector = vfmaq_f32(c, a, b);
    fn add(a: Vector, b: Vector) -> Vector = vaddq_f32(a, b);
    fn larger(a: Vector, b: Vector) -> Vector = vbslq_f32(vcgtq_f32(b, a), b, a);
    fn table(from: &[f32; 16]) -> [f32; 16] = *from;
    fn look_up_nibbles(from: *const u8, table: &[f32; 16]) -> Vector = {
        Self::made(|lane| table[usize::from(nibble(from, lane))])
    };
);

#[cfg(test)]
mod tests;
