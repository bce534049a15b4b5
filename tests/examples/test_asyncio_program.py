"""examples/asyncio: the script as it stands, with disks of this host."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import warmspare
from examples.programs import EXAMPLES
from rig import MIB, Outcome, Rig, command
from rigs.paths import PROJECT

SCRIPT = EXAMPLES / "asyncio" / "sync_many.py"


@pytest.fixture
def rigs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Rig]:
    """Two VMs of one repository, whose chains have begun."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "host"))
    found = [Rig(tmp_path / name, vm=name, repo=str(tmp_path / "repo")) for name in ("web1", "web2")]
    for number, rig in enumerate(found):
        rig.home.mkdir()
        rig.disk.write_bytes(random.Random(number).randbytes(MIB))
        rig.sync()
    return found


def run(rigs: list[Rig], slot: str) -> subprocess.CompletedProcess[str]:
    pairs = [f"{rig.vm}={rig.disk}" for rig in rigs]
    words = [sys.executable, SCRIPT, rigs[0].repo, slot, *pairs]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def points(rigs: list[Rig]) -> list[tuple[str, int, str | None]]:
    listed: Outcome = command("points", "--repo", rigs[0].repo)
    return [(one["vm"], one["sequence"], one.get("request_id")) for one in listed.all("point")]


def test_each_slot_makes_one_point_of_each(rigs: list[Rig]) -> None:
    first = run(rigs, "03:15")
    assert (first.returncode, first.stderr) == (0, "")
    again = run(rigs, "03:15")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert run(rigs, "03:30").returncode == 0
    assert points(rigs) == [
        (vm, sequence, request)
        for vm in ("web1", "web2")
        for sequence, request in ((1, None), (2, "sync_many 03:15"), (3, "sync_many 03:30"))
    ]


def test_what_wants_a_person_is_said_and_stops_no_other(rigs: list[Rig]) -> None:
    rigs[0].disk.write_bytes(b"")
    done = run(rigs, "03:15")
    assert done.returncode == 3 and "web1: " in done.stderr and "again in" not in done.stderr
    assert "web2: restore point 2-" in done.stdout
    assert [vm for vm, sequence, _ in points(rigs) if sequence == 2] == ["web2"]


def test_what_may_help_is_tried_again(rigs: list[Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost answer: the run that was tried again finds the point."""
    spec = importlib.util.spec_from_file_location("sync_many", SCRIPT)
    assert spec and spec.loader
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "PAUSES_S", (0.0, 0.0))
    run_one, lost = warmspare.Engine.run, [2]

    async def losing(self: warmspare.Engine, request: Any, *more: Any) -> Any:
        end = await run_one(self, request, *more)
        if lost[0]:
            lost[0] -= 1
            raise warmspare.StoreError("the connection broke", retryable=True)
        return end

    monkeypatch.setattr(warmspare.Engine, "run", losing)
    assert asyncio.run(script.main(rigs[0].repo, "03:15", f"web1={rigs[0].disk}")) == 0
    assert points(rigs)[:2] == [("web1", 1, None), ("web1", 2, "sync_many 03:15")] and len(points(rigs)) == 3
    lost[0] = 9
    assert asyncio.run(script.main(rigs[0].repo, "03:30", f"web1={rigs[0].disk}")) == 4
    assert lost[0] == 6


def test_a_type_checker_takes_it() -> None:
    """As it takes a user's: names of `import warmspare` have types, and are told to be exported."""
    words = [sys.executable, "-m", "mypy", "--strict", SCRIPT]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
