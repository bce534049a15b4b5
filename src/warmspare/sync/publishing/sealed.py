"""A restore point that only has to be sent any more; owns what is sent after its packs, and its end by another run.

All of it was read. Its record and its manifests lie in the journal, its packs in the store or in the spool; so it can
be finished without the machine, which may have changed or be gone by then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import crc32c

from warmspare.errors import FormatError, StoreError
from warmspare.format import restore_point
from warmspare.format.packlist import PackRef
from warmspare.format.restore_point import ObjectRef, RestorePoint
from warmspare.model.ids import PackId, VmKey
from warmspare.observe.housekeeping import Housekeeping
from warmspare.outside.regular_files import open_file
from warmspare.repository.object_upload import upload_file
from warmspare.state.local_files import STATE_DIRECTORY, local_io
from warmspare.store import layout
from warmspare.store.clearing import Clearing
from warmspare.store.contract import PART_BYTES, Store
from warmspare.sync.journal.journal import Journal, RunRecord
from warmspare.sync.passes.carry import opened
from warmspare.sync.publishing.spool import Spool
from warmspare.sync.resuming.unpublished import standing
from warmspare.threads import in_thread


@dataclass(frozen=True, slots=True)
class SealedPoint:
    """record, and data: its bytes."""

    record: RestorePoint
    data: bytes


def of(journal: Journal, left: RunRecord) -> SealedPoint | None:
    """What the run that left this journal sealed; None if it did not come so far."""
    data = journal.sealed()
    if data is None:
        return None
    try:
        record = restore_point.decode(data, str(journal.directory))
    except FormatError:
        return None  # of another version
    return SealedPoint(record, data) if record.run == left.run else None


def file_ref(key: str, path: Path) -> ObjectRef:
    """What a record says of the object that this file becomes."""
    summed, crc, size = hashlib.sha256(), 0, 0
    with local_io(STATE_DIRECTORY, path), open_file(path) as file:
        while part := file.read(PART_BYTES):
            summed.update(part)
            crc, size = crc32c.crc32c(part, crc), size + len(part)
    return ObjectRef(key, size, summed.hexdigest(), crc)


def _files(journal: Journal, record: RestorePoint) -> list[tuple[ObjectRef, Path]]:
    """The objects that are sent after the packs."""
    found = []
    for index, disk in enumerate(record.disks):
        found.append((disk.manifest, journal.manifest_path(index)))
        if disk.checkpoint and disk.checkpoint.sequence == record.sequence:
            found.append((disk.checkpoint.table, journal.table_path(index)))
    return found


async def send_files(store: Store, journal: Journal, record: RestorePoint) -> None:
    """Upload manifests and checkpoints. StoreError if a file is not what the record says of it."""
    for ref, path in _files(journal, record):
        with local_io(STATE_DIRECTORY, path):
            source = open_file(path)
        with source:
            sent = await upload_file(store, ref.key, source)
        if sent != ref:
            raise StoreError(
                f"{STATE_DIRECTORY} failed: a file of this run changed while it was sent",
                where=str(path),
                hint="nothing was published; check the medium and run again",
                retryable=True,
            )


async def complete(
    store: Store, vm: VmKey, journal: Journal, spool: Spool | None, sealed: SealedPoint, housekeeping: Housekeeping
) -> bool:
    """Bring all objects of a sealed point of a dead run to the store. False if that can't be: something
    is gone or damaged, or in the way, and the disks must be read again. Then nothing of it was sent."""
    record, files = sealed.record, _files(journal, sealed.record)
    for ref, path in files:
        if not path.exists() or await in_thread(file_ref, ref.key, path) != ref:
            return False
    packs = await in_thread(_packs, journal, record)
    wanted = {layout.pack_key(vm, pack.id): pack for pack in packs}
    there = {layout.pack_key(vm, p.id) for p in await standing(store, vm, packs)}
    left = {key: (pack.bytes, pack.crc32c) for key, pack in wanted.items() if key not in there}
    if left.keys() != (await spool.take(left) if spool is not None else set()):
        return False
    clearing, due = Clearing(store, housekeeping), left | {ref.key: (ref.bytes, ref.crc32c) for ref, _ in files}
    for prefix in layout.run_prefixes(vm, record.run):
        await clearing.uploads(prefix)
        # What is there and not right would be in the way; manifests that were sent already are sent again.
        if not await clearing.below(prefix, there) and await _in_the_way(store, prefix, due, left):
            return False
    if spool is not None:
        spool.send(left)
        await spool.drained()
    await send_files(store, journal, record)
    return True


async def _in_the_way(store: Store, prefix: str, due: Mapping[str, tuple[int, int]], absent: Container[str]) -> bool:
    """Whether something else stands where objects are due: length and CRC32C by key. absent: of those nothing may."""
    for key, (size, crc) in due.items():
        info = await store.head(key) if key.startswith(prefix) else None
        if info is not None and (key in absent or info.bytes != size or info.crc32c not in (None, crc)):
            return True
    return False


def _packs(journal: Journal, record: RestorePoint) -> list[PackRef]:
    """Every pack that the manifests in the journal name."""
    found: dict[PackId, PackRef] = {}
    for index in range(len(record.disks)):
        with opened(journal.manifest_path(index)) as manifest:
            found |= {pack.id: pack for pack in manifest.packs}
    return list(found.values())
