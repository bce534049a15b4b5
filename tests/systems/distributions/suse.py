"""SUSE Linux Enterprise 12 and 15 and openSUSE, as their installers lay them out: snapshots on Btrfs, mostly."""

from __future__ import annotations

from functools import partial

import bootdisk
from systems import kernels, loaders
from systems.cases import Case, Said, add, esp, flawed, fstab, release, short_uid, sound, uid
from systems.distributions.debian import real
from systems.loaders import Start
from systems.machine import (
    BIOS_BOOT_TYPE,
    LVM,
    SWAP,
    Core,
    Disk,
    Fs,
    Group,
    Initramfs,
    Link,
    Logical,
    Machine,
    Part,
    Physical,
)

SERIAL = "console=tty0 console=ttyS0,115200"
SNAPSHOT = "/@/.snapshots/1/snapshot"
_APART = ("home", "opt", "srv", "tmp", "usr/local", "var")  # subvolumes that snapshots leave out
RELATIVE = 'set btrfs_relative_path="y"\nexport btrfs_relative_path\n'


def _btrfs(uuid: str) -> Fs:
    """Subvolumes are folders here: no tool makes them without a mount, and every reader shows them as such."""
    mounts = {"/": SNAPSHOT} | {f"/{name}": f"/@/{name}" for name in _APART}
    return Fs("btrfs", uuid, mounts=mounts)


def _fstab(machine: Machine, uuid: str, *lines: str) -> None:
    apart = [f"UUID={uuid}  /{name:<20}  btrfs  subvol=/@/{name}  0  0" for name in _APART]
    fstab(
        machine,
        f"UUID={uuid}  /  btrfs  defaults  0  0",
        *apart,
        f"UUID={uuid}  /.snapshots  btrfs  subvol=/@/.snapshots  0  0",
        *lines,
    )
    for name in _APART:
        machine.put(f"/{name}/.keep", "")


def _menu(
    machine: Machine, root: str, versions: list[str], *, name: str, default: str = "0", hint: str, folder: str = "/boot"
) -> None:
    """grub.cfg as grub2-mkconfig writes it there; paths begin in the default subvolume."""
    starts = [
        Start(
            f"{name}, with Linux {v}",
            f"{folder}/vmlinuz-{v}",
            f"{folder}/initrd-{v}",
            f"root=UUID={root} ${{extra_cmdline}} splash=silent mitigations=auto quiet {SERIAL}",
            f"gnulinux-{v}-advanced-root",
        )
        for v in versions
    ]
    find = loaders.grub_root(root, hint)
    first = Start(name, starts[0].kernel, starts[0].initrd, starts[0].cmdline, "gnulinux-simple-root")
    text = RELATIVE + loaders.grub_header(default) + loaders.grub_entry(first, find)
    text += loaders.grub_submenu(
        f"Advanced options for {name}", "gnulinux-advanced-root", [loaders.grub_entry(start, find) for start in starts]
    )
    snapshots = 'if [ -f "/.snapshots/grub-snapshot.cfg" ]; then\n  source "/.snapshots/grub-snapshot.cfg"\nfi\n'
    machine.put("/boot/grub2/grub.cfg", text + snapshots)


def sles12() -> Machine:
    root, swap = uid("sles12 root"), uid("sles12 swap")
    machine = Machine(
        "sles12",
        "bios",
        [
            Disk(
                520,
                core=Core("(,msdos2)/boot/grub2", RELATIVE),
                parts=[
                    Part(Fs("swap", swap), 32, SWAP),
                    Part(_btrfs(root), 0, active=True),
                ],
            )
        ],
    )
    release(machine, "sles", "12.5", "suse")
    version = "4.12.14-122.12-default"
    kernels.install(machine, version, initrd="/boot/initrd-{}", packing="early+xz")
    machine.files |= {"/boot/vmlinuz": Link(f"vmlinuz-{version}"), "/boot/initrd": Link(f"initrd-{version}")}
    _menu(machine, root, [version], name="SLES 12-SP5", hint="hd0,msdos2")
    _fstab(machine, root, f"UUID={swap}  swap  swap  defaults  0  0")
    return machine


def _a_data_disk_by_name(machine: Machine) -> None:
    add(machine, "/dev/sdb1  /data  xfs  defaults  0  2")


