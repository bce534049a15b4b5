"""`import warmspare`: what a program asks for, many at once in one process, and what it leaves."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

import warmspare
from rig import KIB, MIB, Rig, command, same
from rigs.crowds.crowd import open_files
from rigs.crowds.leftovers import described
from servers import S3Place
from warmspare.model.ids import VmId, vm_key
from warmspare.observe.event import Event, name_of
from warmspare.observe.kinds.sync_events import PlanDone, SyncDone, SyncUnneeded
from warmspare.store import layout
from warmspare.store.lease import Lease
from warmspare.store.opening import open_store
from warmspare.threads import in_thread


def place(rig: Rig) -> warmspare.RepositoryPlace:
    return warmspare.RepositoryPlace(rig.repo)


def sync_of(rig: Rig, vm: str = "vm", disk: Path | None = None, **more: object) -> warmspare.SyncRequest:
    disks = warmspare.GivenDisksOf(vm=vm, disks=(warmspare.NamedDisk(str(disk or rig.disk)),))
    return warmspare.SyncRequest(disks=disks, repository=place(rig), state=rig.state, **more)


def plan_of(rig: Rig, vm: str, disk: Path) -> warmspare.PlanRequest:
    disks = warmspare.GivenDisksOf(vm=vm, disks=(warmspare.NamedDisk(str(disk)),))
    return warmspare.PlanRequest(disks=disks, repository=place(rig), state=rig.state, new=True)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    made = Rig(tmp_path)
    made.disk.write_bytes(random.Random(19).randbytes(3 * MIB))
    return made


@pytest.fixture
def engine(tmp_path: Path) -> warmspare.Engine:
    return warmspare.Engine(state=tmp_path / "host")


async def test_a_disk_goes_the_whole_way(rig: Rig, engine: warmspare.Engine, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[Event] = []
    made = await engine.run(warmspare.InitRequest(repositories=(place(rig),)), told.append)
    assert [each.made for each in made] == [True] and told == made
    looked = await engine.run(plan_of(rig, "vm", rig.disk))
    assert isinstance(looked, PlanDone) and looked.bytes_to_send > 3 * MIB
    done = await engine.run(sync_of(rig, new=True), told.append)
    assert isinstance(done, SyncDone) and told[-1] == done and done.bytes_sent > 3 * MIB
    names = [name_of(event) for event in told]
    assert names.index("sync.start") < names.index("disk.start") < names.index("sync.done")
    points = await engine.run(warmspare.PointsRequest(repository=place(rig)))
    assert [point.point for point in points] == [done.point]
    applied = await engine.run(warmspare.ApplyRequest(vm="vm", repository=place(rig), to=rig.replica))
    assert applied is not None and applied.point == done.point and same(rig.disk, rig.replica)
    audit = await engine.run(warmspare.ReplicaAuditRequest(vm="vm", repository=place(rig), replica=rig.replica))
    assert audit.report.clean and audit.path.is_relative_to(rig.home / "host" / "audits")
    deep = await engine.run(warmspare.RepositoryAuditRequest(repository=place(rig), deep=True))
    assert deep.report.clean and deep.report.number == audit.report.number + 1
    assert capfd.readouterr() == ("", "")


async def test_events_are_iterated_over(rig: Rig, engine: warmspare.Engine) -> None:
    await engine.run(warmspare.InitRequest(repositories=(place(rig),)))
    async with engine.start(sync_of(rig, new=True)) as running:
        told = [event async for event in running]
        done = await running.result()
        assert [event async for event in running] == []
    assert told[-1] == done
    async with engine.start(sync_of(rig, vm="other")) as running:
        assert not [event async for event in running if name_of(event) == "sync.done"]
        with pytest.raises(warmspare.ConfigError, match="has no restore points"):
            await running.result()


async def test_leaving_early_takes_back_what_was_begun(rig: Rig, engine: warmspare.Engine) -> None:
    await engine.run(warmspare.InitRequest(repositories=(place(rig),)))
    rig.disk.write_bytes(random.Random(20).randbytes(48 * MIB))
    async with engine.start(sync_of(rig, new=True)) as running:
        async for event in running:
            if name_of(event) == "disk.start":
                break
    with pytest.raises(asyncio.CancelledError):
        await running.result()
    assert (await engine.run(sync_of(rig, new=True))).point.startswith("1-")  # no lease stands in its way


async def test_a_run_that_fails_early_closes_what_the_one_before_left(
    rig: Rig, engine: warmspare.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that had published left its page logs; the next opens them long before it needs them."""

    async def fail(*_: object) -> None:
        raise warmspare.StoreError("it fails")

    await engine.run(warmspare.InitRequest(repositories=(place(rig),)))
    for where, new in (("sender.Sender._commit", True), ("sender.settled_in", False)):
        with monkeypatch.context() as patch, pytest.raises(warmspare.StoreError, match="it fails"):
            patch.setattr(f"warmspare.sync.{where}", fail)
            await engine.run(sync_of(rig, new=new))
        assert not [name for name in described() if name.startswith(str(rig.home))]
    assert (await engine.run(sync_of(rig))).parent.startswith("1-")


