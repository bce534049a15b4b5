"""Restore points and replicas as files: the right bytes or an I/O error, for their owner alone, and nothing left."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rig import MIB, Rig, command, flip
from warmspare.format.manifest import ManifestReader
from warmspare.model.units import BLOCK_BYTES
from warmspare.repository.blocks.pack_ranges import pack_objects

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse can't be used here")
SIZE = 24 * MIB
PARTITIONS = "label: gpt\nstart=2048, size=4096, name=one\nstart=8192, size=16384, name=two\n"


def mounts_below(folder: Path) -> list[str]:
    return [
        line for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1].startswith(str(folder))
    ]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to mount at; whatever a test does, nothing is mounted afterwards."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    folder = tmp_path / "at here"
    folder.mkdir()
    yield folder
    assert not mounts_below(tmp_path)
    left = tmp_path / "xdg/warmspare/points"
    assert not left.exists() or not list(left.iterdir())


def filled(path: Path, rng: random.Random, size: int = SIZE) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for at in range(0, size - MIB, 4 * MIB):
            file.seek(at)
            file.write(rng.randbytes(2 * MIB))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def parted(path: Path, script: str) -> None:
    subprocess.run(["sfdisk", "-q", path], input=script.encode(), check=True)


@pytest.fixture(scope="module")
def two_points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a disk with partitions."""
    home = tmp_path_factory.mktemp("two-points")
    rig = Rig(home)
    filled(rig.disk, random.Random(1))
    parted(rig.disk, PARTITIONS)
    rig.sync()
    (home / "first").write_bytes(rig.disk.read_bytes())
    with rig.disk.open("r+b") as file:
        for at in (3 * MIB + 5000, 20 * MIB, 23 * MIB):
            file.seek(at)
            file.write(random.Random(at).randbytes(9000))
    rig.sync()
    return home


@pytest.fixture
def rig(tmp_path: Path, two_points: Path) -> Rig:
    """A repository with these of its own."""
    shutil.copytree(two_points, tmp_path, dirs_exist_ok=True)
    return Rig(tmp_path)


