"""Levels, sets of damaged blocks, requests for frames, wording: the parts that decide and do no I/O."""

from __future__ import annotations

import random

import numpy as np
import pytest

from warmspare.apply.damage import MAX_RUNS, Damage
from warmspare.errors import FormatError
from warmspare.format.chunk import Chunk, ChunkFrames
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.runs import Runs
from warmspare.observe.quantities import duration, size, span
from warmspare.repository.blocks.frame_pages import locate
from warmspare.repository.blocks.pack_ranges import GAP_BYTES, RANGE_BYTES, PackObject, ranges
from warmspare.sync.stages import level
from warmspare.sync.stages.level import Level


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(level.time, "monotonic", lambda: now[0])
    return now


def live(level: Level, clock: list[float], seconds: int, *, link: float, codec: float) -> None:
    for _ in range(seconds * 10):
        clock[0] += 0.1001
        level.waited(link_s=link * 0.1, codec_s=codec * 0.1)


def test_auto_follows_the_bottleneck(clock: list[float]) -> None:
    auto = Level(None)
    assert auto.now == 3
    live(auto, clock, 30, link=0.95, codec=0.0)
    assert auto.now == 9, "the link is waited for: compress harder"
    live(auto, clock, 5, link=0.3, codec=0.3)
    assert auto.now == 9, "nothing is waited for much: stay"
    live(auto, clock, 30, link=0.0, codec=0.9)
    assert auto.now == 1, "the compressors are waited for: go easy"
    live(auto, clock, 3, link=0.9, codec=0.05)
    assert 3 <= auto.now <= 5


def test_a_fixed_level_stays(clock: list[float]) -> None:
    fixed = Level(5)
    live(fixed, clock, 30, link=0.95, codec=0.0)
    live(fixed, clock, 30, link=0.0, codec=0.95)
    assert fixed.now == 5


def test_damage_is_a_set_of_blocks() -> None:
    rng = random.Random(1)
    for _ in range(30):
        damage, model = Damage([(5, 3), (100, 1)]), {5, 6, 7, 100}
        for _ in range(20):
            blocks = np.array([rng.randrange(300) for _ in range(rng.randrange(1, 20))], dtype=np.uint32)
            if rng.random() < 0.6:
                damage.add(blocks)
                model |= set(blocks.tolist())
            else:
                damage.discard(blocks.tolist())
                model -= set(blocks.tolist())
            assert {b for start, count in damage.runs for b in range(start, start + count)} == model
            assert len(damage) == len(model)
            assert [b for part in damage.batches(7) for b in part.tolist()] == sorted(model)
            again = Damage(damage.runs)
            assert again.runs == damage.runs


def test_too_much_damage_names_too_many_and_never_too_few() -> None:
    damage = Damage()
    blocks = np.arange(0, 100_000, 2, dtype=np.uint32)
    damage.add(blocks)
    runs = damage.runs
    assert len(runs) <= MAX_RUNS
    named = np.concatenate([np.arange(s, s + c) for s, c in runs])
    assert np.isin(blocks, named).all()


def chunk_of(frames: list[tuple[int, int, int]], users: list[int]) -> Chunk:
    n = len(users)
    carried = np.array([0 if u == NO_FRAME else 1 for u in users], dtype=np.uint16)
    return Chunk(
        ChunkFrames.of(frames),
        PlacedRecords(
            np.arange(n, dtype=np.uint32),
            carried,
            np.where(carried == 0, 1, 0).astype(np.uint16),
            np.zeros((n, 16), dtype=np.uint8),
            np.array(users, dtype=np.uint16),
        ),
        Runs.none(),
    )


def test_neighbouring_frames_are_one_request() -> None:
    packs = [PackObject("a", 100 << 20), PackObject("b", 100 << 20)]
    frames = [(0, 64, 1000), (0, 1064, 500), (0, 1564 + GAP_BYTES, 10), (0, 1575 + 2 * GAP_BYTES, 10), (1, 64, 10)]
    chunk = chunk_of(frames, [0, 1, 1, NO_FRAME, 2, 3, 4])
    found = list(ranges(chunk, np.arange(7), packs, "m"))
    assert [(r.pack.key, r.offset, r.length, [p.rows.tolist() for p in r.pieces]) for r in found] == [
        ("a", 64, 1500 + GAP_BYTES + 10, [[0], [1, 2], [4]]),
        ("a", 1575 + 2 * GAP_BYTES, 10, [[5]]),
        ("b", 64, 10, [[6]]),
    ]


def test_requests_are_bounded_and_bring_every_frame_once() -> None:
    rng = random.Random(2)
    at, frames = 64, []
    for _ in range(300):
        size_bytes = rng.randrange(100, 1 << 20)
        frames.append((0, at, size_bytes))
        at += size_bytes + rng.choice([0, 0, 5, 100_000])
    users = sorted(rng.choices(range(300), k=900))
    chunk = chunk_of(frames, users)
    found = list(ranges(chunk, np.arange(900), [PackObject("a", at)], "m"))
    assert all(r.length <= RANGE_BYTES for r in found)
    brought = [(r.offset + p.start, p.size) for r in found for p in r.pieces]
    assert sorted(brought) == sorted({frames[u][1:] for u in users})
    assert sorted(row for r in found for row in r.rows.tolist()) == list(range(900))


def test_a_frame_beyond_its_pack_is_refused() -> None:
    with pytest.raises(FormatError):
        list(ranges(chunk_of([(0, 90, 20)], [0]), np.arange(1), [PackObject("a", 100)], "m"))


def test_where_a_block_s_pages_lie_in_a_frame() -> None:
    pages = np.array([16, 17, 31, 48, 64, 79], dtype=np.uint64)
    masks, slots = locate(pages, np.array([1, 3, 4], dtype=np.uint32), "f")
    assert masks.tolist() == [0b1000000000000011, 1, 0b1000000000000001] and slots.tolist() == [0, 3, 4]
    for absent in (0, 2, 5):
        with pytest.raises(FormatError):
            locate(pages, np.array([absent], dtype=np.uint32), "f")


def test_people_s_units() -> None:
    assert [size(n) for n in (0, 999, 1024, 1 << 20, 5 << 30, 3 << 40)] == [
        "0 B",
        "999 B",
        "1.0 KiB",
        "1.0 MiB",
        "5.0 GiB",
        "3072.0 GiB",
    ]
    assert [duration(s) for s in (-1, 0.04, 12.3, 61, 4000)] == ["unknown", "0.0 s", "12 s", "1 min 1 s", "1 h 6 min"]
    assert (span([13]), span([13, 14, 17])) == ("13", "13 to 17")
