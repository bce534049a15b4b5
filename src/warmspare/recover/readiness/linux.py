"""What a Linux system on a VM's disks needs to start in EC2: devices by stable names, and drivers; owns these rules."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from typing import BinaryIO, cast

from warmspare.errors import FormatError
from warmspare.recover.readiness import bootconfig, initramfs
from warmspare.recover.readiness.bootconfig import Entry, Mount
from warmspare.recover.readiness.findings import Finding, Kind
from warmspare.recover.readiness.volumes import Contents, Volume, Volumes
from warmspare.threads import in_thread

MAX_INITRAMFS_BYTES = 1 << 30
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
_NVME, _ENA = re.compile(r"(?:^|/)nvme\.ko(?:\.\w+)?$"), re.compile(r"(?:^|/)ena\.ko(?:\.\w+)?$")
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


async def look(
    volumes: Volumes, every: list[Volume], held: list[Contents], places: Places, *, encrypted: bool
) -> list[Finding]:
    """Findings of the Linux on these volumes. places: (disk, place) of each volume, for people."""
    known = _Known(every, held)
    root, prefix, fstab = None, "", b""
    readable = [volume for volume in every if volume.filesystem and volume.filesystem not in ("fat", "exfat", "ntfs")]
    for volume in readable:
        for prefix in _ROOTS if volume.filesystem == "btrfs" else ("",):
            data = await volumes.read(volume, prefix + "/etc/fstab")
            if data is not None:
                root, fstab = volume, data
                break
        if root:
            break
    entry, boot = await _entry(volumes, every)
    findings: list[Finding] = []
    if root is None:
        findings.append(Finding(Kind.ROOT_UNSEEN, places[every[0].device][0] if every else "", "all volumes",
                                "LUKS" if encrypted else ""))  # fmt: skip
    else:
        disk, place = places[root.device]
        for mount in bootconfig.mounts(fstab.decode(errors="replace")):
            kind = _fstab(mount, known, encrypted=encrypted)
            if kind:
                where = f"{place}, /etc/fstab line {mount.line}"
                findings.append(Finding(kind, disk, where, f"{mount.device} on {mount.point}"))
    if entry is None or boot is None:
        if root is not None:
            findings.append(Finding(Kind.ROOT_UNSEEN, places[root.device][0], "all volumes", "no boot loader's entry"))
        return findings
    disk, place = places[boot.device]
    source = f"{place}, {entry.source}"
    findings += [Finding(kind, disk, source, found) for kind, found in _root(entry, known)]
    if not entry.serial:
        findings.append(Finding(Kind.CONSOLE_MISSING, disk, source, " ".join(entry.arguments)[:200]))
    return findings + await _drivers(volumes, entry, boot, root, prefix, (disk, place))


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


async def _entry(volumes: Volumes, every: list[Volume]) -> tuple[Entry | None, Volume | None]:
    """The default entry of a boot loader, and the volume that it is on."""
    for volume in every:
        if not volume.filesystem:
            continue
        variables: dict[str, str] = {}
        for path in _ENVIRONMENTS:
            if (data := await volumes.read(volume, path)) is not None:
                variables = bootconfig.grub_environment(data)
                break
        for folder in _ENTRIES:
            # The newest is the default; rescue entries have no version in their name that is newer.
            for name in sorted(await volumes.names(volume, folder), key=_by_version, reverse=True):
                if name.endswith(".conf") and "rescue" not in name:
                    data = await volumes.read(volume, f"{folder}/{name}") or b""
                    entry = bootconfig.specified_entry(data.decode(errors="replace"), f"{folder}/{name}", variables)
                    if entry:
                        return entry, volume
        for path in _CONFIGS:
            data = await volumes.read(volume, path)
            entry = bootconfig.first_entry(data.decode(errors="replace"), path, variables) if data else None
            if entry:
                return entry, volume
    return None, None


def _by_version(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


async def _drivers(
    volumes: Volumes, entry: Entry, boot: Volume, root: Volume | None, prefix: str, at: tuple[str, str]
) -> list[Finding]:
    """Whether kernel, initramfs and modules have what EC2's machines need."""
    disk, place = at
    match = _VERSION.search(entry.kernel.rpartition("/")[2])
    version = match[1] if match else ""
    builtin: list[str] = []
    home = ""
    if root is not None and version:
        for home in (f"{prefix}/lib/modules/{version}", f"{prefix}/usr/lib/modules/{version}"):
            data = await volumes.read(root, f"{home}/modules.builtin")
            if data is not None:
                builtin = data.decode(errors="replace").splitlines()
                break
    out = []
    names, unread = await _initramfs_names(volumes, entry, boot)
    inside = f"{place}, {', '.join(entry.initrds) or 'no initramfs'}"
    if not any(_NVME.search(name) for name in [*builtin, *names]):
        out.append(Finding(Kind.INITRAMFS_UNREAD if unread else Kind.NVME_MISSING, disk, inside, unread))
    if builtin and not any(_ENA.search(name) for name in [*builtin, *names]):
        # The folder that every kernel has it in; modules.dep lists all where depmod has run.
        listed = (await volumes.read(root, f"{home}/modules.dep", most_bytes=4 << 20) or b"") if root else b""
        found = any(_ENA.search(line.partition(":")[0]) for line in listed.decode(errors="replace").splitlines())
        folder = await volumes.names(root, f"{home}/kernel/drivers/net/ethernet/amazon/ena") if root else []
        if not found and not any(_ENA.search(name) for name in folder):
            out.append(Finding(Kind.ENA_MISSING, disk, f"{home}", version))
    return out


async def _initramfs_names(volumes: Volumes, entry: Entry, boot: Volume) -> tuple[list[str], str]:
    """Names of modules in the initramfs; and why it could not be read, "" where it could."""
    kept: list[str] = []
    for path in entry.initrds:
        path = "/" + path.lstrip("/").replace("\\", "/")
        with tempfile.TemporaryFile() as file:
            if not await volumes.copy(boot, path, file.fileno(), most_bytes=MAX_INITRAMFS_BYTES):
                return kept, f"{path} is not there, or larger than {MAX_INITRAMFS_BYTES >> 20} MiB"
            file.seek(0)
            try:
                kept += await in_thread(_modules, cast(BinaryIO, file), path)
            except FormatError as error:
                return kept, error.what
    return kept, ""


def _modules(file: BinaryIO, where: str) -> list[str]:
    return [name for name in initramfs.names(file, where) if _NVME.search(name) or _ENA.search(name)]
