/* What the stand-in's files share. Owns the types and the contract between them; exports nothing.
 *
 * The stand-in is a library with the ABI of VMware's VDDK over local raw images. It is for tests and the demo: it
 * checks each call as strictly as the documents allow and fails on demand from a script. README.md tells how it is
 * configured. A call in breach of the rules is reported, and refused where carrying on would touch foreign memory.
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WARMSPARE_VIXDISKLIB_PROTOTYPES
#include "../vixdisklib.h"

enum { /* codes that the shared header does not need */
    E_NOT_SUPPORTED = 6,
    E_ACCESS = 13,
    E_CANNOT_CONNECT = 18000 /* what a wrong login or thumbprint comes out as */
};

/* A failure as the real library hands it out: bits above the low 16 may be set, so clients must mask them off. */
#define FAILURE_BITS ((VixError)1 << 40)
static inline VixError failure(uint64_t code) { return code == VIX_OK ? VIX_OK : code | FAILURE_BITS; }

/* What a real library has besides, and a tool that only reads must not call: others.c. */
#define STANDIN_OTHERS(X)                                                                                              \
    X(Init) X(Connect) X(GetConnectParams) X(Create) X(CreateChild) X(Unlink) X(Rename) X(Clone) X(Grow) X(Shrink)      \
    X(Defragment) X(Attach) X(IsAttachPossible) X(SpaceNeededForClone) X(CheckRepair) X(ReadMetadata)                  \
    X(WriteMetadata) X(GetMetadataKeys)

/* Every function of the ABI, in the header's order: the order of the counts file. */
#define STANDIN_CALL(result, name, arguments) CALL_##name,
#define STANDIN_OTHER(name) CALL_##name,
typedef enum {
    VIXDISKLIB_REQUIRED(STANDIN_CALL) VIXDISKLIB_OPTIONAL(STANDIN_CALL) STANDIN_OTHERS(STANDIN_OTHER) CALLS
} Call;
#undef STANDIN_OTHER
#undef STANDIN_CALL
extern const char *const call_names[CALLS];

/* ---- config.c: standin.conf, read once */

typedef struct Disk {
    struct Disk *next;
    char *path, *file, *uuid;
} Disk;

typedef struct Expected {
    struct Expected *next;
    char *name, *value;
} Expected;

typedef struct {
    char *script, *counts, *breaches; /* paths */
    char *modes;                      /* offered, colon between them, as written */
    bool loose;                       /* the rules as nbdkit reads them */
    unsigned threads;                 /* that serve asynchronous requests */
    Disk *disks;
    Expected *expected;
} Config;

extern Config config;
void config_load(void);
const Disk *config_disk(const char *path);
const char *config_expected(const char *name); /* NULL: anything will do */

/* ---- ledger.c: breaches, counts, what was given out */

void breach(Call call, const char *format, ...) __attribute__((format(printf, 2, 3)));
void complain(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3))); /* not in a call */
void counts_open(void);
void count_call(Call call, uint64_t *nth, uint64_t *total); /* both from 1, over all processes */
void count_hit(Call call);

typedef enum { GIVEN_PARAMS, GIVEN_INFO, GIVEN_LIST, GIVEN_TEXT, GIVEN_KINDS } Given;
void *give(Given kind, size_t bytes); /* zeroed; NULL when memory is out */
bool is_given(Given kind, const void *object);
void take_back(Call call, Given kind, void *object); /* a breach unless it was given and not yet taken back */
unsigned given_count(Given kind);

/* ---- script.c: what is to go wrong; chaos.c: making it so */

enum { /* bits of Action.what */
    ACT_ERROR = 1 << 0,
    ACT_FAIL = 1 << 1,
    ACT_CRASH = 1 << 2,
    ACT_PANIC = 1 << 3,
    ACT_EXIT = 1 << 4,
    ACT_HANG = 1 << 5,
    ACT_SLOW = 1 << 6,
    ACT_SHORT = 1 << 7,
    ACT_WRONG = 1 << 8,
    ACT_NONSENSE = 1 << 9,
    ACT_NULL = 1 << 10
};

