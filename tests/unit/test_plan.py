"""Extent files and the plan of what to read; owns every way an extent file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmspare.errors import ConfigError, SourceError
from warmspare.model.extents import Extents, covered, normalise, whole_disk
from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES
from warmspare.sync.planning.read_plan import parse_extents, plan

CAPACITY = 10 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "extents.txt"


def parse(path: Path, text: str | bytes) -> list[tuple[int, int]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return parse_extents(path, CAPACITY).pairs()


TABLE = """
   Offset     Length
   ------     ------
        0      65536

   131072    1048576

"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("\n \n\t\n", []),
        ("0 1", [(0, 1)]),
        ("0 65536\n65536 65536\n", [(0, 131072)]),
        ("  7\t9  \r\n100   1\r\n", [(7, 9), (100, 1)]),
        ("0,512\n1024, 512\n", [(0, 512), (1024, 512)]),
        (TABLE, [(0, 65536), (131072, 1048576)]),
        (TABLE.replace("\n", "\r\n"), [(0, 65536), (131072, 1048576)]),
        ("\ufeff" + TABLE, [(0, 65536), (131072, 1048576)]),  # as PowerShell writes UTF-8
        ("Offset Length\n------ ------\n", []),
        ("Start Length\n5 0\n5 5\n", [(5, 5)]),
        (f"{CAPACITY - 1} 1\n", [(CAPACITY - 1, 1)]),
        (f"0 {CAPACITY}\n", [(0, CAPACITY)]),
        (f"{CAPACITY} 0\n", []),
    ],
)
def test_what_a_tracker_prints(path: Path, text: str, wanted: list[tuple[int, int]]) -> None:
    assert parse(path, text) == wanted


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("0 10485761", 1, "ends at 10485761, beyond the disk's 10485760 bytes"),
        ("0 1\n10485760 1\n", 2, "beyond the disk's"),
        ("0 9223372036854775807\n", 1, "beyond the disk's"),
        ("0 9223372036854775808\n", 1, "beyond the disk's"),
        ("99999999999999999999999999 0\n", 1, "beyond the disk's"),
        ("0 1\n\n18446744073709551616 18446744073709551616\n", 3, "beyond the disk's"),
        ("0 " + "9" * 5000, 1, "not `offset length`"),
        ("0 4096\n-4096 4096\n", 2, "negative"),
        ("0 -1\n", 1, "negative"),
        ("0 100\n99 1\n", 2, "begins at 99, before the last one ended at 100"),
        ("0 100\n0 100\n", 2, "overlap or are out of order"),
        ("500 1\n0 100\n", 2, "overlap or are out of order"),
        ("500 0\n0 100\n", 2, "overlap or are out of order"),
        ("0\n", 1, "not `offset length`"),
        ("0 1 2\n", 1, "not `offset length`"),
        ("0 1\n# a comment\n", 2, "not `offset length`"),
        ("0x10 0x20\n", 1, "not `offset length`"),
        ("1.5 2\n", 1, "not `offset length`"),
        ("1e3 2\n", 1, "not `offset length`"),
        ("+1 2\n", 1, "not `offset length`"),
        ("1_0 2\n", 1, "not `offset length`"),
        ("--1 2\n", 1, "not `offset length`"),
        ("- 2\n", 1, "not `offset length`"),
        ("5- 2\n", 1, "not `offset length`"),
        ("\u00b2 2\n", 1, "not `offset length`"),
        ("\u0663 2\n", 1, "not `offset length`"),
        ("0 1\0\n", 1, "not `offset length`"),
        ("0 1\nOffset Length\n", 2, "not `offset length`"),
        ("0 1\n------ ------\n", 2, "not `offset length`"),
        ("\n\n\n\n\nOffset Length\n", 6, "not `offset length`"),
        ("Offset Length Type\n", 1, "not `offset length`"),
        ("<html><body>503 Service Unavailable</body></html>\n", 1, "not `offset length`"),
    ],
)
def test_bad_lines_are_refused_by_number(path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(path, text)
    assert message in caught.value.what
    assert caught.value.where == f"{path}, line {line}"
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert len(caught.value.sentence) < 400 + len(str(path))


@pytest.mark.parametrize("raw", [b"0 1\n\xff\xfe 5\n", "0 1\n".encode("utf-16"), b"\x80"])
def test_what_is_not_text_is_refused(path: Path, raw: bytes) -> None:
    with pytest.raises(ConfigError, match="not text") as caught:
        parse(path, raw)
    assert caught.value.where == str(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("0 1\n")
    for path, reason in [
        (tmp_path / "absent", "No such file"),
        (tmp_path, "a directory stands where a file belongs"),
        (tmp_path / "file" / "below", "Not a directory"),
    ]:
        with pytest.raises(ConfigError, match=reason) as caught:
            parse_extents(path, CAPACITY)
        assert caught.value.where == str(path)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=30))
