"""A sync that was interrupted goes on: what is in the store already is not sent again, whether or not the disk has
changed since; what turns out to be no use is removed; and nothing that is published is ever touched."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import warmspare.sync.stages.pack_writer
from rig import KIB, MIB, Outcome, Rig, losing_the_store, same, scribble
from warmspare.errors import StoreError
from warmspare.format.manifest import ManifestReader
from warmspare.format.packlist import PackRef
from warmspare.model.block_records import Records
from warmspare.model.ids import PackId, run_of
from warmspare.model.keyparts import encode_name
from warmspare.store import layout
from warmspare.sync.journal.sentlog import SentFrame, SentLog, frames_of, packs_of
from warmspare.sync.resuming.reuse import Resume
from warmspare.sync.rows import Filtered


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A disk of 12 MiB that does not compress, in packs of a megabyte."""
    monkeypatch.setattr(warmspare.sync.stages.pack_writer, "PACK_BYTES", MIB)
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(12 * MIB))
    return rig


@pytest.fixture
def cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Outcome]:
    """Sync, and lose the store after so many packs."""
    return lambda packs: losing_the_store(rig, monkeypatch, packs)


def exact(rig: Rig) -> None:
    """The replica, and one from nothing, are the disk; the store holds what the points name and nothing else."""
    rig.apply()
    assert same(rig.disk, rig.replica)
    fresh = rig.home / "fresh.raw"
    rig.apply(to=fresh)
    assert same(rig.disk, fresh)
    fresh.unlink()
    shutil.rmtree(f"{fresh}.warmspare")
    named = set()
    for path in rig.objects("points"):
        record = rig.point(int(path.stem))
        for disk in record.disks:
            data = (Path(rig.repo) / disk.manifest.key).read_bytes()
            packs = ManifestReader(lambda at, size, data=data: data[at : at + size], len(data), "here").packs
            named |= {layout.pack_key(encode_name(rig.vm), pack.id) for pack in packs}
    assert {str(path.relative_to(rig.repo)) for path in rig.objects("packs")} == named
    assert not list(rig.state.rglob("unfinished"))


def test_what_was_sent_is_not_sent_again(rig: Rig, cut: Callable[[int], Outcome]) -> None:
    cut(7)
    done = rig.sync()
    kept = done.last("sync.recovered")["packs_kept"]
    assert kept >= 6  # several are under way at a time, and the store may go away between a pack and the note of it
    assert done.last("sync.done")["bytes_sent"] <= (12 - kept) * MIB + 64 * KIB
    assert done.last("sync.resumed")["bytes_reused"] >= 0.9 * kept * MIB
    exact(rig)


def test_interrupted_again_and_again(rig: Rig, cut: Callable[[int], Outcome]) -> None:
    for _ in range(5):
        cut(2)
    done = rig.sync()
    assert done.last("sync.done")["bytes_sent"] <= 4 * MIB
    exact(rig)


def test_the_disk_changed_meanwhile(rig: Rig, cut: Callable[[int], Outcome]) -> None:
    """The snapshot is lost: pages that are still the same are not sent again, pages that changed are."""
    cut(8)
    with rig.disk.open("r+b") as file:  # some pages of blocks, a whole megabyte, and zeros
        for block in range(0, 60, 3):
            file.seek(block * 64 * KIB + 4096 * (block % 16))
            file.write(random.Random(block).randbytes(4096))
        file.seek(4 * MIB)
        file.write(random.Random(99).randbytes(MIB))
        file.seek(6 * MIB + 8192)
        file.write(bytes(300 * KIB))
    done = rig.sync()
    assert done.last("sync.done")["bytes_sent"] <= 8 * MIB
    assert done.last("sync.resumed")["bytes_reused"] >= 4 * MIB
    exact(rig)


def test_packs_that_are_no_use_are_removed(rig: Rig, cut: Callable[[int], Outcome]) -> None:
    cut(5)
    rig.disk.write_bytes(random.Random(2).randbytes(12 * MIB))
    done = rig.sync()
    assert not done.all("sync.resumed")
    exact(rig)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_kept_pack_is_looked_at_before_it_is_used(rig: Rig, cut: Callable[[int], Outcome], damage: str) -> None:
    cut(6)
    pack = rig.objects("packs")[2]
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    if damage == "missing":
        pack.unlink()
    elif damage == "cut":
        pack.write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 1
        pack.write_bytes(data)
    rig.sync()
    exact(rig)


