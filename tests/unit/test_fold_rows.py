"""Many manifests as one: what it says is what they say one after the other, from wherever among them one begins."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from warmspare.format.chunk import MAX_RECORDS, Chunk, ChunkFrames
from warmspare.format.manifest import Header, ManifestReader, ManifestWriter
from warmspare.format.packlist import PackRef
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.ids import DiskId, PackId, RunId
from warmspare.model.masks import whole_mask
from warmspare.model.runs import Runs
from warmspare.model.units import BLOCK_BYTES, PAGE_BYTES
from warmspare.repository.history.fold_rows import fold

Place = tuple[str, int, int]  # run, number of the pack, offset
Disk = dict[tuple[int, int], Place | None]  # by block and page; absent: zeros
Hashes = dict[int, bytes]

CAPACITY = 40 * BLOCK_BYTES - 12 * PAGE_BYTES  # its last block has four pages


def reader(data: bytearray) -> ManifestReader:
    return ManifestReader(lambda at, size: bytes(data[at : at + size]), len(data), "test")


def written(
    rows: Sequence[tuple[int, int, int, int, bytes]], zeros: Sequence[int], packs: list[PackRef], folded: bool = False
) -> ManifestReader:
    """rows: block, carried, zero, frame (or NO_FRAME), hash; a frame is a pack and an offset, by its number."""
    data = bytearray()
    out = ManifestWriter(Header(DiskId("d"), CAPACITY, RunId("0" * 32), folded), data.extend)
    frames = sorted({row[3] for row in rows} - {NO_FRAME})
    columns = [np.array([row[nth] for row in rows]) for nth in range(3)]
    frame = np.array([frames.index(row[3]) if row[3] != NO_FRAME else NO_FRAME for row in rows], dtype=np.uint16)
    hashes = np.frombuffer(b"".join(row[4] for row in rows), dtype=np.uint8).reshape(-1, 16)
    places = ChunkFrames.of([(number % len(packs), 64 + number, 30) for number in frames])
    block, carried, zero = columns[0].astype(np.uint32), columns[1].astype(np.uint16), columns[2].astype(np.uint16)
    records = PlacedRecords(block, carried, zero, hashes, frame) if rows else PlacedRecords.none()
    out.add(Chunk(places, records, Runs.of(np.array(zeros, dtype=np.uint32))))
    out.finish(packs)
    return reader(data)


class Maker:
    """Points of a disk, each with what a sender would write of it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.nonzero: set[int] = set()

    def point(self, run: int) -> ManifestReader:
        rng = self.rng
        packs = [PackRef(PackId(RunId(f"{run:032x}"), n), 1 << 20, n, bytes(32)) for n in range(rng.randint(1, 3))]
        rows, zeros = [], []
        for block in sorted(rng.sample(range(40), rng.choice([0, 1, 5, 20]))):
            whole = whole_mask(block, CAPACITY)
            if rng.random() < 0.25:
                zeros.append(block)
                self.nonzero.discard(block)
                continue
            named = rng.randint(1, whole) if block in self.nonzero and rng.random() < 0.8 else whole
            self.nonzero.add(block)
            digest = rng.randbytes(16)
            parts = [named]
            if rng.random() < 0.3 and named.bit_count() > 1:
                some = named & rng.randint(0, whole)
                parts = [part for part in (some, named & ~some) if part]
            for part in parts:
                carried = part & rng.choice([whole, rng.randint(0, whole)])
                frame = rng.randint(0, 6) if carried else NO_FRAME
                rows.append((block, carried, part & ~carried, frame, digest))
        return written(rows, zeros, packs)


def applied(disk: Disk, hashes: Hashes, manifest: ManifestReader) -> tuple[Disk, Hashes]:
    disk, hashes = dict(disk), dict(hashes)
    for chunk in manifest.chunks():
        for start, count in chunk.zeros.pairs():
            for block in range(start, start + count):
                hashes[block] = bytes(16)
                for page in range(16):
                    disk.pop((block, page), None)
        records = chunk.records
        for row in range(len(records)):
            block = int(records.block[row])
            hashes[block] = records.hashes[row].tobytes()
            for page in range(16):
                if records.zero[row] >> page & 1:
                    disk.pop((block, page), None)
                if records.carried[row] >> page & 1:
                    pack, offset, size = chunk.frames.place(int(records.frame[row]))
                    named = manifest.packs[pack]
                    assert size == 30
                    disk[block, page] = (named.id.run, named.id.number, offset)
    return disk, hashes


