"""VMs are found every way the configuration knows, and read into what recovery needs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fakesite import Site
from rig import MIB
from vcenter.vspheretools import session_at
from warmspare.config.disks import DiskPattern, DiskSelection
from warmspare.config.settings import Find
from warmspare.errors import ConfigError
from warmspare.vsphere.inventory.find import find, find_all
from warmspare.vsphere.inventory.protectable import judge, refusal
from warmspare.vsphere.inventory.vm_info import read_one


async def test_a_vm_is_found_every_way(site: Site) -> None:
    vm = site.add_vm("dc02", [MIB], folder="prod/windows", tags=["dr/gold"])
    site.add_vm("dc03", [MIB], folder="prod", tags=["dr/gold", "other/x"])
    site.add_vm("twin", [MIB], folder="a", tags=["other/silver"])
    site.add_vm("twin", [MIB], folder="b", tags=["dr/silver"])
    async with session_at(site) as session:

        async def names(by: Any, value: str) -> list[str]:
            return [one.path for one in await find(session, Find(by, value))]

        dc02, dc03 = "/DC1/vm/prod/windows/dc02", "/DC1/vm/prod/dc03"
        assert await names("path", "/DC1/vm/prod/windows/dc02") == [dc02]
        assert await names("instance_uuid", vm.spec["instance_uuid"]) == [dc02]
        assert await names("name", "dc02") == [dc02]
        assert await names("folder", "/DC1/vm/prod") == [dc03, dc02]
        assert await names("tag", "gold") == await names("tag", "dr/gold") == [dc03, dc02]
        assert await names("tag", "dr/silver") == ["/DC1/vm/b/twin"]
        assert [one.name for one in await find_all(session)] == ["twin", "twin", "dc03", "dc02"]

        for by, value, message in [
            ("name", "twin", "2 VMs are meant by name twin: /DC1/vm/a/twin, /DC1/vm/b/twin"),
            ("name", "dc2", "did you mean dc02"),
            ("name", "nothing like it", "there is no VM by name nothing like it"),
            ("path", "/DC1/vm/prod/dc02", "there is no VM by path"),
            ("path", "/DC1/vm/prod", "that path is not a VM's"),
            ("folder", "/DC1/vm/none", "there is no VM by folder"),
            ("folder", "/DC1/vm/prod/dc03", "a folder's path is"),
            ("instance_uuid", "00000000-0000-0000-0000-000000000000", "there is no VM by instance_uuid"),
            ("tag", "bronze", "there is no tag 'bronze'"),
            ("tag", "silver", "several tags are called 'silver': dr/silver, other/silver"),
        ]:
            with pytest.raises(ConfigError) as caught:
                await find(session, Find(by, value))  # type: ignore[arg-type]
            assert message in str(caught.value)
    assert not [entry for entry in site.journal("rest") if entry.get("fault")]


async def test_what_recovery_needs_is_read(site: Site) -> None:
    nics = [
        {"key": 4000, "mac": "00:50:56:AA:00:01", "network": "VM Network", "type": "vmxnet3", "connected": True},
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
    vm.add_disk(12 * MIB + 512, controller="nvme0", unit=3, datastore="ds2")
    vm.add_disk(MIB, rdm="virtual")
    ours = vm.foreign_snapshot()
    async with session_at(site) as session:
        info = await read_one(session, vm.moref, vm.name)
    assert (info.name, info.path, info.moref) == ("web", "/DC1/vm/web", vm.moref)
    assert (info.instance_uuid, info.bios_uuid) == (vm.spec["instance_uuid"], vm.spec["bios_uuid"])
    assert (info.firmware, info.secure_boot, info.cpus, info.cores_per_socket) == ("efi", True, 4, 2)
    assert (info.memory_mib, info.guest_id, info.version) == (8192, "windows9Server64Guest", 17)
    assert (info.host, info.power, info.template, info.change_tracking) == ("esx2.example", "poweredOn", False, True)
    assert [(nic.mac, nic.kind, nic.network, nic.connected) for nic in info.nics] == [
        ("00:50:56:aa:00:01", "vmxnet3", "VM Network", True),
        ("00:50:56:aa:00:02", "e1000e", "dv-prod", False),
    ]
    first, second, third = info.disks
    assert (first.label, first.controller, first.bus, first.unit) == ("Hard disk 1", "pvscsi", 0, 0)
    assert (first.capacity_bytes, first.uuid) == (8 * MIB, vm.disks[0].uuid)
    assert (first.path, first.base_path, first.chain) == ("[ds1] web/web-000001.vmdk", "[ds1] web/web.vmdk", 2)
    assert (second.controller, second.unit, second.datastore, second.thin) == ("nvme", 3, "ds2", True)
    assert second.capacity_bytes == 12 * MIB + 512 and third.rdm == "virtual" and third.change_id
    assert info.tree.current == ours and [node.name for node in info.tree.nodes] == ["before the update"]
    hardware = json.loads(json.dumps(info.hardware()))
    assert hardware["nics"][1]["network"] == "dv-prod" and hardware["disks"][1]["capacity_bytes"] == 12 * MIB + 512
    assert "tree" not in hardware


async def test_which_disks_can_be_protected_and_why_not(site: Site) -> None:
    vm = site.add_vm("db", [MIB])
    vm.add_disk(MIB, mode="independent_persistent")
    vm.add_disk(MIB, rdm="physical")
    vm.add_disk(MIB, rdm="virtual")
    vm.add_disk(MIB)
    vm.foreign_snapshot()  # paths in the configuration are those of the base, not of a delta
    selection = DiskSelection(None, (DiskPattern("[*] db/db_4.vmdk"), DiskPattern("Hard disk 9")))
    async with session_at(site) as session:
        judged = judge(await read_one(session, vm.moref, "db"), selection)
    assert [disk.label for disk in judged.disks] == ["Hard disk 1", "Hard disk 4"]
    assert [(disk.label, reason.split(":")[0]) for disk, reason in judged.others] == [
        ("Hard disk 2", "its mode is independent_persistent"),
        ("Hard disk 3", "it is a raw device in physical mode"),
        ("Hard disk 5", "excluded by the configuration"),
    ]
    assert [str(pattern) for pattern in judged.unmatched] == ["Hard disk 9"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"template": True, "power": "poweredOff"}, "it is a template"),
        ({"version": "vmx-04"}, "its hardware version 4 is older than 7"),
        ({}, "no disk of it can be protected (Hard disk 1: its mode is independent_persistent"),
    ],
)
async def test_which_vms_cannot(site: Site, fields: dict[str, Any], message: str) -> None:
    vm = site.add_vm("db", [] if not fields else [MIB], tracked=False, **fields)
    if not fields:
        vm.add_disk(MIB, mode="independent_persistent")
    async with session_at(site) as session:
        info = await read_one(session, vm.moref, "db")
    assert message in refusal(info, judge(info, DiskSelection()))[0]
