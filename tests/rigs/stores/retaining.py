"""Restore points dropped and folded in a repository, as retention does it, without its policy and its patience."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from pathlib import Path

from warmspare.format.manifest import ManifestReader
from warmspare.format.retained.retention import Retention
from warmspare.model.ids import VmId, new_run, vm_key
from warmspare.repository.chain import Point, Repository, open_repository
from warmspare.repository.history import retained
from warmspare.repository.verified_objects import verified_bytes
from warmspare.retain.folding import Folding
from warmspare.store import layout
from warmspare.store.contract import Store

SINCE = "2026-01-01T00:00:00Z"


def retain(store: Store, vm: str, keep: Iterable[int], scratch: Path, *, remove: bool = True) -> Retention:
    """Keep these points of a VM, and let the others go. remove: also what nothing needs any more, as if the time that
    others have to end were over."""
    return asyncio.run(retained_by(store, VmId(vm), keep, scratch, remove=remove))


async def retained_by(store: Store, vm: VmId, keep: Iterable[int], scratch: Path, *, remove: bool) -> Retention:
    scratch.mkdir(parents=True, exist_ok=True)
    repository = await open_repository(store)
    before = await retained.newest(repository, vm)
    folding = Folding(repository, vm, new_run(), itertools.count(), scratch, SINCE, priced=False)
    folds, base, last = [], None, 0
    for sequence in sorted(keep):
        point = await repository.load(vm, sequence)
        there = before.record.of_target(sequence) if before else None
        if there is not None and there.after == last:
            folds.append(there)
        elif sequence > last + 1:
            folds.append(await folding.fold(base, point))
        base, last = point, sequence
    assert await retained.write(repository, vm, before, folds)
    record = await retained.newest(repository, vm)
    assert record is not None
    if remove:
        await _removed(repository, vm, set(keep), record.record)
    return record.record


async def _removed(repository: Repository, vm: VmId, keep: set[int], record: Retention) -> None:
    key = vm_key(vm)
    named = {layout.retention_key(key, record.generation), layout.lease_key(key), layout.failover_key(key)}
    for sequence in keep:
        point = await repository.load(vm, sequence)
        named.add(layout.point_key(key, sequence))
        named |= {disk.checkpoint.table.key for disk in point.record.disks if disk.checkpoint}
        fold = record.of_target(sequence)
        named |= set(fold.named()) if fold else set()
        for disk in point.record.disks:
            stated = fold.disk(disk.id) if fold else None
            ref = stated.manifest if stated else disk.manifest
            named.add(ref.key)
            data = await verified_bytes(repository, ref, "a manifest")
            reader = ManifestReader(lambda at, size, data=data: data[at : at + size], len(data), "test")  # type: ignore[misc]
            named |= {layout.pack_key(key, pack.id) for pack in reader.packs}
    prefixes = (layout.marks_prefix(key), f"{layout.vm_prefix(key)}holds/")
    found = [info.key async for info in repository.store.list(layout.vm_prefix(key))]
    await repository.store.delete([each for each in found if each not in named and not each.startswith(prefixes)])


def point_at(store: Store, vm: str, sequence: int) -> Point:
    async def read() -> Point:
        return await (await open_repository(store)).load(VmId(vm), sequence)

    return asyncio.run(read())
