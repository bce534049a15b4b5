"""Red Hat Enterprise Linux 7 to 10, its rebuilds, Oracle's, Fedora, Amazon's, and CoreOS, as their installers lay
them out."""

from __future__ import annotations

import struct
from pathlib import Path

import lvmdisk
from systems import kernels, loaders
from systems.cases import Case, Said, add, esp, flawed, fstab, release, short_uid, sound, uid
from systems.loaders import Start
from systems.machine import (
    BIOS_BOOT_TYPE,
    LVM,
    Array,
    Core,
    Disk,
    Fs,
    Group,
    Initramfs,
    Kernel,
    Link,
    Logical,
    Machine,
    Member,
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


def _bios(
    name: str, group: str, kind: str = "xfs", *, size: int = 1300, more: dict[str, Logical] | None = None
) -> Machine:
    """/boot, and the rest in LVM, started by the BIOS."""
    boot = Fs(kind, uid(name + " boot"), mounts={"/boot": ""})
    return Machine(name, "bios", [Disk(size, core=Core("(,msdos1)/grub2"), parts=[
        Part(boot, XFS_MIB if kind == "xfs" else 160, active=True), Part(Physical(group), 0, LVM),
    ])], groups=_group(group, more=more))  # fmt: skip


def _uefi(name: str, group: str, kind: str = "xfs", *, more: dict[str, Logical] | None = None) -> Machine:
    boot = Fs(kind, uid(name + " boot"), mounts={"/boot": ""})
    return Machine(name, "uefi", [Disk(1400, "gpt", [
        Part(esp(name), 48, "U", name="EFI System Partition"), Part(boot, XFS_MIB if kind == "xfs" else 160),
        Part(Physical(group), 0, LVM),
    ])], groups=_group(group, more=more))  # fmt: skip


def _fstab(machine: Machine, group: str, *lines: str, kind: str = "xfs") -> None:
    name = machine.name
    fstab(machine, f"/dev/mapper/{group}-root /                       xfs     defaults        0 0",
          f"UUID={uid(name + ' boot')} /boot                   {kind}     defaults        0 0",
          f"/dev/mapper/{group}-swap none                    swap    defaults        0 0", *lines)  # fmt: skip


def _shim(machine: Machine, name: str, boot: str, prefix: str = "/grub2") -> None:
    """As shim-x64 and grub2-efi-x64 lie on the ESP."""
    home, removable = f"/boot/efi/EFI/{name}", "/boot/efi/EFI/BOOT"
    machine.files |= {
        f"{removable}/BOOTX64.EFI": loaders.shim(), f"{removable}/fbx64.efi": loaders.fallback(),
        f"{home}/shimx64.efi": loaders.shim(), f"{home}/grubx64.efi": loaders.grub_efi(f"/EFI/{name}"),
        f"{home}/mmx64.efi": loaders.mok_manager(), f"{home}/BOOTX64.CSV": loaders.boot_csv("shimx64.efi", name),
    }  # fmt: skip
    machine.put(f"{home}/grub.cfg", loaders.stub(boot, prefix, root_dev_only=True))


def _bls_config(boot: str, kernelopts: str, *, hint: str = "hd0,msdos1", default: str = "${saved_entry}") -> str:
    """RHEL's grub.cfg: the entries are elsewhere. kernelopts: what holds where grubenv has none."""
    root = loaders.grub_root(boot, hint)
    return loaders.grub_header(default) + (
        f"{root}{root.replace('--set=root', '--set=boot')}"
        f'if [ -z "${{kernelopts}}" ]; then\n  set kernelopts="{kernelopts} "\nfi\n\ninsmod blscfg\nblscfg\n'
    )


def _entries(
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
    machine = _bios("rhel7", "rhel")
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
    _fstab(machine, "rhel")
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
    _shim(machine, "centos", "")
    start = Start(f"CentOS Linux ({version}) 7 (Core)", f"/vmlinuz-{version}", f"/initramfs-{version}.img",
                  f"root=/dev/mapper/centos-root ro rd.lvm.lv=centos/root {SERIAL}")  # fmt: skip
    root = loaders.grub_root(uid("centos7 boot"), "hd0,gpt2")
    entry = loaders.grub_entry(start, root, command="linuxefi", initrd="initrdefi")
    machine.put("/boot/efi/EFI/centos/grub.cfg", loaders.grub_header("${saved_entry}") + entry)
    machine.files["/boot/efi/EFI/centos/grubenv"] = loaders.grub_environment(saved_entry=start.title)
    _fstab(machine, "centos", f"UUID={short_uid('centos7 esp')} /boot/efi vfat umask=0077,shortname=winnt 0 0")
    return machine


def _no_folder_has_a_boot_csv(machine: Machine) -> None:
    machine.drop("/boot/efi/EFI/centos/BOOTX64.CSV")


def _the_csv_names_a_shim_that_is_gone(machine: Machine) -> None:
    machine.drop("/boot/efi/EFI/centos/shimx64.efi")


# RHEL 8: BLS with $kernelopts in grubenv

E8, E8_OLD = "4.18.0-553.el8_10.x86_64", "4.18.0-99.el8.x86_64"


def rhel8() -> Machine:
    machine = _bios("rhel8", "rhel")
    release(machine, "rhel", "8.10", "fedora")
    for version in (E8, E8_OLD):
        kernels.install(machine, version, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+gzip")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=/dev/mapper/rhel-root ro crashkernel=auto rd.lvm.lv=rhel/root {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", _bls_config(uid("rhel8 boot"), options))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(
        saved_entry=f"{MACHINE_ID}-{E8}", kernelopts=options, boot_success="0")  # fmt: skip
    _entries(machine, [E8, E8_OLD], "Red Hat Enterprise Linux", "$kernelopts")
    machine.put("/etc/machine-id", MACHINE_ID + "\n")
    _fstab(machine, "rhel")
    return machine


def _grubenv_has_the_options_of_another_machine(machine: Machine) -> None:
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(
        saved_entry=f"{MACHINE_ID}-{E8}", kernelopts=f"root=/dev/mapper/template-root ro {SERIAL}")  # fmt: skip


def _no_entry_is_saved_and_the_newest_has_no_nvme(machine: Machine) -> None:
    options = f"root=/dev/mapper/rhel-root ro {SERIAL}"
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(kernelopts=options)
    machine.files[f"/boot/initramfs-{E8}.img"] = Initramfs(E8, (), "early+gzip")


def _the_saved_entry_is_old_and_sound_and_the_newest_is_not(machine: Machine) -> None:
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(
        saved_entry=f"{MACHINE_ID}-{E8_OLD}", kernelopts=f"root=/dev/mapper/rhel-root ro {SERIAL}")  # fmt: skip
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
    machine.put("/boot/grub2/grub.cfg", _bls_config(uid("rhel9 boot"), options, hint="hd0,gpt2"))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=f"{MACHINE_ID}-{E9}", boot_success="0")
    _entries(machine, [E9], "Red Hat Enterprise Linux", options)
    _shim(machine, "redhat", uid("rhel9 boot"))
    machine.put("/data/.keep", "")
    machine.put("/etc/lvm/lvm.conf", "devices {\n\tuse_devicesfile = 0\n}\nlog {\n}\n")
    machine.put(
        "/etc/lvm/devices/system.devices", _devices_file("rhel", "sys_wwid", "naa.6000c29a2f3b4c5d6e7f8091a2b3c4d5")
    )
    _fstab(machine, "rhel", f"UUID={short_uid('rhel9 esp')} /boot/efi vfat umask=0077,shortname=winnt 0 2",
           "/dev/mapper/rhel-data /data xfs defaults 0 0")  # fmt: skip
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
    machine.put("/boot/grub2/grub.cfg", _bls_config(uid("rhel10 boot"), options, hint="hd0,gpt2"))
    _entries(machine, [version], "Red Hat Enterprise Linux", options)
    _shim(machine, "redhat", uid("rhel10 boot"))
    _fstab(machine, "rhel")
    for each in machine.every():
        if each.kind == "xfs":
            each.after = newer_xfs
    return machine


# AlmaLinux 9 with its root in a thin pool

THIN_POOL = (
    'type = "thin-pool"\nmetadata = "pool00_tmeta"\npool = "pool00_tdata"\ntransaction_id = 1\nchunk_size = 128\n'
    'discards = "passdown"\nzero_new_blocks = 1'
)
THIN = 'type = "thin"\nthin_pool = "pool00"\ntransaction_id = 0\ndevice_id = 1'


def thin_pool(mib: int) -> dict[str, Logical]:
    """A pool and what belongs to it."""
    return {
        "pool00": Logical(Fs("", mib=mib), segment=THIN_POOL),
        "pool00_tdata": Logical(Fs("", mib=mib), hidden=True), "pool00_tmeta": Logical(Fs("", mib=4), hidden=True),
        "lvol0_pmspare": Logical(Fs("", mib=4), hidden=True),
    }  # fmt: skip


def alma9_thin() -> Machine:
    boot = Fs("xfs", uid("alma9 boot"), mounts={"/boot": ""})
    volumes = thin_pool(400) | {
        "root": Logical(Fs("xfs", uid("alma9 root"), mib=XFS_MIB), segment=THIN),
        "swap": Logical(Fs("swap", uid("alma9 swap"), mib=32)),
    }
    machine = Machine("alma9", "bios", [Disk(1300, core=Core("(,msdos1)/grub2"), parts=[
        Part(boot, XFS_MIB, active=True), Part(Physical("almalinux"), 0, LVM),
    ])], groups={"almalinux": Group(volumes)})  # fmt: skip
    kernels.install(machine, E9, **IMAGES, packing="early+zstd")
    options = f"root=/dev/mapper/almalinux-root ro rd.lvm.lv=almalinux/root {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", _bls_config(uid("alma9 boot"), options))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=f"{MACHINE_ID}-{E9}")
    _entries(machine, [E9], "AlmaLinux", options)
    return machine


