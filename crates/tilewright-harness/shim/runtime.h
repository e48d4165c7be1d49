// What the parts of the runtime know of each other. The runtime is never instrumented: it tells the sanitizers by hand what
// a kernel's threads read and write through it.
#pragma once
#include "warp.h"
#include <stdint.h>

extern "C" {
#if defined(TILEWRIGHT_ADDRESS)
void __asan_loadN(const void*, unsigned long);
void __asan_storeN(void*, unsigned long);
void __asan_poison_memory_region(const void*, unsigned long);
#elif defined(TILEWRIGHT_THREAD)
void __tsan_read_range(const void*, unsigned long);
void __tsan_write_range(void*, unsigned long);
void __tsan_acquire(void*);
void __tsan_release(void*);
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_set_fiber_name(void* fiber, const char* name);
#endif
// The compiled kernel.
void tilewright_kernel(void* const* pointers, const void* args);
}

// The order in which threads that can run are run.
enum Order : uint32_t { FORWARD, REVERSE, RANDOM };
enum CopyTiming : uint32_t { LATE, AT_ONCE };

// Exit statuses, which src/launch.rs knows too.
enum Exit { DIVERGED = 3, OUT_OF_BOUNDS = 4, BAD_REQUEST = 5, MISALIGNED = 6 };

struct Launch {
    uint32_t grid[3];
    uint32_t threads, shared_bytes;
    Order order;
    CopyTiming copies;
    uint32_t unused;
    uint64_t seed;
    uint32_t blocks_apart; // 1: the thread sanitizer holds blocks against each other
    uint32_t pointers, arg_bytes, unused_too;
};
extern Launch launch;

constexpr unsigned MAX_THREADS = 1024, MAX_SHARED = 1 << 20, REDZONE = 4096;

// Ends the process with a line on standard error.
[[noreturn]] void fail(Exit status, const char* format, ...) __attribute__((format(printf, 2, 3)));

// fibers.cpp: runs one block after the other; when they are joined, their results may be read.
void start_fibers(void* const* pointers, const void* args);
void run_block(TilewrightIndex block);
void join_fibers();
// Waits for the other lanes of the warp, which must come from the same `site`; the last one to arrive does the work. A null
// `op` is a barrier.
void tilewright_meet(TilewrightOp op, void* record, const void* site);

// copies.cpp: the copies that a thread has not waited for are forgotten at its end.
void forget_copies(unsigned thread);

inline void thread_reads(const void* from, unsigned bytes) {
#if defined(TILEWRIGHT_ADDRESS)
    __asan_loadN(from, bytes);
#elif defined(TILEWRIGHT_THREAD)
    __tsan_read_range(from, bytes);
#else
    (void)from, (void)bytes;
#endif
}
inline void thread_writes(void* to, unsigned bytes) {
#if defined(TILEWRIGHT_ADDRESS)
    __asan_storeN(to, bytes);
#elif defined(TILEWRIGHT_THREAD)
    __tsan_write_range(to, bytes);
#else
    (void)to, (void)bytes;
#endif
}
