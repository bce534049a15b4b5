"""The console that tables and live displays are printed to; refuses to take any text for markup, emoji or commands.

Names and paths are printed as they are: `web [prod]` is no style, `db:fire:` no picture, and what acts on a terminal is
an escape. Only what is built as a Text of ours has a style.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from warmspare.cli.telling.output import Stdout
from warmspare.outside.text import shown

LOG_COLUMNS = 160  # where no terminal says how wide it is


def text(value: object, style: str = "") -> Text:
    """A line of anybody's, with a style of ours."""
    return Text(shown(str(value)), style)


class PlainConsole(Console):
    """To stdout. columns: where no terminal says how wide it is; None leaves that to the terminal library."""

    def __init__(self, columns: int | None = None) -> None:
        width = None if columns is None or sys.stdout.isatty() else columns
        super().__init__(file=Stdout(sys.stdout), width=width, highlight=False, markup=False, emoji=False)  # type: ignore[arg-type]

    def render_str(self, text: str, **how: Any) -> Text:
        """Every bare string on its way to be printed."""
        how.update(markup=False, emoji=False, highlight=False, highlighter=None)
        return super().render_str(shown(text, lines=True), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is left of it in a Text that was made elsewhere; the library's own commands are marked as such."""
        for segment in super().render(renderable, options):
            safe = segment.text if segment.control else shown(segment.text, lines=True)
            yield segment if safe == segment.text else Segment(safe, segment.style)


def columns(title: str, headings: Sequence[str], rows: Iterable[Sequence[Text]]) -> None:
    """A table under its title."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = PlainConsole()
    console.print(text(title), soft_wrap=True)
    console.print(table)
