"""Arch, Gentoo and Alpine, as their installers or handbooks have them."""

from __future__ import annotations

from pathlib import Path

import bootdisk
from systems import kernels, loaders
from systems.cases import Case, Said, esp, flawed, fstab, release, short_uid, sound, uid
from systems.loaders import Start
from systems.machine import (
    SWAP,
    Disk,
    Fs,
    Initramfs,
    Link,
    Machine,
    Part,
    Uki,
)

SERIAL = "console=tty0 console=ttyS0,115200"

# Arch: its kernel has no version in its name, and lies on the ESP

ARCH = "6.9.3-arch1-1"


def _arch(name: str) -> Machine:
    root = uid(name + " root")
    machine = Machine(
        name,
        "uefi",
        [
            Disk(
                420,
                "gpt",
                [
                    Part(esp(name, "/boot"), 180, "U"),
                    Part(Fs("ext4", root, mounts={"/": ""}), 0, uuid=uid(name + " part")),
                ],
            )
        ],
    )
    release(machine, "arch", "rolling")
    machine.files["/lib"] = Link("usr/lib")
    fstab(
        machine,
        f"UUID={root}  /  ext4  rw,relatime  0 1",
        f"UUID={short_uid(name + ' esp')}  /boot  vfat  rw,relatime,fmask=0022  0 2",
    )
    return machine


def arch() -> Machine:
    machine = _arch("arch")
    kernels.install(
        machine,
        ARCH,
        kernel="/boot/vmlinuz-linux",
        initrd="/boot/initramfs-linux.img",
        packing="zstd",
        home="/usr/lib/modules",
        modules=".zst",
    )
    machine.files["/boot/intel-ucode.img"] = kernels.packed(
        kernels.cpio(["kernel/x86/microcode/GenuineIntel.bin"]), "plain"
    )
    machine.files["/boot/EFI/BOOT/BOOTX64.EFI"] = loaders.systemd_boot()
    machine.put("/boot/loader/loader.conf", "default arch.conf\ntimeout 1\n")
    machine.put(
        "/boot/loader/entries/arch.conf",
        "title   Arch Linux\nlinux   /vmlinuz-linux\ninitrd  /intel-ucode.img\ninitrd  /initramfs-linux.img\n"
        f"options root=UUID={uid('arch root')} rw {SERIAL}\n",
    )
    machine.put(
        "/boot/loader/entries/arch-fallback.conf",
        "title   Arch Linux (fallback)\nlinux   /vmlinuz-linux\ninitrd  /initramfs-linux-fallback.img\n"
        f"options root=UUID={uid('arch root')} rw\n",
    )
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
        "/boot/EFI/BOOT/BOOTX64.EFI": loaders.systemd_boot(),
        "/boot/EFI/Linux/arch-linux.efi": image,
        "/boot/EFI/Linux/arch-linux-lts.efi": Uki(old, image.cmdline, Initramfs(old, names, "zstd")),
        "/boot/loader/loader.conf": b"default arch-linux.efi\n",
    }
    return machine


def _the_default_image_has_no_nvme(machine: Machine) -> None:
    image = machine.files["/boot/EFI/Linux/arch-linux.efi"]
    assert isinstance(image, Uki)
    machine.files["/boot/EFI/Linux/arch-linux.efi"] = Uki(ARCH, image.cmdline, Initramfs(ARCH, (), "zstd"))


# Gentoo: all drivers in the kernel, no initramfs


