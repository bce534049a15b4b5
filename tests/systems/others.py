"""Arch, Gentoo, Alpine, Flatcar, Xen's and LILO's starts, FreeBSD and Windows, as their installers or handbooks have
them."""

from __future__ import annotations

import struct
from pathlib import Path

import bootdisk
from systems import kernels, loaders
from systems.cases import Case, Said, add, esp, flawed, fstab, release, short_uid, sound, uid
from systems.loaders import Start
from systems.machine import (
    BIOS_BOOT_TYPE,
    SWAP,
    Core,
    Disk,
    Fs,
    Initramfs,
    Kernel,
    Link,
    Machine,
    Part,
    Raw,
    Uki,
)

SERIAL = "console=tty0 console=ttyS0,115200"

# Arch: its kernel has no version in its name, and lies on the ESP

ARCH = "6.9.3-arch1-1"


def _arch(name: str) -> Machine:
    root = uid(name + " root")
    machine = Machine(name, "uefi", [Disk(420, "gpt", [
        Part(esp(name, "/boot"), 180, "U"),
        Part(Fs("ext4", root, mounts={"/": ""}), 0, uuid=uid(name + " part")),
    ])])  # fmt: skip
    release(machine, "arch", "rolling")
    machine.files["/lib"] = Link("usr/lib")
    fstab(machine, f"UUID={root}  /  ext4  rw,relatime  0 1",
          f"UUID={short_uid(name + ' esp')}  /boot  vfat  rw,relatime,fmask=0022  0 2")  # fmt: skip
    return machine


def arch() -> Machine:
    machine = _arch("arch")
    kernels.install(machine, ARCH, kernel="/boot/vmlinuz-linux", initrd="/boot/initramfs-linux.img", packing="zstd",
                    home="/usr/lib/modules", modules=".zst")  # fmt: skip
    machine.files["/boot/intel-ucode.img"] = kernels.packed(
        kernels.cpio(["kernel/x86/microcode/GenuineIntel.bin"]), "plain"
    )
    machine.files["/boot/EFI/BOOT/BOOTX64.EFI"] = loaders.systemd_boot()
    machine.put("/boot/loader/loader.conf", "default arch.conf\ntimeout 1\n")
    machine.put("/boot/loader/entries/arch.conf",
                "title   Arch Linux\nlinux   /vmlinuz-linux\ninitrd  /intel-ucode.img\ninitrd  /initramfs-linux.img\n"
                f"options root=UUID={uid('arch root')} rw {SERIAL}\n")  # fmt: skip
    machine.put("/boot/loader/entries/arch-fallback.conf",
                "title   Arch Linux (fallback)\nlinux   /vmlinuz-linux\ninitrd  /initramfs-linux-fallback.img\n"
                f"options root=UUID={uid('arch root')} rw\n")  # fmt: skip
    return machine


def _root_is_sda2(machine: Machine) -> None:
    machine.change("/boot/loader/entries/arch.conf", f"UUID={uid('arch root')}", "/dev/sda2")


def _the_default_is_the_fallback_whose_initramfs_is_not_there(machine: Machine) -> None:
    machine.change("/boot/loader/loader.conf", "arch.conf", "arch-fallback.conf")


def _its_microcode_alone_is_missing(machine: Machine) -> None:
    machine.drop("/boot/intel-ucode.img")


def arch_uki() -> Machine:
    """The image is what the firmware starts."""
    machine = _arch("arch-uki")
    names = kernels.drivers(machine, ARCH, home="/usr/lib/modules", packing=".zst")
    cmdline = f"root=UUID={uid('arch-uki root')} rw {SERIAL}"
    machine.files["/boot/EFI/BOOT/BOOTX64.EFI"] = Uki(ARCH, cmdline, Initramfs(ARCH, names, "zstd"))
    return machine


