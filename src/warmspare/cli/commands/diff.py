"""`warmspare diff`: what differs between two restore points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.cli.telling.diff_table import DiffTable

if TYPE_CHECKING:
    from warmspare.engine.requests.looking_requests import PointDiffRequest

_POINT = "a restore point by number or label, latest, or a time, as in the other commands' --at."


class DiffOptions(options.RepositoryOptions):
    first: Annotated[str, Option(metavar="A", help=f"From: {_POINT}", complete="point")]
    second: Annotated[str, Option(metavar="B", help=f"To: {_POINT}", complete="point")]
    vm: options.Vm
    exact: Annotated[
        bool, Option("--exact", help="Fetch the blocks that differ at both, and compare them page by page.")
    ] = False
    html: Annotated[
        Path | None,
        Option(
            "--html", metavar="FILE", help="Write a page for a browser with a map of each disk, too.", complete="file"
        ),
    ] = None


def diff(given: DiffOptions) -> int:
    """Say which blocks and pages of a VM's disks differ between two restore points."""

    def request() -> PointDiffRequest:
        from warmspare.engine.requests.looking_requests import PointDiffRequest

        return PointDiffRequest(
            repository=given.repository(),
            vm=given.vm,
            first=given.first,
            second=given.second,
            exact=given.exact,
            html=given.html,
        )

    return act(request, given, DiffTable())
