"""Further members of kinds: whole systems beside, snapshots, groups of other makes, files of other formats, and lines
of fstab that look like trouble and are none."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import tarfile
from functools import partial
from pathlib import Path

import zstandard

import bootdisk
from bootdisk import run
from systems import kernels, loaders
from systems.cases import Case, Said, add, flawed, fstab, sound, uid
from systems.distributions import debian, redhat, strangers, suse
from systems.machine import Disk, Fs, Group, Initramfs, Link, Logical, Machine, Part, Physical
from systems.variations import boxes, tables
from systems.variations.boxes import ROOT, UNSEEN, bios

# BLS


def _no_entry_has_the_saved_name(machine: Machine) -> None:
    """GRUB starts the newest, which is sound."""
    machine.files["/boot/grub2/grubenv"] = _rhel8_environment(f"{redhat.MACHINE_ID}-4.18.0-1.el8.x86_64")
    machine.files[f"/boot/initramfs-{redhat.E8_OLD}.img"] = Initramfs(redhat.E8_OLD, ())


def _rhel8_environment(saved: str) -> bytes:
    return loaders.grub_environment(saved_entry=saved, kernelopts=f"root=/dev/mapper/rhel-root ro {redhat.SERIAL}")


def _a_number_is_saved(machine: Machine) -> None:
    """Counted from the newest: the second is the older, which has no NVMe."""
    machine.files["/boot/grub2/grubenv"] = _rhel8_environment("1")
    machine.files[f"/boot/initramfs-{redhat.E8_OLD}.img"] = Initramfs(redhat.E8_OLD, (), "early+gzip")


def _a_title_is_saved(machine: Machine) -> None:
    machine.files["/boot/grub2/grubenv"] = _rhel8_environment(f"Red Hat Enterprise Linux ({redhat.E8_OLD})")
    machine.files[f"/boot/initramfs-{redhat.E8_OLD}.img"] = Initramfs(redhat.E8_OLD, (), "early+gzip")


# Snapshots of Btrfs: the system was rolled back to the second

SECOND = "/@/.snapshots/2/snapshot"


def rolled_back() -> Machine:
    machine = debian.real(suse.sles12, SECOND)
    for fs in machine.every():
        if fs.kind == "btrfs":
            fs.mounts |= {"/": SECOND, "/mnt/first": suse.SNAPSHOT}
    machine.put("/mnt/first/etc/fstab", "/dev/sda2 / btrfs defaults 0 0\n/dev/sdq1 /gone xfs defaults 0 0\n")
    return machine


def _the_second_has_the_trouble(machine: Machine) -> None:
    add(machine, "/dev/sdb1  /data  xfs  defaults  0  2")


# Another root in a group of its own


def with_an_old_group() -> Machine:
    machine = debian.debian11()
    machine.disks.append(Disk(160, "", whole=Physical("old")))
    machine.groups["old"] = Group({"root": Logical(Fs("ext4", uid("old group"), mounts={"/mnt/old": ""}, mib=100))})
    machine.put("/mnt/old/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n")
    machine.put("/mnt/old/etc/os-release", 'ID=centos\nVERSION_ID="6"\n')
    return machine


def with_bitlocker_data() -> Machine:
    """A Linux system; the second disk is a Windows server's data, encrypted."""
    machine = strangers.windows_bios()
    strangers._a_bitlocker_volume_beside(machine)
    locked = machine.disks[0].parts[1]
    return bios(Disk(64, parts=[locked]))


def with_dynamic_data() -> Machine:
    def header(path: Path) -> None:
        bootdisk.write_at(path, 6 * 512, b"PRIVHEAD" + struct.pack(">IHH", 0, 2, 12))

    return bios(Disk(64, parts=[Part(None, 0, "42")], after=[header]))


# Groups of other makes


