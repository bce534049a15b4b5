"""A VM that the repository knows by an ID and people by a name: either will do, where the name is no other VM's."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from rig import MIB, Rig, begin, command, random_disk, same
from warmspare.observe.events import Events
from warmspare.source.given import GivenDisks
from warmspare.source.ports import DiskInput
from warmspare.source.raw import RawSource
from warmspare.store.opening import open_store
from warmspare.sync.sender import Sender
from warmspare.sync.sync_settings import SyncSettings


def sync(rig: Rig, vm_id: str, vm_name: str) -> None:
    async def run() -> None:
        store = open_store(rig.repo)
        machine = GivenDisks(vm_id, [DiskInput(RawSource(rig.disk, "d"), file_name="system.raw")])
        machine.vm_name = vm_name
        try:
            await Sender(store, machine, SyncSettings(rig.state, 1, start=await begin(store, vm_id)), Events()).run()
        finally:
            await machine.close()
            await store.close()

    asyncio.run(run())


def test_by_id_and_by_name(tmp_path: Path) -> None:
    rig = Rig(tmp_path, vm="dc02")
    random_disk(rig.disk, MIB, random.Random(1))
    sync(rig, "5021-aa", "dc02")
    sync(rig, "5021-bb", "web1")
    rig.apply()
    assert same(rig.disk, rig.replica)
    by_id = command("apply", "--vm", "5021-aa", "--repo", rig.repo, "--to", rig.replica)
    assert by_id.last("apply.done")["vm"] == "5021-aa"
    (found,) = command("points", "--vm", "web1", "--repo", rig.repo).all("point")
    assert (found["vm"], found["vm_name"]) == ("5021-bb", "web1")
    assert found["disks"][0]["name"] == "system.raw"
    sync(rig, "5021-bb", "renamed")  # a name is an attribute: the newest point's counts
    assert command("points", "--vm", "web1", "--repo", rig.repo).code == 2
    assert len(command("points", "--vm", "renamed", "--repo", rig.repo).all("point")) == 2


def test_a_name_of_two_is_none(tmp_path: Path) -> None:
    rig = Rig(tmp_path, vm="dc02")
    random_disk(rig.disk, MIB, random.Random(2))
    sync(rig, "id-1", "dc02")
    sync(rig, "id-2", "dc02")
    refused = rig.apply(code=2)
    assert "id-1, id-2" in refused.stderr


def test_an_object_beside_the_vms_hides_none_of_them(tmp_path: Path) -> None:
    rig = Rig(tmp_path, vm="dc02")
    random_disk(rig.disk, MIB, random.Random(1))
    for vm_id in ("b-one", "d-two"):
        sync(rig, vm_id, vm_id)
    for stray in ("a", "c", "e"):
        (tmp_path / "repo" / "vms" / stray).write_bytes(b"left by someone")
    assert {each["vm"] for each in command("points", "--repo", rig.repo).all("point")} == {"b-one", "d-two"}
