"""kill -9 of a sync of a VM at random moments, and two schedulers at once: the VM is left clean, no change missed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from rig import KIB, MIB
from rigs.host.forked import Forked
from siterig import SiteRig, site_rig

ROUNDS = int(os.environ.get("WARMSPARE_SITE_KILLS", "0")) or 100


def start(rig: SiteRig, name: str) -> Forked:
    return Forked("-m", "warmspare", "sync", "--config", rig.config, "--vm", name, "--json")


def campaign(home: Path, seed: int, rounds: int) -> Counter[str]:
    """Kill, let the guest write, run again; what was met at the moments of the kills."""
    rng, met = random.Random(seed), Counter[str]()
    with site_rig(home, granularity=256 * KIB) as rig:
        vm = rig.add("dc02", [20 * MIB, 9 * MIB + 512])
        vm.scribble(rng, pieces=60, most=500 * KIB)
        foreign = vm.foreign_snapshot()
        rig.sync("dc02")
        rig.standin.script("latency 10")  # so that there is something to be killed in
        for _ in range(2):  # the first waits until the server of forks has loaded the program
            vm.scribble(rng, pieces=10)
            began = time.monotonic()
            assert start(rig, "dc02").wait(240) == 0
        whole_s = time.monotonic() - began
        print(f"{whole_s:.1f} s in peace")
        for number in range(rounds):
            vm.scribble(rng, pieces=10)
            before = rig.sequences(vm)
            victim = start(rig, "dc02")
            time.sleep(rng.uniform(0.3, 1.1) * whole_s)
            victim.kill()
            _, errors = victim.communicate()
            assert victim.returncode in (-signal.SIGKILL, 0), (number, victim.returncode, errors.decode())
            while rig.site.state()[vm.moref]["busy"]:  # what it had asked for goes on without it
                time.sleep(0.01)
            ours = [moref for moref in rig.clean(vm) if moref != foreign]
            published = rig.sequences(vm) != before
            met["with a snapshot of ours" if ours else "after publication" if published else "without a snapshot"] += 1
            met["killed"] += victim.returncode != 0
            vm.scribble(rng, pieces=10)
            done = rig.sync("dc02")
            what = f"round {number}: {ours} {published} {done.events}"
            assert rig.clean(vm) == [foreign], f"a snapshot is left, or a foreign one gone: {what}"
            removed = {e["snapshot"] for e in done.all("snapshot.removed") if e.get("leftover")}
            assert removed >= set(ours), what  # more, where one was still being taken when its asker died
            rig.check(vm)
        for sequence in rig.sequences(vm)[-3:]:
            assert rig.point(vm, sequence).sequence == sequence
    print(dict(met))
    return met


def test_killed_at_random_moments(tmp_path: Path) -> None:
    met = campaign(tmp_path, 51, 10)
    assert met["killed"] >= 5 and met["with a snapshot of ours"], met


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_a_hundred_moments(tmp_path: Path) -> None:
    met = campaign(tmp_path, 52, ROUNDS)
    assert met["with a snapshot of ours"] >= ROUNDS / 10 and len(met) == 4, met


def test_two_schedulers_at_once(tmp_path: Path) -> None:
    rng = random.Random(1)
    with site_rig(tmp_path) as rig:
        vm = rig.add("dc02", [20 * MIB])
        vm.scribble(rng, pieces=60)
        for _ in range(3):
            rig.standin.script("latency 4000")  # so that neither is done before the other begins
            both = [start(rig, "dc02") for _ in range(2)]
            while all(process.poll() is None for process in both):
                time.sleep(0.02)
            rig.standin.script("")
            said = [process.communicate(timeout=120) for process in both]
            codes = sorted(process.returncode for process in both)
            assert codes == [0, 6], [err for _, err in said]
            assert not rig.clean(vm)
            rig.check(vm)
            vm.scribble(rng, pieces=10)
        assert len(vm.taken) == len(rig.sequences(vm)) == 3
