//! One row of numbers that is read vector by vector: stored floats, or codes decoded in registers.

use super::ahead;
use super::math;
use super::memory::{Bf16Bits, F16Bits, Stored, Word};
use super::simd::Simd;
use std::marker::PhantomData;
use tilewright_ir::Elem;

/// A row.
///
/// # Safety
/// Of all functions: the instruction set of `V`, and a row with numbers at the columns that are asked for, whole vectors of
/// them.
pub(super) trait Row<V: Simd>: Copy {
    /// What neighbouring columns share.
    type State: Copy;

    /// Columns from a multiple of this number on, as many, share a state; `width` where all of a row do.
    fn stretch(&self, width: usize) -> usize;

    /// What the columns of a stretch share: of the first, the second, …
    unsafe fn state(&self, stretch: usize) -> Self::State;

    /// The numbers from `column` on, which `state` is that of.
    unsafe fn load(&self, state: &Self::State, column: usize) -> V::Vector;

    /// Those of two vectors.
    #[inline(always)]
    unsafe fn load_two(&self, state: &Self::State, column: usize) -> [V::Vector; 2] {
        // SAFETY: the caller's promise.
        unsafe { [self.load(state, column), self.load(state, column + V::LANES)] }
    }
}

/// A row of floats as they are stored. What lies `ahead` of a vector that is read, in bytes, is asked for, if vectors are wide.
macro_rules! floats {
    ($name:ident, $bits:ty, $load:ident, asks $asks:literal) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name {
            pub from: *const $bits,
            pub ahead: isize,
        }

        impl<V: Simd> Row<V> for $name {
            type State = ();

            #[inline(always)]
            fn stretch(&self, width: usize) -> usize {
                width
            }

            #[inline(always)]
            unsafe fn state(&self, _: usize) {}

            #[inline(always)]
            unsafe fn load(&self, _: &(), column: usize) -> V::Vector {
                if $asks && ahead::by_vectors::<V, $bits>() {
                    V::prefetch(self.from.wrapping_add(column).cast::<u8>().wrapping_offset(self.ahead));
                }
                // SAFETY: the caller's promise.
                unsafe { V::$load(self.from.add(column)) }
            }
        }
    };
}
floats!(F32Row, f32, load, asks true);
floats!(F16Row, u16, load_f16, asks true);
floats!(Bf16Row, u16, load_bf16, asks true);
// A copy, which was written just now.
floats!(CopiedRow, f32, load, asks false);

/// A row of codes with a scale and a bias for each `group` of them: the numbers `T(T(scale * code) + bias)`, as [`Round`] says.
#[derive(Clone, Copy)]
pub(super) struct CodesRow<R> {
    pub codes: *const u8,
    pub scales: *const u8,
    pub biases: *const u8,
    pub group: usize,
    pub rounds: PhantomData<R>,
}

impl<R: Round> CodesRow<R> {
    /// The scale and the bias of a group, in every lane.
    ///
    /// # Safety
    /// As [`Row::state`].
    #[inline(always)]
    pub unsafe fn affine<V: Simd>(&self, group: usize) -> [V::Vector; 2] {
        // SAFETY: the caller's promise.
        unsafe { [R::splat::<V>(self.scales, group), R::splat::<V>(self.biases, group)] }
    }
}

/// Codes of 8 bits.
#[derive(Clone, Copy)]
pub(super) struct BytesRow<R>(pub CodesRow<R>);

impl<V: Simd, R: Round> Row<V> for BytesRow<R> {
    type State = [V::Vector; 2];

    #[inline(always)]
    fn stretch(&self, _: usize) -> usize {
        self.0.group
    }

    #[inline(always)]
    unsafe fn state(&self, stretch: usize) -> Self::State {
        // SAFETY: the caller's promise.
        unsafe { self.0.affine::<V>(stretch) }
    }

    #[inline(always)]
    unsafe fn load(&self, &state: &Self::State, column: usize) -> V::Vector {
        // SAFETY: the caller's promise.
        unsafe { number::<V, R>(V::load_bytes(self.0.codes.add(column)), state) }
    }
}

/// Codes of 4 bits.
#[derive(Clone, Copy)]
pub(super) struct NibblesRow<R>(pub CodesRow<R>);

impl<V: Simd, R: Round> Row<V> for NibblesRow<R> {
    /// All that a code can stand for in its group.
    type State = V::Table;

    #[inline(always)]
    fn stretch(&self, _: usize) -> usize {
        self.0.group
    }

