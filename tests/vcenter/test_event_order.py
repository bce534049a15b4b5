"""Which of vCenter's events speak against change tracking: those that became known since the last point, by their keys
and whatever their dates; and a history that does not go on from there speaks against it too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rig import MIB
from rigs.sites.fakevm import FakeVm
from vcenter.clockworld import read_as_files
from vcenter.vspheretools import Rig, Synced, rig_at
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.tracking import history, suspicion

FULL = 2 * MIB
KILLED = "esx.problem.vm.kill.unexpected.noSwapResponse"
DAY_S = 86400.0


@contextlib.asynccontextmanager
async def world(home: Path) -> AsyncIterator[Rig]:
    async with rig_at(home) as rig:
        with read_as_files(rig.site):
            yield rig


async def points(rig: Rig, count: int = 2) -> tuple[FakeVm, Synced]:
    """A VM with that many points."""
    vm = rig.site.add_vm("db", [FULL])
    vm.write(0, 0, b"first")
    synced = await rig.sync(vm)
    for _ in range(count - 1):
        synced = await believed(rig, vm, synced)
    return vm, synced


async def believed(rig: Rig, vm: FakeVm, synced: Synced) -> Synced:
    vm.write(0, MIB, bytes([rig.site.rng.randrange(256)]))
    synced = await rig.sync(vm, synced.last())
    assert synced.reasons == {"Hard disk 1": ""}
    return synced


async def doubted(rig: Rig, vm: FakeVm, synced: Synced, reason: str) -> Synced:
    """What tracking forgot is found all the same; after that it is believed again."""
    vm.write(0, MIB, bytes([rig.site.rng.randrange(256)]), unseen=True)
    synced = await rig.sync(vm, synced.last())
    assert reason in synced.reasons["Hard disk 1"] and synced.read["Hard disk 1"] == FULL
    return synced


@pytest.mark.parametrize("ago_s", [300.0, DAY_S, 400 * DAY_S, -DAY_S, 0.0])
async def test_an_event_is_new_by_its_key_whatever_its_date(tmp_path: Path, ago_s: float) -> None:
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        rig.site.event(KILLED, vm, ago_s=ago_s)
        key = rig.site.newest_event()
        synced = await doubted(rig, vm, synced, f"killed by its host ({KILLED}, event {key} of ")
        for _ in range(2):
            synced = await believed(rig, vm, synced)


@pytest.mark.parametrize("ago_s", [0.0, -DAY_S, 60.0])
async def test_an_event_that_was_known_before_is_not(tmp_path: Path, ago_s: float) -> None:
    async with world(tmp_path) as rig:
        vm = rig.site.add_vm("db", [FULL])
        rig.site.event(KILLED, vm, ago_s=ago_s)
        synced = await rig.sync(vm)
        for _ in range(2):
            synced = await believed(rig, vm, synced)


async def test_a_host_that_was_away_for_hours_reports_late(tmp_path: Path) -> None:
    """Its own events, and what vCenter says of it, with dates from before several points."""
    async with world(tmp_path) as rig:
        vm, synced = await points(rig, 3)
        rig.site.event("HostConnectionLostEvent", host="esx1.example", ago_s=4 * 3600)
        synced = await doubted(rig, vm, synced, "its host failed or was lost")
        rig.site.event("esx.problem.host.coredump", host="esx1.example", ago_s=3 * 3600)
        synced = await doubted(rig, vm, synced, "its host failed or was lost")
        await believed(rig, vm, synced)


async def test_several_of_one_date_have_an_order(tmp_path: Path) -> None:
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        with rig.site.changing():
            for kind in ("VmStoppingEvent", "VmPoweredOffEvent", "VmPoweredOnEvent"):
                rig.site.event(kind, vm)
            for entry in rig.site.fields["events"]:
                entry["time"] = rig.site.fields["events"][0]["time"]
        synced = await believed(rig, vm, synced)
        with rig.site.changing():
            rig.site.event("VmPoweredOffEvent", vm, ago_s=-60)  # by another clock
            rig.site.event("VmStoppingEvent", vm, ago_s=60)
        synced = await doubted(rig, vm, synced, "went off without having been told to")
        await believed(rig, vm, synced)


async def test_an_event_that_can_be_queried_late(tmp_path: Path) -> None:
    """It has its key before the snapshot, and is shown after that run has looked."""
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        rig.site.event(KILLED, vm, hidden=True)
        synced = await believed(rig, vm, synced)  # nobody could know
        rig.site.reveal()
        synced = await doubted(rig, vm, synced, "killed by its host")
        await believed(rig, vm, synced)


async def test_an_event_between_the_newest_key_and_the_snapshot(tmp_path: Path) -> None:
    """Nothing says whether tracking lost it before the snapshot or after, so it counts for both points, and no more."""
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        rig.site.rule("CreateSnapshot_Task", stage="task", delay_s=0.5, times=1)
        machine = await rig.machine(vm)
        task = asyncio.create_task(machine.open(synced.last()))
        async with asyncio.timeout(30):
            while not rig.site.journal("call", "CreateSnapshot_Task")[2:]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        rig.site.event(KILLED, vm)
        opened = await task
        await rig.read(opened.disks[0])
        await machine.close()
        assert "killed by its host" in opened.disks[0].reason
        synced = await doubted(rig, vm, replace(synced, opened=opened), "killed by its host")
        await believed(rig, vm, synced)


async def test_another_vcenter(tmp_path: Path) -> None:
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        last = synced.last()
        last.hardware["events"]["vcenter"] = "11111111-2222-3333-4444-555555555555"
        synced = await rig.sync(vm, last)
        assert "another vCenter" in synced.reasons["Hard disk 1"] and synced.read["Hard disk 1"] == FULL
        await believed(rig, vm, synced)


async def test_vcenters_clock(tmp_path: Path) -> None:
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        rig.site.clock_ahead(DAY_S)
        synced = await believed(rig, vm, synced)
        rig.site.clock_ahead(0)
        synced = await doubted(rig, vm, synced, "vCenter's clock was put back")
        synced = await believed(rig, vm, synced)
        rig.site.clock_ahead(-30)
        synced = await doubted(rig, vm, synced, "vCenter's clock was put back")
        await believed(rig, vm, synced)


@pytest.mark.parametrize("ahead_s", [-DAY_S, DAY_S])
async def test_vcenters_clock_steps_while_the_snapshot_is_taken(tmp_path: Path, ahead_s: float) -> None:
    """Between the time that is noted and the snapshot: what happens then is new all the same."""
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        look = suspicion.look

        async def looked(session: VsphereSession) -> suspicion.Before:
            before = await look(session)
            rig.site.clock_ahead(ahead_s)
            return before

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(suspicion, "look", looked)
            synced = await believed(rig, vm, synced)
        rig.site.event(KILLED, vm, ago_s=-ahead_s)
        synced = await doubted(rig, vm, synced, "put back" if ahead_s < 0 else "killed by its host")
        await believed(rig, vm, synced)


async def test_a_database_that_begins_anew(tmp_path: Path) -> None:
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        rig.site.other_event_database()
        rig.site.event("VmPoweredOnEvent", vm)
        synced = await doubted(rig, vm, synced, "counts its events anew")
        synced = await believed(rig, vm, synced)
        rig.site.other_event_database(following=5000)  # further than it was
        rig.site.event("VmPoweredOnEvent", vm)
        synced = await doubted(rig, vm, synced, "does not reach back")
        synced = await believed(rig, vm, synced)
        rig.site.other_event_database(following=-(2**31))  # the key overflowed
        rig.site.event("VmPoweredOnEvent", vm)
        synced = await doubted(rig, vm, synced, "counts its events anew")
        for _ in range(2):
            synced = await believed(rig, vm, synced)


async def test_a_database_that_was_put_back_from_a_backup(tmp_path: Path) -> None:
    """Keys are given again, to other events: what they say is not older than the last point because its key is."""
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        backup = rig.site.newest_event()
        for _ in range(4):
            rig.site.event("VmMigratedEvent", vm)
        synced = await believed(rig, vm, synced)
        rig.site.other_event_database(keep=backup)
        rig.site.event(KILLED, vm)
        for _ in range(20):
            rig.site.event("VmPoweredOnEvent", vm)
        synced = await doubted(rig, vm, synced, " is another than at the last restore point")
        for _ in range(2):
            synced = await believed(rig, vm, synced)


async def test_what_was_remembered_is_no_longer_kept(tmp_path: Path) -> None:
    """Newer events are; an older one of this VM could be gone with it."""
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        rig.site.event(KILLED, vm, ago_s=3600)  # known by nobody before it goes
        rig.site.events_from(0)
        rig.site.event("VmPoweredOnEvent", vm)
        synced = await doubted(rig, vm, synced, "does not reach back to the last restore point: event ")
        for _ in range(2):
            synced = await believed(rig, vm, synced)


async def test_a_key_with_another_date(tmp_path: Path) -> None:
    async with world(tmp_path) as rig:
        vm = rig.site.add_vm("db", [FULL])
        rig.site.event("VmPoweredOnEvent", vm)
        synced = await rig.sync(vm)
        with rig.site.changing():
            rig.site.event("VmPoweredOnEvent", vm)
            rig.site.fields["events"][0]["time"] = "2020-01-01T00:00:00+00:00"
        synced = await doubted(rig, vm, synced, "is another than at the last restore point: VmPoweredOnEvent of 2020")
        await believed(rig, vm, synced)


async def test_a_point_of_an_earlier_version(tmp_path: Path) -> None:
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        last = synced.last()
        del last.hardware["events"]
        synced = await rig.sync(vm, last)
        assert synced.reasons == {"Hard disk 1": "the last restore point does not say where vCenter's events stood"}
        await believed(rig, vm, synced)


async def test_the_newest_event_can_not_be_read(tmp_path: Path) -> None:
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        rig.site.rule("Fetch", args={"prop": "latestEvent"}, fault="NoPermission", times=2)
        synced = await doubted(rig, vm, synced, "newest event can't be read")
        assert synced.opened.hardware["events"] is None
        synced = await doubted(rig, vm, synced, "newest event can't be read")
        synced = await doubted(rig, vm, synced, "does not say where vCenter's events stood")
        await believed(rig, vm, synced)


def flood(rig: Rig, vm: FakeVm, count: int, kind: str = "VmMigratedEvent", **how: Any) -> None:
    with rig.site.changing():
        for _ in range(count):
            rig.site.event(kind, vm, **how)


async def test_more_events_than_one_answer_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are looked at, up to a bound; beyond it there is a reason, once."""
    async with world(tmp_path) as rig:
        vm, synced = await points(rig)
        rig.site.event(KILLED, vm, ago_s=1800)
        flood(rig, vm, 1500)
        synced = await doubted(rig, vm, synced, "killed by its host")
        assert rig.record.of("vsphere.history")[-1]["events"] >= 1501
        monkeypatch.setattr(history, "MOST_EVENTS", 1100)
        rig.site.event(KILLED, vm)
        flood(rig, vm, 1500)
        synced = await doubted(rig, vm, synced, "vCenter has more than the 2000 events that were looked at")
        monkeypatch.setattr(history, "BEFORE", history.BEFORE * 0)
        synced = await believed(rig, vm, synced)
        assert len(rig.site.journal("call", "DestroyCollector")) == 2


async def test_it_asks_no_more_than_it_must(tmp_path: Path) -> None:
    """Of a VM on one host three questions, of few events, however many there are of others."""
    async with world(tmp_path) as rig:
        vm, synced = await points(rig, 3)
        other = rig.site.add_vm("other", [MIB])
        flood(rig, other, 1200, KILLED)
        before = len(rig.site.journal("call"))
        await believed(rig, vm, synced)
        calls = [entry["method"] for entry in rig.site.journal("call")[before:]]
        assert (calls.count("QueryEvents"), calls.count("CreateCollectorForEvents")) == (3, 0)
        assert rig.record.of("vsphere.history")[-1]["events"] < 20
