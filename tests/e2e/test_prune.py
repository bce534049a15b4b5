"""What no restore point names: listed, kept as long as a sync may use it, removed afterwards; never more than that."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

import warmspare.sync.stages.pack_writer
from rig import MIB, Outcome, Rig, command, flip, losing_the_store, same, scribble
from servers import S3Place
from warmspare.cli.main import run
from warmspare.model.ids import PackId
from warmspare.repository.chain import Repository
from warmspare.store import layout
from warmspare.store.lease import Lease
from warmspare.store.opening import open_store

DAY_S = 86400
RUN = "f" * 32


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Two restore points, all of it ten days old; packs of a megabyte."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(warmspare.sync.stages.pack_writer, "PACK_BYTES", MIB)
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(3 * MIB))
    rig.sync()
    scribble(rig.disk, random.Random(2))
    rig.sync()
    age(Path(rig.repo), 10 * DAY_S)
    return rig


def age(place: Path, seconds: float) -> None:
    """Make files that much older, in the order that they have."""
    for path in [place, *place.rglob("*")]:
        if path.is_file():
            when = path.stat().st_mtime - seconds
            os.utime(path, (when, when))


def orphans(rig: Rig, days: float) -> set[str]:
    """Objects of a run that never published, as old as that."""
    keys = [
        layout.pack_key(rig.vm, PackId(RUN, 0)),
        layout.pack_key(rig.vm, PackId(RUN, 1)),
        layout.manifest_key(rig.vm, RUN, 0),
        layout.table_key(rig.vm, RUN, 0),
    ]
    for key in keys:
        path = Path(rig.repo) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
        os.utime(path, (time.time() - days * DAY_S,) * 2)
    return set(keys)


def prune(rig: Rig, *more: object, code: int = 0) -> Outcome:
    done = command("prune", "--repo", rig.repo, *more)
    assert done.code == code, done
    return done


def audit(rig: Rig, *more: object, code: int = 0) -> Outcome:
    done = command("audit", "repository", "--repo", rig.repo, *more)
    assert done.code == code, done
    return done


def keys_of(done: Outcome, kind: str) -> set[str]:
    return {each["key"] for each in done.all("finding") if each["kind"] == kind}


def test_orphans_are_listed_and_removed(rig: Rig) -> None:
    named = rig.snapshot()
    left = orphans(rig, 11)
    assert keys_of(audit(rig), "object-orphan") == left
    looked = prune(rig)
    assert {each["key"] for each in looked.all("prune.object")} == left and not looked.last("prune.done")["removed"]
    assert rig.snapshot().keys() == named.keys() | left, "removed without --yes"
    done = prune(rig, "--yes").last("prune.done")
    assert (done["objects"], done["bytes"], done["objects_kept"]) == (4, 16, 0)
    assert rig.snapshot() == named
    assert not audit(rig, "--deep").all("finding")


def test_what_is_young_stays(rig: Rig) -> None:
    left = orphans(rig, 10.5)
    age(Path(rig.repo), -4 * DAY_S)  # 6.5 days
    assert prune(rig, "--yes").last("prune.done")["objects_kept"] == 4
    assert left <= rig.snapshot().keys()
    assert prune(rig, "--yes", "--older-than", "6d").last("prune.done")["objects"] == 4


def test_what_the_next_sync_may_use_stays(rig: Rig) -> None:
    """However old: nothing was published since it came there."""
    left = orphans(rig, 9)
    assert prune(rig, "--yes").last("prune.done")["objects_kept"] == 4
    scribble(rig.disk, random.Random(3))
    rig.sync()
    assert left <= rig.snapshot().keys()
    assert prune(rig, "--yes").last("prune.done")["objects"] == 4
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_foreign_objects_stay(rig: Rig) -> None:
    path = rig.root / "notes.txt"
    path.write_text("mine")
    os.utime(path, (0, 0))
    assert keys_of(audit(rig, code=5), "object-foreign") == {str(path.relative_to(rig.repo))}
    prune(rig, "--yes")
    assert path.exists()


def test_unfinished_uploads(rig: Rig) -> None:
    for days in (1, 8):
        path = Path(rig.repo) / ".tmp~" / "uploads" / layout.pack_key(rig.vm, PackId(RUN, days)) / f"{days:016x}"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"part")
        os.utime(path, (time.time() - days * DAY_S,) * 2)
    listed = keys_of(audit(rig), "upload-unfinished")
    assert listed == {layout.pack_key(rig.vm, PackId(RUN, days)) for days in (1, 8)}
    assert prune(rig, "--yes").last("prune.done")["uploads"] == 1
    assert keys_of(audit(rig), "upload-unfinished") == {layout.pack_key(rig.vm, PackId(RUN, 1))}


@pytest.mark.parametrize("kind", ["manifests", "points"])
def test_nothing_is_removed_where_it_can_not_be_told(rig: Rig, kind: str) -> None:
    flip(rig.objects(kind)[0], 80)
    left = orphans(rig, 11)
    before = rig.snapshot()
    assert "nothing of VM 'vm' is removed" in prune(rig, "--yes", code=5).stderr
    assert rig.snapshot() == before
    assert not keys_of(audit(rig, code=5), "object-orphan") & left, "it can't be told from what was named"


def test_nobody_to_prune(rig: Rig) -> None:
    assert "no VM of this repository" in prune(rig, "--vm", "nobody", code=2).stderr
    assert command("prune", "--repo", rig.home / "nowhere").code == 2
    assert not (rig.home / "nowhere").exists()
    assert command("prune", "--repo", rig.repo, "--older-than", "soon").code == 2


def test_a_point_that_was_rolled_back_keeps_its_objects(rig: Rig) -> None:
    """What only the removed record named is newer than the newest that is left."""
    rig.point_path(2).unlink()
    run = Path(rig.repo)
    before = rig.snapshot()
    assert prune(rig, "--yes").last("prune.done")["objects"] == 0
    assert rig.snapshot() == before and run.exists()


@contextlib.contextmanager
def another_at_work(rig: Rig) -> Iterator[None]:
    """The VM's lease, held by a thread that stands for another process."""
    held, done = threading.Event(), threading.Event()

    async def work() -> None:
        store = open_store(rig.repo)
        async with Lease.hold(store, layout.lease_key(rig.vm)):
            held.set()
            await asyncio.to_thread(done.wait)
        await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        assert held.wait(20)
        yield
    finally:
        done.set()
        thread.join()


