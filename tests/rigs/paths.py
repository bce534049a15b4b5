"""Where things of this project lie, for tests and benchmarks."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PROJECT = TESTS.parent
DOCS = PROJECT / "docs"
BUILD = PROJECT / "build"
"""What takes long to make and is kept from one session to the next; git ignores it."""
