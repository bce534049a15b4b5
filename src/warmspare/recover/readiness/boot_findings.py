"""One thing that a look into a VM's disks found: where, and what stands there; what it means is its kind's."""

from __future__ import annotations

from dataclasses import dataclass

from warmspare.observe.kinds.finding import ReadinessFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, BootSeverity, Family
from warmspare.recover.readiness.boot_meanings import ABOUT


@dataclass(frozen=True, slots=True)
class BootFinding:
    """One thing that was found. disk: its ID. place: the partition, file and line it is about. found: what stands
    there. family: of the system that it is about."""

    kind: BootFindingKind
    disk: str
    place: str
    found: str = ""
    family: Family = Family.OTHER

    @property
    def severity(self) -> BootSeverity:
        return ABOUT[self.kind].severity

    @property
    def known(self) -> bool:
        """False where this says that neither answer can be given."""
        return ABOUT[self.kind].known

    @property
    def meaning(self) -> str:
        return ABOUT[self.kind].meaning

    @property
    def remedy(self) -> str:
        return dict(ABOUT[self.kind].remedies).get(self.family, ABOUT[self.kind].remedy)

    def event(self, vm: str, point: str) -> ReadinessFinding:
        """How it is told."""
        return ReadinessFinding(
            kind=str(self.kind),
            severity=str(self.severity),
            known=self.known,
            vm=vm,
            disk=self.disk,
            place=self.place,
            found=self.found,
            point=point,
            message=self.meaning,
            remedy=self.remedy,
        )
