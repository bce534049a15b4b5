"""Bad input and bad surroundings: one clear sentence, the documented exit code, and nothing damaged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import (
    KIB,
    MIB,
    Outcome,
    Rig,
    command,
    data_places,
    fingerprint,
    flip_in_place,
    random_disk,
    same,
    scribble,
)
from rigs.host.media import read_only, tmpfs
from rigs.host.nobody import as_nobody
from warmspare.source.raw import RawSource


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A disk with one restore point and a replica of it."""
    rig = Rig(tmp_path)
    random_disk(rig.disk, 4 * MIB + 5000, random.Random(1))
    rig.sync()
    rig.apply()
    return rig


@contextlib.contextmanager
def untouched(rig: Rig) -> Iterator[None]:
    """Repository and replica keep every byte, and afterwards a good run works."""
    repository, replica = rig.snapshot(), rig.replica.read_bytes()
    yield
    assert rig.snapshot() == repository
    assert rig.replica.read_bytes() == replica
    scribble(rig.disk, random.Random(2))
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)


def error(outcome: Outcome) -> str:
    return str(outcome.last("error")["message"])


CAPACITY = 4 * MIB + 5000
BAD_EXTENTS = {
    "beyond the disk": (f"0 4096\n{CAPACITY - 10} 11\n", "line 2"),
    "far beyond": ("99999999999999999999999999 1\n", "line 1"),
    "negative offset": ("-4096 4096\n", "negative"),
    "negative length": ("4096 -1\n", "negative"),
    "overlapping": ("0 8192\n4096 4096\n", "overlap"),
    "unsorted": ("65536 4096\n0 4096\n", "out of order"),
    "garbage": ("0 4096\nhello world\n", "line 2"),
    "one column": ("4096\n", "line 1"),
    "three columns": ("1 2 3\n", "line 1"),
    "fractions": ("0.5 4096\n", "line 1"),
    "heading in the middle": ("0 4096\nOffset Length\n", "line 2"),
}


@pytest.mark.parametrize("name", list(BAD_EXTENTS))
def test_bad_extents(rig: Rig, name: str) -> None:
    text, said = BAD_EXTENTS[name]
    file = rig.home / "extents"
    file.write_text(text)
    with untouched(rig):
        outcome = rig.sync("--extents", file, code=2)
        assert said in error(outcome) and str(file) in error(outcome)


def test_extents_that_are_no_text_or_not_there(rig: Rig) -> None:
    file = rig.home / "extents"
    file.write_bytes(random.Random(3).randbytes(500))
    with untouched(rig):
        rig.sync("--extents", file, code=2)
        rig.sync("--extents", rig.home / "nowhere", code=2)
        rig.sync("--extents", rig.home, code=2)
        rig.sync("--extents", file, "--extents", file, code=2)


def test_the_table_that_powercli_prints_is_good(rig: Rig) -> None:
    file = rig.home / "extents"
    file.write_text("\r\nOffset   Length\r\n------   ------\r\n     0    65536\r\n131072    65536\r\n\r\n")
    assert rig.sync("--extents", file).last("sync.done")["bytes_read"] == 131072


def test_a_source_that_shrank(rig: Rig) -> None:
    kept = rig.disk.read_bytes()
    os.truncate(rig.disk, 3 * MIB)
    repository = rig.snapshot()
    assert "shrank" in error(rig.sync(code=3))
    assert rig.snapshot() == repository
    rig.disk.write_bytes(kept)
    rig.sync()


def meddle(monkeypatch: pytest.MonkeyPatch, act: object) -> None:
    """Have `act` done once, in the middle of reading."""
    original, calls = RawSource._fill, []

    def fill(self: RawSource, batch: object, buffer: bytearray) -> object:
        done = original(self, batch, buffer)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 2:
            act()  # type: ignore[operator]
        return done

    monkeypatch.setattr(RawSource, "_fill", fill)


