"""The live display on a terminal: a bar with rates and time left, and sentences above it."""

from __future__ import annotations

from msgspec import UNSET
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from warmspare.cli.telling.console import PlainConsole, text
from warmspare.cli.telling.tone import USUAL, Tone
from warmspare.observe.event import Event, FleetEvent, Weight, name_of
from warmspare.observe.kinds.run_events import Progress as ProgressTold
from warmspare.observe.quantities import duration, size
from warmspare.outside.text import shown

STYLES = {Weight.GOOD: "bold green", Weight.WARNING: "yellow", Weight.ALARM: "bold red"}
ENDINGS = frozenset({"sync.done", "sync.failed", "apply.done", "copy.done", "audit.done"})  # of what a bar shows


class TerminalOutput:
    """Implements `Output`."""

    tick_s = 0.2

    def __init__(self, tone: Tone = USUAL) -> None:
        self._tone = tone
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
        if words := self._tone.words(event):
            self._console.print(text(words, STYLES.get(event.weight(), "")))

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

    def end(self) -> None:
        pass


def _whose(event: Event) -> str:
    """The VM that it is of, where there are several."""
    return event.vm_name if isinstance(event, FleetEvent) and event.vm_name is not UNSET else ""
