//: infinity
__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }
//: not_a_number
__device__ __forceinline__ float not_a_number() { return __int_as_float(0x7fc00000); }
//: exp2_fast
// 2 to the power of x, within 2 units in the last place.
__device__ __forceinline__ float exp2_fast(float x) {
#ifdef TILEWRIGHT_HARNESS
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}
//: tanh_coarse
// Within 2^-17 of itself: the first two terms near 0, else 1 - 2 / (1 + e^2x).
__device__ __forceinline__ float tanh_coarse(float x) {
    const float near = fmaf(x * x, x * -0.333333343f, x), power = exp2_fast(x * 2.88539004f) + 1.0f;
#ifdef TILEWRIGHT_HARNESS
    const float part = 1.0f / power;
#else
    float part;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(part) : "f"(power));
#endif
    return fabsf(x) < 0.0625f ? near : fmaf(-2.0f, part, 1.0f);
}
//: tanh_near_up_to
// Of which numbers tanh_near is one.
__device__ __forceinline__ float tanh_near_up_to() { return 0.625f; }
//: tanh_near
// Within 2^-17 of itself up to 0.625: a polynomial.
__device__ __forceinline__ float tanh_near(float x) {
    const float square = x * x;
    return fmaf(x * square, fmaf(fmaf(-0.0405147374f, square, 0.130482763f), square, -0.333155125f), x);
}
//: add_i32
__device__ __forceinline__ int add_i32(int a, int b) { return (int)((unsigned)a + (unsigned)b); }
//: sub_i32
__device__ __forceinline__ int sub_i32(int a, int b) { return (int)((unsigned)a - (unsigned)b); }
//: mul_i32
__device__ __forceinline__ int mul_i32(int a, int b) { return (int)((unsigned)a * (unsigned)b); }
//: abs_i32
__device__ __forceinline__ int abs_i32(int a) { return a < 0 ? (int)(0u - (unsigned)a) : a; }
//: div_i32
__device__ __forceinline__ int div_i32(int a, int b) {
    return b == 0 ? 0 : b == -1 ? (int)(0u - (unsigned)a) : a / b;
}
//: rem_i32
__device__ __forceinline__ int rem_i32(int a, int b) { return b == 0 || b == -1 ? 0 : a % b; }
//: div_u32
__device__ __forceinline__ unsigned div_u32(unsigned a, unsigned b) { return b == 0u ? 0u : a / b; }
//: rem_u32
__device__ __forceinline__ unsigned rem_u32(unsigned a, unsigned b) { return b == 0u ? 0u : a % b; }
//: to_i32
// Towards zero; saturates, and NaN becomes 0.
__device__ __forceinline__ int to_i32(float x) {
    return x != x ? 0 : x >= 2147483648.0f ? 2147483647 : x < -2147483648.0f ? -2147483647 - 1 : (int)x;
}
//: to_u32
__device__ __forceinline__ unsigned to_u32(float x) {
    return !(x > 0.0f) ? 0u : x >= 4294967296.0f ? 4294967295u : (unsigned)x;
}
//: to_i8
__device__ __forceinline__ int to_i8(float x) { return x != x ? 0 : (int)fminf(fmaxf(x, -128.0f), 127.0f); }
//: to_u8
__device__ __forceinline__ unsigned to_u8(float x) { return !(x > 0.0f) ? 0u : (unsigned)fminf(x, 255.0f); }
//: round_f16
__device__ __forceinline__ float round_f16(float x) { return __half2float(__float2half(x)); }
//: round_bf16
__device__ __forceinline__ float round_bf16(float x) { return __bfloat162float(__float2bfloat16(x)); }
//: low_f16
__device__ __forceinline__ float low_f16(unsigned word) { return __half2float(__ushort_as_half((unsigned short)word)); }
//: high_f16
__device__ __forceinline__ float high_f16(unsigned word) {
    return __half2float(__ushort_as_half((unsigned short)(word >> 16)));
}
//: low_bf16
__device__ __forceinline__ float low_bf16(unsigned word) { return __uint_as_float(word << 16); }
//: high_bf16
__device__ __forceinline__ float high_bf16(unsigned word) { return __uint_as_float(word & 0xffff0000u); }
//: pack_f16
__device__ __forceinline__ unsigned pack_f16(float low, float high) {
#ifdef TILEWRIGHT_HARNESS
    return (unsigned)__half_as_ushort(__float2half(low)) | (unsigned)__half_as_ushort(__float2half(high)) << 16;
#else
    unsigned word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
#endif
}
//: pack_bf16
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
#ifdef TILEWRIGHT_HARNESS
    return (unsigned)__bfloat16_as_ushort(__float2bfloat16(low)) |
           (unsigned)__bfloat16_as_ushort(__float2bfloat16(high)) << 16;
#else
    unsigned word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