def test_a_source_that_changes_mid_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    rng = random.Random(4)
    rig.disk.write_bytes(rng.randbytes(40 * MIB))
    rig.sync()
    before = rig.snapshot()
    spare = tmp_path / "spare"

    def write() -> None:
        with rig.disk.open("r+b") as file:
            file.seek(100)
            file.write(b"written during the sync")

    cases = {
        "written to": write,
        "bytes during the sync": lambda: os.truncate(rig.disk, 41 * MIB),
        "vanished": lambda: rig.disk.rename(spare),
        "replaced": lambda: shutil.copy(rig.disk, spare) and spare.replace(rig.disk),
        "ends at offset": lambda: os.truncate(rig.disk, 30 * MIB),
    }
    for said, act in cases.items():
        rig.disk.write_bytes(rng.randbytes(40 * MIB))
        with monkeypatch.context() as patch:
            meddle(patch, act)
            outcome = rig.sync(code=3)
        assert said in error(outcome), outcome
        points = {name for name in rig.snapshot() if "/points/" in name}
        assert points == {name for name in before if "/points/" in name}, "something was published"
    rig.disk.write_bytes(rng.randbytes(40 * MIB))
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    referenced = {d.manifest.key for n in (1, 2) for d in rig.point(n).disks}
    assert {str(p.relative_to(rig.repo)) for p in rig.objects("manifests")} == referenced, "dead runs left objects"
    assert len({p.parent for p in rig.objects("packs")}) == 2


def test_sources_that_are_none(rig: Rig) -> None:
    (rig.home / "empty").write_bytes(b"")
    os.mkfifo(rig.home / "fifo")
    # a fifo without a writer would block an open that is not careful
    opener = threading.Timer(5, lambda: os.close(os.open(rig.home / "fifo", os.O_RDWR | os.O_NONBLOCK)))
    opener.start()
    with untouched(rig):
        rig.sync(disks=[rig.home / "nowhere"], code=3)
        rig.sync(disks=[rig.home], code=3)
        rig.sync(disks=[rig.home / "empty"], code=3)
        rig.sync(disks=[rig.home / "fifo"], code=3)
    opener.cancel()


def test_vm_names(tmp_path: Path) -> None:
    rng = random.Random(5)
    names = ["a/b/../c", "två  servrar ", "日本語", ".hidden", "x" * 300, "a=b", "%2F", "C:\\vm", "a", "A"]
    rigs = []
    for number, name in enumerate(names):
        (tmp_path / str(number)).mkdir()
        rig = Rig(tmp_path / str(number), vm=name, repo=str(tmp_path / "repo"))
        random_disk(rig.disk, MIB, rng)
        rig.sync()
        rigs.append(rig)
    for rig in rigs:
        rig.apply()
        assert same(rig.disk, rig.replica)
    listed = command("points", "--repo", tmp_path / "repo")
    assert sorted(e["vm"] for e in listed.all("point")) == sorted(names)
    for bad in ("", "tab\there", "nul\0", "new\nline"):
        assert command("sync", rigs[0].disk, "--vm", bad, "--repo", tmp_path / "repo").code == 2


def test_usage(rig: Rig) -> None:
    with untouched(rig):
        for arguments in (
            ["sync"],
            ["sync", rig.disk],
            ["sync", rig.disk, "--vm", "v"],
            ["bogus"],
            ["apply", "--vm", "v"],
            ["sync", rig.disk, "--vm", "v", "--repo", "ftp://x/y"],
            ["points"],
            ["points", "--repo", "s3://"],
            ["sync", rig.disk, "--vm", "v", "--repo", rig.repo, "--level", "0"],
            ["sync", rig.disk, "--vm", "v", "--repo", rig.repo, "--unknown"],
            ["apply", "--vm", "v", "--repo", rig.repo, "--to", rig.home / "x", "--follow", "--at", "1"],
            ["points", "--repo", rig.home / "nothing here"],
            ["points", "--repo", rig.repo, "--vm", "nobody"],
        ):
            assert command(*arguments).code == 2, arguments


def test_credentials_in_urls_are_refused_and_never_repeated(rig: Rig) -> None:
    for arguments in (
        ["--repo", "s3://AKIA:hunter2@bucket/x"],
        ["--repo", "s3://bucket/x", "--endpoint-url", "http://user:hunter2@127.0.0.1:1"],
    ):
        outcome = command("sync", rig.disk, "--vm", "v", *arguments)
        assert outcome.code == 2
        assert "hunter2" not in str(outcome)


def test_targets_that_are_not_ours(rig: Rig) -> None:
    stranger = rig.home / "stranger.raw"
    stranger.write_bytes(b"somebody's only copy")
    with untouched(rig):
        assert str(stranger) in error(rig.apply(to=stranger, code=2))
        assert stranger.read_bytes() == b"somebody's only copy"
        assert not Path(f"{stranger}.warmspare").exists()
        folder = rig.home / "folder"
        folder.mkdir()
        (folder / "disk.raw").write_bytes(b"x")
        rig.apply(to=folder, code=2)
        (folder / "disk.raw").unlink()
        (folder / "lost+found").mkdir()
        rig.apply(to=folder)  # other things may lie there
        assert same(rig.disk, folder / "disk.raw")
        rig.apply(to=rig.home / "no" / "such" / "place", code=2)
        other = Rig(rig.home, vm="other", repo=rig.repo)
        other.sync(state=rig.home / "other-state")
        assert "vm" in error(other.apply(code=2))
        shutil.rmtree(other.root)


