// CUDA C++ as far as rendered kernels use it, for a C++ compiler on the CPU.
#pragma once
#include "warp.h"

#define __global__
#define __device__
#define __constant__ const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// An attribute that no local variable can have: shared memory that is not `extern` must not become a thread's own.
#define __shared__ __attribute__((section("tilewright_shared")))

// Not compiled for a device: `#if __CUDA_ARCH__ >= 900` is false.
#define __CUDA_ARCH__ 800

#define blockIdx tilewright_block
#define gridDim tilewright_grid
#define threadIdx (TilewrightIndex{tilewright_thread, 0, 0})
#define blockDim (TilewrightIndex{tilewright_threads, 1, 1})

#define TILEWRIGHT_VECTORS(T, name, align2, align4)                                                    \
    struct __align__(align2) name##2 { T x, y; };                                                      \
    struct __align__(align4) name##4 { T x, y, z, w; };                                                \
    TILEWRIGHT_INLINE name##2 make_##name##2(T x, T y) { return {x, y}; }                              \
    TILEWRIGHT_INLINE name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
TILEWRIGHT_VECTORS(float, float, 8, 16)
TILEWRIGHT_VECTORS(int, int, 8, 16)
TILEWRIGHT_VECTORS(unsigned, uint, 8, 16)
TILEWRIGHT_VECTORS(short, short, 4, 8)
TILEWRIGHT_VECTORS(unsigned short, ushort, 4, 8)
TILEWRIGHT_VECTORS(signed char, char, 2, 4)
TILEWRIGHT_VECTORS(unsigned char, uchar, 2, 4)
#undef TILEWRIGHT_VECTORS

template <class To, class From> TILEWRIGHT_INLINE To tilewright_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    __builtin_memcpy(&to, &from, sizeof(To));
    return to;
}
TILEWRIGHT_INLINE unsigned __float_as_uint(float x) { return tilewright_bits<unsigned>(x); }
TILEWRIGHT_INLINE int __float_as_int(float x) { return tilewright_bits<int>(x); }
TILEWRIGHT_INLINE float __uint_as_float(unsigned x) { return tilewright_bits<float>(x); }
TILEWRIGHT_INLINE float __int_as_float(int x) { return tilewright_bits<float>(x); }

// Half precision. As in CUDA they convert to and from float by themselves.
struct __half {
    _Float16 value;
    __half() = default;
    TILEWRIGHT_INLINE __half(float x) : value((_Float16)x) {}
    TILEWRIGHT_INLINE operator float() const { return (float)value; }
};
struct __align__(4) __half2 { __half x, y; };
TILEWRIGHT_INLINE float __half2float(__half x) { return (float)x.value; }
TILEWRIGHT_INLINE __half __float2half_rn(float x) { return __half(x); }
TILEWRIGHT_INLINE __half __float2half(float x) { return __half(x); }
TILEWRIGHT_INLINE unsigned short __half_as_ushort(__half x) { return tilewright_bits<unsigned short>(x.value); }
TILEWRIGHT_INLINE __half __ushort_as_half(unsigned short bits) {
    __half x;
    x.value = tilewright_bits<_Float16>(bits);
    return x;
}
TILEWRIGHT_INLINE __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
TILEWRIGHT_INLINE float2 __half22float2(__half2 x) { return {(float)x.x, (float)x.y}; }

struct __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    TILEWRIGHT_INLINE __nv_bfloat16(float x) {
        unsigned word = __float_as_uint(x);
        unsigned even = word + 0x7fffu + (word >> 16 & 1u); // to nearest, ties to even
        bits = (word & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (unsigned short)(even >> 16);
    }
    TILEWRIGHT_INLINE operator float() const { return __uint_as_float((unsigned)bits << 16); }
};
struct __align__(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
TILEWRIGHT_INLINE float __bfloat162float(__nv_bfloat16 x) { return (float)x; }
TILEWRIGHT_INLINE __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
TILEWRIGHT_INLINE __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
TILEWRIGHT_INLINE unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
TILEWRIGHT_INLINE __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
    __nv_bfloat16 x;
    x.bits = bits;
    return x;
}
TILEWRIGHT_INLINE __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
TILEWRIGHT_INLINE float2 __bfloat1622float2(__nv_bfloat162 x) { return {(float)x.x, (float)x.y}; }

// Mathematics of the C library.
extern "C" {
#define TILEWRIGHT_UNARY(name) float name(float) noexcept;
TILEWRIGHT_UNARY(expf) TILEWRIGHT_UNARY(exp2f) TILEWRIGHT_UNARY(logf) TILEWRIGHT_UNARY(log2f) TILEWRIGHT_UNARY(tanhf)
TILEWRIGHT_UNARY(sinf) TILEWRIGHT_UNARY(cosf) TILEWRIGHT_UNARY(erff) TILEWRIGHT_UNARY(log1pf) TILEWRIGHT_UNARY(expm1f)
TILEWRIGHT_UNARY(sqrtf) TILEWRIGHT_UNARY(fabsf) TILEWRIGHT_UNARY(floorf) TILEWRIGHT_UNARY(ceilf)
TILEWRIGHT_UNARY(rintf) TILEWRIGHT_UNARY(truncf) TILEWRIGHT_UNARY(roundf)
#undef TILEWRIGHT_UNARY
float fmodf(float, float) noexcept;
float powf(float, float) noexcept;
float fmaxf(float, float) noexcept;
float fminf(float, float) noexcept;
float copysignf(float, float) noexcept;
float fmaf(float, float, float) noexcept;
}
TILEWRIGHT_INLINE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
TILEWRIGHT_INLINE float __frcp_rn(float x) { return 1.0f / x; }
TILEWRIGHT_INLINE float __fdiv_rn(float a, float b) { return a / b; }
TILEWRIGHT_INLINE float __fdividef(float a, float b) { return a / b; }
TILEWRIGHT_INLINE float __fadd_rn(float a, float b) { return a + b; }
TILEWRIGHT_INLINE float __fsub_rn(float a, float b) { return a - b; }
TILEWRIGHT_INLINE float __fmul_rn(float a, float b) { return a * b; }
TILEWRIGHT_INLINE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
TILEWRIGHT_INLINE float __fsqrt_rn(float x) { return sqrtf(x); }
TILEWRIGHT_INLINE bool isnan(float x) { return x != x; }
TILEWRIGHT_INLINE bool isinf(float x) { return fabsf(x) == __builtin_inff(); }
#define TILEWRIGHT_MINMAX(T)                                                                           \
    TILEWRIGHT_INLINE T min(T a, T b) { return b < a ? b : a; }                                        \
    TILEWRIGHT_INLINE T max(T a, T b) { return a < b ? b : a; }
