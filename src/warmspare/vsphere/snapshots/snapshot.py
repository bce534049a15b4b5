"""The life of a snapshot of ours: taken, removed, what it left merged; never touches anybody else's.

Every change waits until no other task of that kind runs on the VM, is not repeated before it was looked whether it was
done, and is bounded in time. Snapshots are removed one by one, never with their children.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim, vmodl

from warmspare.config.settings import Quiesce
from warmspare.errors import SourceError
from warmspare.observe.events import Events
from warmspare.observe.kinds.source import (
    SnapshotConsolidated,
    SnapshotCreated,
    SnapshotRemoved,
    SourceRetry,
    SourceWarning,
)
from warmspare.vsphere.api import faults, tasks
from warmspare.vsphere.api.faults import AnswerLostError
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.api.tasks import TaskGoneError
from warmspare.vsphere.inventory.snapshot_tree import SnapshotTree
from warmspare.vsphere.inventory.vm_info import VmInfo
from warmspare.vsphere.snapshots.marker import Marker, parse

CHAIN_MOST, CHAIN_WARN = 31, 28  # vSphere keeps 32 in a chain, and ours is one of them
_IN_THE_WAY = ("snapshot", "consolidate", "relocate", "migrate", "clone", "reconfigure")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take. busy_s: other tasks on the VM. create_s, remove_s: ours; merging much data takes
    hours. slow_s: a removal longer than this is worth a warning. tries, pause_s: of what failed."""

    busy_s: float = 600.0
    create_s: float = 1800.0
    remove_s: float = 6 * 3600.0
    slow_s: float = 60.0
    tries: int = 3
    pause_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that exists. quiesced: as vSphere says. asked_s: when it was asked for, by time.monotonic(); it is no
    older."""

    moref: str
    quiesced: bool
    asked_s: float


class Snapshots:
    """Of one VM. vm: as it was when it was read; name and moref of it are used."""

    def __init__(
        self, session: VsphereSession, vm: VmInfo, marker: Marker, events: Events, timing: Timing | None = None
    ) -> None:
        self._session, self._marker, self._events = session, marker, events
        self._name = vm.name
        self._vm = session.bound(vim.VirtualMachine, vm.moref)
        self._timing = timing or Timing()

    @property
    def _where(self) -> str:
        return f"VM {self._name} at {self._session.where}"

    # -- looking --------------------------------------------------------------------------------------------------

    async def tree(self) -> SnapshotTree:
        """The snapshots as they are now."""
        return SnapshotTree.of(await self._session.call("reading snapshots", lambda: self._vm.snapshot))

    async def idle(self) -> None:
        """Wait until no task runs that would be in the way. SourceError where one runs for too long."""
        until, poll_s = time.monotonic() + self._timing.busy_s, tasks.FIRST_POLL_S
        while running := await self._session.call("reading running tasks", self._running):
            if time.monotonic() > until:
                raise self._busy(running)
            await asyncio.sleep(poll_s)
            poll_s = min(poll_s * 1.5, tasks.LAST_POLL_S)

    def _running(self) -> str:
        for task in self._vm.recentTask:
            try:
                info = task.info
            except vmodl.fault.ManagedObjectNotFound:
                continue
            kind = str(info.descriptionId) if isinstance(info.descriptionId, str) else "snapshot, or something else"
            ended = isinstance(info.state, str) and info.state in tasks.ENDED
            if not ended and any(word in kind.lower() for word in _IN_THE_WAY):
                return kind
        return ""

    def _busy(self, what: str) -> SourceError:
        return SourceError(
            f"another task runs on the VM: {what}",
            where=self._where,
            hint="run again when it has ended",
            retryable=True,
        )

    # -- taking ---------------------------------------------------------------------------------------------------

    def check_chain(self, vm: VmInfo) -> None:
        """SourceError where the chain has no room for one more; a warning where it soon has none."""
        deep = max([len(vm.tree.chain()), *(disk.chain - 1 for disk in vm.disks)])
        if deep >= CHAIN_MOST:
            raise SourceError(
                f"the VM has a chain of {deep} snapshots, and vSphere keeps 32",
                where=self._where,
                hint="remove old snapshots, and consolidate its disks",
            )
        if deep >= CHAIN_WARN:
            self._warn(f"the VM has a chain of {deep} snapshots; at {CHAIN_MOST} it can't be protected any more")

    async def take(self, name: str, quiesce: Quiesce, *, powered_on: bool) -> Taken:
        """A snapshot with our marker. A VM that is off needs no quiescing. SourceError where none could be taken, or
        none that is quiesced where that is required; then none is left."""
        wanted = quiesce != "never" and powered_on
        began = time.monotonic()
        try:
            moref, asked_s = await self._create(name, quiesced=wanted)
        except vmodl.MethodFault as fault:
            if not wanted or isinstance(fault, vim.fault.NoPermission):
                raise faults.as_error("taking a snapshot", fault, self._where) from None
            if quiesce == "require":
                raise self._not_quiesced(faults.text(fault)) from None
            self._warn(f"the VM could not be quiesced, so the snapshot is crash-consistent: {faults.text(fault)}")
            wanted = False
            with faults.told("taking a snapshot", self._where):
                moref, asked_s = await self._create(name, quiesced=False)
        node = (await self.tree()).node(moref)
        quiesced = node is not None and node.quiesced
        if wanted and not quiesced:
            if quiesce == "require":
                await self.remove(moref)
                raise self._not_quiesced("vSphere took the snapshot without it; do VMware Tools run?")
            self._warn("vSphere took the snapshot without quiescing the VM: it is crash-consistent")
        self._events.emit(
            SnapshotCreated(
                vm=self._name, snapshot=moref, name=name, quiesced=quiesced, seconds=round(time.monotonic() - began, 3)
            )
        )
        return Taken(moref, quiesced, asked_s)

    def _not_quiesced(self, why: str) -> SourceError:
        return SourceError(
            f"the VM could not be quiesced: {why}",
            where=self._where,
            hint='look at VMware Tools and its scripts, or set quiesce = "try"',
            retryable=True,
        )

    async def _create(self, name: str, *, quiesced: bool) -> tuple[str, float]:
        """Its moref, and when it was asked for. Faults of the task are raised once nothing is left of it."""
        until, lost = time.monotonic() + self._timing.busy_s, 0
        while True:
            await self.idle()
            asked_s = time.monotonic()
            try:
                task = await self._session.once(
                    "taking a snapshot",
                    lambda: self._vm.CreateSnapshot_Task(
                        name=name, description=self._marker.description(), memory=False, quiesce=quiesced
                    ),
                )
                result = await tasks.finished(self._session, task, "taking a snapshot", timeout_s=self._timing.create_s)
                if not isinstance(result, vim.vm.Snapshot):
                    raise TaskGoneError("the task has ended, and names no snapshot")
                return str(result._GetMoId()), asked_s
            except (AnswerLostError, TaskGoneError) as error:
                # it may have been taken: look for it before a second one is
                made = await self._of_this_run()
                if made:
                    return made[-1], asked_s
                lost += 1
                if lost >= self._timing.tries:
                    raise SourceError(
                        f"vCenter does not take a snapshot: its answer was lost {lost} times ({error})",
                        where=self._where,
                        hint="run again when vCenter is well",
                        retryable=True,
                    ) from None
            except vim.fault.TaskInProgress:
                if time.monotonic() > until:
                    raise self._busy("vSphere does not say which") from None
                await asyncio.sleep(min(self._timing.pause_s, 0.5))
            except vmodl.MethodFault:
                for moref in await self._of_this_run():  # the task failed and left it all the same
                    await self.remove(moref)
                raise

    async def _of_this_run(self) -> list[str]:
        await self.idle()
        return [node.moref for node in (await self.tree()).nodes if self._marker.this_run(node.description)]

    # -- removing -------------------------------------------------------------------------------------------------

    async def remove(self, moref: str, *, leftover: bool = False) -> None:
        """Remove one snapshot and keep its children. One that is gone already is fine. SourceError where it stays."""
        began = time.monotonic()
        snapshot = self._session.bound(vim.vm.Snapshot, moref)
        failed = ""
        for attempt in range(1, self._timing.tries + 1):
            await self.idle()
            try:
                task = await self._session.once(
                    "removing a snapshot", lambda: snapshot.RemoveSnapshot_Task(removeChildren=False)
                )
                await tasks.finished(
                    self._session,
                    task,
                    "removing a snapshot",
                    timeout_s=self._timing.remove_s,
                    slow_s=self._timing.slow_s,
                    slow=self._slow,
                )
            except vim.fault.NoPermission as fault:
                raise faults.as_error("removing a snapshot", fault, self._where) from None
            except (AnswerLostError, TaskGoneError) as error:
                failed = str(error)
            except vmodl.MethodFault as fault:
                failed = faults.text(fault)
            else:
                failed = ""
            if failed:
                await self.idle()
            if not failed or (await self.tree()).node(moref) is None:
                self._events.emit(
                    SnapshotRemoved(
                        vm=self._name, snapshot=moref, leftover=leftover, seconds=round(time.monotonic() - began, 3)
                    )
                )
                return
            self._events.emit(
                SourceRetry(message=f"removing a snapshot: {failed}", attempt=attempt, seconds=self._timing.pause_s)
            )
            await asyncio.sleep(self._timing.pause_s)
        raise SourceError(
            f"snapshot {moref} can't be removed: {failed}",
            where=self._where,
            hint="the next run tries again; remove it by hand if that fails too",
            retryable=True,
        )

    def _slow(self, taken_s: float) -> None:
        self._warn(f"removing the snapshot takes more than {taken_s:.0f} s; the VM may stand still at its end")

    async def remove_ours(self, *, leftover: bool = True) -> set[str]:
        """Remove every snapshot with our marker, whichever run took it; the runs that had. Call it with the lease held:
        nobody else is at work for this VM and repository then."""
        await self.idle()  # a dead run's task may still be taking one
        nodes = (await self.tree()).nodes
        runs = set()
        for node in reversed(nodes):
            marker = parse(node.description)
            if marker is not None and self._marker.ours(node.description):
                await self.remove(node.moref, leftover=leftover)
                runs.add(marker.run)
        return runs

    async def consolidate(self) -> None:
        """Merge what removed snapshots left, if anything. SourceError where that does not succeed."""
        began, failed = time.monotonic(), ""
        for attempt in range(self._timing.tries):
            if not await self._session.call("reading the VM", lambda: bool(self._vm.runtime.consolidationNeeded)):
                if attempt:
                    self._events.emit(SnapshotConsolidated(vm=self._name, seconds=round(time.monotonic() - began, 3)))
                return
            if attempt:
                await asyncio.sleep(self._timing.pause_s)
            await self.idle()
            failed = await self._consolidate()
        if not await self._session.call("reading the VM", lambda: bool(self._vm.runtime.consolidationNeeded)):
            self._events.emit(SnapshotConsolidated(vm=self._name, seconds=round(time.monotonic() - began, 3)))
            return
        raise SourceError(
            f"the VM's disks need consolidation, and that fails: {failed or 'vSphere still says so after it'}",
            where=self._where,
            hint="a backup product may hold them open; consolidate the disks in vCenter",
            retryable=True,
        )

    async def _consolidate(self) -> str:
        """Try once; why it failed, if so."""
        try:
            task: Any = await self._session.once("consolidating disks", self._vm.ConsolidateVMDisks_Task)
            await tasks.finished(
                self._session,
                task,
                "consolidating disks",
                timeout_s=self._timing.remove_s,
                slow_s=self._timing.slow_s,
                slow=self._slow,
            )
        except vim.fault.NoPermission as fault:
            raise faults.as_error("consolidating disks", fault, self._where) from None
        except (AnswerLostError, TaskGoneError) as error:
            return str(error)
        except vmodl.MethodFault as fault:
            return faults.text(fault)
        return ""

    def _warn(self, message: str) -> None:
        self._events.emit(SourceWarning(message=f"VM {self._name}: {message}"))
