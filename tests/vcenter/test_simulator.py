"""The simulated vCenter, driven by pyVmomi: inventory, snapshots, change tracking and its strictness, events."""

from __future__ import annotations

import datetime
import hashlib
import random
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from fakesite import Site
from rig import KIB, MIB


def test_tls_presents_the_certificate_given(site: Site) -> None:
    """Its SHA-256 is the site's thumbprint; another one is refused by whoever trusts the first."""

    def seen() -> str:
        pem = ssl.get_server_certificate((site.host, site.port))
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest().hex(":").upper()

    assert site.host == "127.0.0.2"
    first = site.thumbprint
    assert seen() == first
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(site.certificate.certificate)
    site.replace_certificate()
    assert seen() == site.thumbprint != first
    with socket.create_connection((site.host, site.port)) as plain, pytest.raises(ssl.SSLCertVerificationError):
        trusting.wrap_socket(plain, server_hostname=site.host)


def test_a_vm_is_found_every_way(site: Site, client: Any) -> None:
    vm = site.add_vm("dc02", [MIB], folder="prod/windows")
    site.add_vm("dc03", [MIB])
    search = client.content.searchIndex
    found = search.FindByInventoryPath("DC1/vm/prod/windows/dc02")
    assert found._moId == vm.moref
    assert search.FindByUuid(None, vm.spec["instance_uuid"], True, True)._moId == vm.moref
    assert search.FindByUuid(None, vm.spec["bios_uuid"], True, False)._moId == vm.moref
    assert search.FindByUuid(None, vm.spec["bios_uuid"], True, True) is None
    view = client.content.viewManager.CreateContainerView(client.content.rootFolder, [vim.VirtualMachine], True)
    assert sorted(found.name for found in view.view) == ["dc02", "dc03"]
    found = search.FindByInventoryPath("DC1/vm/prod/windows/dc02")
    assert found.parent.name == "windows" and found.parent.parent.name == "prod"


def test_what_recovery_needs_is_readable(site: Site, client: Any) -> None:
    nics = [
        {"key": 4000, "mac": "00:50:56:aa:00:01", "network": "VM Network", "type": "vmxnet3", "connected": True},
        {"key": 4001, "mac": "00:50:56:aa:00:02", "network": "dv-prod", "type": "e1000e", "connected": False},
    ]
    vm = site.add_vm(
        "web",
        [8 * MIB],
        firmware="efi",
        secure_boot=True,
        cpus=4,
        cores_per_socket=2,
        memory_mib=8192,
        nics=nics,
        guest_id="windows9Server64Guest",
        guest_name="Windows Server 2016",
        version="vmx-17",
        host="esx2.example",
    )
    vm.add_disk(12 * MIB + 512, controller="nvme0", unit=3)
    vm.add_disk(MIB, mode="independent_persistent")
    vm.add_disk(MIB, rdm="physical", mode="independent_persistent")
    vm.add_disk(MIB, rdm="virtual", datastore="ds2")
    got = client.vm(vm)
    config = got.config
    assert (config.firmware, config.bootOptions.efiSecureBootEnabled) == ("efi", True)
    assert (config.hardware.numCPU, config.hardware.numCoresPerSocket, config.hardware.memoryMB) == (4, 2, 8192)
    assert (config.guestId, config.guestFullName) == ("windows9Server64Guest", "Windows Server 2016")
    assert (config.version, config.template, config.changeTrackingEnabled) == ("vmx-17", False, True)
    assert (config.uuid, config.instanceUuid) == (vm.spec["bios_uuid"], vm.spec["instance_uuid"])
    assert config.files.vmPathName == "[ds1] web/web.vmx"
    assert got.runtime.host.name == "esx2.example" and got.runtime.powerState == "poweredOn"
    assert got.runtime.consolidationNeeded is False and got.capability.changeTrackingSupported is True
    assert [network.name for network in got.network] == ["VM Network", "dv-prod"]
    assert sorted(ds.name for ds in got.datastore) == ["ds1", "ds2"]
    assert {ds.name: ds.summary.type for ds in got.datastore} == {"ds1": "VMFS", "ds2": "VMFS"}
    assert got.guest.toolsStatus == "toolsOk" and got.summary.config.name == "web"
    assert got.snapshot is None and list(got.rootSnapshot) == []

    cards = [card for card in config.hardware.device if isinstance(card, vim.vm.device.VirtualEthernetCard)]
    assert [(card.macAddress, type(card).__name__.rpartition(".")[2]) for card in cards] == [
        ("00:50:56:aa:00:01", "VirtualVmxnet3"),
        ("00:50:56:aa:00:02", "VirtualE1000e"),
    ]
    assert cards[0].backing.deviceName == "VM Network" and cards[0].backing.network.name == "VM Network"
    group = vim.dvs.DistributedVirtualPortgroup(cards[1].backing.port.portgroupKey, client.si._stub)
    assert group.name == "dv-prod" and not cards[1].connectable.connected

    disks = client.disks(got)
    controllers = {device.key: device for device in config.hardware.device}
    assert [disk.capacityInBytes for disk in disks.values()] == [8 * MIB, 12 * MIB + 512, MIB, MIB, MIB]
    assert isinstance(controllers[disks[2000].controllerKey], vim.vm.device.ParaVirtualSCSIController)
    assert isinstance(controllers[disks[2001].controllerKey], vim.vm.device.VirtualNVMEController)
    assert disks[2001].unitNumber == 3 and disks[2001].key in controllers[disks[2001].controllerKey].device
    assert disks[2000].backing.fileName == "[ds1] web/web.vmdk" and disks[2000].backing.datastore.name == "ds1"
    assert disks[2001].backing.fileName == "[ds1] web/web_1.vmdk"
    assert disks[2000].backing.uuid == vm.disks[0].uuid and disks[2000].deviceInfo.label == "Hard disk 1"
    assert disks[2002].backing.diskMode == "independent_persistent" and not disks[2002].backing.changeId
    assert disks[2003].backing.compatibilityMode == "physicalMode"
    assert disks[2004].backing.compatibilityMode == "virtualMode"


