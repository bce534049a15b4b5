"""Frames that later chunks may use: which are kept, for how long, and how many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from warmspare.apply.frame_shelf import FrameShelf
from warmspare.format import frame
from warmspare.model.units import BLOCK_PAGES, PAGE_BYTES


def framed(*pages: int) -> bytes:
    return b"".join(frame.encode(np.array(pages, dtype=np.uint64), bytes(len(pages) * PAGE_BYTES), 1))


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[FrameShelf]:
    shelf = FrameShelf(tmp_path, most_bytes=200)
    yield shelf
    shelf.close()
    shelf.close()


def test_what_reaches_beyond_the_chunk_is_kept_until_it_does_not(shelf: FrameShelf, tmp_path: Path) -> None:
    near, far = framed(3, 4 * BLOCK_PAGES + 15), framed(3, 9 * BLOCK_PAGES)
    shelf.keep(("a", 64, len(near)), near, behind=5)
    assert not shelf, "its last block is 4"
    shelf.keep(("a", 64, len(far)), far, behind=5)
    shelf.keep(("b", 64, len(near)), near, behind=4)
    assert shelf.read(("a", 64, len(far))) == far and shelf.read(("b", 64, len(near))) == near
    assert ("a", 64, len(far) + 1) not in shelf and ("a", 65, len(far)) not in shelf
    shelf.forget(before=5)
    assert ("b", 64, len(near)) not in shelf and shelf.read(("a", 64, len(far))) == far
    shelf.forget(before=10)
    assert not shelf and not list(tmp_path.iterdir()), "the file has no name"


def test_no_more_than_there_is_room_for(shelf: FrameShelf) -> None:
    one = framed(100)
    keys = [("a", at, len(one)) for at in range(20)]
    for key in keys:
        shelf.keep(key, one, behind=0)
    kept = [key for key in keys if key in shelf]
    assert 0 < len(kept) * len(one) <= 200 < (len(kept) + 1) * len(one)
    shelf.forget(before=1000)
    shelf.keep(keys[-1], one, behind=0)
    assert shelf.read(keys[-1]) == one, "there is room again"


@pytest.mark.parametrize("at", [0, 9, 20, -1])
def test_what_came_damaged_is_not_kept(shelf: FrameShelf, at: int) -> None:
    data = bytearray(framed(100))
    data[at] ^= 1
    shelf.keep(("a", 64, len(data)), data, behind=0)
    shelf.keep(("a", 64, 7), data[:7], behind=0)
    assert not shelf
