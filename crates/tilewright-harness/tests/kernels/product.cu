// c = alpha * a b: 64x16 of c a block, 32 of k a step, two buffers that cp.async fills. Written by hand.
#ifndef TILEWRIGHT_HARNESS
#include <cuda_bf16.h>
__device__ __forceinline__ void mma_m16n8k16_bf16(float* c, const unsigned* a, const unsigned* b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

struct Args {
    long long a_stride[2], b_stride[2], c_stride[2];
    int a_len[2], b_len[2], c_len[2];
    float alpha;
};

extern "C" __global__ void __launch_bounds__(128) product(
    const __nv_bfloat16* __restrict__ a, const __nv_bfloat16* __restrict__ b, float* __restrict__ c, const Args args) {
    extern __shared__ __align__(1024) unsigned char shared[];
    // a: 64 rows of 32; b: 32 rows of 16.
    const int stage_bytes = 64 * 64 + 32 * 32;
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int rows = args.a_len[0], depth = args.a_len[1], columns = args.b_len[1];
    const int row0 = blockIdx.x * 64, column0 = blockIdx.y * 16;

    auto fetch = [&](int stage, int k0) {
        unsigned char* to = shared + stage * stage_bytes;
        for (int i = thread; i < 64 * 4; i += 128) {
            int row = row0 + i / 4, k = k0 + i % 4 * 8;
            bool valid = row < rows && k < depth;
            cp_async_16(to + i * 16, a + (valid ? row * args.a_stride[0] + k : 0), valid);
        }
        if (thread < 32 * 2) {
            int k = k0 + thread / 2, column = column0 + thread % 2 * 8;
            bool valid = k < depth && column < columns;
            cp_async_16(to + 64 * 64 + thread * 16, b + (valid ? k * args.b_stride[0] + column : 0), valid);
        }
        cp_async_commit();
    };

    float sums[2][4] = {};
    fetch(0, 0);
    const int steps = (depth + 31) / 32;
    for (int step = 0; step < steps; step++) {
        if (step + 1 < steps) fetch((step + 1) % 2, step * 32 + 32);
        else cp_async_commit();
        cp_async_wait<1>();
        __syncthreads(); // filled
        unsigned char* tile = shared + step % 2 * stage_bytes;
#pragma unroll
        for (int k = 0; k < 32; k += 16) {
            unsigned left[4], right[4];
            ldmatrix_x4(left, tile + (warp * 16 + lane % 16) * 64 + (k + lane / 16 * 8) * 2);
            ldmatrix_x4_trans(right, tile + 64 * 64 + (k + lane % 16) * 32 + lane / 16 * 16);
            mma_m16n8k16_bf16(sums[0], left, right);
            mma_m16n8k16_bf16(sums[1], left, right + 2);
        }
        __syncthreads(); // used
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int row = row0 + warp * 16 + lane / 4 + i / 2 % 2 * 8, column = column0 + i / 4 * 8 + lane % 4 * 2 + i % 2;
        if (row < rows && column < columns) // inside
            c[row * args.c_stride[0] + column * args.c_stride[1]] = args.alpha * sums[i / 4][i % 4];
    }
}
