"""A disk read through a VDDK: the contract of a source over a reader process; owns what a failure costs.

Spans lie in the ring's shared memory, where the library put them, until the consumer releases them. Reads complete in
any order and are given out in the disk's. When a connection or the whole reader process is lost, what was read is
kept, and only what was not is read again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from warmspare.errors import SourceError
from warmspare.model.extents import Extents
from warmspare.model.ids import DiskId
from warmspare.model.units import MAX_CAPACITY_BYTES
from warmspare.observe.events import Events
from warmspare.observe.kinds.source import SourceOpen, SourceWarning
from warmspare.source.logins import Logins
from warmspare.source.ports import Hole, Span
from warmspare.source.vddk.vddk_errors import ReaderError, ReaderNonsense
from warmspare.source.vddk.vddk_install import Install
from warmspare.source.vddk.vddk_process import ReaderProcess
from warmspare.source.vddk.vddk_reading import VddkReading
from warmspare.source.vddk.vddk_session import Rights, VddkSession, VddkSettings, VddkTarget

SECTOR_BYTES = 512


class VddkSource:
    """A disk at `path` in VDDK's words (`[datastore] vm/vm.vmdk`, or a local file); make it with `open`."""

    def __init__(self, session: VddkSession, path: str, name: DiskId) -> None:
        self.name, self.where = name, path
        self._session, self._path = session, path
        self._capacity = 0
        self._uuid = ""
        self.transport = ""

    @classmethod
    async def open(
        cls,
        install: Install,
        target: VddkTarget,
        path: str,
        name: DiskId,
        *,
        settings: VddkSettings,
        events: Events,
        logins: Logins | None = None,
        rights: Rights | None = None,
    ) -> VddkSource:
        """Open the disk once, to know it, and close it again: a server drops handles that lie idle, so each `read`
        opens its own. ConfigError for a VDDK that can't be used and for a refused login, SourceError for a disk that
        can't be opened."""
        self = cls(VddkSession(install, target, settings, events, logins=logins, rights=rights), path, name)
        try:
            self._capacity = await self._session.persist(f"opening disk {name!r}", self._look)
        except BaseException:
            await self._session.close()
            raise
        events.emit(
            SourceOpen(
                disk=name, path=path, capacity_bytes=self._capacity, transport=self.transport, vddk=install.version
            )
        )
        return self

    @property
    def capacity_bytes(self) -> int:
        return self._capacity

    def check(self) -> None:
        """Nothing to ask: what is read is a snapshot, and each opening compares capacity and UUID."""

    async def close(self) -> None:
        await self._session.close()

    async def _look(self) -> int:
        process = await self._session.process()
        capacity, _ = await self._open(process)
        await process.call("close")
        await process.call("disconnect")
        return capacity

    async def _open(self, process: ReaderProcess) -> tuple[int, int]:
        """Connect and open; (capacity in bytes, in sectors). SourceError if it is not the disk it was."""
        target = self._session.target
        await self._session.log_in(process, "connect", snapshot=target.snapshot, modes=target.transports)
        found = await process.call("open", path=self._path)
        sectors, uuid, mode = found.get("sectors"), found.get("uuid"), found.get("mode")
        if type(sectors) is not int or not isinstance(uuid, str) or not isinstance(mode, str | None):
            raise ReaderNonsense(f"the library says nothing sensible of disk {self.name!r}")
        capacity = sectors * SECTOR_BYTES
        if not 0 < capacity <= MAX_CAPACITY_BYTES:
            raise ReaderNonsense(f"the library says that disk {self.name!r} has {sectors} sectors")
        if self._capacity and (capacity, uuid) != (self._capacity, self._uuid):
            raise SourceError(
                f"disk {self.name!r} had {self._capacity} bytes and UUID {self._uuid!r}, and now has {capacity} and "
                f"{uuid!r}",
                where=self.where,
                hint="it was replaced or resized under the sync; nothing was published; run again",
                retryable=True,
            )
        # One that is not said, or not known, is no reason not to read: it is read one read at a time then.
        self._uuid, self.transport = uuid, mode or "unknown"
        return capacity, sectors

    async def _start(self) -> ReaderProcess:
        process = await self._session.process()
        _, sectors = await self._open(process)
        keep_alive_ms = int(self._session.settings.keep_alive_s * 1000)
        await process.call("start", sectors=sectors, mode=self.transport, keep_alive_ms=keep_alive_ms)
        return process

    async def read(self, extents: Extents) -> AsyncGenerator[Span | Hole, None]:
        """See Source.read. In a full read, areas that are not allocated come as holes."""
        session = self._session
        reading = VddkReading(session, extents)
        reading_disk = f"reading disk {self.name!r}"
        try:
            while True:
                try:
                    if not reading.attached:
                        reading.attach(await self._start())
                    item = await reading.next()
                    if item is None:
                        break
                except ReaderError as error:
                    reading.detach()
                    await session.failed(reading_disk, error)
                    continue
                yield item
            process = reading.detach()
            if process is not None:
                await self._finish(process)
        finally:
            if reading.detach() is not None:  # given up half-way: reads are in flight, and no one waits for them
                await session.close()

    async def _finish(self, process: ReaderProcess) -> None:
        """All was read: give the handle back. A library that fails at that cost us nothing."""
        try:
            await process.call("close")
            await process.call("disconnect")
        except ReaderError as error:
            self._session.events.emit(SourceWarning(message=f"closing disk {self.name!r}: {error}"))
            await self._session.close()
