"""Where no repository is named it is the configuration's: of each command, and of requests of programs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import warmspare
from rig import MIB, Rig, begun, command
from warmspare.cli.main import COMMANDS, options_of
from warmspare.cli.main import command as function_of
from warmspare.cli.options import RepositoryOptions
from warmspare.engine.host_places import HostPlaces
from warmspare.engine.request import RunContext
from warmspare.engine.wiring.usual_repository import settled
from warmspare.errors import ConfigError
from warmspare.observe.event import Event
from warmspare.observe.events import Events, Meter

VCENTER = '[vcenter.a]\nhost = "v"\nuser = "u"\npassword = {env = "P"}\nvddk = "/opt/vddk"\n'


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "host"))
    for name in ("REPO", "CONFIG", "STATE", "ENDPOINT_URL"):
        monkeypatch.delenv(f"WARMSPARE_{name}", raising=False)
    rig = Rig(tmp_path)
    rig.disk.write_bytes(bytes(MIB))
    return rig


def config(rig: Rig, text: str = "") -> Path:
    path = rig.home / "warmspare.toml"
    path.write_text(text or f'[repository.here]\nuri = "{rig.repo}"\n')
    return path


def test_a_repository_alone_is_every_commands(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSPARE_CONFIG", str(config(rig)))
    assert command("init").code == 0
    assert command("sync", rig.disk, "--vm", "vm", "--state", rig.state, "--new").code == 0
    assert command("points").last("points.done")["count"] == 1
    assert command("apply", "--vm", "vm", "--to", rig.replica).code == 0
    assert command("audit", "replica", "--vm", "vm", "--replica", rig.replica).code == 0
    assert command("audit", "repository").code == 0
    assert command("audit", "source", rig.disk, "--vm", "vm").code == 0
    assert command("plan", rig.disk, "--vm", "vm", "--state", rig.state).code == 0
    assert command("prune").last("prune.done")["repository"] == rig.repo
    assert "is not failed over" in command("failback-done", "--vm", "vm").stderr
    # what is given, or in the environment, comes before it
    assert command("points", "--repo", rig.home / "none").code == 2
    monkeypatch.setenv("WARMSPARE_REPO", str(rig.home / "none"))
    assert command("points").code == 2


def test_who_named_it_is_told(rig: Rig) -> None:
    path = config(rig)
    assert command("init", "--config", path).code == 0
    used = command("points", "--config", path, "-v").all("using")
    assert used == [
        {"event": "using", "what": "repository", "value": rig.repo, "source": f"[repository.here] of {path}"}
    ]
    assert not command("--config", path, "points").all("using")


def test_of_several_it_is_the_VMs(rig: Rig) -> None:
    one, other = rig.home / "one", rig.home / "other"
    path = config(
        rig,
        f'{VCENTER}[repository.one]\nuri = "{one}"\n[repository.other]\nuri = "{other}"\n'
        '[vm.web]\nname = "web.example"\nrepository = "one"\n'
        '[vm.db]\npath = "/F/vm/db01"\nrepository = "other"\n'
        '[vm.id]\ninstance_uuid = "5012a7f3-90d2-4c1e-8b6a-d1c0ffee0042"\nrepository = "other"\n',
    )
    assert command("init", "--config", path).code == 0
    refused = command("points", "--config", path)
    assert refused.code == 2 and "'one' and 'other'" in refused.stderr and "--vm NAME" in refused.stderr
    assert "'one' and 'other'" in command("points", "--config", path, "--vm", "nobody").stderr
    uuid = "5012A7F3-90D2-4C1E-8B6A-D1C0FFEE0042"
    for name, uri in (("web", one), ("web.example", one), ("db", other), ("db01", other), (uuid, other)):
        outcome = command("points", "--config", path, "--vm", name, "-v")
        assert outcome.last("using")["value"] == str(uri)
    both = command("failover", "--config", path, "--vm", "web", "--vm", "db", "--dry-run")
    assert both.code == 2 and "'one' and 'other'" in both.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits]\n", "names no repository"),
        ("[repository.x]\n", "uri"),
        ("this is no TOML", "not TOML"),
    ],
)
def test_a_configuration_that_says_nothing_is_refused(rig: Rig, text: str, said: str) -> None:
    outcome = command("points", "--config", config(rig, text))
    assert outcome.code == 2 and said in outcome.stderr
    assert "no such configuration" in command("points", "--config", rig.home / "none.toml").stderr


def test_what_the_configuration_says_of_it_counts_unless_something_else_is_said(rig: Rig) -> None:
    text = (
        '[repository.s3]\nuri = "s3://b/p"\nendpoint_url = "http://127.0.0.1:9"\nregion = "r"\nprofile = "p"\n'
        'checksum = "md5"\nlimit = [{rate = "1mbit"}]\nsingle_sender = true\n'
    )
    path = config(rig, text)
    told: list[Event] = []
    run = RunContext(Events(told.append), Meter(), HostPlaces(rig.home))
    place = settled(warmspare.RepositoryPlace(config=path), (), run)
    assert (place.uri, place.endpoint_url, place.region, place.profile) == ("s3://b/p", "http://127.0.0.1:9", "r", "p")
    assert place.s3 and place.s3.checksum == "md5" and place.single_sender
    assert place.limit and place.limit.periods[0].bytes_s == 125_000
    said = settled(warmspare.RepositoryPlace(endpoint_url="http://127.0.0.1:8", region="q", config=path), (), run)
    assert (said.endpoint_url, said.region, said.profile) == ("http://127.0.0.1:8", "q", "p")
    named = warmspare.RepositoryPlace("/x")
    assert settled(named, (), run) is named and len(told) == 2


def test_a_limit_of_the_configurations_repository_holds_for_given_disks(rig: Rig) -> None:
    path = config(rig, f'[repository.here]\nuri = "{rig.repo}"\nlimit = [{{rate = "80mbit"}}]\n')
    assert command("init", "--config", path).code == 0
    rig.disk.write_bytes(bytes(range(256)) * (MIB >> 8))
    plan = command("plan", rig.disk, "--vm", "vm", "--config", path, "--state", rig.state, "--new")
    assert plan.last("plan.done")["seconds_at_limit"] is not None
    free = command("plan", rig.disk, "--vm", "vm", "--repo", rig.repo, "--state", rig.state, "--new")
    assert free.last("plan.done")["seconds_at_limit"] is None


def test_requests_of_programs_have_it_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(rig)
    assert command("init", "--config", path).code == 0
    engine = warmspare.Engine(state=rig.home / "host")
    request = warmspare.PointsRequest(repository=warmspare.RepositoryPlace(config=path))
    assert asyncio.run(engine.run(request)) == []
    monkeypatch.setenv("HOME", str(rig.home))
    monkeypatch.setattr("warmspare.engine.host_places.config_path", lambda given: given or path)
    assert asyncio.run(engine.run(warmspare.PointsRequest())) == []
    path.unlink()
    with pytest.raises(ConfigError, match="--repo is missing"):
        asyncio.run(engine.run(warmspare.PointsRequest()))


def test_a_plan_that_names_none_has_the_one_of_its_VMs(rig: Rig) -> None:
    path = config(
        rig,
        f'{VCENTER}[repository.one]\nuri = "{rig.home}/one"\n[repository.other]\nuri = "{rig.home}/other"\n'
        '[vm.web]\nname = "web"\nrepository = "one"\n[vm.db]\nname = "db"\nrepository = "other"\n',
    )
    plan = rig.home / "plan.toml"
    network = 'subnet = "subnet-0123456789abcdef0"\nsecurity_groups = ["sg-0123456789abcdef0"]\n'
    for name, uri in (("web", "one"), ("db", "other")):
        plan.write_text(f"[defaults]\n{network}[vm.{name}]\n")
        for words in (["failover", "--dry-run"], ["drill"]):
            outcome = command(*words, "--plan", plan, "--all", "--config", path, "-v")
            assert outcome.code == 2 and outcome.last("using")["value"] == f"{rig.home}/{uri}", outcome
    plan.write_text(f'repository = "{rig.home}/named"\n[defaults]\n{network}[vm.web]\n')
    outcome = command("failover", "--dry-run", "--plan", plan, "--all", "--config", path, "-v")
    assert not outcome.all("using") and "named" in outcome.stderr


def test_every_command_of_a_repository_takes_the_configuration() -> None:
    kinds: list[Callable[..., int]] = [function_of(name) for name in COMMANDS]
    of_one = [kind for kind in kinds if "repo" in dir(options_of(kind)) and kind.__name__ != "init"]
    assert len(of_one) >= 13
    assert all(issubclass(options_of(kind), RepositoryOptions) for kind in of_one)


@pytest.mark.program
def test_replicas_know_where_they_came_from(rig: Rig) -> None:
    """And need no configuration; one that is there is not asked."""
    command("sync", rig.disk, "--vm", "vm", "--repo", rig.repo, "--state", rig.state, *begun(rig.repo, "vm"))
    command("apply", "--vm", "vm", "--repo", rig.repo, "--to", rig.replica)
    path = config(rig, "not TOML")
    outcome = command("recover", "check", "--vm", "vm", "--replica", rig.replica, "--config", path)
    assert outcome.code == 5 and outcome.last("error")["kind"] == "boot"
