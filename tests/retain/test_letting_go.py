"""`prune` by a policy: what goes, what stays and why, and when what it was made of is removed."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest

import warmspare.retain.removal
import warmspare.retain.vm_standing
from retain.clockwork import Clockwork
from rig import Outcome, Rig, command, flip, scribble
from warmspare.model.ids import VmId
from warmspare.repository import failover_record
from warmspare.repository.failover_record import FailoverRecord
from warmspare.store import layout

HOUR_S, DAY_S = 3600.0, 86400.0


@pytest.fixture
def old(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    return rig


@pytest.fixture
def clock(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    return Clockwork(Path(rig.repo), monkeypatch)


def past(rig: Rig, clock: Clockwork, count: int, seed: int = 5) -> dict[int, bytes]:
    """A point every quarter of an hour; what the disk was at each."""
    rng, images = random.Random(seed), {}
    for _ in range(count):
        scribble(rig.disk, rng, pieces=6)
        sequence = rig.sync().last("sync.done")["sequence"]
        images[sequence] = rig.disk.read_bytes()
        clock.pass_by(900)
    return images


def prune(rig: Rig, *more: object, code: int = 0) -> Outcome:
    done = command("prune", "--repo", rig.repo, *more)
    assert done.code == code, done
    return done


def points(rig: Rig) -> list[int]:
    return sorted(int(path.stem) for path in (rig.root / "points").glob("*.json"))


def test_it_is_said_first_and_done_with_yes(old: Rig, clock: Clockwork) -> None:
    images = past(old, clock, 8)
    old.apply("--at", 3)
    before = old.snapshot()
    said = prune(old, "--keep-last", 3)
    assert old.snapshot() == before, "done without --yes"
    stays = {each["sequence"]: each["reasons"] for each in said.all("prune.point") if not each["goes"]}
    assert stays == {6: ["last 3"], 7: ["last 2"], 8: ["last 1", "newest"]}
    look = said.last("prune.folds")
    assert (look["goes"], look["done"], look["folds"]) == (5, False, 1)

    done = prune(old, "--keep-last", 3, "--yes")
    assert done.last("prune.done")["points"] == 5
    assert points(old) == list(range(1, 9)), "something was removed in the grace time"
    assert before.items() <= old.snapshot().items() or set(before) <= set(old.snapshot())
    again = prune(old, "--keep-last", 3, "--yes").last("prune.done")
    assert (again["points"], again["objects"]) == (0, 0)

    clock.pass_by(25 * HOUR_S)
    size = sum(path.stat().st_size for path in Path(old.repo).rglob("*") if path.is_file())
    last = prune(old, "--keep-last", 3, "--yes").last("prune.done")
    assert last["objects"] > 5 and points(old) == [6, 7, 8]
    left = sum(path.stat().st_size for path in Path(old.repo).rglob("*") if path.is_file())
    assert size - left == last["bytes"] > 0
    assert not command("audit", "repository", "--repo", old.repo, "--deep").all("finding")
    for number in (6, 7, 8):
        old.apply("--at", number, to=old.home / f"at-{number}.raw")
        assert (old.home / f"at-{number}.raw").read_bytes() == images[number]
    old.apply()
    assert old.replica.read_bytes() == images[8]


def test_without_a_policy_nothing_goes(old: Rig, clock: Clockwork) -> None:
    past(old, clock, 3)
    done = prune(old, "--yes")
    assert not done.all("prune.point") and points(old) == [1, 2, 3]
    assert prune(old, "--yes", "--keep-last", 0).all("prune.refused")
    assert points(old) == [1, 2, 3]


def test_the_grace_time_counts_from_each_record(old: Rig, clock: Clockwork) -> None:
    """Points that were let go lately stay, beside those of before that are removed."""
    past(old, clock, 6)
    prune(old, "--keep-last", 4, "--yes")
    clock.pass_by(20 * HOUR_S)
    past(old, clock, 2, seed=9)
    prune(old, "--keep-last", 2, "--yes")
    clock.pass_by(20 * HOUR_S)
    prune(old, "--keep-last", 2, "--yes")
    assert points(old) == [3, 4, 5, 6, 7, 8]
    clock.pass_by(20 * HOUR_S)
    prune(old, "--keep-last", 2, "--yes")
    assert points(old) == [7, 8]
    assert len(list((old.root / "retention").iterdir())) == 1
    assert not command("audit", "repository", "--repo", old.repo, "--deep").all("finding")


@pytest.mark.parametrize("which", ["store", "host"])
def test_one_clock_that_jumps_removes_nothing(
    old: Rig, clock: Clockwork, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    past(old, clock, 4)
    prune(old, "--keep-last", 1, "--yes")
    clock.date()
    if which == "host":
        ahead_s = clock.ahead_s + 40 * DAY_S
        monkeypatch.setattr(warmspare.retain.vm_standing, "host_now_s", lambda: time.time() + ahead_s)
    else:
        (record,) = (old.root / "retention").iterdir()
        os.utime(record, (record.stat().st_mtime - 40 * DAY_S,) * 2)
    prune(old, "--keep-last", 1, "--yes")
    assert points(old) == [1, 2, 3, 4]


def test_what_is_failed_over_keeps_everything(old: Rig, clock: Clockwork) -> None:
    past(old, clock, 4)
    over = FailoverRecord(
        1, 0, VmId("vm"), "0" * 32, "started", 2, "0" * 64, "eu-west-1", "register-image", clock.text()
    )
    (Path(old.repo) / layout.failover_key(old.vm)).write_bytes(failover_record.encode(over))
    done = prune(old, "--keep-last", 1, "--yes")
    assert "failed over" in done.last("prune.refused")["message"]
    assert not list(old.root.glob("retention/*"))


def test_damage_lets_nothing_go(old: Rig, clock: Clockwork) -> None:
    past(old, clock, 5)
    flip(sorted(old.root.glob("manifests/*/*"))[1], 100)
    refused = prune(old, "--keep-last", 1, "--yes", code=5)
    assert "nothing of VM 'vm' is removed" in refused.stderr
    assert not list(old.root.glob("retention/*"))


def test_beside_a_sync(old: Rig, clock: Clockwork) -> None:
    """Points go while a sync holds the VM's lease; two that let points go exclude each other."""
    past(old, clock, 5)
    lease = Path(old.repo) / layout.lease_key(old.vm)
    boot = json.loads(lease.read_text())["boot_id"]
    lease.write_text(lease.read_text().replace('"free": true', '"free": false').replace(boot, "another"))
    clock.date()
    prune(old, "--keep-last", 2, "--yes")
    assert len(list(old.root.glob("retention/*"))) == 1
    other = Path(old.repo) / layout.prune_lease_key(old.vm)
    other.write_text(lease.read_text())
    clock.date()
    assert "holds the lease" in prune(old, "--keep-last", 1, "--yes", code=6).stderr


