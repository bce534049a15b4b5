"""Audits of VMs in a vCenter whose change tracking lies: through a snapshot that goes again, found, named, healed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from rig import KIB, MIB, Outcome, command, python
from rigs.host.hearing import all_heard
from rigs.sites.fakevm import FakeVm
from siterig import SiteRig, site_rig
from warmspare.cli.main import run
from warmspare.store import layout
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.lease import Lease
from warmspare.sync.planning.rolling import DISTRUSTED, FOUND, Rolling
from warmspare.sync.planning.rolling_cursor import DAY_S


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    with site_rig(tmp_path) as made:
        yield made


@pytest.fixture
def vm(rig: SiteRig) -> FakeVm:
    vm = rig.add("dc02", [16 * MIB, 4 * MIB])
    vm.scribble(random.Random(1), pieces=40)
    rig.sync("dc02")
    return vm


def audit(rig: SiteRig, *more: object, code: int = 0) -> Outcome:
    done = command("audit", "source", "--config", rig.config, *more)
    assert done.code == code, done
    rig.standin.check()
    return done


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """What rolling audits take for the time."""
    made = Rolling.__init__
    monkeypatch.setattr(
        Rolling,
        "__init__",
        lambda self, period_s, may_compare=True, clock=None: made(
            self, period_s, may_compare, lambda: time.time() + days * DAY_S
        ),
    )


def test_an_honest_vm_is_clean_and_is_left_as_it_was(rig: SiteRig, vm: FakeVm) -> None:
    vm.write(0, 5 * MIB, b"seen" * 1000)
    done = audit(rig, "--vm", "dc02")
    last = done.last("audit.done")
    assert last["result"] == "clean" and 95 < last["coverage_percent"] < 100
    assert not rig.clean(vm) and rig.sequences(vm) == [1]
    # and the next sync believes the tracking all the same
    synced = rig.sync("dc02")
    assert synced.last("sync.done")["bytes_read"] == 64 * KIB
    rig.check(vm)


def test_a_change_that_tracking_lost_is_found_at_once_and_healed(rig: SiteRig, vm: FakeVm) -> None:
    vm.write(0, 3 * MIB, b"lost", unseen=True)
    vm.write(1, 2 * MIB, b"lost", unseen=True)
    vm.write(0, 8 * MIB, b"seen")
    rig.sync("dc02")
    vm.write(0, 9 * MIB, b"seen")
    done = audit(rig, "--vm", "dc02", "--repair", code=5)
    found = [(event["offset"], event["repaired"]) for event in done.all("finding") if event["kind"] == "change-lost"]
    assert found == [(3 * MIB, True), (2 * MIB, True)]
    assert done.last("sync.done")["bytes_read"] == 3 * 64 * KIB
    assert not rig.clean(vm) and rig.sequences(vm) == [1, 2, 3]
    rig.check(vm)
    kept = json.loads(Path(done.last("audit.done")["report"]).read_text())
    assert kept["figures"]["repaired_by"].startswith("3-") and kept["point"]["sequence"] == 2
    # what tracking says is not believed until it was right once about everything
    synced = rig.sync("dc02")
    assert {event["reason"] for event in synced.all("disk.start")} == {DISTRUSTED}
    assert {event["reason"] for event in rig.sync("dc02").all("disk.start")} == {""}
    assert audit(rig, "--vm", "dc02").last("audit.done")["result"] == "clean"


def test_the_rolling_audit_finds_it_within_the_period(
    rig: SiteRig, vm: FakeVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm.write(0, 3 * MIB, b"lost", unseen=True)
    rig.sync("dc02")
    for day in range(1, 9):
        later(monkeypatch, day)
        vm.write(0, 8 * MIB, b"%d" % day)
        done = rig.sync("dc02")
        monkeypatch.undo()
        monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
        if done.all("tracking.missed"):
            break
    assert done.last("tracking.missed")["offset"] == 3 * MIB and done.last("sync.done")["findings"] == 1
    assert [disk.reason for disk in rig.point(vm).disks] == [FOUND, ""]
    rig.check(vm)


def test_it_can_be_switched_off(rig: SiteRig, vm: FakeVm, monkeypatch: pytest.MonkeyPatch) -> None:
    text = rig.config.read_text()
    rig.config.write_text(text.replace("level = 1\n", 'level = 1\naudit_period = "0"\n'))
    vm.write(0, 3 * MIB, b"lost", unseen=True)
    later(monkeypatch, 30)
    done = rig.sync("dc02")
    assert not done.all("disk.audited") and done.last("sync.done")["bytes_read"] == 0


def test_where_all_may_have_changed_nothing_is_judged(rig: SiteRig, vm: FakeVm) -> None:
    vm.write(0, 3 * MIB, b"lost", unseen=True)
    vm.reset_tracking()
    done = audit(rig, "--vm", "dc02", code=5)
    assert done.last("audit.done")["coverage_percent"] == 0.0
    assert [event["kind"] for event in done.all("finding")] == ["source-unjudged"] * 2
    assert all("began anew" in event["message"] for event in done.all("finding"))


def test_an_audit_switches_nothing_on(rig: SiteRig) -> None:
    vm = rig.add("plain", [2 * MIB])
    rig.sync("plain")
    with rig.site.changing():
        vm._track(False)
    audit(rig, "--vm", "plain", code=5)
    assert vm.spec["change_tracking"] is False and not rig.clean(vm)


def test_several_vms_each_have_a_report_and_one_that_fails_stops_no_other(rig: SiteRig, vm: FakeVm) -> None:
    rig.add("new", [2 * MIB])  # never synced
    vm.write(0, 3 * MIB, b"lost", unseen=True)
    out = command_of_several(rig)
    assert [event["vm_name"] for event in out.all("sync.failed")] == ["new"]
    assert [event["kind"] for event in out.all("finding")] == ["change-lost"]


def command_of_several(rig: SiteRig) -> Outcome:
    """Not held to the promises about stderr of a command that ends with one error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["audit", "source", "--config", str(rig.config), "--all", "--json"])
    assert code == 5
    return Outcome(code, all_heard(out.getvalue()), err.getvalue())


def test_a_sync_that_runs_keeps_it_out(rig: SiteRig, vm: FakeVm) -> None:
    """It takes the lease before it touches the VM."""
    before = len(vm.taken)

    async def held() -> Outcome:
        store = DirectoryStore(str(rig.repo))
        try:
            async with Lease.hold(store, layout.lease_key(rig.key(vm))):
                # in a process of its own: it would take over a lease of this one
                child = await asyncio.create_subprocess_exec(
                    python(),
                    "-m",
                    "warmspare",
                    "audit",
                    "source",
                    "--config",
                    str(rig.config),
                    "--vm",
                    "dc02",
                    "--json",
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                out, err = await child.communicate()
                events = all_heard(out.decode())
                return Outcome(child.returncode or 0, events, err.decode())
        finally:
            await store.close()

    done = asyncio.run(held())
    assert done.code == 6 and done.last("error")["kind"] == "lease", done
    assert len(vm.taken) == before