def test_properties_by_collector(site: Site, client: Any) -> None:
    """Several properties of several VMs in one call, as an inventory reads them; unset ones are left out."""
    vms = [site.add_vm(f"vm{number}", [MIB]) for number in range(3)]
    got = client.properties(vms, "name", "config.changeTrackingEnabled", "snapshot")
    assert got == [{"name": vm.name, "config.changeTrackingEnabled": True} for vm in vms]


def test_snapshots_have_paths_and_change_ids(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [4 * MIB, MIB])
    vm.add_disk(MIB, mode="independent_persistent")
    first = client.snapshot(vm)
    tree = client.vm(vm).snapshot
    assert tree.currentSnapshot == first and [item.name for item in tree.rootSnapshotList] == ["Karma Sync"]
    assert tree.rootSnapshotList[0].description == "ours" and tree.rootSnapshotList[0].createTime.tzinfo
    assert {key: disk.backing.fileName for key, disk in client.disks(first).items()} == {
        2000: "[ds1] db/db.vmdk",
        2001: "[ds1] db/db_1.vmdk",
        2002: "[ds1] db/db_2.vmdk",
    }
    live = client.disks(client.vm(vm))
    assert live[2000].backing.fileName == "[ds1] db/db-000001.vmdk"
    assert live[2000].backing.parent.fileName == "[ds1] db/db.vmdk"
    assert live[2002].backing.fileName == "[ds1] db/db_2.vmdk"
    uuid, _, number = client.change_id(first).rpartition("/")
    assert number == "1" and len(uuid) == 47 and uuid[23] == "-"
    assert not client.disks(first)[2002].backing.changeId

    second = client.snapshot(vm, name="second")
    assert client.change_id(second) == f"{uuid}/2" and client.change_id(first) == f"{uuid}/1"
    assert client.disks(second)[2000].backing.fileName == "[ds1] db/db-000001.vmdk"
    assert client.vm(vm).snapshot.rootSnapshotList[0].childSnapshotList[0].snapshot == second
    client.remove(first)
    assert client.disks(second)[2000].backing.fileName == "[ds1] db/db.vmdk"
    assert client.vm(vm).snapshot.rootSnapshotList[0].snapshot == second
    client.remove(second)
    assert client.vm(vm).snapshot is None
    assert client.disks(client.vm(vm))[2000].backing.fileName == "[ds1] db/db.vmdk"
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        second.RemoveSnapshot_Task(removeChildren=False)


def test_the_stand_in_is_told_of_frozen_disks(site: Site, client: Any) -> None:
    """What VDDK may open for a snapshot, before its task has ended, and no longer than the snapshot is there."""
    shown: dict[str, Any] = {}
    site.on_snapshot = shown.update
    site.on_removed = lambda files: [shown.pop(path) for path in files]
    vm = site.add_vm("db", [MIB])
    vm.write(0, 5000, b"then")
    older = vm.foreign_snapshot()
    vm.write(0, 5000, b"now!")
    ours = client.snapshot(vm)
    vm.write(0, 5000, b"soon")
    assert {path: file.read_bytes()[5000:5004] for path, file in shown.items()} == {
        "[ds1] db/db.vmdk": b"then",
        "[ds1] db/db-000001.vmdk": b"now!",
    }
    client.remove(vim.vm.Snapshot(older, client.si._stub))
    assert {path: file.read_bytes()[5000:5004] for path, file in shown.items()} == {"[ds1] db/db.vmdk": b"now!"}
    client.remove(ours)
    assert shown == {} and vm.frozen_file(ours._moId).read_bytes()[5000:5004] == b"now!"


