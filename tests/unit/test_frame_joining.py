"""Frames that are taken apart: the pages that are needed, each with its bytes, in frames that any reader takes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from warmspare.errors import IntegrityError
from warmspare.format import frame
from warmspare.format.chunk import Chunk, ChunkFrames
from warmspare.format.manifest import Header, ManifestReader, ManifestWriter
from warmspare.format.packlist import PackRef
from warmspare.model import masks
from warmspare.model.block_records import PlacedRecords
from warmspare.model.ids import DiskId, PackId, RunId
from warmspare.model.runs import Runs
from warmspare.model.units import BLOCK_PAGES, FRAME_PAGES, PAGE_BYTES
from warmspare.retain.frame_joining import FrameJoining
from warmspare.retain.pack_rewrite import uses, worth

RUN = RunId("a" * 32)
SHORT = 1000  # bytes of the disk's last page


class Frames:
    """Random frames of a disk in one pack, and which of their pages a manifest still names; no page is named twice."""

    def __init__(self, seed: int, blocks: int = 40) -> None:
        rng = random.Random(seed)
        self.pages = blocks * BLOCK_PAGES
        self.capacity = (self.pages - 1) * PAGE_BYTES + SHORT
        self.bodies: list[bytes] = []
        self.needed: list[set[int]] = []
        self.content: dict[int, bytes] = {}
        left = set(range(self.pages))
        for _ in range(30):
            count = rng.choice((1, 5, 26, 100, FRAME_PAGES))
            held = np.array(sorted(rng.sample(range(self.pages), count)), dtype=np.uint64)
            bytes_of = {page: rng.randbytes(8) * 512 for page in held.tolist()}
            if self.pages - 1 in bytes_of:
                bytes_of[self.pages - 1] = bytes_of[self.pages - 1][:SHORT]
            self.bodies.append(b"".join(frame.encode(held, b"".join(bytes_of.values()), 1)))
            mine = {page for page in bytes_of if page in left and rng.random() < rng.choice((0.1, 0.6, 1.0))}
            left -= mine
            self.needed.append(mine)
            self.content |= {page: bytes_of[page] for page in mine}

    def manifest(self) -> ManifestReader:
        rows = []
        for number, needed in enumerate(self.needed):
            if needed:
                blocks, carried, _ = masks.of_pages(np.array(sorted(needed), dtype=np.uint64))
                rows += [(int(block), int(mask), number) for block, mask in zip(blocks, carried, strict=True)]
        rows.sort()
        offsets = np.cumsum([64, *(len(body) for body in self.bodies)])[:-1]
        size = np.array([len(body) for body in self.bodies], dtype=np.uint32)
        frames = ChunkFrames(np.zeros(len(size), dtype=np.uint32), offsets.astype(np.uint32), size)
        block, mask, number = (np.array(column) for column in zip(*rows, strict=True))
        zero = np.zeros(len(rows), dtype=np.uint16)
        hashes = np.zeros((len(rows), 16), dtype=np.uint8)
        records = PlacedRecords(block.astype(np.uint32), mask.astype(np.uint16), zero, hashes, number.astype(np.uint16))
        parts: list[bytes] = []
        out = ManifestWriter(Header(DiskId("d"), self.capacity, RUN, True), parts.append)
        out.add(Chunk(frames, records, Runs.of(np.empty(0, dtype=np.uint32))))
        out.finish([PackRef(PackId(RUN, 0), int(offsets[-1] + size[-1]), 0, bytes(32))])
        data = b"".join(parts)
        return ManifestReader(lambda at, count: data[at : at + count], len(data), "here")


@pytest.mark.parametrize("seed", range(8))
def test_every_needed_page_keeps_its_bytes(seed: int) -> None:
    frames = Frames(seed)
    manifest = frames.manifest()
    joining = FrameJoining(manifest, np.ones(1, dtype=np.bool_))
    (use,) = uses(manifest, [manifest])
    where = dict(zip(use.offsets.tolist(), use.needed.tolist(), strict=True))
    made, offset = [], 64
    for body, needed in zip(frames.bodies, frames.needed, strict=True):
        if offset in where and needed:
            assert where[offset] == len(needed)
            made += joining.take(offset, len(needed), memoryview(body), "here")
        offset += len(body)
    made += joining.rest()
    found: dict[int, bytes] = {}
    by_offset = dict(zip(np.cumsum([64, *map(len, frames.bodies)]).tolist(), frames.needed, strict=False))
    for names, data in made:
        decoded = frame.decode(bytes(data), "made")
        held = {
            page: decoded.payload[at * PAGE_BYTES : (at + 1) * PAGE_BYTES]
            for at, page in enumerate(decoded.pages.tolist())
        }
        for name in names:
            found |= {page: held[page] for page in by_offset[name]}
        if len(names) > 1:
            assert set(held) == set().union(*(by_offset[name] for name in names)), "it holds more than is needed"
    assert found == frames.content
    assert sum(len(data) for _, data in made) < sum(map(len, frames.bodies))


def test_a_frame_that_is_not_what_its_manifest_says(seed: int = 3) -> None:
    frames = Frames(seed)
    manifest = frames.manifest()
    joining = FrameJoining(manifest, np.ones(1, dtype=np.bool_))
    number, offset = next(
        (index, 64 + sum(map(len, frames.bodies[:index])))
        for index, needed in enumerate(frames.needed)
        if needed and len(needed) * 2 < frame.page_count(frames.bodies[index])
    )
    count = frame.page_count(frames.bodies[number])
    other = sorted(set(range(frames.pages)) - frames.needed[number])[:count]
    body = b"".join(frame.encode(np.array(other, dtype=np.uint64), bytes(len(other) * PAGE_BYTES), 1))
    with pytest.raises(IntegrityError, match="has not the pages"):
        list(joining.take(offset, len(frames.needed[number]), memoryview(body), "here"))


def test_what_is_dead_within_frames_counts() -> None:
    frames = Frames(5)
    manifest = frames.manifest()
    (alone,) = uses(manifest, [manifest])
    frames.needed = [set(sorted(needed)[: len(needed) // 3]) for needed in frames.needed]
    (less,) = uses(frames.manifest(), [manifest])
    assert less.live_bytes < alone.live_bytes * 0.6
    assert worth([less], priced=False) == {0}
