"""Sizes, durations and their like as people read them; owns no unit that a program is told."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence

_TOLD_MOST = 5  # in a sentence


def size(count: float) -> str:
    """Bytes in binary units, three digits or so."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 0:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    return f"{minutes} min {int(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def ahead_s(moment: str, now_s: float) -> float:
    """Seconds until a moment, RFC 3339; negative for one that was."""
    return datetime.datetime.fromisoformat(moment).timestamp() - now_s


def age_s(moment: str, now_s: float) -> float:
    """Seconds since a moment, RFC 3339; 0 where it is still to come. now_s: Unix seconds. ValueError."""
    return round(max(0.0, -ahead_s(moment, now_s)), 1)


def age(seconds: float) -> str:
    """How long ago something was, in one unit: `3 h`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length * (2 if unit == "d" else 1):
            return f"{int(seconds) // length} {unit}"
    return f"{int(seconds)} s"


def ago(moment: str) -> str:
    """The same of a moment: `3 h ago`; the text itself where it is none."""
    try:
        return f"{age(age_s(moment, time.time()))} ago"
    except ValueError:
        return moment


def span(numbers: Sequence[int]) -> str:
    """Sequences of restore points, of which there is one at least: `13`, `13 to 17`."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def told(clauses: Sequence[str]) -> str:
    """The first few clauses, for a sentence."""
    more = len(clauses) - _TOLD_MOST
    return "; ".join(clauses[:_TOLD_MOST]) + (f"; and {more} more" if more > 0 else "")
