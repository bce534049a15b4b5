/* The reader's own thread: takes requests from the ring, has the library fill the buffers, completes them.
 *
 * Owns everything between a ring and one open handle while the handle is being read; refuses Open, Close and whatever
 * else belongs to the main thread. Completions arrive on the library's threads. Nothing here knows of Python.
 */
#ifndef WARMSPARE_VDDK_READER_H
#define WARMSPARE_VDDK_READER_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#include "ring.h"
#include "vddk_api.h"

#define READER_PAGE 4096u
#define READER_NOBODY UINT64_MAX /* the ticket of a request that is not in use */

struct reader;

struct reader_request {
    struct reader *reader;
    struct reader_request *next_free;
    uint64_t ticket, token;
    uint8_t *buffer;
    size_t bytes;
};

struct reader {
    const struct vddk_api *api;
    VixDiskLibHandle handle;
    struct ring *ring;
    uint64_t capacity; /* in sectors */
    int request_fd, completion_fd, keep_alive_ms, asynchronous;
    uint64_t seed;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows, and the ring's completions */
    pthread_cond_t idle;
    unsigned in_flight;
    int stopping;
    struct reader_request *free, **free_end; /* those not in use, longest unused first */
    struct reader_request requests[RING_ENTRIES];
    uint8_t scratch[128 * VIXDISKLIB_SECTOR_SIZE];
};

/* What is left at the end of each page of a buffer before a read: if it is there afterwards, the library said that it
 * read what it did not. Random, and another one each time, so no disk holds it twice. */
static inline void reader_mark(const struct reader_request *request) {
    for (size_t at = 0; at < request->bytes; at += READER_PAGE) {
        size_t end = at + READER_PAGE < request->bytes ? at + READER_PAGE : request->bytes;
        memcpy(request->buffer + end - sizeof request->token, &request->token, sizeof request->token);
    }
}

static inline int reader_marked(const struct reader_request *request) {
    for (size_t at = 0; at < request->bytes; at += READER_PAGE) {
        size_t end = at + READER_PAGE < request->bytes ? at + READER_PAGE : request->bytes;
        if (memcmp(request->buffer + end - sizeof request->token, &request->token, sizeof request->token) == 0)
            return 1;
    }
    return 0;
}

static inline uint64_t reader_token(struct reader *reader) { /* splitmix64 */
    uint64_t x = reader->seed += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return (x ^ (x >> 31)) | 1; /* never zero: that, disks do hold */
}

static inline void reader_signal(int fd) {
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof one);
    (void)written; /* EAGAIN: the counter is far from zero, so the client is awake */
}

/* Complete what never became a request of the library's. */
static inline void reader_answer(struct reader *reader, uint64_t ticket, uint64_t error, uint64_t count) {
    pthread_mutex_lock(&reader->lock);
    ring_complete(reader->ring, ticket, error, count);
    pthread_mutex_unlock(&reader->lock);
    reader_signal(reader->completion_fd);
}

/* VixDiskLibCompletionCB. A second call for one request completes READER_NOBODY's ticket, which no client knows.
 * Requests are used again in turn, the longest unused first: should the second call come so late that another read has
 * the request by then, that one ends early, its marks are found, and its own call is the one too many. */
static inline void reader_done(void *data, VixError result) {
    struct reader_request *request = data;
    struct reader *reader = request->reader;
    uint64_t error = result ? (VIX_ERROR_CODE(result) ? result : RING_NONSENSE) : 0;
    if (!error && reader_marked(request))
        error = RING_SHORT;
    pthread_mutex_lock(&reader->lock);
    ring_complete(reader->ring, request->ticket, error, 0);
    if (request->ticket != READER_NOBODY) {
        request->ticket = READER_NOBODY;
        request->next_free = NULL;
        *reader->free_end = request;
        reader->free_end = &request->next_free;
        if (--reader->in_flight == 0)
            pthread_cond_broadcast(&reader->idle);
    }
    pthread_mutex_unlock(&reader->lock);
    reader_signal(reader->completion_fd);
}

