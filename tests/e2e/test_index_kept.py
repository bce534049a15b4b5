"""The index of VMs as commands keep it, use it and mend it; docs/format.md, "Index"."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from e2e.s3refusals import refusing
from rig import KIB, MIB, Rig, command, made, random_disk, scribble
from servers import S3Place
from warmspare.audit.reports.report import AuditReport
from warmspare.audit.repository.beside.index_check import IndexCheck
from warmspare.audit.repository.repository_audit import RepositoryAudit
from warmspare.audit.repository.seen import KnownRepository
from warmspare.format import index_shard
from warmspare.format.index_shard import IndexEntry, shard_of
from warmspare.model.ids import PointId, VmId
from warmspare.observe.events import Events
from warmspare.repository.chain import Repository, open_repository
from warmspare.repository.vm_lookup import NamedVm, find
from warmspare.store import layout
from warmspare.store.opening import open_store

T = TypeVar("T")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, vm="web")
    random_disk(rig.disk, MIB, random.Random(1))
    return rig


def shard_path(rig: Rig, text: str = "web") -> Path:
    return Path(rig.repo) / layout.index_key(shard_of(text))


def asked(rig: Rig, what: Callable[[Repository], Awaitable[T]]) -> T:
    async def work() -> T:
        store = open_store(rig.repo)
        try:
            return await what(await open_repository(store))
        finally:
            await store.close()

    return asyncio.run(work())


def found(rig: Rig, given: str) -> NamedVm:
    return asked(rig, lambda repository: find(repository, given))


def identity(rig: Rig) -> str:
    async def work(repository: Repository) -> str:
        return repository.id

    return asked(rig, work)


def entry(rig: Rig, text: str = "web") -> tuple[IndexEntry | None, bool]:
    """What the index says of a VM under that text, and whether it is whole there."""
    shard = index_shard.decode(shard_path(rig, text).read_bytes(), shard_of(text), identity(rig), "here")
    return next((one for one in shard.vms if text in (one.id, one.name)), None), shard.whole


def report_of(rig: Rig, *, repair: bool = False, vm: str | None = None) -> AuditReport:
    return asked(
        rig,
        lambda repository: RepositoryAudit(
            repository.store, rig.home / "scratch", KnownRepository(), Events(), repair=repair, vm=vm
        ).run(),
    )


def audit(rig: Rig, *, repair: bool = False, vm: str | None = None) -> list[str]:
    """The notes on the index of an audit that finds nothing."""
    report = report_of(rig, repair=repair, vm=vm)
    assert report.clean and not report.findings
    return [note for note in report.notes if "index" in note]


def test_syncs_keep_it(rig: Rig) -> None:
    for sequence in (1, 2):
        rig.sync()
        said, whole = entry(rig)
        point = rig.point(sequence)
        assert said and whole and (said.id, said.name, said.sequence) == ("web", "web", sequence)
        assert said.created == point.created and said.disk_bytes == MIB and said.disks == 1 and not said.unprotected
        assert PointId(said.sequence, said.sha256) == PointId(
            sequence, hashlib.sha256(rig.point_path(sequence).read_bytes()).hexdigest()
        )
        assert not audit(rig)
        scribble(rig.disk, random.Random(2))
    command("prune", "--repo", rig.repo, "--yes", "--older-than", "0s")
    assert entry(rig)[0]


def test_an_old_repository_gets_it_by_syncs_and_whole_by_the_repair(rig: Rig) -> None:
    rig.sync()
    shutil.rmtree(Path(rig.repo) / "index")
    assert found(rig, "web").newest == 1
    [note] = audit(rig)
    assert "is not there" in note and "--repair writes it anew" in note
    rig.sync()
    said, whole = entry(rig)
    assert said and said.sequence == 2 and not whole
    [note] = audit(rig)
    assert "does not say that all are in it" in note
    assert not audit(rig, vm="web"), "of one VM nothing is said of the index"
    audit(rig, repair=True)
    assert entry(rig) == (said, True) and not audit(rig)
    rig.vm = "db"
    rig.sync(state=rig.home / "another")
    assert entry(rig, "db")[1], "what is not there is whole from now on"


def test_the_repair_mends_what_is_absent_stale_torn_and_forged(rig: Rig) -> None:
    rig.sync()
    path = shard_path(rig)
    first = path.read_bytes()
    rig.sync()
    right = path.read_bytes()
    shard = index_shard.decode(right, shard_of("web"), identity(rig), "here")
    [said] = shard.vms
    gone = next(name for number in range(10_000) if shard_of(name := f"gone{number}") == shard_of("web"))
    ghost = IndexEntry(VmId(gone), gone, 3, "0" * 64, said.created, 1, 1, 0)
    spoilt = {
        "stale": (first, "says what is not so of VM 'web'"),
        "torn": (right[:-9], "can't be read in 1 of its objects"),
        "a VM that is not there": (index_shard.encode(shard.having(ghost)), f"says what is not so of VM '{gone}'"),
        "without it": (index_shard.encode(shard.without(said.id)), "lacks VM 'web'"),
        "absent": (b"", "is not there"),
    }
    for what, (data, words) in spoilt.items():
        path.write_bytes(data) if data else path.unlink()
        [note] = audit(rig)
        assert words in note, what
        notes = audit(rig, repair=True)
        assert "was repaired" in notes[-1] and path.read_bytes() == right, what
        assert not audit(rig)
    newer = right.replace(b'"format":1', b'"format":2')
    path.write_bytes(newer)
    for repair in (False, True):
        [note] = audit(rig, repair=repair)
        assert "of another version" in note and path.read_bytes() == newer


def test_what_syncs_write_while_a_repair_looks_is_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A VM moves on, and another begins, after the repair has read the chains."""
    rig.sync()
    shutil.rmtree(Path(rig.repo) / "index")
    late = next(name for number in range(10_000) if shard_of(name := f"late{number}") == shard_of("web"))
    look = IndexCheck._look

    def meanwhile() -> None:
        rig.sync()
        rig.vm = late
        rig.sync(state=rig.home / "another")
        rig.vm = "web"

    async def looking(self: IndexCheck) -> None:
        await look(self)
        await asyncio.to_thread(meanwhile)

    with monkeypatch.context() as patch:
        patch.setattr(IndexCheck, "_look", looking)
        audit(rig, repair=True)
    said, whole = entry(rig)
    begun, _ = entry(rig, late)
    assert said and said.sequence == 2 and begun and begun.sequence == 1 and whole
    assert not audit(rig)


