"""Snapshots of a protected VM go wrong: what is done about it; nothing of ours stays and nothing of others goes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from rig import MIB
from vcenter.vspheretools import REPOSITORY, TIMING, Rig, rig_at
from warmspare.config.settings import Policy
from warmspare.errors import ConfigError, SourceError
from warmspare.vsphere.snapshots.marker import Marker, parse

THEIRS = "before the update"


def test_markers() -> None:
    mine = Marker.of("s3://dr/a/", "vm-uuid", "run-1")
    assert parse(mine.description()) == mine == Marker.of("s3://dr/a", "vm-uuid", "run-1")
    assert mine.ours(Marker.of("s3://dr/a", "vm-uuid", "run-2").description())
    assert not mine.this_run(Marker.of("s3://dr/a", "vm-uuid", "run-2").description())
    assert not mine.ours(Marker.of("s3://dr/b", "vm-uuid", "run-1").description())
    assert not mine.ours(Marker.of("s3://dr/a", "a clone", "run-1").description())
    for text in (
        "",
        "{",
        "warmspare",
        '{"product": "warmspare"}',
        "[1]",
        '{"product": "other", "vm": "vm-uuid"}',
        mine.description()[:-1],
        '{"product": "warmspare", "repository": 1, "vm": "", "run": null}',
        '{"a":' * 100_000,
        "[" + mine.description() + "[" * 100_000,
        '{"product": ' + "1" * 10_000 + "}",
    ):
        assert parse(text) is None and not mine.ours(text)


async def test_a_foreign_snapshot_is_left_alone(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        vm.write(0, 0, b"old")
        theirs = vm.foreign_snapshot()
        vm.write(0, 500_000, b"new")
        synced = await rig.sync(vm)
        vm.write(0, 100_000, b"newer")
        synced = await rig.sync(vm, synced.last())
        assert synced.reasons == {"Hard disk 1": ""} and synced.read["Hard disk 1"] == 64 * 1024
        assert [one["snapshot"] for one in rig.site.state()[vm.moref]["snapshots"]] == [theirs]
        assert not vm.frozen_file(theirs).read_bytes()[500_000:500_003].strip(b"\0")


async def test_what_a_crashed_run_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Ours by marker, also between others' snapshots; not one of another repository or VM that only looks alike."""
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        uuid = vm.spec["instance_uuid"]
        dead = Marker.of(REPOSITORY, uuid, "dead").description()
        kept = {
            "a": vm.foreign_snapshot("a", ""),
            "b": vm.foreign_snapshot("Karma Sync", "named like ours"),
            "c": vm.foreign_snapshot("Karma Sync", Marker.of("s3://other", uuid, "dead").description()),
            "d": vm.foreign_snapshot("Karma Sync", Marker.of(REPOSITORY, "another", "dead").description()),
        }
        first = vm.foreign_snapshot("Karma Sync", dead)
        last = vm.foreign_snapshot("z", "on top")
        second = vm.foreign_snapshot("Karma Sync", dead)
        vm.write(0, 0, b"content")
        synced = await rig.sync(vm)
        here = [one["snapshot"] for one in rig.site.state()[vm.moref]["snapshots"]]
        assert here == [*kept.values(), last]
        removed = [(event["snapshot"], event["leftover"]) for event in rig.record.of("snapshot.removed")]
        assert removed[:2] == [(second, True), (first, True)] and removed[2][1] is False and len(removed) == 3
        assert not any(call["args"]["removeChildren"] for call in rig.site.journal("call", "RemoveSnapshot_Task"))
        counts = rig.standin.counts()
        assert counts["EndAccess"] == counts["PrepareForAccess"] + 1  # the dead run's as well
        synced = await rig.sync(vm, synced.last())
        assert synced.reasons == {"Hard disk 1": ""}
        # A run that took it and published nothing did not finish, whether its journal says so or not.
        vm.foreign_snapshot("Karma Sync", dead)
        synced = await rig.sync(vm, synced.last())
        assert synced.reasons == {"Hard disk 1": "the last run was not finished"}


