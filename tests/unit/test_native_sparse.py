"""Merge, verify, write and punch against their Python reference; owns the refusals and system errors of them."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unit import reference
from unit.reference import BLOCK, PAGE, PAGES, Record
from warmspare._native import holes
from warmspare._native import sparse as native

CAPACITIES = [1, 4095, 4096, 4097, BLOCK, BLOCK + 1, 2 * BLOCK + 9000, 3 * BLOCK]
SHARED_PATH = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextmanager
def disk(path: Path, image: bytes) -> Iterator[int]:
    path.write_bytes(image)
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def call(fd: int, capacity: int, frame: bytes, records: list[Record]) -> tuple[list[int], int]:
    verdict = np.full(len(records), 9, dtype=np.uint8)
    written = native.apply_records(
        fd,
        capacity,
        frame,
        np.array([r.block for r in records], dtype=np.uint32),
        np.array([r.carried for r in records], dtype=np.uint16),
        np.array([r.zero for r in records], dtype=np.uint16),
        np.array([r.framed for r in records], dtype=np.uint16),
        np.array([r.slot for r in records], dtype=np.uint32),
        np.frombuffer(b"".join(r.expected for r in records), dtype=np.uint8),
        verdict,
    )
    return verdict.tolist(), written


def make_record(
    image: bytes, frame: bytearray, block: int, carried: int, zero: int, framed: int, fresh: random.Random
) -> Record:
    """A record whose expected hash is right; its pages are appended to `frame`."""
    pages = reference.split(image[block * BLOCK : (block + 1) * BLOCK], PAGE)
    slot = -(-len(frame) // PAGE)
    for p in reference.bits(framed):
        content = fresh.randbytes(len(pages[p]))
        frame += content
        if carried >> p & 1:
            pages[p] = content
    for p in reference.bits(zero):
        pages[p] = bytes(len(pages[p]))
    return Record(block, carried, zero, framed, slot, xxhash.xxh3_128_digest(b"".join(pages)))


def old_image(capacity: int, rng: random.Random) -> bytes:
    pages = [rng.choice([bytes(PAGE), rng.randbytes(PAGE)]) for _ in range(-(-capacity // PAGE))]
    return b"".join(pages)[:capacity]


@SHARED_PATH
@given(data=st.data())
def test_apply_agrees_with_the_reference(tmp_path: Path, data: st.DataObject) -> None:
    rng = random.Random(data.draw(st.integers(0, 1 << 32)))
    capacity = data.draw(st.one_of(st.sampled_from(CAPACITIES), st.integers(1, 3 * BLOCK)))
    image, frame, records = old_image(capacity, rng), bytearray(), []
    for block in range(-(-capacity // BLOCK)):
        full = (1 << -(-min(BLOCK, capacity - block * BLOCK) // PAGE)) - 1
        kind = data.draw(st.sampled_from(["all", "none", "mixed", "zero", "mixed", "mixed"]))
        if kind == "none":
            continue
        carried = full if kind == "all" else data.draw(st.integers(0, full)) if kind == "mixed" else 0
        zero = full if kind == "zero" else data.draw(st.integers(0, full)) & ~carried if kind == "mixed" else 0
        framed = carried | (data.draw(st.integers(0, full)) if data.draw(st.booleans()) else 0)
        record = make_record(image, frame, block, carried, zero, framed, rng)
        if data.draw(st.integers(0, 3)) == 0:  # what the replica holds is not what the sender knew
            wrong = bytearray(record.expected)
            wrong[data.draw(st.integers(0, 15))] ^= 1 << data.draw(st.integers(0, 7))
            record = Record(block, carried, zero, framed, record.slot, bytes(wrong))
        records.append(record)
    model = bytearray(image)
    wanted = reference.apply_records(model, bytes(frame), records)
    with disk(tmp_path / "disk", image) as fd:
        assert call(fd, capacity, bytes(frame), records) == wanted
        assert (tmp_path / "disk").read_bytes() == model


@pytest.mark.parametrize("size", [3 * PAGE, 2 * PAGE + 1, 3 * PAGE - 1])
def test_every_combination_of_masks_of_a_short_last_block(tmp_path: Path, size: int) -> None:
    """Three pages, each carried, zero, inherited, or in the frame and not used: all 64, alone in one file."""
    rng = random.Random(size)
    image = rng.randbytes(BLOCK + size)
    path = tmp_path / "disk"
    for number in range(4**3):
        kinds = [number // 4**p % 4 for p in range(3)]
        carried, zero, unused = (reference.mask_of([p for p in range(3) if kinds[p] == k]) for k in range(3))
        frame = bytearray(rng.randbytes(PAGE))  # a page of another block comes first
        record = make_record(image, frame, 1, carried, zero, carried | unused, rng)
        model = bytearray(image)
        wanted = reference.apply_records(model, bytes(frame), [record])
        assert wanted[0] == [native.WRITTEN]
        with disk(path, image) as fd:
            assert call(fd, len(image), bytes(frame), [record]) == wanted
        assert path.read_bytes() == model
        assert (bytes(model) != image) == bool(carried | zero)


def test_every_mask_of_one_page_and_many_random_masks(tmp_path: Path) -> None:
    rng = random.Random(7)
    image = rng.randbytes(BLOCK)
    masks = [(1 << p, 0) for p in range(PAGES)] + [(0, 1 << p) for p in range(PAGES)]
    masks += [(0xFFFF, 0), (0, 0xFFFF), (0x5555, 0xAAAA), (0xAAAA, 0x5555), (0x00FF, 0xFF00)]
    for _ in range(300):
        carried = rng.getrandbits(16)
        masks.append((carried, rng.getrandbits(16) & ~carried))
    with disk(tmp_path / "disk", image) as fd:
        for carried, zero in masks:
            frame = bytearray()
            record = make_record(image, frame, 0, carried, zero, carried | rng.getrandbits(16), rng)
            model = bytearray(image)
            wanted = reference.apply_records(model, bytes(frame), [record])
            assert call(fd, BLOCK, bytes(frame), [record]) == wanted
            image = os.pread(fd, BLOCK + 1, 0)
            assert image == model


def test_a_block_that_does_not_verify_is_left_alone_and_its_neighbours_are_written(tmp_path: Path) -> None:
    rng = random.Random(8)
    image, frame = rng.randbytes(3 * BLOCK), bytearray()
    records = [make_record(image, frame, b, 0x0F0F, 0x00F0, 0x0F0F, rng) for b in range(3)]
    replica = bytearray(image)
    replica[BLOCK + 12 * PAGE + 5] ^= 1  # a page that the record inherits
    assert bytes(replica) != image
    with disk(tmp_path / "disk", bytes(replica)) as fd:
        verdicts, written = call(fd, len(image), bytes(frame), records)
    assert verdicts == [native.WRITTEN, native.MISMATCH, native.WRITTEN]
    assert written == 2 * 8 * PAGE
    after = (tmp_path / "disk").read_bytes()
    assert after[BLOCK : 2 * BLOCK] == replica[BLOCK : 2 * BLOCK]
    for b in (0, 2):
        assert xxhash.xxh3_128_digest(after[b * BLOCK : (b + 1) * BLOCK]) == records[b].expected


def test_a_replica_shorter_than_its_disk_reads_as_zeros_there(tmp_path: Path) -> None:
    rng = random.Random(9)
    frame = bytearray()
    record = make_record(bytes(BLOCK), frame, 0, 0x0001, 0, 0x0001, rng)
    with disk(tmp_path / "disk", b"") as fd:
        assert call(fd, BLOCK, bytes(frame), [record]) == ([native.WRITTEN], PAGE)
    assert (tmp_path / "disk").read_bytes() == frame


def test_zero_pages_become_holes(tmp_path: Path) -> None:
    rng = random.Random(10)
    image = rng.randbytes(4 * BLOCK)
    records = [make_record(image, bytearray(), b, 0, 0xFFFF, 0, rng) for b in range(4)]
    with disk(tmp_path / "disk", image) as fd:
        before = os.fstat(fd).st_blocks
        assert call(fd, len(image), b"", records) == ([native.WRITTEN] * 4, 0)
        after = os.fstat(fd)
        assert os.pread(fd, len(image) + 1, 0) == bytes(len(image))
        assert before >= 4 * BLOCK // 512
        assert after.st_blocks <= before - 3 * BLOCK // 512
        assert after.st_size == len(image)


def refuse(fd: int, capacity: int, frame: bytes, fields: dict[str, int], sizes: dict[str, int]) -> None:
    """Two records, the first one valid; the second with `fields`, arrays cut by `sizes`."""
    good = {"block": 0, "carried": 1, "zero": 2, "framed": 1, "slot": 0}
    second = {"block": 1, "carried": 1, "zero": 2, "framed": 1, "slot": 1, **fields}
    kinds = {"block": "u4", "carried": "u2", "zero": "u2", "framed": "u2", "slot": "u4"}
    columns = {
        name: np.array([good[name], second[name]], dtype=kind)[: 2 - sizes.get(name, 0)] for name, kind in kinds.items()
    }
    expected = np.zeros(32 - sizes.get("expected", 0), dtype=np.uint8)
    page = os.pread(fd, BLOCK, 0)
    merged = frame[:PAGE] + bytes(PAGE) + page[2 * PAGE :]
    expected[:16] = np.frombuffer(xxhash.xxh3_128_digest(merged), dtype=np.uint8)
    verdict = np.full(2 - sizes.get("verdict", 0), 9, dtype=np.uint8)
    try:
        native.apply_records(fd, capacity, frame, *columns.values(), expected, verdict)
    finally:
        assert np.all(verdict == 9) or not (fields or sizes)


@pytest.mark.parametrize(
    ("fields", "sizes", "message"),
    [
        ({"block": 2}, {}, "beyond the disk's"),
        ({"block": (1 << 32) - 1}, {}, "beyond the disk's"),
        ({"carried": 0x10, "framed": 0x10}, {}, "a page beyond the disk"),
        ({"zero": 0x8000}, {}, "a page beyond the disk"),
        ({"framed": 0x8001}, {}, "a page beyond the disk"),
        ({"zero": 1}, {}, "contradict"),
        ({"carried": 4}, {}, "contradict"),
        ({"slot": 2}, {}, "beyond its frame"),
        ({"slot": (1 << 32) - 1}, {}, "beyond its frame"),
        ({"framed": 3, "carried": 3, "zero": 0}, {}, "beyond its frame"),
        ({}, {"carried": 1}, "shorter"),
        ({}, {"zero": 1}, "shorter"),
        ({}, {"framed": 1}, "shorter"),
        ({}, {"slot": 1}, "shorter"),
        ({}, {"expected": 1}, "shorter"),
        ({}, {"verdict": 1}, "shorter"),
    ],
)
def test_invalid_records_are_refused_and_nothing_is_written(
    tmp_path: Path, fields: dict[str, int], sizes: dict[str, int], message: str
) -> None:
    """The disk's last block has four pages, the frame two: the first record alone would be written."""
    rng = random.Random(11)
    image, frame = rng.randbytes(BLOCK + 4 * PAGE), rng.randbytes(2 * PAGE)
    with disk(tmp_path / "disk", image) as fd:
        with pytest.raises(ValueError, match=message):
            refuse(fd, len(image), frame, fields, sizes)
        assert os.pread(fd, len(image) + 1, 0) == image
        refuse(fd, len(image), frame, {}, {})  # the same call without the fault does write
        assert os.pread(fd, PAGE, 0) == frame[:PAGE]


