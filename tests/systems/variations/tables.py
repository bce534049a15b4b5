"""Partition tables with a flaw, larger disks, other sectors, and files that are no disks."""

from __future__ import annotations

import struct
import uuid as uuids
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bootdisk
from bootdisk import MIB, run
from systems.cases import Case, Said, flawed, sound, uid
from systems.machine import (
    Disk,
    Machine,
    Part,
    Raw,
)
from systems.variations.boxes import UNSEEN, bios, uefi

# Tables


def _larger(mib: int) -> Callable[[Path], None]:
    def grow(path: Path) -> None:
        with path.open("r+b") as file:
            file.truncate(mib * MIB)

    return grow


def _it_is_3_tib(machine: Machine) -> None:
    machine.disks[0].after.append(_larger(3 << 20))


def _the_disk_has_grown(machine: Machine) -> None:
    machine.disks[0].after.append(_larger(400))


def _at(offset: int, data: bytes) -> Callable[[Path], None]:
    return lambda path: bootdisk.write_at(path, offset, data)


def _its_backup_is_overwritten(machine: Machine) -> None:
    machine.disks[0].after.append(lambda path: bootdisk.write_at(path, path.stat().st_size - 512, b"X" * 8))


def _its_primary_header_is_damaged(machine: Machine) -> None:
    machine.disks[0].after.append(_at(512 + 40, b"\xff"))


def _its_protective_partition_is_another(machine: Machine) -> None:
    machine.disks[0].after.append(_at(446 + 4, b"\x83"))


def hybrid() -> Machine:
    """A hybrid MBR: a second partition beside the protective one."""
    machine = uefi()
    entry = b"\x80\0\2\0\x83\xff\xff\xff" + struct.pack("<II", 2048, 8192)
    machine.disks[0].after.append(_at(462, entry))
    return machine


def _boot_code_was_wiped(machine: Machine) -> None:
    machine.disks[0].after.append(_at(0, bytes(440)))


def _the_table_was_wiped(machine: Machine) -> None:
    machine.disks[0].after.append(_at(0, bytes(512)))


def _it_is_taken_for_another_firmwares(machine: Machine) -> None:
    machine.firmware = "uefi" if machine.firmware == "bios" else "bios"


def native_4k() -> Machine:
    """A GPT as a physical disk with sectors of 4096 bytes has it."""

    def write(path: Path) -> None:
        size, sector = path.stat().st_size, 4096
        last = size // sector - 1
        entry = uuids.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").bytes_le + uuids.UUID(uid("4k esp")).bytes_le
        entry += struct.pack("<QQQ", 256, 8191, 0) + "ESP".encode("utf-16le").ljust(72, b"\0")
        table = entry.ljust(128 * 128, b"\0")

        def header(mine: int, other: int, at: int) -> bytes:
            made = struct.pack(
                "<8s4sIIIQQQQ16sQIII",
                b"EFI PART",
                b"\0\0\1\0",
                92,
                0,
                0,
                mine,
                other,
                6,
                last - 5,
                uuids.UUID(uid("4k")).bytes_le,
                at,
                128,
                128,
                zlib.crc32(table),
            )
            return made[:16] + struct.pack("<I", zlib.crc32(made)) + made[20:]

        for at, data in (
            (446, b"\0\0\2\0\xee\xff\xff\xff" + struct.pack("<II", 1, last)),
            (510, b"\x55\xaa"),
            (sector, header(1, last, 2)),
            (2 * sector, table),
            ((last - 4) * sector, table),
            (last * sector, header(last, 1, last - 4)),
        ):
            bootdisk.write_at(path, at, data)

    return Machine("4k", "uefi", [Disk(256, "", after=[write])])


def _its_sectors_have_4096_bytes(machine: Machine) -> None:
    """As `native_4k` has it."""


# Files that are no disks

FORMATS: dict[str, tuple[str, ...]] = {
    "vmdk": (),
    "vmdk, streamOptimized": ("-o", "subformat=streamOptimized"),
    "vpc": (),
    "vpc, fixed": ("-o", "subformat=fixed"),
    "vhdx": (),
    "qcow2": (),
    "qcow": (),
    "vdi": (),
    "qed": (),
}


def container(name: str) -> Machine:
    def convert(path: Path) -> None:
        raw = path.with_suffix(".inner")
        path.rename(raw)
        run("qemu-img", "convert", "-O", name.partition(",")[0], *FORMATS[name], raw, path)
        raw.unlink()
        if path.stat().st_size % 512:
            with path.open("r+b") as file:
                file.truncate(-(-path.stat().st_size // 512) * 512)

    machine = bios()
    machine.disks[0].after.append(convert)
    return machine


def _it_is_a_file_of_a_hypervisor(machine: Machine) -> None:
    """As `container` has it."""


def with_an_image_inside() -> Machine:
    """A sound disk that holds such files, one of them a partition's first bytes."""
    machine = bios(Disk(64, parts=[Part(Raw(b"QFI\xfb\0\0\0\3".ljust(4096, b"\0")), 0)]))
    machine.put("/srv/image.vmdk", "# Disk DescriptorFile\nversion=1\n")
    return machine


CASES: list[Case] = [
    flawed("A BIOS system with an MBR", bios, _it_is_3_tib, Said("mbr-too-large")),
    flawed("A BIOS system with an MBR", bios, _boot_code_was_wiped, Said("no-boot-code"), drill=False),
    flawed(
        "A BIOS system with an MBR", bios, _the_table_was_wiped, Said("no-partition-table"), also=UNSEEN, drill=False
    ),
    flawed("A BIOS system with an MBR", bios, _it_is_taken_for_another_firmwares, Said("firmware-other"), also=UNSEEN),
    sound("A UEFI system", uefi, drill=True),
    flawed("A UEFI system", uefi, _the_disk_has_grown, Said("gpt-backup"), drill=True),
    flawed("A UEFI system", uefi, _its_backup_is_overwritten, Said("gpt-backup"), drill=True),
    flawed("A UEFI system", uefi, _its_primary_header_is_damaged, Said("gpt-damaged"), also=UNSEEN),
    flawed(
        "A UEFI system",
        uefi,
        _its_protective_partition_is_another,
        Said("protective-mbr"),
        also=(*UNSEEN, "esp-missing"),
        drill=False,
    ),
    flawed("A UEFI system", uefi, _it_is_taken_for_another_firmwares, Said("firmware-other"), also=UNSEEN),
    sound("A UEFI system with a hybrid MBR", hybrid, drill=True),
    flawed("A disk of a physical machine", native_4k, _its_sectors_have_4096_bytes, Said("sectors-4k"), also=UNSEEN),
    *(
        flawed(
            f"A file in the format {name}",
            partial(container, name),
            _it_is_a_file_of_a_hypervisor,
            Said("disk-format"),
            also=UNSEEN,
        )
        for name in FORMATS
    ),
    sound("A disk that holds images", with_an_image_inside),
]
