"""The files that are handed out first are there, each once."""

from rigs.paths import TESTS
from suite import order


def test_files_that_take_long_are_there() -> None:
    assert len(set(order.LONGEST)) == len(order.LONGEST)
    assert [name for name in order.LONGEST if not (TESTS / name).is_file()] == []
