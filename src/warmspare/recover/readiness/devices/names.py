"""What a name of a device means among a VM's disks, as fstab, crypttab, root= and resume= write it; refuses to judge.

A name is bound to what stands on the disks, and then moves with them; or to the machine, and then it is another in EC2,
or none. "Not there" is said only where nothing is left unread that could bear the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.devices.blocks import MEMBERS, Depth, Device, DeviceGap, DeviceKind, split

MAX_NAME = 4096  # characters: Linux's own bound of a path
MAX_STEPS = 8  # from one name to another: an opened LUKS on a logical volume, and so on


class Bond(StrEnum):
    """What a name is bound to. CONTENT: what stands on the disks. MACHINE: its buses, controllers and serial numbers,
    which EC2 has not. ORDER: the order in which a kernel finds things. NETWORK: another machine's. NOTHING: no device
    of a disk at all: memory, a file, a kernel's own file system."""

    CONTENT = "content"
    MACHINE = "machine"
    ORDER = "order"
    NETWORK = "network"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class NameMeaning:
    """What a name means. target: the device; for a bond to the machine or to nothing, ABSENT. others: further ones that
    bear the same name, so that chance decides. spelled: where nothing bears it, the same number in the letters that
    udev writes."""

    bond: Bond
    target: Answer[Device]
    others: tuple[Device, ...] = ()
    spelled: str = ""


_TAG = re.compile(r"(UUID|LABEL|PARTUUID|PARTLABEL|ID)=(.+)", re.DOTALL)
_LINK = re.compile(r"/dev/disk/by-([a-z0-9-]+)/(.+)", re.DOTALL)
_NVME = re.compile(r"/dev/nvme([0-9]{1,4})n([0-9]{1,4})(?:p([0-9]{1,4}))?")
_MD = re.compile(r"/dev/md(?:_d)?([0-9]{1,4})(p[0-9]{1,4})?")
_NUMBERS = re.compile(r"(?:[0-9]{1,4}:[0-9]{1,6}|(?:0x)?[0-9a-fA-F]{3,8})")  # root=8:1, root=0801
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")
_HEX = re.compile(r"[^0-9a-f]")
# Of a hypervisor's or a controller's making, in all spellings that drivers of disks have had.
_MACHINE = re.compile(
    r"/dev/(?:(?:[shv]d|xvd|ub)[a-z]{1,4}[0-9]{0,4}|(?:sr|scd|st|nst|fd|sg|pmem|mmcblk)[0-9][0-9a-z.]*"
    r"|(?:cdrom|dvd|cdrw|dvdrw|floppy|tape)[0-9]*|(?:cciss|ida|rd|i2o|ataraid|block)/[^/]*|disk/(?:azure|cloud)/.*)",
    re.DOTALL,
)
_BY_WWID = re.compile(r"3[0-9a-f]{16}(?:[0-9a-f]{16})?(?:-part|p)?[0-9]{0,4}")  # as multipath names a disk
_BY_BINDING = re.compile(r"mpath[a-z]{1,4}(?:-part|p)?[0-9]{0,4}")
_NET_ROOT = re.compile(r"(?:/dev/nfs|(?:nfs4?|iscsi|nbd|cifs|fcoe|https?|ftp|dhcp6?|auto6|net):?.*)", re.DOTALL)
_NOTHING = re.compile(r"/dev/(?:loop|zram|ram|shm|root|null|full|zero|u?random|fuse|hugepages|mqueue|pts)[0-9a-z/]*")
_NETWORK = re.compile(r"/dev/(?:nbd|rbd|drbd|etherd/|nfs)[^\x00]*", re.DOTALL)
# Folders of /dev whose members are not a group's volumes.
_FOLDERS = frozenset(
    {"disk", "mapper", "md", "zvol", "bcache", "vx", "raw", "input", "net", "bus", "cpu", "block", "char", "dri", "snd"}
)


