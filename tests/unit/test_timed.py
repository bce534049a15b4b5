"""The list of tests that depend on time names files and tests that are there."""

from __future__ import annotations

from pathlib import Path

from timed import TIMED, is_timed

TESTS = Path(__file__).parents[1]


def test_each_entry_is_there() -> None:
    for entry in TIMED:
        place, _, words = entry.partition(": ")
        assert (TESTS / place).exists(), place
        text = (TESTS / place).read_text() if words else ""
        names = [line for line in text.splitlines() if line.startswith(("def test_", "async def test_"))]
        for word in words.split():
            assert any(word in name for name in names), (place, word)


def test_what_is_timed() -> None:
    assert is_timed("fault/test_kills.py", "test_any") and is_timed("unit/test_lease.py", "test_any")
    assert is_timed("unit/test_state.py", "test_a_lock") and not is_timed("unit/test_state.py", "test_a_table")
    assert not is_timed("unit/test_layout.py", "test_any")
