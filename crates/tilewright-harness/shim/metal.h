// The Metal Shading Language as far as rendered kernels use it, for a C++ compiler on the CPU.
#pragma once
#define TILEWRIGHT_SHARED __attribute__((address_space(3)))
#include "warp.h"

#define kernel extern "C"
#define thread
#define device __attribute__((address_space(1)))
#define constant __attribute__((address_space(2))) const
#define threadgroup __attribute__((address_space(3)))

typedef _Float16 half;
typedef __bf16 bfloat;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef __INT8_TYPE__ int8_t;
typedef __UINT8_TYPE__ uint8_t;
typedef __INT16_TYPE__ int16_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __INT32_TYPE__ int32_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT64_TYPE__ uint64_t;
constexpr half operator"" h(long double x) { return (half)x; }
constexpr bfloat operator"" bf(long double x) { return (bfloat)(float)x; }

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define M_LOG2E_F 1.44269504088896340736f
#define M_LN2_F 0.693147180559945309417f

#define TILEWRIGHT_VECTORS(T)                                                                          \
    typedef T T##2 __attribute__((ext_vector_type(2)));                                                \
    typedef T T##3 __attribute__((ext_vector_type(3)));                                                \
    typedef T T##4 __attribute__((ext_vector_type(4)));
TILEWRIGHT_VECTORS(float) TILEWRIGHT_VECTORS(half) TILEWRIGHT_VECTORS(bfloat)
TILEWRIGHT_VECTORS(char) TILEWRIGHT_VECTORS(short) TILEWRIGHT_VECTORS(int) TILEWRIGHT_VECTORS(long)
TILEWRIGHT_VECTORS(uchar) TILEWRIGHT_VECTORS(ushort) TILEWRIGHT_VECTORS(uint) TILEWRIGHT_VECTORS(ulong)
TILEWRIGHT_VECTORS(bool)
#undef TILEWRIGHT_VECTORS

extern "C" {
#define TILEWRIGHT_UNARY(name) float name(float) noexcept;
TILEWRIGHT_UNARY(expf) TILEWRIGHT_UNARY(exp2f) TILEWRIGHT_UNARY(logf) TILEWRIGHT_UNARY(log2f) TILEWRIGHT_UNARY(tanhf)
TILEWRIGHT_UNARY(sinf) TILEWRIGHT_UNARY(cosf) TILEWRIGHT_UNARY(sqrtf) TILEWRIGHT_UNARY(fabsf) TILEWRIGHT_UNARY(floorf)
TILEWRIGHT_UNARY(ceilf) TILEWRIGHT_UNARY(rintf) TILEWRIGHT_UNARY(truncf) TILEWRIGHT_UNARY(roundf)
#undef TILEWRIGHT_UNARY
float fmodf(float, float) noexcept;
float powf(float, float) noexcept;
float fmaxf(float, float) noexcept;
float fminf(float, float) noexcept;
float copysignf(float, float) noexcept;
float fmaf(float, float, float) noexcept;
}

