"""Ranges of packs carry no checksum of the store's: what is damaged on the way only is read again, by every reader."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

import recoverworld
from recoverworld import hardware
from rig import MIB, Rig, command, flip, same, scribble
from servers import S3Server
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.s3.s3_store import S3Store


class Way:
    """The way from a store, that damages the first answers of each range of a pack. counts: of those."""

    def __init__(self, times: int) -> None:
        self.times, self.counts = times, Counter[tuple[str, int, int]]()

    def carry(self, key: str, offset: int, data: bytes) -> bytes:
        if "/packs/" not in key or self.counts[key, offset, len(data)] >= self.times:
            return data
        self.counts[key, offset, len(data)] += 1
        return bytes([data[0] ^ 4]) + data[1:]


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Way:
    made = Way(0)
    for store in (DirectoryStore, S3Store):

        async def get_range(self: object, key: str, offset: int, length: int, real: object = store.get_range) -> bytes:
            return made.carry(key, offset, await real(self, key, offset, length))  # type: ignore[operator]

        monkeypatch.setattr(store, "get_range", get_range)
    return made


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    rig = Rig(tmp_path)
    rng = random.Random(1)
    rig.disk.write_bytes(rng.randbytes(9 * MIB))
    rig.sync()
    scribble(rig.disk, rng, pieces=20, most=MIB // 4)
    rig.sync()
    return rig


def test_apply_reads_what_it_rebuilds_once_more(rig: Rig, way: Way) -> None:
    """Both what the merge reads and what the repair reads first come damaged."""
    way.times = 1
    assert rig.apply().last("apply.done")["blocks_rebuilt"]
    assert same(rig.disk, rig.replica)


def test_what_stays_damaged_is_refused(rig: Rig, way: Way) -> None:
    way.times = 1000
    assert "the replica is inconsistent" in rig.apply(code=5).stderr
    way.times = 0
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_repair_of_the_replica(rig: Rig, way: Way) -> None:
    rig.apply()
    flip(rig.replica, 3 * MIB)
    way.times = 1
    done = command("audit", "replica", "--vm", "vm", "--replica", rig.replica, "--repo", rig.repo, "--repair")
    assert done.code in (0, 5) and same(rig.disk, rig.replica) and way.counts, done


def test_staging(tmp_path: Path, moto: S3Server, way: Way) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        recoverworld.made(tmp_path, moto.endpoint_url, patch) as world,
    ):
        world.protect("db", hardware("dmz"))
        way.times = 1
        world.stage("db")
        assert way.counts