def _root_names_a_volume_that_is_not_there(machine: Machine) -> None:
    path = f"/boot/loader/entries/{MACHINE_ID}-{E9}.conf"
    machine.change(path, "root=/dev/mapper/almalinux-root", "root=/dev/mapper/almalinux-root_old")


def _the_saved_entrys_kernel_is_gone(machine: Machine) -> None:
    path = next(path for path, file in machine.files.items() if file == Kernel(E9) and "rescue" not in path)
    machine.drop(path)


# Rocky 9 on two disks, mirrored


def rocky9_mirror() -> Machine:
    boot, root = uid("rocky9 boot"), uid("rocky9 root")

    def disk() -> Disk:
        return Disk(620, core=Core("(mduuid/0f6a6b4e7e4b4d0fa2a1b3c4d5e6f708)/grub2"), parts=[
            Part(Member("boot"), 180, "fd", active=True), Part(Member("root"), 0, "fd"),
        ])  # fmt: skip

    machine = Machine("rocky9", "bios", [disk(), disk()], arrays={
        "boot": Array(1, Fs("ext4", boot, mounts={"/boot": ""}), "1.2", name="rocky:boot",
                      uuid="0f6a6b4e-7e4b-4d0f-a2a1-b3c4d5e6f708"),
        "root": Array(1, Fs("xfs", root, mounts={"/": ""}), "1.2", name="rocky:root",
                      uuid="1f6a6b4e-7e4b-4d0f-a2a1-b3c4d5e6f708"),
    })  # fmt: skip
    release(machine, "rocky", "9.4", "rhel centos fedora")
    kernels.install(machine, E9, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+zstd")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=UUID={root} ro rd.md.uuid=1f6a6b4e:7e4b4d0f:a2a1b3c4:d5e6f708 {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", _bls_config(boot, options, hint="mduuid/0f6a6b4e7e4b4d0fa2a1b3c4d5e6f708"))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=f"{MACHINE_ID}-{E9}")
    _entries(machine, [E9], "Rocky Linux", options)
    fstab(machine, f"UUID={root} / xfs defaults 0 0", f"UUID={boot} /boot ext4 defaults 1 2",
          "/dev/disk/by-id/md-uuid-1f6a6b4e:7e4b4d0f:a2a1b3c4:d5e6f708 /mnt/again xfs noauto 0 0")  # fmt: skip
    return machine


