"""From a VM's image to an instance that counts as started; owns what is tried in which order, and is noted first."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import Housekeeping
from warmspare.observe.kinds.failover import FailoverNote, FailoverStarted, FailoverStep
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.ec2 import Ec2
from warmspare.recover.aws.ec2_errors import NO_MACHINE
from warmspare.recover.failover.attempt_leftovers import clear
from warmspare.recover.failover.failover_vm import FailoverVm
from warmspare.recover.failover.launch import DiedError, Instance, InstanceSpec, Launcher


@dataclass(frozen=True, slots=True)
class Recovered:
    """One VM that runs."""

    vm: VmId
    point: str
    image_id: str
    instance: Instance


class StepEvents:
    """What is told of each VM on the way."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def note(self, one: FailoverVm, message: str) -> None:
        self._events.emit(FailoverNote(vm=one.machine.vm_name, message=message))

    def step(self, one: FailoverVm, step: str, identity: str, began: float) -> None:
        self._events.emit(
            FailoverStep(vm=one.machine.vm_name, step=step, id=identity, seconds=round(time.monotonic() - began, 3))
        )


class InstanceStart:
    """Starts VMs of a failover in one account and region."""

    def __init__(self, ec2: Ec2, launcher: Launcher, events: Events) -> None:
        self._ec2, self._launcher, self._events = ec2, launcher, events
        self._told = StepEvents(events)

    async def start(self, one: FailoverVm, image: tuple[str, tuple[str, ...]]) -> Recovered:
        """One VM until it counts as started."""
        journal, plan, began = one.journal, one.plan, time.monotonic()
        instance, died, fresh = one.found, one.died, False
        if instance is None:
            await asyncio.sleep(plan.delay_s)
        while True:
            if died is not None:
                await self._anew(one, died)
            await self._cleared(one)
            if instance is None:
                assert journal.record is not None
                fresh = not journal.record.launching  # else a token may have given what an earlier run started
                instance = await self._launch(one, image, died)
            await journal.note("instance", instance.id)
            self._told.step(one, "instance", instance.id, began)
            if plan.ready == "none":
                break
            try:
                instance = await self._launcher.running(instance.id, most_s=plan.ready_s, fresh=fresh)
            except DiedError as error:
                died, instance = error.instance, None
                if not died.failed_to_launch:  # that it never ran is known now, and from its code nobody will know it
                    await journal.note("died", died.id)
                if died.reason != NO_MACHINE or died.type == one.types[-1]:
                    raise
            else:
                await journal.note("running", instance.id)
                break
        if plan.ready == "status-checks":
            await self._launcher.checked(instance.id, most_s=plan.ready_s)
        await journal.move("started")
        self._events.emit(
            FailoverStarted(
                vm=one.machine.vm_name,
                point=one.point.id.label,
                image=image[0],
                instance=instance.id,
                type=instance.type,
                ip=instance.ip,
                ready=plan.ready,
                seconds=round(time.monotonic() - began, 3),
            )
        )
        return Recovered(one.machine.vm_id, one.point.id.label, image[0], instance)

    async def _anew(self, one: FailoverVm, died: Instance) -> None:
        """Another attempt is due, for this instance died before it ran. It is noted before anything is asked for."""
        why = DiedError(died).what
        await one.journal.note("died", died.id)
        self._told.note(one, f"{died.id}, before it ran: {why}; another instance is started")

    async def _cleared(self, one: FailoverVm) -> None:
        """Nothing is left of attempts before this one. What stays costs money, and is told."""
        record = one.journal.record
        assert record is not None
        if record.attempt == 1:
            return
        with Housekeeping(self._events, one.machine.vm_name) as housekeeping:
            await clear(self._ec2, record.run, record.attempt, f"VM {one.machine.vm_name}", housekeeping)

    async def _launch(self, one: FailoverVm, image: tuple[str, tuple[str, ...]], died: Instance | None) -> Instance:
        """Start it as the first type that AWS has room for. died: the attempt before; where AWS had no machine for it,
        the types behind its own come first."""
        try:
            return await self._first(one, image, died)
        except AwsError as error:
            record = one.journal.record
            assert record is not None
            if error.code != "IdempotentInstanceTerminated" or record.ids_of("running"):
                raise
            # It died, and so long ago that AWS does not show it any more.
            gone = record.id_of("instance") or f"attempt {record.attempt}"
            await one.journal.note("died", gone)
            self._told.note(one, f"{gone} was ended before it was seen to run; another instance is started")
            await self._cleared(one)
            return await self._first(one, image, None)

    async def _first(self, one: FailoverVm, image: tuple[str, tuple[str, ...]], died: Instance | None) -> Instance:
        """Which type is tried is noted before: a run after this one must not begin with another, for both may then be
        had; unless AWS refused it."""
        record, plan = one.journal.record, one.plan
        assert record is not None
        before, types = record.launching, list(one.types)
        if before:
            types = [before, *(name for name in types if name != before)]
        elif died is not None and died.reason == NO_MACHINE and died.type in types:
            behind = types.index(died.type) + 1
            types = [*types[behind:], *types[:behind]]
        spec = InstanceSpec(
            record.run,
            f"VM {one.machine.vm_name}",
            image[0],
            one.machine.cards,
            image[1],
            plan.volumes,
            one.machine.metadata,
            plan.key_pair,
            plan.instance_profile,
            plan.user_data,
            one.tags,
            attempt=record.attempt,
        )

        async def trying(name: str, refused: str) -> None:
            if refused:
                self._told.note(one, f"AWS has no {refused} for it now; another type is tried")
            await one.journal.note("launching", name)

        try:
            return await self._launcher.start_first(spec, types, trying)
        except AwsError as error:
            if not error.may_be_done:  # a run after this one is free to begin with another
                await one.journal.note("refused", one.journal.tried)
            raise
