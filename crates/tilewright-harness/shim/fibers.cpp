// The threads of a block as fibers of one system thread: when a thread must wait, another one of its block runs.
#include "runtime.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

// Saves what a call must keep, and goes on where `to` was saved.
extern "C" void tilewright_switch(void** from, void* to);
asm(R"(
.text
.globl tilewright_switch
.type tilewright_switch, @function
tilewright_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size tilewright_switch, .-tilewright_switch
)");

extern "C" {
TilewrightIndex tilewright_block, tilewright_grid;
unsigned tilewright_thread, tilewright_threads;
}

namespace {

constexpr unsigned LANES = 32, NOBODY = ~0u;
constexpr size_t STACK = 512 << 10, GUARD = 4096;

struct Warp {
    uint32_t ready;   // lanes that can run
    uint32_t meeting; // lanes that wait for the others of the warp
    uint32_t ended;
    TilewrightOp op; // what they meet for; null for a barrier
    const void* site;
    void* records[LANES];
    char sync[2]; // what the thread sanitizer knows the warp's barriers by, in turn
    unsigned barriers;
};

Warp warps[MAX_THREADS / LANES];
void* stack_pointers[MAX_THREADS];
char* stacks;
void* main_stack_pointer;
void* const* kernel_pointers;
const void* kernel_args;
uint64_t random_state;

char start_sync, end_sync;

// The block's barrier.
unsigned arrived, ended;
const void* barrier_site;
char barrier_sync[2];
unsigned barriers;

#if defined(TILEWRIGHT_THREAD)
void *main_fiber, *fibers[MAX_THREADS];
void release(char* sync) { __tsan_release(sync); }
void acquire(char* sync) { __tsan_acquire(sync); }
#else
void release(char*) {}
void acquire(char*) {}
#endif

uint32_t random_below(uint32_t bound) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) * bound >> 32);
}

// The bit of `set` that comes next after `current` in the order of the launch; `set` is not empty.
unsigned next_of(uint32_t set, unsigned current) {
    switch (launch.order) {
    case FORWARD: {
        uint32_t above = current < 31 ? set & (~0u << (current + 1)) : 0;
        return (unsigned)__builtin_ctz(above ? above : set);
    }
    case REVERSE: {
        uint32_t below = set & ((1u << current) - 1);
        return 31u - (unsigned)__builtin_clz(below ? below : set);
    }
    case RANDOM: {
        for (uint32_t skip = random_below((uint32_t)__builtin_popcount(set)); skip > 0; skip--) set &= set - 1;
        return (unsigned)__builtin_ctz(set);
    }
    }
    fail(BAD_REQUEST, "unknown order of threads");
}

// In a fixed order a warp runs until its lanes wait for other warps.
unsigned next_thread(unsigned current) {
    unsigned warp = current / LANES;
    if (launch.order == RANDOM || warps[warp].ready == 0) {
        uint32_t ready = 0;
        for (unsigned w = 0; w < launch.threads / LANES; w++) ready |= (uint32_t)(warps[w].ready != 0) << w;
        if (ready == 0) return NOBODY;
        warp = next_of(ready, warp);
    }
    return warp * LANES + next_of(warps[warp].ready, current % LANES);
}

void go(void** from, unsigned thread) {
#if defined(TILEWRIGHT_THREAD)
    __tsan_switch_to_fiber(thread == NOBODY ? main_fiber : fibers[thread], 1); // 1: the switch orders no memory
#endif
    if (thread != NOBODY) tilewright_thread = thread;
    tilewright_switch(from, thread == NOBODY ? main_stack_pointer : stack_pointers[thread]);
}

[[noreturn]] void stuck() {
    fprintf(stderr, "divergent barrier: no thread of block (%u, %u, %u) can go on\n", tilewright_block.x, tilewright_block.y,
            tilewright_block.z);
    for (unsigned w = 0; w < launch.threads / LANES; w++) {
        unsigned meeting = (unsigned)__builtin_popcount(warps[w].meeting), done = (unsigned)__builtin_popcount(warps[w].ended);
        fprintf(stderr, "  warp %u: %u lanes at a barrier of the block, %u at %s, %u ended\n", w, LANES - meeting - done, meeting,
                warps[w].op ? "a warp operation" : "a barrier of the warp", done);
    }
    exit(DIVERGED);
}

// Lets another thread run; returns when it is this one's turn again.
void pass() {
    unsigned current = tilewright_thread, next = next_thread(current);
    if (next == NOBODY) stuck();
    if (next != current) go(&stack_pointers[current], next);
}

