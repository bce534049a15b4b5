"""Many requests at once in one process: right, within one budget, fair as docs/api.md says it; and cancelled at any
moment they leave what is said there, and nothing else. The short of it here, all of it in the slow campaign."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from aiobotocore.httpsession import AIOHTTPSession

import warmspare
from rig import KIB, MIB, same
from rigs.crowds.crowd import Crowd
from rigs.crowds.leftovers import Holdings
from rigs.crowds.mixed import MixedWorld
from servers import S3Place
from warmspare.engine.budget import BUDGET, Share
from warmspare.threads import in_thread


async def at_once(home: Path, uri: str, plans: int, syncs: int, budget: Share) -> Crowd:
    """So many of small disks, of which each is looked at by several; AssertionError where one is not right, or anything
    is held when all are over."""
    engine, place = warmspare.Engine(state=home / "host", budget=budget), warmspare.RepositoryPlace(uri)
    await engine.run(warmspare.InitRequest(repositories=(place,)))
    rng, disks = random.Random(3), [home / f"{number}.raw" for number in range(syncs)]
    for disk in disks:
        disk.write_bytes(rng.randbytes(rng.randrange(64 * KIB, MIB)))

    def given(vm: str, number: int) -> warmspare.GivenDisksOf:
        disk = warmspare.NamedDisk(str(disks[number % syncs]))
        return warmspare.GivenDisksOf(vm=vm, disks=(disk,))

    kept = {"repository": place, "state": home / "state", "new": True}
    requests: list[warmspare.PlanRequest | warmspare.SyncRequest] = [
        *(warmspare.PlanRequest(disks=given(f"plan{number}", number), **kept) for number in range(plans)),
        *(warmspare.SyncRequest(disks=given(f"vm{number}", number), **kept) for number in range(syncs)),
    ]
    before, crowd = await Holdings.look(), Crowd(engine, budget)
    ends = await crowd.run(requests)
    (await Holdings.look()).demand_no_more_than(before)
    assert engine.free == budget
    for request, end in zip(requests, ends, strict=True):
        assert end.bytes_read == Path(request.disks.disks[0].place).stat().st_size
    for number, disk in enumerate(disks):
        replica = home / f"replica{number}"
        await engine.run(warmspare.ApplyRequest(vm=f"vm{number}", repository=place, to=replica))
        assert same(disk, replica)
    assert len(await engine.run(warmspare.PointsRequest(repository=place))) == syncs  # plans left none
    return crowd


def demand_fair(crowd: Crowd) -> None:
    """docs/api.md, "What waits": between kinds and within one."""
    assert crowd.overtaken() == 0
    assert crowd.unevenness() <= 2, crowd.unevenness()


async def test_many_at_once_share_a_budget(tmp_path: Path) -> None:
    crowd = await at_once(tmp_path, str(tmp_path / "repo"), 40, 10, Share(96 * MIB, 32, 128))
    demand_fair(crowd)
    assert max(turn.begun_s for turn in crowd.of("SyncRequest")) < max(turn.begun_s for turn in crowd.of("PlanRequest"))


@pytest.mark.slow
async def test_five_hundred_plans_and_fifty_syncs_at_once(
    tmp_path: Path, seaweed_place: S3Place, capsys: pytest.CaptureFixture[str]
) -> None:
    files = (await Holdings.look()).files
    crowd = await at_once(tmp_path, seaweed_place.uri, 500, 50, BUDGET)
    demand_fair(crowd)
    slowness, peaks = max(crowd.slowness()), crowd.peaks
    with capsys.disabled():
        print(
            f"\n{crowd.wall_s:.0f} s, {peaks.bytes / MIB:.0f} MiB, {peaks.threads} threads, {peaks.files} descriptors;"
        )
        print(f"between kinds {crowd.unevenness():.2f}, of those that ran at once {slowness:.2f}")
    assert slowness <= 2
    assert peaks.bytes < 600 * MIB
    assert peaks.threads <= BUDGET.threads and peaks.files - files <= BUDGET.connections + BUDGET.threads


async def cancelled(world: MixedWorld, moments: int, each: int) -> Counter[str]:
    """At so many moments; each so many of them the next runs are to go on."""
    within_s, ends = await world.whole_s(), Counter[str]()
    await world.demand_nothing_left()
    for number in range(1, moments + 1):
        ends.update(await world.cancelled(within_s))
        if number % each == 0 or number == moments:
            await world.settle()
    return ends


async def test_cancelled_at_any_moment(tmp_path: Path) -> None:
    """What a signal leaves: the next run goes on, and nothing is held or left that docs/api.md does not name."""
    world = await MixedWorld.make(tmp_path, str(tmp_path / "repo"), str(tmp_path / "spare"), 1)
    ends = await cancelled(world, 12, 12)
    assert sum(count for end, count in ends.items() if end.endswith("cancelled")) > 40, ends


@pytest.mark.slow
@pytest.mark.parametrize("where", ["directory", "S3"])
async def test_cancelled_at_a_hundred_moments(
    tmp_path: Path, where: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    if where == "S3":
        uri = request.getfixturevalue("seaweed_place").uri
        repository, spare = f"{uri}/repo", f"{uri}/spare"
    else:
        repository, spare = str(tmp_path / "repo"), str(tmp_path / "spare")
    world = await MixedWorld.make(tmp_path, repository, spare, 2)
    ends = await cancelled(world, 100, 5)
    with capsys.disabled():
        print("", *(f"{count:5} {end}" for end, count in sorted(ends.items())), sep="\n")
    for kind in ("Sync", "Plan", "Apply", "Copy", "ReplicaAudit", "RepositoryAudit", "SourceAudit"):
        assert ends[f"{kind}Request cancelled"] > 10, ends


async def test_a_cancel_leaves_no_thread_in_the_client_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads certificates in one, for the first request."""
    begun, done = threading.Event(), threading.Event()
    plain = AIOHTTPSession._build_ssl_contexts

    def slow(session: AIOHTTPSession, proxy_url: str | None) -> object:
        begun.set()
        time.sleep(0.2)
        made = plain(session, proxy_url)
        done.set()
        return made

    monkeypatch.setattr(AIOHTTPSession, "_build_ssl_contexts", slow)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a")
    place = warmspare.RepositoryPlace("s3://bucket/prefix", "http://127.0.0.1:1", region="eu-central-1")
    running = asyncio.ensure_future(warmspare.Engine().run(warmspare.PointsRequest(repository=place)))
    await in_thread(begun.wait, 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert done.is_set()
