/* Read, Write, their asynchronous forms, Wait and Flush: the checks of a range, and who does the work when. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

#include "standin.h"

/* Whether the range and buffer may be touched; the breach's code otherwise. */
static VixError check_range(Call call, const Handle *handle, uint64_t start, uint64_t count, const void *buffer) {
    if (!buffer) {
        breach(call, "the buffer is NULL");
        return VIX_E_INVALID_ARG;
    }
    if (!count) {
        breach(call, "0 sectors");
        return VIX_E_INVALID_ARG;
    }
    if (start >= handle->sectors || count > handle->sectors - start) {
        breach(call, "%llu sectors from %llu on go beyond the capacity of %llu", (unsigned long long)count,
               (unsigned long long)start, (unsigned long long)handle->sectors);
        return VIX_E_DISK_OUTOFRANGE;
    }
    return VIX_OK;
}

static VixError check_writable(Call call, const Handle *handle) {
    if (!handle->read_only) return VIX_OK;
    breach(call, "the handle is read-only");
    return VIX_E_INVALID_ARG;
}

static VixError inline_transfer(Request *request, const Script *script) {
    uint64_t now = now_ns();
    if (handle_dropped(request->handle, script, now)) return failure(VIX_E_HOST_TCP_SOCKET_ERROR);
    uint64_t due = pace_due(script, request->bytes, now);
    if (due > now) sleep_until(due);
    return request_do(request);
}

static VixError transfer(Call call, Handle *handle, uint64_t start, uint64_t count, uint8_t *buffer, bool write) {
    Entered in;
    if (!enter(&in, call)) return failure(VIX_E_FAIL);
    if (!handle_enter(call, handle)) return failure(VIX_E_INVALID_ARG);
    VixError error = check_range(call, handle, start, count, buffer);
    if (!error && write) error = check_writable(call, handle);
    Request request = {.handle = handle, .buffer = buffer, .write = write, .action = in.action};
    if (!error) {
        request.offset = start * VIXDISKLIB_SECTOR_SIZE;
        request.bytes = count * VIXDISKLIB_SECTOR_SIZE;
        if (!flight_add(call, &request)) error = VIX_E_INVALID_ARG;
        else {
            act(&in.action);
            error = in.action.what & ACT_ERROR ? in.action.error : inline_transfer(&request, script_now());
            flight_remove(&request);
        }
    }
    handle_leave(handle);
    return failure(error);
}

VixError VixDiskLib_Read(VixDiskLibHandle handle, uint64_t startSector, uint64_t sectors, uint8_t *buffer) {
    return transfer(CALL_Read, handle, startSector, sectors, buffer, false);
}

VixError VixDiskLib_Write(VixDiskLibHandle handle, uint64_t startSector, uint64_t sectors, const uint8_t *buffer) {
    return transfer(CALL_Write, handle, startSector, sectors, (uint8_t *)buffer, true);
}

#ifndef STANDIN_OLD

/* Queue it for the workers, which call back; what the script says of a delay or a hang befalls the completion. */
static VixError queue(const Request *made) {
    const Script *script = script_now();
    uint64_t now = now_ns();
    Request *request = malloc(sizeof *request);
    if (!request || !workers_start()) {
        free(request);
        return failure(VIX_E_OUT_OF_MEMORY);
    }
    *request = *made;
    if (!flight_add(request->write ? CALL_WriteAsync : CALL_ReadAsync, request)) {
        free(request);
        return failure(VIX_E_INVALID_ARG);
    }
    handle_dropped(request->handle, script, now); /* the worker looks at what it found */
    pthread_mutex_lock(&lock);
    request->handle->pending++;
    pthread_mutex_unlock(&lock);
    request->due_ns = pace_due(script, request->bytes, now) + request->action.slow_ns;
    if (request->due_ns == now) request->due_ns = 0; /* at once */
    if (!(request->action.what & ACT_HANG)) workers_queue(request);
    return VIX_ASYNC;
}

/* san, hotadd and file do the work before they return, and call back from within, as the real ones do. */
static VixError at_once(Request *request) {
    if (!flight_add(request->write ? CALL_WriteAsync : CALL_ReadAsync, request)) return failure(VIX_E_INVALID_ARG);
    VixError result = request->action.what & ACT_FAIL ? failure(request->action.fail)
                                                      : inline_transfer(request, script_now());
    flight_remove(request);
    request_answer(request, result);
    return VIX_ASYNC;
}

static VixError asynchronous(Call call, Handle *handle, uint64_t start, uint64_t count, uint8_t *buffer,
                             VixDiskLibCompletionCB callback, void *data) {
    bool write = call == CALL_WriteAsync;
    Entered in;
    if (!enter(&in, call)) return failure(VIX_E_FAIL);
    if (!handle_enter(call, handle)) return failure(VIX_E_INVALID_ARG);
    VixError result = check_range(call, handle, start, count, buffer);
    if (!result && write) result = check_writable(call, handle);
    if (!callback) {
        breach(call, "the callback is NULL");
        result = VIX_E_INVALID_ARG;
    }
    result = failure(result);
    if (!result) {
        Action now = in.action;
        if (handle->asynchronous) now.what &= ~(unsigned)(ACT_SLOW | ACT_HANG);
        act(&now);
        if (in.action.what & ACT_NULL && !write) { /* done, it says, and neither is nor calls back */
            handle_leave(handle);
            return VIX_OK;
        }
        Request request = {
            .handle = handle, .buffer = buffer, .write = write, .callback = callback, .data = data,
            .offset = start * VIXDISKLIB_SECTOR_SIZE, .bytes = count * VIXDISKLIB_SECTOR_SIZE, .action = in.action,
        };
        result = in.action.what & ACT_ERROR ? failure(in.action.error)
                 : handle->asynchronous     ? queue(&request)
                                            : at_once(&request);
    }
    handle_leave(handle);
    return result;
}

VixError VixDiskLib_ReadAsync(VixDiskLibHandle handle, uint64_t startSector, uint64_t sectors, uint8_t *buffer,
                              VixDiskLibCompletionCB callback, void *data) {
    return asynchronous(CALL_ReadAsync, handle, startSector, sectors, buffer, callback, data);
}

VixError VixDiskLib_WriteAsync(VixDiskLibHandle handle, uint64_t startSector, uint64_t sectors, const uint8_t *buffer,
                               VixDiskLibCompletionCB callback, void *data) {
    return asynchronous(CALL_WriteAsync, handle, startSector, sectors, (uint8_t *)buffer, callback, data);
}

VixError VixDiskLib_Wait(VixDiskLibHandle handle) {
    Entered in;
    if (!enter(&in, CALL_Wait)) return failure(VIX_E_FAIL);
    if (!handle_enter(in.call, handle)) return failure(VIX_E_INVALID_ARG);
    act(&in.action);
    pthread_mutex_lock(&lock);
    flight_wait(handle, &handle->pending);
    pthread_mutex_unlock(&lock);
    handle_leave(handle);
    return in.action.what & ACT_ERROR ? failure(in.action.error) : VIX_OK; /* it has waited all the same */
}

VixError VixDiskLib_Flush(VixDiskLibHandle handle) {
    Entered in;
    if (!enter(&in, CALL_Flush)) return failure(VIX_E_FAIL);
    if (!handle_enter(in.call, handle)) return failure(VIX_E_INVALID_ARG);
    act(&in.action);
    VixError error = in.action.what & ACT_ERROR ? in.action.error : check_writable(in.call, handle);
    if (!error && fdatasync(handle->fd)) error = VIX_E_FAIL;
    handle_leave(handle);
    return failure(error);
}

#endif
