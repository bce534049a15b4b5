"""One disk to a raw file: a base, then the blocks that changed in AWS; and its proof by reading all of it back.

Each block's SHA-256 is noted as it is written, in a sparse file beside it, 64 MiB for each TiB; then the whole file is
read from the medium and held against these and, where nothing changed, against the hash table of the restore point.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from warmspare.errors import IntegrityError
from warmspare.model.columns import U8
from warmspare.model.units import BLOCK_BYTES, block_bytes
from warmspare.observe.events import Meter
from warmspare.observe.housekeeping import LOCAL, Housekeeping
from warmspare.outside.regular_files import open_regular
from warmspare.recover.blocks.ebs_blocks import BLOCKS_EACH, EBS_BLOCK_BYTES
from warmspare.recover.failback.ebsread import EbsReader, ListedBlock
from warmspare.state.local_files import local_io, pwrite_all
from warmspare.state.local_table import HashTable
from warmspare.state.user_files import mark_ours
from warmspare.threads import in_thread

UNDER_WAY = 16
PROVED_AT_ONCE = 32  # EBS blocks, one after the other, in one go of a thread
WHAT = "the exported disk"
_DIGEST_BYTES = 32
_ZEROS = bytes(EBS_BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class ExportBase:
    """What the file holds before blocks of AWS are written. table: of the restore point, its root already checked; None
    where the file was empty. capacity_bytes: that the table is of."""

    table: HashTable | None
    capacity_bytes: int


class DiskExport:
    """One raw file of `capacity_bytes`, made by the caller. Use it as a context manager."""

    def __init__(
        self, path: Path, capacity_bytes: int, base: ExportBase, meter: Meter, housekeeping: Housekeeping
    ) -> None:
        self.path, self._capacity, self._base, self._meter = path, capacity_bytes, base, meter
        self._housekeeping = housekeeping
        self._sums = path.with_name(path.name + ".sums")
        self._fd = self._sums_fd = -1
        self.changed_bytes = 0

    def __enter__(self) -> DiskExport:
        with local_io(WHAT, self.path):
            self._fd = open_regular(self.path, os.O_RDWR | os.O_CREAT)
            mark_ours(self._fd)
            os.ftruncate(self._fd, self._capacity)
            self._sums_fd = open_regular(self._sums, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            mark_ours(self._sums_fd)
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self._fd, self._sums_fd):
            if fd >= 0:
                os.close(fd)
        with self._housekeeping.trying(LOCAL, self._sums):
            self._sums.unlink(missing_ok=True)

    async def write(self, reader: EbsReader, snapshot_id: str, pages: AsyncIterator[list[ListedBlock]]) -> None:
        """Write the blocks as the snapshot has them; those beyond the end of the disk are left out. AwsError,
        StoreError."""
        slots = asyncio.Semaphore(UNDER_WAY)

        async def one(block: ListedBlock) -> None:
            try:
                data = await reader.get(snapshot_id, block) if block.token else _ZEROS
                self._meter.read_bytes += len(data) if block.token else 0
                await in_thread(self._put, block.index, data)
            finally:
                slots.release()

        async with asyncio.TaskGroup() as tasks:
            async for page in pages:
                for block in page:
                    if block.index * EBS_BLOCK_BYTES < self._capacity:
                        await slots.acquire()
                        tasks.create_task(one(block))

    def _put(self, index: int, data: bytes) -> None:
        at = index * EBS_BLOCK_BYTES
        data = data[: self._capacity - at]
        with local_io(WHAT, self.path):
            pwrite_all(self._fd, data, at)
            pwrite_all(self._sums_fd, hashlib.sha256(data).digest(), index * _DIGEST_BYTES)
        self.changed_bytes += len(data)
        self._meter.written_bytes += len(data)

    async def prove(self) -> None:
        """Read all of it back from the medium. IntegrityError if a block is not what it must be; StoreError."""
        with local_io(WHAT, self.path):
            await in_thread(os.fsync, self._fd)
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        count = -(-self._capacity // EBS_BLOCK_BYTES)
        for first in range(0, count, PROVED_AT_ONCE):
            await in_thread(self._prove_all, first, min(first + PROVED_AT_ONCE, count))

    def _prove_all(self, first: int, stop: int) -> None:
        for index in range(first, stop):
            self._prove(index)

    def _prove(self, index: int) -> None:
        at = index * EBS_BLOCK_BYTES
        with local_io(WHAT, self.path):
            data = os.pread(self._fd, min(EBS_BLOCK_BYTES, self._capacity - at), at)
            written = os.pread(self._sums_fd, _DIGEST_BYTES, index * _DIGEST_BYTES)
        self._meter.done_bytes += len(data)
        noted = bool(written.strip(b"\0"))
        good = hashlib.sha256(data).digest() == written if noted else self._as_before(index, data)
        if not good:
            raise IntegrityError(
                "the exported disk does not read back as it must",
                where=f"{self.path}, offset {at}",
                hint="run again: it is written anew; if it stays, look at the medium, or audit the replica",
            )

    def _as_before(self, index: int, data: bytes) -> bool:
        """Whether what AWS did not change is what the restore point says."""
        base = self._base
        first = index * BLOCKS_EACH
        if base.table is None:
            return _zeros(data)
        numbers = np.arange(first, first + -(-len(data) // BLOCK_BYTES), dtype=np.uint32)
        inside = numbers[numbers.astype(np.int64) * BLOCK_BYTES < base.capacity_bytes]
        expected: U8 = base.table.read(inside)
        for place, number in enumerate(numbers.tolist()):
            piece = data[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]
            size = block_bytes(number, base.capacity_bytes) if place < inside.size else 0
            known, beyond = piece[:size], piece[size:]
            if not _zeros(beyond):
                return False
            if size and not expected[place].any():
                if not _zeros(known):
                    return False
            elif size and xxhash.xxh3_128_digest(known) != expected[place].tobytes():
                return False
        return True


def _zeros(data: bytes) -> bool:
    return data == _ZEROS[: len(data)]
