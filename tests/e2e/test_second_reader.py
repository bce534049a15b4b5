"""The second reader: what GRUB does not read is read by Linux in a throw-away machine, once a check, and isolated."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bootdisk
from readydisks import MIB, empty, put
from rigs.guests import vmdisks
from warmspare.recover.disks import confined
from warmspare.recover.disks.held_replica import HeldDisk
from warmspare.recover.disks.programs import Budget
from warmspare.recover.readiness import check
from warmspare.recover.readiness.answers import ABSENT, Unknown
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, BootSeverity
from warmspare.recover.readiness.guest.volumes import Volume, Volumes
from warmspare.recover.readiness.readers.appliance import parts
from warmspare.recover.readiness.readers.appliance.appliance_files import Appliance
from warmspare.recover.readiness.readers.appliance.appliance_machine import ApplianceLimits

# Where both cores are taken by others, what takes 10 s of CPU takes minutes.
PATIENT = ApplianceLimits(wall_s=900.0)


def ext4(home: Path, *options: str) -> Path:
    tree = home / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "lib").mkdir()
    (tree / "etc/fstab").write_text("x\n")
    (tree / "lib/large").write_bytes(bytes(range(256)) * 10_000)
    (tree / "etc/odd (name) \u00e4'\"$x").write_text("odd")
    for name, target in {
        "rel": "etc/fstab",
        "abs": "/etc/fstab",
        "folder": "/etc",
        "out": "/usr/x",
        "up": "../etc/fstab",
        "loop": "loop",
    }.items():
        (tree / name).symlink_to(target)
    disk = empty(home / "ext4.img", 16 * MIB)
    bootdisk.run("mkfs.ext4", "-q", "-F", *options, "-d", tree, disk)
    return disk


@contextmanager
def opened(
    *paths: Path, have: parts.ApplianceParts | Unknown, limits: ApplianceLimits = PATIENT
) -> Iterator[tuple[Volumes, Appliance]]:
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    held = [HeldDisk(path.name, path, path.stat().st_size, fd) for path, fd in zip(paths, fds, strict=True)]
    appliance = Appliance(have, held, limits)
    try:
        appliance.prepare()
        yield Volumes(held, Budget(), appliance), appliance
    finally:
        appliance.close()
        for fd in fds:
            os.close(fd)


def test_what_grub_does_not_read_is_read_by_linux(tmp_path: Path) -> None:
    """One start answers for all volumes, in GRUB's own answers; the disks stay as they are."""
    fold = ext4(tmp_path / "c", "-O", "casefold")
    xfs = empty(tmp_path / "xfs.img", 320 * MIB)
    bootdisk.run("mkfs.xfs", "-q", "-f", xfs)
    with xfs.open("r+b") as file:  # newer than this kernel, too
        file.seek(0xD8)
        (bits,) = struct.unpack(">I", file.read(4))
        file.seek(0xD8)
        file.write(struct.pack(">I", bits | 1 << 6))
    before = fold.read_bytes()
    with opened(fold, xfs, have=vmdisks.have()) as (volumes, appliance):
        first, second = (volumes.files(volume) for volume in sorted(volumes.all(), key=lambda each: each.device))
        assert not appliance.started
        for path in ("/etc/fstab", "/rel", "/abs", "/folder/fstab", "/up", "/../etc/./fstab"):
            assert first.read(path) == b"x\n", path
        assert first.read("/etc/odd (name) \u00e4'\"$x") == b"odd"
        assert first.names("/folder") == ["fstab", "odd (name) \u00e4'\"$x"] and "etc/" in (first.names("/") or [])
        for path in ("/nope", "/etc/nope/x", "/etc/fstab/x"):
            assert (first.read(path), first.names(path)) == (ABSENT, ABSENT), path
        assert first.read("/etc") is ABSENT and first.names("/rel") is ABSENT
        for path in ("/out", "/loop"):
            assert "symbolic link" in str(first.read(path))
        large = bytes(range(256)) * 10_000
        assert first.read("/lib/large", most_bytes=3 * MIB) == large
        assert "/lib/large is larger than 1024 KiB" in str(first.read("/lib/large"))
        assert first.head("/lib/large", 300) == large[:300]
        with first.stream("/lib/large") as stream:
            assert stream.read() == large
        assert first.within("/etc").read("/fstab") == b"x\n"
        answer = second.read("/etc/fstab")
        assert isinstance(answer, Unknown) and "exchange" in answer.why and "can't mount it: XFS" in answer.why
    assert fold.read_bytes() == before


