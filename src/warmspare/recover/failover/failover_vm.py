"""One VM of a failover, looked at: what it becomes, what is missing, and what would be done; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from warmspare.recover.failover.ami import ImageSpec
from warmspare.recover.failover.ec2_machine import Ec2Machine
from warmspare.recover.failover.launch import Instance
from warmspare.recover.failover.plan import VmPlan
from warmspare.recover.failover.platform import UNKNOWN
from warmspare.repository.chain import Point
from warmspare.repository.failover_record import FailoverJournal


@dataclass(frozen=True, slots=True)
class FailoverVm:
    """One VM, looked at. found: the instance of this failover, if there is one already. died: the one that ended before
    it ran, in whose place another is to be started."""

    plan: VmPlan
    machine: Ec2Machine
    point: Point
    journal: FailoverJournal
    types: tuple[str, ...]
    missing: tuple[str, ...]
    tags: dict[str, str]
    found: Instance | None
    died: Instance | None = None

    @property
    def unsure(self) -> bool:
        """Whether an image is to be made that says which system it is, or must be said to lack it, and only the disks
        tell."""
        asked = self.plan.via == "import-image" or not self.machine.known
        return asked and not self._begun and not self.machine.stated

    @property
    def _begun(self) -> bool:
        """Whether its image is made, or under way."""
        record = self.journal.record
        return record is not None and record.holds and bool(record.ids_of("image") or record.ids_of("import"))

    @property
    def lacking(self) -> tuple[str, ...]:
        """All that keeps it from being started, each with what to do."""
        undecided = self.plan.via == "import-image" and not self.machine.platform
        return (*self.missing, UNKNOWN) if undecided and not self._begun else self.missing

    @property
    def image(self) -> ImageSpec:
        return ImageSpec(self.machine, self.point.id.label, self.tags)

    def would(self) -> list[str]:
        """What would be done, in its order."""
        done = self.journal.record.id_of if self.journal.record and self.journal.record.holds else lambda _: ""
        would = [] if done("image") else [self.image_words()]
        if self.found is None and not self.lacking:
            types = " or ".join(self.types[:1]) + (f" (else {', '.join(self.types[1:])})" if self.types[1:] else "")
            nets = ", ".join(f"{card.subnet}{f' as {card.ip}' if card.ip else ''}" for card in self.machine.cards)
            would.append(f"start an instance {types} in {nets or 'the default network'}")
            would += [f"first wait {self.plan.delay_s} s"] if self.plan.delay_s else []
            would += (
                [f"wait for {self.plan.ready} for at most {self.plan.ready_s} s"] if self.plan.ready != "none" else []
            )
        return would

    def image_words(self) -> str:
        """What is to be done for its image."""
        disks = ", ".join(f"{disk.device} {disk.staged.snapshot_id}" for disk in self.machine.disks)
        how = f"{self.machine.architecture}, {self.machine.boot_mode or 'firmware not known'}"
        if self.plan.via == "import-image":
            return f"import an image ({how}) of {', '.join(self.plan.import_from) or disks}"
        return f"register the image {self.image.name!r} ({how}) of {disks}"
