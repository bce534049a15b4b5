"""Forms of an initramfs, as kernels take them, and drivers that are not in them."""

from __future__ import annotations

from functools import partial

from systems import kernels
from systems.cases import Case, Said, flawed, sound
from systems.machine import (
    Initramfs,
    Machine,
)
from systems.variations.boxes import SERIAL, VERSION, bios

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


CASES: list[Case] = [
    *(
        sound(f"Initramfs: {packing}", partial(packed, packing), quick=packing == "zstd+zeros+gzip")
        for packing in PACKINGS
    ),
    *(
        flawed(f"Initramfs: {packing}", partial(packed, packing), _the_initramfs_lacks_nvme, Said("nvme-missing"))
        for packing in ("gzip", "early+zeros+xz", "zstd+zeros+gzip", "lz4")
    ),
    flawed("Initramfs", bios, _the_initramfs_is_nonsense, Said("initramfs-unread")),
    flawed("Initramfs", bios, _its_lists_of_modules_are_gone, Said("drivers-unread")),
    flawed("Initramfs", bios, _no_entry_uses_the_serial_port, Said("console-missing", "grub.cfg")),
]