class Mounted:
    """One that runs. events: what it has told so far, after `heard`."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child, self.events = child, list[dict[str, Any]]()

    def heard(self, name: str) -> dict[str, Any]:
        """The next event of that name."""
        assert self.child.stdout
        for line in self.child.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name:
                return self.events[-1]
        raise AssertionError(f"no {name}: {self.events} {self.child.stderr and self.child.stderr.read()}")

    def end(self, number: int = signal.SIGINT) -> int:
        """Its exit code."""
        self.child.send_signal(number)
        out, _ = self.child.communicate(timeout=60)
        self.events += [json.loads(line) for line in out.splitlines()]
        return self.child.returncode


@contextmanager
def mounted(folder: Path, *words: object, program: list[str] | None = None) -> Iterator[Mounted]:
    line = [*(program or [sys.executable, "-m", "warmspare"]), "mount", str(folder), *map(str, words), "--json"]
    child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield Mounted(child)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        with suppress(ValueError):
            child.communicate(timeout=60)


def of(rig: Rig, *more: object) -> list[object]:
    return ["--vm", rig.vm, "--repo", rig.repo, *more]


def settled(folder: Path) -> None:
    """Wait until nothing is mounted there."""
    deadline = time.monotonic() + 30
    while mounts_below(folder):
        assert time.monotonic() < deadline, "it stays mounted"
        time.sleep(0.05)


def test_disks_and_partitions_are_there_until_it_is_ended(rig: Rig, place: Path) -> None:
    first, disk = (rig.home / "first").read_bytes(), rig.disk.read_bytes()
    with mounted(place, *of(rig, "--at", 1)) as older, mounted_beside(rig, "two") as newer:
        ready = older.heard("mount.ready")
        assert names_in(place) == ["disk.raw", "disk.raw-part1", "disk.raw-part2"]
        assert [(one["name"], one["partition"], one["offset"], one["bytes"]) for one in ready["files"]] == [
            ("disk.raw", None, 0, SIZE),
            ("disk.raw-part1", 1, MIB, 2 * MIB),
            ("disk.raw-part2", 2, 4 * MIB, 8 * MIB),
        ]
        assert not ready["left_out"] and ready["point"].startswith("1-") and ready["directory"] == str(place)
        assert (place / "disk.raw").read_bytes() == first
        assert (place / "disk.raw-part1").read_bytes() == first[MIB : 3 * MIB]
        assert (place / "disk.raw-part2").read_bytes() == first[4 * MIB : 12 * MIB]
        newer.heard("mount.ready")
        assert (rig.home / "two/disk.raw").read_bytes() == disk
        found = (place / "disk.raw").stat()
        assert stat.S_IMODE(found.st_mode) == 0o400 and stat.S_IMODE(place.stat().st_mode) == 0o500
        assert found.st_uid == os.geteuid() and abs(found.st_mtime - time.time()) < 3600
        (line,) = mounts_below(place.parent / "at")
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(line.split()[3].split(","))
        assert "allow_other" not in line and f"user_id={os.geteuid()}" in line
        for change in (
            lambda: (place / "new").write_text("x"),
            lambda: (place / "disk.raw").open("r+b"),
            lambda: (place / "disk.raw").unlink(),
            lambda: (place / "disk.raw").chmod(0o666),
        ):
            with pytest.raises(OSError, match="Read-only file system"):
                change()
        assert not seen_by_another_user(place) and not seen_by_another_user(place / "disk.raw")
        assert older.end(signal.SIGINT) == 130
        done = [each for each in older.events if each["event"] == "mount.done"][-1]
        assert done["bytes_read"] >= SIZE and not done["reads_failed"]
        settled(place)
        assert not list(place.iterdir())


@contextmanager
def mounted_beside(rig: Rig, name: str) -> Iterator[Mounted]:
    (rig.home / name).mkdir()
    with mounted(rig.home / name, *of(rig)) as running:
        yield running


def seen_by_another_user(path: Path) -> bool:
    """Which can be tried by root alone."""
    if os.geteuid():
        return False
    words = ["setpriv", "--reuid=65534", "--clear-groups", "ls", path]
    looked = subprocess.run(words, capture_output=True, text=True)
    return not looked.returncode or "Permission denied" not in looked.stderr


def test_a_replica_is_mounted_with_its_own_bytes(rig: Rig, place: Path) -> None:
    rig.apply()
    good = rig.disk.read_bytes()
    with rig.replica.open("r+b") as file:
        file.seek(20 * MIB)
        file.write(b"rotten")
    with mounted(place, "--vm", rig.vm, "--replica", rig.replica) as running:
        ready = running.heard("mount.ready")
        assert ready["replica"] == str(rig.replica) and ready["point"].startswith("2-")
        assert (place / "disk.raw-part1").read_bytes() == good[MIB : 3 * MIB]
        with pytest.raises(OSError, match="Input/output error"):
            (place / "disk.raw").read_bytes()
        finding = running.heard("finding")
        assert finding["kind"] == "unreadable-block" and "does not verify" in finding["message"]
        assert "audit replica" in finding["message"] and "--repair" in finding["message"]
        # All but that block are read, and nothing else.
        with (place / "disk.raw").open("rb", buffering=0) as file:
            for block in range(SIZE // BLOCK_BYTES):
                if block == 20 * MIB // BLOCK_BYTES:
                    continue
                assert os.pread(file.fileno(), BLOCK_BYTES, block * BLOCK_BYTES) == block_of(good, block)
        assert running.end() == 130
    assert (
        command("audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", rig.replica, "--repair").code == 5
    )
    with mounted(place, "--vm", rig.vm, "--replica", rig.replica) as running:
        running.heard("mount.ready")
        assert (place / "disk.raw").read_bytes() == good


def block_of(data: bytes, block: int) -> bytes:
    return data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]


def frames(rig: Rig, sequence: int) -> dict[int, tuple[Path, int]]:
    """Block -> pack and offset of the frame that holds it."""
    point = rig.point(sequence)
    manifest = (Path(rig.repo) / point.disks[0].manifest.key).read_bytes()
    reader = ManifestReader(lambda at, length: manifest[at : at + length], len(manifest), "manifest")
    packs = pack_objects(point.vm_id, reader.packs)
    return {
        block: (Path(rig.repo) / packs[int(chunk.frames.pack[frame])].key, int(chunk.frames.offset[frame]))
        for chunk in reader.chunks()
        for block, frame in zip(chunk.records.block.tolist(), chunk.records.frame.tolist(), strict=True)
    }


def test_damage_is_an_error_where_it_is_and_a_finding(rig: Rig, place: Path) -> None:
    good = (rig.home / "first").read_bytes()
    places = frames(rig, 1)
    bad = 20 * MIB // BLOCK_BYTES
    pack, offset = places[bad]
    held = pack.read_bytes()
    flip(pack, offset + 300)
    with mounted(place, *of(rig, "--at", 1)) as running:
        running.heard("mount.ready")
        fd = os.open(place / "disk.raw", os.O_RDONLY)
        with pytest.raises(OSError) as refused:
            os.pread(fd, 4096, 20 * MIB)
        assert refused.value.errno == errno.EIO
        assert running.heard("finding")["disk"] == "disk.raw"
        lost = {block for block, where in places.items() if where == (pack, offset)}
        for block in range(SIZE // BLOCK_BYTES):
            if block not in lost:
                assert os.pread(fd, BLOCK_BYTES, block * BLOCK_BYTES) == block_of(good, block)
        # It goes on: what is put back is read.
        pack.write_bytes(held)
        assert os.pread(fd, 4096, 20 * MIB) == good[20 * MIB :][:4096]
        os.close(fd)
        assert running.end() == 130
        assert [each for each in running.events if each["event"] == "mount.done"][-1]["reads_failed"]


def test_a_damaged_partition_table_costs_the_partitions(rig: Rig, place: Path) -> None:
    pack, offset = frames(rig, 1)[0]
    flip(pack, offset + 300)
    with mounted(place, *of(rig, "--at", 1)) as running:
        ready = running.heard("mount.ready")
        assert [one["name"] for one in ready["files"]] == ["disk.raw"] and len(ready["left_out"]) == 1
        assert any(each["event"] == "finding" for each in running.events)


def test_somebody_else_unmounts_it(rig: Rig, place: Path) -> None:
    with mounted(place, *of(rig)) as running:
        running.heard("mount.ready")
        subprocess.run(["fusermount3", "-u", place], check=True)
        running.heard("mount.done")
        running.child.communicate(timeout=30)
        assert running.child.returncode == 0


def test_somebody_stands_in_it_when_it_ends(rig: Rig, place: Path) -> None:
    with mounted(place, *of(rig)) as running:
        running.heard("mount.ready")
        fd = os.open(place / "disk.raw", os.O_RDONLY)
        stands = subprocess.Popen(["sleep", "60"], cwd=place)
        try:
            assert running.end() == 130
            settled(place)
            with pytest.raises(OSError, match=r"not connected|aborted"):
                os.pread(fd, 4096, 16 * MIB)
        finally:
            stands.kill()
            stands.wait()
            os.close(fd)


def test_one_that_is_killed_leaves_nothing_mounted(rig: Rig, place: Path) -> None:
    with mounted(place, *of(rig)) as running:
        running.heard("mount.ready")
        running.child.kill()
        running.child.communicate()
    settled(place.parent)
    assert not list(place.iterdir())


def test_a_folder_that_nothing_can_be_mounted_at_is_refused(rig: Rig, place: Path) -> None:
    full = rig.home / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    others: list[tuple[Path, str]] = [
        (full, "is not empty"),
        (full / "file", "this is no folder"),
        (rig.home / "none", "there is no such folder"),
        (full / "file" / "below", "there is no such folder"),
    ]
    if not os.geteuid():
        foreign = rig.home / "foreign"
        foreign.mkdir()
        os.chown(foreign, 65534, 65534)
        others.append((foreign, "belongs to another user"))
    for folder, message in others:
        outcome = command("mount", folder, *of(rig))
        assert outcome.code == 2 and message in outcome.stderr, outcome
    with mounted(place, *of(rig)) as running:
        running.heard("mount.ready")
        assert "something is mounted there already" in command("mount", place, *of(rig)).stderr
        assert "there is no such folder" in command("mount", place / "inside", *of(rig)).stderr
        assert "this is no folder" in command("mount", place / "disk.raw", *of(rig)).stderr
    for words, message in (
        (of(rig, "--at", 9), "has no restore point '9'"),
        (["--vm", "other", "--repo", rig.repo], "has no restore point"),
        (["--vm", rig.vm, "--replica", rig.home / "none"], "there is no replica here"),
    ):
        outcome = command("mount", place, *words)
        assert outcome.code == 2 and message in outcome.stderr, outcome


def test_a_link_to_a_folder_is_that_folder(rig: Rig, place: Path) -> None:
    link = rig.home / "link"
    link.symlink_to(place)
    with mounted(link, *of(rig)) as running:
        assert running.heard("mount.ready")["directory"] == str(place)
        assert (link / "disk.raw").stat().st_size == SIZE
        assert running.end(signal.SIGTERM) == 130
        settled(place)


def test_a_sequential_read_fetches_each_frame_once(rig: Rig, place: Path) -> None:
    stored = sum(path.stat().st_size for path in rig.objects("packs"))
    with mounted(place, *of(rig)) as running:
        running.heard("mount.ready")
        got = subprocess.run(
            ["dd", f"if={place}/disk.raw", "bs=1M", "status=none"], capture_output=True, check=True
        ).stdout
        assert hashlib.sha256(got).digest() == hashlib.sha256(rig.disk.read_bytes()).digest()
        running.end()
        done = [each for each in running.events if each["event"] == "mount.done"][-1]
    assert stored > 10 * MIB
    assert done["bytes_fetched"] < stored * 1.02 + MIB, (done, stored)


HANGING = """
import asyncio, pathlib
from warmspare.__main__ import main
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.recover.mounts import verified_reads
verified_reads.READ_S = 2.0
get_range = DirectoryStore.get_range
async def hanging(store, key, offset, length):
    while "/packs/" in key and pathlib.Path(STOP).exists():
        await asyncio.sleep(0.05)
    return await get_range(store, key, offset, length)
