"""When a restore point was made, as far as that can be believed; pure, and refuses to guess.

A record states its time by the sender's clock. It is believed where it agrees with the store's own time of the record
and with its place in the chain; whoever goes by times keeps what is not believed.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from warmspare.model.named_moment import moment_text

AHEAD_S = 300.0  # by which a sender's clock may be ahead of the store's, or behind itself a point before
BEHIND_S = 26 * 3600.0  # a record is made when its point is published; one that was sealed may wait for its store
PROMPT_S = 600.0  # within which the store has most of them
_OLDEST_S, _LATEST_S = 0.0, 4e11  # in between every time zone has a calendar


@dataclass(frozen=True, slots=True)
class ToldTime:
    """Of a restore point: what its record says, and since when the store has it; Unix seconds."""

    sequence: int
    created_s: float
    stored_s: float


@dataclass(frozen=True, slots=True)
class PointTime:
    """moment_s: Unix seconds; None: not to be believed, and doubt says why, as a clause."""

    sequence: int
    moment_s: float | None
    doubt: str = ""


def believed(told: Sequence[ToldTime], *, trust_created: bool = False) -> list[PointTime]:
    """Of all points of a VM that stand, in the order of their sequences, which is that of the result.

    A point is doubted whose store had it more than AHEAD_S before it was made, or got it more than BEHIND_S after;
    trust_created leaves the second away, for a copy, whose records are as old as the copying. Of the others the most
    that are in order are believed, those first that the store got at once; where that does not tell which of two is
    wrong, neither is.
    """
    doubts = {one.sequence: doubt for one in told if (doubt := _beside_the_store(one, trust_created))}
    left = [one for one in told if one.sequence not in doubts]
    weights = [2 if not trust_created and one.stored_s - one.created_s <= PROMPT_S else 1 for one in left]
    fits = _ordered(_settled(left), weights)
    good, every = _Chain([one for one, fit in zip(left, fits, strict=True) if fit]), _Chain(left)
    for one, fit in zip(left, fits, strict=True):
        if not fit:
            why = good.against(one) or every.against(one) or "which is not in order"
            doubts[one.sequence] = f"it says that it was made {moment_text(one.created_s)}, {why}"
    return [
        PointTime(one.sequence, None, doubts[one.sequence])
        if one.sequence in doubts
        else PointTime(one.sequence, one.created_s)
        for one in told
    ]


def _beside_the_store(one: ToldTime, trust_created: bool) -> str:
    """Why the store's time of the record speaks against its own; "" where it does not."""
    said, had = moment_text(one.created_s), moment_text(one.stored_s)
    if not _OLDEST_S <= one.created_s <= _LATEST_S:
        return f"it says that it was made {said}"
    if one.created_s > one.stored_s + AHEAD_S:
        return f"it says that it was made {said}, and the store has it since {had}"
    if one.created_s < one.stored_s - BEHIND_S and not trust_created:
        return f"it says that it was made {said}, and the store got it {had}, more than 26 hours later"
    return ""


def _settled(left: Sequence[ToldTime]) -> list[float]:
    """Times without the small steps back of a clock that is kept right."""
    times: list[float] = []
    for one in left:
        before = times[-1] if times else one.created_s
        times.append(before if before - AHEAD_S <= one.created_s < before else one.created_s)
    return times


def _ordered(times: Sequence[float], weights: Sequence[int]) -> list[bool]:
    """Which of them are in each of the heaviest selections that never go back."""
    upto = _heaviest_upto(times, weights)
    onward = _heaviest_upto([-time for time in reversed(times)], weights[::-1])[::-1]
    heaviest = max(upto, default=0)
    claimed = [0] * (heaviest + 1)  # how many have a claim to each unit of the weight
    fits = []
    for end, start, weight in zip(upto, onward, weights, strict=True):
        fits.append(end + start - weight == heaviest)
        for unit in range(end - weight, end) if fits[-1] else ():
            claimed[unit] += 1
    return [
        fit and all(claimed[unit] == 1 for unit in range(end - weight, end))
        for fit, end, weight in zip(fits, upto, weights, strict=True)
    ]


def _heaviest_upto(times: Sequence[float], weights: Sequence[int]) -> list[int]:
    """For each, the weight of the heaviest selection that never goes back and ends with it."""
    last: list[float] = []  # what such selections end with, ascending, and
    heavy: list[int] = []  # how heavy they are, ascending too
    found = []
    for time, weight in zip(times, weights, strict=True):
        place = bisect.bisect_right(last, time)
        total = weight + (heavy[place - 1] if place else 0)
        end = place
        while end < len(heavy) and heavy[end] <= total:
            end += 1
        last[place:end], heavy[place:end] = [time], [total]
        found.append(total)
    return found


class _Chain:
    """Points in their order: which of those before is the latest, and which of those after the earliest."""

    def __init__(self, points: Sequence[ToldTime]) -> None:
        self._sequences = [one.sequence for one in points]
        self._latest = list(itertools.accumulate(points, _later))
        self._earliest = list(itertools.accumulate(points[::-1], _earlier))[::-1]

    def against(self, one: ToldTime) -> str:
        """What one contradicts, as words that follow its own time; "" for nothing."""
        place = bisect.bisect_left(self._sequences, one.sequence)
        if place and (before := self._latest[place - 1]).created_s > one.created_s:
            return f"and restore point {before.sequence} before it {moment_text(before.created_s)}"
        place = bisect.bisect_right(self._sequences, one.sequence)
        if place < len(self._earliest) and (after := self._earliest[place]).created_s < one.created_s:
            return f"and restore point {after.sequence} after it {moment_text(after.created_s)}"
        return ""


def _later(one: ToldTime, other: ToldTime) -> ToldTime:
    return one if one.created_s > other.created_s else other


def _earlier(one: ToldTime, other: ToldTime) -> ToldTime:
    return one if one.created_s < other.created_s else other
