"""A recovery plan rehearsed whole: its order, delays and readiness, what it took, and that nothing of it stays."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session

import recoverworld
from ec2front import Refused, Request
from recoverworld import PAUSE, World, hardware
from rig import KIB, Event, Outcome, command
from rigs.host.forked import Forked
from rigs.host.hearing import heard
from rigs.paths import as_here
from servers import S3Server
from suite.remedies import remedy
from warmspare.recover.aws import ec2 as ec2_module
from warmspare.recover.drills import drill_record

UP = "Debian GNU/Linux 12 app ttyS0\r\n\r\napp login: "
PANIC = "[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n"
NAMES = ("dc", "db", "queue", "web", "mail")
ORDERS = {"dc": 1, "db": 2, "queue": 2, "web": 3, "mail": 3}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, moto: S3Server) -> Iterator[World]:
    """Five VMs of a plan, protected and staged."""
    with (
        pytest.MonkeyPatch.context() as patch,
        recoverworld.made(tmp_path_factory.mktemp("plan"), moto.endpoint_url, patch) as world,
    ):
        protect(world, NAMES)
        yield world


def protect(world: World, names: tuple[str, ...]) -> None:
    for name in names:
        world.protect(name, hardware("servers"), 256 * KIB)
        world.stage(name)


@pytest.fixture
def world(staged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    with recoverworld.again(staged, tmp_path, monkeypatch) as again:
        monkeypatch.setattr(ec2_module, "Pause", lambda: PAUSE)
        again.front.console = [UP]
        yield again


def plan(world: World, orders: dict[str, int] = ORDERS, top: str = "", defaults: str = "", **vms: str) -> Path:
    """A plan of these VMs. vms: further lines of a VM's table."""
    _, subnet, group = world.isolated()
    text = f'repository = "{world.repo}"\n{top}\n[drill]\nsubnet = "{subnet}"\nsecurity_groups = ["{group}"]\n'
    text += world.networks(servers=0) + f'[defaults]\nready_within = "20s"\n{defaults}\n'
    for name, order in orders.items():
        text += f'[vm.{name}]\ninstance_type = "m5.large"\norder = {order}\n{vms.get(name, "")}\n'
    return world.write_plan(text)


def rehearse(world: World, path: Path, *more: object, code: int = 0) -> Outcome:
    outcome = command("drill", "--ec2", "--plan", path, *(more or ["--all"]))
    assert outcome.code == code, outcome
    return outcome


def kept(outcome: Outcome) -> dict[str, Any]:
    """The record of a rehearsal, held to its event log."""
    done = outcome.last("rehearsal.done")
    out: dict[str, Any] = json.loads(Path(done["record"]).read_text())
    demand_same(out, outcome.events)
    return out


def demand_same(kept: dict[str, Any], events: list[Event]) -> None:
    """The report is what the events say: step by step, and of the whole."""
    steps = {event["vm"]: event for event in events if event["event"] == "rehearsal.step"}
    due = {event["vm"]: event["due_seconds"] for event in events if event["event"] == "rehearsal.due"}
    assert [step["vm"] for step in kept["steps"]] == events_of(events, "rehearsal.start")[-1]["vms"]
    assert steps.keys() == {step["vm"] for step in kept["steps"]}
    for step in kept["steps"]:
        told = steps[step["vm"]]
        for name in (
            "order",
            "ready",
            "result",
            "waited_seconds",
            "ready_seconds",
            "up_seconds",
            "rto_seconds",
            "within",
        ):
            assert step[name] == told[name], (step, told)
        assert step["due_seconds"] == told["due_seconds"] == due.get(step["vm"])
    done = events_of(events, "rehearsal.done")[-1]
    for name in ("ready_seconds", "rto_seconds", "within", "seconds", "result"):
        assert kept[name] == done[name]
    ready = [step["ready_seconds"] for step in kept["steps"]]
    whole = all(step["result"] in ("passed", "late") for step in kept["steps"])
    assert kept["ready_seconds"] == (max(ready) if whole else None)


def events_of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def demand_nothing_left(world: World) -> None:
    ec2 = get_session().create_client("ec2", region_name="eu-central-1")
    pages = ec2.get_paginator("describe_instances").paginate()
    found = [each for page in pages for made in page["Reservations"] for each in made["Instances"]]
    ec2.close()
    states = {each["State"]["Name"] for each in found if each["InstanceId"] in world.front.instances}
    assert states <= {"terminated"} and not world.front.images and not world.front.volumes, states


def name_of(request: Request) -> str:
    """Which VM an image or an instance is of."""
    kind = "image" if request.action == "RegisterImage" else "instance"
    return request.tags(kind)["Name"].removeprefix("drill of ")


