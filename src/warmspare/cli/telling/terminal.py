"""The live display on a terminal: a bar with rates and time left, and sentences above it."""

from __future__ import annotations

from msgspec import UNSET
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from warmspare.cli.telling.console import PlainConsole, text
from warmspare.observe.event import Event, FleetEvent, name_of
from warmspare.observe.kinds.run import Progress as ProgressTold
from warmspare.observe.quantities import duration, size
from warmspare.outside.text import shown

_GOOD = "bold green"
STYLES = {
    "sync.failed": "red",
    "finding": "yellow",
    "unprotected": "bold red",
    "apply.waiting": "yellow",
    "source.retry": "yellow",
    "source.warning": "yellow",
    "store.retry": "yellow",
    "store.promise": "bold red",
    "housekeeping.warning": "yellow",
    "tracking.missed": "bold red",
    "sync.late": "yellow",
    "stage.waiting": "yellow",
    "stage.kept": "yellow",
    "stage.left": "yellow",
    "drill.missing": "bold red",
    "failover.note": "yellow",
    "failover.missing": "bold red",
    "audit.waiting": "yellow",
    "report.wrong": "bold red",
    "sync.done": _GOOD,
    "apply.done": _GOOD,
    "copy.done": _GOOD,
    "failover.done": _GOOD,
    "export.done": _GOOD,
}
ENDINGS = frozenset({"sync.done", "sync.failed", "apply.done", "copy.done", "audit.done"})  # of what a bar shows


class TerminalOutput:
    """Implements `Output`."""

    tick_s = 0.2

    def __init__(self) -> None:
        self._console = PlainConsole()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}  # by VM, where there are several

    def event(self, event: Event) -> None:
        if isinstance(event, ProgressTold):
            self._show(event)
            return
        name = name_of(event)
        if name in ENDINGS:
            self._stop(_whose(event))
        if words := event.sentence():
            self._console.print(text(words, STYLES.get(name, "")))

    def _show(self, event: ProgressTold) -> None:
        if not event.bytes_total:
            return
        parts = [f"{name} {size(count)}" for name, count in event.amounts()]
        if event.seconds:
            parts.insert(0, f"{size(event.bytes_done / event.seconds)}/s")
        if event.seconds_left >= 0:
            parts.append(f"{duration(event.seconds_left)} left")
        name = _whose(event)
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(shown(name), total=None, figures="")
            self._progress.start()
        self._progress.update(
            self._tasks[name], total=event.bytes_total, completed=event.bytes_done, figures="  ".join(parts)
        )

    def _stop(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            self._progress.remove_task(task)
        if not self._tasks:
            self._progress.stop()

    def close(self) -> None:
        for name in list(self._tasks):
            self._stop(name)


def _whose(event: Event) -> str:
    """The VM that it is of, where there are several."""
    return event.vm_name if isinstance(event, FleetEvent) and event.vm_name is not UNSET else ""