def test_a_replica_whose_state_is_damaged_or_gone(rig: Rig) -> None:
    record = Path(f"{rig.replica}.warmspare") / "replica.json"
    good, bytes_before = record.read_bytes(), rig.replica.read_bytes()
    for bad in (b"", good[:-20], good.replace(b'"vm"', b'"wm"', 1), good[20:]):
        assert bad != good
        record.write_bytes(bad)
        rig.apply(code=2)
    shutil.rmtree(record.parent)
    rig.apply(code=2)
    assert rig.replica.read_bytes() == bytes_before
    rig.replica.unlink()
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_replica_file_that_vanished_or_shrank(rig: Rig) -> None:
    kept = rig.replica.read_bytes()
    scribble(rig.disk, random.Random(6))
    rig.sync()
    rig.replica.unlink()
    assert "gone" in error(rig.apply(code=5))
    rig.replica.write_bytes(kept[: 2 * MIB])
    assert "bytes and had" in error(rig.apply(code=5))
    rig.replica.write_bytes(kept)
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_an_older_point_than_the_replica_has(rig: Rig) -> None:
    scribble(rig.disk, random.Random(7))
    rig.sync()
    rig.apply()
    with untouched(rig):
        assert "only goes forward" in error(rig.apply("--at", "1", code=2))
        rig.apply("--at", "7", code=2)
        rig.apply("--at", "first", code=2)
        rig.apply("--at", "1-00000000", to=rig.home / "other.raw", code=2)
    label = rig.apply("--at", "1", to=rig.home / "other.raw").last("apply.done")["point"]
    rig.apply("--at", label, to=rig.home / "again.raw")


@pytest.fixture
def open_rig() -> Iterator[Rig]:
    """As `rig`, in a place that any user can reach."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="warmspare-test-") as home:
        Path(home).chmod(0o755)
        rig = Rig(Path(home))
        random_disk(rig.disk, 2 * MIB, random.Random(1))
        rig.sync()
        rig.apply()
        rig.disk.chmod(0o644)
        yield rig


def test_unreadable_and_read_only_places(open_rig: Rig) -> None:
    rig = open_rig
    state = rig.home / "their-state"
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    with untouched(rig):
        arguments = ["sync", rig.disk, "--vm", "vm", "--repo", rig.repo, "--state", state]
        denied = as_nobody(*arguments)  # not even readable: the repository is its owner's alone
        assert denied.code == 4 and rig.repo in denied.stderr
        for path in [Path(rig.repo), *Path(rig.repo).rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        read_only = as_nobody(*arguments)
        assert read_only.code == 4 and "ermission" in read_only.stderr
        no_state = as_nobody(*arguments[:-1], rig.home / "not-theirs")
        assert no_state.code == 4 and "not-theirs" in no_state.stderr
        no_target = as_nobody("apply", "--vm", "vm", "--repo", rig.repo, "--to", rig.home / "theirs.raw")
        assert no_target.code == 4 and "theirs.raw" in no_target.stderr
        rig.disk.chmod(0o600)
        no_disk = as_nobody(*arguments)
        assert no_disk.code == 3
        listed = as_nobody("points", "--repo", rig.repo)
        assert listed.code == 0 and len(listed.all("point")) == 1  # reading needs no more than reading


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB that really fills up."""
    with tmpfs(tmp_path / "small", "size=12m") as place:
        yield place


def test_disk_full_at_the_receiver(tmp_path: Path, small: Path) -> None:
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(8).randbytes(14 * MIB))
    rig.sync()
    target = small / "replica.raw"
    full = rig.apply(to=target, code=4)
    assert "No space left" in error(full) and "small" in error(full)
    subprocess.run(["mount", "-o", "remount,size=40m", small], check=True)
    rig.apply(to=target)
    assert same(rig.disk, target)


