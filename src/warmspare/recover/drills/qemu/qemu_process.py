"""One QEMU process with a machine in it: its command line, its monitor, its end; refuses network and changes to disks.

Base disks reach it as read-only descriptors and never by name; what the guest writes goes to overlays that have no name
any more, so nothing is left of them whatever happens. Monitor, serial port and guest agent are socket pairs: nothing
listens anywhere. The kernel ends QEMU when this process dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qemu.qmp import EventListener, QMPClient, QMPError

from warmspare import children
from warmspare.errors import ConfigError, RecoverError, by_hand
from warmspare.recover.disks import programs
from warmspare.recover.disks.closed_qemu import closed
from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.recover.drills.evidence import QEMU, WHAT
from warmspare.recover.drills.qemu.hardware import Hardware
from warmspare.state.local_files import local_io
from warmspare.threads import in_thread

OVMF_CODE, OVMF_VARS = Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
START_S, STOP_S = 30.0, 5.0
MEDIA_S = 2.0
AGAIN = "drill again"


@dataclass(frozen=True, slots=True)
class QemuMachine:
    """A started machine. serial, firmware, agent: our ends of its serial port, of the port that a BIOS tells what it
    does, and of its guest agent's channel."""

    process: asyncio.subprocess.Process
    monitor: QMPClient
    events: EventListener
    serial: socket.socket
    firmware: socket.socket
    agent: socket.socket
    command: tuple[str, ...]
    accelerator: str

    async def power_on(self) -> None:
        """Let it run. Its ports must be read from now on: QEMU stands still where its firmware can't say something."""
        await self._asked("cont")

    async def _asked(self, command: str) -> object:
        try:
            async with asyncio.timeout(START_S):
                return await self.monitor.execute(command)
        except (QMPError, TimeoutError) as error:
            what = f"QEMU does not answer {command}" + (f": {error}" if str(error) else "")
            raise RecoverError(f"{what}; nothing was judged", hint=AGAIN, retryable=True) from None

    async def ended(self) -> str:
        """Wait for the machine to stop by itself; how, as a clause. RecoverError where that is not its guest's doing: a
        medium of this host gives an error, or has no room for what the guest writes."""
        async for event in self.events:
            data = event.get("data") or {}
            assert isinstance(data, dict)
            match event["event"]:
                case "BLOCK_IO_ERROR":
                    raise _medium_failed(data)
                case "SHUTDOWN":
                    return f"the machine stopped ({data.get('reason', 'unknown')})"
                case "GUEST_PANICKED":
                    return "the guest told the machine that it panicked"
                case "STOP" if await self.broken():
                    return INTERNAL_ERROR
        return "QEMU ended"

    async def broken(self) -> bool:
        """Whether the accelerator failed: QEMU's own word for it."""
        with contextlib.suppress(QMPError):
            status = await self.monitor.execute("query-status")
            return isinstance(status, dict) and status.get("status") == "internal-error"
        return False

    async def media_failed(self) -> str:
        """Look now and then whether this host could carry out what the guest asked of its disks. RecoverError if not;
        some controllers only tell the guest, so that it is counted and no event comes."""
        while True:
            await self.demand_media()
            await asyncio.sleep(MEDIA_S)

    async def demand_media(self) -> None:
        """The same, now; also where QEMU hangs, as on a medium that does. Nothing is said of one that is gone."""
        try:
            async with asyncio.timeout(START_S):
                devices = await self.monitor.execute("query-blockstats")
        except QMPError:
            return  # whoever waits for its process hears of that
        except TimeoutError:
            hint = by_hand("look at the media of the disks and of the evidence, and drill again")
            what = f"QEMU has not answered for {START_S:.0f} s, and nothing was judged"
            raise RecoverError(what, hint=hint, retryable=True) from None
        assert isinstance(devices, list)
        for device in devices:
            for operation, count in (("write", "failed_wr_operations"), ("read", "failed_rd_operations")):
                if device["stats"].get(count):
                    raise _medium_failed({"operation": operation})

    async def screenshot(self, path: Path) -> bool:
        """Write the screen as PNG; False where there is none."""
        try:
            async with asyncio.timeout(START_S):
                await self.monitor.execute("screendump", {"filename": str(path), "format": "png"})
        except (QMPError, TimeoutError):
            return False
        return path.exists()

    async def version(self) -> str:
        """QEMU's own, with the distribution's. RecoverError if it does not answer."""
        got = await self._asked("query-version")
        assert isinstance(got, dict)
        number = got["qemu"]
        return f"{number['major']}.{number['minor']}.{number['micro']} {got['package']}".strip()


INTERNAL_ERROR = "the accelerator failed"


