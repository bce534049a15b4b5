"""One step on the way from a restore point to a later one, and what it does to a disk.

A step leads from any state between `before` and its point to the point. Where no point between them was dropped, it is
that of the point's own manifests; otherwise a fold's (docs/format.md, "Retention record").
"""

from __future__ import annotations

from dataclasses import dataclass

from warmspare.errors import IntegrityError
from warmspare.format.restore_point import Disk, ObjectRef
from warmspare.format.retained.retention import Fold
from warmspare.model.ids import DiskId, PointId, RunId
from warmspare.repository.chain import Point


@dataclass(frozen=True, slots=True)
class StepManifest:
    """What a step does to one disk of its point. ref, run: of the manifest. folded: it stands for several points.
    from_nothing: it says all of the disk; None where the record of the point before tells whether it had the disk."""

    disk: Disk
    ref: ObjectRef
    run: RunId
    folded: bool
    from_nothing: bool | None
    label: str  # of the point

    @property
    def name(self) -> str:
        """What the manifest is called in messages."""
        what = "the folded manifest" if self.folded else "the manifest"
        return f"{what} of disk {self.disk.id} in restore point {self.label}"


@dataclass(frozen=True, slots=True)
class Step:
    """point: where it leads. before: where it begins, None from nothing. fold: None where it drops nothing."""

    point: Point
    before: PointId | None
    fold: Fold | None = None

    def manifest(self, disk_id: DiskId) -> StepManifest | None:
        """None where the point has not got the disk. IntegrityError where its fold forgot it."""
        disk = self.point.record.disk(disk_id)
        if disk is None:
            return None
        label = self.point.id.label
        if self.fold is None:
            alone = True if self.before is None else None
            return StepManifest(disk, disk.manifest, self.point.record.run, False, alone, label)
        folded = self.fold.disk(disk_id)
        if folded is None:
            raise IntegrityError(
                f"the fold that leads to restore point {label} says nothing of its disk {disk_id}",
                hint="audit the repository",
            )
        return StepManifest(disk, folded.manifest, self.fold.run, True, folded.from_nothing, label)

    @property
    def changed_blocks(self) -> int:
        """That its manifests name, of all disks."""
        return sum(disk.changed_blocks for disk in (self.fold.disks if self.fold else self.point.record.disks))

    def reaches(self, sequence: int) -> bool:
        """Whether it may be taken by who is at that point."""
        return (self.before.sequence if self.before else 0) <= sequence < self.point.id.sequence
