# cython: language_level=3
"""Page filter and gather over a span; owns the per-byte work of the sender, refuses any I/O or state.

A span is up to 1 MiB of a disk that starts on a 64 KiB block. `filter_span` zero-tests pages, hashes blocks
and pages and says which pages differ from what was last committed; `gather` copies the chosen pages into a
frame. Both run without the GIL. The Python reference is tests/unit/reference.py.
"""

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from "xxhash.h" nogil:
    ctypedef struct XXH128_hash_t:
        uint64_t low64
        uint64_t high64
    ctypedef struct XXH128_canonical_t:
        unsigned char digest[16]
    XXH128_hash_t XXH3_128bits(const void *data, size_t length)
    uint64_t XXH3_64bits_withSeed(const void *data, size_t length, uint64_t seed)
    void XXH128_canonicalFromHash(XXH128_canonical_t *dst, XXH128_hash_t hash)

DEF BLOCK = 65536
DEF PAGE = 4096
DEF PAGES = 16

# What filter_span says of a block.
UNCHANGED = 0
CHANGED = 1
BECAME_ZERO = 2


cdef inline bint all_zero(const uint8_t *p, size_t n) noexcept nogil:
    """Comparing a range with itself one byte on is a zero test at memcmp's speed."""
    return n == 0 or (p[0] == 0 and memcmp(p, p + 1, n - 1) == 0)


cdef inline bint zero_entry(const uint8_t *entry) noexcept nogil:
    return (<const uint64_t *> entry)[0] == 0 and (<const uint64_t *> entry)[1] == 0


cdef void filter_block(
    const uint8_t *block, size_t length, uint64_t seed,
    const uint8_t *old_block, const uint64_t *old_pages, bint whole,
    uint8_t *new_block, uint64_t *new_pages,
    uint16_t *nonzero, uint16_t *changed, uint16_t *known, uint8_t *state,
) noexcept nogil:
    cdef int count = <int> ((length + PAGE - 1) // PAGE)
    cdef uint16_t full = <uint16_t> ((1 << count) - 1)
    cdef uint16_t filled = 0, differs = 0, tracked = 0
    cdef int p
    cdef size_t size
    cdef uint64_t h
    cdef XXH128_canonical_t canonical
    cdef bint was_zero = zero_entry(old_block)

    for p in range(count):
        size = PAGE if (p + 1) * PAGE <= length else length - p * PAGE
        if not all_zero(block + p * PAGE, size):
            filled |= <uint16_t> (1 << p)
    nonzero[0] = filled
    changed[0] = 0
    known[0] = 0
    if filled == 0:
        (<uint64_t *> new_block)[0] = 0
        (<uint64_t *> new_block)[1] = 0
        state[0] = 0 if was_zero else 2
        for p in range(PAGES):  # a zero block needs no page hashes: its table entry says it all
            new_pages[p] = 0
        return
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(block, length))
    memcpy(new_block, canonical.digest, 16)
    if memcmp(new_block, old_block, 16) == 0 and not whole:
        state[0] = 0
        return
    state[0] = 1
    for p in range(PAGES):
        if p >= count:
            new_pages[p] = 0
            continue
        size = PAGE if (p + 1) * PAGE <= length else length - p * PAGE
        h = XXH3_64bits_withSeed(block + p * PAGE, size, seed)
        if h == 0:
            h = 1  # 0 means unknown
        new_pages[p] = h
        if old_pages[p] != 0:
            tracked |= <uint16_t> (1 << p)
            if old_pages[p] != h:
                differs |= <uint16_t> (1 << p)
        else:
            differs |= <uint16_t> (1 << p)
    known[0] = tracked
    # A block that was zero is recorded whole, so that no receiver has to read it first. One whose hash moved
    # though no page hash did (a 64-bit collision) is too.
    if was_zero or whole or differs == 0:
        differs = full
        known[0] = 0
    changed[0] = differs


def filter_span(
    const uint8_t[::1] span, uint64_t seed,
    const uint8_t[::1] old_blocks, const uint64_t[::1] old_pages, bint whole,
    uint8_t[::1] new_blocks, uint64_t[::1] new_pages,
    uint16_t[::1] nonzero, uint16_t[::1] changed, uint16_t[::1] known, uint8_t[::1] state,
):
    """Compare a span with what was committed.

    span: n blocks, the last may be short. old_blocks: n x 16 bytes of the hash table. old_pages: n x 16
    entries of the page map, 0 = unknown. whole: record every nonzero block whole, whatever is known.
    Out, per block: new_blocks (16 bytes; zeros for a zero block), state; where state is CHANGED also
    new_pages, changed (pages to record, bit p = page p), known (pages whose earlier hash was known).
    nonzero is always set. Raises ValueError if an array is too short.
    """
    cdef Py_ssize_t length = span.shape[0]
    cdef Py_ssize_t blocks = (length + BLOCK - 1) // BLOCK
    cdef Py_ssize_t b, size
    if length == 0:
        return
    if (
        old_blocks.shape[0] < blocks * 16 or old_pages.shape[0] < blocks * PAGES
        or new_blocks.shape[0] < blocks * 16 or new_pages.shape[0] < blocks * PAGES
        or nonzero.shape[0] < blocks or changed.shape[0] < blocks
        or known.shape[0] < blocks or state.shape[0] < blocks
    ):
        raise ValueError("an array is shorter than the span has blocks")
    with nogil:
        for b in range(blocks):
            size = BLOCK if (b + 1) * BLOCK <= length else length - b * BLOCK
            filter_block(
                &span[b * BLOCK], size, seed, &old_blocks[b * 16], &old_pages[b * PAGES], whole,
                &new_blocks[b * 16], &new_pages[b * PAGES], &nonzero[b], &changed[b], &known[b], &state[b],
            )


def gather(
    const uint8_t[::1] span, const uint16_t[::1] masks, Py_ssize_t first, Py_ssize_t stop,
    uint8_t[::1] frame, Py_ssize_t position,
):
    """Copy the pages named by masks[first:stop] (one mask per block of the span) to frame[position:].

    Returns the position after the last byte copied; the disk's short last page is copied at its length.
    Raises ValueError if they do not fit or a mask names a page beyond the span.
    """
    cdef Py_ssize_t length = span.shape[0], room = frame.shape[0], at = position, b, start, size
    cdef int p, q, status = 0
    cdef uint16_t mask
    if first < 0 or stop > masks.shape[0] or first > stop or position < 0:
        raise ValueError("block range outside the masks")
    if position > room:
        raise ValueError("the position lies beyond the frame")
    if length == 0 or room == 0:
        if stop > first:
            raise ValueError("nothing to gather from or into")
        return position
    with nogil:
        for b in range(first, stop):
            mask = masks[b]
            p = 0
            while p < PAGES:
                if not (mask >> p) & 1:
                    p += 1
                    continue
                q = p
                while q < PAGES and (mask >> q) & 1:
                    q += 1
                start = b * BLOCK + p * PAGE
                size = (q - p) * PAGE
                if start + size > length:
                    size = length - start
                    if size <= (q - p - 1) * PAGE:
                        status = 1
                        break
                if at + size > room:
                    status = 2
                    break
                memcpy(&frame[at], &span[start], size)
                at += size
                p = q
            if status:
                break
    if status == 1:
        raise ValueError("a mask names a page beyond the span")
    if status == 2:
        raise ValueError("the pages do not fit into the frame")
    return at
