"""The page filter and gather against their Python reference; owns their edge cases and refusals."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit import reference
from unit.reference import BLOCK, PAGE, PAGES
from warmspare._native import pages as native

SEED = 0x1234_5678_9ABC_DEF1
TAILS = [1, 511, 4095, 4096, 4097, 12288, 65535, 65536]
_pool = random.Random(1).randbytes(PAGE * 3)
# Contents of a page: two pages are equal exactly if they have the same number (and length).
CONTENTS = [
    bytes(PAGE),
    b"\1" + bytes(PAGE - 1),
    bytes(PAGE - 1) + b"\1",
    _pool[:PAGE],
    _pool[PAGE : 2 * PAGE],
    b"\xff" * PAGE,
]


def build(numbers: Sequence[int], length: int) -> bytes:
    return b"".join(CONTENTS[n] for n in numbers)[:length]


def run_filter(
    span: bytes, seed: int, entries: Sequence[bytes], pages: Sequence[Sequence[int]], whole: Sequence[bool]
) -> list[reference.BlockResult]:
    """The kernel's answer in the reference's terms; the outputs start as rubbish, as a reused buffer does."""
    n = -(-len(span) // BLOCK)
    new_blocks = np.full(n * 16, 0xEE, dtype=np.uint8)
    new_pages = np.full(n * PAGES, 0xEEEE, dtype=np.uint64)
    nonzero, changed, known = (np.full(n, 0xAAAA, dtype=np.uint16) for _ in range(3))
    state = np.full(n, 9, dtype=np.uint8)
    native.filter_span(
        span,
        seed,
        np.frombuffer(b"".join(entries), dtype=np.uint8),
        np.array(pages, dtype=np.uint64).reshape(-1),
        np.array(whole, dtype=np.uint8),
        new_blocks,
        new_pages,
        nonzero,
        changed,
        known,
        state,
    )
    out = []
    for b in range(n):
        row = new_pages[b * PAGES : (b + 1) * PAGES].tolist()
        untouched = row == [0xEEEE] * PAGES
        out.append(
            reference.BlockResult(
                new_blocks[b * 16 : b * 16 + 16].tobytes(),
                int(state[b]),
                int(nonzero[b]),
                int(changed[b]),
                int(known[b]),
                None if untouched else row,
            )
        )
    return out


@st.composite
def cases(draw: st.DrawFn) -> tuple[bytes, list[bytes], list[list[int]], list[bool]]:
    """A span, with the entries and page hashes of an earlier state of it."""
    n = draw(st.integers(1, 3))
    length = (n - 1) * BLOCK + draw(st.one_of(st.sampled_from(TAILS), st.integers(1, BLOCK)))
    count = -(-length // PAGE)
    number = st.integers(0, len(CONTENTS) - 1)
    now = draw(st.lists(number, min_size=count, max_size=count))
    if draw(st.booleans()):
        before = list(now)  # few changes
        for at in draw(st.lists(st.integers(0, count - 1), max_size=3)):
            before[at] = draw(number)
    else:
        before = draw(st.lists(number, min_size=count, max_size=count))
    if draw(st.booleans()):  # blocks of zeros on either side
        at = draw(st.integers(0, n - 1)) * PAGES
        target = draw(st.sampled_from([now, before]))
        target[at : at + PAGES] = [0] * len(target[at : at + PAGES])
    span, old = build(now, length), build(before, length)
    entries = [reference.block_hash(block) for block in reference.split(old, BLOCK)]
    # known truly, unknown, or colliding with the new content
    kinds = draw(st.lists(st.sampled_from("kkkuc"), min_size=count, max_size=count))
    if draw(st.integers(0, 4)) == 0:
        kinds = ["c"] * count
    hashes = [0] * (n * PAGES)
    for p, kind in enumerate(kinds):
        page = (span if kind == "c" else old)[p * PAGE : (p + 1) * PAGE]
        hashes[p] = 0 if kind == "u" else reference.page_hash(page, SEED)
    whole = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return span, entries, [hashes[b * PAGES : (b + 1) * PAGES] for b in range(n)], whole


@settings(max_examples=250, deadline=None)
@given(cases())
def test_the_filter_agrees_with_the_reference(case: tuple[bytes, list[bytes], list[list[int]], list[bool]]) -> None:
    span, entries, pages, whole = case
    assert run_filter(span, SEED, entries, pages, whole) == reference.filter_span(span, SEED, entries, pages, whole)


def test_a_whole_span_of_sixteen_blocks() -> None:
    rng = random.Random(2)
    span = bytearray(rng.randbytes(15 * BLOCK + 5000))
    span[3 * BLOCK : 4 * BLOCK] = bytes(BLOCK)
    span[7 * BLOCK + PAGE : 7 * BLOCK + 3 * PAGE] = bytes(2 * PAGE)
    old = bytearray(span)
    old[5 * BLOCK + 7] ^= 1
    old[15 * BLOCK + 4999] ^= 0x80
    entries = [reference.block_hash(b) for b in reference.split(bytes(old), BLOCK)]
    hashes = [
        ([reference.page_hash(p, SEED) for p in reference.split(b, PAGE)] + [0] * PAGES)[:PAGES]
        for b in reference.split(bytes(old), BLOCK)
    ]
    whole = [False] * 16
    found = run_filter(bytes(span), SEED, entries, hashes, whole)
    assert found == reference.filter_span(bytes(span), SEED, entries, hashes, whole)
    assert [b for b, r in enumerate(found) if r.state == native.CHANGED] == [5, 15]
    assert (found[5].changed, found[15].changed) == (1, 2)


@pytest.mark.parametrize("place", [0, 1, 7, 8, 4095, 4096, 65534, 65535])
@pytest.mark.parametrize("length", [1, 2, 4096, 4097, 65535, 65536])
def test_one_byte_makes_a_block_nonzero_wherever_it_stands(place: int, length: int) -> None:
    zeros = bytes(length)
    state = run_filter(zeros, SEED, [bytes(16)], [[0] * PAGES], [False])[0]
    assert (state.state, state.entry, state.nonzero) == (native.UNCHANGED, bytes(16), 0)
    if place < length:
        block = zeros[:place] + b"\1" + zeros[place + 1 :]
        found = run_filter(block, SEED, [bytes(16)], [[0] * PAGES], [False])[0]
        assert found == reference.filter_block(block, SEED, bytes(16), [0] * PAGES, False)
        assert found.state == native.CHANGED
        assert found.nonzero == 1 << place // PAGE


@settings(max_examples=100, deadline=None)
@given(cases())
def test_a_blocks_mask_says_that_it_is_recorded_whole_and_touches_no_other(
    case: tuple[bytes, list[bytes], list[list[int]], list[bool]],
) -> None:
    """Whatever is known of it: also where nothing changed, and where zeros are zeros still."""
    span, entries, pages, whole = case
    found = run_filter(span, SEED, entries, pages, whole)
    plain = run_filter(span, SEED, entries, pages, [False] * len(whole))
    for b, block in enumerate(reference.split(span, BLOCK)):
        assert found[b].entry == plain[b].entry
        if not whole[b]:
            assert found[b] == plain[b]
        elif reference.is_zero(block):
            assert found[b].state == native.ZEROED
        else:
            full = reference.mask_of(range(len(reference.split(block, PAGE))))
            assert (found[b].state, found[b].changed, found[b].known) == (native.CHANGED, full, 0)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_the_hashes_agree_with_the_reference_and_with_the_filters(
    case: tuple[bytes, list[bytes], list[list[int]], list[bool]],
) -> None:
    span, entries, pages, whole = case
    hashes = np.full(len(whole) * 16 + 1, 0xEE, dtype=np.uint8)
    native.hash_span(span, hashes)
    assert hashes[:-1].tobytes() == reference.hash_span(span) and hashes[-1] == 0xEE
    assert hashes[:-1].tobytes() == b"".join(one.entry for one in run_filter(span, SEED, entries, pages, whole))


def test_hashes_need_room_and_an_empty_span_has_none() -> None:
    short = np.full(31, 7, dtype=np.uint8)
    with pytest.raises(ValueError, match="shorter than the span has blocks"):
        native.hash_span(b"x" * (BLOCK + 1), short)
    native.hash_span(b"", short)
    assert np.all(short == 7)


def test_an_empty_span_is_nothing_to_filter() -> None:
    none8, none16, none64 = (np.empty(0, dtype=t) for t in (np.uint8, np.uint16, np.uint64))
    state = np.full(1, 9, dtype=np.uint8)
    native.filter_span(b"", SEED, none8, none64, none8, none8, none64, none16, none16, none16, state)
    assert state.tolist() == [9]


@pytest.mark.parametrize("short", range(9))
def test_an_array_that_is_too_short_is_refused_before_anything_is_written(short: int) -> None:
    sizes = [32, 32, 2, 32, 32, 2, 2, 2, 2]
    kinds = [np.uint8, np.uint64, np.uint8, np.uint8, np.uint64, np.uint16, np.uint16, np.uint16, np.uint8]
    sizes[short] -= 1
    arrays = [np.full(size, 7, dtype=kind) for size, kind in zip(sizes, kinds, strict=True)]
    with pytest.raises(ValueError, match="shorter than the span has blocks"):
        native.filter_span(b"x" * (BLOCK + 1), SEED, *arrays)
    assert all(np.all(array == 7) for array in arrays)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_gather_agrees_with_the_reference(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 4))
    length = (n - 1) * BLOCK + data.draw(st.one_of(st.sampled_from(TAILS), st.integers(1, BLOCK)))
    span = build([i % len(CONTENTS) for i in range(-(-length // PAGE))], length)
    last = (1 << -(-(length - (n - 1) * BLOCK) // PAGE)) - 1
    whole = st.sampled_from([0, 1, 0x8000, 0xFFFF, 0x5555, 0xFF00])
    masks = data.draw(st.lists(st.one_of(whole, st.integers(0, 0xFFFF)), min_size=n, max_size=n))
    masks[-1] &= last
    first = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(first, n))
    position = data.draw(st.sampled_from([0, 1, 4096, 10_000]))
    wanted = reference.gather(span, masks, first, stop)
    frame = bytearray(b"\xcc" * (position + len(wanted) + 3))
    end = native.gather(span, np.array(masks, dtype=np.uint16), first, stop, frame, position)
    assert end == position + len(wanted)
    assert frame == b"\xcc" * position + wanted + b"\xcc" * 3


def test_gather_of_every_mask() -> None:
    """All 65,536 masks of a block, each page tagged with its number at both ends."""
    block = b"".join(bytes([p + 1]) * PAGE for p in range(PAGES))
    frame, masks = bytearray(BLOCK), np.zeros(1, dtype=np.uint16)
    view = memoryview(frame)
    for mask in range(1 << PAGES):
        masks[0] = mask
        end = native.gather(block, masks, 0, 1, frame, 0)
        tags = bytes(p + 1 for p in reference.bits(mask))
        assert end == len(tags) * PAGE
        assert bytes(view[:end:PAGE]) == tags == bytes(view[PAGE - 1 : end : PAGE])


@pytest.mark.parametrize("pages", range(1, 5))
@pytest.mark.parametrize("cut", [1, 4095, 4096])
def test_gather_of_every_mask_of_a_short_last_block(pages: int, cut: int) -> None:
    span = random.Random(3).randbytes((pages - 1) * PAGE + cut)
    for mask in range(1 << (pages + 2)):
        frame = bytearray(len(span))
        if mask >> pages:
            with pytest.raises(ValueError, match="beyond the span"):
                native.gather(span, np.array([mask], dtype=np.uint16), 0, 1, frame, 0)
            with pytest.raises(ValueError, match="beyond the span"):
                reference.gather(span, [mask], 0, 1)
            continue
        wanted = reference.gather(span, [mask], 0, 1)
        assert native.gather(span, np.array([mask], dtype=np.uint16), 0, 1, frame, 0) == len(wanted)
        assert frame[: len(wanted)] == wanted


def test_gather_refuses_what_does_not_fit() -> None:
    span, masks = random.Random(4).randbytes(2 * BLOCK), np.array([1, 3], dtype=np.uint16)
    for room in (0, 1, 3 * PAGE - 1):
        frame = bytearray(room)
        with pytest.raises(ValueError, match=r"fit|nothing to gather"):
            native.gather(span, masks, 0, 2, frame, 0)
    exact = bytearray(3 * PAGE)
    assert native.gather(span, masks, 0, 2, exact, 0) == 3 * PAGE
    with pytest.raises(ValueError, match="fit"):
        native.gather(span, masks, 0, 1, exact, 3 * PAGE - 1)
    assert exact == reference.gather(span, [1, 3], 0, 2)


@pytest.mark.parametrize(("first", "stop", "position"), [(-1, 1, 0), (0, 3, 0), (2, 1, 0), (0, 1, -1)])
def test_gather_refuses_bad_ranges_before_anything_is_written(first: int, stop: int, position: int) -> None:
    frame = bytearray(b"\xcc" * 4 * PAGE)
    with pytest.raises(ValueError, match="outside the masks"):
        native.gather(b"x" * BLOCK, np.array([1, 0], dtype=np.uint16), first, stop, frame, position)
    assert frame == b"\xcc" * 4 * PAGE


@pytest.mark.parametrize("position", [PAGE + 1, (1 << 63) - 1])
def test_gather_refuses_a_position_beyond_the_frame(position: int) -> None:
    frame = bytearray(PAGE)
    with pytest.raises(ValueError, match="beyond the frame"):
        native.gather(b"x" * BLOCK, np.ones(1, dtype=np.uint16), 0, 1, frame, position)
    assert frame == bytes(PAGE)


def test_gather_of_nothing_keeps_the_position() -> None:
    none = np.empty(0, dtype=np.uint16)
    assert native.gather(b"", none, 0, 0, bytearray(), 0) == 0
    assert native.gather(b"x" * BLOCK, np.zeros(1, dtype=np.uint16), 0, 1, bytearray(5), 5) == 5
    with pytest.raises(ValueError, match="nothing to gather"):
        native.gather(b"", np.ones(1, dtype=np.uint16), 0, 1, bytearray(PAGE), 0)
