/* Handles: their states, who is inside a call on them, what they say of their disk. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "standin.h"

static Handle *handles; /* closed ones stay: one that is used again is known for what it is */
static pid_t opener;    /* the one thread of all Open and Close */

static pid_t thread(void) {
    static __thread pid_t id;
    return id ? id : (id = (pid_t)syscall(SYS_gettid));
}

bool handle_enter(Call call, Handle *handle) {
    const char *wrong = NULL;
    pthread_mutex_lock(&lock);
    Handle *found = handles;
    while (found && found != handle) found = found->next;
    if (!found) wrong = "not a handle";
    else if (found->closed) wrong = "used after Close";
    else if (in_callback) wrong = "used from a callback";
    else if (found->depth && found->inside != thread()) wrong = "used by two threads at once";
    else {
        found->inside = thread();
        found->depth++;
    }
    pthread_mutex_unlock(&lock);
    if (wrong) breach(call, "the handle: %s", wrong);
    return !wrong;
}

void handle_leave(Handle *handle) {
    pthread_mutex_lock(&lock);
    handle->depth--;
    pthread_mutex_unlock(&lock);
}

/* Notes that the handle is used now; a server that dropped it meanwhile lets every later use fail. */
bool handle_dropped(Handle *handle, const Script *script, uint64_t now) {
    pthread_mutex_lock(&lock);
    if (script->idle_drop_ns && !handle->pending && now > handle->used_ns + script->idle_drop_ns)
        handle->dropped = true;
    handle->used_ns = now;
    bool gone = handle->dropped;
    pthread_mutex_unlock(&lock);
    return gone;
}

unsigned handles_open(void) {
    unsigned count = 0;
    pthread_mutex_lock(&lock);
    for (const Handle *each = handles; each; each = each->next) count += !each->closed;
    pthread_mutex_unlock(&lock);
    return count;
}

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER; /* with nbdkit's rules: held in Open and Close */

/* All Open and Close from one thread; as nbdkit reads it: from any, if they are not at it at once. */
static void check_opener(Call call) {
    if (config.loose) {
        if (pthread_mutex_trylock(&opening)) {
            breach(call, "Open and Close come from two threads at once");
            pthread_mutex_lock(&opening);
        }
        return;
    }
    pthread_mutex_lock(&lock);
    if (!opener) opener = thread();
    bool other = opener != thread();
    pthread_mutex_unlock(&lock);
    if (other) breach(call, "Open and Close come from more than one thread");
}

static void opener_done(void) {
    if (config.loose) pthread_mutex_unlock(&opening);
}

/* The first of the modes that were asked for and are offered; NULL: none. */
static const char *choose_mode(const char *asked) {
    static const char *const known[] = {"file", "san", "hotadd", "nbdssl", "nbd"};
    for (const char *at = asked ? asked : config.modes; *at;) {
        size_t size = strcspn(at, ":");
        if (modes_offer(at, size))
            for (size_t i = 0; i < sizeof known / sizeof *known; i++)
                if (strlen(known[i]) == size && !strncmp(known[i], at, size)) return known[i];
        at += size + (at[size] == ':');
    }
    return NULL;
}

