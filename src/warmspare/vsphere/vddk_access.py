"""How the disks of one VM are read through VDDK: one source a disk, opened when it is read; and the access to the VM
that VDDK wants to be told of before the snapshot and after it. Owns no snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from warmspare.config.settings import VCenter
from warmspare.errors import ConfigError, SourceError, WarmspareError
from warmspare.model.extents import Extents
from warmspare.observe.events import Events
from warmspare.observe.kinds.source import SourceWarning
from warmspare.source.ports import Hole, Span
from warmspare.source.vddk import vddk_install
from warmspare.source.vddk.vddk_install import Install
from warmspare.source.vddk.vddk_session import LackingError, VddkSession, VddkSettings, VddkTarget
from warmspare.source.vddk.vddk_source import VddkSource
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.inventory.vm_devices import VmDisk
from warmspare.vsphere.privileges import missing

# Privileges that nothing but these calls needs.
_ALSO = {"prepare": "Global.DisableMethods", "end_access": "Global.EnableMethods"}


@dataclass(frozen=True, slots=True)
class Vddk:
    """Which VDDK, and how it is to read. transports: modes in order of preference, `nbdssl:nbd`."""

    install: Install
    settings: VddkSettings = field(default_factory=VddkSettings)
    transports: str | None = None
    nfc_port: int = 0

    @classmethod
    def of(cls, vcenter: VCenter) -> Vddk:
        """As the configuration has it. ConfigError where there is no VDDK."""
        install = vddk_install.find(vcenter.vddk)
        return cls(install, VddkSettings(config=vcenter.vddk_config), ":".join(vcenter.transport) or None)


class Access:
    """VDDK's way to one VM. moref: the VM's. identity: of whoever accesses it, the same in every run."""

    def __init__(self, session: VsphereSession, vddk: Vddk, moref: str, identity: str, events: Events) -> None:
        self._session, self._vddk, self._events = session, vddk, events
        self._moref, self._identity = moref, identity
        self._prepared = False

    async def target(self, snapshot: str | None) -> VddkTarget:
        """Where VDDK connects to. The password is asked for anew."""
        server = self._session.server
        return VddkTarget(
            server=server.host,
            port=server.port,
            vm=self._moref,
            snapshot=snapshot,
            thumbprint=self._session.thumbprint_sha1,
            user=server.user,
            password=await self._session.password(),
            transports=self._vddk.transports,
            nfc_port=self._vddk.nfc_port,
        )

    async def lacking(self, operation: str) -> str:
        """See Rights. vCenter says it in the session that there is."""
        found = await self._session.glance(lambda: missing(self._session, self._moref)) or []
        also = _ALSO.get(operation, "")
        names = [privilege.id for privilege in found if not privilege.without or privilege.id == also]
        if also in names:
            self._session.lacks[operation] = also
        return ", ".join(names)

    def known(self, operation: str) -> str:
        """See Rights."""
        return self._session.lacks.get(operation, "")

    async def check(self) -> None:
        """Raises what VDDK's logins were refused with, before anything is done to the VM. ConfigError, SourceError."""
        await self._session.logins.check(self._session.server.account, await self._session.password())

    async def prepare(self) -> None:
        """Before the snapshot: the VM is not to move while it is read. Where that is refused it is read all the same,
        for a reading that loses its host tries again; SourceError where VDDK can't get through at all, ConfigError
        where its login is refused."""
        if self.known("prepare"):
            return
        vddk = await self._vddk_session()
        self._prepared = True  # whatever comes of it, it is to be ended
        try:
            await vddk.prepare_for_access(self._identity)
        except LackingError as error:
            self._prepared = False
            self._events.emit(SourceWarning(message=f"the VM may move while it is read: {error}"))
        except ConfigError:
            self._prepared = False  # it never got in
            raise
        except SourceError as error:
            if error.retryable or await self._refused():
                raise
            self._events.emit(SourceWarning(message=f"the VM may move while it is read: {error.what}"))
        finally:
            await vddk.close()

    async def end(self, *, crashed: bool = False) -> None:
        """After the snapshot is gone. crashed: also where this run prepared nothing. Its failure is a warning."""
        if not (self._prepared or crashed):
            return
        try:
            vddk = await self._vddk_session()
            try:
                await vddk.end_access(self._identity)
                self._prepared = False
            finally:
                await vddk.close()
        except (SourceError, ConfigError, OSError) as error:
            self._events.emit(SourceWarning(message=f"vCenter may go on to keep the VM from moving: {error}"))

    async def _vddk_session(self) -> VddkSession:
        return VddkSession(
            self._vddk.install,
            await self.target(None),
            self._vddk.settings,
            self._events,
            logins=self._session.logins,
            rights=self,
        )

    async def _refused(self) -> bool:
        try:
            await self.check()
        except WarmspareError:
            self._prepared = False
            return True
        return False

    async def open(self, snapshot: str, disk: VmDisk) -> VddkSource:
        """Open a disk of a snapshot. disk: as the snapshot has it. SourceError, too where VDDK and vSphere differ."""
        source = await VddkSource.open(
            self._vddk.install,
            await self.target(snapshot),
            disk.path,
            disk.uuid,
            settings=self._vddk.settings,
            events=self._events,
            logins=self._session.logins,
            rights=self,
        )
        if source.capacity_bytes != disk.capacity_bytes:
            await source.close()
            raise SourceError(
                f"VDDK says that {disk.label} has {source.capacity_bytes} bytes, and vSphere {disk.capacity_bytes}",
                where=disk.path,
                hint="it is not the disk that was meant, or it was resized just now; nothing was published",
                retryable=True,
            )
        return source


class SnapshotDisk:
    """A disk of a snapshot as a source. It is opened when it is read: a server drops handles that lie idle, a host has
    memory for about fifty, and each takes a process here."""

    def __init__(self, access: Access, snapshot: str, disk: VmDisk, where: str) -> None:
        self.name, self.where = disk.uuid, where
        self._access, self._snapshot, self._disk = access, snapshot, disk
        self._source: VddkSource | None = None
        self._closed = False

    @property
    def capacity_bytes(self) -> int:
        return self._disk.capacity_bytes

    def check(self) -> None:
        """Nothing to ask: a snapshot does not change."""

    async def read(self, extents: Extents) -> AsyncGenerator[Span | Hole, None]:
        """See Source.read."""
        if self._closed:
            raise SourceError("the disk's snapshot was let go already", where=self.where, hint="run again")
        source = self._source = await self._access.open(self._snapshot, self._disk)
        items = source.read(extents)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()
            await source.close()

    async def close(self) -> None:
        self._closed = True
        if self._source is not None:
            await self._source.close()
