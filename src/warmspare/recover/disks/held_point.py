"""A restore point's disks opened for reading, without a replica: as `held_replica.py`, over the repository's blocks.

Restore points never change, so there is no lock and nothing to touch. Owns what is kept on this host meanwhile: the
disks' hash tables and manifests, in files without a name.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from warmspare.errors import ConfigError, by_hand
from warmspare.model.ids import DiskId, PointId
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Meter
from warmspare.recover.blocks.pointblocks import Kept, PointBlocks
from warmspare.recover.disks.served import ServedFile, served
from warmspare.repository import disk_tables
from warmspare.repository.blocks.chain_blocks import FRAMES_KEPT_BYTES, ChainBlocks
from warmspare.repository.chain import Point, Repository, open_repository
from warmspare.repository.vm_lookup import point_called
from warmspare.store.around.counting import CountingStore
from warmspare.store.contract import Store
from warmspare.threads import Threads

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Proved:
    """What a reading of one disk has come to: blocks that were put together and held against their hashes."""

    blocks_proved: int

    def fields(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PointDisk:
    """One disk of the point. fd: open for reading as long as the point is held; not to be read on the event loop."""

    id: DiskId
    capacity_bytes: int
    fd: int
    blocks: PointBlocks
    path: Path | None = None

    @property
    def read_bytes(self) -> int:
        """Blocks that were put together and proved, some of them again."""
        return self.blocks.verified * BLOCK_BYTES

    async def trace(self, *, hashed: bool = False) -> Proved:
        """What was read of it so far. hashed: has no meaning here, each block is proved as it is read."""
        return Proved(self.blocks.verified)


@dataclass(frozen=True, slots=True)
class HeldPoint:
    """A restore point of which every disk can be read. record: what the repository says of it."""

    record: Point
    repository: str
    uri: str
    disks: tuple[PointDisk, ...]
    fetched: CountingStore

    replica: Path | None = None

    @property
    def point(self) -> PointId:
        return self.record.id


@dataclass(frozen=True, slots=True)
class OpenedPoint:
    """A restore point of which any bytes can be read, as blocks that are proved. fetched: counts what that costs."""

    record: Point
    repository: Repository
    blocks: tuple[PointBlocks, ...]
    fetched: CountingStore


@asynccontextmanager
async def opened_point(store: Store, vm: str, at: str | None, scratch: Path) -> AsyncIterator[OpenedPoint]:
    """The VM's restore point that `at` names, or its newest, for as long as the block runs; nothing of it is mounted.

    vm: its ID in the repository, or its name. scratch: a directory for what is fetched, made if absent. ConfigError:
    there is no such point. IntegrityError, StoreError.
    """
    counted = CountingStore(store)
    repository = await open_repository(counted)
    point = await point_called(repository, vm, at)
    if not point.record.disks:
        hint = by_hand("give another --at, or protect its disks and sync it")
        raise ConfigError(f"restore point {point.id.label} has no disks", where=store.uri, hint=hint)
    async with AsyncExitStack() as stack:
        threads = Threads(len(os.sched_getaffinity(0)), "point")
        stack.callback(threads.close)
        kept, blocks = Kept(), []
        for disk in point.record.disks:
            table = stack.enter_context(await disk_tables.temporary(repository, disk, point, scratch))
            chain = ChainBlocks(
                repository, point, disk, scratch, threads, Meter(), FRAMES_KEPT_BYTES // len(point.record.disks)
            )
            await stack.enter_async_context(chain)
            blocks.append(PointBlocks(disk, table, chain, threads, kept))
        yield OpenedPoint(point, repository, tuple(blocks), counted)


async def with_point(
    store: Store, vm: str, at: str | None, scratch: Path, work: Callable[[HeldPoint], Awaitable[T]]
) -> T:
    """The result of `work`, which is given the restore point of `opened_point` as descriptors, as long as it runs.

    IntegrityError as soon as something that is read can't be proved, StoreError if it can't be had; the work is ended
    then, whatever it has come to. ConfigError: there is no such point, or this machine can't show it as files.
    """
    async with opened_point(store, vm, at, scratch) as point:

        def opened(fds: list[int]) -> Awaitable[T]:
            each = zip(point.record.record.disks, fds, point.blocks, strict=True)
            disks = tuple(PointDisk(disk.id, disk.capacity_bytes, fd, of) for disk, fd, of in each)
            return work(HeldPoint(point.record, point.repository.id, store.uri, disks, point.fetched))

        return await served([ServedFile(of.capacity_bytes, of.read) for of in point.blocks], opened)
