"""The small parts of reading through a VDDK: lists of allocated areas, spans, error classes, the ring."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmspare._native import ring
from warmspare.model.extents import Extents, normalise
from warmspare.model.units import BLOCK_BYTES, SPAN_BYTES
from warmspare.source.ports import Hole
from warmspare.source.spans import batches, block_numbers
from warmspare.source.vddk import allocated, vddk_errors
from warmspare.source.vddk.vddk_errors import Action, CallFailed

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@st.composite
def disks(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """(capacity, extents on block boundaries) of a disk of up to 200 MiB with a tail of any number of sectors."""
    capacity = draw(st.integers(1, 200 * MIB // 512)) * 512
    blocks = -(-capacity // BLOCK_BYTES)
    chosen = draw(st.lists(st.tuples(st.integers(0, blocks - 1), st.integers(1, 2000)), max_size=12))
    pairs = [(b * BLOCK_BYTES, min(n * BLOCK_BYTES, capacity - b * BLOCK_BYTES)) for b, n in chosen]
    return capacity, normalise([o for o, _ in pairs], [n for _, n in pairs]).pairs()


def extents_of(pairs: list[tuple[int, int]]) -> Extents:
    return normalise([offset for offset, _ in pairs], [length for _, length in pairs])


@given(disks())
def test_windows_tile_the_extents(disk: tuple[int, list[tuple[int, int]]]) -> None:
    found = list(allocated.windows(extents_of(disk[1])))
    for start, stop, ask in found:
        assert start < stop
        if ask:
            assert start % SPAN_BYTES == 0 == stop % SPAN_BYTES
            assert stop - start <= allocated.WINDOW_BYTES
    assert extents_of([(start, stop - start) for start, stop, _ in found]).pairs() == disk[1]
    assert sum(stop - start for start, stop, _ in found) == sum(length for _, length in disk[1])


@given(disks(), st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 100)), max_size=20))
def test_pieces_tile_a_window_and_miss_nothing(
    disk: tuple[int, list[tuple[int, int]]], runs: list[tuple[int, int]]
) -> None:
    stop = max(SPAN_BYTES, disk[0] // SPAN_BYTES * SPAN_BYTES)
    inside = [(b * BLOCK_BYTES, n * BLOCK_BYTES) for b, n in runs if (b + n) * BLOCK_BYTES <= stop]
    areas = extents_of(inside)
    found = list(allocated.pieces(0, stop, areas))
    assert [start for start, _, _ in found] == [0, *[end for _, end, _ in found[:-1]]] and found[-1][1] == stop
    data = extents_of([(a, b - a) for a, b, is_data in found if is_data])
    for offset, length in areas.pairs():
        assert any(o <= offset and offset + length <= o + n for o, n in data.pairs()), "an allocated area became a hole"
    for a, b, is_data in found:
        assert is_data or b - a >= SPAN_BYTES


@given(disks())
def test_batches_cover_their_pieces_in_order(disk: tuple[int, list[tuple[int, int]]]) -> None:
    covered: list[tuple[int, int]] = []
    for batch in batches((offset, offset + length, True) for offset, length in disk[1]):
        assert not isinstance(batch, Hole)
        numbers = block_numbers(batch)
        assert 0 < numbers.size <= 16 and bool(np.all(np.diff(numbers.astype(np.int64)) > 0))
        assert sum(stop - start for start, stop in batch) <= SPAN_BYTES
        covered += [(start, stop - start) for start, stop in batch]
    assert covered == sorted(covered)
    assert extents_of(covered).pairs() == disk[1]


def raw(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, dtype=np.uint64).reshape(-1)


def test_two_answers_that_fit_are_believed() -> None:
    rng = random.Random(1)
    for _ in range(200):
        blocks = sorted(rng.sample(range(1000), rng.randrange(1, 60)))
        fine = normalise([b * BLOCK_BYTES for b in blocks], [BLOCK_BYTES] * len(blocks))
        spans = sorted({b // 16 for b in blocks})
        coarse = [(s * SPAN_BYTES, SPAN_BYTES) for s in spans]
        said = allocated.areas(raw(fine.pairs()), BLOCK_BYTES, 0, 63 * MIB)
        other = allocated.areas(raw(coarse), SPAN_BYTES, 0, 63 * MIB)
        found = allocated.agreed(said, other, 63 * MIB)
        assert found is not None and found.pairs() == fine.pairs()
        # Cut either list anywhere that changes what it covers in megabytes, and it is not believed any more.
        cut = rng.randrange(len(coarse))
        assert allocated.agreed(said, allocated.areas(raw(coarse[:cut]), SPAN_BYTES, 0, 63 * MIB), 63 * MIB) is None


@pytest.mark.parametrize(
    "pairs",
    [
        [(1, 65536)],
        [(0, 1000)],
        [(65536, 0)],
        [(131072, 65536), (0, 65536)],
        [(0, 131072), (65536, 65536)],
        [(MIB, 65536)],
        [(1 << 63, 65536)],
        [(0, 1 << 63)],
    ],
)
def test_a_list_that_is_none(pairs: list[tuple[int, int]]) -> None:
    assert allocated.areas(raw(pairs), BLOCK_BYTES, 0, MIB) is None
    assert allocated.agreed(None, extents_of([]), MIB) is None


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ([(0, 2 * MIB)], [(0, MIB)]),
        ([(0, 65536), (131072, 10 * MIB)], [(0, 65536), (131072, MIB - 131072)]),
        ([(131072, MIB - 131072 + 512)], [(131072, MIB - 131072)]),
    ],
)
def test_a_list_that_is_rounded_up_is_cut_off(pairs: list[tuple[int, int]], found: list[tuple[int, int]]) -> None:
    areas = allocated.areas(raw(pairs), BLOCK_BYTES, 0, MIB)
    assert areas is not None and areas.pairs() == found
    areas = allocated.areas(raw([(MIB, 2 * MIB)]), BLOCK_BYTES, 2 * MIB, 4 * MIB)
    assert areas is not None and areas.pairs() == [(2 * MIB, MIB)]


@pytest.mark.parametrize(
    ("call", "code", "text", "action"),
    [
        ("VixDiskLib_Read", 14009, "", Action.RECONNECT),
        ("VixDiskLib_ConnectEx", 14011, "", Action.RECONNECT),
        ("VixDiskLib_Read", 1, "Unknown error", Action.RECONNECT),
        ("VixDiskLib_Read", 2, "", Action.SHRINK),
        ("VixDiskLib_Open", 1, "NFC error 5: Failed to allocate the requested 2097176 bytes", Action.SHRINK),
        ("VixDiskLib_Open", 14014, "", Action.WAIT),
        ("VixDiskLib_ConnectEx", 14008, "", Action.WAIT),
        ("VixDiskLib_Read", 16000, "", Action.FATAL),
        ("VixDiskLib_Read", 16007, "", Action.FATAL),
        ("VixDiskLib_Open", 16008, "", Action.FATAL),
        ("VixDiskLib_Open", 16014, "", Action.FATAL),
        ("VixDiskLib_ConnectEx", 18000, "", Action.FATAL),
        ("VixDiskLib_ConnectEx", 3014, "", Action.FATAL),
    ],
)
def test_classes_of_errors(call: str, code: int, text: str, action: Action) -> None:
    assert CallFailed(call, code, text).action is action


def test_what_people_are_told() -> None:
    assert "902" in vddk_errors.hint(14009) and "DNS" in vddk_errors.hint(14008)
    assert "thumbprint" in vddk_errors.hint(1, "VixDiskLib_Open") and vddk_errors.hint(1, "VixDiskLib_Read") == ""
    assert "NFC" in vddk_errors.hint(2) and vddk_errors.hint(12345) == ""


def counters(memory: bytearray) -> np.ndarray:
    """submitted, taken, completed, reaped: each on a cache line of its own behind the first (ring.h)."""
    return np.frombuffer(memory, dtype=np.uint64)[8:40:8]


def test_a_ring_takes_as_many_as_it_has_room_for() -> None:
    memory = bytearray(ring.DATA_OFFSET + SPAN_BYTES)
    client = ring.Ring(memoryview(memory))
    for ticket in range(ring.ENTRIES):
        assert client.submit(ring.READ, ticket, 0, 1, 0, 512)
    assert not client.submit(ring.READ, 1000, 0, 1, 0, 512)
    assert counters(memory).tolist() == [ring.ENTRIES, 0, 0, 0]
    counters(memory)[1] = 1  # the reader took one
    assert client.submit(ring.READ, 1000, 0, 1, 0, 512)


def test_a_ring_believes_no_impossible_counter() -> None:
    memory = bytearray(ring.DATA_OFFSET + SPAN_BYTES)
    client = ring.Ring(memoryview(memory))
    assert client.reap() == []
    counters(memory)[2] = 2
    assert client.reap() == [(0, 0, 0), (0, 0, 0)]
    for impossible in (1, 3 + ring.ENTRIES, (1 << 64) - 1):
        counters(memory)[2] = impossible
        with pytest.raises(ValueError, match="impossible"):
            client.reap()
    with pytest.raises(ValueError, match="too small"):
        ring.Ring(memoryview(bytearray(100)))
