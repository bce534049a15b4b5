"""A retention record: which restore points of a VM were dropped, what stands for them; owns its JSON and its rules.

docs/format.md, "Retention record". A VM's newest counts. A fold names by SHA-256 the point that it leads to and the
one that it begins at; the records of those between lie in its descent (format/retained/dropped_records.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from warmspare.errors import FormatError
from warmspare.format import flags
from warmspare.format.restore_point import MAX_DISKS, ObjectRef, safe_key
from warmspare.format.retained.dropped_records import MAX_STORED_BYTES
from warmspare.model.ids import DiskId, PointId, RunId, VmId
from warmspare.outside import records
from warmspare.outside.records import Count, Line, Moment, Sha256, UnfitError
from warmspare.outside.records import Sequence as Number

MAX_RETENTION_BYTES = 16 << 20


class FoldedDisk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A disk of the point that a fold leads to. from_nothing: the manifest says all of it; whatever it does not name is
    zeros. changed_blocks: that it names."""

    id: DiskId
    manifest: ObjectRef
    from_nothing: bool
    changed_blocks: Count


class Fold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands for the points after `base` up to `target`. base: None where it says all. dropped: how many points
    lie between. descent: where their records lie, oldest first. run: of the retention that made it. since: when it was
    first in force, by the store's clock."""

    target: PointId
    base: PointId | None
    dropped: Count
    run: RunId
    since: Moment
    disks: list[FoldedDisk]
    descent: list[ObjectRef]

    @property
    def after(self) -> int:
        """The sequence that it begins at; 0 for nothing."""
        return self.base.sequence if self.base else 0

    def drops(self, sequence: int) -> bool:
        """Whether the point is one of those that it stands for and that are no more."""
        return self.after < sequence < self.target.sequence

    def disk(self, disk_id: DiskId) -> FoldedDisk | None:
        return next((disk for disk in self.disks if disk.id == disk_id), None)

    def named(self) -> Iterator[str]:
        """The keys of all objects that it names itself; its manifests name packs."""
        for disk in self.disks:
            yield disk.manifest.key
        for part in self.descent:
            yield part.key


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """generation counts from 1; previous is the SHA-256 (hex) of the record before, None for the first. created: RFC
    3339 in UTC, by the clock of the host that wrote it. folds: ascending, of ranges that share nothing."""

    format: int
    flags: int
    vm_id: VmId
    generation: Number
    previous: Sha256 | None
    created: Moment
    software: Line
    folds: list[Fold]

    def covering(self, sequence: int) -> Fold | None:
        """The fold that leads away from a point that was dropped, or that it begins at; 0: from nothing."""
        return next((fold for fold in self.folds if fold.after <= sequence < fold.target.sequence), None)

    def of_target(self, sequence: int) -> Fold | None:
        return next((fold for fold in self.folds if fold.target.sequence == sequence), None)

    def dropped(self, sequence: int) -> bool:
        return any(fold.drops(sequence) for fold in self.folds)


@dataclass(frozen=True, slots=True)
class StoredRetention:
    """As read from the store. sha256: of the record. modified_s: when the store got it, Unix seconds; bytes: how long
    it is. pending: a last fold that `record` is without, since the point that it leads to is not there, or not yet."""

    record: Retention
    sha256: str
    modified_s: float
    bytes: int
    pending: Fold | None = None


def encode(record: Retention) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def decode(data: bytes, where: str) -> Retention:
    """FormatError on anything that breaks the rules of docs/format.md."""
    try:
        record = flags.decode(data, Retention, "retention record", where, known=flags.FOLDED)
    except UnfitError as error:
        raise FormatError(f"the retention record is damaged: {error}", where=where) from None
    _check(record, where)
    return record


def identity(data: bytes) -> str:
    """SHA-256 (hex) of a stored record."""
    return hashlib.sha256(data).hexdigest()


def _check(record: Retention, where: str) -> None:
    def demand(holds: bool, what: str) -> None:
        if not holds:
            raise FormatError(f"the retention record is damaged: {what}", where=where)

    demand((record.previous is None) == (record.generation == 1), "only the first follows none")
    demand(records.is_moment(record.created), "it was created on a day that no calendar has")
    behind = 0
    for fold in record.folds:
        demand(records.is_moment(fold.since), "a fold began on a day that no calendar has")
        demand(fold.after >= behind, "its folds do not ascend")
        demand(fold.base is not None or not behind, "a fold that is not the first begins at nothing")
        demand(fold.target.sequence - fold.after - 1 == fold.dropped > 0, "a fold drops another number than lies in it")
        demand(len(fold.disks) <= MAX_DISKS, f"a fold has more than {MAX_DISKS} disks")
        demand(len({disk.id for disk in fold.disks}) == len(fold.disks) > 0, "a fold has no disk, or one twice")
        demand(bool(fold.descent), "a fold does not say what it stands for")
        behind = fold.target.sequence
        demand(fold.base is not None or all(disk.from_nothing for disk in fold.disks), "a fold begins at nothing known")
        for ref in _refs(fold.disks, fold.descent):
            demand(ref.bytes > 0 and 0 <= ref.crc32c < 1 << 32 and safe_key(ref.key), "it has a malformed reference")
        largest = max(part.bytes for part in fold.descent)
        demand(largest <= MAX_STORED_BYTES, "a part of a descent is longer than one may be")


def _refs(disks: Sequence[FoldedDisk], descent: Sequence[ObjectRef]) -> Iterator[ObjectRef]:
    yield from (disk.manifest for disk in disks)
    yield from descent