def test_the_plan_is_run_in_its_order_with_its_delays(world: World) -> None:
    outcome = rehearse(world, plan(world, top='rto = "10m"', web='delay = "1s"'))
    started = [name_of(each) for each in world.front.made("RunInstances")]
    assert started[0] == "dc" and set(started[1:3]) == {"db", "queue"} and set(started[3:]) == {"web", "mail"}
    actions = [request.action for request in world.front.requests if request.changes]
    first = actions.index("RunInstances")
    assert actions[:first].count("RegisterImage") == 5, "all images are there before the first is started"
    assert "TerminateInstances" not in actions[: len(actions) - 1 - actions[::-1].index("RunInstances")]
    steps = {step["vm"]: step for step in kept(outcome)["steps"]}
    for name, order in ORDERS.items():
        earlier = [steps[each]["ready_seconds"] for each in ORDERS if ORDERS[each] < order]
        assert steps[name]["due_seconds"] >= max(earlier, default=0.0)
    assert steps["web"]["due_seconds"] >= max(steps["db"]["ready_seconds"], steps["queue"]["ready_seconds"]) + 1
    done = outcome.last("rehearsal.done")
    assert (done["passed"], done["within"], done["rto_seconds"]) == (5, True, 600)
    assert {each["answer"] for each in outcome.all("outlook")} == {"stops"}, "there is no system on these disks"
    demand_nothing_left(world)


def test_what_is_true_of_all_is_asked_of_aws_once(world: World) -> None:
    rehearse(world, plan(world), "--vm", "dc")
    alone = [request.action for request in world.front.requests]
    world.front.forget()
    rehearse(world, plan(world))
    asked = [request.action for request in world.front.requests]
    for action in ("DescribeRouteTables", "DescribeSubnets", "DescribeSecurityGroups"):
        assert asked.count(action) == alone.count(action) > 0, action


def test_what_can_not_be_cleaned_is_told_of_every_vm(world: World) -> None:
    path = plan(world)
    world.front.refuse = lambda request: (
        Refused("UnauthorizedOperation") if request.action == "DescribeImages" else None
    )
    outcome = command("drill", "--ec2", "--clean", "--plan", path, "--vm", "dc", "--vm", "db")
    assert outcome.code == 8 and "VM dc" in outcome.last("error")["message"], outcome
    assert [note["vm"] for note in outcome.all("drill.note")] == ["db"]


def test_each_has_its_evidence_and_the_record_names_it(world: World) -> None:
    outcome = rehearse(world, plan(world), "--vm", "web", "--vm", "db", "--evidence", world.home / "evidence")
    said = kept(outcome)
    assert [step["vm"] for step in said["steps"]] == ["db", "web"] and said["vm"] == "" and said["kind"] == "ec2"
    for step in said["steps"]:
        folder = Path(step["evidence"])
        assert folder == world.home / "evidence" / step["vm"]
        verdict = json.loads((folder / "verdict.json").read_text())
        assert verdict["passed"] and verdict["judged_by"] == "status checks"
        assert step["sha256"] == verdict["point"]["sha256"]
    assert drill_record.decode(Path(outcome.last("rehearsal.done")["record"]).read_bytes(), "").steps[0].vm == "db"


def test_one_that_does_not_come_up_keeps_nobody_from_being_tried(world: World) -> None:
    world.front.broken["drill of db"] = PANIC
    outcome = rehearse(world, plan(world, top='rto = "10m"'), code=5)
    results = {step["vm"]: step["result"] for step in kept(outcome)["steps"]}
    assert results == {"dc": "passed", "db": "failed", "queue": "passed", "web": "passed", "mail": "passed"}
    error = outcome.last("error")
    assert error["kind"] == "boot" and "1 of 5 VMs did not come up: 'db'" in error["message"], error
    assert outcome.last("rehearsal.done")["within"] is False
    assert outcome.last("rehearsal.done")["ready_seconds"] is None
    demand_nothing_left(world)


def test_what_aws_refuses_is_not_judged_and_the_rest_is(world: World) -> None:
    def refuse(request: Request) -> Refused | None:
        mine = request.action == "RunInstances" and name_of(request) == "queue"
        return Refused("VcpuLimitExceeded") if mine else None

    world.front.refuse = refuse
    outcome = rehearse(world, plan(world), code=8)
    results = {step["vm"]: (step["result"], step["exit_code"]) for step in kept(outcome)["steps"]}
    assert results.pop("queue") == ("not judged", 8) and set(results.values()) == {("passed", 0)}
    assert "queue" in outcome.last("error")["message"]
    demand_nothing_left(world)