#endif
}
//: pack_8
__device__ __forceinline__ unsigned pack_8(unsigned a, unsigned b, unsigned c, unsigned d) {
    return (a & 0xffu) | (b & 0xffu) << 8 | (c & 0xffu) << 16 | d << 24;
}
//: shared_address
#ifndef TILEWRIGHT_HARNESS
__device__ __forceinline__ unsigned shared_address(const void* at) { return (unsigned)__cvta_generic_to_shared(at); }
#endif
//: ldmatrix_x4
// Four 8x8 matrices of 16-bit elements; lanes 8i to 8i + 7 give the rows of matrix i.
#ifndef TILEWRIGHT_HARNESS
__device__ __forceinline__ void ldmatrix_x4(unsigned* r, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
#endif
//: ldmatrix_x4_trans
#ifndef TILEWRIGHT_HARNESS
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned* r, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
#endif
//: ldmatrix_x2
#ifndef TILEWRIGHT_HARNESS
__device__ __forceinline__ void ldmatrix_x2(unsigned* r, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
#endif
//: ldmatrix_x2_trans
#ifndef TILEWRIGHT_HARNESS
__device__ __forceinline__ void ldmatrix_x2_trans(unsigned* r, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
#endif
//: mma_m16n8k16_f16
// c += a * b.
#ifndef TILEWRIGHT_HARNESS
__device__ __forceinline__ void mma_m16n8k16_f16(float* c, const unsigned* a, const unsigned* b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
//: mma_m16n8k16_bf16
// c += a * b.
#ifndef TILEWRIGHT_HARNESS
__device__ __forceinline__ void mma_m16n8k16_bf16(float* c, const unsigned* a, const unsigned* b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
//: cp_async_16
// 16 bytes to shared memory, asynchronously; zeros where not valid, and then the source is not read.
#ifndef TILEWRIGHT_HARNESS
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :: "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0) : "memory");
}
#endif
//: cp_async_commit
#ifndef TILEWRIGHT_HARNESS
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
#endif
//: cp_async_wait
// Waits until at most N groups of this thread's copies are under way.
#ifndef TILEWRIGHT_HARNESS
template <int N> __device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}
#endif
//: cp_async_4
// The same of 4 bytes.
#ifndef TILEWRIGHT_HARNESS
__device__ __forceinline__ void cp_async_4(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :: "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(valid ? 4 : 0) : "memory");
}
#endif
//: pair_low
// The low 16 bits of two words.
__device__ __forceinline__ unsigned pair_low(unsigned a, unsigned b) {
#ifdef TILEWRIGHT_HARNESS
    return (a & 0xffffu) | b << 16;
#else
    return __byte_perm(a, b, 0x5410);
#endif
}
//: pair_high
// The high 16 bits of two words.
__device__ __forceinline__ unsigned pair_high(unsigned a, unsigned b) {
#ifdef TILEWRIGHT_HARNESS
    return a >> 16 | (b & 0xffff0000u);
#else
    return __byte_perm(a, b, 0x7632);
#endif
}
//: twice
// The low 16 bits, twice.
__device__ __forceinline__ unsigned twice(unsigned x) { return pair_low(x, x); }
//: masked_or
// (x & mask) | bits, in one instruction.
__device__ __forceinline__ unsigned masked_or(unsigned x, unsigned mask, unsigned bits) {
#ifdef TILEWRIGHT_HARNESS
    return (x & mask) | bits;
#else
    unsigned word;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(word) : "r"(x), "r"(mask), "r"(bits));
    return word;
#endif
}
//: masked_xor
// (x & mask) ^ bits, in one instruction.
__device__ __forceinline__ unsigned masked_xor(unsigned x, unsigned mask, unsigned bits) {
#ifdef TILEWRIGHT_HARNESS
    return (x & mask) ^ bits;
#else
    unsigned word;
    asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(word) : "r"(x), "r"(mask), "r"(bits));
    return word;
#endif
}
//: fma_f16x2
// a * b + c of two numbers, rounded once.
__device__ __forceinline__ unsigned fma_f16x2(unsigned a, unsigned b, unsigned c) {
#ifdef TILEWRIGHT_HARNESS
    return pack_f16(fmaf(low_f16(a), low_f16(b), low_f16(c)), fmaf(high_f16(a), high_f16(b), high_f16(c)));
#else
    unsigned word;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(word) : "r"(a), "r"(b), "r"(c));
    return word;
#endif
}
//: fma_bf16x2
// a * b + c of two numbers, rounded once.
__device__ __forceinline__ unsigned fma_bf16x2(unsigned a, unsigned b, unsigned c) {
#ifdef TILEWRIGHT_HARNESS
    return pack_bf16(fmaf(low_bf16(a), low_bf16(b), low_bf16(c)), fmaf(high_bf16(a), high_bf16(b), high_bf16(c)));
#else
    unsigned word;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(word) : "r"(a), "r"(b), "r"(c));
    return word;
