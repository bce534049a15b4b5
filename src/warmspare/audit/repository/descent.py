"""The restore points of one VM, each held against the one that descends from it; owns who is to be believed.

docs/format.md, "Restore point". A record is proved by its child alone, so the newest one is proved by nothing in the
repository, and neither is the parent of one that was lost. Records of points that were let go lie in descents: the
chain goes through them, so that a fold proves nothing that the records do not.
"""

from __future__ import annotations

import itertools
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum

from warmspare.audit.reports.collect import Findings
from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.folds import DroppedPoint, Folds, broken_descent, read_folds
from warmspare.audit.repository.object_checks import REMEDY
from warmspare.audit.repository.seen import SeenPoint
from warmspare.errors import FormatError, IntegrityError, NotFoundError, StoreError
from warmspare.format import restore_point
from warmspare.format.restore_point import RestorePoint
from warmspare.model.ids import PointId, VmId, VmKey, vm_key
from warmspare.side_by_side import ahead
from warmspare.store import layout
from warmspare.store.contract import Store

AHEAD = 16  # records that are read side by side
MOST_MISSING = 100_000  # each is looked for and told


class Proof(Enum):
    """PROVED: its child names it, or who saw it before. UNPROVED: nothing does, nothing speaks against it. DOUBTED:
    its child names another, or it was another before."""

    PROVED = "proved"
    UNPROVED = "unproved"
    DOUBTED = "doubted"


@dataclass(slots=True)
class Link:
    """One restore point that could be read. fold: 0, or its record came out of the descent of what leads to the point
    of that sequence."""

    sequence: int
    sha256: str
    parent: str | None
    proof: Proof = Proof.UNPROVED
    fold: int = 0

    @property
    def id(self) -> PointId:
        return PointId(self.sequence, self.sha256)

    @property
    def label(self) -> str:
        return self.id.label


@dataclass(slots=True)
class Chain:
    """One VM's. vm: as its points state it. name: what the newest point that can be read calls it. newest:
    sequence, 0 if it has no point. links: those that can be read, by sequence; of points that were let go out of what
    stands for them, where their records are gone. folds: that."""

    vm: VmId
    newest: int
    name: str = ""
    links: dict[int, Link] = field(default_factory=dict)
    folds: Folds = field(default_factory=Folds)

    @property
    def kept(self) -> list[int]:
        """The sequences of all points that are to be there, ascending."""
        return list(itertools.chain(*self.folds.kept(self.newest)))

    def uncertain(self, sequence: int) -> bool:
        """Whether nothing tells by which manifests a point is had: its own, or those that stand for several."""
        return self.folds.unread and sequence > 1 and sequence - 1 not in self.links

    @property
    def head(self) -> Link | None:
        return self.links.get(self.newest)

    @property
    def broken(self) -> bool:
        """Whether a record is missing or can't be read."""
        return len(self.links) != self.newest


async def read_record(store: Store, vm: VmKey, sequence: int) -> tuple[RestorePoint, str]:
    """(record, SHA-256). FormatError if it is none; NotFoundError; StoreError."""
    key = layout.point_key(vm, sequence)
    where = f"{store.uri.rstrip('/')}/{key}"
    try:
        data = await store.get(key, max_bytes=restore_point.MAX_POINT_BYTES)
    except NotFoundError:
        raise
    except StoreError as error:
        if error.retryable:
            raise
        raise FormatError(error.what, where=where) from error
    return restore_point.decode(data, where), restore_point.identity(data)


