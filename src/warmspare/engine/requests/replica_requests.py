"""Restore points to a replica, and to another repository."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import Request, RunContext
from warmspare.engine.wiring.dry_run import would
from warmspare.engine.wiring.usual_repository import RepositoryRequest
from warmspare.errors import ConfigError
from warmspare.observe.kinds.apply_events import ApplyDone, CopyDone
from warmspare.observe.kinds.run_events import WouldDone


class ApplyRequest(RepositoryRequest[ApplyDone | WouldDone | None], frozen=True, kw_only=True):
    """Bring a replica to a restore point.

    vm: its ID or name in the repository. to: a file or device for one disk, a directory for several. at: a restore
    point by number or label; None: the newest. follow: stay, and apply each new one, until cancelled. state: where the
    replica's state is kept; None: beside it. initialize: overwrite a block device that holds no replica yet.
    dry_run: say what would be applied.
    """

    progress = ("read", "written")

    vm: str
    to: Path
    at: str | None = None
    follow: bool = False
    state: Path | None = None
    initialize: bool = False
    dry_run: bool = False

    async def perform(self, run: RunContext) -> ApplyDone | WouldDone | None:
        from warmspare.apply.receiver import Receiver

        if self.follow and self.at is not None:
            raise ConfigError("--follow and --at contradict each other", hint="give one of them")
        if self.follow and self.dry_run:
            raise ConfigError("--follow and --dry-run contradict each other", hint="give one of them")
        store = self.repository.open(run.retrying)
        try:
            receiver = Receiver(
                store, self.vm, self.to, run.events, state=self.state, initialize=self.initialize, meter=run.meter
            )
            if self.dry_run:
                return would(run, await receiver.look(self.at), self.vm)
            if self.follow:
                await receiver.follow()
                return None
            return await receiver.run(self.at)
        finally:
            await store.close()


class CopyRequest(Request[CopyDone | WouldDone], frozen=True, kw_only=True):
    """Copy restore points to another repository: what is missing there, verified. vm: its ID or name; None: all.
    limit: bytes a second. dry_run: say what is missing."""

    progress = ("read", "sent")

    source: RepositoryPlace
    destination: RepositoryPlace
    vm: str | None = None
    limit: float | None = None
    dry_run: bool = False

    async def perform(self, run: RunContext) -> CopyDone | WouldDone:
        from warmspare.copy.copier import Copier
        from warmspare.engine.wiring.rate_limit import kept
        from warmspare.store.opening import same_place

        async with AsyncExitStack() as stack:
            stores = []
            for place in (self.source, self.destination):
                stores.append(place.open(run.retrying))
                stack.push_async_callback(stores[-1].close)
            source, destination = ((place.uri, place.endpoint) for place in (self.source, self.destination))
            if same_place(source, destination):
                hint = "name another"
                raise ConfigError("--from and --to are the same repository", where=self.destination.uri, hint=hint)
            limit = None if self.dry_run else self.limit
            target = stack.enter_context(kept(stores[1], limit, run.host))
            copier = Copier(
                stores[0],
                target,
                run.host.root,
                run.events,
                meter=run.meter,
                single_sender=self.destination.single_sender,
            )
            if self.dry_run:
                return would(run, [plan.words for plan in await copier.look(self.vm)])
            found = await copier.run(self.vm)
        done = CopyDone(
            vms=found.vms,
            points=found.points,
            objects=found.objects,
            objects_there=found.there,
            bytes_read=found.bytes_read,
            bytes_sent=found.bytes_sent,
            seconds=round(found.seconds, 3),
        )
        run.events.emit(done)
        return done
