//: tanh_coarse
// Within 2^-17 of itself: the first two terms near 0, else 1 - 2 / (1 + e^2x), whose power stays finite.
inline float tanh_coarse(float x) {
    const float near = fma(x * x, x * -0.333333343f, x);
    const float power = fast::exp2(precise::fmin(x * 2.88539004f, 126.0f));
    const float far = x != x ? x : 1.0f - 2.0f / (1.0f + power);
    return precise::fabs(x) < 0.0625f ? near : far;
}
//: tanh_near_up_to
// Of which numbers tanh_near is one.
inline float tanh_near_up_to() { return 0.625f; }
//: tanh_near
// Within 2^-17 of itself up to 0.625: a polynomial.
inline float tanh_near(float x) {
    const float square = x * x;
    return fma(x * square, fma(fma(-0.0405147374f, square, 0.130482763f), square, -0.333155125f), x);
}
//: add_i32
inline int add_i32(int a, int b) { return (int)((unsigned)a + (unsigned)b); }
//: sub_i32
inline int sub_i32(int a, int b) { return (int)((unsigned)a - (unsigned)b); }
//: mul_i32
inline int mul_i32(int a, int b) { return (int)((unsigned)a * (unsigned)b); }
//: abs_i32
inline int abs_i32(int a) { return a < 0 ? (int)(0u - (unsigned)a) : a; }
//: div_i32
inline int div_i32(int a, int b) {
    return b == 0 ? 0 : b == -1 ? (int)(0u - (unsigned)a) : a / b;
}
//: rem_i32
inline int rem_i32(int a, int b) { return b == 0 || b == -1 ? 0 : a % b; }
//: div_u32
inline unsigned div_u32(unsigned a, unsigned b) { return b == 0u ? 0u : a / b; }
//: rem_u32
inline unsigned rem_u32(unsigned a, unsigned b) { return b == 0u ? 0u : a % b; }
//: to_i32
// Towards zero; saturates, and NaN becomes 0.
inline int to_i32(float x) {
    return x != x ? 0 : x >= 2147483648.0f ? 2147483647 : x < -2147483648.0f ? -2147483647 - 1 : (int)x;
}
//: to_u32
inline unsigned to_u32(float x) {
    return !(x > 0.0f) ? 0u : x >= 4294967296.0f ? 4294967295u : (unsigned)x;
}
//: to_i8
inline int to_i8(float x) { return x != x ? 0 : (int)precise::fmin(precise::fmax(x, -128.0f), 127.0f); }
//: to_u8
inline unsigned to_u8(float x) { return !(x > 0.0f) ? 0u : (unsigned)precise::fmin(x, 255.0f); }
//: round_f16
inline float round_f16(float x) { return float(half(x)); }
//: round_bf16
inline float round_bf16(float x) { return float(bfloat(x)); }
//: low_f16
inline float low_f16(unsigned word) { return float(as_type<half>((ushort)word)); }
//: high_f16
inline float high_f16(unsigned word) { return float(as_type<half>((ushort)(word >> 16))); }
//: low_bf16
inline float low_bf16(unsigned word) { return as_type<float>(word << 16); }
//: high_bf16
inline float high_bf16(unsigned word) { return as_type<float>(word & 0xffff0000u); }
//: pack_f16
inline unsigned pack_f16(float low, float high) {
    return (unsigned)as_type<ushort>(half(low)) | (unsigned)as_type<ushort>(half(high)) << 16;
}
//: pack_bf16
inline unsigned pack_bf16(float low, float high) {
    return (unsigned)as_type<ushort>(bfloat(low)) | (unsigned)as_type<ushort>(bfloat(high)) << 16;
}
//: pack_8
inline unsigned pack_8(unsigned a, unsigned b, unsigned c, unsigned d) {
    return (a & 0xffu) | (b & 0xffu) << 8 | (c & 0xffu) << 16 | d << 24;
}
//: copy_16
// 16 bytes to threadgroup memory; zeros where not valid, and then the source is not read.
inline void copy_16(threadgroup void* to, device const void* from, bool valid) {
    *(threadgroup uint4*)to = valid ? *(device const uint4*)from : uint4(0u);
}
//: multiply_8x8
// sum += a * b, of 8 by 8. Lane l holds two neighbours of row l / 16 * 4 + l / 2 % 4, from column l / 8 % 2 * 4 + l % 2 * 2.
template <typename T>
inline void multiply_8x8(thread float* sum, vec<T, 2> left, vec<T, 2> right) {
    simdgroup_matrix<T, 8, 8> a, b;
    simdgroup_matrix<float, 8, 8> c;
    a.thread_elements()[0] = left.x;
    a.thread_elements()[1] = left.y;
    b.thread_elements()[0] = right.x;
    b.thread_elements()[1] = right.y;
    c.thread_elements()[0] = sum[0];
    c.thread_elements()[1] = sum[1];
    simdgroup_multiply_accumulate(c, a, b, c);
    sum[0] = c.thread_elements()[0];
    sum[1] = c.thread_elements()[1];
}