def _root_by_its_number_on_the_bus(machine: Machine) -> None:
    root = uid("sles12 root")
    machine.change(
        "/boot/grub2/grub.cfg", f"root=UUID={root}", "root=/dev/disk/by-id/scsi-36000c29f0a1b2c3d4e5f60718293a4b5-part2"
    )


def sles15() -> Machine:
    root, swap = uid("sles15 root"), uid("sles15 swap")
    machine = Machine(
        "sles15",
        "uefi",
        [
            Disk(
                580,
                "gpt",
                [
                    Part(esp("sles15"), 48, "U"),
                    Part(_btrfs(root), 460),
                    Part(Fs("swap", swap), 0, SWAP),
                ],
            )
        ],
    )
    release(machine, "sles", "15.5", "suse")
    versions = ["5.14.21-150500.55.62-default", "5.14.21-150500.53-default"]
    for version in versions:
        kernels.install(
            machine, version, initrd="/boot/initrd-{}", packing="early+zstd", home="/usr/lib/modules", modules=".zst"
        )
    machine.files["/lib"] = Link("usr/lib")
    _menu(machine, root, versions, name="SLES 15-SP5", hint="hd0,gpt2")
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment()
    stub = (
        f'set btrfs_relative_path="yes"\nsearch --fs-uuid --set=root {root}\nset prefix=(${{root}})/boot/grub2\n'
        'source "${prefix}/grub.cfg"\n'
    )
    home = "/boot/efi/EFI/sles"
    machine.files |= {
        f"{home}/shim.efi": loaders.shim("grub.efi"),
        f"{home}/grub.efi": loaders.grub_efi("/EFI/sles"),
        f"{home}/MokManager.efi": loaders.mok_manager(),
        f"{home}/boot.csv": loaders.boot_csv("shim.efi", "sles"),
        f"{home}/grub.cfg": stub.encode(),
        # `shim-install --removable`
        "/boot/efi/EFI/BOOT/bootx64.efi": loaders.shim("grub.efi"),
        "/boot/efi/EFI/BOOT/grub.efi": loaders.grub_efi("/EFI/BOOT"),
        "/boot/efi/EFI/BOOT/MokManager.efi": loaders.mok_manager(),
        "/boot/efi/EFI/BOOT/grub.cfg": stub.encode(),
    }
    _fstab(
        machine,
        root,
        f"UUID={short_uid('sles15 esp')}  /boot/efi  vfat  utf8  0  2",
        f"UUID={swap}  swap  swap  defaults  0  0",
    )
    return machine


def with_modules_apart() -> Machine:
    """GRUB's modules are in a subvolume of their own, which its image mounts."""
    machine = sles12()
    core = machine.disks[0].core
    assert core is not None
    core.few, core.modules = True, ("btrfs",)
    core.early += "btrfs-mount-subvol ($root) /boot/grub2/i386-pc /@/boot/grub2/i386-pc\n"
    for each in machine.every():
        if each.kind == "btrfs":
            each.mounts["/boot/grub2/i386-pc"] = "/@/boot/grub2/i386-pc"
    machine.files["/boot/grub2/i386-pc/normal.mod"] = b"\x7fELF"
    add(machine, f"UUID={uid('sles12 root')}  /boot/grub2/i386-pc  btrfs  subvol=@/boot/grub2/i386-pc  0  0")
    return machine


def with_block() -> Machine:
    """What is saved stands in Btrfs' reserved space, as its GRUB keeps it since 2.04, and the older kernel is saved."""
    machine = sles15()
    text = machine.text("/boot/grub2/grub.cfg")
    load = 'if [ "${env_block}" ] ; then\n  set env_block="(${root})${env_block}"\n  export env_block\n'
    load += '  load_env -f "${env_block}"\nfi\n'
    text = text.replace('if [ "${next_entry}" ]', load + 'if [ "${next_entry}" ]', 1)
    machine.put("/boot/grub2/grub.cfg", text.replace('set default="0"', 'set default="${saved_entry}"'))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(env_block="512+1")
    entry = "gnulinux-advanced-root>gnulinux-5.14.21-150500.53-default-advanced-root"
    saved = f"# GRUB Environment Block\nsaved_entry={entry}\n".encode().ljust(512, b"#")
    for each in machine.every():
        if each.kind == "btrfs":
            each.after = partial(bootdisk.write_at, offset=256 << 10, data=saved)
    return machine


