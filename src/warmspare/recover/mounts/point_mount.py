"""A restore point, or a replica at one, mounted until it is ended; owns the order, and that nothing stays mounted.

First the disks are served to this program alone, so that a confined process can read their partition tables; then all
files are served in the user's folder. Both by FUSE, as its own user, for whom alone they are there.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from warmspare.debts import owe
from warmspare.observe.events import Events
from warmspare.observe.kinds.looking_events import MountDone, MountedFile, MountReady
from warmspare.recover.blocks.pointblocks import Kept, PointBlocks
from warmspare.recover.disks.held_point import OpenedPoint
from warmspare.recover.disks.held_replica import HeldReplica
from warmspare.recover.disks.served import (
    ENDING_S,
    HELD,
    FuseConnection,
    ServedFile,
    UnmountedError,
    mounted_device,
    served,
)
from warmspare.recover.mounts.mount_files import MountFile, files_of
from warmspare.recover.mounts.partition_files import DiskPartitions, partitions_of
from warmspare.recover.mounts.replica_giver import ReplicaGiver
from warmspare.recover.mounts.verified_reads import VerifiedReads
from warmspare.repository import disk_tables
from warmspare.repository.chain import open_repository
from warmspare.repository.remedy_commands import typed
from warmspare.store.around.counting import CountingStore
from warmspare.store.contract import Store
from warmspare.threads import Threads


@asynccontextmanager
async def opened_replica(
    replica: HeldReplica, store: Store, state: Path | None, scratch: Path
) -> AsyncIterator[OpenedPoint]:
    """A held replica as blocks that are proved: its bytes, and the hashes of its restore point from the repository.
    state: as the replica was named with. IntegrityError, StoreError."""
    counted = CountingStore(store)
    repository = await open_repository(counted)
    point = await repository.load(replica.record.vm, replica.point.sequence)
    if point.id != replica.point:
        raise repository.rolled_back(replica.record.vm, replica.point, point.id.sequence)
    kept = [] if state is None else ["--state", str(state)]
    remedy = typed("audit replica", replica.record.vm, replica.uri, "--replica", str(replica.target), *kept, "--repair")
    async with AsyncExitStack() as stack:
        threads = Threads(4, "replica")
        stack.callback(threads.close)
        together, blocks = Kept(), []
        paths = {disk.id: disk for disk in replica.disks}
        for disk in point.record.disks:
            table = stack.enter_context(await disk_tables.temporary(repository, disk, point, scratch))
            there = paths[disk.id]
            giver = ReplicaGiver(there.fd, there.path, threads)
            blocks.append(PointBlocks(disk, table, giver, threads, together, f"run {remedy} to heal it"))
        yield OpenedPoint(point, repository, tuple(blocks), counted)


@dataclass(frozen=True, slots=True)
class MountPlace:
    """folder: as `mountable` gave it. replica: what is mounted, None for the restore point itself."""

    folder: Path
    replica: Path | None = None


class PointMount:
    """Mounts once."""

    def __init__(self, point: OpenedPoint, place: MountPlace, events: Events) -> None:
        self._point, self._place, self._events = point, place, events
        record = point.record.record
        self._reads = [
            VerifiedReads(record.vm_id, disk.id, blocks, events)
            for disk, blocks in zip(record.disks, point.blocks, strict=True)
        ]

    async def run(self) -> MountDone:
        """Show the files until somebody unmounts the folder; ends by a cancel else, after which nothing is mounted
        either. ConfigError where nothing can be mounted."""
        partitions = await self._partitions()
        files = files_of(self._point.record.record.disks, partitions)
        try:
            await self._serve(files, self._left_out(partitions))
        except UnmountedError:
            pass
        finally:
            done = self._done()
            self._events.emit(done)
        return done

    async def _partitions(self) -> list[DiskPartitions]:
        """Those of every disk. Where a table can't be read or proved, its reader has an I/O error."""
        found = []
        for reads, blocks in zip(self._reads, self._point.blocks, strict=True):
            capacity = blocks.capacity_bytes

            async def look(fds: list[int], capacity: int = capacity) -> list[DiskPartitions]:
                return await partitions_of(fds, [capacity])

            found += await served([ServedFile(capacity, reads.read)], look)
        return found

    def _left_out(self, partitions: Sequence[DiskPartitions]) -> list[str]:
        disks = self._point.record.record.disks
        return [f"{disk.name}: {one}" for disk, of in zip(disks, partitions, strict=True) for one in of.left_out]

    async def _serve(self, files: Sequence[MountFile], left_out: list[str]) -> None:
        record = self._point.record.record
        made_s = int(datetime.datetime.fromisoformat(record.created).timestamp())
        shown = [self._file(file) for file in files]
        async with mounted_device(self._place.folder, hint="run where FUSE may be used") as (device, unmount):
            connection = FuseConnection(device, shown, named=True, made_s=made_s)

            async def let_go() -> None:
                connection.close()
                await unmount()

            owed = owe(HELD, ENDING_S, let_go)
            try:
                self._events.emit(
                    MountReady(
                        vm=record.vm_id,
                        vm_name=record.vm_name,
                        point=self._point.record.id.label,
                        replica=None if self._place.replica is None else str(self._place.replica),
                        directory=str(self._place.folder),
                        files=[
                            MountedFile(
                                name=file.name,
                                disk=record.disks[file.disk].id,
                                partition=file.partition,
                                offset=file.offset,
                                bytes=file.bytes,
                            )
                            for file in files
                        ],
                        left_out=left_out,
                    )
                )
                await connection.failed
            finally:
                connection.close()
                try:
                    await connection.ended()
                finally:
                    owed.drop()

    def _file(self, file: MountFile) -> ServedFile:
        reads, begins = self._reads[file.disk], file.offset

        async def read(offset: int, length: int) -> bytes:
            return await reads.read(begins + offset, length)

        return ServedFile(file.bytes, read, file.name)

    def _done(self) -> MountDone:
        record = self._point.record
        return MountDone(
            vm=record.record.vm_id,
            point=record.id.label,
            directory=str(self._place.folder),
            bytes_read=sum(reads.served_bytes for reads in self._reads),
            bytes_fetched=self._point.fetched.read_bytes,
            blocks_verified=sum(blocks.verified for blocks in self._point.blocks),
            reads_failed=sum(reads.failed for reads in self._reads),
        )
