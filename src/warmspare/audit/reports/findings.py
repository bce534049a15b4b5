"""What an audit can find: kinds, how grave each is, what it means and what to do; owns no search for them.

docs/audits.md. A finding is evidence: it names the place, what was expected, what was there, and the
restore point that says so. It never holds bytes of the disk.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import UNSET

from warmspare.observe.finding_base import About
from warmspare.observe.kinds.finding_events import AuditFinding
from warmspare.outside.records import Count
from warmspare.outside.text import cut

MOST_TEXT = 1000  # characters: names of others may stand in it


class Severity(StrEnum):
    """ERROR: bytes are wrong or gone. WARNING: bytes are right, but something could make them wrong or hides whether
    they are. NOTE: worth knowing; an audit with nothing else is clean."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class FindingKind(StrEnum):
    """All kinds of findings; the values stay, reports hold them."""

    # blocks of a replica
    BLOCK_WRONG = "block-wrong"
    BLOCK_ZEROED = "block-zeroed"
    BLOCK_NOT_ZERO = "block-not-zero"
    BLOCK_STALE = "block-stale"
    BLOCK_MISPLACED = "block-misplaced"
    BLOCK_UNREADABLE = "block-unreadable"
    # a replica as a whole
    DISK_MISSING = "disk-missing"
    DISK_SHORT = "disk-short"
    DISK_LONG = "disk-long"
    # objects of a repository
    OBJECT_MISSING = "object-missing"
    OBJECT_LENGTH = "object-length"
    OBJECT_CHECKSUM = "object-checksum"
    OBJECT_CONTENT = "object-content"
    OBJECT_MALFORMED = "object-malformed"
    OBJECT_REPLAYED = "object-replayed"
    OBJECT_UNCHECKED = "object-unchecked"
    OBJECT_ORPHAN = "object-orphan"
    OBJECT_FOREIGN = "object-foreign"
    UPLOAD_UNFINISHED = "upload-unfinished"
    # restore points
    POINT_MISSING = "point-missing"
    POINT_FORKED = "point-forked"
    POINT_ROLLED_BACK = "point-rolled-back"
    FOLD_BROKEN = "fold-broken"
    TABLE_ROOT = "table-root"
    BLOCK_UNRECOVERABLE = "block-unrecoverable"
    # the source
    CHANGE_LOST = "change-lost"
    SOURCE_UNJUDGED = "source-unjudged"
    SOURCE_COMPARED = "source-compared"


_REPAIR = "run the audit with --repair; if it comes back, replace the medium"
_COPY = "run `warmspare audit repository --repair`, or put the object back from a copy or the bucket's versions"