def of_two_disks(*, bare: bool = False) -> Machine:
    """The data's group has two physical volumes."""
    machine = bios(Disk(100, "", whole=Physical("two")), Disk(100, parts=[Part(Physical("two"), 0, "8e")]))
    volumes = {"a": Logical(Fs("ext4", uid("two a"), mib=64)), "b": Logical(Fs("ext4", uid("two b"), mib=64), on=1)}
    machine.groups["two"] = Group(volumes, bare=bare)
    add(machine, "/dev/two/a /a ext4 defaults 0 2")
    add(machine, f"UUID={uid('two b')} /b ext4 defaults 0 2")
    return machine


def usr_in_a_group() -> Machine:
    machine = bios(Disk(140, "", whole=Physical("sys")))
    machine.groups["sys"] = Group({"usr": Logical(Fs("ext4", uid("sys usr"), mounts={"/usr": ""}, mib=100))})
    machine.drop("/lib/modules/")
    kernels.drivers(machine, boxes.VERSION, home="/usr/lib/modules")
    machine.files["/lib"] = Link("usr/lib")
    add(machine, "/dev/mapper/sys-usr /usr ext4 defaults 0 2")
    return machine


def _its_kernel_lacks_ena(machine: Machine) -> None:
    machine.drop("/usr/lib/modules/")
    kernels.drivers(machine, boxes.VERSION, home="/usr/lib/modules", ena="none")


# Lines of fstab that are no trouble, and their opposites

QUIET = (
    "server:/vol /gluster glusterfs defaults 0 0",
    "user@host:/srv /ssh fuse.sshfs defaults 0 0",
    "sshfs#user@host:/srv /ssh2 fuse defaults 0 0",
    "10.0.0.1:6789:/ /ceph ceph name=x 0 0",
    "/swapfile none swap sw 0 0",
    "overlay /over overlay lowerdir=/a,upperdir=/b,workdir=/c 0 0",
    "tmpfs /run/lock tmpfs nosuid 0 0",
    "/srv/a.img /srv/a ext4 loop,nofail 0 0",
    "/srv /exports none rbind 0 0",
    "UUID=11111111-2222-3333-4444-555555555555 /x ext4 noauto,user 0 0",
    "UUID=11111111-2222-3333-4444-555555555555 /y ext4 x-systemd.automount,x-systemd.device-timeout=5 0 0",
    f"UUID={ROOT} /bind ext4 noauto 0 0",
    "hugetlbfs /dev/hugepages hugetlbfs mode=1770 0 0",
    "[2001:db8::1]:/export /six nfs4 defaults 0 0",
    "none /cgroup cgroup defaults 0 0",
)
LOUD = (
    ("UUID=11111111-2222-3333-4444-555555555555 /a ext4 defaults,x-systemd.device-timeout=5 0 2", "fstab-unknown"),
    ("UUID=11111111-2222-3333-4444-555555555555 /b ext4 rw,user 0 2", "fstab-unknown"),
    ("/dev/disk/by-label/data /c ext4 defaults 0 2", "fstab-unknown"),
    ('UUID="11111111-2222-3333-4444-555555555555" /d ext4 defaults 0 2', "fstab-unknown"),
    ("/dev/disk/by-id/scsi-36000c29f0a1b2c3d4e5f60718293a4b5 /e ext4 defaults 0 2", "fstab-by-name"),
    ("/dev/sdb /f ext4 defaults 0 2", "fstab-by-name"),
    ("/dev/xvdb1 /g ext4 defaults 0 2", "fstab-by-name"),
    ("/dev/disk/by-path/virtio-pci-0000:00:05.0-part1 /h ext4 defaults 0 2", "fstab-by-name"),
)


def quiet() -> Machine:
    machine = bios()
    machine.put("/swapfile", "")
    for line in QUIET:
        add(machine, line)
    return machine


def _there_are_lines_that_stop_it(machine: Machine) -> None:
    fstab(machine, f"UUID={ROOT} / ext4 defaults 0 1", *(line for line, _ in LOUD))


# Sizes


def gpt_3_tib() -> Machine:
    """By GPT the BIOS starts larger disks too."""
    machine = debian.debian12_btrfs()
    machine.disks[0].after.append(tables._larger(3 << 20))
    machine.disks[0].after.append(lambda path: _quietly("sgdisk", "--move-second-header", path))
    return machine