static VixError open_image(Handle *made, const char *path) {
    const Disk *disk = config_disk(path);
    struct stat found;
    if (!disk && (made->connection->remote || *path != '/')) return VIX_E_FILE_NOT_FOUND;
    made->mode = disk ? choose_mode(made->connection->modes) : "file";
    if (!made->mode) return E_ACCESS;
    made->asynchronous = !strncmp(made->mode, "nbd", 3);
    made->fd = open(disk ? disk->file : path, (made->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (made->fd < 0) return errno == ENOENT ? VIX_E_FILE_NOT_FOUND : E_ACCESS;
    if (fstat(made->fd, &found) || !S_ISREG(found.st_mode)) return E_ACCESS;
    made->sectors = (uint64_t)found.st_size / VIXDISKLIB_SECTOR_SIZE;
    if (disk && disk->uuid) {
        made->uuid = strdup(disk->uuid);
    } else { /* made up from the path, in the form that vSphere's have */
        uint64_t hash = 0xcbf29ce484222325u;
        for (const char *at = path; *at; at++) hash = (hash ^ (uint8_t)*at) * 0x100000001b3u;
        if (asprintf(&made->uuid, "60 00 c2 9%x %02x %02x %02x %02x-%02x %02x %02x %02x 00 00 00 01",
                     (unsigned)(hash & 15), (unsigned)(hash >> 4 & 255), (unsigned)(hash >> 12 & 255),
                     (unsigned)(hash >> 20 & 255), (unsigned)(hash >> 28 & 255), (unsigned)(hash >> 36 & 255),
                     (unsigned)(hash >> 44 & 255), (unsigned)(hash >> 52 & 255), (unsigned)(hash >> 60)) < 0)
            made->uuid = NULL;
    }
    return made->uuid ? VIX_OK : VIX_E_OUT_OF_MEMORY;
}

static VixError open_handle(Entered in, VixDiskLibConnection connection, const char *path, uint32_t flags,
                            VixDiskLibHandle *handle) {
    const uint32_t known = VIXDISKLIB_FLAG_OPEN_UNBUFFERED | VIXDISKLIB_FLAG_OPEN_SINGLE_LINK |
                           VIXDISKLIB_FLAG_OPEN_READ_ONLY | VIXDISKLIB_FLAG_OPEN_COMPRESSION_ZLIB |
                           VIXDISKLIB_FLAG_OPEN_COMPRESSION_FASTLZ | VIXDISKLIB_FLAG_OPEN_COMPRESSION_SKIPZ;
    const uint32_t compression = flags & known & ~(uint32_t)7;
    const char *wrong = NULL;
    pthread_mutex_lock(&lock);
    Connection *found = connection_find(connection);
    if (!found) wrong = "not a connection";
    else if (found->closed) wrong = "the connection was disconnected";
    else if (!path || !handle) wrong = "an argument is NULL";
    else if (flags & ~known) wrong = "a flag that is not known";
    else if (compression & (compression - 1)) wrong = "more than one compression";
    else if (found->read_only && !(flags & VIXDISKLIB_FLAG_OPEN_READ_ONLY))
        wrong = "for writing, on a read-only connection";
    if (!wrong) found->open_handles++;
    pthread_mutex_unlock(&lock);
    if (wrong) {
        breach(in.call, "%s", wrong);
        return failure(VIX_E_INVALID_ARG);
    }
    *handle = NULL;
    act(&in.action);
    VixError error = in.action.what & ACT_ERROR ? in.action.error : VIX_OK;
    if (!error && in.action.what & ACT_NULL) {
        pthread_mutex_lock(&lock);
        found->open_handles--;
        pthread_mutex_unlock(&lock);
        return VIX_OK;
    }
    Handle *made = error ? NULL : calloc(1, sizeof *made);
    if (made) {
        made->fd = -1;
        made->connection = found;
        made->read_only = flags & VIXDISKLIB_FLAG_OPEN_READ_ONLY;
        made->used_ns = now_ns();
        error = open_image(made, path);
    } else if (!error) error = VIX_E_OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    if (error) found->open_handles--;
    else {
        made->next = handles;
        handles = made;
    }
    pthread_mutex_unlock(&lock);
    if (error) {
        if (made && made->fd >= 0) close(made->fd);
        free(made ? made->uuid : NULL);
        free(made);
        return failure(error);
    }
    *handle = made;
    say(0, "VixDiskLib: opened a disk of %llu sectors, mode %s.\n", (unsigned long long)made->sectors, made->mode);
    return VIX_OK;
}

VixError VixDiskLib_Open(VixDiskLibConnection connection, const char *path, uint32_t flags, VixDiskLibHandle *handle) {
    Entered in;
    if (!enter(&in, CALL_Open)) return failure(VIX_E_FAIL);
    check_opener(in.call);
    VixError error = open_handle(in, connection, path, flags, handle);
    opener_done();
    return error;
}

static VixError close_handle(Entered in, VixDiskLibHandle handle) {
    if (!handle_enter(in.call, handle)) return failure(VIX_E_INVALID_ARG);
    act(&in.action);
    pthread_mutex_lock(&lock);
    unsigned pending = handle->pending;
    handle->closed = true; /* what is queued is dropped and never called back; what a worker has in hand ends */
    flight_wait(handle, &handle->busy);
    handle->depth--;
    handle->connection->open_handles--;
    int fd = handle->fd;
    handle->fd = -1;
    pthread_mutex_unlock(&lock);
    close(fd);
    if (pending) breach(in.call, "%u asynchronous requests are pending; Wait comes first", pending);
    return in.action.what & ACT_ERROR ? failure(in.action.error) : VIX_OK; /* it is gone all the same */
}

VixError VixDiskLib_Close(VixDiskLibHandle handle) {
    Entered in;
    if (!enter(&in, CALL_Close)) return failure(VIX_E_FAIL);
    check_opener(in.call);
    VixError error = close_handle(in, handle);
    opener_done();
    return error;
}

VixError VixDiskLib_GetInfo(VixDiskLibHandle handle, VixDiskLibInfo **info) {
    Entered in;
    if (!enter(&in, CALL_GetInfo)) return failure(VIX_E_FAIL);
    if (!info) {
        breach(in.call, "no place for the info");
        return failure(VIX_E_INVALID_ARG);
    }
    *info = NULL;
    if (!handle_enter(in.call, handle)) return failure(VIX_E_INVALID_ARG);
    act(&in.action);
    VixDiskLibInfo *made = in.action.what & (ACT_ERROR | ACT_NULL) ? NULL : give(GIVEN_INFO, sizeof *made + strlen(handle->uuid) + 1);
    if (made) {
        uint64_t cylinders = handle->sectors / (255 * 63);
        VixDiskLibGeometry geometry = {(uint32_t)(cylinders > 65535 ? 65535 : cylinders), 255, 63};
        made->biosGeo = made->physGeo = geometry;
        made->capacity = in.action.what & ACT_NONSENSE ? 0 : handle->sectors;
        if (in.action.what & ACT_SHORT) made->capacity /= 2;
        made->adapterType = 3; /* LSI Logic */
        made->numLinks = 1;
        made->uuid = strcpy((char *)(made + 1), handle->uuid);
        made->logicalSectorSize = made->physicalSectorSize = VIXDISKLIB_SECTOR_SIZE;
    }
    handle_leave(handle);
    *info = made;
    if (in.action.what & ACT_NULL && !(in.action.what & ACT_ERROR)) return VIX_OK;
    return made ? VIX_OK : failure(in.action.what & ACT_ERROR ? in.action.error : VIX_E_OUT_OF_MEMORY);
}

void VixDiskLib_FreeInfo(VixDiskLibInfo *info) {
    Entered in;
    if (!enter(&in, CALL_FreeInfo)) return;
    act(&in.action);
    take_back(in.call, GIVEN_INFO, info);
}

const char *VixDiskLib_GetTransportMode(VixDiskLibHandle handle) {
    Entered in;
    if (!enter(&in, CALL_GetTransportMode)) return NULL;
    if (!handle_enter(in.call, handle)) return NULL;
    act(&in.action);
    const char *mode = in.action.what & (ACT_ERROR | ACT_NULL) ? NULL
                       : in.action.what & ACT_WRONG            ? "no-such-mode"
                                                               : handle->mode;
    handle_leave(handle);
    return mode;
}
