"""The disks that `recover check` and `drill` read: a replica's, or without one a restore point's; owns that choice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from warmspare.cli import options
from warmspare.errors import ConfigError
from warmspare.observe.kinds.readiness import PointRead

if TYPE_CHECKING:
    from warmspare.observe.events import Events
    from warmspare.recover.disks.held_point import HeldPoint
    from warmspare.recover.disks.open_disk import Held
    from warmspare.recover.disks.origin import Origin
    from warmspare.store.contract import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DisksChoice:
    """The options, as given. ConfigError if they name neither or contradict each other."""

    vm: str
    replica: Path | None
    repo: str | None
    at: str | None
    state: Path | None
    endpoint_url: str | None
    s3: list[str] | None

    def __post_init__(self) -> None:
        if self.replica is None and self.repo is None:
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
        options.check_endpoint(self.endpoint_url)
        options.site(self.s3)


async def with_disks(choice: DisksChoice, events: Events, work: Callable[[Held, Origin], Awaitable[T]]) -> T:
    """The result of `work` on the disks, and on what is known of their VM; they stay as they are as long as it runs."""
    from warmspare.recover.disks.held_replica import held
    from warmspare.recover.disks.origin import origin

    if choice.replica is None:
        return await _with_point(choice, events, work)
    with held(choice.replica, state=choice.state) as replica:
        store = _open(choice, choice.repo or replica.uri, events)
        try:
            of = await origin(replica, choice.vm, store)
        finally:
            await store.close()
        return await work(replica, of)


async def _with_point(choice: DisksChoice, events: Events, work: Callable[[Held, Origin], Awaitable[T]]) -> T:
    from warmspare.recover.disks.held_point import with_point
    from warmspare.recover.disks.origin import of_point

    async def reported(point: HeldPoint) -> T:
        of = of_point(point.record.record)
        result = await work(point, of)
        events.emit(
            PointRead(
                vm=of.vm,
                point=point.point.label,
                bytes_fetched=point.fetched.read_bytes,
                blocks_verified=sum(disk.blocks.verified for disk in point.disks),
                capacity_bytes=sum(disk.capacity_bytes for disk in point.disks),
            )
        )
        return result

    assert choice.repo is not None
    store = _open(choice, choice.repo, events)
    try:
        return await with_point(store, choice.vm, choice.at, options.state_folder("points"), reported)
    finally:
        await store.close()


def _open(choice: DisksChoice, uri: str, events: Events) -> Store:
    from warmspare.cli.run import retrying
    from warmspare.store.opening import open_store

    return open_store(uri, endpoint_url=choice.endpoint_url, site=options.site(choice.s3), on_retry=retrying(events))