namespace metal {

template <class T, int N> using vec = T __attribute__((ext_vector_type(N)));

// float2(x, y), half4(v), ...: values from scalars and vectors in a row; one scalar fills all.
template <class V> struct tilewright_vector;
template <class T, int N> struct tilewright_vector<T __attribute__((ext_vector_type(N)))> {
    typedef T element;
    static constexpr int size = N;
};
template <class V, class T, int N> TILEWRIGHT_INLINE void tilewright_append(V& to, int& at, vec<T, N> from) {
    for (int i = 0; i < N; i++) to[at++] = (typename tilewright_vector<V>::element)from[i];
}
template <class V, class T> TILEWRIGHT_INLINE void tilewright_append(V& to, int& at, T from) {
    to[at++] = (typename tilewright_vector<V>::element)from;
}
template <class V, class... A> TILEWRIGHT_INLINE V tilewright_make(A... parts) {
    V to = {};
    int at = 0;
    (tilewright_append(to, at, parts), ...);
    for (int i = at; at == 1 && i < tilewright_vector<V>::size; i++) to[i] = to[0];
    return to;
}

template <class To, class From> TILEWRIGHT_INLINE To as_type(From from) {
    static_assert(sizeof(To) == sizeof(From), "as_type keeps the size");
    To to;
    __builtin_memcpy(&to, &from, sizeof(To));
    return to;
}

// Functions of float; half and bfloat round the float result; vectors go element by element.
#define TILEWRIGHT_UNARY(name, of_float)                                                               \
    TILEWRIGHT_INLINE float name(float x) { return of_float; }                                         \
    TILEWRIGHT_INLINE half name(half h) { float x = (float)h; return (half)(of_float); }               \
    TILEWRIGHT_INLINE bfloat name(bfloat b) { float x = (float)b; return (bfloat)(of_float); }         \
    template <class T, int N> TILEWRIGHT_INLINE vec<T, N> name(vec<T, N> v) {                          \
        for (int i = 0; i < N; i++) v[i] = name((T)v[i]);                                              \
        return v;                                                                                      \
    }
namespace precise {
TILEWRIGHT_UNARY(exp, ::expf(x)) TILEWRIGHT_UNARY(exp2, ::exp2f(x)) TILEWRIGHT_UNARY(log, ::logf(x))
TILEWRIGHT_UNARY(log2, ::log2f(x)) TILEWRIGHT_UNARY(tanh, ::tanhf(x)) TILEWRIGHT_UNARY(sin, ::sinf(x))
TILEWRIGHT_UNARY(cos, ::cosf(x)) TILEWRIGHT_UNARY(sqrt, ::sqrtf(x)) TILEWRIGHT_UNARY(rsqrt, 1.0f / ::sqrtf(x))
TILEWRIGHT_UNARY(fabs, ::fabsf(x)) TILEWRIGHT_UNARY(floor, ::floorf(x)) TILEWRIGHT_UNARY(ceil, ::ceilf(x))
TILEWRIGHT_UNARY(rint, ::rintf(x)) TILEWRIGHT_UNARY(trunc, ::truncf(x)) TILEWRIGHT_UNARY(round, ::roundf(x))
TILEWRIGHT_INLINE float fmax(float a, float b) { return ::fmaxf(a, b); }
TILEWRIGHT_INLINE float fmin(float a, float b) { return ::fminf(a, b); }
TILEWRIGHT_INLINE float fmod(float a, float b) { return ::fmodf(a, b); }
TILEWRIGHT_INLINE float pow(float a, float b) { return ::powf(a, b); }
TILEWRIGHT_INLINE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
TILEWRIGHT_INLINE float divide(float a, float b) { return a / b; }
}
#undef TILEWRIGHT_UNARY
namespace fast = precise;
using namespace precise;

TILEWRIGHT_INLINE float copysign(float a, float b) { return ::copysignf(a, b); }
TILEWRIGHT_INLINE bool isnan(float x) { return x != x; }
TILEWRIGHT_INLINE bool isinf(float x) { return ::fabsf(x) == INFINITY; }
TILEWRIGHT_INLINE bool isfinite(float x) { return ::fabsf(x) < INFINITY; }
TILEWRIGHT_INLINE int abs(int x) { return x < 0 ? (int)(0u - (uint)x) : x; }
#define TILEWRIGHT_MINMAX(T)                                                                           \
    TILEWRIGHT_INLINE T min(T a, T b) { return b < a ? b : a; }                                        \
    TILEWRIGHT_INLINE T max(T a, T b) { return a < b ? b : a; }
TILEWRIGHT_MINMAX(char) TILEWRIGHT_MINMAX(short) TILEWRIGHT_MINMAX(int) TILEWRIGHT_MINMAX(long)
TILEWRIGHT_MINMAX(uchar) TILEWRIGHT_MINMAX(ushort) TILEWRIGHT_MINMAX(uint) TILEWRIGHT_MINMAX(ulong)
#undef TILEWRIGHT_MINMAX
// A NaN gives way to the other operand.
TILEWRIGHT_INLINE float min(float a, float b) { return ::fminf(a, b); }
TILEWRIGHT_INLINE float max(float a, float b) { return ::fmaxf(a, b); }
TILEWRIGHT_INLINE half min(half a, half b) { return (half)::fminf((float)a, (float)b); }
TILEWRIGHT_INLINE half max(half a, half b) { return (half)::fmaxf((float)a, (float)b); }
template <class T> TILEWRIGHT_INLINE T clamp(T x, T low, T high) { return min(max(x, low), high); }
template <class T> TILEWRIGHT_INLINE T select(T no, T yes, bool which) { return which ? yes : no; }

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
TILEWRIGHT_INLINE constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags((uint)a | (uint)b); }
#define threadgroup_barrier(flags) ((void)(flags), tilewright_block_barrier())
#define simdgroup_barrier(flags) ((void)(flags), tilewright_warp_barrier())

template <class T> TILEWRIGHT_INLINE T simd_shuffle(T value, ushort lane) {
    return tilewright_shuffle_value(value, lane & 31);
}
template <class T> TILEWRIGHT_INLINE T simd_broadcast(T value, ushort lane) { return simd_shuffle(value, lane); }
template <class T> TILEWRIGHT_INLINE T simd_shuffle_xor(T value, ushort mask) {
    return tilewright_shuffle_value(value, (tilewright_thread ^ mask) & 31);
}
// Whether a condition holds in any lane.
TILEWRIGHT_INLINE bool simd_any(bool value) {
    int any = value;
    for (ushort mask = 1; mask < 32; mask *= 2) any |= tilewright_shuffle_value(any, (tilewright_thread ^ mask) & 31);
    return any != 0;
}
template <class T> TILEWRIGHT_INLINE T simd_shuffle_down(T value, ushort by) {
    uint lane = tilewright_thread & 31;
    return tilewright_shuffle_value(value, lane + by < 32 ? lane + by : lane);
}
template <class T> TILEWRIGHT_INLINE T simd_shuffle_up(T value, ushort by) {
    uint lane = tilewright_thread & 31;
    return tilewright_shuffle_value(value, lane >= by ? lane - by : lane);
}