def test_a_copy_makes_its_own(rig: Rig, tmp_path: Path) -> None:
    rig.sync()
    rig.sync()
    other = Rig(tmp_path, vm="web", repo=str(tmp_path / "copy"))
    made(other.repo)
    assert command("copy", "--from", rig.repo, "--to", other.repo).code == 0
    (said, whole), (theirs, _) = entry(rig), entry(other)
    assert said == theirs and whole and shard_path(rig).read_bytes() != shard_path(other).read_bytes()
    rig.sync()
    assert command("copy", "--from", rig.repo, "--to", other.repo).code == 0
    assert entry(rig)[0] == (entry(other))[0] and not audit(other)


def test_strange_objects_beside_it_are_foreign(rig: Rig) -> None:
    rig.sync()
    (Path(rig.repo) / "index" / "zz.json").write_text("{}")
    assert [finding.key for finding in report_of(rig).findings] == ["index/zz.json"]


def refuse_index(monkeypatch: pytest.MonkeyPatch, operation: str) -> Any:
    server = refusing(monkeypatch)
    server.refuse(operation, keys=lambda key: "/index/" in key)
    return server


def test_a_sender_that_may_not_write_it_goes_on(
    moto_place: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, vm="web", repo=moto_place.uri)
    random_disk(rig.disk, 256 * KIB, random.Random(1))
    server = refuse_index(monkeypatch, "PutObject")
    command("init", rig.repo)
    for _ in range(2):
        [event] = rig.sync().all("housekeeping.warning")
        assert event["right"] == event["action"] == "s3:PutObject"
        assert "brought up to date" in event["message"] and "grant s3:PutObject" in event["message"]
    rig.apply()
    server.allow()
    assert not rig.sync().all("housekeeping.warning")


def test_a_reader_that_may_not_read_it_goes_on(
    moto_place: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, vm="web", repo=moto_place.uri)
    random_disk(rig.disk, 256 * KIB, random.Random(1))
    rig.sync()
    server = refuse_index(monkeypatch, "GetObject")
    rig.apply()
    assert command("points", "--vm", "web", "--repo", rig.repo).last("points.done")["count"] == 1
    assert server.asked["GetObject"]
