"""Which tests count as such that depend on time."""

from __future__ import annotations

from pathlib import Path

from suite.timed import is_timed

TEXT = """
import pytest

@pytest.fixture
def followed(place):
    with place.popen("apply") as process:
        yield process

def _ended(process):
    process.wait()

def test_by_a_fixture(followed): pass

def test_by_a_helper_of_a_helper(place): _outer(place)

def _outer(place): _ended(place)

def test_by_a_word(place): signal.SIGTERM

def test_of_nothing(place, seconds_ahead):
    place.change("timeout")
"""


def test_by_what_they_name(tmp_path: Path) -> None:
    path = tmp_path / "test_some.py"
    path.write_text(TEXT)
    for name in ("by_a_fixture", "by_a_helper_of_a_helper", "by_a_word"):
        assert is_timed(path, f"test_{name}"), name
    assert not is_timed(path, "test_of_nothing")


def test_of_this_suite() -> None:
    tests = Path(__file__).parents[1]
    assert is_timed(tests / "unit/test_lease.py", "test_racing_takers_have_one_winner")
    assert is_timed(tests / "recover/test_stage_bytes.py", "test_a_way_that_changes_every_block")
    assert is_timed(tests / "vcenter/test_site_passes.py", "test_killed_at_random_moments")
    assert not is_timed(Path(__file__), "test_of_this_suite")
