"""The small parts of staging: sets of blocks, the pace, expiry, tags, sums, the words a snapshot is started with."""

from __future__ import annotations

import datetime
import hashlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmspare.model.ids import PointId
from warmspare.recover.aws import pace
from warmspare.recover.blocks.ebs_blocks import EbsBlockSet
from warmspare.recover.failover.chosen import Chosen
from warmspare.recover.staging import ebs, expiry, staged
from warmspare.recover.staging.digests import Digests
from warmspare.recover.staging.expiry import Keep
from warmspare.recover.staging.staged import StagedDisk

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


@given(
    st.lists(st.integers(0, 3999), max_size=50),
    st.lists(st.tuples(st.integers(0, 3999), st.integers(0, 900)), max_size=5),
    st.integers(1, 70),
)
def test_a_set_of_blocks(blocks: list[int], runs: list[tuple[int, int]], size: int) -> None:
    found = EbsBlockSet(700)
    expected = {block // 8 for block in blocks}
    found.touch(np.array(blocks, dtype=np.uint32))
    for start, count in runs:
        found.touch_run(start, count)
        expected |= {block // 8 for block in range(start, start + count)}
    batches = list(found.batches(size))
    assert [number for batch in batches for number in batch.tolist()] == sorted(expected)
    assert all(batch.size == size for batch in batches[:-1]) and len(found) == len(expected)
    assert all((number in found) == (number in expected) for number in range(700))


def test_a_set_of_the_largest_disk_is_small() -> None:
    found = EbsBlockSet((64 << 40) // (512 << 10))
    found.touch_run(0, 1 << 30)
    assert len(found) == 1 << 27
    found = EbsBlockSet(1 << 27)
    found.touch(np.array([(1 << 30) - 1], dtype=np.uint32))
    assert [batch.tolist() for batch in found.batches(8)] == [[(1 << 27) - 1]]


def test_the_sum_of_digests(tmp_path: Path) -> None:
    rng = random.Random(5)
    numbers = sorted(rng.sample(range(20000), 9000))
    rows = {number: rng.randbytes(32) for number in numbers}
    wanted = EbsBlockSet(20000)
    wanted.touch(np.array(numbers, dtype=np.uint32) * 8)
    with Digests(tmp_path / "d") as digests:
        for number in rng.sample(numbers, len(numbers)):
            digests.put(number, rows[number])
    with Digests(tmp_path / "d") as digests:
        assert digests.total(wanted) == (9000, hashlib.sha256(b"".join(rows[n] for n in numbers)).digest())
        gap = next(number for number in range(20000) if number not in rows)
        assert digests.left(np.array([numbers[0], gap], dtype=np.uint32)).tolist() == [gap]
        wanted.touch(np.array([gap * 8], dtype=np.uint32))
        with pytest.raises(ValueError, match="not put"):
            digests.total(wanted)


class Clock:
    """Time that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_the_pace_keeps_to_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(pace.asyncio, "sleep", sleep)
    gate = pace.Pace(200, clock)
    for _ in range(1000):
        await gate.turn()
    assert 1000 / 200 - pace.CATCH_UP_S - 0.01 <= clock.now - 100 <= 1000 / 200 + 0.01


async def test_the_pace_finds_a_quota_that_it_was_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes 200 a second and a client that was told 1000: nearly all of the 200 are used."""
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(pace.asyncio, "sleep", sleep)
    gate, level, at, taken = pace.Pace(1000, clock), 0.0, 100.0, []
    while clock.now < 130:
        await gate.turn()
        level, at = max(0.0, level - (clock.now - at) * 200), clock.now
        if level + 1 > 40:
            gate.throttled()
        else:
            level += 1
            taken.append(clock.now)
            gate.succeeded()
    late = [each for each in taken if each >= 110]
    assert len(late) / 20 >= 0.95 * 200
    assert gate.throttles < 0.15 * len(taken)


async def test_the_pace_recovers_from_throttling_that_has_no_quota_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rng = Clock(), random.Random(1)

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(pace.asyncio, "sleep", sleep)
    gate = pace.Pace(500, clock)
    while clock.now < 130:
        await gate.turn()
        if rng.random() < 0.05:
            gate.throttled()
        else:
            gate.succeeded()
    assert gate.rate > 400


def made(
    sequence: int,
    *,
    key: str = "d0",
    number: int = 0,
    of: int = 1,
    state: str = "completed",
    parent: str = "",
    days: float = 0.0,
    name: str = "",
) -> StagedDisk:
    created = "2031-01-01T00:00:00Z"  # by a host whose clock is years ahead; it decides nothing
    return StagedDisk(
        name or f"snap-{sequence}{key}",
        state,
        "repo",
        "vm",
        PointId(sequence, f"{sequence:064x}"),
        created,
        key,
        number,
        of,
        1 << 20,
        1,
        False,
        "",
        parent,
        0,
        NOW - datetime.timedelta(days=days),
    )


def gone(all_of_them: list[StagedDisk], keep: Keep) -> list[str]:
    return [each.snapshot_id for each in expiry.expired(all_of_them, keep, NOW)]


def test_the_newest_points_are_kept() -> None:
    assert gone([made(number) for number in range(1, 7)], Keep(2)) == ["snap-1d0", "snap-2d0", "snap-3d0", "snap-4d0"]
    assert gone([made(1)], Keep(1)) == []
    assert gone([], Keep(1)) == []


def test_young_points_are_kept() -> None:
    staged_disks = [made(number, days=10 - number) for number in range(1, 7)]
    assert gone(staged_disks, Keep(1, 7.5)) == ["snap-1d0", "snap-2d0"]


def test_without_a_usable_point_nothing_completed_is_removed() -> None:
    halves = [made(number, of=2) for number in (1, 2, 3)]
    assert gone(halves, Keep(1)) == []
    assert gone([*halves, made(1, key="d1", number=1, of=2)], Keep(1)) == []  # 1 is usable now, the others are newer
    assert gone([*halves, made(3, key="d1", number=1, of=2)], Keep(1)) == ["snap-1d0", "snap-2d0"]


def test_what_is_built_on_is_kept() -> None:
    pending = made(4, state="pending", parent="snap-1d0")
    assert gone([made(1), made(2), made(3), pending], Keep(1)) == ["snap-2d0"]


def test_the_base_of_a_disk_of_a_newer_half_staged_point_is_kept() -> None:
    """Point 3 is usable; of 4 only one disk is done so far: both disks' newest stay."""
    disks = [made(n, key=f"d{i}", number=i, of=2) for n in (2, 3) for i in (0, 1)]
    assert gone([*disks, made(4, of=2)], Keep(1)) == ["snap-2d0", "snap-2d1"]


def test_what_aws_gave_up_is_removed_and_pending_is_not() -> None:
    assert gone([made(1, state="error"), made(2), made(3, state="pending")], Keep(3)) == ["snap-1d0"]


def test_points_and_when_they_are_usable() -> None:
    points = staged.points_of(
        [
            made(1, of=2),
            made(1, key="d1", number=1, of=2),
            made(2, of=2),
            made(2, key="d1", number=1, of=2, state="pending"),
            made(3, of=2, state="error"),
        ]
    )
    assert [(point.id.sequence, point.usable) for point in points] == [(3, False), (2, False), (1, True)]
    best = staged.newest_usable(points)
    assert best is not None and [disk.key for disk in best.disks] == ["d0", "d1"]
    again = staged.points_of([made(1, name="snap-b", state="pending"), made(1, name="snap-a")])
    assert again[0].usable and again[0].disks[0].snapshot_id == "snap-a"


def test_the_newest_point_is_told_by_its_number_and_not_by_dates() -> None:
    """A sender's clock was ahead, then set right; this host's may be behind both. Only the age that is shown is off."""
    ahead = replace(made(1), created="2090-01-01T00:00:00Z")
    points = staged.points_of([ahead, replace(made(2), created="2001-01-01T00:00:00Z")])
    best = staged.newest_usable(points)
    assert best is not None and best.id.sequence == 2
    record: Any = None
    assert Chosen(points[-1], record, []).age_s == 0.0 and Chosen(best, record, []).age_s > 20 * 365 * 86400


def test_tags_that_are_not_ours_or_were_changed() -> None:
    whole = {
        "repository": "r",
        "vm": "v",
        "point": "3",
        "point-sha256": "ab" * 32,
        "created": "2026-01-01T00:00:00Z",
        "disk": "d",
        "disk-number": "0",
        "disks": "1",
        "capacity": "1000",
        "parent": "snap-1:2",
    }

    def snapshot(tags: dict[str, str]) -> dict[str, object]:
        listed = [{"Key": f"warmspare:{key}", "Value": value} for key, value in tags.items()]
        return {"SnapshotId": "snap-2", "State": "completed", "VolumeSize": 1, "StartTime": NOW, "Tags": listed}

    found = staged.parse(snapshot(whole))
    assert found is not None and (found.parent, found.parent_sequence, found.point.sequence) == ("snap-1", 2, 3)
    for key in whole:
        assert staged.parse(snapshot({name: value for name, value in whole.items() if name != key})) is None
    wrong = [
        ("point", "x"),
        ("disks", "0"),
        ("disk-number", "1"),
        ("capacity", str(2 << 30)),
        ("parent", "a:b"),
        ("point", "99999999999"),
        ("point", "0"),
        ("point", "-1"),
        ("point", "\u00b2"),
        ("point", "1_0"),
        ("point", "9" * 5000),
        ("point-sha256", "ab"),
        ("created", "yesterday"),
        ("created", "2026-02-30T00:00:00Z"),
        ("created", "2026-01-01T00:00:00"),
        ("disks", "100000000"),
        ("parent", "a:-1"),
    ]
    for key, value in wrong:
        assert staged.parse(snapshot({**whole, key: value})) is None, key
    assert staged.parse({"SnapshotId": "snap-3", "State": "completed", "VolumeSize": 1, "StartTime": NOW}) is None


def test_a_start_is_the_same_only_if_all_of_it_is() -> None:
    first = ebs.SnapshotStart(1, {"a": "b"}, "", ebs.Encryption())
    tokens = {first.parameters()["ClientToken"]}
    assert first.parameters() == ebs.SnapshotStart(1, {"a": "b"}, "", ebs.Encryption()).parameters()
    others = [
        ebs.SnapshotStart(2, {"a": "b"}, "", ebs.Encryption()),
        ebs.SnapshotStart(1, {"a": "c"}, "", ebs.Encryption()),
        ebs.SnapshotStart(1, {"a": "b"}, "snap-1", ebs.Encryption()),
        ebs.SnapshotStart(1, {"a": "b"}, "", ebs.Encryption(True)),
        ebs.SnapshotStart(1, {"a": "b"}, "", ebs.Encryption(), attempt=1),
    ]
    for other in others:
        token = other.parameters()["ClientToken"]
        assert len(token) <= 64 and token not in tokens
        tokens.add(token)
    inherited = ebs.SnapshotStart(1, {}, "snap-1", ebs.Encryption(True, "arn:aws:kms:x:1:key/1")).parameters()
    assert "Encrypted" not in inherited and "KmsKeyArn" not in inherited
