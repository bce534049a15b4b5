"""Owns facts about images: what differs, what is non-zero, what zstd makes of it. Uses no warmspare code."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

SECTOR_BYTES = 512
PAGE_BYTES = 4096
SPAN_BYTES = 1 << 20
PathLike = str | os.PathLike[str]


def data_runs(fd: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """The (offset, length) runs that are not holes, by SEEK_DATA and SEEK_HOLE, ascending.

    A file system without them makes the whole file one run.
    """
    at = 0
    while at < size_bytes:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        if start >= size_bytes:
            return
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size_bytes)
        yield start, at - start


def data_spans(fd: int, size_bytes: int) -> Iterator[int]:
    """The numbers of the 1 MiB spans that hold any data, ascending, each once."""
    following = 0
    for start, length in data_runs(fd, size_bytes):
        first, last = max(start // SPAN_BYTES, following), (start + length - 1) // SPAN_BYTES
        yield from range(first, last + 1)
        following = max(following, last + 1)


def copy_sparse(src: PathLike, dst: PathLike) -> int:
    """Copy a file, holes staying holes; an existing `dst` is replaced. Returns the bytes copied.

    Memory: one 8 MiB buffer at most (copy_file_range where the kernel can). Raises OSError; a partial `dst`
    may stay behind.
    """
    source = os.open(src, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(source).st_size
        target = os.open(dst, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(target, size)
            copied = 0
            for start, length in data_runs(source, size):
                _copy_range(source, target, start, length)
                copied += length
            return copied
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_range(source: int, target: int, start: int, length: int) -> None:
    end, kernel = start + length, hasattr(os, "copy_file_range")
    while start < end:
        if kernel:
            try:
                done = os.copy_file_range(source, target, end - start, start, start)
                if done:
                    start += done
                    continue
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
            kernel = False  # across file systems old kernels refuse; some answer 0
        data = os.pread(source, min(8 << 20, end - start), start)
        if not data:
            raise OSError(errno.EIO, f"the source ended at {start}, expected {end}")
        os.pwrite(target, data, start)
        start += len(data)


def changed_extents(before: PathLike, after: PathLike, granularity: int) -> list[tuple[int, int]]:
    """Where two images differ, compared byte for byte, as (offset, length) in bytes, sorted and merged.

    Each differing 512-byte sector is widened to aligned units of `granularity` (512 bytes to 1 MiB, a power
    of two); neighbours are merged; the end is clipped to the length of `after`. A sector beyond the end of
    `before` counts as zeros there. Memory: two 1 MiB spans and the result. Raises ValueError, OSError.
    """
    if not SECTOR_BYTES <= granularity <= SPAN_BYTES or granularity & (granularity - 1):
        raise ValueError(f"granularity must be a power of two from 512 to 1 MiB; got {granularity}")
    size = Path(after).stat().st_size
    merged: list[tuple[int, int]] = []
    for at, old, new in _differing_spans(before, after):
        sectors = _units_differ(old, new, SECTOR_BYTES)
        units = np.unique(np.flatnonzero(sectors) * SECTOR_BYTES // granularity)
        for unit in units.tolist():
            start = at + unit * granularity
            end = min(start + granularity, size)
            if merged and merged[-1][0] + merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end - merged[-1][0])
            else:
                merged.append((start, end - start))
    return merged


def write_extents(path: PathLike, extents: list[tuple[int, int]]) -> None:
    """Write extents as `warmspare sync --extents` reads them: `offset length` a line, in bytes."""
    Path(path).write_text("".join(f"{offset} {length}\n" for offset, length in extents))


def nonzero_bytes(path: PathLike) -> int:
    """Bytes of the 4 KiB pages that hold any non-zero byte; a short last page counts with its length."""
    return sum(len(page) for _, page in changed_pages(None, path))


def extract_nonzero(path: PathLike, out: PathLike) -> int:
    """Write the non-zero 4 KiB pages of an image, one after the other, into `out`; returns the bytes."""
    written = 0
    with open(out, "wb") as file:
        for _, page in changed_pages(None, path):
            written += file.write(page)
    return written


def changed_pages_zstd(before: PathLike | None, after: PathLike, level: int = 3) -> int:
    """Bytes that zstd makes of just the changed 4 KiB pages, gathered in runs of 1 MiB, a frame each.

    The reference for bytes_sent. Pages that became zero are left out: a sender need not carry them, so
    leaving them out makes the reference harder to meet, not easier. `before` None means: every non-zero
    page. Frames carry neither checksum nor content size beyond zstd's default. Memory: a few MiB. Raises
    OSError.
    """
    compressor = zstandard.ZstdCompressor(level=level)
    total, run = 0, bytearray()
    for _, page in changed_pages(before, after):
        run += page
        if len(run) >= SPAN_BYTES:
            total += len(compressor.compress(run))
            run.clear()
    return total + (len(compressor.compress(run)) if run else 0)


def changed_pages_bytes(before: PathLike | None, after: PathLike) -> int:
    """Bytes of the changed, non-zero 4 KiB pages that `changed_pages_zstd` would compress."""
    return sum(len(page) for _, page in changed_pages(before, after))


def changed_pages(before: PathLike | None, after: PathLike) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of each 4 KiB page that differs and is not all zeros, ascending; before may be None."""
    size = Path(after).stat().st_size
    zero = bytes(PAGE_BYTES)
    for at, old, new in _differing_spans(before, after):
        for unit in np.flatnonzero(_units_differ(old, new, PAGE_BYTES)).tolist():
            start = unit * PAGE_BYTES
            page = new[start : min(start + PAGE_BYTES, size - at)].tobytes()
            if page and page != zero[: len(page)]:
                yield at + start, page


def _differing_spans(
    before: PathLike | None, after: PathLike
) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
    """(offset, old, new) of each 1 MiB span of `after` that differs, both zero-padded to 1 MiB."""
    new_fd = os.open(after, os.O_RDONLY | os.O_CLOEXEC)
    try:
        old_fd = None if before is None else os.open(before, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(new_fd).st_size
            old_size = 0 if old_fd is None else os.fstat(old_fd).st_size
            zeros = np.zeros(SPAN_BYTES, dtype=np.uint8)
            old_spans = iter(()) if old_fd is None else data_spans(old_fd, min(old_size, size))
            for number in _merge(data_spans(new_fd, size), old_spans):
                at = number * SPAN_BYTES
                new = _read_span(new_fd, at, size)
                old = zeros if old_fd is None else _read_span(old_fd, at, min(old_size, size))
                if not np.array_equal(old.view("<u8"), new.view("<u8")):
                    yield at, old, new
        finally:
            if old_fd is not None:
                os.close(old_fd)
    finally:
        os.close(new_fd)


def _merge(left: Iterator[int], right: Iterator[int]) -> Iterator[int]:
    """The union of two ascending iterators, ascending, each number once."""
    end = 1 << 62
    a, b = next(left, end), next(right, end)
    while min(a, b) < end:
        low = min(a, b)
        yield low
        if a == low:
            a = next(left, end)
        if b == low:
            b = next(right, end)


def _read_span(fd: int, at: int, size: int) -> NDArray[np.uint8]:
    data = os.pread(fd, max(0, min(SPAN_BYTES, size - at)), at)
    return np.frombuffer(data.ljust(SPAN_BYTES, b"\0"), dtype=np.uint8)


def _units_differ(old: NDArray[np.uint8], new: NDArray[np.uint8], unit: int) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = (old.view("<u8") != new.view("<u8")).reshape(-1, unit // 8).any(axis=1)
    return result
