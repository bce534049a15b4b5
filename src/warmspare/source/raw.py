"""Raw disk images and block devices as a source; owns read-ahead, hole detection and the check for changes."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from warmspare.errors import SourceError
from warmspare.model.columns import U32
from warmspare.model.extents import Extents
from warmspare.model.ids import DiskId
from warmspare.model.units import BLOCK_BYTES, SPAN_BYTES
from warmspare.outside import diskimages
from warmspare.outside.diskimages import DiskImage
from warmspare.source.ports import Hole, Span
from warmspare.source.spans import MIN_HOLE_BYTES, Batch, Piece, batches, block_numbers
from warmspare.threads import Threads

READ_AHEAD_SPANS = 16
SPANS_AT_ONCE = 4  # read in one visit to the thread: a visit costs about as much as reading a quarter of a span
MAX_ITEMS = 64

Item = Hole | tuple[U32, bytearray, int] | None  # a hole; blocks, buffer and how much of it is used; the end


class RawSource:
    """The file or device at `path`, opened read-only. SourceError if it can't be."""

    def __init__(self, path: Path, name: DiskId, *, read_ahead_spans: int = READ_AHEAD_SPANS) -> None:
        self.name, self.where, self._path = name, str(path), path
        self._depth = read_ahead_spans
        self._fd = -1
        try:
            # O_NONBLOCK means nothing to files and block devices; a FIFO would keep open waiting for ever.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._stat = os.fstat(self._fd)
            self._device = stat.S_ISBLK(self._stat.st_mode)
            if not self._device and not stat.S_ISREG(self._stat.st_mode):
                raise OSError(errno.EINVAL, "neither a file nor a block device")
            self._capacity = os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            self._close()
            raise SourceError(
                f"disk {name!r} can't be opened: {error.strerror}",
                where=self.where,
                hint="check the path and that this user may read it",
            ) from error
        if self._capacity == 0:
            self._close()
            raise SourceError(f"disk {name!r} is empty", where=self.where, hint="check the path")

    @property
    def capacity_bytes(self) -> int:
        return self._capacity

    def image(self) -> DiskImage | None:
        try:
            return diskimages.recognised(lambda offset, count: os.pread(self._fd, count, offset), self._capacity)
        except OSError:
            return None  # whoever reads it all will say so

    async def close(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def check(self) -> None:
        hint = "sync from a snapshot or while nobody writes to it; nothing was published"
        try:
            now, there = os.fstat(self._fd), self._path.stat()
        except OSError as error:
            raise SourceError(
                f"disk {self.name!r} vanished during the sync: {error.strerror}", where=self.where, hint=hint
            ) from error
        if (there.st_dev, there.st_ino) != (self._stat.st_dev, self._stat.st_ino):
            raise SourceError(
                f"disk {self.name!r} was replaced by another file during the sync", where=self.where, hint=hint
            )
        if self._device:
            size, changed = os.lseek(self._fd, 0, os.SEEK_END), False
        else:
            size, changed = now.st_size, now.st_mtime_ns != self._stat.st_mtime_ns
        if size != self._capacity:
            raise SourceError(
                f"disk {self.name!r} went from {self._capacity} to {size} bytes during the sync",
                where=self.where,
                hint=hint,
            )
        if changed:
            raise SourceError(f"disk {self.name!r} was written to during the sync", where=self.where, hint=hint)

    def _seek(self, offset: int, whence: int) -> int:
        """The next data or hole at or after `offset`; the capacity if there is none."""
        try:
            return min(os.lseek(self._fd, offset, whence), self._capacity)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return self._capacity
            # A medium that can't tell: all of it is data.
            return offset if whence == os.SEEK_DATA else self._capacity

    def _pieces(self, extents: Extents) -> Iterator[Piece]:
        """(start, stop, is data) over the extents, on block boundaries; holes of a span or more apart."""
        for offset, length in zip(extents.offsets.tolist(), extents.lengths.tolist(), strict=True):
            at, end = offset, offset + length
            while at < end:
                data = min(self._seek(at, os.SEEK_DATA), end)
                data = data if data == end else data // BLOCK_BYTES * BLOCK_BYTES
                if data - at >= MIN_HOLE_BYTES:
                    yield at, data, False
                    at = data
                    continue
                stop = data
                while stop < end:
                    hole = self._seek(stop, os.SEEK_HOLE)
                    stop = min(-(-hole // BLOCK_BYTES) * BLOCK_BYTES, end)
                    if stop < end:
                        following = min(self._seek(stop, os.SEEK_DATA), end)
                        if following - stop >= MIN_HOLE_BYTES:
                            break
                        stop = following
                yield at, max(stop, at), True
                at = max(stop, at)

    def _fill(self, batch: Batch, buffer: bytearray) -> int:
        """Read a batch to the front of the buffer; how much of it is used."""
        view = memoryview(buffer)
        used = 0
        for start, stop in batch:
            at = start
            while at < stop:
                try:
                    count = os.preadv(self._fd, [view[used : used + stop - at]], at)
                except OSError as error:
                    raise SourceError(
                        f"disk {self.name!r} can't be read at offset {at}: {error.strerror}",
                        where=self.where,
                        hint="check the medium; nothing was published, run the command again",
                        retryable=True,
                    ) from error
                if count == 0:
                    raise SourceError(
                        f"disk {self.name!r} ends at offset {at} and had {self._capacity} bytes before",
                        where=self.where,
                        hint="it shrank during the sync; nothing was published",
                    )
                at += count
                used += count
        return used

    def _load(self, todo: Iterator[Hole | Batch], free: list[bytearray | None]) -> list[Item]:
        """In the reader's thread: what comes next, until the buffers are full; None after the last of it."""
        out: list[Item] = []
        while free and len(out) < MAX_ITEMS:
            batch = next(todo, None)
            if batch is None or isinstance(batch, Hole):
                out.append(batch)
                if batch is None:
                    break
                continue
            buffer = free.pop() or bytearray(SPAN_BYTES)
            used = self._fill(batch, buffer)
            out.append((block_numbers(batch), buffer, used))
        return out

    async def read(self, extents: Extents) -> AsyncGenerator[Span | Hole, None]:
        pool: asyncio.Queue[bytearray | None] = asyncio.Queue()
        for _ in range(self._depth):
            pool.put_nowait(None)  # made when it is needed: where little is read, most never are
        todo = batches(self._pieces(extents))
        thread = Threads(1, "read")
        try:
            while True:
                free = [await pool.get()]
                while len(free) < SPANS_AT_ONCE and not pool.empty():
                    free.append(pool.get_nowait())
                items = await thread.run(self._load, todo, free)
                for buffer in free:
                    pool.put_nowait(buffer)
                for item in items:
                    if item is None:
                        return
                    if isinstance(item, Hole):
                        yield item
                        continue
                    blocks, buffer, used = item
                    yield Span(
                        blocks,
                        memoryview(buffer)[:used],
                        lambda buffer=buffer: pool.put_nowait(buffer),  # type: ignore[misc]
                    )
        finally:
            thread.close()
