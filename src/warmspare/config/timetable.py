"""A weekly timetable of rates: which limit holds at a moment of the wall clock. Refuses to look at a clock.

Days and times are local, as people write them: where the clock is put forward an hour is missing, and what would begin
in it has begun when it is over; where it is put back an hour comes twice, and what holds in it holds twice.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from warmspare.config.values import shaped
from warmspare.errors import ConfigError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY = frozenset(range(7))
DAY_MINUTES = 24 * 60
_DAY = "|".join("".join(f"[{c.upper()}{c}]" for c in day) for day in DAYS)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|(24):(00)")


@dataclass(frozen=True, slots=True)
class Period:
    """From `begin` to before `end`, minutes of a day; where `end` is not later, on the day after.

    days: on which it begins, 0 for Monday. bytes_s: what may be sent in a second.
    """

    days: frozenset[int]
    begin: int
    end: int
    bytes_s: float

    def covers(self, day: int, minute: int) -> bool:
        """Whether it holds in a minute of a day of the week."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        yesterday = (day - 1) % 7
        return (day in self.days and minute >= self.begin) or (yesterday in self.days and minute < self.end)

    def __str__(self) -> str:
        when = "" if self.days == EVERY_DAY else show_days(self.days) + " "
        if (self.begin, self.end) != (0, DAY_MINUTES):
            when += f"{show_clock(self.begin)}-{show_clock(self.end)} "
        return when + show_rate(self.bytes_s)


@dataclass(frozen=True, slots=True)
class Timetable:
    """Where periods overlap the lowest rate holds; where there is none, no limit."""

    periods: tuple[Period, ...] = ()

    def rate(self, now: time.struct_time) -> float | None:
        """Bytes a second at a local time; None for no limit."""
        minute = now.tm_hour * 60 + now.tm_min
        return min((p.bytes_s for p in self.periods if p.covers(now.tm_wday, minute)), default=None)


@shaped(type="string", pattern=f"^ *({_DAY})( *[,-] *({_DAY}))* *$")
def days(value: object) -> frozenset[int]:
    """Days of the week, of `mon-fri`, `sat,sun` or `mon,wed-fri`. ConfigError, without a place."""
    found: set[int] = set()
    for part in value.replace(" ", "").lower().split(",") if isinstance(value, str) else [""]:
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ConfigError("days of the week were expected", hint='write "mon-fri", "sat,sun" or "mon,wed-fri"')
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found.update(day % 7 for day in range(begin, end + 1 if begin <= end else end + 8))
    return frozenset(found)


@shaped(type="string", pattern=f"^({_CLOCK.pattern})$")
def clock(value: object) -> int:
    """Minutes since midnight of `08:00`, up to `24:00`. ConfigError, without a place."""
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigError("a time of the day was expected", hint='write it in quotes with four digits, like "08:00"')
    hour, minute = (int(part) for part in match.groups() if part is not None)
    return hour * 60 + minute


def show_clock(minutes: int) -> str:
    """As the file writes it."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def show_rate(bytes_s: float) -> str:
    """As the file writes it: 20mbit."""
    unit, bits = next((u, b) for u, b in (("g", 1e9), ("m", 1e6), ("k", 1e3)) if bytes_s * 8 >= b)
    return f"{bytes_s * 8 / bits:.12g}{unit}bit"


def show_days(wanted: frozenset[int]) -> str:
    """As the file writes it: neighbours as a range, the week beginning on Monday."""
    parts: list[str] = []
    for day in sorted(wanted):
        if day - 1 in wanted:
            continue
        last = next(other for other in range(day, 8) if other + 1 not in wanted)
        join = "" if last == day else "," if last == day + 1 else "-"
        parts.append(DAYS[day] + (join + DAYS[last] if join else ""))
    return ",".join(parts)