def _the_saved_kernel_has_no_nvme(machine: Machine) -> None:
    old = "5.14.21-150500.53-default"
    machine.files[f"/boot/initrd-{old}"] = Initramfs(old, ("kernel/drivers/scsi/vmw_pvscsi.ko.zst",), "early+zstd")


def _grub_beside_shim_is_gone(machine: Machine) -> None:
    machine.drop("/boot/efi/EFI/BOOT/grub.efi")


def _its_configuration_names_a_volume_that_is_gone(machine: Machine) -> None:
    machine.change("/boot/efi/EFI/BOOT/grub.cfg", uid("sles15 root"), uid("the sles15 before"))


def _the_default_is_the_older_kernel_without_nvme(machine: Machine) -> None:
    old = "5.14.21-150500.53-default"
    entry = f"gnulinux-advanced-root>gnulinux-{old}-advanced-root"
    machine.change("/boot/grub2/grub.cfg", 'set default="0"', f'set default="{entry}"')
    machine.files[f"/boot/initrd-{old}"] = Initramfs(old, ("kernel/drivers/scsi/vmw_pvscsi.ko.zst",), "early+zstd")


def leap15() -> Machine:
    """Without snapshots: LVM and ext4, as servers have it, volumes by their groups' names."""
    machine = Machine(
        "leap15",
        "bios",
        [
            Disk(
                640,
                "gpt",
                [
                    Part(Core("(lvm/system-root)/boot/grub2"), 1, BIOS_BOOT_TYPE),
                    Part(Physical("system"), 0, LVM),
                ],
            )
        ],
        groups={
            "system": Group(
                {
                    "root": Logical(Fs("ext4", uid("leap15 root"), mounts={"/": ""}, mib=220)),
                    "swap": Logical(Fs("swap", uid("leap15 swap"), mib=32)),
                    "data": Logical(Fs("xfs", uid("leap15 data"), mounts={"/srv": ""}, mib=320)),
                }
            )
        },
    )
    release(machine, "opensuse-leap", "15.5", "suse opensuse")
    version = "5.14.21-150500.53-default"
    kernels.install(machine, version, initrd="/boot/initrd-{}", packing="early+zstd")
    find = loaders.grub_root(uid("leap15 root"), "lvmid/system/root")
    start = Start(
        "openSUSE Leap 15.5",
        f"/boot/vmlinuz-{version}",
        f"/boot/initrd-{version}",
        f"root=/dev/mapper/system-root splash=silent resume=/dev/system/swap quiet {SERIAL}",
    )
    machine.put("/boot/grub2/grub.cfg", loaders.grub_header("0") + loaders.grub_entry(start, find))
    machine.put("/srv/.keep", "")
    fstab(
        machine,
        "/dev/system/root  /  ext4  defaults  0  1",
        "/dev/system/swap  swap  swap  defaults  0  0",
        "/dev/system/data  /srv  xfs  defaults  0  0",
    )
    machine.disks[0].mib = 640
    return machine


def _the_data_volume_was_removed(machine: Machine) -> None:
    del machine.groups["system"].volumes["data"]
    machine.drop("/srv/")


