// c = alpha * a b: 32x16 of c a threadgroup of 4 simdgroups, 16 of k a step. Written by hand.
#include <metal_stdlib>
using namespace metal;

struct Args {
    long a_stride[2], b_stride[2], c_stride[2];
    int a_len[2], b_len[2], c_len[2];
    float alpha;
};

kernel void product(device const bfloat* a [[buffer(0)]], device const bfloat* b [[buffer(1)]], device float* c [[buffer(2)]],
                    constant Args& args [[buffer(3)]], uint3 group [[threadgroup_position_in_grid]],
                    uint3 groups [[threadgroups_per_grid]], uint thread_index [[thread_index_in_threadgroup]]) {
    threadgroup bfloat left[32 * 16];
    threadgroup bfloat right[16 * 16];
    const int rows = args.a_len[0], depth = args.a_len[1], columns = args.b_len[1];
    const int row0 = int(group.x) * 32, column0 = int(group.y) * 16;
    const uint simd = thread_index / 32, lane = thread_index % 32;
    const int row = row0 + int(simd * 8 + lane / 16 * 4 + lane / 2 % 4);

    simdgroup_matrix<float, 8, 8> sums[2] = {make_filled_simdgroup_matrix<float, 8, 8>(0.0f),
                                             make_filled_simdgroup_matrix<float, 8, 8>(0.0f)};
    for (int k0 = 0; k0 < depth; k0 += 16) {
        for (int i = int(thread_index); i < 32 * 16; i += 128) {
            int r = row0 + i / 16, k = k0 + i % 16;
            left[i] = r < rows && k < depth ? a[r * args.a_stride[0] + k * args.a_stride[1]] : bfloat(0.0f);
        }
        for (int i = int(thread_index); i < 16 * 16; i += 128) {
            int k = k0 + i / 16, column = column0 + i % 16;
            right[i] = k < depth && column < columns ? b[k * args.b_stride[0] + column * args.b_stride[1]] : bfloat(0.0f);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup); // filled
        for (uint k = 0; k < 16; k += 8) {
            simdgroup_matrix<bfloat, 8, 8> x, y;
            simdgroup_load(x, left + simd * 8 * 16 + k, 16);
            for (uint j = 0; j < 2; j++) {
                simdgroup_load(y, right + k * 16 + j * 8, 16);
                simdgroup_multiply_accumulate(sums[j], x, y, sums[j]);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup); // used
    }
    for (uint i = 0; i < 4; i++) {
        int column = column0 + int(i / 2 * 8 + lane / 8 % 2 * 4 + lane % 2 * 2 + i % 2);
        if (row < rows && column < columns) // inside
            c[row * args.c_stride[0] + column * args.c_stride[1]] = args.alpha * sums[i / 2].thread_elements()[i % 2];
    }
}
