// Asynchronous copies into shared memory (cp.async). A copy may finish at any time from its issue to the wait for its group:
// a launch chooses one of the two ends.
#include "runtime.h"
#include <stdlib.h>
#include <string.h>

namespace {

struct Copy {
    void* to;
    const void* from;
    unsigned bytes, group;
    bool valid;
};

// Of one thread: copies in the order of their issue.
struct Queue {
    Copy* copies;
    unsigned length, capacity, first;
    unsigned groups; // committed
};

Queue queues[MAX_THREADS];

void perform(const Copy& copy) {
    if (copy.valid) thread_reads(copy.from, copy.bytes);
    thread_writes(copy.to, copy.bytes);
    if (copy.valid) memcpy(copy.to, copy.from, copy.bytes);
    else memset(copy.to, 0, copy.bytes);
}

}

extern "C" void tilewright_copy(void* to, const void* from, unsigned bytes, bool valid) {
    tilewright_aligned((uintptr_t)to, bytes);
    if (valid) tilewright_aligned((uintptr_t)from, bytes);
    uintptr_t place = (uintptr_t)to - (uintptr_t)tilewright_shared;
    if (place >= launch.shared_bytes || launch.shared_bytes - place < bytes)
        fail(OUT_OF_BOUNDS, "cp.async of %u bytes to byte %ld of %u bytes of shared memory", bytes, (long)place, launch.shared_bytes);
    Queue& queue = queues[tilewright_thread];
    Copy copy = {to, from, bytes, queue.groups, valid};
    if (launch.copies == AT_ONCE) return perform(copy);
    // It may take place from now on: who still reads the old contents is told so by the thread sanitizer.
    if (valid) thread_reads(from, bytes);
    thread_writes(to, bytes);
    if (queue.length == queue.capacity) {
        queue.capacity = queue.capacity ? 2 * queue.capacity : 64;
        queue.copies = (Copy*)realloc(queue.copies, queue.capacity * sizeof(Copy));
        if (!queue.copies) fail(BAD_REQUEST, "no memory for %u copies", queue.capacity);
    }
    queue.copies[queue.length++] = copy;
}

extern "C" void tilewright_copy_commit() { queues[tilewright_thread].groups++; }

extern "C" void tilewright_copy_wait(unsigned groups_left) {
    Queue& queue = queues[tilewright_thread];
    unsigned done = queue.groups > groups_left ? queue.groups - groups_left : 0;
    for (; queue.first < queue.length && queue.copies[queue.first].group < done; queue.first++) perform(queue.copies[queue.first]);
    if (queue.first == queue.length) queue.first = queue.length = 0;
}

void forget_copies(unsigned thread) { queues[thread].first = queues[thread].length = queues[thread].groups = 0; }