#endif
}
//: offset_4_bf16
// What takes away the 128 of number_4_bf16 once it is multiplied by the scale.
__device__ __forceinline__ unsigned offset_4_bf16(unsigned scale) { return fma_bf16x2(scale, 0xc300c300u, 0x80008000u); }
//: offset_8_bf16
// The 128 that number_8_bf16 lacks, multiplied by the scale.
__device__ __forceinline__ unsigned offset_8_bf16(unsigned scale) { return fma_bf16x2(scale, 0x43004300u, 0x80008000u); }
//: offset_4_f16
// -1024.
__device__ __forceinline__ unsigned offset_4_f16(unsigned) { return 0xe400e400u; }
//: offset_8_f16
// -1024.
__device__ __forceinline__ unsigned offset_8_f16(unsigned) { return 0xe400e400u; }
//: code_4_bf16
// 128 and the codes in bits 0 to 3 and 16 to 19.
__device__ __forceinline__ unsigned code_4_bf16(unsigned codes) { return masked_or(codes, 0x000f000fu, 0x43004300u); }
//: near_code_4_bf16
// 16 and the codes in bits 3 to 6 and 19 to 22: less is lost when they are taken away from a sum.
__device__ __forceinline__ unsigned near_code_4_bf16(unsigned codes) { return masked_or(codes, 0x00780078u, 0x41804180u); }
//: code_8_bf16
// The codes in bits 0 to 7 and 16 to 23, less 128: 128 and the low 7, and -256 or -128 by the highest.
__device__ __forceinline__ unsigned code_8_bf16(unsigned codes) {
    const unsigned low = masked_or(codes, 0x007f007fu, 0x43004300u), high = masked_xor(codes, 0x00800080u, 0xc380c380u);
    return fma_bf16x2(low, 0x3f803f80u, high);
}
//: less_4_bf16
// What near_code_4_bf16 is more than a code, taken from sums: x * -16.
__device__ __forceinline__ unsigned less_4_bf16(unsigned x) { return fma_bf16x2(x, 0xc180c180u, 0x80008000u); }
//: less_8_bf16
// What code_8_bf16 is less than a code, added to sums: x * 128.
__device__ __forceinline__ unsigned less_8_bf16(unsigned x) { return fma_bf16x2(x, 0x43004300u, 0x80008000u); }
//: middle_4_bf16
// Codes are multiplied less a middle one, so that weights are rounded for small numbers: scale * 8.
__device__ __forceinline__ unsigned middle_4_bf16(unsigned scale) { return fma_bf16x2(scale, 0x41004100u, 0x80008000u); }
//: middle_8_bf16
// The same of 8 bits: scale * 128.
__device__ __forceinline__ unsigned middle_8_bf16(unsigned scale) { return fma_bf16x2(scale, 0x43004300u, 0x80008000u); }
//: part_bf16
// Of two numbers, each a sum of three of bf16, one of the three; the fourth is zero.
__device__ __forceinline__ unsigned part_bf16(float low, float high, int part) {
    const float low1 = low - round_bf16(low), high1 = high - round_bf16(high);
    const float low2 = low1 - round_bf16(low1), high2 = high1 - round_bf16(high1);
    return pack_bf16(part == 0 ? low : part == 1 ? low1 : part == 2 ? low2 : 0.0f,
                     part == 0 ? high : part == 1 ? high1 : part == 2 ? high2 : 0.0f);
}
//: number_4_bf16
// code * scale and then + bias, both rounded, of the codes in bits 0 to 3 and 16 to 19. With 0x4300 above it a code is 128 more,
// and the product is rounded once that is taken away.
__device__ __forceinline__ unsigned number_4_bf16(unsigned codes, unsigned scale, unsigned offset, unsigned bias) {
    const unsigned more = masked_or(codes, 0x000f000fu, 0x43004300u);
    return fma_bf16x2(fma_bf16x2(more, scale, offset), 0x3f803f80u, bias);
}
//: number_8_bf16
// The same of 8 bits: 128 and the low 7, and -256 or -128 by the highest, make the code less 128.
__device__ __forceinline__ unsigned number_8_bf16(unsigned codes, unsigned scale, unsigned offset, unsigned bias) {
    const unsigned low = masked_or(codes, 0x007f007fu, 0x43004300u), high = masked_xor(codes, 0x00800080u, 0xc380c380u);
    const unsigned less = fma_bf16x2(low, 0x3f803f80u, high);
    return fma_bf16x2(fma_bf16x2(less, scale, offset), 0x3f803f80u, bias);
}
//: number_4_f16
// code * scale and then + bias, both rounded, of the codes in bits 0 to 3 and 16 to 19. With 0x6400 above it a code is 1024 more.
__device__ __forceinline__ unsigned number_4_f16(unsigned codes, unsigned scale, unsigned offset, unsigned bias) {
    const unsigned code = fma_f16x2(masked_or(codes, 0x000f000fu, 0x64006400u), 0x3c003c00u, offset);
    return fma_f16x2(fma_f16x2(code, scale, 0x80008000u), 0x3c003c00u, bias);
}
//: number_8_f16
// The same of 8 bits.
__device__ __forceinline__ unsigned number_8_f16(unsigned codes, unsigned scale, unsigned offset, unsigned bias) {
    const unsigned code = fma_f16x2(masked_or(codes, 0x00ff00ffu, 0x64006400u), 0x3c003c00u, offset);
    return fma_f16x2(fma_f16x2(code, scale, 0x80008000u), 0x3c003c00u, bias);
}
