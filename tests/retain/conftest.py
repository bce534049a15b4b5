"""What tests of retention share."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rig import MIB, Rig, random_disk


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A repository that is there, and a disk of 8 MiB with data."""
    rig = Rig(tmp_path)
    random_disk(rig.disk, 8 * MIB + 5 * 4096, random.Random(3))
    return rig
