"""`warmspare files ls` and `get`: files of a guest out of a restore point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.cli.telling.files_table import FilesTable

if TYPE_CHECKING:
    from warmspare.engine.requests.files_requests import FilesGetRequest, FilesListRequest

_PATH = "In the guest: /path of its Linux, C:/path of its Windows, or VOLUME:/path."


class FilesListOptions(options.HeldOptions):
    paths: Annotated[list[str], Option(metavar="GUEST-PATH", help=f"{_PATH} None: list the volumes.")] = []  # noqa: RUF012
    vm: options.Vm
    recursive: Annotated[bool, Option("--recursive", "-R", help="List what is below folders, too.")] = False


class FilesGetOptions(options.HeldOptions):
    paths: Annotated[list[str], Option(metavar="GUEST-PATH", help=_PATH)]
    vm: options.Vm
    to: Annotated[
        Path, Option("--to", metavar="DIR", help="The folder to restore into; made if absent.", complete="folder")
    ]
    force: Annotated[bool, Option("--force", help="Replace files that are there; never folders.")] = False


def ls(given: FilesListOptions) -> int:
    """List the volumes of a VM's disks, or what folders on them hold, without mounting."""

    def request() -> FilesListRequest:
        from warmspare.engine.requests.files_requests import FilesListRequest

        return FilesListRequest(disks=given.disks(given.vm), paths=tuple(given.paths), recursive=given.recursive)

    return act(request, given, FilesTable())


def get(given: FilesGetOptions) -> int:
    """Restore files and folders of a VM's disks into a folder, without mounting."""

    def request() -> FilesGetRequest:
        from warmspare.engine.requests.files_requests import FilesGetRequest

        return FilesGetRequest(disks=given.disks(given.vm), paths=tuple(given.paths), to=given.to, force=given.force)

    return act(request, given)
