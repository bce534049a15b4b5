"""Reads of a mounted disk: proved bytes, or an I/O error and a word about it; never other bytes."""

from __future__ import annotations

import asyncio
import time

from warmspare.errors import IntegrityError, WarmspareError
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.kinds.looking_events import MountReadFailed, UnreadableBlock
from warmspare.recover.blocks.pointblocks import PointBlocks
from warmspare.recover.disks.served import UnreadableError

READ_S = 120.0  # for which up to 4 MiB are fetched: who waits can't be ended meanwhile by all that ends programs
QUIET_S = 10.0  # how long the same trouble of a store is not told again
MOST_TOLD = 1000  # findings of a disk


class VerifiedReads:
    """Of one disk. store_ends: what a store does not give is no I/O error but the end of all. served_bytes: given so
    far. failed: how many reads were not. damage: the first block that did not verify."""

    def __init__(self, vm: VmId, disk: str, blocks: PointBlocks, events: Events, *, store_ends: bool = False) -> None:
        self._vm, self._disk, self._blocks, self._events = vm, disk, blocks, events
        self._store_ends = store_ends
        self._told: set[str] = set()
        self._quiet_until_s = 0.0
        self.served_bytes = self.failed = 0
        self.damage: IntegrityError | None = None

    async def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes of the disk. UnreadableError, and an event, where they can't be proved or had; of a store
        that ends all, its own error."""
        try:
            async with asyncio.timeout(None if self._store_ends else READ_S):
                data = await self._blocks.read(offset, length)
        except IntegrityError as error:
            self._damaged(offset, length, error)
        except WarmspareError as error:
            if self._store_ends:
                raise
            self._trouble(error.sentence)
        except TimeoutError:
            self._trouble(f"no answer within {READ_S:.0f} s")
        else:
            self.served_bytes += length
            return data
        self.failed += 1
        raise UnreadableError

    def _damaged(self, offset: int, length: int, error: IntegrityError) -> None:
        self.damage = self.damage or error
        if error.sentence not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(error.sentence)
            event = UnreadableBlock(vm=self._vm, disk=self._disk, offset=offset, length=length, message=error.sentence)
            self._events.emit(event)

    def _trouble(self, why: str) -> None:
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + QUIET_S
            self._events.emit(MountReadFailed(vm=self._vm, disk=self._disk, message=why))
