"""The throw-away machine: QEMU with a kernel of this host over the VM's disks; refuses network, and changes to disks.

It is prepared before the limits of the process that asks hold (a shell waits, which becomes QEMU), for what it takes is
counted apart. It starts with the first question, answers all of a check, and ends with its process group.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from warmspare import children
from warmspare.recover.disks import programs
from warmspare.recover.disks.closed_qemu import closed
from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.readers.appliance import agent, parts
from warmspare.recover.readiness.readers.appliance.parts import ApplianceParts

MEMORY_MIB = 384
_WAITING = 'read -r go || exit; exec "$@" </dev/null'
_MAX_LINE = 1024
_PIECE_BYTES = 1 << 16
_CACHE_MIB = 64  # of translated code


@dataclass(frozen=True, slots=True)
class ApplianceLimits:
    """data_bytes: what QEMU may set aside, its guest's memory in it. cpu_s, wall_s: of a whole check. written_bytes: of
    what the guest changes, thrown away at the end."""

    data_bytes: int = 1 << 30
    cpu_s: int = 180
    wall_s: float = 180.0
    written_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Said:
    """An answer. word: of agent.py. data: the bytes that follow, or the text."""

    word: str
    data: bytes
    text: str


class ApplianceMachine:
    """Not thread-safe. Exceeded where it does not start, dies or comes to a limit; from then on always."""

    def __init__(self, have: ApplianceParts, disks: Sequence[OpenDisk], limits: ApplianceLimits) -> None:
        self._parts, self._limits = have, limits
        self._fds = [disk.fd for disk in disks]
        self._deadline = 0.0
        self._failed = ""
        self._ready = b""
        self._child: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Have it wait for its start, where limits of a process that has not many are not inherited. OSError."""
        self._files = os.memfd_create("initramfs")
        self._errors = os.memfd_create("errors")
        go, self._go = os.pipe()
        self._port, far = socket.socketpair()
        with far:
            fds = (*self._fds, self._files, far.fileno())
            self._child = children.start(
                ["/bin/sh", "-c", _WAITING, "sh", *self._command(far.fileno())],
                pass_fds=fds,
                stdin=go,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
        os.close(go)

    @property
    def started(self) -> bool:
        return self._deadline > 0

    def ask(self, *words: str, path: str = "", most_bytes: int) -> Said:
        """An answer to a question of agent.py."""
        if self._failed:
            raise Exceeded(self._failed)
        try:
            if not self.started:
                self._start()
            self._send(f"{' '.join(words)}\n{path}\n".encode(errors="surrogateescape"))
            word, length, text = [*self._line().split(b" ", 2), b"", b""][:3]
            if not length.isdigit() or len(length) > 12 or int(length) > most_bytes:
                raise Exceeded("it answers what can't be understood")
            return Said(word.decode(errors="replace"), self._exactly(int(length)), text.decode(errors="replace"))
        except (OSError, Exceeded) as error:
            why = error.what if isinstance(error, Exceeded) else str(error)
            self._failed = f"the second reader failed: {why}{self._complaint()}"
            self.end()
            raise Exceeded(self._failed) from None

    def end(self) -> None:
        """Fine if it never started."""
        if self._child is None:
            return
        children.kill(self._child)
        self._child.wait()
        children.forget(self._child)
        self._child = None

    def _start(self) -> None:
        self._deadline = time.monotonic() + self._limits.wall_s
        if self._child is None:
            raise Exceeded("it was not prepared")
        if why := parts.write_initramfs(self._parts, self._files):
            raise Exceeded(why)
        os.write(self._go, b"\n")
        os.close(self._go)
        if self._line() != agent.READY.encode():
            raise Exceeded("it starts in a way that can't be understood")

    def _command(self, port: int) -> list[str]:
        limits = self._limits
        held = [
            f"--data={limits.data_bytes}",
            f"--cpu={limits.cpu_s}:{limits.cpu_s + 1}",
            "--core=0",
            f"--fsize={limits.written_bytes}",
        ]
        command = [
            programs.found("prlimit"),
            *held,
            str(self._parts.qemu),
            *closed("none"),
            "-no-reboot",
            "-machine",
            "pc",
            "-cpu",
            "max",
            "-accel",
            f"tcg,tb-size={_CACHE_MIB}",
            "-smp",
            "1",
            "-m",
            str(MEMORY_MIB),
            "-kernel",
            str(self._parts.kernel.image),
            "-initrd",
            f"/proc/self/fd/{self._files}",
            "-append",
            f"quiet panic=-1 disks={len(self._fds)} no_timer_check tsc=reliable random.trust_cpu=on",
            "-device",
            "virtio-serial-pci",
            "-chardev",
            f"socket,id=port,fd={port}",
            "-device",
            "virtserialport,chardev=port,nr=1",
            "-device",
            "virtio-scsi-pci,id=scsi",
        ]
        for number, fd in enumerate(self._fds):
            drive = f"if=none,id=d{number},file=/proc/self/fd/{fd},format=raw,snapshot=on,cache=unsafe"
            command += ["-drive", drive, "-device", f"scsi-hd,bus=scsi.0,scsi-id=0,lun={number},drive=d{number}"]
        return command

    def _send(self, data: bytes) -> None:
        self._port.settimeout(self._left())
        self._port.sendall(data)

    def _line(self) -> bytes:
        while b"\n" not in self._ready:
            if len(self._ready) > _MAX_LINE:
                raise Exceeded("it answers what can't be understood")
            self._ready += self._more()
        line, _, self._ready = self._ready.partition(b"\n")
        return line

    def _exactly(self, count: int) -> bytes:
        pieces, length = [self._ready], len(self._ready)
        while length < count:
            pieces.append(self._more())
            length += len(pieces[-1])
        data = b"".join(pieces)
        self._ready = data[count:]
        return data[:count]

    def _more(self) -> bytes:
        self._port.settimeout(self._left())
        piece = self._port.recv(_PIECE_BYTES)
        if not piece:
            raise Exceeded("its machine ended")
        return piece

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Exceeded(f"it was ended after {self._limits.wall_s:.0f} s")
        return left

    def _complaint(self) -> str:
        """What QEMU said last."""
        end = os.fstat(self._errors).st_size if self._child is not None else 0
        text = os.pread(self._errors, 300, max(end - 300, 0)).decode(errors="replace") if end else ""
        return f" ({text.strip().splitlines()[-1]})" if text.strip() else ""
