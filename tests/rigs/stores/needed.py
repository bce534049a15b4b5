"""What every kept point of a VM needs, found by the records alone, and whether all of it is there; nothing of how the
program finds it is used."""

from __future__ import annotations

import hashlib

from rigs.stores.memory_store import MemoryStore
from warmspare.format import restore_point
from warmspare.format.manifest import ManifestReader
from warmspare.format.restore_point import ObjectRef
from warmspare.format.retained import retention
from warmspare.model.ids import VmId, vm_key
from warmspare.store import layout


class Needs:
    """Bodies that were right once are not summed again."""

    def __init__(self, vm: VmId) -> None:
        self._key = vm_key(vm)
        self._right: set[tuple[str, int]] = set()

    def demand(self, store: MemoryStore) -> list[int]:
        """The sequences of the points that are kept. AssertionError where something that one of them needs is not
        there, or is not what it was."""
        kept = []
        generations = [key for key in store.objects if key.startswith(layout.retention_prefix(self._key))]
        record = retention.decode(store.objects[max(generations)][0], "test") if generations else None
        points = sorted(key for key in store.objects if key.startswith(layout.points_prefix(self._key)))
        there = {number for key in points if (number := layout.parse_point_key(key)) is not None}
        assert there, "no point is left"
        for number in range(1, max(there) + 1):
            if record is not None and record.dropped(number):
                continue
            assert number in there, f"restore point {number} is lost"
            kept.append(number)
            point = restore_point.decode(store.objects[layout.point_key(self._key, number)][0], "test")
            fold = record.of_target(number) if record else None
            for disk in point.disks:
                if disk.checkpoint:
                    self._sound(store, disk.checkpoint.table)
                stated = fold.disk(disk.id) if fold else None
                self._manifest(store, stated.manifest if stated else disk.manifest)
            for part in fold.descent if fold else ():
                self._sound(store, part)
        return kept

    def _manifest(self, store: MemoryStore, ref: ObjectRef) -> None:
        data = self._sound(store, ref)
        for pack in ManifestReader(lambda at, count: data[at : at + count], len(data), ref.key).packs:
            self._is(store, layout.pack_key(self._key, pack.id), pack.sha256)

    def _sound(self, store: MemoryStore, ref: ObjectRef) -> bytes:
        return self._is(store, ref.key, bytes.fromhex(ref.sha256))

    def _is(self, store: MemoryStore, key: str, sha256: bytes) -> bytes:
        assert key in store.objects, f"{key} is lost"
        data = store.objects[key][0]
        if (key, id(data)) not in self._right:
            assert hashlib.sha256(data).digest() == sha256, f"{key} is not what it was"
            self._right.add((key, id(data)))
        return data
