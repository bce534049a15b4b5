"""Which physical volumes LVM will look for in EC2: by its devices file and its filters; refuses to know what is there.

lvmdevices(8), lvm.conf(5). RHEL 9 lists physical volumes by IDs of the machine's disks, which are others in EC2; older
ones have filters that name /dev/sd….
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.devices import lvmfilter, lvmtext
from warmspare.recover.readiness.devices.blocks import Device, DeviceKind
from warmspare.recover.readiness.devices.lvmfilter import NotFilter
from warmspare.recover.readiness.devices.lvmtext import NotText, Section

DEVICES_FILE = "system.devices"
FOLDER = "/etc/lvm/devices/"
CONFIGURATIONS = ("/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf")  # the later overrides
MAX_LINES = 10_000
# By what stands on the disk, or by what is made of it.
_STABLE = frozenset({"crypt_uuid", "md_uuid", "lvmlv_uuid", "loop_file"})
_EBS = (  # links that udev makes for a volume of EBS
    "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0",
    "/dev/disk/by-path/pci-0000:00:1f.0-nvme-1",
)


@dataclass(frozen=True, slots=True)
class LvmSettings:
    """Of lvm.conf. file: the devices file's name, ABSENT where none is used. searching: what is done about names that
    are not found. filters: LVM's two."""

    file: Answer[str]
    searching: str = "auto"
    filters: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """A line of a devices file. physical: the volume's UUID, without dashes."""

    kind: str
    name: str
    physical: str


@dataclass(frozen=True, slots=True)
class DevicesFile:
    """refreshed: it says of which machine it is, so that newer LVMs look for what they do not find on another."""

    lines: tuple[ListedDevice, ...]
    refreshed: bool


def settings(texts: Iterable[str], system: str = "", release: str = "") -> LvmSettings:
    """What lvm.conf and what overrides it say. system, release: ID and VERSION_ID of os-release, for what is said
    nowhere."""
    devices: Section = {}
    stated = ""
    for text in texts:
        try:
            found = lvmtext.parsed(text).get("devices")
        except NotText as error:
            return LvmSettings(Unknown(f"/etc/lvm/lvm.conf: {error}"))
        if isinstance(found, dict):
            devices |= found
        # The file that LVM comes with shows each default as a comment.
        if default := re.search(r"^[ \t]*#[ \t]*use_devicesfile[ \t]*=[ \t]*([01])", text, re.MULTILINE):
            stated = stated or default[1]
    name, searching = devices.get("devicesfile"), devices.get("search_for_devnames")
    filters = tuple(
        (value,) if isinstance(value, str) else tuple(one for one in value if isinstance(one, str))
        for key in ("global_filter", "filter")
        if isinstance(value := devices.get(key), str | list)
    )
    return LvmSettings(
        _file(
            devices.get("use_devicesfile"),
            name if isinstance(name, str) and name else DEVICES_FILE,
            _default(system, release) or stated,
        ),
        searching if isinstance(searching, str) else "auto",
        filters,
    )


def _file(used: object, name: str, default: str) -> Answer[str]:
    if not re.fullmatch(r"[\w.-]{1,128}", name):
        return Unknown("lvm.conf gives the devices file a name that is none")
    used = default if used is None else str(used)
    return name if used == "1" else ABSENT if used == "0" else Unknown("whether LVM uses its devices file is not known")


def _default(system: str, release: str) -> str:
    """How a distribution builds LVM, as far as that is certain."""
    if system == "fedora":
        return "1"
    major = release.partition(".")[0]
    if system in ("rhel", "centos", "almalinux", "rocky", "ol", "cloudlinux", "eurolinux") and len(major) <= 2:
        return "1" if major.isascii() and major.isdigit() and int(major) >= 9 else "0"
    return ""


def parsed(text: str) -> Answer[DevicesFile]:
    """A devices file."""
    lines, refreshed = list[ListedDevice](), False
    for line in text.split("\n"):
        if line.startswith("#") or not line.strip():
            continue
        pairs = dict(word.split("=", 1) for word in line.split() if "=" in word)
        refreshed = refreshed or bool({"PRODUCT_UUID", "HOSTNAME"} & set(pairs))
        if "IDTYPE" not in pairs:
            continue
        if len(lines) == MAX_LINES:
            return Unknown(f"LVM's devices file has more than {MAX_LINES} lines")
        name = pairs.get("IDNAME", "")
        if pairs["IDTYPE"] == "devname" and name in ("", "."):
            name = pairs.get("DEVNAME", "")
        lines.append(ListedDevice(pairs["IDTYPE"], name, pairs.get("PVID", "").replace("-", "")))
    return DevicesFile(tuple(lines), refreshed)