def _its_command_line_names_another_root(machine: Machine) -> None:
    for path, file in list(machine.files.items()):
        if isinstance(file, Uki):
            cmdline = file.cmdline.replace(uid("arch-uki root"), uid("the arch before"))
            machine.files[path] = Uki(file.version, cmdline, file.initramfs)


def _its_initramfs_has_no_nvme(machine: Machine) -> None:
    for path, file in list(machine.files.items()):
        if isinstance(file, Uki):
            machine.files[path] = Uki(
                file.version, file.cmdline, Initramfs(ARCH, ("kernel/fs/ext4/ext4.ko.zst",), "zstd")
            )


def arch_uki_menu() -> Machine:
    """systemd-boot, with images of two kernels in EFI/Linux."""
    machine = arch_uki()
    image = machine.files.pop("/boot/EFI/BOOT/BOOTX64.EFI")
    assert isinstance(image, Uki)
    old = "6.6.32-1-lts"
    names = kernels.drivers(machine, old, home="/usr/lib/modules", packing=".zst", ena="module")
    machine.files |= {
        "/boot/EFI/BOOT/BOOTX64.EFI": loaders.systemd_boot(), "/boot/EFI/Linux/arch-linux.efi": image,
        "/boot/EFI/Linux/arch-linux-lts.efi": Uki(old, image.cmdline, Initramfs(old, names, "zstd")),
        "/boot/loader/loader.conf": b"default arch-linux.efi\n",
    }  # fmt: skip
    return machine


def _the_default_image_has_no_nvme(machine: Machine) -> None:
    image = machine.files["/boot/EFI/Linux/arch-linux.efi"]
    assert isinstance(image, Uki)
    machine.files["/boot/EFI/Linux/arch-linux.efi"] = Uki(ARCH, image.cmdline, Initramfs(ARCH, (), "zstd"))


# Gentoo: all drivers in the kernel, no initramfs


def gentoo() -> Machine:
    root = uid("gentoo root")
    machine = Machine("gentoo", "uefi", [Disk(300, "gpt", [
        Part(esp("gentoo", "/efi"), 48, "U"), Part(Fs("ext4", root, mounts={"/": ""}), 0, uuid=uid("gentoo part")),
    ])])  # fmt: skip
    release(machine, "gentoo", "2.15")
    version = "6.6.30-gentoo"
    kernels.install(machine, version, kernel="/boot/kernel-{}", initrd="", nvme="builtin", ena="builtin")
    start = Start("Gentoo GNU/Linux", f"/boot/kernel-{version}", "", f"root=PARTUUID={uid('gentoo part')} ro {SERIAL}")
    text = loaders.grub_header("0") + loaders.grub_entry(start, loaders.grub_root(root, "hd0,gpt2"))
    machine.put("/boot/grub/grub.cfg", text)
    early = f"search.fs_uuid {root} root hd0,gpt2 \nset prefix=($root)'/boot/grub'\n"
    machine.files["/efi/EFI/BOOT/BOOTX64.EFI"] = loaders.grub_efi("(,gpt2)/boot/grub", early)
    fstab(machine, f"PARTUUID={uid('gentoo part')} / ext4 noatime 0 1")
    return machine


def _root_is_sda2_without_initramfs(machine: Machine) -> None:
    machine.change("/boot/grub/grub.cfg", f"root=PARTUUID={uid('gentoo part')}", "root=/dev/sda2")


def _nvme_was_left_out_of_the_kernel(machine: Machine) -> None:
    (path,) = (path for path in machine.files if path.endswith("modules.builtin"))
    machine.change(path, kernels.NVME + "\n", "")


def _it_names_a_partition_of_before(machine: Machine) -> None:
    machine.change("/boot/grub/grub.cfg", uid("gentoo part"), uid("gentoo before"))


# Alpine: extlinux


def _boot_sector(image: Path) -> None:
    """extlinux' own, as its installer carries it; without the places of its next stage."""
    data = (bootdisk._unpacked("extlinux") / "usr/bin/extlinux").read_bytes()
    at = data.index(b"\xeb\x58\x90SYSLINUX")
    sector = bytearray(data[at : at + 512])
    sector[3:11] = b"EXTLINUX"
    bootdisk.write_at(image, 0, bytes(sector))


