"""What is said of the points to keep, beside the configuration or instead of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

import msgspec

from warmspare.config import retention_settings
from warmspare.config.retention_settings import RetentionSettings
from warmspare.errors import ConfigError
from warmspare.retain.policy import RetentionPolicy

T = TypeVar("T")
D = TypeVar("D")


class RetentionRules(msgspec.Struct, frozen=True, kw_only=True):
    """keep_last and its like: how many; 0: no such rule. keep_within: `2d`; `0`: no such rule. time_zone: an IANA name.
    None, each: as the configuration has it for the VM."""

    keep_last: int | None = None
    keep_within: str | None = None
    keep_hourly: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None
    time_zone: str | None = None
    trust_created: bool | None = None

    def over(self, base: RetentionSettings) -> RetentionSettings:
        """What is said here, and what stands there of all else. ConfigError."""
        return retention_settings.take(_Said(self), base)


def policy_by(settings: RetentionSettings) -> RetentionPolicy:
    """The policy that these settings name."""
    return RetentionPolicy(**asdict(settings))


class _Said:
    def __init__(self, rules: RetentionRules) -> None:
        self._rules = rules

    def take(self, name: str, parse: Callable[[object], T], default: D) -> T | D:
        said = getattr(self._rules, name)
        try:
            return default if said is None else parse(said)
        except ConfigError as error:
            raise ConfigError(error.what, where=name, hint=error.hint) from None
