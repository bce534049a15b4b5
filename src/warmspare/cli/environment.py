"""What the environment says for options that are not given: WARMSPARE_REPO and the like."""

from __future__ import annotations

import os

SETTINGS = {
    "REPO": "repository",
    "CONFIG": "configuration",
    "STATE": "state",
    "ENDPOINT_URL": "server",
}
"""By the name behind WARMSPARE_, what each is, in a word."""


def setting(name: str) -> str | None:
    """The value of WARMSPARE_`name`; None where it is not set, or empty."""
    assert name in SETTINGS
    return os.environ.get(f"WARMSPARE_{name}") or None


def daemon_wanted() -> bool:
    """Whether a daemon may be asked: not with WARMSPARE_DAEMON=off."""
    return os.environ.get("WARMSPARE_DAEMON") != "off"
