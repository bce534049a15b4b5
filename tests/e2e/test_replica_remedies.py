"""What is said of a replica that can't be looked into is done as it is said, and it is looked into."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from rig import KIB, Outcome, Rig, command
from suite.remedies import obey, remedy
from warmspare.model.ids import PointId
from warmspare.observe.events import Events
from warmspare.state.local_files import locked, read_record, write_record
from warmspare.state.replica_record import STATE, ReplicaRecord

SIZE = 512 * KIB


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A disk of noise, protected, with a replica."""
    rig = Rig(tmp_path)
    rig.disk.write_bytes(os.urandom(SIZE))
    rig.sync()
    rig.apply()
    return rig


def check(rig: Rig, *more: object, replica: Path | None = None, vm: str = "") -> Outcome:
    return command("recover", "check", "--vm", vm or rig.vm, "--replica", replica or rig.replica, *more)


def hint_of(outcome: Outcome) -> str:
    """What to do about a replica that was not looked into."""
    error = outcome.last("error")
    assert error["kind"] != "boot", error
    return str(error["hint"])


def demand_looked_into(outcome: Outcome) -> None:
    """Noise starts nowhere."""
    assert outcome.code == 5 and outcome.last("error")["kind"] == "boot", outcome


def record_of(rig: Rig) -> tuple[Path, ReplicaRecord]:
    path = rig.home / "replica.raw.warmspare/replica.json"
    found = read_record(path, ReplicaRecord, STATE, Events())
    assert found is not None
    return path, found


@remedy("correct --replica")
def test_there_is_none(rig: Rig) -> None:
    hint_of(check(rig, replica=rig.home / "replica.rw"))
    demand_looked_into(check(rig))


@remedy("make one with `warmspare apply --vm VM --repo URI --to {…}`, or give its --state")
@pytest.mark.parametrize("which", ["made", "state"])
def test_a_file_that_is_no_replica(rig: Rig, which: str) -> None:
    spare = rig.home / "spare.raw"
    if which == "state":
        rig.apply("--state", rig.home / "kept", to=spare)
    hint = hint_of(check(rig, replica=spare if which == "state" else rig.disk))
    if which == "state":
        demand_looked_into(check(rig, "--state", rig.home / "kept", replica=spare))
    else:
        filled = hint.replace("--vm VM", f"--vm {rig.vm}").replace("--repo URI", f"--repo {rig.repo}")
        obey(filled.replace(str(rig.disk), str(spare)))  # the disk itself is not to be overwritten
        demand_looked_into(check(rig, replica=spare))


@remedy("wait for it to end, and run this again")
def test_one_that_is_moving(rig: Rig) -> None:
    with locked(rig.home / "replica.raw.warmspare/still", "a test") as mine:
        assert mine
        hint_of(check(rig))
    demand_looked_into(check(rig))


@remedy("remove the replica and its state, and make it anew with `warmspare apply --vm VM --repo URI --to {…}`")
def test_a_state_that_is_damaged(rig: Rig) -> None:
    path, _ = record_of(rig)
    path.write_bytes(b"nonsense")
    hint = hint_of(check(rig))
    rig.replica.unlink()
    shutil.rmtree(path.parent)
    obey(hint.replace("--vm VM", f"--vm {rig.vm}").replace("--repo URI", f"--repo {rig.repo}"))
    demand_looked_into(check(rig))


@remedy("run {…}: it goes on")
def test_one_between_two_points(rig: Rig) -> None:
    path, record = record_of(rig)
    rig.disk.write_bytes(os.urandom(SIZE))
    rig.sync()
    sha256 = hashlib.sha256(rig.point_path(2).read_bytes()).hexdigest()
    write_record(path, msgspec.structs.replace(record, moving=PointId(2, sha256)), STATE)
    obey(hint_of(check(rig)))
    demand_looked_into(check(rig))


@remedy("run {…}: it tries to heal them")
def test_blocks_that_are_known_to_be_damaged(rig: Rig) -> None:
    path, record = record_of(rig)
    disks = [msgspec.structs.replace(disk, damaged=[(0, 1)]) for disk in record.disks]
    write_record(path, msgspec.structs.replace(record, disks=disks), STATE)
    obey(hint_of(check(rig)))
    demand_looked_into(check(rig))


@remedy("run {…} to heal it")
def test_a_file_that_is_too_short(rig: Rig) -> None:
    os.truncate(rig.replica, SIZE - 4096)
    obey(hint_of(check(rig)), code=5)  # it finds what is missing, and puts it there
    demand_looked_into(check(rig))


@remedy("give that as --repo, or none")
@pytest.mark.parametrize("which", ["that", "none"])
def test_another_repository(rig: Rig, which: str) -> None:
    other = rig.home / "other"
    assert command("init", other).code == 0
    hint_of(check(rig, "--repo", other))
    demand_looked_into(check(rig, *(["--repo", rig.repo] if which == "that" else [])))


@remedy("correct --vm or --replica")
def test_another_vm(rig: Rig) -> None:
    hint_of(check(rig, vm="another"))
    demand_looked_into(check(rig))


@remedy("run where FUSE may be used, or apply a replica and give --replica")
def test_a_host_without_fuse(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(rig.home / "replica.raw.warmspare")
    rig.replica.unlink()
    tools = tmp_path / "tools"
    tools.mkdir()
    helper = tools / "fusermount3"
    helper.write_text("#!/bin/sh\nexit 1\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    hint_of(command("recover", "check", "--vm", rig.vm, "--repo", rig.repo))
    rig.apply()
    demand_looked_into(check(rig))
