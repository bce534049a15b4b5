"""Two of everything at once, --follow, signals, pipes, block devices, and disks at the limits of size."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import xxhash

from rig import MIB, Rig, python, random_disk, same, scribble
from rigs.host import media
from rigs.host.forked import Forked
from rigs.host.hearing import heard
from warmspare.format import frame, pack, restore_point
from warmspare.format.chunk import Chunk, ChunkFrames
from warmspare.format.hashtable import root_of
from warmspare.format.manifest import Header, ManifestWriter
from warmspare.format.packlist import PackRef
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.ids import PackId, run_of
from warmspare.model.keyparts import encode_name
from warmspare.model.runs import Runs
from warmspare.repository.chain import Repository
from warmspare.store import layout
from warmspare.store.lease import Lease


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    random_disk(rig.disk, 5 * MIB, random.Random(1))
    rig.sync()
    return rig


def spawn(*arguments: object) -> subprocess.Popen[str]:
    """The real command as a process of its own."""
    return subprocess.Popen(
        [python(), "-m", "warmspare", *map(str, arguments), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """As spawn; whatever the test does, it is ended."""
    child = spawn(*arguments)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


# two senders


def test_two_senders_at_once(rig: Rig) -> None:
    """Other hosts, other state: one publishes, the other ends with 6 or follows on, and the chain is whole."""
    rng = random.Random(2)
    for number in range(4):
        scribble(rig.disk, rng)
        words = ["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--json"]
        children = [Forked("-m", "warmspare", *words, "--state", rig.home / f"host-{i}") for i in range(3)]
        done = [(child.communicate(timeout=120), child.returncode) for child in children]
        codes = [code for _, code in done]
        assert 0 in codes and set(codes) <= {0, 6}, done
        for (_, stderr), code in done:
            assert code == 0 or b"wait" in stderr or b"another" in stderr
        rig.apply()
        assert same(rig.disk, rig.replica), number


def test_two_senders_with_one_state_directory(rig: Rig) -> None:
    scribble(rig.disk, random.Random(3))
    arguments = ("sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state)
    children = [spawn(*arguments) for _ in range(3)]
    codes = [child.wait(120) for child in children]
    for child in children:
        child.communicate()
    assert 0 in codes and set(codes) <= {0, 6}
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_publishing_is_safe_without_the_lease(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease saves work; what keeps two senders apart is the conditional write of the record."""

    class Always:
        async def confirm(self) -> None:
            pass

    @contextlib.asynccontextmanager
    async def hold(*_: object, **__: object) -> AsyncIterator[Always]:
        yield Always()

    monkeypatch.setattr(Lease, "hold", hold)
    publish = Repository.publish
    other_done: list[int] = []

    async def late(self: Repository, vm: str, sequence: int, data: bytes) -> bool:
        if not other_done:
            other_done.append(1)
            arguments = ("sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.home / "other-host")
            child = await asyncio.to_thread(spawn, *arguments)
            # The other's lease is its own affair: nobody holds one here.
            await asyncio.to_thread(child.communicate)
            other_done.append(child.returncode)
        return await publish(self, vm, sequence, data)

    monkeypatch.setattr(Repository, "publish", late)
    scribble(rig.disk, random.Random(4))
    packs = len(rig.objects("packs"))
    lost = rig.sync(code=6)
    assert other_done == [1, 0] and "first" in lost.stderr
    assert len(rig.objects("packs")) == packs + 1, "the loser left its packs"
    monkeypatch.undo()
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_lost_answer_is_not_a_lost_point(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record stands, the answer never came: the run fails, the next one knows the point for its own."""
    from warmspare.errors import StoreError

    publish = Repository.publish

    async def lose(self: Repository, vm: str, sequence: int, data: bytes) -> bool:
        assert await publish(self, vm, sequence, data)
        raise StoreError("the connection broke", retryable=True)

    scribble(rig.disk, random.Random(5))
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "publish", lose)
        rig.sync(code=4)
    again = rig.sync()
    assert again.last("sync.recovered")["published"] is True
    assert again.last("sync.done")["parent"].startswith("2-") and again.last("sync.done")["bytes_changed"] == 0
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_old_leavings_of_senders_that_nobody_remembers(rig: Rig) -> None:
    """A host that died for good leaves what it was uploading; hours later any sender of the VM removes it."""
    root = Path(rig.repo) / ".tmp~" / "uploads" / "vms" / rig.vm
    names = [f"{key}/{7:016x}" for key in ("packs/00/000000.pack", "lease.json", "points/0000000002.json")]
    for age_s, gone in ((3600, False), (7 * 3600, True)):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"half")
            os.utime(root / name, (time.time() - age_s,) * 2)
        rig.sync()
        assert [not (root / name).exists() for name in names] == [gone] * 3


# two receivers, and --follow


def test_a_second_apply_on_the_same_replica(rig: Rig) -> None:
    rig.apply()
    with running("apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica, "--follow") as follower:
        assert heard(follower.stdout.readline())["event"] == "apply.start"  # type: ignore[union-attr]
        refused = rig.apply(code=6)
        assert "another apply" in refused.stderr
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 130


def test_follow_sees_a_new_point_within_ten_seconds(rig: Rig) -> None:
    with running("apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica, "--follow") as follower:
        seen: list[tuple[float, dict[str, object]]] = []
        reader = threading.Thread(
            target=lambda: [seen.append((time.monotonic(), heard(line))) for line in follower.stdout or []],
            daemon=True,
        )
        reader.start()
        for number in range(2, 4):
            scribble(rig.disk, random.Random(number))
            rig.sync()
            published = time.monotonic()
            deadline = published + 30
            while time.monotonic() < deadline:
                done = [(at, e) for at, e in seen if e["event"] == "apply.done" and str(e["point"])[0] == str(number)]
                if done:
                    break
                time.sleep(0.05)
            assert done and done[0][0] - published < 10
            assert same(rig.disk, rig.replica)
        follower.send_signal(signal.SIGTERM)
        assert follower.wait(20) == 130
        reader.join(10)
        assert seen[-1][1]["event"] == "error" and seen[-1][1]["exit_code"] == 130


def test_follow_ends_when_the_repository_is_rolled_back(rig: Rig) -> None:
    scribble(rig.disk, random.Random(8))
    rig.sync()
    with running("apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica, "--follow") as follower:
        for line in follower.stdout or []:
            if heard(line)["event"] == "apply.done":
                break
        rig.point_path(2).unlink()
        assert follower.wait(30) == 5


# signals and pipes


def test_an_interrupted_sync_goes_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(9).randbytes(120 * MIB))
    arguments = ("sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, "--level", "9", *rig.new())
    for number in (signal.SIGINT, signal.SIGTERM):
        with running(*arguments) as child:
            for line in child.stdout or []:
                if heard(line)["event"] == "disk.start":
                    break
            child.send_signal(number)
            out, err = child.communicate(timeout=30)
            assert child.returncode == 130, err
            assert "goes on from here" in err and "Traceback" not in err
            assert heard(out.splitlines()[-1])["exit_code"] == 130
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert len({p.parent for p in rig.objects("packs")}) == 1, "what was interrupted was not cleared up"


def test_a_reader_that_goes_away_stops_nothing(rig: Rig) -> None:
    scribble(rig.disk, random.Random(10))
    child = spawn("sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state)
    assert child.stdout and child.stderr
    child.stdout.close()
    err = child.stderr.read()
    assert child.wait(60) == 0 and err == ""
    assert len(rig.objects("points")) == 2


# the format's corners, as another writer may use them


def test_several_records_of_a_block_and_parts_of_frames(rig: Rig) -> None:
    """A resumed sync may record a block twice with disjoint masks, and use a part of a frame's pages."""
    rig.apply()
    before = rig.point(1)
    disk = bytearray(rig.disk.read_bytes())
    rng = random.Random(11)
    fresh = {page: rng.randbytes(4096) for page in (16, 17, 20, 31, 40)}  # blocks 1, 1, 1, 1 and 2
    for page in (16, 17, 20, 40):
        disk[page * 4096 : (page + 1) * 4096] = fresh[page]
    disk[21 * 4096 : 22 * 4096] = bytes(4096)  # became zero by a record of no pages
    run = run_of(bytes(range(16)))
    head = pack.PackHeader(PackId(run, 0), 0).encode()
    frames = []
    for pages in ([16, 17], [20, 31, 40]):  # page 31 is in the frame and no record uses it
        raw = b"".join(fresh[p] for p in pages)
        frames.append(b"".join(bytes(b) for b in frame.encode(np.array(pages, dtype=np.uint64), raw, 3)))
    body = head + b"".join(frames)
    digest = {b: xxhash.xxh3_128_digest(bytes(disk[b * 65536 : (b + 1) * 65536])) for b in (1, 2)}
    chunk = Chunk(
        ChunkFrames.of([(0, len(head), len(frames[0])), (0, len(head) + len(frames[0]), len(frames[1]))]),
        PlacedRecords(
            block=np.array([1, 1, 1, 2], dtype=np.uint32),
            carried=np.array([0b11, 0b10000, 0, 1 << 8], dtype=np.uint16),
            zero=np.array([0, 0, 0b100000, 0], dtype=np.uint16),
            hashes=np.frombuffer(digest[1] * 3 + digest[2], dtype=np.uint8).reshape(4, 16),
            frame=np.array([0, 1, NO_FRAME, 1], dtype=np.uint16),
        ),
        Runs.none(),
    )
    import hashlib

    import crc32c

    out = bytearray()
    writer = ManifestWriter(Header("disk.raw", len(disk), run), out.extend)
    writer.add(chunk)
    writer.finish([PackRef(PackId(run, 0), len(body), crc32c.crc32c(body), hashlib.sha256(body).digest())])
    vm = encode_name(rig.vm)
    entries = {
        b: xxhash.xxh3_128_digest(bytes(disk[b * 65536 : (b + 1) * 65536]))
        for b in range(len(disk) // 65536)
        if any(disk[b * 65536 : (b + 1) * 65536])
    }
    keys = {layout.pack_key(vm, PackId(run, 0)): body, layout.manifest_key(vm, run, 0): bytes(out)}
    for key, data in keys.items():
        path = Path(rig.repo) / key
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    key = layout.manifest_key(vm, run, 0)
    ref = restore_point.ObjectRef(key, len(out), hashlib.sha256(out).hexdigest(), crc32c.crc32c(bytes(out)))
    base, root = before.disks[0].checkpoint, root_of(len(disk), entries)
    new = restore_point.Disk("disk.raw", "disk.raw", len(disk), root, ref, 2, None, base, 0, {})
    parent = restore_point.identity(rig.point_path(1).read_bytes())
    record = restore_point.RestorePoint(
        1, 0, rig.vm, rig.vm, 2, parent, run, "2026-01-01T00:00:00Z", "another writer", [new], 0, 0, 0
    )
    rig.point_path(2).write_bytes(restore_point.encode(record))
    done = rig.apply().last("apply.done")
    assert rig.replica.read_bytes() == bytes(disk)
    assert done["blocks_rebuilt"] == 0 and done["blocks_verified"] == 2, "it was not put together in one go"
    rig.apply(to=rig.home / "fresh.raw")
    assert (rig.home / "fresh.raw").read_bytes() == bytes(disk)
    rig.disk.write_bytes(bytes(disk))
    assert rig.sync().last("sync.done")["bytes_changed"] == 0, "the sender learns what another writer published"


# limits of size


@pytest.fixture
def memory_place() -> Iterator[Path]:
    """A directory on a file system whose files may be of any length."""
    home = Path(f"/dev/shm/warmspare-test-{os.getpid()}")
    home.mkdir()
    try:
        yield home
    finally:
        shutil.rmtree(home)


def test_a_disk_of_64_tib(memory_place: Path) -> None:
    rig = Rig(memory_place)
    rng = random.Random(12)
    size = 64 << 40
    places = [0, 5 << 40, (15 << 40) + 4096, (17 << 40) + 12345, 40 << 40, size - 70000]
    pieces = {at: rng.randbytes(66000) for at in places}
    with rig.disk.open("wb") as file:
        file.truncate(size)
        for at, data in pieces.items():
            file.seek(at)
            file.write(data)
    rig.sync()
    rig.apply()
    with rig.disk.open("r+b") as file:
        file.seek(40 << 40)
        file.write(bytes(66000))
        file.seek(size - 1)
        file.write(b"!")
    extents = rig.home / "extents"
    extents.write_text(f"{40 << 40} 131072\n{size - 65536} 65536\n")
    rig.sync("--extents", extents)
    rig.apply()
    assert rig.replica.stat().st_size == size
    with rig.disk.open("rb") as left, rig.replica.open("rb") as right:
        for at in [*places, size - 131072]:
            for start in (max(0, at - 65536), at, at + 65536):
                left.seek(start)
                right.seek(start)
                assert left.read(65536) == right.read(65536)
        assert holes(right) <= holes(left) + (4 << 20), "something else was written"
    with (rig.home / "larger.raw").open("wb") as file:
        file.truncate(size + 1)
    other = Rig(rig.home, vm="other")
    assert "larger than" in other.sync(disks=[rig.home / "larger.raw"], code=3).stderr


def holes(file: object) -> int:
    """Bytes allocated."""
    return os.fstat(file.fileno()).st_blocks * 512  # type: ignore[attr-defined]


# block devices


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A loop device full of someone's old data."""
    backing = tmp_path / "backing"
    backing.write_bytes(random.Random(13).randbytes(8 * MIB))
    with media.device(backing) as path:
        yield path


def test_a_block_device(rig: Rig, device: Path) -> None:
    size = rig.disk.stat().st_size
    state = ("--state", rig.home / "device-state")
    assert "--initialize" in rig.apply(*state, to=device, code=2).stderr
    rig.apply(*state, "--initialize", to=device)
    assert device.open("rb").read(size) == rig.disk.read_bytes(), "absent blocks must read as zeros"
    with rig.disk.open("r+b") as file:
        file.truncate(size + MIB)
    scribble(rig.disk, random.Random(14))
    rig.sync()
    rig.apply(*state, to=device)
    assert device.open("rb").read(size + MIB) == rig.disk.read_bytes()
    os.truncate(rig.disk, 9 * MIB)
    rig.sync()
    assert "device has" in rig.apply(*state, to=device, code=2).stderr
