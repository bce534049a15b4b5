"""What the environment says for options that are not given: WARMSPARE_REPO and the like."""

from __future__ import annotations

import os

SETTINGS = {
    "REPO": "the repository",
    "CONFIG": "the configuration file",
    "STATE": "where a sender keeps its local state",
    "ENDPOINT_URL": "the S3 server, where it is not Amazon's own",
}
"""By the name behind WARMSPARE_, what each is."""


def setting(name: str) -> str | None:
    """The value of WARMSPARE_`name`; None where it is not set, or empty."""
    assert name in SETTINGS
    return os.environ.get(f"WARMSPARE_{name}") or None
