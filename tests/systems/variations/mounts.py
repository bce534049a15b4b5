"""Lines of fstab: which the start waits for, which it does without, and every stable name of what is there."""

from __future__ import annotations

from functools import partial

from systems.cases import Case, Said, add, flawed, fstab, sound, uid
from systems.machine import (
    Array,
    Disk,
    Fs,
    Machine,
    Member,
    Part,
)
from systems.variations.boxes import ROOT, bios

# Lines of fstab

HARMLESS = (
    "UUID=11111111-2222-3333-4444-555555555555 /lun xfs _netdev 0 0",
    "/dev/disk/by-path/ip-10.0.0.9:3260-iscsi-iqn.x-lun-1 /lun2 xfs defaults,_netdev 0 0",
    "UUID=11111111-2222-3333-4444-555555555555 /lun3 xfs noauto,x-systemd.automount 0 0",
    "UUID=11111111-2222-3333-4444-555555555555 /lun4 xfs x-systemd.automount 0 0",
    "UUID=11111111-2222-3333-4444-555555555555 /lun5 xfs noauto 0 0",
    "/dev/mapper/mpathb1 /lun6 ext4 defaults,_netdev 0 2",
    "nas.home.example:/export /nas nfs defaults 0 0",
    "//nas.home.example/share /cifs cifs credentials=/etc/c 0 0",
    "tmpfs /tmp tmpfs defaults,size=1G 0 0",
    "proc /proc proc defaults 0 0",
    "/data/image.iso /mnt/iso iso9660 loop,nofail 0 0",
    "/home/a /home/b none bind 0 0",
    f"UUID={ROOT.upper()} /again ext4 noauto 0 0",
)
STOPPING = (
    ("UUID=11111111-2222-3333-4444-555555555555 /a xfs defaults 0 0", "fstab-unknown"),
    ("PARTUUID=deadbeef-02 /b ext4 defaults 0 2", "fstab-unknown"),
    ("/dev/disk/by-partuuid/deadbeef-02 /c ext4 defaults 0 2", "fstab-unknown"),
    ("LABEL=my\\040data /d ext4 defaults 0 2", "fstab-unknown"),
    ("/dev/disk/by-id/md-uuid-3ab1:22:33:44 /e ext4 defaults 0 2", "fstab-unknown"),
    ("PARTLABEL=data /f ext4 defaults 0 2", "fstab-unknown"),
    ("/dev/sdb1 /g ext4 defaults 0 2", "fstab-by-name"),
    ("/dev/disk/by-id/wwn-0x6000c29a-part1 /h ext4 defaults 0 2", "fstab-by-name"),
    ("/dev/disk/by-id/ata-VMware_Virtual_SATA_Hard_Drive_01-part1 /i ext4 defaults 0 2", "fstab-by-name"),
    ("/dev/vdb1 /j ext4 defaults 0 2", "fstab-by-name"),
)
OPTIONAL = (
    "UUID=11111111-2222-3333-4444-555555555555 /a xfs nofail 0 0",
    "/dev/sdb1 /b ext4 defaults,nofail 0 2",
    "/dev/sdb2 none swap sw 0 0",
    "UUID=11111111-2222-3333-4444-555555555556 none swap sw 0 0",
)
UNCERTAIN = ("/dev/mapper/mpathb1 /a ext4 defaults 0 2", "/dev/mapper/other /b ext4 defaults 0 2")


def with_lines(lines: tuple[str, ...]) -> Machine:
    machine = bios()
    machine.disks[0].disk_id = "0xcafe0001"
    for line in lines:
        add(machine, line)
    return machine


def with_no_more() -> Machine:
    return with_lines(())


def _the_start_waits_for_them(machine: Machine) -> None:
    for line, _ in STOPPING:
        add(machine, line)


def _the_start_does_without_them(machine: Machine) -> None:
    for line in OPTIONAL:
        add(machine, line)


def with_stable_names() -> Machine:
    """Every stable name of what is there."""
    machine = bios(
        Disk(
            128,
            "gpt",
            [Part(Fs("ext4", uid("stable"), label="my data"), 0, name="part of data", uuid=uid("stable part"))],
        )
    )
    machine.disks[0].disk_id = "0xcafe0001"
    machine.disks.append(Disk(64, parts=[Part(Member("mirror"), 0, "fd")]))
    machine.disks.append(Disk(64, parts=[Part(Member("mirror"), 0, "fd")]))
    machine.arrays["mirror"] = Array(1, Fs("ext4", uid("mirrored")), "1.2", name="box:mirror")
    fstab(
        machine,
        "PARTUUID=cafe0001-01 / ext4 errors=remount-ro 0 1",
        f"UUID={uid('stable')} /a ext4 defaults 0 2",
        "LABEL=my\\040data /b ext4 defaults 0 2",
        f"/dev/disk/by-uuid/{uid('stable')} /c ext4 defaults 0 2",
        "/dev/disk/by-label/my\\x20data /d ext4 defaults 0 2",
        f"PARTUUID={uid('stable part')} /e ext4 defaults 0 2",
        f"/dev/disk/by-partuuid/{uid('stable part')} /f ext4 defaults 0 2",
        'PARTLABEL="part\\040of\\040data" /g ext4 defaults 0 2',
        "/dev/disk/by-partuuid/cafe0001-01 /h ext4 defaults 0 2",
        f"UUID={uid('mirrored')} /i ext4 defaults 0 2",
        "/dev/disk/by-id/md-uuid-3a0c3d5e:1f644f0b:9c573e5f:8b7a9d21 /j ext4 defaults 0 2",
        f'UUID="{uid("stable")}" /k ext4 defaults 0 2',
    )
    return machine


def _kinds(lines: tuple[tuple[str, str], ...]) -> tuple[Said, ...]:
    return tuple(Said(kind, f"line {number}") for number, (_, kind) in enumerate(lines, 3))


CASES: list[Case] = [
    sound("Mounts that the start does without", partial(with_lines, HARMLESS), quick=True),
    flawed("Mounts", with_no_more, _the_start_waits_for_them, *_kinds(STOPPING)),
    flawed(
        "Mounts",
        with_no_more,
        _the_start_does_without_them,
        *(Said("fstab-optional", f"line {n}") for n in range(3, 7)),
    ),
    sound(
        "Mounts of which nothing is known",
        partial(with_lines, UNCERTAIN),
        Said("volume-unread", "line 3"),
        Said("volume-unread", "line 4"),
    ),
    sound("Every stable name", with_stable_names),
]
