"""SIGTERM, Ctrl-C and a hang-up at random moments of every command, while it waits for what never comes: it ends in
time, says so, and leaves only what docs/operations.md says."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rig import KIB, MIB, Rig, made, random_disk
from rigs.kills.interrupts import (
    HUNG,
    SIGNALS,
    Case,
    demand_ended,
    interrupted,
    moments,
    silent_server,
)

LEASE_S = 5.0  # docs/operations.md, "Interrupting"
UPLOADS_S = 5.0
PROGRAMS = ("sfdisk", "blkid", "grub-fstest", "qemu-img", "qemu-system-x86_64")


@dataclass(frozen=True, slots=True)
class World:
    """A VM with two restore points and a replica, a server that is silent, programs that hang."""

    rig: Rig
    port: int
    home: Path

    @property
    def silent(self) -> dict[str, str]:
        """An environment in which S3 and EC2 never answer."""
        return {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("signals")
    rig = Rig(home)
    random_disk(rig.disk, 3 * MIB, random.Random(1))
    rig.sync()
    rig.apply()
    with rig.disk.open("r+b") as file:
        file.write(bytes(8 * KIB))
    rig.sync()
    os.mkfifo(home / "fifo")
    for folder in ("bin", "evidence"):
        (home / folder).mkdir()
    for name in PROGRAMS:
        program(home / "bin" / name)
    program(home / "ask")
    with silent_server() as port:
        (home / "warmspare.toml").write_text(CONFIG.format(home=home, port=port))
        yield World(rig, port, home)


CONFIG = """\
[vcenter.site]
host = "127.0.0.1"
port = {port}
user = "u"
password = {{command = ["{home}/ask"]}}
vddk = "{home}/vddk"
[repository.spare]
uri = "{home}/repo"
[vm.one]
path = "/DC1/vm/one"
"""


def program(path: Path) -> None:
    """One that hangs, and has started another that does."""
    path.write_text(f"#!/bin/sh\n# {path}\nsh -c 'sleep 3600; true' {path} &\nwait\n")
    path.chmod(0o755)


@contextlib.contextmanager
def taken(path: Path) -> Iterator[None]:
    """A file that somebody else has locked, and keeps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def repository(path: Path) -> Iterator[None]:
    """One is there."""
    made(path)
    yield


S3 = "s3://bucket/prefix"


def case(name: str, world: World) -> Case:
    """By name; each command is in it, and each kind of call."""
    rig, home = world.rig, world.home
    repo = ("--repo", rig.repo, "--vm", rig.vm)
    far = ("--repo", S3, "--vm", rig.vm)
    programs = {"PATH": f"{home}/bin:{os.environ['PATH']}"}
    new = home / "new"
    hung = ("-c", HUNG)

    def hanging(at: int, which: str = "one") -> dict[str, str]:
        return {"HANG": which, "HANG_AT": str(at)}

    state = ("--state", home / "state")
    plain = {
        # a store that is silent
        "init, S3": Case(name, ["init", S3], UPLOADS_S, world.silent),
        "sync, S3": Case(name, ["sync", rig.disk, *far, *state, "--new"], UPLOADS_S + LEASE_S, world.silent),
        "plan, S3": Case(name, ["plan", rig.disk, *far, *state, "--new"], 0, world.silent),
        "apply, S3": Case(name, ["apply", *far, "--to", new], 0, world.silent),
        "copy, S3": Case(name, ["copy", "--from", S3, "--to", rig.repo], LEASE_S, world.silent),
        "stage, S3": Case(name, ["stage", *far], 0, world.silent),
        "points, S3": Case(name, ["points", "--repo", S3, "--json"], 0, world.silent),
        "prune, S3": Case(name, ["prune", "--repo", S3], 0, world.silent),
        "failback-done, S3": Case(name, ["failback-done", *far], 0, world.silent),
        "failback-export, S3": Case(name, ["failback-export", *far, "--to", home / "out"], 0, world.silent),
        "audit replica, S3": Case(name, ["audit", "replica", *far, "--replica", rig.replica], 0, world.silent),
        "audit repository, S3": Case(name, ["audit", "repository", "--repo", S3], 0, world.silent),
        "audit source, S3": Case(name, ["audit", "source", rig.disk, *far, *state], LEASE_S, world.silent),
        "recover check, S3": Case(name, ["recover", "check", *far], 10, world.silent),
        "drill, S3": Case(name, ["drill", *far], 10, world.silent),
        # AWS that is silent
        "stage, EC2": Case(name, ["stage", *repo, "--state", home / "stage"], 0, world.silent),
        "failover, EC2": Case(name, ["failover", *repo], 0, world.silent),
        "drill --ec2, EC2": Case(
            name,
            ["drill", "--ec2", *repo, "--subnet", f"subnet-{17 * '0'}", "--security-group", f"sg-{17 * '0'}"],
            0,
            world.silent,
        ),
        # a vCenter that is silent, a program that gives a password
        "vms, password": Case(name, ["vms", "--config", home / "warmspare.toml"]),
        "doctor, password": Case(name, ["doctor", "--config", home / "warmspare.toml"]),
        "config check, password": Case(name, ["config", "check", "--config", home / "warmspare.toml"]),
        "sync, password": Case(name, ["sync", "--all", "--config", home / "warmspare.toml"]),
        # a file system whose server is gone: a call that no one can end
        **{
            f"sync, hung {at} {which}": Case(name, ["sync", rig.disk, *repo, *state], LEASE_S, hanging(at, which), hung)
            for at in (1, 4, 6, 8, 10)
            for which in ("one", "all")
        },
        "apply, hung": Case(name, ["apply", *repo, "--to", new], 0, hanging(4), hung),
        "copy, hung": Case(
            name,
            ["copy", "--from", rig.repo, "--to", home / "other"],
            LEASE_S,
            hanging(9),
            hung,
            prepared=lambda: repository(home / "other"),
        ),
        "audit repository, hung": Case(name, ["audit", "repository", "--repo", rig.repo], 0, hanging(5), hung),
        "recover check, hung": Case(name, ["recover", "check", *repo], 10, hanging(8), hung),
        # FIFOs that nobody writes to; some are refused
        "sync, extents": Case(
            name, ["sync", rig.disk, *repo, *state, "--extents", home / "fifo"], 0, ends=frozenset({2})
        ),
        "sync, disk": Case(name, ["sync", home / "fifo", *repo, *state], 0, ends=frozenset({3})),
        "config check, FIFO": Case(name, ["config", "check", "--config", home / "fifo"], 0, ends=frozenset({2})),
        "failover, FIFO": Case(name, ["failover", "--plan", home / "fifo", "--all"], 0, ends=frozenset({2})),
        "prune, FIFO": Case(name, ["prune", "--repo", rig.repo, "--against", home / "fifo"], 0, ends=frozenset({4})),
        # the guest's readers, and other programs
        "recover check, reader": Case(name, ["recover", "check", *repo[2:], "--replica", rig.replica], 0, programs),
        "recover check, mounted": Case(name, ["recover", "check", *repo], 10, programs),
        "drill, program": Case(
            name,
            ["drill", *repo[2:], "--replica", rig.replica, "--evidence", home / "evidence" / os.urandom(4).hex()],
            0,
            programs,
        ),
        "failback-export, program": Case(
            name,
            ["failback-export", *repo, "--only-replica", "--replica", rig.replica, "--to", home / "out"],
            0,
            {**world.silent, **programs},
        ),
        # locks that others hold
        "apply --follow": Case(name, ["apply", *repo, "--to", home / "followed", "--follow"]),
        "sync, salt": Case(
            name,
            ["sync", "--all", "--config", home / "warmspare.toml"],
            0,
            {"XDG_STATE_HOME": str(home / "xdg")},
            prepared=lambda: taken(home / "xdg/warmspare/logins/salt"),
        ),
        "demo": Case(name, ["demo"], 10),
        "audit verify-report": Case(
            name, ["audit", "verify-report", "--reports", home / "fifo"], 0, ends=frozenset({2})
        ),
    }
    return plain[name]


