"""Change tracking that can't be believed, or says so itself: everything is read, with the reason, and the replica is
right. Trouble on the way to it: sessions that end, a vCenter that goes away, VMs that change."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from rig import KIB, MIB
from rigs.sites.fakevm import FakeVm
from vcenter.vspheretools import Rig, Synced, rig_at
from warmspare.config.disks import DiskPattern, DiskSelection
from warmspare.config.settings import Policy
from warmspare.errors import SourceError
from warmspare.source.ports import LastPoint
from warmspare.vsphere.api.tasks import finished

FULL = 4 * MIB


async def two_points(rig: Rig, **vm: Any) -> tuple[FakeVm, Synced]:
    """A VM with tracking at work and an increment behind it."""
    made = rig.site.add_vm("db", [FULL], **vm)
    made.scribble(random.Random(1), pieces=4)
    first = await rig.sync(made)
    made.write(0, 100_000, b"x")
    second = await rig.sync(made, first.last())
    assert second.reasons == {"Hard disk 1": ""} and second.read["Hard disk 1"] < FULL
    return made, second


async def compared_in_full(rig: Rig, vm: FakeVm, last: LastPoint, reason: str, **options: Any) -> Synced:
    """The next run reads everything, for that reason, and the one after it goes on with increments."""
    synced = await rig.sync(vm, last, **options)
    assert reason in synced.reasons["Hard disk 1"]
    assert synced.read["Hard disk 1"] == vm.disks[0].capacity
    return synced


# switching it on


@pytest.mark.parametrize("starts", ["remove", "create"])
async def test_it_is_switched_on_and_takes_hold(tmp_path: Path, starts: str) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [FULL], tracked=False)
        vm.tracking_starts = starts
        first = await rig.sync(vm)
        assert rig.record.of("tracking.enabled") and first.opened.disks[0].change_id
        vm.write(0, 0, b"x")
        assert (await rig.sync(vm, first.last())).reasons == {"Hard disk 1": ""}
        rig.clean(vm)


@pytest.mark.parametrize(
    ("starts", "reason"),
    [("never", "has not taken hold"), ("ignored", "vSphere left it off"), ("fault", "can't be switched on")],
)
async def test_it_never_takes_hold(tmp_path: Path, starts: str, reason: str) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [FULL], tracked=False)
        vm.tracking_starts = starts
        if starts == "fault":
            rig.site.missing_privileges("VirtualMachine.Config.ChangeTracking")
        synced = await rig.sync(vm)
        assert reason in rig.record.messages() and synced.opened.disks[0].change_id is None
        for _ in range(2):
            vm.scribble(random.Random(2))
            synced = await compared_in_full(rig, vm, synced.last(), reason)
        with pytest.raises(SourceError, match="compared in full, which the configuration forbids"):
            await rig.sync(vm, synced.last(), policy=Policy(full_compare="error"))
        rig.clean(vm)


async def test_it_is_not_switched_on_with_snapshots_or_against_the_users_will(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [FULL], tracked=False)
        synced = await rig.sync(vm, enable_tracking=False)
        vm.foreign_snapshot()
        await compared_in_full(rig, vm, synced.last(), "can't be switched on while the VM has snapshots")
        assert not rig.site.journal("call", "ReconfigVM_Task")


# what it says


async def test_odd_answers(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        for odd, reason in [
            ("wrong-start", "asked at offset 0, it begins at 512"),
            ("short", "covers 0 bytes"),
            ("long", "covers 5242880 bytes of a disk of 4194304"),
            ("outside", "in a page up to 4194304"),
            ("unordered", "an area of 65536 bytes at"),
        ]:
            for at in (0, MIB, 2 * MIB):
                vm.write(0, at, b"y")
            rig.site.rule("QueryChangedDiskAreas", page=odd, times=1)
            synced = await compared_in_full(rig, vm, synced.last(), "does not add up")
            assert reason in synced.reasons["Hard disk 1"]
        rig.clean(vm)


async def test_pages_empty_ones_among_them(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        for at in (128 * KIB, MIB, 3 * MIB, FULL - 1):
            vm.write(0, at, b"z")
        rig.site.rule("QueryChangedDiskAreas", page="empty", extents=1)
        calls = len(rig.site.journal("call", "QueryChangedDiskAreas"))
        synced = await rig.sync(vm, synced.last())
        assert synced.reasons == {"Hard disk 1": ""} and synced.read["Hard disk 1"] == 4 * 64 * KIB
        assert len(rig.site.journal("call", "QueryChangedDiskAreas")) - calls == 8


async def test_faults_of_the_query(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        vm.write(0, 0, b"1")
        rig.site.rule("QueryChangedDiskAreas", fault={"type": "FileFault", "detail": {"file": "/vmfs/x"}}, times=1)
        synced = await compared_in_full(rig, vm, synced.last(), "off or reset when the snapshot was taken")
        rig.site.rule("QueryChangedDiskAreas", fault={"type": "SystemError", "message": "no luck"}, times=2)
        synced = await compared_in_full(rig, vm, synced.last(), "vSphere can't tell what changed: no luck")
        with pytest.raises(SourceError, match="which the configuration forbids: vSphere can't tell"):
            await rig.sync(vm, synced.last(), policy=Policy(full_compare="error"))
        rig.clean(vm)
        synced = await rig.sync(vm, synced.last(), policy=Policy(full_compare="always"))
        assert synced.reasons == {"Hard disk 1": "the configuration says so"}


async def test_tracking_began_anew(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        vm.write(0, MIB, b"unseen", unseen=True)
        vm.reset_tracking()
        synced = await compared_in_full(rig, vm, synced.last(), "began anew")
        assert (await rig.sync(vm, synced.last())).reasons == {"Hard disk 1": ""}


# what is known against it


async def test_disks_come_go_and_grow(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        vm.grow(vm.disks[0], 5 * MIB + 512)
        vm.write(0, 5 * MIB, b"end")
        added = vm.add_disk(MIB)
        vm.add_disk(MIB, mode="independent_persistent")
        vm.add_disk(MIB, rdm="physical")
        vm.add_disk(MIB, rdm="virtual")
        vm.add_disk(MIB)
        selection = DiskSelection(None, (DiskPattern(2005), DiskPattern("Hard disk 77")))
        synced = await compared_in_full(
            rig, vm, synced.last(), "its capacity went from 4194304 to 5243392 bytes", policy=Policy(selection)
        )
        assert synced.reasons["Hard disk 2"] == "it is not in the last restore point"
        assert [label for label, _ in synced.opened.unprotected] == ["Hard disk 3", "Hard disk 4"]
        assert [label for label, _ in synced.opened.excluded] == ["Hard disk 6"]
        assert "no disk of it is meant by 'Hard disk 77'" in rig.record.messages()
        vm.remove_disk(added)
        synced = await rig.sync(vm, synced.last(), policy=Policy(selection))
        assert synced.reasons == {"Hard disk 1": "", "Hard disk 5": ""}


async def test_renamed_moved_and_elsewhere(tmp_path: Path) -> None:
    """Neither changes what the VM and its disks are known by."""
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        name = synced.opened.disks[0].source.name
        vm.set(name="db-old", folder="attic/2024", host="esx2.example", memory_mib=1024)
        vm.write(0, 0, b"moved")
        machine = await rig.machine(vm)
        synced = await rig.sync(vm, synced.last())
        assert synced.reasons == {"Hard disk 1": ""} and synced.opened.disks[0].source.name == name
        assert synced.opened.hardware["path"] == "/DC1/vm/attic/2024/db-old"
        assert (machine.vm_id, machine.vm_name) == (vm.spec["instance_uuid"], "db-old")
        vm.move_disk(vm.disks[0], "ds2", reset=False)
        vm.write(0, MIB, b"datastore")
        await compared_in_full(rig, vm, synced.last(), "it moved from [ds1] db/db.vmdk to [ds2] db/db.vmdk")


async def test_a_run_was_interrupted(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        ends = rig.standin.counts()["EndAccess"]
        synced = await compared_in_full(rig, vm, synced.last(interrupted=True), "the last run was not finished")
        assert rig.standin.counts()["EndAccess"] == ends + 2
        assert (await rig.sync(vm, synced.last())).reasons == {"Hard disk 1": ""}


async def test_the_host_crashed(tmp_path: Path) -> None:
    """Tracking forgot what was written last, and says nothing. The events do, also where only the host's is there."""
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        vm.write(0, 2 * MIB, b"forgotten")
        vm.crash()
        synced = await compared_in_full(rig, vm, synced.last(), "its host failed or was lost (HostConnectionLost")
        vm.write(0, 3 * MIB, b"forgotten", unseen=True)
        rig.site.event("com.vmware.vc.ha.VmRestartedByHAEvent", vm)
        synced = await compared_in_full(rig, vm, synced.last(), "restarted after a failure (com.vmware")
        rig.site.event("HostConnectionLostEvent", host="esx2.example")
        synced = await compared_in_full(rig, vm, synced.last(), "its host failed or was lost (HostConnectionLost")
        rig.site.event("HostConnectionLostEvent", host="esx1.example")  # another's host
        vm.write(0, 0, b"seen")
        assert (await rig.sync(vm, synced.last())).reasons == {"Hard disk 1": ""}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("com.vmware.vc.ha.VmRestartedByHAEvent", "restarted after a failure"),
        ("com.vmware.vc.vm.VmStateRevertedToSnapshot", "reverted to a snapshot"),
        ("VmRelocatedEvent", "moved to another datastore"),
        ("VmPoweredOffEvent", "went off without having been told to"),
        ("VmRegisteredEvent", "registered anew"),
        ("esx.problem.vm.kill.unexpected.fault.failure", "killed by its host"),
    ],
)
async def test_events_speak_against_it(tmp_path: Path, kind: str, reason: str) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [FULL])
        other = rig.site.add_vm("other", [MIB])
        rig.site.event(kind, vm)  # before the first point
        synced = await rig.sync(vm)
        rig.site.event(kind, other)
        vm.write(0, MIB, b"seen")
        synced = await rig.sync(vm, synced.last())
        assert synced.reasons == {"Hard disk 1": ""}
        vm.write(0, MIB, b"unseen", unseen=True)
        rig.site.event(kind, vm)
        await compared_in_full(rig, vm, synced.last(), reason)


