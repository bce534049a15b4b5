"""Red Hat Enterprise Linux 7 to 10, its rebuilds, Oracle's, Fedora, Amazon's, and CoreOS, as their installers lay
them out."""

from __future__ import annotations

import struct
from pathlib import Path

import lvmdisk
from systems import kernels, loaders
from systems.cases import Case, Said, esp, flawed, fstab, release, short_uid, sound, uid
from systems.loaders import Start
from systems.machine import (
    LVM,
    Core,
    Disk,
    Fs,
    Group,
    Initramfs,
    Kernel,
    Link,
    Logical,
    Machine,
    Part,
    Physical,
)

SERIAL = "console=tty0 console=ttyS0,115200"
MACHINE_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
XFS_MIB = 320
IMAGES = {"kernel": "/boot/vmlinuz-{}", "initrd": "/boot/initramfs-{}.img"}


def _group(name: str, *, root: Fs | None = None, more: dict[str, Logical] | None = None) -> dict[str, Group]:
    """As anaconda makes it: root and swap."""
    inside = root or Fs("xfs", uid(name + " root"), mounts={"/": ""}, mib=XFS_MIB)
    volumes = {"root": Logical(inside), "swap": Logical(Fs("swap", uid(name + " swap"), mib=32))}
    return {name: Group(volumes | (more or {}))}


def bios(
    name: str, group: str, kind: str = "xfs", *, size: int = 1300, more: dict[str, Logical] | None = None
) -> Machine:
    """/boot, and the rest in LVM, started by the BIOS."""
    boot = Fs(kind, uid(name + " boot"), mounts={"/boot": ""})
    return Machine(
        name,
        "bios",
        [
            Disk(
                size,
                core=Core("(,msdos1)/grub2"),
                parts=[
                    Part(boot, XFS_MIB if kind == "xfs" else 160, active=True),
                    Part(Physical(group), 0, LVM),
                ],
            )
        ],
        groups=_group(group, more=more),
    )


def _uefi(name: str, group: str, kind: str = "xfs", *, more: dict[str, Logical] | None = None) -> Machine:
    boot = Fs(kind, uid(name + " boot"), mounts={"/boot": ""})
    return Machine(
        name,
        "uefi",
        [
            Disk(
                1400,
                "gpt",
                [
                    Part(esp(name), 48, "U", name="EFI System Partition"),
                    Part(boot, XFS_MIB if kind == "xfs" else 160),
                    Part(Physical(group), 0, LVM),
                ],
            )
        ],
        groups=_group(group, more=more),
    )


def lines_of(machine: Machine, group: str, *lines: str, kind: str = "xfs") -> None:
    name = machine.name
    fstab(
        machine,
        f"/dev/mapper/{group}-root /                       xfs     defaults        0 0",
        f"UUID={uid(name + ' boot')} /boot                   {kind}     defaults        0 0",
        f"/dev/mapper/{group}-swap none                    swap    defaults        0 0",
        *lines,
    )


def shim(machine: Machine, name: str, boot: str, prefix: str = "/grub2") -> None:
    """As shim-x64 and grub2-efi-x64 lie on the ESP."""
    home, removable = f"/boot/efi/EFI/{name}", "/boot/efi/EFI/BOOT"
    machine.files |= {
        f"{removable}/BOOTX64.EFI": loaders.shim(),
        f"{removable}/fbx64.efi": loaders.fallback(),
        f"{home}/shimx64.efi": loaders.shim(),
        f"{home}/grubx64.efi": loaders.grub_efi(f"/EFI/{name}"),
        f"{home}/mmx64.efi": loaders.mok_manager(),
        f"{home}/BOOTX64.CSV": loaders.boot_csv("shimx64.efi", name),
    }
    machine.put(f"{home}/grub.cfg", loaders.stub(boot, prefix, root_dev_only=True))


def bls_config(boot: str, kernelopts: str, *, hint: str = "hd0,msdos1", default: str = "${saved_entry}") -> str:
    """RHEL's grub.cfg: the entries are elsewhere. kernelopts: what holds where grubenv has none."""
    root = loaders.grub_root(boot, hint)
    return loaders.grub_header(default) + (
        f"{root}{root.replace('--set=root', '--set=boot')}"
        f'if [ -z "${{kernelopts}}" ]; then\n  set kernelopts="{kernelopts} "\nfi\n\ninsmod blscfg\nblscfg\n'
    )


