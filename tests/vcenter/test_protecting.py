"""VMs protected by name, with the real command against the fake site: exact, chained, and left as they were."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rig import KIB, MIB, Event, command, fingerprint
from rigs.host.hearing import recorder
from siterig import SiteRig, site_rig
from warmspare.engine.wiring.configured import late
from warmspare.observe.events import Events
from warmspare.store.directory.file_upload import FileUpload
from warmspare.vsphere.vsphere_machine import VsphereMachine


def rounds(home: Path, granularity: int, count: int) -> None:
    """Three VMs, one with three disks; `count` rounds of real writes to each, each followed by a sync of all."""
    rng = random.Random(granularity)
    with site_rig(home, granularity=granularity) as rig:
        one = rig.add("one", [24 * MIB + 512])
        three = rig.add("three", [9 * MIB, 33 * MIB, 2 * MIB + 1024], firmware="efi")
        other = rig.add("other", [17 * MIB], host="esx2.example")
        vms = (one, three, other)
        for vm in vms:
            vm.scribble(rng, pieces=30)
        frozen: dict[str, list[str]] = {vm.name: [] for vm in vms}
        for _ in range(count):
            rig.sync()
            for vm in vms:
                frozen[vm.name].append(vm.taken[-1])
                rig.check(vm)
                assert not rig.clean(vm)
                vm.scribble(rng, pieces=8, most=60 * KIB)
        for vm in vms:
            points = [rig.point(vm, n) for n in rig.sequences(vm)]
            assert len(points) == count
            chains(points)
            for number, snapshot in enumerate(frozen[vm.name], 1):
                if number in (1, count // 2 + 1):
                    rig.check(vm, snapshot, at=number)
        listed = command("points", "--repo", rig.repo).all("point")
        assert len(listed) == 3 * count
        names = {event["vm_name"] for event in listed}
        assert names == {"one", "three", "other"}


def chains(points: list[Any]) -> None:
    """Each point's disks have a change ID of the same tracking as the one before, later in its sequence; and none but
    the first was compared in full."""
    for before, after in itertools.pairwise(points):
        was = {disk.id: disk.change_id for disk in before.disks}
        for disk in after.disks:
            uuid, _, number = disk.change_id.rpartition("/")
            old_uuid, _, old_number = was[disk.id].rpartition("/")
            assert uuid == old_uuid and int(number) > int(old_number)
            assert disk.reason == ""
    assert all(disk.reason for disk in points[0].disks)


@pytest.mark.parametrize("granularity", [64 * KIB, 256 * KIB, MIB], ids=["64K", "256K", "1M"])
def test_every_round_is_exact(tmp_path: Path, granularity: int) -> None:
    rounds(tmp_path, granularity, 4)


@pytest.mark.slow
@pytest.mark.parametrize("granularity", [64 * KIB, 256 * KIB, MIB], ids=["64K", "256K", "1M"])
def test_twenty_rounds_are_exact(tmp_path: Path, granularity: int) -> None:
    rounds(tmp_path, granularity, 20)


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    with site_rig(tmp_path) as made:
        yield made


def test_a_restore_point_knows_the_machine(rig: SiteRig) -> None:
    vm = rig.add("dc02", [4 * MIB, 2 * MIB], firmware="efi", memory_mib=8192, cpus=4)
    rig.sync("dc02")
    found = rig.point(vm)
    assert found.vm_id == vm.spec["instance_uuid"] and found.vm_name == "dc02"
    hardware = found.hardware
    assert (hardware["firmware"], hardware["cpus"], hardware["memory_mib"]) == ("efi", 4, 8192)
    assert hardware["nics"][0]["mac"] == vm.spec["nics"][0]["mac"]
    assert hardware["nics"][0]["network"] == "VM Network"
    assert [disk["capacity_bytes"] for disk in hardware["disks"]] == [4 * MIB, 2 * MIB]
    assert {disk.id for disk in found.disks} == {disk.uuid for disk in vm.disks}
    assert [disk.name for disk in found.disks] == ["hard-disk-1.raw", "hard-disk-2.raw"]
    assert rig.site.password not in rig.config.read_text() + str(found)


def test_each_VM_of_a_run_keeps_its_request_apart(rig: SiteRig) -> None:
    """One of them failed: a retry makes its point and no second one of the other."""
    one, other = rig.add("one", [2 * MIB]), rig.add("other", [2 * MIB])
    rig.sync("one", more=("--request-id", "run 7"))
    again = rig.sync(more=("--request-id", "run 7"))
    assert again.last("sync.unneeded")["vm_name"] == "one" and again.last("sync.done")["vm_name"] == "other"
    assert again.last("sync.all") | {"vms": 2, "failed": 0} == again.last("sync.all")
    assert rig.sync(more=("--request-id", "run 7")).all("sync.done") == []
    assert [rig.point(vm).request_id for vm in (one, other)] == ["run 7"] * 2
    assert rig.point(one).hardware["firmware"]
    plan = command("plan", "--config", rig.config, "--vm", "one", "--request-id", "run 7")
    assert plan.last("sync.unneeded")["sequence"] == 1
    rig.sync(more=("--request-id", "run 8"))
    assert [rig.sequences(vm) for vm in (one, other)] == [[1, 2]] * 2
    assert not rig.clean(one)


def test_only_what_changed_is_read_and_sent(rig: SiteRig) -> None:
    vm = rig.add("dc02", [64 * MIB])
    vm.scribble(random.Random(1), pieces=60)
    vm.write(0, 5 * MIB, random.Random(3).randbytes(64 * KIB))
    rig.sync("dc02")
    vm.write(0, 5 * MIB + 4096, random.Random(2).randbytes(8192))
    done = rig.sync("dc02").last("sync.done")
    assert done["bytes_read"] == 64 * KIB and done["bytes_changed"] == 8192
    assert rig.sync("dc02").last("sync.done")["bytes_read"] == 0
    rig.check(vm)


def test_the_snapshot_goes_when_reading_ends(rig: SiteRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a store that takes its time the snapshot is gone long before the last byte is sent."""
    moments: dict[str, float] = {}
    leave, all_read = FileUpload.__aexit__, VsphereMachine.all_read

    async def slowly(upload: FileUpload, *how: Any) -> None:
        await asyncio.sleep(1.5)
        moments.setdefault("sent", time.monotonic())
        await leave(upload, *how)

    async def noted(machine: VsphereMachine) -> None:
        await all_read(machine)
        moments["removed"] = time.monotonic()
        assert not rig.clean(vm)

    vm = rig.add("dc02", [8 * MIB])
    vm.scribble(random.Random(1), pieces=30)
    monkeypatch.setattr(FileUpload, "__aexit__", slowly)
    monkeypatch.setattr(VsphereMachine, "all_read", noted)
    rig.sync("dc02")
    assert moments["removed"] < moments["sent"], "the snapshot was held until the bytes were sent"
    rig.check(vm)