def _fstab_wants_an_array_that_is_elsewhere(machine: Machine) -> None:
    add(machine, "/dev/disk/by-id/md-uuid-9f6a6b4e:7e4b4d0f:a2a1b3c4:d5e6f708 /srv xfs defaults 0 0")


def _a_half_of_a_striped_array_is_missing(machine: Machine) -> None:
    machine.disks.append(Disk(200, parts=[Part(Member("data"), 0, "fd")]))
    machine.arrays["data"] = Array(
        0, Fs("ext4", uid("rocky9 data")), "1.2", 2, "rocky:data", "2f6a6b4e-7e4b-4d0f-a2a1-b3c4d5e6f708"
    )
    add(machine, f"UUID={uid('rocky9 data')} /srv ext4 defaults 0 2")


def _a_striped_array_is_whole(machine: Machine) -> None:
    _a_half_of_a_striped_array_is_missing(machine)
    machine.disks.append(Disk(200, parts=[Part(Member("data"), 0, "fd")]))


# Oracle Linux 8: two kernels, UEK saved

UEK, RHCK = "5.15.0-206.153.7.1.el8uek.x86_64", "4.18.0-553.el8_10.x86_64"


def oracle8() -> Machine:
    machine = _bios("oracle8", "ol", "ext4")
    release(machine, "ol", "8.10", "fedora")
    for version in (UEK, RHCK):
        kernels.install(machine, version, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+gzip")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=/dev/mapper/ol-root ro crashkernel=auto rd.lvm.lv=ol/root {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", _bls_config(uid("oracle8 boot"), options))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(
        saved_entry=f"{MACHINE_ID}-{UEK}", kernelopts=options
    )
    _entries(machine, [UEK, RHCK], "Oracle Linux Server", "$kernelopts")
    _fstab(machine, "ol", kind="ext4")
    return machine


