"""What an audit of a source is asked, and what it knows afterwards of each disk and of all; owns no words for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from warmspare.audit.expected.blockset import BlockSet
from warmspare.audit.reports.report import MapBuilder
from warmspare.format.restore_point import Disk
from warmspare.model.extents import Extents, normalise
from warmspare.model.ids import DiskId
from warmspare.model.units import BLOCK_BYTES
from warmspare.repository.chain import Point, Repository


@dataclass(frozen=True, slots=True, eq=False)
class SourceAuditSettings:
    """percent: the share of the blocks to look at, None for all. only: nothing but these, by disk; block-aligned."""

    percent: float | None = None
    only: Mapping[DiskId, Extents] | None = None


@dataclass(slots=True)
class DiskVerdict:
    """What is known of one disk. why_not: nothing of it could be judged, "" if some could. believed: whether something
    says what changed since. excluded_blocks: reported as changed, so not judged. in_full: a sample that had found
    something was made an audit of all. wrong: blocks that differ. evidence: (expected, actual) hashes of the first of
    them."""

    disk: Disk
    where: str
    map: MapBuilder
    why_not: str = ""
    believed: bool = False
    excluded_blocks: int = 0
    read_bytes: int = 0
    seconds: float = 0.0
    in_full: bool = False
    wrong: BlockSet = field(default_factory=BlockSet)
    evidence: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def judgeable(self) -> bool:
        return not self.why_not

    def extents(self) -> Extents:
        """What differs."""
        runs = np.array(list(self.wrong.runs()), dtype=np.int64).reshape(-1, 2) * BLOCK_BYTES
        stop = np.minimum(runs[:, 0] + runs[:, 1], self.disk.capacity_bytes)
        return normalise(runs[:, 0], stop - runs[:, 0])


@dataclass(frozen=True, slots=True)
class SourceVerdict:
    """What an audit came to; `report` is made of it."""

    point: Point
    repository: Repository
    disks: list[DiskVerdict]
    notes: list[str]
    began: str
    seed: int

    @property
    def wrong(self) -> dict[DiskId, Extents]:
        """What differs, by disk; those without a difference are left out."""
        return {one.disk.id: one.extents() for one in self.disks if len(one.wrong)}
