"""Which share of a disk a rolling audit looks at: all of it in each period, evenly, whatever happens between."""

from __future__ import annotations

import random

import numpy as np
import pytest

from warmspare.model.extents import Extents, normalise, without
from warmspare.model.units import SPAN_BYTES
from warmspare.sync.planning.rolling_cursor import DAY_S, RollingCursor

PERIOD_S = 7 * DAY_S
MIB = 1 << 20


def walk(capacity: int, cursor: RollingCursor, times: list[float]) -> tuple[list[Extents], RollingCursor]:
    shares = []
    for now in times:
        share, cursor = cursor.share(capacity, PERIOD_S, now)
        shares.append(share)
    return shares, cursor


def seen(capacity: int, shares: list[Extents]) -> np.ndarray:
    """How often each span was looked at."""
    counts = np.zeros(-(-capacity // SPAN_BYTES), dtype=np.int64)
    for share in shares:
        for offset, length in share.pairs():
            assert offset % SPAN_BYTES == 0 and offset + length <= capacity
            assert length % SPAN_BYTES == 0 or offset + length == capacity
            counts[offset // SPAN_BYTES : -(-(offset + length) // SPAN_BYTES)] += 1
    return counts


@pytest.mark.parametrize("capacity", [MIB, 3 * MIB + 4096, 700 * MIB + 512, 1 << 40])
@pytest.mark.parametrize("every_s", [900.0, 3600.0, DAY_S, 10 * DAY_S])
def test_each_period_covers_the_disk_once(capacity: int, every_s: float) -> None:
    rng = random.Random(f"{capacity} {every_s}")
    start = RollingCursor(rng.randrange(-(-capacity // SPAN_BYTES)), 1e9, usual_s=every_s)
    times, now = [], 1e9
    while now < 1e9 + PERIOD_S:
        now += every_s * rng.uniform(0.6, 1.4)
        times.append(min(now, 1e9 + PERIOD_S + 1))
    shares, after = walk(capacity, start, times)
    counts = seen(capacity, shares)
    assert counts.min() == 1 and counts.max() <= 2  # a span may be begun again at the end
    assert after.covered_s > 1e9 and after.round_began_s == after.covered_s
    if every_s < DAY_S:
        most = max(share.total_bytes for share in shares)
        fair = capacity * 1.4 * every_s / PERIOD_S
        assert most <= fair + SPAN_BYTES


def test_a_pause_is_not_made_up_for() -> None:
    capacity = 700 * MIB
    _, cursor = walk(capacity, RollingCursor(5, 0.0), [900.0 * n for n in range(1, 50)])
    share, after = cursor.share(capacity, PERIOD_S, 900.0 * 50 + 60 * DAY_S)
    assert 0 < share.total_bytes <= capacity / 7 + SPAN_BYTES
    following, _ = after.share(capacity, PERIOD_S, 900.0 * 51 + 60 * DAY_S)
    assert following.total_bytes <= SPAN_BYTES * 2


def test_a_clock_that_is_put_back_costs_nothing() -> None:
    share, cursor = RollingCursor(5, 1e9).share(700 * MIB, PERIOD_S, 1e9 - 5 * DAY_S)
    assert not len(share) and cursor.last_s == 1e9 - 5 * DAY_S
    share, _ = cursor.share(700 * MIB, PERIOD_S, 1e9 - 4.5 * DAY_S)
    assert share.total_bytes == pytest.approx(700 * MIB / 14, abs=SPAN_BYTES)


def test_a_disk_that_grew_goes_on_where_it_was() -> None:
    capacity = 100 * MIB
    _, cursor = walk(capacity, RollingCursor(90, 0.0), [DAY_S * n for n in (1, 2)])
    assert cursor.span < 90  # went around
    _, cursor = walk(2 * capacity, cursor, [DAY_S * n for n in (3, 4, 5, 6, 7, 8, 9)])
    assert 0 <= cursor.span < 200


def test_a_full_compare_counts_as_a_round() -> None:
    cursor = RollingCursor(42, 100.0, 50.0, 7.0, 30, 10.0, 5.0).compared(100 * MIB, 1000.0)
    assert cursor == RollingCursor(42, 1000.0, 900.0, 0.0, 0, 1000.0, 1000.0)


def test_new_cursors_begin_anywhere() -> None:
    places = {RollingCursor.anywhere(1 << 40, 0.0).span for _ in range(50)}
    assert len(places) > 40 and max(places) < 1 << 20
    assert RollingCursor.anywhere(4096, 0.0).span == 0


def test_what_is_cut_out_of_extents() -> None:
    rng = random.Random(3)
    for _ in range(300):
        bits = [np.zeros(60, dtype=bool), np.zeros(60, dtype=bool)]
        extents = []
        for have in bits:
            for _ in range(rng.randrange(8)):
                start = rng.randrange(60)
                have[start : start + rng.randrange(12)] = True
            at = np.flatnonzero(have)
            extents.append(normalise(at, np.ones(at.size, dtype=np.int64)))
        left = np.flatnonzero(bits[0] & ~bits[1])
        assert without(*extents).pairs() == normalise(left, np.ones(left.size, dtype=np.int64)).pairs()