def _quietly(*words: object) -> None:
    run(*words)


def mbr_2_tib() -> Machine:
    machine = bios()
    machine.disks[0].after.append(tables._larger(2 << 20))
    return machine


def large_data() -> Machine:
    """A data disk of 3 TiB that has an MBR: it need not start."""
    data = Disk(100, parts=[Part(Fs("ext4", uid("large data")), 0)], after=[tables._larger(3 << 20)])
    machine = bios(data)
    add(machine, f"UUID={uid('large data')} /data ext4 defaults 0 2")
    return machine


# Other formats


def _of(make: str, path: Path) -> None:
    raw = path.with_suffix(".inner")
    path.rename(raw)
    match make:
        case "gzip":
            data = gzip.compress(raw.read_bytes()[: 64 << 20], 1)
        case "xz":
            data = lzma.compress(raw.read_bytes()[: 16 << 20], preset=0)
        case "zstd":
            data = zstandard.ZstdCompressor(1).compress(raw.read_bytes()[: 64 << 20])
        case "bzip2":
            data = bz2.compress(raw.read_bytes()[: 4 << 20], 1)
        case "ova":
            (path.parent / "vm.ovf").write_text("<Envelope></Envelope>")
            inner = path.parent / "vm-disk1.vmdk"
            run("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, inner)
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for name in ("vm.ovf", "vm-disk1.vmdk"):
                    tar.add(path.parent / name, name)
                    (path.parent / name).unlink()
            data = path.read_bytes()
        case _:
            head = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
            data = f'{head}createType="vmfs"\n\nRW 524288 VMFS "vm-flat.vmdk"\n'.encode()
    raw.unlink()
    path.write_bytes(data + bytes(-len(data) % 512))


def packed(make: str) -> Machine:
    machine = bios()
    machine.disks[0].after.append(partial(_of, make))
    return machine


def _it_is_no_disk(machine: Machine) -> None:
    """As `packed` has it."""


def _kinds(lines: tuple[tuple[str, str], ...]) -> tuple[Said, ...]:
    return tuple(Said(kind, f"line {number}") for number, (_, kind) in enumerate(lines, 3))


CASES: list[Case] = [
    Case("RHEL 8, no entry has the saved name, and the newest is sound", redhat.rhel8, _no_entry_has_the_saved_name),
    flawed("RHEL 8", redhat.rhel8, _a_number_is_saved, Said("nvme-missing", redhat.E8_OLD)),
    flawed("RHEL 8", redhat.rhel8, _a_title_is_saved, Said("nvme-missing", redhat.E8_OLD)),
    sound("SLES 12 rolled back, with subvolumes", rolled_back),
    flawed(
        "SLES 12 rolled back, with subvolumes",
        rolled_back,
        _the_second_has_the_trouble,
        Said("fstab-by-name", "/2/snapshot/etc/fstab line 11", "/dev/sdb1"),
    ),
    sound("Debian on LVM and an old group with a root", with_an_old_group, Said("other-system", "old-root")),
    sound("A system and encrypted data of Windows", with_bitlocker_data),
    sound("A system and a dynamic disk of Windows", with_dynamic_data),
    sound("A group of two disks", of_two_disks),
    sound("A group of two disks, the metadata on one", partial(of_two_disks, bare=True)),
    sound("/usr in a group", usr_in_a_group),
    flawed("/usr in a group", usr_in_a_group, _its_kernel_lacks_ena, Said("ena-missing")),
    sound("Mounts of many sorts", quiet),
    flawed("Mounts of many sorts", quiet, _there_are_lines_that_stop_it, *_kinds(LOUD)),
    sound("A BIOS system with a GPT of 3 TiB", gpt_3_tib),
    sound("A BIOS system with an MBR of 2 TiB", mbr_2_tib),
    sound("A data disk of 3 TiB with an MBR", large_data),
    *(
        flawed(f"A file: {make}", partial(packed, make), _it_is_no_disk, Said("disk-format"), also=UNSEEN)
        for make in ("gzip", "xz", "zstd", "bzip2", "ova", "vmfs descriptor")
    ),
]
