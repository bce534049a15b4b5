"""The outlook of a restore point: what a check says of it to who is about to start a machine from it; owns no look.

A check that can't be made here, for lack of a program, a right or a sound block, is the third answer, and no error:
nothing about to be started hangs on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from warmspare.errors import WarmspareError, first_of
from warmspare.observe.kinds.looking_events import OutlookTold
from warmspare.recover.disks.held_point import HeldPoint, with_point
from warmspare.recover.disks.origin import of_point
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, BootSeverity
from warmspare.recover.readiness.check import Ready, look
from warmspare.store.contract import Store

STARTS, STOPS, NOT_KNOWN = "starts", "stops", "not known"
_FIRMWARES: Mapping[str, str] = {"uefi": "uefi", "legacy-bios": "bios"}  # by EC2's boot modes


@dataclass(frozen=True, slots=True)
class Outlook:
    """stops: what keeps it from starting, a clause each, with its place and remedy. not_known: what could not be
    judged, a clause each. runs: what starts (report.py); several where that is not sure, none where it was not seen.
    tokenless: who asks the metadata service without a token, a clause each."""

    point: str
    stops: tuple[str, ...]
    not_known: tuple[str, ...]
    runs: tuple[str, ...] = ()
    tokenless: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """STOPS if anything does; else NOT_KNOWN if anything is not; else STARTS, as far as was seen."""
        if self.stops:
            return STOPS
        return NOT_KNOWN if self.not_known else STARTS

    def event(self, vm: str) -> OutlookTold:
        """How it is told."""
        return OutlookTold(
            vm=vm,
            point=self.point,
            answer=self.answer,
            stops=list(self.stops),
            not_known=list(self.not_known),
            runs=list(self.runs),
        )


async def outlook(store: Store, vm: str, point: str, scratch: Path, *, boots: str | None, boot_mode: str) -> Outlook:
    """Look into a restore point, without a replica. vm: its ID in the repository. point: its label. scratch: a
    directory for what is fetched. boots: ID or name of the disk to boot, None for what the VM says. boot_mode: the
    instance's."""

    async def looked(held: HeldPoint) -> Ready:
        of = replace(of_point(held.record.record), boots=boots)
        return await look(of.ordered(held.disks), _FIRMWARES.get(boot_mode))

    told = Outlook(point, (), ())
    try:
        ready = await with_point(store, vm, point, scratch, looked)
        stops = [each for each in ready.findings if each.severity is BootSeverity.STOPS]
        tokenless = [each for each in ready.findings if each.kind is BootFindingKind.IMDS_V1]
        told = Outlook(
            point,
            tuple(_words(each) for each in stops),
            tuple(ready.not_known),
            ready.runs,
            tuple(_words(each) for each in tokenless),
        )
    except* WarmspareError as group:  # alone, or of several who read at once
        told = Outlook(point, (), (f"the disks could not be looked into: {first_of(group).sentence}",))
    return told


def _words(finding: BootFinding) -> str:
    found = f" ({finding.found})" if finding.found else ""
    return f"{finding.disk}, {finding.place}: {finding.meaning}{found}; {finding.remedy}"
