"""What stands for restore points that were let go: read, and held against its own rules; owns what is taken from it.

docs/format.md, "Retention record". Nothing names a retention record, so all that it says is proved by the records that
it names: the points that it leads to, and those that it stands for, which lie in descents (descent.py holds them
against those that are left). That the manifests say what those of the points said, the walk proves by the roots of the
points, and a deep audit block by block.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from warmspare.audit.reports.collect import Findings
from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.object_checks import REMEDY
from warmspare.errors import FormatError, NotFoundError, StoreError
from warmspare.format import restore_point
from warmspare.format.restore_point import Disk, ObjectRef
from warmspare.format.retained import dropped_records, retention
from warmspare.format.retained.retention import MAX_RETENTION_BYTES, Fold, Retention
from warmspare.model.ids import VmId, vm_key
from warmspare.store import layout
from warmspare.store.contract import Store

_TRIES = 4  # newer ones may come, and older ones go, while they are read


class StandingRecord(Protocol):
    """A restore point whose record could be read."""

    sha256: str
    parent: str | None


@dataclass(slots=True)
class DroppedPoint:
    """A record out of a descent. target: the sequence of the point that its fold leads to. tables: of disks of which it
    stored the hash table, which later points go on from."""

    sequence: int
    sha256: str
    parent: str | None
    target: int
    tables: tuple[Disk, ...]


@dataclass(slots=True)
class Folds:
    """Of one VM. by_target: by the sequence of the point that each leads to. points: that they stand for, as far as
    their descents could be read, by sequence. key, sha256: of the retention record that says so; "" where there is
    none. records: all retention records that could be read, ascending. unread: the newest could not, so that it can't
    be told which points were let go. leads_nowhere: the last fold, where its point is not there."""

    by_target: dict[int, Fold] = field(default_factory=dict)
    points: dict[int, DroppedPoint] = field(default_factory=dict)
    key: str = ""
    sha256: str = ""
    records: list[Retention] = field(default_factory=list)
    unread: bool = False
    leads_nowhere: Fold | None = None

    def drops(self, sequence: int) -> bool:
        targets = sorted(self.by_target)
        at = bisect.bisect_right(targets, sequence)
        return at < len(targets) and self.by_target[targets[at]].drops(sequence)

    def kept(self, newest: int) -> list[range]:
        """The sequences that are to be there, ascending."""
        ranges, at = [], 1
        for target, fold in sorted(self.by_target.items()):
            ranges.append(range(at, fold.after + 1))
            at = target
        return [*ranges, range(at, newest + 1)]


async def read_folds(
    store: Store, inventory: VmContents, called: VmId, standing: Mapping[int, StandingRecord], findings: Findings
) -> Folds:
    """The newest retention record that can be read, and its descents. standing: the points whose records could be read,
    by sequence. What is wrong with them is a finding. StoreError."""
    for last in range(_TRIES, 0, -1):
        found = await _records(store, inventory, called, findings, last=last == 1)
        if found is not None:
            break
        inventory.generations = [
            number
            async for info in store.list(layout.retention_prefix(inventory.vm))
            if (number := layout.parse_retention_key(info.key)) is not None
        ]
    assert found is not None
    newest = max(inventory.points, default=0)
    for fold in found.records[-1].folds if found.records else ():
        last, mine = fold is found.records[-1].folds[-1], Findings()
        if last and fold.target.sequence > newest:  # not published yet; or it is gone
            found.leads_nowhere = fold
            continue
        points = await _descent(store, inventory, fold, standing, mine)
        if last and _is_dead(fold, standing, points):
            found.leads_nowhere = fold
            continue
        found.by_target[fold.target.sequence] = fold
        for key in fold.named():
            inventory.name(key)
        found.points |= points
        for one in mine.listed:
            findings.put(one)
    return found


def _is_dead(fold: Fold, standing: Mapping[int, StandingRecord], told: Mapping[int, DroppedPoint]) -> bool:
    """A copy made it and died before it published the point, and a sync went on: then another point stands there, and
    other points before that than it stands for. Where there are none, the point was replaced."""
    target, first = standing.get(fold.target.sequence), standing.get(fold.after + 1)
    if target is None or target.sha256 == fold.target.sha256 or first is None:
        return False
    return fold.after + 1 not in told or told[fold.after + 1].sha256 != first.sha256


async def _records(
    store: Store, inventory: VmContents, called: VmId, findings: Findings, *, last: bool
) -> Folds | None:
    """All retention records, each held against the one before. None where the newest is gone since it was listed, and
    this was not the last time to look."""
    found, mine = Folds(), Findings()
    for generation in inventory.generations:
        key = layout.retention_key(inventory.vm, generation)
        newest = generation == inventory.generations[-1]
        try:
            data = await store.get(key, max_bytes=MAX_RETENTION_BYTES)
            record = retention.decode(data, key)
        except NotFoundError:
            if newest and not last:
                return None
            continue  # removed by who wrote a newer one
        except FormatError as error:
            _unread(mine, found, FindingKind.OBJECT_MALFORMED, key, "a retention record", error.what, newest=newest)
            continue
        except StoreError as error:
            if error.retryable:
                raise
            _unread(mine, found, FindingKind.OBJECT_MALFORMED, key, "a retention record", error.what, newest=newest)
            continue
        if record.generation != generation or vm_key(record.vm_id) != inventory.vm or called not in ("", record.vm_id):
            actual = f"retention record {record.generation} of VM {record.vm_id!r}"
            kind = FindingKind.OBJECT_REPLAYED
            _unread(mine, found, kind, key, f"retention record {generation}", actual, newest=newest)
            continue
        before = found.records[-1] if found.records else None
        if before is not None and before.generation == generation - 1 and record.previous != found.sha256:
            mine.add(
                FindingKind.FOLD_BROKEN,
                point="",
                key=key,
                expected=f"that it follows the record with SHA-256 {found.sha256}",
                actual=f"it follows {record.previous}",
                meaning="a retention record does not follow the one before it: one of the two was replaced",
            )
        found.records.append(record)
        found.key, found.sha256 = key, retention.identity(data)
    for one in mine.listed:
        findings.put(one)
    return found


def _unread(
    findings: Findings, found: Folds, kind: FindingKind, key: str, expected: str, actual: str, *, newest: bool
) -> None:
    found.unread = found.unread or newest
    meaning = (
        "the record that says which restore points were let go can't be read, so readers refuse all of the VM's, and "
        "it can't be told which are missing"
        if newest
        else "an older record of which restore points were let go can't be read; readers go by the newest"
    )
    findings.add(kind, point="", key=key, expected=expected, actual=actual, meaning=meaning, remedy=REMEDY)


async def _descent(
    store: Store, inventory: VmContents, fold: Fold, standing: Mapping[int, StandingRecord], findings: Findings
) -> dict[int, DroppedPoint]:
    """The points of one fold: each proved to follow the one before, from the fold's base on; or from what stands there,
    where these lead to the target and those don't."""
    base, target = standing.get(fold.after), standing.get(fold.target.sequence)
    stated = fold.base.sha256 if fold.base else None
    told: dict[int, DroppedPoint] = {}
    wrong: FormatError | None = None
    for before in dict.fromkeys((stated, base.sha256 if base else stated)):
        points, error = await _chain(store, inventory, fold, before)
        last = points.get(fold.target.sequence - 1)
        leads = last is not None and target is not None and target.parent == last.sha256
        if leads or before == stated:
            told, wrong = points, error
        if leads:
            break
    if wrong is not None:
        what = f"the records of points {fold.after + 1} to {fold.target.sequence - 1}"
        broken_descent(findings, fold, wrong.where or "", what, wrong.what)
    return told