def test_disk_full_in_the_state_directory(tmp_path: Path, small: Path) -> None:
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(9).randbytes(9 * MIB))
    filler = small / "filler"
    free = os.statvfs(small)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - 12 * KIB))
    full = rig.sync(code=4, state=small / "state")
    assert "No space left" in error(full) and "free some space" in error(full)
    assert not Path(rig.repo, "vms").exists() or not rig.objects("points")
    filler.unlink()
    rig.sync(state=small / "state")
    filler.write_bytes(bytes(os.statvfs(small).f_bavail * os.statvfs(small).f_frsize - 4 * KIB))
    scribble(rig.disk, random.Random(10), pieces=60)
    rig.sync(code=4, state=small / "state")
    filler.unlink()
    rig.sync(state=small / "state")
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_state_directory_that_is_read_only(rig: Rig) -> None:
    scribble(rig.disk, random.Random(3))
    before = rig.snapshot()
    with read_only(rig.state):
        refused = error(rig.sync(code=4))
        assert "Read-only file system" in refused and "mount it writable" in refused and str(rig.state) in refused
    assert rig.snapshot() == before
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_replica_that_is_read_only_is_not_moved(rig: Rig) -> None:
    scribble(rig.disk, random.Random(3))
    rig.sync()
    before = rig.replica.read_bytes()
    with read_only(rig.home):
        assert "Read-only file system" in error(rig.apply(code=4))
    assert rig.replica.read_bytes() == before
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_disk_full_in_the_repository(tmp_path: Path, small: Path) -> None:
    rig = Rig(tmp_path, repo=str(small / "repo"))
    rig.disk.write_bytes(random.Random(11).randbytes(14 * MIB))
    full = rig.sync(code=4)
    assert "no space is left" in error(full)
    assert not rig.objects("points")
    subprocess.run(["mount", "-o", "remount,size=40m", small], check=True)
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert not [p for p in Path(rig.repo).rglob("*") if p.is_file() and ".tmp~" in p.parts and p.name != "lock"]


def test_lost_and_damaged_local_state_costs_bytes_only(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rng = random.Random(12)
    random_disk(rig.disk, 6 * MIB, rng, pieces=60)
    rig.sync()
    scribble(rig.disk, rng)
    rig.sync()
    files = sorted(p.relative_to(rig.state) for p in rig.state.rglob("*") if p.is_file() and p.stat().st_size)
    assert len(files) >= 4
    for name in files:
        for at in data_places(rig.state / name, rng, 6):
            if not (rig.state / name).exists() or (rig.state / name).stat().st_size <= at:
                continue  # rebuilt smaller meanwhile
            flip_in_place(rig.state / name, at)
            scribble(rig.disk, rng, pieces=5)
            rig.sync()
    for path in sorted(rig.state.rglob("*"), reverse=True):
        if path.is_file():
            path.unlink()
            scribble(rig.disk, rng, pieces=5)
            rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_an_old_copy_of_the_state_comes_back(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rng = random.Random(13)
    random_disk(rig.disk, 6 * MIB, rng, pieces=60)
    rig.sync()
    shutil.copytree(rig.state, tmp_path / "old-state")
    for _ in range(3):
        scribble(rig.disk, rng)
        rig.sync()
    scribble(rig.disk, rng)
    shutil.rmtree(rig.state)
    shutil.copytree(tmp_path / "old-state", rig.state)
    outcome = rig.sync().last("sync.done")
    assert outcome["parent"].startswith("4-")
    rig.sync(state=tmp_path / "another-host")
    scribble(rig.disk, rng)
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_change_outside_the_extents_is_found_where_it_shows(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(14).randbytes(2 * MIB))
    rig.sync()
    rig.apply()
    with rig.disk.open("r+b") as file:
        for at in (8192, 40960, MIB):  # reported; in the same block, not reported; in another block, not reported
            file.seek(at)
            file.write(b"changed")
    extents = rig.home / "extents"
    extents.write_text("8192 4096\n")
    outcome = rig.sync("--extents", extents)
    assert [(e["offset"], e["length"]) for e in outcome.all("finding")] == [(40960, 4096)]
    assert outcome.last("sync.done")["findings"] == 1
    rig.apply()
    disk, replica = rig.disk.read_bytes(), rig.replica.read_bytes()
    lag = [at // 4096 for at in range(0, len(disk), 4096) if disk[at : at + 4096] != replica[at : at + 4096]]
    assert lag == [256], "only what no one reported and no block showed is behind"
    rig.sync()  # everything is read: what the tracker missed is caught
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_fingerprints_tell(tmp_path: Path) -> None:
    """The check that nothing changed can fail."""
    (tmp_path / "a").write_text("1")
    before = fingerprint(tmp_path)
    (tmp_path / "a").write_text("2")
    assert fingerprint(tmp_path) != before
