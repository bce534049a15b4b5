"""Disks that really give errors: a loop device whose file is cut short does where the file has ended."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import KIB, MIB, Outcome, Rig, command, python
from rigs.host import media, wrongclock
from rigs.host.hearing import all_heard

SIZE = 4 * MIB
BAD = 3 * MIB  # and all behind it
DAY_S = 86400


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(SIZE))
    return rig


@pytest.fixture
def source(rig: Rig) -> Iterator[Path]:
    """A device with the disk's bytes."""
    backing = rig.home / "backing"
    backing.write_bytes(rig.disk.read_bytes())
    with media.device(backing) as path:
        yield path


def test_a_source_with_bad_sectors(rig: Rig, source: Path) -> None:
    """Nothing is published."""
    media.break_from(source, rig.home / "backing", BAD)
    failed = rig.sync(disks=[f"disk={source}"], code=3)
    assert str(source) in failed.stderr and "nput/output error" in failed.stderr
    assert not rig.objects("points")


def test_bad_sectors_that_only_the_rolling_audit_reads(rig: Rig, source: Path, tmp_path: Path) -> None:
    """A day later, so that its share is all of the disk: what changed is protected all the same."""
    rig.sync("--audit-period", "1d", disks=[f"disk={source}"])
    with source.open("r+b", buffering=0) as file:
        file.write(bytes(4 * KIB))
    media.break_from(source, rig.home / "backing", BAD)
    changed = tmp_path / "changed"
    changed.write_text("0 4096\n")
    words = [
        "sync",
        f"disk={source}",
        "--vm",
        rig.vm,
        "--repo",
        rig.repo,
        "--state",
        rig.state,
        "--extents",
        changed,
        "--audit-period",
        "1d",
        "--json",
    ]
    env = wrongclock.environment(wrongclock.build(tmp_path), DAY_S)
    ran = subprocess.run([python(), "-m", "warmspare", *map(str, words)], capture_output=True, text=True, env=env)
    done = Outcome(ran.returncode, all_heard(ran.stdout), ran.stderr)
    assert done.code == 0 and done.last("sync.done")["point"].startswith("2-"), done
    assert any("nput/output error" in event["message"] for event in done.all("source.warning")), done.events
    rig.apply()
    assert rig.replica.read_bytes() == bytes(4 * KIB) + rig.disk.read_bytes()[4 * KIB :]


def test_a_replica_with_bad_sectors(rig: Rig, tmp_path: Path) -> None:
    """Its blocks there are named, all others are judged; and what can't be read can't be drilled or moved."""
    rig.sync()
    backing, state = tmp_path / "spare", tmp_path / "spare-state"
    with backing.open("wb") as file:
        file.truncate(SIZE)
    with media.device(backing) as path:
        rig.apply("--state", state, "--initialize", to=path)
        media.break_from(path, backing, BAD)
        audited = command("audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", path, "--state", state)
        assert audited.code == 5
        found = {
            event["blocks"] if "blocks" in event else event["offset"] // (64 * KIB)
            for event in audited.all("finding")
            if event["kind"] == "block-unreadable"
        }
        assert len(found) == (SIZE - BAD) // (64 * KIB) == len(audited.all("finding")), audited.events