def _the_saved_kernel_is_the_other_which_lacks_ena(machine: Machine) -> None:
    options = f"root=/dev/mapper/ol-root ro {SERIAL}"
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(
        saved_entry=f"{MACHINE_ID}-{RHCK}", kernelopts=options
    )
    machine.drop(f"/usr/lib/modules/{RHCK}/")
    kernels.drivers(machine, RHCK, home="/usr/lib/modules", packing=".xz", ena="none")


# Fedora: UEFI, /boot on ext4, the rest on Btrfs

F40 = "6.8.5-301.fc40.x86_64"


def fedora() -> Machine:
    boot, root = uid("fedora boot"), uid("fedora root")
    machine = Machine("fedora40", "uefi", [Disk(640, "gpt", [
        Part(esp("fedora40"), 48, "U"), Part(Fs("ext4", boot, mounts={"/boot": ""}), 160),
        Part(Fs("btrfs", root, label="fedora", mounts={"/": "/root", "/home": "/home"}), 0),
    ])])  # fmt: skip
    release(machine, "fedora", "40")
    kernels.install(machine, F40, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+zstd")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=UUID={root} ro rootflags=subvol=root rhgb quiet {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", _bls_config(boot, options, hint="hd0,gpt2"))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(boot_success="1", boot_indeterminate="0")
    _entries(machine, [F40], "Fedora Linux", options)
    _shim(machine, "fedora", boot)
    machine.put("/home/user/.profile", "\n")
    fstab(machine, f"UUID={root} /                       btrfs   subvol=root,compress=zstd:1 0 0",
          f"UUID={boot} /boot                   ext4    defaults        1 2",
          f"UUID={short_uid('fedora40 esp')}          /boot/efi               vfat    umask=0077,shortname=winnt 0 2",
          f"UUID={root} /home                   btrfs   subvol=home,compress=zstd:1 0 0")  # fmt: skip
    return machine


def _the_entrys_root_is_that_of_a_restored_disk(machine: Machine) -> None:
    machine.change(f"/boot/loader/entries/{MACHINE_ID}-{F40}.conf", uid("fedora root"), uid("the fedora before"))


