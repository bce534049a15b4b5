"""What stands around a system: further disks and systems, groups and arrays of data, mounts, tables, and files that are
no disks. The system itself is a Debian, by BIOS or UEFI, without a flaw of its own."""

from __future__ import annotations

import struct
import uuid as uuids
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bootdisk
from bootdisk import MIB, run
from systems import debian, kernels, loaders, redhat
from systems.cases import Case, Said, add, esp, flawed, fstab, release, sound, uid
from systems.loaders import Start
from systems.machine import (
    Array,
    Core,
    Disk,
    Fs,
    Group,
    Initramfs,
    Locked,
    Logical,
    Machine,
    Member,
    Part,
    Physical,
    Raw,
)

SERIAL = debian.SERIAL
VERSION = "6.1.0-18-amd64"
ROOT = uid("box root")


def bios(*more: Disk) -> Machine:
    machine = Machine("box", "bios", [Disk(256, core=Core("(,msdos1)/boot/grub"), parts=[
        Part(Fs("ext4", ROOT, mounts={"/": ""}), 0, active=True),
    ]), *more])  # fmt: skip
    _system(machine, "hd0,msdos1")
    return machine


def uefi(*more: Disk) -> Machine:
    machine = Machine("box", "uefi", [Disk(300, "gpt", [
        Part(esp("box"), 48, "U"), Part(Fs("ext4", ROOT, mounts={"/": ""}), 0),
    ]), *more])  # fmt: skip
    _system(machine, "hd0,gpt2")
    early = f"search.fs_uuid {ROOT} root hd0,gpt2 \nset prefix=($root)'/boot/grub'\n"
    machine.files["/boot/efi/EFI/BOOT/BOOTX64.EFI"] = loaders.grub_efi("(,gpt2)/boot/grub", early)
    return machine


def _system(machine: Machine, hint: str) -> None:
    release(machine, "debian", "12")
    kernels.install(machine, VERSION)
    start = Start(
        "Debian GNU/Linux", f"/boot/vmlinuz-{VERSION}", f"/boot/initrd.img-{VERSION}", f"root=UUID={ROOT} ro {SERIAL}"
    )
    machine.put(
        "/boot/grub/grub.cfg", loaders.grub_header("0") + loaders.grub_entry(start, loaders.grub_root(ROOT, hint))
    )
    fstab(machine, f"UUID={ROOT} / ext4 errors=remount-ro 0 1")


# Another system beside


def _old_root(name: str) -> Fs:
    return Fs("ext4", uid(name), mounts={f"/mnt/{name}": ""}, mib=64)


def with_an_old_system(base: Callable[[], Machine] = bios) -> Machine:
    """A second disk with the root of a system that was here before, kept for its data."""
    machine = base()
    machine.disks.append(Disk(128, parts=[Part(_old_root("old"), 0)]))
    machine.put("/mnt/old/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n/dev/sdc1 /gone ext4 defaults 0 2\n")
    machine.put("/mnt/old/etc/os-release", 'ID=centos\nVERSION_ID="6"\n')
    return machine


def _the_systems_own_fstab_names_sda1(machine: Machine) -> None:
    fstab(machine, "/dev/sda1 / ext4 errors=remount-ro 0 1")


def _the_old_one_is_sound_and_the_systems_fstab_is_not(machine: Machine) -> None:
    machine.put("/mnt/old/etc/fstab", f"UUID={uid('old')} / ext4 defaults 0 1\n")
    _the_systems_own_fstab_names_sda1(machine)


def with_a_bootable_old_system() -> Machine:
    """The second disk has a boot loader of its own, whose entry would not start."""
    machine = with_an_old_system()
    machine.disks[1].core = Core("(,msdos1)/boot/grub")
    machine.files["/mnt/old/boot/vmlinuz-2.6.32"] = b""
    machine.put("/mnt/old/boot/grub/grub.cfg", "menuentry 'old' {\n linux /boot/vmlinuz-2.6.32 root=/dev/sda1\n}\n")
    return machine