def test_while_a_sync_is_at_work(rig: Rig) -> None:
    left = orphans(rig, 11)
    with another_at_work(rig):
        refused = prune(rig, "--yes", code=6)
        seen = audit(rig)
    assert "lease" in refused.stderr and left <= rig.snapshot().keys()
    assert not keys_of(seen, "object-orphan"), "what belongs to a run that lives is no garbage"


@pytest.fixture
def cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Outcome]:
    """A sync of a changed disk that loses the store after two packs, which are in it before."""
    times = itertools.count()

    def interrupted() -> Outcome:
        rig.disk.write_bytes(random.Random(f"cut {next(times)}").randbytes(4 * MIB))
        return losing_the_store(rig, monkeypatch, 2)

    return interrupted


def test_packs_of_an_interrupted_run_are_kept_until_another_publishes(rig: Rig, cut: Callable[[], Outcome]) -> None:
    cut()
    packs = len(rig.objects("packs"))
    assert prune(rig, "--yes", "--older-than", "1s").last("prune.done")["objects"] == 0
    assert rig.sync().last("sync.resumed")["bytes_reused"] > 0 and len(rig.objects("packs")) > packs
    exact(rig)


def exact(rig: Rig) -> None:
    shutil.rmtree(f"{rig.replica}.warmspare", ignore_errors=True)
    rig.replica.unlink(missing_ok=True)
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert not [each for each in audit(rig, "--deep").all("finding") if each["severity"] != "note"]


def test_a_sender_never_uses_what_may_be_removed(rig: Rig, cut: Callable[[], Outcome]) -> None:
    """Another published since: the packs are fair game for prune, so they are not used, whether it came or not."""
    cut()
    age(Path(rig.repo), 60)
    rig.sync(state=rig.home / "elsewhere")
    for removed in (False, True):
        if removed:
            assert prune(rig, "--yes", "--older-than", "30s").last("prune.done")["objects"] >= 2
        scribble(rig.disk, random.Random(8))
        assert not rig.sync().all("sync.resumed")
        exact(rig)
        if not removed:
            cut()
            age(Path(rig.repo), 60)
            rig.sync(state=rig.home / "elsewhere")