async def test_a_dead_runs_snapshot_that_is_still_being_taken(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        rig.site.rule("CreateSnapshot_Task", delay_s=0.5, times=1)
        machine = rig.session.bound(vim.VirtualMachine, vm.moref)
        dead = Marker.of(REPOSITORY, vm.spec["instance_uuid"], "dead").description()
        machine.CreateSnapshot_Task(name="Karma Sync", description=dead, memory=False, quiesce=False)
        await rig.sync(vm)
        assert len(rig.record.of("snapshot.removed")) == 2
        rig.clean(vm)


async def test_quiescing_fails(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        fault = {"type": "FilesystemQuiesceFault", "message": "An error occurred while quiescing the virtual machine."}
        rig.site.rule("CreateSnapshot_Task", fault=fault, args={"quiesce": True})
        synced = await rig.sync(vm)
        assert "crash-consistent: An error occurred while quiescing" in rig.record.messages()
        assert synced.opened.disks[0].attributes["quiesced"] == "no" and synced.opened.hardware["quiesced"] is False
        with pytest.raises(SourceError, match="could not be quiesced") as caught:
            await rig.sync(vm, policy=Policy(quiesce="require"))
        assert caught.value.exit_code == 3
        rig.clean(vm)
        rig.record.list.clear()
        await rig.sync(vm, policy=Policy(quiesce="never"))
        vm.set(power="poweredOff")  # and one that is off needs none
        await rig.sync(vm, policy=Policy(quiesce="require"))
        assert not rig.record.messages()


@pytest.mark.parametrize("after", [False, True])
async def test_no_snapshot_can_be_taken(tmp_path: Path, after: bool) -> None:
    """Also where the task fails and leaves it all the same."""
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        theirs = vm.foreign_snapshot()
        fault = {"type": "GenericVmConfigFault", "message": "There is not enough space.", "after": after}
        rig.site.rule("CreateSnapshot_Task", fault=fault)
        with pytest.raises(SourceError, match="taking a snapshot failed: There is not enough space") as caught:
            await rig.sync(vm)
        assert caught.value.retryable
        assert [one["snapshot"] for one in rig.site.state()[vm.moref]["snapshots"]] == [theirs]
        rig.site.clear_rules()
        await rig.sync(vm)
        assert rig.snapshots(vm) == [THEIRS]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_answer_is_lost(tmp_path: Path, when: str) -> None:
    """The snapshot is looked for before another is taken."""
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        rig.site.rule("CreateSnapshot_Task", drop=when, times=1)
        rig.site.rule("RemoveSnapshot_Task", drop=when, times=1)
        await rig.sync(vm)
        assert len(vm.taken) == 1
        assert len(rig.site.journal("call", "CreateSnapshot_Task")) == (2 if when == "before" else 1)
        rig.clean(vm)
        rig.site.rule("CreateSnapshot_Task", drop="before")
        with pytest.raises(SourceError, match="its answer was lost 3 times"):
            await rig.sync(vm)
        rig.clean(vm)


@pytest.mark.parametrize("after", [False, True])
async def test_removing_fails_once(tmp_path: Path, after: bool) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        rig.site.rule("RemoveSnapshot_Task", fault={"type": "GenericVmConfigFault", "after": after}, times=1)
        await rig.sync(vm)
        assert rig.record.messages() == "" and (len(rig.record.of("source.retry")) == (0 if after else 1))
        rig.clean(vm)


async def test_removing_fails_for_good(tmp_path: Path) -> None:
    """What was read is good all the same; the next run removes it."""
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        rig.site.rule("RemoveSnapshot_Task", fault="GenericVmConfigFault")
        synced = await rig.sync(vm)
        assert rig.snapshots(vm) == ["Karma Sync"] and "can't be removed" in rig.record.messages()
        with pytest.raises(SourceError, match="can't be removed"):
            await rig.sync(vm, synced.last())
        rig.site.clear_rules()
        vm.write(0, 0, b"x")
        synced = await rig.sync(vm, synced.last())
        assert synced.reasons == {"Hard disk 1": ""}
        rig.clean(vm)


async def test_removing_takes_long(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        rig.site.rule("RemoveSnapshot_Task", delay_s=0.6)
        await rig.sync(vm)
        assert rig.record.messages().count("removing the snapshot takes more than 0 s") == 1
        rig.clean(vm)


async def test_consolidation_is_needed(tmp_path: Path) -> None:
    """After ours was removed; and left by somebody before ours is taken."""
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        rig.site.rule("RemoveSnapshot_Task", leave_disks=True)
        synced = await rig.sync(vm)
        assert len(rig.record.of("snapshot.consolidated")) == 1
        rig.clean(vm)
        theirs = rig.session.bound(vim.vm.Snapshot, vm.foreign_snapshot())
        theirs.RemoveSnapshot_Task(removeChildren=False)
        vm.write(0, 0, b"x")
        rig.site.rule("ConsolidateVMDisks_Task", fault="FileLocked", times=1)
        synced = await rig.sync(vm, synced.last())
        assert synced.reasons == {"Hard disk 1": ""} and len(rig.record.of("snapshot.consolidated")) == 3
        rig.clean(vm)
        order = [entry["method"] for entry in rig.site.journal("task") if entry["state"] == "success"]
        tail = ["RemoveSnapshot_Task", "ConsolidateVMDisks_Task", "CreateSnapshot_Task"]
        assert any(order[at : at + 3] == tail for at in range(len(order)))


async def test_consolidation_fails(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        vm.set(consolidation_needed=True)
        rig.site.rule("ConsolidateVMDisks_Task", fault="FileLocked")
        with pytest.raises(SourceError, match=r"need consolidation, and that fails: .*FileLocked"):
            await rig.sync(vm)
        assert vm.taken == []


async def test_another_task_runs(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        vm.busy(0.5)
        await rig.sync(vm)
        rig.clean(vm)
        vm.busy(3.0)
        impatient = type(TIMING)(busy_s=0.2, pause_s=0.02)
        with pytest.raises(SourceError, match="another task runs on the VM") as caught:
            await rig.sync(vm, timing=impatient)
        assert caught.value.retryable and len(vm.taken) == 1


@pytest.mark.parametrize(("count", "refused"), [(27, False), (28, False), (31, True)])
async def test_long_chains(tmp_path: Path, count: int, refused: bool) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        for number in range(count):
            vm.foreign_snapshot(str(number))
        if refused:
            with pytest.raises(SourceError, match="a chain of 31 snapshots"):
                await rig.sync(vm)
        else:
            await rig.sync(vm)
            assert ("a chain of 28 snapshots" in rig.record.messages()) is (count == 28)
        assert rig.snapshots(vm) == [str(number) for number in range(count)]


async def test_a_privilege_is_missing(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        rig.site.missing_privileges("VirtualMachine.State.CreateSnapshot")
        with pytest.raises(ConfigError, match=r"lacks VirtualMachine\.State\.CreateSnapshot"):
            await rig.sync(vm)
        rig.site.missing_privileges()
        await rig.sync(vm)
        rig.clean(vm)


async def cancelled_at(rig: Rig, vm: Any, seconds: float) -> None:
    """A sync that is cancelled after a while."""
    task = asyncio.create_task(rig.sync(vm))
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])


async def test_cancelled_anywhere(tmp_path: Path) -> None:
    """Nothing is left, wherever it was cancelled, while a snapshot is taken or removed too."""
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB], tracked=False)
        rig.site.rule("CreateSnapshot_Task", delay_s=0.1)
        rig.site.rule("RemoveSnapshot_Task", delay_s=0.1)
        for step in range(100):  # as many as it takes on this machine until most of it was met
            await cancelled_at(rig, vm, 0.1 * step)
            assert rig.snapshots(vm) == [], step
            if step >= 9 and len(vm.taken) > 5:
                break
        assert len(vm.taken) > 5
        rig.site.clear_rules()
        await rig.sync(vm)
        rig.clean(vm)


async def test_cancelled_while_cleaning_up(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        vm = rig.site.add_vm("db", [MIB])
        machine = await rig.machine(vm)
        await machine.open(None)
        rig.site.rule("RemoveSnapshot_Task", delay_s=0.5)
        task = asyncio.create_task(machine.close())
        while not rig.site.journal("call", "RemoveSnapshot_Task"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() and rig.snapshots(vm) == []
        rig.clean(vm)
