"""The one reader of blocks from the chain: what is damaged costs the blocks that it is of, and no others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xxhash

from rig import MIB, Rig, flip
from rigs.stores.retaining import retain
from warmspare.apply.block_repair import BlockRepair, Outcome
from warmspare.errors import IntegrityError, StoreError
from warmspare.format.manifest import ManifestReader
from warmspare.model.columns import U8
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Meter
from warmspare.repository.blocks import held_frames
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.repository.blocks.chain_blocks import FRAMES_KEPT_BYTES, ChainBlocks
from warmspare.repository.blocks.pack_ranges import PackRange, pack_objects
from warmspare.repository.chain import Repository, open_repository
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.opening import open_store
from warmspare.threads import Threads

SIZE = 5 * MIB + 700
BLOCKS = -(-SIZE // BLOCK_BYTES)
EVERY = list(range(BLOCKS))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Three points of a disk of 5 MiB and a bit; the second writes a page in each third block, the third zeros some."""
    rig, rng = Rig(tmp_path), random.Random(3)
    rig.disk.write_bytes(rng.randbytes(SIZE))
    rig.sync()
    for number in (2, 3):
        with rig.disk.open("r+b") as file:
            for block in range(number, BLOCKS - 1, 3):
                file.seek(block * BLOCK_BYTES + 8192)
                file.write(rng.randbytes(4096) if number == 2 else bytes(4096))
            file.seek(40 * BLOCK_BYTES)
            file.write(bytes(3 * BLOCK_BYTES))
        rig.sync()
    return rig


def expected(rig: Rig) -> U8:
    data = rig.disk.read_bytes()
    blocks = [data[at : at + BLOCK_BYTES] for at in range(0, SIZE, BLOCK_BYTES)]
    digests = [xxhash.xxh3_128_digest(block) if any(block) else bytes(16) for block in blocks]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)


def frames(rig: Rig, sequence: int) -> dict[tuple[str, int], list[int]]:
    """(pack, offset) of each frame of a point -> the blocks whose pages lie in it."""
    point = rig.point(sequence)
    manifest = (Path(rig.repo) / point.disks[0].manifest.key).read_bytes()
    reader = ManifestReader(lambda at, length: manifest[at : at + length], len(manifest), "manifest")
    packs = pack_objects(point.vm_id, reader.packs)
    out: dict[tuple[str, int], list[int]] = {}
    for chunk in reader.chunks():
        records = chunk.records.take(np.flatnonzero(chunk.records.carried))
        for block, number in zip(records.block.tolist(), records.frame.tolist(), strict=True):
            pack, offset, _ = chunk.frames.place(number)
            out.setdefault((packs[pack].key, offset), []).append(block)
    return out


@dataclass
class Reading:
    """What one read of all blocks gave. right, wrong: blocks by what their hash says; lost: why."""

    right: list[int]
    wrong: list[int]
    lost: dict[int, IntegrityError]


async def gather(rig: Rig, chain: ChainBlocks) -> Reading:
    window = BlockWindow(np.arange(BLOCKS, dtype=np.uint32), SIZE, expected(rig))
    lost = await chain.gather(window)
    wrong = [position for position in window.wrong() if position not in lost]
    right = [position for position in EVERY if position not in lost and position not in wrong]
    return Reading(right, wrong, lost)


def with_chain(
    rig: Rig,
    work: Callable[[ChainBlocks, Repository], Awaitable[Reading]],
    *,
    point: int = 3,
    kept_bytes: int = FRAMES_KEPT_BYTES,
) -> Reading:
    async def run() -> Reading:
        store = open_store(rig.repo)
        threads = Threads(2, "test")
        try:
            repository = await open_repository(store)
            head = await repository.load(rig.vm, point)
            disk = head.record.disks[0]
            scratch = rig.home / "scratch"
            async with ChainBlocks(repository, head, disk, scratch, threads, Meter(), kept_bytes) as chain:
                return await work(chain, repository)
        finally:
            threads.close()
            await store.close()

    return asyncio.run(run())


def read(rig: Rig) -> Reading:
    return with_chain(rig, lambda chain, _: gather(rig, chain))


def test_all_of_it(rig: Rig) -> None:
    assert read(rig) == Reading(EVERY, [], {})