async def test_events_that_mean_nothing(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        kinds = ("VmMigratedEvent", "VmReconfiguredEvent", "VmStoppingEvent", "VmPoweredOffEvent", "VmPoweredOnEvent")
        for kind in (*kinds, "VmRenamedEvent"):
            rig.site.event(kind, vm)
        vm.write(0, MIB, b"seen")
        assert (await rig.sync(vm, synced.last())).reasons == {"Hard disk 1": ""}


async def test_reverted(tmp_path: Path) -> None:
    """Told by the event, and where that is missing by the tree: a VM that went back is on another branch."""
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [FULL])
        vm.write(0, 0, b"old")
        older = vm.foreign_snapshot("older")
        newer = vm.foreign_snapshot("newer")
        vm.write(0, 0, b"new")
        synced = await rig.sync(vm)
        theirs = rig.session.bound(vim.vm.Snapshot, newer)
        await finished(rig.session, theirs.RevertToSnapshot_Task(), "reverting", timeout_s=10.0)
        last = synced.last()
        synced = await compared_in_full(rig, vm, last, "the VM was reverted to a snapshot")
        assert (rig.replicas / vm.disks[0].uuid).read_bytes()[:3] == b"old"
        # the tree alone: at the last point it ran on another
        rig.site.fields["events"].clear()
        rig.site.save()
        tree = last.hardware["snapshots"]
        assert tree["current"] == newer and [node["id"] for node in tree["nodes"]] == [older, newer]
        elsewhere = last.hardware | {"snapshots": tree | {"current": older}}
        moved = LastPoint(last.disks, False, elsewhere)
        await compared_in_full(rig, vm, moved, "the VM runs on another snapshot")