def hidden(
    physical: Mapping[str, Device], chosen: LvmSettings, file: Answer[DevicesFile], disks: int
) -> dict[str, str | Unknown]:
    """The physical volumes that LVM will not find in EC2, each with why; Unknown where it may.

    physical: what each stands in, by UUID. file: the one that the settings name; ABSENT where there is none, so that
    all devices count. disks: how many the VM has.
    """
    if isinstance(chosen.file, Unknown) and isinstance(file, DevicesFile):
        lost = _by_file(physical, chosen, file, disks)
        return {uuid: Unknown(f"{chosen.file.why}; by it, {_words(why)}") for uuid, why in lost.items()}
    if isinstance(chosen.file, str) and file is not ABSENT:
        if isinstance(file, Unknown):
            return dict.fromkeys(physical, file)
        if isinstance(file, DevicesFile):
            return _by_file(physical, chosen, file, disks)
    return _by_filters(physical, chosen, disks)


def _words(why: str | Unknown) -> str:
    return why.why if isinstance(why, Unknown) else why


def _by_file(
    physical: Mapping[str, Device], chosen: LvmSettings, file: DevicesFile, disks: int
) -> dict[str, str | Unknown]:
    lost: dict[str, str | Unknown] = {}
    for uuid, device in physical.items():
        lines = [one for one in file.lines if one.physical == uuid.replace("-", "")]
        if not lines:
            lost[uuid] = f"LVM's devices file does not list what is in {device.place}"
        elif not any(_found(one, device, disks) for one in lines):
            one = lines[0]
            why = f"LVM's devices file knows it by {one.kind[:20]} {one.name[:60]}, which is another in EC2"
            if file.refreshed:
                lost[uuid] = Unknown(f"{why}; newer versions of LVM look for it when they notice another machine")
            elif one.kind == "devname":
                # LVM looks for it on devices without an ID of their own, or on all where it is told to.
                if chosen.searching != "all":
                    lost[uuid] = Unknown(f"{why}; whether LVM looks for it elsewhere hangs on its version")
            else:
                lost[uuid] = why
    return lost


def _found(one: ListedDevice, device: Device, disks: int) -> bool:
    """Whether a line is right in EC2 too."""
    if one.kind in _STABLE or device.kind in (DeviceKind.ARRAY, DeviceKind.LOGICAL, DeviceKind.OPENED):
        return one.kind != "devname" or one.name.startswith(("/dev/mapper/", "/dev/md"))
    return one.kind == "devname" and disks == 1 and one.name in _nvme(device, disks)


def _by_filters(physical: Mapping[str, Device], chosen: LvmSettings, disks: int) -> dict[str, str | Unknown]:
    lost: dict[str, str | Unknown] = {}
    if not chosen.filters:
        return lost
    for uuid, device in physical.items():
        if device.kind not in (DeviceKind.DISK, DeviceKind.PARTITION):
            continue  # its name is the same there
        part = f"-part{device.number}" if device.number else ""
        links = [f"/dev/disk/by-id/lvm-pv-uuid-{uuid}", *(link + part for link in _EBS)]
        if device.part_uuid:
            links.append(f"/dev/disk/by-partuuid/{device.part_uuid}")
        try:
            verdicts = {lvmfilter.accepts(chosen.filters, [name, *links]) for name in _nvme(device, disks)}
        except NotFilter as error:
            lost[uuid] = Unknown(str(error))
            continue
        why = f"a filter in LVM's configuration refuses the names that {device.place} has in EC2"
        if verdicts == {False}:
            lost[uuid] = why
        elif len(verdicts) > 1:
            lost[uuid] = Unknown(f"{why}, if its disk is not numbered as here")
    return lost


def _nvme(device: Device, disks: int) -> Collection[str]:
    """What it may be called there: the numbers of the disks are not certain."""
    part = f"p{device.number}" if device.number else ""
    return [f"/dev/nvme{number}n1{part}" for number in range(min(disks, 64))]
