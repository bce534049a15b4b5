"""A machine whose disks are images here, with change tracking; when a moment of it is taken, and what it then says of
its changes, are those of who derives from it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from rig import KIB
from rigs.sites.tracking import Tracker
from warmspare.source.identity import Identity
from warmspare.source.raw import RawSource


@dataclass
class Image:
    """A disk: its live image, and what tracking knows of it."""

    name: str
    path: Path
    tracker: Tracker


class FrozenSource(RawSource):
    """An image that nothing changes any more, whatever becomes of its descriptor."""

    def check(self) -> None:
        pass


class TrackedMachine:
    """See source.ports.Machine. frozen: where the images of the last moment are, by disk."""

    vm_id = vm_name = "vm"
    readable_again = False
    identity: Identity | None = None

    def __init__(self, home: Path, *, granularity: int = 64 * KIB, seed: int = 1) -> None:
        self.home, self.granularity, self.rng = home, granularity, random.Random(seed)
        self.disks: list[Image] = []
        self.frozen: dict[str, Path] = {}
        self._sources: list[RawSource] = []

    def add(self, name: str, size: int) -> Image:
        """A disk full of random bytes."""
        path = self.home / f"{name}.raw"
        path.write_bytes(self.rng.randbytes(size))
        self.disks.append(Image(name, path, Tracker(size, self.granularity, self.rng)))
        return self.disks[-1]

    def write(self, disk: Image, offset: int, data: bytes, *, unseen: bool = False) -> None:
        with disk.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        disk.tracker.wrote(offset, len(data), unseen=unseen)

    async def lives(self, before: Identity) -> bool:
        return False

    async def all_read(self) -> None:
        """Its disks can't be read any more."""
        await self.close()

    async def close(self) -> None:
        for source in self._sources:
            await source.close()
        self._sources = []