@pytest.mark.parametrize("before", ["standing", "refreshed", "NeededObjects", "inventories"])
def test_a_sync_over_a_thin_line_publishes_meanwhile(
    old: Rig, clock: Clockwork, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """What it put there is older than the grace time, and its record comes when some was looked at already."""
    images = past(old, clock, 3)
    prune(old, "--keep-last", 2, "--yes")
    clock.pass_by(5 * HOUR_S)
    scribble(old.disk, random.Random(3), pieces=6)
    old.sync()
    clock.date()
    record = old.root / "points" / "0000000004.json"
    aside = old.home / "not-yet"
    record.rename(aside)
    clock.pass_by(35 * HOUR_S)
    really = getattr(warmspare.retain.removal, before)

    def publish() -> None:
        if aside.exists():
            shutil.copyfile(aside, record)
            aside.unlink()
            clock.date()

    def meanwhile(*arguments: object) -> object:
        publish()
        return really(*arguments)

    if before == "inventories":
        take = really.take

        async def taken(*arguments: object) -> object:
            publish()
            return await take(*arguments)

        monkeypatch.setattr(really, "take", taken)
    else:
        monkeypatch.setattr(warmspare.retain.removal, before, meanwhile)
    prune(old, "--keep-last", 2, "--yes")
    assert not aside.exists() and points(old)[-1] == 4
    assert not command("audit", "repository", "--repo", old.repo, "--deep").all("finding")
    old.apply()
    assert old.replica.read_bytes() == old.disk.read_bytes() != images[3]


def test_the_configuration_says_of_whom(old: Rig, clock: Clockwork) -> None:
    past(old, clock, 4)
    config = old.home / "warmspare.toml"
    config.write_text(
        '[vcenter.dc]\nhost = "vc.example.com"\nuser = "u"\npassword = {env = "PW"}\nthumbprint = "'
        + ":".join(["AA"] * 32)
        + f'"\nvddk = "/opt/vddk"\n[repository.r]\nuri = "{old.repo}"\n'
        '[defaults]\nkeep_last = 2\n[vm.other]\nname = "other"\n'
    )
    left = prune(old, "--config", config, "--yes")
    assert not left.all("prune.point") and not list(old.root.glob("retention/*")), "a VM that it does not have"
    config.write_text(config.read_text().replace("other", "vm"))
    done = prune(old, "--config", config, "--yes")
    assert [each["sequence"] for each in done.all("prune.point") if each["goes"]] == [1, 2]


def test_too_short_a_grace_time(old: Rig, clock: Clockwork) -> None:
    past(old, clock, 2)
    assert "grace" in prune(old, "--keep-last", 1, "--grace", "5m", code=2).stderr


def test_a_disk_that_left_and_came_back(old: Rig, clock: Clockwork) -> None:
    second = old.home / "second.raw"
    rng = random.Random(4)
    second.write_bytes(rng.randbytes(1 << 20))
    both: list[object] = [old.disk, second]
    for number in range(7):
        if number in (3, 4):
            old.sync(disks=[old.disk], code=7 if number == 3 else 0)
        else:
            scribble(second, rng, pieces=2)
            if number == 5:
                second.write_bytes(bytes(1 << 19) + rng.randbytes(1 << 19))
            old.sync(disks=both)
        clock.pass_by(900)
    old.apply("--at", 2, to=old.home / "early")
    (old.home / "without").mkdir()
    old.apply("--at", 4, to=old.home / "without")
    prune(old, "--keep-last", 1, "--yes")
    clock.pass_by(25 * HOUR_S)
    prune(old, "--keep-last", 1, "--yes")
    assert points(old) == [7]
    for name in ("early", "without", "new"):
        outcome = command("apply", "--vm", old.vm, "--repo", old.repo, "--to", old.home / name)
        assert outcome.code == 0, outcome
    assert (old.home / "early" / "second.raw").read_bytes() == second.read_bytes()
    assert (old.home / "new" / "second.raw").read_bytes() == second.read_bytes()
    assert not command("audit", "repository", "--repo", old.repo, "--deep").all("finding")
