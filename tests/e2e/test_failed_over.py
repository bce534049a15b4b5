"""A VM that was failed over, seen from its home: what is refused meanwhile, and what is not believed afterwards."""

from __future__ import annotations

import asyncio
import datetime
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import recoverworld
from recoverworld import World, hardware
from rig import MIB, Outcome, command, flip_in_place, python, same
from servers import S3Server
from warmspare.repository.failover_record import FailoverRecord, doubt_after, known_return
from warmspare.sync.publishing.publication import publish

KNOWN = hardware("dmz")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, moto: S3Server) -> Iterator[World]:
    with (
        pytest.MonkeyPatch.context() as patch,
        recoverworld.made(tmp_path_factory.mktemp("web"), moto.endpoint_url, patch) as world,
    ):
        world.protect("web", KNOWN, 3 * MIB)
        world.stage("web")
        yield world


@pytest.fixture
def away(staged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """It runs in AWS; at home its disk has other bytes than the newest point, in block 5."""
    with recoverworld.again(staged, tmp_path, monkeypatch) as world:
        monkeypatch.setenv("XDG_STATE_HOME", str(world.home / "states"))
        plan = world.write_plan('[vm.web]\ninstance_type = "m5.large"\n')
        world.failover("--plan", plan, "--vm", "web")
        flip_in_place(world.disk("web"), 5 * 65536 + 100)
        yield world


def at_home(world: World, what: str, *more: object) -> Outcome:
    """A command about its disk, with a tracker that says that nothing was written to it."""
    nothing = world.home / "nothing"
    nothing.write_text("")
    name, state = f"web-0={world.disk('web')}", [] if what == "audit source" else ["--state", world.home / "s"]
    return command(*what.split(), name, "--vm", "web", "--repo", world.repo, "--extents", nothing, *state, *more)


def objects(world: World) -> set[Path]:
    return {path for path in world.repo.rglob("*") if path.is_file() and path.name != "lease.json"}


@pytest.mark.parametrize("what", ["sync", "plan", "audit source"])
def test_what_its_home_is_refused_meanwhile(away: World, what: str) -> None:
    before = objects(away)
    outcome = at_home(away, what)
    assert outcome.code == 2 and outcome.last("error")["kind"] == "failed-over"
    assert "not synced or audited meanwhile" in outcome.stderr and "failback-done" in outcome.stderr
    assert not outcome.all("audit.start") and not outcome.all("disk.start") and not outcome.all("finding")
    assert objects(away) == before


def test_what_came_back_is_not_taken_for_lost_changes(away: World) -> None:
    assert command("failback-done", "--vm", "web", "--repo", away.repo).code == 0
    audited = at_home(away, "audit source")
    assert [finding["kind"] for finding in audited.all("finding")] == ["source-unjudged"] and audited.code == 5
    assert "came back from a failover" in audited.last("finding")["message"]
    # Nor does the sync believe that nothing changed.
    sent = at_home(away, "sync")
    assert sent.code == 0 and "came back from a failover" in sent.last("disk.start")["reason"]
    assert sent.last("sync.done")["bytes_changed"] == 65536 and not sent.all("tracking.missed")
    spare = away.home / "spare"
    assert command("apply", "--vm", "web", "--repo", away.repo, "--to", spare).code == 0
    assert same(spare, away.disk("web"))


def test_with_a_restore_point_since_its_tracking_counts_again(away: World) -> None:
    assert command("failback-done", "--vm", "web", "--repo", away.repo).code == 0
    assert at_home(away, "sync").code == 0
    flip_in_place(away.disk("web"), 3 * 65536)  # and the tracker does not say so
    audited = at_home(away, "audit source")
    assert "change-lost" in {finding["kind"] for finding in audited.all("finding")} and audited.code == 5
    again = at_home(away, "sync")
    assert again.last("disk.start")["bytes_total"] == 0


@pytest.mark.parametrize("days", [-1, 1, 400], ids=["behind", "ahead", "far-ahead"])
def test_the_clock_of_the_host_that_clears_it_decides_nothing(
    away: World, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a host a day behind, the return seems older than points that were made before it; of one ahead, newer than all
    that come after it."""
    wrong = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    with monkeypatch.context() as patch:
        patch.setattr("warmspare.repository.failover_record.now_text", lambda: wrong.isoformat(timespec="seconds"))
        assert command("failback-done", "--vm", "web", "--repo", away.repo).code == 0
    sent = at_home(away, "sync")
    assert "came back from a failover" in sent.last("disk.start")["reason"]
    assert sent.last("sync.done")["bytes_changed"] == 65536
    assert at_home(away, "sync").last("disk.start")["bytes_total"] == 0


@pytest.fixture
def at_rest(staged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Nothing has happened to it yet."""
    with recoverworld.again(staged, tmp_path, monkeypatch) as world:
        monkeypatch.setenv("XDG_STATE_HOME", str(world.home / "states"))
        assert at_home(world, "sync").code == 0
        yield world


def meanwhile(world: World, monkeypatch: pytest.MonkeyPatch, *commands: list[object]) -> Outcome:
    """A sync that has read everything when others run these commands, each in its own process; then it publishes."""

    async def late(*arguments: Any) -> None:
        for words in commands:
            await asyncio.to_thread(subprocess.run, [python(), "-m", "warmspare", *map(str, words)], check=True)
        await publish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("warmspare.sync.sender.publish", late)
        return at_home(world, "sync")


def failover(world: World) -> list[object]:
    plan = world.write_plan('[vm.web]\ninstance_type = "m5.large"\n')
    return ["failover", "--repo", world.repo, "--plan", plan, "--vm", "web"]


def test_a_sync_that_is_under_way_publishes_and_the_next_is_refused(
    at_rest: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert meanwhile(at_rest, monkeypatch, failover(at_rest)).last("sync.done")["point"].startswith("3-")
    refused = at_home(at_rest, "sync")
    assert refused.code == 2 and refused.last("error")["kind"] == "failed-over"


def test_a_point_that_was_begun_before_the_return_ends_no_doubt(
    at_rest: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync was under way when the failover began, and publishes only when all is over."""
    done: list[object] = ["failback-done", "--vm", "web", "--repo", at_rest.repo]
    assert meanwhile(at_rest, monkeypatch, failover(at_rest), done).code == 0
    flip_in_place(at_rest.disk("web"), 3 * 65536)
    sent = at_home(at_rest, "sync")
    assert "came back from a failover" in sent.last("disk.start")["reason"]
    assert sent.last("sync.done")["bytes_changed"] == 65536


def test_doubt_ends_with_a_point_that_knew_of_the_return() -> None:
    def record(state: str, run: str) -> FailoverRecord:
        return FailoverRecord(
            1,
            0,
            "web",
            run,
            state,
            1,
            "0" * 64,
            "eu-central-1",
            "register-image",
            "2024-05-01T10:00:00Z",  # type: ignore[arg-type]
            "2024-05-03T12:00:00Z",
        )

    first, second = "1" * 32, "2" * 32
    over = record("cleared", first)
    assert not doubt_after(None, {}) and known_return(None) == {}
    assert not doubt_after(record("started", first), {}), "refused, not doubted"
    assert known_return(record("started", first)) == {}
    assert "2024-05-03T12:00:00Z" in doubt_after(over, {})
    assert not doubt_after(over, known_return(over))
    assert doubt_after(record("cleared", second), known_return(over)), "it was failed over again since"