class Names:
    """All that can be named. devices: what there is. gaps: what could not be looked into. groups: the LVM groups whose
    list of volumes was read. mapped: what device mapper's names open, by crypttab and by the kernel's command line.
    arrays: the 32 hex digits of the array that mdadm.conf means by a name. disks: how many the VM has."""

    def __init__(
        self,
        devices: Iterable[Device],
        gaps: Sequence[DeviceGap],
        groups: Iterable[str],
        disks: int,
        mapped: Mapping[str, str] | None = None,
        arrays: Mapping[str, str] | None = None,
    ) -> None:
        self._devices, self._groups, self._disks = list(devices), frozenset(groups), disks
        self._gaps = gaps
        self._mapped, self._arrays = dict(mapped or {}), dict(arrays or {})
        self._by_key: dict[tuple[str, str], list[Device]] = {}
        for one in self._devices:
            for key in _keys(one):
                if key[1]:
                    self._by_key.setdefault(key, []).append(one)
        unread = [
            DeviceGap(
                Depth.CONTENT if one.kind is DeviceKind.LOGICAL else Depth.MEMBER, f"{one.place}: {one.holds.why}"
            )
            # What is on one that certainly does not come up is not there for anybody.
            for one in self._devices
            if isinstance(one.holds, Unknown) and (not one.lacks or isinstance(one.lacks, Unknown))
        ]
        self._unread = {depth: [gap.why for gap in (*gaps, *unread) if gap.depth >= depth] for depth in Depth}

    def having(self, mapped: Mapping[str, str], arrays: Mapping[str, str]) -> Names:
        """The same disks, and what a system's own files call things."""
        return Names(self._devices, self._gaps, self._groups, self._disks, mapped, arrays)

    def lookup(self, name: str) -> NameMeaning:
        """What a name means. Texts are as they stand in fstab with its escapes resolved, or after root=."""
        return self._lookup(name.strip().replace('"', "").replace("'", ""), MAX_STEPS)

    def any_case(self, name: str) -> NameMeaning:
        """The same as who compares UUIDs without case finds it: GRUB, and the kernel by itself."""
        meaning = self.lookup(name)
        if not meaning.spelled:
            return meaning
        tag = "PARTUUID" if "partuuid" in name.lower() else "UUID"
        return self.lookup(f"{tag}={meaning.spelled}")

    def root(self, value: str, *, alone: bool = False) -> NameMeaning:
        """What root= means, whose forms are more than fstab's. alone: to the kernel by itself, without an initramfs."""
        value = value.strip().strip('"')
        if alone and value.startswith("PARTUUID="):
            return self.any_case(value)
        if _NET_ROOT.fullmatch(value):
            return NameMeaning(Bond.NETWORK, ABSENT)
        if zfs := re.match(r"(?:zfs[:=]|ZFS=)(.{1,256})", value):
            return self.pool(zfs[1])
        if _TAG.fullmatch(value) or _NUMBERS.fullmatch(value) or value.startswith("/dev/"):
            return self.lookup(value)
        if value.startswith("block:"):
            return self.lookup(value.removeprefix("block:"))
        return NameMeaning(Bond.CONTENT, Unknown(f"what root={value[:60]} means is not known here"))

    def _lookup(self, name: str, steps: int) -> NameMeaning:
        if len(name) > MAX_NAME:
            return NameMeaning(Bond.CONTENT, Unknown(f"a device's name has more than {MAX_NAME} characters"))
        if steps == 0:
            return NameMeaning(
                Bond.CONTENT, Unknown("its name leads to another, and that on, more often than is followed")
            )
        if tag := _TAG.fullmatch(name):
            return self._link("id" if tag[1] == "ID" else tag[1].lower(), tag[2], steps)
        if link := _LINK.fullmatch(name):
            return self._link(link[1], _plain(link[2]), steps)
        if name.startswith("/dev/mapper/"):
            return self._mapper(_plain(name.removeprefix("/dev/mapper/")), steps)
        if nvme := _NVME.fullmatch(name):
            return self._nvme(int(nvme[1]), int(nvme[2]), int(nvme[3] or 0))
        if name.startswith("/dev/md/") or _MD.fullmatch(name):
            return self._array(name)
        if re.fullmatch(r"/dev/dm-[0-9]{1,6}", name):
            return NameMeaning(
                Bond.ORDER, Unknown("device mapper's numbers go by the order in which things are opened")
            )
        for pattern, bond in ((_NOTHING, Bond.NOTHING), (_NETWORK, Bond.NETWORK), (_MACHINE, Bond.MACHINE)):
            if pattern.fullmatch(name):
                return NameMeaning(bond, ABSENT)
        if name.startswith("/dev/"):
            return self._below(name)
        if _NUMBERS.fullmatch(name):
            return NameMeaning(Bond.MACHINE, ABSENT)
        return NameMeaning(Bond.NOTHING, ABSENT)

    def _link(self, by: str, value: str, steps: int) -> NameMeaning:
        """A tag, or a link that udev makes below /dev/disk."""
        if by == "uuid":
            return self._number("uuid", value, Depth.CONTENT)
        if by in ("label", "partlabel"):
            # It may be written with udev's escapes, and hold what looks like one.
            text = value if (by, value) in self._by_key else _plain(value)
            return self._one(by, text, Depth.CONTENT if by == "label" else Depth.TABLE)
        if by == "partuuid":
            base, _, offset = value.partition("/PARTNROFF=")
            return self._next_to(base, offset) if offset else self._number("partuuid", base, Depth.TABLE)
        if by == "id":
            return self._id(value, steps)
        if by == "path":
            return NameMeaning(Bond.NETWORK if value.startswith("ip-") else Bond.MACHINE, ABSENT)
        if by in ("diskseq", "loop-inode", "loop-ref"):
            return NameMeaning(Bond.ORDER, Unknown(f"a name by {by} is another at each start"))
        if by == "dname":
            return NameMeaning(Bond.CONTENT, Unknown("which disk a rule of udev gives this name is not looked at"))
        return NameMeaning(Bond.CONTENT, Unknown(f"links below /dev/disk/by-{by[:40]} are not known here"))

    def _id(self, value: str, steps: int) -> NameMeaning:
        """/dev/disk/by-id: by what stands on the disk, where its name says so; the others are serial numbers."""
        if value.startswith("dm-name-"):
            return self._mapper(value.removeprefix("dm-name-"), steps)
        if value.startswith("dm-uuid-LVM-"):
            return self._one("volume", value.removeprefix("dm-uuid-LVM-"), Depth.MEMBER)
        if found := re.fullmatch(r"dm-uuid-CRYPT-(?:LUKS[12]-)?([0-9a-f]{32})-(.+)", value, re.DOTALL):
            return self._opened(found[2], "UUID=" + _dashed(found[1]), steps)
        if value.startswith("lvm-pv-uuid-"):
            return self._one("LVM2_member", value.removeprefix("lvm-pv-uuid-"), Depth.MEMBER)
        if value.startswith("md-uuid-"):
            return self._one("array", _HEX.sub("", value.removeprefix("md-uuid-").lower()), Depth.MEMBER)
        if value.startswith("md-name-"):
            return self._array("/dev/md/" + value.removeprefix("md-name-").rpartition(":")[2])
        return NameMeaning(Bond.MACHINE, ABSENT)

    def _mapper(self, name: str, steps: int) -> NameMeaning:
        if name in self._mapped:
            return self._opened(name, self._mapped[name], steps)
        meaning = self._one("mapped", name, Depth.MEMBER)
        if isinstance(meaning.target, Device):
            return meaning
        if found := re.fullmatch(r"luks-([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})", name):
            return self._opened(name, "UUID=" + found[1], steps)
        if _BY_WWID.fullmatch(name):
            return NameMeaning(Bond.MACHINE, ABSENT)
        if _BY_BINDING.fullmatch(name):
            why = "multipath gives this name by serial numbers, which are others in EC2"
            return NameMeaning(Bond.CONTENT, Unknown(why))
        # Only where the name is one of a group that was read, or written as LVM alone writes names, nothing else can
        # bear it.
        parts = split(name)
        if parts and (parts[0] in self._groups or "--" in name):
            return meaning
        return NameMeaning(
            Bond.CONTENT,
            Unknown("neither LVM's groups on these disks nor /etc/crypttab tell what device mapper opens by this name"),
        )

    def _opened(self, name: str, device: str, steps: int) -> NameMeaning:
        """What stands in an encrypted device, by the name that it is opened as."""
        below = self._lookup(device, steps - 1)
        if not isinstance(below.target, Device):
            return below
        place = f"what is in {below.target.place}, encrypted"
        opened = replace(
            below.target,
            kind=DeviceKind.OPENED,
            grub="",
            place=place,
            holds=Unknown("it is encrypted"),
            name=name,
            part_uuid="",
            part_label="",
            group="",
            uuid="",
        )
        return NameMeaning(below.bond, opened, below.others)

    def _array(self, name: str) -> NameMeaning:
        """mdadm.conf's names first, then what the arrays call themselves; a number is theirs by right only there."""
        number = _MD.fullmatch(name)
        if number and number[2]:
            return NameMeaning(Bond.CONTENT, Unknown("partitions inside an array are not looked for"))
        wanted = number[1] if number else name.removeprefix("/dev/md/")
        uuid = self._arrays.get(name) or self._arrays.get(f"/dev/md{wanted}") or self._arrays.get(f"/dev/md/{wanted}")
        if uuid is not None:
            return self._one("array", uuid, Depth.MEMBER)
        meaning = self._one("called", wanted, Depth.MEMBER)
        if isinstance(meaning.target, Device) or ("kind", DeviceKind.ARRAY) not in self._by_key:
            return meaning
        return NameMeaning(
            Bond.ORDER, Unknown("none of the arrays on these disks calls itself so, nor does mdadm.conf")
        )

    def _nvme(self, controller: int, namespace: int, partition: int) -> NameMeaning:
        """EBS volumes are NVMe disks too, and numbered as they answer."""
        if controller >= self._disks or namespace != 1:
            return NameMeaning(Bond.ORDER, ABSENT)
        if self._disks > 1:
            return NameMeaning(Bond.ORDER, Unknown("NVMe disks are numbered in the order in which they answer"))
        return replace(self._one("number", f"0 {partition}", Depth.TABLE), bond=Bond.ORDER)

    def _below(self, name: str) -> NameMeaning:
        """What else stands in /dev: volumes of groups, and what is not known."""
        parts = name.removeprefix("/dev/").split("/")
        if len(parts) == 2 and parts[0] not in _FOLDERS:
            return self._one("grouped", f"{parts[0]}/{parts[1]}", Depth.MEMBER)
        kind = {"zvol": "zfs_member", "bcache": "bcache"}.get(parts[0].rstrip("0123456789"), "")
        if kind:
            there = self._by_key.get(("kind", kind))
            why = f"{there[0].place} belongs to {kind.partition('_')[0]}, which can't be read" if there else ""
            return NameMeaning(Bond.CONTENT, Unknown(why) if why else self._none(Depth.MEMBER))
        return NameMeaning(Bond.CONTENT, Unknown("what makes a device of this name is not known"))

    def pool(self, dataset: str) -> NameMeaning:
        """A dataset of ZFS, by its pool."""
        found = self._one("pool", dataset.partition("/")[0], Depth.MEMBER)
        if isinstance(found.target, Device):
            return NameMeaning(Bond.CONTENT, Unknown(f"{found.target.place} belongs to ZFS, which can't be read"))
        return found

    def _next_to(self, base: str, offset: str) -> NameMeaning:
        """PARTUUID=…/PARTNROFF=N: the partition whose number is N more."""
        first = self._one("partuuid", base.lower(), Depth.TABLE)  # the kernel's own form, which compares without case
        if not isinstance(first.target, Device) or not re.fullmatch(r"-?[0-9]{1,4}", offset):
            return first
        return self._one("number", f"{first.target.disk} {first.target.number + int(offset)}", Depth.TABLE)

    def _number(self, sort: str, value: str, depth: Depth) -> NameMeaning:
        """A UUID, which udev, systemd, mount and the usual initramfs take for a text: in other letters it names
        nothing. FAT's and NTFS' are in capitals, all others are not."""
        if (sort, value) not in self._by_key:
            lower = value.lower()
            if same := next((key[1] for key in self._by_key if key[0] == sort and key[1].lower() == lower), ""):
                return NameMeaning(Bond.CONTENT, ABSENT, spelled=same)
        return self._one(sort, value, depth)

    def _one(self, sort: str, value: str, depth: Depth) -> NameMeaning:
        """What bears a key. depth: of the gaps that it could be in."""
        found = self._by_key.get((sort, value))
        if not found:
            return NameMeaning(Bond.CONTENT, self._none(depth))
        first = found[0].contents
        same = first is not None and first.kind == "btrfs"  # each of its devices bears the same UUID
        return NameMeaning(Bond.CONTENT, found[0], () if same else tuple(found[1:]))

    def _none(self, depth: Depth) -> Absent | Unknown:
        """That nothing was found, as far as all was read that could bear a name of this depth."""
        whys = self._unread[depth]
        if not whys:
            return ABSENT
        return Unknown(whys[0] + (f", and {len(whys) - 1} more" if len(whys) > 1 else ""))


def _keys(one: Device) -> Iterator[tuple[str, str]]:
    """All that a device can be found by; members bear the UUID of what they are parts of."""
    held = one.contents
    if held is not None:
        yield "kind", held.kind
        if held.kind in MEMBERS:
            yield held.kind, held.uuid
            if held.kind == "zfs_member":
                yield "pool", held.label
        else:
            yield "uuid", held.uuid
            yield "label", held.label
    if one.kind in (DeviceKind.PARTITION, DeviceKind.DISK):
        yield "partuuid", one.part_uuid
        yield "partlabel", one.part_label
        yield "number", f"{one.disk} {one.number}"
    elif one.kind is DeviceKind.LOGICAL:
        yield "mapped", one.mapped
        yield "grouped", f"{one.group}/{one.name}"
        yield "volume", one.uuid
    elif one.kind is DeviceKind.ARRAY:
        yield "kind", one.kind
        yield "array", one.uuid
        yield "called", one.name.rpartition(":")[2]


def _plain(text: str) -> str:
    """A name without udev's escapes, which stand for bytes."""
    if "\\x" not in text:
        return text
    data = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    try:
        return data.encode("latin-1").decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return data


def _dashed(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
