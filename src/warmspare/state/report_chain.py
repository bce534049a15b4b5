"""Kept reports: a directory of them in one chain by SHA-256; owns its order and its proof, refuses to change a report.

docs/format.md, "Audit report" and "Drill record". Each report names the SHA-256 of the file before it, so a report that
was edited, removed or put in between shows. That the newest ones were removed shows only against a digest noted
elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from warmspare.errors import ConfigError, FormatError, LeaseError, StoreError, WarmspareError, by_hand
from warmspare.model.keyparts import encode_name
from warmspare.outside import records
from warmspare.outside.records import UnfitError
from warmspare.outside.regular_files import open_file
from warmspare.state.local_files import local_io, locked, pwrite_all, sync_directory
from warmspare.version import __version__

MOST_REPORTS = 99_999_999  # eight digits in their names
LOCK_S = 10.0  # another one is written in milliseconds, and what this one tells may have taken hours
_STAGED = re.compile(r"\.new-[0-9a-f]{16}")
_NAME = re.compile(r"([0-9]{8})-([a-z0-9]+)-.+\.json")
_SEVERAL = "all"  # in a name: of more than one VM


class ChainedReport(Protocol):
    """What is kept. number, previous: its place in the chain, and the SHA-256 (hex) of the one before ("" for the
    first). vm: "" for all or several."""

    @property
    def number(self) -> int: ...

    @property
    def previous(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def vm(self) -> str: ...


R = TypeVar("R", bound=ChainedReport)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form(Generic[R]):
    """What reports of a directory are. name: "audit report". option: by which its directory is named. verified_by: the
    command that walks the chain. placed: the report as it can be kept at a place in the chain, and its bytes. decode:
    the report of bytes; FormatError. most_bytes: of one."""

    name: str
    option: str
    verified_by: str
    placed: Callable[[R, int, str], tuple[R, bytes]]
    decode: Callable[[bytes, str], R]
    most_bytes: int

    @property
    def directory(self) -> str:
        return f"the directory of {self.name}s"


def decoded(data: bytes, where: str, model: type[T], name: str, version: int) -> T:
    """A report of its bytes. name: "audit report". version: the one that this program knows. FormatError if it is none,
    or of a later format."""
    try:
        loose = records.loose(data)
        said = loose.get("format")
        if type(said) is int and said != version:
            raise FormatError(
                f"the {name} has format {said} and this program knows {version}",
                where=where,
                hint=by_hand("use the release of warmspare that wrote it"),
            )
        return records.typed(loose, model)
    except UnfitError as error:
        raise FormatError(f"the {name} is damaged: {error}", where=where) from None


def software() -> str:
    """What writes a report."""
    return f"warmspare {__version__}"


def host() -> str:
    """Where it runs."""
    return platform.node()


@dataclass(frozen=True, slots=True)
class KeptReport(Generic[R]):
    """A report in its place. sha256: of the file; note it elsewhere, and the chain up to it can't be changed unseen."""

    path: Path
    report: R
    sha256: str


@dataclass(frozen=True, slots=True)
class Verified(Generic[R]):
    """A chain that was walked. wrong: (file name or number, what is wrong with it), empty if all of it holds. head: the
    newest report, None if there is none."""

    count: int
    head: KeptReport[R] | None
    wrong: list[tuple[str, str]]