def alpine() -> Machine:
    boot, root = uid("alpine boot"), uid("alpine root")
    machine = Machine(
        "alpine",
        "bios",
        [
            Disk(
                380,
                code=loaders.syslinux_mbr(),
                parts=[
                    Part(Fs("ext4", boot, mounts={"/boot": ""}, after=_boot_sector), 100, active=True),
                    Part(Fs("swap", uid("alpine swap")), 32, SWAP),
                    Part(Fs("ext4", root, mounts={"/": ""}), 0),
                ],
            )
        ],
    )
    release(machine, "alpine", "3.20")
    version = "6.6.32-0-lts"
    kernels.install(machine, version, kernel="/boot/vmlinuz-lts", initrd="/boot/initramfs-lts", modules=".gz")
    machine.put("/boot/extlinux.conf", (
        "# Generated by update-extlinux 6.04_pre1-r15\nDEFAULT menu.c32\nPROMPT 0\nMENU TITLE Alpine/Linux Boot Menu\n"
        "TIMEOUT 10\nLABEL virt\n  MENU LABEL Linux virt\n  LINUX vmlinuz-virt\n  INITRD initramfs-virt\n"
        f"  APPEND root=UUID={root} modules=sd-mod quiet rootfstype=ext4\nLABEL lts\n  MENU DEFAULT\n"
        "  MENU LABEL Linux lts\n  LINUX vmlinuz-lts\n  INITRD initramfs-lts\n"
        f"  APPEND root=UUID={root} modules=sd-mod,usb-storage,ext4,nvme quiet rootfstype=ext4 {SERIAL}\n"
    ))  # fmt: skip
    machine.files |= {
        "/boot/ldlinux.sys": b"\r\nSYSLINUX 6.04",
        "/boot/ldlinux.c32": b"\x7fELF",
        "/boot/menu.c32": b"\x7fELF",
    }
    fstab(machine, f"UUID={root}\t/\text4\trw,relatime 0 1", f"UUID={boot}\t/boot\text4\trw,relatime 0 2",
          f"UUID={uid('alpine swap')}\tswap\tswap\tdefaults\t0 0", "/dev/cdrom\t/media/cdrom\tiso9660\tnoauto,ro 0 0",
          "/dev/usbdisk\t/media/usb\tvfat\tnoauto\t0 0")  # fmt: skip
    return machine


def _its_initramfs_was_made_without_nvme(machine: Machine) -> None:
    machine.files["/boot/initramfs-lts"] = Initramfs("6.6.32-0-lts", ("kernel/drivers/scsi/vmw_pvscsi.ko.gz",))


def _its_root_is_sda3(machine: Machine) -> None:
    text = machine.text("/boot/extlinux.conf")
    first, second = text.split("LABEL lts")
    machine.put("/boot/extlinux.conf", first + "LABEL lts" + second.replace(f"UUID={uid('alpine root')}", "/dev/sda3"))


# Flatcar: which of two systems starts is a matter of the partition table's own bits