async def test_changes_are_given_as_pairs(rig: Rig, engine: warmspare.Engine) -> None:
    await engine.run(warmspare.InitRequest(repositories=(place(rig),)))
    await engine.run(sync_of(rig, new=True))
    with rig.disk.open("r+b") as file:
        file.seek(MIB)
        file.write(bytes(4096))

    def changed(*pairs: tuple[int, int]) -> warmspare.SyncRequest:
        disk = warmspare.NamedDisk(str(rig.disk), changed=pairs)
        disks = warmspare.GivenDisksOf(vm="vm", disks=(disk,))
        return warmspare.SyncRequest(disks=disks, repository=place(rig), state=rig.state)

    done = await engine.run(changed((MIB, 4096)))
    assert (done.bytes_read, done.bytes_changed) == (64 * KIB, 4096)
    assert (await engine.run(changed())).bytes_read == 0
    for wrong, says in (((-1, 1),), "negative"), (((0, 4 * MIB),), "beyond"), (((8, 8), (0, 8)), "out of order"):
        with pytest.raises(warmspare.ConfigError, match=says):
            await engine.run(changed(*wrong))


async def test_nothing_is_done_where_a_newer_point_is_there(rig: Rig, engine: warmspare.Engine) -> None:
    await engine.run(warmspare.InitRequest(repositories=(place(rig),)))
    first = await engine.run(sync_of(rig, new=True, not_after="0"))
    second = await engine.run(sync_of(rig, not_after=first.point))
    assert second.parent == first.point
    told: list[Event] = []
    for newest in (first.point, "1"):
        end = await engine.run(sync_of(rig, not_after=newest), told.append)
        assert isinstance(end, SyncUnneeded) and end.point == second.point and end == told[-1]
    assert "sync.start" not in map(name_of, told)
    outcome = await in_thread(rig.sync, "--not-after", first.point)
    assert outcome.last("sync.unneeded")["point"] == second.point
    outcome = await in_thread(rig.sync, "--not-after", second.point)
    assert outcome.last("sync.done")["parent"] == second.point
    for wrong, says in (("3-00000000", "is not in its chain"), ("newest", "is no restore point")):
        with pytest.raises(warmspare.ConfigError, match=says):
            await engine.run(sync_of(rig, not_after=wrong))


async def test_errors_say_what_a_program_can_act_on(rig: Rig, engine: warmspare.Engine, seaweed_place: S3Place) -> None:
    await engine.run(warmspare.InitRequest(repositories=(place(rig),)))
    await engine.run(sync_of(rig, new=True))
    store = open_store(rig.repo)
    async with Lease.hold(store, layout.lease_key(vm_key(VmId("vm")))):
        with pytest.raises(warmspare.LeaseError) as held:
            await engine.run(sync_of(rig))
    await store.close()
    error = held.value
    assert (error.host, error.pid) == (socket.gethostname(), os.getpid())
    assert error.retryable and 0 < error.until_s - time.time() < 400
    server = seaweed_place.server
    request = warmspare.PointsRequest(repository=warmspare.RepositoryPlace(seaweed_place.uri, server.endpoint_url))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (server.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}).items():
            patch.setenv(name, value)
        with pytest.raises(warmspare.StoreError) as refused:
            await engine.run(request)
    assert refused.value.code == "SignatureDoesNotMatch" and refused.value.object.startswith(seaweed_place.uri)


def test_on_the_loop_of_asyncio(rig: Rig) -> None:
    async def main() -> None:
        engine = warmspare.Engine(state=rig.home / "host")
        await engine.run(warmspare.InitRequest(repositories=(place(rig),)))
        await engine.run(sync_of(rig, new=True))
        assert "uvloop" not in type(asyncio.get_running_loop()).__module__

    asyncio.new_event_loop().run_until_complete(main())


@pytest.mark.program
def test_what_is_not_asked_for_is_not_read() -> None:
    look = "import sys, warmspare; warmspare.Engine; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert not {"numpy", "botocore", "pyVmomi", "uvloop", "rich", "argparse"} & set(done.stdout.split())


