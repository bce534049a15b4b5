"""Repositories: made, listed, cleared of what nothing names, and the mark of a failover taken away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import Request, RunContext
from warmspare.engine.wiring.usual_repository import RepositoryRequest
from warmspare.errors import ConfigError, IntegrityError, NotFoundError, StoreError, WarmspareError
from warmspare.observe.kinds.failover_events import FailbackDone
from warmspare.observe.kinds.repository_events import InitDone, PointListed, PointsDone, PruneDone

if TYPE_CHECKING:
    from warmspare.repository.chain import Point


class InitRequest(Request[list[InitDone]], frozen=True, kw_only=True):
    """Make repositories, where syncs and copies put restore points. One that is there stays as it is."""

    repositories: tuple[RepositoryPlace, ...]

    async def perform(self, run: RunContext) -> list[InitDone]:
        from warmspare.repository.making import make_repository

        ends: list[InitDone] = []
        for place in self.repositories:
            store = place.open(run.retrying)
            try:
                made = await make_repository(store, run.events, single_sender=place.single_sender, host=run.host.root)
            finally:
                await store.close()
            end = InitDone(repository=store.uri, id=made.record.id, created=made.record.created, made=made.anew)
            run.events.emit(end)
            ends.append(end)
        return ends


class PointsRequest(RepositoryRequest[list[PointListed]], frozen=True, kw_only=True):
    """List restore points, oldest first of each VM. vm: its ID or name; None: all there are. IntegrityError or
    NotFoundError where one can't be read, after all others were told as events."""

    vm: str | None = None

    async def perform(self, run: RunContext) -> list[PointListed]:
        from warmspare.repository.chain import open_repository
        from warmspare.repository.vm_lookup import vm_called

        store = self.repository.open(run.retrying)
        found: list[PointListed] = []
        damaged: list[WarmspareError] = []
        try:
            repository = await open_repository(store)
            names = [await vm_called(repository, self.vm)] if self.vm is not None else await repository.vms()
            for name in names:
                for number in await repository.sequences(name):
                    try:
                        point = await repository.load(name, number)
                    except (IntegrityError, NotFoundError) as error:
                        damaged.append(error)
                        continue
                    found.append(listed(point))
                    run.events.emit(found[-1])
        finally:
            await store.close()
        if self.vm is not None and not found and not damaged:
            raise ConfigError(
                f"VM {self.vm!r} has no restore point in this repository", where=self.repository.uri, hint="check --vm"
            )
        if damaged:
            raise damaged[0]
        run.events.emit(PointsDone(count=len(found)))
        return found


def listed(point: Point) -> PointListed:
    """A restore point as an event."""
    from warmspare.observe.kinds.repository_events import ListedDisk, NamedReason

    record = point.record
    return PointListed(
        vm=record.vm_id,
        vm_name=record.vm_name,
        point=point.id.label,
        sequence=record.sequence,
        sha256=point.id.sha256,
        parent=record.parent,
        created=record.created,
        disks=[
            ListedDisk(
                id=disk.id,
                name=disk.name,
                capacity_bytes=disk.capacity_bytes,
                changed_blocks=disk.changed_blocks,
                change_id=disk.change_id,
                reason=disk.reason,
            )
            for disk in record.disks
        ],
        unprotected=[NamedReason(name=disk.name, reason=disk.reason) for disk in record.unprotected],
        bytes_read=record.bytes_read,
        bytes_changed=record.bytes_changed,
        bytes_sent=record.bytes_sent,
        request_id=UNSET if record.request_id is None else record.request_id,
    )


class PruneRequest(RepositoryRequest[PruneDone], frozen=True, kw_only=True):
    """Remove objects and uploads that no restore point names and no sync can use any more.

    vm: only of this ID. older_s: only what the store has had for longer. remove: otherwise only say what would be
    removed. against: files that tell what was seen of the repository before; reports: where reports are kept; None: the
    usual place. StoreError where the store did not let all of it be removed.
    """

    vm: str | None = None
    older_s: float = 7 * 86400.0
    remove: bool = False
    against: tuple[Path, ...] = ()
    reports: Path | None = None

    async def perform(self, run: RunContext) -> PruneDone:
        from warmspare.audit.repository.removal import Prune
        from warmspare.engine.wiring.audit_end import seen_before
        from warmspare.model.ids import VmId

        uri = self.repository.uri
        known = seen_before(self.against, self.reports, uri, self.vm, run.host)
        store = self.repository.open(run.retrying)
        try:
            found = await Prune(
                store,
                run.host.folder("tmp"),
                known,
                run.events,
                vm=None if self.vm is None else VmId(self.vm),
                older_s=self.older_s,
                remove=self.remove,
            ).run()
        finally:
            await store.close()
        done = PruneDone(
            repository=uri,
            removed=self.remove,
            objects=found.objects,
            bytes=found.bytes,
            uploads=found.uploads,
            objects_kept=found.kept,
            objects_left=found.objects_left,
            uploads_left=found.uploads_left,
        )
        run.events.emit(done)
        if found.objects_left or found.uploads_left:
            raise StoreError(
                f"{found.objects_left} objects and {found.uploads_left} uploads could not be removed, all others were",
                where=uri,
                hint="see the warnings for why, and run again",
            )
        return done


class FailbackDoneRequest(RepositoryRequest[FailbackDone], frozen=True, kw_only=True):
    """Clear the mark of a failover: the VM may be synced, and failed over, again. Ends nothing in AWS."""

    vm: str

    async def perform(self, run: RunContext) -> FailbackDone:
        from warmspare.repository.chain import open_repository
        from warmspare.repository.failover_record import read_journal
        from warmspare.repository.vm_lookup import vm_called

        store = self.repository.open(run.retrying)
        try:
            repository = await open_repository(store)
            name = await vm_called(repository, self.vm)
            journal = await read_journal(repository, name)
            record = journal.record
            if record is None or not record.holds:
                what = f"VM {self.vm!r} is not failed over, so there is nothing to clear"
                raise ConfigError(what, where=self.repository.uri)
            await journal.move("cleared")
        finally:
            await store.close()
        done = FailbackDone(
            vm=name,
            point=record.point.label,
            began=record.began,
            region=record.region,
            instance=record.id_of("instance"),
            image=record.id_of("image"),
        )
        run.events.emit(done)
        return done
