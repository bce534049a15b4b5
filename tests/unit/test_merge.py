"""Merging manifests: against a model that is a dictionary, and at the limits of chunks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import warmspare.sync.passes.manifest_merge
from warmspare.format.chunk import Chunk, ChunkFrames
from warmspare.format.manifest import Header, ManifestReader, ManifestWriter
from warmspare.format.packlist import PackRef
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.extents import Extents, normalise
from warmspare.model.ids import PackId, run_of
from warmspare.model.runs import Runs
from warmspare.model.units import BLOCK_BYTES
from warmspare.sync.passes import manifest_merge

BLOCKS = 200
Row = tuple[object, ...]  # carried, zero, hash, and (run, number, offset, length) of the frame
Model = dict[int, list[Row]]  # by block; an empty list: it became zero


def pack(run: int, number: int) -> PackRef:
    return PackRef(PackId(run_of(bytes([run]) * 16), number), 1000 + number, 7 * run, bytes([number]) * 32)


def made(rng: np.random.Generator, blocks: list[int], packs: list[PackRef], per_chunk: int) -> bytes:
    """A manifest with random rows of these blocks: records, several of a block, and zero runs."""
    out = bytearray()
    writer = ManifestWriter(Header("d", BLOCKS * BLOCK_BYTES, packs[0].id.run), out.extend)
    for at in range(0, len(blocks), per_chunk):
        zeros, block, frame, carried, zero, hashes = [], [], [], [], [], []
        count = int(rng.integers(1, 5))
        for b in blocks[at : at + per_chunk]:
            if rng.random() < 0.3:
                zeros.append(b)
                continue
            free, digest = 0xFFFF, rng.integers(0, 256, 16, dtype=np.uint8)
            for _ in range(int(rng.integers(1, 4))):
                mask = int(rng.integers(1, 1 << 16)) & free
                if not mask:
                    continue
                free &= ~mask
                of = mask & int(rng.integers(0, 1 << 16))
                block.append(b)
                carried.append(of)
                zero.append(mask & ~of)
                frame.append(int(rng.integers(0, count)) if of else NO_FRAME)
                hashes.append(digest)
            if b not in block:
                zeros.append(b)
        start, length = runs(zeros)
        writer.add(
            Chunk(
                ChunkFrames(
                    rng.integers(0, len(packs), count).astype(np.uint32),
                    rng.integers(64, 5000, count).astype(np.uint32),
                    rng.integers(40, 900, count).astype(np.uint32),
                ),
                PlacedRecords(
                    np.array(block, dtype=np.uint32),
                    np.array(carried, dtype=np.uint16),
                    np.array(zero, dtype=np.uint16),
                    np.array(hashes, dtype=np.uint8).reshape(-1, 16),
                    np.array(frame, dtype=np.uint16),
                ),
                Runs(start, length),
            )
        )
    writer.finish(packs)
    return bytes(out)


def runs(blocks: list[int]) -> tuple[np.ndarray, np.ndarray]:
    starts = [b for b in blocks if b - 1 not in blocks]
    ends = [b + 1 for b in blocks if b + 1 not in blocks]
    return np.array(starts, dtype=np.uint32), np.array([e - s for s, e in zip(starts, ends, strict=True)], np.uint32)


def reader(data: bytes) -> ManifestReader:
    return ManifestReader(lambda at, size: data[at : at + size], len(data), "here")


def model(manifest: ManifestReader) -> Model:
    """What a manifest says, apart from how it says it."""
    out: Model = {}
    for chunk in manifest.chunks():
        records = chunk.records
        for row, block in enumerate(records.block.tolist()):
            place = None
            if (at := int(records.frame[row])) != NO_FRAME:
                pack, *where = chunk.frames.place(at)
                place = (manifest.packs[pack], *where)
            rows = out.setdefault(block, [])
            rows.append((int(records.carried[row]), int(records.zero[row]), records.hashes[row].tobytes(), place))
        for start, count in chunk.zeros.pairs():
            for block in range(start, start + count):
                assert block not in out
                out[block] = []
    return out


def merged(base: bytes, read: Extents, fresh: bytes) -> tuple[ManifestReader, list[int], manifest_merge.Stays]:
    out = bytearray()
    stays = manifest_merge.Stays()
    gone = [block for blocks in manifest_merge.look(reader(base), read, stays) for block in blocks.tolist()]
    writer = ManifestWriter(reader(fresh).header, out.extend)
    writer.finish(manifest_merge.merge(reader(base), read, stays, reader(fresh), writer))
    return reader(bytes(out)), gone, stays


def check(base: bytes, read: Extents, fresh: bytes) -> ManifestReader:
    """The merged manifest says what the two do; and names no pack that nothing uses, but what the newer one names."""
    looked_at = {b for at, size in read.pairs() for b in range(at // BLOCK_BYTES, -(-(at + size) // BLOCK_BYTES))}
    older, newer = model(reader(base)), model(reader(fresh))
    stay = {block: rows for block, rows in older.items() if block not in looked_at}
    found, gone, stays = merged(base, read, fresh)
    assert model(found) == {**stay, **newer}
    assert gone == sorted(block for block, rows in older.items() if block in looked_at and rows)
    assert stays.blocks == len(stay)
    used = {row[3][0] for rows in stay.values() for row in rows if row[3]}  # type: ignore[index]
    assert set(found.packs) == used | set(reader(fresh).packs) and len(set(found.packs)) == len(found.packs)
    return found


@given(st.integers(0, 1 << 32), st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_it_says_what_both_say(seed: int, base_rows: int, fresh_rows: int, density: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, BLOCKS, int(share * 40))
    read = normalise(starts * BLOCK_BYTES, np.minimum(rng.integers(1, 20, starts.size), BLOCKS - starts) * BLOCK_BYTES)
    looked_at = [b for at, size in read.pairs() for b in range(at // BLOCK_BYTES, (at + size) // BLOCK_BYTES)]
    some = [b for b in range(BLOCKS) if rng.random() < density]
    packs = [pack(1, 0), pack(1, 1), pack(2, 0)]
    base = made(rng, some, packs, base_rows)
    again = [b for b in looked_at if rng.random() < 0.6]
    fresh = made(rng, again, [packs[int(rng.integers(0, 3))], pack(3, 0)], fresh_rows)
    check(base, read, fresh)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Chunks of next to nothing, so that their limits are met."""
    with monkeypatch.context() as patch:
        patch.setattr(warmspare.sync.passes.manifest_merge, "MAX_RECORDS", 20)
        patch.setattr(warmspare.sync.passes.manifest_merge, "MAX_FRAMES", 9)
        patch.setattr(warmspare.sync.passes.manifest_merge, "MAX_RUNS", 3)
        yield


