"""Which restore points of a VM are to be kept, as the configuration and options say it; applies nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from warmspare.config import values
from warmspare.outside.time_zones import NAME, time_zone

T = TypeVar("T")
D = TypeVar("D")

COUNTED = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")
KEYS = ("keep_last", "keep_within", *COUNTED[1:], "time_zone", "trust_created")
MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """See RetentionPolicy in retain/policy.py, which has the same fields."""

    keep_last: int = 0
    keep_within_s: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    time_zone: str = "UTC"
    trust_created: bool = False


class _Keys(Protocol):
    """Where keys come from: a table of the file, or options."""

    def take(self, name: str, parse: Callable[[object], T], default: D) -> T | D: ...


@values.shaped(type="string", pattern=f"^{NAME.pattern}$")
def zone(value: object) -> str:
    """An IANA name of a time zone that this host knows."""
    name = values.text(value)
    time_zone(name)
    return name


def take(keys: _Keys, base: RetentionSettings) -> RetentionSettings:
    """base: what holds where the keys say nothing."""
    count = values.whole(0, MOST)
    return RetentionSettings(
        keep_last=keys.take("keep_last", count, base.keep_last),
        keep_within_s=keys.take("keep_within", values.duration_or_none, base.keep_within_s),
        keep_hourly=keys.take("keep_hourly", count, base.keep_hourly),
        keep_daily=keys.take("keep_daily", count, base.keep_daily),
        keep_weekly=keys.take("keep_weekly", count, base.keep_weekly),
        keep_monthly=keys.take("keep_monthly", count, base.keep_monthly),
        keep_yearly=keys.take("keep_yearly", count, base.keep_yearly),
        time_zone=keys.take("time_zone", zone, base.time_zone),
        trust_created=keys.take("trust_created", values.boolean, base.trust_created),
    )
