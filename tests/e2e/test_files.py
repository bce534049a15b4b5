"""Files of a guest out of a restore point: right bytes for each file system or a word; nothing outside, no halves."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bootdisk
from rig import MIB, Outcome, Rig, command, flip
from rigs.guests import guestvolumes, vmdisks
from rigs.guests.guestvolumes import DATED_S, VOLUMES, files_of
from rigs.host import media
from warmspare.errors import StoreError
from warmspare.format.manifest import ManifestReader
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.quantities import size
from warmspare.recover.disks.held_replica import HeldDisk
from warmspare.recover.files.file_lines import FileLine
from warmspare.recover.files.file_listing import ListingWish
from warmspare.recover.files.file_look import FileLook
from warmspare.recover.files.file_restoring import RestoringWish
from warmspare.recover.files.restored_folder import PART
from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.readers.appliance import parts
from warmspare.repository.blocks.pack_ranges import pack_objects
from warmspare.store.directory.directory_store import DirectoryStore

FOUND = parts.found
pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse can't be used here")


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """A VM with all file systems, synced once; not to be changed."""
    home = tmp_path_factory.mktemp("files")
    rig = Rig(home)
    guestvolumes.build(rig.disk)
    rig.sync()
    return rig


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """GRUB reads all, as where this host has no kernel for another reader; whatever a test does, nothing is left."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(parts, "found", lambda kernels=None: Unknown("no second reader here"))
    yield
    assert not [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{tmp_path}/tmp" in line]
    assert not list((tmp_path / "tmp").glob("warmspare-*"))
    points = tmp_path / "xdg/warmspare/points"
    assert not points.exists() or not list(points.iterdir())


def ls(rig: Rig, *paths: object, code: int = 0) -> Outcome:
    outcome = command("files", "ls", *paths, "--vm", rig.vm, "--repo", rig.repo)
    assert outcome.code == code, outcome
    return outcome


def get(rig: Rig, to: Path, *paths: object, code: int = 0) -> Outcome:
    outcome = command("files", "get", *paths, "--vm", rig.vm, "--repo", rig.repo, "--to", to)
    assert outcome.code == code, outcome
    return outcome


def left(outcome: Outcome) -> dict[str, str]:
    return {event["path"]: event["message"] for event in outcome.all("files.left")}


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_volumes_are_listed_by_names_that_paths_begin_with(synced: Rig) -> None:
    outcome = ls(synced)
    told = {event["volume"]: event for event in outcome.all("files.volume")}
    assert set(told) == {*VOLUMES.values(), "disk1p6"}
    kinds = {"fat": "vfat", "lvm": "ext4"}
    for kind, volume in VOLUMES.items():
        assert told[volume]["filesystem"] == kinds.get(kind, kind) and told[volume]["why"] is None
        assert told[volume]["bytes"] >= 16 * MIB and told[volume]["disk"] == "disk.raw"
    assert {one for one, event in told.items() if event["system"]} == {VOLUMES["ext4"]}
    assert "LVM2_member" in told["disk1p6"]["why"]
    assert outcome.last("files.listed")["folders"] == 7


@pytest.mark.parametrize("kind", VOLUMES)
def test_the_bytes_are_right_for_each_file_system(synced: Rig, kind: str, tmp_path: Path) -> None:
    volume, to = VOLUMES[kind], tmp_path / "to"
    listed = ls(synced, "-R", f"{volume}:/")
    found = {event["path"]: event for event in listed.all("files.entry")}
    wanted = files_of(kind)
    for name, data in wanted.items():
        assert found[f"{volume}:/{name}"]["kind"] == "file" and found[f"{volume}:/{name}"]["bytes"] == len(data)
    names = [name for name in wanted if "/" not in name] + ["sub"] * (kind != "ntfs")
    outcome = get(synced, to, *(f"{volume}:/{name}" for name in names))
    assert held(to) == wanted
    done = outcome.last("files.done")
    assert (done["files"], done["failed"], done["left"]) == (len(wanted), 0, 0)
    assert done["bytes"] == sum(map(len, wanted.values()))
    if kind not in ("ntfs", "xfs"):  # whose tools take no times along
        assert (to / "large").stat().st_mtime == DATED_S
    if kind == "ext4":
        again = get(synced, to, *(f"{volume}:/{name}" for name in names)).last("files.done")
        assert again["there"] == len(wanted)


def test_paths_of_the_system_go_through_its_mounts(synced: Rig, tmp_path: Path) -> None:
    outcome = get(synced, tmp_path / "to", "/data/hello.txt", "/srv/sub", "/sub/../etc/fstab")
    assert held(tmp_path / "to") == {
        "hello.txt": files_of("xfs")["hello.txt"],
        "fstab": guestvolumes.FSTAB.encode(),
        "sub/note.txt": b"in a folder",
        "sub/deep/x": b"x" * 5000,
    }
    assert {event["path"] for event in outcome.all("files.note")} == {"disk1p2", "disk1p3", "vg/srv"}
    assert all("no second reader here" in event["message"] for event in outcome.all("files.note"))


def test_what_a_reader_does_not_tell_is_said(synced: Rig, tmp_path: Path) -> None:
    outcome = get(synced, tmp_path / "to", "/etc", code=7)
    said = left(outcome)
    assert {"/etc/fifo", "/etc/far", "/etc/out"} <= set(said)
    assert [event["path"] for event in outcome.all("files.left") if event["failed"]] == ["/etc/line\nend"]
    notes = {event["path"]: event["message"] for event in outcome.all("files.note")}
    assert "differs from another's in case" in notes["/etc/case"] and "neither modes nor links" in notes["disk1p2"]
    assert (tmp_path / "to/etc/su").read_bytes() == b"su" and not (tmp_path / "to/etc/su").stat().st_mode & 0o7000
    assert (tmp_path / "to/etc" / os.fsdecode(b"bad\xff")).read_bytes() == b"bad"
    assert (tmp_path / "to/etc/a b").read_bytes() == b"blank"


def test_a_windows_is_called_c_in_any_case(tmp_path: Path) -> None:
    """Made by mounting, which nothing else can that writes folders there; what stands for a file compressed by the
    system is not one of zeros."""
    part, mounted = tmp_path / "ntfs.img", tmp_path / "mounted"
    mounted.mkdir()
    with part.open("wb") as file:
        file.truncate(16 * MIB)
    bootdisk.run("mkntfs", "-q", "-F", "-s", 512, "-p", 2048, "-H", 255, "-S", 63, part)
    done = subprocess.run(["ntfs-3g", part, mounted], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no NTFS can be mounted here: {done.stderr.strip()}")
    try:
        (mounted / "Windows/System32").mkdir(parents=True)
        (mounted / "Users/A B").mkdir(parents=True)
        (mounted / "Users/A B/Müller 日.txt").write_text("hello")
        (mounted / "Users/packed.dll").write_bytes(bytes(70_000))
        reparse = (0x80000017).to_bytes(4, "little") + (16).to_bytes(4, "little") + bytes([1, 0, 0, 0, 2, 0, 0, 0] * 2)
        os.setxattr(mounted / "Users/packed.dll", "system.ntfs_reparse_data", reparse)
    finally:
        bootdisk.run("umount", mounted)
    rig = Rig(tmp_path)
    part.rename(rig.disk)
    rig.sync()
    assert [event["system"] for event in ls(rig).all("files.volume")] == ["C:"]
    names = {event["path"] for event in ls(rig, "C:/").all("files.entry")}
    assert names == {"C:/Windows", "C:/Users"}
    outcome = get(rig, tmp_path / "to", "c:\\users\\a b", "/Users/packed.dll", "C:/windows/nothing", "D:/x", code=7)
    assert held(tmp_path / "to") == {"A B/Müller 日.txt": b"hello"}
    said = left(outcome)
    assert "can't be opened" in said["/Users/packed.dll"] and "not there" in said["C:/windows/nothing"]
    assert "only its Windows knows" in said["D:/x"]


def test_paths_that_mean_nothing_are_said(synced: Rig, tmp_path: Path) -> None:
    said = left(ls(synced, "/nope", "disk9:/x", "relative", "/hello.txt/x", "C:/x", "UUID=none:/", code=7))
    assert said["/nope"] == "it is not there" and "disk1p1, " in said["disk9:/x"] and "no path" in said["relative"]
    assert said["/hello.txt/x"] and "no Windows" in said["C:/x"] and "no volume" in said["UUID=none:/"]
    assert {event["path"] for event in ls(synced, f"UUID={guestvolumes.XFS_UUID}:/hello.txt").all("files.entry")}
    get(synced, tmp_path / "to", "/nope", code=7)
    assert not list((tmp_path / "to").iterdir())


def test_what_is_wrong_with_the_target_is_refused_before_anything_is_read(synced: Rig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "no folder to make it in" in get(synced, tmp_path / "no/such", "/etc/fstab", code=2).stderr
    assert "it is no folder" in get(synced, tmp_path / "file", "/etc/fstab", code=2).stderr
    assert "--recursive is of a path" in ls(synced, "-R", code=2).stderr
    assert "PATH is missing" in get(synced, tmp_path / "to", code=2).stderr
    assert not (tmp_path / "to").exists()
    (tmp_path / "to").mkdir()
    fd = os.open(tmp_path / "to", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert "another run restores" in get(synced, tmp_path / "to", "/etc/fstab", code=6).stderr
    finally:
        os.close(fd)


def test_what_is_there_stays_without_force(synced: Rig, tmp_path: Path) -> None:
    to, outside = tmp_path / "to", tmp_path / "outside"
    (to / "sub").mkdir(parents=True)
    outside.write_text("mine")
    (to / "sub/note.txt").symlink_to(outside)
    (to / "hello.txt").write_text("older")
    said = left(get(synced, to, "/sub", "/hello.txt", code=7))
    assert set(said) == {"/sub/note.txt", "/hello.txt"} and all("--force" in why for why in said.values())
    assert (to / "hello.txt").read_text() == "older" and outside.read_text() == "mine"
    get(synced, to, "/sub", "/hello.txt", "--force")
    assert not (to / "sub/note.txt").is_symlink() and outside.read_text() == "mine"
    assert (to / "hello.txt").read_bytes() == files_of("ext4")["hello.txt"]


def frame_of(rig: Rig, block: int) -> tuple[Path, int]:
    """Pack and offset of the frame that holds a block."""
    point = rig.point(1)
    manifest = (Path(rig.repo) / point.disks[0].manifest.key).read_bytes()
    reader = ManifestReader(lambda at, length: manifest[at : at + length], len(manifest), "manifest")
    packs = pack_objects(point.vm_id, reader.packs)
    for chunk in reader.chunks():
        for held_block, frame in zip(chunk.records.block.tolist(), chunk.records.frame.tolist(), strict=True):
            if held_block == block:
                return Path(rig.repo) / packs[int(chunk.frames.pack[frame])].key, int(chunk.frames.offset[frame])
    raise AssertionError("no record has that block")


def place_of(disk: Path, data: bytes) -> int:
    """Where some bytes of a file are on the disk, which must be in one piece there."""
    return disk.read_bytes().index(data)


@pytest.mark.parametrize("kind", ["ext4", "fat"])
def test_a_block_that_does_not_verify_costs_its_file_and_is_a_finding(synced: Rig, kind: str, tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    shutil.copytree(synced.repo, rig.repo)
    large = files_of(kind)["large"]
    pack, offset = frame_of(rig, place_of(synced.disk, large[7 * MIB :][:4096]) // BLOCK_BYTES)
    before = flip(pack, offset + 300)
    volume = VOLUMES[kind]
    paths = [f"{volume}:/large", f"{volume}:/hello.txt", f"{volume}:/sub"]
    outcome = get(rig, tmp_path / "to", *paths, code=5)
    assert set(left(outcome)) == {f"{volume}:/large"}
    assert held(tmp_path / "to") == {
        name: data for name, data in files_of(kind).items() if name not in ("large", "empty")
    }
    found = outcome.all("finding")
    assert found and {event["kind"] for event in found} == {"unreadable-block"}
    error = outcome.last("error")
    assert error["kind"] == "integrity" and "not all that was asked for can be read" in error["message"]
    pack.write_bytes(before)
    get(rig, tmp_path / "to", *paths)
    assert (tmp_path / "to/large").read_bytes() == large


def test_linux_tells_modes_times_and_links_and_meets_a_block_that_does_not_verify(
    synced: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a replica, whose blocks are held against the hashes as those of a restore point are."""
    monkeypatch.setattr(parts, "found", FOUND)
    have = vmdisks.have()  # Debian's kernel
    monkeypatch.setattr(parts, "found", lambda kernels=None: have)
    rig = Rig(tmp_path, repo=synced.repo)
    rig.apply()
    with rig.replica.open("r+b") as file:
        file.seek(place_of(synced.disk, files_of("ext4")["large"][7 * MIB :][:4096]))
        file.write(b"rotten")
    to, etc = tmp_path / "to", tmp_path / "to/etc"
    where = ("--vm", "vm", "--replica", rig.replica, "--to", to)
    outcome = command("files", "get", "/etc", "/large", "/hello.txt", "vg/srv:/large", "/sub", *where)
    assert outcome.code == 5 and "audit replica" in outcome.last("error")["message"] and outcome.all("finding")
    said, notes = left(outcome), {event["path"]: event["message"] for event in outcome.all("files.note")}
    assert set(said) == {"/large", "vg/srv:/large", "/etc/far", "/etc/out", "/etc/fifo", "/etc/\n"}
    assert "/etc/shadow" in said["/etc/far"] and "may lead out" in said["/etc/out"] and "its end" in said["/large"]
    assert "another path is restored under its name" in said["vg/srv:/large"]
    failed = [event["path"] for event in outcome.all("files.left") if event["failed"]]
    assert failed == ["/etc/\n", "/large", "vg/srv:/large"]
    assert (etc / "near").readlink() == Path("fstab") and (etc / "up").readlink() == Path("../hello.txt")
    assert (etc / "up").read_bytes() == files_of("ext4")["hello.txt"] and (to / "hello.txt").stat().st_mtime == DATED_S
    modes = {name: stat.S_IMODE((etc / name).stat().st_mode) for name in ("su", "private")}
    assert modes == {"su": 0o755, "private": 0o600}
    assert "set-user-ID and set-group-ID" in notes["/etc/su"] and "disk1p2" not in notes
    assert (to / "sub/note.txt").read_bytes() == b"in a folder" and (etc / "fstab").read_text() == guestvolumes.FSTAB


def test_a_store_that_fails_ends_it_and_leaves_no_half_file(
    synced: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_range = DirectoryStore.get_range
    fetched = 0

    async def failing(self: DirectoryStore, key: str, offset: int, length: int) -> bytes:
        nonlocal fetched
        fetched += length
        if fetched > 3 * MIB:
            raise StoreError("the store is gone")
        return await get_range(self, key, offset, length)

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStore, "get_range", failing)
        outcome = command("files", "get", "/large", "--vm", "vm", "--repo", synced.repo, "--to", tmp_path / "to")
    assert outcome.code == 4, outcome
    assert [path.name for path in (tmp_path / "to").iterdir() if path.name != PART] == []
    get(synced, tmp_path / "to", "/large")
    assert held(tmp_path / "to") == {"large": files_of("ext4")["large"]}


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """A VM with a file of 32 MiB among others."""
    rig = Rig(tmp_path_factory.mktemp("big"))
    (rig.home / "tree").mkdir()
    for name, mib in (("a", 8), ("big", 32), ("c", 12)):
        (rig.home / "tree" / name).write_bytes(random.Random(name).randbytes(mib * MIB))
    with rig.disk.open("wb") as file:
        file.truncate(96 * MIB)
    bootdisk.run("mkfs.ext4", "-q", "-F", "-d", rig.home / "tree", rig.disk)
    rig.sync()
    return rig


def test_a_file_costs_little_more_than_its_bytes(big: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/operations.md has what bench/files.py measured, and how many requests that takes is told apart."""
    asked: dict[tuple[str, int], int] = {}
    get_range = DirectoryStore.get_range

    async def slow(self: DirectoryStore, key: str, offset: int, length: int) -> bytes:
        await asyncio.sleep(0.030)
        asked[key, offset] = asked.get((key, offset), 0) + 1
        return await get_range(self, key, offset, length)

    monkeypatch.setattr(DirectoryStore, "get_range", slow)
    done = get(big, tmp_path / "to", "disk1:/big").last("files.done")
    assert done["bytes"] == 32 * MIB and done["bytes_fetched"] < done["bytes"] * 1.3, size(done["bytes_fetched"])
    assert sum(asked.values()) < 100


def locked(folder: Path) -> bool:
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_a_run_that_is_killed_leaves_no_half_file_and_the_next_goes_on(big: Rig, tmp_path: Path) -> None:
    to = tmp_path / "to"
    words = ["files", "get", "disk1:/big", "--vm", "vm", "--repo", big.repo, "--to", str(to)]
    for number in (signal.SIGKILL, signal.SIGINT):
        child = subprocess.Popen([sys.executable, "-m", "warmspare", *words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not ((to / PART).exists() and (to / PART).stat().st_size > MIB):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.001)
        child.send_signal(number)
        assert child.wait(60) == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        assert not (to / "big").exists()
        deadline = time.monotonic() + 30
        while locked(to):  # by what reads over there, which ends a moment later
            assert time.monotonic() < deadline
        (to / PART).unlink(missing_ok=True)  # so that the next one's can be told from it
    for folder in (tmp_path / "tmp").glob("warmspare-*"):  # where it was killed, as of a check
        folder.rmdir()
    assert get(big, to, "disk1:/big").last("files.done")["files"] == 1
    assert held(to) == {"big": random.Random("big").randbytes(32 * MIB)}


def test_a_full_file_system_is_said(synced: Rig, tmp_path: Path) -> None:
    with media.tmpfs(tmp_path / "small", "size=1m") as small:
        assert (
            "more than the file system here has" in left(get(synced, small, "/hello.txt", "/large", code=7))["/large"]
        )
        _fill(small / "filler")
        assert "takes no more" in get(synced, small, "/sub", "/etc/fstab", code=4).stderr
        assert sorted(path.name for path in small.rglob("*")) == ["filler", "hello.txt", "sub"]


def _fill(path: Path) -> None:
    """All that is free."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


@pytest.mark.parametrize("seed", range(4))
def test_damaged_file_systems_give_right_bytes_or_a_word(synced: Rig, tmp_path: Path, seed: int) -> None:
    """Metadata changed at random: what is restored may be other files, but nothing is outside and nothing hangs."""
    rng = random.Random(seed)
    disk = tmp_path / "disk.raw"
    bootdisk.run("cp", "--sparse=always", synced.disk, disk)
    kind = rng.choice(list(VOLUMES))
    start = guestvolumes.start_of(kind)
    with disk.open("r+b") as file:
        for _ in range(40):
            file.seek(start + rng.randrange(1 << rng.randrange(11, 23)))
            file.write(rng.randbytes(rng.randrange(1, 9)))
    lines: list[FileLine] = []
    to = tmp_path / "to"
    to.mkdir()
    asyncio.run(_looked(disk, f"{VOLUMES[kind]}:/", to, lines))
    for path in to.rglob("*"):
        assert path.is_dir() or path.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"disk.raw", "to", "tmp"}


async def _looked(disk: Path, path: str, to: Path, lines: list[FileLine]) -> None:
    fd, folder = os.open(disk, os.O_RDONLY), os.open(to, os.O_RDONLY)
    try:
        look = FileLook([HeldDisk("disk.raw", disk, disk.stat().st_size, fd)], lines.append)
        async with asyncio.timeout(60):
            await look.listed(ListingWish([path], True))
            await look.restored(RestoringWish([path], False), folder, "to")
    finally:
        os.close(fd)
        os.close(folder)


def test_a_person_sees_a_table_and_lines(synced: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    from warmspare.cli.main import run

    where: list[Any] = ["--vm", synced.vm, "--repo", synced.repo]
    assert run(["files", "ls", *where]) == 0
    shown = capsys.readouterr().out
    assert "disk1p2" in shown and "file system" in shown and "vfat" in shown
    assert run(["files", "ls", "/hello.txt", *where]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.endswith("/hello.txt"))
    assert line.split()[:4] == ["-?????????", str(len(files_of("ext4")["hello.txt"])), "2020-09-13", "12:26:40"]