// Lane l holds two neighbours of row(l), from column(l) on.
template <class T, int rows, int columns> struct simdgroup_matrix {
    static_assert(rows == 8 && columns == 8, "simdgroup matrices are 8x8");
    vec<T, 2> elements;
    simdgroup_matrix() = default;
    TILEWRIGHT_INLINE explicit simdgroup_matrix(T diagonal) {
        for (uint i = 0; i < 2; i++) elements[i] = row() == column() + i ? diagonal : (T)0;
    }
    TILEWRIGHT_INLINE vec<T, 2>& thread_elements() { return elements; }
    TILEWRIGHT_INLINE const vec<T, 2>& thread_elements() const { return elements; }
    static TILEWRIGHT_INLINE uint row() { return (tilewright_thread >> 4 & 1) * 4 + (tilewright_thread >> 1 & 3); }
    static TILEWRIGHT_INLINE uint column() { return (tilewright_thread >> 3 & 1) * 4 + (tilewright_thread & 1) * 2; }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int rows, int columns> TILEWRIGHT_INLINE simdgroup_matrix<T, rows, columns> make_filled_simdgroup_matrix(T value) {
    simdgroup_matrix<T, rows, columns> matrix;
    matrix.elements = value;
    return matrix;
}
template <class T, class P> TILEWRIGHT_INLINE void simdgroup_load(
    simdgroup_matrix<T, 8, 8>& to, P from, ulong row_elements = 8, ulong2 origin = ulong2{0, 0}, bool transposed = false) {
    ulong row = to.row(), column = to.column();
    for (ulong i = 0; i < 2; i++) {
        ulong down = transposed ? column + i : row, along = transposed ? row : column + i;
        to.elements[i] = from[(origin.y + down) * row_elements + origin.x + along];
    }
}
template <class T, class P> TILEWRIGHT_INLINE void simdgroup_store(
    simdgroup_matrix<T, 8, 8> from, P to, ulong row_elements = 8, ulong2 origin = ulong2{0, 0}, bool transposed = false) {
    ulong row = from.row(), column = from.column();
    for (ulong i = 0; i < 2; i++) {
        ulong down = transposed ? column + i : row, along = transposed ? row : column + i;
        to[(origin.y + down) * row_elements + origin.x + along] = from.elements[i];
    }
}
template <class D, class A, class B, class C> TILEWRIGHT_INLINE void simdgroup_multiply_accumulate(
    simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c) {
    TilewrightMultiply record;
    for (int i = 0; i < 2; i++) {
        record.a[i] = (float)a.elements[i];
        record.b[i] = (float)b.elements[i];
        record.c[i] = (float)c.elements[i];
    }
    tilewright_warp(tilewright_multiply, &record);
    for (int i = 0; i < 2; i++) d.elements[i] = (D)record.d[i];
}
template <class D, class A, class B> TILEWRIGHT_INLINE void simdgroup_multiply(
    simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b) {
    simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8, 8>((D)0));
}

}

#define float2(...) metal::tilewright_make<::float2>(__VA_ARGS__)
#define float3(...) metal::tilewright_make<::float3>(__VA_ARGS__)
#define float4(...) metal::tilewright_make<::float4>(__VA_ARGS__)
#define half2(...) metal::tilewright_make<::half2>(__VA_ARGS__)
#define half4(...) metal::tilewright_make<::half4>(__VA_ARGS__)
#define bfloat2(...) metal::tilewright_make<::bfloat2>(__VA_ARGS__)
#define bfloat4(...) metal::tilewright_make<::bfloat4>(__VA_ARGS__)
#define int2(...) metal::tilewright_make<::int2>(__VA_ARGS__)
#define int4(...) metal::tilewright_make<::int4>(__VA_ARGS__)
#define uint2(...) metal::tilewright_make<::uint2>(__VA_ARGS__)
#define uint3(...) metal::tilewright_make<::uint3>(__VA_ARGS__)
#define uint4(...) metal::tilewright_make<::uint4>(__VA_ARGS__)
#define ulong2(...) metal::tilewright_make<::ulong2>(__VA_ARGS__)

// Metal has no double.
#pragma GCC poison double