@pytest.mark.parametrize("more", [{"top": 'rto = "1s"'}, {"mail": 'rto = "1s"', "top": 'rto = "10m"'}])
@remedy("see what took the time, in its steps; or correct rto in the recovery plan")
def test_what_is_ready_too_late_makes_it_fail(world: World, more: dict[str, str]) -> None:
    more = {**more, "mail": more.get("mail", "") + '\ndelay = "2s"'}
    outcome = rehearse(world, plan(world, **more), "--vm", "mail", "--vm", "dc", code=5)  # type: ignore[arg-type]
    said = kept(outcome)
    assert {step["vm"]: step["within"] for step in said["steps"]}["mail"] is False and said["within"] is False
    assert said["result"] == "late" and outcome.last("error")["kind"] == "late"
    assert outcome.last("rehearsal.done")["failed"] == 0
    corrected = {name: text.replace('"1s"', '"5m"') for name, text in more.items()}
    rehearse(world, plan(world, **corrected), "--vm", "mail", "--vm", "dc")  # type: ignore[arg-type]
    demand_nothing_left(world)


def test_an_rto_of_the_whole_counts_for_one_that_may_take_longer(world: World) -> None:
    more = {"mail": 'rto = "10m"\ndelay = "3s"', "top": 'rto = "2s"'}
    outcome = rehearse(world, plan(world, **more), "--vm", "mail", code=5)  # type: ignore[arg-type]
    assert kept(outcome)["steps"][0]["within"] is True
    assert "the RTO of the plan is 2 s" in outcome.last("error")["message"]


@pytest.mark.parametrize("ready", ["none", "running", "status-checks"])
def test_the_next_order_waits_for_what_the_plan_calls_ready(world: World, ready: str) -> None:
    world.front.broken["drill of dc"] = PANIC  # it runs, and never comes up
    outcome = rehearse(world, plan(world, defaults=f'ready = "{ready}"'), "--vm", "dc", "--vm", "web", code=5)
    steps = {step["vm"]: step for step in kept(outcome)["steps"]}
    assert (steps["dc"]["ready_seconds"] is None) == (ready == "status-checks")
    assert steps["dc"]["result"] == "failed" and steps["web"]["result"] == "passed"


@pytest.mark.parametrize("where", ["ec2", "qemu"])
def test_a_dry_run_says_what_it_would_start_in_its_order(world: World, tmp_path: Path, where: str) -> None:
    more = ["--ec2"] if where == "ec2" else []
    path = plan(world)
    outcome = command("drill", *more, "--plan", path, "--all", "--dry-run")
    said = [each["action"] for each in outcome.all("would")]
    assert outcome.code == 0 and [each.split("'")[1] for each in said] == ["dc", "db", "queue", "web", "mail"], said
    assert all(("in subnet-" if more else "alone in QEMU") in each and each.endswith("and end it") for each in said)
    assert not set(world.front.changing()) and command("drills").code == 2, "nothing was done, and none is recorded"
    assert not list((tmp_path / "xdg").rglob("drills/*"))
    missing = command("drill", *more, "--plan", path, "--vm", "nobody", "--dry-run")
    assert missing.code == 2 and not missing.all("would")


def test_what_is_missing_is_told_of_all_and_nothing_is_started(world: World) -> None:
    path = plan(world, web='root_disk = "other"', db='root_disk = "none"')
    outcome = rehearse(world, path, code=2)
    assert {each["vm"] for each in outcome.all("rehearsal.missing")} == {"db", "web"}
    assert not set(world.front.changing()) and not outcome.all("rehearsal.start")
    assert command("drills").code == 2, "it was none, and is not recorded"


def test_the_drills_of_a_host_are_listed_with_their_trend(world: World) -> None:
    path = plan(world, top='rto = "10m"')
    rehearse(world, path, "--vm", "db")
    single = command("drill", "--ec2", "--vm", "db", "--repo", world.repo, *options(path))
    assert single.code == 0 and single.events[-1]["event"] == "drill.kept"
    world.front.broken["drill of db"] = PANIC
    rehearse(world, path, "--vm", "db", code=5)
    outcome = command("drills", "--vm", "db")
    assert outcome.code == 0 and [each["result"] for each in outcome.all("drill")] == ["passed", "passed", "failed"]
    [trend] = outcome.all("drill.trend")
    assert (trend["drills"], trend["passed"], trend["last_result"]) == (3, 2, "failed")
    assert trend["boot_seconds"] is not None and trend["median_boot_seconds"] is not None
    assert outcome.last("drills.done")["count"] == 3
    first = min((world.home / "xdg" / "warmspare" / "drill-records").glob("*.json"))
    first.chmod(0o600)
    first.write_text(first.read_text().replace('"passed"', '"failed"'))
    outcome = command("drills", "--head", outcome.last("drills.done")["sha256"])
    assert outcome.code == 5 and len(outcome.all("record.wrong")) == 1
    assert command("drills", "--head", "0" * 64).all("record.wrong")[-1]["record"] == "0" * 64


