"""`warmspare doctor`: can what warmspare depends on be used, looked at before the first run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter
    from warmspare.source.vddk_doctor import Check

WRONG = 2
STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def doctor(
    vddk: Annotated[
        Path, typer.Option("--vddk", metavar="DIR", help="VMware's VDDK, unpacked: the folder with lib64.")
    ],
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Check a VDDK: found, complete, for this machine, and able to start."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.source.vddk_doctor import examine

        checks = await examine(vddk)
        for check in checks if json else []:
            events.emit(
                "check", name=check.name, state=check.state, found=check.found, meaning=check.meaning
            )
        if not json:
            show(checks)
        wrong = sum(check.state == "wrong" for check in checks)
        if json:
            events.emit("doctor.done", wrong=wrong, notes=sum(check.state == "note" for check in checks))
        return WRONG if wrong else 0

    return execute(work, as_json=json, debug=debug)


def show(checks: list[Check]) -> None:
    """One readable table."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("check", "", "found", "what it means"):
        table.add_column(title, overflow="fold")
    for check in checks:
        table.add_row(check.name, Text(check.state, style=STYLES[check.state]), check.found, check.meaning)
    Console(highlight=False).print(table)
