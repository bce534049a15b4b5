/* Requests under way: whose buffers are in use, and the threads that complete asynchronous ones when they are due.
 *
 * The queue is a heap by due time. One idle worker (the leader) sleeps until its head is due, the others wait to be
 * woken: so N requests in flight wait out one latency together, and with none of it a request costs one wake-up. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "standin.h"

static Request *in_flight; /* every buffer that a request may touch */

static Request **heap;
static size_t queued, room;
static uint64_t orders;

static pthread_t *workers;
static unsigned working;
static bool stopping, leading;
static pthread_cond_t queue_changed, flight_changed = PTHREAD_COND_INITIALIZER;

bool flight_add(Call call, Request *request) {
    bool overlaps = false;
    pthread_mutex_lock(&lock);
    for (const Request *each = in_flight; each; each = each->following)
        overlaps |= !each->handle->closed && (request->write == false || each->write == false) &&
                    request->buffer < each->buffer + each->bytes && each->buffer < request->buffer + request->bytes;
    if (!overlaps) {
        request->previous = NULL;
        request->following = in_flight;
        if (in_flight) in_flight->previous = request;
        in_flight = request;
    }
    pthread_mutex_unlock(&lock);
    if (overlaps) breach(call, "the buffer overlaps one that is in flight");
    return !overlaps;
}

static void land(Request *request) { /* holding the lock */
    if (request->previous) request->previous->following = request->following;
    else in_flight = request->following;
    if (request->following) request->following->previous = request->previous;
}

void flight_remove(Request *request) {
    pthread_mutex_lock(&lock);
    land(request);
    pthread_mutex_unlock(&lock);
}

void flight_wait(Handle *handle, const unsigned *until_zero) {
    while (*until_zero && !(until_zero == &handle->pending && handle->closed))
        pthread_cond_wait(&flight_changed, &lock);
}

VixError request_do(Request *request) {
    uint64_t bytes = request->action.what & ACT_SHORT ? request->bytes / 2 : request->bytes;
    if (!image_range(request->handle->fd, request->write, request->offset, request->buffer, bytes))
        return failure(VIX_E_FAIL);
    if (request->action.what & ACT_WRONG) {
        request->buffer[0] ^= 0x01;
        request->buffer[request->bytes / 2] ^= 0xFF;
        request->buffer[request->bytes - 1] ^= 0x80;
    }
    return VIX_OK;
}

void request_answer(Request *request, VixError result) {
    bool twice = request->action.what & ACT_NONSENSE && !request->write, was = in_callback;
    in_callback = true;
    request->callback(request->data, result);
    if (twice) request->callback(request->data, result);
    in_callback = was;
}

static bool before(const Request *a, const Request *b) {
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static bool push(Request *request) {
    if (queued == room) {
        size_t more = room ? room * 2 : 64;
        Request **grown = realloc(heap, more * sizeof *heap);
        if (!grown) return false;
        heap = grown;
        room = more;
    }
    size_t at = queued++;
    for (; at && before(request, heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = request;
    return true;
}

static Request *pop(void) {
    Request *first = heap[0], *last = heap[--queued];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < queued) {
        child += child + 1 < queued && before(heap[child + 1], heap[child]);
        if (!before(heap[child], last)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

/* The next request that is due, or NULL at the end; holding the lock. */
static Request *next(void) {
    for (;;) {
        if (stopping) return NULL;
        if (!queued) {
            pthread_cond_wait(&queue_changed, &lock);
            continue;
        }
        uint64_t due = heap[0]->due_ns;
        if (!due || due <= now_ns()) break;
        if (leading) {
            pthread_cond_wait(&queue_changed, &lock);
            continue;
        }
        struct timespec until = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        leading = true;
        pthread_cond_timedwait(&queue_changed, &lock, &until);
        leading = false;
    }
    Request *request = pop();
    if (queued && !leading) pthread_cond_signal(&queue_changed);
    return request;
}

static void *work(void *unused) {
    Request *request;
    prctl(PR_SET_TIMERSLACK, 1ul); /* a latency of a millisecond is to be one */
    pthread_mutex_lock(&lock);
    while ((request = next())) {
        Handle *handle = request->handle;
        if (handle->closed) { /* with requests pending: a breach, reported by Close */
            land(request);
            free(request);
            continue;
        }
        handle->busy++;
        pthread_mutex_unlock(&lock);
        VixError result = request->action.what & ACT_FAIL ? failure(request->action.fail)
                          : handle->dropped              ? failure(VIX_E_HOST_TCP_SOCKET_ERROR)
                                                         : request_do(request);
        uint64_t now = now_ns();
        pthread_mutex_lock(&lock);
        land(request);
        handle->used_ns = now;
        pthread_mutex_unlock(&lock);
        request_answer(request, result); /* from here on the buffer is the client's again */
        free(request);
        pthread_mutex_lock(&lock);
        if (!--handle->busy | !--handle->pending) pthread_cond_broadcast(&flight_changed);
    }
    pthread_mutex_unlock(&lock);
    return unused;
}

bool workers_start(void) {
    bool started = true;
    pthread_mutex_lock(&lock);
    if (!workers) {
        pthread_condattr_t monotonic;
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_cond_init(&queue_changed, &monotonic);
        pthread_condattr_destroy(&monotonic);
        workers = calloc(config.threads, sizeof *workers);
        while (working < config.threads && !pthread_create(&workers[working], NULL, work, NULL)) working++;
        started = working > 0;
    }
    pthread_mutex_unlock(&lock);
    return started;
}

void workers_queue(Request *request) {
    pthread_mutex_lock(&lock);
    request->order = orders++;
    if (!push(request)) abort();
    if (heap[0] == request) pthread_cond_signal(&queue_changed);
    pthread_mutex_unlock(&lock);
}

void workers_stop(void) {
    pthread_mutex_lock(&lock);
    stopping = true;
    if (workers) pthread_cond_broadcast(&queue_changed);
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < working; i++) pthread_join(workers[i], NULL);
    while (queued) free(pop());
    free(heap);
    free(workers);
    heap = NULL;
    workers = NULL;
    working = 0;
}