def test_little_is_done_while_there_is_a_snapshot(rig: SiteRig) -> None:
    """Queries and reading, and nothing else: no login, no search, no repository. The time is printed for the reader; no
    test fails on one."""
    vm = rig.add("dc02", [8 * MIB])
    rig.sync("dc02")
    vm.write(0, 0, b"x" * 4096)
    began = time.monotonic()
    rig.sync("dc02")
    print(f"a whole sync of 64 KiB, snapshot and all, took {time.monotonic() - began:.2f} s")
    methods = [e["method"] for e in rig.site.journal("call")]
    last = len(methods) - 1 - methods[::-1].index("CreateSnapshot_Task")
    during = methods[last + 1 : methods.index("RemoveSnapshot_Task", last)]
    assert "QueryChangedDiskAreas" in during
    assert not {"Login", "FindByUuid", "FindByInventoryPath", "CreateContainerView"} & set(during), during


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.6], ids=["before", "during"])
def test_vcenter_is_gone_for_a_minute(rig: SiteRig, after_s: float) -> None:
    """It restarts while it is asked, or while the disk is read: the run waits, completes, and leaves the VM clean."""
    vm = rig.add("dc02", [30 * MIB])
    vm.scribble(random.Random(1), pieces=100)
    rig.standin.script("latency 400")  # reading goes on for longer than `after_s`
    away = threading.Timer(after_s, rig.site.gone, (60,))
    away.start()
    began = time.monotonic()
    done = rig.sync("dc02")
    away.join()
    assert time.monotonic() - began > 55
    assert done.all("source.retry") and not rig.clean(vm)
    rig.check(vm)


def test_one_that_fails_stops_no_other(rig: SiteRig) -> None:
    good, bad = rig.add("good", [3 * MIB]), rig.add("bad", [3 * MIB])
    rig.site.rule("CreateSnapshot_Task", vm=bad.moref, fault="GenericVmConfigFault")
    done = rig.sync(code=3)
    assert done.last("sync.failed")["vm_name"] == "bad"
    assert done.last("sync.all") == {"event": "sync.all", "vms": 2, "failed": 1, "unprotected": 0}
    rig.check(good)
    assert not rig.sequences(bad) and not rig.clean(bad)