def _medium_failed(data: dict[str, object]) -> RecoverError:
    """What QEMU tells of a request of its guest that this host could not carry out."""
    reason = f": {data['reason']}" if data.get("reason") else ""
    if data.get("operation") == "write":
        what, hint = "what the guest writes can't be kept", "make room where the evidence is kept, and drill again"
    else:
        what, hint = "a disk of the VM can't be read", by_hand("look at its medium and the kernel log")
    return RecoverError(f"{what}{reason}, and nothing was judged", hint=hint, retryable=True)


def accelerators(firmware: str) -> list[str]:
    """Which to try, best first. /dev/kvm can be there and not work, so it is never the only one. On a host that is a
    virtual machine itself, KVM was seen to hang for ever in the real mode that a BIOS starts in, and says nothing."""
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    if usable and firmware == "bios" and _is_virtual():
        usable = False
    return ["kvm", "tcg"] if usable else ["tcg"]


def _is_virtual() -> bool:
    """Whether this host's processors say that they are a hypervisor's."""
    try:
        with open("/proc/cpuinfo") as file:
            return any(line.startswith("flags") and " hypervisor" in line for line in file)
    except OSError:
        return False


@contextlib.asynccontextmanager
async def started(
    hardware: Hardware, disks: Sequence[OpenDisk], accelerator: str, evidence: Path, stack: contextlib.ExitStack
) -> AsyncIterator[QemuMachine]:
    """A machine over these disks, in the VM's order, not yet switched on; killed by its process ID when the block ends.

    evidence: the folder that takes qemu.log; overlays live on its file system. stack: outlives the
    machine and owns our ends. RecoverError if QEMU does not start.
    """
    fds: list[int] = []
    with contextlib.ExitStack() as theirs:
        monitor, serial, firmware, agent = (_pair(stack, theirs) for _ in range(4))
        fds += (ends := [end.fileno() for _, end in (monitor, serial, firmware, agent)])
        overlays = [await _overlay(disk, evidence, theirs) for disk in disks]
        command = _machine(hardware, accelerator) + _ports(*ends)
        command += _files(hardware, disks, overlays, evidence, theirs, fds)
        process = await _spawn(command, fds, evidence)
    client = QMPClient("drill")
    listener = EventListener()
    try:
        with client.listen(listener):
            await _connect(client, monitor[0], process, evidence)
            yield QemuMachine(process, client, listener, serial[0], firmware[0], agent[0], tuple(command), accelerator)
    finally:
        await _stop(client, process)