def test_a_frame_that_ends_with_the_disks_short_page(tmp_path: Path) -> None:
    """Exactly the short page's bytes are enough; one less is refused."""
    rng = random.Random(12)
    image, frame = rng.randbytes(BLOCK + PAGE + 100), bytearray()
    record = make_record(image, frame, 1, 3, 0, 3, rng)
    assert len(frame) == PAGE + 100
    with disk(tmp_path / "disk", image) as fd:
        with pytest.raises(ValueError, match="beyond its frame"):
            call(fd, len(image), bytes(frame[:-1]), [record])
        assert os.pread(fd, len(image) + 1, 0) == image
        assert call(fd, len(image), bytes(frame), [record]) == ([native.WRITTEN], PAGE + 100)
        assert os.pread(fd, len(image) + 1, 0) == image[:BLOCK] + frame


def test_no_record_is_nothing_to_do() -> None:
    assert call(-1, BLOCK, b"", []) == ([], 0)


def test_a_full_medium_is_an_oserror(tmp_path: Path) -> None:
    rng = random.Random(13)
    frame = bytearray()
    carried = make_record(bytes(BLOCK), frame, 0, 0xFFFF, 0, 0xFFFF, rng)
    fd = os.open("/dev/full", os.O_RDWR)
    try:
        with pytest.raises(OSError, match="No space left") as caught:
            call(fd, BLOCK, bytes(frame), [carried])
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space left") as caught:  # no holes there: zeros are written
            holes.punch(fd, 0, BLOCK + 1)
        assert caught.value.errno == errno.ENOSPC
    finally:
        os.close(fd)


