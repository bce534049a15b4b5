"""A VM over simulated months: a point every quarter of an hour by the sender's own code, and `prune` once a day.

Time is that of records, of the store's objects, and of who asks either clock. The guest has a database, whose pages are
written again and again, some of them all the time and the others anywhere, and a log that goes round in a file; what it
writes follows from a seed and the number of the point alone, so any state can be made again by doing it all again.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import warmspare.repository.history.retained
import warmspare.retain.vm_standing
import warmspare.sync.sender
from rigs.stores.memory_store import MemoryStore
from warmspare.apply.receiver import Receiver
from warmspare.audit.repository.seen import KnownRepository
from warmspare.model.extents import normalise
from warmspare.model.ids import VmId
from warmspare.model.units import BLOCK_BYTES, PAGE_BYTES
from warmspare.observe.events import Events
from warmspare.repository.chain import Repository, open_repository
from warmspare.repository.history import retained
from warmspare.repository.making import make_repository
from warmspare.retain.policy import RetentionPolicy
from warmspare.retain.removal import Policies, Prune, Pruned
from warmspare.source.given import GivenDisks
from warmspare.source.ports import DiskInput
from warmspare.source.raw import RawSource
from warmspare.store.contract import Store
from warmspare.sync.beginning import ChainStart
from warmspare.sync.sender import Sender
from warmspare.sync.sync_settings import SyncSettings
from warmspare.threads import Threads

VM = VmId("vm")
QUARTER_S, HOUR_S, DAY_S = 900.0, 3600.0, 86400.0
BEGIN_S = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC).timestamp()
POLICY = RetentionPolicy(keep_last=8, keep_hourly=24, keep_daily=14, keep_weekly=8, keep_monthly=12)
MOST_KEPT = 8 + 24 + 14 + 8 + 12
LEVEL = 3

Pages = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Guest:
    """What writes to the disk. Sizes in pages: of the disk, of the database behind its first MiB, of the log behind
    that. hot, wide: database pages that a quarter of an hour writes among the few hot ones, and anywhere. logged: pages
    that it adds to the log."""

    seed: int = 1
    pages: int = 8192
    database: int = 4096
    log: int = 1024
    hot_pages: int = 64
    hot: int = 12
    wide: int = 8
    logged: int = 6

    def first(self) -> Pages:
        """The disk before anything happened; a row a page. A sixth of it was never written."""
        disk = np.zeros((self.pages, PAGE_BYTES), dtype=np.uint8)
        written = np.arange(self.pages - self.pages // 6)
        disk[written] = self._contents(np.random.default_rng(self.seed), written.size)
        return disk

    def writes(self, number: int) -> tuple[npt.NDArray[np.int64], Pages]:
        """Which pages the guest wrote before that point (the first is 1), ascending, and what they hold then."""
        rng = np.random.default_rng((self.seed, number))
        hot = (rng.random(self.hot) ** 3 * self.hot_pages).astype(np.int64)
        wide = rng.integers(0, self.database, self.wide)
        log = (np.arange(self.logged) + number * self.logged) % self.log + self.database
        pages = np.unique(np.concatenate([hot, wide, log])) + 256
        return pages, self._contents(rng, pages.size)

    @staticmethod
    def _contents(rng: np.random.Generator, count: int) -> Pages:
        """Pages as of a database: a third of each does not compress, the rest repeats."""
        pages = np.empty((count, PAGE_BYTES), dtype=np.uint8)
        pages[:] = np.resize(np.frombuffer(b"customer name, address and balance due; ", dtype=np.uint8), PAGE_BYTES)
        rows = pages.reshape(count, 64, 64)
        rows[:, :, :22] = rng.integers(0, 256, (count, 64, 22), dtype=np.uint8)
        return pages


class Disk(RawSource):
    """The image, which nothing else writes to while it is read, on a medium that knows no holes: a look for them costs
    a quarter of a small sync here."""

    def check(self) -> None:
        pass

    def _seek(self, offset: int, whence: int) -> int:
        return offset if whence == os.SEEK_DATA else self.capacity_bytes


@dataclass
class Simulation:
    """One VM and its repository. home: for state, the image and scratch. step_s: from point to point. made: how many
    of them."""

    home: Path
    guest: Guest
    patch: pytest.MonkeyPatch
    policy: RetentionPolicy = POLICY
    grace_s: float = DAY_S
    step_s: float = QUARTER_S
    now_s: float = BEGIN_S
    made: int = 0

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.store = MemoryStore(clock=lambda: self.now_s)
        self.pages = self.guest.first()
        self.image.write_bytes(self.pages.tobytes())
        self.patch.setattr(warmspare.retain.vm_standing, "host_now_s", lambda: self.now_s)
        for module in (warmspare.sync.sender, warmspare.repository.history.retained):
            self.patch.setattr(module, "now_text", self.text)
        for name in ("fsync", "fdatasync"):
            self.patch.setattr(os, name, lambda fd: None)
        self.patch.setattr(asyncio, "to_thread", _at_once)  # handing over costs more than what is done here
        self.patch.setattr(Threads, "run", lambda self, call, /, *args, **more: _at_once(call, *args, **more))

    @property
    def image(self) -> Path:
        return self.home / "disk.raw"

    def text(self) -> str:
        now = datetime.datetime.fromtimestamp(self.now_s, datetime.UTC)
        return now.isoformat(timespec="seconds").replace("+00:00", "Z")

    async def begin(self) -> None:
        await make_repository(self.store, Events())

    async def point(self) -> None:
        """Some time goes by, the guest writes, and it is synced."""
        self.now_s += self.step_s
        self.made += 1
        wrote, contents = self.guest.writes(self.made)
        self.pages[wrote] = contents
        await self._sync(self.home / "state", wrote)

    async def _sync(self, state: Path, wrote: npt.NDArray[np.int64] | None) -> None:
        """wrote: pages that may differ from the last point, which are written to the image; None: all of it may."""
        reported = None
        if wrote is not None:
            fd = os.open(self.image, os.O_WRONLY)
            for page in wrote.tolist():
                os.pwrite(fd, self.pages[page].data, page * PAGE_BYTES)
            os.close(fd)
            blocks = np.unique(wrote * PAGE_BYTES // BLOCK_BYTES)
            reported = normalise((blocks * BLOCK_BYTES).tolist(), [BLOCK_BYTES] * blocks.size)
        else:
            self.image.write_bytes(self.pages.tobytes())
        new = not state.exists()
        given = DiskInput(Disk(self.image, "d"), None if new else reported)
        settings = SyncSettings(state, LEVEL, start=ChainStart.NEW if new else ChainStart.GO_ON)
        await Sender(self.store, GivenDisks(VM, [given]), settings, Events()).run()

    async def prune(self, store: Store | None = None) -> Pruned:
        """As the program does it, by the policy; what nobody needs any more is removed."""
        policies = Policies(lambda vm, name: self.policy, _nobody, None, self.grace_s)
        return await Prune(
            store or self.store,
            self.home / "scratch",
            KnownRepository(),
            Events(),
            vm=None,
            older_s=None,
            remove=True,
            policies=policies,
        ).run()

    async def sequences(self) -> list[int]:
        """Of the points that are kept."""
        repository = await open_repository(self.store)
        record = await retained.newest(repository, VM)
        there = await repository.sequences(VM)
        return [number for number in there if record is None or not record.record.dropped(number)]

    async def fresh(self, numbers: Sequence[int]) -> MemoryStore:
        """A repository to which only the states of these points were ever synced."""
        store, self.store = self.store, MemoryStore(clock=lambda: self.now_s)
        try:
            await make_repository(self.store, Events())
            for _, pages in self.states(numbers):
                self.pages = pages
                await self._sync(self.home / "fresh", None)
            return self.store
        finally:
            self.store = store

    def states(self, numbers: Iterable[int]) -> Iterator[tuple[int, Pages]]:
        """What the disk was at each of these points, ascending; the same array, which goes on."""
        pages = self.guest.first()
        done = 0
        for number in sorted(numbers):
            for point in range(done + 1, number + 1):
                wrote, contents = self.guest.writes(point)
                pages[wrote] = contents
            done = number
            yield number, pages

    async def materialise(self, numbers: Iterable[int], store: Store | None = None) -> None:
        """A replica at each of these points, by the real receiver, is what the guest had then, byte for byte."""
        for number, pages in self.states(numbers):
            target = self.home / f"replica-{number}"
            await Receiver(store or self.store, VM, target, Events()).run(at=str(number))
            assert np.array_equal(np.fromfile(target, dtype=np.uint8), pages.reshape(-1)), number
            target.unlink()
            shutil.rmtree(f"{target}.warmspare")


async def _at_once(call: Callable[..., Any], /, *args: Any, **more: Any) -> Any:
    return call(*args, **more)


async def _nobody(repository: Repository, vm: VmId) -> Mapping[int, Sequence[str]]:
    return {}
