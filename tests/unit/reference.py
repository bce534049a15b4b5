"""The native kernels once more in plain Python; owns what they must agree with, refuses to be fast.

Written from the docstrings in ext/, with whole blocks as `bytes` and masks as
lists of page numbers, so that it shares no trick with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

BLOCK = 65536
PAGE = 4096
PAGES = 16
UNCHANGED, CHANGED, ZEROED = 0, 1, 2
WRITTEN, MISMATCH = 0, 1
SOUND, ZERO, WRONG, SHORT = 0, 1, 2, 3
ZERO_ENTRY = bytes(16)


def split(data: bytes, size: int) -> list[bytes]:
    """Pieces of `size` bytes; the last may be short."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def bits(mask: int) -> list[int]:
    """The pages that a mask names, ascending."""
    return [p for p in range(PAGES) if mask >> p & 1]


def mask_of(pages: Sequence[int]) -> int:
    return sum(1 << p for p in pages)


def is_zero(data: bytes) -> bool:
    return data.count(0) == len(data)


def block_hash(block: bytes) -> bytes:
    """The hash table's entry of a block: xxh3-128, big-endian; sixteen zeros for a block of zeros."""
    return ZERO_ENTRY if is_zero(block) else xxhash.xxh3_128_digest(block)


def page_hash(page: bytes, seed: int) -> int:
    """The page map's entry of a page; 0 is taken for unknown."""
    return xxhash.xxh3_64_intdigest(page, seed) or 1


@dataclass(frozen=True)
class BlockResult:
    """What filter_span says of one block. pages: None where the kernel leaves the entries as they were."""

    entry: bytes
    state: int
    nonzero: int
    changed: int
    known: int
    pages: list[int] | None


def filter_block(block: bytes, seed: int, old_entry: bytes, old_pages: Sequence[int], whole: bool) -> BlockResult:
    pages = split(block, PAGE)
    nonzero = mask_of([p for p, page in enumerate(pages) if not is_zero(page)])
    entry = block_hash(block)
    if entry == ZERO_ENTRY:
        state = UNCHANGED if old_entry == ZERO_ENTRY and not whole else ZEROED
        return BlockResult(entry, state, 0, 0, 0, [0] * PAGES)
    if entry == old_entry and not whole:
        return BlockResult(entry, UNCHANGED, nonzero, 0, 0, None)
    hashes = [page_hash(page, seed) for page in pages]
    known = [p for p in range(len(pages)) if old_pages[p]]
    changed = [p for p in range(len(pages)) if old_pages[p] != hashes[p]]
    if whole or old_entry == ZERO_ENTRY or not changed:
        changed, known = list(range(len(pages))), []
    return BlockResult(entry, CHANGED, nonzero, mask_of(changed), mask_of(known), hashes + [0] * (PAGES - len(pages)))


def filter_span(
    span: bytes, seed: int, old_entries: Sequence[bytes], old_pages: Sequence[Sequence[int]], whole: Sequence[bool]
) -> list[BlockResult]:
    return [
        filter_block(block, seed, old_entries[b], old_pages[b], whole[b]) for b, block in enumerate(split(span, BLOCK))
    ]


def hash_span(span: bytes) -> bytes:
    """The entries of a span's blocks."""
    return b"".join(block_hash(block) for block in split(span, BLOCK))


def gather(span: bytes, masks: Sequence[int], first: int, stop: int) -> bytes:
    """The pages named by masks[first:stop], back to back. ValueError for one beyond the span."""
    pages = split(span, PAGE)
    wanted = [b * PAGES + p for b in range(first, stop) for p in bits(masks[b])]
    if wanted and wanted[-1] >= len(pages):
        raise ValueError("beyond the span")
    return b"".join(pages[i] for i in wanted)


@dataclass(frozen=True)
class Record:
    """One row of apply_records. framed: pages of the block that the frame holds; slot: pages before them."""

    block: int
    carried: int
    zero: int
    framed: int
    slot: int
    expected: bytes


def apply_record(image: bytearray, frame: bytes, record: Record) -> tuple[int, int]:
    """(verdict, bytes written) of merging one record into the disk `image`."""
    start = record.block * BLOCK
    pages = split(bytes(image[start : start + BLOCK]), PAGE)
    at = record.slot * PAGE
    written = 0
    for p in bits(record.framed):
        size = len(pages[p])
        if record.carried >> p & 1:
            pages[p] = frame[at : at + size]
            written += size
        at += size
    for p in bits(record.zero):
        pages[p] = bytes(len(pages[p]))
    merged = b"".join(pages)
    if xxhash.xxh3_128_digest(merged) != record.expected:
        return MISMATCH, 0
    image[start : start + len(merged)] = merged
    return WRITTEN, written


def apply_records(image: bytearray, frame: bytes, records: Sequence[Record]) -> tuple[list[int], int]:
    """(verdicts, bytes written); `image` is changed in place."""
    results = [apply_record(image, frame, record) for record in records]
    return [verdict for verdict, _ in results], sum(written for _, written in results)


def punch(image: bytearray, offset: int, length: int) -> None:
    """What lies beyond the end stays away."""
    stop = min(offset + length, len(image))
    image[offset:stop] = bytes(max(stop - offset, 0))


zero_range = punch


def judge_file(data: bytes, capacity: int, blocks: list[int], expected: bytes) -> tuple[list[int], list[bytes], int]:
    """What ext/judge.pyx says of some blocks of a file that holds `data`: verdicts, hashes of what is there, and how
    much of the file was read."""
    verdicts, hashes, read = [], [], 0
    for row, block in enumerate(blocks):
        start = block * BLOCK
        length = min(BLOCK, capacity - start)
        piece, wanted = data[start : start + length], expected[row * 16 : row * 16 + 16]
        read += len(piece)
        if len(piece) < length:
            verdicts.append(SHORT)
            hashes.append(ZERO_ENTRY)
            continue
        hashes.append(block_hash(piece))
        if hashes[-1] != wanted:
            verdicts.append(WRONG)
        else:
            verdicts.append(ZERO if wanted == ZERO_ENTRY else SOUND)
    return verdicts, hashes, read
