"""What a pass over a disk leaves to the next one, and what that one reads for it; owns no file's content.

A sync whose snapshot must not get old reads its disks in several passes, each from a snapshot of its own
(docs/architecture.md, "Passes"). Blocks that a pass has looked at are read again only where they changed since.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from warmspare.format.manifest import ManifestReader
from warmspare.format.packlist import PackRef
from warmspare.model.extents import Extents, union, whole_disk, widen
from warmspare.model.units import BLOCK_BYTES
from warmspare.outside.regular_files import open_regular
from warmspare.state.local_files import STATE_DIRECTORY, local_io
from warmspare.sync.planning.read_plan import ReadPlan, plan


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """What the passes so far leave of one disk.

    capacity_bytes, change_id: at the last one's snapshot. left: what none of them has looked at, block-aligned.
    reported: where the disk may differ from the head, None: anywhere. reason: why everything is read, "" if it is not.
    manifest: of what they recorded, all of it against the head; pages: the page log that goes with it. None where no
    pass came to this disk.
    """

    capacity_bytes: int
    change_id: str | None
    left: Extents
    reported: Extents | None
    reason: str
    manifest: Path | None = None
    pages: Path | None = None


@contextmanager
def opened(manifest: Path) -> Iterator[ManifestReader]:
    """A finished manifest on this host."""
    with local_io(STATE_DIRECTORY, manifest):
        fd = open_regular(manifest)
    try:
        yield ManifestReader(lambda at, size: os.pread(fd, size, at), os.fstat(fd).st_size, str(manifest))
    finally:
        os.close(fd)


def stands(carried: Carried, packs: list[PackRef]) -> bool:
    """Whether everything that the passes recorded lies in packs that were found in the store."""
    if carried.manifest is None:
        return True
    with opened(carried.manifest) as manifest:
        return set(manifest.packs) <= set(packs)


def go_on(
    carried: Carried, capacity_bytes: int, reported: Extents | None, *, usable: bool
) -> tuple[ReadPlan, Carried | None]:
    """What the next pass is to read, and what it goes on with; None: with nothing but the pages that were sent.

    reported: what changed since the last pass's snapshot, None: anything. usable: whether what they recorded stands.
    """
    since = plan(capacity_bytes, carried.capacity_bytes, reported)
    reason = carried.reason or since.reason
    if since.reported is None:
        return ReadPlan(since.read, None, reason), None
    # All that is sent differs from the head, so that is what findings must be held against.
    differs = None if carried.reported is None else union(carried.reported, since.reported)
    if usable:
        return ReadPlan(union(since.read, carried.left), differs, reason), carried
    read = whole_disk(capacity_bytes) if differs is None else widen(differs, BLOCK_BYTES, capacity_bytes)
    return ReadPlan(read, differs, reason), None