@pytest.mark.parametrize("seed", range(20))
def test_chunks_keep_to_their_limits(small: None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    read = normalise([b * BLOCK_BYTES for b in range(seed % 2, BLOCKS, 2)], [BLOCK_BYTES] * (BLOCKS // 2))
    base = made(rng, list(range(BLOCKS)), [pack(1, 0), pack(1, 1)], 70)
    fresh = made(rng, list(range(seed % 2, BLOCKS, 2)), [pack(2, 0)], 50)
    for chunk in check(base, read, fresh).chunks():
        assert len(chunk.records) <= 20 and len(chunk.frames) < 9 and len(chunk.zeros) <= 3
    for chunk in check(base, normalise([], []), made(rng, [], [pack(2, 0)], 1)).chunks():
        assert len(chunk.records) <= 20 and len(chunk.frames) < 9 and len(chunk.zeros) <= 3


def test_nothing_stays_and_nothing_comes() -> None:
    rng = np.random.default_rng(1)
    base, whole = made(rng, list(range(BLOCKS)), [pack(1, 0)], 64), normalise([0], [BLOCKS * BLOCK_BYTES])
    assert not check(base, whole, made(rng, [], [pack(2, 0)], 1)).totals.records
    fresh = made(rng, list(range(BLOCKS)), [pack(2, 0)], 64)
    assert model(check(base, whole, fresh)) == model(reader(fresh))
    assert model(check(base, normalise([], []), made(rng, [], [pack(2, 0)], 1))) == model(reader(base))
