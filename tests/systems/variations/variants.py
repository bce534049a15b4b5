"""The same small system with other words for the same thing, and with words that mean another: loaders, names, arrays.

They are members of kinds that were met before, and not cases of their own.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from systems import kernels, loaders
from systems.cases import Case, Said, add, flawed, sound, uid
from systems.distributions import others
from systems.loaders import Start
from systems.machine import Array, Disk, Fs, Group, Initramfs, Kernel, Logical, Machine, Member, Part, Physical
from systems.variations.boxes import ROOT, SERIAL, VERSION, bios, uefi

CONFIG = "/boot/grub/grub.cfg"
OLD = "5.10.0-28-amd64"


# GRUB's choice


def _start(title: str, version: str, root: str, identity: str) -> Start:
    return Start(title, f"/boot/vmlinuz-{version}", f"/boot/initrd.img-{version}", f"root={root} ro {SERIAL}", identity)


def two_kernels(default: str, header: str = "", tail: str = "") -> Machine:
    """The second entry is sound; the first has a root by the bus' name."""
    machine = bios()
    kernels.install(machine, OLD)
    find = loaders.grub_root(ROOT)
    newer = _start("Newer", VERSION, "/dev/sda1", "newer")
    older = _start("Older, kept", OLD, f"UUID={ROOT}", "older")
    text = header + loaders.grub_header(default) + loaders.grub_entry(newer, find) + loaders.grub_entry(older, find)
    machine.put(CONFIG, text + tail)
    return machine


def _the_first_entry_is_taken(machine: Machine) -> None:
    """It is a name of none, so that GRUB starts the first."""
    machine.change(CONFIG, 'set default="1"', 'set default="no such entry"')


def from_custom() -> Machine:
    """The default is in a file that the configuration reads."""
    custom = (
        "if [ -f  ${config_directory}/custom.cfg ]; then\n  source ${config_directory}/custom.cfg\n"
        'elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then\n  source $prefix/custom.cfg\nfi\n'
    )
    machine = two_kernels("mine", tail=custom)
    mine = _start("Mine", OLD, f"UUID={ROOT}", "mine")
    machine.put("/boot/grub/custom.cfg", loaders.grub_entry(mine, loaders.grub_root(ROOT)))
    return machine


def _the_file_is_not_there(machine: Machine) -> None:
    machine.drop("/boot/grub/custom.cfg")


def _a_chainloader_is_the_default(machine: Machine) -> None:
    entry = "menuentry 'Windows' --class windows --id windows {\n  set root='hd1,msdos1'\n  chainloader +1\n}\n"
    machine.put(CONFIG, machine.text(CONFIG).replace('set default="1"', 'set default="windows"') + entry)


def with_functions() -> Machine:
    """As people write it: functions, loops, variables of entries' own, continued lines."""
    machine = bios()
    machine.put(
        CONFIG,
        (
            'set timeout=1\nset wanted="b"\nfunction start {\n  set version="$1"\n'
            f"  linux /boot/vmlinuz-$version \\\n    root=UUID={ROOT} ro {SERIAL}\n"
            "  initrd /boot/initrd.img-${version}\n}\n"
            f"search --no-floppy --set=root --file /boot/vmlinuz-{VERSION}\n"
            'for each in a b; do\n  if [ "$each" = "$wanted" ]; then set default="$each"; fi\ndone\n'
            'menuentry "A" --id a { linux /boot/gone root=/dev/sdq1; }\n'
            f'menuentry "B" --id b {{\n  start {VERSION}\n}}\n'
        ),
    )
    return machine


def _its_function_names_a_root_of_before(machine: Machine) -> None:
    machine.change(CONFIG, f"root=UUID={ROOT}", f"root=UUID={uid('variant before')}")


# Words of root=


def rooted(words: str) -> Machine:
    machine = bios()
    machine.disks[0].disk_id = "0xcafe0002"
    machine.disks[0].parts[0].content.label = "my-root"
    machine.change(CONFIG, f"root=UUID={ROOT}", words)
    return machine


RIGHT = (
    f"root=/dev/disk/by-uuid/{ROOT}",
    "root=PARTUUID=cafe0002-01",
    "root=LABEL=my-root",
    "root=/dev/disk/by-partuuid/cafe0002-01",
    f"root=/dev/sda1 root=UUID={ROOT}",
    f'root="UUID={ROOT}"',
    f"resume=UUID={uid('no swap')} root=UUID={ROOT}",
)
WRONG = (
    (f"root=UUID={ROOT} root=UUID={uid('last')}", "root-unknown"),
    ("root=PARTUUID=cafe0002-02", "root-unknown"),
    ("root=LABEL=root", "root-unknown"),
    ("root=/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1", "root-by-name"),
    ("root=/dev/vda1", "root-by-name"),
    ("root=/dev/disk/by-id/ata-VMware_Virtual_IDE_Hard_Drive_1-part1", "root-by-name"),
    ("root=/dev/hda1", "root-by-name"),
    ("root=PARTLABEL=root", "root-unknown"),
)