def folded(manifests: Sequence[ManifestReader], window_bytes: int = 1 << 20) -> ManifestReader:
    data = bytearray()
    out = ManifestWriter(Header(DiskId("d"), CAPACITY, RunId("f" * 32), folded=True), data.extend)
    out.finish(fold(manifests, out, window_bytes=window_bytes))
    return reader(data)


@given(st.integers(0, 1 << 32), st.integers(1, 9), st.sampled_from([1, 300, 1 << 20]))
def test_says_what_they_say(seed: int, points: int, window_bytes: int) -> None:
    maker = Maker(seed)
    before: tuple[Disk, Hashes] = ({}, {})
    for number in range(3):  # a past that is not folded
        before = applied(*before, maker.point(1000 + number))
    manifests = [maker.point(number) for number in range(points)]
    stages = [before]
    for manifest in manifests:
        stages.append(applied(*stages[-1], manifest))
    one = folded(manifests, window_bytes)
    assert one.header.folded
    for stage in stages:  # also from the midst of it, and applied twice
        assert applied(*stage, one) == stages[-1]
    used = {(manifest_pack.id) for manifest_pack in one.packs}
    named = set()
    for chunk in one.chunks():
        assert not chunk.records.broken_rule()
        named |= {one.packs[int(pack)].id for pack in chunk.frames.pack}
        assert set(chunk.records.frame.tolist()) - {NO_FRAME} == set(range(len(chunk.frames)))
    assert used == named, "packs are named that no row uses"
    # Of folds as of points: one of two folds is one of all.
    cut = points // 2
    if cut:
        two = folded([folded(manifests[:cut]), folded(manifests[cut:])], window_bytes)
        assert applied(*before, two) == stages[-1]


def test_no_more_rows_than_pages() -> None:
    """A block that every point touches has a row for each frame that is still needed, and its zeros cost none."""
    packs = [PackRef(PackId(RunId("1" * 32), 0), 1 << 20, 0, bytes(32))]
    points = [written([(3, 1 << (n % 4), 2 << (n % 4) & 0xFFFF, n, bytes([n]) * 16)], [], packs) for n in range(1, 60)]
    one = folded(points)
    (chunk,) = one.chunks()
    assert len(chunk.records) <= 4
    assert chunk.records.hashes[0].tobytes() == bytes([59]) * 16


def test_large_ones_are_cut_into_chunks() -> None:
    packs = [PackRef(PackId(RunId("1" * 32), 0), 1 << 20, 0, bytes(32))]
    rows = 3 * MAX_RECORDS // 2
    data = [bytearray(), bytearray()]
    for nth, each in enumerate(data):
        out = ManifestWriter(Header(DiskId("d"), rows * BLOCK_BYTES, RunId("0" * 32)), each.extend)
        for start in range(0, rows, MAX_RECORDS):
            block = np.arange(start, min(start + MAX_RECORDS, rows), dtype=np.uint32)
            block = block[block % 7 != nth]
            frame = (np.arange(block.size) // 16).astype(np.uint16)
            frames = ChunkFrames.of([(0, 64 + 100 * n, 100) for n in range(int(frame[-1]) + 1)])
            mask = np.full(block.size, 1 + nth, dtype=np.uint16)
            hashes = np.zeros((block.size, 16), dtype=np.uint8)
            out.add(Chunk(frames, PlacedRecords(block, mask, mask & 0, hashes, frame), Runs.none()))
        out.finish(packs)
    one = bytearray()
    out = ManifestWriter(Header(DiskId("d"), rows * BLOCK_BYTES, RunId("0" * 32), folded=True), one.extend)
    out.finish(fold([reader(each) for each in data], out, window_bytes=1 << 20))
    whole = reader(one)
    assert whole.totals.carried_pages == sum((b % 7 != 0) + (b % 7 != 1) for b in range(rows))
    assert max(len(chunk.records) for chunk in whole.chunks()) <= MAX_RECORDS


def test_nothing_is_a_manifest_of_nothing() -> None:
    one = folded([written([], [], [])])
    assert one.totals.records == 0
    assert not list(one.chunks())


def test_runs_of_zeros_that_overlap_are_one() -> None:
    one = folded([written([], [1, 2, 3], []), written([], [3, 4], [])])
    (chunk,) = one.chunks()
    assert list(chunk.zeros.pairs()) == [(1, 4)]
