//! Which vector instructions there are, and the functions that were compiled for them.
//!
//! The numeric code is written once, as generic inlined functions; [`kernels!`](self) compiles them again for each
//! instruction set under `#[target_feature]`, and the device picks one table of functions when it starts.

use super::ahead::Coming;
#[cfg(target_arch = "x86_64")]
use super::amx;
use super::gemm;
use super::memory::{self, Place, Places};
use super::pack;
use super::pairs::Panels;
use super::rows::Reader;
use super::simd::{self, Simd};
use super::stream;
use super::unpack;
use super::vector;
use tilewright_compile::cpu::{Dot, DotRows, Target, VectorLoop};

/// A set of vector instructions that the CPU device was compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isa {
    /// 512-bit vectors, and tiles for products of bf16 numbers.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit vectors and fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 128-bit vectors, always there on AArch64.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain Rust.
    Portable,
}

impl Isa {
    /// The sets that this processor has, best first; never empty.
    pub fn available() -> Vec<Isa> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend((avx512::detected() && avx512_pairs::detected() && amx::detected()).then_some(Isa::Amx));
            all.extend(avx512::detected().then_some(Isa::Avx512));
            all.extend(avx2::detected().then_some(Isa::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Isa::Neon);
        all.push(Isa::Portable);
        all
    }

    /// The name that people and files use.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => "amx",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        }
    }

    /// What the lowering has to know of it on this processor.
    pub(super) fn target(self) -> Target {
        #[cfg(target_arch = "x86_64")]
        let wide = matches!(self, Isa::Amx | Isa::Avx512);
        #[cfg(target_arch = "x86_64")]
        let (pairs, bytes) = (wide && avx512_pairs::detected(), wide && avx512_bytes::detected());
        #[cfg(not(target_arch = "x86_64"))]
        let (pairs, bytes) = (false, false);
        Target { pairs, bytes, ..self.kernels().target }
    }

    /// The functions compiled for it. The processor must have it: only [`available`](Isa::available) makes these values
    /// reach a device.
    pub(super) fn kernels(self) -> &'static Kernels {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => &AMX,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &neon::KERNELS,
            Isa::Portable => &portable::KERNELS,
        }
    }
}

