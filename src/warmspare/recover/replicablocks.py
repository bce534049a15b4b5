"""Blocks of a disk at a restore point, read from a replica that is at it; refuses to write there, and one that moves.

The replica's lock is held meanwhile, so no apply changes it. What it holds is not believed but hashed; a block that
rotted comes from the chain.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from warmspare.apply.replica import Replica
from warmspare.errors import ConfigError
from warmspare.format.point import Disk
from warmspare.model import BLOCK_BYTES
from warmspare.observe.events import Events, Meter
from warmspare.recover.chainblocks import ChainBlocks
from warmspare.recover.window import Window
from warmspare.repository.chain import Point, Repository
from warmspare.state.files import io_error, local_io
from warmspare.store.threads import Threads

WHAT = "the replica"


class ReplicaElsewhereError(ConfigError):
    """The replica is not at the restore point that is wanted."""


class ReplicaBlocks:
    """Reads one disk from a descriptor of its replica. chain: where a block comes from that is not right."""

    def __init__(
        self, fd: int, path: Path, disk: Disk, chain: ChainBlocks, threads: Threads, events: Events, meter: Meter
    ) -> None:
        self._fd, self._path, self._disk, self._chain = fd, path, disk, chain
        self._threads, self._events, self._meter = threads, events, meter

    async def fill(self, window: Window) -> None:
        """Fill the window. StoreError if the replica can't be read; as ChainBlocks where a block is not right."""
        with local_io(WHAT, self._path):
            wrong = await self._threads.run(self._read, window)
        if wrong:
            blocks = [int(window.blocks[position]) for position in wrong]
            self._events.emit(
                "finding", kind="replica-block", disk=self._disk.id, blocks=blocks,
                message="these blocks of the replica are not what they should be; they were taken from the chain",
            )  # fmt: skip
            window.clear(wrong)
            await self._chain.fill(window, wrong)

    def _read(self, window: Window) -> list[int]:
        """In a worker thread."""
        for position in range(window.blocks.size):
            into = window.block(position)
            # A replica that is shorter than it should be gives zeros here, and their hash is not the one expected.
            self._meter.read_bytes += os.preadv(self._fd, [into], int(window.blocks[position]) * BLOCK_BYTES)
        return window.wrong()


@contextlib.contextmanager
def held_at(replica: Replica, point: Point) -> Iterator[None]:
    """Hold the replica's lock; ConfigError unless it is at that restore point and whole. LeaseError while an apply
    works on it."""
    with replica.hold():
        if replica.record is None or replica.at is None:
            raise ConfigError("there is no replica", where=str(replica.target), hint="make it with `warmspare apply`")
        if replica.moving is not None or replica.at != point.id:
            at = replica.at.label
            doing = f"is on its way from {at} to {replica.moving.label}" if replica.moving else f"is at {at}"
            raise ReplicaElsewhereError(
                f"the replica {doing}, and restore point {point.id.label} is to be staged",
                where=str(replica.target),
                hint=f"apply that point first, stage another with --at {replica.at.sequence}, or leave out --replica",
            )
        yield


@contextlib.contextmanager
def opened(replica: Replica, disk: Disk) -> Iterator[tuple[int, Path]]:
    """A read-only descriptor of a disk's replica, and its path. StoreError, ConfigError."""
    assert replica.record
    place = replica.record.disk(disk.id)
    if place is None:
        raise ConfigError(f"the replica lacks disk {disk.name!r}", where=str(replica.target), hint="apply again")
    path = replica.path(place)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise io_error(error, WHAT, path) from error
    try:
        yield fd, path
    finally:
        os.close(fd)


def replica_at(path: Path, vm: str, repository: Repository, point: Point, state: Path | None) -> Replica:
    """The replica that stands at `path`. ConfigError if nothing does."""
    if not path.exists():
        raise ConfigError("there is no replica", where=str(path), hint="check --replica")
    return Replica(path, vm, repository, len(point.record.disks), state=state, initialize=False)