@pytest.mark.parametrize(
    ("starts", "flag", "first", "second"),
    [
        ("remove", True, False, True),
        ("create", True, True, True),
        ("never", True, False, False),
        ("ignored", False, False, False),
    ],
)
def test_enabling_change_tracking(site: Site, client: Any, starts: str, flag: bool, first: bool, second: bool) -> None:
    """It takes hold at a stun; or not at all, whatever the config says."""
    vm = site.add_vm("old", [MIB], tracked=False)
    vm.tracking_starts = starts
    client.wait(client.vm(vm).ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=True)))
    assert client.vm(vm).config.changeTrackingEnabled is flag
    for tracked in (first, second):
        snapshot = client.snapshot(vm)
        assert bool(client.change_id(snapshot)) is tracked
        if not tracked:
            with pytest.raises(vim.fault.FileFault):
                client.areas(vm, snapshot, "*")
        client.remove(snapshot)


def test_old_hardware_cannot_track(site: Site, client: Any) -> None:
    vm = site.add_vm("ancient", [MIB], tracked=False, version="vmx-04")
    assert client.vm(vm).capability.changeTrackingSupported is False
    with pytest.raises(vmodl.fault.InvalidArgument):
        client.wait(client.vm(vm).ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=True)))


def test_templates_cannot_be_snapshotted(site: Site, client: Any) -> None:
    vm = site.add_vm("golden", [MIB], template=True, power="poweredOff")
    with pytest.raises(vmodl.fault.NotSupported):
        client.snapshot(vm)


def test_more_extents_than_a_page(site: Site, client: Any) -> None:
    """5001 extents come in three pages, complete and in order."""
    vm = site.add_vm("big", [10_002 * 64 * KIB + 512])
    base = client.change_id(client.snapshot(vm))
    wanted = [(number * 128 * KIB, 64 * KIB) for number in range(5000)] + [(10_002 * 64 * KIB, 512)]
    for offset, _ in wanted:
        vm.disks[0].tracker.wrote(offset + 100, 1)
    snapshot = client.snapshot(vm)
    assert client.areas(vm, snapshot, base) == wanted
    starts = [call["args"]["startOffset"] for call in site.journal("call", "QueryChangedDiskAreas")]
    assert starts == [0, 1999 * 128 * KIB + 64 * KIB, 3999 * 128 * KIB + 64 * KIB]


def test_queries_are_held_to_the_rules(site: Site, client: Any) -> None:
    vm, other = site.add_vm("db", [MIB]), site.add_vm("other", [MIB])
    vm.add_disk(MIB, mode="independent_persistent")
    snapshot, gone = client.snapshot(vm), client.snapshot(vm)
    change_id = client.change_id(snapshot)
    client.remove(gone)
    query = client.vm(vm).QueryChangedDiskAreas

    def refused(what: str, *arguments: Any) -> None:
        with pytest.raises(vmodl.fault.InvalidArgument) as caught:
            query(*arguments)
        assert caught.value.invalidProperty == what
        assert caught.value.msg == f"A specified parameter was not correct: {what}"

    for start in (-512, MIB, MIB + 512):
        refused("startOffset", snapshot, 2000, start, change_id)
    refused("changeId", snapshot, 2000, 0, "")
    refused("changeId", snapshot, 2000, 0, "nonsense")
    refused("changeId", snapshot, 2000, 0, change_id.replace("/1", "/2"))
    refused("deviceKey", snapshot, 2007, 0, change_id)
    with pytest.raises(vmodl.fault.InvalidArgument):
        client.vm(other).QueryChangedDiskAreas(snapshot, 2000, 0, change_id)
    with pytest.raises(vmodl.fault.ManagedObjectNotFound) as missing:
        query(gone, 2000, 0, change_id)
    assert missing.value.obj._moId == gone._moId and "already been deleted" in missing.value.msg
    with pytest.raises(vim.fault.FileFault):  # independent
        query(snapshot, 2001, 0, change_id)
    assert client.areas(vm, snapshot, change_id) == []
    vm.reset_tracking()
    with pytest.raises(vim.fault.FileFault) as reset:
        query(snapshot, 2000, 0, change_id)
    assert reset.value.file == "/vmfs/volumes/ds1/db/db.vmdk"
    fresh = client.snapshot(vm)
    with pytest.raises(vim.fault.FileFault):
        query(fresh, 2000, 0, change_id)