@pytest.mark.parametrize("sequence", [1, 2])
def test_a_damaged_frame_costs_its_own_blocks(rig: Rig, sequence: int) -> None:
    """Though others are fetched in one request with it."""
    all_of = frames(rig, sequence)
    places = sorted(all_of)
    key, offset = places[len(places) // 2]
    flip(Path(rig.repo) / key, offset + 90)
    reading = read(rig)
    assert reading.lost and set(reading.lost) <= set(all_of[key, offset])
    assert not reading.wrong and len(reading.right) == BLOCKS - len(reading.lost)
    assert all(key in error.sentence for error in reading.lost.values())


def test_a_pack_that_is_gone_costs_what_is_in_it(rig: Rig) -> None:
    (key,) = {key for key, _ in frames(rig, 2)}
    (Path(rig.repo) / key).unlink()
    reading = read(rig)
    named = {block for blocks in frames(rig, 2).values() for block in blocks}
    assert reading.lost and set(reading.lost) <= named and not reading.wrong
    assert {error.what for error in reading.lost.values()} == {"a pack is missing"}


@pytest.mark.parametrize("what", ["manifest", "record"])
def test_what_hides_older_pages_costs_the_blocks_that_need_them(rig: Rig, what: str) -> None:
    """And is told again to who asks again: an end of the walk is not the end of the chain."""
    path = rig.point_path(2) if what == "record" else Path(rig.repo) / rig.point(2).disks[0].manifest.key
    flip(path, 60)

    async def twice(chain: ChainBlocks, _: Repository) -> Reading:
        first, second = await gather(rig, chain), await gather(rig, chain)
        assert (first.right, first.wrong, set(first.lost)) == (second.right, second.wrong, set(second.lost))
        return second

    reading = with_chain(rig, twice)
    assert not reading.wrong and set(reading.right) == {40, 41, 42}, "only what point 3 says in full"
    assert set(reading.lost) == set(EVERY) - {40, 41, 42}


@contextmanager
def failing(repository: Repository) -> Iterator[None]:
    async def load(vm: str, sequence: int) -> object:
        raise StoreError("the store is down", retryable=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository, "load", load)
        yield


def test_a_store_that_failed_once_is_no_end_of_the_chain(rig: Rig) -> None:
    async def again(chain: ChainBlocks, repository: Repository) -> Reading:
        with failing(repository), pytest.raises(StoreError, match="the store is down"):
            await gather(rig, chain)
        return await gather(rig, chain)

    assert with_chain(rig, again) == Reading(EVERY, [], {})


def test_filling_raises_where_gathering_tells(rig: Rig) -> None:
    key, offset = min(frames(rig, 1))
    flip(Path(rig.repo) / key, offset + 90)

    async def fill(chain: ChainBlocks, _: Repository) -> Reading:
        window = BlockWindow(np.arange(BLOCKS, dtype=np.uint32), SIZE, expected(rig))
        with pytest.raises(IntegrityError, match=key):
            await chain.fill(window)
        sound = sorted(set(EVERY) - set(frames(rig, 1)[key, offset]))
        window = BlockWindow(np.array(sound, dtype=np.uint32), SIZE, expected(rig)[sound])
        await chain.fill(window)
        assert not window.wrong()
        return Reading([], [], {})

    with_chain(rig, fill)


def test_a_replica_is_repaired_but_for_what_is_lost(rig: Rig) -> None:
    """Whatever stands in it, zeros and all; a block that can't be had stays as it is."""
    target = rig.home / "target"
    junk = random.Random(8).randbytes(SIZE)
    target.write_bytes(junk)
    key, offset = max(frames(rig, 1))
    flip(Path(rig.repo) / key, offset + 90)
    outcomes: list[Outcome] = []

    async def repair(chain: ChainBlocks, _: Repository) -> Reading:
        with target.open("r+b") as file:
            rebuilder = BlockRepair(chain, file.fileno(), SIZE)
            for _ in range(2):
                outcomes.append(await rebuilder.repair(np.arange(BLOCKS, dtype=np.uint32), expected(rig)))
        return Reading([], [], {})

    with_chain(rig, repair)
    first, second = outcomes
    lost = [block for block, _ in first.lost]
    assert 0 < len(lost) < BLOCKS and [block for block, _ in second.lost] == lost
    assert sorted(first.sound) == sorted(first.rebuilt) == sorted(set(EVERY) - set(lost)) == second.sound
    assert not second.rebuilt, "what is right is not written again"
    data, truth = target.read_bytes(), rig.disk.read_bytes()
    for block in EVERY:
        place = slice(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)
        assert data[place] == (junk if block in lost else truth)[place]


def test_frames_of_many_points_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each window needs some pages of every point's frame, and memory has room for two of these."""
    rig, rng = Rig(tmp_path), random.Random(5)
    rig.disk.write_bytes(rng.randbytes(SIZE))
    rig.sync()
    for _ in range(7):
        with rig.disk.open("r+b") as file:
            for page in rng.sample(range(SIZE // 4096), 200):
                file.seek(page * 4096)
                file.write(rng.randbytes(4096))
        rig.sync()
    fetched: list[tuple[str, int]] = []
    read = PackRange.read

    async def counted(wanted: PackRange, repository: Repository) -> bytes:
        fetched.extend((wanted.pack.key, piece.pack_offset) for piece in wanted.pieces)
        return await read(wanted, repository)

    monkeypatch.setattr(PackRange, "read", counted)

    hashes = expected(rig)

    async def forwards(chain: ChainBlocks, _: Repository) -> Reading:
        for block in EVERY:
            window = BlockWindow(np.array([block], dtype=np.uint32), SIZE, hashes[block : block + 1])
            assert not await chain.gather(window) and not window.wrong()
        return Reading([], [], {})

    with_chain(rig, forwards, point=8, kept_bytes=2 * MIB)
    once = len(fetched)
    assert once == len(set(fetched)) >= 8
    # Where the file system is full they are fetched again, and the bytes are the same.
    monkeypatch.setattr(held_frames, "LEFT_FREE_BYTES", 1 << 60)
    with_chain(rig, forwards, point=8, kept_bytes=2 * MIB)
    assert len(fetched) > 10 * once


@pytest.mark.parametrize("point", [3, 4])
def test_points_that_are_dropped_while_one_is_read(rig: Rig, point: int) -> None:
    """Its reader goes on, after an error of the store too: at a point that was dropped, and at the target of a fold
    that stands where its own manifest did."""
    held = rig.disk.read_bytes()
    rig.disk.write_bytes(held[:-1] + b"!")
    rig.sync()
    if point == 3:
        rig.disk.write_bytes(held)

    async def dropped(chain: ChainBlocks, repository: Repository) -> Reading:
        with failing(repository), pytest.raises(StoreError, match="the store is down"):
            await gather(rig, chain)
        store = DirectoryStore(rig.repo)
        await asyncio.to_thread(retain, store, rig.vm, [1, 4], rig.home / "retained", remove=False)
        return await gather(rig, chain)

    assert with_chain(rig, dropped, point=point) == Reading(EVERY, [], {})