async def read_chain(
    store: Store, inventory: VmContents, called: VmId, seen: list[SeenPoint], findings: Findings
) -> Chain:
    """Read every record and judge it. called: the VM as its key gives it, "" where that was cut off."""
    chain = Chain(called, max(inventory.points, default=0))
    unread: set[int] = set()
    async with aclosing(
        ahead(lambda number: read_record(store, inventory.vm, number), inventory.points, AHEAD)
    ) as reads:
        async for sequence, reading in reads:
            key = layout.point_key(inventory.vm, sequence)
            try:
                record, digest = await reading
            except NotFoundError:
                continue  # it was listed a moment ago; a gap then
            except FormatError as error:
                findings.add(
                    FindingKind.OBJECT_MALFORMED,
                    point=str(sequence),
                    key=key,
                    expected="a record",
                    actual=error.what,
                    remedy=REMEDY,
                )
                unread.add(sequence)
                continue
            if record.sequence != sequence or vm_key(record.vm_id) != inventory.vm:
                findings.add(
                    FindingKind.OBJECT_REPLAYED,
                    point=str(sequence),
                    key=key,
                    expected=f"restore point {sequence}",
                    actual=f"restore point {record.sequence} of VM {record.vm_id!r}",
                    remedy=REMEDY,
                )
                unread.add(sequence)
                continue
            chain.vm, chain.name = chain.vm or record.vm_id, record.vm_name
            chain.links[sequence] = Link(sequence, digest, record.parent)
    chain.folds = await read_folds(store, inventory, called, chain.links, findings)
    _demand_few_missing(store, chain, inventory)
    _take_dropped(chain, inventory, findings)
    _compare(chain, inventory, seen, findings)
    _prove(chain, inventory, unread, findings)
    _fit(chain, inventory, findings)
    return chain


def _demand_few_missing(store: Store, chain: Chain, inventory: VmContents) -> None:
    """IntegrityError where more are missing than could be told."""
    there = sum(not chain.folds.drops(sequence) for sequence in inventory.points)
    if sum(map(len, chain.folds.kept(chain.newest))) - there <= MOST_MISSING:
        return
    newest = max(chain.newest, *chain.folds.by_target, 0)
    what = f"more than {MOST_MISSING} restore points are missing below number {newest}"
    where = f"{store.uri.rstrip('/')}/{layout.point_key(inventory.vm, chain.newest)}"
    if chain.folds.unread:
        where = f"{store.uri.rstrip('/')}/{layout.retention_key(inventory.vm, inventory.generations[-1])}"
        hint = "the record that says which were let go can't be read: put it back from a copy of the repository"
        raise IntegrityError(what, where=where, hint=hint)
    raise IntegrityError(
        f"{what}, which no sender made so",
        where=where,
        hint="look who put it there, and move it away, or put the others back from a copy of the repository",
    )


def _take_dropped(chain: Chain, inventory: VmContents, findings: Findings) -> None:
    """The points that were let go. Of two records of one, the one that its child names is right; where that is neither,
    the one that still stands."""
    accused: set[int] = set()
    for sequence in sorted(chain.folds.points, reverse=True):
        told, link, child = chain.folds.points[sequence], chain.links.get(sequence), chain.links.get(sequence + 1)
        if link is None:
            chain.links[sequence] = _link(told)
        elif link.sha256 != told.sha256:
            if child is not None and child.parent == told.sha256:
                _forked(chain, link, f"SHA-256 {told.sha256}", f"SHA-256 {link.sha256}", inventory, findings)
                chain.links[sequence] = _link(told)
            elif told.target not in accused:
                accused.add(told.target)
                expected = f"restore point {link.label}, which stands there"
                _broken(chain, told.target, expected, f"SHA-256 {told.sha256} of number {sequence}", findings)


def _link(told: DroppedPoint) -> Link:
    return Link(told.sequence, told.sha256, told.parent, fold=told.target)


def _broken(chain: Chain, target: int, expected: str, actual: str, findings: Findings) -> None:
    fold = chain.folds.by_target[target]
    broken_descent(findings, fold, fold.descent[-1].key, expected, actual)


def _fit(chain: Chain, inventory: VmContents, findings: Findings) -> None:
    """The folds held against the points that they lead to and begin at. One that is doubted accuses none."""
    for target, fold in sorted(chain.folds.by_target.items()):
        for stated in (fold.target, *([fold.base] if fold.base else [])):
            link = chain.links.get(stated.sequence)
            if link is None or link.sha256 == stated.sha256 or link.proof is Proof.DOUBTED:
                continue
            expected, actual = f"SHA-256 {link.sha256} of restore point {link.sequence}", f"SHA-256 {stated.sha256}"
            if link.proof is Proof.UNPROVED:  # one of the two was changed, and nothing tells which
                _forked(
                    chain, link, f"{actual}, as what leads to it says", f"SHA-256 {link.sha256}", inventory, findings
                )
            findings.add(
                FindingKind.FOLD_BROKEN,
                point=link.label,
                key=chain.folds.key,
                expected=expected,
                actual=f"{actual}, in the fold that leads to number {target}",
                remedy=REMEDY,
            )


