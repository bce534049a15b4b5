"""Holds: made, listed, taken away; damaged and hostile ones; clocks that are wrong; beside a point that is dropped."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

import warmspare
from rig import MIB, Rig, command, made, scribble
from warmspare.errors import ConfigError, IntegrityError, StoreError
from warmspare.format.retained import hold
from warmspare.format.retained.hold import Hold
from warmspare.model.ids import VmId, vm_key
from warmspare.repository import holds
from warmspare.repository.chain import Repository, open_repository
from warmspare.repository.holds import add_hold, holds_of, reasons, standing
from warmspare.store import layout
from warmspare.store.opening import open_store

DAY_S = 86400.0
VM = VmId("vm")


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Three restore points."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    rig, rng = Rig(tmp_path), random.Random(1)
    rig.disk.write_bytes(rng.randbytes(MIB))
    for _ in range(3):
        rig.sync()
        scribble(rig.disk, rng)
    return rig


def points(rig: Rig) -> list[dict[str, Any]]:
    return command("points", "--repo", rig.repo).all("point")


def of(rig: Rig, *words: object) -> tuple[object, ...]:
    return ("hold", words[0], "--vm", "vm", "--repo", rig.repo, *words[1:])


def files(rig: Rig) -> list[Path]:
    return sorted(Path(rig.repo).glob("vms/vm/holds/*"))


def listed(rig: Rig, *more: object, code: int = 0) -> list[dict[str, Any]]:
    done = command("hold", "list", "--repo", rig.repo, *more)
    assert done.code == code, done
    return done.all("hold")


def test_a_hold_is_made_listed_and_taken_away(rig: Rig) -> None:
    label = points(rig)[1]["point"]
    looked = command(*of(rig, "add", "--at", 2, "--reason", "before the migration", "--dry-run"))
    assert looked.code == 0 and not files(rig) and label in looked.last("would")["action"]
    added = command(*of(rig, "add", "--at", 2, "--reason", "before the migration")).last("hold.added")
    assert (added["point"], added["until"], added["vm"]) == (label, None, "vm")
    assert [path.name for path in files(rig)] == [f"0000000002-{added['id']}.json"]
    [told] = listed(rig)
    assert (told["sequence"], told["point"], told["state"]) == (2, label, "held")
    assert (told["reason"], told["id"], told["until"]) == ("before the migration", added["id"], None)
    assert listed(rig, "--vm", "vm", "--at", 2) == [told] and listed(rig, "--vm", "vm", "--at", 1) == []
    looked = command(*of(rig, "remove", "--at", label, "--dry-run"))
    assert looked.code == 0 and added["id"] in looked.last("would")["action"] and files(rig)
    gone = command(*of(rig, "remove", "--at", label)).last("hold.removed")
    assert (gone["ids"], gone["left"], files(rig)) == ([added["id"]], 0, [])
    assert command(*of(rig, "remove", "--at", label)).code == 2


def test_a_point_may_be_held_twice_and_each_is_removed_alone(rig: Rig) -> None:
    first = command(*of(rig, "add", "--reason", "a")).last("hold.added")
    second = command(*of(rig, "add", "--at", "latest", "--reason", "b", "--until", "90d")).last("hold.added")
    assert first["sequence"] == second["sequence"] == 3 and first["id"] != second["id"]
    assert second["until"].endswith("Z")
    refused = command(*of(rig, "remove", "--at", 3))
    assert refused.code == 2 and "has 2 holds" in refused.stderr and first["id"] in refused.stderr
    gone = command(*of(rig, "remove", "--at", 3, "--id", second["id"])).last("hold.removed")
    assert (gone["ids"], gone["left"]) == ([second["id"]], 1)
    assert [one["reason"] for one in listed(rig)] == ["a"]
    assert command(*of(rig, "remove", "--at", 3, "--id", second["id"])).code == 2


def test_what_is_wrong_is_said_before_anything_is_written(rig: Rig) -> None:
    for words, said in (
        (("--until", "2020-01-01"), "would have ended already"),
        (("--until", "soon"), "a date or a time was expected"),
        (("--until", "2026-02-31"), "no such day"),
        (("--reason", "x" * 1001), "at most 1000 characters"),
        (("--reason", "two\nlines"), "one line"),
        (("--at", 9), "has no restore point '9'"),
        (("--at", "2001-01-01"), "has no restore point '2001-01-01'"),
    ):
        done = command(*of(rig, "add", *words))
        assert done.code == 2 and said in done.stderr, done
    assert command("hold", "add", "--vm", "other", "--repo", rig.repo).code == 2
    assert command("hold", "list", "--at", 1, "--repo", rig.repo).code == 2
    assert not files(rig)


def test_a_point_is_named_by_a_time(rig: Rig) -> None:
    assert command(*of(rig, "add", "--at", "now")).last("hold.added")["sequence"] == 3
    assert command(*of(rig, "add", "--at", "1h ago")).code == 2


async def opened(rig: Rig) -> Repository:
    return await open_repository(open_store(rig.repo))


def placed(rig: Rig, hold_of: dict[str, Any] | bytes, name: str = "0000000002-" + "a" * 16) -> Path:
    """A hold that somebody else wrote."""
    path = Path(rig.repo) / "vms" / "vm" / "holds" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(hold_of if isinstance(hold_of, bytes) else json.dumps(hold_of).encode())
    return path


def good(rig: Rig, **changed: Any) -> dict[str, Any]:
    point = points(rig)[1]
    return {
        "format": 1,
        "flags": 0,
        "vm_id": "vm",
        "sequence": 2,
        "sha256": point["sha256"],
        "reason": "why",
        "created": "2026-01-02T03:04:05Z",
        "until": None,
        "host": "h",
        "software": "s",
    } | changed


def held(rig: Rig) -> dict[int, tuple[str, ...]]:
    async def ask() -> dict[int, tuple[str, ...]]:
        repository = await opened(rig)
        try:
            return reasons(await standing(repository, await holds_of(repository, VM)))
        finally:
            await repository.store.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b"x" * (1 << 20),
        b'{"format": 1, "flags": 0}',
        {"format": 2},
        {"flags": 4},
        {"sequence": 3},
        {"vm_id": "other"},
        {"sha256": "z"},
        {"until": "tomorrow"},
        {"until": "2026-02-31T00:00:00Z"},
        {"created": None},
        {"reason": "x" * 2000},
        {"more": 1},
    ],
)
def test_a_damaged_hold_holds_its_point_and_is_a_finding(rig: Rig, bad: dict[str, Any] | bytes) -> None:
    path = placed(rig, bad if isinstance(bad, bytes) else good(rig, **bad))
    assert list(held(rig)) == [2]
    [told] = listed(rig, code=5)
    assert (told["sequence"], told["state"], told["point"]) == (2, "damaged", None) and told["reason"]
    audit = command("audit", "repository", "--repo", rig.repo)
    [found] = audit.all("finding")
    assert audit.code == 5 and found["kind"] == "object-malformed" and found["key"].endswith(path.name)
    assert command(*of(rig, "remove", "--at", 2)).code == 0 and not path.exists()
    assert command("audit", "repository", "--repo", rig.repo).code == 0


def test_a_good_hold_is_no_finding_and_nothing_foreign(rig: Rig) -> None:
    placed(rig, good(rig))
    assert held(rig) == {2: ("why",)}
    audit = command("audit", "repository", "--repo", rig.repo, "--deep")
    assert audit.code == 0 and not audit.all("finding")
    pruned = command("prune", "--repo", rig.repo, "--yes", "--older-than", "1s")
    assert pruned.code == 0 and len(files(rig)) == 1
    rig.sync()
    assert held(rig) == {2: ("why",)}


def test_a_hold_tells_of_a_record_that_was_replaced_or_is_gone(rig: Rig) -> None:
    placed(rig, good(rig, sha256="0" * 64))
    [found] = command("audit", "repository", "--repo", rig.repo).all("finding")
    assert found["kind"] == "point-forked" and found["expected"] == f"SHA-256 {'0' * 64}"
    assert list(held(rig)) == [2], "it holds what stands there all the same"
    files(rig)[0].unlink()
    placed(rig, good(rig, sequence=9), "0000000009-" + "b" * 16)
    [found] = command("audit", "repository", "--repo", rig.repo).all("finding")
    assert found["kind"] == "point-rolled-back" and found["point"].startswith("9-")
    placed(rig, good(rig, sequence=9, until="2026-01-03T00:00:00Z"), "0000000009-" + "b" * 16)
    assert command("audit", "repository", "--repo", rig.repo).code == 0
    assert command(*of(rig, "remove", "--at", 9)).code == 0 and not files(rig)


def test_a_key_that_is_no_holds_is_foreign(rig: Rig) -> None:
    placed(rig, good(rig), "2-x")
    [found] = command("audit", "repository", "--repo", rig.repo).all("finding")
    assert found["kind"] == "object-foreign" and held(rig) == {}


def test_a_hold_ends_when_both_clocks_say_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.time()
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s + DAY_S))
    placed(rig, good(rig, until=until))
    assert held(rig) == {2: ("why",)}
    store: dict[str, float | Exception] = {"now": now_s + 2 * DAY_S}

    async def told(self: object) -> float:
        if isinstance(store["now"], Exception):
            raise store["now"]
        return store["now"]

    monkeypatch.setattr("warmspare.store.directory.directory_store.DirectoryStore.now", told)
    assert held(rig) == {2: ("why",)}, "the store's clock is ahead"
    monkeypatch.setattr(holds.time, "time", lambda: now_s + 2 * DAY_S)
    assert held(rig) == {}
    assert [one["state"] for one in listed(rig)] == ["ended"]
    store["now"] = now_s
    assert held(rig) == {2: ("why",)}, "this host's clock is ahead"
    store["now"] = StoreError("read-only")
    assert held(rig) == {2: ("why",)}, "the store does not tell"
    store["now"] = StoreError("away", retryable=True)
    with pytest.raises(StoreError):
        held(rig)


def test_more_holds_than_anybody_made(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "MOST_HOLDS", 20)
    for number in range(21):
        placed(rig, good(rig), f"0000000002-{number:016x}")
    with pytest.raises(IntegrityError, match="more than 20 holds"):
        held(rig)
    audit = command("audit", "repository", "--repo", rig.repo)
    [found] = audit.all("finding")
    assert audit.code == 5 and found["kind"] == "object-foreign" and found["key"] == "vms/vm/holds/"


def test_two_at_once_both_hold(rig: Rig) -> None:
    async def both() -> list[str]:
        engine, place = warmspare.Engine(), warmspare.RepositoryPlace(rig.repo)
        asked = [warmspare.HoldAddRequest(repository=place, vm="vm", at="1", reason=word) for word in ("a", "b")]
        return [done.id for done in await asyncio.gather(*map(engine.run, asked)) if not isinstance(done, Exception)]

    assert len(set(asyncio.run(both()))) == 2 and sorted(held(rig)[1]) == ["a", "b"]


def dropped_while_held(rig: Rig, monkeypatch: pytest.MonkeyPatch, *, may_remove: bool) -> None:
    """Another removes the record between the look at the point and the hold."""

    async def run() -> None:
        repository = await opened(rig)
        point = await repository.load(VM, 2)
        store = repository.store
        create = store.create

        async def creating(key: str, data: bytes) -> bool:
            await store.delete([layout.point_key(vm_key(VM), 2)])
            return await create(key, data)

        async def refused(keys: list[str]) -> None:
            raise StoreError("denied")

        with monkeypatch.context() as patch:
            patch.setattr(store, "create", creating)
            if not may_remove:
                remove = store.delete
                patch.setattr(store, "delete", lambda keys: refused(keys) if "/holds/" in keys[0] else remove(keys))
            try:
                await add_hold(repository, point, "", None)
            finally:
                await store.close()

    with pytest.raises(ConfigError, match="was removed before it could be held"):
        asyncio.run(run())


def test_a_point_that_is_dropped_meanwhile_is_not_held(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped_while_held(rig, monkeypatch, may_remove=True)
    assert not files(rig)


def test_the_same_where_no_hold_may_be_removed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped_while_held(rig, monkeypatch, may_remove=False)
    assert len(files(rig)) == 1


def test_a_copy_has_no_holds(rig: Rig) -> None:
    """They are of a place: what is kept there is decided there."""
    command(*of(rig, "add", "--at", 1))
    target = rig.home / "copy"
    made(target)
    assert command("copy", "--from", rig.repo, "--to", target).code == 0
    assert listed(rig) and not command("hold", "list", "--repo", target).all("hold")


def test_a_hold_is_said_without_what_acts(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    from warmspare.cli.main import run

    placed(rig, good(rig, reason="\x1b[2J", host="a\u202eb"))
    assert run(["hold", "list", "--repo", rig.repo]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown and "\\x1b" in shown


def test_a_record(rig: Rig) -> None:
    command(*of(rig, "add", "--at", 2, "--reason", "Prüfung"))
    record = hold.decode(files(rig)[0].read_bytes(), "here")
    assert isinstance(record, Hold) and record.reason == "Prüfung" and record.software.startswith("warmspare ")
    assert record.point.label == points(rig)[1]["point"]
