"""All that the restore points of one VM state, walked from the first to the newest without reading a pack.

Owns the order: record, manifest, packs as the store tells of them, hash table, root, checkpoint; and for each disk what
the next point needs to be judged by. Blocks are read by deep/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass, field

import numpy as np

from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.descent import AHEAD, Chain, Link, Proof, read_record
from warmspare.audit.repository.losses import Losses, lost_with
from warmspare.audit.repository.manifest_checks import Manifest, StatedManifest, malformed, open_manifest
from warmspare.audit.repository.merkle import ChainTable
from warmspare.audit.repository.object_checks import REMEDY, FindingPlace, ObjectChecks, Stated
from warmspare.errors import FormatError, NotFoundError
from warmspare.format import tablefile
from warmspare.format.restore_point import Checkpoint, Disk, RestorePoint
from warmspare.format.retained.retention import Fold
from warmspare.model import masks
from warmspare.model.block_records import Records
from warmspare.model.columns import U32
from warmspare.model.ids import DiskId
from warmspare.model.runs import group_starts
from warmspare.side_by_side import ahead
from warmspare.state.page_column import PageColumn
from warmspare.store import layout
from warmspare.threads import beside, in_thread


@dataclass(slots=True)
class DiskWalk:
    """A disk on its way. known: whether `table` is that of the point last walked. inherits: 1 for each block of which
    any record inherits pages. broken: label of the first point from which on the chain does not tell what the disk
    holds, "" while it does. disk: as last stated, and by which manifest. bad_packs: keys of those that were found
    wrong.
    """

    table: ChainTable
    losses: Losses
    inherits: PageColumn
    disk: Disk
    known: bool = True
    broken: str = ""
    bad_packs: set[str] = field(default_factory=set)
    manifest_key: str = ""


def inheriting(records: Records, capacity_bytes: int) -> U32:
    """Blocks of which a chunk's records leave pages as they were, ascending."""
    starts = group_starts(records.block)
    blocks = records.block[starts]
    missing = masks.whole_masks(blocks, capacity_bytes) & ~masks.united(records.pages, starts)
    out: U32 = blocks[missing != 0]
    return out


