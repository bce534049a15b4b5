"""Checks and drills of a restore point without a replica: the same findings, nothing unproved, nothing left mounted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bootdisk
from readydisks import BIOS_ROOT_AT, GIB, empty, lvm, put, windows
from rig import MIB, Outcome, Rig, command, flip, python
from rigs.host.hearing import all_heard
from servers import S3Place
from suite.remedies import remedy
from warmspare.errors import IntegrityError
from warmspare.format.manifest import ManifestReader
from warmspare.recover.disks import served
from warmspare.repository.blocks.pack_ranges import pack_objects

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse can't be used here")
RANDOM_AT = 120 * MIB  # free space of the file system there


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("bootable")
    return {each: bootdisk.build(home / f"{each}.raw", each) for each in ("bios", "uefi")}


@pytest.fixture(autouse=True)
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where mounts are made, by children too; whatever a test does, nothing is left there."""
    folder = tmp_path / "mounts"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    yield folder
    assert not mounted(folder)
    assert not list(folder.glob("warmspare-*"))
    left = tmp_path / "xdg/warmspare/points"
    assert not left.exists() or not list(left.iterdir())


def mounted(folder: Path) -> list[str]:
    """Mounts below a directory."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if line.split()[1].startswith(str(folder))]


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def check(rig: Rig, *more: object, code: int | None = 0) -> Outcome:
    outcome = command("recover", "check", "--vm", rig.vm, "--repo", rig.repo, *more)
    assert code is None or outcome.code == code, outcome
    return outcome


def told(outcome: Outcome) -> list[dict[str, Any]]:
    """What a check says of the disks, and how it ends; how it read them left out."""
    return [each for each in outcome.events if each["event"] not in ("point.read", "progress")]


def _bios(home: Path, disks: dict[str, Path]) -> list[Path]:
    copy(disks["bios"], home / "bios.raw")
    put(home / "bios.raw", BIOS_ROOT_AT, "/etc/fstab", b"/dev/sda1 / ext4 defaults 0 1\nLABEL=x /x xfs nofail 0 0\n")
    return [home / "bios.raw"]


def _uefi(home: Path, disks: dict[str, Path]) -> list[Path]:
    copy(disks["uefi"], home / "uefi.raw")
    return [home / "uefi.raw"]


def _lvm(home: Path, disks: dict[str, Path]) -> list[Path]:
    return [lvm(home)]


def _windows(home: Path, disks: dict[str, Path]) -> list[Path]:
    return [windows(home)[0]]


def _two(home: Path, disks: dict[str, Path]) -> list[Path]:
    """The second disk has the file system that the first one's fstab names; its last block is short."""
    copy(disks["bios"], home / "z.raw")
    put(home / "z.raw", BIOS_ROOT_AT, "/etc/fstab", b"LABEL=stuff /data xfs defaults 0 0\n")
    bootdisk.run("mkfs.xfs", "-q", "-f", "-L", "stuff", empty(home / "a.raw", 400 * MIB + 512))
    return [home / "z.raw", home / "a.raw"]


IMAGES: list[tuple[Callable[[Path, dict[str, Path]], list[Path]], set[str]]] = [
    (_bios, {"fstab-by-name", "fstab-optional"}),
    (_uefi, {"gpt-rounded"}),
    (_lvm, set()),
    (_windows, {"windows"}),
    (_two, set()),
]


@pytest.mark.parametrize(("image", "kinds"), IMAGES, ids=[image.__name__ for image, _ in IMAGES])
def test_the_same_is_found_with_and_without_a_replica(
    image: Callable[[Path, dict[str, Path]], list[Path]], kinds: set[str], disks: dict[str, Path], tmp_path: Path
) -> None:
    rig = Rig(tmp_path)
    firmware = "uefi" if image is _uefi else "bios"
    paths = image(tmp_path, disks)
    rig.sync(disks=list(paths))
    replica = tmp_path / "replicas"
    rig.apply(to=replica)
    of_replica = command("recover", "check", "--vm", "vm", "--replica", replica, "--firmware", firmware)
    of_point = check(rig, "--firmware", firmware, code=of_replica.code)
    assert told(of_point) == told(of_replica)
    assert {each["kind"] for each in of_point.all("finding")} == kinds
    read = of_point.last("point.read")
    assert read["capacity_bytes"] == sum(path.stat().st_size for path in paths)
    assert read["bytes_fetched"] and read["blocks_verified"]


