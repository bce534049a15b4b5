/* What happened: breaches (one line each, appended by one write), counts shared by all processes, and what was given
 * out to the client and must come back. Never writes a value that came from the client: it might be a secret. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "standin.h"

#define STANDIN_NAME(result, name, arguments) #name,
#define STANDIN_OTHER_NAME(name) #name,
const char *const call_names[CALLS] = {VIXDISKLIB_REQUIRED(STANDIN_NAME) VIXDISKLIB_OPTIONAL(STANDIN_NAME)
                                           STANDIN_OTHERS(STANDIN_OTHER_NAME)};

static void append(const char *what, const char *format, va_list arguments) {
    char line[1024];
    int length = snprintf(line, sizeof line, "pid=%d tid=%ld %s: ", (int)getpid(), syscall(SYS_gettid), what);
    length += vsnprintf(line + length, sizeof line - (size_t)length - 1, format, arguments);
    if (length > (int)sizeof line - 2) length = sizeof line - 2;
    line[length++] = '\n';
    int fd = open(config.breaches, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, line, (size_t)length) != length) {
        fprintf(stderr, "standin: a breach that could not be written: %s", line);
    }
    if (fd >= 0) close(fd);
}

void breach(Call call, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    append(call_names[call], format, arguments);
    va_end(arguments);
}

void complain(const char *what, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    append(what, format, arguments);
    va_end(arguments);
}

/* The counts file: CALLS counts and their total, then CALLS hits and their total; all native u64. */
typedef struct {
    _Atomic uint64_t calls[CALLS], calls_total, hits[CALLS], hits_total;
} Counts;

static Counts private_counts;
static Counts *counts = &private_counts;

void counts_open(void) {
    int fd = open(config.counts, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    void *map = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, sizeof(Counts)) == 0)
        map = mmap(NULL, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) complain("standin", "the counts file cannot be used");
    else counts = map;
    if (fd >= 0) close(fd);
}

void count_call(Call call, uint64_t *nth, uint64_t *total) {
    *nth = ++counts->calls[call];
    *total = ++counts->calls_total;
}

void count_hit(Call call) {
    counts->hits[call]++;
    counts->hits_total++;
}

/* What was given out. Small objects are poisoned and kept for a while when they come back, so that one that is used
 * or freed again is seen; with AddressSanitizer they are freed at once, since it does that better. */
typedef struct Node {
    struct Node *next;
    size_t bytes;
    Given kind;
} __attribute__((aligned(16))) Node;

#ifdef __SANITIZE_ADDRESS__
enum { QUARANTINE_BYTES = 0, QUARANTINE = 1 };
#else
enum { QUARANTINE_BYTES = 4096, QUARANTINE = 64 };
#endif

static Node *given[GIVEN_KINDS];
static unsigned givens[GIVEN_KINDS];
static Node *quarantine[QUARANTINE];
static unsigned next_cell;

static const char *const given_names[GIVEN_KINDS] = {"connection parameters", "an info", "a block list", "a text"};

void *give(Given kind, size_t bytes) {
    Node *node = calloc(1, sizeof *node + bytes);
    if (!node) return NULL;
    node->bytes = bytes;
    node->kind = kind;
    pthread_mutex_lock(&lock);
    node->next = given[kind];
    given[kind] = node;
    givens[kind]++;
    pthread_mutex_unlock(&lock);
    return node + 1;
}

static Node **find(Given kind, const void *object) {
    Node **at = &given[kind];
    while (*at && (const void *)(*at + 1) != object) at = &(*at)->next;
    return at;
}

bool is_given(Given kind, const void *object) {
    pthread_mutex_lock(&lock);
    bool found = *find(kind, object) != NULL;
    pthread_mutex_unlock(&lock);
    return found;
}

void take_back(Call call, Given kind, void *object) {
    Node *gone = NULL;
    bool again = false;
    pthread_mutex_lock(&lock);
    Node **at = find(kind, object), *node = *at;
    if (node) {
        *at = node->next;
        givens[kind]--;
        gone = node;
        if (node->bytes <= QUARANTINE_BYTES) {
            memset(object, 0xDD, node->bytes);
            gone = quarantine[next_cell];
            quarantine[next_cell] = node;
            next_cell = (next_cell + 1) % QUARANTINE;
        }
    } else {
        for (unsigned i = 0; i < QUARANTINE; i++)
            again |= quarantine[i] && (void *)(quarantine[i] + 1) == object;
    }
    pthread_mutex_unlock(&lock);
    free(gone);
    if (!node)
        breach(call, "%s %s", given_names[kind],
               !object ? "was expected, not NULL"
               : again ? "was freed a second time"
                       : "was freed that this library did not give out, or was freed before");
}

unsigned given_count(Given kind) {
    pthread_mutex_lock(&lock);
    unsigned count = givens[kind];
    pthread_mutex_unlock(&lock);
    return count;
}