async def test_a_history_that_is_too_short(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        rig.site.events_from(0)
        vm.write(0, MIB, b"unseen", unseen=True)
        synced = await compared_in_full(rig, vm, synced.last(), "does not reach back")
        rig.site.rule("QueryEvents", fault="NoPermission")
        synced = await compared_in_full(rig, vm, synced.last(), "events can't be read")
        rig.site.clear_rules()
        last = synced.last()
        await compared_in_full(rig, vm, LastPoint(last.disks, False, {}), "does not say when its snapshot was taken")


# trouble on the way


async def test_the_session_expires_mid_copy(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [FULL])
        machine = await rig.machine(vm)
        opened = await machine.open(None)
        rig.site.expire_sessions()
        await rig.read(opened.disks[0])
        rig.site.expire_sessions()
        await machine.all_read()
        await machine.close()
        assert len(rig.record.of("vsphere.login")) >= 2
        rig.clean(vm)


@pytest.mark.parametrize("status", [0, 503])
async def test_vcenter_goes_away(tmp_path: Path, status: int) -> None:
    """Before, while it is asked, and when the snapshot is to go."""
    async with rig_at(tmp_path) as rig:
        vm, synced = await two_points(rig)
        vm.write(0, 0, b"x")
        rig.site.gone(1.0, status)
        machine = await rig.machine(vm)
        task = asyncio.create_task(machine.open(synced.last()))
        await asyncio.sleep(1.15)
        rig.site.gone(0.7, status)
        opened = await task
        await rig.read(opened.disks[0])
        rig.site.gone(1.0, status)
        await machine.all_read()
        await machine.close()
        assert opened.disks[0].reason == "" and rig.record.of("source.retry")
        rig.clean(vm)


async def test_vddk_and_vsphere_differ(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [FULL])
        shown = rig.site.on_snapshot
        short = tmp_path / "short.raw"
        short.write_bytes(bytes(MIB))
        rig.site.on_snapshot = lambda files: shown(dict.fromkeys(files, short))
        with pytest.raises(SourceError, match="VDDK says that Hard disk 1 has 1048576 bytes, and vSphere 4194304"):
            await rig.sync(vm)
        rig.clean(vm)


async def test_vms_that_cannot_be_protected(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("golden", [MIB], template=True, power="poweredOff", tracked=False)
        with pytest.raises(SourceError, match="can't be protected: it is a template"):
            await rig.sync(vm)
        gone = rig.site.add_vm("gone", [MIB])
        machine = await rig.machine(gone)
        rig.site.remove_vm(gone)
        with pytest.raises(SourceError, match="no longer in vCenter's inventory"):
            await machine.open(None)
        assert vm.taken == [] and rig.standin.counts()["*"] == 0
