# cython: language_level=3
"""Page filter, hashes and gather over a span; owns the per-byte work of the sender, refuses any I/O or state.

A span is up to 1 MiB of a disk that starts on a 64 KiB block. `filter_span` zero-tests pages, hashes blocks
and pages and says which pages differ from what was last committed; `hash_span` only hashes blocks; `gather` copies
the chosen pages into a frame. All run without the GIL. The Python reference is tests/unit/reference.py.
"""

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from kernels cimport (
    BLOCK_BYTES, BLOCK_PAGES, ENTRY_BYTES, PAGE_BYTES, BlockChange, XXH3_64bits_withSeed,
    block_bytes, hash_block, page_count, pages_below, pages_bytes, run_stop,
)

# What filter_span says of a block.
UNCHANGED = BlockChange.UNCHANGED
CHANGED = BlockChange.CHANGED
ZEROED = BlockChange.ZEROED


cdef inline bint all_zero(const uint8_t *p, size_t n) noexcept nogil:
    """Comparing a range with itself one byte on is a zero test at memcmp's speed."""
    return n == 0 or (p[0] == 0 and memcmp(p, p + 1, n - 1) == 0)


cdef inline bint zero_entry(const uint8_t *entry) noexcept nogil:
    return (<const uint64_t *> entry)[0] == 0 and (<const uint64_t *> entry)[1] == 0


cdef inline uint16_t nonzero_pages(const uint8_t *block, size_t length) noexcept nogil:
    cdef uint16_t mask = 0
    cdef int p
    for p in range(page_count(length)):
        if not all_zero(block + p * PAGE_BYTES, pages_bytes(p, p + 1, length)):
            mask |= <uint16_t> (1 << p)
    return mask


cdef inline uint64_t page_hash(const uint8_t *page, size_t length, uint64_t seed) noexcept nogil:
    cdef uint64_t h = XXH3_64bits_withSeed(page, length, seed)
    return h if h else 1  # 0 means unknown


cdef struct Masks:
    uint16_t nonzero
    uint16_t changed
    uint16_t known


cdef inline BlockChange filter_block(
    const uint8_t *block, size_t length, uint64_t seed,
    const uint8_t *old_block, const uint64_t *old_pages, bint whole,
    uint8_t *new_block, uint64_t *new_pages, Masks *masks,
) noexcept nogil:
    cdef int count = page_count(length), p
    cdef uint64_t h
    cdef bint was_zero = zero_entry(old_block)

    masks.nonzero, masks.changed, masks.known = nonzero_pages(block, length), 0, 0
    if masks.nonzero == 0:
        memset(new_block, 0, ENTRY_BYTES)
        memset(new_pages, 0, BLOCK_PAGES * sizeof(uint64_t))  # none is needed: the table's entry says it all
        return BlockChange.UNCHANGED if was_zero and not whole else BlockChange.ZEROED
    hash_block(block, length, new_block)
    if memcmp(new_block, old_block, ENTRY_BYTES) == 0 and not whole:
        return BlockChange.UNCHANGED
    for p in range(BLOCK_PAGES):
        if p >= count:
            new_pages[p] = 0
            continue
        h = page_hash(block + p * PAGE_BYTES, pages_bytes(p, p + 1, length), seed)
        new_pages[p] = h
        if old_pages[p] != 0:
            masks.known |= <uint16_t> (1 << p)
        if old_pages[p] != h:
            masks.changed |= <uint16_t> (1 << p)
    # A block that was zero is recorded whole, so that no receiver has to read it first. One whose hash moved
    # though no page hash did (a 64-bit collision) is too.
    if was_zero or whole or masks.changed == 0:
        masks.changed, masks.known = pages_below(count), 0
    return BlockChange.CHANGED


