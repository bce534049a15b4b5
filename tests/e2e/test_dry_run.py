"""`--dry-run` of everything that changes something: it says what would be done, and not a byte of it is."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from recoverworld import hardware
from recoverworld import made as world_made
from rig import MIB, Rig, command, flip, made, random_disk, scribble
from servers import S3Server
from warmspare.cli.command_parser import fields_of
from warmspare.cli.main import COMMANDS, options_of
from warmspare.cli.main import command as function_of
from warmspare.store.directory.directory_store import DirectoryStore

CHANGES = {
    "init", "sync", "apply", "copy", "stage", "prune", "failover", "failback-done", "failback-export", "drill",
    "audit replica", "audit repository", "audit source", "hold add", "hold remove",
}  # fmt: skip


def tree(*roots: Path) -> dict[str, tuple[str, int, int]]:
    """Every file and folder below: content and mode, and of a file when it was changed."""
    found = {}
    for path in sorted(path for root in roots for path in [root, *root.rglob("*")] if path.exists()):
        stat = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = digest, stat.st_mode, stat.st_mtime_ns if path.is_file() else 0
    return found


@contextmanager
def unchanged(*roots: Path) -> Iterator[None]:
    """No store takes a write, and nothing below changes."""

    def refused(self: DirectoryStore, *arguments: Any, **more: Any) -> NoReturn:
        raise AssertionError(f"a dry run writes: {arguments[:1]}")

    before = tree(*roots)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "create", "replace", "delete", "upload", "abort_upload", "takes_damage"):
            patch.setattr(DirectoryStore, name, refused)
        yield
    assert tree(*roots) == before


def actions(*arguments: object) -> list[str]:
    """What a dry run says."""
    outcome = command(*arguments, "--dry-run")
    assert outcome.code == 0, outcome
    said = [event["action"] for event in outcome.all("would")]
    assert outcome.events[-1] == {"event": "would.done", "count": len(said)}
    return said


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Two points, and a replica at the first."""
    rig = Rig(tmp_path)
    random_disk(rig.disk, MIB, random.Random(1))
    rig.sync()
    rig.apply()
    scribble(rig.disk, random.Random(2))
    rig.sync()
    return rig


def test_whatever_changes_something_has_one() -> None:
    flags = {
        name: {flag for field in fields_of(options_of(function_of(name))) for flag in field.option.flags}
        for name in COMMANDS
    }
    assert {name for name in COMMANDS if "--dry-run" in flags[name]} == CHANGES | {"plan"}


def test_init(tmp_path: Path, rig: Rig) -> None:
    with unchanged(tmp_path):
        [said] = actions("init", tmp_path / "new", rig.repo)
        assert str(tmp_path / "new") in said
        assert actions("init", rig.repo) == []
    assert not (tmp_path / "new").exists()


def test_holds(tmp_path: Path, rig: Rig) -> None:
    where = ("--vm", rig.vm, "--repo", rig.repo, "--at", 1)
    with unchanged(tmp_path):
        [said] = actions("hold", "add", *where, "--until", "9d")
        assert "hold restore point 1-" in said
        assert command("hold", "remove", *where, "--dry-run").code == 2
    assert command("hold", "add", *where).code == 0
    with unchanged(tmp_path):
        [said] = actions("hold", "remove", *where)
        assert "on restore point 1" in said


def test_sync_is_plan(rig: Rig, tmp_path: Path) -> None:
    scribble(rig.disk, random.Random(3))
    before = rig.snapshot()
    outcome = rig.sync("--dry-run")
    assert outcome.last("plan.done")["bytes_changed"] > 0 and rig.snapshot() == before


def test_apply(rig: Rig, tmp_path: Path) -> None:
    where = ("apply", "--vm", rig.vm, "--repo", rig.repo, "--to")
    with unchanged(tmp_path):
        [said] = actions(*where, rig.replica)
        assert "from 1-" in said and " to 2-" in said and "1 restore point," in said
        [said] = actions(*where, tmp_path / "other.raw")
        assert "from nothing to 2-" in said and "2 restore points" in said
        assert actions(*where, rig.replica, "--at", 1) == []
        assert command(*where, rig.replica, "--follow", "--dry-run").code == 2
    rig.apply()
    with unchanged(tmp_path):
        assert actions(*where, rig.replica) == []
        assert "newer than 1" in command(*where, rig.replica, "--at", 1, "--dry-run").stderr