async def _chain(
    store: Store, inventory: VmContents, fold: Fold, before: str | None
) -> tuple[dict[int, DroppedPoint], FormatError | None]:
    """(the points as far as they are one chain, what is wrong then). before: the SHA-256 of the record before."""
    points: dict[int, DroppedPoint] = {}
    sequence, target = fold.after, fold.target.sequence
    for part in fold.descent:
        try:
            for first, stored in await _parts(store, part, before):
                sequence += 1
                record = restore_point.decode(stored, part.key)
                right = (first, vm_key(record.vm_id), record.parent) == (record.sequence, inventory.vm, before)
                if not right or record.sequence != sequence:
                    raise FormatError("its records are no chain", where=part.key)
                if sequence >= target:
                    raise FormatError("it has records of more points than the fold stands for", where=part.key)
                before = restore_point.identity(stored)
                own = (one for one in record.disks if one.checkpoint and one.checkpoint.sequence == sequence)
                points[sequence] = DroppedPoint(sequence, before, record.parent, target, tuple(own))
        except FormatError as error:
            return points, FormatError(error.what, where=part.key)
    if sequence + 1 != target:
        return points, FormatError(f"the last is number {sequence}", where=fold.descent[-1].key)
    return points, None


async def _parts(store: Store, part: ObjectRef, before: str | None) -> list[tuple[int, bytes]]:
    """(sequence, record) of each. FormatError where the object is not what is stated."""
    for _ in range(2):  # it may have been damaged on the way only
        try:
            data = await store.get(part.key, max_bytes=part.bytes)
        except NotFoundError:
            raise FormatError("nothing is there", where=part.key) from None
        except StoreError as error:
            if error.retryable:
                raise
            raise FormatError(error.what, where=part.key) from error
        if hashlib.sha256(data).hexdigest() == part.sha256:
            first, records = dropped_records.decode(data, before, part.key)
            return list(enumerate(records, first))
    raise FormatError("its SHA-256 is another", where=part.key)


def broken_descent(findings: Findings, fold: Fold, key: str, expected: str, actual: str) -> None:
    """A descent does not tell what its fold stands for."""
    findings.add(
        FindingKind.FOLD_BROKEN,
        point=fold.target.label,
        key=key,
        expected=expected,
        actual=actual,
        meaning="the records of restore points that were let go do not lead to the one that stands for them: they were "
        "damaged or forged, so no replica is brought on over them",
    )
