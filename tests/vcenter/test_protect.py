"""A VM protected again and again through vCenter and VDDK: what is read makes the disk as its snapshot froze it."""

from __future__ import annotations

import json
import random
from pathlib import Path

from rig import KIB, MIB
from vcenter.vspheretools import REPOSITORY, rig_at
from warmspare.config.settings import Policy
from warmspare.vsphere.snapshots.marker import Marker, parse


async def test_rounds_of_real_writes(tmp_path: Path) -> None:
    rng = random.Random(3)
    async with rig_at(tmp_path, granularity=64 * KIB) as rig:
        vm = rig.site.add_vm("db", [8 * MIB, 3 * MIB + 512, MIB])
        vm.scribble(rng, pieces=6)
        synced = await rig.sync(vm)
        assert set(synced.reasons.values()) == {"there is no restore point yet"}
        for _ in range(3):
            vm.scribble(rng, pieces=4)
            before = synced
            synced = await rig.sync(vm, before.last())
            assert set(synced.reasons.values()) == {""} and sum(synced.read.values()) < 12 * MIB
        synced = await rig.sync(vm, synced.last())
        assert sum(synced.read.values()) == 0
        rig.clean(vm)
        disks = synced.opened.disks
        assert [one.file_name for one in disks] == ["hard-disk-1.raw", "hard-disk-2.raw", "hard-disk-3.raw"]
        assert [one.source.name for one in disks] == [disk.uuid for disk in vm.disks]
        assert disks[1].attributes["controller"] == "pvscsi0:1" and disks[1].attributes["key"] == "2001"
        assert json.loads(json.dumps(synced.opened.hardware))["firmware"] == "bios"
        assert synced.opened.unprotected == []
        counts = rig.standin.counts()
        assert counts["PrepareForAccess"] == counts["EndAccess"] == 5
        assert rig.site.password not in str(rig.record.list)


async def test_the_snapshot_is_ours_and_gone_soon(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [2 * MIB, MIB, MIB])
        machine = await rig.machine(vm, Policy(snapshot_name="Nightly"), run="r1")
        await machine.close()  # before open: nothing
        opened = await machine.open(None)
        (snapshot,) = rig.site.state()[vm.moref]["snapshots"]
        assert snapshot["name"] == "Nightly" and snapshot["quiesced"]
        assert parse(snapshot["description"]) == Marker.of(REPOSITORY, vm.spec["instance_uuid"], "r1")
        assert REPOSITORY not in snapshot["description"]
        for disk in opened.disks:
            await rig.read(disk)
        await machine.all_read()
        rig.clean(vm)
        await machine.close()
        await machine.close()
        assert [event["leftover"] for event in rig.record.of("snapshot.removed")] == [False]
        # In VMware's order: access, snapshot, its removal, access.
        order = [entry["method"] for entry in rig.site.journal("task")]
        assert order == ["CreateSnapshot_Task", "RemoveSnapshot_Task"]
