"""What the page filter records of blocks that are to be recorded anew, and what it says of the tracker then."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from unit import reference
from unit.reference import BLOCK, PAGE, PAGES
from warmspare.model.columns import U32, U64
from warmspare.model.extents import normalise
from warmspare.source.ports import Span
from warmspare.sync.rows import Filtered, Untracked
from warmspare.sync.stages.filter import PageFilter

SEED = 5
NOWHERE = normalise([], [])


class Column:
    """A hash table or a page map in memory."""

    seed = SEED

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def read(self, blocks: U32) -> np.ndarray:
        return self.rows[blocks].copy()


class Log:
    def __init__(self) -> None:
        self.blocks: list[int] = []

    def append(self, blocks: U32, _: U64) -> None:
        self.blocks += blocks.tolist()


def hashes(image: bytes) -> np.ndarray:
    """The page map of an image of which every page is known."""
    rows = []
    for block in reference.split(image, BLOCK):
        known = [] if reference.is_zero(block) else [reference.page_hash(p, SEED) for p in reference.split(block, PAGE)]
        rows.append((known + [0] * PAGES)[:PAGES])
    return np.array(rows, dtype=np.uint64)


def filtered(before: bytes, now: bytes, anew: Sequence[int]) -> tuple[Filtered, list[int]]:
    """What is recorded, and logged, of a disk of whose changes the tracker reports none. anew: blocks."""
    table: Any = Column(np.frombuffer(reference.hash_span(before), np.uint8).reshape(-1, 16))
    pages: Any = Column(hashes(before))
    log: Any = Log()
    again = normalise([block * BLOCK for block in anew], [BLOCK] * len(anew))
    stage = PageFilter(len(now), len(before), table, pages, log, NOWHERE, again)
    blocks = np.arange(-(-len(now) // BLOCK), dtype=np.uint32)
    return stage.span(Span(blocks, memoryview(now))), log.blocks


def test_what_is_recorded_anew_is_recorded_whole_and_has_escaped_no_tracker() -> None:
    """None of four changed: data, zeros, a block whose half is zeros; the fourth is not to be recorded."""
    random_bytes = random.Random(1).randbytes
    half = random_bytes(BLOCK // 2) + bytes(BLOCK // 2)
    disk = random_bytes(BLOCK) + bytes(BLOCK) + half + random_bytes(BLOCK)
    found, logged = filtered(disk, disk, [0, 1, 2])
    assert found.records.block.tolist() == [0, 2] == logged
    assert found.records.carried.tolist() == [0xFFFF, 0x00FF] and found.records.zero.tolist() == [0, 0xFF00]
    assert found.zero_blocks.tolist() == [1]
    assert found.records.hashes.tobytes() == reference.hash_span(disk[:BLOCK] + half)
    assert found.untracked == []


def test_what_changed_besides_is_told() -> None:
    """One page, a whole block that became zeros, and one that was zeros: all recorded whole, all told."""
    data = random.Random(2).randbytes(BLOCK)
    before = data + data + bytes(BLOCK) + data
    now = b"x" * PAGE + data[PAGE:] + bytes(BLOCK) + data + data
    found, _ = filtered(before, now, [0, 1, 2, 3])
    assert found.records.block.tolist() == [0, 2, 3] and found.records.carried.tolist() == [0xFFFF] * 3
    assert found.zero_blocks.tolist() == [1]
    assert found.untracked == [Untracked(BLOCK, BLOCK), Untracked(0, BLOCK), Untracked(2 * BLOCK, BLOCK)]


def test_a_short_last_block_is_whole_at_its_length() -> None:
    disk = random.Random(3).randbytes(BLOCK + PAGE + 100)
    found, _ = filtered(disk, disk, [1])
    assert found.records.block.tolist() == [1] and found.records.carried.tolist() == [0b11]
    assert found.untracked == []
