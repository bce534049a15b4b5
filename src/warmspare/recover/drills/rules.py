"""How a drill judges, wherever it runs, and the error where a VM does not come up; owns no machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmspare.errors import IntegrityError
from warmspare.recover.drills.evidence import DrillVerdict
from warmspare.repository.remedy_commands import typed

WAITING_S = 10.0


class BootError(IntegrityError):
    """A VM does not boot, or will not."""

    kind = "boot"


@dataclass(frozen=True, slots=True)
class Rules:
    """How a drill judges. expect: a text on the serial port; by_agent: the guest agent must answer. With both, both;
    with neither, a login prompt or the agent, whichever comes first. timeout_s: of the boot. hashed: hash the replica
    before and after. by_checks: in EC2, both of AWS's status checks must pass, whatever the serial port says."""

    expect: str | None = None
    by_agent: bool = False
    timeout_s: float = 600.0
    hashed: bool = False
    by_checks: bool = False

    @property
    def either(self) -> bool:
        return self.expect is None and not self.by_agent

    @property
    def judged_by(self) -> str:
        if self.either:
            return "serial or agent"
        return " and ".join([*(["serial"] if self.expect else []), *(["agent"] if self.by_agent else [])])


def demand(verdict: DrillVerdict, folder: Path) -> None:
    """BootError unless the drill passed and left the replica, if there is one, as it was."""
    if verdict.untouched is False:
        raise BootError(
            "the replica was written to during the drill, by something else: the drill has no way to",
            where=str(folder),
            hint=f"find out what writes to it, and then run {_auditing(verdict)}",
        )
    if not verdict.passed:
        raise BootError(
            f"VM {verdict.vm_name!r} does not boot from restore point {verdict.point['label']}: {verdict.reason}",
            where=str(folder),
            hint="look at the screenshot and the serial log there, and run "
            f"{looking(verdict.vm, verdict.uri, str(verdict.point['label']))}: it says what to mend",
        )


def looking(vm: str, uri: str, label: str) -> str:
    """The command that says what is wrong with a VM that does not come up. uri: of the repository. label: of the
    restore point."""
    return typed("recover check", vm, uri, "--at", label)


def _auditing(verdict: DrillVerdict) -> str:
    """The command that heals the replica which was drilled."""
    paths = [Path(disk["path"]) for disk in verdict.disks]
    replica = paths[0] if len(paths) == 1 else paths[0].parent
    return typed("audit replica", verdict.vm, verdict.uri, "--replica", str(replica), "--repair")
