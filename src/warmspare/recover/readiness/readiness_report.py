"""What a look into a guest says, across to the process that asked for it; refuses more than anybody would read.

A guest's own texts stand in findings, so their length and count are bounded where a finding is taken in. What can't be
judged within the limits is a finding too, and says of what and why.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from warmspare.outside.text import cut
from warmspare.recover.disks.confined import ConfinedAnswer, Say, Spent
from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, Family

Runs = Literal["Windows", "RHEL", "SUSE", "Linux"]
"""What starts: as far as it makes a difference who bills it. Linux: any other of those."""
MOST_OF_A_KIND = 20
MOST_SEEN = 64  # lines, one a disk
MOST_TEXT = 200
MOST_LINE = 2000


class _SeenFinding(msgspec.Struct, tag="seen", frozen=True):
    text: str


class _At(msgspec.Struct, tag="at", frozen=True):
    disk: str
    place: str


class _Found(msgspec.Struct, tag="found", frozen=True):
    kind: str
    disk: str
    place: str
    found: str
    family: str


class _Runs(msgspec.Struct, tag="runs", frozen=True):
    system: Runs


_LINES = msgspec.json.Decoder(_SeenFinding | _At | _Found | _Runs)


class ReadinessReport:
    """Takes in what is found over there and says it at once, so that it is not lost to a limit."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._counts: Counter[BootFindingKind] = Counter()
        self._last: dict[BootFindingKind, BootFinding] = {}
        self._seen = 0
        self._at = _At("", "")

    def at(self, disk: str, place: str) -> None:
        """What is looked at from here on: if it costs too much, that was not judged."""
        self._at = _At(disk, short(place))
        self._tell(self._at)

    def seen(self, line: str) -> None:
        """What a disk holds, in words."""
        self._seen += 1
        if self._seen <= MOST_SEEN:
            self._tell(_SeenFinding(short(line, MOST_LINE)))

    def runs(self, system: Runs) -> None:
        """What starts from these disks; several, where it is not sure."""
        self._tell(_Runs(system))

    def add(self, *findings: BootFinding) -> None:
        """The first of a kind are said, the others counted."""
        for finding in findings:
            self._counts[finding.kind] += 1
            self._last[finding.kind] = finding
            if self._counts[finding.kind] <= MOST_OF_A_KIND:
                self._found(finding)

    @contextmanager
    def part(self, disk: str, place: str) -> Iterator[None]:
        """A look whose failure keeps no other from being done; it is a finding."""
        before = self._at
        self.at(disk, place)
        try:
            yield
        except Exception as error:
            self._not_judged(_why(error))
        self._tell(before)
        self._at = before

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All looks together. Whatever ends them is a finding, and what was found before stands."""
        try:
            yield
        except Spent as spent:
            self._not_judged(f"{spent}; nor was anything that comes after it")
        except Exception as error:
            self._not_judged(f"{_why(error)}; nor was anything that comes after it")
        for kind, count in self._counts.items():
            if (more := count - MOST_OF_A_KIND) > 0:
                last = self._last[kind]
                self._found(BootFinding(kind, last.disk, f"up to {last.place}", f"{more} more of this kind"))

    def _not_judged(self, why: str) -> None:
        self.add(BootFinding(BootFindingKind.NOT_JUDGED, self._at.disk, self._at.place, why))

    def _found(self, finding: BootFinding) -> None:
        self._tell(_Found(finding.kind, finding.disk, short(finding.place), short(finding.found), finding.family))

    def _tell(self, line: _SeenFinding | _At | _Found | _Runs) -> None:
        self._say(msgspec.json.encode(line))


def heard(said: ConfinedAnswer) -> tuple[list[BootFinding], list[str], list[Runs]]:
    """Findings, what was looked at, and what starts. Where the process did not come to its end, that is a finding."""
    findings, seen, runs, at, ended = [], [], list[Runs](), _At("", ""), said.ended
    for line in said.lines:
        try:
            got = _LINES.decode(line)
            if isinstance(got, _Found):
                findings.append(
                    BootFinding(BootFindingKind(got.kind), got.disk, got.place, got.found, Family(got.family))
                )
            elif isinstance(got, _SeenFinding):
                seen.append(got.text)
            elif isinstance(got, _Runs):
                runs += [got.system] if got.system not in runs else []
            else:
                at = got
        except (msgspec.MsgspecError, ValueError):
            ended = ended or "it says what can't be understood"
    if ended:
        why = f"the process that looks at it: {ended}; nor was anything that comes after it"
        findings.append(BootFinding(BootFindingKind.NOT_JUDGED, at.disk, at.place, why))
    return findings, seen, runs


def short(text: str, most: int = MOST_TEXT) -> str:
    """A guest's text, as much of it as a person would read, and nothing that no encoding can say."""
    return cut(text, most).encode(errors="replace").decode()


def _why(error: Exception) -> str:
    if isinstance(error, Exceeded):
        return error.what
    if isinstance(error, MemoryError):
        return "it needs more memory than a check may take"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"a fault of warmspare's own, which should be reported: {type(error).__name__} at {place}: {error}"
