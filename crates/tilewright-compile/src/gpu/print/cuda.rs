//! CUDA C++ for NVRTC.

use super::language::{Language, Narrow};
use tilewright_ir::Elem;

pub(super) const CUDA: Language = Language {
    infinity: "infinity()",
    nan: "not_a_number()",
    wide: "long long",
    device: "",
    shared: "",
    restrict: "__restrict__ ",
    make: "make_",
    barrier: "__syncthreads();",
    functions: &[
        ("fabs", "fabsf"),
        ("exp2", "exp2_fast"),
        ("log2", "log2f"),
        ("tanh", "tanhf"),
        ("rsqrt", "rsqrtf"),
        ("rint", "rintf"),
        ("trunc", "truncf"),
        ("fmod", "fmodf"),
        ("fmax", "fmaxf"),
        ("fmin", "fminf"),
        ("fma", "fmaf"),
    ],
    bits: &[
        (Elem::F32, Elem::I32, "__float_as_int"),
        (Elem::F32, Elem::U32, "__float_as_uint"),
        (Elem::I32, Elem::F32, "__int_as_float"),
        (Elem::U32, Elem::F32, "__uint_as_float"),
    ],
    f16: Narrow { name: "__half", up: "__half2float", down: "__float2half" },
    bf16: Narrow { name: "__nv_bfloat16", up: "__bfloat162float", down: "__float2bfloat16" },
    shuffle: "__shfl_xor_sync(0xffffffffu, ",
    alone: Some(["__fmul_rn", "__fadd_rn", "__fsub_rn"]),
    any: "__any_sync(0xffffffffu, ",
    program: "blockIdx",
    programs: "gridDim",
    prelude: include_str!("prelude.cu"),
};
