//! The Metal Shading Language.

use super::language::{Language, Narrow};
use tilewright_ir::Elem;

pub(super) const MSL: Language = Language {
    infinity: "INFINITY",
    nan: "NAN",
    wide: "long",
    device: "device ",
    shared: "threadgroup ",
    restrict: "",
    make: "",
    barrier: "threadgroup_barrier(mem_flags::mem_threadgroup);",
    functions: &[
        ("fabs", "precise::fabs"),
        ("exp2", "fast::exp2"),
        ("log2", "precise::log2"),
        ("tanh", "precise::tanh"),
        ("rsqrt", "precise::rsqrt"),
        ("rint", "precise::rint"),
        ("trunc", "precise::trunc"),
        ("fmod", "precise::fmod"),
        ("fmax", "precise::fmax"),
        ("fmin", "precise::fmin"),
    ],
    bits: &[
        (Elem::F32, Elem::I32, "as_type<int>"),
        (Elem::F32, Elem::U32, "as_type<unsigned>"),
        (Elem::I32, Elem::F32, "as_type<float>"),
        (Elem::U32, Elem::F32, "as_type<float>"),
    ],
    f16: Narrow { name: "half", up: "float", down: "half" },
    bf16: Narrow { name: "bfloat", up: "float", down: "bfloat" },
    shuffle: "simd_shuffle_xor(",
    alone: None,
    any: "simd_any(",
    program: "group",
    programs: "groups",
    prelude: include_str!("prelude.metal"),
};
