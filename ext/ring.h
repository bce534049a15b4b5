/* The ring between the reader process and its client: two queues and a data area in one shared memory file.
 *
 * Owns the layout and the order of loads and stores; refuses to wait (an eventfd a queue does that) and to trust: the
 * side that takes an entry checks that the other's counter is possible. One thread submits, one takes submissions; any
 * thread of the reader may complete (under a lock of its own), one thread takes completions. Counters only grow; an
 * entry's place is its counter modulo RING_ENTRIES.
 */
#ifndef WARMSPARE_RING_H
#define WARMSPARE_RING_H

#include <stdint.h>

#define RING_MAGIC 0x31474e4952535721ull
#define RING_ENTRIES 256u
#define RING_DATA_OFFSET 65536u /* where slots begin; below it lie the header and both queues */

enum { /* operations */
    RING_READ = 1,     /* sectors from `sector` on to data[offset] */
    RING_ALLOCATED = 2 /* allocated areas in them, in chunks of `chunk` sectors, to data[offset] as pairs of u64 */
};

/* What a completion says besides a code of the VDDK's (those have 16 bits). */
#define RING_SHORT 0x10000ull       /* the read succeeded and left part of the buffer as it was */
#define RING_REFUSED 0x20000ull     /* the request makes no sense: our own bug, or damaged memory */
#define RING_NONSENSE 0x30000ull    /* the library's answer makes no sense */
#define RING_UNSUPPORTED 0x40000ull /* this library does not have that function */

struct ring_request {
    uint64_t ticket;
    uint64_t sector;
    uint64_t sectors;
    uint64_t offset; /* of the buffer, in the data area */
    uint64_t room;   /* bytes there */
    uint32_t chunk;
    uint32_t op;
    uint64_t reserved[2];
};

struct ring_completion {
    uint64_t ticket;
    uint64_t error; /* 0, a VixError, or one of the above */
    uint64_t count; /* of pairs */
    uint64_t reserved;
};

struct ring {
    uint64_t magic;
    uint64_t data_bytes;
    uint64_t pad0[6];
    uint64_t submitted; /* written by the client only, as `reaped` is; each counter on a cache line of its own */
    uint64_t pad1[7];
    uint64_t taken;
    uint64_t pad2[7];
    uint64_t completed;
    uint64_t pad3[7];
    uint64_t reaped;
    uint64_t pad4[7];
    struct ring_request requests[RING_ENTRIES];
    struct ring_completion completions[RING_ENTRIES];
};

_Static_assert(sizeof(struct ring_request) == 64, "an entry is a cache line");
_Static_assert(sizeof(struct ring) <= RING_DATA_OFFSET, "the queues lie below the data");

static inline uint64_t ring_load(const uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_ACQUIRE); }

static inline void ring_store(uint64_t *counter, uint64_t value) {
    __atomic_store_n(counter, value, __ATOMIC_RELEASE);
}

static inline void ring_format(struct ring *ring, uint64_t data_bytes) {
    ring->magic = RING_MAGIC;
    ring->data_bytes = data_bytes;
}

/* The client. 0, or -1 where the queue is full. */
static inline int ring_submit(struct ring *ring, const struct ring_request *request) {
    uint64_t at = ring->submitted;
    if (at - ring_load(&ring->taken) >= RING_ENTRIES)
        return -1;
    ring->requests[at % RING_ENTRIES] = *request;
    ring_store(&ring->submitted, at + 1);
    return 0;
}

/* 1 with an entry, 0 where there is none, -1 where the other side's counter is impossible. */
static inline int ring_take(struct ring *ring, struct ring_request *request) {
    uint64_t at = ring->taken, waiting = ring_load(&ring->submitted) - at;
    if (waiting == 0)
        return 0;
    if (waiting > RING_ENTRIES)
        return -1;
    *request = ring->requests[at % RING_ENTRIES];
    ring_store(&ring->taken, at + 1);
    return 1;
}

/* The reader, holding its lock. The client never has more than RING_ENTRIES under way, so there is room; should there
 * be none, the entry is dropped and the client finds that a request never completes. */
static inline void ring_complete(struct ring *ring, uint64_t ticket, uint64_t error, uint64_t count) {
    uint64_t at = ring->completed;
    if (at - ring_load(&ring->reaped) >= RING_ENTRIES)
        return;
    ring->completions[at % RING_ENTRIES] = (struct ring_completion){ticket, error, count, 0};
    ring_store(&ring->completed, at + 1);
}

static inline int ring_reap(struct ring *ring, struct ring_completion *completion) {
    uint64_t at = ring->reaped, waiting = ring_load(&ring->completed) - at;
    if (waiting == 0)
        return 0;
    if (waiting > RING_ENTRIES)
        return -1;
    *completion = ring->completions[at % RING_ENTRIES];
    ring_store(&ring->reaped, at + 1);
    return 1;
}

#endif