def flatcar() -> Machine:
    root = uid("flatcar root")
    machine = Machine("flatcar", "uefi", [Disk(420, "gpt", [
        Part(Fs("vfat", short_uid("flatcar esp"), "EFI-SYSTEM", mounts={"/boot": ""}), 128, "U", name="EFI-SYSTEM"),
        Part(Core("(,gpt1)/flatcar/grub"), 2, BIOS_BOOT_TYPE, name="BIOS-BOOT"),
        Part(Fs("ext4", uid("flatcar usr"), mounts={"/usr": ""}, options=("-O", "^has_journal")), 100,
             "5DFBF5F4-2848-4BAC-AA5E-0D9A20B745A6", name="USR-A", uuid="7130C94A-213A-4E5A-8E26-6CCE9662F132"),
        Part(Fs("ext4", root, label="ROOT", mounts={"/": ""}), 0, name="ROOT"),
    ])])  # fmt: skip
    version = "6.1.90-flatcar"
    kernels.drivers(machine, version, home="/usr/lib/modules", nvme="builtin", ena="builtin")
    machine.files["/boot/flatcar/vmlinuz-a"] = Kernel(version)
    machine.put("/usr/lib/os-release", "ID=flatcar\nVERSION_ID=3815.2.2\n")
    machine.put("/etc/machine-id", "\n")
    machine.put("/boot/flatcar/grub/grub.cfg", (
        'set default="flatcar"\nset timeout=1\nset linux_root="root=LABEL=ROOT"\n'
        f'set linux_console="{SERIAL}"\n'
        'menuentry "Flatcar default" --id=flatcar --unrestricted {\n  gptprio.next -d usr -u usr_uuid\n'
        '  if [ "$usr_uuid" = "7130c94a-213a-4e5a-8e26-6cce9662f132" ]; then\n'
        "    linux /flatcar/vmlinuz-a rootflags=rw mount.usrflags=ro consoleblank=0 $linux_root $linux_console "
        "mount.usr=PARTUUID=$usr_uuid\n  else\n    linux /flatcar/vmlinuz-b $linux_root\n  fi\n}\n"
        'menuentry "Flatcar USR-A" --id=flatcar-a {\n  linux /flatcar/vmlinuz-a $linux_root\n}\n'
    ))  # fmt: skip
    machine.files["/boot/EFI/BOOT/bootx64.efi"] = loaders.grub_efi("/flatcar/grub")
    return machine


def _the_esp_has_no_loader(machine: Machine) -> None:
    machine.drop("/boot/EFI/")


# Xen: what starts is a hypervisor


def xen() -> Machine:
    root = uid("xen root")
    machine = Machine("xen", "bios", [Disk(300, core=Core("(,msdos1)/boot/grub"), parts=[
        Part(Fs("ext4", root, mounts={"/": ""}), 0, active=True),
    ])])  # fmt: skip
    release(machine, "debian", "12")
    version = "6.1.0-18-amd64"
    kernels.install(machine, version)
    find = loaders.grub_root(root)
    plain = loaders.grub_entry(Start("Debian GNU/Linux", f"/boot/vmlinuz-{version}", f"/boot/initrd.img-{version}",
                                     f"root=UUID={root} ro {SERIAL}"), find)  # fmt: skip
    hypervisor = (
        "menuentry 'Debian GNU/Linux, with Xen hypervisor' --class xen $menuentry_id_option 'xen-gnulinux-simple' {\n"
        f"\tmultiboot2\t/boot/xen-4.17-amd64.gz placeholder  ${{xen_rm_opts}}\n"
        f"\tmodule2\t/boot/vmlinuz-{version} placeholder root=UUID={root} ro\n\tmodule2\t--nounzip /boot/initrd.img-{version}\n}}\n"
    )
    machine.put("/boot/grub/grub.cfg", loaders.grub_header("1") + plain + hypervisor)
    fstab(machine, f"UUID={root} / ext4 errors=remount-ro 0 1")
    return machine


def _fstab_names_sdb1(machine: Machine) -> None:
    add(machine, "/dev/sdb1 /srv ext4 defaults 0 2")


# LILO: its map names sectors, not files


def lilo() -> Machine:
    root = uid("slackware root")
    code = b"\xfa\xeb\x21\x01\xb4\x01LILO\x18\x08".ljust(440, b"\x90")
    machine = Machine(
        "slackware", "bios", [Disk(300, code=code, parts=[Part(Fs("ext4", root, mounts={"/": ""}), 0, active=True)])]
    )
    release(machine, "slackware", "15.0")
    kernels.install(
        machine, "5.15.19", kernel="/boot/vmlinuz-generic-{}", initrd="/boot/initrd.gz", nvme="builtin", ena="builtin"
    )
    machine.put("/etc/lilo.conf", f"boot = /dev/sda\nimage = /boot/vmlinuz\n  root = UUID={root}\n  label = Linux\n")
    fstab(machine, f"UUID={root} / ext4 defaults 1 1")
    return machine


