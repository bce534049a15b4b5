"""Owns the receiver's peer: decompress frames and write them. Verifies nothing, resumes nothing.

It does what no receiver can do without: read frames, decompress them in two threads with `zstandard`, pwrite
their runs into a sparse file, fsync. `prepare` makes its input from an image: frames of 1 MiB of non-zero 4
KiB pages at zstd level 3, each with the places its runs go to.

    python plain_apply.py PAYLOAD TARGET
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore

import zstandard

FRAME_BYTES = 1 << 20
PAGE_BYTES = 4096
THREADS = 2
WAITING = 8
_DISK = struct.Struct("<8sQ")  # magic, size of the disk
_FRAME = struct.Struct("<III")  # number of runs, compressed length, raw length
_RUN = struct.Struct("<QI")  # offset on the disk, length
_MAGIC = b"plainap1"


def prepare(image: Path, payload: Path, *, level: int = 3) -> int:
    """Write the payload of an image; returns its bytes. Raises OSError."""
    from rigs.images import diff

    compressor = zstandard.ZstdCompressor(level=level)
    with open(payload, "wb") as out:
        out.write(_DISK.pack(_MAGIC, image.stat().st_size))
        runs: list[tuple[int, int]] = []
        pages = bytearray()

        def flush() -> None:
            frame = compressor.compress(bytes(pages))
            out.write(_FRAME.pack(len(runs), len(frame), len(pages)))
            out.write(b"".join(_RUN.pack(*run) for run in runs))
            out.write(frame)
            runs.clear()
            pages.clear()

        for offset, page in diff.changed_pages(None, image):
            if runs and sum(runs[-1]) == offset:
                runs[-1] = (runs[-1][0], runs[-1][1] + len(page))
            else:
                runs.append((offset, len(page)))
            pages += page
            if len(pages) >= FRAME_BYTES:
                flush()
        if pages:
            flush()
        return out.tell()


def apply(payload: Path, target: Path) -> int:
    """Decompress a payload into a new sparse file, fsynced at the end; returns the bytes written."""
    with open(payload, "rb") as source:
        magic, size = _DISK.unpack(source.read(_DISK.size))
        if magic != _MAGIC:
            raise ValueError(f"{payload} is no payload of plain_apply")
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(fd, size)
            slots = BoundedSemaphore(WAITING)
            with ThreadPoolExecutor(THREADS) as pool:
                futures = []
                for runs, frame, raw_bytes in _frames(source.fileno()):
                    slots.acquire()
                    future = pool.submit(_write, fd, runs, frame, raw_bytes)
                    future.add_done_callback(lambda _: slots.release())
                    futures.append(future)
                written = sum(future.result() for future in futures)
            os.fsync(fd)
            return written
        finally:
            os.close(fd)


def _frames(fd: int) -> Iterator[tuple[list[tuple[int, int]], bytes, int]]:
    at = _DISK.size
    while head := os.pread(fd, _FRAME.size, at):
        count, compressed_bytes, raw_bytes = _FRAME.unpack(head)
        at += _FRAME.size
        table = os.pread(fd, count * _RUN.size, at)
        at += len(table)
        yield list(_RUN.iter_unpack(table)), os.pread(fd, compressed_bytes, at), raw_bytes
        at += compressed_bytes


def _write(fd: int, runs: list[tuple[int, int]], frame: bytes, raw_bytes: int) -> int:
    pages = memoryview(zstandard.ZstdDecompressor().decompress(frame, max_output_size=raw_bytes))
    at = 0
    for offset, length in runs:
        os.pwrite(fd, pages[at : at + length], offset)
        at += length
    return at


if __name__ == "__main__":
    print(apply(Path(sys.argv[1]), Path(sys.argv[2])))
