"""A VM that is protected: makes one moment of its disks, opens it, and leaves the VM as it was on every way out.

The order is VMware's: what an earlier run left is removed and merged before a new snapshot is taken, for the other
order has corrupted file systems; the changed areas are asked for at the snapshot, against the change IDs of the last
published restore point. The lease is the sync's; whoever gets here is alone with this VM and repository.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

from warmspare.config.settings import Policy
from warmspare.debts import Owed, owe
from warmspare.errors import SourceError, WarmspareError
from warmspare.model.extents import Extents
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.kinds.source_events import SourceWarning
from warmspare.observe.quantities import told
from warmspare.source.identity import Identity
from warmspare.source.ports import DiskInput, LastPoint, Opened
from warmspare.threads import finish
from warmspare.vsphere.api import faults
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.inventory.neighbours import Neighbours, identity_of, lives_at, vcenter_of
from warmspare.vsphere.inventory.protectable import EXCLUDED, Protectability, judge, refusal
from warmspare.vsphere.inventory.vm_devices import VmDisk, read_disks
from warmspare.vsphere.inventory.vm_info import VmInfo, read_one
from warmspare.vsphere.snapshots.marker import Marker
from warmspare.vsphere.snapshots.snapshot import Snapshots, Timing
from warmspare.vsphere.tracking import changes, distrust, enabling, suspicion
from warmspare.vsphere.tracking.suspicion import Suspicion
from warmspare.vsphere.vddk_access import Access, SnapshotDisk, Vddk

LEAVE_S = 900.0  # the most that cleaning up may take; what is left then, the next run removes
ENDING_S = 60.0  # the same where the process was asked to end: what vCenter was asked for, it does by itself


class VsphereMachine:
    """See source.base.Machine. session: open, and shared or not; it stays open.

    vm: as it was found. repository: its URI, which marks the snapshots, hashed. run: unique to this sync.
    enable_tracking: whether change tracking may be switched on. neighbours: other vCenters that can be asked.
    """

    readable_again = False

    def __init__(
        self,
        session: VsphereSession,
        vm: VmInfo,
        policy: Policy,
        vddk: Vddk,
        events: Events,
        *,
        repository: str,
        run: str,
        timing: Timing | None = None,
        enable_tracking: bool = True,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.vm_id, self.vm_name = VmId(vm.instance_uuid), vm.name
        self.identity: Identity | None = identity_of(session, vm)
        self._neighbours = neighbours
        self._session, self._vm, self._policy, self._events = session, vm, policy, events
        self._run = run
        self._enable_tracking = enable_tracking
        self._snapshots = Snapshots(session, vm, Marker.of(repository, self.vm_id, run), events, timing)
        self._access = Access(session, vddk, vm.moref, f"warmspare-{vm.instance_uuid}", events)
        self._disks: list[SnapshotDisk] = []
        self._moref: str | None = None  # of our snapshot, known and there
        self._touched = False  # whether something of ours may be on the VM
        self._owed: Owed[str | None] | None = None
        self._leaving = asyncio.Lock()

    @property
    def _where(self) -> str:
        return f"VM {self.vm_name} at {self._session.where}"

    async def lives(self, before: Identity) -> bool:
        """See Machine."""
        if before.place.vcenter == vcenter_of(self._session):
            return await lives_at(self._session, before)
        return self._neighbours is not None and await self._neighbours.lives(before)

    # -- opening --------------------------------------------------------------------------------------------------

    async def open(self, last: LastPoint | None) -> Opened:
        try:
            with faults.told("protecting the VM", self._where):
                return await self._open(last)
        except BaseException:
            await self.close()
            raise

    async def _open(self, last: LastPoint | None) -> Opened:
        await self._access.check()
        vm = await read_one(self._session, self._vm.moref, self.vm_name)
        judged = self._judged(vm)
        self.vm_name = vm.name
        if vm.unknown:
            self._warn(f"vCenter says of it what is not understood: {told(vm.unknown)}")
        self._disks = []
        self._touched = True
        if self._owed is not None:  # of the snapshot before, which is gone
            self._owed.drop()
        self._owed = owe(f"the snapshot of {self._where}", ENDING_S, self._close)
        left_by = await self._removed(vm, last)
        if last is not None and left_by - {last.hardware.get(distrust.RUN)}:
            last = replace(last, interrupted=True)  # also where that run died before its journal could tell
        vm, untracked = await self._tracked(judged)
        self._snapshots.check_chain(vm)
        await self._access.prepare()
        before = await suspicion.look(self._session)
        taken = await self._snapshots.take(self._policy.snapshot_name, self._policy.quiesce, powered_on=vm.powered_on)
        self._moref = taken.moref
        frozen = await self._frozen(vm, judged, taken.moref)
        compared_anyway = self._policy.full_compare == "always"
        found = await suspicion.since(self._session, vm, None if compared_anyway else last, before, self._events)
        inputs = []
        for disk in frozen:
            changed, reason = await self._changed(disk, last, untracked, found)
            source = SnapshotDisk(self._access, taken.moref, disk, f"{self._where}, {disk.label}")
            self._disks.append(source)
            attributes = _attributes(vm, disk, quiesced=taken.quiesced)
            inputs.append(DiskInput(source, changed, reason, disk.change_id, attributes, _file_name(disk, frozen)))
        hardware: dict[str, Any] = vm.hardware()
        hardware |= found.record() | {
            distrust.TREE: vm.tree.as_json(),
            "vcenter": self._session.about,
            distrust.RUN: self._run,
            "quiesced": taken.quiesced,
        }
        unprotected = [(disk.label, reason) for disk, reason in judged.others if reason != EXCLUDED]
        excluded = [(disk.label, reason) for disk, reason in judged.others if reason == EXCLUDED]
        return Opened(inputs, unprotected, excluded, hardware, taken.asked_s)

    def _judged(self, vm: VmInfo) -> Protectability:
        judged = judge(vm, self._policy.disks)
        why, hint = refusal(vm, judged)
        if why:
            raise SourceError(f"the VM can't be protected: {why}", where=self._where, hint=hint)
        for pattern in judged.unmatched:
            self._warn(f"no disk of it is meant by {str(pattern)!r} of the configuration")
        return judged

    async def _removed(self, vm: VmInfo, last: LastPoint | None) -> set[str]:
        """Nothing of ours is on the VM any more, and its disks are merged. The runs that had left something."""
        left_by = await self._snapshots.remove_ours()
        if vm.consolidation_needed or left_by:
            await self._snapshots.consolidate()
        if left_by or (last is not None and last.interrupted):
            await self._access.end(crashed=True)
        return left_by

    async def _tracked(self, judged: Protectability) -> tuple[VmInfo, str]:
        """Changes of the disks are tracked. The VM as it is then, and why they are not, if so."""
        vm = await read_one(self._session, self._vm.moref, self.vm_name)
        keys = [disk.key for disk in judged.disks]
        name = self._policy.snapshot_name
        return await enabling.ensure(
            self._session, vm, keys, self._snapshots, name, self._events, allowed=self._enable_tracking
        )

    async def _frozen(self, vm: VmInfo, judged: Protectability, moref: str) -> list[VmDisk]:
        """The protected disks as the snapshot has them. SourceError if they are not the ones that were meant."""
        found = {
            disk.key: disk for disk in read_disks(await changes.snapshot_devices(self._session, moref, self._where))
        }
        known = {disk.key: disk.uuid for disk in vm.disks}
        if {key: disk.uuid for key, disk in found.items()} != known:
            raise SourceError(
                "the VM's disks were changed while the snapshot was taken",
                where=self._where,
                hint="run again",
                retryable=True,
            )
        return [found[disk.key] for disk in judged.disks]

    # -- what changed ---------------------------------------------------------------------------------------------

    async def _changed(
        self, disk: VmDisk, last: LastPoint | None, untracked: str, found: Suspicion
    ) -> tuple[Extents | None, str]:
        """The extents that may have changed, or None and why everything is read. SourceError where everything would
        have to be read and the policy forbids it."""
        if last is None:
            return None, "there is no restore point yet"
        if self._policy.full_compare == "always":
            return None, "the configuration says so"
        before = last.disks.get(disk.uuid)
        reason = found.of_disk(disk, last)
        if before and not reason:
            changed = await self._asked(disk, before.change_id, untracked)
            if changed.extents is not None:
                return changed.extents, ""
            reason = changed.reason
        if self._policy.full_compare == "error" and before is not None:
            raise SourceError(
                f"{disk.label} would have to be compared in full, which the configuration forbids: {reason}",
                where=self._where,
                hint='allow it with full_compare = "auto", for one run at least',
            )
        return None, reason

    async def _asked(self, disk: VmDisk, since: str | None, untracked: str) -> changes.Changed:
        """What vSphere says has changed on a disk since a change ID."""
        if untracked and not disk.change_id:
            return changes.Changed(None, untracked)
        if why := changes.no_base(since, disk.change_id):
            return changes.Changed(None, why)
        assert since is not None and self._moref is not None
        return await changes.changed_areas(
            self._session,
            self._vm.moref,
            self._moref,
            disk.key,
            disk.capacity_bytes,
            since,
            f"{self._where}, {disk.label}",
        )

    # -- leaving --------------------------------------------------------------------------------------------------

    async def all_read(self) -> None:
        """See Machine. What can't be removed now is tried again by `close`."""
        await self._leave()
        if not self._touched and self._owed is not None:
            self._owed.drop()

    async def close(self) -> None:
        """See Machine. A cancel does not end it, but it is bounded; it never raises for what it could not remove."""
        owed, self._owed = self._owed, None
        if owed is not None:
            await owed.settle()

    async def _close(self) -> str | None:
        """What may be on the VM still, None for nothing."""
        if not self._touched and not self._disks:
            return None
        await finish(self._leave_in_time())
        return (self._moref or "a snapshot") if self._touched else None

    async def _leave_in_time(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_S) as limit:
                await self._leave()
        except TimeoutError:
            if not limit.expired():
                raise
            self._warn(f"it could not be cleaned up within {LEAVE_S:.0f} s; the next run goes on with that")

    async def _leave(self) -> None:
        """Close the disks, remove the snapshot, end the access; what fails is a warning, and done again if called."""
        async with self._leaving:
            for disk in self._disks:
                await disk.close()
            if not self._touched:
                return
            try:
                with faults.told("removing the snapshot", self._where):
                    if self._moref is not None:
                        await self._snapshots.remove(self._moref)
                        self._moref = None
                    else:  # none, or one that was being taken when this run was interrupted
                        await self._snapshots.remove_ours(leftover=False)
                    self._touched = False
                    await self._snapshots.consolidate()
            except WarmspareError as error:
                self._warn(f"{error}")
            await self._access.end()

    def _warn(self, message: str) -> None:
        self._events.emit(SourceWarning(message=f"VM {self.vm_name}: {message}"))


def _attributes(vm: VmInfo, disk: VmDisk, *, quiesced: bool) -> dict[str, str]:
    """For people: where the disk was."""
    return {
        "vm": vm.path,
        "label": disk.label,
        "key": str(disk.key),
        "path": disk.base_path,
        "controller": f"{disk.controller}{disk.bus}:{disk.unit}",
        "datastore": disk.datastore,
        "quiesced": "yes" if quiesced else "no",
    }


def _file_name(disk: VmDisk, disks: list[VmDisk]) -> str:
    """What its replica is called: by its label, and by its key too where others have the same."""
    base = _slug(disk)
    same = sum(_slug(other) == base for other in disks)
    return f"{base}.raw" if same == 1 else f"{base}-{disk.key}.raw"


def _slug(disk: VmDisk) -> str:
    return re.sub(r"[^a-z0-9]+", "-", disk.label.lower()).strip("-")[:80] or f"disk-{disk.key}"