def _it_is_not_there(machine: Machine) -> None:
    """As the words have it."""


# The way in


def esp_on_mbr() -> Machine:
    """UEFI from an MBR, and file names in lower case."""
    machine = uefi()
    machine.disks[0].label = "dos"
    machine.disks[0].parts[0].kind = "ef"
    image = machine.files.pop("/boot/efi/EFI/BOOT/BOOTX64.EFI")
    machine.files["/boot/efi/efi/boot/bootx64.efi"] = image
    return machine


def _its_program_is_empty(machine: Machine) -> None:
    machine.files["/boot/efi/efi/boot/bootx64.efi"] = b""


def with_windows_beside() -> Machine:
    machine = uefi()
    machine.files["/boot/efi/EFI/Microsoft/Boot/bootmgfw.efi"] = b"MZ"
    return machine


def _its_partition_got_another_number(machine: Machine) -> None:
    """GRUB's image names the second, where a third was put between."""
    machine.files["/boot/efi/EFI/BOOT/BOOTX64.EFI"] = loaders.grub_efi("(,gpt3)/boot/grub")


def _no_partition_is_active(machine: Machine) -> None:
    machine.disks[0].parts[0].active = False


# Arrays, and volumes with legs


def on_raid5(members: int) -> Machine:
    """Data on three disks of which one may be missing."""
    machine = bios(*(Disk(64, parts=[Part(Member("five"), 0, "fd")]) for _ in range(members)))
    machine.arrays["five"] = Array(5, Fs("", mib=8), "1.2", 3, "box:five", "5a0c3d5e-1f64-4f0b-9c57-3e5f8b7a9d21")
    add(machine, "/dev/disk/by-id/md-uuid-5a0c3d5e:1f644f0b:9c573e5f:8b7a9d21 /srv ext4 defaults 0 2")
    return machine


def _two_of_three_are_elsewhere(machine: Machine) -> None:
    machine.disks.pop()


_LEGS = (
    'type = "raid1"\ndevice_count = 2\nregion_size = 1024\nraids = [\n'
    '"data_rmeta_0", "data_rimage_0", "data_rmeta_1", "data_rimage_1"\n]'
)


def with_legs(absent: int) -> Machine:
    """A mirrored volume of LVM, the second leg of which may be on a disk that is not here: it comes up degraded."""
    volumes = {"data": Logical(Fs("", mib=64), segment=_LEGS)}
    for leg in (0, 1):
        volumes[f"data_rmeta_{leg}"] = Logical(Fs("", mib=4), on=leg, hidden=True)
        volumes[f"data_rimage_{leg}"] = Logical(Fs("", mib=64), on=leg, hidden=True)
    machine = bios(*(Disk(200, "", whole=Physical("legs")) for _ in range(2 - absent)))
    machine.groups["legs"] = Group(volumes, absent)
    add(machine, "/dev/legs/data /data ext4 defaults 0 2")
    return machine


def whole_disk_data() -> Machine:
    machine = bios(Disk(64, "", whole=Fs("ext4", uid("whole"), label="whole")))
    add(machine, f"UUID={uid('whole')} /data ext4 defaults 0 2")
    add(machine, "LABEL=whole /again ext4 defaults 0 2")
    return machine


def _it_is_not_replicated(machine: Machine) -> None:
    machine.disks.pop()


def with_a_clone() -> Machine:
    """A second disk that is a copy of the first: names of which two are."""
    machine = bios()
    machine.disks.append(Disk(256, parts=[Part(Fs("ext4", ROOT), 0)]))
    return machine


# Kernels


def without_suffix() -> Machine:
    """A kernel whose file says nothing of its version, and no link to it."""
    machine = bios()
    machine.files["/boot/kernel"] = Kernel(VERSION)
    machine.drop(f"/boot/vmlinuz-{VERSION}")
    machine.change(CONFIG, f"/boot/vmlinuz-{VERSION}", "/boot/kernel")
    return machine


def _its_modules_are_another_kernels(machine: Machine) -> None:
    machine.files["/boot/kernel"] = Kernel("6.1.0-21-amd64")
    machine.files[f"/boot/initrd.img-{VERSION}"] = Initramfs("6.1.0-21-amd64", (kernels.NVME,))


def _it_is_no_kernel(machine: Machine) -> None:
    machine.files["/boot/kernel"] = b"<html>404</html>\n" * 50


_UNSEEN = ("system-unread", "root-unseen", "drivers-unread", "default-unknown", "loader-unknown", "volume-unread")
_ENTRY = Said("root-by-name", "grub.cfg", "/dev/sda1")
_CHOICES = {
    "a number": "1",
    "an identity": "older",
    "a title": "Older, kept",
    "a variable": "${wanted}",
}


