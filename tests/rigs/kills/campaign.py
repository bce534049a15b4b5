"""The kill campaigns: worlds to kill in, moments to kill at, and what must hold afterwards."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rig import MIB, Rig, fingerprint, random_disk, same, scribble
from rigs.host import forked
from rigs.host.hearing import all_heard
from rigs.kills import SPRUNG
from warmspare.format.manifest import ManifestReader
from warmspare.model.keyparts import encode_name
from warmspare.store import layout

SEALED = ("after Journal.seal", 1)  # all of a run is there but its publication
VICTIM = Path(__file__).with_name("victim.py")
RUN_S = 120


def copy(source: Path, target: Path) -> None:
    """A world, sparse files and all."""
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)


def victim(*arguments: object) -> subprocess.CompletedProcess[str]:
    return forked.run(VICTIM, *arguments, timeout=RUN_S)


def plain(*command: object) -> subprocess.CompletedProcess[str]:
    """The command with no trap."""
    return forked.run("-m", "warmspare", *command, timeout=RUN_S)


def choose(moments: list[str], rng: random.Random, rounds: int | None) -> list[tuple[str, int]]:
    """(name, ordinal) to strike at. None: each name at its first, its last and one between. A number: that many,
    of as many names as there are."""
    met = Counter(moments)
    names = sorted(met)
    if rounds is None:
        return sorted({(n, o) for n in names for o in (1, met[n], rng.randrange(1, met[n] + 1))})
    picked: list[tuple[str, int]] = []
    while len(picked) < rounds:
        round_names = names[:]
        rng.shuffle(round_names)
        picked += [(n, rng.randrange(1, met[n] + 1)) for n in round_names[: rounds - len(picked)]]
    return picked


@dataclass
class Report:
    """hits: kills by moment. unmet: moments that did not come again (threads make some vary)."""

    hits: Counter[str] = field(default_factory=Counter)
    unmet: Counter[str] = field(default_factory=Counter)

    def table(self) -> str:
        rows = [f"{count:6d}  {name}" for name, count in sorted(self.hits.items())]
        total = sum(self.hits.values())
        tail = f"{total:6d}  in all, at {len(self.hits)} different moments; {sum(self.unmet.values())} did not come"
        return "\n".join([*rows, tail])


class SenderWorld:
    """A VM with one restore point, a disk that changed since, and a receiver that is up to date. spooled: whether packs
    go through a spool."""

    def __init__(self, home: Path, seed: int, *, spooled: bool = False) -> None:
        self.spooled = spooled
        self.home, rng = home, random.Random(seed)
        self.base = home / "base"
        self.base.mkdir(parents=True)
        rig = Rig(self.base)
        random_disk(rig.disk, 10 * MIB, rng, pieces=50)
        rig.sync()
        rig.apply()
        with rig.disk.open("r+b") as file:  # grown, with data, zeroed stretches and a short end
            file.truncate(12 * MIB + 777)
            file.seek(2 * MIB)
            file.write(bytes(MIB))
            file.seek(6 * MIB)
            file.write(rng.randbytes(3 * MIB))
        scribble(rig.disk, rng)
        self.disk = home / "disk-now"
        shutil.copy(rig.disk, self.disk)

    def command(self, rig: Rig) -> list[object]:
        more = ["--spool", rig.home / "spool"] if self.spooled else []
        return [
            "sync",
            rig.disk,
            "--vm",
            rig.vm,
            "--repo",
            rig.repo,
            "--state",
            rig.state,
            "--level",
            "1",
            "--json",
            *more,
        ]

    def moments(self) -> list[str]:
        home = self.home / "listing"
        copy(self.base, home)
        out = self.home / "moments"
        done = victim("list", out, *self.command(Rig(home)))
        assert done.returncode == 0, done.stderr
        shutil.rmtree(home)
        return out.read_text().splitlines()

    def strike(self, act: str, name: str, ordinal: int) -> bool:
        """One round. False if the moment did not come. AssertionError if anything is wrong afterwards."""
        home = self.home / "round"
        copy(self.base, home)
        rig = Rig(home)
        before = rig.snapshot()
        done = victim(act, name, ordinal, *self.command(rig))
        what = f"{act} {name} #{ordinal}: {done.returncode} {done.stderr[-800:]}"
        if act == "kill":
            assert done.returncode in (-9, 0), what
        else:
            assert done.returncode in (0, 4), what
            assert "Traceback" not in done.stderr, what
        after = rig.snapshot()
        assert all(after.get(key) == digest for key, digest in before.items()), f"something published is lost: {what}"
        visible = sorted(p.name for p in rig.objects("points"))
        assert visible[0] == "0000000001.json" and len(visible) <= 2, what
        rig.apply()  # what is visible is right
        assert same(rig.replica, self.disk if len(visible) == 2 else Path(home / "disk-one")), what
        again = plain(*self.command(rig))
        assert again.returncode == 0, f"{what}\nthe next run: {again.stderr}"
        told = all_heard(again.stdout)
        completed = any(event["event"] == "sync.completing" for event in told)
        assert not completed or len(visible) == 1, what
        assert int(told[-1]["point"].split("-")[0]) == len(visible) + completed + 1, what
        rig.apply()
        assert same(rig.replica, self.disk), what
        rig.apply(to=home / "fresh.raw")
        assert same(home / "fresh.raw", self.disk), what
        self.nothing_left(rig, what)
        shutil.rmtree(home)
        return done.returncode == -9 if act == "kill" else SPRUNG in done.stderr

    def completing(self) -> list[tuple[str, int]]:
        """Every moment at which a run completes the one before, which was killed at SEALED; with ordinals."""
        home = self.home / "completing"
        copy(self.base, home)
        out = self.home / "completing-moments"
        killed = victim("kill", *SEALED, *self.command(Rig(home)))
        assert killed.returncode == -9, killed.stderr
        done = victim("list", out, *self.command(Rig(home)))
        assert done.returncode == 0, done.stderr
        shutil.rmtree(home)
        moments, met, numbered = out.read_text().splitlines(), Counter[str](), list[tuple[str, int]]()
        for name in moments:
            met[name] += 1
            numbered.append((name, met[name]))
        return numbered[moments.index("before LastRun.complete") : moments.index("after LastRun.complete") + 1]

    def ordeal(self, rng: random.Random, places: Iterable[tuple[str, int]]) -> int:
        """Killed several times over, at these moments, the disk changing between; then one run in peace. How often it
        was killed."""
        home = self.home / "ordeal"
        copy(self.base, home)
        rig, kills, story = Rig(home), 0, []
        for name, ordinal in places:
            done = victim("kill", name, ordinal, *self.command(rig))
            story.append(f"{name} #{ordinal}: {done.returncode}")
            assert done.returncode in (-9, 0), f"{story} {done.stderr[-800:]}"
            kills += done.returncode == -9
            if rng.random() < 0.7:
                scribble(rig.disk, rng, pieces=6)
        again = plain(*self.command(rig))
        assert again.returncode == 0, f"{story}\nthe run in peace: {again.stderr}"
        rig.apply()
        assert same(rig.replica, rig.disk), story
        rig.apply(to=home / "fresh.raw")
        assert same(home / "fresh.raw", rig.disk), story
        rig.apply("--at", 1, to=home / "first.raw")
        assert same(home / "first.raw", home / "disk-one"), story
        self.nothing_left(rig, str(story))
        shutil.rmtree(home)
        return kills

    def nothing_left(self, rig: Rig, what: str) -> None:
        """Every object belongs to a published point, by name; no upload was left; the journal is empty."""
        points = [rig.point(n) for n in range(1, len(rig.objects("points")) + 1)]
        named = set()
        for disk in [disk for record in points for disk in record.disks]:
            named |= {disk.manifest.key, *([disk.checkpoint.table.key] if disk.checkpoint else [])}
            data = (Path(rig.repo) / disk.manifest.key).read_bytes()
            packs = ManifestReader(lambda at, size, data=data: data[at : at + size], len(data), "here").packs
            named |= {layout.pack_key(encode_name(rig.vm), pack.id) for pack in packs}
        there = {str(p.relative_to(rig.repo)) for kind in ("packs", "manifests", "tables") for p in rig.objects(kind)}
        assert there == named, f"{there ^ named} was left behind, or is missing: {what}"
        assert not list(rig.state.rglob("unfinished")), what
        # Staged leases and records, a few hundred bytes each, are nobody's: they go when they are hours old.
        staged = [p for p in Path(rig.repo).rglob("*") if p.is_file() and ".tmp~" in p.parts]
        temporary = [p for p in staged if {"packs", "manifests", "tables"} & set(p.parts)]
        assert not temporary, f"{temporary}: {what}"
        assert not list(rig.state.rglob("run.json")), what
        waiting = [path for path in (rig.home / "spool").rglob("*") if path.is_file() and "packs" in path.parts]
        assert not waiting, f"{waiting} waits in the spool: {what}"


class ReceiverWorld:
    """Three restore points and a replica: at the first with one rotten block that the next touches, or none yet."""

    def __init__(self, home: Path, seed: int, *, fresh: bool) -> None:
        self.home, rng = home, random.Random(seed)
        self.base = home / "base"
        self.base.mkdir(parents=True)
        rig = Rig(self.base)
        random_disk(rig.disk, 8 * MIB, rng, pieces=40)
        self.was: list[Path] = []
        for number in range(3):
            rig.sync("--level", "1")
            self.was.append(home / f"was-{number + 1}")
            shutil.copy(rig.disk, self.was[-1])
            if number == 0 and not fresh:
                rig.apply()
            with rig.disk.open("r+b") as file:
                file.truncate(rig.disk.stat().st_size + 70000)
                file.seek((number + 1) * MIB)
                file.write(bytes(400_000))
                file.seek(5 * MIB)
                file.write(rng.randbytes(4096))
            scribble(rig.disk, rng)
        if not fresh:
            with rig.replica.open("r+b") as file:
                file.seek(5 * MIB + 20000)
                file.write(b"rot" * 50)

    def command(self, rig: Rig) -> list[object]:
        return ["apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica, "--json"]

    def moments(self) -> list[str]:
        home = self.home / "listing"
        copy(self.base, home)
        out = self.home / "moments"
        done = victim("list", out, *self.command(Rig(home)))
        assert done.returncode == 0, done.stderr
        assert same(home / "replica.raw", self.was[-1])
        shutil.rmtree(home)
        return out.read_text().splitlines()

    def strike(self, act: str, name: str, ordinal: int) -> bool:
        """One round. False if the moment did not come. AssertionError if anything is wrong afterwards."""
        home = self.home / "round"
        copy(self.base, home)
        rig = Rig(home)
        repository = fingerprint(Path(rig.repo))
        done = victim(act, name, ordinal, *self.command(rig))
        what = f"{act} {name} #{ordinal}: {done.returncode} {done.stderr[-800:]}"
        assert done.returncode in ((-9, 0) if act == "kill" else (0, 4)), what
        assert "Traceback" not in done.stderr, what
        self.claims(rig, what)
        again = plain(*self.command(rig))
        assert again.returncode == 0, f"{what}\nthe next run: {again.stderr}"
        assert same(rig.replica, self.was[-1]), what
        self.claims(rig, what)
        assert fingerprint(Path(rig.repo)) == repository, f"a receiver wrote to the repository: {what}"
        shutil.rmtree(home)
        return done.returncode == -9 if act == "kill" else SPRUNG in done.stderr

    def claims(self, rig: Rig, what: str) -> None:
        """What the record says of the replica is so: at a point and moving to none, all but the blocks it calls
        damaged are that point's (and the rotten block, which nobody has looked at before point 2)."""
        path = Path(f"{rig.replica}.warmspare/replica.json")
        if not path.exists():
            return
        record = json.loads(path.read_text().partition("\n")[2])
        if record["moving"] is not None or record["at"] is None:
            return
        truth, held = self.was[record["at"]["sequence"] - 1].read_bytes(), rig.replica.read_bytes()
        assert len(truth) == len(held), what
        excused = {
            block
            for disk in record["disks"]
            for start, count in disk["damaged"]
            for block in range(start, start + count)
        }
        if record["at"]["sequence"] == 1:
            excused.add(5 * 16)
        wrong = {at // 65536 for at in range(0, len(truth), 65536) if truth[at : at + 65536] != held[at : at + 65536]}
        assert wrong <= excused, f"blocks {wrong - excused} are not what the record says: {what}"


def run(
    world: SenderWorld | ReceiverWorld, rng: random.Random, rounds: int | None, *, act: str = "kill", only: str = ""
) -> Report:
    """Strike at chosen moments (those that start with `only`)."""
    report = Report()
    moments = [m for m in world.moments() if m.startswith(only)]
    for name, ordinal in choose(moments, rng, rounds):
        if world.strike(act, name, ordinal):
            report.hits[name] += 1
        else:
            report.unmet[name] += 1
    return report
