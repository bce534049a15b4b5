"""Every remedy that a readiness finding names is done as it says, and the trouble is gone; or a person must do it.

`REMEDIES` has each sentence of findings.py: a new one fails here until somebody has decided which of the two it is.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import bootdisk
from bootdisk import run
from rig import Rig, command
from systems import debianvm, layout
from systems.cases import fstab, uid
from systems.distributions import debian, fedora, redhat
from systems.machine import Initramfs, Machine
from systems.variations import boxes, mounts, tables, words
from warmspare.recover.disks.held_replica import HeldDisk
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, BootSeverity, Family
from warmspare.recover.readiness.boot_meanings import ABOUT
from warmspare.recover.readiness.check import look

K, F = BootFindingKind, Family
VERSION = boxes.VERSION


def found(*paths: Path, firmware: str) -> list[BootFinding]:
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        held = [HeldDisk(path.name, path, path.stat().st_size, fd) for path, fd in zip(paths, fds, strict=True)]
        return asyncio.run(look(held, firmware)).findings
    finally:
        for fd in fds:
            os.close(fd)


@dataclass
class Patient:
    """A machine with a trouble of one kind, on disks."""

    home: Path
    kind: BootFindingKind
    machine: Machine
    paths: list[Path]

    def has(self, firmware: str = "") -> bool:
        """Whether it has the trouble. Without it nothing may stop it."""
        findings = found(*self.paths, firmware=firmware or self.machine.firmware)
        if any(each.kind is self.kind for each in findings):
            return True
        assert not [each for each in findings if each.severity is BootSeverity.STOPS], findings
        return False

    def again(self) -> None:
        """Its disks after files of the system were edited."""
        for path in self.paths:
            path.unlink()
        self.paths = layout.build(self.machine, self.home)


def quoted(kind: BootFindingKind, family: Family = Family.OTHER, **filled: object) -> list[str]:
    """The commands of a sentence: what stands in it between backquotes, its words in capitals filled."""
    sentence = dict(ABOUT[kind].remedies).get(family, ABOUT[kind].remedy)
    commands = re.findall(r"`([^`]+)`", sentence)
    for name, value in filled.items():
        commands = [re.sub(rf"\b{name}\b", str(value), each) for each in commands]
    return commands


def ill(home: Path, kind: BootFindingKind, machine: Machine, *hurts: Callable[[Machine], None]) -> Patient:
    for hurt in hurts:
        hurt(machine)
    patient = Patient(home, kind, machine, layout.build(machine, home))
    assert patient.has(), kind
    return patient


def uuid_of(path: Path, machine: Machine, part: int) -> str:
    """As `blkid` shows it."""
    at, size = layout.places(machine.disks[0])[part]
    said = run("blkid", "-p", "-o", "value", "-s", "UUID", "-O", at, "-S", size, path)
    return said.decode().strip()


# What is done to the disks themselves


def converted_with_qemu_img(home: Path) -> None:
    patient = ill(home, K.DISK_FORMAT, tables.container("vmdk"))
    (convert,) = quoted(K.DISK_FORMAT, FILE=patient.paths[0], DISK=home / "raw")
    run(*convert.split())
    (home / "raw").replace(patient.paths[0])
    assert not patient.has()


def the_other_firmware_is_named(home: Path) -> None:
    patient = ill(home, K.FIRMWARE_OTHER, boxes.uefi(), tables._it_is_taken_for_another_firmwares)
    assert not patient.has(firmware="uefi")


def gdisk_writes_the_protective_mbr(home: Path) -> None:
    patient = ill(home, K.PROTECTIVE_MBR, boxes.uefi(), tables._its_protective_partition_is_another)
    (gdisk,) = quoted(K.PROTECTIVE_MBR, DISK=patient.paths[0])
    run(*gdisk.split(), data=b"2\nw\ny\n")
    assert not patient.has()


def gdisk_restores_the_header(home: Path) -> None:
    patient = ill(home, K.GPT_DAMAGED, boxes.uefi(), tables._its_primary_header_is_damaged)
    run("gdisk", patient.paths[0], data=b"r\nb\nw\ny\n")
    assert not patient.has()


def sgdisk_moves_the_backup(home: Path) -> None:
    patient = ill(home, K.GPT_BACKUP, boxes.uefi(), tables._the_disk_has_grown)
    (move,) = quoted(K.GPT_BACKUP)
    run(*move.split(), patient.paths[0])
    assert not patient.has()


def sgdisk_moves_the_backup_to_a_volumes_end(home: Path) -> None:
    patient = ill(home, K.GPT_ROUNDED, boxes.uefi())
    with patient.paths[0].open("r+b") as volume:  # as EBS rounds it up
        volume.truncate(1 << 30)
    (move,) = quoted(K.GPT_ROUNDED)
    run(*move.split(), patient.paths[0])
    assert not patient.has()


def the_boot_disk_is_named(home: Path) -> None:
    patient = ill(home, K.BOOT_DISK_OTHER, boxes.data_first())
    rig = Rig(home)
    rig.sync(disks=[*patient.paths])
    rig.apply()
    words = ("recover", "check", "--vm", rig.vm, "--replica", rig.replica)
    assert K.BOOT_DISK_OTHER in [each["kind"] for each in command(*words).all("finding")]
    named = command(*words, "--boot-disk", "sdb.raw")
    assert named.code == 0 and named.last("check.done")["stops"] == 0, named


def the_missing_disk_is_added(home: Path) -> None:
    machine = boxes.with_half_a_group()
    boxes._what_is_elsewhere_is_mounted(machine)
    machine.groups["dvg"].absent = 0
    machine.disks.append(boxes.Disk(200, "", whole=boxes.Physical("dvg")))
    patient = Patient(home, K.LVM_INCOMPLETE, machine, layout.build(machine, home))
    last = patient.paths.pop()
    assert patient.has()
    patient.paths.append(last)
    assert not patient.has()


def the_data_disk_is_added(home: Path) -> None:
    machine = boxes.with_data_on_lvm()
    patient = Patient(home, K.FSTAB_UNKNOWN, machine, layout.build(machine, home))
    last = patient.paths.pop()
    assert patient.has()
    patient.paths.append(last)
    assert not patient.has()


# Files of the system, edited as the sentence says


def _edited(home: Path, kind: BootFindingKind, machine: Machine, edit: Callable[[Patient], None]) -> None:
    patient = ill(home, kind, machine)
    edit(patient)
    patient.again()
    assert not patient.has(), kind


def fstab_names_it_by_uuid(home: Path) -> None:
    machine = boxes.bios()
    fstab(machine, "/dev/sda1 / ext4 errors=remount-ro 0 1")

    def edit(patient: Patient) -> None:
        machine.change("/etc/fstab", "/dev/sda1", f"UUID={uuid_of(patient.paths[0], machine, 0)}")

    _edited(home, K.FSTAB_BY_NAME, machine, edit)


def swap_is_named_by_uuid(home: Path) -> None:
    machine = debian.debian9()
    machine.change("/etc/fstab", f"UUID={uid('debian9 swap')}", "/dev/sda5")

    def edit(patient: Patient) -> None:
        machine.change("/etc/fstab", "/dev/sda5", f"UUID={uuid_of(patient.paths[0], machine, 2)}")

    _edited(home, K.FSTAB_OPTIONAL, machine, edit)


def nofail_is_added(home: Path) -> None:
    machine = boxes.bios()
    mounts.add(machine, f"UUID={uid('nowhere')} /data ext4 defaults 0 2")

    def edit(patient: Patient) -> None:
        machine.change("/etc/fstab", "/data ext4 defaults", "/data ext4 defaults,nofail")

    _edited(home, K.FSTAB_UNKNOWN, machine, edit)


def the_loader_names_the_root_by_uuid(home: Path) -> None:
    machine = boxes.bios()
    machine.change("/boot/grub/grub.cfg", f"root=UUID={boxes.ROOT}", "root=/dev/sda1")

    def edit(patient: Patient) -> None:
        uuid = uuid_of(patient.paths[0], machine, 0)
        machine.change("/boot/grub/grub.cfg", "root=/dev/sda1", f"root=UUID={uuid}")

    _edited(home, K.ROOT_BY_NAME, machine, edit)


def the_root_is_corrected(home: Path) -> None:
    machine = fedora.fedora()
    fedora._the_entrys_root_is_that_of_a_restored_disk(machine)
    path = next(path for path in machine.files if path.endswith(f"{fedora.F40}.conf"))

    def edit(patient: Patient) -> None:
        machine.change(path, uid("the fedora before"), uuid_of(patient.paths[0], machine, 2))

    _edited(home, K.ROOT_UNKNOWN, machine, edit)


def lvm_is_told_to_use_no_devices_file(home: Path) -> None:
    machine = redhat.rhel9()
    redhat._the_devices_file_is_in_use(machine)

    def edit(patient: Patient) -> None:
        machine.change("/etc/lvm/lvm.conf", "devices {", "devices {\n\tuse_devicesfile = 0")

    _edited(home, K.LVM_DEVICES_FILE, machine, edit)


def lvms_filter_takes_all(home: Path) -> None:
    machine = redhat.rhel9()
    redhat._the_filter_admits_the_disks_of_the_vm_alone(machine)

    def edit(patient: Patient) -> None:
        del patient
        new = quoted(K.LVM_DEVICES_FILE)[-1]
        machine.change("/etc/lvm/lvm.conf", 'filter = [ "a|^/dev/sd.*|", "r|.*|" ]', new)

    _edited(home, K.LVM_DEVICES_FILE, machine, edit)


def the_word_is_taken_out(home: Path) -> None:
    """`grubby --remove-args`, or an editor and `update-grub`, write this."""
    machine = words.rhel_with_word("systemd.unit=emergency.target")

    def edit(patient: Patient) -> None:
        del patient
        machine.change(words.MENU2, " systemd.unit=emergency.target", "")

    _edited(home, K.KERNEL_OPTION, machine, edit)


def another_default_is_chosen(home: Path) -> None:
    """`grubby --set-default`, `grub-set-default` write this."""
    machine = redhat.rhel8()
    machine.drop(f"/boot/vmlinuz-{redhat.E8}")

    def edit(patient: Patient) -> None:
        del patient
        path = "/boot/grub2/grubenv"
        block = machine.files[path]
        assert isinstance(block, bytes)
        machine.files[path] = block.replace(redhat.E8.encode(), redhat.E8_OLD.encode()).ljust(1024, b"#")

    _edited(home, K.KERNEL_MISSING, machine, edit)


def a_kernel_with_ena_is_installed(home: Path) -> None:
    machine = boxes.usr_apart()
    boxes._its_kernel_lacks_ena(machine)

    def edit(patient: Patient) -> None:
        del patient
        boxes.kernels.drivers(machine, VERSION, home="/usr/lib/modules")

    _edited(home, K.ENA_MISSING, machine, edit)


def the_loaders_folder_is_copied(home: Path) -> None:
    machine = debian.debian10()
    debian._nothing_at_the_removable_path(machine)

    def edit(patient: Patient) -> None:
        at, size = layout.places(machine.disks[0])[0]
        part = home / "esp"
        run("dd", f"if={patient.paths[0]}", f"of={part}", "bs=1M", f"skip={at >> 20}", f"count={size >> 20}")
        run("mmd", "-i", part, "::EFI/BOOT")
        for name in run("mdir", "-b", "-i", part, "::EFI/debian").decode().split():
            target = name.replace("debian", "BOOT").replace("shimx64.efi", "BOOTX64.EFI")
            run("mcopy", "-i", part, name, home / "file")
            run("mcopy", "-o", "-i", part, home / "file", target)
        layout.graft(part, patient.paths[0], at)

    patient = ill(home, K.LOADER_MISSING, machine)
    edit(patient)
    assert not patient.has()


def the_initramfs_is_built_with_nvme(home: Path) -> None:
    machine = boxes.bios()
    machine.files[f"/boot/initrd.img-{VERSION}"] = Initramfs(VERSION, ())

    def edit(patient: Patient) -> None:
        del patient
        machine.files[f"/boot/initrd.img-{VERSION}"] = Initramfs(VERSION, (boxes.kernels.NVME,))

    _edited(home, K.NVME_MISSING, machine, edit)


# What is done in the VM, by the system's own tools


def _vm(
    home: Path,
    kind: BootFindingKind,
    firmware: str,
    trouble: Sequence[str],
    hurt: Callable[[Path], None],
    remedy: Sequence[str],
) -> None:
    home.mkdir(parents=True, exist_ok=True)
    disk = debianvm.installed(home / "vm.raw", firmware)
    assert not [each for each in found(disk, firmware=firmware) if each.severity is not BootSeverity.NOTE]
    if trouble:
        debianvm.inside(disk, *trouble)
    hurt(disk)
    findings = found(disk, firmware=firmware)
    assert kind in [each.kind for each in findings], findings
    for each in findings:
        if each.kind is kind:
            assert each.family is F.DEBIAN, each
    debianvm.inside(disk, *remedy)
    findings = found(disk, firmware=firmware)
    assert not [each for each in findings if each.kind is kind or each.severity is BootSeverity.STOPS], findings


def _nothing(disk: Path) -> None:
    """The trouble was made in the VM."""


def grub_install_writes_the_boot_code(home: Path) -> None:
    _vm(
        home,
        K.NO_BOOT_CODE,
        "bios",
        [],
        lambda disk: bootdisk.write_at(disk, 0, bytes(440)),
        quoted(K.NO_BOOT_CODE, DISK=debianvm.DEVICE),
    )


def grub_install_takes_the_removable_path(home: Path) -> None:
    _vm(
        home,
        K.LOADER_MISSING,
        "uefi",
        ["mv /boot/efi/EFI/BOOT /boot/efi/EFI/debian"],
        _nothing,
        quoted(K.LOADER_MISSING, F.DEBIAN),
    )


def grub_install_and_update_grub_make_it_whole(home: Path) -> None:
    _vm(home, K.LOADER_INCOMPLETE, "uefi", ["rm -r /boot/grub"], _nothing, quoted(K.LOADER_INCOMPLETE, F.DEBIAN))


def update_initramfs_creates_it(home: Path) -> None:
    version = debianvm.version()
    _vm(
        home,
        K.INITRAMFS_MISSING,
        "bios",
        [f"rm /boot/initrd.img-{version}"],
        _nothing,
        quoted(K.INITRAMFS_MISSING, F.DEBIAN, VERSION=version),
    )


def update_grub_adds_the_console(home: Path) -> None:
    file = "/etc/default/grub"
    remedy = [rf"sed -i 's/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX=\"console=tty0 console=ttyS0,115200\"/' {file}"]
    trouble = [f"sed -i 's/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX=/' {file}", "update-grub"]
    _vm(home, K.CONSOLE_MISSING, "bios", trouble, _nothing, [*remedy, *quoted(K.CONSOLE_MISSING, F.DEBIAN)])


def update_grub_sets_the_timeout(home: Path) -> None:
    file = "/etc/default/grub"
    trouble = [f"sed -i 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=-1/' {file}", "update-grub"]
    remedy = [f"sed -i 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=5/' {file}", *quoted(K.LOADER_WAITS, F.DEBIAN)]
    _vm(home, K.LOADER_WAITS, "bios", trouble, _nothing, remedy)


# Debian's cloud kernel has NVMe built in: it is made a module here, as other kernels have it.
_NVME_AS_A_MODULE = [
    "cd /lib/modules/*/",
    r"sed -i '/\/nvme\.ko/d' modules.builtin",
    "mkdir -p kernel/drivers/nvme/host",
    "cp kernel/drivers/net/ethernet/amazon/ena/ena.ko kernel/drivers/nvme/host/nvme.ko",
    "depmod -a $(basename $PWD)",
    "sed -i 's/^MODULES=.*/MODULES=list/' /etc/initramfs-tools/initramfs.conf",
    "update-initramfs -u",
]


def update_initramfs_takes_nvme_in(home: Path) -> None:
    _vm(
        home,
        K.NVME_MISSING,
        "bios",
        _NVME_AS_A_MODULE,
        _nothing,
        ["echo nvme >> /etc/initramfs-tools/modules", *quoted(K.NVME_MISSING, F.DEBIAN)],
    )


def dracut_takes_nvme_in(home: Path) -> None:
    """Of Debian, under the name of initramfs that its menu has."""
    image = f"/boot/initrd.img-{debianvm.version()} {debianvm.version()}"
    (dracut,) = quoted(K.NVME_MISSING, F.RED_HAT)
    _vm(home, K.NVME_MISSING, "bios", _NVME_AS_A_MODULE, _nothing, [f"{dracut} {image}"])


def dracut_creates_it(home: Path) -> None:
    version = debianvm.version()
    _vm(
        home,
        K.INITRAMFS_MISSING,
        "bios",
        [f"rm /boot/initrd.img-{version}"],
        _nothing,
        [f"{quoted(K.INITRAMFS_MISSING, F.RED_HAT, VERSION=version)[0]} /boot/initrd.img-{version}"],
    )


@dataclass(frozen=True, slots=True)
class Person:
    """Nobody but a person can do it, or see it done. why: as a clause."""

    why: str


DRILL = Person("a drill shows it: test_readiness_systems.py, test_a_drill_of_the_same_disks_agrees")
MEDIUM = Person("it is done from Windows' own medium or console")
NOT_DEBIANS = Person("the tool is that system's own, and its packages can't be had here")
SITE = Person("it is a matter of the site: data, keys or disks that only they have")

Deed = Callable[[Path], None] | Person
REMEDIES: dict[tuple[BootFindingKind, Family], Deed] = {
    (K.DISK_FORMAT, F.OTHER): converted_with_qemu_img,
    (K.NO_BOOT_CODE, F.OTHER): grub_install_writes_the_boot_code,
    (K.NO_BOOT_CODE, F.RED_HAT): NOT_DEBIANS,
    (K.NO_BOOT_CODE, F.SUSE): NOT_DEBIANS,
    (K.NO_BOOT_CODE, F.WINDOWS): MEDIUM,
    (K.NO_TABLE, F.OTHER): the_boot_disk_is_named,
    (K.BOOT_DISK_OTHER, F.OTHER): the_boot_disk_is_named,
    (K.MBR_TOO_LARGE, F.OTHER): SITE,
    (K.SECTORS_4K, F.OTHER): SITE,
    (K.ESP_MISSING, F.OTHER): the_boot_disk_is_named,
    (K.LOADER_MISSING, F.OTHER): the_loaders_folder_is_copied,
    (K.LOADER_MISSING, F.DEBIAN): grub_install_takes_the_removable_path,
    (K.LOADER_MISSING, F.RED_HAT): NOT_DEBIANS,
    (K.LOADER_MISSING, F.SUSE): NOT_DEBIANS,
    (K.LOADER_MISSING, F.WINDOWS): MEDIUM,
    (K.LOADER_INCOMPLETE, F.OTHER): grub_install_and_update_grub_make_it_whole,
    (K.LOADER_INCOMPLETE, F.DEBIAN): grub_install_and_update_grub_make_it_whole,
    (K.LOADER_INCOMPLETE, F.RED_HAT): NOT_DEBIANS,
    (K.LOADER_INCOMPLETE, F.SUSE): NOT_DEBIANS,
    (K.LOADER_UNKNOWN, F.OTHER): DRILL,
    (K.LOADER_WAITS, F.OTHER): update_grub_sets_the_timeout,
    (K.LOADER_WAITS, F.DEBIAN): update_grub_sets_the_timeout,
    (K.LOADER_WAITS, F.RED_HAT): NOT_DEBIANS,
    (K.LOADER_WAITS, F.SUSE): NOT_DEBIANS,
    (K.FIRMWARE_OTHER, F.OTHER): the_other_firmware_is_named,
    (K.PROTECTIVE_MBR, F.OTHER): gdisk_writes_the_protective_mbr,
    (K.GPT_DAMAGED, F.OTHER): gdisk_restores_the_header,
    (K.GPT_BACKUP, F.OTHER): sgdisk_moves_the_backup,
    (K.GPT_ROUNDED, F.OTHER): sgdisk_moves_the_backup_to_a_volumes_end,
    (K.BEYOND_END, F.OTHER): SITE,
    (K.BITLOCKER, F.OTHER): SITE,
    (K.DYNAMIC_DISK, F.OTHER): MEDIUM,
    (K.LUKS, F.OTHER): SITE,
    (K.LVM_INCOMPLETE, F.OTHER): the_missing_disk_is_added,
    (K.LVM_DEVICES_FILE, F.OTHER): lvm_is_told_to_use_no_devices_file,
    (K.DEFAULT_UNKNOWN, F.OTHER): DRILL,
    (K.KERNEL_MISSING, F.OTHER): another_default_is_chosen,
    (K.KERNEL_OPTION, F.OTHER): the_word_is_taken_out,
    (K.KERNEL_OPTION, F.DEBIAN): the_word_is_taken_out,
    (K.KERNEL_OPTION, F.RED_HAT): NOT_DEBIANS,
    (K.KERNEL_OPTION, F.SUSE): NOT_DEBIANS,
    (K.ROOT_UNSEEN, F.OTHER): DRILL,
    (K.ROOT_BY_NAME, F.OTHER): the_loader_names_the_root_by_uuid,
    (K.ROOT_UNKNOWN, F.OTHER): the_root_is_corrected,
    (K.SYSTEM_UNREAD, F.OTHER): DRILL,
    (K.FSTAB_BY_NAME, F.OTHER): fstab_names_it_by_uuid,
    (K.FSTAB_UNKNOWN, F.OTHER): the_data_disk_is_added,
    (K.FSTAB_OPTIONAL, F.OTHER): swap_is_named_by_uuid,
    (K.VOLUME_UNREAD, F.OTHER): DRILL,
    (K.NVME_MISSING, F.OTHER): the_initramfs_is_built_with_nvme,
    (K.NVME_MISSING, F.DEBIAN): update_initramfs_takes_nvme_in,
    (K.NVME_MISSING, F.RED_HAT): dracut_takes_nvme_in,
    (K.NVME_MISSING, F.SUSE): dracut_takes_nvme_in,
    (K.ENA_MISSING, F.OTHER): a_kernel_with_ena_is_installed,
    (K.DRIVERS_UNREAD, F.OTHER): DRILL,
    (K.INITRAMFS_MISSING, F.OTHER): update_initramfs_creates_it,
    (K.INITRAMFS_MISSING, F.DEBIAN): update_initramfs_creates_it,
    (K.INITRAMFS_MISSING, F.RED_HAT): dracut_creates_it,
    (K.INITRAMFS_MISSING, F.SUSE): dracut_creates_it,
    (K.INITRAMFS_UNREAD, F.OTHER): DRILL,
    (K.CONSOLE_MISSING, F.OTHER): update_grub_adds_the_console,
    (K.CONSOLE_MISSING, F.DEBIAN): update_grub_adds_the_console,
    (K.CONSOLE_MISSING, F.RED_HAT): NOT_DEBIANS,
    (K.CONSOLE_MISSING, F.SUSE): NOT_DEBIANS,
    (K.WINDOWS, F.OTHER): Person("drivers come from AWS"),
    (K.OTHER_SYSTEM, F.OTHER): Person("nothing is to be done"),
    (K.IMDS_V1, F.OTHER): Person("newer ones come from distributors; the plan's key: test_failover.py, of_each_vm"),
    (K.IMDS_UNKNOWN, F.OTHER): Person("what its version can do is in its own documents"),
    (K.NOT_JUDGED, F.OTHER): SITE,
}
BESIDES: tuple[Deed, ...] = (nofail_is_added, lvms_filter_takes_all)  # the other half of a sentence
IN_THE_VM = {
    grub_install_writes_the_boot_code,
    grub_install_takes_the_removable_path,
    update_initramfs_creates_it,
    grub_install_and_update_grub_make_it_whole,
    update_grub_adds_the_console,
    update_initramfs_takes_nvme_in,
    update_grub_sets_the_timeout,
    dracut_takes_nvme_in,
    dracut_creates_it,
}
DEEDS = sorted({d for d in (*REMEDIES.values(), *BESIDES) if not isinstance(d, Person)}, key=lambda deed: deed.__name__)
AT_ONCE = (fstab_names_it_by_uuid, the_loader_names_the_root_by_uuid, sgdisk_moves_the_backup, nofail_is_added)


def test_every_sentence_is_done_by_a_test_or_by_a_person() -> None:
    sentences = {(kind, F.OTHER) for kind in ABOUT}
    sentences |= {(kind, family) for kind, about in ABOUT.items() for family, _ in about.remedies}
    assert set(REMEDIES) == sentences


@pytest.mark.parametrize("deed", AT_ONCE, ids=lambda deed: deed.__name__)
def test_a_remedy_ends_the_trouble(deed: Callable[[Path], None], tmp_path: Path) -> None:
    deed(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("deed", [d for d in DEEDS if d not in (*AT_ONCE, *IN_THE_VM)], ids=lambda deed: deed.__name__)
def test_every_remedy_ends_its_trouble(
    deed: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    deed(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("deed", [d for d in DEEDS if d in IN_THE_VM], ids=lambda deed: deed.__name__)
def test_a_remedy_in_the_vm_ends_its_trouble(deed: Callable[[Path], None], tmp_path: Path) -> None:
    """By the tools of a whole Debian, which QEMU runs; a minute or two each, as root."""
    deed(tmp_path)
