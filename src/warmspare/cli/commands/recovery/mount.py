"""`warmspare mount`: the disks of a restore point or a replica as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act


class MountOptions(options.HeldOptions):
    follow: ClassVar[bool] = True  # it goes on until it is ended

    folder: Annotated[Path, Option(metavar="DIR", help="Where: an empty folder of yours.", complete="folder")]
    vm: options.Vm


def mount(given: MountOptions) -> int:
    """Show the disks of a restore point or a replica, and their partitions, as read-only files until Ctrl-C."""
    from warmspare.engine.requests.looking_requests import MountRequest

    def request() -> MountRequest:
        return MountRequest(disks=given.disks(given.vm), folder=given.folder)

    return act(request, given)