def test_a_root_on_a_thin_volume_is_read_though_grub_sees_none(tmp_path: Path) -> None:
    _, thin = vmdisks.linux_made()
    with opened(thin, have=vmdisks.have()) as (volumes, _):
        assert not any("thin" in volume.device for volume in volumes.all())
        root = volumes.files(Volume("lvm/vg-thin--root", "", "", ""))
        assert (root.read("/etc/fstab"), root.read("/etc/x"), root.names("/etc")) == (b"thin\n", ABSENT, ["fstab"])
        gone = volumes.files(Volume("lvm/vg-gone", "", "", "")).read("/etc/fstab")
        assert "there is no such device" in str(gone)


def test_it_is_started_only_where_grub_reads_nothing_and_something_may_be_there(tmp_path: Path) -> None:
    disk = empty(tmp_path / "d.img", 4 * MIB, "label: dos\nstart=2048,type=83\n")
    bootdisk.write_at(disk, MIB + 4086, b"SWAPSPACE2")
    (tmp_path / "p").mkdir()
    with opened(ext4(tmp_path / "p"), disk, have=vmdisks.have()) as (volumes, appliance):
        plain = volumes.files(Volume("loop0", "ext*", "", ""))
        assert (plain.read("/etc/fstab"), plain.read("/nope")) == (b"x\n", ABSENT)
        assert isinstance(plain.read("/loop"), Unknown)
        for device in ("loop1,msdos1", "loop1,msdos2", "loop7", "md/0"):
            assert isinstance(volumes.files(Volume(device, "", "", "")).read("/etc/fstab"), Unknown)
        assert not appliance.started


def test_what_is_missing_for_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no kernel that can be read (package" in str(parts.found([]))
    (tmp_path / "c").mkdir()
    fold = ext4(tmp_path / "c", "-O", "casefold")
    with opened(fold, have=parts.found([])) as (volumes, _):
        (volume,) = volumes.all()
        answer = volumes.files(volume).read("/etc/fstab")
        assert "casefold" in str(answer) and "linux-image-cloud-amd64" in str(answer)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(parts, "_ELSEWHERE", str(tmp_path))
    assert "qemu-system-x86" in str(parts.found(vmdisks.kernels()))


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (ApplianceLimits(wall_s=0.05), "it was ended after 0 s"),
        (ApplianceLimits(data_bytes=64 << 20, wall_s=900.0), "its machine ended"),
    ],
)
def test_limits_are_told_and_hold_for_all_that_comes(limits: ApplianceLimits, why: str, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    fold = ext4(tmp_path / "c", "-O", "casefold")
    with opened(fold, have=vmdisks.have(), limits=limits) as (volumes, _):
        (volume,) = volumes.all()
        for _ in range(2):
            answer = volumes.files(volume).read("/etc/fstab")
            assert isinstance(answer, Unknown) and why in answer.why


def test_a_check_asks_it_and_judges_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a system on a file system that this host's GRUB does not read, in the process with its limits."""
    disk = bootdisk.build(tmp_path / "bios.raw", "bios", agent=False)
    bootdisk.run("debugfs", "-w", "-R", "feature ea_inode", f"{disk}?offset={MIB}")
    without = findings(disk)
    assert "ea_inode" in str(without) and not any(each.severity == BootSeverity.STOPS for each in without)
    monkeypatch.setattr(parts, "host_kernels", vmdisks.kernels)
    monkeypatch.setattr(check, "SECOND_LIMITS", PATIENT)
    assert findings(disk) == []
    put(disk, MIB, "/etc/fstab", b"/dev/sda1 / ext4 defaults 0 1\n")
    assert [each.kind for each in findings(disk)] == [BootFindingKind.FSTAB_BY_NAME]


def findings(disk: Path) -> list[BootFinding]:
    fd = os.open(disk, os.O_RDONLY)
    held = HeldDisk(disk.name, disk, disk.stat().st_size, fd)
    try:
        return asyncio.run(check.look([held], None, confined.ProcessLimits(wall_s=2000.0))).findings
    finally:
        os.close(fd)