def filter_span(
    const uint8_t[::1] span, uint64_t seed,
    const uint8_t[::1] old_blocks, const uint64_t[::1] old_pages, const uint8_t[::1] whole,
    uint8_t[::1] new_blocks, uint64_t[::1] new_pages,
    uint16_t[::1] nonzero, uint16_t[::1] changed, uint16_t[::1] known, uint8_t[::1] state,
):
    """Compare a span with what was committed.

    span: n blocks, the last may be short. old_blocks: n x 16 bytes of the hash table. old_pages: n x 16
    entries of the page map, 0 = unknown. whole: per block, not 0: record it whole, changed or not, whatever is known
    of its pages; it is CHANGED, or ZEROED if it is zeros.
    Out, per block: new_blocks (16 bytes; zeros for a zero block), state; where state is CHANGED also
    new_pages, changed (pages to record, bit p = page p), known (pages whose earlier hash was known).
    nonzero is always set. Raises ValueError if an array is too short.
    """
    cdef Py_ssize_t length = span.shape[0]
    cdef Py_ssize_t blocks = (length + BLOCK_BYTES - 1) // BLOCK_BYTES
    cdef Py_ssize_t b
    cdef Masks masks
    if length == 0:
        return
    if (
        old_blocks.shape[0] < blocks * ENTRY_BYTES or old_pages.shape[0] < blocks * BLOCK_PAGES
        or new_blocks.shape[0] < blocks * ENTRY_BYTES or new_pages.shape[0] < blocks * BLOCK_PAGES
        or whole.shape[0] < blocks or nonzero.shape[0] < blocks or changed.shape[0] < blocks
        or known.shape[0] < blocks or state.shape[0] < blocks
    ):
        raise ValueError("an array is shorter than the span has blocks")
    with nogil:
        for b in range(blocks):
            state[b] = filter_block(
                &span[b * BLOCK_BYTES], block_bytes(b * BLOCK_BYTES, length), seed,
                &old_blocks[b * ENTRY_BYTES], &old_pages[b * BLOCK_PAGES], whole[b],
                &new_blocks[b * ENTRY_BYTES], &new_pages[b * BLOCK_PAGES], &masks,
            )
            nonzero[b], changed[b], known[b] = masks.nonzero, masks.changed, masks.known


def hash_span(const uint8_t[::1] span, uint8_t[::1] entries):
    """Hash the blocks of a span. Out: entries, 16 bytes a block; zeros for a zero block. ValueError if it is too short.
    """
    cdef Py_ssize_t length = span.shape[0]
    cdef Py_ssize_t blocks = (length + BLOCK_BYTES - 1) // BLOCK_BYTES
    cdef Py_ssize_t b
    cdef size_t size
    if length == 0:
        return
    if entries.shape[0] < blocks * ENTRY_BYTES:
        raise ValueError("the array is shorter than the span has blocks")
    with nogil:
        for b in range(blocks):
            size = block_bytes(b * BLOCK_BYTES, length)
            if all_zero(&span[b * BLOCK_BYTES], size):
                memset(&entries[b * ENTRY_BYTES], 0, ENTRY_BYTES)
            else:
                hash_block(&span[b * BLOCK_BYTES], size, &entries[b * ENTRY_BYTES])


cdef enum Gathered:
    FITS
    BEYOND_SPAN
    NO_ROOM


def gather(
    const uint8_t[::1] span, const uint16_t[::1] masks, Py_ssize_t first, Py_ssize_t stop,
    uint8_t[::1] frame, Py_ssize_t position,
):
    """Copy the pages named by masks[first:stop] (one mask per block of the span) to frame[position:].

    Returns the position after the last byte copied; the disk's short last page is copied at its length.
    Raises ValueError if they do not fit or a mask names a page beyond the span.
    """
    cdef Py_ssize_t length = span.shape[0], room = frame.shape[0], at = position, b, start, size
    cdef int p, q
    cdef Gathered status = FITS
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
            while p < BLOCK_PAGES:
                if not (mask >> p) & 1:
                    p += 1
                    continue
                q = run_stop(mask, p, BLOCK_PAGES)
                start = b * BLOCK_BYTES + p * PAGE_BYTES
                size = (q - p) * PAGE_BYTES
                if start + size > length:
                    size = length - start
                    if size <= (q - p - 1) * PAGE_BYTES:
                        status = BEYOND_SPAN
                        break
                if at + size > room:
                    status = NO_ROOM
                    break
                memcpy(&frame[at], &span[start], size)
                at += size
                p = q
            if status != FITS:
                break
    if status == BEYOND_SPAN:
        raise ValueError("a mask names a page beyond the span")
    if status == NO_ROOM:
        raise ValueError("the pages do not fit into the frame")
    return at
