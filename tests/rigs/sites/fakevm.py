"""A VM of the fake site: its disks as raw images, their chains of snapshot files, and what their tracking knows.

Never talks to the simulator except where a method says so."""

from __future__ import annotations

import os
import random
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig import scribble
from rigs.sites.tracking import Extent, Frozen, Tracker, UnknownChangeIdError

if TYPE_CHECKING:
    from fakesite import Site

Json = dict[str, Any]


class FaultError(Exception):
    """A fault of the API, by the name of its class."""

    def __init__(self, kind: str, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.kind, self.detail = kind, detail

    def as_json(self) -> Json:
        return {"type": self.kind, "message": str(self), "detail": self.detail}


@dataclass
class FakeDisk:
    """A disk. `chain` are its files as VDDK names them, the base first, the one that the VM writes to last; `order`
    are the snapshots between them (None: removed, but its disks were left)."""

    key: int
    label: str
    unit: int
    capacity: int
    uuid: str
    image: Path
    chain: list[str]
    tracker: Tracker
    controller: str = "scsi0"
    mode: str = "persistent"
    rdm: str = ""
    datastore: str = "ds1"
    order: list[str | None] = field(default_factory=list)
    tracked: bool = False

    @property
    def snapshotted(self) -> bool:
        """Whether snapshots cover it."""
        return not self.mode.startswith("independent") and self.rdm != "physical"

    @property
    def path(self) -> str:
        """The file that the VM writes to now."""
        return self.chain[-1]

    def as_json(self) -> Json:
        return {
            "key": self.key,
            "label": self.label,
            "controller": self.controller,
            "unit": self.unit,
            "capacity_bytes": self.capacity,
            "path": self.path,
            "parents": self.chain[-2::-1],
            "uuid": self.uuid,
            "mode": self.mode,
            "thin": True,
            "rdm": self.rdm,
            "sharing": "sharingNone",
            "change_id": self.tracker.live_change_id if self.tracked and self.snapshotted else "",
        }


@dataclass(frozen=True, slots=True)
class FrozenDisk:
    """A disk as a snapshot froze it."""

    file: Path
    capacity: int
    tracking: Frozen | None


class FakeVm:
    """A VM. `spec` holds the other fields of its entry in the site file.

    `tracking_starts` says what happens when change tracking is asked for: it is active after the next snapshot was
    taken and removed ("remove"), in that snapshot already ("create"), "never" although the config says so, or the
    request is "ignored" altogether."""

    def __init__(self, site: Site, spec: Json) -> None:
        self.site, self.spec = site, spec
        self.disks: list[FakeDisk] = []
        self._made = 0
        self.frozen: dict[str, dict[int, FrozenDisk]] = {}  # snapshot -> disk key
        self.taken: list[str] = []  # every snapshot there ever was
        self.tracking_starts = "remove"
        self._pending: set[str] | None = None  # snapshots taken since tracking was asked for

    @property
    def moref(self) -> str:
        return str(self.spec["moref"])

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    def as_json(self) -> Json:
        """Its entry in the site file."""
        snapshots: Json = {moref: {} for moref in self.frozen}
        for disk in self.disks:
            for at, moref in enumerate(disk.order):
                frozen = self.frozen.get(moref or "", {}).get(disk.key)
                if moref is not None and frozen is not None:
                    snapshots[moref][str(disk.key)] = {
                        "path": disk.chain[at],
                        "parents": disk.chain[:at][::-1],
                        "change_id": frozen.tracking.change_id if frozen.tracking else "",
                        "capacity_bytes": frozen.capacity,
                    }
        return self.spec | {"disks": [disk.as_json() for disk in self.disks], "snapshots": snapshots}

    # changes to the VM, as an administrator makes them

    def set(self, **fields: Any) -> None:
        """Change fields of the site file's entry: name, folder, host, memory_mib, …"""
        with self.site.changing():
            self.spec.update(fields)

    def add_disk(self, capacity: int, *, datastore: str = "ds1", image: Path | None = None, **options: Any) -> FakeDisk:
        """A new empty disk, or one that has the content of `image`, which becomes it. Options: mode, rdm,
        controller, unit."""
        with self.site.changing():
            number = max((disk.key for disk in self.disks), default=1999) + 1
            suffix = f"_{number - 2000}" if number > 2000 else ""
            self._made += 1  # keys are used again, files are not
            file = image or self.site.home / "disks" / f"{self.moref}-{self._made}.raw"
            if image is None:
                with file.open("xb") as made:
                    made.truncate(capacity)
            nth = number - 2000
            options.setdefault("unit", nth if nth < 7 else nth + 1)  # 7 is the controller's own
            disk = FakeDisk(
                key=number,
                label=f"Hard disk {nth + 1}",
                capacity=capacity,
                uuid="6000C29" + str(uuid.UUID(int=self.site.rng.getrandbits(128)))[7:],
                image=file,
                chain=[f"[{datastore}] {self.name}/{self.name}{suffix}.vmdk"],
                datastore=datastore,
                tracker=Tracker(capacity, self.site.granularity, self.site.rng),
                **options,
            )
            for offset, length in allocated(file):
                disk.tracker.wrote(offset, length)
            disk.tracker.changed[:] = 0
            disk.tracked = bool(self.spec["change_tracking"]) and self._pending is None
            self.disks.append(disk)
            return disk

    def remove_disk(self, disk: FakeDisk) -> None:
        """It is taken out of the VM. Its image stays where it is."""
        with self.site.changing():
            self.disks.remove(disk)

    def grow(self, disk: FakeDisk, capacity: int) -> None:
        """Extend a disk. vSphere allows it only without snapshots."""
        with self.site.changing():
            assert capacity > disk.capacity and not disk.order
            os.truncate(disk.image, capacity)
            disk.capacity = capacity
            disk.tracker.grow(capacity)

    def move_disk(self, disk: FakeDisk, datastore: str, *, reset: bool = True) -> None:
        """Storage vMotion of a disk; `reset`: its tracking starts over."""
        with self.site.changing():
            disk.chain = [f"[{datastore}]" + path[path.index("]") + 1 :] for path in disk.chain]
            disk.datastore = datastore
            if reset:
                disk.tracker.reset()

    # changes to content

    def write(self, disk: FakeDisk | int, offset: int, data: bytes, *, unseen: bool = False) -> None:
        """The guest writes; `unseen`: tracking misses it."""
        with self.site.lock:
            at = disk if isinstance(disk, FakeDisk) else self.disks[disk]
            assert offset >= 0 and offset + len(data) <= at.capacity
            with at.image.open("r+b") as file:
                file.seek(offset)
                file.write(data)
            at.tracker.wrote(offset, len(data), unseen=unseen)

    def scribble(self, rng: random.Random, *, unseen: bool = False, **how: Any) -> dict[int, list[Extent]]:
        """The guest writes random, compressible and zero bytes at random places of all disks; `how` as in rig.
        What was written where, by disk key."""
        with self.site.lock:
            written = {disk.key: scribble(disk.image, rng, **how) for disk in self.disks}
            for disk in self.disks:
                for offset, length in written[disk.key]:
                    disk.tracker.wrote(offset, length, unseen=unseen)
            return written

    # what goes wrong with tracking

    def reset_tracking(self, *disks: FakeDisk) -> None:
        """Tracking starts over under another UUID, of these disks or all."""
        with self.site.changing():
            for disk in disks or tuple(self.disks):
                disk.tracker.reset()

    def crash(self, host: str | None = None) -> None:
        """The host died, HA started the VM elsewhere: tracking lost what was written since the newest snapshot, and
        says nothing. vCenter's events do."""
        with self.site.changing():
            for disk in self.disks:
                disk.tracker.forget()
            self.site.event("HostConnectionLostEvent", host=self.spec["host"])
            self.spec["host"] = host or next(h for h in self.site.fields["hosts"] if h != self.spec["host"])
            self.site.event("com.vmware.vc.ha.VmRestartedByHAEvent", self)

    # snapshots of others; these two ask the simulator

    def foreign_snapshot(self, name: str = "before the update", description: str = "taken by somebody else") -> str:
        """Somebody else takes a snapshot; its moref."""
        request = {"vm": self.moref, "name": name, "description": description}
        moref: str = self.site.simulator.control("snapshot", request)["snapshot"]
        return moref

    def busy(self, seconds: float) -> None:
        """Somebody else's task runs on the VM for a while."""
        self.site.simulator.control("task", {"vm": self.moref, "seconds": seconds})

    def frozen_file(self, snapshot: str, disk: FakeDisk | int = 0) -> Path:
        """The disk as a snapshot froze it; of a removed one where the site keeps them."""
        at = disk if isinstance(disk, FakeDisk) else self.disks[disk]
        folder = "frozen" if snapshot in self.frozen else "kept"
        return self.site.home / folder / f"{snapshot}-{at.key}.raw"

    # what the simulator tells; the lock is held

    def told(self, what: Json) -> None:
        match what["event"]:
            case "create-snapshot":
                self._freeze(what["snapshot"])
            case "remove-snapshot":
                self._remove(what["snapshot"], what.get("leave_disks", False))
            case "reconfigure":
                self._track(what["change_tracking"])
            case "consolidate":
                self._consolidate()
            case "revert":
                self._revert(what["snapshot"])
            case unknown:
                raise FaultError("NotSupported", f"the test's site does not know {unknown}")

    def _freeze(self, moref: str) -> None:
        if self._pending is not None:
            self._pending.add(moref)
            if self.tracking_starts == "create":
                self._start_tracking()
        frozen: dict[int, FrozenDisk] = {}
        for disk in self.disks:
            if not disk.snapshotted:
                continue
            file = self.site.home / "frozen" / f"{moref}-{disk.key}.raw"
            subprocess.run(["cp", "--reflink=auto", "--sparse=always", disk.image, file], check=True)
            frozen[disk.key] = FrozenDisk(file, disk.capacity, disk.tracker.freeze() if disk.tracked else None)
            disk.order.append(moref)
            disk.chain.append(self._delta(disk))
        self.frozen[moref] = frozen
        self.taken.append(moref)

    def _delta(self, disk: FakeDisk) -> str:
        base = disk.chain[0].removesuffix(".vmdk")
        names = (f"{base}-{number:06d}.vmdk" for number in range(1, 1000))
        return next(name for name in names if name not in disk.chain)

    def _remove(self, moref: str, leave: bool) -> None:
        for disk in self.disks:
            if moref not in disk.order:
                continue
            at = disk.order.index(moref)
            tracking = self.frozen[moref][disk.key].tracking
            if tracking:
                disk.tracker.release(tracking.sequence)
            if leave:
                disk.order[at] = None
            else:
                del disk.order[at], disk.chain[at + 1]  # the file after it is merged into it
        for frozen in self.frozen.pop(moref).values():
            if self.site.keep:
                frozen.file.rename(self.site.home / "kept" / frozen.file.name)
            else:
                frozen.file.unlink()
        if leave:
            self.spec["consolidation_needed"] = True
        if self._pending is not None and self.tracking_starts == "remove" and moref in self._pending:
            self._start_tracking()

    def _consolidate(self) -> None:
        for disk in self.disks:
            while None in disk.order:
                at = disk.order.index(None)
                del disk.order[at], disk.chain[at + 1]
        self.spec["consolidation_needed"] = False

    def _track(self, on: bool) -> None:
        if self.tracking_starts == "ignored" or on == self.spec["change_tracking"]:
            return
        self.spec["change_tracking"] = on
        self._pending = set() if on else None
        for disk in self.disks:
            disk.tracked = False

    def _start_tracking(self) -> None:
        self._pending = None
        for disk in self.disks:
            disk.tracker.reset()
            disk.tracked = True

    def _revert(self, moref: str) -> None:
        frozen = self.frozen[moref]
        if any(disk.order[-1] != moref for disk in self.disks if disk.key in frozen):
            raise FaultError("NotSupported", "the test's site reverts to the newest snapshot only")
        for disk in self.disks:
            if disk.key not in frozen:
                continue
            tracking = frozen[disk.key].tracking
            subprocess.run(["cp", "--sparse=always", frozen[disk.key].file, disk.image], check=True)
            if tracking:
                disk.tracker.return_to(tracking)
        self.site.event("com.vmware.vc.vm.VmStateRevertedToSnapshot", self)

    def changed_areas(self, moref: str, key: int, change_id: str, start: int, limit: int) -> list[Extent]:
        """What QueryChangedDiskAreas answers, from `start` on."""
        disk = next((disk for disk in self.disks if disk.key == key), None)
        frozen = self.frozen.get(moref, {}).get(key)
        if disk is None or frozen is None or frozen.tracking is None:
            raise _file_fault(disk.chain[0] if disk else "")
        if change_id == "*":
            kind = next(ds["type"] for ds in self.site.fields["datastores"] if ds["name"] == disk.datastore)
            if kind == "NFS":
                return [(start, frozen.capacity - start)]
            if kind != "VMFS":
                raise _file_fault(disk.chain[0])
        try:
            return disk.tracker.changes(frozen.tracking, change_id, start, limit)
        except UnknownChangeIdError:
            uuid_part, _, number = change_id.rpartition("/")
            if uuid_part and number.isdecimal() and uuid_part != disk.tracker.uuid:
                raise _file_fault(disk.chain[0]) from None
            raise FaultError(
                "InvalidArgument", "A specified parameter was not correct: changeId", InvalidProperty="changeId"
            ) from None


def _file_fault(path: str) -> FaultError:
    file = "/vmfs/volumes/" + path.replace("[", "").replace("] ", "/")
    return FaultError("FileFault", f"Error caused by file {file}", File=file)


def freeze_files(vm: FakeVm) -> dict[str, Path]:
    """The VDDK paths of all frozen disks of a VM, and the raw files behind them."""
    files: dict[str, Path] = {}
    for disk in vm.disks:
        for at, moref in enumerate(disk.order):
            if moref is not None:
                files[disk.chain[at]] = vm.frozen[moref][disk.key].file
    return files


def allocated(path: Path) -> Iterator[Extent]:
    """The stretches of a sparse file that hold data."""
    with path.open("rb") as file:
        at, size = 0, path.stat().st_size
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            yield at, end - at
            at = end
