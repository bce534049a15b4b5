"""One drill: boots an overlay of a VM's disks, judges whether it comes up, keeps the evidence; refuses to change them.

docs/operations.md, "Drills". The disks are a replica's, held still meanwhile, or a restore point's own. They reach QEMU
as read-only descriptors, and a replica's traces are compared afterwards. A drill that can't be run is an error; one
that runs ends in a verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warmspare.errors import RecoverError
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.kinds.drill import DrillDone, DrillNote, DrillStart, DrillWaiting
from warmspare.recover.disks.open_disk import Held, OpenDisk, Traced, TracedDisk
from warmspare.recover.disks.origin import Origin
from warmspare.recover.drills.evidence import (
    FIRMWARE,
    QEMU,
    SCREEN,
    SERIAL,
    DrillVerdict,
    files,
    point_fields,
    software,
    write_verdict,
)
from warmspare.recover.drills.qemu import guest_agent, qemu_process
from warmspare.recover.drills.qemu.hardware import Hardware
from warmspare.recover.drills.qemu.serial import SerialLog
from warmspare.recover.drills.rules import WAITING_S, Rules
from warmspare.recover.drills.signs import LOGIN
from warmspare.recover.drills.turn import ALONE, DrillTurn
from warmspare.repository.chain import now_text
from warmspare.ticker import every


@dataclass(slots=True)
class _QemuOutcome:
    """What one boot came to."""

    passed: bool = False
    reason: str = ""
    boot_s: float | None = None
    guest: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    command: tuple[str, ...] = ()
    accelerator: str = ""


async def drill(
    held: Held, origin: Origin, hardware: Hardware, rules: Rules, folder: Path, events: Events, turn: DrillTurn = ALONE
) -> DrillVerdict:
    """Run it; the verdict, which lies in `folder` too. RecoverError where no verdict could be reached.

    Cancelled, the machine is ended, its overlays are gone, and the folder has no verdict.
    """
    began, started_s = now_text(), time.monotonic()
    disks = origin.ordered(held.disks)
    before = [await disk.trace(hashed=rules.hashed) for disk in disks]
    events.emit(
        DrillStart(
            vm=origin.vm,
            point=held.point.label,
            replica=str(held.replica) if held.replica else None,
            firmware=hardware.firmware,
            controller=hardware.controller,
            memory_mib=hardware.memory_mib,
            cpus=hardware.cpus,
            timeout_seconds=rules.timeout_s,
            evidence=str(folder),
        )
    )
    notes = [*hardware.notes, *([f"the repository could not be read: {origin.why}"] if origin.why else [])]
    outcome = await _judged(hardware, disks, rules, folder, notes, origin.vm, events, turn)
    turn.judged(outcome.passed, outcome.reason, outcome.boot_s)
    after = [await disk.trace(hashed=rules.hashed) for disk in disks]
    verdict = DrillVerdict(
        1,
        outcome.passed,
        outcome.reason,
        origin.vm,
        origin.vm_name,
        held.repository,
        held.uri,
        point_fields(held.point, origin.point.created if origin.point else None),
        began,
        round(time.monotonic() - started_s, 3),
        outcome.boot_s,
        rules.timeout_s,
        rules.judged_by,
        rules.expect,
        outcome.guest,
        before == after if held.replica else None,
        [_disk(*each, origin) for each in zip(disks, before, after, strict=True)],
        _machine(hardware, outcome),
        notes,
        software(qemu=outcome.version),
        files(folder),
    )
    write_verdict(folder, verdict)
    _tell(verdict, folder, events)
    return verdict


async def _judged(
    hardware: Hardware,
    disks: Sequence[OpenDisk],
    rules: Rules,
    folder: Path,
    notes: list[str],
    vm: VmId,
    events: Events,
    turn: DrillTurn,
) -> _QemuOutcome:
    """A boot with the best accelerator that works: one can be there and fail, at once or on the way."""
    *doubtful, sure = qemu_process.accelerators(hardware.firmware)
    for accelerator in doubtful:
        try:
            outcome = await _boot(hardware, disks, accelerator, rules, folder, vm, events, turn)
            if outcome.reason != qemu_process.INTERNAL_ERROR:
                return outcome
        except* RecoverError:
            pass
        notes.append(f"{accelerator} does not work on this host; the machine was started again with {sure}")
    return await _boot(hardware, disks, sure, rules, folder, vm, events, turn)


async def _boot(
    hardware: Hardware,
    disks: Sequence[OpenDisk],
    accelerator: str,
    rules: Rules,
    folder: Path,
    vm: VmId,
    events: Events,
    turn: DrillTurn,
) -> _QemuOutcome:
    """One start of the machine, judged. What it said before is overwritten."""
    outcome = _QemuOutcome(accelerator=accelerator)
    with contextlib.ExitStack() as stack:
        async with qemu_process.started(hardware, disks, accelerator, folder, stack) as machine:
            outcome.command, outcome.version = machine.command, await machine.version()
            log = SerialLog(machine.serial, folder / SERIAL, rules.expect or LOGIN)
            firmware = SerialLog(machine.firmware, folder / FIRMWARE, None)
            async with asyncio.TaskGroup() as group:
                followers = [group.create_task(each) for each in (log.follow(), firmware.follow())]
                async with every(WAITING_S, _telling_waiting(log, vm, events)):
                    await machine.power_on()
                    turn.running()
                    power_on_s = time.monotonic()
                    try:
                        async with asyncio.timeout(rules.timeout_s):
                            await _judge(machine, log, firmware, rules, outcome, folder)
                    except TimeoutError:
                        outcome.reason = _waited(log, rules)
                    if not outcome.passed:
                        await machine.demand_media()
                    if outcome.passed:
                        outcome.boot_s = round(time.monotonic() - power_on_s, 3)
                    await machine.screenshot(folder / SCREEN)
                for follower in followers:
                    follower.cancel()
    return outcome


async def _judge(
    machine: qemu_process.QemuMachine,
    log: SerialLog,
    firmware: SerialLog,
    rules: Rules,
    outcome: _QemuOutcome,
    folder: Path,
) -> None:
    """Wait until it is up or never will be."""

    async def on_serial() -> str:
        await log.seen.wait()
        return f"{rules.expect or LOGIN!r} came on the serial port"

    async def by_agent() -> str:
        outcome.guest = await guest_agent.answer(machine.agent)
        name = outcome.guest.get("pretty-name")
        return "the guest agent answers" + (f" from {name}" if name else "")

    async def broken() -> str:
        code = await machine.process.wait()
        raise RecoverError(
            f"QEMU ended with code {code}, and nothing was judged",
            where=str(folder / QEMU),
            hint=qemu_process.AGAIN,
            retryable=True,
        )

    async def hopeless(port: SerialLog, name: str) -> str:
        await port.hopeless()
        assert port.failure
        return f"{port.failure.meaning} ({port.failure.text.decode()!r} {name})"

    wanted = [on_serial()] if rules.expect is not None or rules.either else []
    wanted += [by_agent()] if rules.by_agent or rules.either else []
    good = [asyncio.ensure_future(each) for each in wanted]
    unwanted = [
        machine.ended(),
        broken(),
        hopeless(log, "on the serial port"),
        hopeless(firmware, "from the firmware"),
        machine.media_failed(),
    ]
    bad = [asyncio.ensure_future(each) for each in unwanted]
    try:
        while True:
            await asyncio.wait([*(task for task in good if not task.done()), *bad], return_when=asyncio.FIRST_COMPLETED)
            done = [task for task in good if task.done()]
            if len(done) == len(good) or (done and rules.either):
                outcome.passed, outcome.reason = True, "; ".join(task.result() for task in done)
                return
            failed = [task for task in bad if task.done()]
            if failed:
                outcome.reason = failed[0].result()
                return
    finally:
        for task in [*good, *bad]:
            task.cancel()
        await asyncio.gather(*good, *bad, return_exceptions=True)


def _telling_waiting(log: SerialLog, vm: VmId, events: Events) -> Callable[[], None]:
    began_s = time.monotonic()

    def tell() -> None:
        events.emit(DrillWaiting(vm=vm, seconds=round(time.monotonic() - began_s, 1), line=log.line))

    return tell


def _waited(log: SerialLog, rules: Rules) -> str:
    """Why the time limit was reached."""
    missing = f"{rules.expect or LOGIN!r} on the serial port" if rules.expect is not None or rules.either else ""
    if rules.by_agent or rules.either:
        missing += (" or " if rules.either else " and " if missing else "") + "an answer of the guest agent"
    if not log.bytes:
        missing += "; the serial port stayed silent"
    return f"within {rules.timeout_s:g} s there was no {missing}"


def _disk(disk: TracedDisk, before: Traced, after: Traced, origin: Origin) -> dict[str, Any]:
    return {
        "id": disk.id,
        "path": str(disk.path) if disk.path else None,
        "capacity_bytes": disk.capacity_bytes,
        "root": origin.root(disk.id),
        "before": before.fields(),
        "after": after.fields(),
    }


def _machine(hardware: Hardware, outcome: _QemuOutcome) -> dict[str, Any]:
    return {
        "firmware": hardware.firmware,
        "firmware_by": hardware.firmware_by,
        "controller": hardware.controller,
        "cpus": hardware.cpus,
        "memory_mib": hardware.memory_mib,
        "accelerator": outcome.accelerator,
        "network": "none",
        "command": ["qemu-system-x86_64", *outcome.command],
    }


def _tell(verdict: DrillVerdict, folder: Path, events: Events) -> None:
    for note in verdict.notes:
        events.emit(DrillNote(vm=verdict.vm, message=note))
    events.emit(
        DrillDone(
            vm=verdict.vm,
            passed=verdict.passed,
            reason=verdict.reason,
            untouched=verdict.untouched,
            boot_seconds=verdict.boot_seconds,
            seconds=verdict.seconds,
            point=verdict.point["label"],
            accelerator=verdict.machine["accelerator"],
            evidence=str(folder),
        )
    )
