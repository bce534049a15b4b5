"""What somebody may still need of a VM's objects: named by points, folds and retention records; owns the reading of it.

Only pack lists are asked of manifests, and each is read once.
"""

from __future__ import annotations

from pathlib import Path

from warmspare.format.manifest import ManifestReader
from warmspare.format.restore_point import ObjectRef
from warmspare.model.ids import PackId, vm_key
from warmspare.repository.chain import Repository
from warmspare.repository.verified_objects import SMALL_BYTES, fetched, verified_bytes
from warmspare.retain.vm_standing import VmStanding
from warmspare.side_by_side import side_by_side
from warmspare.store import layout
from warmspare.threads import in_thread

AT_ONCE = 16


class NeededObjects:
    """Keys that are needed."""

    def __init__(self, repository: Repository, found: VmStanding, scratch: Path) -> None:
        self._repository, self._found, self._scratch = repository, found, scratch
        self._key = vm_key(found.vm)
        self.keys: set[str] = set()
        self._manifests: dict[str, ObjectRef] = {}

    async def gather(self) -> set[str]:
        """All of them. IntegrityError where a manifest is missing or damaged; StoreError."""
        self._of_points()
        for one in self._found.in_use:
            self.keys.add(layout.retention_key(self._key, one.record.generation))
            for fold in one.record.folds:
                self.keys.update(fold.named())
                self._manifests.update({disk.manifest.key: disk.manifest for disk in fold.disks})
        await side_by_side(self._packs, list(self._manifests.values()), AT_ONCE)
        return self.keys

    def _of_points(self) -> None:
        by_all = self._found.by_all
        for number, point in self._found.points.items():
            if by_all is not None and by_all.dropped(number):
                continue
            self.keys.add(layout.point_key(self._key, number))
            self.keys.update(point.tables)
            if by_all is None or by_all.of_target(number) is None:  # a fold's manifest goes instead, for everybody
                self.keys.update(ref.key for ref in point.manifests)
                self._manifests.update({ref.key: ref for ref in point.manifests})

    async def _packs(self, ref: ObjectRef) -> None:
        what = f"the manifest {ref.key}"
        if ref.bytes <= SMALL_BYTES:
            data = await verified_bytes(self._repository, ref, what)
            reader = ManifestReader(lambda at, size: data[at : at + size], len(data), self._repository.where(ref.key))
            packs = [pack.id for pack in reader.packs]
        else:
            async with fetched(self._repository, ref, self._scratch, what) as copy:
                large = await in_thread(ManifestReader, copy.read_at, copy.total_bytes, copy.where)
                packs = [pack.id for pack in large.packs]
        self.keys.update(self._pack_key(pack) for pack in packs)

    def _pack_key(self, pack: PackId) -> str:
        return layout.pack_key(self._key, pack)
