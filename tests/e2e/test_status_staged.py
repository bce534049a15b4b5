"""`status --staged`: what EC2 says of the age of what is staged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rig import MIB, Rig, command, random_disk
from rigs.aws import ebsstandin


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "host"))
    rig = Rig(tmp_path)
    random_disk(rig.disk, MIB, random.Random(1))
    rig.sync()
    return rig


def test_the_newest_that_is_usable(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = ebsstandin.Standin()
    with ebsstandin.serving(account) as url:
        for name, value in ebsstandin.environment(url).items():
            monkeypatch.setenv(name, value)
        assert command("status", "--repo", rig.repo, "--staged").last("status")["staged"] is None
        assert command("stage", "--vm", rig.vm, "--repo", rig.repo, "--state", tmp_path / "staging").code == 0
        rig.sync()
        told = command("status", "--repo", rig.repo, "--staged").last("status")
    assert told["sequence"] == 2 and told["staged"]["sequence"] == 1
    assert told["staged"]["point"].startswith("1-") and 0 <= told["staged"]["age_seconds"] < 600
    assert "staged" not in command("status", "--repo", rig.repo).last("status")


def test_where_ec2_can_not_be_asked_all_else_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    account = ebsstandin.Standin()
    with ebsstandin.serving(account) as url:
        for name, value in ebsstandin.environment(url).items():
            monkeypatch.setenv(name, value)
    monkeypatch.setattr("warmspare.recover.aws.client.PATIENCE_S", 0.1, raising=False)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    outcome = command("status", "--repo", rig.repo, "--staged")
    assert outcome.code == 8 and outcome.last("status")["state"] == "ok" and "staged" not in outcome.last("status")
