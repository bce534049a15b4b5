"""Debian 9 to 13 and Ubuntu 18.04 to 24.04, as their installers lay them out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from systems import kernels, loaders
from systems.cases import Case, Said, esp, flawed, fstab, release, short_uid, sound, uid
from systems.loaders import Start
from systems.machine import (
    BIOS_BOOT_TYPE,
    EXTENDED,
    LVM,
    SWAP,
    Core,
    Disk,
    Fs,
    Group,
    Initramfs,
    Kernel,
    Link,
    Locked,
    Logical,
    Machine,
    Part,
    Physical,
)

SERIAL = "console=tty0 console=ttyS0,115200"


def menu(
    machine: Machine, path: str, root: str, starts: list[Start], *, default: str = "0", name: str = "Debian GNU/Linux"
) -> None:
    """grub.cfg as update-grub writes it: the newest kernel, and a submenu of all."""
    first = Start(name, starts[0].kernel, starts[0].initrd, starts[0].cmdline, "gnulinux-simple-root")
    inner = [
        loaders.grub_entry(
            Start(
                f"{name}, with Linux {start.title}",
                start.kernel,
                start.initrd,
                start.cmdline + more,
                f"gnulinux-{start.title}-{kind}-root",
            ),
            root,
        )
        for start in starts
        for kind, more in (("advanced", ""), ("recovery", " single"))
    ]
    text = loaders.grub_header(default) + loaders.grub_entry(first, root)
    text += loaders.grub_submenu(f"Advanced options for {name}", "gnulinux-advanced-root", inner)
    text += "if [ -f  $prefix/custom.cfg ]; then\n  source $prefix/custom.cfg\nfi\n"
    machine.put(
        path, text + "menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {\n\tfwsetup\n}\n"
    )


def start_of(version: str, root: str, *, folder: str = "/boot", more: str = "ro quiet") -> Start:
    return Start(
        version, f"{folder}/vmlinuz-{version}", f"{folder}/initrd.img-{version}", f"root={root} {more} {SERIAL}"
    )


# Debian 9: BIOS, MBR, one ext4, swap in a logical partition

D9, D9_OLD = "4.9.0-19-amd64", "4.9.0-13-amd64"


def debian9() -> Machine:
    root, swap = uid("debian9 root"), uid("debian9 swap")
    machine = Machine(
        "debian9",
        "bios",
        [
            Disk(
                256,
                core=Core("(,msdos1)/boot/grub"),
                parts=[
                    Part(Fs("ext4", root, mounts={"/": ""}), 200, active=True),
                    Part(None, 0, EXTENDED),
                    Part(Fs("swap", swap), 0, "82"),
                ],
            )
        ],
    )
    release(machine, "debian", "9")
    for version in (D9, D9_OLD):
        kernels.install(machine, version)
    menu(machine, "/boot/grub/grub.cfg", loaders.grub_root(root), [start_of(v, f"UUID={root}") for v in (D9, D9_OLD)])
    fstab(
        machine,
        f"UUID={root} /               ext4    errors=remount-ro 0       1",
        f"UUID={swap} none swap sw 0 0",
        "/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0",
    )
    return machine


def _swap_formatted_anew(machine: Machine) -> None:
    machine.change("/etc/fstab", uid("debian9 swap"), uid("the swap before"))


def _default_is_an_older_kernel_without_nvme(machine: Machine) -> None:
    machine.change("/boot/grub/grub.cfg", 'set default="0"', 'set default="1>2"')
    path = f"/boot/initrd.img-{D9_OLD}"
    machine.files[path] = Initramfs(D9_OLD, ("kernel/fs/ext4/ext4.ko",))


def _first_entry_names_a_kernel_that_is_gone_but_is_not_the_default(machine: Machine) -> None:
    machine.change(
        "/boot/grub/grub.cfg",
        'set default="0"',
        f"set default='Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {D9_OLD}'",
    )
    machine.drop(f"/boot/vmlinuz-{D9}", f"/boot/initrd.img-{D9}")


# Debian 10: UEFI with Secure Boot's loaders, also at the removable path


def debian10() -> Machine:
    root, swap = uid("debian10 root"), uid("debian10 swap")
    machine = Machine(
        "debian10",
        "uefi",
        [
            Disk(
                300,
                "gpt",
                [
                    Part(esp("debian10"), 48, "U"),
                    Part(Fs("ext4", root, mounts={"/": ""}), 200),
                    Part(Fs("swap", swap), 0, SWAP),
                ],
            )
        ],
    )
    release(machine, "debian", "10")
    version = "4.19.0-26-amd64"
    kernels.install(machine, version)
    hint = loaders.grub_root(root, "hd0,gpt2")
    menu(machine, "/boot/grub/grub.cfg", hint, [start_of(version, f"UUID={root}")])
    fstab(
        machine,
        f"UUID={root} / ext4 errors=remount-ro 0 1",
        f"UUID={swap} none swap sw 0 0",
        f"UUID={short_uid('debian10 esp')}  /boot/efi  vfat  umask=0077  0  1",
    )
    signed(machine, "debian", loaders.debians_grub(), root)
    return machine


def signed(
    machine: Machine, name: str, grub: bytes, boot: str, prefix: str = "/boot/grub", *, at: str = "/boot/efi"
) -> None:
    """shim and GRUB as `grub-install` puts them, with --force-extra-removable."""
    home, removable = f"{at}/EFI/{name}", f"{at}/EFI/BOOT"
    machine.files |= {
        f"{home}/shimx64.efi": loaders.shim(),
        f"{home}/grubx64.efi": grub,
        f"{home}/mmx64.efi": loaders.mok_manager(),
        f"{home}/fbx64.efi": loaders.fallback(),
        f"{home}/BOOTX64.CSV": loaders.boot_csv("shimx64.efi", name),
        f"{removable}/BOOTX64.EFI": loaders.shim(),
        f"{removable}/fbx64.efi": loaders.fallback(),
        f"{removable}/mmx64.efi": loaders.mok_manager(),
    }
    machine.put(f"{home}/grub.cfg", loaders.stub(boot, prefix))


def _nothing_at_the_removable_path(machine: Machine) -> None:
    machine.drop("/boot/efi/EFI/BOOT/")


def _shim_alone_at_the_removable_path(machine: Machine) -> None:
    machine.drop("/boot/efi/EFI/BOOT/fbx64.efi", "/boot/efi/EFI/BOOT/mmx64.efi")


def _the_stub_names_the_root_of_before(machine: Machine) -> None:
    machine.change("/boot/efi/EFI/debian/grub.cfg", uid("debian10 root"), uid("the root before"))


def debian10_copied() -> Machine:
    """By hand: shim and GRUB beside each other at the removable path, no fallback."""
    machine = debian10()
    machine.drop("/boot/efi/EFI/BOOT/fbx64.efi")
    machine.files["/boot/efi/EFI/BOOT/grubx64.efi"] = loaders.debians_grub()
    return machine


# Debian 11: BIOS, /boot on ext4, the rest in LVM


def debian11() -> Machine:
    boot, root = uid("debian11 boot"), uid("debian11 root")
    machine = Machine(
        "debian11",
        "bios",
        [
            Disk(
                640,
                core=Core("(,msdos1)/grub"),
                parts=[
                    Part(Fs("ext2", boot, mounts={"/boot": ""}), 160, active=True),
                    Part(None, 0, EXTENDED),
                    Part(Physical("debian-vg"), 0, LVM),
                ],
            )
        ],
        groups={
            "debian-vg": Group(
                {
                    "root": Logical(Fs("ext4", root, mounts={"/": ""}, mib=200)),
                    "swap_1": Logical(Fs("swap", uid("debian11 swap"), mib=32)),
                    "home": Logical(Fs("ext4", uid("debian11 home"), mounts={"/home": ""}, mib=64)),
                }
            )
        },
    )
    release(machine, "debian", "11")
    version = "5.10.0-28-amd64"
    kernels.install(machine, version)
    start = start_of(version, "/dev/mapper/debian--vg-root", folder="")
    menu(machine, "/boot/grub/grub.cfg", loaders.grub_root(boot), [start])
    machine.put("/home/user/.profile", "\n")
    fstab(
        machine,
        "/dev/mapper/debian--vg-root /               ext4    errors=remount-ro 0       1",
        f"UUID={boot} /boot           ext2    defaults        0       2",
        "/dev/mapper/debian--vg-home /home           ext4    defaults        0       2",
        "/dev/mapper/debian--vg-swap_1 none            swap    sw              0       0",
    )
    return machine


def _the_group_was_renamed_and_the_loader_not_told(machine: Machine) -> None:
    machine.change("/boot/grub/grub.cfg", "/dev/mapper/debian--vg-root", "/dev/mapper/host--vg-root")


def _home_lies_on_a_disk_that_is_not_replicated(machine: Machine) -> None:
    group = machine.groups["debian-vg"]
    group.absent = 1
    group.volumes["home"].on = 1


def _the_initramfs_is_gone(machine: Machine) -> None:
    path = next(path for path in machine.files if path.startswith("/boot/initrd.img-"))
    machine.drop(path)


# Debian 12: on Btrfs; in LUKS


def debian12_btrfs() -> Machine:
    root = uid("debian12 btrfs")
    machine = Machine(
        "debian12-btrfs",
        "bios",
        [
            Disk(
                420,
                "gpt",
                [
                    Part(Core("(,gpt2)/@rootfs/boot/grub"), 1, BIOS_BOOT_TYPE),
                    Part(Fs("btrfs", root, mounts={"/": "/@rootfs", "/home": "/@home"}), 0),
                ],
            )
        ],
    )
    release(machine, "debian", "12")
    version = "6.1.0-18-amd64"
    kernels.install(machine, version, packing="early+zstd")
    start = start_of(version, f"UUID={root}", folder="/@rootfs/boot", more="ro rootflags=subvol=@rootfs quiet")
    menu(machine, "/boot/grub/grub.cfg", loaders.grub_root(root, "hd0,gpt2"), [start])
    machine.put("/home/user/.profile", "\n")
    fstab(
        machine,
        f"UUID={root} /               btrfs   defaults,subvol=@rootfs 0       0",
        f"UUID={root} /home           btrfs   defaults,subvol=@home 0       0",
    )
    return machine


def real(make: Callable[[], Machine], default: str = "") -> Machine:
    """The same with subvolumes in place of folders."""
    machine = make()
    for fs in machine.every():
        fs.real, fs.default = fs.kind == "btrfs", default
    return machine


def _fstab_names_the_root_by_its_bus(machine: Machine) -> None:
    line = machine.text("/etc/fstab").splitlines()[1]
    machine.change("/etc/fstab", line.split()[0], "/dev/sda2", 1)


def debian12_luks() -> Machine:
    boot = uid("debian12 luks boot")
    machine = Machine(
        "debian12-luks",
        "bios",
        [
            Disk(
                320,
                core=Core("(,msdos1)/grub"),
                parts=[
                    Part(Fs("ext4", boot, mounts={"/boot": ""}), 160, active=True),
                    Part(None, 0, EXTENDED),
                    Part(Locked(uid("debian12 luks"), 2)),
                ],
            )
        ],
    )
    version = "6.1.0-18-amd64"
    machine.files[f"/boot/vmlinuz-{version}"] = Kernel(version)
    machine.files[f"/boot/initrd.img-{version}"] = Initramfs(version, (kernels.NVME,), "zstd")
    start = start_of(version, "/dev/mapper/debian--vg-root", folder="")
    menu(machine, "/boot/grub/grub.cfg", loaders.grub_root(boot), [start])
    return machine


def _the_kernel_is_gone(machine: Machine) -> None:
    for path in [path for path, file in machine.files.items() if isinstance(file, Kernel)]:
        del machine.files[path]


# Debian 13: UEFI, GRUB's own image at the removable path, newer ext4, kernels by links


def debian13() -> Machine:
    root = uid("debian13 root")
    options = ("-O", "metadata_csum_seed,orphan_file")
    machine = Machine(
        "debian13",
        "uefi",
        [
            Disk(
                300,
                "gpt",
                [
                    Part(esp("debian13"), 48, "U"),
                    Part(Fs("ext4", root, mounts={"/": ""}, options=options), 0),
                ],
            )
        ],
    )
    release(machine, "debian", "13")
    version = "6.12.38+deb13-amd64"
    kernels.install(machine, version, packing="zstd", modules=".xz", home="/usr/lib/modules")
    machine.files["/lib"] = Link("usr/lib")
    machine.files |= {"/vmlinuz": Link(f"boot/vmlinuz-{version}"), "/initrd.img": Link(f"boot/initrd.img-{version}")}
    hint = loaders.grub_root(root, "hd0,gpt2")
    links = Start("links", "/vmlinuz", "($root)/initrd.img", f"root=UUID={root} ro {SERIAL}")
    machine.put("/boot/grub/grub.cfg", loaders.grub_header("0") + loaders.grub_entry(links, hint))
    early = f"search.fs_uuid {root} root hd0,gpt2 \nset prefix=($root)'/boot/grub'\n"
    machine.files["/boot/efi/EFI/BOOT/BOOTX64.EFI"] = loaders.grub_efi("(,gpt2)/boot/grub", early)
    fstab(
        machine,
        f"UUID={root} / ext4 errors=remount-ro 0 1",
        f"UUID={short_uid('debian13 esp')} /boot/efi vfat umask=0077 0 1",
    )
    return machine


def _the_link_to_the_initramfs_leads_nowhere(machine: Machine) -> None:
    machine.files["/initrd.img"] = Link("boot/initrd.img-6.11.0-removed")


def _the_grub_image_finds_no_configuration(machine: Machine) -> None:
    machine.drop("/boot/grub/grub.cfg")


# Debian 12 by systemd-boot

TOKEN = "5c4cf6a8e7e04d0c9e44c6d3c8f0a1b2"


def debian_sdboot() -> Machine:
    root = uid("debian sdboot")
    machine = Machine(
        "debian12-sdboot",
        "uefi",
        [
            Disk(
                420,
                "gpt",
                [
                    Part(esp("sdboot"), 180, "U"),
                    Part(Fs("ext4", root, mounts={"/": ""}), 0),
                ],
            )
        ],
    )
    release(machine, "debian", "12")
    machine.put("/etc/machine-id", TOKEN + "\n")
    machine.put("/boot/efi/loader/loader.conf", "#timeout 3\n#console-mode keep\n")
    machine.put("/boot/efi/loader/entries.srel", "type1\n")
    machine.files["/boot/efi/EFI/BOOT/BOOTX64.EFI"] = loaders.systemd_boot()
    machine.files["/boot/efi/EFI/systemd/systemd-bootx64.efi"] = loaders.systemd_boot()
    for version in ("6.1.0-18-amd64", "6.1.0-9-amd64"):
        folder = f"/{TOKEN}/{version}"
        kernels.install(
            machine,
            version,
            packing="zstd",
            kernel="/boot/efi" + folder + "/linux",
            initrd="/boot/efi" + folder + "/initrd.img-{}",
        )
        start = Start(
            "Debian GNU/Linux 12 (bookworm)",
            f"{folder}/linux",
            f"{folder}/initrd.img-{version}",
            f"root=UUID={root} ro {SERIAL} systemd.machine_id={TOKEN}",
        )
        entry = loaders.bls(start, version, machine_id=TOKEN, sort_key="debian")
        machine.files[f"/boot/efi/loader/entries/{TOKEN}-{version}.conf"] = entry
    fstab(
        machine,
        f"UUID={root} / ext4 errors=remount-ro 0 1",
        f"UUID={short_uid('sdboot esp')} /boot/efi vfat umask=0077 0 1",
    )
    return machine


def _the_newest_kernels_folder_is_empty(machine: Machine) -> None:
    machine.drop(f"/boot/efi/{TOKEN}/6.1.0-18-amd64/")


def _the_initramfs_of_the_newest_is_gone(machine: Machine) -> None:
    machine.drop(f"/boot/efi/{TOKEN}/6.1.0-18-amd64/initrd")


def _loader_conf_pins_one_without_nvme(machine: Machine) -> None:
    machine.put("/boot/efi/loader/loader.conf", "default *-6.1.0-9-*\ntimeout 3\n")
    machine.files[f"/boot/efi/{TOKEN}/6.1.0-9-amd64/initrd.img-6.1.0-9-amd64"] = Initramfs("6.1.0-9-amd64", ())


CASES: list[Case] = [
    sound("Debian 9", debian9, quick=True, drill=True),
    flawed("Debian 9", debian9, _swap_formatted_anew, Said("fstab-optional", "/etc/fstab", uid("the swap before"))),
    flawed("Debian 9", debian9, _default_is_an_older_kernel_without_nvme, Said("nvme-missing", D9_OLD), quick=True),
    Case(
        "Debian 9, the default is named by titles, and the first entry's kernel is gone",
        debian9,
        _first_entry_names_a_kernel_that_is_gone_but_is_not_the_default,
        drill=True,
    ),
    sound("Debian 10", debian10, drill=True),
    flawed("Debian 10", debian10, _nothing_at_the_removable_path, Said("loader-missing"), drill=False),
    flawed("Debian 10", debian10, _shim_alone_at_the_removable_path, Said("loader-incomplete"), drill=False),
    flawed("Debian 10", debian10, _the_stub_names_the_root_of_before, Said("loader-incomplete"), drill=False),
    sound("Debian 10 with shim and GRUB copied", debian10_copied, drill=True),
    sound("Debian 11 on LVM", debian11, quick=True, drill=True),
    flawed(
        "Debian 11 on LVM",
        debian11,
        _the_group_was_renamed_and_the_loader_not_told,
        Said("root-unknown|volume-unread", "grub.cfg", "host--vg-root"),
        drill=False,
    ),
    flawed(
        "Debian 11 on LVM",
        debian11,
        _home_lies_on_a_disk_that_is_not_replicated,
        Said("lvm-incomplete"),
        also=("fstab-unknown",),
        quick=True,
    ),
    flawed("Debian 11 on LVM", debian11, _the_initramfs_is_gone, Said("initramfs-missing"), drill=False),
    sound("Debian 12 on Btrfs", debian12_btrfs, quick=True),
    flawed(
        "Debian 12 on Btrfs",
        debian12_btrfs,
        _fstab_names_the_root_by_its_bus,
        Said("fstab-by-name", "/etc/fstab line 2", "/dev/sda2"),
    ),
    sound("Debian 12 on Btrfs with subvolumes", partial(real, debian12_btrfs), drill=True),
    flawed(
        "Debian 12 on Btrfs with subvolumes",
        partial(real, debian12_btrfs),
        _fstab_names_the_root_by_its_bus,
        Said("fstab-by-name", "/etc/fstab line 2", "/dev/sda2"),
    ),
    sound(
        "Debian 12 in LUKS",
        debian12_luks,
        Said("luks", "partition 5"),
        also=("system-unread", "drivers-unread", "root-unseen", "volume-unread"),
    ),
    flawed(
        "Debian 12 in LUKS",
        debian12_luks,
        _the_kernel_is_gone,
        Said("luks", "partition 5"),
        Said("kernel-missing"),
        also=("system-unread", "drivers-unread", "root-unseen", "volume-unread"),
    ),
    sound("Debian 13", debian13, quick=True, drill=True),
    flawed("Debian 13", debian13, _the_link_to_the_initramfs_leads_nowhere, Said("initramfs-missing"), drill=False),
    flawed("Debian 13", debian13, _the_grub_image_finds_no_configuration, Said("loader-incomplete"), drill=False),
    sound("Debian 12 by systemd-boot", debian_sdboot, drill=True),
    # systemd-boot leaves out an entry whose kernel is not there, and starts the next.
    Case(
        "Debian 12 by systemd-boot, the newest kernel's folder is empty",
        debian_sdboot,
        _the_newest_kernels_folder_is_empty,
        drill=True,
    ),
    flawed(
        "Debian 12 by systemd-boot",
        debian_sdboot,
        _the_initramfs_of_the_newest_is_gone,
        Said("initramfs-missing"),
        drill=False,
    ),
    flawed(
        "Debian 12 by systemd-boot", debian_sdboot, _loader_conf_pins_one_without_nvme, Said("nvme-missing", "6.1.0-9")
    ),
]
