# cython: language_level=3
"""Reads blocks and holds their hashes against a table; owns an audit's per-byte work, writes nothing.

Shares no code with the kernels of sender and receiver. Runs without the GIL. The Python reference is
tests/unit/reference.py.
"""

from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset
from posix.types cimport off_t
from posix.unistd cimport pread

import os

cdef extern from "hash128/hash128.h" nogil:
    void warmspare_hash128(const void *data, size_t length, uint8_t *out)
    void warmspare_hash128_plain(const void *data, size_t length, uint8_t *out)

cdef extern from "errno.h" nogil:
    int EUCLEAN
    int ENODATA
    int EILSEQ
    int EREMOTEIO

DEF BLOCK = 65536
DEF BUFFER = 1048576  # read and hashed before it leaves the processor's second cache

# What judge says of a block.
SOUND = 0
ZERO = 1
WRONG = 2
SHORT = 3
UNREADABLE = 4


cdef inline bint all_zero(const uint8_t *data, size_t length) noexcept nogil:
    """Whether there is no other byte; the first word tells it of nearly all data."""
    cdef size_t i
    cdef uint64_t head
    if length >= 8:
        memcpy(&head, data, 8)
        if head:
            return False
        return memcmp(data, data + 8, length - 8) == 0
    for i in range(length):
        if data[i]:
            return False
    return True


cdef inline bint of_the_medium(int status) noexcept nogil:
    """Errors that mean these bytes are lost, and say nothing of the next ones."""
    return status == EIO or status == EUCLEAN or status == ENODATA or status == EILSEQ or status == EREMOTEIO


cdef ssize_t read_up_to(int fd, uint8_t *data, size_t length, off_t offset, int *status) noexcept nogil:
    """Bytes read: fewer than asked for only at the end of the file or with an errno in `status`."""
    cdef size_t done = 0
    cdef ssize_t n
    status[0] = 0
    while done < length:
        n = pread(fd, data + done, length - done, offset + <off_t> done)
        if n < 0:
            if errno == EINTR:
                continue
            status[0] = errno
            break
        if n == 0:
            break
        done += n
    return <ssize_t> done


cdef inline uint8_t judge_block(
    const uint8_t *data, size_t have, size_t length, const uint8_t *expected, uint8_t *actual
) noexcept nogil:
    """The verdict on one block of which `have` bytes could be read."""
    cdef uint8_t digest[16]
    cdef bint zero_expected = (<const uint64_t *> expected)[0] == 0 and (<const uint64_t *> expected)[1] == 0
    if have < length:
        memset(actual, 0, 16)
        return 3
    if zero_expected and all_zero(data, length):
        memset(actual, 0, 16)
        return 1
    warmspare_hash128(data, length, digest)
    if not zero_expected and memcmp(digest, expected, 16) == 0:
        memcpy(actual, digest, 16)
        return 0
    if not zero_expected and all_zero(data, length):
        memset(actual, 0, 16)
    else:
        memcpy(actual, digest, 16)
    return 2