def entries(
    machine: Machine, versions: list[str], title: str, options: str, *, folder: str = "", rescue: bool = True
) -> None:
    """BLS entries as kernel-core's scripts write them."""
    for version in versions:
        start = Start(
            f"{title} ({version})",
            f"{folder}/vmlinuz-{version}",
            f"{folder}/initramfs-{version}.img $tuned_initrd",
            f"{options} $tuned_params",
        )
        machine.files[f"/boot/loader/entries/{MACHINE_ID}-{version}.conf"] = loaders.bls(
            start,
            version,
            id=f"{title}-{version}",
            grub_users="$grub_users",
            grub_arg="--unrestricted",
            grub_class="kernel",
        )
    if rescue:
        version = f"0-rescue-{MACHINE_ID}"
        start = Start(
            f"{title} ({version})", f"{folder}/vmlinuz-{version}", f"{folder}/initramfs-{version}.img", options
        )
        machine.files[f"/boot/loader/entries/{MACHINE_ID}-0-rescue.conf"] = loaders.bls(start, version)
        machine.files[f"/boot/vmlinuz-{version}"] = Kernel(versions[-1])
        machine.files[f"/boot/initramfs-{version}.img"] = Initramfs(versions[-1], ())


# RHEL 7: menu entries by title in grub.cfg, the saved one

E7, E7_OLD = "3.10.0-1160.119.1.el7.x86_64", "3.10.0-1160.el7.x86_64"


def _title7(version: str) -> str:
    return f"Red Hat Enterprise Linux Server ({version}) 7.9 (Maipo)"


def rhel7() -> Machine:
    machine = bios("rhel7", "rhel")
    release(machine, "rhel", "7.9", "fedora")
    root = loaders.grub_root(uid("rhel7 boot"))
    cmdline = f"root=/dev/mapper/rhel-root ro crashkernel=auto rd.lvm.lv=rhel/root rd.lvm.lv=rhel/swap {SERIAL}"
    text = loaders.grub_header("${saved_entry}")
    for version in (E7, E7_OLD):
        kernels.install(machine, version, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+gzip")
        start = Start(_title7(version), f"/vmlinuz-{version}", f"/initramfs-{version}.img", cmdline)
        text += loaders.grub_entry(start, root, command="linux16", initrd="initrd16")
    machine.files["/lib"] = Link("usr/lib")
    machine.put("/boot/grub2/grub.cfg", text)
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=_title7(E7))
    lines_of(machine, "rhel")
    return machine


def _the_saved_entry_is_the_older_one_without_nvme(machine: Machine) -> None:
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=_title7(E7_OLD))
    machine.files[f"/boot/initramfs-{E7_OLD}.img"] = Initramfs(
        E7_OLD, ("kernel/drivers/scsi/vmw_pvscsi.ko.xz",), "early+gzip"
    )


def _the_newer_one_has_no_nvme_and_is_not_the_default(machine: Machine) -> None:
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=_title7(E7_OLD))
    machine.files[f"/boot/initramfs-{E7}.img"] = Initramfs(E7, ())


def _swap_by_the_name_of_its_disk(machine: Machine) -> None:
    machine.change("/etc/fstab", "/dev/mapper/rhel-swap", "/dev/sdb1")


# CentOS 7 by UEFI: its whole grub.cfg is on the ESP


