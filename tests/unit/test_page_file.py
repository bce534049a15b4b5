"""The page file under tables, maps and columns: it is an array of bytes, whatever the kernel gives at once."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warmspare.errors import NoRoomError, StoreError
from warmspare.model.columns import U32
from warmspare.state.page_column import PageColumn
from warmspare.state.page_file import PageFile, Pages

SIZE = 1 << 20
writes = st.tuples(st.just("write"), st.integers(0, SIZE), st.binary(max_size=9000))
reads = st.tuples(st.just("read"), st.integers(0, SIZE), st.integers(0, 9000))
punches = st.tuples(st.just("punch"), st.integers(0, SIZE), st.integers(0, 60000))
empties = st.tuples(st.just("empty"), st.just(0), st.just(0))


def bit_by_bit(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """A kernel that reads and writes no more than `most` bytes at once."""
    pread, pwrite = os.pread, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, most), at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, memoryview(data)[:most], at))


@given(
    steps=st.lists(st.one_of(writes, reads, punches, empties), max_size=20),
    most=st.sampled_from([1 << 30, 4096, 1000]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_an_array_of_bytes(tmp_path: Path, steps: list[tuple[str, int, bytes | int]], most: int) -> None:
    model = bytearray(SIZE + 70000)
    with pytest.MonkeyPatch.context() as patch, PageFile(tmp_path / "f", "it", anew=True) as file:
        bit_by_bit(patch, most)
        for kind, at, what in steps:
            if isinstance(what, bytes):
                file.write(at, what)
                model[at : at + len(what)] = what
            elif kind == "read":
                assert file.read(at, what) == model[at : at + what]
            elif kind == "punch":
                file.punch(at, what)
                model[at : at + what] = bytes(what)
            else:
                file.empty()
                model = bytearray(len(model))
        assert file.read(0, len(model)) == model
        at = 0
        while at < len(model):  # whatever lies outside of its data is zeros
            data = file.data_from(at)
            assert not any(model[at : len(model) if data is None else data])
            at = len(model) if data is None else file.hole_from(data)


def test_what_ends_early_reads_as_zeros_or_as_it_is(tmp_path: Path) -> None:
    with PageFile(tmp_path / "f", "it") as file:
        file.write(0, b"12345")
        assert file.read(3, 4) == b"45\0\0"
        assert (file.read_there(3, 4), file.read_there(9, 4)) == (b"45", b"")


def test_a_page_lies_in_its_region_or_is_refused(tmp_path: Path) -> None:
    with PageFile(tmp_path / "f", "it") as file:
        low, high = Pages(file, 16, 4, begins=8), Pages(file, 4, 3, begins=8 + 64)
        low.write(3, b"l" * 16)
        high.write(0, b"aaaabbbb")
        assert low.read(2, 2) == bytes(16) + b"l" * 16
        assert (high.read(1), high.read(2)) == (b"bbbb", bytes(4))
        before = file.read(0, 200)
        calls: list[Callable[[], object]] = [
            lambda: low.read(4),
            lambda: low.read(-1),
            lambda: low.read(3, 2),
            lambda: low.write(3, b"x" * 32),
            lambda: low.write(-1, b"x" * 16),
            lambda: low.write(0, b"short"),
            lambda: high.write(3, b"xxxx"),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="pages"):
                call()
        assert file.read(0, 200) == before, "something beyond a region was written"


@given(
    rounds=st.lists(
        st.tuples(
            st.sampled_from(["put", "clear"]),
            st.lists(st.integers(0, 200), min_size=1, max_size=30, unique=True),
            st.integers(1, 255),
        ),
        max_size=8,
    ),
    width=st.sampled_from([1, 3]),
    page_values=st.sampled_from([4, 16]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_column_is_an_array_with_a_value_for_each_block(
    tmp_path: Path, rounds: list[tuple[str, list[int], int]], width: int, page_values: int
) -> None:
    model = np.zeros((201, width), dtype=np.uint16)
    every: U32 = np.arange(201, dtype=np.uint32)
    with PageFile(tmp_path / "f", "it", anew=True) as file:
        column = PageColumn(file, np.uint16, width, page_values=page_values)
        for kind, numbers, value in rounds:
            blocks = np.array(sorted(numbers), dtype=np.uint32)
            if kind == "put":
                values = (blocks[:, None] + value + np.arange(width)).astype(np.uint16)
                column.put(blocks, values if width > 1 else values[:, 0])
                model[blocks] = values
            else:
                first, stop = int(blocks[0]), int(blocks[-1]) + 1
                column.clear(first, stop - first)
                model[first:stop] = 0
            assert np.array_equal(column.get(every).reshape(201, width), model)
            found = [number for blocks, _ in column.filled(3, 150) for number in blocks.tolist()]
            assert found == [number for number in range(3, 150) if model[number].any()]


@pytest.mark.parametrize("call", ["read", "write", "empty", "sync", "data_from", "allocated_bytes"])
def test_an_error_of_the_medium_is_one_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    calls: dict[str, Callable[[PageFile], object]] = {
        "read": lambda file: file.read(0, 1),
        "write": lambda file: file.write(0, b"x"),
        "empty": lambda file: file.empty(),
        "sync": lambda file: file.sync(),
        "data_from": lambda file: file.data_from(0),
        "allocated_bytes": lambda file: file.allocated_bytes,
    }
    with PageFile(tmp_path / "f", "the state directory") as file, monkeypatch.context() as patch:
        for name in ("pread", "pwrite", "ftruncate", "fsync", "lseek", "fstat"):
            patch.setattr(os, name, broken)
        with pytest.raises(StoreError, match="the state directory failed: Input/output error") as caught:
            calls[call](file)
    assert str(tmp_path / "f") in str(caught.value)


def test_a_file_that_may_not_grow_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """As a full disk is: a file that is mapped would end the process there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with PageFile(tmp_path / "f", "it") as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
        try:
            file.write(0, bytes(8192))
            with pytest.raises(StoreError, match="it failed"):
                file.write(8192, b"x")
            with pytest.raises(StoreError, match="it failed"):
                file.write(5000, bytes(8192))  # half of it fits
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, old)
        file.write(8192, b"x")
        assert file.read(8191, 2) == b"\0x"


def test_a_full_disk_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with PageFile(tmp_path / "f", "it") as file, monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(NoRoomError, match="free some space"):
            file.write(0, b"x")


def test_a_file_without_a_name_goes_with_its_process(tmp_path: Path) -> None:
    with PageFile(tmp_path / "deep" / "f", "it", nameless=True) as file:
        file.write(0, b"x")
        assert not list((tmp_path / "deep").iterdir())
        assert file.read(0, 1) == b"x"
        file.close()
    file.close()


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    with pytest.raises(StoreError, match="a FIFO stands where a file belongs"):
        PageFile(tmp_path / "f", "it")
