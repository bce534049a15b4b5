"""A restore point's disks, or a replica's at one, for who reads a guest's files; owns what becomes of a block that does
not verify: an I/O error for the reader, and a finding."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from warmspare.errors import IntegrityError
from warmspare.observe.events import Events, Meter
from warmspare.recover.disks.held_point import OpenedPoint, PointDisk
from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.recover.disks.origin import of_point
from warmspare.recover.disks.served import ServedFile, served
from warmspare.recover.mounts.verified_reads import VerifiedReads


class PointFiles:
    """Of one point. meter: what is read is added to it."""

    def __init__(self, point: OpenedPoint, events: Events, meter: Meter) -> None:
        self._point, self._meter = point, meter
        record = point.record.record
        self._reads = [
            VerifiedReads(record.vm_id, disk.id, blocks, events, store_ends=True)
            for disk, blocks in zip(record.disks, point.blocks, strict=True)
        ]

    async def read(self, work: Callable[[Sequence[OpenDisk]], Awaitable[None]]) -> None:
        """Have `work` read the disks, in the VM's order, the one that boots first. StoreError as soon as the store does
        not give what it needs; ConfigError where nothing can be served."""
        record = self._point.record.record

        def opened(fds: list[int]) -> Awaitable[None]:
            each = zip(record.disks, fds, self._point.blocks, strict=True)
            disks = [PointDisk(disk.id, disk.capacity_bytes, fd, blocks) for disk, fd, blocks in each]
            return work(of_point(record).ordered(disks))

        files = [
            ServedFile(blocks.capacity_bytes, self._counted(reads))
            for blocks, reads in zip(self._point.blocks, self._reads, strict=True)
        ]
        await served(files, opened)

    def _counted(self, reads: VerifiedReads) -> Callable[[int, int], Awaitable[bytes]]:
        async def read(offset: int, length: int) -> bytes:
            data = await reads.read(offset, length)
            self._meter.read_bytes += length
            return data

        return read

    @property
    def damage(self) -> IntegrityError | None:
        """The first block that did not verify."""
        return next((reads.damage for reads in self._reads if reads.damage), None)
