"""File systems that are really full, under what is to make room and under what is to come home: a prune removes all the
same, and an export goes on when there is room."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.test_prune import DAY_S, age, another_at_work, orphans
from rig import KIB, MIB, Outcome, Rig, command, random_disk, same
from rigs.host.media import ext4, fill, free_bytes, tmpfs
from warmspare.model.keyparts import encode_name
from warmspare.store import layout
from warmspare.store.lease import Holder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return tmp_path


def fill_names(place: Path) -> Path:
    """No file more can be made there."""
    folder = place / "names"
    with contextlib.suppress(OSError):
        folder.mkdir()
        for number in range(10_000):
            (folder / str(number)).touch()
    with pytest.raises(OSError, match="No space left"):
        (place / "one more").touch()
    return folder


@pytest.fixture(params=["bytes", "names"])
def full(home: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A repository on a file system of its own that has no room any more, with what a dead run has left there."""
    many = request.param == "names"
    with tmpfs(home / "m", "size=64m,nr_inodes=150") if many else ext4(home / "m", 32 * MIB) as place:
        rig = Rig(home, repo=str(place / "repo"))
        random_disk(rig.disk, 2 * MIB, random.Random(1))
        rig.sync()
        age(Path(rig.repo), 10 * DAY_S)
        for key in orphans(rig, 11):
            path = Path(rig.repo) / key
            path.write_bytes(bytes(MIB))
            os.utime(path, (time.time() - 11 * DAY_S,) * 2)
        (fill_names if many else fill)(place)
        yield rig


def prune(rig: Rig, *more: object, code: int = 0) -> Outcome:
    done = command("prune", "--repo", rig.repo, *more)
    assert done.code == code, done
    return done


def test_a_prune_makes_room(full: Rig) -> None:
    with full.disk.open("r+b") as file:
        file.write(random.Random(3).randbytes(64 * KIB))
    assert "no space is left" in full.sync(code=4).stderr
    assert len(prune(full).all("prune.object")) == 4
    done = prune(full, "--yes").last("prune.done")
    assert (done["objects"], done["bytes"], done["objects_left"]) == (4, 4 * MIB, 0)
    (Path(full.repo).parent / "room").write_bytes(bytes(MIB))
    for path in (Path(full.repo).parent / "names").glob("?"):  # a sync wants a few more than it has made
        path.unlink()
    full.sync()
    full.apply()
    assert same(full.disk, full.replica)


@pytest.fixture
def small(home: Path) -> Iterator[tuple[Rig, set[str], Path]]:
    """A repository on a small file system, the keys of what a dead run has left there, and where that is mounted."""
    with ext4(home / "m", 32 * MIB) as place:
        rig = Rig(home, repo=str(place / "repo"))
        random_disk(rig.disk, MIB, random.Random(1))
        rig.sync()
        age(Path(rig.repo), 10 * DAY_S)
        yield rig, orphans(rig, 11), place


def test_a_prune_without_room_beside_a_sender(small: tuple[Rig, set[str], Path]) -> None:
    """Nothing is removed while another holds the lease, and all is once it was held elsewhere and ran out."""
    rig, left, place = small
    with another_at_work(rig):
        filler = fill(place)
        assert "holds the lease" in prune(rig, "--yes", code=6).stderr and left <= rig.snapshot().keys()
        filler.unlink()
    lease = Path(rig.repo) / layout.lease_key(encode_name(rig.vm))
    there = Holder.decode(lease.read_bytes())
    assert there
    lease.write_bytes(Holder("t", "elsewhere", "b", "n", 7, 1, 60.0).encode())
    fill(place)
    assert "elsewhere holds the lease" in prune(rig, "--yes", code=6).stderr
    os.utime(lease, (time.time() - 90,) * 2)
    assert prune(rig, "--yes").last("prune.done")["objects"] == len(left)


