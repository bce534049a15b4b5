"""A world in which everything goes on at once in one process: syncs, plans, applies, copies and audits of small VMs,
over whatever store; and what must hold once all of that was cancelled."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import warmspare
from rig import KIB, MIB, files_below, random_disk, same, scribble
from rigs.crowds.leftovers import Holdings, held_leases, work_files
from warmspare.engine.budget import Share
from warmspare.store.opening import open_store

VMS = ("web", "mail", "files", "build")
# Of a state: docs/api.md, "Running"; and what every run leaves there.
STAYS = re.compile(
    r"""
    ^[^/]+/[0-9a-f-]+/(lock|(state|rate|leftovers)\.json|disks/.*|run/.*|unfinished/.*)$
    | ^audit/(lock|[0-9a-f]{16}(\.json|(-[0-9a-f]{16}){2}\.(image|entries|lost)))$
    | ^audits/(\.lock|[^/]+\.json)$ | ^audits/unfinished/[0-9a-f]{32}\.(lock|json)$ | ^promises/[^/]+\.json$
    """,
    re.VERBOSE,
)
BUDGET = Share(256 * MIB, 48, 112)  # some of what is asked for waits


@dataclass
class MixedWorld:
    """Four VMs with two restore points each and a replica, and a copy of the repository. repository, spare: URIs."""

    home: Path
    repository: str
    spare: str
    rng: random.Random
    batch: int = 0
    engine: warmspare.Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = warmspare.Engine(state=self.home / "host", budget=BUDGET)

    @classmethod
    async def make(cls, home: Path, repository: str, spare: str, seed: int) -> MixedWorld:
        world = cls(home, repository, spare, random.Random(seed))
        run = world.engine.run
        await run(warmspare.InitRequest(repositories=(world.place, world.other)))
        for vm in VMS:
            random_disk(world.disk(vm), 6 * MIB, world.rng, pieces=24)
            await run(world.sync(vm, new=True))
            scribble(world.disk(vm), world.rng)
            await run(world.sync(vm))
            await run(world.apply(vm))
        await run(world.copy())
        return world

    @property
    def place(self) -> warmspare.RepositoryPlace:
        return warmspare.RepositoryPlace(self.repository)

    @property
    def other(self) -> warmspare.RepositoryPlace:
        return warmspare.RepositoryPlace(self.spare)

    def disk(self, vm: str) -> Path:
        return self.home / f"{vm}.raw"

    def replica(self, vm: str) -> Path:
        return self.home / f"{vm}.replica"

    def disks(self, vm: str) -> warmspare.GivenDisksOf:
        return warmspare.GivenDisksOf(vm=vm, disks=(warmspare.NamedDisk(str(self.disk(vm))),))

    def sync(self, vm: str, *, new: bool = False) -> warmspare.SyncRequest:
        return warmspare.SyncRequest(disks=self.disks(vm), repository=self.place, state=self.home / "host", new=new)

    def apply(self, vm: str, *, to: Path | None = None, spare: bool = False) -> warmspare.ApplyRequest:
        return warmspare.ApplyRequest(vm=vm, repository=self.other if spare else self.place, to=to or self.replica(vm))

    def copy(self) -> warmspare.CopyRequest:
        return warmspare.CopyRequest(source=self.place, destination=self.other)

    def requests(self) -> list[warmspare.Request[Any]]:
        """One of each, where two can't be in each other's way; the disks that are synced have changed."""
        self.batch += 1
        one, two, three, four = self.rng.sample(VMS, 4)
        for vm in (one, two):
            scribble(self.disk(vm), self.rng, pieces=40, most=200 * KIB)
        new = f"new{self.batch}"
        self.disk(new).write_bytes(self.rng.randbytes(2 * MIB))
        requests: list[warmspare.Request[Any]] = [
            self.sync(one),
            self.sync(two),
            self.sync(new, new=True),
            warmspare.PlanRequest(disks=self.disks(three), repository=self.place, state=self.home / "host"),
            self.apply(one),
            self.apply(three, to=self.home / f"fresh{self.batch}"),
            self.copy(),
            warmspare.ReplicaAuditRequest(vm=two, repository=self.place, replica=self.replica(two)),
            warmspare.RepositoryAuditRequest(repository=self.place, deep=True),
            warmspare.SourceAuditRequest(disks=self.disks(four), repository=self.place),
        ]
        self.rng.shuffle(requests)
        return requests

    async def cancelled(self, within_s: float) -> list[str]:
        """All at once, cancelled at a random moment: half of the times all at one, else each at its own. How each
        ended, by name; AssertionError where anything is held or left after it."""
        requests = self.requests()
        before = await Holdings.look()
        running = [asyncio.ensure_future(self.engine.run(request)) for request in requests]
        at_once, loop = self.rng.random() < 0.5, asyncio.get_running_loop()
        moment_s = self.rng.random() * within_s
        for task in running:
            loop.call_later(moment_s if at_once else self.rng.random() * within_s, task.cancel)
        ends = await asyncio.gather(*running, return_exceptions=True)
        wrong = [end for end in ends if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError)]
        assert not wrong, wrong
        assert self.engine.free == BUDGET
        (await Holdings.look()).demand_no_more_than(before)
        await self.demand_nothing_left()
        return [
            f"{type(request).__name__} {'cancelled' if isinstance(end, asyncio.CancelledError) else 'done'}"
            for request, end in zip(requests, ends, strict=True)
        ]

    async def demand_nothing_left(self) -> None:
        """No lease, no upload, no file of a work area."""
        for uri in (self.repository, self.spare):
            store = open_store(uri)
            try:
                held, uploads = await held_leases(store), await store.stale_uploads("")
            finally:
                await store.close()
            assert not held and not uploads, (held, uploads)
        work = [name for name in work_files(self.home) if not name.endswith("/.tmp~/lock")]
        host = self.home / "host"
        odd = [name for path in files_below(host) if not STAYS.search(name := str(path.relative_to(host)))]
        assert not work and not odd, (work, odd)

    async def settle(self) -> None:
        """The next runs go on, and everything is as it should be: replicas, also by way of the copy, equal their disks,
        and a deep audit finds nothing."""
        for vm in VMS:
            await self.engine.run(self.sync(vm))
            await self.engine.run(self.apply(vm))
            assert same(self.disk(vm), self.replica(vm))
        new = f"new{self.batch}"
        await self.engine.run(self.sync(new, new=not await self._has(new)))
        await self.engine.run(self.copy())
        for vm in (*VMS, new):
            again = self.home / f"fresh-{vm}"
            await self.engine.run(self.apply(vm, to=again, spare=True))
            assert same(self.disk(vm), again)
        for place in (self.place, self.other):
            audit = await self.engine.run(warmspare.RepositoryAuditRequest(repository=place, deep=True))
            assert audit.report.clean, audit.report.findings
        for path in (*self.home.glob("fresh*"), *self.home.glob("new*.raw")):
            remove(path)

    async def _has(self, vm: str) -> bool:
        try:
            await self.engine.run(warmspare.PointsRequest(repository=self.place, vm=vm))
        except warmspare.ConfigError:
            return False
        return True

    async def whole_s(self) -> float:
        """How long all at once take, when nobody cancels them."""
        began = time.monotonic()
        await asyncio.gather(*map(self.engine.run, self.requests()))
        return time.monotonic() - began


def remove(path: Path) -> None:
    """A file, or a folder with all below it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
