"""Events of drills: of one VM, in QEMU or in EC2, and of the records that drills leave."""

from __future__ import annotations

from typing import Annotated

from warmspare.observe.event import Event, Weight, note
from warmspare.observe.quantities import duration


class DrillStart(Event, frozen=True, kw_only=True, tag="drill.start"):
    """The machine is about to be started in QEMU."""

    use = "QEMU"

    vm: str
    point: str
    replica: Annotated[str | None, note(description="null: the restore point itself")]
    firmware: str
    controller: str
    memory_mib: int
    cpus: int
    timeout_seconds: float
    evidence: str

    def words(self) -> str:
        return (
            f"starting {self.vm!r} at restore point {self.point} from an overlay of "
            f"{self.replica or 'the restore point itself'}: {self.firmware.upper()}, "
            f"disks on {self.controller}, {self.cpus} CPU, {self.memory_mib} MiB, no network; "
            f"{duration(self.timeout_seconds)} at most"
        )


class Ec2DrillStart(Event, frozen=True, kw_only=True, tag="drill.start"):
    """The machine is about to be started in EC2."""

    use = "EC2"

    vm: str
    point: str
    created: str
    subnet: str
    firmware: str
    types: list[str]
    timeout_seconds: float
    evidence: str

    def words(self) -> str:
        return (
            f"starting {self.vm!r} at restore point {self.point} in EC2, {self.subnet}, which reaches nothing; "
            f"{duration(self.timeout_seconds)} at most"
        )


class DrillWaiting(Event, frozen=True, kw_only=True, tag="drill.waiting"):
    """Each 10 s while it starts."""

    vm: str
    seconds: Annotated[float, note(description="since power-on")]
    line: Annotated[str, note(description="the last on the serial port")]

    def words(self) -> str:
        return f"{self.vm!r}, {duration(self.seconds)} since power-on: {self.line or 'the serial port is silent'}"


class DrillNote(Event, frozen=True, kw_only=True, tag="drill.note"):
    """The machine is not the VM in some way, or something was done without."""

    usual = Weight.WARNING

    vm: str
    message: str

    def words(self) -> str:
        return f"note on {self.vm!r}: {self.message}"


def _verdict(vm: str, passed: bool, boot_seconds: float | None, reason: str) -> str:
    up = "" if boot_seconds is None else f": up after {duration(boot_seconds)}"
    verdict = f"PASSED{up}" if passed else "FAILED"
    return f"drill of {vm!r} {verdict}; {reason}; "


class DrillDone(Event, frozen=True, kw_only=True, tag="drill.done"):
    """It is judged; exit code 5 unless passed and untouched."""

    use = "QEMU"

    vm: str
    passed: bool
    reason: str
    untouched: Annotated[bool | None, note(description="null: no replica")]
    boot_seconds: Annotated[float | None, note(description="null: it did not boot")]
    seconds: float
    point: str
    accelerator: str
    evidence: str

    def weight(self) -> Weight:
        return Weight.GOOD if self.passed and self.untouched is not False else Weight.ALARM

    def words(self) -> str:
        disks = {
            True: "the replica is as it was",
            False: "the replica is CHANGED",
            None: "every block that was read of the restore point was verified",
        }[self.untouched]
        head = _verdict(self.vm, self.passed, self.boot_seconds, self.reason)
        return f"{head}{disks}; evidence in {self.evidence}"


class Ec2DrillDone(Event, frozen=True, kw_only=True, tag="drill.done"):
    """It is judged; exit code 5 unless passed."""

    use = "EC2"

    vm: str
    passed: bool
    reason: str
    untouched: Annotated[None, note(description="there is no replica")] = None
    boot_seconds: Annotated[float | None, note(description="null: it did not boot")]
    seconds: float
    point: str
    instance: str
    evidence: str

    def weight(self) -> Weight:
        return Weight.GOOD if self.passed else Weight.ALARM

    def words(self) -> str:
        return f"{_verdict(self.vm, self.passed, self.boot_seconds, self.reason)}evidence in {self.evidence}"


class DrillKept(Event, frozen=True, kw_only=True, tag="drill.kept"):
    """A drill of one VM: its record is in the chain."""

    ends = True

    vm: str
    number: int
    record: str
    sha256: str

    def words(self) -> str:
        return f"record {self.number}: {self.record}"


class DrillMissing(Event, frozen=True, kw_only=True, tag="drill.missing"):
    """`--ec2`: a way out, or what keeps it from being started."""

    usual = Weight.ALARM

    vm: str
    message: str

    def words(self) -> str:
        return f"{self.vm}: MISSING: {self.message}"


