"""Machines whose kernels' command lines, or fstab's own words, end a start: what is waited for in vain, shells by
choice, drivers kept out, UUIDs in other letters, what a mount can't take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from systems import kernels
from systems.cases import Case, Said, flawed, short_uid, sound, uid
from systems.distributions import debian, others, redhat, ubuntu
from systems.machine import Initramfs, Machine

MENU, MENU2 = "/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"


def rhel_with_word(word: str) -> Machine:
    """RHEL 7 with one word more on its kernels' command lines."""
    machine = redhat.rhel7()
    machine.change(MENU2, "crashkernel=auto", f"crashkernel=auto {word}")
    return machine


def _the_swap_volume_was_removed_and_the_loader_not_told(machine: Machine) -> None:
    del machine.groups["rhel"].volumes["swap"]
    machine.change("/etc/fstab", "/dev/mapper/rhel-swap", "#")


def debian_with_word(word: str) -> Machine:
    machine = debian.debian9()
    machine.change(MENU, "quiet", word)
    return machine


def _the_default_is_the_recovery_entry(machine: Machine) -> None:
    machine.change(MENU, 'set default="0"', 'set default="1>1"')


def _the_root_is_named_in_capitals(machine: Machine) -> None:
    root = uid("debian9 root")
    machine.change(MENU, f"root=UUID={root}", f"root=UUID={root.upper()}")


def _the_esp_is_named_in_small_letters(machine: Machine) -> None:
    serial = short_uid("debian10 esp")
    machine.change("/etc/fstab", serial, serial.lower())


def _home_is_said_to_be_xfs(machine: Machine) -> None:
    machine.change("/etc/fstab", "/home           ext4", "/home           xfs")


def _homes_subvolume_is_gone(machine: Machine) -> None:
    machine.change("/etc/fstab", "subvol=@home", "subvol=@homes")


def _the_roots_subvolume_is_gone(machine: Machine) -> None:
    machine.change(MENU, "rootflags=subvol=@", "rootflags=subvol=@gone")


def _swap_formatted_anew_is_waited_for_without_end(machine: Machine) -> None:
    machine.change(
        "/etc/fstab",
        f"UUID={uid('debian9 swap')} none swap sw",
        f"UUID={uid('the swap before')} none swap sw,x-systemd.device-timeout=0",
    )


def gentoo_in_capitals() -> Machine:
    """The kernel by itself compares without case."""
    machine = others.gentoo()
    part = uid("gentoo part")
    machine.change(MENU, f"root=PARTUUID={part}", f"root=PARTUUID={part.upper()}")
    return machine


def _root_by_uuid_without_initramfs(machine: Machine) -> None:
    machine.change(MENU, f"root=PARTUUID={uid('gentoo part').upper()}", f"root=UUID={uid('gentoo root')}")


def _its_kernel_is_empty(machine: Machine) -> None:
    """As a full disk leaves it."""
    machine.files[f"/boot/vmlinuz-{debian.D9}"] = b""


def _its_initramfs_is_cut(machine: Machine) -> None:
    path = f"/boot/initrd.img-{debian.D9}"
    file = machine.files[path]
    assert isinstance(file, Initramfs)
    whole = kernels.initramfs(file)
    machine.files[path] = whole[: len(whole) - 40]


def with_fallback() -> Machine:
    machine = debian.debian9()
    machine.change(MENU, 'set default="0"', 'set default="0"\nset fallback="1>2"')
    return machine


def _its_initramfs_is_gone_and_the_fallback_is_whole(machine: Machine) -> None:
    machine.drop(f"/boot/initrd.img-{debian.D9}")


def _both_initramfs_are_gone(machine: Machine) -> None:
    machine.drop("/boot/initrd.img-")


def _of(make: Callable[[str], Machine], word: str, *said: Said) -> Case:
    return Case(f"{make('').name} with {word}", partial(make, word), None, said)


