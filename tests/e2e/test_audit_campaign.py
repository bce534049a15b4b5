"""Random corruptions of a replica: all found and named, nothing else, and repaired with no more than is needed."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from rig import MIB, Outcome, Rig, random_disk, same, scribble
from rigs.damage.replica import Corruptor, audit, found
from warmspare.audit.replica import disk_audit
from warmspare.format.manifest import ManifestReader
from warmspare.model.block_records import NO_FRAME
from warmspare.model.masks import FULL_MASK
from warmspare.model.units import BLOCK_BYTES


@pytest.fixture
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "local"))


def world(home: Path, rng: random.Random, *, size: int, pieces: int) -> tuple[Rig, Path]:
    """A replica at the third restore point of a disk with an odd length, and the disk as it was at the first."""
    rig = Rig(home)
    random_disk(rig.disk, size, rng, pieces=pieces)
    rig.sync()
    older = home / "older.raw"
    shutil.copy(rig.disk, older)
    for _ in range(2):
        scribble(rig.disk, rng, pieces=pieces // 2)
        rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    return rig, older


def block_of(data: bytes, block: int) -> bytes:
    return data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]


def wrong_blocks(data: bytes, truth: bytes) -> set[int]:
    return {b for b in range(-(-len(truth) // BLOCK_BYTES)) if block_of(data, b) != block_of(truth, b)}


def frame_bytes(rig: Rig, blocks: set[int]) -> int:
    """Bytes of all frames that hold a page of these blocks, found by walking the chain as docs/format.md says."""
    head = max(int(path.stem) for path in rig.objects("points"))
    missing = dict.fromkeys(blocks, FULL_MASK)
    frames: dict[tuple[str, int], int] = {}
    for sequence in range(head, 0, -1):
        entry = rig.point(sequence).disks[0]
        data = (Path(rig.repo) / entry.manifest.key).read_bytes()
        manifest = ManifestReader(lambda at, n, d=data: d[at : at + n], len(data), "test")  # type: ignore[misc]
        for chunk in manifest.chunks():
            for start, count in chunk.zeros.pairs():
                for block in [b for b in missing if start <= b < start + count]:
                    missing[block] = 0
            for row, block in enumerate(chunk.records.block.tolist()):
                if block not in missing:
                    continue
                taken = int(chunk.records.carried[row]) & missing[block]
                missing[block] &= ~(int(chunk.records.carried[row]) | int(chunk.records.zero[row]))
                index = int(chunk.records.frame[row])
                if taken and index != NO_FRAME:
                    pack = manifest.packs[int(chunk.frames.pack[index])]
                    place = (f"{pack.id.run}/{pack.id.number}", int(chunk.frames.offset[index]))
                    frames[place] = int(chunk.frames.size[index])
    return sum(frames.values())


def check_found(outcome: Outcome, corruptor: Corruptor, *, cut: bool, long: bool) -> None:
    kinds = {event["kind"] for event in outcome.all("finding")}
    assert ("disk-short" in kinds) == cut and ("disk-long" in kinds) == long
    assert found(outcome).keys() == corruptor.wrong.keys()
    for block, kind in found(outcome).items():
        planted = corruptor.wrong[block]
        # What one planted may look like another: a stale block may be what a swap left, zeros may be stale.
        assert kind == planted or {kind, planted} <= {"block-stale", "block-misplaced", "block-wrong"}, (block, planted)


def play(home: Path, seed: int, corruptions: int, *, size: int = 24 * MIB + 5000, pieces: int = 60) -> int:
    """One round: corrupt, audit, repair, audit. How many corruptions were made."""
    rng = random.Random(seed)
    rig, older = world(home, rng, size=size, pieces=pieces)
    assert audit(rig, code=0).last("audit.done")["coverage_percent"] == 100
    before = rig.replica.stat()
    assert audit(rig, code=0).all("finding") == []  # an honest replica, again
    corruptor = Corruptor(rig.replica, rig.disk, older, rng)
    for number in range(corruptions):
        kind = Corruptor.KINDS[number % len(Corruptor.KINDS)]
        try:
            kind(corruptor)
        except IndexError:  # all blocks that it could change are changed
            corruptor.flip()
    made = corruptions
    length = rng.choice(["as it is", "cut", "long"])
    if length == "cut":
        keep = corruptor.capacity - rng.randrange(1, 2 * MIB)
        os.truncate(rig.replica, keep)
        corruptor.wrong = {b: kind for b, kind in corruptor.wrong.items() if (b + 1) * BLOCK_BYTES <= keep}
        made += 1
    elif length == "long":
        os.truncate(rig.replica, corruptor.capacity + rng.randrange(1, MIB))
        made += 1
    damaged = rig.replica.read_bytes()
    judged = audit(rig, code=5)
    check_found(judged, corruptor, cut=length == "cut", long=length == "long")
    assert rig.replica.read_bytes() == damaged, "an audit wrote to what it audits"
    truth = rig.disk.read_bytes()
    wrong = {b for b in wrong_blocks(damaged.ljust(len(truth), b"\0"), truth) if any(block_of(truth, b))}
    repaired = audit(rig, "--repair", code=5)
    assert all(event["repaired"] for event in repaired.all("finding")), repaired
    assert same(rig.disk, rig.replica)
    figures = json.loads(Path(repaired.last("audit.done")["report"]).read_text())["figures"]
    assert 0 < figures["frame_bytes_fetched"] <= 1.5 * frame_bytes(rig, wrong), figures
    assert audit(rig, code=0).all("finding") == []
    assert rig.replica.stat().st_blocks <= before.st_blocks * 1.05 + 64
    rig.apply()  # and the replica goes on as ever
    assert same(rig.disk, rig.replica)
    return made


@pytest.mark.usefixtures("_state")
@pytest.mark.parametrize("seed", range(10))
def test_corruptions_are_found_and_repaired(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 2:  # what is judged in one go, and where it is cut, must not matter
        monkeypatch.setattr(disk_audit, "UNIT_BLOCKS", seed)
        monkeypatch.setattr(disk_audit, "UNIT_RANGE", 3 * seed - 1)
    assert play(tmp_path, seed, 7) >= 7


@pytest.mark.slow
@pytest.mark.usefixtures("_state")
@pytest.mark.timeout(3600)
def test_a_thousand_corruptions_are_found_and_repaired(tmp_path: Path) -> None:
    made = seed = 0
    while made < 1000:
        home = tmp_path / str(seed)
        home.mkdir()
        made += play(home, 1000 + seed, 10 if seed % 4 else 100, size=48 * MIB + 777, pieces=200)
        shutil.rmtree(home)
        seed += 1
    print(f"\n{made} corruptions in {seed} replicas found and repaired")