TILEWRIGHT_MINMAX(int)
TILEWRIGHT_MINMAX(unsigned)
TILEWRIGHT_MINMAX(long long)
TILEWRIGHT_MINMAX(unsigned long long)
#undef TILEWRIGHT_MINMAX
TILEWRIGHT_INLINE float min(float a, float b) { return fminf(a, b); }
TILEWRIGHT_INLINE float max(float a, float b) { return fmaxf(a, b); }
TILEWRIGHT_INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
TILEWRIGHT_INLINE int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }

template <class T> TILEWRIGHT_INLINE T __ldg(const T* from) { return *from; }

#define __syncthreads() tilewright_block_barrier()
#define __syncwarp(...) tilewright_warp_barrier()

// Shuffles of whole warps; a lane outside the warp gets its own value.
template <class T> TILEWRIGHT_INLINE T __shfl_sync(unsigned, T value, int source) {
    return tilewright_shuffle_value(value, (unsigned)source & 31);
}
template <class T> TILEWRIGHT_INLINE T __shfl_xor_sync(unsigned, T value, int mask) {
    return tilewright_shuffle_value(value, (tilewright_thread ^ (unsigned)mask) & 31);
}
// Whether a condition holds in any lane.
TILEWRIGHT_INLINE bool __any_sync(unsigned, bool value) {
    int any = value;
    for (int mask = 1; mask < 32; mask *= 2) any |= tilewright_shuffle_value(any, (tilewright_thread ^ (unsigned)mask) & 31);
    return any != 0;
}
template <class T> TILEWRIGHT_INLINE T __shfl_down_sync(unsigned, T value, unsigned by) {
    unsigned lane = tilewright_thread & 31;
    return tilewright_shuffle_value(value, lane + by < 32 ? lane + by : lane);
}
template <class T> TILEWRIGHT_INLINE T __shfl_up_sync(unsigned, T value, unsigned by) {
    unsigned lane = tilewright_thread & 31;
    return tilewright_shuffle_value(value, lane >= by ? lane - by : lane);
}

// The functions that stand for inline assembly in a rendered kernel.
TILEWRIGHT_INLINE void mma_m16n8k16_bf16(float* c, const unsigned* a, const unsigned* b) {
    TilewrightMma record = {c, a, b};
    tilewright_warp(tilewright_mma_bf16, &record);
}
TILEWRIGHT_INLINE void mma_m16n8k16_f16(float* c, const unsigned* a, const unsigned* b) {
    TilewrightMma record = {c, a, b};
    tilewright_warp(tilewright_mma_f16, &record);
}
#define ldmatrix_x4(registers, row) tilewright_ldmatrix(registers, row, 4, false)
#define ldmatrix_x4_trans(registers, row) tilewright_ldmatrix(registers, row, 4, true)
#define ldmatrix_x2(registers, row) tilewright_ldmatrix(registers, row, 2, false)
#define ldmatrix_x2_trans(registers, row) tilewright_ldmatrix(registers, row, 2, true)
TILEWRIGHT_INLINE void cp_async_16(void* to, const void* from, bool valid) { tilewright_copy(to, from, 16, valid); }
TILEWRIGHT_INLINE void cp_async_8(void* to, const void* from, bool valid) { tilewright_copy(to, from, 8, valid); }
TILEWRIGHT_INLINE void cp_async_4(void* to, const void* from, bool valid) { tilewright_copy(to, from, 4, valid); }
TILEWRIGHT_INLINE void cp_async_commit() { tilewright_copy_commit(); }
template <int groups_left> TILEWRIGHT_INLINE void cp_async_wait() { tilewright_copy_wait(groups_left); }

// How the runtime calls the kernel: pointers first, the struct last.
template <int... I> struct TilewrightSequence {};
template <class, int... I> using TilewrightSequenceOf = TilewrightSequence<I...>;
template <class P> struct TilewrightParam {
    static const P& get(void* const*, int, const void* args) { return *(const P*)args; }
    static constexpr int pointers = 0;
};
template <class T> struct TilewrightParam<T*> {
    static T* get(void* const* pointers, int index, const void*) { return (T*)pointers[index]; }
    static constexpr int pointers = 1;
};
template <int count, class... P> TILEWRIGHT_INLINE void tilewright_call(void (*kernel)(P...), void* const* pointers, const void* args) {
    static_assert((TilewrightParam<P>::pointers + ... + 0) == count, "the kernel has another number of pointers than its source says");
    [&]<int... I>(TilewrightSequence<I...>) {
        kernel(TilewrightParam<P>::get(pointers, I, args)...);
    }(__make_integer_seq<TilewrightSequenceOf, int, sizeof...(P)>());
}