def _boot_was_formatted_anew(machine: Machine) -> None:
    machine.change("/etc/fstab", uid("fedora boot"), uid("the boot before"))


# Amazon Linux, as its images for VMware


def amazon2() -> Machine:
    root = uid("amazon2 root")
    machine = Machine("amazon2", "bios", [Disk(420, "gpt", [
        Part(Core("(,gpt2)/boot/grub2"), 1, BIOS_BOOT_TYPE, name="BIOS Boot Partition"),
        Part(Fs("xfs", root, label="/", mounts={"/": ""}), 0, name="Linux"),
    ])])  # fmt: skip
    release(machine, "amzn", "2", "centos rhel fedora")
    version = "4.14.336-257.562.amzn2.x86_64"
    kernels.install(machine, version, **IMAGES, packing="gzip")
    start = Start(
        f"Amazon Linux 2 ({version})",
        f"/boot/vmlinuz-{version}",
        f"/boot/initramfs-{version}.img",
        f"root=UUID={root} ro {SERIAL} net.ifnames=0 biosdevname=0 nvme_core.io_timeout=4294967295",
    )
    text = loaders.grub_header("0") + loaders.grub_entry(start, loaders.grub_root(root, "hd0,gpt2"))
    machine.put("/boot/grub2/grub.cfg", text)
    fstab(machine, "LABEL=/     /           xfs    defaults,noatime  1   1")
    return machine


def _an_optional_volume_by_label_is_not_there(machine: Machine) -> None:
    add(machine, "LABEL=my\\040data /data xfs defaults,nofail 0 2")


def _its_label_was_changed(machine: Machine) -> None:
    machine.change("/etc/fstab", "LABEL=/ ", "LABEL=root ")


def amazon2023() -> Machine:
    root = uid("amazon2023 root")
    machine = Machine("amazon2023", "uefi", [Disk(420, "gpt", [
        Part(Fs("xfs", root, label="/", mounts={"/": ""}), 360, name="Linux", uuid=uid("amazon2023 part")),
        Part(esp("amazon2023"), 0, "U", name="EFI System Partition"),
    ])])  # fmt: skip
    release(machine, "amzn", "2023", "fedora")
    version = "6.1.90-99.173.amzn2023.x86_64"
    kernels.install(machine, version, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+zstd")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=PARTUUID={uid('amazon2023 part')} ro {SERIAL} rd.shell=0"
    machine.put("/boot/grub2/grub.cfg", _bls_config(root, options, hint="hd0,gpt1"))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=f"{MACHINE_ID}-{version}")
    _entries(machine, [version], "Amazon Linux", options, folder="/boot", rescue=False)
    early = f"search --no-floppy --set prefix --fs-uuid {root}\nset prefix=($prefix)/boot/grub2\n"
    machine.files["/boot/efi/EFI/BOOT/BOOTX64.EFI"] = loaders.grub_efi("/EFI/BOOT")
    machine.put("/boot/efi/EFI/BOOT/grub.cfg", f"{early}configfile $prefix/grub.cfg\n")
    fstab(machine, f"UUID={root} / xfs defaults,noatime 1 1",
          f"UUID={short_uid('amazon2023 esp')} /boot/efi vfat defaults,noatime,uid=0,gid=0,umask=0077 0 2")  # fmt: skip
    return machine


def _root_is_the_partition_of_another_disk(machine: Machine) -> None:
    (path,) = (path for path in machine.files if path.endswith("amzn2023.x86_64.conf"))
    machine.change(path, uid("amazon2023 part"), uid("another part"))


# Fedora CoreOS: OSTree

_DEPLOYED = "9c0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"


