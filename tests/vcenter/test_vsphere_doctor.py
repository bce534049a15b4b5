"""What is looked at before the first run, and what `warmspare vms` will list."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from fakesite import Site
from rig import MIB
from rigs.sites.fakevm import FakeVm
from vcenter.vspheretools import session_at
from warmspare.config.disks import DiskPattern, DiskSelection
from warmspare.config.load import load
from warmspare.config.settings import Policy
from warmspare.source.vddk.vddk_doctor import Check
from warmspare.vsphere.api.session import Server
from warmspare.vsphere.inventory.listing import listing
from warmspare.vsphere.inventory.vm_info import read_one
from warmspare.vsphere.privileges import PRIVILEGES
from warmspare.vsphere.snapshots.marker import Marker
from warmspare.vsphere.vm_doctor import examine

DOCS = Path(__file__).resolve().parents[2] / "docs" / "rights.md"


async def checked(site: Site, vm: FakeVm, policy: Policy | None = None, **options: Any) -> dict[str, Check]:
    async with session_at(site) as session:
        info = await read_one(session, vm.moref, vm.name)
        return {check.name: check for check in await examine(session, info, policy or Policy(), **options)}


def resolve_hosts_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ESXi hosts are this machine."""
    real = socket.getaddrinfo

    def found(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if str(host).endswith(".example") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)


async def test_all_is_well(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as esx:
        port = esx.getsockname()[1]
        resolve_hosts_here(monkeypatch)
        checks = await checked(site, site.add_vm("db", [MIB, MIB]), nfc_port=port)
    assert {check.state for check in checks.values()} == {"ok"}
    assert list(checks) == [
        "vCenter",
        "VM",
        "privileges",
        "change tracking",
        "snapshots",
        "consolidation",
        f"TCP {port} of its host",
    ]
    assert checks["VM"].found == "/DC1/vm/db, hardware version 19, 2 of 2 disks"
    assert not [entry for entry in site.journal("call") if entry["method"].endswith("_Task")]


async def test_all_is_not(site: Site) -> None:
    vm = site.add_vm("db", [MIB], tracked=False)
    vm.add_disk(MIB, mode="independent_persistent")
    vm.set(consolidation_needed=True)
    vm.foreign_snapshot()
    site.missing_privileges("VirtualMachine.State.RemoveSnapshot", "Global.EnableMethods")
    checks = await checked(site, vm)
    states = {name: check.state for name, check in checks.items()}
    assert states == {
        "vCenter": "ok",
        "VM": "note",
        "privileges": "wrong",
        "change tracking": "note",
        "snapshots": "note",
        "consolidation": "note",
        "TCP 902 of its host": "wrong",
    }
    assert "Hard disk 2: its mode is independent_persistent" in checks["VM"].meaning
    assert checks["privileges"].found == "without VirtualMachine.State.RemoveSnapshot, Global.EnableMethods"
    assert "can't be switched on while there are snapshots" in checks["change tracking"].meaning
    assert "resolve the names" in checks["TCP 902 of its host"].meaning

    site.missing_privileges("VirtualMachine.Config.ChangeTracking")
    vm.foreign_snapshot("Karma Sync", Marker.of("s3://x", "vm", "run").description())
    for number in range(26):
        vm.foreign_snapshot(str(number))
    checks = await checked(site, vm, Policy(DiskSelection(None, (DiskPattern("Hard disk 1"),))))
    assert checks["VM"].state == "wrong" and "no disk of it can be protected" in checks["VM"].found
    assert checks["privileges"].state == "note" and "compared in full each time" in checks["privileges"].meaning
    assert "1 of them of warmspare" in checks["snapshots"].found and "at 31" in checks["snapshots"].meaning


async def test_a_port_that_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as esx:
        port = esx.getsockname()[1]
    resolve_hosts_here(monkeypatch)
    check = (await checked(site, site.add_vm("db", [MIB]), nfc_port=port))[f"TCP {port} of its host"]
    assert check.state == "wrong" and "open the port" in check.meaning


def test_the_documents_name_every_privilege() -> None:
    text = DOCS.read_text()
    assert [privilege.id for privilege in PRIVILEGES if f"`{privilege.id}`" not in text] == []


async def test_what_is_protected_and_what_could_be(site: Site, tmp_path: Path) -> None:
    site.add_vm("dc02", [MIB], folder="prod")
    site.add_vm("web1", [MIB, MIB], folder="web")
    site.add_vm("web2", [MIB], folder="web").add_disk(MIB, rdm="physical")
    site.add_vm("golden", [MIB], template=True, power="poweredOff")
    site.add_vm("other", [MIB])
    password = tmp_path / "password"
    password.write_text(site.password + "\n")
    password.chmod(0o600)
    file = tmp_path / "warmspare.toml"
    file.write_text(f"""
        [vcenter.main]
        host = "{site.host}"
        port = {site.port}
        user = "{site.user}"
        password = {{file = "{password}"}}
        thumbprint = "{site.thumbprint}"
        vddk = "/opt/vddk"
        [repository.dr]
        uri = "/srv/dr"
        [vm.dc02]
        path = "/DC1/vm/prod/dc02"
        [vm.web]
        folder = "/DC1/vm/web"
        disks = {{exclude = ["Hard disk 2"]}}
        [vm.gone]
        name = "gone"
    """)
    settings = load(file)
    async with session_at(site) as session:
        assert Server.of(settings.vcenters[0]).password() == site.password
        found = await listing(session, settings.vms)
    listed = [(one.vm.name, one.state, one.names, one.disks) for one in found.vms]
    assert listed == [
        ("golden", "impossible", (), 1),
        ("other", "possible", (), 1),
        ("dc02", "protected", ("dc02",), 1),
        ("web1", "protected", ("web",), 1),
        ("web2", "protected", ("web",), 1),
    ]
    assert "template" in found.vms[0].reason
    assert found.vms[3].left_out == (("Hard disk 2", "excluded by the configuration"),)
    assert [name for name, _ in found.missing] == ["gone"] and "there is no VM by name gone" in found.missing[0][1]
