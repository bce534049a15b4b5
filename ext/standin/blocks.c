/* QueryAllocatedBlocks and FreeBlockList: what of an image is not a hole, in whole chunks. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "standin.h"

#ifndef STANDIN_OLD

static const char *wrong_query(const Handle *handle, uint64_t start, uint64_t count, uint64_t chunk) {
    if (chunk < VIXDISKLIB_MIN_CHUNK_SIZE) return "the chunk is smaller than 128 sectors";
    if (!count) return "0 sectors";
    if (start % chunk || count % chunk) return "start or number of sectors is not a multiple of the chunk";
    if (count / chunk > VIXDISKLIB_MAX_CHUNK_NUMBER) return "more than 512 Ki chunks";
    if (start >= handle->sectors || count > handle->sectors - start) return "goes beyond the capacity";
    return NULL;
}

/* All allocated chunks, ascending and merged, in memory of the caller's to free; false when memory is out. */
static bool walk(int fd, uint64_t start, uint64_t count, uint64_t chunk, VixDiskLibBlock **blocks, uint32_t *number) {
    const uint64_t unit = chunk * VIXDISKLIB_SECTOR_SIZE, end = (start + count) * VIXDISKLIB_SECTOR_SIZE;
    uint64_t data, hole;
    size_t room = 0;
    *blocks = NULL;
    *number = 0;
    for (uint64_t at = start * VIXDISKLIB_SECTOR_SIZE; image_next_data(fd, at, end, &data, &hole);) {
        data -= data % unit;
        hole += (unit - hole % unit) % unit; /* both within the range, whose ends are multiples of the chunk */
        at = hole;
        data /= VIXDISKLIB_SECTOR_SIZE;
        hole /= VIXDISKLIB_SECTOR_SIZE;
        VixDiskLibBlock *last = *number ? *blocks + *number - 1 : NULL;
        if (last && last->offset + last->length >= data) {
            last->length = hole - last->offset;
            continue;
        }
        if (*number == room) {
            room = room ? room * 2 : 256;
            VixDiskLibBlock *grown = realloc(*blocks, room * sizeof *grown);
            if (!grown) return false;
            *blocks = grown;
        }
        (*blocks)[(*number)++] = (VixDiskLibBlock){data, hole - data};
    }
    return true;
}

/* As nbdkit has met it: the last area ends on a larger boundary than was asked for, beyond the disk even. */
static void round_up(VixDiskLibBlock *blocks, uint32_t number) {
    const uint64_t boundary = 64 * 1024 * 1024 / VIXDISKLIB_SECTOR_SIZE;
    VixDiskLibBlock *last = number ? blocks + number - 1 : NULL;
    if (last) last->length = (last->offset + last->length + boundary - 1) / boundary * boundary - last->offset;
}

static VixDiskLibBlockList *make_list(const Handle *handle, const VixDiskLibBlock *blocks, uint32_t number,
                                      unsigned what) {
    static _Atomic unsigned turn;
    if (what & ACT_SHORT && number) number -= number / 2 ? number / 2 : 1;
    VixDiskLibBlockList *list = give(GIVEN_LIST, sizeof *list + (number + (size_t)1) * sizeof *blocks);
    if (!list) return NULL;
    list->numBlocks = number;
    if (number) memcpy(list->blocks, blocks, number * sizeof *blocks);
    if (what & ACT_NONSENSE) {
        if (turn++ % 2 == 0 || number < 2) { /* beyond the disk, */
            list->blocks[list->numBlocks++] = (VixDiskLibBlock){handle->sectors + 128, 128};
        } else { /* or in the wrong order */
            VixDiskLibBlock first = list->blocks[0];
            list->blocks[0] = list->blocks[number - 1];
            list->blocks[number - 1] = first;
        }
    }
    return list;
}

VixError VixDiskLib_QueryAllocatedBlocks(VixDiskLibHandle handle, uint64_t startSector, uint64_t sectors,
                                         uint64_t chunkSectors, VixDiskLibBlockList **list) {
    Entered in;
    if (!enter(&in, CALL_QueryAllocatedBlocks)) return failure(VIX_E_FAIL);
    if (!list) {
        breach(in.call, "no place for the list");
        return failure(VIX_E_INVALID_ARG);
    }
    *list = NULL;
    if (!handle_enter(in.call, handle)) return failure(VIX_E_INVALID_ARG);
    const char *wrong = wrong_query(handle, startSector, sectors, chunkSectors);
    pthread_mutex_lock(&lock);
    if (!wrong && handle->pending && !config.loose) wrong = "asynchronous requests are pending";
    pthread_mutex_unlock(&lock);
    VixError error = VIX_OK;
    if (wrong) {
        breach(in.call, "%s", wrong);
        error = VIX_E_INVALID_ARG;
    } else {
        act(&in.action);
        if (in.action.what & ACT_ERROR) error = in.action.error;
        else if (handle_dropped(handle, script_now(), now_ns())) error = VIX_E_HOST_TCP_SOCKET_ERROR;
        else {
            VixDiskLibBlock *blocks;
            uint32_t number;
            if (walk(handle->fd, startSector, sectors, chunkSectors, &blocks, &number)) {
                if (config.loose) round_up(blocks, number);
                *list = make_list(handle, blocks, number, in.action.what);
            }
            free(blocks);
            if (in.action.what & ACT_NULL && *list) {
                take_back(in.call, GIVEN_LIST, *list);
                *list = NULL;
            } else if (!*list) error = VIX_E_OUT_OF_MEMORY;
        }
    }
    handle_leave(handle);
    return failure(error);
}

VixError VixDiskLib_FreeBlockList(VixDiskLibBlockList *list) {
    Entered in;
    if (!enter(&in, CALL_FreeBlockList)) return failure(VIX_E_FAIL);
    act(&in.action);
    take_back(in.call, GIVEN_LIST, list);
    return in.action.what & ACT_ERROR ? failure(in.action.error) : VIX_OK; /* it is gone all the same */
}

#endif
