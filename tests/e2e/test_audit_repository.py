"""Repository audits: every damage found and named, by reading and by what the store tells; nothing on clean ones."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rig import Rig
from rigs.damage.repository import Damage, Objects, build, damage, directory, objects_of, put_back, upload
from rigs.stores.retaining import retain
from servers import S3Place
from warmspare.audit.reports import archive
from warmspare.audit.reports.report import AuditReport
from warmspare.audit.repository import seen as known
from warmspare.audit.repository.repository_audit import RepositoryAudit
from warmspare.audit.repository.seen import KnownRepository
from warmspare.observe.events import Events
from warmspare.store.contract import Store
from warmspare.store.opening import open_store


@pytest.fixture(scope="module", params=["whole", "folded"])
def world(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Rig:
    """Built once; tests that change it put it back. folded: points 1, 3 and 4 were let go."""
    rig = build(tmp_path_factory.mktemp("world"))
    if request.param == "folded":
        retain(directory(rig), rig.vm, [2, 5], rig.home / "scratch")
    return rig


@pytest.fixture
async def store(world: Rig) -> AsyncIterator[Store]:
    opened = directory(world)
    yield opened
    await opened.close()


async def audit(store: Store, scratch: Path, before: KnownRepository | None = None, *, deep: bool) -> AuditReport:
    return await RepositoryAudit(store, scratch, before or KnownRepository(), Events(), deep=deep).run()


async def first_audit(store: Store, home: Path) -> KnownRepository:
    """The report that later ones are compared with."""
    report = await audit(store, home / "scratch", deep=True)
    assert report.clean and not report.findings, report.findings
    archive.of(home / "reports").keep(report)
    return known.of_kept(home / "reports", store.uri, "")


async def judge(store: Store, harm: Damage, home: Path, before: KnownRepository, *, summed: bool) -> None:
    """Both kinds of audit of a damaged repository."""
    deep = await audit(store, home / "scratch", before, deep=True)
    found = {each.key for each in deep.findings}
    assert harm.keys <= found, (harm, [(f.kind, f.key, f.point) for f in deep.findings])
    assert harm.extra or not deep.clean, harm
    quick = await audit(store, home / "scratch", before, deep=False)
    found = {each.key for each in quick.findings}
    seen = harm.keys if summed else harm.keys - harm.unseen
    assert seen <= found, (harm, [(f.kind, f.key, f.point) for f in quick.findings])
    if harm.unseen - found:
        assert any("not seen without --deep" in note for note in quick.notes), quick.notes


async def campaign(store: Store, home: Path, rounds: int, seed: int, *, summed: bool) -> None:
    whole = await objects_of(store)
    before = await first_audit(store, home)
    for number in range(rounds):
        harm = await damage(store, whole, random.Random(f"{seed} {number}"))
        try:
            await judge(store, harm, home, before, summed=summed)
        except Exception as error:
            raise AssertionError(f"round {number}: {harm.what}") from error
        await put_back(store, whole, harm.keys)
    assert await objects_of(store) == whole
    for deep in (True, False):
        report = await audit(store, home / "scratch", before, deep=deep)
        assert report.clean and not report.findings


async def test_damage_is_found_and_named(store: Store, tmp_path: Path) -> None:
    await campaign(store, tmp_path, 20, 1, summed=False)


@pytest.mark.slow
async def test_damage_is_found_and_named_500(store: Store, tmp_path: Path) -> None:
    await campaign(store, tmp_path, 500, 2, summed=False)


async def _in_s3(place: S3Place, world: Rig) -> tuple[Store, Objects]:
    local = directory(world)
    whole = await objects_of(local)
    await local.close()
    store = open_store(place.uri)
    await upload(store, whole)
    return store, whole


async def test_damage_in_s3(seaweed_place: S3Place, world: Rig, tmp_path: Path) -> None:
    store, _ = await _in_s3(seaweed_place, world)
    try:
        await campaign(store, tmp_path, 10, 3, summed=True)
    finally:
        await store.close()


@pytest.mark.slow
async def test_damage_in_s3_500(seaweed_place: S3Place, world: Rig, tmp_path: Path) -> None:
    store, _ = await _in_s3(seaweed_place, world)
    try:
        await campaign(store, tmp_path, 500, 4, summed=True)
    finally:
        await store.close()