def test_the_same_from_s3(disks: dict[str, Path], tmp_path: Path, seaweed_place: S3Place) -> None:
    rig = Rig(tmp_path, repo=seaweed_place.uri)
    rig.sync(disks=list(_bios(tmp_path, disks)))
    rig.apply(to=tmp_path / "replicas")
    of_replica = command("recover", "check", "--vm", "vm", "--replica", tmp_path / "replicas")
    assert of_replica.code == 5 and told(check(rig, code=5)) == told(of_replica)


def test_each_point_shows_its_own(disks: dict[str, Path], tmp_path: Path) -> None:
    """Pages of many points make the newest one; older ones are asked for by --at."""
    rig = Rig(tmp_path)
    copy(disks["bios"], rig.disk)
    rng = random.Random(5)
    good, bad = f"UUID={bootdisk.ROOT_UUID} / ext4 defaults 0 1\n".encode(), b"/dev/sda1 / ext4 defaults 0 1\n"
    for fstab in (good, bad, good, bad, bad + b"/dev/sdb1 /data ext4 nofail 0 2\n", good):
        put(rig.disk, BIOS_ROOT_AT, "/etc/fstab", fstab + b"# %d\n" % rng.randrange(1 << 30))
        bootdisk.write_at(rig.disk, RANDOM_AT + rng.randrange(MIB), rng.randbytes(9000))
        rig.sync()
    expected: list[list[str]] = [[], ["fstab-by-name"], [], ["fstab-by-name"], ["fstab-by-name", "fstab-optional"], []]
    for number, kinds in enumerate(expected, 1):
        outcome = check(rig, "--at", number, code=5 if kinds else 0)
        assert [each["kind"] for each in outcome.all("finding")] == kinds, number
        assert outcome.last("check.done")["point"] == outcome.last("point.read")["point"]
        assert outcome.last("check.done")["point"].startswith(f"{number}-")
    assert check(rig).last("check.done")["point"].startswith("6-")


def _frames(rig: Rig) -> dict[int, tuple[Path, int]]:
    """Block -> pack and offset of the frame that holds it, of the only disk at the first point."""
    point = rig.point(1)
    manifest = (Path(rig.repo) / point.disks[0].manifest.key).read_bytes()
    reader = ManifestReader(lambda at, length: manifest[at : at + length], len(manifest), "manifest")
    packs = pack_objects(point.vm_id, reader.packs)
    return {
        block: (Path(rig.repo) / packs[int(chunk.frames.pack[frame])].key, int(chunk.frames.offset[frame]))
        for chunk in reader.chunks()
        for block, frame in zip(chunk.records.block.tolist(), chunk.records.frame.tolist(), strict=True)
    }


@pytest.fixture
def rig(tmp_path: Path, disks: dict[str, Path]) -> Rig:
    """One point of a disk that boots, with a megabyte of data that no reader of its file system comes to."""
    rig = Rig(tmp_path)
    copy(disks["bios"], rig.disk)
    bootdisk.write_at(rig.disk, RANDOM_AT, random.Random(3).randbytes(MIB))
    rig.sync()
    return rig


def test_damage_where_it_is_read_ends_it_and_finds_nothing(rig: Rig) -> None:
    pack, at = _frames(rig)[0]
    flip(pack, at + 200)
    outcome = check(rig, code=5)
    assert outcome.last("error")["kind"] in ("integrity", "format"), outcome
    assert not [each for each in outcome.events if each["event"] in ("finding", "check.done", "point.read")]
    pack.unlink()
    gone = check(rig, code=5)
    assert "is missing" in gone.stderr and not gone.all("check.done")


def test_damage_elsewhere_is_not_looked_for(rig: Rig) -> None:
    sound = check(rig)
    pack, at = _frames(rig)[RANDOM_AT >> 16]
    flip(pack, at + 200)
    assert told(check(rig)) == told(sound)
    assert command("audit", "repository", "--repo", rig.repo, "--deep").code == 5


