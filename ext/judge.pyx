# cython: language_level=3
"""Reads blocks and holds their hashes against a table; owns an audit's per-byte work, writes nothing.

Shares no code with the kernels of sender and receiver, only their language (kernels.pxd). Runs without the GIL. The
Python reference is tests/unit/reference.py.
"""

from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset
from posix.types cimport off_t
from posix.unistd cimport pread

from kernels cimport BLOCK_BYTES, ENTRY_BYTES, BlockVerdict, block_bytes

import os

cdef extern from "hash128/hash128.h" nogil:
    void warmspare_hash128(const void *data, size_t length, uint8_t *out)
    void warmspare_hash128_plain(const void *data, size_t length, uint8_t *out)

cdef extern from "errno.h" nogil:
    int EUCLEAN
    int ENODATA
    int EILSEQ
    int EREMOTEIO

cdef enum:
    BUFFER_BLOCKS = 16  # read and hashed before they leave the processor's second cache

# What judge says of a block.
SOUND = BlockVerdict.SOUND
ZERO = BlockVerdict.ZERO
WRONG = BlockVerdict.WRONG
SHORT = BlockVerdict.SHORT
UNREADABLE = BlockVerdict.UNREADABLE


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


cdef size_t read_up_to(int fd, uint8_t *data, size_t length, off_t offset, int *status) noexcept nogil:
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
    return done


cdef inline bint is_zero_entry(const uint8_t *entry) noexcept nogil:
    cdef uint64_t words[2]
    memcpy(words, entry, ENTRY_BYTES)
    return words[0] == 0 and words[1] == 0


cdef inline BlockVerdict judge_block(
    const uint8_t *data, size_t have, size_t length, const uint8_t *expected, uint8_t *actual
) noexcept nogil:
    """The verdict on one block of which `have` bytes could be read; actual becomes the hash of what is there."""
    cdef bint zero_expected = is_zero_entry(expected)
    memset(actual, 0, ENTRY_BYTES)
    if have < length:
        return BlockVerdict.SHORT
    if zero_expected and all_zero(data, length):
        return BlockVerdict.ZERO
    warmspare_hash128(data, length, actual)
    if zero_expected:
        return BlockVerdict.WRONG
    if memcmp(actual, expected, ENTRY_BYTES) == 0:
        return BlockVerdict.SOUND
    if all_zero(data, length):
        memset(actual, 0, ENTRY_BYTES)
    return BlockVerdict.WRONG


cdef inline void judge_run(
    const uint8_t *data, size_t have, size_t length, const uint8_t *expected, uint8_t *actual, uint8_t *verdict
) noexcept nogil:
    """Judge neighbouring blocks of `length` bytes together, of which the first `have` could be read."""
    cdef size_t at = 0, size, there
    while at < length:
        size = block_bytes(at, length)
        there = 0 if have <= at else have - at
        verdict[0] = judge_block(data + at, there, size, expected, actual)
        at += size
        expected += ENTRY_BYTES
        actual += ENTRY_BYTES
        verdict += 1


cdef inline Py_ssize_t neighbours(const uint32_t *blocks, Py_ssize_t count) noexcept nogil:
    """How many of them lie together on the disk, from the first on; as many as the buffer holds at most."""
    cdef Py_ssize_t n = 1
    while n < count and n < BUFFER_BLOCKS and blocks[n] == blocks[0] + n:
        n += 1
    return n


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
    cdef Py_ssize_t count = blocks.shape[0], i, run, single = 0
    cdef uint64_t start, total = 0
    cdef uint8_t *buffer
    cdef size_t wanted, have
    cdef int status = 0
    if count == 0:
        return 0
    if (
        expected.shape[0] < count * ENTRY_BYTES or actual.shape[0] < count * ENTRY_BYTES
        or verdict.shape[0] < count
    ):
        raise ValueError("an array is shorter than the number of blocks")
    for i in range(count):
        if <uint64_t> blocks[i] * BLOCK_BYTES >= capacity:
            raise ValueError(f"block {blocks[i]} lies beyond the disk's {capacity} bytes")
    buffer = <uint8_t *> malloc(BUFFER_BLOCKS * BLOCK_BYTES)
    if buffer == NULL:
        raise MemoryError()
    with nogil:
        i = 0
        while i < count:
            run = 1 if i < single else neighbours(&blocks[i], count - i)
            start = <uint64_t> blocks[i] * BLOCK_BYTES
            wanted = <size_t> (min(start + <uint64_t> run * BLOCK_BYTES, capacity) - start)
            have = read_up_to(fd, buffer, wanted, <off_t> start, &status)
            if of_the_medium(status):
                status = 0
                if run > 1:
                    single = i + run  # one bad sector must not take its neighbours with it: each block by itself
                    continue
                memset(&actual[i * ENTRY_BYTES], 0, ENTRY_BYTES)
                verdict[i] = BlockVerdict.UNREADABLE
            elif status != 0:
                break
            else:
                total += have
                judge_run(buffer, have, wanted, &expected[i * ENTRY_BYTES], &actual[i * ENTRY_BYTES], &verdict[i])
            i += run
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
    cdef Py_ssize_t length = data.shape[0], count = verdict.shape[0]
    if (
        (length + BLOCK_BYTES - 1) // BLOCK_BYTES != count or expected.shape[0] != count * ENTRY_BYTES
        or actual.shape[0] < count * ENTRY_BYTES
    ):
        raise ValueError("the arrays do not have as many blocks as the data")
    if count == 0:
        return
    with nogil:
        judge_run(&data[0], <size_t> length, <size_t> length, &expected[0], &actual[0], &verdict[0])


def hash_both(const uint8_t[::1] data):
    """(hash as `judge` takes it, hash by the plain build) of the same bytes; for the test that they agree."""
    cdef uint8_t chosen[ENTRY_BYTES]
    cdef uint8_t plain[ENTRY_BYTES]
    cdef const uint8_t *start = NULL
    if data.shape[0]:
        start = &data[0]
    with nogil:
        warmspare_hash128(start, data.shape[0], chosen)
        warmspare_hash128_plain(start, data.shape[0], plain)
    return bytes(chosen[:ENTRY_BYTES]), bytes(plain[:ENTRY_BYTES])
