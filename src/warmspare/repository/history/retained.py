"""The retention record of a VM that counts; owns how it is found, and how the next one is made.

Each has a generation and is created once, so the newest is the one that counts. Where nothing was ever dropped there is
none, and looking costs one request. A copy makes the record before it publishes the point that a fold leads to; where
it died between the two, and a sync went on there, the last fold leads nowhere and counts for nothing.
"""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from warmspare.errors import ConfigError, IntegrityError, NotFoundError
from warmspare.format import flags
from warmspare.format.retained import retention
from warmspare.format.retained.retention import MAX_RETENTION_BYTES, Fold, Retention, StoredRetention
from warmspare.model.ids import VmId, vm_key
from warmspare.repository.chain import Repository, now_text
from warmspare.store import layout
from warmspare.store.contract import ObjectInfo
from warmspare.version import __version__

_TRIES = 4  # newer ones may come, and older ones go, while one is looked for


async def newest(repository: Repository, vm: VmId) -> StoredRetention | None:
    """None where nothing of the VM was ever dropped. FormatError, IntegrityError, StoreError."""
    for _ in range(_TRIES):
        listed = await generations(repository, vm)
        if not listed:
            return None
        generation, info = listed[-1]
        try:
            found = await load(repository, vm, generation, info)
        except NotFoundError:
            continue  # removed since by who wrote a newer one
        return await _led(repository, vm, found)
    raise IntegrityError(
        f"the newest retention record of VM {vm!r} is listed and can't be read",
        where=repository.where(layout.retention_key(vm_key(vm), generation)),
        hint="put it back from a copy of the repository",
    )


async def generations(repository: Repository, vm: VmId) -> list[tuple[int, ObjectInfo]]:
    """All that are there, ascending, each with what the store says of it."""
    prefix = layout.retention_prefix(vm_key(vm))
    return [
        (number, info)
        async for info in repository.store.list(prefix)
        if (number := layout.parse_retention_key(info.key)) is not None
    ]


async def load(repository: Repository, vm: VmId, generation: int, info: ObjectInfo) -> StoredRetention:
    """One of them, checked to be what its key says. NotFoundError, FormatError, IntegrityError."""
    key = layout.retention_key(vm_key(vm), generation)
    data = await repository.store.get(key, max_bytes=MAX_RETENTION_BYTES)
    record = retention.decode(data, repository.where(key))
    if record.vm_id != vm or record.generation != generation:
        raise IntegrityError(
            f"this retention record is number {record.generation} of VM {record.vm_id!r} "
            f"and stands where number {generation} of {vm!r} belongs",
            where=repository.where(key),
            hint="objects were moved or replayed; restore the right one from a copy of the repository",
        )
    return StoredRetention(record, retention.identity(data), info.modified_s, info.bytes)


async def _led(repository: Repository, vm: VmId, found: StoredRetention) -> StoredRetention:
    """Without a last fold whose point was never published."""
    if not found.record.folds:
        return found
    target = found.record.folds[-1].target
    try:
        there = await repository.load(vm, target.sequence)
    except NotFoundError:
        if await repository.sequences(vm, after=target.sequence):
            return found  # it was published, and is lost: who needs it says so
    else:
        if there.id == target:
            return found
        return replace(found, record=structs.replace(found.record, folds=found.record.folds[:-1]))
    *folds, last = found.record.folds
    return replace(found, record=structs.replace(found.record, folds=folds), pending=last)


async def write(repository: Repository, vm: VmId, before: StoredRetention | None, folds: list[Fold]) -> bool:
    """Make the next generation; False if another's stands there already. Everything that the folds name must be in the
    store. A fold that is pending goes on to be, unless one of these leads as far: the copy may be about to publish."""
    pending = before.pending if before else None
    if pending is not None and all(fold.target.sequence < pending.target.sequence for fold in folds):
        folds = [*folds, pending]
    generation = before.record.generation + 1 if before else 1
    record = Retention(
        flags.VERSION,
        flags.FOLDED,
        vm,
        generation,
        before.sha256 if before else None,
        now_text(),
        f"warmspare {__version__}",
        folds,
    )
    data = retention.encode(record)
    if len(data) > MAX_RETENTION_BYTES:
        raise ConfigError(
            f"{len(folds)} folds of VM {vm!r} do not fit into a retention record",
            where=repository.store.uri,
            hint="keep fewer restore points",
        )
    return await repository.store.create(layout.retention_key(vm_key(vm), generation), data)