DirectoryStore.get_range = hanging
main()
"""


def hanging(stop: Path) -> list[str]:
    """The program with a store whose packs don't answer as long as that file is there."""
    return [sys.executable, "-c", f"STOP = {str(stop)!r}\n{HANGING}"]


def test_a_store_that_does_not_answer_is_an_error_in_time_and_then_goes_on(rig: Rig, place: Path) -> None:
    stop = rig.home / "stop"
    with mounted(place, *of(rig), program=hanging(stop)) as running:
        running.heard("mount.ready")
        stop.touch()
        fd = os.open(place / "disk.raw", os.O_RDONLY)
        began = time.monotonic()
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(fd, 4096, 20 * MIB)
        assert 1.5 < time.monotonic() - began < 20
        assert "no answer within" in running.heard("mount.failed")["message"]
        stop.unlink()
        assert os.pread(fd, 4096, 20 * MIB) == rig.disk.read_bytes()[20 * MIB :][:4096]
        os.close(fd)


def test_it_ends_though_the_store_does_not_answer(rig: Rig, place: Path) -> None:
    stop = rig.home / "stop"
    with mounted(place, *of(rig), program=hanging(stop)) as running:
        running.heard("mount.ready")
        stop.touch()
        reader = subprocess.Popen(
            ["dd", f"if={place}/disk.raw", "of=/dev/null", "bs=64K", "skip=300"], stderr=subprocess.PIPE
        )
        time.sleep(0.5)
        assert running.end() == 130
        _, said = reader.communicate(timeout=30)
        assert reader.returncode and said
        settled(place)


