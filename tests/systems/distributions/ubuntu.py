"""Ubuntu 18.04 to 24.04, as their installers lay them out."""

from __future__ import annotations

from functools import partial

import lvmdisk
from systems import kernels, loaders
from systems.cases import Case, Said, add, esp, flawed, fstab, release, short_uid, sound, uid
from systems.distributions.debian import menu, real, signed, start_of
from systems.machine import BIOS_BOOT_TYPE, Core, Disk, Fs, Group, Initramfs, Link, Logical, Machine, Part, Physical


def ubuntu1804() -> Machine:
    root = uid("bionic root")
    machine = Machine(
        "ubuntu18.04",
        "bios",
        [
            Disk(
                300,
                "gpt",
                [
                    Part(Core("(,gpt2)/boot/grub"), 1, BIOS_BOOT_TYPE),
                    Part(Fs("ext4", root, mounts={"/": ""}), 0),
                ],
            )
        ],
    )
    release(machine, "ubuntu", "18.04", "debian")
    version = "4.15.0-213-generic"
    kernels.install(machine, version, packing="early+lz4", nvme="module", ena="module")
    # Ubuntu's initramfs has them all (MODULES=most).
    machine.files[f"/boot/initrd.img-{version}"] = Initramfs(version, (kernels.NVME, kernels.ENA), "early+lz4")
    menu(
        machine,
        "/boot/grub/grub.cfg",
        loaders.grub_root(root, "hd0,gpt2"),
        [start_of(version, f"UUID={root}", more="ro maybe-ubiquity")],
        name="Ubuntu",
    )
    machine.files["/swap.img"] = bytes(4096)
    fstab(machine, f"UUID={root} / ext4 defaults 0 0", "/swap.img\tnone\tswap\tsw\t0\t0")
    return machine


def _data_by_its_path_on_the_bus(machine: Machine) -> None:
    add(machine, "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1 /data ext4 defaults 0 2")


def ubuntu2004() -> Machine:
    boot, root = uid("focal boot"), uid("focal root")
    machine = Machine(
        "ubuntu20.04",
        "uefi",
        [
            Disk(
                640,
                "gpt",
                [
                    Part(esp("focal"), 48, "U"),
                    Part(Fs("ext4", boot, mounts={"/boot": ""}), 160),
                    Part(Physical("ubuntu-vg"), 0),
                ],
            )
        ],
        groups={"ubuntu-vg": Group({"ubuntu-lv": Logical(Fs("ext4", root, mounts={"/": ""}, mib=200))})},
    )
    release(machine, "ubuntu", "20.04", "debian")
    version = "5.4.0-170-generic"
    kernels.install(machine, version, packing="early+lz4")
    menu(
        machine,
        "/boot/grub/grub.cfg",
        loaders.grub_root(boot, "hd0,gpt2"),
        [start_of(version, "/dev/mapper/ubuntu--vg-ubuntu--lv", folder="")],
        name="Ubuntu",
    )
    signed(machine, "ubuntu", loaders.grub_efi("/EFI/ubuntu"), boot, "/grub")
    identity = (lvmdisk.pvid("ubuntu-vg", 99) + lvmdisk.pvid("ubuntu-vgubuntu-lv", 0)).replace("-", "")
    fstab(
        machine,
        f"/dev/disk/by-id/dm-uuid-LVM-{identity} / ext4 defaults 0 1",
        f"/dev/disk/by-uuid/{boot} /boot ext4 defaults 0 1",
        f"/dev/disk/by-uuid/{short_uid('focal esp')} /boot/efi vfat defaults 0 1",
    )
    return machine


def _the_root_logical_volume_was_made_anew(machine: Machine) -> None:
    line = machine.text("/etc/fstab").splitlines()[1].split()[0]
    machine.change("/etc/fstab", line, "/dev/disk/by-id/dm-uuid-LVM-" + "Q" * 64)


