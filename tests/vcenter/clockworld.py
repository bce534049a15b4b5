"""A VM, two hosts that sync it by turns, a vCenter and a store, each with a clock of its own that jumps by up to a day,
and change tracking that is lost in between: random schedules, judged by what the disk really held.

The sync engine, the vSphere side with its judgement of events, and the simulated vCenter are the real ones. Disks are
read as files in place of through a VDDK, which knows no clock."""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import xxhash
from pyVmomi import vim

from fakesite import Site
from rig import MIB
from rigs.sites.fakevm import FakeVm, freeze_files
from vcenter.vspheretools import TIMING, Record, session_at
from warmspare.config.settings import Policy
from warmspare.format import hashtable
from warmspare.model.keyparts import encode_name
from warmspare.model.units import BLOCK_BYTES
from warmspare.repository import failover_record
from warmspare.repository.chain import open_repository
from warmspare.repository.history.steps import since
from warmspare.repository.making import make_repository
from warmspare.source.raw import RawSource
from warmspare.store import lease as lease_module
from warmspare.store.around.passing import PassingStore
from warmspare.store.contract import ObjectInfo
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.layout import lease_key
from warmspare.store.lease import Holder
from warmspare.sync.beginning import ChainStart
from warmspare.sync.planning.rolling import Rolling
from warmspare.sync.sender import Sender
from warmspare.sync.sync_settings import SyncSettings
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.api.tasks import finished
from warmspare.vsphere.inventory.vm_devices import VmDisk
from warmspare.vsphere.inventory.vm_info import read
from warmspare.vsphere.tracking.eventkinds import HOST_FAILED, KILLED
from warmspare.vsphere.vsphere_machine import VsphereMachine

DAY_S = 86400.0
REAL = time.time
HARMLESS = ("VmMigratedEvent", "VmReconfiguredEvent", "VmGuestRebootEvent", "VmRenamedEvent")


class ClockedStore(PassingStore):
    """A store whose clock is ahead: what it dates, it dates by that."""

    def __init__(self, store: DirectoryStore) -> None:
        super().__init__(store)
        self.ahead_s = 0.0
        self._dated: dict[str, float] = {}

    def _date(self, key: str) -> None:
        self._dated[key] = REAL() + self.ahead_s

    def _shown(self, info: ObjectInfo) -> ObjectInfo:
        return replace(info, modified_s=self._dated.get(info.key, info.modified_s))

    async def now(self) -> float:
        return REAL() + self.ahead_s

    async def head(self, key: str) -> ObjectInfo | None:
        info = await super().head(key)
        return self._shown(info) if info else None

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        async for info in super().list(prefix, start_after=start_after):
            yield self._shown(info)

    async def create(self, key: str, data: bytes) -> bool:
        self._date(key)
        return await super().create(key, data)

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        info = await super().replace(key, data, etag=etag)
        if info is not None:
            self._date(key)
        return self._shown(info) if info else None


