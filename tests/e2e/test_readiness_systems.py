"""The readiness check's verdict on machines of many systems, each sound and with a flaw; and what a drill says of them.

No false stop on a sound one, no silence on a flaw, "not known" where it is. A dozen run always, all behind `slow`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from rig import Rig, command
from systems import layout
from systems.cases import Case
from systems.matrix import CASES
from warmspare.recover.disks.held_replica import HeldDisk
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.check import look

QUICK = [name for name, case in CASES.items() if case.quick]
OTHERS = [name for name in CASES if name not in QUICK]
DRILLED = [name for name, case in CASES.items() if case.drill is not None]
DRILL_S = 240
FAILING_S = 60  # of a machine that is to come up by then, if at all


def judged(case: Case, home: Path) -> list[BootFinding]:
    """What the check says of its disks; and that they are as they were."""
    machine = case.machine()
    paths = layout.build(machine, home)
    before = [(path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths]
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        held = [HeldDisk(path.name, path, path.stat().st_size, fd) for path, fd in zip(paths, fds, strict=True)]
        found = asyncio.run(look(held, machine.firmware)).findings
    finally:
        for fd in fds:
            os.close(fd)
    assert [(path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths] == before
    layout.remove(home)
    return found


@pytest.mark.parametrize("name", QUICK)
def test_a_system_is_judged_rightly(name: str, tmp_path: Path) -> None:
    assert CASES[name].disagreements(judged(CASES[name], tmp_path / "disks")) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_system_is_judged_rightly(name: str, tmp_path: Path) -> None:
    assert CASES[name].disagreements(judged(CASES[name], tmp_path / "disks")) == []


def test_there_are_enough_of_each() -> None:
    assert len(CASES) >= 60 and len(QUICK) >= 12 and len(DRILLED) >= 15
    sound = sum(case.hurt is None for case in CASES.values())
    assert sound >= 30 and len(CASES) - sound >= 30


@pytest.mark.slow
@pytest.mark.parametrize("name", DRILLED)
def test_a_drill_of_the_same_disks_agrees(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same machine with a kernel that is whole and a root that comes to a prompt, as restore point and replica."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    case = CASES[name]
    machine = case.machine(alive=True)
    paths = layout.build(machine, tmp_path / "disks")
    rig = Rig(tmp_path)
    rig.sync(disks=[*paths])
    rig.apply()
    checked = command("recover", "check", "--vm", rig.vm, "--replica", rig.replica, "--firmware", machine.firmware)
    findings = checked.all("finding")
    if checked.code == 5:
        assert not case.drill, findings
    elif all(each["known"] for each in findings):
        assert case.drill, findings
    else:  # it says that it does not know, and the matrix that this is right
        assert checked.code == 0
    drilled = command(
        "drill",
        "--vm",
        rig.vm,
        "--replica",
        rig.replica,
        "--evidence",
        tmp_path / "evidence",
        "--expect",
        "tinybox login:",
        "--firmware",
        machine.firmware,
        "--timeout",
        DRILL_S if case.drill else FAILING_S,
    )
    assert drilled.last("drill.done")["passed"] is case.drill, drilled
    assert drilled.code == (0 if case.drill else 5)
    layout.remove(tmp_path / "disks")
