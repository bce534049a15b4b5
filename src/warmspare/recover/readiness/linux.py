"""What a Linux system on a VM's disks needs to start in EC2: devices by stable names, and drivers; owns these rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness import bootconfig, drivers
from warmspare.recover.readiness.answers import ABSENT, Unknown
from warmspare.recover.readiness.bootconfig import Entry, Mount
from warmspare.recover.readiness.findings import Finding, Kind
from warmspare.recover.readiness.report import Report, short
from warmspare.recover.readiness.volumes import Contents, Volume, Volumes

MAX_ENTRIES = 64  # of the Boot Loader Specification, the newest
MAX_ENVIRONMENT_BYTES = 1 << 16  # GRUB makes it of 1 KiB
_ROOTS = ("", "/@", "/root", "/@rootfs")  # where distributions have the root in Btrfs
_CONFIGS = (
    "/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub/grub.cfg", "/grub2/grub.cfg", "/extlinux/extlinux.conf",
    "/boot/extlinux/extlinux.conf", "/extlinux.conf", "/syslinux.cfg", "/syslinux/syslinux.cfg",
)  # fmt: skip
_ENVIRONMENTS = ("/boot/grub2/grubenv", "/grub2/grubenv", "/boot/grub/grubenv", "/grub/grubenv")
_ENTRIES = ("/boot/loader/entries", "/loader/entries")
# Names that depend on the bus, or on the order in which devices were found.
_BY_NAME = re.compile(r"/dev/(?:[shv]d[a-z]+\d*|xvd[a-z]+\d*|disk/by-path/\S+|disk/by-id/(?!dm-|lvm-)\S+)$")
_TAG = re.compile(r"(UUID|LABEL|PARTUUID|PARTLABEL)=(.+)$")
_BY_LINK = re.compile(r"/dev/disk/by-(uuid|label)/(.+)$")
_MAPPED = re.compile(r"/dev/mapper/(.+)$")
_GROUPED = re.compile(r"/dev/(?!disk/|mapper/|md)([^/]+)/([^/]+)$")
_VERSION = re.compile(r"(?:vmlinuz|vmlinux|linux|kernel)-(.+)$")

Places = Mapping[str, tuple[str, str]]


class _Known:
    """The file systems there are, by all that can name one."""

    def __init__(self, every: Iterable[Volume], held: Iterable[Contents]) -> None:
        volumes, contents = list(every), list(held)
        self._uuids = {each.uuid.lower() for each in volumes} | {each.uuid.lower() for each in contents}
        self._labels = {each.label for each in volumes} | {each.label for each in contents}
        self._mapped = {each.device.removeprefix("lvm/") for each in volumes if each.device.startswith("lvm/")}

    def has(self, device: str) -> bool | None:
        """Whether what a device's name means is there; None where that can't be told."""
        tag = _TAG.match(device)
        kind, value = (tag[1].lower(), tag[2]) if tag else ("", "")
        if link := _BY_LINK.match(device):
            kind, value = link[1], link[2]
        if kind == "uuid":
            return value.lower() in self._uuids
        if kind == "label":
            return value in self._labels
        if mapped := _MAPPED.match(device):
            return mapped[1] in self._mapped if self._mapped else None
        if (grouped := _GROUPED.match(device)) and self._mapped:
            return "-".join(part.replace("-", "--") for part in grouped.groups()) in self._mapped
        return None


def look(
    volumes: Volumes, every: list[Volume], held: list[Contents], places: Places, report: Report, *, encrypted: bool
) -> None:
    """Findings of the Linux on these volumes. places: (disk, place) of each volume, for people."""
    known = _Known(every, held)
    root, prefix, fstab = _root_of(volumes, every, places, report)
    if root is None:
        report.add(Finding(Kind.ROOT_UNSEEN, places[every[0].device][0] if every else "", "all volumes",
                           "LUKS" if encrypted else ""))  # fmt: skip
    else:
        disk, place = places[root.device]
        with report.part(disk, f"{place}, /etc/fstab"):
            for mount in bootconfig.mounts(fstab.decode(errors="replace")):
                if kind := _fstab(mount, known, encrypted=encrypted):
                    where = f"{place}, /etc/fstab line {mount.line}"
                    report.add(Finding(kind, disk, where, f"{short(mount.device)} on {mount.point}"))
    found, unread = _entry(volumes, every, places, report)
    if found is None:
        if root is not None and not unread:
            report.add(Finding(Kind.ROOT_UNSEEN, places[root.device][0], "all volumes", "no boot loader's entry"))
        return
    entry, boot = found
    disk, place = places[boot.device]
    source = f"{place}, {entry.source}"
    report.add(*(Finding(kind, disk, source, text) for kind, text in _root(entry, known)))
    if not entry.serial:
        report.add(Finding(Kind.CONSOLE_MISSING, disk, source, " ".join(entry.arguments)))
    with report.part(disk, f"{place}, the drivers of the kernel and its initramfs"):
        _drivers(volumes, entry, boot, root, prefix, (disk, place), report)


def _root_of(
    volumes: Volumes, every: list[Volume], places: Places, report: Report
) -> tuple[Volume | None, str, bytes]:
    """The root file system, where in it the root is, and its fstab."""
    for volume in every:
        if not volume.filesystem or volume.filesystem in ("fat", "exfat", "ntfs"):
            continue
        disk, place = places[volume.device]
        for prefix in _ROOTS if volume.filesystem == "btrfs" else ("",):
            with report.part(disk, f"{place}, {prefix}/etc/fstab"):
                data = volumes.read(volume, prefix + "/etc/fstab")
                if data is not None:
                    return volume, prefix, data
    return None, "", b""


def _fstab(mount: Mount, known: _Known, *, encrypted: bool) -> Kind | None:
    """What is wrong with a line of fstab. What stands in an encrypted volume can't be known to be missing."""
    if mount.unused or not (mount.device.startswith("/dev/") or "=" in mount.device):
        return None
    if _BY_NAME.match(mount.device):
        return Kind.FSTAB_BY_NAME if mount.needed else Kind.FSTAB_OPTIONAL
    if known.has(mount.device) is False and not encrypted:
        return Kind.FSTAB_UNKNOWN if mount.needed else Kind.FSTAB_OPTIONAL
    return None


