"""Owns the 8 TiB sparse disk with many far-apart blocks, and its increment. Makes no file system.

It asks whether memory and time follow what changed or the size of the disk.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rigs.images import corpus
from rigs.images.diff import write_extents

HUGE_BYTES = 8 << 40
BLOCK_BYTES = 64 << 10
PAGE_BYTES = 4096
FIRST_PAGES = 3
POOL_PAGES = 4096


def build_huge(
    path: str | os.PathLike[str], extents: int = 100_000, seed: int = 1, *, size_bytes: int = HUGE_BYTES
) -> int:
    """Make a sparse raw file with `extents` distinct 64 KiB blocks of data; returns the bytes of data.

    Three random pages of the sixteen of each block are non-zero: real 4 KiB pages of this machine's files,
    each stamped with its own number, so no two are alike (100,000 blocks: 1.2 GB). The host file system must
    take a file of `size_bytes` (8 TiB: ext4, XFS and Btrfs do; tmpfs up to its limit). An existing file is
    replaced. Raises ValueError (more blocks than fit), OSError.
    """
    blocks = _blocks(extents, seed, size_bytes)
    pool = _pool(seed)
    random = np.random.default_rng([seed, 5])
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(fd, size_bytes)
        picks = random.integers(0, len(pool), size=(extents, FIRST_PAGES))
        places = random.permuted(np.tile(np.arange(16), (extents, 1)), axis=1)[:, :FIRST_PAGES]
        for number in range(extents):
            for index in range(FIRST_PAGES):
                page = _stamped(pool[picks[number, index]], number * FIRST_PAGES + index + 1)
                os.pwrite(fd, page, int(blocks[number]) * BLOCK_BYTES + int(places[number, index]) * PAGE_BYTES)
        os.fsync(fd)
    finally:
        os.close(fd)
    return extents * FIRST_PAGES * PAGE_BYTES


def touch_huge(
    path: str | os.PathLike[str],
    extents_path: str | os.PathLike[str],
    *,
    extents: int = 100_000,
    seed: int = 1,
    round_: int = 1,
) -> int:
    """Change one random page (4 KiB) in each block that `build_huge` made with the same numbers, in place.

    Writes the table of the blocks, 64 KiB each and ascending, to `extents_path`. `round_` tells repeated
    increments apart. Returns the bytes of the changed pages. Raises ValueError, OSError.
    """
    blocks = _blocks(extents, seed, Path(path).stat().st_size)
    pool = _pool(seed)
    random = np.random.default_rng([seed, 6, round_])
    picks = random.integers(0, len(pool), size=extents)
    places = random.integers(0, 16, size=extents)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for number in range(extents):
            page = _stamped(pool[picks[number]], (round_ << 40) + number + 1)
            os.pwrite(fd, page, int(blocks[number]) * BLOCK_BYTES + int(places[number]) * PAGE_BYTES)
        os.fsync(fd)
    finally:
        os.close(fd)
    write_extents(extents_path, [(int(block) * BLOCK_BYTES, BLOCK_BYTES) for block in blocks])
    return extents * PAGE_BYTES


def _blocks(extents: int, seed: int, size_bytes: int) -> NDArray[np.int64]:
    """Distinct block numbers, ascending."""
    whole = size_bytes // BLOCK_BYTES
    if extents > whole // 2:
        raise ValueError(f"{extents} blocks are too many for a disk of {size_bytes} bytes ({whole} blocks)")
    random = np.random.default_rng([seed, 4])
    drawn = np.unique(random.integers(0, whole, size=extents + extents // 4 + 16))
    while len(drawn) < extents:
        drawn = np.unique(np.concatenate([drawn, random.integers(0, whole, size=extents)]))
    kept: NDArray[np.int64] = np.sort(random.choice(drawn, size=extents, replace=False))
    return kept


def _pool(seed: int) -> NDArray[np.uint8]:
    """Real pages to draw from: uint8, shape (up to 4096, 4096), no page all zeros."""
    pages: list[NDArray[np.uint8]] = []
    count = 0
    for _, source in corpus.choose(4 * POOL_PAGES * PAGE_BYTES, seed=seed):
        if source.target is not None or source.size_bytes < PAGE_BYTES:
            continue
        content = corpus.read(source.path)
        whole = np.frombuffer(content, dtype=np.uint8, count=len(content) // PAGE_BYTES * PAGE_BYTES)
        some = whole.reshape(-1, PAGE_BYTES)[:64]
        pages.append(some[some.any(axis=1)])
        count += len(pages[-1])
        if count >= POOL_PAGES:
            break
    return np.concatenate(pages)[:POOL_PAGES]


def _stamped(page: NDArray[np.uint8], number: int) -> bytes:
    return number.to_bytes(8, "little") + page[8:].tobytes()
