"""Disks made by Linux itself: a shell script that runs as root in a throw-away machine, over disks that it may change.

For what no tool makes in a file: subvolumes of Btrfs, thin volumes of LVM, arrays.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import bootdisk
from rigs.paths import BUILD
from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.readers.appliance import agent, parts
from warmspare.recover.readiness.readers.appliance.parts import ApplianceParts, Kernel

_DONE = "the-script-is-done"


def kernels() -> list[Kernel]:
    """The one that bootdisk has: a container has none of its own."""
    return [Kernel(bootdisk.kernel().image, bootdisk.kernel().modules)]


def have() -> ApplianceParts:
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
    fd, serial = os.memfd_create("initramfs"), os.memfd_create("serial")
    try:
        assert parts.write_initramfs(replace(have(), tools=programs), fd, f"{init}") == ""
        command = [
            "qemu-system-x86_64",
            "-nodefaults",
            "-no-user-config",
            "-nic",
            "none",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            "pc",
            "-accel",
            "tcg,tb-size=64",
            "-cpu",
            "max",
            "-m",
            "512",
            "-serial",
            f"file:/proc/self/fd/{serial}",
            "-kernel",
            str(have().kernel.image),
            "-initrd",
            f"/proc/self/fd/{fd}",
            "-append",
            f"console=ttyS0 quiet panic=-1 no_timer_check disks={len(disks)}",
            "-device",
            "virtio-scsi-pci",
            "-device",
            "virtio-serial-pci",
            "-chardev",
            "null,id=port",
            "-device",
            "virtserialport,chardev=port,nr=1",
        ]
        for number, disk in enumerate(disks):
            command += ["-drive", f"if=none,id=d{number},file={disk},format=raw,cache=unsafe"]
            command += ["-device", f"scsi-hd,scsi-id=0,lun={number},drive=d{number}"]
        done = subprocess.run(
            command,
            pass_fds=[fd, serial],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=540,
            start_new_session=True,
        )
        said = os.pread(serial, 1 << 20, 0).decode(errors="replace")
    finally:
        os.close(fd)
        os.close(serial)
    if _DONE not in said.replace("\r", "").splitlines():
        end = said.partition("Kernel panic")[0][-1500:] + done.stderr.decode(errors="replace")[-300:]
        raise bootdisk.BuildError(f"the script in the machine failed: {end}")
    return said


_BUILD = BUILD / "vmdisks-1"  # another number when what makes them changes
BTRFS_UUID, THIN_UUID = "11111111-94a1-4d0e-a1f5-5b7c3f1f2a31", "12345678-1234-4321-8888-123456789abc"
_SCRIPT = f"""
mkfs.btrfs -q -U {BTRFS_UUID} /dev/disk0
mkdir -p /m/b; mount -t btrfs /dev/disk0 /m/b; cd /m/b
btrfs subvolume create @; mkdir @/boot; btrfs subvolume create @/.snapshots; mkdir -p @/.snapshots/1 @/.snapshots/12
btrfs subvolume create @/.snapshots/1/snapshot
mkdir @/.snapshots/1/snapshot/etc; echo one > @/.snapshots/1/snapshot/etc/fstab
btrfs subvolume snapshot @/.snapshots/1/snapshot @/.snapshots/12/snapshot
echo twelve > @/.snapshots/12/snapshot/etc/fstab
btrfs subvolume create @rootfs; mkdir @rootfs/etc; echo debian > @rootfs/etc/fstab
mkdir -p deep/folder; btrfs subvolume create deep/folder/below
btrfs subvolume set-default $(btrfs inspect-internal rootid @/.snapshots/1/snapshot) .
cd /; umount /m/b
lvm pvcreate --config "$config" -y /dev/disk1
lvm vgcreate --config "$config" vg /dev/disk1
lvm lvcreate --config "$config" -y -Wn -Zn -T -L 60M -V 64M -n thin-root vg/pool
/sbin/mke2fs -q -t ext4 -U {THIN_UUID} /dev/vg/thin-root
mkdir -p /m/t; mount -t ext4 /dev/vg/thin-root /m/t; mkdir /m/t/etc; echo thin > /m/t/etc/fstab; umount /m/t
lvm vgchange --config "$config" -an vg
"""


def linux_made() -> tuple[Path, Path]:
    """A Btrfs with the subvolumes of SUSE and Debian, of which the default is the first snapshot; and a physical volume
    with a root on a thin volume, `vg/thin-root`. Made once."""
    found = _BUILD / "btrfs.img", _BUILD / "thin.img"
    _BUILD.parent.mkdir(exist_ok=True)
    with (_BUILD.parent / "vmdisks.lock").open("w") as lock:  # others may want them at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _BUILD.is_dir():
            with tempfile.TemporaryDirectory(dir=_BUILD.parent) as folder:
                disks = [Path(folder) / "made" / path.name for path in found]
                disks[0].parent.mkdir()
                for disk in disks:
                    with disk.open("wb") as file:
                        file.truncate(128 << 20)
                made_by(_SCRIPT, disks, ["mkfs.btrfs", "btrfs", "mke2fs"], ["btrfs", "lvm", "ext4"])
                disks[0].parent.rename(_BUILD)
    return found