def test_allocated_areas(site: Site, client: Any) -> None:
    """Where the datastore is VMFS; elsewhere the whole disk is said to be, or it can't be told."""
    for datastore in ("ds1", "nfs1", "nfs41"):
        vm = site.add_vm(f"on-{datastore}", [MIB], datastore=datastore)
        vm.write(0, 300 * KIB, b"data")
        snapshot = client.snapshot(vm)
        if datastore == "nfs41":
            with pytest.raises(vim.fault.FileFault):
                client.areas(vm, snapshot, "*")
        else:
            expected = [(256 * KIB, 64 * KIB)] if datastore == "ds1" else [(0, MIB)]
            assert client.areas(vm, snapshot, "*") == expected


def test_the_site_may_change(site: Site, client: Any) -> None:
    """Renamed, moved, on another host, a disk on another datastore, grown, added, removed; a VM deleted."""
    vm = site.add_vm("db", [MIB, MIB], folder="prod")
    view = client.vm(vm)
    uuid = client.disks(view)[2000].backing.uuid
    vm.set(name="db-old", folder="attic/2024", host="esx2.example", memory_mib=1024)
    assert view.name == "db-old" and view.parent.name == "2024" and view.runtime.host.name == "esx2.example"
    assert client.content.searchIndex.FindByInventoryPath("DC1/vm/prod/db") is None
    assert client.content.searchIndex.FindByInventoryPath("DC1/vm/attic/2024/db-old")._moId == vm.moref
    vm.move_disk(vm.disks[0], "ds2")
    backing = client.disks(view)[2000].backing
    assert (backing.fileName, backing.datastore.name, backing.uuid) == ("[ds2] db/db.vmdk", "ds2", uuid)
    vm.grow(vm.disks[0], 2 * MIB)
    vm.remove_disk(vm.disks[1])
    vm.add_disk(3 * MIB)
    assert [disk.capacityInBytes for disk in client.disks(view).values()] == [2 * MIB, 3 * MIB]
    site.remove_vm(vm)
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        assert view.name


def kind_of(event: Any) -> str:
    return getattr(event, "eventTypeId", None) or type(event).__name__.rpartition(".")[2]


def test_events_have_a_filter_and_an_end(site: Site, client: Any) -> None:
    vm, other = site.add_vm("db", [MIB]), site.add_vm("web", [MIB])
    site.event("VmPoweredOnEvent", vm, ago_s=5000)
    site.event("VmFailoverFailed", vm, ago_s=300, message="no room")
    site.event("VmPoweredOnEvent", other, ago_s=200)
    vm.crash()
    manager = client.content.eventManager

    def query(entity: Any, recursion: str = "self", since_s: float | None = None, **how: Any) -> list[str]:
        by = vim.event.EventFilterSpec.ByEntity(entity=entity, recursion=recursion)
        spec = vim.event.EventFilterSpec(entity=by, **how)
        if since_s is not None:
            begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=since_s)
            spec.time = vim.event.EventFilterSpec.ByTime(beginTime=begin)
        return [kind_of(event) for event in manager.QueryEvents(spec)]

    restarted = "com.vmware.vc.ha.VmRestartedByHAEvent"
    assert query(client.vm(vm)) == [restarted, "VmFailoverFailed", "VmPoweredOnEvent"]  # the newest first, by date
    assert query(client.vm(vm), since_s=400) == [restarted, "VmFailoverFailed"]
    assert query(client.vm(vm), eventTypeId=["VmEvent"]) == []  # not what is derived from it
    assert query(client.vm(vm), type=[vim.event.VmEvent]) == ["VmFailoverFailed", "VmPoweredOnEvent"]
    assert query(client.vm(vm), eventTypeId=[restarted]) == [restarted]
    cluster = client.content.rootFolder.childEntity[0].hostFolder.childEntity[0]
    lost = next(host for host in cluster.host if host.name == "esx1.example")
    assert "HostConnectionLostEvent" in query(lost)
    everything = query(client.content.rootFolder, "all")
    assert everything.count("UserLoginSessionEvent") == 1 and len(everything) == 6
    (failed,) = manager.QueryEvents(vim.event.EventFilterSpec(eventTypeId=["VmFailoverFailed"]))
    (bare,) = manager.QueryEvents(vim.event.EventFilterSpec(eventChainId=failed.chainId, disableFullMessage=True))
    assert (failed.fullFormattedMessage, bare.key, bare.fullFormattedMessage) == ("no room", failed.key, None)
    site.events_from(250)
    assert "VmFailoverFailed" not in query(client.content.rootFolder, "all")
    assert client.vm(vm).runtime.host.name == "esx2.example"

    reader = manager.CreateCollectorForEvents(vim.event.EventFilterSpec())
    reader.RewindCollector()
    assert kind_of(reader.ReadNextEvents(1)[0]) == "VmPoweredOnEvent"
    assert len(reader.ReadNextEvents(100)) == 3 and list(reader.ReadNextEvents(100)) == []
    assert len(reader.ReadPreviousEvents(100)) == 4
    for count in (0, 1001):
        with pytest.raises(vmodl.fault.InvalidArgument):
            reader.ReadNextEvents(count)
    reader.DestroyCollector()