EXTENDED = "label: dos\nstart=2048, size=2048, type=83\nstart=8192, size=16384, type=5\n"
HOSTILE = {
    "overlapping": "label: gpt\nstart=2048, size=20480\nstart=30000, size=9000\n",
    "many": "label: gpt\ntable-length: 1024\n" + "".join(f"start={2048 + n * 8}, size=8\n" for n in range(1000)),
    "extended": f"{EXTENDED}start=10240, size=2048, type=83\n",
}


def hostile(path: Path, kind: str) -> None:
    """A disk with such a table."""
    filled(path, random.Random(3))
    parted(path, HOSTILE.get(kind, EXTENDED))
    with path.open("r+b") as file:
        if kind == "overlapping":  # the second begins inside the first: of both arrays, with checksums of our own
            overlap(path)
        if kind == "beyond":
            file.seek(446 + 12)
            file.write(b"\xff\xff\xff\x7f")
        if kind == "circle":  # the extended partition's chain leads to itself
            file.seek(8192 * 512 + 446 + 16)
            file.write(bytes(4) + b"\x05" + bytes(3) + bytes(4) + b"\xff\xff\x00\x00")
            file.seek(8192 * 512 + 510)
            file.write(b"\x55\xaa")
        if kind == "noise":
            file.seek(446)
            file.write(random.Random(9).randbytes(64))


