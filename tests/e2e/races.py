"""Two hosts that send one VM to a store whose conditions do not hold, and a model that knows what was published.

A race: some rounds in which both sync at the same time, with random pauses before each call of the store, and then each
alone once more, which is "the next run". What must hold of every published point (exit 0): it stands, and the newest
descends from it; or it was said with exit code 5, by the next run of the host that had published it, or by a run of
the other host. A run that found the lease taken has not looked.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rigs.stores.unkept import Unkept
from warmspare.engine.given_disks import GivenDisksOf, NamedDisk
from warmspare.errors import IntegrityError, StoreError, WarmspareError
from warmspare.model.ids import PointId
from warmspare.observe.events import Events
from warmspare.repository.chain import Repository, open_repository
from warmspare.repository.history.steps import ancestors
from warmspare.repository.making import make_repository
from warmspare.store.around.passing import PassingStore
from warmspare.store.contract import ObjectInfo, Store
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.lease import Lease
from warmspare.sync.beginning import ChainStart
from warmspare.sync.sender import Sender
from warmspare.sync.sync_settings import SyncSettings

DISK_BYTES = 256 << 10
PAUSE_S = 0.004  # at most, before a call


class Jittery(PassingStore):
    """Waits a moment before each call that decides anything."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        super().__init__(store)
        self._rng = rng

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.random() * PAUSE_S if self._rng.random() < 0.5 else 0)

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        await self._pause()
        return await super().get(key, max_bytes=max_bytes)

    async def head(self, key: str) -> ObjectInfo | None:
        await self._pause()
        return await super().head(key)

    async def create(self, key: str, data: bytes) -> bool:
        await self._pause()
        done = await super().create(key, data)
        await self._pause()
        return done

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        await self._pause()
        return await super().replace(key, data, etag=etag)


class NoLease:
    """What a lease is worth that two have at once."""

    def check(self) -> None:
        pass

    async def confirm(self) -> None:
        pass


@contextlib.asynccontextmanager
async def unheld(*arguments: object, **more: object) -> AsyncIterator[NoLease]:
    yield NoLease()


@dataclass
class Ran:
    """A run's outcome."""

    code: int
    point: PointId | None
    message: str = ""


@dataclass
class Host:
    number: int
    disk: Path
    state: Path
    runs: list[Ran] = field(default_factory=list)


@dataclass
class Race:
    """One repository, two hosts. When `store.on` is set, conditions are dropped."""

    home: Path
    seed: int
    creates: float
    replaces: float
    later: bool  # the promise breaks when both hosts have tried the store

    def __post_init__(self) -> None:
        self.refused = False  # when the repository was made
        self.rng = random.Random(self.seed)
        self.plain = DirectoryStore(str(self.home / "repo"))
        self.store = Unkept(self.plain, creates=self.creates, replaces=self.replaces, seed=self.seed, on=not self.later)
        self.hosts = [Host(n, self.home / f"{n}.raw", self.home / f"state-{n}") for n in range(2)]
        for host in self.hosts:
            host.disk.write_bytes(self.rng.randbytes(DISK_BYTES))

    async def sync(self, host: Host) -> Ran:
        with host.disk.open("r+b") as file:
            file.seek(self.rng.randrange(DISK_BYTES // 4096) * 4096)
            file.write(self.rng.randbytes(4096))
        store = Jittery(self.store, random.Random(self.rng.random()))
        events = Events(lambda event: None)
        machine = await GivenDisksOf(vm="vm", disks=(NamedDisk(str(host.disk), "disk"),)).open(events)
        try:
            done = await Sender(store, machine, SyncSettings(host.state, 1, start=ChainStart.OWN), events).run()
            ran = Ran(0, done.point)
        except (WarmspareError, BaseExceptionGroup) as error:
            one = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
            assert isinstance(one, WarmspareError), error
            ran = Ran(one.exit_code, None, one.sentence)
        finally:
            await machine.close()
        host.runs.append(ran)
        return ran

    async def run(self, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
        """All of it; how it ended, counted. Raises AssertionError where a point was lost without a word."""
        try:
            await self._rounds(monkeypatch)
            return await self._judge()
        finally:
            await self.plain.close()

    async def _rounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        try:
            await make_repository(self.store, Events())
        except StoreError:
            self.refused = True  # rightly; but the hosts meet with one that was made before
            await make_repository(self.plain, Events())
        if self.later:
            for host in self.hosts:
                assert (await self.sync(host)).code == 0, host.runs
            self.store.on = True
        with monkeypatch.context() as patch:
            if self.rng.random() < 0.8:
                patch.setattr(Lease, "hold", unheld)
            for _ in range(2):
                await asyncio.gather(*(self.sync(host) for host in self.hosts))
        for host in self.hosts:
            await self.sync(host)

    async def _judge(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        counts["refused by init"] += self.refused
        repository = await open_repository(self.plain) if self._any() else None
        stands = await self._standing(repository) if repository is not None else set()
        for host in self.hosts:
            for at, ran in enumerate(host.runs):
                counts[{0: "published", 4: "refused", 5: "said", 6: "lease or race lost"}[ran.code]] += 1
                if ran.point is None or ran.point in stands:
                    continue
                assert self._said(host, at), (self.seed, ran, [one.runs for one in self.hosts])
                counts["lost and said"] += 1
        return counts

    def _any(self) -> bool:
        return any(ran.point for host in self.hosts for ran in host.runs)

    async def _standing(self, repository: Repository) -> set[PointId]:
        """What the newest point descends from, itself included."""
        found: set[PointId] = set()
        newest = await repository.newest("vm")
        assert newest is not None
        with contextlib.suppress(IntegrityError):
            async for one in ancestors(repository, await repository.load("vm", newest)):
                found.add(one.point.id)
        return found

    def _said(self, host: Host, at: int) -> bool:
        """By the next run of the host that looked, or by one of the other's."""
        lost = host.runs[at].point
        assert lost is not None
        following = [ran for ran in host.runs[at + 1 :] if ran.code != 6]
        other = self.hosts[1 - host.number].runs
        telling = [ran for ran in [*following[:1], *other] if ran.code == 5]
        return any(lost.label in ran.message for ran in telling)


def counted(race: Race, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    return asyncio.run(race.run(monkeypatch))