static inline struct reader_request *reader_begin(struct reader *reader, uint64_t ticket) {
    pthread_mutex_lock(&reader->lock);
    struct reader_request *request = reader->free;
    if (request) {
        reader->free = request->next_free;
        if (!reader->free)
            reader->free_end = &reader->free;
        request->ticket = ticket;
        reader->in_flight++;
    }
    pthread_mutex_unlock(&reader->lock);
    return request;
}

static inline void reader_read(struct reader *reader, const struct ring_request *wanted, uint8_t *buffer) {
    struct reader_request *request = reader_begin(reader, wanted->ticket);
    if (!request) {
        reader_answer(reader, wanted->ticket, RING_REFUSED, 0);
        return;
    }
    request->token = reader_token(reader);
    request->buffer = buffer;
    request->bytes = wanted->sectors * VIXDISKLIB_SECTOR_SIZE;
    reader_mark(request);
    if (!reader->asynchronous) {
        reader_done(request, reader->api->Read(reader->handle, wanted->sector, wanted->sectors, buffer));
        return;
    }
    VixError accepted =
        reader->api->ReadAsync(reader->handle, wanted->sector, wanted->sectors, buffer, reader_done, request);
    if (VIX_ERROR_CODE(accepted) != VIX_ASYNC) /* not accepted, so nobody will call back */
        reader_done(request, accepted ? accepted : RING_NONSENSE);
}

/* Wait until the library has called back for everything and knows it: our own count falls inside its callback, which
 * has yet to return, so the count alone would let Close come too early. The handle is used by nobody else then. */
static inline void reader_drain(struct reader *reader) {
    if (reader->asynchronous)
        reader->api->Wait(reader->handle);
    pthread_mutex_lock(&reader->lock);
    while (reader->in_flight)
        pthread_cond_wait(&reader->idle, &reader->lock);
    pthread_mutex_unlock(&reader->lock);
}

static inline void reader_allocated(struct reader *reader, const struct ring_request *wanted, uint8_t *buffer) {
    if (!reader->api->QueryAllocatedBlocks || !reader->api->FreeBlockList) {
        reader_answer(reader, wanted->ticket, RING_UNSUPPORTED, 0);
        return;
    }
    if (!wanted->chunk) {
        reader_answer(reader, wanted->ticket, RING_REFUSED, 0);
        return;
    }
    reader_drain(reader);
    VixDiskLibBlockList *list = NULL;
    VixError error = reader->api->QueryAllocatedBlocks(reader->handle, wanted->sector, wanted->sectors, wanted->chunk, &list);
    if (error || !list) {
        reader_answer(reader, wanted->ticket, error ? error : RING_NONSENSE, 0);
        return;
    }
    uint64_t count = list->numBlocks;
    if (count > wanted->sectors / wanted->chunk + 1 || count * sizeof(VixDiskLibBlock) > wanted->room)
        error = RING_NONSENSE; /* more areas than there are chunks: don't even look at them */
    else
        memcpy(buffer, list->blocks, count * sizeof(VixDiskLibBlock));
    reader->api->FreeBlockList(list);
    reader_answer(reader, wanted->ticket, error, error ? 0 : count);
}

static inline void reader_serve(struct reader *reader, const struct ring_request *wanted) {
    uint64_t room = reader->ring->data_bytes;
    int bad = wanted->offset > room || wanted->room > room - wanted->offset || wanted->sectors == 0 ||
              wanted->sector > reader->capacity || wanted->sectors > reader->capacity - wanted->sector;
    uint8_t *buffer = (uint8_t *)reader->ring + RING_DATA_OFFSET + wanted->offset;
    if (bad || (wanted->op == RING_READ && wanted->sectors > wanted->room / VIXDISKLIB_SECTOR_SIZE))
        reader_answer(reader, wanted->ticket, RING_REFUSED, 0);
    else if (wanted->op == RING_READ)
        reader_read(reader, wanted, buffer);
    else if (wanted->op == RING_ALLOCATED)
        reader_allocated(reader, wanted, buffer);
    else
        reader_answer(reader, wanted->ticket, RING_REFUSED, 0);
}

