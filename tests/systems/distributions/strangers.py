"""What starts by means that a look can't follow, or is no Linux: Flatcar, Xen, LILO, FreeBSD, Windows."""

from __future__ import annotations

import struct

from systems import kernels, loaders
from systems.cases import Case, Said, add, esp, flawed, fstab, release, short_uid, sound, uid
from systems.loaders import Start
from systems.machine import (
    BIOS_BOOT_TYPE,
    Core,
    Disk,
    Fs,
    Kernel,
    Machine,
    Part,
    Raw,
)

SERIAL = "console=tty0 console=ttyS0,115200"

# Flatcar: which of two systems starts is a matter of the partition table's own bits


def flatcar() -> Machine:
    root = uid("flatcar root")
    machine = Machine(
        "flatcar",
        "uefi",
        [
            Disk(
                420,
                "gpt",
                [
                    Part(
                        Fs("vfat", short_uid("flatcar esp"), "EFI-SYSTEM", mounts={"/boot": ""}),
                        128,
                        "U",
                        name="EFI-SYSTEM",
                    ),
                    Part(Core("(,gpt1)/flatcar/grub"), 2, BIOS_BOOT_TYPE, name="BIOS-BOOT"),
                    Part(
                        Fs("ext4", uid("flatcar usr"), mounts={"/usr": ""}, options=("-O", "^has_journal")),
                        100,
                        "5DFBF5F4-2848-4BAC-AA5E-0D9A20B745A6",
                        name="USR-A",
                        uuid="7130C94A-213A-4E5A-8E26-6CCE9662F132",
                    ),
                    Part(Fs("ext4", root, label="ROOT", mounts={"/": ""}), 0, name="ROOT"),
                ],
            )
        ],
    )
    version = "6.1.90-flatcar"
    kernels.drivers(machine, version, home="/usr/lib/modules", nvme="builtin", ena="builtin")
    machine.files["/boot/flatcar/vmlinuz-a"] = Kernel(version)
    machine.put("/usr/lib/os-release", "ID=flatcar\nVERSION_ID=3815.2.2\n")
    machine.put("/etc/machine-id", "\n")
    machine.put(
        "/boot/flatcar/grub/grub.cfg",
        (
            'set default="flatcar"\nset timeout=1\nset linux_root="root=LABEL=ROOT"\n'
            f'set linux_console="{SERIAL}"\n'
            'menuentry "Flatcar default" --id=flatcar --unrestricted {\n  gptprio.next -d usr -u usr_uuid\n'
            '  if [ "$usr_uuid" = "7130c94a-213a-4e5a-8e26-6cce9662f132" ]; then\n'
            "    linux /flatcar/vmlinuz-a rootflags=rw mount.usrflags=ro consoleblank=0 $linux_root $linux_console "
            "mount.usr=PARTUUID=$usr_uuid\n  else\n    linux /flatcar/vmlinuz-b $linux_root\n  fi\n}\n"
            'menuentry "Flatcar USR-A" --id=flatcar-a {\n  linux /flatcar/vmlinuz-a $linux_root\n}\n'
        ),
    )
    machine.files["/boot/EFI/BOOT/bootx64.efi"] = loaders.grub_efi("/flatcar/grub")
    return machine


def _the_esp_has_no_loader(machine: Machine) -> None:
    machine.drop("/boot/EFI/")


# Xen: what starts is a hypervisor


