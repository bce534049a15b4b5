"""Events of readiness: looking into a VM's disks for what will stop it from starting."""

from __future__ import annotations

from typing import Annotated

from warmspare.observe.event import Event, Weight, note
from warmspare.observe.quantities import size


class PointRead(Event, frozen=True, kw_only=True, tag="point.read"):
    """`recover check`, `drill` without a replica: what was read of the restore point."""

    vm: str
    point: str
    bytes_fetched: Annotated[int, note(description="of objects of all kinds")]
    blocks_verified: int
    capacity_bytes: Annotated[int, note(description="of the disks")]

    def words(self) -> str:
        return (
            f"read of restore point {self.point}: {self.blocks_verified} blocks put together and verified, for which "
            f"{size(self.bytes_fetched)} were fetched; its disks have {size(self.capacity_bytes)}"
        )


class CheckDone(Event, frozen=True, kw_only=True, tag="check.done"):
    """`recover check`; exit code 5 if anything stops the start, with `--strict` 7 if something is not known."""

    ends = True

    vm: str
    vm_name: str
    point: str
    stops: int
    warnings: int
    notes: int
    not_known: Annotated[list[str], note(description="a clause each, with disk and place")]
    seen: list[str]

    def weight(self) -> Weight:
        return Weight.ALARM if self.stops else Weight.WARNING if self.warnings or self.not_known else Weight.GOOD

    def words(self) -> str:
        said = (
            f"{self.stops} things were found that will stop {self.vm!r} from starting in EC2"
            if self.stops
            else f"{self.vm!r} starts in EC2 as far as was seen"
        )
        left = f"; not known: {'; '.join(self.not_known)}" if self.not_known else ""
        return f"{said}; warnings: {self.warnings}, notes: {self.notes}{left}"


class OutlookTold(Event, frozen=True, kw_only=True, tag="outlook"):
    """`failover --dry-run`, `drill --ec2 --plan`, and `failover` where an image hangs on it: what a check says of the
    disks."""

    vm: str
    point: str
    answer: Annotated[str, note(description="starts, stops, not known; `starts` is as far as was seen")]
    stops: list[str]
    not_known: Annotated[list[str], note(description="a clause each")]
    runs: Annotated[list[str], note(description="Windows, RHEL, SUSE, Linux; several where it is not sure")]

    def weight(self) -> Weight:
        return {"starts": Weight.ANSWER, "not known": Weight.WARNING}.get(self.answer, Weight.ALARM)

    def words(self) -> str:
        head = f"{self.vm} at restore point {self.point}: "
        if self.stops:
            head += f"WILL NOT START: {'; '.join(self.stops)}"
        else:
            head += f"starts {self.runs[0] if len(self.runs) == 1 else ''}".rstrip() + " as far as was seen"
        return head + (f"; not known: {'; '.join(self.not_known)}" if self.not_known else "")
