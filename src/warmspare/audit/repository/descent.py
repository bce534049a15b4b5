"""The restore points of one VM, each held against the one that descends from it; owns who is to be believed.

docs/format.md, "Restore point". A record is proved by its child alone, so the newest one is proved by nothing in the
repository, and neither is the parent of one that was lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from warmspare.audit.reports.collect import Findings
from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.folds import Folds, read_folds
from warmspare.audit.repository.object_checks import REMEDY
from warmspare.audit.repository.seen import SeenPoint
from warmspare.errors import FormatError, IntegrityError, NotFoundError, StoreError
from warmspare.format import restore_point
from warmspare.format.restore_point import RestorePoint
from warmspare.model.ids import PointId, VmId, VmKey, vm_key
from warmspare.store import layout
from warmspare.store.contract import Store

MOST_MISSING = 100_000  # each is looked for and told


class Proof(Enum):
    """PROVED: its child names it, or who saw it before. UNPROVED: nothing does, nothing speaks against it. DOUBTED:
    its child names another, or it was another before."""

    PROVED = "proved"
    UNPROVED = "unproved"
    DOUBTED = "doubted"


@dataclass(slots=True)
class Link:
    """One restore point that could be read."""

    sequence: int
    sha256: str
    parent: str | None
    proof: Proof = Proof.UNPROVED

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
    stands for them. folds: that. letting_go: whether records are there of points that were let go."""

    vm: VmId
    newest: int
    name: str = ""
    links: dict[int, Link] = field(default_factory=dict)
    folds: Folds = field(default_factory=Folds)
    letting_go: bool = False

    @property
    def kept(self) -> list[int]:
        """The sequences of all points that are to be there, ascending."""
        return list(self.folds.kept(self.newest))

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
    chain.folds = await read_folds(store, inventory, called, findings)
    if chain.newest - len(inventory.points) - len(chain.folds.points) > MOST_MISSING:
        raise IntegrityError(
            f"more than {MOST_MISSING} restore points are missing below number {chain.newest}, which no sender made so",
            where=f"{store.uri.rstrip('/')}/{layout.point_key(inventory.vm, chain.newest)}",
            hint="look who put it there, and move it away, or put the others back from a copy of the repository",
        )
    unread: set[int] = set()
    for sequence in inventory.points:
        key = layout.point_key(inventory.vm, sequence)
        try:
            record, digest = await read_record(store, inventory.vm, sequence)
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
    _take_dropped(chain, inventory, findings)
    chain.letting_go = any(chain.folds.drops(sequence) for sequence in inventory.points)
    _compare(chain, inventory, seen, findings)
    _prove(chain, inventory, unread, findings)
    return chain


def _take_dropped(chain: Chain, inventory: VmContents, findings: Findings) -> None:
    """The points that were let go, and the folds held against the points that they lead to and begin at. The last one
    counts for nothing where another point stands there than it leads to: a copy made it and died, a sync went on."""
    last = max(chain.folds.by_target, default=0)
    if (stands := chain.links.get(last)) and stands.sha256 != chain.folds.by_target[last].target.sha256:
        gone = chain.folds.by_target.pop(last)
        chain.folds.points = {number: one for number, one in chain.folds.points.items() if number <= gone.after}
    for sequence, point in chain.folds.points.items():
        link = chain.links.setdefault(sequence, Link(sequence, point.sha256, point.parent))
        if link.sha256 != point.sha256:
            findings.add(
                FindingKind.POINT_FORKED,
                point=link.label,
                key=layout.point_key(inventory.vm, sequence),
                expected=f"SHA-256 {point.sha256}, as what stands for it says",
                actual=f"SHA-256 {link.sha256}",
            )
    for target, fold in chain.folds.by_target.items():
        for stated in (fold.target, *([fold.base] if fold.base else [])):
            there = chain.links.get(stated.sequence)
            if there is not None and there.sha256 != stated.sha256:
                findings.add(
                    FindingKind.FOLD_BROKEN,
                    point=there.label,
                    key=layout.retention_key(inventory.vm, inventory.generations[-1]),
                    expected=f"SHA-256 {there.sha256} of restore point {stated.sequence}",
                    actual=f"SHA-256 {stated.sha256}, in the fold that leads to number {target}",
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
    for sequence in range(chain.newest, 0, -1):
        link = chain.links.get(sequence)
        if link is None:
            if sequence not in unread and not chain.folds.drops(sequence):
                key = layout.point_key(inventory.vm, sequence)
                findings.add(
                    FindingKind.POINT_MISSING, point=str(sequence), key=key, expected="a record", actual="nothing"
                )
        elif child is not None:
            _judge(link, child, inventory, findings)
        child = link


def _judge(link: Link, child: Link, inventory: VmContents, findings: Findings) -> None:
    if link.sha256 == child.parent:
        link.proof = Proof.PROVED if link.proof is not Proof.DOUBTED else link.proof
        return
    if child.proof is Proof.DOUBTED:
        return  # what it names means nothing
    if child.proof is Proof.UNPROVED:
        # One of the two was changed, and nothing tells which.
        _forked(child, f"a parent with SHA-256 {link.sha256}", f"the parent {child.parent}", inventory, findings)
    if child.proof is Proof.PROVED or link.proof is not Proof.PROVED:
        named = f"SHA-256 {child.parent}, as {child.label} names it"
        _forked(link, named, f"SHA-256 {link.sha256}", inventory, findings)
        link.proof = Proof.DOUBTED
    if child.proof is Proof.UNPROVED:
        child.proof = Proof.DOUBTED


def _forked(link: Link, expected: str, actual: str, inventory: VmContents, findings: Findings) -> None:
    findings.add(
        FindingKind.POINT_FORKED,
        point=link.label,
        key=layout.point_key(inventory.vm, link.sequence),
        expected=expected,
        actual=actual,
    )