def test_a_block_that_is_not_what_its_hash_says_is_not_handed_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that are sound and hold other bytes: only the hash of the whole block tells."""
    from warmspare.repository.blocks.chain_blocks import ChainBlocks

    gather = ChainBlocks.gather

    async def gathered(chain: ChainBlocks, window: Any) -> dict[int, IntegrityError]:
        lost = await gather(chain, window)
        window.pages[int(window.rows[-1]) + 3, 77] ^= 1
        return lost

    monkeypatch.setattr(ChainBlocks, "gather", gathered)
    outcome = check(rig, code=5)
    assert "block 0 of disk disk.raw does not verify" in outcome.stderr and not outcome.all("check.done")


def test_only_a_small_part_of_a_large_disk_is_fetched(tmp_path: Path, disks: dict[str, Path]) -> None:
    rig = Rig(tmp_path)
    copy(disks["bios"], rig.disk)
    rng = random.Random(4)
    with rig.disk.open("r+b") as file:
        file.truncate(64 * GIB)
        for at in (1 * GIB, 17 * GIB, 40 * GIB, 63 * GIB):
            file.seek(at)
            file.write(rng.randbytes(24 * MIB))
    rig.sync()
    stored = sum(path.stat().st_size for kind in ("packs", "manifests") for path in rig.objects(kind))
    read = check(rig).last("point.read")
    assert stored > 96 * MIB and read["capacity_bytes"] == 64 * GIB
    assert read["bytes_fetched"] < stored / 20, (read, stored)
    assert read["blocks_verified"] * 65536 < 64 * GIB / 1000


HANGING = """
import asyncio, sys
from warmspare.__main__ import main
from warmspare.store.directory.directory_store import DirectoryStore
get_range = DirectoryStore.get_range
async def hanging(store, key, offset, length):
    if "/packs/" in key:
        print("HANGING", file=sys.stderr, flush=True)
        await asyncio.sleep(1000)
    return await get_range(store, key, offset, length)
