# cython: language_level=3
# What the kernels agree on: units, verdicts, the geometry of short blocks, and xxhash. Owns the words, and works on no
# disk's bytes. pages.pyx, sparse.pyx and judge.pyx cimport it, so that each number stands once.
#
# It is the language that writers and auditors share. What works on bytes is not: judge.pyx takes units, geometry and
# its verdicts from here and hashes, compares and tests for zeros with code of its own (tests/unit/test_native_walls.py).

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy


# -- units: those of src/warmspare/model/units.py; ENTRY_BYTES is one of the hash table (docs/format.md) -------------

cdef enum:
    PAGE_BYTES = 4096
    BLOCK_BYTES = 65536
    BLOCK_PAGES = 16  # bit p of a uint16_t mask is page p
    ENTRY_BYTES = 16  # xxh3-128, big-endian; all zeros for a block of zeros


# -- verdicts: one byte a block or record. Python has them as plain integers: numpy takes 10 us to compare an array
# -- with a member of an IntEnum and 1 us with an integer, several times for each MiB that is read -------------------

cdef enum BlockChange:  # filter_span: what is to be recorded of a block
    UNCHANGED = 0
    CHANGED = 1  # the pages in `changed`
    ZEROED = 2  # that it is zeros

cdef enum RecordVerdict:  # apply_records
    WRITTEN = 0
    MISMATCH = 1  # what the record makes of the replica's block has not the expected hash; the block is as it was

cdef enum BlockVerdict:  # judge, judge_span: from ZERO on upwards something is wrong
    SOUND = 0  # has the expected hash
    ZERO = 1  # zeros, as expected
    WRONG = 2
    SHORT = 3  # the file ends before the block does
    UNREADABLE = 4  # the medium gives an error


# -- geometry: only the last block of a disk, and its last page, may be short -----------------------------------------

cdef inline size_t block_bytes(uint64_t start, uint64_t capacity) noexcept nogil:
    """Length of the block at `start`, which lies below `capacity`."""
    return BLOCK_BYTES if capacity - start >= BLOCK_BYTES else <size_t> (capacity - start)


cdef inline int page_count(size_t length) noexcept nogil:
    """Pages of a block of that length."""
    return <int> ((length + PAGE_BYTES - 1) // PAGE_BYTES)


cdef inline size_t pages_bytes(int page, int stop, size_t length) noexcept nogil:
    """Length of the pages [page, stop) of a block of that length."""
    cdef size_t end = <size_t> stop * PAGE_BYTES
    return (end if end <= length else length) - <size_t> page * PAGE_BYTES


cdef inline uint16_t pages_below(int page) noexcept nogil:
    """The mask of the pages [0, page)."""
    return <uint16_t> ((1 << page) - 1)


cdef inline int run_stop(uint16_t mask, int page, int count) noexcept nogil:
    """Where the run of pages ends that begins at `page`, which the mask names; `count` at the latest."""
    page += 1
    while page < count and (mask >> page) & 1:
        page += 1
    return page


cdef extern int __builtin_popcount(unsigned int) nogil


# -- xxhash, for the writers ------------------------------------------------------------------------------------------

cdef extern from "xxhash.h" nogil:
    ctypedef struct XXH128_hash_t:
        uint64_t low64
        uint64_t high64
    ctypedef struct XXH128_canonical_t:
        unsigned char digest[16]
    XXH128_hash_t XXH3_128bits(const void *data, size_t length)
    uint64_t XXH3_64bits_withSeed(const void *data, size_t length, uint64_t seed)
    void XXH128_canonicalFromHash(XXH128_canonical_t *dst, XXH128_hash_t hash)


cdef inline void hash_block(const uint8_t *block, size_t length, uint8_t *entry) noexcept nogil:
    """The entry of a block that is not zeros."""
    cdef XXH128_canonical_t canonical
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(block, length))
    memcpy(entry, canonical.digest, ENTRY_BYTES)
