"""Where things of this project lie, for tests and benchmarks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PROJECT = TESTS.parent
DOCS = PROJECT / "docs"
BUILD = PROJECT / "build"
"""What takes long to make and is kept from one session to the next; git ignores it."""


def as_here() -> dict[str, str]:
    """The environment, as it is now, for a process that imports what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