def test_events_are_counted_as_they_come_whatever_their_dates(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    manager = client.content.eventManager
    site.event("VmPoweredOnEvent", vm, ago_s=-5000)
    site.event("VmFailoverFailed", vm, ago_s=5000)
    task = client.vm(vm).CreateSnapshot_Task(name="x", memory=False, quiesce=False)
    WaitForTask(task, si=client.si)
    every = {event.key: event for event in manager.QueryEvents(vim.event.EventFilterSpec())}
    kinds = ["UserLoginSessionEvent", "VmPoweredOnEvent", "VmFailoverFailed", "TaskEvent"]
    assert [kind_of(every[key]) for key in sorted(every)] == kinds
    assert (every[4].info.key, every[4].info.descriptionId) == (task.info.key, "VirtualMachine.createSnapshot")
    assert task.info.eventChainId == 4 and manager.latestEvent.key == site.newest_event() == 4

    site.event("VmRemovedEvent", vm, hidden=True)
    assert manager.latestEvent.key == 5 and len(manager.QueryEvents(vim.event.EventFilterSpec())) == 4
    site.reveal()
    assert len(manager.QueryEvents(vim.event.EventFilterSpec())) == 5

    site.other_event_database(keep=2)  # a backup that was put back
    site.event("VmRegisteredEvent", vm)
    now = {event.key: kind_of(event) for event in manager.QueryEvents(vim.event.EventFilterSpec())}
    assert now == {1: "UserLoginSessionEvent", 2: "VmPoweredOnEvent", 3: "VmRegisteredEvent"}

    site.clock_ahead(-86400)
    behind = datetime.datetime.now(datetime.UTC) - client.si.CurrentTime()
    assert 86390 < behind.total_seconds() < 86410


def test_sessions_wait_for_tasks_beside_each_other(site: Site, connect: Callable[..., Any]) -> None:
    """Four sessions wait with WaitForUpdates, as pyVmomi does, each for tasks of its own."""
    vms = [site.add_vm(f"vm{number}", [MIB]) for number in range(4)]
    clients = [connect() for _ in vms]
    failed: list[BaseException] = []

    def work(client: Any, vm: Any) -> None:
        try:
            for _ in range(5):
                task = client.vm(vm).CreateSnapshot_Task(name="x", memory=False, quiesce=False)
                WaitForTask(task, si=client.si)
                assert task.info.entity._moId == vm.moref
                WaitForTask(task.info.result.RemoveSnapshot_Task(removeChildren=False), si=client.si)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(clients, vms, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failed and all(not state["snapshots"] for state in site.state().values())


def test_the_journal_tells_the_order(site: Site, client: Any) -> None:
    vm = site.add_vm("db", [MIB])
    vm.scribble(random.Random(1))
    snapshot = client.snapshot(vm, quiesce=True)
    client.areas(vm, snapshot, "*")
    client.remove(snapshot)
    create, query, remove = "CreateSnapshot_Task", "QueryChangedDiskAreas", "RemoveSnapshot_Task"
    wanted = (create, query, remove, "create-snapshot", "remove-snapshot")
    seen = [(entry["kind"], entry["method"]) for entry in site.journal() if entry["method"] in wanted]
    assert sorted(seen[:3]) == [("call", create), ("hook", "create-snapshot"), ("task", create)]
    assert seen[3] == ("call", query)
    assert sorted(seen[4:]) == [("call", remove), ("hook", "remove-snapshot"), ("task", remove)]
    call = site.journal("call", "CreateSnapshot_Task")[0]
    assert call["args"]["quiesce"] is True and call["object"] == vm.moref and call["user"] == site.user
    assert site.password not in (site.home / "journal.jsonl").read_text()