/// The numeric code of one instruction set.
///
/// # Safety
/// Each function needs the instruction set, and pointers as its generic original says.
pub(super) struct Kernels {
    /// What the lowering has to know.
    pub target: Target,
    pub vector: unsafe fn(&VectorLoop, *mut u32, &Places<'_>),
    pub dot: unsafe fn(&Dot, *mut u32, &mut Coming),
    pub dot_rows: unsafe fn(&DotRows, &Reader<'_>, *mut u32),
    /// All rows of a reader, so many of this width.
    pub decode: unsafe fn(&Reader<'_>, u32, u32, *mut f32),
    pub load: unsafe fn(&Place<'_>, *mut u32),
    pub store: unsafe fn(&Place<'_>, *const u32),
    pub pack_rows: unsafe fn(&Place<'_>, *mut f32, u32, u32, u32),
    pub pack_transposed: unsafe fn(&Place<'_>, *mut f32, u32, u32, u32),
    pub unpack: unsafe fn(*const u32, *mut u32, u32, u8),
    /// Of bf16 numbers in pairs, where the processor can have an instruction for them.
    pub pairs: Option<&'static Pairs>,
    /// Of codes that are multiplied as bytes, where the processor can have an instruction for them.
    pub dot_bytes: Option<unsafe fn(&DotRows, &Reader<'_>, *mut u32)>,
    /// A chain of fused multiply-adds in registers: how many were done. For measuring the ceiling.
    pub fma_chain: unsafe fn(u64) -> (u64, f32),
}

/// The numeric code of products of pairs.
///
/// # Safety
/// Each function needs the instruction set and its extension for bf16, and pointers as its generic original says.
pub(super) struct Pairs {
    pub dot: unsafe fn(&Dot, *mut u32, &mut Coming),
    pub dot_rows: unsafe fn(&DotRows, &Reader<'_>, *mut u32),
    pub pair: unsafe fn(*const u32, *mut u32, u32, u32),
    pub pack_rows: unsafe fn(&Place<'_>, Panels),
    pub pack_transposed: unsafe fn(&Place<'_>, Panels),
}

/// Products of pairs for AVX-512.
#[cfg(target_arch = "x86_64")]
mod avx512_pairs {
    use super::*;
    use crate::cpu::pairs;

    pub const PAIRS: Pairs = Pairs { dot, dot_rows, pair, pack_rows, pack_transposed };

    pub fn detected() -> bool {
        is_x86_feature_detected!("avx512bf16")
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn dot(dot: &Dot, arena: *mut u32, coming: &mut Coming) {
        // SAFETY: the caller's promise.
        unsafe { gemm::run::<simd::Avx512Pairs>(dot, arena, coming) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn dot_rows(dot: &DotRows, rows: &Reader<'_>, arena: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { stream::run_pairs::<simd::Avx512Pairs>(dot, rows, arena) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn pair(src: *const u32, dst: *mut u32, rows: u32, columns: u32) {
        // SAFETY: the caller's promise.
        unsafe { pairs::pair(src, dst, rows as usize, columns as usize) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn pack_rows(source: &Place<'_>, to: Panels) {
        // SAFETY: the caller's promise.
        unsafe { pairs::pack_rows::<simd::Avx512>(source, to) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    unsafe fn pack_transposed(source: &Place<'_>, to: Panels) {
        // SAFETY: the caller's promise.
        unsafe { pairs::pack_transposed::<simd::Avx512>(source, to) }
    }
}

/// Products of bytes for AVX-512.
#[cfg(target_arch = "x86_64")]
mod avx512_bytes {
    use super::*;
    use crate::cpu::digits;

    pub fn detected() -> bool {
        is_x86_feature_detected!("avx512vnni")
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub unsafe fn dot_bytes(dot: &DotRows, rows: &Reader<'_>, arena: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { digits::run::<simd::Avx512>(dot, rows, arena) }
    }
}

/// AVX-512, with tiles where pairs are multiplied in panels. Processors that have them have a larger first-level cache.
#[cfg(target_arch = "x86_64")]
const AMX: Kernels = Kernels {
    target: Target { block: 8192, ..avx512::KERNELS.target },
    pairs: Some(&Pairs { dot: amx::dot, ..avx512_pairs::PAIRS }),
    ..avx512::KERNELS
};

/// Compiles the numeric code for one instruction set: a module with its table.
macro_rules! kernels {
    ($isa:ident, $simd:ty, panel $panel:literal, block $block:literal, pairs $pairs:expr, bytes $bytes:expr, features [$($feature:tt),*]) => {
        mod $isa {
            use super::*;

            /// Whether the processor has every feature that this module is compiled for.
            #[cfg(target_arch = "x86_64")]
            #[allow(dead_code, reason = "plain Rust needs no feature")]
            pub fn detected() -> bool {
                true $(&& is_x86_feature_detected!($feature))*
            }

            pub const KERNELS: Kernels = Kernels {
                target: Target { panel: $panel, block: $block, lanes: <$simd>::LANES as u32, pairs: false, bytes: false },
                vector: run_vector,
                dot: run_dot,
                dot_rows,
                decode,
                load,
                store,
                pack_rows,
                pack_transposed,
                unpack,
                pairs: $pairs,
                dot_bytes: $bytes,
                fma_chain,
            };

            $(#[target_feature(enable = $feature)])*
            unsafe fn run_vector(vector: &VectorLoop, arena: *mut u32, places: &Places<'_>) {
                // SAFETY: the caller's promise.
                unsafe { vector::run::<$simd>(vector, arena, places) }
            }

            $(#[target_feature(enable = $feature)])*
            unsafe fn run_dot(dot: &Dot, arena: *mut u32, coming: &mut Coming) {
                // SAFETY: the caller's promise.
                unsafe { gemm::run::<$simd>(dot, arena, coming) }
            }

            $(#[target_feature(enable = $feature)])*
            unsafe fn dot_rows(dot: &DotRows, rows: &Reader<'_>, arena: *mut u32) {
                // SAFETY: the caller's promise.
                unsafe { stream::run::<$simd>(dot, rows, arena) }
            }

            $(#[target_feature(enable = $feature)])*
            unsafe fn decode(rows: &Reader<'_>, count: u32, columns: u32, dst: *mut f32) {
                // SAFETY: the caller's promise.
                unsafe { rows.decode::<$simd>(count as usize, columns as usize, dst) }
            }

            $(#[target_feature(enable = $feature)])*
            unsafe fn load(place: &Place<'_>, dst: *mut u32) {
                // SAFETY: the caller's promise.
                unsafe { memory::load::<$simd>(place, dst) }
            }

            $(#[target_feature(enable = $feature)])*
            unsafe fn store(place: &Place<'_>, src: *const u32) {
                // SAFETY: the caller's promise.
                unsafe { memory::store::<$simd>(place, src) }
            }

            $(#[target_feature(enable = $feature)])*
            unsafe fn pack_rows(source: &Place<'_>, dst: *mut f32, k: u32, n: u32, panel: u32) {
                // SAFETY: the caller's promise.
                unsafe { pack::pack_rows::<$simd>(source, dst, k, n, panel) }
            }

            $(#[target_feature(enable = $feature)])*
            unsafe fn pack_transposed(source: &Place<'_>, dst: *mut f32, k: u32, n: u32, panel: u32) {
                // SAFETY: the caller's promise.
                unsafe { pack::pack_transposed::<$simd>(source, dst, k, n, panel) }
            }

            $(#[target_feature(enable = $feature)])*
            unsafe fn unpack(src: *const u32, dst: *mut u32, words: u32, bits: u8) {
                // SAFETY: the caller's promise.
                unsafe { unpack::run(src, dst, words, bits) }
            }

            $(#[target_feature(enable = $feature)])*
            unsafe fn fma_chain(rounds: u64) -> (u64, f32) {
                // SAFETY: the caller's promise.
                unsafe { <$simd>::fma_chain(rounds) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernels!(avx512, simd::Avx512, panel 32, block 4096, pairs Some(&avx512_pairs::PAIRS), bytes Some(avx512_bytes::dot_bytes), features ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c"]);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, simd::Avx2, panel 16, block 1024, pairs None, bytes None, features ["avx2", "fma", "f16c"]);
#[cfg(target_arch = "aarch64")]
kernels!(neon, simd::Neon, panel 16, block 1024, pairs None, bytes None, features ["neon"]);
kernels!(portable, simd::Portable, panel 16, block 1024, pairs None, bytes None, features []);