def _its_program_is_gone(machine: Machine) -> None:
    machine.drop("/boot/efi/EFI/BOOT/BOOTX64.EFI")


def installed() -> Machine:
    """As grub-install makes it: most of GRUB's modules are in files beside its configuration."""
    machine = bios()
    core = machine.disks[0].core
    assert core is not None
    core.few = True
    for name in ("normal", "linux", "test", "search", "loadenv"):
        machine.files[f"/boot/grub/i386-pc/{name}.mod"] = Path(f"/usr/lib/grub/i386-pc/{name}.mod").read_bytes()
    return machine


def _its_modules_are_gone(machine: Machine) -> None:
    machine.drop("/boot/grub/i386-pc/")


def esp_mirrored() -> Machine:
    """Both disks have it: the superblock stands behind it, and the firmware reads either as if it were none."""
    machine = uefi()
    first = machine.disks[0].parts[0]
    assert isinstance(first.content, Fs)
    machine.arrays["esp"] = Array(1, first.content, "1.0", name="host:esp")
    first.content = Member("esp")
    machine.disks.append(Disk(64, "gpt", [Part(Member("esp"), 48, "U")]))
    return machine


CASES: list[Case] = [
    sound("GRUB's modules in files", installed),
    flawed("GRUB's modules in files", installed, _its_modules_are_gone, Said("loader-incomplete", "", "normal.mod")),
    sound("An ESP on two disks by RAID", esp_mirrored),
    flawed("An ESP on two disks by RAID", esp_mirrored, _its_program_is_gone, Said("loader-missing")),
    *(
        sound(
            f"GRUB's default by {how}",
            partial(two_kernels, words, 'set wanted="1"\n'),
            drill=True if how == "a title" else None,
        )
        for how, words in _CHOICES.items()
    ),
    sound("GRUB's default in custom.cfg", from_custom, drill=True),
    flawed("GRUB's default in custom.cfg", from_custom, _the_file_is_not_there, _ENTRY, drill=False),
    flawed("GRUB's default by a number", partial(two_kernels, "1"), _the_first_entry_is_taken, _ENTRY, drill=False),
    flawed(
        "GRUB's default by a number",
        partial(two_kernels, "1"),
        _a_chainloader_is_the_default,
        Said("default-unknown|loader-incomplete"),
        also=_UNSEEN,
    ),
    sound("GRUB's configuration by hand", with_functions, drill=True),
    flawed(
        "GRUB's configuration by hand",
        with_functions,
        _its_function_names_a_root_of_before,
        Said("root-unknown", "grub.cfg"),
        drill=False,
    ),
    *(sound(f"By {words}", partial(rooted, words)) for words in RIGHT),
    *(flawed(f"By {words}", partial(rooted, words), _it_is_not_there, Said(kind, "grub.cfg")) for words, kind in WRONG),
    sound("UEFI from an MBR, in lower case", esp_on_mbr, drill=True),
    flawed(
        "UEFI from an MBR, in lower case",
        esp_on_mbr,
        _its_program_is_empty,
        Said("loader-missing|loader-incomplete"),
        drill=False,
        also=_UNSEEN,
    ),
    sound("UEFI with Windows' folder beside", with_windows_beside),
    flawed("A UEFI system", uefi, _its_partition_got_another_number, Said("loader-incomplete"), drill=False),
    flawed("Alpine by extlinux", others.alpine, _no_partition_is_active, Said("loader-incomplete"), drill=False),
    sound("Data on RAID5", partial(on_raid5, 3)),
    sound("Data on RAID5, one disk of three elsewhere", partial(on_raid5, 2)),
    flawed(
        "Data on RAID5",
        partial(on_raid5, 2),
        _two_of_three_are_elsewhere,
        Said("fstab-unknown|lvm-incomplete", "line 3"),
    ),
    sound("A mirrored logical volume", partial(with_legs, 0)),
    sound("A mirrored logical volume with one leg elsewhere", partial(with_legs, 1)),
    sound("Data on a whole disk", whole_disk_data),
    flawed(
        "Data on a whole disk",
        whole_disk_data,
        _it_is_not_replicated,
        Said("fstab-unknown", "line 3"),
        Said("fstab-unknown", "line 4"),
    ),
    sound("Its own copy beside", with_a_clone, Said("volume-unread", "", "several"), also=_UNSEEN),
    sound("A kernel without a version in its name", without_suffix, drill=True),
    flawed(
        "A kernel without a version in its name",
        without_suffix,
        _its_modules_are_another_kernels,
        Said("drivers-unread"),
    ),
    flawed(
        "A kernel without a version in its name",
        without_suffix,
        _it_is_no_kernel,
        Said("kernel-missing|drivers-unread"),
        also=_UNSEEN,
        drill=False,
    ),
]