def test_copy(rig: Rig, tmp_path: Path) -> None:
    made(tmp_path / "copy")
    where = ("copy", "--from", rig.repo, "--to", tmp_path / "copy")
    with unchanged(tmp_path):
        [said] = actions(*where, "--limit", "1mbit")
        assert said.startswith("copy restore points 1-") and " to 2-" in said
    assert command(*where).code == 0
    with unchanged(tmp_path):
        assert actions(*where) == []


def test_audits(rig: Rig, tmp_path: Path) -> None:
    """What is wrong is said, and stays; without --dry-run it is put right."""
    pack = rig.objects("packs")[0]
    flip(pack, 200)
    flip(rig.replica, 70_000)
    scribble(rig.disk, random.Random(4))
    (rig.home / "none").write_text("")
    reports = ("--reports", tmp_path / "reports")
    replica = ("audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", rig.replica, *reports)
    repository = ("audit", "repository", "--deep", "--repo", rig.repo, *reports)
    with unchanged(rig.home / "repo", rig.replica, rig.home / "replica.raw.warmspare"):
        for words in (replica, repository):
            outcome = command(*words, "--repair", "--dry-run")
            assert outcome.code == 5 and outcome.all("finding") and not outcome.last("audit.done")["repaired"]
    before = rig.snapshot()
    disk = ("audit", "source", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--extents", rig.home / "none", *reports)
    outcome = command(*disk, "--state", rig.state, "--repair", "--dry-run")
    assert outcome.code == 5 and outcome.all("finding") and rig.snapshot() == before


def test_prune_and_export_of_a_replica(rig: Rig, tmp_path: Path) -> None:
    left = rig.root / "packs" / ("d" * 32) / "000000.pack"
    left.parent.mkdir()
    left.write_bytes(b"x")
    os.utime(left, (1.0, 1.0))
    export = ("failback-export", "--vm", rig.vm, "--repo", rig.repo, "--to", tmp_path / "out", "--format", "raw")
    with unchanged(tmp_path):
        outcome = command("prune", "--repo", rig.repo, "--older-than", "1s", "--dry-run")
        assert outcome.last("prune.done")["objects"] == 1
        [said] = actions(*export, "--replica", rig.replica, "--only-replica", "--region", "eu-central-1")
        assert said.endswith(f" to {tmp_path}/out/disk.raw.raw") and "1.0 MiB" in said
        nothing = ("--replica", tmp_path / "nothing", "--only-replica", "--region", "eu-central-1", "--dry-run")
        assert command(*export, *nothing).code == 2


def test_in_aws(tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failover that is over, its way back, and what a drill left."""
    with world_made(tmp_path, moto.endpoint_url, monkeypatch) as world:
        world.protect("web", hardware("dmz"))
        world.stage("web")
        plan = world.write_plan('[vm.web]\ninstance_type = "m5.large"\n')
        done = ("failback-done", "--vm", "web", "--repo", world.repo)
        with unchanged(world.repo):
            assert command(*done, "--dry-run").code == 2
            drill = ("drill", "--ec2", "--vm", "web", "--repo", world.repo)
            assert actions(*drill, "--clean") == []
            _, subnet, group = world.isolated()
            [said] = actions(*drill, "--subnet", subnet, "--security-group", group)
            assert said.startswith("start 'web' at restore point 1-") and f" in {subnet}, and end it" in said
            assert "is not said" in command(*drill, "--dry-run").stderr
        assert command("failover", "--plan", plan, "--vm", "web", "--repo", world.repo).code == 0
        with unchanged(world.repo):
            [said] = actions(*done)
            assert said.startswith("clear the mark of its failover") and "'web'" in said
            [said] = actions("failback-export", "--vm", "web", "--repo", world.repo, "--to", tmp_path / "out")
            assert "has in AWS to" in said and said.endswith(".vmdk")
        assert not (tmp_path / "out").exists() and world.front is not None