    #[inline(always)]
    unsafe fn state(&self, stretch: usize) -> V::Table {
        const CODES: [f32; 16] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
        let mut table = [0.0; 16];
        // SAFETY: the caller's promise.
        unsafe {
            let affine = self.0.affine::<V>(stretch);
            let mut at = 0;
            while at < 16 {
                V::store(table.as_mut_ptr().add(at), number::<V, R>(V::load(CODES.as_ptr().add(at)), affine));
                at += V::LANES;
            }
            V::table(&table)
        }
    }

    #[inline(always)]
    unsafe fn load(&self, state: &V::Table, column: usize) -> V::Vector {
        // SAFETY: the caller's promise.
        unsafe { V::look_up_nibbles(self.0.codes.add(column / 2), state) }
    }
}

/// The numbers that codes stand for.
///
/// # Safety
/// The instruction set of `V`.
#[inline(always)]
unsafe fn number<V: Simd, R: Round>(code: V::Vector, [scale, bias]: [V::Vector; 2]) -> V::Vector {
    // SAFETY: the caller's promise.
    unsafe { R::round::<V>(V::add(R::round::<V>(V::mul(code, scale)), bias)) }
}

/// The type of scales and biases, and whether the numbers of codes are rounded to it or stay f32. No closures: wherever these are not
/// inlined, they are compiled without the instruction set.
pub(super) trait Round: Copy {
    const ELEM: Elem;

    /// One number of this type.
    ///
    /// # Safety
    /// `row` has more than `at`.
    unsafe fn one(row: *const u8, at: usize) -> f32;

    /// A vector of numbers of this type.
    ///
    /// # Safety
    /// The instruction set of `V`; `row` has so many from `at` on.
    unsafe fn load<V: Simd>(row: *const u8, at: usize) -> V::Vector;

    /// A number of this type in every lane.
    ///
    /// # Safety
    /// The instruction set of `V`; `row` has more than `at`.
    unsafe fn splat<V: Simd>(row: *const u8, at: usize) -> V::Vector;

    fn round_one(x: f32) -> f32;

    /// # Safety
    /// The instruction set of `V`.
    unsafe fn round<V: Simd>(x: V::Vector) -> V::Vector;
}

/// Implements [`Round`] for the type that is stored as `$stored`.
macro_rules! round {
    (
        $name:ident: $elem:ident as $stored:ident;
        splat $from:ident => $splat:expr; load $load:ident; one $a:ident => $one:expr; all $round:ident
    ) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        impl Round for $name {
            const ELEM: Elem = Elem::$elem;

            #[inline(always)]
            unsafe fn one(row: *const u8, at: usize) -> f32 {
                // SAFETY: the caller's promise.
                f32::from_bits(unsafe { row.cast::<$stored>().add(at).read() }.lane())
            }

            #[inline(always)]
            unsafe fn load<V: Simd>(row: *const u8, at: usize) -> V::Vector {
                // SAFETY: the caller's promise; the stored type is as large as what is read.
                unsafe { V::$load(row.cast::<$stored>().add(at).cast()) }
            }

            #[inline(always)]
            unsafe fn splat<V: Simd>(row: *const u8, at: usize) -> V::Vector {
                let $from = row.cast::<$stored>().wrapping_add(at);
                // SAFETY: the caller's promise.
                unsafe { $splat }
            }

            #[inline(always)]
            fn round_one($a: f32) -> f32 {
                $one
            }

            #[inline(always)]
            unsafe fn round<V: Simd>(x: V::Vector) -> V::Vector {
                // SAFETY: the caller's promise.
                unsafe { V::$round(x) }
            }
        }
    };
}
round!(ToF32: F32 as Word;
    splat from => V::splat(f32::from_bits(from.read().lane())); load load; one x => x; all round_f32);
round!(ToF16: F16 as F16Bits;
    splat from => V::splat(f32::from_bits(from.read().lane())); load load_f16; one x => math::round_f16(x); all round_f16);
round!(ToBf16: Bf16 as Bf16Bits;
    splat from => V::splat_bf16(from.cast()); load load_bf16; one x => math::round_bf16(x); all round_bf16);
round!(ExactF16: F16 as F16Bits;
    splat from => V::splat(f32::from_bits(from.read().lane())); load load_f16; one x => x; all round_f32);
round!(ExactBf16: Bf16 as Bf16Bits;
    splat from => V::splat_bf16(from.cast()); load load_bf16; one x => x; all round_f32);