def test_a_plan_leaves_the_vm_and_the_repository_as_they_were(rig: SiteRig) -> None:
    vm = rig.add("dc02", [6 * MIB])
    vm.scribble(random.Random(1), pieces=20)
    rig.sync("dc02")
    vm.scribble(random.Random(2), pieces=5)
    before = fingerprint(rig.repo)
    planned = command("plan", "--config", rig.config, "--vm", "dc02", "--limit", "100kbit")
    told = planned.last("plan.done")
    assert planned.code == 0 and told["rpo_holds"] is True and told["rpo_seconds"] == 900
    assert fingerprint(rig.repo) == before and not rig.clean(vm)
    done = rig.sync("dc02").last("sync.done")
    assert done["bytes_changed"] == told["bytes_changed"] > 0
    rig.check(vm)
    rig.more = ""
    rig.write_config()
    rig.config.write_text(rig.config.read_text().replace("level = 1", 'level = 1\nrpo = "1m"'))
    vm.write(0, 0, random.Random(3).randbytes(2 * MIB))
    short = command("plan", "--config", rig.config, "--vm", "dc02", "--limit", "100kbit")
    assert short.code == 7 and short.last("plan.done")["rpo_holds"] is False


async def test_a_sync_that_passes_half_the_rpo_says_so() -> None:
    said: list[Event] = []
    async with late(Events(recorder(said)), "dc02", 1):
        await asyncio.sleep(0.7)
    async with late(Events(recorder(said)), "dc02", 10):
        await asyncio.sleep(0)
    assert said == [{"event": "sync.late", "vm": "dc02", "seconds": 0.5, "rpo_seconds": 1}]


def test_all_and_by_folder(rig: SiteRig) -> None:
    first = rig.site.add_vm("first", [2 * MIB], folder="prod")
    second = rig.site.add_vm("second", [2 * MIB], folder="prod")
    rig.site.add_vm("third", [2 * MIB], folder="test")
    rig.more = '[vm.production]\nfolder = "/DC1/vm/prod"\n'
    rig.write_config()
    done = rig.sync("production")
    assert {e["vm_name"] for e in done.all("sync.done")} == {"first", "second"}
    rig.check(first)
    rig.check(second)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--vm", "dc03"], "did you mean dc02"),
        ([], "which VMs is not said"),
        (["--all", "--vm", "dc02"], "which VMs is not said"),
        (["--vm", "dc02", "--repo", "/x"], "go with disks"),
    ],
)
def test_usage(rig: SiteRig, arguments: list[str], told: str) -> None:
    rig.add("dc02", [MIB])
    refused = command("sync", "--config", rig.config, *arguments)
    assert refused.code == 2 and told in refused.stderr


def test_the_limit_of_the_configuration_is_shared_by_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two VMs at once have the rate together; --limit takes the place of the configuration's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    with site_rig(tmp_path) as rig:
        rig.more = 'limit = [{rate = "256kB"}, {days = "mon-sun", from = "00:00", to = "24:00", rate = "16mbit"}]'
        for name in ("a", "b"):
            rig.add(name, [9 * MIB]).scribble(random.Random(5), pieces=120, most=200 * KIB)
        began = time.monotonic()
        done = rig.sync()
        sent = sum(event["bytes_sent"] for event in done.all("sync.done"))
        assert sent > MIB and time.monotonic() - began > sent / 256e3 - 0.2
        for vm in rig.vms.values():
            rig.check(vm)
            vm.scribble(random.Random(6), pieces=120, most=200 * KIB)
        more = rig.sync(more=("--limit", "1gbit")).all("sync.done")
        assert all(event["seconds"] < sum(e["bytes_sent"] for e in more) / 256e3 for event in more)
        for vm in rig.vms.values():
            rig.check(vm)


def test_details_say_what_each_VM_uses(tmp_path: Path) -> None:
    """The configuration by who named it, repository and state by where they stand there; and nothing of it unasked."""
    with site_rig(tmp_path) as rig:
        for name in ("web", "db"):
            rig.add(name, [MIB])
        file, state = str(rig.config), str(tmp_path / "state")
        told = rig.sync("web", more=("-v",)).all("using")
        assert [(one["what"], one["value"], one["source"]) for one in told] == [
            ("configuration", file, "--config"),
            ("repository", str(rig.repo), f"[repository.spare] of {file}"),
            ("state", state, file),
        ]
        both = rig.sync(more=("--verbose", "--state", tmp_path / "other")).all("using")
        assert {one.get("vm_name") for one in both if one["what"] == "repository"} == {"web", "db"}
        assert [one["source"] for one in both if one["what"] == "state"] == ["--state"]
        assert not rig.sync().all("using")
        # Given disks, a restore point, a replica: the repository is the configuration's.
        vm = rig.point(rig.vms["web"]).vm_id
        assert command("points", "--config", file, "--vm", vm).code == 0
        assert command("apply", "--config", file, "--vm", "web", "--to", tmp_path / "replica").code == 0