def coreos() -> Machine:
    boot, root = uid("coreos boot"), uid("coreos root")
    machine = Machine(
        "coreos",
        "uefi",
        [
            Disk(
                640,
                "gpt",
                [
                    Part(Core("(,gpt3)/grub2"), 1, BIOS_BOOT_TYPE, name="BIOS-BOOT"),
                    Part(esp("coreos"), 48, "U", name="EFI-SYSTEM"),
                    Part(Fs("ext4", boot, label="boot", mounts={"/boot": ""}), 160, name="boot"),
                    Part(Fs("xfs", root, label="root", mounts={"/": ""}), 0, name="root"),
                ],
            )
        ],
    )
    version = "6.8.11-300.fc40.x86_64"
    deploy = f"/ostree/deploy/fedora-coreos/deploy/{_DEPLOYED}.0"
    names = kernels.drivers(machine, version, home=f"{deploy}/usr/lib/modules", packing=".xz")
    folder = f"/ostree/fedora-coreos-{_DEPLOYED}"
    machine.files |= {
        f"/boot{folder}/vmlinuz-{version}": Kernel(version),
        f"/boot{folder}/initramfs-{version}.img": Initramfs(version, names, "early+zstd"),
        "/boot/loader": Link("loader.1"),
        f"/ostree/boot.1/fedora-coreos/{_DEPLOYED}/0": Link(f"../../../deploy/fedora-coreos/deploy/{_DEPLOYED}.0"),
        f"{deploy}/etc/os-release": b'ID="fedora"\nVARIANT_ID="coreos"\n', "/boot/boot": Link("."),
    }  # fmt: skip
    start = Start(
        "Fedora CoreOS 40 (ostree:0)",
        f"/boot{folder}/vmlinuz-{version}",
        f"/boot{folder}/initramfs-{version}.img",
        f"rw ignition.platform.id=vmware ostree=/ostree/boot.1/fedora-coreos/{_DEPLOYED}/0 root=UUID={root} "
        f"rootflags=prjquota boot=UUID={boot} {SERIAL}",
    )
    machine.files["/boot/loader.1/entries/ostree-1.conf"] = loaders.bls(start, "1")
    text = (f"set pager=1\nset timeout=1\nsearch --label boot --set prefix\nset prefix=($prefix)/grub2\n"
            f"if [ -s $prefix/grubenv ]; then\n  load_env\nfi\nset boot=$root\nsearch --fs-uuid {boot} --set root\n"
            "blscfg\n")  # fmt: skip
    machine.put("/boot/grub2/grub.cfg", text)
    machine.files["/boot/efi/EFI/BOOT/BOOTX64.EFI"] = loaders.grub_efi("/EFI/fedora")
    machine.put(
        "/boot/efi/EFI/fedora/grub.cfg",
        "if [ -e (md/md-boot) ]; then\n  set prefix=md/md-boot\nelse\n"
        "  if [ -f ${config_directory}/bootuuid.cfg ]; then\n    source ${config_directory}/bootuuid.cfg\n  fi\n"
        '  if [ -n "${BOOT_UUID}" ]; then\n    search --fs-uuid "${BOOT_UUID}" --set prefix --no-floppy\n'
        "  else\n    search --label boot --set prefix --no-floppy\n  fi\nfi\n"
        "set prefix=($prefix)/grub2\nconfigfile $prefix/grub.cfg\nboot\n",
    )
    machine.put("/boot/efi/EFI/fedora/bootuuid.cfg", f"BOOT_UUID={boot}\n")
    return machine


def _its_root_was_made_anew(machine: Machine) -> None:
    machine.change(
        "/boot/loader.1/entries/ostree-1.conf", f"root=UUID={uid('coreos root')}", f"root=UUID={uid('coreos before')}"
    )


