"""What restore points that were let go still name, and what stood for them before; as long as their records are there.

Whoever began before they were let go still reads them. So what they name is nobody's finding and no orphan, until prune
has removed the records that name it. It is read for that alone, and not judged.
"""

from __future__ import annotations

import asyncio

from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.descent import Chain, read_record
from warmspare.audit.repository.object_checks import FindingPlace, ObjectChecks, Stated
from warmspare.errors import FormatError, NotFoundError
from warmspare.format.manifest import ManifestReader
from warmspare.format.restore_point import ObjectRef, RestorePoint
from warmspare.store import layout
from warmspare.threads import in_thread

AT_ONCE = 8


async def name_lingering(objects: ObjectChecks, inventory: VmContents, chain: Chain) -> bool:
    """Take it out of what nobody names. False where one of these can't be read, so it can't be told. StoreError."""
    if not inventory.left():
        return True
    manifests: dict[str, ObjectRef] = {}

    def met(ref: ObjectRef, *, manifest: bool) -> None:
        if manifest and inventory.unclaimed(ref.key):
            manifests[ref.key] = ref
        inventory.name(ref.key)

    for sequence in inventory.points:
        if chain.folds.drops(sequence) or sequence in chain.folds.by_target:
            record = await _record(objects, inventory, sequence)
            for disk in record.disks if record else ():
                met(disk.manifest, manifest=True)
                if disk.checkpoint:
                    met(disk.checkpoint.table, manifest=False)
    for retention in chain.folds.records:
        for fold in retention.folds:
            for folded in fold.disks:
                met(folded.manifest, manifest=True)
            for part in fold.descent:
                met(part, manifest=False)
    todo, sure = iter(manifests.values()), True

    async def work() -> None:
        nonlocal sure
        for ref in todo:
            sure = await _packs(objects, inventory, ref) and sure

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(AT_ONCE, len(manifests))):
            tasks.create_task(work(), name="name")
    return sure


async def _record(objects: ObjectChecks, inventory: VmContents, sequence: int) -> RestorePoint | None:
    try:
        return (await read_record(objects.store, inventory.vm, sequence))[0]
    except (NotFoundError, FormatError):
        return None  # gone since it was listed; or a finding already


async def _packs(objects: ObjectChecks, inventory: VmContents, ref: ObjectRef) -> bool:
    copy = await objects.fetch(Stated.of(ref), FindingPlace(""), lambda _: "", quiet=True)
    if copy is None:
        return False
    try:
        reader = await in_thread(ManifestReader, copy.read_at, copy.bytes, copy.where)
        for pack in reader.packs:
            inventory.name(layout.pack_key(inventory.vm, pack.id))
    except FormatError:
        return False
    finally:
        objects.scratch.drop(copy.file)
    return True
