"""What was seen of a repository before: by an earlier audit, a sync or a replica; owns reading it, believes no more.

Nothing in a repository says that it had a newer restore point once. Only who saw it can tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from warmspare.audit.reports import archive
from warmspare.audit.reports import report as reports
from warmspare.audit.reports.audit_summary import HEAD, MAX_REPORT_BYTES
from warmspare.audit.reports.report import AuditReport
from warmspare.errors import ConfigError, FormatError
from warmspare.model.ids import PointId, VmId
from warmspare.outside.records import Hex32, SequenceOrNone, Sha256OrNone, UnfitError
from warmspare.outside.regular_files import open_file
from warmspare.state.local_files import local_io, parse_record

OWN_RECORD = "SHA-256 of repository.json"
_SEEN = re.compile(r"([1-9][0-9]{0,9}) ([0-9a-f]{64})")


class _Mark(msgspec.Struct, frozen=True):
    sequence: SequenceOrNone
    sha256: Sha256OrNone


class _Local(msgspec.Struct, frozen=True):
    """What the records of a sender and of a replica have in common, and where each says what it saw."""

    repository: Hex32
    vm: VmId
    sequence: SequenceOrNone = 0
    sha256: Sha256OrNone = ""
    at: _Mark | None = None


@dataclass(frozen=True, slots=True)
class SeenPoint:
    """A restore point that was there. source: who saw it, for people."""

    vm: VmId
    point: PointId
    source: str


@dataclass(slots=True)
class KnownRepository:
    """repository_id, record_sha256 (of repository.json): "" where nothing is known. sources: what this comes from."""

    repository_id: str = ""
    record_sha256: str = ""
    seen: list[SeenPoint] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def of(self, vm: VmId) -> list[SeenPoint]:
        return [one for one in self.seen if one.vm == vm]

    def add(self, repository_id: str, seen: list[SeenPoint], source: str) -> None:
        """ConfigError if two sources are of different repositories."""
        if self.repository_id not in ("", repository_id):
            raise ConfigError(
                f"this is of repository {repository_id} and the others are of {self.repository_id}",
                where=source,
                hint="give what belongs to the repository that is audited",
            )
        self.repository_id = repository_id
        self.seen += seen
        self.sources.append(source)


def figures(record_sha256: str, heads: dict[VmId, PointId]) -> dict[str, int | float | str]:
    """What a report notes for the next: of repository.json, and of each VM's newest point."""
    own = {OWN_RECORD: record_sha256} if record_sha256 else {}
    return {**own, **{f"{HEAD}{vm}": f"{point.sequence} {point.sha256}" for vm, point in sorted(heads.items())}}


def _of_report(report: AuditReport, source: str) -> list[SeenPoint]:
    out = []
    for name, text in report.figures.items():
        if name.startswith(HEAD) and isinstance(text, str) and (found := _SEEN.fullmatch(text)):
            out.append(SeenPoint(VmId(name.removeprefix(HEAD)), PointId(int(found[1]), found[2]), source))
    return out


def read(path: Path, into: KnownRepository) -> None:
    """Add what a file tells: a kept report, a sender's `state.json`, a replica's `replica.json`. ConfigError if it is
    none of them, or is damaged."""
    with local_io("what was seen before", path), open_file(path, follow=True) as file:
        data = file.read(MAX_REPORT_BYTES + 1)
    if data.startswith(b"{"):
        try:
            report = reports.decode(data, str(path))
        except FormatError as error:
            raise _no_record(path, error.what) from None
        into.record_sha256 = str(report.figures.get(OWN_RECORD, "")) or into.record_sha256
        into.add(report.repository_id, _of_report(report, f"the audit report {path.name}"), str(path))
        return
    try:
        found = parse_record(data, _Local)
    except UnfitError as error:
        why = f"it is neither a report nor a record of a sync or replica, or it is damaged: {error}"
        raise _no_record(path, why) from None
    mark = found.at or _Mark(found.sequence, found.sha256)
    seen = [SeenPoint(found.vm, PointId(mark.sequence, mark.sha256), str(path))] if mark.sequence else []
    into.add(found.repository, seen, str(path))


def _no_record(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"this can't be compared against: {why}",
        where=str(path),
        hint="give an audit report, the state.json of a sync, or the replica.json of a replica",
    )


def of_kept(directory: Path, uri: str, vm: str) -> KnownRepository:
    """What the newest kept reports of audits of the repository at `uri` saw of each VM. vm: one that must be in the
    first of them, "" for any. Reports that can't be read are passed over: `verify-report` is for them."""
    known = KnownRepository()
    met: set[VmId] = set()
    for kept in archive.of(directory).newest_first("repository"):
        path, report = kept.path, kept.report
        if report.kind != "repository" or report.repository != uri:
            continue
        if known.repository_id and report.repository_id != known.repository_id:
            return known
        seen = [one for one in _of_report(report, f"the audit report {path.name}") if one.vm not in met]
        met |= {one.vm for one in seen}
        known.record_sha256 = known.record_sha256 or str(report.figures.get(OWN_RECORD, ""))
        known.add(report.repository_id, seen, str(path))
        if report.vm in ("", vm):  # it saw all that this audit will look at
            return known
    return known
