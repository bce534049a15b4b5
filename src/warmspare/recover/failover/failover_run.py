"""A failover: from staged restore points to running instances, in the plan's order; owns the order of the steps.

First all is looked at and nothing is changed; whatever is missing ends it there. Then each VM's record is written
(repository/failover_record.py), from which on it is not synced; then images, all at once; then instances, by order.
Each step is noted in the record, and what AWS is asked for is asked for by tokens and names that come from it. So a
failover that was cut off anywhere is run again, from any host, and finds what it made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from warmspare.errors import ConfigError, RecoverError, WarmspareError
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.kinds.failover_events import (
    FailoverImport,
    FailoverMissing,
    FailoverNote,
    FailoverPoint,
    FailoverWould,
)
from warmspare.recover.aws.ec2 import Ec2
from warmspare.recover.failover.chosen import Chosen, choose
from warmspare.recover.failover.ec2_machine import looked_into, machine
from warmspare.recover.failover.failover_vm import FailoverVm
from warmspare.recover.failover.images.ami import Images
from warmspare.recover.failover.images.importing import Imports, ImportSpec
from warmspare.recover.failover.instance_start import InstanceStart, Recovered, StepEvents
from warmspare.recover.failover.launch import Launcher
from warmspare.recover.failover.plan import VmPlan
from warmspare.recover.failover.preflight import Preflight
from warmspare.recover.readiness.outlook import Outlook, outlook
from warmspare.repository.chain import Repository
from warmspare.repository.failover_record import CLEARS, FailoverJournal, clearing, read_journal
from warmspare.repository.remedy_commands import command
from warmspare.repository.vm_lookup import VmNames

T = TypeVar("T")

AT_ONCE = 8  # VMs whose images are made at the same time


class Failover:
    """A failover of some VMs. at: a restore point, for a single VM; None for the newest that is usable."""

    def __init__(self, repository: Repository, ec2: Ec2, plans: Sequence[VmPlan], events: Events) -> None:
        self._repository, self._ec2, self._plans, self._events = repository, ec2, plans, events
        self._names = VmNames(repository)
        self._images, self._launcher = Images(ec2), Launcher(ec2)
        self._starting, self._told = InstanceStart(ec2, self._launcher, events), StepEvents(events)

    async def prepare(self, at: str | None = None) -> list[FailoverVm]:
        """Look at everything, change nothing. ConfigError, RecoverError if a VM or its point can't be used; AwsError,
        StoreError."""
        preflight = Preflight(self._ec2)
        return [await self._prepare(plan, at, preflight) for plan in self._plans]

    def show(self, prepared: Sequence[FailoverVm]) -> None:
        """Say what `run` would do, and all that is missing."""
        for one in prepared:
            vm, plan = one.machine.vm_name, one.plan
            for action in one.would():
                self._events.emit(FailoverWould(vm=vm, order=plan.order, action=action))
            for what in one.lacking:
                self._events.emit(FailoverMissing(vm=vm, message=what))

    async def looked_into(
        self, prepared: Sequence[FailoverVm], scratch: Path, *, every: bool
    ) -> tuple[list[FailoverVm], list[Outlook]]:
        """Look into the disks of those that do not run yet, one after the other, and tell of each whether it would
        start, and what it runs. every: also of those whose image needs nothing of that. scratch: a directory for what
        is fetched."""
        outlooks, out = list[Outlook](), list[FailoverVm]()
        for one in prepared:
            if one.found is None and (every or (one.unsure and not one.missing)):
                seen = await self._looked_into(one, scratch)
                outlooks.append(seen)
                machine, notes = looked_into(one.machine, one.plan, seen.runs)
                for note in [*notes, *(() if machine.metadata.v1 else seen.tokenless)]:
                    self._told.note(one, note)
                out.append(replace(one, machine=machine))
            else:
                out.append(one)
        return out, outlooks

    async def _looked_into(self, one: FailoverVm, scratch: Path) -> Outlook:
        label = one.point.id.label
        if one.plan.import_from:
            seen = Outlook(label, (), ("import_from names other disks than the restore point's",))
        else:
            seen = await outlook(
                self._repository.store,
                one.machine.vm_id,
                label,
                scratch,
                boots=one.plan.root_disk,
                boot_mode=one.machine.boot_mode,
            )
        self._events.emit(seen.event(one.machine.vm_name))
        return seen

    async def run(self, prepared: Sequence[FailoverVm]) -> list[Recovered]:
        """Do it. ConfigError if something is missing, before anything is changed; AwsError, RecoverError, StoreError,
        LeaseError of the first VM that failed: others of its order are finished, later orders are not begun. Killed or
        cancelled, it goes on when it is run again."""
        lacking = [(one, what) for one in prepared for what in one.lacking]
        if lacking:
            one, what = lacking[0]
            more = f", and {len(lacking) - 1} more is missing: --dry-run shows it" if len(lacking) > 1 else ""
            raise ConfigError(f"nothing was started: {what}{more}", where=f"VM {one.machine.vm_name}")
        region = await self._ec2.aws.region()
        for one in prepared:
            await one.journal.begin(one.point.id, region, one.plan.via)
        slots = asyncio.Semaphore(AT_ONCE)
        images = await _all([partial(self._worded, one, partial(self._image, one, slots)) for one in prepared])
        recovered: list[Recovered] = []
        for order in sorted({one.plan.order for one in prepared}):
            group = [(one, image) for one, image in zip(prepared, images, strict=True) if one.plan.order == order]
            recovered += await _all(
                [partial(self._worded, one, partial(self._starting.start, one, image)) for one, image in group]
            )
        return recovered

    async def _prepare(self, plan: VmPlan, at: str | None, preflight: Preflight) -> FailoverVm:
        vm = await self._names.known(plan.vm)
        journal = await read_journal(self._repository, vm)
        chosen = await self._chosen(vm, at, journal)
        staged, point = chosen.staged, chosen.point
        built = machine(point.record, staged, plan)
        types, missing = await preflight.look(built, plan)
        for note in built.notes:
            self._events.emit(FailoverNote(vm=built.vm_name, message=note))
        found = died = None
        if journal.record and journal.record.holds:
            found = await self._launcher.find(journal.record.run, f"VM {built.vm_name}", journal.record.attempt)
            if found is not None and found.failed_to_launch and not journal.record.ran(found.id):
                found, died = None, found
        if found is not None and found.gone:
            raise RecoverError(
                f"the instance of this failover of VM {built.vm_name!r} was ended",
                where=found.id,
                hint=f"clear it with {clearing(self._repository, vm)} and run this again: it fails over anew",
            )
        tags = {"Name": built.vm_name, **plan.tags, **chosen.tags}
        lacking = (*built.missing, *missing)
        return FailoverVm(plan, built, point, journal, tuple(types), lacking, tags, found, died)

    async def _chosen(self, vm: VmId, at: str | None, journal: FailoverJournal) -> Chosen:
        """The restore point to take, and a word about it."""
        wanted = await self._repository.resolve(vm, at, also_dropped=True) if at is not None else None
        under_way = journal.record.point if journal.record and journal.record.holds else None
        if under_way is not None and wanted not in (None, under_way.sequence):
            raise ConfigError(
                f"a failover of VM {vm!r} to restore point {under_way.label} is under way",
                hint=f"go on with it without --at, or clear it with {clearing(self._repository, vm)} and run this "
                "again",
            )
        chosen = await choose(self._repository, self._ec2.aws, vm, wanted, exactly=under_way)
        self._events.emit(
            FailoverPoint(
                vm=vm,
                point=chosen.point.id.label,
                created=chosen.staged.created,
                age_seconds=round(chosen.age_s),
                newer_unstaged=chosen.newer,
            )
        )
        return chosen

    async def _worded(self, one: FailoverVm, work: Callable[[], Awaitable[T]]) -> T:
        """Do it for one VM; commands of ours that its error names are as they are to be typed."""
        try:
            return await work()
        except WarmspareError as error:
            for name in (CLEARS, "recover check"):
                error.complete(f"`warmspare {name}`", command(self._repository.store, name, one.machine.vm_id))
            raise

    async def _image(self, one: FailoverVm, slots: asyncio.Semaphore) -> tuple[str, tuple[str, ...]]:
        """The image of one VM, ready to be started, and the devices of its volumes."""
        journal, began = one.journal, time.monotonic()
        assert journal.record is not None
        async with slots:
            image_id = journal.record.id_of("image")
            if image_id and await self._images.get(image_id) is None:
                image_id = ""  # deregistered meanwhile
            if not image_id:
                image_id = await (self._import(one) if one.plan.via == "import-image" else self._register(one))
                await journal.note("image", image_id)
            image = await self._images.available(image_id)
            self._told.step(one, "image", image_id, began)
        devices = tuple(disk.device for disk in one.machine.disks)
        return image_id, image.devices if one.plan.via == "import-image" else devices

    async def _register(self, one: FailoverVm) -> str:
        return await self._images.register(one.image)

    async def _import(self, one: FailoverVm) -> str:
        assert one.journal.record is not None
        run, plan, vm = one.journal.record.run, one.plan, one.machine.vm_name

        def progress(task: str, percent: str, message: str) -> None:
            self._events.emit(FailoverImport(vm=vm, task=task, percent=percent, message=message))

        imports = Imports(self._ec2, progress)
        begun = one.journal.record.ids_of("import")
        task = begun[-1] if begun else ""
        failure = await imports.failure(task) if task else None
        if failure:
            message = f"an earlier import failed: {failure.sentence}; now it is tried anew"
            self._events.emit(FailoverNote(vm=vm, message=message))
        if failure or not task:
            spec = ImportSpec(
                run,
                one.machine,
                one.point.id.label,
                one.tags,
                plan.import_from,
                plan.license,
                plan.import_role,
                begun,
            )
            task = await imports.start(spec)
            await one.journal.note("import", task)
        return await imports.finished(task, one.tags)


async def _all(makers: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """The results of all, in their order; if some fail, the others are finished first, and one failure is raised."""
    results: dict[int, T] = {}
    failures: list[WarmspareError] = []

    async def one(number: int, make: Callable[[], Awaitable[T]]) -> None:
        try:
            results[number] = await make()
        except WarmspareError as error:
            failures.append(error)

    async with asyncio.TaskGroup() as tasks:
        for number, make in enumerate(makers):
            tasks.create_task(one(number, make))
    if failures:
        raise failures[0]
    return [results[number] for number in range(len(makers))]
