"""The index of VMs is written beside what a sync does anyway: one that hangs keeps no sync waiting, and the next mends
it."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from rig import MIB, Rig, random_disk, scribble
from warmspare.errors import StoreError
from warmspare.format import index_shard
from warmspare.format.index_shard import IndexShard, shard_of
from warmspare.repository import vm_index
from warmspare.store import layout
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.sync.publishing import index_note
from warmspare.sync.sender import Sender

NEVER_S = 3600.0


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, vm="web")
    random_disk(rig.disk, MIB, random.Random(1))
    return rig


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys below index/ and of points, in the order in which their writing begins."""
    keys: list[str] = []
    create, replace = DirectoryStore.create, DirectoryStore.replace

    async def creating(self: DirectoryStore, key: str, data: bytes) -> bool:
        keys.extend([key] if "/points/" in key else [])
        return await create(self, key, data)

    async def replacing(self: DirectoryStore, key: str, data: bytes, *, etag: str | None) -> Any:
        keys.extend([key] if key.startswith("index/") else [])
        return await replace(self, key, data, etag=etag)

    monkeypatch.setattr(DirectoryStore, "create", creating)
    monkeypatch.setattr(DirectoryStore, "replace", replacing)
    return keys


def hang(patch: pytest.MonkeyPatch, begun: threading.Event) -> list[str]:
    """Let each write of the index hang, as a server may; the keys that are waited for no more. begun: set by one."""
    patch.setattr(vm_index, "WITHIN_S", NEVER_S)
    patch.setattr(index_note, "ANNOUNCED_S", 0.05)
    patch.setattr(index_note, "GRACE_S", 0.05)
    given_up: list[str] = []
    replace = DirectoryStore.replace

    async def replacing(self: DirectoryStore, key: str, data: bytes, *, etag: str | None) -> Any:
        if not key.startswith("index/"):
            return await replace(self, key, data, etag=etag)
        begun.set()
        try:
            await asyncio.sleep(NEVER_S)
        except asyncio.CancelledError:
            given_up.append(key)
            raise
        raise AssertionError("it was waited for")

    patch.setattr(DirectoryStore, "replace", replacing)
    return given_up


def shard(rig: Rig) -> IndexShard | None:
    path = Path(rig.repo) / layout.index_key(shard_of("web"))
    return index_shard.decode(path.read_bytes(), shard_of("web"), identity(rig), "here") if path.exists() else None


def identity(rig: Rig) -> str:
    return str(json.loads((Path(rig.repo) / "repository.json").read_text())["id"])


def test_a_write_that_hangs_keeps_no_sync_waiting(rig: Rig) -> None:
    for sequence in (1, 2):  # one that is announced, and one that is only noted
        with pytest.MonkeyPatch.context() as patch:
            given_up = hang(patch, threading.Event())
            outcome = rig.sync()
        assert outcome.last("sync.done")["point"].startswith(f"{sequence}-") and shard(rig) is None
        assert given_up == [layout.index_key(shard_of("web"))] * (3 - sequence)
        [warning] = outcome.all("housekeeping.warning")
        assert warning["action"] == vm_index.ACTION and "when all else was done" in warning["message"]
        scribble(rig.disk, random.Random(sequence))
    rig.apply()
    assert not rig.sync().all("housekeeping.warning")
    found = shard(rig)
    assert found and [(one.id, one.sequence) for one in found.vms] == [("web", 3)]


def test_it_hangs_while_the_run_before_is_finished(rig: Rig) -> None:
    """The point of a run that died once it was sealed."""
    rig.sync()
    scribble(rig.disk, random.Random(1))

    async def died(*_: Any) -> None:
        raise OSError("it died")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sender, "_publish", died)
        with pytest.raises(AssertionError, match="a bug"):
            rig.sync()
    with pytest.MonkeyPatch.context() as patch:
        given_up = hang(patch, threading.Event())
        outcome = rig.sync()
    assert outcome.all("sync.completing") and outcome.last("sync.done")["point"].startswith("3-")
    assert len(given_up) == 2
    rig.sync()
    found = shard(rig)
    assert found and found.vms[0].sequence == 4


def test_a_first_point_is_announced_before_it_is_published(rig: Rig, written: list[str]) -> None:
    """And another name is; a point of a VM that is known by its name is not."""
    place, first = layout.index_key(shard_of("web")), layout.point_key("web", 1)  # type: ignore[arg-type]
    rig.sync()
    assert written == [place, first] or written == [place, first, place]
    written.clear()
    scribble(rig.disk, random.Random(1))
    rig.sync()
    assert [key for key in written if "/points/" in key] == written[:1], "nothing is written before it"


def test_it_is_written_beside_the_rest(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows the publication begins before the note has ended, and ends it: neither waits for the other."""
    rig.sync()
    order: list[str] = []
    note, commit = vm_index.VmIndex.note, Sender._commit
    events: dict[str, asyncio.Event] = {}

    def event(name: str) -> asyncio.Event:
        return events.setdefault(name, asyncio.Event())

    async def noting(self: vm_index.VmIndex, *arguments: Any) -> None:
        await event("committed").wait()
        await note(self, *arguments)
        order.append("noted")

    async def committing(self: Sender, *arguments: Any) -> None:
        await commit(self, *arguments)
        order.append("committed")
        event("committed").set()

    monkeypatch.setattr(vm_index.VmIndex, "note", noting)
    monkeypatch.setattr(Sender, "_commit", committing)
    assert not rig.sync().all("housekeeping.warning")
    assert order == ["committed", "noted"]


def test_a_run_that_fails_takes_the_note_back_with_it(rig: Rig) -> None:
    """Nothing of it runs on, and nothing is said of it."""
    rig.sync()

    begun = threading.Event()

    async def fails(*_: Any) -> None:
        while not begun.is_set():  # noqa: ASYNC110 (a test's own small wait)
            await asyncio.sleep(0.001)
        raise StoreError("the state directory is gone")

    with pytest.MonkeyPatch.context() as patch:
        given_up = hang(patch, begun)
        patch.setattr(index_note, "GRACE_S", NEVER_S)
        patch.setattr(Sender, "_commit", fails)
        outcome = rig.sync(code=4)
        assert len(given_up) == 1 and not outcome.all("housekeeping.warning")