def _compare(chain: Chain, inventory: VmContents, seen: list[SeenPoint], findings: Findings) -> None:
    """With what was seen before."""
    for before in seen:
        link = chain.links.get(before.point.sequence)
        key = layout.point_key(inventory.vm, before.point.sequence)
        label = before.point.label
        if link is None:
            if before.point.sequence > chain.newest:
                findings.add(
                    FindingKind.POINT_ROLLED_BACK,
                    point=label,
                    key=key,
                    expected=f"SHA-256 {before.point.sha256}",
                    actual=f"the newest is {chain.newest or 'none'}",
                    meaning=f"a restore point that {before.source} saw here is gone",
                )
        elif link.sha256 == before.point.sha256:
            link.proof = Proof.PROVED
        else:
            link.proof = Proof.DOUBTED
            findings.add(
                FindingKind.POINT_FORKED,
                point=link.label,
                key=key,
                expected=f"SHA-256 {before.point.sha256}",
                actual=f"SHA-256 {link.sha256}",
                meaning=f"a restore point is not the one that {before.source} saw here",
            )


def _prove(chain: Chain, inventory: VmContents, unread: set[int], findings: Findings) -> None:
    """From the newest to the oldest, each by its child."""
    child: Link | None = None
    kept = set(chain.kept)
    for sequence in sorted({*kept, *chain.links}, reverse=True):
        link = chain.links.get(sequence)
        if link is None:
            # Where it can't be told which were let go, that is a finding, and not each of those.
            if sequence not in unread and not chain.folds.unread:
                key = layout.point_key(inventory.vm, sequence)
                findings.add(
                    FindingKind.POINT_MISSING, point=str(sequence), key=key, expected="a record", actual="nothing"
                )
        elif child is not None and child.sequence == sequence + 1:
            _judge(chain, link, child, inventory, findings)
        child = link


def _judge(chain: Chain, link: Link, child: Link, inventory: VmContents, findings: Findings) -> None:
    if link.sha256 == child.parent and not (link.fold and child.fold and child.proof is Proof.DOUBTED):
        link.proof = Proof.PROVED if link.proof is not Proof.DOUBTED else link.proof
        return
    if child.proof is Proof.DOUBTED:
        if link.fold and link.fold == child.fold:
            link.proof = Proof.DOUBTED  # they come from one object
        return  # what it names means nothing
    if link.fold and child.id == chain.folds.by_target[link.fold].target:  # two agree on the child
        _broken(chain, link.fold, f"SHA-256 {child.parent} before {child.label}", f"SHA-256 {link.sha256}", findings)
        link.proof = Proof.DOUBTED
        return
    if child.proof is Proof.UNPROVED:
        # One of the two was changed, and nothing tells which.
        parent = f"a parent with SHA-256 {link.sha256}"
        _forked(chain, child, parent, f"the parent {child.parent}", inventory, findings)
    if child.proof is Proof.PROVED or link.proof is not Proof.PROVED:
        named = f"SHA-256 {child.parent}, as {child.label} names it"
        _forked(chain, link, named, f"SHA-256 {link.sha256}", inventory, findings)
        link.proof = Proof.DOUBTED
    if child.proof is Proof.UNPROVED:
        child.proof = Proof.DOUBTED


def _forked(chain: Chain, link: Link, expected: str, actual: str, inventory: VmContents, findings: Findings) -> None:
    if link.fold:
        _broken(chain, link.fold, expected, actual, findings)
        return
    findings.add(
        FindingKind.POINT_FORKED,
        point=link.label,
        key=layout.point_key(inventory.vm, link.sequence),
        expected=expected,
        actual=actual,
    )