def ubuntu2204() -> Machine:
    root = uid("jammy root")
    machine = Machine(
        "ubuntu22.04",
        "uefi",
        [
            Disk(
                400,
                "gpt",
                [
                    Part(esp("jammy"), 48, "U"),
                    Part(Fs("ext4", root, mounts={"/": ""}), 0),
                ],
            )
        ],
    )
    release(machine, "ubuntu", "22.04", "debian")
    versions = "5.15.0-113-generic", "5.15.0-91-generic"
    for version in versions:
        kernels.install(machine, version, packing="early+early+zstd")
    menu(
        machine,
        "/boot/grub/grub.cfg",
        loaders.grub_root(root, "hd0,gpt2"),
        [start_of(version, f"UUID={root}") for version in versions],
        default="${saved_entry}",
        name="Ubuntu",
    )
    saved = f"gnulinux-advanced-root>gnulinux-{versions[1]}-advanced-root"
    machine.files["/boot/grub/grubenv"] = loaders.grub_environment(saved_entry=saved)
    signed(machine, "ubuntu", loaders.grub_efi("/EFI/ubuntu"), root)
    fstab(
        machine,
        f"/dev/disk/by-uuid/{root} / ext4 defaults 0 1",
        f"/dev/disk/by-uuid/{short_uid('jammy esp')} /boot/efi vfat defaults 0 1",
    )
    return machine


def _the_saved_entrys_kernel_was_removed(machine: Machine) -> None:
    machine.drop(
        "/boot/vmlinuz-5.15.0-91-generic", "/boot/initrd.img-5.15.0-91-generic", "/lib/modules/5.15.0-91-generic/"
    )


def _the_next_start_is_another_kernel_without_nvme(machine: Machine) -> None:
    entry = "gnulinux-advanced-root>gnulinux-5.15.0-113-generic-advanced-root"
    saved = "gnulinux-advanced-root>gnulinux-5.15.0-91-generic-advanced-root"
    machine.files["/boot/grub/grubenv"] = loaders.grub_environment(saved_entry=saved, next_entry=entry)
    machine.files["/boot/initrd.img-5.15.0-113-generic"] = Initramfs("5.15.0-113-generic", (), "early+zstd")


def ubuntu2404() -> Machine:
    root = uid("noble root")
    machine = Machine(
        "ubuntu24.04",
        "uefi",
        [
            Disk(
                480,
                "gpt",
                [
                    Part(esp("noble"), 48, "U"),
                    Part(Fs("btrfs", root, mounts={"/": "/@", "/home": "/@home"}), 0),
                ],
            )
        ],
    )
    release(machine, "ubuntu", "24.04", "debian")
    version = "6.8.0-31-generic"
    kernels.install(machine, version, packing="early+zstd", modules=".zst", home="/usr/lib/modules")
    machine.files["/lib"] = Link("usr/lib")
    menu(
        machine,
        "/boot/grub/grub.cfg",
        loaders.grub_root(root, "hd0,gpt2"),
        [start_of(version, f"UUID={root}", folder="/@/boot", more="ro rootflags=subvol=@ quiet splash")],
        name="Ubuntu",
    )
    signed(machine, "ubuntu", loaders.grub_efi("/EFI/ubuntu"), root, "/@/boot/grub")
    machine.put("/home/user/.profile", "\n")
    fstab(
        machine,
        f"UUID={root} / btrfs defaults,subvol=@ 0 1",
        f"UUID={root} /home btrfs defaults,subvol=@home 0 2",
        f"UUID={short_uid('noble esp')} /boot/efi vfat umask=0077 0 1",
    )
    return machine


def _its_modules_lack_ena(machine: Machine) -> None:
    (path,) = (path for path in machine.files if path.endswith("modules.dep"))
    module = next(path for path in machine.files if "/ena.ko" in path)
    machine.drop(module)
    machine.put(path, "".join(line for line in machine.text(path).splitlines(True) if "/ena.ko" not in line))


CASES: list[Case] = [
    sound("Ubuntu 18.04", ubuntu1804),
    flawed("Ubuntu 18.04", ubuntu1804, _data_by_its_path_on_the_bus, Said("fstab-by-name", "line 4", "by-path")),
    sound("Ubuntu 20.04 on LVM", ubuntu2004, drill=True),
    flawed(
        "Ubuntu 20.04 on LVM",
        ubuntu2004,
        _the_root_logical_volume_was_made_anew,
        Said("fstab-unknown", "line 2", "dm-uuid-LVM-Q"),
    ),
    sound("Ubuntu 22.04", ubuntu2204),
    flawed("Ubuntu 22.04", ubuntu2204, _the_saved_entrys_kernel_was_removed, Said("kernel-missing")),
    flawed("Ubuntu 22.04", ubuntu2204, _the_next_start_is_another_kernel_without_nvme, Said("nvme-missing", "113")),
    sound("Ubuntu 24.04 on Btrfs", ubuntu2404),
    sound("Ubuntu 24.04 on Btrfs with subvolumes", partial(real, ubuntu2404), drill=True),
    flawed("Ubuntu 24.04 on Btrfs", ubuntu2404, _its_modules_lack_ena, Said("ena-missing")),
]