def centos7() -> Machine:
    machine = _uefi("centos7", "centos")
    release(machine, "centos", "7", "rhel fedora")
    version = "3.10.0-1160.el7.x86_64"
    kernels.install(machine, version, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+gzip")
    machine.files["/lib"] = Link("usr/lib")
    shim(machine, "centos", "")
    start = Start(
        f"CentOS Linux ({version}) 7 (Core)",
        f"/vmlinuz-{version}",
        f"/initramfs-{version}.img",
        f"root=/dev/mapper/centos-root ro rd.lvm.lv=centos/root {SERIAL}",
    )
    root = loaders.grub_root(uid("centos7 boot"), "hd0,gpt2")
    entry = loaders.grub_entry(start, root, command="linuxefi", initrd="initrdefi")
    machine.put("/boot/efi/EFI/centos/grub.cfg", loaders.grub_header("${saved_entry}") + entry)
    machine.files["/boot/efi/EFI/centos/grubenv"] = loaders.grub_environment(saved_entry=start.title)
    lines_of(machine, "centos", f"UUID={short_uid('centos7 esp')} /boot/efi vfat umask=0077,shortname=winnt 0 0")
    return machine


def _no_folder_has_a_boot_csv(machine: Machine) -> None:
    machine.drop("/boot/efi/EFI/centos/BOOTX64.CSV")


def _the_csv_names_a_shim_that_is_gone(machine: Machine) -> None:
    machine.drop("/boot/efi/EFI/centos/shimx64.efi")


# RHEL 8: BLS with $kernelopts in grubenv

E8, E8_OLD = "4.18.0-553.el8_10.x86_64", "4.18.0-99.el8.x86_64"


def rhel8() -> Machine:
    machine = bios("rhel8", "rhel")
    release(machine, "rhel", "8.10", "fedora")
    for version in (E8, E8_OLD):
        kernels.install(machine, version, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+gzip")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=/dev/mapper/rhel-root ro crashkernel=auto rd.lvm.lv=rhel/root {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", bls_config(uid("rhel8 boot"), options))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(
        saved_entry=f"{MACHINE_ID}-{E8}", kernelopts=options, boot_success="0"
    )
    entries(machine, [E8, E8_OLD], "Red Hat Enterprise Linux", "$kernelopts")
    machine.put("/etc/machine-id", MACHINE_ID + "\n")
    lines_of(machine, "rhel")
    return machine


def _grubenv_has_the_options_of_another_machine(machine: Machine) -> None:
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(
        saved_entry=f"{MACHINE_ID}-{E8}", kernelopts=f"root=/dev/mapper/template-root ro {SERIAL}"
    )


def _no_entry_is_saved_and_the_newest_has_no_nvme(machine: Machine) -> None:
    options = f"root=/dev/mapper/rhel-root ro {SERIAL}"
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(kernelopts=options)
    machine.files[f"/boot/initramfs-{E8}.img"] = Initramfs(E8, (), "early+gzip")


def _the_saved_entry_is_old_and_sound_and_the_newest_is_not(machine: Machine) -> None:
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(
        saved_entry=f"{MACHINE_ID}-{E8_OLD}", kernelopts=f"root=/dev/mapper/rhel-root ro {SERIAL}"
    )
    machine.files[f"/boot/initramfs-{E8}.img"] = Initramfs(E8, ())


def _an_empty_boot_folder_was_restored(machine: Machine) -> None:
    machine.drop("/boot/loader/entries/")


# RHEL 9: UEFI, options in the entries, LVM's devices file

E9 = "5.14.0-427.13.1.el9_4.x86_64"


def rhel9() -> Machine:
    """As one that was made ready: LVM does not use the devices file."""
    data = Logical(Fs("xfs", uid("rhel9 data"), mounts={"/data": ""}, mib=XFS_MIB))
    machine = _uefi("rhel9", "rhel", more={"data": data})
    release(machine, "rhel", "9.4", "fedora")
    kernels.install(machine, E9, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+zstd")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=/dev/mapper/rhel-root ro crashkernel=1G-4G:192M rd.lvm.lv=rhel/root rd.lvm.lv=rhel/swap {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", bls_config(uid("rhel9 boot"), options, hint="hd0,gpt2"))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=f"{MACHINE_ID}-{E9}", boot_success="0")
    entries(machine, [E9], "Red Hat Enterprise Linux", options)
    shim(machine, "redhat", uid("rhel9 boot"))
    machine.put("/data/.keep", "")
    machine.put("/etc/lvm/lvm.conf", "devices {\n\tuse_devicesfile = 0\n}\nlog {\n}\n")
    machine.put(
        "/etc/lvm/devices/system.devices", _devices_file("rhel", "sys_wwid", "naa.6000c29a2f3b4c5d6e7f8091a2b3c4d5")
    )
    lines_of(
        machine,
        "rhel",
        f"UUID={short_uid('rhel9 esp')} /boot/efi vfat umask=0077,shortname=winnt 0 2",
        "/dev/mapper/rhel-data /data xfs defaults 0 0",
    )
    return machine


def _devices_file(group: str, kind: str, name: str, part: int = 3) -> str:
    pvid = lvmdisk.pvid(group, 0).replace("-", "")
    return (
        "# LVM uses devices listed in this file.\n# Created by LVM command lvmdevices pid 1190\nVERSION=1.1.1\n"
        f"IDTYPE={kind} IDNAME={name} DEVNAME=/dev/sda{part} PVID={pvid} PART={part}\n"
    )


def _the_devices_file_is_in_use(machine: Machine) -> None:
    machine.put("/etc/lvm/lvm.conf", "devices {\n\t# use_devicesfile = 0\n}\n")


