"""The options of a command that has given disks, or VMs of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.engine.given_disks import GivenDisksOf
    from warmspare.engine.repository_place import RepositoryPlace


class DiskOptions(options.RepositoryOptions):
    """of_disks: fields that go with disks only, and their options."""

    of_disks: ClassVar[Mapping[str, str]] = {}

    disks: Annotated[
        list[str],
        Option(
            metavar="DISK",
            help="Disk images or devices, as PATH or NAME=PATH (NAME: the disk's ID); vddk:///PATH reads through VDDK. "
            "None: the VMs of the configuration.",
            complete="file",
        ),
    ] = []  # noqa: RUF012 (never changed)
    vm: Annotated[
        list[str],
        Option(
            "--vm",
            metavar="NAME",
            help="What the VM is called in the repository; without disks, in the configuration. Repeatable.",
            complete="vm",
        ),
    ] = []  # noqa: RUF012
    all_vms: Annotated[bool, Option("--all", help="Every VM of the configuration.")] = False
    extents: Annotated[
        list[Path],
        Option(
            "--extents",
            metavar="FILE",
            help="Lines of `offset length` in bytes: the only areas that may have changed since the newest restore "
            "point. Once a disk, in order.",
            complete="file",
        ),
    ] = []  # noqa: RUF012
    vddk: Annotated[
        Path | None,
        Option(
            "--vddk",
            metavar="DIR",
            help="VMware's VDDK, unpacked: reads the disks given as vddk:///PATH.",
            complete="folder",
        ),
    ] = None
    state: options.SenderState = None
    limit: options.Limit = None
    dry_run: options.DryRun = False
    single_sender: options.SingleSender = False

    def idle(self) -> set[str]:
        return super().idle() if self.disks else {"repo", "endpoint_url"}

    def usual(self, name: str) -> Path | None:
        return super().usual(name) if self.disks or name != "STATE" else None  # the configuration may name it

    def vms(self) -> tuple[str, ...]:
        """The VMs of the configuration that are meant; none: all. ConfigError where what goes with disks only is given,
        or no VM."""
        if any(getattr(self, name) for name in self.of_disks):
            *most, last = self.of_disks.values()
            raise ConfigError(
                f"{', '.join(most)} and {last} go with disks, and none was given",
                hint="the configuration has them for its VMs; see `warmspare config example`",
            )
        if bool(self.vm) == self.all_vms:
            raise ConfigError("which VMs is not said", hint="give --vm NAME, once or more, or --all, or disks")
        return tuple(self.vm)

    def given(self, *, as_raw: bool = False) -> tuple[GivenDisksOf, RepositoryPlace]:
        """The disks, of one VM, and their repository. ConfigError unless there is one of each."""
        from msgspec.structs import replace

        from warmspare.engine.given_disks import GivenDisksOf, NamedDisk, demand_extents

        place = self.repository()
        if len(self.vm) != 1 or self.all_vms:
            raise ConfigError(
                "disks are of one VM: give --vm NAME once", hint="--all means VMs of the configuration, without disks"
            )
        demand_extents(len(self.disks), len(self.extents))
        named: list[NamedDisk] = []
        for index, text in enumerate(self.disks):
            name, where = split_disk(text)
            named.append(NamedDisk(where, name, self.extents[index] if self.extents else None))
        disks = GivenDisksOf(vm=self.vm[0], disks=tuple(named), vddk=self.vddk, as_raw=as_raw)
        return disks, replace(place, single_sender=self.single_sender)


def split_disk(text: str) -> tuple[str, str]:
    """(ID, path or vddk:///path) of a DISK argument. A path that exists as it is written is never taken apart."""
    name, equals, rest = text.partition("=")
    if equals and rest and "/" not in name and not Path(text).exists():
        return name, rest
    return Path(text).name, text
