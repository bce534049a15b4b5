"""The disks that are looked into: a replica's, or without one a restore point's; owns that choice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import RunContext
from warmspare.engine.wiring.usual_repository import settled
from warmspare.errors import ConfigError
from warmspare.observe.kinds.looking_events import PointRead

if TYPE_CHECKING:
    from warmspare.recover.disks.held_point import HeldPoint, OpenedPoint
    from warmspare.recover.disks.open_disk import Held
    from warmspare.recover.disks.origin import Origin

T = TypeVar("T")


class DisksChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which disks of a VM are read: of a replica, or without one of a restore point.

    vm: its ID or name. replica: as it was given to apply; state: where its state is kept, None: beside it. repository:
    with a replica only where it is not the one that that came from. at: a restore point, None: the newest.
    """

    vm: str
    replica: Path | None = None
    repository: RepositoryPlace | None = None
    at: str | None = None
    state: Path | None = None

    def located(self, run: RunContext) -> DisksChoice:
        """The same with the configuration's repository, where neither one nor a replica is named. ConfigError."""
        if self.replica is not None:
            return self
        return msgspec.structs.replace(self, repository=settled(self.repository, (self.vm,), run))

    def demand(self) -> None:
        """ConfigError if it names neither, or contradicts itself."""
        if self.replica is None and (self.repository is None or not self.repository.uri):
            raise ConfigError(
                "nothing says which disks to read",
                hint="give --replica, or --repo for a restore point without a replica",
            )
        if self.replica is not None and self.at is not None:
            raise ConfigError(
                "--at and --replica exclude each other: a replica stands at its own restore point", hint="leave one out"
            )
        if self.replica is None and self.state is not None:
            raise ConfigError("--state says where a replica's state is kept", hint="leave it out, or give --replica")
        if self.repository is not None:
            _ = self.repository.endpoint

    def place(self, uri: str) -> RepositoryPlace:
        """The repository; uri: where the replica came from."""
        if self.repository is None:
            return RepositoryPlace(uri)
        return self.repository if self.repository.uri else msgspec.structs.replace(self.repository, uri=uri)


async def with_disks(choice: DisksChoice, run: RunContext, work: Callable[[Held, Origin], Awaitable[T]]) -> T:
    """The result of `work` on the disks, and on what is known of their VM; they stay as they are as long as it runs."""
    from warmspare.recover.disks.held_replica import held
    from warmspare.recover.disks.origin import origin

    choice.demand()
    if choice.replica is None:
        return await _with_point(choice, run, work)
    with held(choice.replica, state=choice.state) as replica:
        store = choice.place(replica.uri).open(run.retrying)
        try:
            of = await origin(replica, choice.vm, store)
        finally:
            await store.close()
        return await work(replica, of)


async def _with_point(choice: DisksChoice, run: RunContext, work: Callable[[Held, Origin], Awaitable[T]]) -> T:
    from warmspare.recover.disks.held_point import with_point
    from warmspare.recover.disks.origin import of_point

    async def reported(point: HeldPoint) -> T:
        of = of_point(point.record.record)
        result = await work(point, of)
        run.events.emit(
            PointRead(
                vm=of.vm,
                point=point.point.label,
                bytes_fetched=point.fetched.read_bytes,
                blocks_verified=sum(disk.blocks.verified for disk in point.disks),
                capacity_bytes=sum(disk.capacity_bytes for disk in point.disks),
            )
        )
        return result

    store = choice.place("").open(run.retrying)
    try:
        return await with_point(store, choice.vm, choice.at, run.host.folder("points"), reported)
    finally:
        await store.close()


@asynccontextmanager
async def opened_disks(choice: DisksChoice, run: RunContext) -> AsyncIterator[OpenedPoint]:
    """The disks as blocks that are proved, which stay as they are as long as the block lasts. ConfigError,
    IntegrityError, StoreError."""
    from warmspare.recover.disks.held_point import opened_point
    from warmspare.recover.disks.held_replica import held
    from warmspare.recover.disks.origin import origin
    from warmspare.recover.mounts.point_mount import opened_replica

    choice.demand()
    scratch = run.host.folder("points")
    if choice.replica is None:
        store = choice.place("").open(run.retrying)
        try:
            async with opened_point(store, choice.vm, choice.at, scratch) as point:
                yield point
        finally:
            await store.close()
        return
    with held(choice.replica, state=choice.state) as replica:
        store = choice.place(replica.uri).open(run.retrying)
        try:
            await origin(replica, choice.vm, store)  # refuses another's
            async with opened_replica(replica, store, choice.state, scratch) as point:
                yield point
        finally:
            await store.close()
