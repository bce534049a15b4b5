"""What stands for restore points that were let go, held against the points that are left; owns what is believed of it.

docs/format.md, "Retention record". Nothing names a retention record, so all that it says is proved by the records that
it names: the points that it leads to, and those that it stands for, which lie in descents. That the manifests say what
those of the points said, the walk proves by the roots of the points, and a deep audit block by block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from warmspare.audit.reports.collect import Findings
from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.object_checks import REMEDY
from warmspare.errors import FormatError, NotFoundError, StoreError
from warmspare.format import restore_point
from warmspare.format.restore_point import ObjectRef
from warmspare.format.retained import dropped_records, retention
from warmspare.format.retained.retention import MAX_RETENTION_BYTES, Fold, Retention
from warmspare.model.ids import VmId, vm_key
from warmspare.store import layout
from warmspare.store.contract import Store


@dataclass(slots=True)
class DroppedPoint:
    """A record out of a descent."""

    sequence: int
    sha256: str
    parent: str | None


@dataclass(slots=True)
class Folds:
    """Of one VM. by_target: by the sequence of the point that each leads to. points: that they stand for, as far as
    their descents could be read, by sequence. sha256: of the retention record; "" where there is none."""

    by_target: dict[int, Fold] = field(default_factory=dict)
    points: dict[int, DroppedPoint] = field(default_factory=dict)
    sha256: str = ""

    def drops(self, sequence: int) -> bool:
        return any(fold.drops(sequence) for fold in self.by_target.values())

    def kept(self, newest: int) -> Iterator[int]:
        """The sequences that are to be there, ascending."""
        ranges = sorted((fold.after + 1, fold.target.sequence) for fold in self.by_target.values())
        at = 1
        for start, stop in ranges:
            yield from range(at, start)
            at = max(at, stop)
        yield from range(at, newest + 1)


async def read_folds(store: Store, inventory: VmContents, called: VmId, findings: Findings) -> Folds:
    """The newest retention record and its descents. What is wrong with them is a finding. StoreError."""
    found = Folds()
    record = await _newest(store, inventory, called, findings, found)
    if record is None:
        return found
    newest = max(inventory.points, default=0)
    for fold in record.folds:
        if fold is record.folds[-1] and fold.target.sequence > newest:
            continue  # a copy died before it published that point
        found.by_target[fold.target.sequence] = fold
        for key in fold.named():
            inventory.name(key)
        await _descent(store, inventory, fold, findings, found)
    return found


async def _newest(
    store: Store, inventory: VmContents, called: VmId, findings: Findings, found: Folds
) -> Retention | None:
    before: tuple[int, str] | None = None
    record: Retention | None = None
    for generation in inventory.generations[-2:]:
        key = layout.retention_key(inventory.vm, generation)
        try:
            data = await store.get(key, max_bytes=MAX_RETENTION_BYTES)
            record = retention.decode(data, key)
        except NotFoundError:
            continue  # removed by who wrote a newer one
        except FormatError as error:
            record = None
            findings.add(
                FindingKind.OBJECT_MALFORMED,
                point="",
                key=key,
                expected="a retention record",
                actual=error.what,
                remedy=REMEDY,
            )
            continue
        if record.generation != generation or vm_key(record.vm_id) != inventory.vm or called not in ("", record.vm_id):
            findings.add(
                FindingKind.OBJECT_REPLAYED,
                point="",
                key=key,
                expected=f"retention record {generation}",
                actual=f"retention record {record.generation} of VM {record.vm_id!r}",
                remedy=REMEDY,
            )
            record = None
            continue
        if before is not None and before[0] == generation - 1 and record.previous != before[1]:
            findings.add(
                FindingKind.FOLD_BROKEN,
                point="",
                key=key,
                expected=f"that it follows the record with SHA-256 {before[1]}",
                actual=f"it follows {record.previous}",
            )
        found.sha256 = retention.identity(data)
        before = generation, found.sha256
    return record


async def _descent(store: Store, inventory: VmContents, fold: Fold, findings: Findings, found: Folds) -> None:
    """The points of one fold: each proved to follow the one before, from the fold's base on."""
    before, sequence = (fold.base.sha256 if fold.base else None), fold.after
    for part in fold.descent:
        try:
            for first, stored in await _records(store, part, before):
                sequence += 1
                record = restore_point.decode(stored, part.key)
                right = (first, vm_key(record.vm_id), record.parent) == (record.sequence, inventory.vm, before)
                if not right or record.sequence != sequence:
                    raise FormatError("its records are no chain", where=part.key)
                before = restore_point.identity(stored)
                found.points[sequence] = DroppedPoint(sequence, before, record.parent)
        except FormatError as error:
            _broken(findings, fold, part.key, "the records of the points that it stands for", error.what)
            return
    if sequence + 1 != fold.target.sequence:
        what = f"records up to number {fold.target.sequence - 1}"
        _broken(findings, fold, fold.descent[-1].key, what, f"the last is number {sequence}")


async def _records(store: Store, part: ObjectRef, before: str | None) -> list[tuple[int, bytes]]:
    """(sequence, record) of each. FormatError where the object is not what is stated."""
    try:
        data = await store.get(part.key, max_bytes=part.bytes)
    except NotFoundError:
        raise FormatError("nothing is there", where=part.key) from None
    except StoreError as error:
        if error.retryable:
            raise
        raise FormatError(error.what, where=part.key) from error
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise FormatError("its SHA-256 is another", where=part.key)
    first, records = dropped_records.decode(data, before, part.key)
    return list(enumerate(records, first))


def _broken(findings: Findings, fold: Fold, key: str, expected: str, actual: str) -> None:
    findings.add(FindingKind.FOLD_BROKEN, point=fold.target.label, key=key, expected=expected, actual=actual)
