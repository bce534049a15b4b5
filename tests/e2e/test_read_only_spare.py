"""A spare on a medium that nothing can be written to: a snapshot of its file system, a disk with its switch on, a mount
at another host. It can be checked, audited and drilled; evidence, reports and notes go to the state directory."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import MIB, Outcome, Rig, command, flip_in_place, random_disk
from rigs.host import media
from warmspare.state.local_files import locked


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this host's state is."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg"


@pytest.fixture
def rig(tmp_path: Path, home: Path) -> Rig:
    """A small disk that boots from nothing, which a drill finds out at once."""
    rig = Rig(tmp_path)
    random_disk(rig.disk, 4 * MIB, random.Random(1))
    with rig.disk.open("r+b") as file:
        file.write(bytes(512))
    rig.sync()
    return rig


@pytest.fixture
def spare(rig: Rig, tmp_path: Path) -> Iterator[Path]:
    """A replica on a file system of its own, which is read-only by now."""
    with media.ext4(tmp_path / "spare", 32 * MIB) as place:
        rig.apply(to=place / "replica.raw")
        yield place / "replica.raw"


def now_read_only(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    with pytest.raises(OSError, match="Read-only"):
        (place / "probe").touch()


def of(rig: Rig, replica: Path, *words: str, more: tuple[object, ...] = (), code: int) -> Outcome:
    outcome = command(*words, "--vm", rig.vm, "--replica", replica, *more)
    assert outcome.code == code, outcome
    return outcome


def demand_all(rig: Rig, replica: Path, home: Path, *state: object) -> None:
    """Check, audit and drill work, twice."""
    for _ in range(2):
        checked = of(rig, replica, "recover", "check", more=state, code=5)  # no system that could start
        assert checked.last("check.done")["point"] == f"1-{rig_point(rig)}"
        audited = of(rig, replica, "audit", "replica", more=("--repo", rig.repo, *state), code=0)
        assert audited.last("audit.done")["coverage_percent"] == 100
        assert Path(audited.last("audit.done")["report"]).is_relative_to(home)
    drilled = of(rig, replica, "drill", more=("--timeout", 60, "--hash", "--memory", 256, *state), code=5)
    done = drilled.last("drill.done")
    assert done["untouched"] and not done["passed"] and Path(done["evidence"]).is_relative_to(home)
    assert (Path(done["evidence"]) / "verdict.json").exists()


def rig_point(rig: Rig) -> str:
    listed = command("points", "--repo", rig.repo).last("point")
    return str(listed["point"]).partition("-")[2]


def test_it_is_checked_audited_and_drilled(rig: Rig, spare: Path, home: Path) -> None:
    now_read_only(spare.parent)
    demand_all(rig, spare, home)


def test_a_copy_without_its_locks_is_too(rig: Rig, spare: Path, home: Path) -> None:
    """As a backup brings it back."""
    for name in ("lock", "still"):
        (spare.parent / "replica.raw.warmspare" / name).unlink()
    now_read_only(spare.parent)
    of(rig, spare, "recover", "check", code=5)
    of(rig, spare, "audit", "replica", more=("--repo", rig.repo), code=0)


def test_damage_on_it_is_found_and_can_not_be_repaired(rig: Rig, spare: Path) -> None:
    flip_in_place(spare, 2 * MIB)
    now_read_only(spare.parent)
    found = of(rig, spare, "audit", "replica", more=("--repo", rig.repo), code=5)
    assert found.last("audit.done")["findings"] == 1
    refused = of(rig, spare, "audit", "replica", more=("--repo", rig.repo, "--repair"), code=4)
    assert "Read-only file system" in refused.stderr and "mount it writable" in refused.stderr
    behind = rig.apply(to=spare, code=4)
    assert "Read-only file system" in behind.stderr


def test_who_moves_it_from_elsewhere_is_noticed(rig: Rig) -> None:
    """It is read-only here, and an apply at its other mount may move it: the lock is the same file's."""
    place = rig.home / "there"
    place.mkdir()
    rig.apply(to=place / "replica.raw")
    here = rig.home / "here"
    here.mkdir()
    with contextlib.ExitStack() as stack:
        stack.enter_context(media.bound(place, here))
        stack.enter_context(media.read_only(here))
        of(rig, here / "replica.raw", "recover", "check", code=5)
        with locked(place / "replica.raw.warmspare" / "still", "the replica's state") as mine:
            assert mine
            refused = of(rig, here / "replica.raw", "recover", "check", code=6)
            assert "an apply is moving this replica" in refused.stderr


def test_a_device_that_is_read_only(rig: Rig, home: Path, tmp_path: Path) -> None:
    backing = tmp_path / "backing"
    with backing.open("wb") as file:
        file.truncate(4 * MIB)
    state = tmp_path / "device-state"
    with media.device(backing) as path:
        rig.apply("--state", state, "--initialize", to=path)
        subprocess.run(["blockdev", "--setro", path], check=True)
        with media.read_only(tmp_path / "device-state"):
            of(rig, path, "recover", "check", more=("--state", state), code=5)
            of(rig, path, "audit", "replica", more=("--repo", rig.repo, "--state", state), code=0)
            drilled = of(rig, path, "drill", more=("--timeout", 60, "--memory", 256, "--state", state), code=5)
            assert drilled.last("drill.done")["untouched"] and "verdict" not in drilled.stderr
        subprocess.run(["blockdev", "--setrw", path], check=True)


def test_a_repository_that_is_read_only_is_read(rig: Rig, tmp_path: Path, home: Path) -> None:
    """The disk that a seed came on, say: whatever only reads needs to write nothing there."""
    with media.read_only(Path(rig.repo)):
        rig.apply()
        assert command("points", "--repo", rig.repo).last("points.done")["count"] == 1
        assert command("audit", "repository", "--repo", rig.repo, "--deep").code == 0
        copied = command("copy", "--from", rig.repo, "--to", tmp_path / "copy")
        assert copied.code == 2 and "init" in copied.stderr
        assert command("init", tmp_path / "copy").code == 0
        assert command("copy", "--from", rig.repo, "--to", tmp_path / "copy").code == 0
        refused = rig.sync(code=4)
        assert "read-only" in refused.stderr
    shutil.rmtree(tmp_path / "copy")
