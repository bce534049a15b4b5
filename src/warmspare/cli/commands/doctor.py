"""`warmspare doctor`: can what a sync depends on be used, looked at before the first run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.cli.telling.output import Show
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.event import Event
    from warmspare.observe.kinds.setup_events import DoctorCheck

STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


class DoctorOptions(options.Told):
    vddk: Annotated[
        Path | None,
        Option(
            "--vddk",
            metavar="DIR",
            help="Only a VDDK: the folder with lib64 that it was unpacked to.",
            complete="folder",
        ),
    ] = None
    config: options.Config = None
    vm: Annotated[
        list[str], Option("--vm", metavar="NAME", help="Only these VMs of the configuration.", complete="vm")
    ] = []  # noqa: RUF012 (never changed)

    def idle(self) -> set[str]:
        return {"config"} if self.vddk is not None else set()


def doctor(given: DoctorOptions) -> int:
    """Check VDDK, repositories, vCenter, and each VM: privileges, change tracking, snapshots, its host's port."""
    from warmspare.engine.requests.setup_requests import DoctorRequest

    def request() -> DoctorRequest:
        if given.vddk is not None and (given.config is not None or given.vm):
            raise ConfigError("--vddk checks a VDDK alone", hint="leave out --config and --vm, or --vddk")
        return DoctorRequest(vms=tuple(given.vm), config=options.config_file(given.config), vddk=given.vddk)

    return act(request, given, _CheckTables())


class _CheckTables(Show):
    """One table a subject, at the end."""

    def __init__(self) -> None:
        self._checks: dict[str, list[DoctorCheck]] = {}

    def event(self, event: Event) -> bool:
        from warmspare.observe.kinds.setup_events import DoctorCheck

        if isinstance(event, DoctorCheck):
            self._checks.setdefault(event.subject, []).append(event)
            return True
        return False

    def end(self, result: Any) -> None:
        from warmspare.cli.telling.console import columns, text

        for subject, checks in self._checks.items():
            rows = [
                (text(one.name), text(one.state, STYLES[one.state]), text(one.found), text(one.meaning))
                for one in checks
            ]
            columns(subject, ("check", "", "found", "what it means"), rows)
