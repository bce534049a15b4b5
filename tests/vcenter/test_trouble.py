"""Everything that the simulated vCenter can have go wrong does go wrong when asked to, and only then."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from fakesite import Site
from rig import KIB, MIB

# a password typed wrong


def test_who_may_log_in(site: Site, connect: Callable[..., Any]) -> None:
    with pytest.raises(vim.fault.InvalidLogin):
        connect(password="wrong")
    connect()


# change tracking


def test_file_fault_on_request(site: Site, client: Any) -> None:
    vm, other = site.add_vm("db", [MIB]), site.add_vm("other", [MIB])
    snapshot, theirs = client.snapshot(vm), client.snapshot(other)
    fault = {"type": "FileFault", "detail": {"file": "/vmfs/volumes/x.vmdk"}, "message": "Error caused by file"}
    site.rule("QueryChangedDiskAreas", fault=fault, vm=vm.moref, skip=1, times=1)
    client.areas(other, theirs, "*")
    client.areas(vm, snapshot, "*")
    with pytest.raises(vim.fault.FileFault) as caught:
        client.areas(vm, snapshot, "*")
    assert caught.value.file == "/vmfs/volumes/x.vmdk" and caught.value.msg == "Error caused by file"
    client.areas(vm, snapshot, "*")
    assert [rule["used"] for rule in site.rules()] == [1]


def test_empty_pages_lie_between_full_ones(site: Site, client: Any) -> None:
    """Each stretch without changes is an empty page of its own; the sum is what it is without them."""
    vm = site.add_vm("db", [4 * MIB])
    base = client.change_id(client.snapshot(vm))
    for offset in (128 * KIB, MIB, 3 * MIB):
        vm.write(0, offset, b"x")
    snapshot = client.snapshot(vm)
    plain = client.areas(vm, snapshot, base)
    site.rule("QueryChangedDiskAreas", page="empty", extents=1)
    assert client.areas(vm, snapshot, base) == plain and len(plain) == 3
    pages = site.journal("call", "QueryChangedDiskAreas")
    assert len(pages) == 1 + 6  # empty, one extent, and so on; the last extent comes with the rest of the disk
    page = client.vm(vm).QueryChangedDiskAreas(snapshot, 2000, 192 * KIB, base)
    assert list(page.changedArea) == [] and page.length == MIB - 192 * KIB


@pytest.mark.parametrize("odd", ["wrong-start", "short", "long", "outside", "unordered"])
def test_odd_pages(site: Site, client: Any, odd: str) -> None:
    vm = site.add_vm("db", [4 * MIB])
    for offset in (0, MIB):
        vm.write(0, offset, b"x")
    snapshot = client.snapshot(vm)
    plain = client.vm(vm).QueryChangedDiskAreas(snapshot, 2000, 0, "*")
    site.rule("QueryChangedDiskAreas", page=odd, times=1)
    page = client.vm(vm).QueryChangedDiskAreas(snapshot, 2000, 0, "*")
    last = page.changedArea[-1] if page.changedArea else None
    assert {
        "wrong-start": page.startOffset == 512,
        "short": page.length == 0 and last is None,
        "long": page.length == 5 * MIB,
        "outside": last is not None and last.start == 4 * MIB,
        "unordered": last is not None and last.start == 0,
    }[odd]
    again = client.vm(vm).QueryChangedDiskAreas(snapshot, 2000, 0, "*")
    assert (again.startOffset, again.length, len(again.changedArea)) == (0, plain.length, 2)


# snapshots


def test_quiescing_fails(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    site.rule("CreateSnapshot_Task", fault="FilesystemQuiesceFault", args={"quiesce": True})
    with pytest.raises(vim.fault.FilesystemQuiesceFault):
        client.snapshot(vm, quiesce=True)
    assert site.state()[vm.moref] == {"snapshots": [], "busy": False} and vm.taken == []
    client.snapshot(vm, quiesce=False)


def test_creating_fails_for_a_while(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    site.rule("CreateSnapshot_Task", fault={"type": "SnapshotFault", "message": "disk full"})
    for _ in range(2):
        with pytest.raises(vim.fault.SnapshotFault) as caught:
            client.snapshot(vm)
        assert caught.value.msg == "disk full"
    site.clear_rules()
    client.snapshot(vm)


def test_the_task_fails_but_the_snapshot_is_there(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    site.rule("CreateSnapshot_Task", fault={"type": "SystemError", "after": True}, times=1)
    with pytest.raises(vmodl.fault.SystemError):
        client.snapshot(vm)
    assert len(site.state()[vm.moref]["snapshots"]) == 1


def test_removing_fails_once(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    snapshot = client.snapshot(vm)
    site.rule("RemoveSnapshot_Task", fault="GenericVmConfigFault", times=1)
    with pytest.raises(vim.fault.GenericVmConfigFault):
        client.remove(snapshot)
    assert client.vm(vm).snapshot is not None
    client.remove(snapshot)
    assert client.vm(vm).snapshot is None


def test_consolidation_is_needed(site: Site, client: Any) -> None:
    """The snapshot is gone, its disks are not: the next one finds a longer chain until they are consolidated."""
    vm = site.add_vm("db", [MIB])
    site.rule("RemoveSnapshot_Task", leave_disks=True, times=1)
    client.remove(client.snapshot(vm))
    assert client.vm(vm).snapshot is None and client.vm(vm).runtime.consolidationNeeded is True
    assert client.disks(client.vm(vm))[2000].backing.fileName == "[ds1] db/db-000001.vmdk"
    snapshot = client.snapshot(vm)
    assert client.disks(snapshot)[2000].backing.fileName == "[ds1] db/db-000001.vmdk"
    client.remove(snapshot)
    client.wait(client.vm(vm).ConsolidateVMDisks_Task())
    assert client.vm(vm).runtime.consolidationNeeded is False
    assert client.disks(client.vm(vm))[2000].backing.fileName == "[ds1] db/db.vmdk"


def test_another_task_runs(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    snapshot = client.snapshot(vm)
    vm.busy(1.0)
    assert site.state()[vm.moref]["busy"] and len(client.vm(vm).recentTask) == 1
    assert client.vm(vm).recentTask[0].info.descriptionId == "VirtualMachine.createSnapshot"
    with pytest.raises(vim.fault.TaskInProgress) as caught:
        client.snapshot(vm)
    assert caught.value.task.info.state == "running"
    with pytest.raises(vim.fault.TaskInProgress):
        client.remove(snapshot)
    client.wait(caught.value.task)
    client.remove(snapshot)


def test_removing_takes_long(site: Site, client: Any) -> None:
    """The call returns at once, the task runs on, and the VM is busy meanwhile."""
    vm = site.add_vm("db", [MIB])
    snapshot = client.snapshot(vm)
    site.rule("RemoveSnapshot_Task", delay_s=2.5)
    begun = time.monotonic()
    task = snapshot.RemoveSnapshot_Task(removeChildren=False)
    assert task.info.state == "running"
    assert client.vm(vm).snapshot is not None
    client.wait(task)
    assert time.monotonic() - begun >= 2.5 and client.vm(vm).snapshot is None


def test_calls_are_slow(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    snapshot = client.snapshot(vm)
    site.rule("QueryChangedDiskAreas", delay_s=0.3, times=1)
    begun = time.monotonic()
    client.areas(vm, snapshot, "*")
    assert time.monotonic() - begun >= 0.3


def test_reverting_lies(site: Site, client: Any) -> None:
    """The disk is what it was, change tracking says that nothing happened, and only the event tells."""
    vm = site.add_vm("db", [MIB])
    vm.write(0, 0, b"old")
    snapshot = client.snapshot(vm)
    vm.write(0, 0, b"new")
    ours = client.snapshot(vm)
    base = client.change_id(ours)
    client.remove(ours)
    client.wait(snapshot.RevertToSnapshot_Task())
    assert vm.disks[0].image.read_bytes()[:3] == b"old"
    assert client.vm(vm).snapshot.currentSnapshot == snapshot
    assert client.areas(vm, client.snapshot(vm), base) == []
    told = vim.event.EventFilterSpec(eventTypeId=["com.vmware.vc.vm.VmStateRevertedToSnapshot"])
    assert len(client.content.eventManager.QueryEvents(told)) == 1


# sessions and connections


def test_sessions_expire(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    snapshot = client.snapshot(vm)
    assert site.expire_sessions() == 1
    calls: list[Callable[[], Any]] = [
        lambda: client.vm(vm).name,
        lambda: client.snapshot(vm),
        lambda: client.vm(vm).QueryChangedDiskAreas(snapshot, 2000, 0, "*"),
        lambda: client.content.searchIndex.FindByInventoryPath("DC1/vm/db"),
        lambda: client.properties([vm], "name"),
    ]
    for call in calls:
        with pytest.raises(vim.fault.NotAuthenticated):
            call()
    assert client.content.about.apiType == "VirtualCenter"
    client.content.sessionManager.Login(site.user, site.password)
    assert client.vm(vm).name == "db"
    client.remove(snapshot)


def test_vcenter_is_gone(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    assert client.vm(vm).name == "db"

    def back() -> bool:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return bool(client.vm(vm).name == "db")
            time.sleep(0.05)
        return False

    site.gone(1.0)
    with pytest.raises(OSError):
        assert client.vm(vm).name
    with pytest.raises(ConnectionRefusedError):
        assert client.vm(vm).name
    assert back()
    site.gone(0.7, status=503)
    with pytest.raises(http.client.HTTPException, match="503"):
        assert client.vm(vm).name
    assert back()


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_wire_is_cut(site: Site, client: Any, when: str) -> None:
    """A call whose answer is lost: the snapshot may be there all the same."""
    vm = site.add_vm("db", [MIB])
    client.snapshot(vm)
    site.rule("CreateSnapshot_Task", drop=when)
    with pytest.raises(Exception, match=r"(?i)closed|reset|without response"):
        client.vm(vm).CreateSnapshot_Task(name="lost", description="", memory=False, quiesce=False)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and site.state()[vm.moref]["busy"]:
        time.sleep(0.01)
    names = [snapshot["name"] for snapshot in site.state()[vm.moref]["snapshots"]]
    assert names[:1] == ["Karma Sync"] and set(names[1:]) == ({"lost"} if when == "after" else set())


def test_one_call_gets_a_status(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    site.rule("CreateSnapshot_Task", http=502, times=1)
    with pytest.raises(Exception, match="502"):
        client.snapshot(vm)
    client.snapshot(vm)


# privileges


def test_missing_privileges(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    snapshot = client.snapshot(vm)
    needed = ["VirtualMachine.State.CreateSnapshot", "VirtualMachine.Provisioning.DiskRandomRead", "System.Read"]
    manager = client.content.authorizationManager

    def granted() -> list[bool]:
        answer = manager.HasUserPrivilegeOnEntities([client.vm(vm)], site.user, needed)[0]
        by_session = manager.HasPrivilegeOnEntity(
            client.vm(vm), client.content.sessionManager.currentSession.key, needed
        )
        assert [one.isGranted for one in answer.privAvailability] == list(by_session)
        return list(by_session)

    assert granted() == [True, True, True]
    site.missing_privileges(*needed[:2])
    assert granted() == [False, False, True]
    assert needed[0] not in manager.FetchUserPrivilegeOnEntities([client.vm(vm)], site.user)[0].privileges
    for privilege, call in [
        (needed[0], lambda: client.snapshot(vm)),
        (needed[1], lambda: client.vm(vm).QueryChangedDiskAreas(snapshot, 2000, 0, "*")),
    ]:
        with pytest.raises(vim.fault.NoPermission) as caught:
            call()
        assert caught.value.privilegeId == privilege and caught.value.object._moId == vm.moref
    client.remove(snapshot)
