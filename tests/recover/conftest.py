"""Fixtures for staging: an account of the stand-in's, and a world that uses it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from recover.stagerig import StageRig
from rigs.aws.ebsstandin import Standin, environment, serving
from rigs.aws.quickaws import quick


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StageRig]:
    """An empty world; the AWS environment of this process points at its account."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    account = Standin()
    with serving(account) as url:
        for name, value in environment(url).items():
            monkeypatch.setenv(name, value)
        quick(monkeypatch.setattr)
        yield StageRig(tmp_path, account=account, url=url)
    assert not account.breaches, account.breaches