def xen() -> Machine:
    root = uid("xen root")
    machine = Machine(
        "xen",
        "bios",
        [
            Disk(
                300,
                core=Core("(,msdos1)/boot/grub"),
                parts=[
                    Part(Fs("ext4", root, mounts={"/": ""}), 0, active=True),
                ],
            )
        ],
    )
    release(machine, "debian", "12")
    version = "6.1.0-18-amd64"
    kernels.install(machine, version)
    find = loaders.grub_root(root)
    plain = loaders.grub_entry(
        Start(
            "Debian GNU/Linux",
            f"/boot/vmlinuz-{version}",
            f"/boot/initrd.img-{version}",
            f"root=UUID={root} ro {SERIAL}",
        ),
        find,
    )
    hypervisor = (
        "menuentry 'Debian GNU/Linux, with Xen hypervisor' --class xen $menuentry_id_option 'xen-gnulinux-simple' {\n"
        f"\tmultiboot2\t/boot/xen-4.17-amd64.gz placeholder  ${{xen_rm_opts}}\n"
        f"\tmodule2\t/boot/vmlinuz-{version} placeholder root=UUID={root} ro\n"
        f"\tmodule2\t--nounzip /boot/initrd.img-{version}\n}}\n"
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
    return Machine(
        "freebsd",
        "bios",
        [
            Disk(
                300,
                "gpt",
                [
                    Part(Raw(b"\xeb\x3cBTX\0".ljust(8192, b"\x90")), 1, "83BD6B9D-7F41-11DC-BE0B-001560B84F0F"),
                    Part(Raw(bytes(ufs)), 0, "516E7CB6-6ECF-11D6-8FF8-00022D09712B"),
                ],
                code=b"\xfc\x31\xc0\x8e\xc0".ljust(440, b"\x90"),
            )
        ],
    )


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
    machine = Machine(
        "windows",
        "uefi",
        [
            Disk(
                1024,
                "gpt",
                [
                    Part(esp("windows", "/S"), 100, "U"),
                    Part(None, 16, "E3C9E316-0B5C-4DB8-817D-F92DF00215AE"),
                    Part(
                        Fs("ntfs", mounts={"/C": ""}),
                        64,
                        "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
                        name="Basic data partition",
                    ),
                ],
            )
        ],
    )
    machine.files |= {
        "/S/EFI/Microsoft/Boot/bootmgfw.efi": _windows_loader(),
        "/S/EFI/Boot/bootx64.efi": _windows_loader(),
        "/S/EFI/Microsoft/Boot/BCD": b"regf".ljust(4096, b"\0"),
        "/C/pagefile.sys": b"",
    }
    return machine


def _nothing_at_the_removable_path_of_windows(machine: Machine) -> None:
    machine.drop("/S/EFI/Boot/")


def windows_bios() -> Machine:
    ntfs = Fs("ntfs", mounts={"/C": ""})
    machine = Machine(
        "windows",
        "bios",
        [
            Disk(
                256,
                code=b"\x33\xc0\x8e\xd0\xbc\x00\x7c".ljust(440, b"\x90"),
                parts=[
                    Part(ntfs, 0, "7", active=True),
                ],
            )
        ],
    )
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
    sound("Flatcar", flatcar, Said("default-unknown"), also=_UNKNOWN),
    flawed("Flatcar", flatcar, _the_esp_has_no_loader, Said("loader-missing"), also=_UNKNOWN),
    sound("Debian with Xen", xen, Said("default-unknown"), also=_UNKNOWN),
    flawed("Debian with Xen", xen, _fstab_names_sdb1, Said("default-unknown"), also=(*_UNKNOWN, "fstab-by-name")),
    sound("Slackware by LILO", lilo, also=_UNKNOWN),
    sound("FreeBSD", freebsd, also=_UNKNOWN),
    sound("Windows by UEFI", windows_uefi, Said("windows"), also=("loader-unknown",)),
    flawed(
        "Windows by UEFI",
        windows_uefi,
        _nothing_at_the_removable_path_of_windows,
        Said("loader-missing"),
        Said("windows"),
    ),
    sound("Windows by the BIOS", windows_bios, Said("windows"), also=("loader-unknown",)),
    flawed("Windows by the BIOS", windows_bios, _its_boot_code_was_wiped, Said("no-boot-code"), Said("windows")),
    flawed(
        "Windows by the BIOS",
        windows_bios,
        _a_bitlocker_volume_beside,
        Said("bitlocker", "partition 2"),
        Said("windows"),
        also=("loader-unknown",),
    ),
]