def test_removal_beside_a_sender_whose_lease_is_gone(
    rig: Rig, cut: Callable[[], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked at the old packs, it names them, it is about to publish: then another publishes and prune removes
    them. The record under its sequence stands, so nothing that names them ever shows."""
    cut()

    class Always:
        async def confirm(self) -> None:
            pass

    @contextlib.asynccontextmanager
    async def hold(*_: object, **__: object) -> AsyncIterator[Always]:
        yield Always()

    publish = Repository.publish
    told: list[Outcome] = []

    async def late(self: Repository, vm: str, sequence: int, data: bytes) -> bool:
        if not told:
            told.append(Outcome(0, [], ""))
            # Where no other publishes, prune finds nothing that may go, however old it is.
            assert await asyncio.to_thread(lambda: _quietly("prune", rig, "--older-than", "1s", "--yes")) == 0
            assert rig.objects("packs"), "prune removed what a sender is about to name"
            await asyncio.to_thread(lambda: _quietly("sync", rig))
            age(Path(rig.repo), 60)
            os.utime(rig.objects("points")[-1])
            await asyncio.to_thread(lambda: _quietly("prune", rig, "--older-than", "30s", "--yes"))
        return await publish(self, vm, sequence, data)

    monkeypatch.setattr(Lease, "hold", hold)
    monkeypatch.setattr(Repository, "publish", late)
    rig.sync(code=6)
    assert told
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    rig.sync()
    exact(rig)


def _quietly(what: str, rig: Rig, *more: str) -> int:
    """In a process of its own, for the one that waits has the output."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "warmspare", what]
    words += [str(rig.disk), "--vm", rig.vm, "--state", str(rig.home / "elsewhere")] if what == "sync" else []
    return subprocess.run([*words, "--repo", rig.repo, *more], capture_output=True, timeout=60).returncode


def test_prune_in_s3(seaweed_place: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the store's own time: everything is seconds old there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    rig = Rig(tmp_path, repo=seaweed_place.uri)
    rig.disk.write_bytes(random.Random(1).randbytes(MIB))
    rig.sync()
    key = layout.pack_key(rig.vm, PackId(RUN, 3))

    async def leave() -> None:
        store = open_store(rig.repo)
        await store.put(key, b"left")
        await store.close()

    asyncio.run(leave())
    assert keys_of(audit(rig), "object-orphan") == {key}
    assert prune(rig, "--yes", "--older-than", "1s").last("prune.done")["objects_kept"] == 1
    time.sleep(4)
    rig.disk.write_bytes(random.Random(2).randbytes(MIB))
    rig.sync()
    time.sleep(2)
    assert prune(rig, "--yes").last("prune.done")["objects"] == 0, "a week has not passed"
    assert prune(rig, "--yes", "--older-than", "1s").last("prune.done")["objects"] == 1
    assert not audit(rig, "--deep").all("finding")
    rig.apply()
    assert same(rig.disk, rig.replica)


def said(rig: Rig, capsys: pytest.CaptureFixture[str], *more: object) -> str:
    """Its last line, as a person sees it."""
    capsys.readouterr()
    assert run(["prune", "--repo", rig.repo, *map(str, more)]) == 0
    return capsys.readouterr().out.splitlines()[-1]


def test_it_says_when_there_is_nothing_to_do(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = f"there is nothing to remove in {rig.repo}"
    assert said(rig, capsys) == said(rig, capsys, "--yes") == said(rig, capsys, "--vm", rig.vm) == nothing
    orphans(rig, 1)  # too young
    assert said(rig, capsys, "--yes").startswith(f"{nothing}; 4 that no restore point names stay: too young")
    orphans(rig, 11)
    assert said(rig, capsys).startswith("4 objects of 16 B and 0 unfinished uploads would be removed")
    capsys.readouterr()
    assert run(["prune", "--repo", rig.repo, "--yes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(line.endswith("(4 B) was removed") for line in lines[:4])
    assert lines[-1] == "4 objects of 16 B and 0 unfinished uploads removed"
    assert said(rig, capsys, "--yes") == nothing
    shutil.rmtree(rig.root)  # no VM any more
    assert said(rig, capsys) == nothing