_UUID = uid("another disk's")
CASES: list[Case] = [
    flawed("Debian 9", debian.debian9, _its_initramfs_is_cut, Said("initramfs-unread"), drill=False),
    flawed("Debian 9", debian.debian9, _its_kernel_is_empty, Said("kernel-missing", "", "is no kernel"), drill=False),
    flawed(
        "RHEL 7",
        redhat.rhel7,
        _the_swap_volume_was_removed_and_the_loader_not_told,
        Said("kernel-option", "grub.cfg", "rd.lvm.lv=rhel/swap"),
        quick=True,
    ),
    _of(rhel_with_word, "rd.lvm.vg=rhel"),
    _of(rhel_with_word, "rd.lvm.vg=old", Said("kernel-option", "", "rd.lvm.vg=old")),
    _of(rhel_with_word, "rd.lvm=0 rd.lvm.lv=old/swap"),
    _of(rhel_with_word, f"rd.luks.uuid=luks-{_UUID}", Said("kernel-option", "", "rd.luks.uuid=luks-")),
    _of(rhel_with_word, "rd.md.uuid=3a0c3d5e:1f644f0b:9c573e5f:8b7a9d21", Said("kernel-option", "", "rd.md.uuid=")),
    _of(rhel_with_word, "modprobe.blacklist=nouveau,nvme", Said("kernel-option", "", "nvme is not loaded")),
    _of(rhel_with_word, "module_blacklist=ena", Said("kernel-option", "", "ena is not loaded")),
    _of(rhel_with_word, "modprobe.blacklist=nouveau"),
    _of(rhel_with_word, "systemd.unit=emergency.target", Said("kernel-option", "", "systemd.unit=")),
    _of(rhel_with_word, "fips=1 boot=/dev/sda1", Said("kernel-option", "", "boot=/dev/sda1")),
    _of(rhel_with_word, f"fips=1 boot=UUID={_UUID}", Said("kernel-option", "", "boot=UUID=")),
    _of(rhel_with_word, f"fips=1 boot=UUID={uid('rhel7 boot')}"),
    _of(rhel_with_word, "fips=0 boot=/dev/sda1"),
    _of(debian_with_word, "rd.lvm.lv=old/swap", Said("volume-unread", "", "whether the initramfs is dracut's")),
    _of(debian_with_word, f"resume=UUID={_UUID}"),
    flawed("Debian 9", debian.debian9, _the_default_is_the_recovery_entry, Said("kernel-option", "", "single")),
    flawed(
        "Debian 9",
        debian.debian9,
        _the_root_is_named_in_capitals,
        Said("volume-unread", "grub.cfg", uid("debian9 root")),
    ),
    flawed(
        "Debian 9",
        debian.debian9,
        _swap_formatted_anew_is_waited_for_without_end,
        Said("fstab-unknown", "line 3", uid("the swap before")),
    ),
    flawed(
        "Debian 10",
        debian.debian10,
        _the_esp_is_named_in_small_letters,
        Said("fstab-unknown", "line 4", short_uid("debian10 esp")),
    ),
    flawed("Debian 11 on LVM", debian.debian11, _home_is_said_to_be_xfs, Said("fstab-unknown", "line 4", "holds ext4")),
    flawed(
        "Ubuntu 24.04 on Btrfs",
        ubuntu.ubuntu2404,
        _homes_subvolume_is_gone,
        Said("fstab-unknown", "line 3", "no subvolume @homes"),
    ),
    flawed(
        "Ubuntu 24.04 on Btrfs",
        ubuntu.ubuntu2404,
        _the_roots_subvolume_is_gone,
        Said("root-unknown", "grub.cfg", "@gone"),
        also=("drivers-unread",),
        drill=False,
    ),
    sound("Gentoo, its root in capitals", gentoo_in_capitals),
    flawed(
        "Gentoo, its root in capitals",
        gentoo_in_capitals,
        _root_by_uuid_without_initramfs,
        Said("volume-unread", "grub.cfg", "no initramfs"),
    ),
    sound("Debian 9 with a fallback", with_fallback),
    flawed(
        "Debian 9 with a fallback",
        with_fallback,
        _its_initramfs_is_gone_and_the_fallback_is_whole,
        Said("default-unknown", "", "is not there, so that"),
    ),
    flawed("Debian 9 with a fallback", with_fallback, _both_initramfs_are_gone, Said("initramfs-missing")),
]