ABOUT: dict[FindingKind, About[Severity]] = {
    FindingKind.BLOCK_WRONG: About(
        Severity.ERROR,
        "the block's bytes are not those of the restore point: the medium changed them, or someone wrote to "
        "the replica",
        _REPAIR,
    ),
    FindingKind.BLOCK_ZEROED: About(
        Severity.ERROR,
        "the block reads as zeros and the restore point has data there: a write was lost, or a hole was punched",
        _REPAIR,
    ),
    FindingKind.BLOCK_NOT_ZERO: About(
        Severity.ERROR,
        "the block holds data and the restore point has zeros there: someone wrote to the replica, or a hole "
        "was not punched",
        _REPAIR,
    ),
    FindingKind.BLOCK_STALE: About(
        Severity.ERROR,
        "the block holds what an earlier restore point has there: a later write was lost",
        _REPAIR,
    ),
    FindingKind.BLOCK_MISPLACED: About(
        Severity.ERROR,
        "the block holds what belongs to another block: a write went to the wrong place",
        _REPAIR,
    ),
    FindingKind.BLOCK_UNREADABLE: About(
        Severity.ERROR,
        "the medium does not give the block's bytes",
        "replace the medium, then repair or apply anew",
    ),
    FindingKind.DISK_MISSING: About(
        Severity.ERROR,
        "the replica has no file for a disk of the restore point",
        "put the file back, or apply anew",
    ),
    FindingKind.DISK_SHORT: About(
        Severity.ERROR,
        "the replica's file ends before the disk does: it was truncated",
        _REPAIR,
    ),
    FindingKind.DISK_LONG: About(
        Severity.ERROR,
        "the replica's file goes on behind the end of the disk: someone extended it",
        _REPAIR,
    ),
    FindingKind.OBJECT_MISSING: About(
        Severity.ERROR,
        "a restore point needs an object that is not there: it can't be applied in full",
        _COPY,
    ),
    FindingKind.OBJECT_LENGTH: About(
        Severity.ERROR,
        "an object does not have the length that is stated for it",
        _COPY,
    ),
    FindingKind.OBJECT_CHECKSUM: About(
        Severity.ERROR,
        "the store itself gives another checksum for the object than the one that is stated for it",
        _COPY,
    ),
    FindingKind.OBJECT_CONTENT: About(
        Severity.ERROR,
        "an object's bytes do not have the SHA-256 that is stated for them",
        _COPY,
    ),
    FindingKind.OBJECT_MALFORMED: About(
        Severity.ERROR,
        "an object can't be decoded",
        _COPY,
    ),
    FindingKind.OBJECT_REPLAYED: About(
        Severity.ERROR,
        "an object is whole but belongs elsewhere: it was moved here, or an older one was put back",
        _COPY,
    ),
    FindingKind.OBJECT_UNCHECKED: About(
        Severity.NOTE,
        "the store keeps no checksum of this object, so that only its length was compared",
        "run the audit with --deep",
    ),
    FindingKind.OBJECT_ORPHAN: About(
        Severity.NOTE,
        "no restore point names this object: it is left from a run that was interrupted",
        "none is needed; removing it saves space",
    ),
    FindingKind.OBJECT_FOREIGN: About(
        Severity.WARNING,
        "an object has a key that no version of the format gives",
        "find out who writes here",
    ),
    FindingKind.UPLOAD_UNFINISHED: About(
        Severity.NOTE,
        "an upload was begun and never completed; the store keeps its parts",
        "set a lifecycle rule that aborts such uploads",
    ),
    FindingKind.POINT_MISSING: About(
        Severity.ERROR,
        "a restore point's record is missing though later ones descend from it",
        "put the record back from a copy or the bucket's versions",
    ),
    FindingKind.POINT_FORKED: About(
        Severity.ERROR,
        "a restore point is not the one that its child names",
        "put the right record back, and find out who else writes here",
    ),
    FindingKind.POINT_ROLLED_BACK: About(
        Severity.ERROR,
        "a restore point that was here before is gone",
        "put it back from a copy or the bucket's versions",
    ),
    FindingKind.FOLD_BROKEN: About(
        Severity.ERROR,
        "what stands for restore points that were let go does not fit the points that it names, so it proves nothing "
        "of them: it was damaged or forged, or its writer had a bug",
        _COPY,
    ),
    FindingKind.TABLE_ROOT: About(
        Severity.ERROR,
        "the chain's block hashes do not have the root that the restore point states: it was tampered with or"
        " its writer had a bug",
        "restore the repository from a copy, or sync to a new one",
    ),
    FindingKind.BLOCK_UNRECOVERABLE: About(
        Severity.ERROR,
        "the repository can't give a block of a restore point as its hash says",
        _COPY,
    ),
    FindingKind.CHANGE_LOST: About(
        Severity.ERROR,
        "the source differs from the restore point where change tracking said that nothing changed: a change was lost",
        "run `warmspare audit source --repair`, and look for the vendor's fix of change tracking",
    ),
    FindingKind.SOURCE_UNJUDGED: About(
        Severity.WARNING,
        "nothing of the disk could be held against the restore point",
        "sync, then audit again",
    ),
    FindingKind.SOURCE_COMPARED: About(
        Severity.NOTE,
        "the whole disk was compared because a lost change had been found on it",
        "none is needed",
    ),
}


class Finding(msgspec.Struct, frozen=True, omit_defaults=False):
    """One thing that an audit found.

    disk: its ID, "" where none is meant. offset, length: bytes of the disk (None: no place on a disk). key: the object
    in the repository, "" where none is meant. expected, actual: hashes, lengths or words, as the kind has them. point:
    the label of the restore point that was judged against. meaning, remedy: for people. repaired: a repair in the same
    run put it right and read it again.
    """

    kind: FindingKind
    severity: Severity
    disk: str
    offset: Count | None
    length: Count | None
    key: str
    expected: str
    actual: str
    point: str
    meaning: str
    remedy: str
    repaired: bool = False

    def event(self, vm: str) -> AuditFinding:
        """How it is told."""
        placed = self.offset is not None
        return AuditFinding(
            kind=str(self.kind),
            severity=str(self.severity),
            vm=vm,
            disk=self.disk or UNSET,
            key=self.key or UNSET,
            offset=UNSET if self.offset is None else self.offset,
            length=self.length if placed else UNSET,
            expected=self.expected,
            actual=self.actual,
            point=self.point,
            repaired=self.repaired,
            message=self.meaning,
            remedy=self.remedy,
        )


def finding(
    kind: FindingKind,
    *,
    point: str,
    disk: str = "",
    offset: int | None = None,
    length: int | None = None,
    key: str = "",
    expected: str = "",
    actual: str = "",
    meaning: str = "",
    remedy: str = "",
) -> Finding:
    """A finding with what is always true of its kind filled in. meaning, remedy: instead of the usual ones, where more
    is known."""
    about = ABOUT[kind]
    return Finding(
        kind,
        about.severity,
        disk,
        offset,
        length,
        key,
        cut(expected, MOST_TEXT),
        cut(actual, MOST_TEXT),
        cut(point, MOST_TEXT),
        cut(meaning or about.meaning, MOST_TEXT),
        cut(remedy or about.remedy, MOST_TEXT),
    )


def unclean(findings: list[Finding]) -> bool:
    """Whether any of them makes an audit end with exit code 5; repaired ones do too, for something made them."""
    return any(each.severity is not Severity.NOTE for each in findings)