@contextlib.contextmanager
def read_as_files(site: Site) -> Iterator[None]:
    """Disks of snapshots are read as the files that they are frozen in, which takes no process a disk."""

    class Files:
        def __init__(self, *_: object) -> None: ...

        async def check(self) -> None: ...

        async def prepare(self) -> None: ...

        async def end(self, *, crashed: bool = False) -> None: ...

        async def open(self, snapshot: str, disk: VmDisk) -> RawSource:
            (file,) = [files[disk.path] for vm in site.vms if disk.path in (files := freeze_files(vm))]
            return RawSource(file, disk.uuid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warmspare.vsphere.vsphere_machine.Access", Files)
        yield


@dataclass
class Tally:
    """Of all schedules. needed: syncs before which tracking was really lost; full: those that compared in full."""

    schedules: int = 0
    syncs: int = 0
    needed: int = 0
    full: int = 0
    losses: dict[str, int] = field(default_factory=dict)
    needless: dict[str, int] = field(default_factory=dict)

    def note(self, book: dict[str, int], what: str) -> None:
        book[what] = book.get(what, 0) + 1

    def __str__(self) -> str:
        return (
            f"{self.schedules} schedules, {self.syncs} syncs, tracking lost before {self.needed}, {self.full} compared "
            f"in full; lost by {self.losses}; needlessly: {self.needless}"
        )


@dataclass
class Schedule:
    """One of them, decided by its seed. Run it once."""

    home: Path
    seed: int
    tally: Tally
    steps: int = 9

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.store = ClockedStore(DirectoryStore(str(self.home / "repo")))
        self.hosts = [0.0, 0.0]  # how far the clocks of the two hosts that sync are ahead
        self.esx_ahead_s = 0.0  # and that of the ESXi hosts, which date what they report
        self.foreign = ""  # a snapshot of somebody else
        self.sequence = 0
        self.newest: Path | None = None  # the disk as the newest point must have it

    async def run(self) -> None:
        (self.home / "site").mkdir(parents=True)
        with Site(self.home / "site", keep=True, seed=self.seed) as self.site, self._patched():
            self.vm = self.site.add_vm("db", [self.rng.choice([1, 2]) * MIB])
            self.other = self.site.add_vm("other", [MIB])
            self.vm.scribble(self.rng)
            await make_repository(self.store, Record().events)
            async with session_at(self.site) as self.session:
                await self._sync("")
                for _ in range(self.steps):
                    self._clocks()
                    self._noise()
                    self.vm.scribble(self.rng, pieces=3)
                    lost = await self._lose() if self.rng.random() < 0.3 else ""
                    self._noise()
                    self.vm.scribble(self.rng, pieces=2)
                    await self._sync(lost)
        await self.store.close()
        self.tally.schedules += 1

    # clocks

    def _jump(self, ahead_s: float) -> float:
        return self.rng.uniform(-DAY_S, DAY_S) if self.rng.random() < 0.3 else ahead_s

    def _clocks(self) -> None:
        self.hosts = [self._jump(ahead_s) for ahead_s in self.hosts]
        self.esx_ahead_s, self.store.ahead_s = self._jump(self.esx_ahead_s), self._jump(self.store.ahead_s)
        ahead_s = self.site.fields.get("clock_ahead_s", 0.0)
        if (jumped := self._jump(ahead_s)) != ahead_s:
            self.site.clock_ahead(jumped)

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch, read_as_files(self.site):
            patch.setattr(lease_module, "CLOCK_GRAIN_S", 0.05)
            yield

    @contextlib.contextmanager
    def _on(self, ahead_s: float) -> Iterator[None]:
        """What runs in here runs on a host whose clock is so far ahead."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: REAL() + ahead_s)
            yield

    # what happens

    def _event(self, kind: str, vm: FakeVm | None = None, **where: str) -> None:
        """Dated by the ESXi hosts' clock or by vCenter's."""
        ahead_s = self.rng.choice([self.esx_ahead_s, self.site.fields.get("clock_ahead_s", 0.0)])
        self.site.event(kind, vm, ago_s=-ahead_s, **where)

    def _noise(self) -> None:
        with self.site.changing():
            for _ in range(self.rng.randrange(3)):
                self._event(self.rng.choice([KILLED + ".vmtrack", *HARMLESS]), self.other)
                self._event(self.rng.choice(HARMLESS), self.vm)
            if self.rng.random() < 0.15:
                for kind in ("VmStoppingEvent", "VmPoweredOffEvent", "VmPoweredOnEvent"):
                    self._event(kind, self.vm)
            if self.rng.random() < 0.15:
                host = next(h for h in self.site.fields["hosts"] if h != self.vm.spec["host"])
                self._event("HostConnectionLostEvent", host=host)

    async def _lose(self) -> str:
        """Tracking is lost, somehow, and what it was told of with it."""
        how = self.rng.choice(["killed", "restarted", "host", "off", "reverted", "registered", "came back"])
        self.tally.note(self.tally.losses, how)
        if how == "reverted":
            await self._revert()
            return how
        if how == "came back":
            await self._come_back()
            return how
        host = self.vm.spec["host"]
        with self.site.changing():
            for disk in self.vm.disks:
                disk.tracker.forget()
            match how:
                case "killed":
                    self._event(f"{KILLED}.{self.rng.choice(['noSwapResponse', 'fault.failure'])}", self.vm)
                case "restarted":
                    self.vm.spec["host"] = next(h for h in self.site.fields["hosts"] if h != host)
                    self._event("com.vmware.vc.ha.VmRestartedByHAEvent", self.vm)
                case "host":
                    self._event(self.rng.choice(HOST_FAILED), host=host)
                case "off":
                    self._event("VmPoweredOffEvent", self.vm)
                    self._event("VmPoweredOnEvent", self.vm)
                case "registered":
                    self._event("VmRemovedEvent", self.vm)
                    self._event("VmRegisteredEvent", self.vm)
        return how

    async def _revert(self) -> None:
        """To a snapshot of somebody else, taken before the newest point."""
        foreign = self.vm.foreign_snapshot()
        self.vm.scribble(self.rng, pieces=2)
        await self._sync("")
        self.vm.scribble(self.rng, pieces=2)
        snapshot = self.session.bound(vim.vm.Snapshot, foreign)
        await finished(self.session, snapshot.RevertToSnapshot_Task(), "reverting", timeout_s=30.0)
        if self.rng.random() < 0.5:
            removal = snapshot.RemoveSnapshot_Task(removeChildren=False)
            await finished(self.session, removal, "removing", timeout_s=30.0)

    async def _come_back(self) -> None:
        """From a failover: the disk was replaced below its tracking. Who clears the mark has a clock, too."""
        with self._on(self.rng.choice([*self.hosts, self.rng.uniform(-DAY_S, DAY_S)])):
            vm = str(self.vm.spec["instance_uuid"])
            journal = await failover_record.read_journal(await open_repository(self.store), vm)
            newest, _ = await since(journal.repository, vm, None)
            await journal.begin(newest.id, "eu-central-1", "register-image")
            self.vm.scribble(self.rng, pieces=4, unseen=True)
            await journal.move("cleared")

    # what is done about it

    async def _sync(self, lost: str) -> None:
        """A point by one of the two hosts; it has what the disk held."""
        who = self.rng.randrange(2)
        if self.sequence and self.rng.random() < 0.1:
            await self._leave_lease()
        record = Record()
        with self._on(self.hosts[who]):
            machine = await _machine(self.session, self.vm, record, self.store.uri)
            rolling = Rolling(7 * DAY_S, clock=time.time)
            state, own = self.home / f"state-{who}", ChainStart.OWN
            result = await Sender(
                self.store, machine, SyncSettings(state, 1, rolling=rolling, start=own), record.events
            ).run()
        self.sequence += 1
        assert result.point.sequence == self.sequence and result.findings == 0
        vm = str(self.vm.spec["instance_uuid"])
        point, _ = await since(await open_repository(self.store), vm, None)
        assert point is not None
        snapshot = self.vm.taken[-1]
        (disk,) = point.record.disks
        self.newest = self.vm.frozen_file(snapshot)
        assert disk.root == root_of(self.newest), f"seed {self.seed}, point {self.sequence}: wrong after {lost!r}"
        if self.sequence > 1:
            self.tally.syncs += 1
            self.tally.needed += bool(lost)
            self.tally.full += bool(disk.reason)
            if disk.reason and not lost:
                self.tally.note(self.tally.needless, disk.reason.partition(":")[0].partition(" (")[0])

    async def _leave_lease(self) -> None:
        """A sender on a third host died a moment ago; the store's clock may have jumped since."""
        key = lease_key(encode_name(str(self.vm.spec["instance_uuid"])))
        there = await self.store.head(key)
        dead = msgspec.structs.replace(
            Holder.this_process(0.1), host="third", boot_id="another", token=secrets.token_hex(16)
        )
        await self.store.replace(key, dead.encode(), etag=there.etag if there else None)
        self.store._dated[key] += self.rng.choice([-DAY_S, -0.2, DAY_S])


def root_of(image: Path) -> str:
    """The root of a hash table, from the bytes alone."""
    data, entries = image.read_bytes(), {}
    for at in range(0, len(data), BLOCK_BYTES):
        block = data[at : at + BLOCK_BYTES]
        entries[at // BLOCK_BYTES] = xxhash.xxh3_128_digest(block) if any(block) else bytes(16)
    return hashtable.root_of(len(data), entries)


async def _machine(session: VsphereSession, vm: FakeVm, record: Record, uri: str) -> VsphereMachine:
    (info,) = await read(session, [vm.moref])
    nowhere: Any = None
    return VsphereMachine(
        session, info, Policy(), nowhere, record.events, repository=uri, run=secrets.token_hex(8), timing=TIMING
    )
