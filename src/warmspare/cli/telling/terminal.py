"""The live display on a terminal: a bar with rates and time left, and sentences above it."""

from __future__ import annotations

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from warmspare.cli.telling.console import PlainConsole, text
from warmspare.cli.telling.wording import duration, sentence, size
from warmspare.observe.events import Event
from warmspare.outside.text import shown

_LOUD = {
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
    "error": "red",
}
_QUIET = dict.fromkeys(("sync.done", "apply.done", "copy.done", "failover.done", "export.done"), "bold green")


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
        if event["event"] == "progress":
            self._show(event)
            return
        if event["event"] in ("sync.done", "sync.failed", "apply.done", "copy.done", "audit.done"):
            self._stop(event.get("vm_name", ""))
        words = sentence(event)
        if words:
            style = _LOUD.get(event["event"]) or _QUIET.get(event["event"]) or ""
            self._console.print(text(words, style))

    def _show(self, event: Event) -> None:
        if not event["bytes_total"]:
            return
        names = ("read", "changed", "sent", "written")
        parts = [f"{name} {size(event[f'bytes_{name}'])}" for name in names if f"bytes_{name}" in event]
        if event["seconds"]:
            parts.insert(0, f"{size(event['bytes_done'] / event['seconds'])}/s")
        if event["seconds_left"] >= 0:
            parts.append(f"{duration(event['seconds_left'])} left")
        name = event.get("vm_name", "")
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(shown(name), total=None, figures="")
            self._progress.start()
        self._progress.update(
            self._tasks[name], total=event["bytes_total"], completed=event["bytes_done"], figures="  ".join(parts)
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
