# cython: language_level=3
"""Sparse writes to a replica: merge, verify, pwrite, punch; owns the receiver's per-byte work and system calls.

Refuses to write any block whose 128-bit hash is not the expected one. Runs without the GIL. The Python
reference is tests/unit/reference.py.
"""

from libc.errno cimport EINTR, ENODEV, ENOSYS, ENXIO, EOPNOTSUPP, EINVAL, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from posix.types cimport off_t
from posix.unistd cimport lseek, pread, pwrite

import os

cdef extern from "fcntl.h" nogil:
    int fallocate(int fd, int mode, off_t offset, off_t length)
    int c_sync_file_range "sync_file_range"(int fd, off_t offset, off_t nbytes, unsigned int flags)
    int FALLOC_FL_PUNCH_HOLE
    int FALLOC_FL_KEEP_SIZE
    int FALLOC_FL_ZERO_RANGE
    unsigned int SYNC_FILE_RANGE_WRITE

cdef extern from "unistd.h" nogil:
    int SEEK_DATA

cdef extern from "xxhash.h" nogil:
    ctypedef struct XXH128_hash_t:
        uint64_t low64
        uint64_t high64
    ctypedef struct XXH128_canonical_t:
        unsigned char digest[16]
    XXH128_hash_t XXH3_128bits(const void *data, size_t length)
    void XXH128_canonicalFromHash(XXH128_canonical_t *dst, XXH128_hash_t hash)

cdef extern int __builtin_popcount(unsigned int) nogil

DEF BLOCK = 65536
DEF PAGE = 4096
DEF PAGES = 16

# What apply_records says of a record.
WRITTEN = 0
MISMATCH = 1

cdef uint8_t ZEROS[BLOCK]
memset(ZEROS, 0, BLOCK)


cdef int write_all(int fd, const uint8_t *data, size_t length, off_t offset) noexcept nogil:
    """0, or an errno."""
    cdef ssize_t n
    while length:
        n = pwrite(fd, data, length, offset)
        if n < 0:
            if errno == EINTR:
                continue
            return errno
        data += n
        length -= n
        offset += n
    return 0


cdef int read_all(int fd, uint8_t *data, size_t length, off_t offset) noexcept nogil:
    """0, or an errno; what lies beyond the end of the file reads as zeros."""
    cdef ssize_t n
    while length:
        n = pread(fd, data, length, offset)
        if n < 0:
            if errno == EINTR:
                continue
            return errno
        if n == 0:
            memset(data, 0, length)
            return 0
        data += n
        length -= n
        offset += n
    return 0


cdef int make_zero(int fd, off_t offset, off_t length) noexcept nogil:
    """Make a range read as zeros, as a hole where that can be; 0 or an errno.

    Asks for data first: punching a hole into a hole costs about as much as into data on some file systems.
    """
    cdef off_t data, end = offset + length
    cdef size_t size
    cdef int status
    while offset < end:
        data = lseek(fd, offset, SEEK_DATA)
        if data < 0:
            if errno == ENXIO:  # no data up to the end of the file
                return 0
            data = offset  # a device, or a file system that does not know: take it for data
        if data >= end:
            return 0
        offset = data
        if fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, end - offset) == 0:
            return 0
        status = errno
        if status == EINTR:
            continue
        if status != EOPNOTSUPP and status != ENOSYS and status != ENODEV and status != EINVAL:
            return status
        size = BLOCK if end - offset > BLOCK else <size_t> (end - offset)
        status = write_all(fd, ZEROS, size, offset)
        if status:
            return status
        offset += size
    return 0


cdef struct Pending:
    # neighbouring writes are held back and merged: one system call for a run of blocks
    const uint8_t *data
    off_t offset
    size_t length
    off_t zero_offset
    off_t zero_length
    uint64_t written


cdef inline int flush_data(int fd, Pending *p) noexcept nogil:
    cdef int status = 0
    if p.length:
        status = write_all(fd, p.data, p.length, p.offset)
        p.written += p.length
        p.length = 0
    return status


cdef inline int flush_zero(int fd, Pending *p) noexcept nogil:
    cdef int status = 0
    if p.zero_length:
        status = make_zero(fd, p.zero_offset, p.zero_length)
        p.zero_length = 0
    return status


cdef inline int put_data(int fd, Pending *p, const uint8_t *data, size_t length, off_t offset) noexcept nogil:
    cdef int status
    if p.length and p.data + p.length == data and p.offset + <off_t> p.length == offset:
        p.length += length
        return 0
    status = flush_data(fd, p)
    p.data, p.offset, p.length = data, offset, length
    return status


cdef inline int put_zero(int fd, Pending *p, off_t offset, off_t length) noexcept nogil:
    cdef int status
    if p.zero_length and p.zero_offset + p.zero_length == offset:
        p.zero_length += length
        return 0
    status = flush_zero(fd, p)
    p.zero_offset, p.zero_length = offset, length
    return status


