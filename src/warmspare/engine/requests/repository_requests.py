"""Repositories: made, listed, cleared of what nothing names, and the mark of a failover taken away."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import Request, RunContext
from warmspare.engine.retention_rules import RetentionRules
from warmspare.engine.wiring.dry_run import would
from warmspare.engine.wiring.usual_repository import RepositoryRequest
from warmspare.errors import ConfigError, StoreError, WarmspareError
from warmspare.observe.kinds.failover_events import FailbackDone
from warmspare.observe.kinds.repository_events import InitDone, PointListed, PointsDone, PruneDone
from warmspare.observe.kinds.run_events import WouldDone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from warmspare.engine.wiring.kept_points import WhyKept
    from warmspare.repository.chain import Point, Repository
    from warmspare.repository.points.point_choice import ReadPoint

LEAST_GRACE_S = 3600.0


class InitRequest(Request[list[InitDone]], frozen=True, kw_only=True):
    """Make repositories, where syncs and copies put restore points. One that is there stays as it is. dry_run: say
    which would be made."""

    repositories: tuple[RepositoryPlace, ...]
    dry_run: bool = False

    async def perform(self, run: RunContext) -> list[InitDone]:
        from warmspare.repository.making import make_repository

        if self.dry_run:
            would(run, [action for place in self.repositories if (action := await self._lacks(place, run))])
            return []
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

    async def _lacks(self, place: RepositoryPlace, run: RunContext) -> str:
        """What would be done there; "" for nothing."""
        from warmspare.repository.chain import NoRepositoryError, open_repository

        store = place.open(run.retrying)
        try:
            await open_repository(store)
            return ""
        except NoRepositoryError:
            return f"try what {store.uri} keeps, and make a repository there"
        finally:
            await store.close()


class PointsRequest(RepositoryRequest[list[PointListed]], frozen=True, kw_only=True):
    """List restore points, oldest first of each VM. IntegrityError or NotFoundError where one can't be read, after all
    others were told as events.

    vm: its ID or name; None: all there are. since_s, until_s: only those that were made between, Unix seconds. last:
    only so many of the newest of each VM. at: only the one with this number or label, of one VM.
    """

    vm: str | None = None
    since_s: float | None = None
    until_s: float | None = None
    last: int | None = None
    at: str | None = None

    async def perform(self, run: RunContext) -> list[PointListed]:
        from warmspare.engine.wiring.kept_points import KeptPoints
        from warmspare.repository.chain import Point, open_repository

        self._demand()
        store = self.repository.open(run.retrying)
        found: list[PointListed] = []
        damaged: list[WarmspareError] = []
        now_s = time.time()
        whole = self.until_s is None and self.at is None  # up to the newest: what is kept hangs on what is newer
        try:
            kept = KeptPoints(await open_repository(store), self.repository)
            async for one, why in kept.told(self._wanted(kept.repository, stored=kept.any), whole=whole):
                if not isinstance(one.read, Point):
                    damaged.append(one.read)
                elif one.meant:
                    found.append(listed(one.read, now_s, one.held, why))
                    run.events.emit(found[-1])
        finally:
            await store.close()
        if damaged:
            raise damaged[0]
        run.events.emit(
            PointsDone(
                count=len(found),
                vms=len({one.vm for one in found}),
                bytes_changed=sum(one.bytes_changed for one in found),
                bytes_sent=sum(one.bytes_sent for one in found),
            )
        )
        return found

    def _demand(self) -> None:
        """ConfigError where it contradicts itself."""
        if self.at is not None and self.vm is None:
            raise ConfigError("--at names a restore point of one VM", hint="give --vm NAME")
        if self.at is not None and (self.since_s, self.until_s, self.last) != (None, None, None):
            raise ConfigError("--at names one restore point, and --since, --until and --last several", hint="give one")
        if self.since_s is not None and self.until_s is not None and self.since_s > self.until_s:
            raise ConfigError("--since is later than --until", hint="give the earlier one by --since")
        if self.last is not None and self.last < 1:
            raise ConfigError("--last must be at least 1", where=str(self.last))

    async def _wanted(self, repository: Repository, *, stored: bool) -> AsyncIterator[ReadPoint]:
        """Each that is meant, and those that were read on the way. ConfigError where the VM, or that point of it, is
        not there. stored: see PointChoice."""
        from warmspare.repository.points.point_choice import PointChoice, one_point, points_of
        from warmspare.repository.vm_lookup import NamedVm, find, point_called

        if self.vm is not None and self.at is not None:
            point = await point_called(repository, self.vm, self.at)
            yield await one_point(repository, NamedVm(point.record.vm_id, None), point)
            return
        if self.vm is not None:
            vm = await find(repository, self.vm)
            if vm.newest is None:
                what = f"VM {self.vm!r} has no restore point in this repository"
                raise ConfigError(what, where=self.repository.uri, hint="check --vm")
            vms = [vm]
        else:
            vms = [NamedVm(name, None) for name in await repository.vms()]
        async for read in points_of(repository, vms, PointChoice(self.since_s, self.until_s, self.last, stored)):
            yield read


def listed(point: Point, now_s: float, held: Sequence[str], why: WhyKept) -> PointListed:
    """A restore point as an event. now_s: Unix seconds."""
    from warmspare.observe.kinds.repository_events import ListedDisk, NamedReason
    from warmspare.observe.quantities import age_s

    record = point.record
    return PointListed(
        vm=record.vm_id,
        vm_name=record.vm_name,
        point=point.id.label,
        sequence=record.sequence,
        sha256=point.id.sha256,
        parent=record.parent,
        created=record.created,
        age_seconds=age_s(record.created, now_s),
        capacity_bytes=sum(disk.capacity_bytes for disk in record.disks),
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
        local=why.local(record.created),
        held=list(held),
        kept=UNSET if why.reasons is None else list(why.reasons),
        request_id=UNSET if record.request_id is None else record.request_id,
    )


class PruneRequest(RepositoryRequest[PruneDone], frozen=True, kw_only=True):
    """Let restore points go that a policy does not keep, and remove what nothing needs any more: objects of points that
    were let go before the grace time, and of runs that died, and uploads that never ended.

    vm: only of this ID. rules: which points are kept, beside or instead of what the configuration says of a VM; where
    neither says anything, all are. config: whose VMs count; None: the usual file's, if it has some of this repository.
    A VM that it does not have is left alone unless `vm` names it. grace_s: how long whoever began before has to end.
    older_s: only what the store has had for longer; None: a week, or the grace time where points are let go. staged:
    ask EC2, in this region and by this profile, which points are staged, and keep these; done anyway where the
    configuration says where that is. Of a VM that it can't tell them of nothing goes. remove: otherwise only say what
    would be done. against: files that tell what was seen of the repository before; reports: where reports are kept;
    None: the usual place. StoreError where the store did not let all of it be removed.
    """

    vm: str | None = None
    rules: RetentionRules = RetentionRules()
    config: Path | None = None
    grace_s: float = 86400.0
    older_s: float | None = None
    staged: bool = False
    region: str | None = None
    profile: str | None = None
    remove: bool = False
    against: tuple[Path, ...] = ()
    reports: Path | None = None

    async def perform(self, run: RunContext) -> PruneDone:
        from warmspare.engine.wiring.audit_end import seen_before
        from warmspare.engine.wiring.retaining import chosen_policies, policies
        from warmspare.model.ids import VmId
        from warmspare.retain.removal import Prune

        if self.grace_s < LEAST_GRACE_S:
            hint = f"give {LEAST_GRACE_S / 3600:.0f}h or more: whatever reads a repository has that long to end"
            raise ConfigError("the grace time is too short", where="--grace", hint=hint)
        uri = self.repository.uri
        known = seen_before(self.against, self.reports, uri, self.vm, run.host)
        chosen = chosen_policies(self.repository, self.config, self.rules, self.vm)
        where = chosen.staged if chosen else None
        async with AsyncExitStack() as stack:
            aws = None
            if self.staged or where is not None:
                from warmspare.recover.aws.client import Aws, AwsSettings

                region = self.region or (where.region if where else None)
                profile = self.profile or (where.profile if where else None)
                aws = await stack.enter_async_context(Aws(AwsSettings(region, profile), on_retry=run.retrying))
            store = self.repository.open(run.retrying)
            stack.push_async_callback(store.close)
            found = await Prune(
                store,
                run.host.folder("tmp"),
                known,
                run.events,
                vm=None if self.vm is None else VmId(self.vm),
                older_s=self.older_s,
                remove=self.remove,
                policies=policies(chosen, self.grace_s, aws) if chosen else None,
            ).run()
        done = PruneDone(
            repository=uri,
            removed=self.remove,
            points=found.points,
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


class FailbackDoneRequest(RepositoryRequest[FailbackDone | WouldDone], frozen=True, kw_only=True):
    """Clear the mark of a failover: the VM may be synced, and failed over, again. Ends nothing in AWS. dry_run: say
    whether there is one."""

    vm: str
    dry_run: bool = False

    async def perform(self, run: RunContext) -> FailbackDone | WouldDone:
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
            if self.dry_run:
                mark = f"the mark of its failover of {record.began} to restore point {record.point.label}"
                return would(run, [f"clear {mark}, so that {name!r} is synced again"], name)
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