def test_increments_are_resumed_too(rig: Rig, cut: Callable[[int], Outcome]) -> None:
    rig.sync()
    rig.apply()
    with rig.disk.open("r+b") as file:
        file.seek(MIB)
        file.write(random.Random(3).randbytes(9 * MIB))
    cut(5)
    scribble(rig.disk, random.Random(4), pieces=10)
    assert rig.sync().last("sync.done")["bytes_sent"] <= 6 * MIB
    exact(rig)
    rig.apply("--at", 1, to=rig.home / "first")
    assert (rig.home / "first").stat().st_size == 12 * MIB


def test_another_host_published_meanwhile(rig: Rig, cut: Callable[[int], Outcome]) -> None:
    cut(6)
    rig.sync(state=rig.home / "elsewhere")
    scribble(rig.disk, random.Random(5), pieces=10)
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    scribble(rig.disk, random.Random(6), pieces=10)
    rig.sync()
    exact(rig)


@pytest.mark.parametrize("others", [0, 2])
def test_what_a_published_point_names_is_never_removed(
    rig: Rig, cut: Callable[[int], Outcome], monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """A run that used earlier packs dies right after its publication, before it could take note of that; others may
    have published since."""
    cut(6)
    with monkeypatch.context() as patch:

        async def dies(*_: object) -> None:
            raise StoreError("the host died", retryable=True)

        patch.setattr("warmspare.sync.sender.Sender._commit", dies)
        rig.sync(code=4)
    assert rig.objects("points")
    published = rig.snapshot()
    for number in range(others):
        scribble(rig.disk, random.Random(number), pieces=5)
        rig.sync(state=rig.home / "elsewhere")
    scribble(rig.disk, random.Random(7), pieces=5)
    rig.sync()
    after = rig.snapshot()
    named = {key for key in published if "/points/" in key or "/packs/" in key}
    assert named <= {*after, *(key for key in named if key not in after and not used(rig, key))}
    exact(rig)
    rig.apply("--at", 1, to=rig.home / "first")


def used(rig: Rig, key: str) -> bool:
    """Whether the first point names a pack."""
    (disk,) = rig.point(1).disks
    data = (Path(rig.repo) / disk.manifest.key).read_bytes()
    packs = ManifestReader(lambda at, size: data[at : at + size], len(data), "here").packs
    return key in {layout.pack_key(encode_name(rig.vm), pack.id) for pack in packs}


@pytest.mark.parametrize("seed", range(3))
def test_random_interruptions_and_changes(rig: Rig, cut: Callable[[int], Outcome], seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(3):
        for _ in range(rng.randrange(1, 4)):
            with rig.disk.open("r+b") as file:
                file.seek(rng.randrange(6) * MIB)
                file.write(rng.randbytes(rng.randrange(2, 6) * MIB))
            cut(rng.randrange(0, 2))
            scribble(rig.disk, rng, pieces=10)
        rig.sync()
        exact(rig)


def test_packs_that_end_side_by_side_are_all_listed(tmp_path: Path) -> None:
    """Completions come from threads, each of which waits for the disk; on a busy one they overlap."""
    log = SentLog(tmp_path / "d.sent")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.complete(PackRef(PackId(run_of(bytes(16)), n), 1000, 7, bytes(32))), range(200)))
    log.close()
    assert sorted(pack.id.number for pack in packs_of(tmp_path / "d.sent")) == list(range(200))