void fiber() {
    acquire(&start_sync);
    tilewright_kernel(kernel_pointers, kernel_args);
    unsigned thread = tilewright_thread;
    Warp& warp = warps[thread / LANES];
    warp.ready &= ~(1u << thread % LANES);
    warp.ended |= 1u << thread % LANES;
    forget_copies(thread);
    release(&end_sync);
    unsigned next = ++ended == launch.threads ? NOBODY : next_thread(thread);
    if (next == NOBODY && ended != launch.threads) stuck();
    go(&stack_pointers[thread], next);
    __builtin_unreachable();
}

}

// Waits for the other lanes; the last one to arrive does the work.
void tilewright_meet(TilewrightOp op, void* record, const void* site) {
    Warp& warp = warps[tilewright_thread / LANES];
    unsigned lane = tilewright_thread % LANES;
    if (warp.meeting == 0) {
        warp.op = op;
        warp.site = site;
    } else if (warp.op != op || warp.site != site) {
        fail(DIVERGED, "divergent warp: thread %u of block (%u, %u, %u) is at another warp operation than lanes %#x of its warp",
             tilewright_thread, tilewright_block.x, tilewright_block.y, tilewright_block.z, warp.meeting);
    }
    warp.records[lane] = record;
    warp.meeting |= 1u << lane;
    warp.ready &= ~(1u << lane);
    if (warp.meeting == ~0u) {
        if (op) op(warp.records);
        else warp.barriers++;
        warp.meeting = 0;
        warp.ready = ~0u;
    }
    pass();
}

extern "C" void tilewright_warp(TilewrightOp op, void* record) { tilewright_meet(op, record, __builtin_return_address(0)); }

extern "C" void tilewright_warp_barrier() {
    Warp& warp = warps[tilewright_thread / LANES];
    char* sync = &warp.sync[warp.barriers % 2];
    release(sync);
    tilewright_meet(nullptr, nullptr, __builtin_return_address(0));
    acquire(sync);
}

extern "C" void tilewright_block_barrier() {
    const void* site = __builtin_return_address(0);
    if (arrived == 0) {
        barrier_site = site;
    } else if (barrier_site != site) {
        fail(DIVERGED, "divergent barrier: thread %u of block (%u, %u, %u) is at another barrier than the %u threads that wait",
             tilewright_thread, tilewright_block.x, tilewright_block.y, tilewright_block.z, arrived);
    }
    char* sync = &barrier_sync[barriers % 2];
    release(sync);
    warps[tilewright_thread / LANES].ready &= ~(1u << tilewright_thread % LANES);
    if (++arrived == launch.threads) {
        arrived = 0;
        barriers++;
        for (unsigned w = 0; w < launch.threads / LANES; w++) warps[w].ready = ~0u;
    }
    pass();
    acquire(sync);
}

void start_fibers(void* const* pointers, const void* args) {
    kernel_pointers = pointers;
    kernel_args = args;
    random_state = launch.seed * 0x9e3779b97f4a7c15u | 1;
    tilewright_threads = launch.threads;
    tilewright_grid = {launch.grid[0], launch.grid[1], launch.grid[2]};
    size_t bytes = launch.threads * STACK;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail(BAD_REQUEST, "no memory for the stacks of %u threads", launch.threads);
    stacks = (char*)memory;
    for (unsigned t = 0; t < launch.threads; t++) mprotect(stacks + t * STACK, GUARD, PROT_NONE);
#if defined(TILEWRIGHT_THREAD)
    main_fiber = __tsan_get_current_fiber();
    for (unsigned t = 0; t < launch.threads; t++) {
        char name[32];
        snprintf(name, sizeof name, "kernel thread %u", t);
        fibers[t] = __tsan_create_fiber(0);
        __tsan_set_fiber_name(fibers[t], name);
    }
#endif
}

void run_block(TilewrightIndex block) {
    tilewright_block = block;
    arrived = ended = 0;
    for (unsigned w = 0; w < launch.threads / LANES; w++) {
        warps[w].ready = ~0u;
        warps[w].meeting = warps[w].ended = 0;
    }
    for (unsigned t = 0; t < launch.threads; t++) {
        // Tops that differ modulo a page, so that the stacks do not fight for the same cache lines.
        void** top = (void**)(stacks + (t + 1) * STACK - t % 32 * 192);
        *--top = nullptr;
        *--top = (void*)fiber;
        for (int saved = 0; saved < 6; saved++) *--top = nullptr;
        stack_pointers[t] = top;
    }
    release(&start_sync);
    unsigned last = launch.threads - 1;
    go(&main_stack_pointer, next_thread(launch.order == FORWARD ? last : 0));
    if (!launch.blocks_apart) acquire(&end_sync);
}

void join_fibers() { acquire(&end_sync); }
