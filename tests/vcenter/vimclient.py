"""pyVmomi connected to the fake site, for tests that play the client themselves."""

from __future__ import annotations

import ssl
import time
from typing import Any

from pyVim.connect import SmartConnect
from pyVmomi import vim, vmodl

from fakesite import Site
from rigs.sites.fakevm import FakeVm

Extent = tuple[int, int]


class Client:
    """pyVmomi with what the tests do again and again."""

    def __init__(self, site: Site, user: str = "", password: str = "") -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(site.certificate.certificate)  # and the address must be the certificate's
        self.si = SmartConnect(
            host=site.host, port=site.port, user=user or site.user, pwd=password or site.password, sslContext=context
        )
        self.content = self.si.RetrieveContent()

    def vm(self, vm: FakeVm) -> Any:
        """The VM as pyVmomi has it."""
        return vim.VirtualMachine(vm.moref, self.si._stub)

    def wait(self, task: Any, timeout_s: float = 20.0) -> Any:
        """The result of a task; its fault is raised."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            info = task.info
            if info.state == "success":
                return info.result
            if info.state == "error":
                raise info.error
            time.sleep(0.005)
        raise AssertionError("the task did not end")

    def snapshot(self, vm: FakeVm, *, quiesce: bool = False, name: str = "Karma Sync") -> Any:
        task = self.vm(vm).CreateSnapshot_Task(name=name, description="ours", memory=False, quiesce=quiesce)
        return self.wait(task)

    def remove(self, snapshot: Any) -> None:
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))

    def areas(self, vm: FakeVm, snapshot: Any, change_id: str, key: int = 2000) -> list[Extent]:
        """All changed areas of a disk, page by page, with the checks that a careful client makes."""
        disk = self.disks(snapshot)[key]
        extents: list[Extent] = []
        start = 0
        while start < disk.capacityInBytes:
            page = self.vm(vm).QueryChangedDiskAreas(snapshot, key, start, change_id)
            assert page.startOffset == start and page.length > 0 and len(page.changedArea) <= 2000
            for area in page.changedArea:
                assert start <= area.start and area.start + area.length <= start + page.length
                extents.append((area.start, area.length))
            start += page.length
        assert start == disk.capacityInBytes and extents == sorted(extents)
        return extents

    def properties(self, vms: list[FakeVm], *paths: str) -> list[dict[str, Any]]:
        """Properties of several VMs in one call; what is not set is left out."""
        collector = vmodl.query.PropertyCollector
        spec = collector.FilterSpec(
            objectSet=[collector.ObjectSpec(obj=self.vm(vm)) for vm in vms],
            propSet=[collector.PropertySpec(type=vim.VirtualMachine, pathSet=list(paths))],
        )
        got = self.content.propertyCollector.RetrieveContents([spec])
        return [{prop.name: prop.val for prop in each.propSet} for each in got]

    @staticmethod
    def disks(owner: Any) -> dict[int, Any]:
        """The disks of a VM or snapshot, by key."""
        devices = owner.config.hardware.device
        return {device.key: device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)}

    def change_id(self, snapshot: Any, key: int = 2000) -> str:
        change_id: str = self.disks(snapshot)[key].backing.changeId
        return change_id