# FreeBSD, as firewalls have it


def freebsd() -> Machine:
    ufs = bytearray(65536 + 1376)
    struct.pack_into("<I", ufs, 65536 + 1372, 0x19540119)
    machine = Machine("freebsd", "bios", [Disk(300, "gpt", [
        Part(Raw(b"\xeb\x3cBTX\0".ljust(8192, b"\x90")), 1, "83BD6B9D-7F41-11DC-BE0B-001560B84F0F"),
        Part(Raw(bytes(ufs)), 0, "516E7CB6-6ECF-11D6-8FF8-00022D09712B"),
    ], code=b"\xfc\x31\xc0\x8e\xc0".ljust(440, b"\x90"))])  # fmt: skip
    return machine


# Windows


def _windows_loader() -> bytes:
    """A PE image that says of itself what Windows' boot manager does; Microsoft's own can't be had."""
    resource = "".join(
        f"{word}\0"
        for word in (
            "VS_VERSION_INFO",
            "StringFileInfo",
            "CompanyName",
            "Microsoft Corporation",
            "FileDescription",
            "Boot Manager",
            "OriginalFilename",
            "bootmgr.exe",
            "ProductName",
            "Microsoft® Windows® Operating System",
        )
    ).encode("utf-16le")
    data = resource.ljust(1024, b"\0")
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + b"PE\0\0"
    head += struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 0xF0, 0x22)
    head += struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHH",
        0x20B,
        14,
        0,
        0,
        len(data),
        0,
        0,
        0x1000,
        0x10000000,
        4096,
        512,
        10,
        0,
        0,
        0,
        10,
        0,
        0,
        0x2000,
        512,
        0,
        10,
        0,
    )
    head = head.ljust(0x40 + 24 + 0xF0, b"\0")
    head += b".rsrc\0\0\0" + struct.pack("<IIIIIIHHI", len(data), 0x1000, len(data), 512, 0, 0, 0, 0, 0x40000040)
    return head.ljust(512, b"\0") + data


