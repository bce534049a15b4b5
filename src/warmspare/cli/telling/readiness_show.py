"""How a look into disks is shown to a person: what was looked at, and each finding with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmspare.cli.telling.output import Show

if TYPE_CHECKING:
    from warmspare.observe.event import Event
    from warmspare.observe.kinds.finding_events import ReadinessFinding
    from warmspare.observe.kinds.looking_events import CheckDone

STYLES = {"stops": "bold red", "warning": "yellow", "note": "cyan"}


class ReadinessShow(Show):
    """Before the sentence that sums it up."""

    def __init__(self) -> None:
        self._findings: list[ReadinessFinding] = []

    def event(self, event: Event) -> bool:
        from warmspare.observe.kinds.finding_events import ReadinessFinding
        from warmspare.observe.kinds.looking_events import CheckDone

        if isinstance(event, ReadinessFinding):
            self._findings.append(event)
            return True
        if isinstance(event, CheckDone):
            self._print(event)
        return False

    def _print(self, done: CheckDone) -> None:
        from warmspare.cli.telling.console import PlainConsole, text

        console = PlainConsole()
        console.print(text(f"VM {done.vm_name} at restore point {done.point}"), soft_wrap=True)
        for line in done.seen:
            console.print(text(f"  {line}"), soft_wrap=True)
        for finding in self._findings:
            head = text(finding.severity, STYLES[finding.severity])
            head.append_text(text(f" {finding.disk}, {finding.place}"))
            console.print()
            console.print(head, soft_wrap=True)
            if finding.found:
                console.print(text(f"  found    {finding.found}"), soft_wrap=True)
            console.print(text(f"  meaning  {finding.message}"), soft_wrap=True)
            console.print(text(f"  remedy   {finding.remedy}"), soft_wrap=True)
        console.print()
