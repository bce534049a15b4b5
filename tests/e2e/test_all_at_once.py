"""Two senders of one VM, three receivers and a copy at one repository in S3, all at once: every state that anybody saw
is one that a sender published, and in the end the store holds what its points name and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rig import KIB, MIB, begun, command, made, python, random_disk, scribble
from rigs.host.hearing import heard
from servers import S3Place
from warmspare.format import restore_point
from warmspare.format.manifest import ManifestReader
from warmspare.store import layout
from warmspare.store.opening import open_store

VM = "vm"


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class World:
    """What goes on. published: point -> SHA-256 of the disk it was made of. seen: (who, point, SHA-256 of a replica).
    ended: (command, exit code) -> how often. Everybody works until `until`."""

    home: Path
    repo: str
    until: float
    published: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    ended: Counter[tuple[str, int]] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def run(self, *arguments: object, may: tuple[int, ...] = (0,)) -> dict[str, Any] | None:
        """A command in a process of its own; its last event, None unless it ended with 0."""
        done = subprocess.run(
            [python(), "-m", "warmspare", *map(str, arguments), "--json"], capture_output=True, text=True, timeout=240
        )
        self.ended[str(arguments[0]), done.returncode] += 1
        if done.returncode not in may:
            self.failed.append(f"{arguments}: {done.returncode} {done.stderr}")
        event: dict[str, Any] = heard(done.stdout.splitlines()[-1])
        return event if done.returncode == 0 else None

    def start(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        """On a thread of its own; what it raises is a failure of the test."""

        def guarded() -> None:
            try:
                work(*arguments)
            except Exception as error:
                self.failed.append(f"{work.__name__}{arguments}: {error!r}")

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    def send(self, name: str, seed: int) -> None:
        """A host with a disk and a state of its own."""
        rng, disk = random.Random(seed), self.home / f"{name}.raw"
        random_disk(disk, 16 * MIB, rng)
        while time.monotonic() < self.until:
            scribble(disk, rng, pieces=rng.randrange(1, 40), most=rng.choice([8 * KIB, 300 * KIB]))
            is_now = digest(disk)
            state = self.home / f"state-{name}"
            command = ["sync", f"disk={disk}", "--vm", VM, "--repo", self.repo, "--state", state]
            done = self.run(*command, may=(0, 6))
            if done is not None:
                assert done["event"] == "sync.done"
                self.published[done["point"]] = is_now

    def receive(self, name: str, anew: bool) -> None:
        number = 0
        while time.monotonic() < self.until:
            target = self.home / (f"{name}-{number}.raw" if anew else f"{name}.raw")
            done = self.run("apply", "--vm", VM, "--repo", self.repo, "--to", target)
            if done is not None:
                self.seen.append((name, done["point"], digest(target)))
            if anew:
                target.unlink()
                number += 1

    def copy(self, target: str) -> None:
        while time.monotonic() < self.until:
            self.run("copy", "--from", self.repo, "--to", target)


def all_at_once(home: Path, place: S3Place, seconds: float, seed: int, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "xdg"))
    rng = random.Random(seed)
    world = World(home, f"{place.uri}/a", 0.0)
    first = home / "first.raw"
    random_disk(first, 16 * MIB, rng)
    made(f"{place.uri}/b")
    new = begun(world.repo, VM)
    done = command("sync", f"disk={first}", "--vm", VM, "--repo", world.repo, "--state", home / "state-first", *new)
    world.published[done.last("sync.done")["point"]] = digest(first)
    world.until = time.monotonic() + seconds
    follow = ["apply", "--vm", VM, "--repo", world.repo, "--to", home / "follower.raw", "--follow", "--json"]
    with subprocess.Popen([python(), "-m", "warmspare", *map(str, follow)], stdout=subprocess.PIPE) as follower:
        lines: list[bytes] = []
        reader = threading.Thread(target=lambda: lines.extend(follower.stdout or []), daemon=True)
        reader.start()
        works = [
            world.start(world.send, "one", seed + 1),
            world.start(world.send, "two", seed + 2),
            world.start(world.receive, "steady", False),
            world.start(world.receive, "fresh", True),
            world.start(world.copy, f"{place.uri}/b"),
        ]
        for work in works:
            work.join()
        newest = max(world.published, key=lambda label: int(label.partition("-")[0]))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any(
            event["event"] == "apply.done" and event["point"] == newest for event in map(heard, list(lines))
        ):
            time.sleep(0.1)
        assert follower.poll() is None
        follower.terminate()
        assert follower.wait(30) == 130
        reader.join(10)
    world.seen.append(("follower", newest, digest(home / "follower.raw")))
    check(world, place, rng)
    print(f"\n{len(world.published)} points, {len(world.seen)} states seen; {dict(world.ended)}")
    return world


def check(world: World, place: S3Place, rng: random.Random) -> None:
    assert not world.failed, world.failed
    listed = command("points", "--repo", world.repo)
    assert {event["point"] for event in listed.all("point")} == set(world.published)
    for who, label, is_it in world.seen:
        assert world.published[label] == is_it, f"{who} at {label}"
    world.run("copy", "--from", world.repo, "--to", f"{place.uri}/b")
    for repo in (world.repo, f"{place.uri}/b"):
        for label in rng.sample(sorted(world.published), min(4, len(world.published))):
            target = world.home / f"{repo.rpartition('/')[2]}-{label}.raw"
            done = command("apply", "--vm", VM, "--repo", repo, "--to", target, "--at", label)
            assert done.code == 0 and digest(target) == world.published[label], (repo, label)
        asyncio.run(holds_what_is_named(repo))
    assert not world.failed, world.failed


async def holds_what_is_named(repo: str) -> None:
    """Packs and manifests; no upload is open."""
    store = open_store(repo)
    try:
        there = {info.key async for info in store.list(layout.vm_prefix(VM))}
        named = set()
        for key in [key for key in there if "/points/" in key]:
            for disk in restore_point.decode(await store.get(key), key).disks:
                named.add(disk.manifest.key)
                data = await store.get(disk.manifest.key)
                packs = ManifestReader(lambda at, size, data=data: data[at : at + size], len(data), "here").packs
                named |= {layout.pack_key(VM, pack.id) for pack in packs}
        kept = {key for key in there if "/packs/" in key or "/manifests/" in key}
        assert kept == named, kept ^ named
        assert await store.stale_uploads("") == []
    finally:
        await store.close()


def test_all_at_once(tmp_path: Path, seaweed_place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    world = all_at_once(tmp_path, seaweed_place, 8, 31, monkeypatch)
    assert len(world.published) >= 2 and len(world.seen) >= 3


@pytest.mark.slow
def test_all_at_once_for_ten_minutes(tmp_path: Path, seaweed_place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    world = all_at_once(tmp_path, seaweed_place, 600, 32, monkeypatch)
    assert len(world.published) >= 50 and len(world.seen) >= 50
    assert world.ended["sync", 6], "the two senders never met"
