"""Frames that are held in memory and in a file: the same bytes, no more than there is room for, and never a must."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from warmspare.format.frame import Frame
from warmspare.model.units import FRAME_PAGES, SPAN_BYTES
from warmspare.repository.blocks import held_frames
from warmspare.repository.blocks.held_frames import HeldFrames


def frame(number: int, length: int = SPAN_BYTES) -> Frame:
    pages = np.arange(number * FRAME_PAGES, (number + 1) * FRAME_PAGES, dtype=np.uint64)
    return Frame(pages, random.Random(number).randbytes(length))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def test_what_memory_has_no_room_for_is_the_same_out_of_the_file(folder: Path) -> None:
    held = HeldFrames(2 * SPAN_BYTES, folder)
    for number in range(6):
        held.keep(("pack", number), frame(number, SPAN_BYTES - number), 1)
    assert folder.exists() and not list(folder.iterdir()), "the file has no name"
    for number in (0, 5, 3, 0):
        got = held.take(("pack", number), 1)
        assert got is not None and got.payload == frame(number, SPAN_BYTES - number).payload
        assert np.array_equal(got.pages, frame(number).pages)
    assert held.take(("pack", 9), 1) is None and ("pack", 9) not in held
    held.close()
    assert ("pack", 0) not in held


def test_what_was_taken_whole_goes(folder: Path) -> None:
    held = HeldFrames(SPAN_BYTES, folder)
    held.keep(("pack", 0), frame(0), FRAME_PAGES)
    held.keep(("pack", 1), frame(1), 10)
    assert ("pack", 0) not in held and not folder.exists(), "there was nothing to put into a file"
    held.keep(("pack", 2), frame(2), 10)
    assert held.take(("pack", 1), FRAME_PAGES - 11) and held.take(("pack", 1), 1)
    assert ("pack", 1) not in held and held.take(("pack", 1), 1) is None
    held.close()


@pytest.mark.parametrize("memory_bytes", [SPAN_BYTES // 32, 1])
def test_the_file_is_no_larger_than_it_may_be(folder: Path, memory_bytes: int) -> None:
    held = HeldFrames(memory_bytes, folder)
    for number in range(10):
        held.keep(("pack", number), frame(number), 0)
    there = [number for number in range(10) if ("pack", number) in held]
    assert there == ([8, 9] if memory_bytes > 1 else [9])
    for number in there:
        got = held.take(("pack", number), 1)
        assert got and got.payload == frame(number).payload
    held.close()


def test_a_full_file_system_or_none_costs_frames_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_text("no folder")
    held = HeldFrames(SPAN_BYTES, folder)
    held.keep(("pack", 0), frame(0), 1)
    held.keep(("pack", 1), frame(1), 1)
    assert ("pack", 0) not in held and held.take(("pack", 1), 1)
    held.close()
    folder.unlink()
    monkeypatch.setattr(held_frames, "LEFT_FREE_BYTES", 1 << 60)
    held = HeldFrames(SPAN_BYTES, folder)
    held.keep(("pack", 0), frame(0), 1)
    held.keep(("pack", 1), frame(1), 1)
    assert held.take(("pack", 0), 1) is None and held.take(("pack", 1), 1)
    held.close()
