"""A VM with a chain of any length in which nothing ever changed but for the newest point, by the format's own writer:
for what is asked of the newest points, and costs the same however many there are."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import crc32c
import msgspec

from warmspare.format import restore_point
from warmspare.format.manifest import Header, ManifestWriter
from warmspare.format.restore_point import ObjectRef, RestorePoint
from warmspare.model.ids import PointId, VmId, vm_key
from warmspare.repository.chain import open_repository
from warmspare.state.local_files import write_record
from warmspare.state.local_table import HashTable
from warmspare.state.replica_record import REPLICA, ReplicaPlace
from warmspare.store import layout
from warmspare.store.contract import Store

Put = Callable[[str, bytes], Awaitable[object]]


async def lengthen(store: Store, vm: VmId, points: int, put: Put) -> PointId:
    """Add records until there are so many; each names a manifest that says nothing. put: how one is written. The newest
    of them."""

    repository = await open_repository(store)
    newest = await repository.newest(vm)
    assert newest is not None
    head = await repository.load(vm, newest)
    record = head.record
    (disk,) = record.disks
    parts: list[bytes] = []
    ManifestWriter(Header(disk.id, disk.capacity_bytes, record.run), parts.append).finish([])
    data = b"".join(parts)
    key = layout.manifest_key(vm_key(vm), record.run, 999)
    await put(key, data)
    ref = ObjectRef(key, len(data), hashlib.sha256(data).hexdigest(), crc32c.crc32c(data))
    made_s = datetime.datetime.fromisoformat(record.created).timestamp()
    parent = head.id.sha256
    checkpoint = disk.checkpoint
    for sequence in range(newest + 1, points + 1):
        created = datetime.datetime.fromtimestamp(made_s + sequence - newest, datetime.UTC)
        if checkpoint and sequence % 500 == 0:  # as a sender does, of the same table
            checkpoint = msgspec.structs.replace(checkpoint, sequence=sequence)
        same = msgspec.structs.replace(disk, manifest=ref, changed_blocks=0, checkpoint=checkpoint)
        next_record: RestorePoint = msgspec.structs.replace(
            record,
            sequence=sequence,
            parent=parent,
            created=created.isoformat(timespec="seconds").replace("+00:00", "Z"),
            disks=[same],
        )
        stored = restore_point.encode(next_record)
        await put(layout.point_key(vm_key(vm), sequence), stored)
        parent = restore_point.identity(stored)
    return PointId(points, parent)


def move_replica(replica: Path, to: PointId) -> None:
    """Say of a replica, and of its hash tables, that they are at that point, whose disks are the same."""
    place = ReplicaPlace(replica, replica.stat().st_mode, None)
    record = place.read()
    assert record is not None
    write_record(place.record_path, msgspec.structs.replace(record, at=to), REPLICA)
    for path in place.state.rglob("table"):
        with HashTable(path) as table:
            table._header.write(to.sha256)
