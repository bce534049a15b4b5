"""Blocks that change on their way to EBS, or in EBS itself: nothing but the right bytes becomes a snapshot."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from recover.stagerig import StageRig
from rig import Outcome, command, scribble
from rigs.aws.ebsparts import BLOCK, Faults
from rigs.links.proxy import Flip, Proxy
from suite.remedies import remedy

CHANGED = re.compile(r"block \d+ has another checksum than was said")


@pytest.fixture
def full(rig: StageRig) -> StageRig:
    """One restore point of a disk of 24 EBS blocks, each with bytes of its own."""
    rng = random.Random(3)
    with rig.disk.open("wb") as file:
        for _ in range(24):
            file.write(rng.randbytes(4096) * (BLOCK // 4096))
    rig.sync()
    return rig


@pytest.fixture
def way(full: StageRig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """All that goes to EBS, and not to EC2, passes here."""
    with Proxy(urlsplit(full.url).port or 0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EBS", proxy.url)
        yield proxy


def stage(rig: StageRig, code: int = 0, way: Proxy | None = None) -> tuple[Outcome, list[str]]:
    """Run the command; what the stand-in says that a client never does is taken from it, and returned. Of a command
    that gives up, puts may still be on their way; they are waited for."""
    outcome = command(*rig.arguments())
    assert outcome.code == code, outcome
    if way is not None:
        way.settle()
    rig.account.settle()
    noted, rig.account.breaches = rig.account.breaches, []
    return outcome, noted


def states(rig: StageRig) -> set[str]:
    return {rig.account.state(each) for each in rig.account.snapshots.values()}


@pytest.mark.parametrize("times", [1, 4])
def test_a_block_that_changes_on_the_way_is_put_again(full: StageRig, way: Proxy, times: int) -> None:
    way.faults.flips = [Flip("up", 100_000, times)]  # in the body of a connection's first put
    outcome, noted = stage(full, way=way)
    assert way.counts["flipped"] == times
    assert len(noted) == times and all(CHANGED.fullmatch(each) for each in noted)
    assert full.account.answers["ValidationException"] == times
    (made,) = full.snapshots(outcome)
    assert made.puts == len(made.blocks) == 24, "what was refused is not in it"
    full.demand_same(made.id)


def test_a_way_that_changes_every_block(full: StageRig, way: Proxy) -> None:
    way.faults.flips = [Flip("up", at, 1 << 30) for at in range(100_000, 200 * BLOCK, BLOCK // 2)]
    outcome, noted = stage(full, code=8, way=way)
    assert "PutSnapshotBlock" in outcome.stderr and "INVALID_BLOCK" in outcome.stderr
    assert noted and all(CHANGED.fullmatch(each) for each in noted)
    tries = {each: noted.count(each) for each in noted}
    assert max(tries.values()) == 5, "it is not sent for ever"
    (begun,) = full.account.snapshots.values()
    assert states(full) == {"pending"} and not begun.blocks
    way.faults.flips = []
    outcome, noted = stage(full, way=way)
    assert not noted and full.snapshots(outcome) == [begun]
    full.demand_same(begun.id)


def other(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def test_ebs_keeps_other_bytes_than_it_acknowledged(full: StageRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmspare.recover.staging.ebs.SEALED_POLLS", 10)
    lied: list[int] = []

    def once(index: int, data: bytes) -> bytes:
        if index != 7 or lied:
            return data
        lied.append(index)
        return other(data)

    full.account.faults.keeps = once
    outcome, noted = stage(full)
    assert lied == [7] and noted == ["the aggregate checksum does not match"]
    assert len(outcome.all("stage.again")) == 1
    (made,) = full.snapshots(outcome)
    assert list(full.account.snapshots) == [made.id], "the one with the wrong block is removed"
    full.demand_same(made.id)
    # An increment is held against its checksum as well.
    scribble(full.disk, random.Random(1), pieces=2)
    full.sync()
    lied.clear()
    touched = min(full.touched(2))
    full.account.faults.keeps = lambda index, data: once(7 if index == touched else 0, data)
    outcome, noted = stage(full)
    assert noted == ["the aggregate checksum does not match"] and lied
    (child,) = full.snapshots(outcome)
    assert child.parent == made.id
    full.demand_same(child.id)


@remedy("run again, it begins anew")
def test_ebs_always_keeps_other_bytes(full: StageRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmspare.recover.staging.ebs.SEALED_POLLS", 10)
    full.account.faults.keeps = lambda index, data: other(data) if index == 7 else data
    outcome, noted = stage(full, code=8)
    assert set(noted) == {"the aggregate checksum does not match"} and "CompleteSnapshot" in outcome.stderr
    assert "completed" not in states(full)
    assert not outcome.all("stage.point")
    full.account.faults.keeps = Faults().keeps
    outcome, _ = stage(full)
    full.demand_same(full.snapshots(outcome)[0].id)


@pytest.mark.parametrize(
    "times",
    [2, pytest.param(5, marks=remedy("run again: it goes on; if it stays, see what is on the path to EBS (a proxy)"))],
)
def test_ebs_says_that_it_stored_other_bytes(full: StageRig, times: int) -> None:
    said: list[int] = []

    def echo(index: int, checksum: str) -> str:
        if index != 7 or len(said) >= times:
            return checksum
        said.append(index)
        return "A" * 43 + "="

    full.account.faults.echo = echo
    outcome, noted = stage(full, code=0 if times < 5 else 8)
    assert not noted and len(said) == times
    if times < 5:
        (made,) = full.snapshots(outcome)
        assert made.puts == len(made.blocks) + times
        full.demand_same(made.id)
    else:
        assert "other bytes than were sent" in outcome.stderr and states(full) == {"pending"}
        outcome, _ = stage(full)
        full.demand_same(full.snapshots(outcome)[0].id)