@pytest.mark.program
def test_names_are_what_they_say() -> None:
    look = "import warmspare, typing; print(len([getattr(warmspare, name) for name in warmspare.__all__]))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(warmspare.__all__) > 30
    with pytest.raises(AttributeError):
        warmspare.Nothing  # noqa: B018
    document = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    assert [name for name in warmspare.__all__ if f"`{name}`" not in document and name != "__version__"] == []


# -- the environment, and options before the command ------------------------------------------------------------------


def test_the_environment_says_what_is_not_given(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.sync("--new") if Path(rig.repo).exists() else command("init", rig.repo)
    assert command("sync", rig.disk, "--vm", "vm", "--repo", rig.repo, "--state", rig.state, "--new").code == 0
    assert "--repo is missing" in command("points").stderr
    monkeypatch.setenv("WARMSPARE_REPO", rig.repo)
    assert command("points").last("points.done")["count"] == 1
    monkeypatch.setenv("WARMSPARE_STATE", str(rig.state))
    assert command("sync", rig.disk, "--vm", "vm").last("sync.done")["parent"].startswith("1-")
    assert command("points", "--repo", rig.home / "none").code == 2  # what is given counts
    monkeypatch.setenv("WARMSPARE_CONFIG", str(rig.home / "there.toml"))
    assert "there.toml" in command("sync", "--all").stderr
    monkeypatch.setenv("WARMSPARE_ENDPOINT_URL", "http://user:hunter2@host")
    outcome = command("points", "--repo", "s3://bucket/p")
    assert outcome.code == 2 and "hunter2" not in outcome.stderr


def test_global_options_stand_anywhere(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    from warmspare.cli.main import run

    assert run(["init", rig.repo]) == 0
    capsys.readouterr()
    assert run(["--json", "--repo", rig.repo, "points"]) == 0
    assert json.loads(capsys.readouterr().out)["event"] == "points.done"
    assert run([f"--repo={rig.repo}", "audit", "repository", "--json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith('{"event": "audit.done"')
    for words, says in (
        (["pionts"], "did you mean `warmspare points`?"),
        (["audit", "replicas"], "did you mean `warmspare audit replica`?"),
        (["sync", "--extent", "x"], "did you mean --extents?"),
        (["points", "--repo"], "expected one argument"),
        (["audit", "replica", "--vm", "v", "--repo", rig.repo], "--replica is missing"),
        (["drills", "--last", "-1"], "at least 0"),
        (["drills", "--last", "x"], "wants a whole number"),
        (["points", "there"], "one word too many"),
    ):
        assert run(words) == 2
        assert says in capsys.readouterr().err
    assert run(["help", "sync"]) == 0 and "--not-after" in capsys.readouterr().out
    assert run(["audit"]) == 2 and "verify-report" in capsys.readouterr().out


async def test_connections_are_kept_for_the_next_run(
    rig: Rig, seaweed_place: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the credentials stay, and nothing went wrong; none is open after the block."""
    from warmspare.store.s3.session.aws_session import Session

    made = []
    connect = Session._connect

    async def counted(self: Session) -> object:
        made.append(self)
        return await connect(self)

    monkeypatch.setattr(Session, "_connect", counted)
    spare = warmspare.RepositoryPlace(seaweed_place.uri, endpoint_url=seaweed_place.server.endpoint_url)
    disks = warmspare.GivenDisksOf(vm="vm", disks=(warmspare.NamedDisk(str(rig.disk)),))
    request = warmspare.SyncRequest(disks=disks, repository=spare, state=rig.state, limit=50e6)
    async with warmspare.Engine(state=rig.home / "host") as engine:  # the first of all opens what stays
        await engine.run(warmspare.InitRequest(repositories=(spare,)))
        await engine.run(msgspec.structs.replace(request, new=True))
    files = open_files()
    made.clear()
    async with warmspare.Engine(state=rig.home / "host") as engine:
        for _ in range(3):
            began = time.monotonic()
            await engine.run(request)
            assert time.monotonic() - began < 20  # what the one before sent is not paid for again
        assert len(made) == 1
        both = await asyncio.gather(engine.run(warmspare.PointsRequest(repository=spare)), engine.run(request))
        assert len(both[0]) >= 4 and len(made) == 2  # one at a time has each
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        with pytest.raises(warmspare.StoreError):
            await engine.run(request)
        assert len(made) == 3
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed_place.server.secret_key)
        await engine.run(request)
        assert len(made) == 3
    for _ in range(200):  # the loop closes them
        if open_files() > files:
            await asyncio.sleep(0.01)
    assert open_files() <= files
    await engine.run(request)  # outside of it each has its own
    assert len(made) == 4