def windows_uefi() -> Machine:
    machine = Machine("windows", "uefi", [Disk(1024, "gpt", [
        Part(esp("windows", "/S"), 100, "U"), Part(None, 16, "E3C9E316-0B5C-4DB8-817D-F92DF00215AE"),
        Part(Fs("ntfs", mounts={"/C": ""}), 64, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", name="Basic data partition"),
    ])])  # fmt: skip
    machine.files |= {
        "/S/EFI/Microsoft/Boot/bootmgfw.efi": _windows_loader(), "/S/EFI/Boot/bootx64.efi": _windows_loader(),
        "/S/EFI/Microsoft/Boot/BCD": b"regf".ljust(4096, b"\0"), "/C/pagefile.sys": b"",
    }  # fmt: skip
    return machine


def _nothing_at_the_removable_path_of_windows(machine: Machine) -> None:
    machine.drop("/S/EFI/Boot/")


def windows_bios() -> Machine:
    ntfs = Fs("ntfs", mounts={"/C": ""})
    machine = Machine("windows", "bios", [Disk(256, code=b"\x33\xc0\x8e\xd0\xbc\x00\x7c".ljust(440, b"\x90"), parts=[
        Part(ntfs, 0, "7", active=True),
    ])])  # fmt: skip
    machine.files["/C/bootmgr"] = b"bootmgr of windows"
    return machine


def _its_boot_code_was_wiped(machine: Machine) -> None:
    machine.disks[0].code = b""


def _a_bitlocker_volume_beside(machine: Machine) -> None:
    data = bytearray(20 << 20)
    data[:11] = b"\xeb\x58\x90-FVE-FS-"
    struct.pack_into("<H", data, 11, 512)
    data[13] = 8
    data[160:176] = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")
    places = (4 << 20, 8 << 20, 12 << 20)
    struct.pack_into("<QQQ", data, 176, *places)
    data[510:512] = b"\x55\xaa"
    for at in places:
        data[at : at + 12] = b"-FVE-FS-" + struct.pack("<HH", 64, 2)
    machine.disks[0].parts[0].mib = 120
    machine.disks[0].parts.append(Part(Raw(bytes(data)), 0, "7"))


_UNKNOWN = ("default-unknown", "loader-unknown", "root-unseen", "system-unread", "drivers-unread")

CASES: list[Case] = [
    sound("Arch by systemd-boot", arch, quick=True, drill=True),
    flawed("Arch by systemd-boot", arch, _root_is_sda2, Said("root-by-name", "arch.conf", "/dev/sda2"), drill=False),
    flawed("Arch by systemd-boot", arch, _the_default_is_the_fallback_whose_initramfs_is_not_there,
           Said("initramfs-missing", "", "fallback"), drill=False),
    flawed("Arch by systemd-boot", arch, _its_microcode_alone_is_missing, Said("initramfs-missing", "", "intel-ucode"), drill=False),
    sound("Arch by a UKI", arch_uki, drill=True),
    flawed("Arch by a UKI", arch_uki, _its_command_line_names_another_root, Said("root-unknown", "", uid("the arch before")), drill=False),
    flawed("Arch by a UKI", arch_uki, _its_initramfs_has_no_nvme, Said("nvme-missing")),
    sound("Arch by systemd-boot and UKIs", arch_uki_menu, drill=True),
    flawed("Arch by systemd-boot and UKIs", arch_uki_menu, _the_default_image_has_no_nvme, Said("nvme-missing")),
    sound("Gentoo without initramfs", gentoo, quick=True, drill=True),
    flawed("Gentoo without initramfs", gentoo, _root_is_sda2_without_initramfs, Said("root-by-name", "grub.cfg", "/dev/sda2"), drill=False),
    flawed("Gentoo without initramfs", gentoo, _nvme_was_left_out_of_the_kernel, Said("nvme-missing")),
    flawed("Gentoo without initramfs", gentoo, _it_names_a_partition_of_before, Said("root-unknown", "grub.cfg", "PARTUUID="), drill=False),
    sound("Alpine by extlinux", alpine),
    flawed("Alpine by extlinux", alpine, _its_initramfs_was_made_without_nvme, Said("nvme-missing")),
    flawed("Alpine by extlinux", alpine, _its_root_is_sda3, Said("root-by-name", "extlinux.conf", "/dev/sda3")),
    sound("Flatcar", flatcar, Said("default-unknown"), also=_UNKNOWN),
    flawed("Flatcar", flatcar, _the_esp_has_no_loader, Said("loader-missing"), also=_UNKNOWN),
    sound("Debian with Xen", xen, Said("default-unknown"), also=_UNKNOWN),
    flawed("Debian with Xen", xen, _fstab_names_sdb1, Said("default-unknown"), also=(*_UNKNOWN, "fstab-by-name")),
    sound("Slackware by LILO", lilo, also=_UNKNOWN),
    sound("FreeBSD", freebsd, also=_UNKNOWN),
    sound("Windows by UEFI", windows_uefi, Said("windows"), also=("loader-unknown",)),
    flawed("Windows by UEFI", windows_uefi, _nothing_at_the_removable_path_of_windows, Said("loader-missing"), Said("windows")),
    sound("Windows by the BIOS", windows_bios, Said("windows"), also=("loader-unknown",)),
    flawed("Windows by the BIOS", windows_bios, _its_boot_code_was_wiped, Said("no-boot-code"), Said("windows")),
    flawed("Windows by the BIOS", windows_bios, _a_bitlocker_volume_beside, Said("bitlocker", "partition 2"), Said("windows"),
           also=("loader-unknown",)),
]  # fmt: skip