class PointWalk:
    """Runs once, for one VM. points, manifests, packs, tables: how many were judged. complete: whether every object
    that the points name is known."""

    def __init__(self, objects: ObjectChecks, inventory: VmContents, chain: Chain) -> None:
        self._objects, self._findings = objects, objects.findings
        self._inventory, self._chain, self._vm = inventory, chain, inventory.vm
        self.disks: dict[DiskId, DiskWalk] = {}
        self.head: RestorePoint | None = None
        self.points = self.manifests = self.packs = self.tables = self.pack_bytes = 0
        self.complete = not chain.broken
        self._tables: set[str] = set()

    async def run(self) -> None:
        """StoreError; findings for all else."""
        before: RestorePoint | None = None
        first = True
        async with aclosing(ahead(self._record, self._chain.kept, AHEAD)) as reads:
            async for sequence, reading in reads:
                link, record = self._chain.links.get(sequence), await reading
                if link is None or record is None:
                    self._lose_way(str(sequence))
                else:
                    await self._point(link, record, before, first=first)
                before, first = record, False
        self.head = before

    async def _record(self, sequence: int) -> RestorePoint | None:
        link = self._chain.links.get(sequence)
        if link is None or self._chain.uncertain(sequence):
            return None
        try:
            record, digest = await read_record(self._objects.store, self._vm, link.sequence)
        except (NotFoundError, FormatError):
            record, digest = None, ""
        if digest != link.sha256:
            self.complete = False
            self._findings.add(
                FindingKind.POINT_FORKED,
                point=link.label,
                key=layout.point_key(self._vm, link.sequence),
                expected=f"SHA-256 {link.sha256}",
                actual=f"SHA-256 {digest}" if digest else "nothing",
                meaning="a restore point was changed while it was audited",
            )
            return None
        return record

    def _lose_way(self, label: str) -> None:
        """What the disks hold from here on is not known."""
        for walk in self.disks.values():
            walk.known = False
            walk.broken = walk.broken or label

    async def _point(self, link: Link, record: RestorePoint, before: RestorePoint | None, *, first: bool) -> None:
        self.points += 1
        doubted = link.proof is Proof.DOUBTED
        fold = self._chain.folds.by_target.get(link.sequence)
        self._demand_own_disks(link, record, fold)
        for disk in record.disks:
            place = FindingPlace(link.label, disk.id)
            stated = StatedManifest.of(record, disk, fold)
            walk = self._disk(disk, before, link, first=first, anew=bool(stated and stated.from_nothing))
            if walk.disk.capacity_bytes > disk.capacity_bytes and not doubted:
                self._findings.add(
                    FindingKind.OBJECT_MALFORMED,
                    point=link.label,
                    disk=disk.id,
                    actual=f"{disk.capacity_bytes} bytes",
                    key=layout.point_key(self._vm, link.sequence),
                    expected=f"at least the {walk.disk.capacity_bytes} bytes that the disk had before",
                )
            walk.disk = disk
            if stated is None:
                self._findings.add(
                    FindingKind.FOLD_BROKEN,
                    point=link.label,
                    disk=disk.id,
                    key=self._chain.folds.key,
                    expected="a manifest of the disk",
                    actual="nothing of it",
                    remedy=REMEDY,
                )
                self.complete = False
                walk.known, walk.broken = False, walk.broken or link.label
                continue
            walk.manifest_key = stated.ref.key
            self._inventory.name(stated.ref.key)
            manifest = await open_manifest(self._objects, self._vm, stated, place, quiet=doubted)
            if manifest is None:
                self.complete = False
                walk.known, walk.broken = False, walk.broken or link.label
            else:
                with closing(manifest):
                    await self._manifest(manifest, walk, place, doubted=doubted)
            walk.losses.at(link.sequence, before.sequence if before else 0)
            await self._root(walk, link, doubted=doubted)
            if disk.checkpoint:
                await self._checkpoint(disk.checkpoint, walk, link, doubted=doubted)

    def _demand_own_disks(self, link: Link, record: RestorePoint, fold: Fold | None) -> None:
        for folded in fold.disks if fold else ():
            if record.disk(folded.id) is None and link.proof is not Proof.DOUBTED:
                self._findings.add(
                    FindingKind.FOLD_BROKEN,
                    point=link.label,
                    disk=folded.id,
                    key=self._chain.folds.key,
                    expected="manifests of the restore point's disks",
                    actual="one of a disk that it has not got",
                    remedy=REMEDY,
                )

    def _disk(self, disk: Disk, before: RestorePoint | None, link: Link, *, first: bool, anew: bool) -> DiskWalk:
        """anew: it begins as zeros, whatever it was before."""
        walk = self.disks.get(disk.id)
        if walk is not None and not anew and (before is None or before.disk(disk.id) is not None):
            return walk
        scratch = self._objects.scratch
        if walk is not None:  # it was taken out of the VM and came back: it begins as zeros
            walk.table.close()
        # What blocks are inherited anywhere in the chain may name too many; so one column does for all of it.
        inherits = walk.inherits if walk else PageColumn(scratch.file(), np.uint8)
        walk = DiskWalk(ChainTable(scratch), Losses(scratch.file()), inherits, disk)
        if before is None and not first and not anew:  # whether the disk was there before nobody knows
            walk.known, walk.broken = False, link.label
        self.disks[disk.id] = walk
        return walk

    async def _manifest(self, manifest: Manifest, walk: DiskWalk, place: FindingPlace, *, doubted: bool) -> None:
        self.manifests += 1
        for one in manifest.packs:
            self._inventory.name(one.key)
        there = await self._objects.look_all(manifest.packs, place)
        self.packs += len(there)
        self.pack_bytes += manifest.packs.total_bytes
        bad = np.flatnonzero(~np.array(there, dtype=bool)).astype(np.uint32)
        walk.bad_packs.update(manifest.packs[index].key for index in bad.tolist())
        try:
            await beside(manifest.bytes, self._records, manifest, walk, bad)
        except FormatError as error:
            walk.known, walk.broken = False, walk.broken or place.point
            malformed(self._objects, walk.manifest_key, place, error)

    @staticmethod
    def _records(manifest: Manifest, walk: DiskWalk, bad: U32) -> None:
        for chunk in manifest.chunks():
            walk.table.put(chunk.records.block, chunk.records.hashes)
            for start, count in chunk.zeros.pairs():
                walk.table.clear(start, count)
            walk.inherits.put(inheriting(chunk.records, manifest.reader.header.capacity_bytes), 1)
            walk.losses.settle(chunk, lost_with(chunk, bad))

    async def _root(self, walk: DiskWalk, link: Link, *, doubted: bool) -> None:
        if not walk.known or doubted:
            return
        found = await beside(walk.table.unhashed_bytes, walk.table.root, walk.disk.capacity_bytes)
        if found != walk.disk.root:
            walk.known = False
            self._findings.add(
                FindingKind.TABLE_ROOT,
                point=link.label,
                disk=walk.disk.id,
                key=layout.point_key(self._vm, link.sequence),
                expected=f"root {walk.disk.root}",
                actual=f"root {found}",
            )

    async def _checkpoint(self, checkpoint: Checkpoint, walk: DiskWalk, link: Link, *, doubted: bool) -> None:
        """A stored hash table: as stated, and what the manifests give; of a point that was let go, whose manifests are
        gone, by the root in its record. Where manifests do not tell any more, and its root is the point's, it is what
        the table goes on from."""
        ref, own = checkpoint.table, checkpoint.sequence == link.sequence
        self._inventory.name(ref.key)
        if ref.key in self._tables:
            return
        place, stated = FindingPlace(link.label, walk.disk.id), Stated.of(ref)
        self.tables += 1
        if not doubted:
            self._tables.add(ref.key)
        there = await self._objects.look(stated, place, quiet=doubted)
        copy = await self._objects.fetch(stated, place, lambda _: "", quiet=doubted or not there)
        if copy is None:
            return
        capacity = walk.disk.capacity_bytes

        def leaves() -> Iterator[tuple[int, bytes]]:
            return tablefile.decode(copy.read_at, copy.bytes, capacity, copy.where)

        try:
            if not own:
                await self._dropped_table(checkpoint, leaves, place)
                return
            if walk.known:
                leaf = await in_thread(lambda: walk.table.differs(leaves()))
                if leaf is not None:
                    self._findings.add(
                        FindingKind.TABLE_ROOT,
                        point=link.label,
                        disk=walk.disk.id,
                        key=ref.key,
                        expected="the hash table that the manifests give",
                        actual=f"another leaf {leaf}",
                    )
                return
            await in_thread(lambda: walk.table.load(leaves()))
            walk.known = await in_thread(walk.table.root, capacity) == walk.disk.root and not doubted
        except FormatError as error:
            malformed(self._objects, ref.key, place, error)
        finally:
            self._objects.scratch.drop(copy.file)

    async def _dropped_table(
        self, checkpoint: Checkpoint, leaves: Callable[[], Iterator[tuple[int, bytes]]], place: FindingPlace
    ) -> None:
        dropped = self._chain.folds.points.get(checkpoint.sequence)
        disk = next((one for one in dropped.tables if one.id == place.disk), None) if dropped else None
        if disk is None:
            return
        table = ChainTable(self._objects.scratch)
        try:
            await in_thread(lambda: table.load(leaves()))
            found = await in_thread(table.root, disk.capacity_bytes)
        finally:
            table.close()
        if found != disk.root:
            self._findings.add(
                FindingKind.TABLE_ROOT,
                point=place.point,
                disk=place.disk,
                key=checkpoint.table.key,
                expected=f"root {disk.root}, as the record of number {checkpoint.sequence} states it",
                actual=f"root {found}",
            )