def test_a_prune_without_room_for_itself(
    small: tuple[Rig, set[str], Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own working files find none: it says what to do, and that helps."""
    rig, left, place = small
    fill(place)
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "xdg"))
    assert "let XDG_STATE_HOME name a directory on a file system that has" in prune(rig, "--yes", code=4).stderr
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "xdg"))
    assert prune(rig, "--yes").last("prune.done")["objects"] == len(left)


# the way home


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    rig = Rig(tmp_path_factory.mktemp("replica"))
    rig.disk.write_bytes(random.Random(1).randbytes(4 * MIB))
    rig.sync()
    rig.apply()
    return rig


@pytest.fixture
def spare(replica: Rig, home: Path) -> Rig:
    """A replica, and a directory for this test."""
    return replace(replica, home=home)


def replica_of(rig: Rig) -> Path:
    return Path(rig.repo).parent / "replica.raw"


def export(rig: Rig, to: Path, form: str, code: int = 0) -> Outcome:
    done = command(
        "failback-export",
        "--vm",
        rig.vm,
        "--repo",
        rig.repo,
        "--only-replica",
        "--replica",
        replica_of(rig),
        "--to",
        to,
        "--format",
        form,
    )
    assert done.code == code, done
    return done


def demand_exported(rig: Rig, file: Path) -> None:
    raw = file
    if file.suffix == ".vmdk":
        raw = rig.home / "back"
        subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", file, raw], check=True)
    assert same(replica_of(rig), raw)


# Room for a part of the raw disk; for that and a part of the VMDK.
@pytest.mark.parametrize(("form", "left"), [("raw", MIB), ("vmdk", MIB), ("vmdk", 5 * MIB)])
def test_an_export_that_finds_no_room_goes_on_when_there_is(spare: Rig, form: str, left: int) -> None:
    with ext4(spare.home / "m", 48 * MIB) as place:
        to = place / "out"
        filler = fill(place, left_bytes=left)
        refused = export(spare, to, form, code=4)
        assert ("no space is left for the VMDK" if left > 4 * MIB else "No space left on device") in refused.stderr
        assert not [path for path in to.iterdir() if not path.name.endswith(".part")], "nothing passes for a disk"
        filler.unlink()
        filler = fill(place, left_bytes=free_bytes(place) - left + 8 * MIB)  # what it left is in nobody's way
        export(spare, to, form)
        assert [path.name for path in to.iterdir()] == [f"disk.raw.{form}"]
        demand_exported(spare, to / f"disk.raw.{form}")


@pytest.mark.parametrize("kind", ["file", "link", "FIFO", "directory"])
def test_an_export_takes_the_place_of_no_file_of_the_users(spare: Rig, kind: str) -> None:
    to = spare.home / "out"
    to.mkdir()
    victim = spare.home / "victim"
    victim.write_text("mine")
    make: dict[str, Callable[[Path], object]] = {
        "file": lambda path: path.write_text("mine"),
        "link": lambda path: path.symlink_to(victim),
        "FIFO": os.mkfifo,
        "directory": Path.mkdir,
    }
    for form, name in (
        ("raw", "disk.raw.raw"),
        ("raw", "disk.raw.raw.part"),
        ("raw", "disk.raw.raw.part.sums"),
        ("vmdk", "disk.raw.vmdk"),
        ("vmdk", "disk.raw.vmdk.part"),
        ("vmdk", "disk.raw.raw.part"),
    ):
        path = to / name
        make[kind](path)
        refused = export(spare, to, form, code=2)
        assert f"stands where this is to be written ({path})" in refused.stderr
        assert [one.name for one in to.iterdir()] == [name] and victim.read_text() == "mine"
        assert kind != "file" or path.read_text() == "mine"
        path.rmdir() if kind == "directory" else path.unlink()
    export(spare, to, "raw")
    export(spare, to, "raw")  # its own, it replaces
    demand_exported(spare, to / "disk.raw.raw")
