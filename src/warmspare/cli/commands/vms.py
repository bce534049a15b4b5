"""`warmspare vms`: what is protected, what could be, and why something can't."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmspare.cli import options
from warmspare.cli.run import act
from warmspare.cli.telling.output import Show

if TYPE_CHECKING:
    from rich.text import Text

    from warmspare.engine.requests.setup_requests import ListedVms
    from warmspare.observe.event import Event
    from warmspare.observe.kinds.source_events import VmListed

STYLES = {"protected": "green", "possible": "yellow", "impossible": "red"}


class VmsOptions(options.Told):
    config: options.Config = None


def vms(given: VmsOptions) -> int:
    """List the VMs of every vCenter of the configuration: protected, possible, impossible and why."""
    from warmspare.engine.requests.setup_requests import VmsRequest

    return act(lambda: VmsRequest(config=options.config_file(given.config)), given, _VmTables())


class _VmTables(Show):
    """One table a vCenter; also of those that could be asked where another could not."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[Text, ...]]] = {}

    def event(self, event: Event) -> bool:
        from warmspare.cli.telling.console import columns, text
        from warmspare.observe.kinds.source_events import VmListed, VmMissing, VmsDone

        if isinstance(event, VmListed):
            self._rows.setdefault(event.vcenter, []).append(_row(event))
        elif isinstance(event, VmMissing):
            row = (text(""), text("missing", "bold red"), text(event.name), text(""), text(event.message))
            self._rows.setdefault(event.vcenter, []).append(row)
        elif isinstance(event, VmsDone):
            for vcenter, rows in self._rows.items():
                columns(f"vCenter {vcenter}", ("VM", "", "as", "disks", "why"), rows)
        else:
            return False
        return True

    def end(self, result: ListedVms) -> None:
        pass


def _row(vm: VmListed) -> tuple[Text, ...]:
    from warmspare.cli.telling.console import text
    from warmspare.observe.quantities import told

    total = vm.disks + len(vm.left_out)
    reasons = [*([vm.reason] if vm.reason else []), *(f"{one.name}: {one.reason}" for one in vm.left_out)]
    if vm.unknown:
        reasons.append(f"not understood: {told(vm.unknown)}")
    state = text(vm.state, STYLES[vm.state])
    return text(vm.path), state, text(", ".join(vm.names)), text(f"{vm.disks} of {total}"), text("; ".join(reasons))
