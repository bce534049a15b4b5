"""Disks that somebody else holds still, opened as they are named."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.model.extents import Extents
    from warmspare.observe.events import Events
    from warmspare.source.given import GivenDisks
    from warmspare.source.ports import DiskInput, Source

VDDK_SCHEME = "vddk://"


class NamedDisk(msgspec.Struct, frozen=True):
    """A disk of a VM, as a program names it.

    place: the path of an image or a device, or vddk:///PATH. name: the disk's ID; "" for the last part of the path.
    extents: a file with lines of `offset length` in bytes, or changed: pairs of these: the only areas that may have
    changed since the last restore point. Neither: nothing is known, and all of it is compared.
    """

    place: str
    name: str = ""
    extents: Path | None = None
    changed: tuple[tuple[int, int], ...] | None = None

    @property
    def id(self) -> str:
        return self.name or Path(self.place).name


class GivenDisksOf(msgspec.Struct, frozen=True, kw_only=True):
    """The disks of one VM. vddk: the folder of the VDDK that reads those given as vddk:///PATH. as_raw: their bytes are
    meant as they are, though they look like an image file's."""

    vm: str
    disks: tuple[NamedDisk, ...]
    vddk: Path | None = None
    as_raw: bool = False

    def bytes_known(self) -> int:
        """How large they are at most, as their files say; much where that is not known."""
        total = 0
        for disk in self.disks:
            try:
                size = Path(disk.place).stat().st_size  # 0 of a device
            except (OSError, ValueError):
                size = 0
            total += size or 1 << 40
        return total

    async def open(self, events: Events, *, unchanged: bool = True) -> GivenDisks:
        """Open the sources and read their extents. unchanged: what is said of changes counts. ConfigError, SourceError;
        nothing stays open then."""
        from warmspare.model.ids import VmId
        from warmspare.source.given import GivenDisks
        from warmspare.source.ports import DiskInput
        from warmspare.sync.preparing import check_disks

        async with AsyncExitStack() as stack:
            inputs: list[DiskInput] = []
            for disk in self.disks:
                source = await _open(disk, self.vddk, events)
                stack.push_async_callback(source.close)
                reported = _reported(disk, source.capacity_bytes) if unchanged else None
                inputs.append(DiskInput(source, reported, as_raw=self.as_raw))
            check_disks(inputs)
            stack.pop_all()
            return GivenDisks(VmId(self.vm), inputs)


def demand_disks(disks: Sequence[NamedDisk]) -> None:
    """ConfigError where there are none, or of some nothing is said."""
    if not disks:
        raise ConfigError("no disk is named", hint="name at least one")
    demand_extents(len(disks), sum(disk.extents is not None or disk.changed is not None for disk in disks))


def demand_extents(disks: int, extents: int) -> None:
    """ConfigError unless something is said of the changes of all disks, or of none."""
    if extents not in (0, disks):
        raise ConfigError(
            f"there are {disks} disks and {extents} --extents",
            hint="give --extents once a disk, in the order of the disks, or not at all",
        )


def _reported(disk: NamedDisk, capacity_bytes: int) -> Extents | None:
    from warmspare.sync.planning.read_plan import extents_of, parse_extents

    if disk.extents is not None:
        return parse_extents(disk.extents, capacity_bytes)
    return None if disk.changed is None else extents_of(disk.changed, capacity_bytes, f"disk {disk.id!r}")


async def _open(disk: NamedDisk, vddk: Path | None, events: Events) -> Source:
    from warmspare.model.ids import DiskId

    name, place = DiskId(disk.id), disk.place
    if not place.startswith(VDDK_SCHEME):
        from warmspare.source.raw import RawSource

        return RawSource(Path(place), name)
    from warmspare.source.vddk import vddk_install
    from warmspare.source.vddk.vddk_session import VddkSettings, VddkTarget
    from warmspare.source.vddk.vddk_source import VddkSource

    path = place.removeprefix(VDDK_SCHEME)
    if not path.startswith("/"):
        raise ConfigError("a disk to be read through VDDK needs a whole path", where=place, hint="write vddk:///PATH")
    if vddk is None:
        raise ConfigError(
            "a disk is to be read through VDDK, and no VDDK is given", where=place, hint="name its folder with --vddk"
        )
    return await VddkSource.open(
        vddk_install.find(vddk), VddkTarget(), path, name, settings=VddkSettings(), events=events
    )
