"""Kept reports: a directory of them in one chain by SHA-256; owns its order and its proof, refuses to change a report.

docs/format.md, "Audit report". Each report names the SHA-256 of the file before it, so a report that was edited,
removed or put in between shows. That the newest ones were removed shows only against a digest noted elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec

from warmspare.audit import report as reports
from warmspare.audit.report import MAX_REPORT_BYTES, MOST_REPORTS, Report
from warmspare.errors import ConfigError, FormatError, LeaseError, StoreError
from warmspare.outside.files import open_file
from warmspare.state.files import local_io, locked, pwrite_all, sync_directory
from warmspare.store import layout

WHAT = "the directory of audit reports"
_STAGED = re.compile(r"\.new-[0-9a-f]{16}")
_NAME = re.compile(r"([0-9]{8})-[a-z]+-.+\.json")


@dataclass(frozen=True, slots=True)
class Kept:
    """A report in its place. sha256: of the file; note it elsewhere, and the chain up to it can't be changed unseen."""

    path: Path
    report: Report
    sha256: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A chain that was walked. wrong: (file name or number, what is wrong with it), empty if all of it holds. head: the
    newest report, None if there is none."""

    count: int
    head: Kept | None
    wrong: list[tuple[str, str]]


def keep(directory: Path, report: Report) -> Kept:
    """Append a report to the chain of a directory (made if absent), durably.

    StoreError if it can't be written; LeaseError if another audit appends at this moment; FormatError if the newest
    report there can't be read, for a chain must not go on from what nobody can check.
    """
    with local_io(WHAT, directory):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(directory / ".lock", WHAT) as mine:
        if not mine:
            raise LeaseError(
                "another audit is writing its report", where=str(directory), hint="run it again", retryable=True
            )
        for left in directory.glob(".new-*"):  # of one that died, or could not remove it
            if _STAGED.fullmatch(left.name):
                with contextlib.suppress(OSError):
                    left.unlink()
        names = _names(directory)
        number, previous = 1, ""
        if names:
            last = _load(directory / names[-1])
            number, previous = last.report.number + 1, last.sha256
            if number != int(names[-1][:8]) + 1:
                what = f"the newest audit report states that it is number {last.report.number}"
                raise FormatError(what, where=str(last.path), hint="run `warmspare audit verify-report`")
        if number > MOST_REPORTS:
            raise ConfigError(
                f"the reports of this directory end with number {MOST_REPORTS}", where=str(directory),
                hint="look whether anybody put that one there; keep those that come in another --reports",
            )  # fmt: skip
        placed, data = reports.fitting(msgspec.structs.replace(report, number=number, previous=previous))
        path = directory / f"{number:08d}-{report.kind}-{layout.encode_name(report.vm or 'all')}.json"
        _create(path, data)
        return Kept(path, placed, hashlib.sha256(data).hexdigest())


def verify(directory: Path, *, head: str | None = None) -> Verified:
    """Walk the chain of a directory. head: SHA-256 of a report that must be in it, as noted elsewhere.

    ConfigError if there is no such directory, StoreError if it can't be read.
    """
    if not directory.is_dir():
        raise ConfigError("there is no directory of audit reports", where=str(directory), hint="check --reports")
    wrong: list[tuple[str, str]] = []
    before: Kept | None = None
    expected, unread = 1, False
    seen = head is None
    names = _names(directory)
    for name in names:
        number = int(name[:8])
        if number != expected:
            gap = "is missing" if number - expected == 1 else f"to {number - 1} are missing"
            wrong.append((str(expected), gap) if number > expected else (name, "stands there twice"))
            unread = True
        expected = max(expected, number + 1)
        try:
            this = _load(directory / name)
        except FormatError as error:
            wrong.append((name, error.what))
            before, unread = None, True
            continue
        if this.report.number != number:
            wrong.append((name, f"states that it is number {this.report.number}"))
        if not unread and this.report.previous != (before.sha256 if before else ""):
            wrong.append((name, "does not name the report before it: that one was changed, or this one"))
        seen = seen or this.sha256 == head
        before, unread = this, False
    if not seen:
        wrong.append((str(head), "no report has this SHA-256: it was changed or removed"))
    return Verified(len(names), before, wrong)


def _names(directory: Path) -> list[str]:
    with local_io(WHAT, directory):
        return sorted(name for name in os.listdir(directory) if _NAME.fullmatch(name))  # noqa: PTH208


def _load(path: Path) -> Kept:
    with local_io(WHAT, path), open_file(path) as file:
        data = file.read(MAX_REPORT_BYTES + 1)
    if len(data) > MAX_REPORT_BYTES:
        raise FormatError("the audit report is too long to be one", where=str(path))
    return Kept(path, reports.decode(data, str(path)), hashlib.sha256(data).hexdigest())


def _create(path: Path, data: bytes) -> None:
    """A new file, whole or not at all."""
    staged = path.with_name(f".new-{secrets.token_hex(8)}")
    with local_io(WHAT, path):
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
        try:
            pwrite_all(fd, data, 0)
            os.fsync(fd)
            os.link(staged, path)
        except FileExistsError:
            raise StoreError("an audit report of this number exists already", where=str(path)) from None
        finally:
            os.close(fd)
            with contextlib.suppress(OSError):  # the next one does it: the report is there
                staged.unlink()
        sync_directory(path.parent)
