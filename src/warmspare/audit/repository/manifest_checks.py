"""One manifest read for an audit: proved by its SHA-256, held against its record, its own rules checked.

Owns what an audit asks of a manifest, from the place of its frames to its totals; decoding is the format's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.repository.object_checks import REMEDY, Fetched, FindingPlace, ObjectChecks, Stated
from warmspare.errors import FormatError
from warmspare.format import pack
from warmspare.format.chunk import Chunk, ChunkFrames
from warmspare.format.manifest import ManifestReader, Totals
from warmspare.format.restore_point import Disk, ObjectRef, RestorePoint
from warmspare.format.retained.retention import Fold
from warmspare.model import masks
from warmspare.model.ids import RunId, VmKey
from warmspare.threads import beside


class Manifest:
    """Open; close it. packs: what it states of each pack, by index. bytes: its length."""

    def __init__(self, objects: ObjectChecks, copy: Fetched, reader: ManifestReader, vm: VmKey) -> None:
        self._objects, self._copy, self.reader, self.bytes = objects, copy, reader, copy.bytes
        self.packs = reader.packs.seen(lambda ref: Stated.of_pack(vm, ref))
        self._sizes = reader.packs.sizes

    def close(self) -> None:
        self._objects.scratch.drop(self._copy.file)

    def chunks(self) -> Iterator[Chunk]:
        """In the order of the disk. FormatError for what breaks the rules, after the last for totals that are wrong."""
        records = carried = zeroed = blocks = frames = 0
        for chunk in self.reader.chunks():
            self._demand_frames(chunk.frames)
            yield chunk
            records += len(chunk.records)
            carried += masks.total(chunk.records.carried)
            zeroed += masks.total(chunk.records.zero)
            blocks += chunk.zeros.blocks
            frames += len(chunk.frames)
        if Totals(records, carried, zeroed, blocks, frames) != self.reader.totals:
            raise FormatError("a manifest's totals are not those of its records", where=self._copy.where)

    def _demand_frames(self, frames: ChunkFrames) -> None:
        if len(frames):
            start = frames.offset.astype(np.int64)
            stop = start + frames.size
            if np.any(start < pack.HEADER.size) or np.any(stop.astype(np.uint64) > self._sizes[frames.pack]):
                raise FormatError("a manifest names a frame outside of its pack", where=self._copy.where)


@dataclass(frozen=True, slots=True)
class StatedManifest:
    """What a record, or what stands for it and others, states of a disk. ref, run: of its manifest. from_nothing: what
    it does not name is zeros, whatever was there before."""

    disk: Disk
    ref: ObjectRef
    run: RunId
    folded: bool = False
    from_nothing: bool = False

    @classmethod
    def of(cls, record: RestorePoint, disk: Disk, fold: Fold | None) -> StatedManifest | None:
        """None where the fold says nothing of the disk."""
        if fold is None:
            return cls(disk, disk.manifest, record.run)
        folded = next((one for one in fold.disks if one.id == disk.id), None)
        return cls(disk, folded.manifest, fold.run, True, folded.from_nothing) if folded else None


async def open_manifest(
    objects: ObjectChecks, vm: VmKey, manifest: StatedManifest, place: FindingPlace, *, quiet: bool
) -> Manifest | None:
    """The manifest of a disk; None, with findings unless `quiet`, where it is not what is stated."""
    stated, disk = Stated.of(manifest.ref), manifest.disk
    there = await objects.look(stated, place, quiet=quiet)
    copy = await objects.fetch(stated, place, describe, quiet=quiet or not there)
    if copy is None:
        return None
    try:
        reader = await beside(copy.bytes, ManifestReader, copy.read_at, copy.bytes, copy.where)
        head = reader.header
        said = (head.disk_id, head.capacity_bytes, head.run, head.folded)
        if said != (disk.id, disk.capacity_bytes, manifest.run, manifest.folded):
            raise FormatError("the record names a manifest of another disk or run", where=copy.where)
        return Manifest(objects, copy, reader, vm)
    except FormatError as error:
        objects.scratch.drop(copy.file)
        malformed(objects, stated.key, place, error)
        return None
    except BaseException:
        objects.scratch.drop(copy.file)
        raise


def malformed(objects: ObjectChecks, key: str, place: FindingPlace, error: FormatError) -> None:
    """A finding: the object is the very one that was written, and breaks the format's rules."""
    objects.findings.add(
        FindingKind.OBJECT_MALFORMED,
        point=place.point,
        disk=place.disk,
        key=key,
        expected="what docs/format.md demands",
        actual=error.what,
        remedy=REMEDY,
    )


def describe(copy: Fetched) -> str:
    """Which other manifest it is, "" if it is none."""
    try:
        reader = ManifestReader(copy.read_at, copy.bytes, copy.where)
    except FormatError:
        return ""
    return f"the manifest of disk {reader.header.disk_id!r} by run {reader.header.run}"