def test_a_printed_list_reads_back(tmp_path_factory: pytest.TempPathFactory, gaps: list[tuple[int, int]]) -> None:
    path = tmp_path_factory.getbasetemp() / "printed.txt"
    lines, at = [], 0
    for gap, length in gaps:
        lines.append((at + gap, length))
        at += gap + length
    path.write_text("".join(f"{offset:>12} {length:>12}\n" for offset, length in lines))
    wanted = normalise([o for o, _ in lines], [n for _, n in lines])
    assert parse_extents(path, CAPACITY).pairs() == wanted.pairs()


@pytest.mark.parametrize("reported", [None, normalise([], []), normalise([5], [7])])
def test_a_first_sync_reads_everything(reported: Extents | None) -> None:
    todo = plan(CAPACITY + 1, None, reported)
    assert todo.read.pairs() == [(0, CAPACITY + 1)]
    assert todo.reported is None
    assert "first sync" in todo.reason


def test_without_extents_everything_is_read() -> None:
    todo = plan(CAPACITY, CAPACITY, None)
    assert (todo.read.pairs(), todo.reported) == ([(0, CAPACITY)], None)
    assert "no extents" in todo.reason


def test_an_empty_list_of_extents_reads_nothing() -> None:
    todo = plan(CAPACITY, CAPACITY, normalise([], []))
    assert (todo.read.pairs(), todo.reason) == ([], "")


def test_extents_are_widened_to_whole_blocks_and_kept_as_reported() -> None:
    reported = normalise([1, BLOCK_BYTES * 3 - 1, CAPACITY - 1], [1, 2, 1])
    todo = plan(CAPACITY, CAPACITY, reported)
    assert todo.read.pairs() == [
        (0, BLOCK_BYTES),
        (2 * BLOCK_BYTES, 2 * BLOCK_BYTES),
        (CAPACITY - BLOCK_BYTES, BLOCK_BYTES),
    ]
    assert todo.reported is reported


def test_a_short_last_block_is_read_to_the_end_of_the_disk() -> None:
    capacity = 3 * BLOCK_BYTES + 100
    assert plan(capacity, capacity, normalise([capacity - 1], [1])).read.pairs() == [(3 * BLOCK_BYTES, 100)]


@pytest.mark.parametrize(
    ("before", "now", "tail"),
    [
        (BLOCK_BYTES * 4, BLOCK_BYTES * 6, BLOCK_BYTES * 3),
        (BLOCK_BYTES * 4 + 1, BLOCK_BYTES * 6, BLOCK_BYTES * 4),
        (BLOCK_BYTES * 4 - 1, BLOCK_BYTES * 4, BLOCK_BYTES * 3),
        (BLOCK_BYTES * 4 + 512, BLOCK_BYTES * 4 + 1024, BLOCK_BYTES * 4),
        (1, BLOCK_BYTES * 2 + 5, 0),
    ],
)
def test_a_grown_disk_is_read_from_its_old_last_block_on(before: int, now: int, tail: int) -> None:
    todo = plan(now, before, normalise([0], [1]))
    assert todo.read.pairs() == normalise([0, tail], [min(BLOCK_BYTES, now), now - tail]).pairs()
    assert todo.reported is not None
    assert covered(todo.reported, tail, now)  # what growing changed is no finding about the tracker
    assert covered(todo.reported, 0, 1)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 40 * BLOCK_BYTES),
    st.integers(0, 10 * BLOCK_BYTES),
    st.lists(st.tuples(st.integers(0, 40 * BLOCK_BYTES), st.integers(1, BLOCK_BYTES)), max_size=6),
)
def test_a_plan_reads_whole_blocks_and_all_that_was_reported(
    before: int, growth: int, extents: list[tuple[int, int]]
) -> None:
    now = before + growth
    inside = [(o, min(n, now - o)) for o, n in extents if o < now]
    todo = plan(now, before, normalise([o for o, _ in inside], [n for _, n in inside]))
    for offset, length in todo.read.pairs():
        assert offset % BLOCK_BYTES == 0
        assert (offset + length) % BLOCK_BYTES == 0 or offset + length == now
    assert all(covered(todo.read, offset, offset + length) for offset, length in inside)
    if growth:
        assert covered(todo.read, (before - 1) // BLOCK_BYTES * BLOCK_BYTES, now)


def test_a_disk_beyond_the_largest_is_refused() -> None:
    assert plan(MAX_CAPACITY_BYTES, None, None).read.pairs() == whole_disk(MAX_CAPACITY_BYTES).pairs()
    with pytest.raises(SourceError, match="larger than"):
        plan(MAX_CAPACITY_BYTES + 1, None, None)
