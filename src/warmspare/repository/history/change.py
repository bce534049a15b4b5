"""What becomes of one disk on the way over several steps, as one manifest; owns which of their manifests still count.

However many restore points a replica is behind, each block is fetched once, as the last of them has it; and what is
dropped between two points is folded in the same way.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from warmspare.format.manifest import Header, ManifestReader, ManifestWriter
from warmspare.format.packlist import PackRef
from warmspare.format.restore_point import Disk
from warmspare.model.ids import DiskId
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.fold_rows import fold
from warmspare.repository.history.step import Step, StepManifest
from warmspare.repository.verified_objects import ObjectShelf, read_manifest
from warmspare.state.local_files import local_io, nameless_file, pwrite_all
from warmspare.threads import in_thread

WHAT = "temporary space"


@dataclass(frozen=True, slots=True)
class DiskChange:
    """Of one disk, to how it is at the last step's point. from_nothing: what the manifest does not name is zeros.
    alone: it is one restore point's own manifest, of which every row is news. made_of: the manifests that it says
    together; bytes: of these. packs, pack_bytes: that they name, each once."""

    disk: Disk
    manifest: ManifestReader
    where: str
    from_nothing: bool
    alone: bool
    bytes: int
    made_of: Sequence[ManifestReader]
    packs: int
    pack_bytes: int


def stated(steps: Sequence[Step], before: Point | None, disk_id: DiskId) -> tuple[list[StepManifest], bool]:
    """(the manifests that count, oldest first; whether they begin with nothing). before: where the steps begin. The
    last step's point must have the disk."""
    nothing = before is None or before.record.disk(disk_id) is None
    out: list[StepManifest] = []
    for step in steps:
        one = step.manifest(disk_id)
        if one is None or one.from_nothing:  # it left, or begins anew: what was there before is of no use
            out, nothing = [], True
        if one is not None:
            out.append(one)
    return out, nothing


@asynccontextmanager
async def change(
    repository: Repository, steps: Sequence[Step], before: Point | None, disk: Disk, scratch: Path
) -> AsyncIterator[DiskChange]:
    """What the steps do to a disk, every manifest verified. IntegrityError, StoreError."""
    parts, nothing = stated(steps, before, disk.id)
    size = sum(part.ref.bytes for part in parts)
    with closing(ObjectShelf(repository, scratch)) as shelf:
        copies = await shelf.fetch_all([(part.ref, part.name) for part in parts])
        readers = [read_manifest(copy, part) for copy, part in zip(copies, parts, strict=True)]
        where = repository.where(parts[-1].ref.key)
        packs = sum(len(reader.packs.once()) for reader in readers)  # a pack is of one point, so none counts twice
        pack_bytes = sum(reader.packs.once().total_bytes for reader in readers)
        if len(readers) == 1:
            yield DiskChange(disk, readers[0], where, nothing, not parts[0].folded, size, readers, packs, pack_bytes)
            return
        fd = nameless_file(scratch)
        try:
            header = Header(disk.id, disk.capacity_bytes, parts[-1].run, True)
            with local_io(WHAT, scratch):
                length = await in_thread(write_manifest, fd, header, lambda out: fold(readers, out))
            reader = ManifestReader(lambda at, count: os.pread(fd, count, at), length, where)
            yield DiskChange(disk, reader, where, nothing, False, size, readers, packs, pack_bytes)
        finally:
            os.close(fd)


def write_manifest(fd: int, header: Header, rows: Callable[[ManifestWriter], Sequence[PackRef]]) -> int:
    """In a worker thread; the length of what was written to a new file. rows: writes chunks, and returns the packs that
    they name. OSError."""
    end = 0

    def write(data: bytes) -> None:
        nonlocal end
        pwrite_all(fd, data, end)
        end += len(data)

    out = ManifestWriter(header, write)
    out.finish(rows(out))
    return end
