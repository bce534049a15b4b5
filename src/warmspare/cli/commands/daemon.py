"""`warmspare daemon`: a warm process that does what this user's commands ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act

if TYPE_CHECKING:
    from warmspare.daemon.daemon_request import DaemonRequest


class DaemonOptions(options.Told):
    memory: Annotated[
        str | None, Option("--memory", metavar="SIZE", help="What all that it does may use of buffers: 384MiB.")
    ] = None


def daemon(given: DaemonOptions) -> int:
    """Do what commands of this user ask for in one process, which need not start each time. Commands find it by the
    state directory, and do without it where there is none."""

    def request() -> DaemonRequest:
        from dataclasses import replace

        from warmspare.daemon.daemon_request import DaemonRequest
        from warmspare.engine.budget import BUDGET

        memory = options.size(given.memory, "--memory")
        return DaemonRequest() if memory is None else DaemonRequest(budget=replace(BUDGET, memory_bytes=memory))

    return act(request, given)