def options(path: Path) -> list[str]:
    import tomllib

    place = tomllib.loads(path.read_text())["drill"]
    return ["--subnet", place["subnet"], "--security-group", place["security_groups"][0]]


def test_a_drill_that_could_not_be_judged_is_recorded_too(world: World) -> None:
    path = plan(world)
    world.front.refuse = lambda request: Refused("VcpuLimitExceeded") if request.action == "RunInstances" else None
    outcome = command("drill", "--ec2", "--vm", "db", "--repo", world.repo, *options(path))
    assert outcome.code == 8 and outcome.last("drill.kept")["number"] == 1
    [told] = command("drills").all("drill")
    assert told["result"] == "not judged" and "vCPUs" in told["reason"]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--all", "--vm", "db"], "which VMs is not said"),
        ([], "which VMs is not said"),
        (["--vm", "dbb"], "no VM 'dbb'"),
        (["--all", "--at", "1"], "--at names"),
        (["--all", "--firmware", "bios"], "--firmware"),
    ],
)
def test_what_is_asked_wrongly(world: World, given: list[str], word: str) -> None:
    outcome = command("drill", "--ec2", "--plan", plan(world), *given)
    assert outcome.code == 2 and word in outcome.last("error")["message"], outcome


def interrupted(world: World, path: Path, number: int, after: bool, how: signal.Signals) -> list[Event]:
    """A rehearsal that gets a signal at its number-th request."""
    world.front.kill, world.front.count, world.front.victim, world.front.how = (number, after), 0, Future(), how
    environment = as_here()
    code = (
        "import runpy, sys\nfrom warmspare.recover.aws import ec2\nfirst = ec2.Pause(0.01, 0.05)\n"
        "from warmspare.recover.drills.ec2 import trial\ntrial.UNSEEN_S = 5.0  # here nothing is hidden for long\n"
        "ec2.Pause = lambda: first\nsys.argv[1:] = ['drill', '--ec2', '--plan', "
        f"{str(path)!r}, '--all', '--json']\nrunpy.run_module('warmspare', run_name='__main__')"
    )
    began_s = time.monotonic()
    process = Forked("-c", code, environment=environment)
    world.front.victim.set_result(process.pid)
    out = process.communicate(timeout=400)[0]
    world.front.kill = None
    print(f"ended with {process.returncode} after {time.monotonic() - began_s:.0f} s")
    lines = [heard(line) for line in out.splitlines() if line.endswith(b"}")]
    if process.returncode == 0:
        demand_same(json.loads(Path(events_of(lines, "rehearsal.done")[-1]["record"]).read_text()), lines)
    else:
        assert process.returncode in (-signal.SIGKILL, 130), (process.returncode, out)
    return lines


def campaign(world: World, orders: dict[str, int], moments: int, seed: int) -> None:
    """Signals at random requests, half of them kills; afterwards nothing is left: at once where it was asked to end,
    else once what it left is ended by `--clean`."""
    rng = random.Random(seed)
    path = plan(world, orders, top='rto = "10m"')
    world.front.count = 0
    interrupted(world, path, 0, False, signal.SIGKILL)
    demand_nothing_left(world)
    requests = world.front.count
    for moment in range(moments):
        print(f"moment {moment} of {moments}, {requests} requests in all")
        how = (signal.SIGKILL, signal.SIGTERM)[moment % 2]
        interrupted(world, path, rng.randrange(1, requests), rng.random() < 0.5, how)
        if how == signal.SIGKILL:
            outcome = command("drill", "--ec2", "--clean", "--plan", path, "--all")
            assert outcome.code == 0, outcome
        demand_nothing_left(world)
    done = rehearse(world, path)
    kept(done)
    assert command("drills").last("drills.done")["wrong"] == 0


def test_killed_at_some_moments(world: World) -> None:
    campaign(world, ORDERS, 4, seed=17)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_vms_killed_at_fifty_moments(tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    with recoverworld.made(tmp_path, moto.endpoint_url, monkeypatch) as world:
        monkeypatch.setattr(ec2_module, "Pause", lambda: PAUSE)
        names = tuple(f"vm{number:02d}" for number in range(20))
        protect(world, names)
        world.front.console = [UP]
        campaign(world, {name: 1 + number // 4 for number, name in enumerate(names)}, 50, seed=18)
