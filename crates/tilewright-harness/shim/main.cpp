// One launch: reads the request from standard input, runs every block of the grid, writes the outputs to standard output.
#include "runtime.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

Launch launch;

// Shared memory between two areas that nobody may touch. A page of its own, because the thread sanitizer forgets what
// happened in it by mapping it anew.
asm(R"(
.bss
.balign 4096
.globl tilewright_shared_before
tilewright_shared_before: .zero 4096
.globl shared
.globl tilewright_shared
shared:
tilewright_shared: .zero 1048576 + 4096
.text
)");

extern "C" unsigned char tilewright_shared_before[REDZONE];

void fail(Exit status, const char* format, ...) {
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    exit(status);
}

namespace {

constexpr unsigned char UNTOUCHED = 0xff; // a NaN, in every float type

struct Tensor {
    uint64_t bytes;
    uint64_t written;
};

void receive(void* to, size_t bytes) {
    for (char* at = (char*)to; bytes > 0;) {
        ssize_t got = read(0, at, bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) fail(BAD_REQUEST, "the request ends %zu bytes too early", bytes);
        at += got;
        bytes -= (size_t)got;
    }
}

void send(const void* from, size_t bytes) {
    for (const char* at = (const char*)from; bytes > 0;) {
        ssize_t sent = write(1, at, bytes);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) fail(BAD_REQUEST, "cannot write the results");
        at += sent;
        bytes -= (size_t)sent;
    }
}

// Memory for a tensor between two areas that nobody may touch.
unsigned char* place(const Tensor& tensor) {
    size_t bytes = REDZONE + tensor.bytes + REDZONE;
    void* memory = nullptr;
    if (posix_memalign(&memory, 4096, bytes)) fail(BAD_REQUEST, "no memory for a tensor of %lu bytes", tensor.bytes);
    memset(memory, UNTOUCHED, bytes);
    unsigned char* data = (unsigned char*)memory + REDZONE;
#if defined(TILEWRIGHT_ADDRESS)
    __asan_poison_memory_region(memory, REDZONE);
    __asan_poison_memory_region(data + tensor.bytes, REDZONE);
#endif
    return data;
}

void check_untouched(const unsigned char* data, size_t bytes, const char* what, unsigned index) {
#if !defined(TILEWRIGHT_ADDRESS)
    for (unsigned i = 0; i < REDZONE; i++) {
        if (data[-1 - (long)i] != UNTOUCHED) fail(OUT_OF_BOUNDS, "write %u bytes before the start of %s %u", i + 1, what, index);
        if (data[bytes + i] != UNTOUCHED) fail(OUT_OF_BOUNDS, "write %u bytes behind the end of %s %u", i, what, index);
    }
#else
    (void)data, (void)bytes, (void)what, (void)index;
#endif
}

void clear_shared() {
#if defined(TILEWRIGHT_THREAD)
    // What the threads of other blocks did there is forgotten: it was other memory.
    if (launch.blocks_apart)
        mmap(tilewright_shared, MAX_SHARED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
#endif
    memset(tilewright_shared, UNTOUCHED, launch.shared_bytes);
#if !defined(TILEWRIGHT_ADDRESS)
    memset(tilewright_shared + launch.shared_bytes, UNTOUCHED, REDZONE);
#endif
}

void run_grid() {
    uint64_t blocks = (uint64_t)launch.grid[0] * launch.grid[1] * launch.grid[2];
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t block = launch.order == REVERSE ? blocks - 1 - i : i;
        uint64_t x = block % launch.grid[0], yz = block / launch.grid[0];
        clear_shared();
        run_block({(unsigned)x, (unsigned)(yz % launch.grid[1]), (unsigned)(yz / launch.grid[1])});
        check_untouched(tilewright_shared, launch.shared_bytes, "shared memory", (unsigned)block);
    }
}

}

int main() {
    receive(&launch, sizeof launch);
    if (launch.threads == 0 || launch.threads > MAX_THREADS || launch.threads % 32 != 0)
        fail(BAD_REQUEST, "%u threads; whole warps of 32 up to %u run", launch.threads, MAX_THREADS);
    if (launch.shared_bytes > MAX_SHARED) fail(BAD_REQUEST, "%u bytes of shared memory", launch.shared_bytes);
    alarm(60);
    Tensor* tensors = (Tensor*)calloc(launch.pointers + 1, sizeof(Tensor));
    void** pointers = (void**)calloc(launch.pointers + 1, sizeof(void*));
    void* args = aligned_alloc(16, (launch.arg_bytes + 15) / 16 * 16);
    if (!tensors || !pointers || !args) fail(BAD_REQUEST, "no memory for %u pointers", launch.pointers);
    receive(tensors, launch.pointers * sizeof(Tensor));
    receive(args, launch.arg_bytes);
    for (unsigned i = 0; i < launch.pointers; i++) {
        pointers[i] = place(tensors[i]);
        receive(pointers[i], tensors[i].bytes);
    }
    memset(tilewright_shared_before, UNTOUCHED, REDZONE);
#if defined(TILEWRIGHT_ADDRESS)
    __asan_poison_memory_region(tilewright_shared_before, REDZONE);
    __asan_poison_memory_region(tilewright_shared + launch.shared_bytes, MAX_SHARED + REDZONE - launch.shared_bytes);
#endif
    start_fibers(pointers, args);
    run_grid();
    join_fibers();
    for (unsigned i = 0; i < launch.pointers; i++) {
        check_untouched((unsigned char*)pointers[i], tensors[i].bytes, "the tensor of pointer", i);
        if (tensors[i].written) send(pointers[i], tensors[i].bytes);
    }
    _exit(0);
}
