"""A repository in a directory that is unmounted while it is used: it can't be reached (4), which is no damage (5), and
nothing is written to what is below the mount point."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rig import MIB, Outcome, Rig, command, same
from rigs.host import media
from rigs.host.hearing import recorder
from warmspare.apply.receiver import Receiver
from warmspare.errors import StoreError
from warmspare.observe.events import Events
from warmspare.store import layout
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.directory.object_files import ObjectFiles
from warmspare.store.opening import open_store


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[media.Removable]:
    with media.removable(tmp_path / "stick") as made:
        yield made


@pytest.fixture(params=["below", pytest.param("itself", marks=pytest.mark.slow)])
def rig(request: pytest.FixtureRequest, tmp_path: Path, stick: media.Removable) -> Rig:
    """A point in a repository that is what is mounted, or lies below; and more on the disk since."""
    place = stick.place if request.param == "itself" else stick.place / "dr"
    rig = Rig(tmp_path, repo=str(place))
    rig.disk.write_bytes(random.Random(1).randbytes(5 * MIB))
    rig.sync()
    rig.disk.write_bytes(random.Random(2).randbytes(5 * MIB))
    return rig


def removed_at(monkeypatch: pytest.MonkeyPatch, stick: media.Removable, call: str, kind: str, nth: int = 1) -> None:
    """It is unmounted right before the nth such call for an object of that kind; that is all that is patched."""
    where = ObjectFiles if call in ("get", "get_range") else DirectoryStore
    real, left = getattr(where, call), [nth]

    def goes_away(store: Any, key: str, *more: Any) -> Any:
        if f"/{kind}/" in key:
            left[0] -= 1
            if left[0] == 0:
                stick.away()
        return real(store, key, *more)

    monkeypatch.setattr(where, call, goes_away)


def gone(outcome: Outcome, stick: media.Removable) -> None:
    """It says so, found nothing, and left nothing at the mount point."""
    assert outcome.code == 4, outcome
    assert "the repository's directory is" in outcome.stderr and "mount what belongs there" in outcome.stderr
    assert outcome.last("error")["retryable"] and not outcome.all("finding")
    assert not stick.there and not list(stick.place.iterdir())


def test_apply(rig: Rig, stick: media.Removable, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.sync()
    with monkeypatch.context() as patch:
        removed_at(patch, stick, "get_range", "packs")
        gone(command("apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica), stick)
    stick.back()
    done = rig.apply()
    assert same(rig.disk, rig.replica) and not done.all("finding")


@pytest.mark.parametrize("call, kind", [("get", "points"), ("get_range", "manifests"), ("get_range", "packs")])
def test_audit_of_a_repository(
    rig: Rig, stick: media.Removable, monkeypatch: pytest.MonkeyPatch, call: str, kind: str
) -> None:
    removed_at(monkeypatch, stick, call, kind)
    gone(command("audit", "repository", "--repo", rig.repo, "--deep"), stick)


def test_check_without_a_replica(rig: Rig, stick: media.Removable, monkeypatch: pytest.MonkeyPatch) -> None:
    removed_at(monkeypatch, stick, "get_range", "packs")
    gone(command("recover", "check", "--vm", rig.vm, "--repo", rig.repo), stick)


@pytest.mark.parametrize("call, kind", [("upload", "packs"), ("upload", "manifests"), ("_create", "points")])
def test_sync(rig: Rig, stick: media.Removable, monkeypatch: pytest.MonkeyPatch, call: str, kind: str) -> None:
    with monkeypatch.context() as patch:
        removed_at(patch, stick, call, kind)
        gone(rig.sync(code=4), stick)
    stick.back()
    assert len(rig.objects("points")) == 1
    (Path(rig.repo) / layout.lease_key(rig.vm)).unlink()  # it could not be given back, and this process lives on
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)


async def test_a_follower_waits_for_it(rig: Rig, stick: media.Removable) -> None:
    events: list[dict[str, Any]] = []

    async def until(condition: Callable[[], object]) -> None:
        while not condition():
            assert not task.done(), task.result()
            await asyncio.sleep(0.02)

    store = open_store(rig.repo)
    task = asyncio.ensure_future(Receiver(store, rig.vm, rig.replica, Events(recorder(events))).follow(0.02))
    await until(lambda: any(event["event"] == "apply.done" for event in events))
    stick.away()
    await until(lambda: any(event["event"] == "apply.waiting" for event in events))
    stick.back()
    events.clear()
    record = rig.point_path(1).read_bytes()
    rig.point_path(1).unlink()  # now it is the repository that lost something: it is looked at again
    with pytest.raises(Exception, match=r"rolled back|no restore point"):
        await task
    rig.point_path(1).write_bytes(record)
    await store.close()


async def test_another_file_system_at_its_place(tmp_path: Path) -> None:
    """Also one that has objects."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "a").write_bytes(b"of below")
    store = DirectoryStore(str(place))
    with media.tmpfs(place, "size=1m"):
        assert await store.create("a", b"of above")
        assert await store.get("a") == b"of above"
    reads = (store.get("a"), store.head("a"), store.get_range("a", 0, 1))
    for call in (*reads, store.delete(["a"]), store.create("b", b""), store.put("b", b"")):
        with pytest.raises(StoreError, match="is of another file system than before"):
            await call
    with pytest.raises(StoreError, match="another file system"):
        _ = [info async for info in store.list("")]
    assert [path.name for path in place.iterdir()] == ["a"]
    await store.close()