DirectoryStore.get_range = hanging
main()
"""


def _hanging(rig: Rig) -> subprocess.Popen[str]:
    """A check whose store does not answer, at the moment when a program waits for its bytes."""
    words = ["recover", "check", "--vm", rig.vm, "--repo", rig.repo]
    child = subprocess.Popen([sys.executable, "-c", HANGING, *words], stderr=subprocess.PIPE, text=True)
    assert child.stderr
    line = child.stderr.readline()
    if line != "HANGING\n":
        child.kill()
        raise AssertionError(line + child.communicate()[1])
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_though_the_store_does_not_answer(number: signal.Signals, rig: Rig, mounts: Path) -> None:
    child = _hanging(rig)
    try:
        assert len(mounted(mounts)) == 1
        child.send_signal(number)
        child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130 and not mounted(mounts)


def test_a_check_that_is_killed_leaves_an_empty_folder_and_the_next_one_works(rig: Rig, mounts: Path) -> None:
    child = _hanging(rig)
    try:
        (folder,) = mounts.glob("warmspare-*")
        assert len(mounted(mounts)) == 1
    finally:
        child.kill()
        child.communicate()
    deadline = time.monotonic() + 60
    while mounted(mounts):
        assert time.monotonic() < deadline, "it stays mounted"
        time.sleep(0.05)
    assert not list(folder.iterdir())
    assert check(rig).last("check.done")["stops"] == 0
    folder.rmdir()


def test_a_mount_whose_helper_was_killed_too_hangs_nobody(rig: Rig, mounts: Path) -> None:
    child = _hanging(rig)
    try:
        (folder,) = mounts.glob("warmspare-*")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[-2:-1] == [str(folder).encode()]:
                os.kill(int(process.name), signal.SIGKILL)
    finally:
        child.kill()
        child.communicate()
    assert len(mounted(mounts)) == 1
    with pytest.raises(OSError, match="not connected"):
        folder.stat()
    assert check(rig).last("check.done")["stops"] == 0
    subprocess.run(["fusermount3", "-u", folder], check=True)
    folder.rmdir()


def test_two_at_once(rig: Rig) -> None:
    words = [sys.executable, "-m", "warmspare", "recover", "check", "--vm", rig.vm, "--repo", rig.repo, "--json"]
    children = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    # How much is fetched hangs on how far the kernel reads ahead.
    one, other = (all_heard(output) for output in outputs)
    assert one[0]["event"] == other[0]["event"] == "point.read"
    assert one[1:] == other[1:] and one[-1]["event"] == "check.done"


def test_what_can_not_be_read_is_refused(
    rig: Rig, mounts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--vm", rig.vm]
    refusals: list[tuple[list[object], str]] = [
        (where, "nothing says which disks to read"),
        ([*where, "--replica", rig.replica, "--repo", rig.repo, "--at", 1], "--at and --replica exclude each other"),
        ([*where, "--repo", rig.repo, "--state", tmp_path], "--state says where a replica's state is kept"),
        ([*where, "--repo", rig.repo, "--at", 7], "has no restore point '7'"),
        (["--vm", "other", "--repo", rig.repo], "has no restore point 'latest'"),
        ([*where, "--repo", tmp_path / "nothing"], "there is no warmspare repository here"),
    ]
    for words, message in refusals:
        for name in (["recover", "check"], ["drill", "--evidence", tmp_path / "evidence"]):
            outcome = command(*name, *words)
            assert outcome.code == 2 and message in outcome.stderr, outcome
    assert "--hash is of a replica" in command("drill", *where, "--repo", rig.repo, "--hash").stderr
    assert not (tmp_path / "evidence").exists()
    # No right to mount: what fusermount3 says, and what to do.
    tools = tmp_path / "tools"
    tools.mkdir()
    helper = tools / "fusermount3"
    helper.write_text("#!/bin/sh\necho 'fusermount3: mount failed: Operation not permitted' >&2\nexit 1\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    outcome = check(rig, code=2)
    assert "mount failed: Operation not permitted" in outcome.stderr and "give --replica" in outcome.stderr
    # One that hangs is ended.
    helper.write_text(f"#!/bin/sh\necho $$ > {tools}/pid\nexec sleep 1000\n")
    monkeypatch.setattr(served, "MOUNT_S", 0.5)
    assert "fusermount3 does not answer" in check(rig, code=2).stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int((tools / "pid").read_text()), 0)
    helper.unlink()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr("warmspare.recover.disks.programs._ELSEWHERE", str(tools))
    assert "fusermount3 is not installed; install the package fuse3" in check(rig, code=2).stderr


@pytest.mark.parametrize(
    "around",
    [
        ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/fuse && exec "$@"', "sh"],
        ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "--no-new-privs"],
    ],
    ids=["without FUSE", "without the right to mount"],
)
def test_a_host_that_really_can_not_mount(rig: Rig, around: list[str]) -> None:
    able = subprocess.run([*around, "true"], capture_output=True, text=True)
    if able.returncode != 0:
        pytest.skip(f"that can't be taken away here: {able.stderr.strip()}")
    words = ["recover", "check", "--vm", rig.vm, "--repo", rig.repo]
    done = subprocess.run([*around, python(), "-m", "warmspare", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done
    assert "give --replica" in done.stderr


# files that are served, without a repository


def _pattern(offset: int, length: int) -> bytes:
    first, last = offset // 8, -(-(offset + length) // 8)
    numbers = np.arange(first, last, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    data = numbers.astype("<u8").tobytes()
    return data[offset - first * 8 :][:length]


async def _patterned(offset: int, length: int) -> bytes:
    await asyncio.sleep(0)
    return _pattern(offset, length)


async def test_several_programs_read_several_files_at_once() -> None:
    sizes = (3 * MIB + 17, 512, 5 * MIB)
    expected = [hashlib.sha256(_pattern(0, size)).hexdigest() for size in sizes]

    async def hashed(fd: int, fds: list[int]) -> str:
        child = await asyncio.create_subprocess_exec(
            "sha256sum", f"/proc/self/fd/{fd}", pass_fds=fds, stdout=asyncio.subprocess.PIPE
        )
        return (await child.communicate())[0].split()[0].decode()

    async def work(fds: list[int]) -> list[str]:
        return list(await asyncio.gather(*(hashed(fd, fds) for fd in fds for _ in range(3))))

    found = await served.served([served.ServedFile(size, _patterned) for size in sizes], work)
    assert found == [each for each in expected for _ in range(3)]


async def test_the_error_of_a_read_takes_the_place_of_what_came_of_it() -> None:
    async def read(offset: int, length: int) -> bytes:
        if offset >= MIB:
            raise LookupError(f"nothing at {offset}")
        return bytes(length)

    seen: list[int | None] = []

    async def work(fds: list[int]) -> str:
        try:
            await asyncio.to_thread(os.pread, fds[0], 10, MIB)
        except OSError as error:
            seen.append(error.errno)
        return "a finding"

    with pytest.raises(LookupError, match="nothing at 1048576"):
        await served.served([served.ServedFile(8 * MIB, read)], work)
    assert seen == [5] or not seen  # ended before it could say so


@pytest.mark.parametrize("step", ["_receive", "_open"])
async def test_a_cancel_while_it_mounts_leaves_no_descriptor(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, loop = getattr(served, step), asyncio.get_running_loop()
    done, go = asyncio.Event(), threading.Event()

    def slow(*given: object) -> object:
        result = real(*given)
        loop.call_soon_threadsafe(done.set)
        go.wait(30)
        return result

    async def work(fds: list[int]) -> None:
        raise AssertionError("it was cancelled before")

    monkeypatch.setattr(served, step, slow)
    task = asyncio.ensure_future(served.served([served.ServedFile(MIB, _patterned)], work))
    await done.wait()
    task.cancel()
    loop.call_later(0.05, go.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not descriptors()


async def test_whenever_it_is_cancelled_nothing_stays_mounted(mounts: Path) -> None:
    """At each step of mounting, of which the helper's start takes some milliseconds; and of unmounting."""

    async def work(fds: list[int]) -> None:
        await asyncio.sleep(0.002)

    for step in range(60):
        task = asyncio.ensure_future(served.served([served.ServedFile(MIB, _patterned)], work))
        await asyncio.sleep(step * 0.0003)
        task.cancel()
        await asyncio.wait({task})
        assert not mounted(mounts) and not list(mounts.iterdir()) and not descriptors(), step


