"""Making a repository and beginning a chain are said on purpose: what nobody meant is refused, and nothing is done."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rig import MIB, Outcome, Rig, command, fingerprint, python, random_disk, same, scribble
from rigs.host import forked
from rigs.kills.campaign import VICTIM
from rigs.paths import as_here
from servers import S3Place
from warmspare.errors import StoreError
from warmspare.observe.events import Events
from warmspare.repository.making import make_repository
from warmspare.store import layout
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.promises import AGAIN, RACERS
from warmspare.sync.beginning import near


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, vm="web1")
    random_disk(rig.disk, 2 * MIB, random.Random(1))
    return rig


def raw(rig: Rig, *more: object, what: str = "sync", **changed: object) -> Outcome:
    """As it is typed: nothing is said that is not in `more`."""
    given = {"vm": rig.vm, "repo": rig.repo, "state": rig.state, **changed}
    return command(what, rig.disk, *(word for name, value in given.items() for word in (f"--{name}", value)), *more)


def refused(outcome: Outcome) -> str:
    assert outcome.code == 2, outcome
    assert not outcome.all("sync.start")
    return str(outcome.last("error")["message"])


# making a repository


def test_nothing_but_init_makes_a_repository(rig: Rig) -> None:
    where = Path(rig.repo)
    replica = ["--vm", rig.vm, "--repo", rig.repo]
    for arguments in (
        ["sync", rig.disk, *replica, "--new", "--state", rig.state],
        ["plan", rig.disk, *replica, "--state", rig.state],
        ["apply", *replica, "--to", rig.replica],
        ["points", "--repo", rig.repo],
        ["audit", "source", rig.disk, *replica],
        ["prune", "--repo", rig.repo],
        ["stage", *replica],
    ):
        assert f"`warmspare init {rig.repo}`" in refused(command(*arguments)), arguments
        assert not where.exists() and not rig.state.exists(), arguments


def test_init_says_what_is_there(rig: Rig) -> None:
    first, again = command("init", rig.repo), command("init", rig.repo)
    assert first.code == again.code == 0
    made, there = first.last("init.done"), again.last("init.done")
    assert made["made"] is True and there["made"] is False and made["id"] == there["id"]
    assert not command("points", "--repo", rig.repo).all("point")
    rig.sync()
    before = fingerprint(Path(rig.repo))
    assert command("init", rig.repo).code == 0 and fingerprint(Path(rig.repo)) == before


def test_a_place_that_held_a_repository_gets_no_second_record(rig: Rig) -> None:
    rig.sync()
    (Path(rig.repo) / "repository.json").unlink()
    for outcome in (command("init", rig.repo), raw(rig), raw(rig, "--new")):
        assert outcome.code == 5 and "repository.json" in outcome.stderr
    assert not (Path(rig.repo) / "repository.json").exists()


@pytest.mark.parametrize("record", [b"", b'{"name": "of another program"}', b"<html></html>"])
def test_another_s_repository_json_is_left_alone(rig: Rig, record: bytes) -> None:
    path = Path(rig.repo) / "repository.json"
    path.parent.mkdir()
    path.write_bytes(record)
    assert command("init", rig.repo).code == 5 and raw(rig, "--new").code == 5
    assert path.read_bytes() == record


def test_a_place_with_something_else_in_it_is_no_repository(rig: Rig) -> None:
    theirs = Path(rig.repo) / "images" / "disk.img"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    assert "warmspare init" in refused(raw(rig, "--new"))
    assert fingerprint(Path(rig.repo)).keys() == {"images/disk.img"}
    assert command("init", rig.repo).code == 0 and theirs.read_bytes() == b"theirs"


def test_of_several_that_make_it_at_once_one_does(tmp_path: Path) -> None:
    children = [
        subprocess.Popen([python(), "-m", "warmspare", "init", tmp_path / "repo", "--json"], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    said = [child.communicate(timeout=120)[0].decode() for child in children]
    assert [child.returncode for child in children] == [0] * 4
    assert sum('"made":true' in text.replace(" ", "") for text in said) == 1, said
    assert len({text.split('"id":')[1].split(",")[0] for text in said}) == 1, said


async def test_one_whose_answer_is_lost_finds_that_it_made_it(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path / "repo"))
    create = store.create

    async def lost(key: str, data: bytes) -> bool:
        done = await create(key, data)
        if key != layout.repository_key():  # what the store is tried with
            return done
        raise StoreError("the answer was lost", retryable=True)

    store.create = lost  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        await make_repository(store, Events())
    del store.create  # type: ignore[method-assign]
    assert not (await make_repository(store, Events())).anew
    await store.close()


def test_an_init_that_is_killed_is_run_again(tmp_path: Path) -> None:
    environ = as_here()
    for moment in ("before store.create", "after store.create"):  # of its record; the store was tried before
        repo = tmp_path / moment.replace(" ", "-")
        done = forked.run(VICTIM, "kill", moment, AGAIN + RACERS + 2, "init", repo, env=environ)
        assert done.returncode == -signal.SIGKILL, done.stderr
        again = command("init", repo)
        assert again.code == 0 and again.last("init.done")["made"] is moment.startswith("before")
        assert command("points", "--repo", repo).code == 0


def test_in_s3_a_wrong_prefix_is_refused(seaweed_place: S3Place, rig: Rig) -> None:
    uri = f"{seaweed_place.uri}/dr"
    assert command("init", uri).code == 0
    assert raw(rig, "--new", repo=uri).code == 0
    for wrong in (f"{seaweed_place.uri}/rd", seaweed_place.uri, f"{uri}/vms"):
        assert f"warmspare init {wrong}" in refused(raw(rig, "--new", repo=wrong))
    assert raw(rig, repo=uri).code == 0


def test_repositories_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "warmspare.toml"
    config.write_text(f'[repository.a]\nuri = "{tmp_path}/a"\n[repository.b]\nuri = "{tmp_path}/b"\n')
    assert "did you mean a" in refused(command("init", "--config", config, "A"))
    assert command("init", "--config", config, "b").code == 0
    assert not (tmp_path / "a").exists() and (tmp_path / "b" / "repository.json").exists()
    done = command("init", "--config", config)
    assert [(e["repository"], e["made"]) for e in done.all("init.done")] == [
        (f"{tmp_path}/a", True),
        (f"{tmp_path}/b", False),
    ]
    assert refused(command("init", "--config", config, "--region", "eu-west-1"))


def test_a_copy_makes_none(rig: Rig, tmp_path: Path) -> None:
    rig.sync()
    target = tmp_path / "copy"
    assert f"warmspare init {target}" in refused(command("copy", "--from", rig.repo, "--to", target))
    assert not target.exists()
    assert command("init", target).code == 0
    assert command("copy", "--from", rig.repo, "--to", target).code == 0


# beginning a chain


def test_a_chain_begins_where_it_is_said_and_only_then(rig: Rig) -> None:
    assert command("init", rig.repo).code == 0
    before = fingerprint(Path(rig.repo))
    assert "--new" in refused(raw(rig))
    assert not (Path(rig.repo) / "vms").exists() and not rig.state.exists(), "something was written"
    assert fingerprint(Path(rig.repo)) == before
    assert raw(rig, "--new").code == 0
    there = fingerprint(Path(rig.repo))
    assert "leave out --new" in refused(raw(rig, "--new"))
    assert "leave out --new" in refused(raw(rig, "--new", state=rig.home / "another host"))
    assert fingerprint(Path(rig.repo)) == there and not (rig.home / "another host").exists()
    assert raw(rig).code == 0 and raw(rig, state=rig.home / "another host").code == 0
    rig.apply()
    assert same(rig.disk, rig.replica)


@pytest.mark.parametrize("typed", ["web2", "WEB1", "wbe1", "web1 ", "web", "web1.old"])
def test_a_wrong_vm_is_refused_with_the_ones_that_are_near(rig: Rig, typed: str) -> None:
    rig.sync()
    before = fingerprint(Path(rig.repo))
    assert "'web1'" in refused(raw(rig, vm=typed))
    assert fingerprint(Path(rig.repo)) == before
    assert len(list((Path(rig.repo) / "vms").iterdir())) == 1


def test_names_are_near_too() -> None:
    known = {"503a-0001": "dc02", "503a-0002": "mail", "other": ""}
    assert near("dc01", known) == ["'503a-0001' (called 'dc02')"]
    assert near("MAIL", known) == ["'503a-0002' (called 'mail')"]
    assert not near("zebra", known)


def test_another_repository_is_refused_and_the_right_one_named(rig: Rig) -> None:
    """--repo pointing to an existing repository, of other VMs or of none."""
    rig.sync()
    other = Rig(rig.home, vm="mail", repo=str(rig.home / "other"))
    assert command("init", other.repo).code == 0
    assert rig.repo in refused(raw(rig, repo=other.repo))
    assert "it holds no VM yet" in refused(raw(rig, repo=other.repo, state=rig.home / "another host"))
    other.sync()
    assert "it holds 1 VMs" in refused(raw(rig, repo=other.repo, state=rig.home / "another host"))
    assert len(list((Path(other.repo) / "vms").iterdir())) == 1


def test_a_first_sync_that_died_goes_on_and_only_there(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound to this host's state, this repository and this VM; a plan in between changes nothing about it."""

    async def dying(*_: object) -> None:
        raise StoreError("the link is down", retryable=True)

    assert command("init", rig.repo).code == 0
    with monkeypatch.context() as patch:
        patch.setattr("warmspare.sync.sender.publish", dying)
        assert raw(rig, "--new").code == 4
    assert "--new" in refused(raw(rig, state=rig.home / "another host"))
    assert "--new" in refused(raw(rig, vm="web2"))
    assert command("init", rig.home / "other").code == 0
    assert "--new" in refused(raw(rig, repo=rig.home / "other"))
    assert raw(rig, what="plan").code == 0
    assert raw(rig).code == 0
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_first_sync_that_is_killed_anywhere_goes_on(rig: Rig) -> None:
    environ = as_here()
    for moment in ("before DiskRun.describe", "before Repository.publish", "after Repository.publish"):
        shutil.rmtree(rig.state, ignore_errors=True)
        shutil.rmtree(rig.repo, ignore_errors=True)
        assert command("init", rig.repo).code == 0
        words = ["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, "--new"]
        done = forked.run(VICTIM, "kill", moment, 1, *words, env=environ)
        assert done.returncode == -signal.SIGKILL, (moment, done.stderr)
        scribble(rig.disk, random.Random(2))
        assert raw(rig).code == 0, moment
        rig.apply(to=rig.home / moment.replace(" ", "-"))
        assert same(rig.disk, rig.home / moment.replace(" ", "-"))


def test_a_chain_that_another_begins_meanwhile(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our look and our lease: what was said to begin goes on in nobody's chain."""
    from warmspare.repository.chain import Repository

    assert command("init", rig.repo).code == 0
    newest = Repository.newest
    begun: list[int] = []

    async def late(self: Repository, vm: str) -> int | None:
        answer = await newest(self, vm)
        if not begun:
            begun.append(1)
            words = ["sync", rig.disk, "--vm", vm, "--repo", rig.repo, "--state", rig.home / "other", "--new"]
            child = await asyncio.create_subprocess_exec(python(), "-m", "warmspare", *map(str, words))
            begun.append(await child.wait())
        return answer

    monkeypatch.setattr(Repository, "newest", late)
    assert "has begun already" in refused(raw(rig, "--new"))
    assert begun == [1, 0]


def test_a_chain_that_was_removed_is_not_begun_by_mistake(rig: Rig) -> None:
    rig.sync()
    shutil.rmtree(Path(rig.repo) / "vms")
    for more in ([], ["--new"]):
        outcome = raw(rig, *more)
        assert outcome.code == 5 and "rolled back" in outcome.stderr


def test_the_engine_refuses_by_itself(rig: Rig) -> None:
    """A program that uses it has the rule, too."""
    from warmspare.errors import ConfigError
    from warmspare.observe.events import Events
    from warmspare.source.given import GivenDisks
    from warmspare.source.ports import DiskInput
    from warmspare.source.raw import RawSource
    from warmspare.sync.sender import Sender
    from warmspare.sync.sync_settings import SyncSettings

    async def run(**more: Any) -> None:
        store = DirectoryStore(rig.repo)
        machine = GivenDisks("web1", [DiskInput(RawSource(rig.disk, "d"))])
        try:
            await Sender(store, machine, SyncSettings(rig.state, 1, **more), Events()).run()
        finally:
            await machine.close()
            await store.close()

    assert command("init", rig.repo).code == 0
    with pytest.raises(ConfigError):
        asyncio.run(run())
