"""`warmspare demo`: a real file system is replicated, changed, replicated again, applied and proved identical."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import execute
from warmspare.cli.telling.output import LinesOutput

if TYPE_CHECKING:
    from warmspare.engine.request import RunContext


class DemoOptions(options.Told):
    keep: Annotated[
        Path | None,
        Option("--keep", metavar="DIR", help="Work in DIR and leave everything there.", complete="folder"),
    ] = None


def demo(given: DemoOptions) -> int:
    """Show the whole way on a real ext4 disk: sync, change, sync, apply, compare."""

    async def work(run: RunContext) -> int:
        from warmspare.cli.telling.console import PlainConsole
        from warmspare.demo.demonstration import demonstrate

        return await demonstrate(given.keep, PlainConsole())

    return execute(work, LinesOutput(), as_json=False, debug=given.debug)