def test_hostile_partition_tables_hurt_nobody(tmp_path: Path, place: Path) -> None:
    rig = Rig(tmp_path)
    disks = {kind: tmp_path / f"{kind}.raw" for kind in (*HOSTILE, "beyond", "circle", "noise")}
    for kind, path in disks.items():
        hostile(path, kind)
    rig.sync(disks=list(disks.values()))
    with mounted(place, *of(rig)) as running:
        ready = running.heard("mount.ready")
        assert names_in(place) == sorted(one["name"] for one in ready["files"])
        for kind, path in disks.items():
            good, files = path.read_bytes(), [one for one in ready["files"] if one["disk"] == path.name]
            for one in files:
                assert one["offset"] >= 0 and one["bytes"] > 0 and one["offset"] + one["bytes"] <= SIZE
                assert (place / one["name"]).read_bytes() == good[one["offset"] : one["offset"] + one["bytes"]]
            numbers = [one["partition"] for one in files]
            left_out = [one for one in ready["left_out"] if one.startswith(f"{path.name}: ")]
            assert numbers[0] is None
            if kind == "many":
                assert len(numbers) == 129 and left_out == ["many.raw: partitions after the first 128"]
            if kind == "extended":
                assert numbers == [None, 1, 5]
            if kind == "overlapping":
                assert numbers == [None, 1, 2]
                assert files[2]["offset"] < files[1]["offset"] + files[1]["bytes"]
            if kind == "beyond":
                assert numbers == [None] and "ends at byte" in left_out[0]


def overlap(disk: Path) -> None:
    """Have the second partition of a GPT begin where the first does."""
    data = bytearray(disk.read_bytes())
    for at in (512, len(data) - 512):
        header = bytearray(data[at : at + 92])
        entries = struct.unpack_from("<Q", header, 72)[0] * 512
        data[entries + 128 + 32 : entries + 128 + 40] = struct.pack("<Q", 2048)
        struct.pack_into("<I", header, 88, zlib.crc32(data[entries : entries + 128 * 128]))
        header[16:20] = bytes(4)
        struct.pack_into("<I", header, 16, zlib.crc32(header))
        data[at : at + 92] = header
    disk.write_bytes(data)


def test_names_that_collide_or_can_not_be_file_names(tmp_path: Path, place: Path) -> None:
    rig = Rig(tmp_path)
    filled(rig.disk, random.Random(4))
    parted(rig.disk, PARTITIONS)
    names = ["a", "a-part1", "b c*", "~2", "ü" * 40]
    rig.sync(disks=[f"{name}={rig.disk}" for name in names])
    with mounted(place, *of(rig)) as running:
        ready = running.heard("mount.ready")
        shown = [one["name"] for one in ready["files"]]
        assert len(set(shown)) == len(shown) == 3 * len(names)
        assert {"a", "a-part1", "a-part1~2", "a-part1-part1", "=7E2", "b=20c=2A"} <= set(shown)
        assert sorted(shown) == names_in(place)
        assert next(one for one in ready["files"] if one["name"] == "a-part1~2")["disk"] == "a"