class DrillInstance(Event, frozen=True, kw_only=True, tag="drill.instance"):
    """`--ec2`: the instance was asked for."""

    vm: str
    instance: str
    type: str

    def words(self) -> str:
        return f"{self.instance} ({self.type}), for the drill of {self.vm!r}, is starting"


class DrillEnding(Event, frozen=True, kw_only=True, tag="drill.ending"):
    """`--ec2`: all that the drill made is being ended."""

    vm: str

    def words(self) -> str:
        return f"ending what the drill of {self.vm!r} made"


class DrillEnded(Event, frozen=True, kw_only=True, tag="drill.ended"):
    """`--ec2`: all that the drill made is gone."""

    vm: str
    seconds: float

    def words(self) -> str:
        return f"instance, volumes and image of the drill of {self.vm!r} are gone, after {duration(self.seconds)}"


class DrillCleaned(Event, frozen=True, kw_only=True, tag="drill.cleaned"):
    """`--clean`: what one drill had left."""

    vm: str
    what: str

    def words(self) -> str:
        return f"{self.vm}: ended {self.what}"


class DrillClean(Event, frozen=True, kw_only=True, tag="drill.clean"):
    """`--clean`: nothing of any drill is left."""

    ends = True

    vm: str
    ended: Annotated[int, note(description="drills that had left something")]

    def words(self) -> str:
        return (
            f"{self.ended} drills of {self.vm!r} had left something"
            if self.ended
            else f"no drill of {self.vm!r} has left anything"
        )


class Drill(Event, frozen=True, kw_only=True, tag="drill"):
    """`drills`: one VM of a record."""

    usual = Weight.ANSWER

    number: int
    where: Annotated[str, note(description="qemu, ec2")]
    began: str
    vm: str
    vm_name: str
    point: Annotated[str, note(description='"" where none was found')]
    result: Annotated[str, note(description="passed, late, failed, not judged")]
    reason: str
    boot_seconds: float | None
    ready_seconds: float | None
    rto_seconds: float | None
    within: bool | None
    plan: Annotated[str, note(description='"" without one')]
    evidence: str

    def words(self) -> str:
        took = "" if self.boot_seconds is None else f", up {duration(self.boot_seconds)} after power-on"
        if self.ready_seconds is not None and self.rto_seconds is not None:
            took += f", ready after {duration(self.ready_seconds)} of {duration(self.rto_seconds)}"
        why = "" if self.result == "passed" else f": {self.reason}"
        point = self.point or "no restore point"
        return f"{self.began}  {self.where:4}  {point}: {self.result}{took}{why}"


class DrillTrend(Event, frozen=True, kw_only=True, tag="drill.trend"):
    """`drills`: of the newest that came up, and the median of up to 20 before it."""

    usual = Weight.ANSWER

    vm: str
    vm_name: str
    where: Annotated[str, note(description="qemu, ec2")]
    drills: int
    passed: int
    late: int
    last: str
    last_result: str
    last_passed: Annotated[str | None, note(description="null for never")]
    boot_seconds: float | None
    median_boot_seconds: float | None
    ready_seconds: float | None
    median_ready_seconds: float | None
    rto_seconds: float | None

    def words(self) -> str:
        head = f"{self.passed} of {self.drills} passed in {self.where}"
        if self.late:
            head += f", {self.late} late"
        if self.last_result != "passed":
            head += f", the last time {self.last_passed or 'never'}"
        for word, seconds, before in (
            ("boots", self.boot_seconds, self.median_boot_seconds),
            ("ready", self.ready_seconds, self.median_ready_seconds),
        ):
            if seconds is not None:
                against = "" if before is None else f" (before: {duration(before)})"
                head += f"; {word} after {duration(seconds)}{against}"
        return head


class RecordWrong(Event, frozen=True, kw_only=True, tag="record.wrong"):
    """`drills`: a record is not as it was written, or missing."""

    usual = Weight.ALARM

    record: Annotated[str, note(description="or the number of one that is missing")]
    message: str

    def words(self) -> str:
        return f"WRONG: {self.record} {self.message}"


class DrillsDone(Event, frozen=True, kw_only=True, tag="drills.done"):
    """`drills`; exit code 5 if anything is wrong."""

    ends = True

    directory: str
    count: int
    wrong: int
    head: str | None
    sha256: str | None

    def weight(self) -> Weight:
        return Weight.ALARM if self.wrong else Weight.PLAIN

    def words(self) -> str:
        if self.wrong:
            return f"{self.count} records in {self.directory}: {self.wrong} things are WRONG"
        head = f"; the newest has the SHA-256 {self.sha256}" if self.sha256 else ""
        return f"{self.count} records in {self.directory}, each as it was written{head}"
