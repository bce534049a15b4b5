"""Time zones by their IANA names, as a host has them; refuses a name that could be anything else."""

from __future__ import annotations

import datetime
import re

from warmspare.errors import ConfigError

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,32}){0,3}")


def time_zone(name: str) -> datetime.tzinfo:
    """Of an IANA name. ConfigError, without a place."""
    if name == "UTC":
        return datetime.UTC  # also where the host has no list of time zones
    import zoneinfo  # not needed by most, and it reads what a host may not let everybody read

    try:
        if NAME.fullmatch(name):
            return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise ConfigError(
        f"this host knows no time zone {name[:60]!r}",
        hint='write a name like "Europe/Berlin"; they come with the package tzdata',
    )