def judge(
    int fd, uint64_t capacity, const uint32_t[::1] blocks, const uint8_t[::1] expected, uint8_t[::1] actual,
    uint8_t[::1] verdict,
):
    """Read the blocks of `fd` that `blocks` names and hold each against its 16 bytes of `expected`.

    capacity: bytes of the disk; its last block may be short. Neighbours are read together. Sets verdict to SOUND (the
    expected hash), ZERO (zeros, as expected), WRONG, SHORT (the file ends before the block does) or UNREADABLE (the
    medium gives an error), and actual to the hash of what is there: 16 zero bytes for zeros, and where nothing whole
    could be read. Returns the bytes read. Raises OSError for any other error of reading, ValueError where a block lies
    beyond the disk or an array is too short.
    """
    cdef Py_ssize_t count = blocks.shape[0]
    cdef uint64_t at, end, start, total = 0, length
    cdef Py_ssize_t i, group, j
    cdef uint8_t *buffer
    cdef ssize_t have
    cdef int status = 0
    cdef size_t wanted, mine, here
    if count == 0:
        return 0
    if expected.shape[0] < count * 16 or actual.shape[0] < count * 16 or verdict.shape[0] < count:
        raise ValueError("an array is shorter than the number of blocks")
    for i in range(count):
        if <uint64_t> blocks[i] * BLOCK >= capacity:
            raise ValueError(f"block {blocks[i]} lies beyond the disk's {capacity} bytes")
    buffer = <uint8_t *> malloc(BUFFER)
    if buffer == NULL:
        raise MemoryError()
    try:
        with nogil:
            i = 0
            while i < count:
                group = 1
                while i + group < count and group < BUFFER // BLOCK and blocks[i + group] == blocks[i] + group:
                    group += 1
                start = <uint64_t> blocks[i] * BLOCK
                end = start + <uint64_t> group * BLOCK
                if end > capacity:
                    end = capacity
                wanted = <size_t> (end - start)
                have = read_up_to(fd, buffer, wanted, <off_t> start, &status)
                if status != 0 and not of_the_medium(status):
                    break
                if status != 0:
                    # one bad sector must not take its neighbours with it: each block by itself
                    for j in range(group):
                        at = start + <uint64_t> j * BLOCK
                        length = BLOCK if at + BLOCK <= end else end - at
                        have = read_up_to(fd, buffer, <size_t> length, <off_t> at, &status)
                        if status != 0 and not of_the_medium(status):
                            break
                        if status != 0:
                            memset(&actual[(i + j) * 16], 0, 16)
                            verdict[i + j] = 4
                        else:
                            total += <uint64_t> have
                            verdict[i + j] = judge_block(
                                buffer, <size_t> have, <size_t> length, &expected[(i + j) * 16], &actual[(i + j) * 16]
                            )
                    if status != 0 and not of_the_medium(status):
                        break
                    status = 0
                else:
                    total += <uint64_t> have
                    for j in range(group):
                        here = <size_t> j * BLOCK
                        length = BLOCK if here + BLOCK <= wanted else wanted - here
                        mine = 0
                        if <size_t> have > here:
                            mine = <size_t> have - here
                        if mine > length:
                            mine = <size_t> length
                        verdict[i + j] = judge_block(
                            buffer + here, mine, <size_t> length, &expected[(i + j) * 16], &actual[(i + j) * 16]
                        )
                i += group
    finally:
        free(buffer)
    if status:
        raise OSError(status, os.strerror(status))
    return total


def judge_span(
    const uint8_t[::1] data, const uint8_t[::1] expected, uint8_t[::1] actual, uint8_t[::1] verdict,
):
    """Hold blocks that were read already, back to back, each against its 16 bytes of `expected`.

    data: n blocks, of which the last may be short. Sets verdict and actual as `judge` does, to SOUND, ZERO or WRONG.
    Raises ValueError where the arrays do not have n blocks.
    """
    cdef Py_ssize_t length = data.shape[0], count = verdict.shape[0], i, start, size
    if (length + BLOCK - 1) // BLOCK != count or expected.shape[0] != count * 16 or actual.shape[0] < count * 16:
        raise ValueError("the arrays do not have as many blocks as the data")
    if count == 0:
        return
    with nogil:
        for i in range(count):
            start = i * BLOCK
            size = BLOCK if start + BLOCK <= length else length - start
            verdict[i] = judge_block(
                &data[start], <size_t> size, <size_t> size, &expected[i * 16], &actual[i * 16]
            )


def hash_both(const uint8_t[::1] data):
    """(hash as `judge` takes it, hash by the plain build) of the same bytes; for the test that they agree."""
    cdef uint8_t chosen[16]
    cdef uint8_t plain[16]
    cdef const uint8_t *start = NULL
    if data.shape[0]:
        start = &data[0]
    with nogil:
        warmspare_hash128(start, data.shape[0], chosen)
        warmspare_hash128_plain(start, data.shape[0], plain)
    return bytes(chosen[:16]), bytes(plain[:16])