def test_a_descriptor_that_cannot_be_used_is_an_oserror(tmp_path: Path) -> None:
    rng = random.Random(14)
    image, frame = rng.randbytes(BLOCK), bytearray()
    whole = make_record(image, frame, 0, 0xFFFF, 0, 0xFFFF, rng)
    merged = make_record(image, frame, 0, 1, 2, 1, rng)
    path = tmp_path / "disk"
    path.write_bytes(image)
    for flags in (os.O_RDONLY, os.O_WRONLY):
        fd = os.open(path, flags)
        try:
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                call(fd, BLOCK, bytes(frame), [whole if flags == os.O_RDONLY else merged])
            assert caught.value.errno == errno.EBADF
            if flags == os.O_RDONLY:
                for function in (holes.punch, holes.zero_range):
                    with pytest.raises(OSError, match="Bad file descriptor") as caught:
                        function(fd, 0, PAGE)
                    assert caught.value.errno == errno.EBADF
        finally:
            os.close(fd)
    assert path.read_bytes() == image


@SHARED_PATH
@given(data=st.data())
def test_punch_agrees_with_the_reference(tmp_path: Path, data: st.DataObject) -> None:
    rng = random.Random(data.draw(st.integers(0, 1 << 32)))
    image = bytearray(old_image(data.draw(st.integers(1, 3 * BLOCK)), rng))
    with disk(tmp_path / "disk", bytes(image)) as fd:
        for _ in range(3):
            offset = data.draw(st.integers(0, len(image) + PAGE))
            length = data.draw(st.one_of(st.integers(0, len(image) + BLOCK), st.integers(1, 5000)))
            holes.punch(fd, offset, length)
            reference.punch(image, offset, length)
            assert os.pread(fd, len(image) + 1, 0) == image


