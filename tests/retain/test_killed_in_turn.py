"""Sender, receiver, `prune` and audit, killed in turn at random moments of one repository's life, in which points are
made, folded and removed all the time: nothing that a kept point needs is lost, and each goes on."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from retain.clockwork import Clockwork
from rig import Rig, scribble
from rigs.host import forked
from rigs.stores.memory_store import MemoryStore
from rigs.stores.needed import Needs
from warmspare.model.ids import VmId

VICTIM = Path(__file__).with_name("later_victim.py")
ROUNDS = int(os.environ.get("WARMSPARE_KILL_ROUNDS", "100"))
STEP_S, GRACE = 1500.0, "2h"
RUN_S = 120
ACTORS = ("sync", "prune", "apply", "audit")


class World:
    """images: what the disk was at each point. moments: that each actor met when it last ran in peace."""

    def __init__(self, rig: Rig, patch: pytest.MonkeyPatch, seed: int) -> None:
        self.rig, self.rng, self.needs = rig, random.Random(seed), Needs(VmId(rig.vm))
        self.clock = Clockwork(Path(rig.repo), patch)
        self.images: dict[int, bytes] = {}
        self.moments: dict[str, list[str]] = {}

    def words(self, actor: str) -> list[object]:
        rig = self.rig
        chosen: dict[str, list[object]] = {
            "sync": ["sync", rig.disk, "--state", rig.state, "--level", "1"],
            "apply": ["apply", "--to", rig.replica],
            "audit": ["audit", "replica", "--replica", rig.replica],
            "prune": ["prune", "--keep-last", 2, "--keep-hourly", 4, "--grace", GRACE, "--yes"],
        }
        return [*chosen[actor], "--vm", rig.vm, "--repo", rig.repo, "--json"]

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        later = {"LATER_REPO": self.rig.repo, "LATER_S": str(self.clock.ahead_s)}
        done = forked.run(VICTIM, *words, env={**os.environ, **later}, timeout=RUN_S)
        self.clock.date()
        return done

    def in_peace(self, actor: str) -> None:
        out = self.rig.home / "moments"
        done = self.run("list", out, *self.words(actor))
        assert done.returncode == 0, f"{actor}: {done.stderr}"
        self.moments[actor] = out.read_text().splitlines()
        self.look()

    def killed(self, actor: str) -> bool:
        """At a random moment of its last run; whether that came again."""
        names = sorted(set(self.moments[actor]))
        name = self.rng.choice(names)
        ordinal = self.rng.randrange(self.moments[actor].count(name)) + 1
        done = self.run("kill", name, ordinal, *self.words(actor))
        assert done.returncode in (0, -9), f"{actor}, {name} #{ordinal}: {done.stderr}"
        self.look()
        return done.returncode == -9

    def look(self) -> list[int]:
        """All that kept points need is there; the kept points."""
        store = MemoryStore()
        root = Path(self.rig.repo)
        for path in (root / "vms").rglob("*"):
            if path.is_file():
                store.keep(str(path.relative_to(root)), path.read_bytes())
        kept = self.needs.demand(store)
        for number in kept:
            self.images.setdefault(number, self.rig.disk.read_bytes())
        return kept

    def turn(self, number: int) -> bool:
        """One of them is killed, and runs again. Whether it was."""
        actor = ACTORS[number % len(ACTORS)]
        if actor == "sync":
            scribble(self.rig.disk, self.rng, pieces=5)
        hit = self.killed(actor)
        self.in_peace(actor)
        if actor == "apply":
            assert self.rig.replica.read_bytes() == self.rig.disk.read_bytes()
        self.clock.pass_by(STEP_S)
        return hit

    def right(self) -> None:
        """Every kept point is what the disk was."""
        for number in self.look():
            target = self.rig.home / f"at-{number}.raw"
            self.rig.apply("--at", number, to=target)
            assert target.read_bytes() == self.images[number], number


def world(rig: Rig, patch: pytest.MonkeyPatch, seed: int) -> World:
    patch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    made = World(rig, patch, seed)
    for _ in range(6):
        scribble(rig.disk, made.rng, pieces=5)
        rig.sync()
        made.look()
        made.clock.pass_by(STEP_S)
    for actor in ("apply", "sync", "audit", "prune"):
        made.in_peace(actor)
    made.clock.pass_by(3 * 3600)
    return made


def test_killed_in_turn(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(rig, monkeypatch, 41)
    assert sum(made.turn(number) for number in range(8)) >= 5
    made.right()


@pytest.mark.slow
def test_killed_in_turn_for_long(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(rig, monkeypatch, 42)
    kills = 0
    number = 0
    while kills < ROUNDS:
        kills += made.turn(number)
        number += 1
        if number % 20 == 0:
            made.right()
    made.right()
    first = min(int(path.stem) for path in (rig.root / "points").glob("*.json"))
    print(f"{kills} kills; {max(made.images)} points, the first that is left is {first}")
    assert first > ROUNDS // 20, "hardly anything was removed"