def _the_devices_file_names_a_serial_number(machine: Machine) -> None:
    machine.drop("/etc/lvm/lvm.conf")
    machine.put("/etc/lvm/devices/system.devices", _devices_file("rhel", "sys_serial", "00000000000000000001"))


def _the_filter_admits_the_disks_of_the_vm_alone(machine: Machine) -> None:
    machine.put("/etc/lvm/lvm.conf", 'devices {\n\tuse_devicesfile = 0\n\tfilter = [ "a|^/dev/sd.*|", "r|.*|" ]\n}\n')


def _shim_without_fallback_or_grub(machine: Machine) -> None:
    machine.drop("/boot/efi/EFI/BOOT/fbx64.efi")


# RHEL 10: XFS that an older GRUB does not read


def newer_xfs(image: Path) -> None:
    """Exchange-range and parent pointers, as mkfs.xfs sets them since 6.10 and the one here does not."""
    with image.open("r+b") as file:
        file.seek(0xD8)
        (bits,) = struct.unpack(">I", file.read(4))
        file.seek(0xD8)
        file.write(struct.pack(">I", bits | 1 << 6 | 1 << 7))


def rhel10() -> Machine:
    machine = _uefi("rhel10", "rhel")
    version = "6.12.0-55.9.1.el10_0.x86_64"
    kernels.install(machine, version, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+zstd")
    options = f"root=UUID={uid('rhel root')} ro rd.lvm.lv=rhel/root {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", bls_config(uid("rhel10 boot"), options, hint="hd0,gpt2"))
    entries(machine, [version], "Red Hat Enterprise Linux", options)
    shim(machine, "redhat", uid("rhel10 boot"))
    lines_of(machine, "rhel")
    for each in machine.every():
        if each.kind == "xfs":
            each.after = newer_xfs
    return machine


CASES: list[Case] = [
    sound("RHEL 7", rhel7, quick=True),
    flawed("RHEL 7", rhel7, _the_saved_entry_is_the_older_one_without_nvme, Said("nvme-missing", E7_OLD), quick=True),
    Case(
        "RHEL 7, the newer kernel has no NVMe and is not the default",
        rhel7,
        _the_newer_one_has_no_nvme_and_is_not_the_default,
    ),
    flawed("RHEL 7", rhel7, _swap_by_the_name_of_its_disk, Said("fstab-optional", "line 4", "/dev/sdb1")),
    sound("CentOS 7 by UEFI", centos7),
    flawed("CentOS 7 by UEFI", centos7, _no_folder_has_a_boot_csv, Said("loader-incomplete")),
    flawed("CentOS 7 by UEFI", centos7, _the_csv_names_a_shim_that_is_gone, Said("loader-incomplete")),
    sound("RHEL 8", rhel8, quick=True),
    flawed(
        "RHEL 8",
        rhel8,
        _grubenv_has_the_options_of_another_machine,
        Said("root-unknown|volume-unread", "", "template-root"),
    ),
    flawed("RHEL 8", rhel8, _no_entry_is_saved_and_the_newest_has_no_nvme, Said("nvme-missing", E8)),
    Case(
        "RHEL 8, the saved entry is older and sound, the newest is not",
        rhel8,
        _the_saved_entry_is_old_and_sound_and_the_newest_is_not,
        quick=True,
    ),
    flawed("RHEL 8", rhel8, _an_empty_boot_folder_was_restored, Said("loader-incomplete")),
    sound("RHEL 9", rhel9),
    flawed("RHEL 9", rhel9, _the_devices_file_is_in_use, Said("lvm-devices-file", "system.devices"), quick=True),
    flawed("RHEL 9", rhel9, _the_devices_file_names_a_serial_number, Said("lvm-devices-file", "system.devices")),
    flawed("RHEL 9", rhel9, _the_filter_admits_the_disks_of_the_vm_alone, Said("lvm-devices-file", "lvm.conf")),
    flawed("RHEL 9", rhel9, _shim_without_fallback_or_grub, Said("loader-incomplete")),
    sound("RHEL 10", rhel10, Said("system-unread"), also=("volume-unread", "default-unknown", "drivers-unread")),
    flawed(
        "RHEL 10",
        rhel10,
        _shim_without_fallback_or_grub,
        Said("loader-incomplete"),
        also=("system-unread", "volume-unread", "default-unknown", "drivers-unread"),
    ),
]