def gentoo() -> Machine:
    root = uid("gentoo root")
    machine = Machine(
        "gentoo",
        "uefi",
        [
            Disk(
                300,
                "gpt",
                [
                    Part(esp("gentoo", "/efi"), 48, "U"),
                    Part(Fs("ext4", root, mounts={"/": ""}), 0, uuid=uid("gentoo part")),
                ],
            )
        ],
    )
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
    machine.put(
        "/boot/extlinux.conf",
        (
            "# Generated by update-extlinux 6.04_pre1-r15\nDEFAULT menu.c32\nPROMPT 0\n"
            "MENU TITLE Alpine/Linux Boot Menu\nTIMEOUT 10\n"
            "LABEL virt\n  MENU LABEL Linux virt\n  LINUX vmlinuz-virt\n  INITRD initramfs-virt\n"
            f"  APPEND root=UUID={root} modules=sd-mod quiet rootfstype=ext4\nLABEL lts\n  MENU DEFAULT\n"
            "  MENU LABEL Linux lts\n  LINUX vmlinuz-lts\n  INITRD initramfs-lts\n"
            f"  APPEND root=UUID={root} modules=sd-mod,usb-storage,ext4,nvme quiet rootfstype=ext4 {SERIAL}\n"
        ),
    )
    machine.files |= {
        "/boot/ldlinux.sys": b"\r\nSYSLINUX 6.04",
        "/boot/ldlinux.c32": b"\x7fELF",
        "/boot/menu.c32": b"\x7fELF",
    }
    fstab(
        machine,
        f"UUID={root}\t/\text4\trw,relatime 0 1",
        f"UUID={boot}\t/boot\text4\trw,relatime 0 2",
        f"UUID={uid('alpine swap')}\tswap\tswap\tdefaults\t0 0",
        "/dev/cdrom\t/media/cdrom\tiso9660\tnoauto,ro 0 0",
        "/dev/usbdisk\t/media/usb\tvfat\tnoauto\t0 0",
    )
    return machine


def _its_initramfs_was_made_without_nvme(machine: Machine) -> None:
    machine.files["/boot/initramfs-lts"] = Initramfs("6.6.32-0-lts", ("kernel/drivers/scsi/vmw_pvscsi.ko.gz",))


def _its_root_is_sda3(machine: Machine) -> None:
    text = machine.text("/boot/extlinux.conf")
    first, second = text.split("LABEL lts")
    machine.put("/boot/extlinux.conf", first + "LABEL lts" + second.replace(f"UUID={uid('alpine root')}", "/dev/sda3"))


CASES: list[Case] = [
    sound("Arch by systemd-boot", arch, quick=True, drill=True),
    flawed("Arch by systemd-boot", arch, _root_is_sda2, Said("root-by-name", "arch.conf", "/dev/sda2"), drill=False),
    flawed(
        "Arch by systemd-boot",
        arch,
        _the_default_is_the_fallback_whose_initramfs_is_not_there,
        Said("initramfs-missing", "", "fallback"),
        drill=False,
    ),
    flawed(
        "Arch by systemd-boot",
        arch,
        _its_microcode_alone_is_missing,
        Said("initramfs-missing", "", "intel-ucode"),
        drill=False,
    ),
    sound("Arch by a UKI", arch_uki, drill=True),
    flawed(
        "Arch by a UKI",
        arch_uki,
        _its_command_line_names_another_root,
        Said("root-unknown", "", uid("the arch before")),
        drill=False,
    ),
    flawed("Arch by a UKI", arch_uki, _its_initramfs_has_no_nvme, Said("nvme-missing")),
    sound("Arch by systemd-boot and UKIs", arch_uki_menu, drill=True),
    flawed("Arch by systemd-boot and UKIs", arch_uki_menu, _the_default_image_has_no_nvme, Said("nvme-missing")),
    sound("Gentoo without initramfs", gentoo, quick=True, drill=True),
    flawed(
        "Gentoo without initramfs",
        gentoo,
        _root_is_sda2_without_initramfs,
        Said("root-by-name", "grub.cfg", "/dev/sda2"),
        drill=False,
    ),
    flawed("Gentoo without initramfs", gentoo, _nvme_was_left_out_of_the_kernel, Said("nvme-missing")),
    flawed(
        "Gentoo without initramfs",
        gentoo,
        _it_names_a_partition_of_before,
        Said("root-unknown", "grub.cfg", "PARTUUID="),
        drill=False,
    ),
    sound("Alpine by extlinux", alpine),
    flawed("Alpine by extlinux", alpine, _its_initramfs_was_made_without_nvme, Said("nvme-missing")),
    flawed("Alpine by extlinux", alpine, _its_root_is_sda3, Said("root-by-name", "extlinux.conf", "/dev/sda3")),
]