def tumbleweed() -> Machine:
    """By systemd-boot, entries for each snapshot, as sdbootutil makes them."""
    root = uid("tumbleweed root")
    machine = Machine(
        "tumbleweed",
        "uefi",
        [
            Disk(
                640,
                "gpt",
                [
                    Part(esp("tumbleweed"), 180, "U"),
                    Part(_btrfs(root), 0),
                ],
            )
        ],
    )
    release(machine, "opensuse-tumbleweed", "20240601", "opensuse suse")
    machine.put("/etc/machine-id", "f" * 32 + "\n")
    for number, version in ((1, "6.9.1-1-default"), (2, "6.9.3-1-default")):
        folder = f"/opensuse-tumbleweed/{version}"
        kernels.install(
            machine,
            version,
            kernel=f"/boot/efi{folder}/linux-1a2b3c",
            initrd=f"/boot/efi{folder}/initrd-4d5e6f",
            packing="early+zstd",
            home="/usr/lib/modules",
            modules=".zst",
        )
        start = Start(
            "openSUSE Tumbleweed",
            f"{folder}/linux-1a2b3c",
            f"{folder}/initrd-4d5e6f",
            f"root=UUID={root} rootflags=subvol=@/.snapshots/1/snapshot systemd.machine_id={'f' * 32} {SERIAL}",
        )
        entry = loaders.bls(start, f"{number}@{version}", sort_key="opensuse-tumbleweed", machine_id="f" * 32)
        machine.files[f"/boot/efi/loader/entries/opensuse-tumbleweed-{version}-{number}.conf"] = entry
    machine.files["/lib"] = Link("usr/lib")
    machine.put("/boot/efi/loader/loader.conf", "timeout 3\nconsole-mode keep\n")
    machine.files["/boot/efi/EFI/BOOT/BOOTX64.EFI"] = loaders.systemd_boot()
    _fstab(machine, root, f"UUID={short_uid('tumbleweed esp')}  /boot/efi  vfat  utf8  0  2")
    return machine


def _the_pinned_entry_has_no_initramfs(machine: Machine) -> None:
    machine.put("/boot/efi/loader/loader.conf", "default opensuse-tumbleweed-6.9.1-1-default-1.conf\n")
    machine.drop("/boot/efi/opensuse-tumbleweed/6.9.1-1-default/initrd-4d5e6f")


def _a_pattern_chooses_the_newest_which_has_no_nvme(machine: Machine) -> None:
    machine.put("/boot/efi/loader/loader.conf", "default opensuse-tumbleweed-*\n")
    machine.files["/boot/efi/opensuse-tumbleweed/6.9.3-1-default/initrd-4d5e6f"] = Initramfs(
        "6.9.3-1-default", (), "zstd"
    )


CASES: list[Case] = [
    sound("SLES 12", sles12, quick=True),
    flawed("SLES 12", sles12, _a_data_disk_by_name, Said("fstab-by-name", "/etc/fstab line 11", "/dev/sdb1")),
    flawed("SLES 12", sles12, _root_by_its_number_on_the_bus, Said("root-by-name", "", "by-id/scsi-3")),
    sound("SLES 12 with subvolumes", partial(real, sles12, SNAPSHOT)),
    flawed(
        "SLES 12 with subvolumes",
        partial(real, sles12, SNAPSHOT),
        _a_data_disk_by_name,
        Said("fstab-by-name", "/etc/fstab line 11", "/dev/sdb1"),
    ),
    sound("SLES 15 with subvolumes", partial(real, sles15, SNAPSHOT)),
    sound("SLES 15", sles15),
    flawed("SLES 15", sles15, _grub_beside_shim_is_gone, Said("loader-incomplete")),
    flawed("SLES 15", sles15, _its_configuration_names_a_volume_that_is_gone, Said("loader-incomplete")),
    flawed("SLES 15", sles15, _the_default_is_the_older_kernel_without_nvme, Said("nvme-missing", "53-default")),
    sound("SLES 12, GRUB's modules apart", with_modules_apart),
    sound("SLES 15, its default in Btrfs' reserved space", with_block),
    flawed(
        "SLES 15, its default in Btrfs' reserved space",
        with_block,
        _the_saved_kernel_has_no_nvme,
        Said("nvme-missing", "53-default"),
        quick=True,
    ),
    sound("openSUSE Leap 15 on LVM", leap15, drill=True),
    flawed(
        "openSUSE Leap 15 on LVM",
        leap15,
        _the_data_volume_was_removed,
        Said("fstab-unknown", "line 4", "/dev/system/data"),
        quick=True,
    ),
    sound("openSUSE Tumbleweed by systemd-boot", tumbleweed),
    sound("openSUSE Tumbleweed with subvolumes", partial(real, tumbleweed, SNAPSHOT), drill=True),
    flawed(
        "openSUSE Tumbleweed by systemd-boot",
        tumbleweed,
        _the_pinned_entry_has_no_initramfs,
        Said("initramfs-missing"),
        drill=False,
    ),
    flawed(
        "openSUSE Tumbleweed by systemd-boot",
        tumbleweed,
        _a_pattern_chooses_the_newest_which_has_no_nvme,
        Said("nvme-missing", "6.9.3"),
    ),
]
