"""The log under page log and sent log: what comes back is a beginning of what was appended, whatever befell it."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warmspare.errors import NoRoomError
from warmspare.sync.journal import checked_log
from warmspare.sync.journal.checked_log import CheckedLog, RecordForm, records_of
from warmspare.sync.journal.page_log import PageLog

FORM = RecordForm(b"TEST", "H4s", np.dtype([("number", "<u4"), ("pair", "<u2", (2,))]))
Appended = tuple[int, bytes, int]  # both fields, and how many rows
some = st.lists(st.tuples(st.integers(0, 65535), st.binary(min_size=4, max_size=4), st.integers(0, 40)), max_size=6)


def rows(record: Appended) -> np.ndarray:
    out = np.zeros(record[2], dtype=FORM.row)
    out["number"], out["pair"][:, 1] = np.arange(record[2]) + record[0], record[0]
    return out


def append(log: CheckedLog, records: list[Appended]) -> None:
    for record in records:
        log.append(record[0], record[1], rows=rows(record))


def plain(records: object) -> list[tuple[object, ...]]:
    return [(*record.fields, record.rows.tobytes()) for record in records]  # type: ignore[attr-defined]


def expected(records: list[Appended]) -> list[tuple[object, ...]]:
    return [(number, name, rows((number, name, count)).tobytes()) for number, name, count in records]


@given(records=some, later=some, cut=st.floats(0, 1), flip=st.booleans())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_gives_a_beginning_of_what_was_appended_and_goes_on_there(
    tmp_path: Path, records: list[Appended], later: list[Appended], cut: float, flip: bool
) -> None:
    """Torn or with a flipped bit, anywhere; and what is appended then is met by who reads it afterwards."""
    path = tmp_path / "log"
    log = CheckedLog(path, "it", FORM, anew=True)
    ends = [0]
    for record in records:
        append(log, [record])
        ends.append(path.stat().st_size)
    log.close()
    assert plain(records_of(path, "it", FORM)) == expected(records)
    whole = path.read_bytes()
    at = int(cut * len(whole))
    if flip and whole:
        at = min(at, len(whole) - 1)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        sound = sum(end <= at for end in ends[1:])
    else:
        path.write_bytes(whole[:at])
        sound = sum(end <= at for end in ends[1:])
    assert plain(records_of(path, "it", FORM)) == expected(records[:sound])
    log = CheckedLog(path, "it", FORM)
    assert plain(log.records()) == expected(records[:sound])
    append(log, later)
    log.sync()
    assert plain(log.records()) == expected(records[:sound] + later)
    log.close()
    assert plain(records_of(path, "it", FORM)) == expected(records[:sound] + later)


def test_a_record_that_found_no_room_is_none_and_the_next_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CheckedLog(tmp_path / "log", "the state directory", FORM, anew=True)
    append(log, [(1, b"aaaa", 3)])
    pwrite, written = os.pwrite, []

    def half(fd: int, data: memoryview, at: int) -> int:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(at)
        return pwrite(fd, data[: len(data) // 2], at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(NoRoomError, match="free some space"):
            append(log, [(2, b"bbbb", 30)])
    assert plain(log.records()) == expected([(1, b"aaaa", 3)])
    append(log, [(3, b"cccc", 1)])
    assert plain(log.records()) == expected([(1, b"aaaa", 3), (3, b"cccc", 1)])
    log.close()


def test_no_record_is_written_that_no_reader_would_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked_log, "MAX_ROWS", 8)
    log = CheckedLog(tmp_path / "log", "it", FORM, anew=True)
    append(log, [(1, b"aaaa", 8)])
    with pytest.raises(ValueError, match="9 rows"):
        append(log, [(1, b"aaaa", 9)])
    assert plain(log.records()) == expected([(1, b"aaaa", 8)])
    log.close()


def test_a_record_of_another_kind_or_version_ends_it(tmp_path: Path) -> None:
    log = CheckedLog(tmp_path / "log", "it", FORM, anew=True)
    append(log, [(1, b"aaaa", 2)])
    log.close()
    assert not list(records_of(tmp_path / "log", "it", RecordForm(b"TES2", FORM.fields, FORM.row)))
    assert not list(records_of(tmp_path / "none", "it", FORM)), "a log that is not there has no records"


def test_a_page_log_of_the_version_before_gives_nothing(tmp_path: Path) -> None:
    """Its checksum was of the rows alone. Its pages are unknown then, and what comes after is known."""
    table = np.zeros(2, dtype=[("block", "<u4"), ("pages", "<u8", (16,))])
    raw = table.tobytes()
    (tmp_path / "log").write_bytes(struct.pack("<4sIQ", b"WSPR", 2, xxhash.xxh3_64_intdigest(raw)) + raw)
    log = PageLog(tmp_path / "log")
    assert not list(log.replay())
    log.append(np.array([7], dtype=np.uint32), np.full((1, 16), 9, dtype=np.uint64))
    assert [blocks.tolist() for blocks, _ in log.replay()] == [[7]]
    log.close()
