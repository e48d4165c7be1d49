// What the CUDA and the Metal shim share: how a kernel reaches the runtime that runs its threads as fibers.
#pragma once

#define TILEWRIGHT_INLINE inline __attribute__((always_inline))
#ifndef TILEWRIGHT_SHARED // the address space of shared memory
#define TILEWRIGHT_SHARED
#endif
// Every call stays a place of its own: lanes at two calls are at two places.
#define TILEWRIGHT_MEETING __attribute__((convergent, nomerge))

extern "C" {

// What the lanes of a warp do together. Every lane hands in a record; the last one to arrive does the work for all 32.
typedef void (*TilewrightOp)(void* const lanes[32]);

// Returns once all lanes of the warp called it with the same `op` from the same place.
TILEWRIGHT_MEETING void tilewright_warp(TilewrightOp op, void* record);
// Returns once all threads of the block called it from the same place. Orders memory.
TILEWRIGHT_MEETING void tilewright_block_barrier();
// The same for the lanes of a warp.
TILEWRIGHT_MEETING void tilewright_warp_barrier();

struct TilewrightIndex {
    unsigned x, y, z;
};
extern TilewrightIndex tilewright_block, tilewright_grid;
// The thread that runs: its index in the block, and how many there are.
extern unsigned tilewright_thread, tilewright_threads;
// Shared memory: the size that the launch gives, between areas that nobody may touch. Also known as `shared`.
extern TILEWRIGHT_SHARED unsigned char tilewright_shared[];

struct TilewrightShuffle {
    unsigned long value;
    unsigned source; // the lane whose value this lane gets
};
void tilewright_shuffle(void* const lanes[32]);

// c += a * b. Fragments of one lane, as PTX lays them out for m16n8k16 with row-major A and column-major B.
struct TilewrightMma {
    float* c;
    const unsigned* a;
    const unsigned* b;
};
void tilewright_mma_bf16(void* const lanes[32]);
void tilewright_mma_f16(void* const lanes[32]);

// d = a * b + c on 8x8 matrices, two elements a lane as `simdgroup_matrix::thread_elements` holds them.
struct TilewrightMultiply {
    float d[2], a[2], b[2], c[2];
};
void tilewright_multiply(void* const lanes[32]);

// Loads `count` 8x8 matrices of 16-bit elements; lane 8m+r names row r of matrix m.
TILEWRIGHT_MEETING void tilewright_ldmatrix(unsigned* registers, const void* row, unsigned count, bool transposed);

// Before an access to `bytes` bytes: ends the process when the address is not a multiple of them.
void tilewright_aligned(unsigned long address, unsigned long bytes);

// Copies that finish no sooner than `tilewright_copy_wait` says; see `CopyTiming`.
void tilewright_copy(void* to, const void* from, unsigned bytes, bool valid);
void tilewright_copy_commit();
void tilewright_copy_wait(unsigned groups_left);
}

template <class T> TILEWRIGHT_INLINE T tilewright_shuffle_value(T value, unsigned source) {
    static_assert(sizeof(T) <= sizeof(unsigned long), "shuffles move at most 8 bytes");
    TilewrightShuffle record = {0, source};
    __builtin_memcpy(&record.value, &value, sizeof(T));
    tilewright_warp(tilewright_shuffle, &record);
    __builtin_memcpy(&value, &record.value, sizeof(T));
    return value;
}
