// What the lanes of a warp compute together.
#include "runtime.h"
#include <string.h>

namespace {

float of_bf16(unsigned bits) {
    unsigned word = bits << 16;
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
}

float of_f16(unsigned bits) {
    unsigned short word = (unsigned short)bits;
    _Float16 x;
    memcpy(&x, &word, sizeof x);
    return (float)x;
}

// Sums run in f32 over k in order; the products of 16-bit floats are exact.
template <float (*convert)(unsigned)> void mma(void* const lanes[32]) {
    float a[16][16], b[16][8], c[16][8];
    for (unsigned lane = 0; lane < 32; lane++) {
        const TilewrightMma& part = *(const TilewrightMma*)lanes[lane];
        unsigned group = lane / 4, pair = lane % 4 * 2;
        for (unsigned half = 0; half < 2; half++) {
            for (unsigned i = 0; i < 4; i++) {
                a[group + i % 2 * 8][pair + i / 2 * 8 + half] = convert(part.a[i] >> 16 * half & 0xffff);
                c[group + i / 2 * 8][pair + i % 2] = part.c[i];
            }
            for (unsigned i = 0; i < 2; i++) b[pair + i * 8 + half][group] = convert(part.b[i] >> 16 * half & 0xffff);
        }
    }
    for (unsigned row = 0; row < 16; row++)
        for (unsigned k = 0; k < 16; k++)
            for (unsigned column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
    for (unsigned lane = 0; lane < 32; lane++) {
        const TilewrightMma& part = *(const TilewrightMma*)lanes[lane];
        for (unsigned i = 0; i < 4; i++) part.c[i] = c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
    }
}

struct LoadMatrix {
    unsigned* registers;
    unsigned short row[8];
};

template <unsigned count, bool transposed> void load_matrices(void* const lanes[32]) {
    for (unsigned lane = 0; lane < 32; lane++) {
        for (unsigned m = 0; m < count; m++) {
            auto element = [&](unsigned row, unsigned column) -> unsigned {
                return ((const LoadMatrix*)lanes[m * 8 + row])->row[column];
            };
            unsigned major = lane / 4, pair = lane % 4 * 2;
            unsigned low = transposed ? element(pair, major) : element(major, pair);
            unsigned high = transposed ? element(pair + 1, major) : element(major, pair + 1);
            ((LoadMatrix*)lanes[lane])->registers[m] = low | high << 16;
        }
    }
}

}

extern "C" {

void tilewright_shuffle(void* const lanes[32]) {
    unsigned long values[32];
    for (unsigned lane = 0; lane < 32; lane++) values[lane] = ((const TilewrightShuffle*)lanes[lane])->value;
    for (unsigned lane = 0; lane < 32; lane++) {
        TilewrightShuffle& part = *(TilewrightShuffle*)lanes[lane];
        part.value = values[part.source % 32];
    }
}

void tilewright_mma_bf16(void* const lanes[32]) { mma<of_bf16>(lanes); }
void tilewright_mma_f16(void* const lanes[32]) { mma<of_f16>(lanes); }

void tilewright_multiply(void* const lanes[32]) {
    float a[8][8], b[8][8], d[8][8];
    auto place = [](unsigned lane, unsigned& row, unsigned& column) {
        row = lane / 16 * 4 + lane / 2 % 4;
        column = lane / 8 % 2 * 4 + lane % 2 * 2;
    };
    unsigned row, column;
    for (unsigned lane = 0; lane < 32; lane++) {
        const TilewrightMultiply& part = *(const TilewrightMultiply*)lanes[lane];
        place(lane, row, column);
        for (unsigned i = 0; i < 2; i++) {
            a[row][column + i] = part.a[i];
            b[row][column + i] = part.b[i];
            d[row][column + i] = part.c[i];
        }
    }
    for (row = 0; row < 8; row++)
        for (unsigned k = 0; k < 8; k++)
            for (column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
    for (unsigned lane = 0; lane < 32; lane++) {
        TilewrightMultiply& part = *(TilewrightMultiply*)lanes[lane];
        place(lane, row, column);
        for (unsigned i = 0; i < 2; i++) part.d[i] = d[row][column + i];
    }
}

// Every lane reads the row that it names when it arrives: the instruction orders no memory between lanes.
void tilewright_ldmatrix(unsigned* registers, const void* row, unsigned count, bool transposed) {
    static constexpr TilewrightOp operations[2][2] = {{load_matrices<2, false>, load_matrices<2, true>},
                                                      {load_matrices<4, false>, load_matrices<4, true>}};
    LoadMatrix record = {registers, {}};
    if (tilewright_thread % 32 < count * 8) {
        tilewright_aligned((uintptr_t)row, 16);
        thread_reads(row, 16);
        memcpy(record.row, row, 16);
    }
    tilewright_meet(operations[count == 4][transposed], &record, __builtin_return_address(0));
}

void tilewright_aligned(unsigned long address, unsigned long bytes) {
    if (address % bytes != 0)
        fail(MISALIGNED, "thread %u of block (%u, %u, %u): an access to %lu bytes at an address with remainder %lu", tilewright_thread,
             tilewright_block.x, tilewright_block.y, tilewright_block.z, bytes, address % bytes);
}

// Conversion of `bfloat`, which the compiler calls: to nearest, ties to even.
__bf16 __truncsfbf2(float x) {
    unsigned word;
    memcpy(&word, &x, sizeof word);
    unsigned even = word + 0x7fffu + (word >> 16 & 1u);
    unsigned short bits = (word & 0x7fffffffu) > 0x7f800000u ? (unsigned short)(word >> 16 | 0x40) : (unsigned short)(even >> 16);
    __bf16 result;
    memcpy(&result, &bits, sizeof bits);
    return result;
}
}
