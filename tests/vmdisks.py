"""Disks made by Linux itself: a shell script that runs as root in a throw-away machine, over disks that it may change.

For what no tool makes in a file: subvolumes of Btrfs, thin volumes of LVM, arrays.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import bootdisk
from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.readers.appliance import agent, parts
from warmspare.recover.readiness.readers.appliance.parts import Kernel, Parts

_DONE = "the-script-is-done"


def kernels() -> list[Kernel]:
    """The one that bootdisk has: a container has none of its own."""
    return [Kernel(bootdisk.kernel().image, bootdisk.kernel().modules)]


def have() -> Parts:
    found = parts.found(kernels())
    assert not isinstance(found, Unknown), found
    return found


def made_by(script: str, disks: Sequence[Path], tools: Sequence[str] = (), groups: Sequence[str] = ()) -> str:
    """What it said. disks: /dev/disk0 and so on. tools: programs that it wants beside busybox and lvm. groups: of
    modules (`parts.GROUPS`). BuildError if it fails."""
    programs = {**have().tools}
    for name in tools:
        programs[name.rpartition("/")[2]] = Path(bootdisk.run("sh", "-c", f"command -v {name}").decode().strip())
    loads = "".join(f"load {group}\n" for group in groups)
    init = f"{agent.SETUP}\n{loads}\nset -ex\nexec >/dev/ttyS0 2>&1\n{script}\nsync\necho {_DONE}\n"
    fd = os.memfd_create("initramfs")
    try:
        assert parts.write_initramfs(replace(have(), tools=programs), fd, f"{init}") == ""
        command = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-no-reboot",
            "-machine", "pc", "-accel", "tcg,tb-size=64", "-cpu", "max", "-m", "512", "-serial", "stdio",
            "-kernel", str(have().kernel.image), "-initrd", f"/proc/self/fd/{fd}",
            "-append", f"console=ttyS0 quiet panic=-1 no_timer_check disks={len(disks)}", "-device", "virtio-scsi-pci",
            "-device", "virtio-serial-pci", "-chardev", "null,id=port", "-device", "virtserialport,chardev=port,nr=1",
        ]  # fmt: skip
        for number, disk in enumerate(disks):
            command += ["-drive", f"if=none,id=d{number},file={disk},format=raw,cache=unsafe"]
            command += ["-device", f"scsi-hd,scsi-id=0,lun={number},drive=d{number}"]
        done = subprocess.run(command, pass_fds=[fd], stdin=subprocess.DEVNULL, capture_output=True, timeout=540)
    finally:
        os.close(fd)
    said = done.stdout.decode(errors="replace")
    if _DONE not in said.replace("\r", "").splitlines():
        end = said.partition("Kernel panic")[0][-1500:] + done.stderr.decode(errors="replace")[-300:]
        raise bootdisk.BuildError(f"the script in the machine failed: {end}")
    return said
