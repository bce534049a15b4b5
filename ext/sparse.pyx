# cython: language_level=3
"""Sparse writes to a replica: merge, verify, pwrite, punch; owns the receiver's per-byte work.

Refuses to write any block whose 128-bit hash is not the expected one. Runs without the GIL. The Python
reference is tests/unit/reference.py.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from posix.types cimport off_t
from posix.unistd cimport pread

from holes cimport ZEROS, make_zero, write_all
from kernels cimport (
    BLOCK_BYTES, ENTRY_BYTES, PAGE_BYTES, RecordVerdict,
    __builtin_popcount, block_bytes, hash_block, page_count, pages_below, pages_bytes, run_stop,
)

import os

cdef extern from "fcntl.h" nogil:
    int c_sync_file_range "sync_file_range"(int fd, off_t offset, off_t nbytes, unsigned int flags)
    unsigned int SYNC_FILE_RANGE_WRITE

# What apply_records says of a record.
WRITTEN = RecordVerdict.WRITTEN
MISMATCH = RecordVerdict.MISMATCH


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


cdef inline const uint8_t *framed_page(const uint8_t *frame, size_t slot, uint16_t framed, int page) noexcept nogil:
    """Where the frame has a page, which `framed` names."""
    return frame + (slot + __builtin_popcount(framed & pages_below(page))) * PAGE_BYTES


cdef inline int merge_block(
    int fd, off_t offset, size_t length, const uint8_t *frame, uint16_t carried, uint16_t zero, uint16_t framed,
    size_t slot, uint8_t *scratch, const uint8_t **image,
) noexcept nogil:
    """Point `image` at the block as the record makes it, in the frame or in `scratch`. 0 or an errno."""
    cdef int count = page_count(length), p, status
    cdef uint16_t full = pages_below(count)
    cdef size_t size
    if carried == full and framed == full:
        image[0] = frame + slot * PAGE_BYTES  # the block lies in the frame as it is
        return 0
    if <uint16_t> (carried | zero) != full:
        status = read_all(fd, scratch, length, offset)
        if status:
            return status
    for p in range(count):
        size = pages_bytes(p, p + 1, length)
        if (carried >> p) & 1:
            memcpy(scratch + p * PAGE_BYTES, framed_page(frame, slot, framed, p), size)
        elif (zero >> p) & 1:
            memset(scratch + p * PAGE_BYTES, 0, size)
    image[0] = scratch
    return 0


cdef inline int put_block(
    int fd, off_t offset, size_t length, const uint8_t *frame, uint16_t carried, uint16_t zero, uint16_t framed,
    size_t slot, Pending *pending,
) noexcept nogil:
    """Write the pages that are carried, make zeros of those that are zero. 0 or an errno."""
    cdef int count = page_count(length), p = 0, q, status
    while p < count:
        q, status = p + 1, 0
        if (carried >> p) & 1:
            # neighbours in the block are neighbours in the frame too: the frame has all that are carried, in order
            q = run_stop(carried, p, count)
            status = put_data(
                fd, pending, framed_page(frame, slot, framed, p), pages_bytes(p, q, length), offset + p * PAGE_BYTES
            )
        elif (zero >> p) & 1:
            q = run_stop(zero, p, count)
            status = put_zero(fd, pending, offset + p * PAGE_BYTES, <off_t> pages_bytes(p, q, length))
        if status:
            return status
        p = q
    return 0


cdef inline int apply_one(
    int fd, const uint8_t *frame, uint64_t capacity, uint64_t block, uint16_t carried, uint16_t zero,
    uint16_t framed, size_t slot, const uint8_t *expected, uint8_t *scratch, Pending *pending, uint8_t *verdict,
) noexcept nogil:
    """Merge one record with what the replica holds, verify, write. 0 or an errno."""
    cdef uint64_t offset = block * BLOCK_BYTES
    cdef size_t length = block_bytes(offset, capacity)
    cdef const uint8_t *image
    cdef uint8_t entry[ENTRY_BYTES]
    cdef int status = merge_block(
        fd, <off_t> offset, length, frame, carried, zero, framed, slot, scratch, &image
    )
    if status:
        return status
    hash_block(image, length, entry)
    if memcmp(entry, expected, ENTRY_BYTES) != 0:
        verdict[0] = RecordVerdict.MISMATCH
        return 0
    verdict[0] = RecordVerdict.WRITTEN
    return put_block(fd, <off_t> offset, length, frame, carried, zero, framed, slot, pending)


def apply_records(
    int fd, uint64_t capacity, const uint8_t[::1] frame,
    const uint32_t[::1] block, const uint16_t[::1] carried, const uint16_t[::1] zero,
    const uint16_t[::1] framed, const uint32_t[::1] slot, const uint8_t[::1] expected,
    uint8_t[::1] verdict,
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
    cdef uint64_t offset
    cdef size_t length
    cdef uint8_t scratch[BLOCK_BYTES]
    cdef Pending pending
    cdef uint32_t pages
    memset(&pending, 0, sizeof(pending))
    if records == 0:
        return 0
    if (
        carried.shape[0] < records or zero.shape[0] < records or framed.shape[0] < records
        or slot.shape[0] < records or expected.shape[0] < records * ENTRY_BYTES or verdict.shape[0] < records
    ):
        raise ValueError("an array is shorter than the number of records")
    cdef uint64_t room = frame.shape[0], need
    for i in range(records):
        offset = <uint64_t> block[i] * BLOCK_BYTES
        if offset >= capacity:
            raise ValueError(f"block {block[i]} lies beyond the disk's {capacity} bytes")
        length = block_bytes(offset, capacity)
        count = page_count(length)
        if (carried[i] | zero[i] | framed[i]) >> count:
            raise ValueError(f"a mask of block {block[i]} names a page beyond the disk")
        if carried[i] & zero[i] or carried[i] & ~framed[i]:
            raise ValueError(f"the masks of block {block[i]} contradict each other")
        pages = __builtin_popcount(framed[i])
        need = (<uint64_t> slot[i] + pages) * PAGE_BYTES
        if framed[i] >> (count - 1) & 1:
            need -= PAGE_BYTES - pages_bytes(count - 1, count, length)
        if need > room:
            raise ValueError(f"block {block[i]} reaches beyond its frame")
    cdef const uint8_t *data = &frame[0] if room else ZEROS
    with nogil:
        for i in range(records):
            status = apply_one(
                fd, data, capacity, block[i], carried[i], zero[i], framed[i], slot[i],
                &expected[i * ENTRY_BYTES], scratch, &pending, &verdict[i],
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


def start_writeback(int fd, int64_t offset, int64_t length):
    """Ask the kernel to begin writing a range out, without waiting; a hint, so failure is ignored."""
    with nogil:
        c_sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE)