typedef struct {
    unsigned what;
    uint64_t error, fail; /* codes */
    uint64_t slow_ns;
    const char *panic;
} Action;

typedef enum { WHEN_AT, WHEN_FROM, WHEN_EVERY } When;

typedef struct Rule {
    struct Rule *next;
    When when;
    Call call; /* CALLS: any */
    uint64_t nth;
    Action action;
} Rule;

typedef struct Line {
    struct Line *next;
    int level; /* 0 log, 1 warn */
    char *text;
} Line;

typedef struct Script {
    struct Script *older; /* kept: a call may still be reading it */
    uint64_t latency_ns, idle_drop_ns;
    double ns_per_byte;
    Rule *rules;
    Line *lines;
} Script;

const Script *script_now(void);
Action script_action(const Script *script, Call call, uint64_t nth, uint64_t total);
unsigned actions_of(Call call); /* the ACT_ bits that can be done to it */

void act(const Action *action);     /* slow, crash, panic, exit, hang; returns unless it must not */
void say(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void say_lines(const Script *script); /* each log line of the script, from several threads at once */
uint64_t pace_due(const Script *script, uint64_t bytes, uint64_t now); /* when one queued now is done */

uint64_t now_ns(void); /* monotonic */
void sleep_until(uint64_t ns);

/* ---- life.c: the process: InitEx, Exit, and the way into every call */

typedef struct {
    Call call;
    Action action;
} Entered;

bool enter(Entered *entered, Call call); /* counts, picks the action; false: a breach of the order of calls */
extern pthread_mutex_t lock;             /* guards all connections, handles, requests and what was given out */
extern __thread bool in_callback;
extern VixDiskLibGenericLogFunc log_functions[3]; /* log, warn, panic */
bool modes_offer(const char *mode, size_t length);

/* ---- connection.c */

typedef struct Connection {
    struct Connection *next;
    bool closed, read_only, remote;
    char *modes; /* asked for; NULL: the library's own */
    unsigned open_handles;
} Connection;

Connection *connection_find(const void *connection); /* holding the lock; closed ones too */
unsigned connections_open(void);

/* ---- handle.c */

typedef struct VixDiskLibHandleStruct {
    struct VixDiskLibHandleStruct *next;
    Connection *connection;
    char *uuid;
    const char *mode;
    uint64_t sectors;
    uint64_t used_ns;
    int fd;
    bool closed, read_only, asynchronous, dropped;
    pid_t inside;      /* the thread that is in a call on it */
    unsigned depth;    /* how often */
    unsigned pending;  /* asynchronous requests whose callback has not returned */
    unsigned busy;     /* of these, the ones that a worker has in hand */
} Handle;

bool handle_enter(Call call, Handle *handle); /* false: a breach, refuse */
void handle_leave(Handle *handle);
bool handle_dropped(Handle *handle, const Script *script, uint64_t now); /* by a server that found it idle */
unsigned handles_open(void);

/* ---- disk.c: images; knows nothing of calls */

bool image_range(int fd, bool write, uint64_t offset, void *buffer, uint64_t bytes);
bool image_next_data(int fd, uint64_t from, uint64_t end, uint64_t *data, uint64_t *hole);

/* ---- flight.c: requests that are under way, and the threads that complete them */

typedef struct Request {
    struct Request *previous, *following; /* in flight */
    Handle *handle;
    uint8_t *buffer;
    uint64_t offset, bytes;
    bool write;
    VixDiskLibCompletionCB callback;
    void *data;
    Action action;
    uint64_t due_ns, order;
} Request;

bool flight_add(Call call, Request *request);  /* false: its buffer overlaps one in flight (a breach) */
void flight_remove(Request *request);
VixError request_do(Request *request);         /* the I/O itself, and what the script does to it */
void request_answer(Request *request, VixError result); /* its callback */
bool workers_start(void);
void workers_queue(Request *request);
void workers_stop(void);
void flight_wait(Handle *handle, const unsigned *until_zero); /* holding the lock */

#endif
