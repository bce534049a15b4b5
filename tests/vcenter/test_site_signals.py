"""A sync of a VM that is asked to end: its snapshot goes, whatever it is in, or is left to the next run and named."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import MIB
from rigs.host.hearing import all_heard
from rigs.kills.interrupts import MOST_S, Case, left, started, until
from rigs.sites.fakevm import FakeVm
from siterig import SiteRig, site_rig

SNAPSHOT_S = 60.0  # docs/operations.md, "Interrupting"
SLACK_S = 15.0


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SiteRig]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    with site_rig(tmp_path) as made:
        yield made


@pytest.fixture
def vm(rig: SiteRig) -> FakeVm:
    """With a restore point."""
    made = rig.add("web", [2 * MIB])
    rig.sync("web", more=("--new",))
    return made


def hung(rig: SiteRig, vm: FakeVm) -> subprocess.Popen[bytes]:
    """A sync with its snapshot taken, that waits for an answer of vCenter's, in a thread that no one can end."""
    rig.site.rule("QueryChangedDiskAreas", stage="call", delay_s=40.0, times=1)
    words = ["sync", "--config", rig.config, "--vm", "web", "--json"]
    child = started(Case("hung", words, stdout=subprocess.PIPE), rig.home)
    deadline = time.monotonic() + 60
    while not (rig.clean(vm) and rig.site.rules()[-1]["used"]) and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.05)
    assert rig.clean(vm) and rig.site.rules()[-1]["used"]
    return child


def test_a_call_that_hangs_removes_its_snapshot(rig: SiteRig, vm: FakeVm) -> None:
    child = hung(rig, vm)
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    code, stderr = left(child)
    print(f"{time.monotonic() - began:.2f} s")
    assert code == 130 and time.monotonic() - began < MOST_S + SLACK_S, stderr
    assert not rig.clean(vm) and "left to the next run" not in stderr
    rig.site.clear_rules()
    rig.sync("web")


@pytest.mark.parametrize("signals", [1, 2])
def test_slow_removal_is_told_and_a_second_signal_leaves_it(rig: SiteRig, vm: FakeVm, signals: int) -> None:
    rig.site.rule("RemoveSnapshot_Task", stage="task", delay_s=4.0, times=1)
    child = hung(rig, vm)
    child.send_signal(signal.SIGINT)
    said = until(child, "taking back the snapshot of VM")
    assert f"for at most {SNAPSHOT_S:.0f} s; a second signal leaves it" in said
    if signals == 2:
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    events = all_heard(out)
    assert [event for event in events if event["event"] == "interrupted"]
    if signals == 1:
        assert not rig.clean(vm) and events[-1]["left"] == []
    else:
        assert time.monotonic() - began < 1.0 + SLACK_S
        assert any("the snapshot of VM" in what for what in events[-1]["left"])
        assert b"left to the next run: the snapshot of VM" in err
    rig.site.clear_rules()
    rig.sync("web")
    assert not rig.clean(vm)


def test_one_that_vcenter_does_not_let_go_is_named_and_the_next_run_removes_it(rig: SiteRig, vm: FakeVm) -> None:
    """A call that vCenter does not answer, and then none at all."""
    child = hung(rig, vm)
    rig.site.rule("RemoveSnapshot_Task", stage="call", delay_s=30.0, times=1)
    child.send_signal(signal.SIGTERM)
    until(child, "taking back the snapshot of VM")
    child.send_signal(signal.SIGTERM)
    code, stderr = left(child)
    assert code == 130 and "left to the next run: the snapshot of VM" in stderr
    rig.site.clear_rules()
    outcome = rig.sync("web")
    assert [event["leftover"] for event in outcome.all("snapshot.removed")] == [True, False] and not rig.clean(vm)
