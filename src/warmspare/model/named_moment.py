"""Moments as records write them and as people name them (a date, a time, so long ago); refuses to guess which of two is
meant."""

from __future__ import annotations

import datetime
import re

from warmspare.errors import ConfigError

EXAMPLES = '2026-11-30, 2026-11-30T14:00, 2026-11-30T14:00Z, "2h ago" or "yesterday 14:00"'
_UNITS_S = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_UNIT = r"(?:w|weeks?|d|days?|h|hours?|m|min|minutes?|s|sec|seconds?)"
_AGO = re.compile(rf"((?: ?[0-9]{{1,9}} ?{_UNIT})+)(?: ago)?")
_SPAN = re.compile(rf"([0-9]{{1,9}}) ?({_UNIT})")
_DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}|today|yesterday)(?:[T ](.+))?", re.IGNORECASE)
_CLOCK = re.compile(r"([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?) ?(Z|[+-][0-9]{2}:?[0-9]{2})?", re.IGNORECASE)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_END_OF_DAY = datetime.time(23, 59, 59, 999999)


def moment_text(moment_s: float) -> str:
    """RFC 3339 in UTC, whole seconds, as records and events have it. OverflowError for what no calendar has."""
    moment = _EPOCH + datetime.timedelta(seconds=moment_s)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def named_moment(text: str, now_s: float, zone: datetime.tzinfo | None = None) -> float | None:
    """Unix seconds of `2026-11-30T14:00` (with an offset or `Z`, or by the local clock), of a day (its end), of
    `yesterday 14:00`, or of `2h ago`; None for what is none of these. zone: the local clock's; None: this process's.
    An hour that comes twice is the first. ConfigError for a day that no calendar has."""
    text = " ".join(text.split())
    if text.lower() == "now":
        return now_s
    if match := _AGO.fullmatch(text):
        return now_s - sum(int(count) * _UNITS_S[unit[0]] for count, unit in _SPAN.findall(match[1]))
    match = _DAY.fullmatch(text)
    clock = _CLOCK.fullmatch(match[2]) if match and match[2] else None
    if match is None or (match[2] and clock is None):
        return None
    try:
        return _of_day(match[1].lower(), clock, now_s, zone)
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"there is no such day or time as {text[:40]!r}", hint=f"write {EXAMPLES}") from None


def _of_day(day: str, clock: re.Match[str] | None, now_s: float, zone: datetime.tzinfo | None) -> float:
    if day in ("today", "yesterday"):
        now = datetime.datetime.fromtimestamp(now_s, zone)
        date = now.date() - datetime.timedelta(days=1 if day == "yesterday" else 0)
    else:
        date = datetime.date.fromisoformat(day)
    time = _END_OF_DAY if clock is None else datetime.time.fromisoformat(clock[1])
    if clock is not None and clock[2]:
        return datetime.datetime.fromisoformat(f"{date}T{time}{clock[2].upper()}").timestamp()
    return datetime.datetime.combine(date, time, tzinfo=zone).timestamp()
