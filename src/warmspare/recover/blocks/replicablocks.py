"""Blocks of a disk at a restore point, read from a replica that is at it; refuses to write there, and one that moves.

It is held still meanwhile, by the lock that an apply takes to move it; an apply that follows waits. What it holds is
not believed but hashed; a block that rotted comes from the chain.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from warmspare.apply.replica import Replica
from warmspare.errors import ConfigError, LeaseError
from warmspare.format.restore_point import Disk
from warmspare.model.ids import VmId
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.finding import ReplicaBlock
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.repository.blocks.chain_blocks import ChainBlocks
from warmspare.repository.chain import Point, Repository
from warmspare.state.local_files import io_error, local_io
from warmspare.state.replica_record import REPLICA
from warmspare.threads import Threads

WAIT_S = 600.0  # for an apply to end its step, or to bring the replica to the point
LOOK_S = 0.5


class ReplicaElsewhereError(ConfigError):
    """The replica is not at the restore point that is wanted."""


class ReplicaBlocks:
    """Reads one disk from a descriptor of its replica. chain: where a block comes from that is not right."""

    def __init__(
        self, fd: int, path: Path, disk: Disk, chain: ChainBlocks, threads: Threads, events: Events, meter: Meter
    ) -> None:
        self._fd, self._path, self._disk, self._chain = fd, path, disk, chain
        self._threads, self._events, self._meter = threads, events, meter

    async def fill(self, window: BlockWindow) -> None:
        """Fill the window. StoreError if the replica can't be read; as ChainBlocks where a block is not right."""
        with local_io(REPLICA, self._path):
            wrong = await self._threads.run(self._read, window)
        if wrong:
            blocks = [int(window.blocks[position]) for position in wrong]
            self._events.emit(ReplicaBlock(disk=self._disk.id, blocks=blocks))
            window.clear(wrong)
            await self._chain.fill(window, wrong)

    def _read(self, window: BlockWindow) -> list[int]:
        """In a worker thread."""
        # A replica that is shorter than it should be gives zeros here, and their hash is not the one expected.
        self._meter.read_bytes += window.load(self._fd)
        return window.wrong()


@contextlib.asynccontextmanager
async def held_at(replica: Replica, point: Point, waiting: Callable[[str], None]) -> AsyncIterator[None]:
    """Hold the replica still at that restore point, its record known. An apply that moves it, or is at work and has yet
    to bring it there, is waited for, up to WAIT_S; waiting: hears why, once for each reason.

    ReplicaElsewhereError if it is at another point and nothing brings it to this one; ConfigError if it is no replica;
    LeaseError after WAIT_S.
    """
    deadline, told, left = time.monotonic() + WAIT_S, "", False
    while True:
        with replica.standing() as still:
            if still and _stands_at(replica, point):
                yield
                return
            elsewhere = _elsewhere(replica, point) if still else None
        if elsewhere and (left or _is_past(replica, point)):
            raise elsewhere
        if elsewhere and not replica.followed():
            left = True
            continue  # once more: the apply may have ended after that look, with the replica at the point
        left = False
        why = elsewhere.what if elsewhere else "an apply is moving the replica, or something else is reading it"
        if time.monotonic() >= deadline:
            raise LeaseError(
                f"{why}, and still is after {WAIT_S:.0f} s",
                where=str(replica.target),
                hint="wait for that to end and run again, or leave out --replica",
                retryable=True,
            )
        if why != told:
            told = why
            waiting(why)
        await asyncio.sleep(LOOK_S)


def _stands_at(replica: Replica, point: Point) -> bool:
    return replica.moving is None and replica.at == point.id


def _is_past(replica: Replica, point: Point) -> bool:
    """Whether it is at that point's number or beyond, or on its way there from one that is: it only goes forward."""
    there = replica.moving or replica.at
    return there is not None and there != point.id and there.sequence >= point.id.sequence


def _elsewhere(replica: Replica, point: Point) -> ReplicaElsewhereError:
    at = replica.at.label if replica.at else "no point"
    doing = f"is on its way from {at} to {replica.moving.label}" if replica.moving else f"is at {at}"
    other = f", stage another with --at {replica.at.sequence}" if replica.at else ""
    return ReplicaElsewhereError(
        f"the replica {doing}, and restore point {point.id.label} is to be staged",
        where=str(replica.target),
        hint=f"apply that point first{other}, or leave out --replica",
    )


@contextlib.contextmanager
def opened(replica: Replica, disk: Disk) -> Iterator[tuple[int, Path]]:
    """A read-only descriptor of a disk's replica, and its path. StoreError, ConfigError."""
    assert replica.record
    place = replica.record.disk(disk.id)
    if place is None:
        raise ConfigError(f"the replica lacks disk {disk.name!r}", where=str(replica.target), hint="apply again")
    path = replica.path(place)
    try:
        fd = replica.open_for_reading(place)
    except OSError as error:
        raise io_error(error, REPLICA, path) from error
    try:
        yield fd, path
    finally:
        os.close(fd)


def replica_at(path: Path, vm: VmId, repository: Repository, point: Point, state: Path | None) -> Replica:
    """The replica that stands at `path`. ConfigError if nothing does."""
    if not path.exists():
        raise ConfigError("there is no replica", where=str(path), hint="check --replica")
    return Replica(path, vm, repository, len(point.record.disks), state=state, initialize=False)
