"""QEMU as the place of a rehearsal: restore points of a repository, each alone; owns how many run at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from warmspare.errors import ConfigError, by_hand
from warmspare.observe.events import Events
from warmspare.recover.disks.held_point import HeldPoint, with_point
from warmspare.recover.disks.origin import of_point
from warmspare.recover.drills.drill_record import DrillKind
from warmspare.recover.drills.evidence import DrillVerdict, point_fields
from warmspare.recover.drills.qemu import hardware, qemu_process
from warmspare.recover.drills.qemu.qemu_drill import drill
from warmspare.recover.drills.rehearsal import RehearsedVm
from warmspare.recover.drills.rules import Rules
from warmspare.recover.drills.turn import DrillTurn
from warmspare.recover.failover.plan import VmPlan
from warmspare.recover.readiness.check import made_for
from warmspare.repository.chain import Point, Repository
from warmspare.repository.vm_lookup import VmNames

NOTE = "VMs in QEMU can't reach one another, and what they take here says little of AWS"


class Room:
    """Memory of this host that machines may have together; and where all is emulated, its processors, of which each
    machine keeps one busy. First come, first served. One machine always has room."""

    def __init__(self, memory_mib: int, most: int | None) -> None:
        self._memory_mib, self._most = memory_mib, most
        self._used_mib = self._machines = 0
        self._queue: list[tuple[int, asyncio.Event]] = []

    @contextlib.asynccontextmanager
    async def taken(self, memory_mib: int) -> AsyncIterator[None]:
        """Wait for room for a machine, and keep it for as long as the block runs."""
        mine = (memory_mib, asyncio.Event())
        self._queue.append(mine)
        self._admit()
        try:
            await mine[1].wait()
            yield
        finally:
            if mine in self._queue:
                self._queue.remove(mine)
            else:
                self._used_mib -= memory_mib
                self._machines -= 1
            self._admit()

    def _admit(self) -> None:
        while self._queue:
            memory_mib, turn = self._queue[0]
            full = self._used_mib + memory_mib > self._memory_mib or self._machines == self._most
            if self._machines and full:
                return
            self._queue.pop(0)
            self._used_mib += memory_mib
            self._machines += 1
            turn.set()


class QemuLab:
    """Of what a repository has. scratch: a directory for what is fetched. controller: where the disks hang, None for
    the usual one."""

    kind: DrillKind = "qemu"
    note = NOTE

    def __init__(self, repository: Repository, scratch: Path, events: Events, controller: str | None = None) -> None:
        self._repository, self._scratch, self._events, self._controller = repository, scratch, events, controller
        self._names = VmNames(repository)
        self._memory_mib = hardware.room()
        emulated = "kvm" not in qemu_process.accelerators("uefi")
        self._room = Room(self._memory_mib, len(os.sched_getaffinity(0)) if emulated else None)

    async def look(self, plan: VmPlan, at: str | None) -> RehearsedVm:
        """See rehearsal.Lab."""
        repository = self._repository
        point = await self._names.point(plan.vm, at)
        record = point.record
        if not record.disks:
            hint = by_hand("protect its disks, and sync it")
            raise ConfigError(f"restore point {point.id.label} has no disks", where=repository.store.uri, hint=hint)
        said = point_fields(point.id, record.created)
        would = f"boot {record.vm_name!r} at restore point {point.id.label} alone in QEMU, and end it"
        return RehearsedVm(record.vm_id, record.vm_name, said, would, partial(self._boot, plan, point))

    async def _boot(self, plan: VmPlan, point: Point, rules: Rules, folder: Path, turn: DrillTurn) -> DrillVerdict:
        recorded = point.record.hardware
        memory_mib = min(hardware.own_memory_mib(recorded), self._memory_mib)
        await turn.due()
        due_s = time.monotonic()
        async with self._room.taken(memory_mib):
            turn.waited(time.monotonic() - due_s)

            async def work(held: HeldPoint) -> DrillVerdict:
                of = replace(of_point(held.record.record), boots=plan.root_disk)
                disks = of.ordered(held.disks)
                wanted = plan.firmware or await made_for(disks[0])
                machine = hardware.choose(
                    recorded,
                    wanted,
                    len(disks),
                    firmware=plan.firmware,
                    controller=self._controller,
                    room_mib=self._memory_mib,
                )
                turn.launched()
                return await drill(held, of, machine, rules, folder, self._events, turn)

            return await with_point(self._repository.store, point.record.vm_id, point.id.label, self._scratch, work)
