"""Removal of what no restore point names: objects of runs that can't publish any more, and uploads that never ended.

Owns the rule that makes it safe whatever happens meanwhile. A run puts its objects there after the point that it means
to follow, and publishes under the next sequence, which is given out once. So an object that is older than the newest
point belongs to a run whose sequence is taken: nothing that names it can be published any more, lease or no lease.
(A sender uses packs of an earlier run again only while that run's sequence is free, see sync/resuming/unpublished.py.)
So where a full store takes no lease any more, what makes room is removed without one, unless somebody holds it.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

from warmspare.audit.reports.collect import Findings
from warmspare.audit.repository import contents as inventories
from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.descent import Chain, Proof, read_chain, read_record
from warmspare.audit.repository.manifest_checks import open_manifest
from warmspare.audit.repository.object_checks import FindingPlace, ObjectChecks
from warmspare.audit.repository.scratch import Scratch
from warmspare.audit.repository.seen import KnownRepository
from warmspare.errors import ConfigError, FormatError, IntegrityError, NoRoomError, NotFoundError, first_of
from warmspare.model.ids import VmId, VmKey, vm_key, vm_of
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import Housekeeping
from warmspare.observe.kinds.repository_events import PruneObject
from warmspare.repository.chain import open_repository
from warmspare.store import layout
from warmspare.store.clearing import Clearing
from warmspare.store.contract import StaleUpload, Store
from warmspare.store.lease import CLOCK_GRAIN_S, Lease, watching

_BATCH = 1000


@dataclass(slots=True)
class Pruned:
    """What `prune.done` tells. objects, bytes, uploads: removed, or to be removed where nothing is. kept: objects that
    no point names and that stay, for they are too young or a sync may still use them. objects_left, uploads_left: that
    the store did not let us remove."""

    objects: int = 0
    bytes: int = 0
    uploads: int = 0
    kept: int = 0
    objects_left: int = 0
    uploads_left: int = 0


class Prune:
    """Settings are all arguments; `run` does it once. vm: an ID, None for all. older_s: by the store's time. remove:
    False only looks. known: what was seen of the repository before."""

    def __init__(
        self,
        store: Store,
        scratch: Path,
        known: KnownRepository,
        events: Events,
        *,
        vm: VmId | None,
        older_s: float,
        remove: bool,
    ) -> None:
        self._store, self._directory, self._known, self._events = store, scratch, known, events
        self._wanted, self._older_s, self._remove = vm, older_s, remove
        self._done = Pruned()
        self._housekeeping = Housekeeping(events)
        self._clearing = Clearing(store, self._housekeeping, insist=True)

    async def run(self) -> Pruned:
        """ConfigError if there is no repository or no such VM; LeaseError if a sync is at work on one; IntegrityError,
        and nothing of that VM removed, if the repository does not tell for sure what its points name; StoreError. What
        was removed until then is gone. What the store does not let us remove does not end it."""
        await open_repository(self._store)
        names, _ = await inventories.vms(self._store)
        if self._wanted is not None:
            names = [name for name in names if name == vm_key(self._wanted)]
            if not names:
                raise ConfigError(
                    f"no VM of this repository has the ID {self._wanted!r}",
                    where=self._store.uri,
                    hint="list them with `warmspare points`",
                )
        with self._housekeeping:
            for vm in names:
                async with AsyncExitStack() as stack:
                    await self._vm(vm, await self._held(vm, stack))
        return self._done

    async def _held(self, vm: VmKey, stack: AsyncExitStack) -> Lease | None:
        """The VM's lease; None where there is no room for one, or nothing is written at all, and nobody else has it."""
        if self._remove:
            held = Lease.hold(self._store, layout.lease_key(vm), on_watch=watching(self._events, _told(vm)))
            with suppress(NoRoomError):
                return await stack.enter_async_context(held)
        await self._confirm(vm, None)
        return None

    async def _vm(self, vm: VmKey, lease: Lease | None) -> None:
        """lease: None where there is none."""
        found = await inventories.take(self._store, vm)
        called = vm_of(vm) or VmId("")
        seen = [one for one in self._known.seen if vm_key(one.vm) == vm]
        chain = await read_chain(self._store, found, called, seen, Findings())
        try:
            with Scratch(self._directory) as scratch:
                await self._name_all(found, chain, scratch)
        except* NoRoomError as full:  # alone, or out of a download
            error = first_of(full)
            hint = "let XDG_STATE_HOME name a directory on a file system that has room, and run it again"
            raise NoRoomError(error.what, where=error.where, hint=hint) from error
        limit = await self._store.now() - self._older_s
        todo: list[tuple[str, int]] = []
        for key, modified_s, size in found.left():
            # The last record has its time from the same clock; without one no sequence is taken, so all stays.
            if modified_s < limit and modified_s + CLOCK_GRAIN_S < found.newest_s:
                todo.append((key, size))
            else:
                self._done.kept += 1
        uploads = [upload for upload in found.uploads or [] if upload.began_s < limit]
        for at in range(0, len(todo), _BATCH):
            batch = todo[at : at + _BATCH]
            left = await self._removed(vm, [key for key, _ in batch], lease) if self._remove else set()
            self._done.objects_left += len(left)
            for key, size in batch:
                self._done.objects += key not in left
                self._done.bytes += 0 if key in left else size
                removed = self._remove and key not in left
                self._events.emit(PruneObject(vm=called or vm, key=key, bytes=size, removed=removed))
        if found.no_uploads is not None:
            self._clearing.not_listed(found.prefix, found.no_uploads)
        for upload in uploads:
            gone = not self._remove or await self._aborted(vm, upload, lease)
            self._done.uploads += gone
            self._done.uploads_left += not gone

    async def _removed(self, vm: VmKey, keys: list[str], lease: Lease | None) -> set[str]:
        """Remove them; those that the store keeps."""
        await self._confirm(vm, lease)
        return await self._clearing.left(keys)

    async def _aborted(self, vm: VmKey, upload: StaleUpload, lease: Lease | None) -> bool:
        await self._confirm(vm, lease)
        return await self._clearing.abort(upload)

    async def _confirm(self, vm: VmKey, lease: Lease | None) -> None:
        """LeaseError if another has the VM by now."""
        if lease is not None:
            await lease.confirm()
        else:
            await Lease.demand_free(self._store, layout.lease_key(vm), on_watch=watching(self._events, _told(vm)))

    async def _name_all(self, found: VmContents, chain: Chain, scratch: Scratch) -> None:
        """Take all that the points name out of what is left."""
        objects = ObjectChecks(self._store, scratch, Findings())
        for sequence in range(1, chain.newest + 1):
            link = chain.links.get(sequence)
            if link is None or link.proof is Proof.DOUBTED:
                raise self._unsure(chain, f"restore point {sequence} is missing, damaged or another than it was")
            try:
                record, digest = await read_record(self._store, found.vm, sequence)
            except (NotFoundError, FormatError):
                digest = ""
            if digest != link.sha256:
                raise self._unsure(chain, f"restore point {link.label} changes while it is read")
            for disk in record.disks:
                found.name(disk.manifest.key)
                if disk.checkpoint:
                    found.name(disk.checkpoint.table.key)
                manifest = await open_manifest(
                    objects, found.vm, record, disk, FindingPlace(link.label, disk.id), quiet=True
                )
                if manifest is None:
                    raise self._unsure(chain, f"the manifest of disk {disk.id} in {link.label} is missing or damaged")
                with closing(manifest):
                    for one in manifest.packs:
                        found.name(one.key)

    def _unsure(self, chain: Chain, what: str) -> IntegrityError:
        return IntegrityError(
            f"nothing of VM {chain.vm!r} is removed, for {what}",
            where=self._store.uri,
            hint="run `warmspare audit repository`, and mend what it finds first",
        )


def _told(vm: VmKey) -> VmId:
    """As people know it; its key where the ID is too long to stand in that."""
    return vm_of(vm) or VmId(vm)