# The names must be known before there is a world.
NAMES = [
    *(
        f"{command}, S3"
        for command in (
            "init",
            "sync",
            "plan",
            "apply",
            "copy",
            "stage",
            "points",
            "prune",
            "failback-done",
            "failback-export",
            "audit replica",
            "audit repository",
            "audit source",
            "recover check",
            "drill",
        )
    ),
    "stage, EC2",
    "failover, EC2",
    "drill --ec2, EC2",
    *(f"{command}, password" for command in ("vms", "doctor", "config check", "sync")),
    *(f"sync, hung {at} {which}" for at in (1, 4, 6, 8, 10) for which in ("one", "all")),
    *(f"{command}, hung" for command in ("apply", "copy", "audit repository", "recover check")),
    "sync, extents",
    "sync, disk",
    "config check, FIFO",
    "failover, FIFO",
    "prune, FIFO",
    "audit verify-report",
    "recover check, reader",
    "recover check, mounted",
    "drill, program",
    "failback-export, program",
    "apply --follow",
    "sync, salt",
    "demo",
]


# What runs in every run of the tests: one of each command, and of each kind of call. The others are slow.
OFTEN = [
    "init, S3",
    "sync, S3",
    "plan, S3",
    "failback-done, S3",
    "audit replica, S3",
    "audit source, S3",
    "stage, EC2",
    "failover, EC2",
    "drill --ec2, EC2",
    "vms, password",
    "doctor, password",
    "sync, hung 4 all",
    "apply, hung",
    "copy, hung",
    "audit repository, hung",
    "sync, extents",
    "config check, FIFO",
    "prune, FIFO",
    "audit verify-report",
    "recover check, reader",
    "drill, program",
    "failback-export, program",
    "sync, salt",
    "demo",
]


def campaign(name: str, world: World, count: int, seed: int) -> None:
    for turn, moment in enumerate(moments(seed, count)):
        chosen, number = case(name, world), SIGNALS[(seed + turn) % len(SIGNALS)]
        demand_ended(chosen, world.home, interrupted(chosen, world.home, moment, number))
    for folder in ("new", "other", "out", "followed"):
        subprocess.run(["rm", "-rf", world.home / folder, world.home / f"{folder}.warmspare"], check=True)


@pytest.mark.parametrize("name", OFTEN)
def test_at_a_moment(name: str, world: World) -> None:
    campaign(name, world, 1, NAMES.index(name) * 7 + 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_at_fifty_moments(name: str, world: World) -> None:
    campaign(name, world, 50, NAMES.index(name))
    world.rig.sync()
    world.rig.apply()