cdef int apply_one(
    int fd, const uint8_t *frame, uint64_t capacity, uint64_t block, uint16_t carried, uint16_t zero,
    uint16_t framed, size_t slot, const uint8_t *expected, bint write, uint8_t *scratch, Pending *pending,
    uint8_t *verdict,
) noexcept nogil:
    """Merge one record with what the replica holds, verify, write. 0 or an errno."""
    cdef off_t offset = <off_t> (block * BLOCK)
    cdef size_t length = BLOCK if offset + BLOCK <= <off_t> capacity else <size_t> (capacity - offset)
    cdef int count = <int> ((length + PAGE - 1) // PAGE)
    cdef uint16_t full = <uint16_t> ((1 << count) - 1)
    cdef const uint8_t *image
    cdef const uint8_t *page
    cdef XXH128_canonical_t canonical
    cdef int p, q, status
    cdef size_t size

    if carried == full and framed == full:
        image = frame + slot * PAGE  # the block lies in the frame as it is
    else:
        if <uint16_t> (carried | zero) != full:
            status = read_all(fd, scratch, length, offset)
            if status:
                return status
        for p in range(count):
            size = PAGE if <size_t> (p + 1) * PAGE <= length else length - p * PAGE
            if (carried >> p) & 1:
                page = frame + (slot + __builtin_popcount(framed & ((1 << p) - 1))) * PAGE
                memcpy(scratch + p * PAGE, page, size)
            elif (zero >> p) & 1:
                memset(scratch + p * PAGE, 0, size)
        image = scratch
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(image, length))
    if memcmp(canonical.digest, expected, 16) != 0:
        verdict[0] = 1
        return 0
    verdict[0] = 0
    if not write:
        return 0
    p = 0
    while p < count:
        q = p + 1
        if (carried >> p) & 1:
            # neighbours in the block are neighbours in the frame only if the frame has none between them
            while q < count and (carried >> q) & 1:
                q += 1
            size = <size_t> q * PAGE
            size = (size if size <= length else length) - <size_t> p * PAGE
            page = frame + (slot + __builtin_popcount(framed & ((1 << p) - 1))) * PAGE
            status = put_data(fd, pending, page, size, offset + p * PAGE)
            if status:
                return status
        elif (zero >> p) & 1:
            while q < count and (zero >> q) & 1:
                q += 1
            size = <size_t> q * PAGE
            size = (size if size <= length else length) - <size_t> p * PAGE
            status = put_zero(fd, pending, offset + p * PAGE, size)
            if status:
                return status
        p = q
    return 0


def apply_records(
    int fd, uint64_t capacity, const uint8_t[::1] frame,
    const uint32_t[::1] block, const uint16_t[::1] carried, const uint16_t[::1] zero,
    const uint16_t[::1] framed, const uint32_t[::1] slot, const uint8_t[::1] expected,
    uint8_t[::1] verdict, bint write=True,
):
    """Merge the records of one frame into the replica `fd`, verifying each whole block before it is written.

    frame: decompressed payload. Per record: block number; carried and zero masks; framed = pages of that
    block the frame holds (carried is a subset); slot = how many pages of the frame come before the block's;
    expected = 16 bytes. Sets verdict to WRITTEN or MISMATCH; a mismatching block is left untouched.
    Returns the bytes written. Raises OSError from the system call that failed, ValueError where a record
    would reach outside the frame, the disk or an array; nothing is written then.
    """
    cdef Py_ssize_t records = block.shape[0], i
    cdef int status = 0, count
    cdef uint64_t offset, length
    cdef uint8_t scratch[BLOCK]
    cdef Pending pending
    cdef uint32_t pages
    memset(&pending, 0, sizeof(pending))
    if records == 0:
        return 0
    if (
        carried.shape[0] < records or zero.shape[0] < records or framed.shape[0] < records
        or slot.shape[0] < records or expected.shape[0] < records * 16 or verdict.shape[0] < records
    ):
        raise ValueError("an array is shorter than the number of records")
    cdef uint64_t room = frame.shape[0], need
    for i in range(records):
        offset = <uint64_t> block[i] * BLOCK
        if offset >= capacity:
            raise ValueError(f"block {block[i]} lies beyond the disk's {capacity} bytes")
        length = BLOCK if offset + BLOCK <= capacity else capacity - offset
        count = <int> ((length + PAGE - 1) // PAGE)
        if (carried[i] | zero[i] | framed[i]) >> count:
            raise ValueError(f"a mask of block {block[i]} names a page beyond the disk")
        if carried[i] & zero[i] or carried[i] & ~framed[i]:
            raise ValueError(f"the masks of block {block[i]} contradict each other")
        pages = __builtin_popcount(framed[i])
        need = (<uint64_t> slot[i] + pages) * PAGE
        if framed[i] >> (count - 1) & 1 and length % PAGE:
            need -= PAGE - length % PAGE
        if need > room:
            raise ValueError(f"block {block[i]} reaches beyond its frame")
    cdef const uint8_t *data = &frame[0] if room else ZEROS
    with nogil:
        for i in range(records):
            status = apply_one(
                fd, data, capacity, block[i], carried[i], zero[i], framed[i], slot[i], &expected[i * 16],
                write, scratch, &pending, &verdict[i],
            )
            if status:
                break
        if status == 0:
            status = flush_data(fd, &pending)
        if status == 0:
            status = flush_zero(fd, &pending)
    if status:
        raise OSError(status, os.strerror(status))
    return pending.written


def punch(int fd, int64_t offset, int64_t length):
    """Make [offset, offset + length) read as zeros, as a hole where the file system can.

    Raises OSError, and ValueError for a negative range (SEEK_DATA would call it a hole).
    """
    cdef int status
    if offset < 0 or length < 0:
        raise ValueError("a range must not be negative")
    with nogil:
        status = make_zero(fd, offset, length)
    if status:
        raise OSError(status, os.strerror(status))


def zero_range(int fd, int64_t offset, int64_t length):
    """Have the medium itself write zeros (a device's write-zeroes command); False where it cannot.

    Unlike discard this promises that the range reads as zeros. Raises OSError on any other failure.
    """
    cdef int status = 0
    with nogil:
        if fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length) != 0:
            status = errno
    if status in (EOPNOTSUPP, ENOSYS, ENODEV, EINVAL):
        return False
    if status:
        raise OSError(status, os.strerror(status))
    return True


def start_writeback(int fd, int64_t offset, int64_t length):
    """Ask the kernel to begin writing a range out, without waiting; a hint, so failure is ignored."""
    with nogil:
        c_sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE)