def test_a_log_ends_where_it_is_damaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    log = SentLog(tmp_path / "d.sent")
    for number in range(4):
        block = np.arange(number * 3, number * 3 + 3, dtype=np.uint32)
        pages = rng.integers(1, 1 << 63, (3, 16), dtype=np.uint64)
        log.add(SentFrame(number, 64, 100 + number, block, np.full(3, 0xFFFF, dtype=np.uint16), pages))
        log.complete(PackRef(PackId(run_of(bytes(16)), number), 1000, 7, bytes(32)))
    log.close()
    path, packs = tmp_path / "d.sent", tmp_path / "d.packs"
    assert [frame.bytes for frame in frames_of(path)] == [100, 101, 102, 103]
    assert [pack.id.number for pack in packs_of(path)] == [0, 1, 2, 3]
    for file, read in ((path, lambda: list(frames_of(path))), (packs, lambda: packs_of(path))):
        whole = file.read_bytes()
        for at in range(0, len(whole), 37):
            before = at // (len(whole) // 4)  # entries in front of the damage
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
            assert len(read()) == before
            file.write_bytes(whole[:at])
            assert len(read()) == before
        file.write_bytes(whole)


@given(st.integers(0, 1 << 32), st.integers(1, 5), st.integers(0, 16))
@settings(max_examples=60, deadline=None)
def test_a_split_neither_loses_nor_invents_a_page(
    tmp_path_factory: pytest.TempPathFactory, seed: int, runs: int, same_of: int
) -> None:
    """Every carried page is either to be sent or lies, with the very hash, in the frame that its record names."""
    rng = np.random.default_rng(seed)
    packs = [PackRef(PackId(run_of(bytes([run]) * 16), 0), 1000, 0, bytes(32)) for run in range(runs)]
    resume = Resume(tmp_path_factory.mktemp("resume") / "map", packs)
    lies: dict[tuple[int, int], tuple[int, int, int, int]] = {}
    for run in range(runs):
        frames = []
        for offset in range(2):
            block = np.sort(rng.choice(40, 6, replace=False)).astype(np.uint32)
            carried = rng.integers(1, 1 << 16, 6, dtype=np.uint16)
            pages = rng.integers(1, 4, (6, 16), dtype=np.uint64)
            frames.append(SentFrame(0, offset, 50, block, carried, pages))
            for row, b in enumerate(block.tolist()):
                for p in range(16):
                    if carried[row] >> p & 1:
                        lies[b, p] = (run, offset, 50, int(pages[row, p]))
        resume.learn(run_of(bytes([run]) * 16), frames)
    block = np.sort(rng.choice(40, 16, replace=False)).astype(np.uint32)
    carried = rng.integers(0, 1 << 16, 16, dtype=np.uint16)
    zero = (~carried & rng.integers(0, 1 << 16, 16, dtype=np.uint16)).astype(np.uint16)
    some = (carried | zero) > 0
    block, carried, zero = block[some], carried[some], zero[some]
    pages = rng.integers(1, 4, (block.size, 16), dtype=np.uint64)
    pages[:, :same_of] = 3
    hashes = rng.integers(0, 256, (block.size, 16), dtype=np.uint8)
    none = np.empty(0, dtype=np.uint32)
    found = Filtered(Records(block, carried, zero, hashes), np.arange(block.size), pages, none, 0)
    filtered, reused = resume.split(found)
    new = filtered.records
    seen: dict[int, tuple[int, int]] = dict.fromkeys(block.tolist(), (0, 0))
    records = [(int(b), int(c), int(z), None) for b, c, z in zip(new.block, new.carried, new.zero, strict=True)]
    if reused is not None:
        places = resume.frames(reused.frame)
        rows = zip(reused.block, reused.carried, reused.zero, places, strict=True)
        records += [(int(b), int(c), int(z), place) for b, c, z, place in rows]
        assert bool(np.all(np.diff(reused.block.astype(np.int64)) >= 0))
    by_block = {b: row for row, b in enumerate(block.tolist())}
    for b, c, z, place in records:
        assert c | z and not c & z and not (seen[b][0] & c) and not (seen[b][1] & z)
        seen[b] = (seen[b][0] | c, seen[b][1] | z)
        for p in range(16):
            known = lies.get((b, p))
            right = known is not None and known[3] == int(pages[by_block[b], p])
            if c >> p & 1:
                assert right if place is not None else not right
                assert place is None or (known is not None and place == known[:3])
    assert seen == {b: (int(carried[row]), int(zero[row])) for b, row in by_block.items()}
    resume.close()