class Reports(Generic[R]):
    """Those of one directory, which need not be there yet."""

    def __init__(self, directory: Path, form: Form[R]) -> None:
        self.directory, self._form = directory, form

    def keep(self, report: R) -> KeptReport[R]:
        """Append a report to the chain (made if absent), durably.

        StoreError if it can't be written; LeaseError if another run appends all the while; FormatError if the newest
        report there can't be read, for a chain must not go on from what nobody can check.
        """
        directory, form = self.directory, self._form
        with local_io(form.directory, directory):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._alone():
            for left in directory.glob(".new-*"):  # of one that died, or could not remove it
                if _STAGED.fullmatch(left.name):
                    with contextlib.suppress(OSError):
                        left.unlink()
            names = self._names()
            number, previous = 1, ""
            if names:
                last = self._load(names[-1])
                number, previous = last.report.number + 1, last.sha256
                if number != int(names[-1][:8]) + 1:
                    what = f"the newest {form.name} states that it is number {last.report.number}"
                    raise FormatError(what, where=str(last.path), hint=f"run `{form.verified_by}`")
            if number > MOST_REPORTS:
                raise ConfigError(
                    f"the {form.name}s of this directory end with number {MOST_REPORTS}",
                    where=str(directory),
                    hint=f"look whether anybody put that one there; keep those that come in another {form.option}",
                )
            placed, data = form.placed(report, number, previous)
            path = directory / f"{number:08d}-{report.kind}-{encode_name(report.vm or _SEVERAL)}.json"
            self._create(path, data)
            return KeptReport(path, placed, hashlib.sha256(data).hexdigest())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        until_s = time.monotonic() + LOCK_S
        while True:
            with locked(self.directory / ".lock", self._form.directory) as mine:
                if mine:
                    yield
                    return
            if time.monotonic() > until_s:
                what = f"another run has been writing its {self._form.name} for {LOCK_S:.0f} s"
                raise LeaseError(what, where=str(self.directory), hint="run it again", retryable=True)
            time.sleep(0.05)

    def verify(self, *, head: str | None = None) -> Verified[R]:
        """Walk the chain. head: SHA-256 of a report that must be in it, as noted elsewhere.

        ConfigError if there is no such directory, StoreError if it can't be read.
        """
        return self._walk(head, lambda _: None)

    def read(self, *, head: str | None = None) -> tuple[Verified[R], list[KeptReport[R]]]:
        """The same, and all that could be read of them, oldest first: where they are small."""
        kept: list[KeptReport[R]] = []
        return self._walk(head, kept.append), kept

    def newest_first(self, kind: str) -> Iterator[KeptReport[R]]:
        """Those of a kind that can be read, none without a directory; `verify` says what can't. StoreError."""
        for name in reversed(self._names(kind) if self.directory.is_dir() else []):
            with contextlib.suppress(FormatError):
                yield self._load(name)

    def newest_of_each(self, several: int, unread: Callable[[WarmspareError], None]) -> Iterator[KeptReport[R]]:
        """The newest of each kind and VM that can be read, newest first; of those that are of several VMs as many as
        `several`. unread: is told of each that can't be. None without a directory. StoreError."""
        taken: Counter[str] = Counter()
        for name in reversed(self._names() if self.directory.is_dir() else []):
            _, _, subject = name.partition("-")
            if taken[subject] >= (several if subject.endswith(f"-{_SEVERAL}.json") else 1):
                continue
            try:
                found = self._load(name)
            except (FormatError, StoreError) as error:
                unread(error)
            else:
                yield found
                taken[subject] += 1

    def _walk(self, head: str | None, take: Callable[[KeptReport[R]], object]) -> Verified[R]:
        if not self.directory.is_dir():
            what, hint = f"there is no directory of {self._form.name}s", f"check {self._form.option}"
            raise ConfigError(what, where=str(self.directory), hint=hint)
        wrong: list[tuple[str, str]] = []
        before: KeptReport[R] | None = None
        expected, unread = 1, False
        seen = head is None
        names = self._names()
        for name in names:
            number = int(name[:8])
            if number != expected:
                gap = "is missing" if number - expected == 1 else f"to {number - 1} are missing"
                wrong.append((str(expected), gap) if number > expected else (name, "stands there twice"))
                unread = True
            expected = max(expected, number + 1)
            try:
                this = self._load(name)
            except FormatError as error:
                wrong.append((name, error.what))
                before, unread = None, True
                continue
            if this.report.number != number:
                wrong.append((name, f"states that it is number {this.report.number}"))
            if not unread and this.report.previous != (before.sha256 if before else ""):
                wrong.append((name, "does not name the report before it: that one was changed, or this one"))
            seen = seen or this.sha256 == head
            take(this)
            before, unread = this, False
        if not seen:
            wrong.append((str(head), "no report has this SHA-256: it was changed or removed"))
        return Verified(len(names), before, wrong)

    def _names(self, kind: str = "") -> list[str]:
        """Of a kind, or all."""
        with local_io(self._form.directory, self.directory):
            names = os.listdir(self.directory)  # noqa: PTH208
        return sorted(name for name in names if (found := _NAME.fullmatch(name)) and kind in ("", found[2]))

    def _load(self, name: str) -> KeptReport[R]:
        path, most = self.directory / name, self._form.most_bytes
        with local_io(self._form.directory, path), open_file(path) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise FormatError(f"the {self._form.name} is too long to be one", where=str(path))
        return KeptReport(path, self._form.decode(data, str(path)), hashlib.sha256(data).hexdigest())

    def _create(self, path: Path, data: bytes) -> None:
        """A new file, whole or not at all."""
        staged = path.with_name(f".new-{secrets.token_hex(8)}")
        with local_io(self._form.directory, path):
            fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
            try:
                pwrite_all(fd, data, 0)
                os.fsync(fd)
                os.link(staged, path)
            except FileExistsError:
                what = f"a {self._form.name} of this number exists already"
                raise StoreError(what, where=str(path)) from None
            finally:
                os.close(fd)
                with contextlib.suppress(OSError):  # the next one does it: the report is there
                    staged.unlink()
            sync_directory(path.parent)
