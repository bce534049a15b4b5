"""What `status` tells, for a person: a line a VM under its repository, as wide as it has to be; owns its words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmspare.cli.telling.output import Show, write_line
from warmspare.outside.text import shown

if TYPE_CHECKING:
    from warmspare.observe.event import Event
    from warmspare.observe.kinds.repository_events import VmStatusTold

NOT_KNOWN = "not known here"
HEADS = ("VM", "state", "newest", "age of RPO", "last drill", "last audit", "rolling audit", "staged", "next step")
WIDEST = 40  # of a column but the last


class StatusTable(Show):
    """Gathers the VMs of a repository until another begins, for columns are as wide as their longest cell."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, ...]] = []
        self._repository = ""

    def event(self, event: Event) -> bool:
        from warmspare.observe.kinds.repository_events import StatusDone, VmStatusTold

        if isinstance(event, VmStatusTold):
            if event.repository != self._repository:
                self._flush()
                self._repository = event.repository
            self._rows.append(row(event))
        elif isinstance(event, StatusDone):
            self._flush()
            write_line(_total(event.vms, event.attention))
        else:
            return False
        return True

    def _flush(self) -> None:
        if not self._rows:
            return
        rows = [HEADS, *self._rows]
        kept = [place for place in range(len(HEADS)) if any(one[place] for one in self._rows)]
        widths = [min(max(len(one[place]) for one in rows), WIDEST) for place in kept]
        write_line(f"repository {self._repository}")
        for one in rows:
            cells = [one[place].ljust(width) for place, width in zip(kept, widths, strict=True)]
            write_line(("  " + "  ".join(cells)).rstrip())
        self._rows = []


def row(vm: VmStatusTold) -> tuple[str, ...]:
    """The cells of a VM, in the order of HEADS; an empty one is of what was not asked for."""
    from msgspec import UNSET

    from warmspare.observe.quantities import age, ago, duration

    drill, audit, rolling, staged = vm.drill, vm.audit, vm.rolling, vm.staged
    covered = f"all {ago(rolling.covered)}, " if rolling and rolling.covered else ""
    next_step = vm.next_step or "nothing"
    rpo = duration(vm.rpo_seconds).removesuffix(" 0 s")
    cells = (
        f"{vm.vm_name or vm.vm or vm.configured}",
        vm.state,
        vm.point or "none",
        f"{age(vm.age_seconds)} of {rpo}" if vm.age_seconds is not None else "none",
        f"{drill.result} {ago(drill.began)}" if drill else NOT_KNOWN,
        f"{audit.result}, {audit.coverage_percent:.3g} % {ago(audit.ended)}" if audit else NOT_KNOWN,
        f"{covered}{rolling.round_percent:.3g} %" if rolling else NOT_KNOWN,
        "" if staged is UNSET else f"{staged.point}, {age(staged.age_seconds)}" if staged else "nothing",
        f"{next_step} ({vm.message})" if vm.message else next_step,
    )
    return tuple(shown(cell) for cell in cells)


def _total(vms: int, attention: int) -> str:
    """The last line."""
    if not vms:
        return "no VMs"
    if vms == 1:
        return "1 VM, and it needs somebody" if attention else "1 VM, and it needs nobody"
    need = f"{attention} of them need{'s' if attention == 1 else ''} somebody" if attention else "none needs anybody"
    return f"{vms} VMs, {need}"
