"""`max_snapshot_age` at a whole site: no snapshot gets much older, and what is published is the last one, whatever
happens to the VM between two of them and whenever the sender is killed."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fakesite import Files
from rig import KIB, MIB, Outcome, command
from rigs.host.forked import Forked
from rigs.sites.fakevm import FakeVm
from siterig import SiteRig, site_rig

ROUNDS = int(os.environ.get("WARMSPARE_PASS_KILLS", "0")) or 60
START, RENEWED = b'"sync.start"', b'"sync.snapshot_renewed"'
TOO_FAST = "the VM changes faster"


def bounded(rig: SiteRig, age_s: int, latency_ms: int, *sizes: int) -> FakeVm:
    """A VM full of data, with a bound for its snapshots. Reading takes latency_ms for each eight megabytes."""
    vm = rig.add("dc02", list(sizes))
    rng = random.Random(8)
    for disk in vm.disks:
        vm.write(disk, 0, rng.randbytes(disk.capacity))
    text = rig.config.read_text()
    rig.config.write_text(text.replace("[defaults]", f'[defaults]\nmax_snapshot_age = "{age_s}s"'))
    rig.standin.script(f"latency {latency_ms}")
    return vm


def between(rig: SiteRig, happens: Callable[[int], object]) -> None:
    """Have something happen each time that a snapshot is gone; told how many are."""
    count = [0]

    def removed(_: Files) -> None:
        count[0] += 1
        happens(count[0])

    rig.site.on_removed = removed


def lives(rig: SiteRig) -> dict[str, float]:
    """How long each snapshot lived, as vCenter saw it: from the end of its task to the call that removed it."""
    made = {task["result"]: task["at_s"] for task in rig.site.journal("task", "CreateSnapshot_Task")}
    removed = {call["object"]: call["at_s"] for call in rig.site.journal("call", "RemoveSnapshot_Task")}
    return {moref: round(removed[moref] - at, 3) for moref, at in made.items() if moref in removed}


def test_no_snapshot_gets_older(tmp_path: Path) -> None:
    with site_rig(tmp_path) as rig:
        vm = bounded(rig, 2, 900, 30 * MIB, 5 * MIB + 512)
        rng = random.Random(1)
        between(rig, lambda number: vm.scribble(rng, pieces=3) if number < 4 else None)
        done = rig.sync("dc02", more=("--limit", "80mbit"))
        renewed = done.all("sync.snapshot_renewed")
        assert len(vm.taken) == len(renewed) + 1 >= 3 and not rig.clean(vm)
        held = lives(rig)
        print(held, [event["seconds"] for event in renewed])
        assert set(held) == set(vm.taken)
        # Beyond the age: the reads that are under way, and ending the reader. Without it: all of the reading, and each
        # snapshot is let go before the next is there.
        assert max(held.values()) < sum(held.values()) / 2, held
        rig.check(vm)
        assert not done.all("finding") and done.last("sync.done")["findings"] == 0
        assert rig.point(vm).hardware["run"], "the last snapshot's hardware is published"
        size = sum(disk.capacity for disk in vm.disks)
        assert done.last("sync.done")["bytes_sent"] < 1.15 * size
        rig.standin.script("")
        again = rig.sync("dc02")
        assert not any(event["reason"] for event in again.all("disk.start")), "the chain of change IDs is broken"
        rig.check(vm)


@pytest.mark.parametrize("what", ["grown", "tracking", "reverted"])
def test_between_two_snapshots(tmp_path: Path, what: str) -> None:
    with site_rig(tmp_path) as rig:
        vm = bounded(rig, 2, 900, 25 * MIB)
        theirs = vm.foreign_snapshot() if what == "reverted" else ""
        if theirs:
            vm.write(0, 0, b"after their snapshot" * 9999)
        disk = vm.disks[0]

        def happens(number: int) -> None:
            if number > 1:
                rig.standin.script("")  # vCenter's clock need not be ours: a revert counts for a minute
            elif what == "grown":
                vm.grow(disk, 31 * MIB)
                vm.write(disk, 30 * MIB, b"new")
            elif what == "tracking":
                vm.write(disk, 100, b"lost by the tracking")
                vm.reset_tracking()
            else:
                with rig.site.changing():
                    vm.told({"event": "revert", "snapshot": theirs})

        between(rig, happens)
        done = rig.sync("dc02")
        assert done.all("sync.snapshot_renewed") and rig.clean(vm) == [theirs] * bool(theirs)
        assert not done.all("finding")
        why = {"grown": "its capacity went from", "tracking": "began anew", "reverted": "was reverted"}[what]
        assert any(why in event["reason"] for event in done.all("disk.start"))
        size = disk.capacity
        assert done.last("sync.done")["bytes_sent"] < 1.1 * size, "what was sent and is the same was sent again"
        rig.check(vm)


def synced(rig: SiteRig, met: Counter[str]) -> Outcome:
    """A sync that came to its end. On a busy machine a pass may read less than the guest writes meanwhile; it says so,
    and is run again at a quieter time and without the bound, as it says."""
    outcome = command("sync", "--config", rig.config, "--vm", "dc02")
    rig.standin.check()
    if outcome.code == 3:
        assert TOO_FAST in outcome.last("error")["message"]
        met["changed too fast"] += 1
        rig.standin.script("")
        writes, rig.site.on_removed = rig.site.on_removed, lambda _: None
        bounded_to = rig.config.read_text()
        rig.config.write_text(re.sub(r"max_snapshot_age.*\n", "", bounded_to))
        outcome = rig.sync("dc02")
        rig.config.write_text(bounded_to)
        rig.site.on_removed = writes
    assert outcome.code == 0, outcome
    return outcome


def campaign(home: Path, seed: int, rounds: int) -> Counter[str]:
    """Kill a sync in passes, let the guest write, run again; what was met at the moments of the kills."""
    rng, met = random.Random(seed), Counter[str]()
    with site_rig(home, granularity=256 * KIB) as rig:
        vm = bounded(rig, 1, 400, 9 * MIB, 3 * MIB + 512)
        between(rig, lambda _: vm.scribble(rng, pieces=4) if rng.random() < 0.5 else None)
        words = ["-m", "warmspare", "sync", "--config", rig.config, "--vm", "dc02", "--json"]
        for number in range(rounds):
            rig.standin.script("latency 400")
            for disk in vm.disks:
                vm.write(disk, 0, rng.randbytes(disk.capacity))
            before = rig.sequences(vm)
            reading, writing = os.pipe()
            victim = Forked(*words, stdout=writing)
            os.close(writing)
            with open(reading, "rb") as stdout:
                least, said = rng.choice([0, 0, 1, 1, 1, 2]), b""
                while line := stdout.readline():  # up to a pass, then a moment in it or after it
                    said += line
                    if START in said and said.count(RENEWED) >= least:
                        break
                time.sleep(rng.uniform(0.0, 1.5))
                victim.kill()
                rest = stdout.read()
            code, errors = victim.wait(), victim.so_far(2).decode()
            assert START in said and code in (-signal.SIGKILL, 0, 3), (number, code, said, errors)
            assert code != 3 or TOO_FAST in errors, (number, errors)
            passes = (said + rest).count(RENEWED)
            published = rig.sequences(vm) != before
            assert published or code, (number, said + rest)
            ended = "after publication" if published else "changed too fast, before the kill" if code == 3 else ""
            met[ended or f"in pass {min(passes + 1, 3)}"] += 1
            while rig.site.state()[vm.moref]["busy"]:  # what it had asked for goes on without it
                time.sleep(0.01)
            vm.scribble(rng, pieces=6)
            if rng.random() < 0.7:
                rig.standin.script("")
            done = synced(rig, met)
            met["rerun in passes"] += bool(done.all("sync.snapshot_renewed"))
            assert not rig.clean(vm), f"round {number}: a snapshot is left"
            assert not done.all("finding")
            rig.check(vm)
            assert not [path for path in (home / "state").rglob("*") if path.name in ("carried", "unfinished")]
    print(dict(met))
    return met


def test_killed_at_random_moments(tmp_path: Path) -> None:
    met = campaign(tmp_path, 61, 10)
    assert met["in pass 1"] + met["in pass 2"] + met["in pass 3"] >= 5, met
    assert met["in pass 2"] + met["in pass 3"], met


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_many_moments(tmp_path: Path) -> None:
    met = campaign(tmp_path, 62, ROUNDS)
    assert met["in pass 2"] and met["in pass 1"] and met["rerun in passes"], met
