"""Whose time is believed: of senders whose clocks are ahead, behind, put back, or dead, and of their neighbours."""

from __future__ import annotations

import itertools
import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from warmspare.retain.point_times import ToldTime, believed

BEGIN = 1_796_000_000.0
STEP = 900.0
HOUR, DAY, YEAR = 3600.0, 86400.0, 366 * 86400.0


def chain(count: int, wrong: dict[int, float], *, lag: float = 2.0, copied: bool = False) -> list[ToldTime]:
    """wrong: by how much the clock of these was ahead."""
    times = [BEGIN + number * STEP for number in range(1, count + 1)]
    end = times[-1] + YEAR
    return [
        ToldTime(number, made + wrong.get(number, 0.0), end if copied else made + lag)
        for number, made in enumerate(times, 1)
    ]


def doubted(told: list[ToldTime], *, copied: bool = False) -> list[int]:
    times = believed(told, trust_created=copied)
    assert [one.sequence for one in times] == [one.sequence for one in told]
    assert all((one.moment_s is None) == bool(one.doubt) for one in times)
    return [one.sequence for one in times if one.moment_s is None]


def test_a_sound_chain_is_believed() -> None:
    assert doubted(chain(50, {})) == []
    assert doubted(chain(50, {}, lag=25 * HOUR)) == []  # all were sealed and waited
    assert doubted(chain(50, {}, copied=True), copied=True) == []
    assert doubted(chain(1, {})) == doubted([]) == []


def test_one_wrong_clock_in_the_middle() -> None:
    for ahead in (6 * 60.0, HOUR, DAY, YEAR, -2 * HOUR, -25 * HOUR, -DAY * 30, -BEGIN):
        assert doubted(chain(30, {15: ahead})) == [15], ahead


def test_a_run_of_wrong_clocks_takes_no_neighbour_along() -> None:
    run = range(10, 22)  # three hours
    for ahead in (HOUR, DAY, YEAR, -4 * HOUR, -20 * HOUR, -YEAR):
        assert doubted(chain(40, dict.fromkeys(run, ahead))) == list(run), ahead
    # What a clock that is put back says of the time when it had not been is in order again later.
    assert doubted(chain(40, dict.fromkeys(run, -2 * HOUR))) == list(run)[:7]


def test_wrong_at_the_first_and_at_the_newest() -> None:
    assert doubted(chain(10, {1: DAY})) == [1]
    assert doubted(chain(10, {1: 6 * 60.0, 10: -HOUR})) == [1, 10]
    assert doubted(chain(10, {10: 3 * DAY})) == [10]


def test_a_clock_that_is_kept_right_takes_small_steps_back() -> None:
    assert doubted(chain(20, {5: STEP - 1.0, 6: -280.0})) == [5]  # ahead of the store by more than five minutes
    told = [ToldTime(n, BEGIN + n * 10.0 - (200.0 if n > 5 else 0.0), BEGIN + n * 10.0) for n in range(1, 11)]
    assert doubted(told) == []


def test_a_copy_goes_by_its_order_alone() -> None:
    assert doubted(chain(30, {}, copied=True)) == list(range(1, 31))
    for ahead in (2 * HOUR, 30 * DAY, -2 * HOUR, -YEAR):
        found = doubted(chain(30, {15: ahead}, copied=True), copied=True)
        assert found == [15], ahead
    assert doubted(chain(30, dict.fromkeys(range(10, 14), DAY), copied=True), copied=True) == [10, 11, 12, 13]


def test_of_two_that_contradict_each_other_neither_is_believed() -> None:
    told = [ToldTime(n, BEGIN + hours * HOUR, BEGIN + YEAR) for n, hours in enumerate((8, 10, 9, 11), 1)]
    assert doubted(told, copied=True) == [2, 3]
    why = {one.sequence: one.doubt for one in believed(told, trust_created=True)}
    assert "restore point 3 after it" in why[2] and "restore point 2 before it" in why[3]


def test_it_says_why() -> None:
    told = [
        ToldTime(1, BEGIN, BEGIN + 1),
        ToldTime(2, BEGIN + DAY, BEGIN + 10),
        ToldTime(3, BEGIN - 30 * HOUR, BEGIN + 20),
        ToldTime(4, BEGIN - 2 * HOUR, BEGIN + 30),
        ToldTime(5, BEGIN + 40, BEGIN + 41),
        ToldTime(6, -6.2e10, BEGIN + 50),
    ]
    why = [one.doubt for one in believed(told)]
    assert why == [
        "",
        "it says that it was made 2026-12-01T00:53:20Z, and the store has it since 2026-11-30T00:53:30Z",
        "it says that it was made 2026-11-28T18:53:20Z, and the store got it 2026-11-30T00:53:40Z, "
        "more than 26 hours later",
        "it says that it was made 2026-11-29T22:53:20Z, and restore point 1 before it 2026-11-30T00:53:20Z",
        "",
        "it says that it was made 0005-04-19T09:46:40Z",
    ]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-6e10, 2.5e11), st.floats(0, 1e10)), max_size=40), st.booleans())
def test_any_times_at_all(times: list[tuple[float, float]], trust: bool) -> None:
    told = [ToldTime(number, *both) for number, both in enumerate(times, 1)]
    found = believed(told, trust_created=trust)
    assert [one.sequence for one in found] == [one.sequence for one in told]
    moments = [one.moment_s for one in found if one.moment_s is not None]
    assert all(later >= sooner - 300.0 for sooner, later in itertools.pairwise(moments))


def test_a_year_of_nonsense_is_quick() -> None:
    draw = random.Random(5)
    told = [ToldTime(n, BEGIN + draw.random() * YEAR, BEGIN + 2 * YEAR) for n in range(35040)]
    began = time.process_time()
    found = believed(told, trust_created=True)
    assert time.process_time() - began < 5.0 and any(one.doubt for one in found)
