/* Raw images: whole ranges in and out, and where their data lies. Knows nothing of calls, handles or scripts. */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

#include "standin.h"

bool image_range(int fd, bool write, uint64_t offset, void *buffer, uint64_t bytes) {
    char *at = buffer;
    while (bytes) {
        ssize_t done = write ? pwrite(fd, at, bytes, (off_t)offset) : pread(fd, at, bytes, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        at += done;
        offset += (uint64_t)done;
        bytes -= (uint64_t)done;
    }
    return true;
}

bool image_next_data(int fd, uint64_t from, uint64_t end, uint64_t *data, uint64_t *hole) {
    if (from >= end) return false;
    off_t start = lseek(fd, (off_t)from, SEEK_DATA);
    if (start < 0 && errno == ENXIO) return false; /* nothing but a hole */
    if (start < 0) start = (off_t)from;            /* a file system that does not know: all of it is data */
    off_t stop = (uint64_t)start < end ? lseek(fd, start, SEEK_HOLE) : start;
    if (stop < 0) stop = (off_t)end;
    if ((uint64_t)start >= end) return false;
    *data = (uint64_t)start;
    *hole = (uint64_t)stop < end ? (uint64_t)stop : end;
    return true;
}
