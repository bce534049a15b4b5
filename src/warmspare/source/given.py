"""A machine of disks that somebody else holds still: images, detached devices, snapshots; owns nothing."""

from __future__ import annotations

from dataclasses import replace

from warmspare.model.ids import VmId
from warmspare.source.identity import Identity
from warmspare.source.ports import DiskInput, LastPoint, Opened


class GivenDisks:
    """The machine `vm` with these disks, opened already; they are closed with it."""

    readable_again = True

    def __init__(self, vm: VmId, disks: list[DiskInput]) -> None:
        self.vm_id = vm
        self.vm_name: str = vm
        self.identity: Identity | None = None
        self.disks = disks

    async def lives(self, before: Identity) -> bool:
        """Nothing is known of it."""
        return False

    async def open(self, last: LastPoint | None) -> Opened:
        if last is not None and last.doubt:
            return Opened([replace(disk, reported=None, reason=last.doubt) for disk in self.disks])
        return Opened(self.disks)

    async def all_read(self) -> None:
        """They stay as they are."""

    async def close(self) -> None:
        for given in self.disks:
            await given.source.close()