static inline int reader_stopping(struct reader *reader) {
    pthread_mutex_lock(&reader->lock);
    int stopping = reader->stopping;
    pthread_mutex_unlock(&reader->lock);
    return stopping;
}

/* A server drops a handle that nobody uses. If this read fails, so will the next one, and the client reopens. */
static inline void reader_keep_alive(struct reader *reader) {
    pthread_mutex_lock(&reader->lock);
    int busy = reader->in_flight > 0;
    pthread_mutex_unlock(&reader->lock);
    uint64_t sectors = sizeof reader->scratch / VIXDISKLIB_SECTOR_SIZE;
    if (!busy)
        reader->api->Read(reader->handle, 0, sectors < reader->capacity ? sectors : reader->capacity, reader->scratch);
}

static inline void *reader_main(void *data) {
    struct reader *reader = data;
    struct ring_request wanted;
    struct pollfd waiting = {.fd = reader->request_fd, .events = POLLIN};
    while (!reader_stopping(reader)) {
        int got = ring_take(reader->ring, &wanted);
        if (got < 0)
            _exit(1); /* the client's counter is impossible: no answer would be understood */
        if (got) {
            reader_serve(reader, &wanted);
            continue;
        }
        int ready = poll(&waiting, 1, reader->keep_alive_ms);
        if (ready > 0) {
            uint64_t count;
            ssize_t size = read(reader->request_fd, &count, sizeof count);
            (void)size;
        } else if (ready == 0) {
            reader_keep_alive(reader);
        }
    }
    return NULL;
}

/* 0, or an errno. `reader` is zeroed but for what comes before `seed`. */
static inline int reader_start(struct reader *reader) {
    if (getrandom(&reader->seed, sizeof reader->seed, 0) != sizeof reader->seed)
        return errno;
    pthread_mutex_init(&reader->lock, NULL);
    pthread_cond_init(&reader->idle, NULL);
    reader->free_end = &reader->free;
    for (unsigned i = 0; i < RING_ENTRIES; i++) {
        reader->requests[i].reader = reader;
        reader->requests[i].ticket = READER_NOBODY;
        *reader->free_end = &reader->requests[i];
        reader->free_end = &reader->requests[i].next_free;
    }
    return pthread_create(&reader->thread, NULL, reader_main, reader);
}

/* Returns when the thread has ended and nothing is in flight: the handle may be closed. What was submitted and not
 * yet begun is dropped. */
static inline void reader_stop(struct reader *reader) {
    pthread_mutex_lock(&reader->lock);
    reader->stopping = 1;
    pthread_mutex_unlock(&reader->lock);
    reader_signal(reader->request_fd);
    pthread_join(reader->thread, NULL);
    ring_store(&reader->ring->taken, ring_load(&reader->ring->submitted));
    reader_drain(reader);
    pthread_cond_destroy(&reader->idle);
    pthread_mutex_destroy(&reader->lock);
}

/* End this process when its client is gone, however stuck the library is: after `grace_ms`, so that the main thread
 * can close handles and connections first. */
struct reader_watch {
    int fd, grace_ms;
};

static inline void *reader_watch_main(void *data) {
    struct reader_watch *watch = data;
    struct pollfd waiting = {.fd = watch->fd, .events = POLLRDHUP};
    for (;;) {
        int ready = poll(&waiting, 1, -1);
        if (ready > 0 && (waiting.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)))
            break;
    }
    poll(NULL, 0, watch->grace_ms);
    _exit(0);
}

static inline int reader_watch(int fd, int grace_ms) {
    static struct reader_watch watch;
    pthread_t thread;
    watch.fd = fd;
    watch.grace_ms = grace_ms;
    int status = pthread_create(&thread, NULL, reader_watch_main, &watch);
    if (status == 0)
        pthread_detach(thread);
    return status;
}

#endif
