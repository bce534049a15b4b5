"""One object from one store to another; owns the check on the way, and refuses to complete anything but what its
reference states. What stands at the destination already is checked and, where it is damaged, sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import crc32c as crc

from warmspare.errors import IntegrityError
from warmspare.format.packlist import PackRef
from warmspare.format.restore_point import ObjectRef
from warmspare.model.ids import VmKey
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.finding import DamagedObject
from warmspare.repository.chain import Repository
from warmspare.repository.verified_objects import HINT, demand_length, read_range
from warmspare.store import layout
from warmspare.store.contract import PART_BYTES
from warmspare.threads import in_thread

Read = Callable[[int, int], Awaitable[bytes]]  # offset, length


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object as a verified record or manifest states it. what: for messages."""

    key: str
    bytes: int
    sha256: str
    crc32c: int
    what: str

    @classmethod
    def pack(cls, vm: VmKey, ref: PackRef) -> Wanted:
        key = layout.pack_key(vm, ref.id)
        return cls(key, ref.bytes, ref.sha256.hex(), ref.crc32c, "a pack")

    @classmethod
    def below(cls, prefix: str, ref: ObjectRef, what: str, where: str) -> Wanted:
        """prefix: what its key must start with: a record that names another must not make us write there."""
        if not ref.key.startswith(prefix):
            raise IntegrityError(f"{what} has the key {ref.key}, not one below {prefix}", where=where, hint=HINT)
        return cls(ref.key, ref.bytes, ref.sha256, ref.crc32c, what)


class _Sums:
    """Checksums of an object as its bytes come by, in order."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._crc32c = 0

    async def add(self, part: bytes) -> None:
        await in_thread(self._add, part)

    def _add(self, part: bytes) -> None:
        self._sha256.update(part)
        self._crc32c = crc.crc32c(part, self._crc32c)

    def match(self, wanted: Wanted) -> bool:
        return (self._sha256.hexdigest(), self._crc32c) == (wanted.sha256, wanted.crc32c)


class Carrier:
    """Brings objects of the source repository to the target. meter: read, sent and done bytes are added to it."""

    def __init__(self, source: Repository, target: Repository, events: Events, meter: Meter) -> None:
        self._source, self._target, self._events, self._meter = source, target, events, meter

    async def bring(self, wanted: Wanted, read: Read | None = None) -> bool:
        """Make the object stand at the target, verified. True if it was sent, False if it stood there.

        read: of a copy at hand, in place of the source. IntegrityError if the source's is missing or other bytes;
        nothing is completed at the target then. StoreError of either side. A cancel leaves nothing visible.
        """
        if await self._stands(wanted):
            self._meter.done_bytes += wanted.bytes
            return False
        await self._send(wanted, read or self._reader(wanted))
        return True

    async def _stands(self, wanted: Wanted) -> bool:
        """Whether the target has it: by length and CRC32C where its store keeps one, else by reading it."""
        store = self._target.store
        info = await store.head(wanted.key)
        if info is None:
            return False
        if info.bytes == wanted.bytes:
            if info.crc32c is not None and info.crc32c == wanted.crc32c:
                return True
            if info.crc32c is None and await self._reads_right(wanted):
                return True
        # Its key is that of no other content, so whatever stands there is damaged, whoever refers to it.
        self._events.emit(
            DamagedObject(key=wanted.key, message=f"{wanted.what} at the destination is damaged; it is sent again")
        )
        await store.delete([wanted.key])
        return False

    async def _reads_right(self, wanted: Wanted) -> bool:
        sums = _Sums()
        for at in range(0, wanted.bytes, PART_BYTES):
            length = min(PART_BYTES, wanted.bytes - at)
            await sums.add(await read_range(self._target, wanted, at, length, wanted.what))
        return sums.match(wanted)

    def _reader(self, wanted: Wanted) -> Read:
        async def read(offset: int, length: int) -> bytes:
            if offset == 0:
                await demand_length(self._source, wanted, wanted.what)
            data = await read_range(self._source, wanted, offset, length, wanted.what)
            self._meter.read_bytes += length
            return data

        return read

    async def _send(self, wanted: Wanted, read: Read) -> None:
        sums = _Sums()
        async with self._target.store.upload(wanted.key) as upload:
            for at in range(0, wanted.bytes, PART_BYTES):
                part = await read(at, min(PART_BYTES, wanted.bytes - at))
                await sums.add(part)
                await upload.write(part)
                self._meter.done_bytes += len(part)
            if not sums.match(wanted):  # inside the block: it is aborted, not completed
                raise IntegrityError(
                    f"{wanted.what} is damaged: its checksums are not the ones that stand in its reference",
                    where=self._source.where(wanted.key),
                    hint=HINT,
                )
