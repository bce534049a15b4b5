"""Fixtures of the examples: a folder of programs that they find, and a site with a VM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.programs import Programs
from rig import MIB
from siterig import SiteRig, site_rig


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "programs")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteRig]:
    with site_rig(tmp_path / "world") as rig:
        rig.add("web1", [2 * MIB])
        yield rig