def descriptors() -> list[str]:
    """What this process has open of a mount: the kernel's end, and its first file, whose name is left when it is
    unmounted."""
    links = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(each.readlink()))
    return [link for link in links if link == "/dev/fuse" or link.endswith("/0")]


@remedy("run this again")
async def test_a_mount_that_is_torn_away_is_told() -> None:
    async def work(fds: list[int]) -> None:
        (line,) = mounted(Path(os.environ["TMPDIR"]))
        child = await asyncio.create_subprocess_exec("umount", "-f", line.split()[1])
        await child.wait()
        await asyncio.sleep(1000)

    with pytest.raises(Exception, match="somebody unmounted the restore point"):
        await served.served([served.ServedFile(MIB, _patterned)], work)

    async def looks(fds: list[int]) -> int:
        return len(await asyncio.to_thread(os.pread, fds[0], MIB, 0))

    assert await served.served([served.ServedFile(MIB, _patterned)], looks) == MIB


# drills


def _drill(rig: Rig, *more: object, code: int = 0) -> Outcome:
    outcome = command(
        "drill", "--vm", rig.vm, "--repo", rig.repo, "--evidence", rig.home / "evidence", "--timeout", 150, *more
    )
    assert outcome.code == code, outcome
    return outcome


def test_a_drill_boots_a_restore_point(rig: Rig) -> None:
    before = rig.snapshot()
    outcome = _drill(rig, "--expect", bootdisk.PROMPT)
    assert rig.snapshot() == before
    done, read = outcome.last("drill.done"), outcome.last("point.read")
    assert done["passed"] and done["untouched"] is None
    got = json.loads((rig.home / "evidence/verdict.json").read_text())
    assert got["passed"] and got["untouched"] is None and got["point"]["label"] == read["point"]
    assert got["point"]["sha256"] == hashlib.sha256(rig.point_path(1).read_bytes()).hexdigest()
    (disk,) = got["disks"]
    assert disk["path"] is None and disk["root"] == rig.point(1).disks[0].root
    assert 0 < disk["before"]["blocks_proved"] < disk["after"]["blocks_proved"] == read["blocks_verified"]
    assert read["bytes_fetched"] < sum(path.stat().st_size for path in rig.objects("packs"))


def test_a_drill_that_comes_to_a_damaged_block_gives_no_verdict(rig: Rig) -> None:
    """The table can be read, and the boot loader comes to the rest."""
    frames = _frames(rig)
    for pack, at in {*frames.values()} - {frames[0]}:
        flip(pack, at + 200)
    outcome = _drill(rig, "--expect", bootdisk.PROMPT, code=5)
    assert outcome.last("error")["kind"] in ("integrity", "format"), outcome
    assert not outcome.all("drill.done") and not (rig.home / "evidence/verdict.json").exists()