CASES: list[Case] = [
    sound("RHEL 7", rhel7, quick=True),
    flawed("RHEL 7", rhel7, _the_saved_entry_is_the_older_one_without_nvme, Said("nvme-missing", E7_OLD), quick=True),
    Case("RHEL 7, the newer kernel has no NVMe and is not the default", rhel7,
         _the_newer_one_has_no_nvme_and_is_not_the_default),
    flawed("RHEL 7", rhel7, _swap_by_the_name_of_its_disk, Said("fstab-optional", "line 4", "/dev/sdb1")),
    sound("CentOS 7 by UEFI", centos7),
    flawed("CentOS 7 by UEFI", centos7, _no_folder_has_a_boot_csv, Said("loader-incomplete")),
    flawed("CentOS 7 by UEFI", centos7, _the_csv_names_a_shim_that_is_gone, Said("loader-incomplete")),
    sound("RHEL 8", rhel8, quick=True),
    flawed("RHEL 8", rhel8, _grubenv_has_the_options_of_another_machine, Said("root-unknown", "", "template-root")),
    flawed("RHEL 8", rhel8, _no_entry_is_saved_and_the_newest_has_no_nvme, Said("nvme-missing", E8)),
    Case("RHEL 8, the saved entry is older and sound, the newest is not", rhel8,
         _the_saved_entry_is_old_and_sound_and_the_newest_is_not, quick=True),
    flawed("RHEL 8", rhel8, _an_empty_boot_folder_was_restored, Said("loader-incomplete")),
    sound("RHEL 9", rhel9),
    flawed("RHEL 9", rhel9, _the_devices_file_is_in_use, Said("lvm-devices-file", "system.devices"), quick=True),
    flawed("RHEL 9", rhel9, _the_devices_file_names_a_serial_number, Said("lvm-devices-file", "system.devices")),
    flawed("RHEL 9", rhel9, _the_filter_admits_the_disks_of_the_vm_alone, Said("lvm-devices-file", "lvm.conf")),
    flawed("RHEL 9", rhel9, _shim_without_fallback_or_grub, Said("loader-incomplete")),
    sound("RHEL 10", rhel10, Said("system-unread"), also=("volume-unread", "default-unknown", "drivers-unread")),
    flawed("RHEL 10", rhel10, _shim_without_fallback_or_grub, Said("loader-incomplete"),
           also=("system-unread", "volume-unread", "default-unknown", "drivers-unread")),
    sound("AlmaLinux 9 in a thin pool", alma9_thin, Said("system-unread"),
          also=("drivers-unread", "root-unseen", "volume-unread")),
    flawed("AlmaLinux 9 in a thin pool", alma9_thin, _root_names_a_volume_that_is_not_there,
           Said("root-unknown", "", "root_old"), also=("drivers-unread", "root-unseen", "volume-unread")),
    flawed("AlmaLinux 9 in a thin pool", alma9_thin, _the_saved_entrys_kernel_is_gone, Said("kernel-missing"),
           also=("system-unread", "drivers-unread", "root-unseen", "volume-unread")),
    sound("Rocky 9 on a mirror", rocky9_mirror),
    flawed("Rocky 9 on a mirror", rocky9_mirror, _fstab_wants_an_array_that_is_elsewhere, Said("fstab-unknown", "line 5", "9f6a6b4e")),
    flawed("Rocky 9 on a mirror", rocky9_mirror, _a_half_of_a_striped_array_is_missing, Said("fstab-unknown", "line 5")),
    Case("Rocky 9 on a mirror, with a striped array that is whole", rocky9_mirror, _a_striped_array_is_whole),
    sound("Oracle Linux 8", oracle8),
    flawed("Oracle Linux 8", oracle8, _the_saved_kernel_is_the_other_which_lacks_ena, Said("ena-missing", RHCK)),
    sound("Fedora 40", fedora, quick=True),
    flawed("Fedora 40", fedora, _the_entrys_root_is_that_of_a_restored_disk, Said("root-unknown", F40, uid("the fedora before"))),
    flawed("Fedora 40", fedora, _boot_was_formatted_anew, Said("fstab-unknown", "line 3", uid("the boot before"))),
    sound("Amazon Linux 2", amazon2, drill=True),
    flawed("Amazon Linux 2", amazon2, _an_optional_volume_by_label_is_not_there, Said("fstab-optional", "line 3")),
    flawed("Amazon Linux 2", amazon2, _its_label_was_changed, Said("fstab-unknown", "line 2", "LABEL=root")),
    sound("Amazon Linux 2023", amazon2023),
    flawed("Amazon Linux 2023", amazon2023, _root_is_the_partition_of_another_disk, Said("root-unknown", "", "PARTUUID=")),
    sound("Fedora CoreOS", coreos, also=("drivers-unread", "system-unread", "root-unseen")),
    flawed("Fedora CoreOS", coreos, _its_root_was_made_anew, Said("root-unknown"), also=("drivers-unread", "root-unseen", "system-unread")),
]  # fmt: skip
