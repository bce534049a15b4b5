"""What the tests of warmspare's vSphere side have in common: sessions with little patience, VMs protected again and
again, what they emitted, and disks compared with what a snapshot froze."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fakesite import Site
from rigs.host.hearing import recorder
from rigs.sites.fakevm import FakeVm
from standin import Standin
from warmspare.config.settings import Policy
from warmspare.model.extents import whole_disk, widen
from warmspare.model.units import BLOCK_BYTES, block_count
from warmspare.observe.events import Events
from warmspare.source.ports import DiskInput, Hole, LastDisk, LastPoint, Opened
from warmspare.source.vddk import vddk_install, vddk_session
from warmspare.vsphere.api.session import Server, SessionPatience, VsphereSession
from warmspare.vsphere.inventory.vm_info import read
from warmspare.vsphere.snapshots.snapshot import Timing
from warmspare.vsphere.vddk_access import Vddk
from warmspare.vsphere.vsphere_machine import VsphereMachine

PATIENCE = SessionPatience(deadline_s=20.0, backoff_s=0.02, backoff_most_s=0.2, connect_s=5.0, call_s=20.0)
TIMING = Timing(busy_s=10.0, create_s=10.0, remove_s=10.0, slow_s=0.3, pause_s=0.02)
READING = vddk_session.VddkSettings(backoff_s=0.02, backoff_most_s=0.1, wait_s=0.1)
REPOSITORY = "s3://dr/test"


@dataclass
class Record:
    """Every event, to be looked at."""

    list: list[dict[str, Any]] = field(default_factory=list)

    @property
    def events(self) -> Events:
        return Events(recorder(self.list))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.list if event["event"] == kind]

    def messages(self, kind: str = "source.warning") -> str:
        return "\n".join(event["message"] for event in self.of(kind))


def server(site: Site, **changed: Any) -> Server:
    """The site, pinned by its thumbprint."""
    made = Server(site.host, site.user, lambda: site.password, site.port, site.thumbprint)
    return replace(made, **changed)


@contextlib.asynccontextmanager
async def session_at(
    site: Site, record: Record | None = None, patience: SessionPatience = PATIENCE, **changed: Any
) -> AsyncIterator[VsphereSession]:
    """A session at the site."""
    async with VsphereSession(server(site, **changed), (record or Record()).events, patience) as session:
        yield session


@dataclass
class Rig:
    """A site, a VDDK stand-in that reads its snapshots, and a session; `sync` does what a sync does with a machine."""

    site: Site
    standin: Standin
    session: VsphereSession
    record: Record
    replicas: Path
    runs: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def machine(self, vm: FakeVm, policy: Policy | None = None, **options: Any) -> VsphereMachine:
        """Of a VM, for one run."""
        (info,) = await read(self.session, [vm.moref])
        vddk = Vddk(vddk_install.find(self.standin.home), READING, "nbdssl:nbd")
        options = {"repository": REPOSITORY, "run": f"run-{next(self.runs)}", "timing": TIMING} | options
        return VsphereMachine(self.session, info, policy or Policy(), vddk, self.record.events, **options)

    async def sync(
        self, vm: FakeVm, last: LastPoint | None = None, policy: Policy | None = None, **options: Any
    ) -> Synced:
        """One run: open, read what is to be read into the replicas, let go, close; the replicas are compared with what
        the snapshot froze."""
        machine = await self.machine(vm, policy, **options)
        try:
            opened = await machine.open(last)
            moref = opened.disks[0].source._snapshot  # type: ignore[attr-defined]
            read = {one.attributes["label"]: await self.read(one) for one in opened.disks}
            await machine.all_read()
        finally:
            await machine.close()
        for one in opened.disks:
            disk = next(disk for disk in vm.disks if disk.uuid == one.source.name)
            if not self.site.keep:
                continue
            frozen = vm.frozen_file(moref, disk)
            assert (self.replicas / one.source.name).read_bytes() == frozen.read_bytes(), one.attributes
        return Synced(opened, read)

    async def read(self, disk: DiskInput) -> int:
        """Read what may have changed into the disk's replica; how many bytes that was."""
        source, capacity = disk.source, disk.source.capacity_bytes
        replica = self.replicas / source.name
        replica.touch()
        extents = whole_disk(capacity)
        if disk.reported is not None:
            extents = widen(disk.reported, BLOCK_BYTES, capacity)
        with replica.open("r+b") as file:
            file.truncate(capacity)
            async for item in source.read(extents):
                if isinstance(item, Hole):
                    for block in range(item.start, min(item.stop, block_count(capacity))):
                        file.seek(block * BLOCK_BYTES)
                        file.write(bytes(min(BLOCK_BYTES, capacity - block * BLOCK_BYTES)))
                    continue
                at = 0
                for block in item.blocks.tolist():
                    data = item.data[at : at + BLOCK_BYTES]
                    file.seek(block * BLOCK_BYTES)
                    file.write(data)
                    at += len(data)
                item.release()
        return extents.total_bytes

    def snapshots(self, vm: FakeVm) -> list[str]:
        """The names of the snapshots there are."""
        return [one["name"] for one in self.site.state()[vm.moref]["snapshots"]]

    def clean(self, vm: FakeVm) -> None:
        """Nothing is left on the VM, and VDDK was used by its rules."""
        assert self.snapshots(vm) == [] and not vm.spec["consolidation_needed"]
        self.standin.check()
        counts = self.standin.counts()
        assert counts["Open"] == counts["Close"] and counts["ConnectEx"] == counts["Disconnect"]


@dataclass(frozen=True, slots=True)
class Synced:
    """What came of a run. read: bytes by label."""

    opened: Opened
    read: dict[str, int]

    @property
    def reasons(self) -> dict[str, str]:
        return {one.attributes["label"]: one.reason for one in self.opened.disks}

    def last(self, *, interrupted: bool = False) -> LastPoint:
        """What the next run is told of it."""
        disks = {one.source.name: LastDisk(one.source.capacity_bytes, one.change_id) for one in self.opened.disks}
        return LastPoint(disks, interrupted, json.loads(json.dumps(self.opened.hardware)))


@contextlib.asynccontextmanager
async def rig_at(home: Path, *, patience: SessionPatience = PATIENCE, **site: Any) -> AsyncIterator[Rig]:
    """A rig in a folder."""
    (home / "site").mkdir()
    (home / "replicas").mkdir()
    standin, record = Standin(home / "vddk"), Record()
    with Site(home / "site", **{"keep": True, **site}) as made:
        made.serve(standin)
        standin.expect(serverName=made.host, thumbPrint=made.thumbprint_sha1, userName=made.user)
        async with session_at(made, record, patience) as session:
            yield Rig(made, standin, session, record, home / "replicas")