def test_punching_holes_again_and_over_data_between_them(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.touch()
    os.truncate(path, 8 * BLOCK)
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, b"x" * PAGE, 3 * BLOCK)
        os.pwrite(fd, b"y" * PAGE, 6 * BLOCK)
        holes.punch(fd, 0, 6 * BLOCK)
        assert os.fstat(fd).st_blocks <= BLOCK // 512
        model = bytearray(8 * BLOCK)
        model[6 * BLOCK : 6 * BLOCK + PAGE] = b"y" * PAGE
        assert os.pread(fd, 9 * BLOCK, 0) == model
        holes.punch(fd, 0, 1 << 40)  # far beyond the end
        assert os.pread(fd, 9 * BLOCK, 0) == bytes(8 * BLOCK)
    finally:
        os.close(fd)


@pytest.mark.parametrize(("offset", "length"), [(-PAGE, 2 * PAGE), (PAGE, -PAGE), (-1, 1)])
def test_a_negative_range_is_refused_and_nothing_is_written(tmp_path: Path, offset: int, length: int) -> None:
    image = random.Random(15).randbytes(2 * PAGE)
    with disk(tmp_path / "disk", image) as fd:
        with pytest.raises(ValueError, match="negative"):
            holes.punch(fd, offset, length)
        assert os.pread(fd, 3 * PAGE, 0) == image


@pytest.mark.parametrize(("offset", "length"), [(0, PAGE), (100, 5000), (BLOCK, BLOCK), (0, 2 * BLOCK)])
def test_zero_range_agrees_with_the_reference_or_says_that_it_cannot(tmp_path: Path, offset: int, length: int) -> None:
    image = bytearray(random.Random(16).randbytes(2 * BLOCK))
    with disk(tmp_path / "disk", bytes(image)) as fd:
        if holes.zero_range(fd, offset, length):
            reference.zero_range(image, offset, length)
        assert os.pread(fd, 3 * BLOCK, 0) == image


def test_zero_range_of_a_device_that_cannot_is_false() -> None:
    fd = os.open("/dev/null", os.O_RDWR)
    try:
        assert holes.zero_range(fd, 0, PAGE) is False
    finally:
        os.close(fd)


def test_writeback_is_a_hint_that_changes_no_byte_and_never_fails(tmp_path: Path) -> None:
    image = random.Random(17).randbytes(BLOCK)
    with disk(tmp_path / "disk", image) as fd:
        native.start_writeback(fd, 0, BLOCK)
        native.start_writeback(fd, -1, -1)
        assert os.pread(fd, BLOCK + 1, 0) == image
