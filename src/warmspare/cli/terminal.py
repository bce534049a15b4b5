"""The live display on a terminal: a bar with rates and time left, and sentences above it."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from warmspare.cli.wording import duration, sentence, size
from warmspare.observe.events import Event

_LOUD = {
    "finding": "yellow",
    "unprotected": "bold red",
    "apply.waiting": "yellow",
    "source.retry": "yellow",
    "source.warning": "yellow",
    "error": "red",
}
_QUIET = {"sync.done": "bold green", "apply.done": "bold green"}


class TerminalOutput:
    """Implements `Output`."""

    tick_s = 0.2

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None

    def event(self, event: Event) -> None:
        if event["event"] == "progress":
            self._show(event)
            return
        if event["event"] in ("sync.done", "apply.done"):
            self._stop()
        text = sentence(event)
        if text:
            style = _LOUD.get(event["event"]) or _QUIET.get(event["event"]) or ""
            self._console.print(Text(text, style=style))

    def _show(self, event: Event) -> None:
        if not event["bytes_total"]:
            return
        names = ("read", "changed", "sent", "written")
        parts = [f"{name} {size(event[f'bytes_{name}'])}" for name in names if f"bytes_{name}" in event]
        if event["seconds"]:
            parts.insert(0, f"{size(event['bytes_done'] / event['seconds'])}/s")
        if event["seconds_left"] >= 0:
            parts.append(f"{duration(event['seconds_left'])} left")
        if self._task is None:
            self._task = self._progress.add_task("", total=None, figures="")
            self._progress.start()
        self._progress.update(
            self._task, total=event["bytes_total"], completed=event["bytes_done"], figures="  ".join(parts)
        )

    def _stop(self) -> None:
        if self._task is not None:
            self._progress.stop()
            self._progress.remove_task(self._task)
            self._task = None

    def close(self) -> None:
        self._stop()
