"""A disk behind the stand-in of a VDDK, and a source over it; for tests of what one failure leads to."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fault.vddk_campaign import DISK, SETTINGS, TARGET, children
from rig import MIB
from rigs.host.hearing import Record, recorder
from standin import Standin
from warmspare.model.extents import whole_disk
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Events
from warmspare.source.ports import Hole
from warmspare.source.vddk import vddk_install
from warmspare.source.vddk.vddk_session import VddkSettings
from warmspare.source.vddk.vddk_source import VddkSource


class Bench:
    """A disk behind the stand-in, and a source over it."""

    def __init__(self, home: Path, size: int = 40 * MIB) -> None:
        self.image = home / "disk.raw"
        self.image.write_bytes(random.Random(1).randbytes(size))
        self.standin = Standin(home / "vddk")
        self.standin.disk(DISK, self.image)
        self.events: list[Record] = []

    @asynccontextmanager
    async def source(self, settings: VddkSettings = SETTINGS) -> AsyncIterator[VddkSource]:
        install = vddk_install.find(self.standin.home)
        events = Events(recorder(self.events))
        source = await VddkSource.open(install, TARGET, DISK, "disk", settings=settings, events=events)
        try:
            yield source
        finally:
            await source.close()
        assert not children()

    def retries(self) -> list[str]:
        return [event["message"] for event in self.events if event["event"] == "source.retry"]


async def read_all(source: VddkSource, between: Callable[[int], Awaitable[None]] | None = None) -> bytes:
    """The whole disk; `between` is awaited after each span, with its number."""
    out, number = bytearray(source.capacity_bytes), 0
    async for item in source.read(whole_disk(source.capacity_bytes)):
        assert not isinstance(item, Hole)
        at = int(item.blocks[0]) * BLOCK_BYTES
        out[at : at + len(item.data)] = item.data
        item.release()
        number += 1
        if between:
            await between(number)
    return bytes(out)