def _pair(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    left, right = socket.socketpair()
    ours.enter_context(left)
    theirs.enter_context(right)
    left.setblocking(False)
    return left, right


def _machine(hardware: Hardware, accelerator: str) -> list[str]:
    accelerated = ["kvm", "host"] if accelerator == "kvm" else ["tcg,thread=multi", "max"]
    return [
        *closed("std"),
        "-machine",
        "pc" if hardware.firmware == "bios" else "q35",
        "-accel",
        accelerated[0],
        "-cpu",
        accelerated[1],
        "-smp",
        str(hardware.cpus),
        "-m",
        str(hardware.memory_mib),
        "-rtc",
        "base=utc",
        "-action",
        "shutdown=pause,panic=pause",
        "-S",
    ]


def _ports(monitor: int, serial: int, firmware: int, agent: int) -> list[str]:
    return [
        "-chardev",
        f"socket,id=monitor,fd={monitor}",
        "-mon",
        "chardev=monitor,mode=control",
        "-chardev",
        f"socket,id=serial,fd={serial}",
        "-serial",
        "chardev:serial",
        "-chardev",
        f"socket,id=agent,fd={agent}",
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        "-chardev",
        f"socket,id=firmware,fd={firmware}",
        "-device",
        "isa-debugcon,iobase=0x402,chardev=firmware",
    ]


def _files(
    hardware: Hardware,
    disks: Sequence[OpenDisk],
    overlays: Sequence[int],
    evidence: Path,
    theirs: contextlib.ExitStack,
    fds: list[int],
) -> list[str]:
    """Block devices; descriptors that QEMU is to inherit are added to `fds`."""
    out: list[str] = []

    def node(name: str, fd: int, *, writable: bool) -> dict[str, object]:
        fds.append(fd)
        number = len(fds)
        out.extend(["-add-fd", f"fd={fd},set={number},opaque={name}"])
        driver = "host_device" if stat.S_ISBLK(os.fstat(fd).st_mode) else "file"
        return {"driver": driver, "filename": f"/dev/fdset/{number}", "read-only": not writable}

    def blockdev(**options: object) -> None:
        out.extend(["-blockdev", json.dumps(options)])

    for number, (disk, overlay) in enumerate(zip(disks, overlays, strict=True)):
        # A block device may be longer than its disk.
        base = {"driver": "raw", "node-name": f"base{number}", "read-only": True, "size": disk.capacity_bytes}
        blockdev(**base, file=node(f"given{number}", disk.fd, writable=False))
        blockdev(
            **{"driver": "qcow2", "node-name": f"disk{number}", "backing": f"base{number}"},
            file=node(f"overlay{number}", overlay, writable=True),
        )
    if hardware.firmware == "uefi":
        if not (OVMF_CODE.exists() and OVMF_VARS.exists()):
            hint = by_hand("install the package ovmf")
            raise ConfigError("QEMU has no UEFI firmware", where=str(OVMF_CODE), hint=hint)
        variables = _nameless(evidence, theirs, OVMF_VARS.read_bytes())
        blockdev(
            **{"driver": "raw", "node-name": "code", "read-only": True},
            file={"driver": "file", "filename": str(OVMF_CODE), "read-only": True},
        )
        blockdev(**{"driver": "raw", "node-name": "variables"}, file=node("variables", variables, writable=True))
        out += ["-machine", "pflash0=code,pflash1=variables"]
    return out + _attached(hardware.controller, len(disks))


def _attached(controller: str, disks: int) -> list[str]:
    numbers = range(disks)
    if controller == "nvme":
        devices = [f"nvme,drive=disk{n},serial=drill{n}" for n in numbers]
    elif controller == "sata":
        devices = ["ich9-ahci,id=bus", *(f"ide-hd,drive=disk{n},bus=bus.{n}" for n in numbers)]
    elif controller == "ide":
        devices = [f"ide-hd,drive=disk{n},bus=ide.{n // 2},unit={n % 2}" for n in numbers]
    else:
        kind = {"virtio-scsi": "virtio-scsi-pci", "lsisas": "mptsas1068"}.get(controller, controller)
        devices = [f"{kind},id=bus", *(f"scsi-hd,drive=disk{n},bus=bus.0,scsi-id={n}" for n in numbers)]
    out = []
    for device in devices:
        first = "drive=disk0" in device
        out += ["-device", device + (",bootindex=0" if first else "")]
    return out


async def _overlay(disk: OpenDisk, evidence: Path, theirs: contextlib.ExitStack) -> int:
    """A descriptor of an empty qcow2 of the disk's size, already without a name."""
    path = evidence / f".overlay-{disk.fd}"
    try:
        command = ("create", "-q", "-f", "qcow2", str(path), str(disk.capacity_bytes))
        done = await in_thread(programs.run, "qemu-img", *command)
        if done.code != 0:
            raise RecoverError(f"no overlay could be made: {done.complaint}", where=str(evidence))
        with local_io(WHAT, path):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        theirs.callback(os.close, fd)
        return fd
    finally:
        with local_io(WHAT, path):
            path.unlink(missing_ok=True)


def _nameless(evidence: Path, theirs: contextlib.ExitStack, data: bytes) -> int:
    with local_io(WHAT, evidence):
        fd = os.open(evidence, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        theirs.callback(os.close, fd)
        os.write(fd, data)
    return fd


async def _spawn(command: list[str], fds: Sequence[int], evidence: Path) -> asyncio.subprocess.Process:
    # The kernel kills it with the thread that starts it: the one of the event loop.
    wrapped = [programs.found("setpriv"), "--pdeathsig", "KILL", programs.found("qemu-system-x86_64"), *command]
    with local_io(WHAT, evidence), (evidence / QEMU).open("ab") as log:
        return await children.start_beside(
            *wrapped,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=tuple(fds),
        )


async def _connect(client: QMPClient, end: socket.socket, process: asyncio.subprocess.Process, evidence: Path) -> None:
    try:
        async with asyncio.timeout(START_S):
            # A copy, which the transport closes by itself, and some time after it says so: closed by us as well, the
            # number would be another socket's by then.
            await client.connect(end.dup())
    except (QMPError, TimeoutError):
        with contextlib.suppress(TimeoutError):  # a QEMU that refused its command line ends at once, and says why
            async with asyncio.timeout(STOP_S):
                await process.wait()
        said = (evidence / QEMU).read_text(errors="replace").strip().splitlines()
        raise RecoverError(
            f"QEMU did not start: {said[-1] if said else f'it did not answer for {START_S:.0f} s'}",
            where=str(evidence / QEMU),
            hint="mend what it says, and drill again",
        ) from None


async def _stop(client: QMPClient, process: asyncio.subprocess.Process) -> None:
    """End QEMU, asked first, by its process ID otherwise; returns when it is gone."""
    try:
        with contextlib.suppress(QMPError, TimeoutError, OSError, EOFError):
            async with asyncio.timeout(STOP_S):
                await client.execute("quit")
                await process.wait()
    finally:
        await children.end(process)
        with contextlib.suppress(QMPError, OSError, EOFError):
            await client.disconnect()