def with_windows_data() -> Machine:
    """A data disk that came from a Windows server."""
    machine = bios(
        Disk(
            128,
            "gpt",
            [
                Part(None, 16, "E3C9E316-0B5C-4DB8-817D-F92DF00215AE"),
                Part(Fs("ntfs"), 0, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"),
            ],
        )
    )
    return machine


def data_first(base: Callable[[], Machine] = bios) -> Machine:
    """The VM starts from its second disk."""
    machine = base()
    data = Disk(128, "gpt", [Part(Fs("ext4", uid("data"), mounts={"/data": ""}), 0)])
    machine.disks.insert(0, data)
    machine.put("/data/.keep", "")
    add(machine, f"UUID={uid('data')} /data ext4 defaults 0 2")
    return machine


def _the_data_disk_is_the_first(machine: Machine) -> None:
    """As `data_first` has it."""


# Volumes of data


def with_group(*, volumes: dict[str, Logical] | None = None, absent: int = 0, lines: tuple[str, ...] = ()) -> Machine:
    machine = bios(Disk(700, "", whole=Physical("dvg")))
    machine.groups["dvg"] = Group(volumes or {}, absent)
    for line in lines:
        add(machine, line)
    return machine


def _data_volume(kind: str = "ext4", *, mib: int = 64, options: tuple[str, ...] = (), name: str = "data") -> Fs:
    return Fs(kind, uid(f"dvg {name}"), mib=mib, options=options)


def with_data_on_lvm() -> Machine:
    volumes = {
        "data": Logical(_data_volume()),
        "logs": Logical(_data_volume("xfs", mib=320, options=("-i", "nrext64=1"), name="logs")),
        "swp": Logical(_data_volume("swap", name="swp")),
    }
    return with_group(volumes=volumes, lines=(
        "/dev/dvg/data /data ext4 defaults 0 2", f"UUID={uid('dvg logs')} /logs xfs defaults 0 0",
        f"UUID={uid('dvg swp')} none swap sw 0 0",
    ))  # fmt: skip


def _the_groups_disk_is_not_replicated(machine: Machine) -> None:
    machine.disks.pop()
    del machine.groups["dvg"]


def with_half_a_group() -> Machine:
    return with_group(
        volumes={"a": Logical(_data_volume()), "b": Logical(_data_volume(name="b"), on=1)}, absent=1,
        lines=("/dev/mapper/dvg-a /a ext4 defaults 0 2",),
    )  # fmt: skip


def _what_is_elsewhere_is_mounted(machine: Machine) -> None:
    add(machine, "/dev/mapper/dvg-b /b ext4 defaults 0 2")


def with_casefold() -> Machine:
    return with_group(volumes={"data": Logical(_data_volume(options=("-O", "casefold")))},
                      lines=(f"UUID={uid('dvg data')} /data ext4 defaults 0 2",))  # fmt: skip


def with_newer_xfs() -> Machine:
    machine = with_group(
        volumes={"data": Logical(_data_volume("xfs", mib=320))},
        lines=(f"UUID={uid('dvg data')} /data xfs defaults 0 0",),
    )
    machine.groups["dvg"].volumes["data"].content.after = redhat.newer_xfs
    return machine


def _its_line_names_another_one(machine: Machine) -> None:
    machine.change("/etc/fstab", uid("dvg data"), uid("dvg before"))


def with_thin_data() -> Machine:
    """A volume in a pool: it is there, and which file system is in it can't be seen."""
    volumes = redhat.thin_pool(200) | {"data": Logical(Fs("", mib=300), segment=redhat.THIN)}
    return with_group(volumes=volumes, lines=("/dev/mapper/dvg-data /data ext4 defaults 0 2",))


def _a_mount_names_what_may_be_in_the_pool(machine: Machine) -> None:
    add(machine, f"UUID={uid('within the pool')} /more ext4 defaults 0 2")


def root_with(feature: str) -> Machine:
    """A root that GRUB 2.06 can't read; /boot is apart, so that the guest's own GRUB need not."""
    machine = bios()
    machine.disks[0].core = Core("(,msdos1)/grub")
    boot, root = uid("box boot"), Fs("ext4", ROOT, mounts={"/": ""}, options=("-O", feature))
    machine.disks[0].parts = [Part(Fs("ext4", boot, mounts={"/boot": ""}), 100, active=True), Part(root, 0)]
    machine.change("/boot/grub/grub.cfg", "/boot/vmlinuz", "/vmlinuz")
    machine.change("/boot/grub/grub.cfg", "/boot/initrd", "/initrd")
    machine.change("/boot/grub/grub.cfg", f"fs-uuid --set=root --hint-bios=hd0,msdos1 --hint-efi=hd0,msdos1 {ROOT}",
                   f"fs-uuid --set=root --hint-bios=hd0,msdos1 --hint-efi=hd0,msdos1 {boot}")  # fmt: skip
    machine.change("/boot/grub/grub.cfg", f"--fs-uuid --set=root {ROOT}", f"--fs-uuid --set=root {boot}")
    add(machine, f"UUID={boot} /boot ext4 defaults 0 2")
    return machine


# Encrypted data


def with_locked_data(*, crypttab: str, lines: tuple[str, ...]) -> Machine:
    machine = bios(Disk(64, parts=[Part(Locked(uid("locked")), 0)]))
    machine.put("/etc/crypttab", crypttab)
    for line in lines:
        add(machine, line)
    return machine


def with_a_keyfile() -> Machine:
    machine = with_locked_data(
        crypttab=f"data UUID={uid('locked')} /etc/keys/data.key luks\n",
        lines=("/dev/mapper/data /data ext4 defaults 0 2",),
    )
    machine.put("/etc/keys/data.key", "a key")
    return machine


def _crypttab_names_a_volume_that_is_not_there(machine: Machine) -> None:
    machine.change("/etc/crypttab", uid("locked"), uid("locked before"))


# /usr apart


def usr_apart() -> Machine:
    machine = bios()
    machine.disks[0].parts[0].mib = 160
    machine.disks[0].mib = 320
    machine.disks[0].parts.append(Part(Fs("ext4", uid("usr"), mounts={"/usr": ""}), 0))
    machine.drop("/lib/modules/")
    kernels.drivers(machine, VERSION, home="/usr/lib/modules")
    machine.files["/lib"] = kernels.Link("usr/lib")
    add(machine, f"UUID={uid('usr')} /usr ext4 defaults 0 2")
    return machine


def _its_kernel_lacks_ena(machine: Machine) -> None:
    machine.drop("/usr/lib/modules/")
    kernels.drivers(machine, VERSION, home="/usr/lib/modules", ena="none")


def _usr_was_formatted_anew(machine: Machine) -> None:
    machine.change("/etc/fstab", uid("usr"), uid("usr before"))


# Lines of fstab

HARMLESS = (
    "UUID=11111111-2222-3333-4444-555555555555 /lun xfs _netdev 0 0",
    "/dev/disk/by-path/ip-10.0.0.9:3260-iscsi-iqn.x-lun-1 /lun2 xfs defaults,_netdev 0 0",
    "UUID=11111111-2222-3333-4444-555555555555 /lun3 xfs noauto,x-systemd.automount 0 0",
    "UUID=11111111-2222-3333-4444-555555555555 /lun4 xfs x-systemd.automount 0 0",
    "UUID=11111111-2222-3333-4444-555555555555 /lun5 xfs noauto 0 0",
    "/dev/mapper/mpathb1 /lun6 ext4 defaults,_netdev 0 2",
    "nas.home.example:/export /nas nfs defaults 0 0",
    "//nas.home.example/share /cifs cifs credentials=/etc/c 0 0",
    "tmpfs /tmp tmpfs defaults,size=1G 0 0",
    "proc /proc proc defaults 0 0",
    "/data/image.iso /mnt/iso iso9660 loop,nofail 0 0",
    "/home/a /home/b none bind 0 0",
    f"UUID={ROOT.upper()} /again ext4 noauto 0 0",
)
STOPPING = (
    ("UUID=11111111-2222-3333-4444-555555555555 /a xfs defaults 0 0", "fstab-unknown"),
    ("PARTUUID=deadbeef-02 /b ext4 defaults 0 2", "fstab-unknown"),
    ("/dev/disk/by-partuuid/deadbeef-02 /c ext4 defaults 0 2", "fstab-unknown"),
    ("LABEL=my\\040data /d ext4 defaults 0 2", "fstab-unknown"),
    ("/dev/disk/by-id/md-uuid-3ab1:22:33:44 /e ext4 defaults 0 2", "fstab-unknown"),
    ("PARTLABEL=data /f ext4 defaults 0 2", "fstab-unknown"),
    ("/dev/sdb1 /g ext4 defaults 0 2", "fstab-by-name"),
    ("/dev/disk/by-id/wwn-0x6000c29a-part1 /h ext4 defaults 0 2", "fstab-by-name"),
    ("/dev/disk/by-id/ata-VMware_Virtual_SATA_Hard_Drive_01-part1 /i ext4 defaults 0 2", "fstab-by-name"),
    ("/dev/vdb1 /j ext4 defaults 0 2", "fstab-by-name"),
)
OPTIONAL = (
    "UUID=11111111-2222-3333-4444-555555555555 /a xfs nofail 0 0",
    "/dev/sdb1 /b ext4 defaults,nofail 0 2",
    "/dev/sdb2 none swap sw 0 0",
    "UUID=11111111-2222-3333-4444-555555555556 none swap sw 0 0",
)
UNCERTAIN = ("/dev/mapper/mpathb1 /a ext4 defaults 0 2", "/dev/mapper/other /b ext4 defaults 0 2")


def with_lines(lines: tuple[str, ...]) -> Machine:
    machine = bios()
    machine.disks[0].disk_id = "0xcafe0001"
    for line in lines:
        add(machine, line)
    return machine


def with_no_more() -> Machine:
    return with_lines(())


def _the_start_waits_for_them(machine: Machine) -> None:
    for line, _ in STOPPING:
        add(machine, line)


def _the_start_does_without_them(machine: Machine) -> None:
    for line in OPTIONAL:
        add(machine, line)


def with_stable_names() -> Machine:
    """Every stable name of what is there."""
    machine = bios(
        Disk(
            128,
            "gpt",
            [Part(Fs("ext4", uid("stable"), label="my data"), 0, name="part of data", uuid=uid("stable part"))],
        )
    )
    machine.disks[0].disk_id = "0xcafe0001"
    machine.disks.append(Disk(64, parts=[Part(Member("mirror"), 0, "fd")]))
    machine.disks.append(Disk(64, parts=[Part(Member("mirror"), 0, "fd")]))
    machine.arrays["mirror"] = Array(1, Fs("ext4", uid("mirrored")), "1.2", name="box:mirror")
    fstab(
        machine,
        "PARTUUID=cafe0001-01 / ext4 errors=remount-ro 0 1",
        f"UUID={uid('stable')} /a ext4 defaults 0 2",
        "LABEL=my\\040data /b ext4 defaults 0 2",
        f"/dev/disk/by-uuid/{uid('stable')} /c ext4 defaults 0 2",
        "/dev/disk/by-label/my\\x20data /d ext4 defaults 0 2",
        f"PARTUUID={uid('stable part')} /e ext4 defaults 0 2",
        f"/dev/disk/by-partuuid/{uid('stable part')} /f ext4 defaults 0 2",
        'PARTLABEL="part\\040of\\040data" /g ext4 defaults 0 2',
        "/dev/disk/by-partuuid/cafe0001-01 /h ext4 defaults 0 2",
        f"UUID={uid('mirrored')} /i ext4 defaults 0 2",
        "/dev/disk/by-id/md-uuid-3a0c3d5e:1f644f0b:9c573e5f:8b7a9d21 /j ext4 defaults 0 2",
        f'UUID="{uid("stable").upper()}" /k ext4 defaults 0 2',
    )
    return machine


# Tables


def _larger(mib: int) -> Callable[[Path], None]:
    def grow(path: Path) -> None:
        with path.open("r+b") as file:
            file.truncate(mib * MIB)

    return grow


def _it_is_3_tib(machine: Machine) -> None:
    machine.disks[0].after.append(_larger(3 << 20))


def _the_disk_has_grown(machine: Machine) -> None:
    machine.disks[0].after.append(_larger(400))


def _at(offset: int, data: bytes) -> Callable[[Path], None]:
    return lambda path: bootdisk.write_at(path, offset, data)


def _its_backup_is_overwritten(machine: Machine) -> None:
    machine.disks[0].after.append(lambda path: bootdisk.write_at(path, path.stat().st_size - 512, b"X" * 8))


def _its_primary_header_is_damaged(machine: Machine) -> None:
    machine.disks[0].after.append(_at(512 + 40, b"\xff"))


def _its_protective_partition_is_another(machine: Machine) -> None:
    machine.disks[0].after.append(_at(446 + 4, b"\x83"))


def hybrid() -> Machine:
    """A hybrid MBR: a second partition beside the protective one."""
    machine = uefi()
    entry = b"\x80\0\2\0\x83\xff\xff\xff" + struct.pack("<II", 2048, 8192)
    machine.disks[0].after.append(_at(462, entry))
    return machine


def _boot_code_was_wiped(machine: Machine) -> None:
    machine.disks[0].after.append(_at(0, bytes(440)))


def _the_table_was_wiped(machine: Machine) -> None:
    machine.disks[0].after.append(_at(0, bytes(512)))


def _it_is_taken_for_another_firmwares(machine: Machine) -> None:
    machine.firmware = "uefi" if machine.firmware == "bios" else "bios"


def native_4k() -> Machine:
    """A GPT as a physical disk with sectors of 4096 bytes has it."""

    def write(path: Path) -> None:
        size, sector = path.stat().st_size, 4096
        last = size // sector - 1
        entry = uuids.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").bytes_le + uuids.UUID(uid("4k esp")).bytes_le
        entry += struct.pack("<QQQ", 256, 8191, 0) + "ESP".encode("utf-16le").ljust(72, b"\0")
        table = entry.ljust(128 * 128, b"\0")

        def header(mine: int, other: int, at: int) -> bytes:
            made = struct.pack("<8s4sIIIQQQQ16sQIII", b"EFI PART", b"\0\0\1\0", 92, 0, 0, mine, other, 6, last - 5,
                               uuids.UUID(uid("4k")).bytes_le, at, 128, 128, zlib.crc32(table))  # fmt: skip
            return made[:16] + struct.pack("<I", zlib.crc32(made)) + made[20:]

        for at, data in (
            (446, b"\0\0\2\0\xee\xff\xff\xff" + struct.pack("<II", 1, last)), (510, b"\x55\xaa"), (sector, header(1, last, 2)),
            (2 * sector, table), ((last - 4) * sector, table), (last * sector, header(last, 1, last - 4)),
        ):  # fmt: skip
            bootdisk.write_at(path, at, data)

    return Machine("4k", "uefi", [Disk(256, "", after=[write])])


def _its_sectors_have_4096_bytes(machine: Machine) -> None:
    """As `native_4k` has it."""


# Files that are no disks

FORMATS: dict[str, tuple[str, ...]] = {
    "vmdk": (),
    "vmdk, streamOptimized": ("-o", "subformat=streamOptimized"),
    "vpc": (),
    "vpc, fixed": ("-o", "subformat=fixed"),
    "vhdx": (),
    "qcow2": (),
    "qcow": (),
    "vdi": (),
    "qed": (),
}


def container(name: str) -> Machine:
    def convert(path: Path) -> None:
        raw = path.with_suffix(".inner")
        path.rename(raw)
        run("qemu-img", "convert", "-O", name.partition(",")[0], *FORMATS[name], raw, path)
        raw.unlink()
        if path.stat().st_size % 512:
            with path.open("r+b") as file:
                file.truncate(-(-path.stat().st_size // 512) * 512)

    machine = bios()
    machine.disks[0].after.append(convert)
    return machine


def _it_is_a_file_of_a_hypervisor(machine: Machine) -> None:
    """As `container` has it."""


def with_an_image_inside() -> Machine:
    """A sound disk that holds such files, one of them a partition's first bytes."""
    machine = bios(Disk(64, parts=[Part(Raw(b"QFI\xfb\0\0\0\3".ljust(4096, b"\0")), 0)]))
    machine.put("/srv/image.vmdk", "# Disk DescriptorFile\nversion=1\n")
    return machine


# Forms of an initramfs

PACKINGS = (
    "plain",
    "gzip",
    "xz",
    "lzma",
    "bzip2",
    "zstd",
    "lz4",
    "early+gzip",
    "early+zeros+xz",
    "early+early+zstd",
    "gzip+gzip",
    "zstd+zeros+gzip",
    "xz+zeros+zstd",
    "zstd+zstd",
    "plain+zeros+lz4",
    "early+zeros+plain",
)


def packed(packing: str) -> Machine:
    machine = bios()
    names = (kernels.NVME, "kernel/fs/ext4/ext4.ko")
    machine.files[f"/boot/initrd.img-{VERSION}"] = Initramfs(VERSION, names, packing)
    return machine


def _the_initramfs_lacks_nvme(machine: Machine) -> None:
    path = f"/boot/initrd.img-{VERSION}"
    old = machine.files[path]
    assert isinstance(old, Initramfs)
    machine.files[path] = Initramfs(VERSION, ("kernel/fs/ext4/ext4.ko",), old.packing)


def _the_initramfs_is_nonsense(machine: Machine) -> None:
    machine.files[f"/boot/initrd.img-{VERSION}"] = b"nonsense" * 500


def _its_lists_of_modules_are_gone(machine: Machine) -> None:
    machine.drop(f"/lib/modules/{VERSION}/")
    path = f"/boot/initrd.img-{VERSION}"
    machine.files[path] = Initramfs(VERSION, ("kernel/fs/ext4/ext4.ko",))


def _no_entry_uses_the_serial_port(machine: Machine) -> None:
    machine.change("/boot/grub/grub.cfg", SERIAL, "quiet")


def _kinds(lines: tuple[tuple[str, str], ...]) -> tuple[Said, ...]:
    return tuple(Said(kind, f"line {number}") for number, (_, kind) in enumerate(lines, 3))


_UNSEEN = ("system-unread", "root-unseen", "drivers-unread", "default-unknown", "loader-unknown")

CASES: list[Case] = [
    sound("A system and an old one's disk", with_an_old_system, Said("other-system", "sdb.raw"), quick=True),
    flawed("A system and an old one's disk", with_an_old_system, _the_systems_own_fstab_names_sda1,
           Said("fstab-by-name", "sda.raw", "/dev/sda1"), Said("other-system", "sdb.raw")),
    flawed("A system and an old one's disk", with_an_old_system, _the_old_one_is_sound_and_the_systems_fstab_is_not,
           Said("fstab-by-name", "sda.raw", "/dev/sda1"), Said("other-system", "sdb.raw")),
    sound("A system by UEFI and an old one's disk", partial(with_an_old_system, uefi), Said("other-system", "sdb.raw")),
    sound("Debian on LVM and an old system's disk", partial(with_an_old_system, debian.debian11), Said("other-system", "sdb.raw")),
    sound("A system and an old one that could start", with_a_bootable_old_system, Said("other-system", "sdb.raw"), drill=True),
    sound("A system and a data disk of Windows", with_windows_data, quick=True),
    flawed("A system and a data disk of Windows", with_windows_data, _the_systems_own_fstab_names_sda1, Said("fstab-by-name", "sda.raw")),
    flawed("A system on its second disk", data_first, _the_data_disk_is_the_first, Said("boot-disk-other", "", "sdb.raw"), drill=False,
           also=_UNSEEN, quick=True),
    flawed("A system by UEFI on its second disk", partial(data_first, uefi), _the_data_disk_is_the_first,
           Said("boot-disk-other", "", "sdb.raw"), also=_UNSEEN),
    sound("Data on LVM", with_data_on_lvm),
    flawed("Data on LVM", with_data_on_lvm, _the_groups_disk_is_not_replicated, Said("fstab-unknown|volume-unread", "line 3"),
           Said("fstab-unknown", "line 4"), Said("fstab-optional", "line 5")),
    sound("An empty group beside", with_group),
    sound("Nothing but a thin pool beside", partial(with_group, volumes=redhat.thin_pool(200))),
    sound("A group beside, a part of which is elsewhere and not needed", with_half_a_group),
    flawed("A group beside, a part of which is elsewhere", with_half_a_group, _what_is_elsewhere_is_mounted,
           Said("lvm-incomplete"), also=("fstab-unknown",)),
    sound("Data on ext4 with casefold", with_casefold),
    flawed("Data on ext4 with casefold", with_casefold, _its_line_names_another_one, Said("fstab-unknown", "line 3")),
    sound("Data on XFS of newer tools", with_newer_xfs, quick=True),
    flawed("Data on XFS of newer tools", with_newer_xfs, _its_line_names_another_one, Said("fstab-unknown", "line 3")),
    sound("Data in a thin volume", with_thin_data),
    flawed("Data in a thin volume", with_thin_data, _a_mount_names_what_may_be_in_the_pool, Said("volume-unread", "line 4")),
    *(sound(f"A root on ext4 with {features}", partial(root_with, features), Said("system-unread", "", features),
            also=_UNSEEN) for features in ("casefold", "inline_data", "bigalloc")),
    sound("Encrypted data whose key is on the root", with_a_keyfile, Said("luks", "sdb.raw")),
    flawed("Encrypted data whose key is on the root", with_a_keyfile, _crypttab_names_a_volume_that_is_not_there,
           Said("luks", "sdb.raw"), Said("fstab-unknown", "", "data")),
    sound("/usr apart", usr_apart),
    flawed("/usr apart", usr_apart, _its_kernel_lacks_ena, Said("ena-missing"), quick=True),
    flawed("/usr apart", usr_apart, _usr_was_formatted_anew, Said("fstab-unknown", "line 3"), also=("drivers-unread",)),
    sound("Mounts that the start does without", partial(with_lines, HARMLESS), quick=True),
    flawed("Mounts", with_no_more, _the_start_waits_for_them, *_kinds(STOPPING)),
    flawed("Mounts", with_no_more, _the_start_does_without_them, *(Said("fstab-optional", f"line {n}") for n in range(3, 7))),
    sound("Mounts of which nothing is known", partial(with_lines, UNCERTAIN), Said("volume-unread", "line 3"), Said("volume-unread", "line 4")),
    sound("Every stable name", with_stable_names),
    flawed("A BIOS system with an MBR", bios, _it_is_3_tib, Said("mbr-too-large")),
    flawed("A BIOS system with an MBR", bios, _boot_code_was_wiped, Said("no-boot-code"), drill=False),
    flawed("A BIOS system with an MBR", bios, _the_table_was_wiped, Said("no-partition-table"), also=_UNSEEN, drill=False),
    flawed("A BIOS system with an MBR", bios, _it_is_taken_for_another_firmwares, Said("firmware-other"), also=_UNSEEN),
    sound("A UEFI system", uefi, drill=True),
    flawed("A UEFI system", uefi, _the_disk_has_grown, Said("gpt-backup"), drill=True),
    flawed("A UEFI system", uefi, _its_backup_is_overwritten, Said("gpt-backup"), drill=True),
    flawed("A UEFI system", uefi, _its_primary_header_is_damaged, Said("gpt-damaged"), also=_UNSEEN),
    flawed("A UEFI system", uefi, _its_protective_partition_is_another, Said("protective-mbr"), also=(*_UNSEEN, "esp-missing"), drill=False),
    flawed("A UEFI system", uefi, _it_is_taken_for_another_firmwares, Said("firmware-other"), also=_UNSEEN),
    sound("A UEFI system with a hybrid MBR", hybrid, drill=True),
    flawed("A disk of a physical machine", native_4k, _its_sectors_have_4096_bytes, Said("sectors-4k"), also=_UNSEEN),
    *(flawed(f"A file in the format {name}", partial(container, name), _it_is_a_file_of_a_hypervisor, Said("disk-format"),
             also=_UNSEEN) for name in FORMATS),
    sound("A disk that holds images", with_an_image_inside),
    *(sound(f"Initramfs: {packing}", partial(packed, packing), quick=packing == "zstd+zeros+gzip") for packing in PACKINGS),
    *(flawed(f"Initramfs: {packing}", partial(packed, packing), _the_initramfs_lacks_nvme, Said("nvme-missing"))
      for packing in ("gzip", "early+zeros+xz", "zstd+zeros+gzip", "lz4")),
    flawed("Initramfs", bios, _the_initramfs_is_nonsense, Said("initramfs-unread")),
    flawed("Initramfs", bios, _its_lists_of_modules_are_gone, Said("drivers-unread")),
    flawed("Initramfs", bios, _no_entry_uses_the_serial_port, Said("console-missing", "grub.cfg")),
]  # fmt: skip