def _root(entry: Entry, known: _Known) -> list[tuple[Kind, str]]:
    root = entry.root
    if root is None:
        return []
    if _BY_NAME.match(root):
        return [(Kind.ROOT_BY_NAME, f"root={root}")]
    return [(Kind.ROOT_UNKNOWN, f"root={root}")] if known.has(root) is False else []


def _entry(
    volumes: Volumes, every: list[Volume], places: Places, report: Report
) -> tuple[tuple[Entry, Volume] | None, bool]:
    """The default entry of a boot loader, and the volume that it is on; and whether something of it was not judged."""
    unread = False
    for volume in every:
        if not volume.filesystem:
            continue
        disk, place = places[volume.device]
        judged = False
        with report.part(disk, f"{place}, the boot loader's configuration"):
            entry = _entry_on(volumes, volume)
            judged = True
            if entry:
                return (entry, volume), unread
        unread = unread or not judged
    return None, unread


def _entry_on(volumes: Volumes, volume: Volume) -> Entry | None:
    variables: dict[str, str] = {}
    for path in _ENVIRONMENTS:
        if (data := volumes.read(volume, path, most_bytes=MAX_ENVIRONMENT_BYTES)) is not None:
            variables = bootconfig.grub_environment(data)
            break
    left = 0
    for folder in _ENTRIES:
        names = [each for each in volumes.names(volume, folder) if each.endswith(".conf") and "rescue" not in each]
        # The newest is the default; rescue entries have no version in their name that is newer.
        for name in sorted(names, key=_by_version, reverse=True)[:MAX_ENTRIES]:
            data = volumes.read(volume, f"{folder}/{name}") or b""
            entry = bootconfig.specified_entry(data.decode(errors="replace"), f"{folder}/{name}", variables)
            if entry:
                return entry
        left = max(left, len(names) - MAX_ENTRIES)
    for path in _CONFIGS:
        data = volumes.read(volume, path)
        entry = bootconfig.first_entry(data.decode(errors="replace"), path, variables) if data else None
        if entry:
            return entry
    if left > 0:
        raise Exceeded(f"the newest {MAX_ENTRIES} entries name no kernel; {left} more were not looked at")
    return None


def _by_version(name: str) -> list[tuple[int, str]]:
    # A number by its length and digits: int() takes neither all that Unicode calls a digit nor any length.
    parts = [part.lstrip("0") if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name))]
    return [(len(part) if index % 2 else -1, part) for index, part in enumerate(parts)]


def _drivers(
    volumes: Volumes, entry: Entry, boot: Volume, root: Volume | None, prefix: str, at: tuple[str, str], report: Report
) -> None:
    """Whether kernel, initramfs and modules have what EC2's machines need."""
    disk, place = at
    match = _VERSION.search(entry.kernel.rpartition("/")[2])
    files = volumes.files(boot)
    paths = ["/" + path.lstrip("/").replace("\\", "/") for path in entry.initrds]
    packed = [drivers.Packed(path, partial(files.stream, path)) for path in paths]
    version = match[1] if match else Unknown("the kernel's name has no version")
    system = volumes.files(root or boot, prefix)
    has = drivers.look(system, version if root else Unknown("no root was found"), packed)
    inside = f"{place}, {', '.join(entry.initrds) or 'no initramfs'}"
    if isinstance(has.nvme.early, Unknown):
        report.add(Finding(Kind.INITRAMFS_UNREAD, disk, inside, has.nvme.early.why))
    elif has.nvme.early is ABSENT:
        gone = [path for path in paths if files.head(path, 1) is ABSENT]
        kind = Kind.INITRAMFS_UNREAD if gone else Kind.NVME_MISSING
        report.add(Finding(kind, disk, inside, f"{short(gone[0])} is not there" if gone else ""))
    if has.ena.ever is ABSENT:
        report.add(Finding(Kind.ENA_MISSING, disk, place, match[1] if match else ""))
