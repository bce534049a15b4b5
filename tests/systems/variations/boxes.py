"""What stands around a system: further disks and systems, groups, encrypted volumes, /usr apart. The system itself is a
Debian, by BIOS or UEFI, without a flaw of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from systems import kernels, loaders
from systems.cases import Case, Said, add, esp, flawed, fstab, release, sound, uid
from systems.distributions import debian, rebuilds, redhat
from systems.loaders import Start
from systems.machine import (
    Core,
    Disk,
    Fs,
    Group,
    Locked,
    Logical,
    Machine,
    Part,
    Physical,
)

SERIAL = debian.SERIAL
VERSION = "6.1.0-18-amd64"
ROOT = uid("box root")
UNSEEN = ("system-unread", "root-unseen", "drivers-unread", "default-unknown", "loader-unknown")


def bios(*more: Disk) -> Machine:
    machine = Machine(
        "box",
        "bios",
        [
            Disk(
                256,
                core=Core("(,msdos1)/boot/grub"),
                parts=[
                    Part(Fs("ext4", ROOT, mounts={"/": ""}), 0, active=True),
                ],
            ),
            *more,
        ],
    )
    _system(machine, "hd0,msdos1")
    return machine


def uefi(*more: Disk) -> Machine:
    machine = Machine(
        "box",
        "uefi",
        [
            Disk(
                300,
                "gpt",
                [
                    Part(esp("box"), 48, "U"),
                    Part(Fs("ext4", ROOT, mounts={"/": ""}), 0),
                ],
            ),
            *more,
        ],
    )
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
    reserved = Part(None, 16, "E3C9E316-0B5C-4DB8-817D-F92DF00215AE")
    return bios(Disk(128, "gpt", [reserved, Part(Fs("ntfs"), 0, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7")]))


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
    return with_group(
        volumes=volumes,
        lines=(
            "/dev/dvg/data /data ext4 defaults 0 2",
            f"UUID={uid('dvg logs')} /logs xfs defaults 0 0",
            f"UUID={uid('dvg swp')} none swap sw 0 0",
        ),
    )


def _the_groups_disk_is_not_replicated(machine: Machine) -> None:
    machine.disks.pop()
    del machine.groups["dvg"]


def with_half_a_group() -> Machine:
    return with_group(
        volumes={"a": Logical(_data_volume()), "b": Logical(_data_volume(name="b"), on=1)},
        absent=1,
        lines=("/dev/mapper/dvg-a /a ext4 defaults 0 2",),
    )


def _what_is_elsewhere_is_mounted(machine: Machine) -> None:
    add(machine, "/dev/mapper/dvg-b /b ext4 defaults 0 2")


def with_casefold() -> Machine:
    return with_group(
        volumes={"data": Logical(_data_volume(options=("-O", "casefold")))},
        lines=(f"UUID={uid('dvg data')} /data ext4 defaults 0 2",),
    )


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
    volumes = rebuilds.thin_pool(200) | {"data": Logical(Fs("", mib=300), segment=rebuilds.THIN)}
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
    machine.change(
        "/boot/grub/grub.cfg",
        f"fs-uuid --set=root --hint-bios=hd0,msdos1 --hint-efi=hd0,msdos1 {ROOT}",
        f"fs-uuid --set=root --hint-bios=hd0,msdos1 --hint-efi=hd0,msdos1 {boot}",
    )
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


CASES: list[Case] = [
    sound("A system and an old one's disk", with_an_old_system, Said("other-system", "sdb.raw"), quick=True),
    flawed(
        "A system and an old one's disk",
        with_an_old_system,
        _the_systems_own_fstab_names_sda1,
        Said("fstab-by-name", "sda.raw", "/dev/sda1"),
        Said("other-system", "sdb.raw"),
    ),
    flawed(
        "A system and an old one's disk",
        with_an_old_system,
        _the_old_one_is_sound_and_the_systems_fstab_is_not,
        Said("fstab-by-name", "sda.raw", "/dev/sda1"),
        Said("other-system", "sdb.raw"),
    ),
    sound("A system by UEFI and an old one's disk", partial(with_an_old_system, uefi), Said("other-system", "sdb.raw")),
    sound(
        "Debian on LVM and an old system's disk",
        partial(with_an_old_system, debian.debian11),
        Said("other-system", "sdb.raw"),
    ),
    sound(
        "A system and an old one that could start",
        with_a_bootable_old_system,
        Said("other-system", "sdb.raw"),
        drill=True,
    ),
    sound("A system and a data disk of Windows", with_windows_data, quick=True),
    flawed(
        "A system and a data disk of Windows",
        with_windows_data,
        _the_systems_own_fstab_names_sda1,
        Said("fstab-by-name", "sda.raw"),
    ),
    flawed(
        "A system on its second disk",
        data_first,
        _the_data_disk_is_the_first,
        Said("boot-disk-other", "", "sdb.raw"),
        drill=False,
        also=UNSEEN,
        quick=True,
    ),
    flawed(
        "A system by UEFI on its second disk",
        partial(data_first, uefi),
        _the_data_disk_is_the_first,
        Said("boot-disk-other", "", "sdb.raw"),
        also=UNSEEN,
    ),
    sound("Data on LVM", with_data_on_lvm),
    flawed(
        "Data on LVM",
        with_data_on_lvm,
        _the_groups_disk_is_not_replicated,
        Said("fstab-unknown|volume-unread", "line 3"),
        Said("fstab-unknown", "line 4"),
        Said("fstab-optional", "line 5"),
    ),
    sound("An empty group beside", with_group),
    sound("Nothing but a thin pool beside", partial(with_group, volumes=rebuilds.thin_pool(200))),
    sound("A group beside, a part of which is elsewhere and not needed", with_half_a_group),
    flawed(
        "A group beside, a part of which is elsewhere",
        with_half_a_group,
        _what_is_elsewhere_is_mounted,
        Said("lvm-incomplete"),
        also=("fstab-unknown",),
    ),
    sound("Data on ext4 with casefold", with_casefold),
    flawed("Data on ext4 with casefold", with_casefold, _its_line_names_another_one, Said("fstab-unknown", "line 3")),
    sound("Data on XFS of newer tools", with_newer_xfs, quick=True),
    flawed("Data on XFS of newer tools", with_newer_xfs, _its_line_names_another_one, Said("fstab-unknown", "line 3")),
    sound("Data in a thin volume", with_thin_data),
    flawed(
        "Data in a thin volume", with_thin_data, _a_mount_names_what_may_be_in_the_pool, Said("volume-unread", "line 4")
    ),
    *(
        sound(
            f"A root on ext4 with {features}",
            partial(root_with, features),
            Said("system-unread", "", features),
            also=UNSEEN,
        )
        for features in ("casefold", "inline_data", "bigalloc")
    ),
    sound("Encrypted data whose key is on the root", with_a_keyfile, Said("luks", "sdb.raw")),
    flawed(
        "Encrypted data whose key is on the root",
        with_a_keyfile,
        _crypttab_names_a_volume_that_is_not_there,
        Said("luks", "sdb.raw"),
        Said("fstab-unknown|volume-unread", "", "data"),
    ),
    sound("/usr apart", usr_apart),
    flawed("/usr apart", usr_apart, _its_kernel_lacks_ena, Said("ena-missing"), quick=True),
    flawed("/usr apart", usr_apart, _usr_was_formatted_anew, Said("fstab-unknown", "line 3"), also=("drivers-unread",)),
]
