"""A volume group of LVM: its logical volumes, what each needs, and where each begins; reads no disk.

lvmraid(7), lvmthin(7), lvmcache(7). A group that lacks a part is no trouble by itself: only a volume that needs it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.devices.lvmtext import NotText, Section, Value

SECTOR_BYTES = 512
MAX_DEPTH = 12  # of volumes in volumes: a cache on a RAID of a thin pool's data has five
MAX_STEPS = 100_000  # of all walks through a group
# What a segment names, by its keys: lists of (name, extent), and single volumes.
_LISTS = ("stripes", "mirrors", "raids", "raid0_lvs")
_SINGLE = (
    "mirror_log",
    "thin_pool",
    "external_origin",
    "metadata",
    "pool",
    "data",
    "origin",
    "cache_pool",
    "cow_store",
    "merging_store",
    "writecache",
    "meta_dev",
    "vdo_pool",
    "integrity_meta",
)
_FROM_FIRST = ("raid0", "raid0_meta", "raid5", "raid5_ls", "raid5_la", "raid5_n")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a logical volume. names: the physical or logical volumes it is of, with the extent where it begins on
    each. others: logical volumes that it needs besides. stripe_bytes: how much of each comes in turn, 0 if all."""

    start: int
    count: int
    kind: str
    names: tuple[tuple[str, int], ...]
    others: tuple[str, ...]
    stripe_bytes: int
    mode: str = ""
    copies: int = 2
    moved: bool = False


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """uuid: without dashes. visible: people use it; the others are parts of such."""

    name: str
    uuid: str
    visible: bool
    segments: tuple[Segment, ...]

    @property
    def kind(self) -> str:
        """Of its first segment: striped (also where it is of one stripe), raid1, thin, thin-pool, …"""
        return self.segments[0].kind if self.segments else ""


@dataclass(frozen=True, slots=True)
class ExtentPlace:
    """Where the first bytes of a logical volume stand: on a physical volume, by UUID."""

    physical: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Group:
    """uuid: without dashes. physical: by the name that segments use, (UUID with dashes, first extent's byte). gone: of
    these, the UUIDs of what the group itself has given up."""

    name: str
    uuid: str
    sequence: int
    extent_bytes: int
    exported: bool
    physical: dict[str, tuple[str, int]]
    gone: frozenset[str]
    volumes: dict[str, LogicalVolume]
    snapshots: dict[str, str] = field(default_factory=dict)  # by the snapshot's name, its origin

    def missing(self, there: Collection[str]) -> list[str]:
        """The UUIDs of its physical volumes that are not there, in their order."""
        return [uuid for uuid, _ in self.physical.values() if uuid not in there or uuid in self.gone]

    def lacks(self, name: str, there: Collection[str]) -> list[str] | Unknown:
        """The missing physical volumes that keep a logical one from coming up."""
        return self.walk(there).lacks(name)

    def begins(self, name: str, there: Collection[str]) -> ExtentPlace | Unknown:
        """Where its first bytes are, as far as they can be read without LVM."""
        return self.walk(there).begins(name)

    def walk(self, there: Collection[str]) -> LvmWalk:
        """For many of these questions."""
        return LvmWalk(self, frozenset(self.missing(there)))


class LvmWalk:
    """From volume to volume of a group. missing: UUIDs. It goes a bounded number of steps in all."""

    def __init__(self, group: Group, missing: frozenset[str]) -> None:
        self._group, self._missing, self._steps = group, missing, MAX_STEPS
        self._known: dict[str, frozenset[str]] = {}

    def lacks(self, name: str) -> list[str] | Unknown:
        """See Group.lacks."""
        try:
            return sorted(self._lost_of(name, 0)) if self._missing else []
        except NotText as error:
            return Unknown(str(error))

    def begins(self, name: str) -> ExtentPlace | Unknown:
        """See Group.begins."""
        try:
            return self._begin_of(name, 0, 0)
        except NotText as error:
            return Unknown(str(error))

    def _volume(self, name: str, depth: int) -> LogicalVolume:
        """A logical volume. NotText where there is none, or they go round in a circle."""
        volume = self._group.volumes.get(name)
        self._steps -= 1
        if volume is None or depth > MAX_DEPTH or self._steps < 0:
            raise NotText("LVM's metadata names volumes that it does not have, or that need one another")
        return volume

    def _lost(self, name: str, depth: int) -> frozenset[str]:
        """What is missing of a volume, physical or logical, and needed. NotText."""
        if name in self._group.physical:  # they come first where a segment names them
            return self._missing & {self._group.physical[name][0]}
        return self._lost_of(name, depth)

    def _lost_of(self, name: str, depth: int) -> frozenset[str]:
        """The same of a logical one."""
        group = self._group
        if name in self._known:
            return self._known[name]
        volume = self._volume(name, depth)
        lost = frozenset[str]()
        for segment in volume.segments:
            lost |= self._of_segment(segment, depth)
        if name in group.snapshots:
            lost |= self._lost(group.snapshots[name], depth + 1)
        self._known[name] = lost
        return lost

    def _of_segment(self, segment: Segment, depth: int) -> frozenset[str]:
        needed = self._all(segment.others, depth)
        names = [name for name, _ in segment.names]
        if not segment.kind.startswith("raid"):
            return needed | self._all(names, depth)
        # Of a RAID's, an image and its metadata go together.
        width = 1 if segment.kind == "raid0" else 2
        images = [self._all(names[at : at + width], depth) for at in range(0, len(names), width)]
        if segment.kind == "raid1":
            sets = [images]
        elif segment.kind.startswith("raid10"):
            sets = [images[at : at + segment.copies] for at in range(0, len(images), segment.copies)]
        else:
            spare = {"raid4": 1, "raid5": 1, "raid6": 2}.get(segment.kind[:5], 0)
            lost = [image for image in images if image]
            return needed | (frozenset().union(*lost) if len(lost) > spare else frozenset())
        for copies in sets:
            if copies and all(copies):
                needed |= frozenset().union(*copies)
        return needed

    def _all(self, names: Iterable[str], depth: int) -> frozenset[str]:
        return frozenset().union(*(self._lost(name, depth + 1) for name in names))

    def _begin(self, name: str, depth: int, extent: int) -> ExtentPlace | Unknown:
        """Where the bytes from an extent on are, of a physical volume or a logical one. NotText."""
        group = self._group
        if name in group.physical:
            uuid, first = group.physical[name]
            if uuid in self._missing:
                return Unknown("a part of it is on none of these disks")
            return ExtentPlace(uuid, first + extent * group.extent_bytes, 1 << 62)
        return self._begin_of(name, depth, extent)

    def _begin_of(self, name: str, depth: int, extent: int) -> ExtentPlace | Unknown:
        """The same of a logical one."""
        group, volume = self._group, self._volume(name, depth)
        if name in group.snapshots:
            return Unknown("it is a snapshot of LVM, which can't be read")
        segment = next((one for one in volume.segments if one.start <= extent < one.start + one.count), None)
        if segment is None:
            return Unknown("LVM's metadata does not say where it begins")
        source = self._first(segment)
        if isinstance(source, Unknown):
            return source
        within = extent - segment.start
        if segment.stripe_bytes and within:
            return Unknown("it is striped")
        place: ExtentPlace | Unknown = Unknown("it is on no volume")
        for owner, at in source:
            place = self._begin(owner, depth + 1, at + within)
            if isinstance(place, ExtentPlace):
                whole = segment.stripe_bytes or (segment.count - within) * group.extent_bytes
                return ExtentPlace(place.physical, place.offset, min(place.bytes, whole))
        return place

    def _first(self, segment: Segment) -> tuple[tuple[str, int], ...] | Unknown:
        """The volumes, any of which has the segment's first bytes."""
        names = segment.names
        if segment.kind in ("striped", "linear"):
            return names[:1]
        if segment.moved or (segment.kind == "cache" and self._mode(segment) != "writethrough"):
            return Unknown(f"it is a {segment.kind} volume of LVM whose newest bytes may stand elsewhere")
        if segment.kind in ("cache", "integrity"):
            return tuple((name, 0) for name in segment.others[:1])
        if segment.kind == "raid1" or segment.kind.startswith("raid10"):
            return names[1::2][: len(names) if segment.kind == "raid1" else segment.copies]
        if segment.kind == "mirror":
            return names
        if segment.kind in _FROM_FIRST:
            return names[:1] if segment.kind == "raid0" else names[1:2]
        return Unknown(f"it is a {segment.kind[:40]} volume of LVM, which can't be read")

    def _mode(self, segment: Segment) -> str:
        """How a cache writes; its pool says so, where it has one."""
        pools = [self._group.volumes[name] for name in segment.others if name in self._group.volumes]
        modes = [one.mode for pool in pools for one in pool.segments if one.mode]
        return segment.mode or (modes[0] if modes else "")


def group(text: Section) -> Group:
    """A group from its metadata. NotText."""
    for name, found in text.items():
        if isinstance(found, dict) and "physical_volumes" in found:
            return _group(name, found)
    raise NotText("LVM's metadata describes no group")


def _group(name: str, found: Section) -> Group:
    physical, gone = {}, set()
    for key, one in _sections(found.get("physical_volumes")):
        uuid = _text(one.get("id"))
        physical[key] = (uuid, _number(one.get("pe_start")) * SECTOR_BYTES)
        if "MISSING" in _words(one.get("flags")) + _words(one.get("status")):
            gone.add(uuid)
    group_uuid = _text(found.get("id")).replace("-", "")
    volumes, snapshots = {}, {}
    for key, one in _sections(found.get("logical_volumes")):
        inner = [section for piece, section in _sections(one) if piece.startswith("segment")]
        for section in inner:
            if _text(section.get("type")) == "snapshot":
                cow = _text(section.get("cow_store")) or _text(section.get("merging_store"))
                snapshots[cow] = _text(section.get("origin"))
        volumes[key] = LogicalVolume(
            key,
            group_uuid + _text(one.get("id")).replace("-", ""),
            "VISIBLE" in _words(one.get("status")),
            tuple(sorted((_segment(section) for section in inner), key=lambda segment: segment.start)),
        )
    return Group(
        name,
        group_uuid,
        _number(found.get("seqno")),
        _number(found.get("extent_size")) * SECTOR_BYTES,
        "EXPORTED" in _words(found.get("status")),
        physical,
        frozenset(gone),
        volumes,
        snapshots,
    )


def _segment(found: Section) -> Segment:
    kind = _text(found.get("type"))
    names: list[tuple[str, int]] = []
    for key in _LISTS:
        values = found.get(key)
        if not isinstance(values, list):
            continue
        # A RAID's list is of names alone, the others' of names and extents in turn.
        for at, value in enumerate(values):
            if isinstance(value, str):
                following = values[at + 1] if at + 1 < len(values) else 0
                names.append((value, following if isinstance(following, int) else 0))
    others = tuple(text for key in _SINGLE if (text := _text(found.get(key))))
    # A cache's first bytes are its origin's: that comes first.
    if (origin := _text(found.get("origin"))) and kind in ("cache", "integrity"):
        others = (origin, *(one for one in others if one != origin))
    stripe = _number(found.get("stripe_size")) * SECTOR_BYTES if len(names) > 1 and kind != "raid1" else 0
    return Segment(
        _number(found.get("start_extent")),
        _number(found.get("extent_count")),
        kind,
        tuple(names),
        others,
        stripe,
        _text(found.get("cache_mode")),
        max(2, _number(found.get("data_copies"))),
        "data_offset" in found or "reshape_count" in found or kind == "writecache",
    )


def _sections(value: Value | None) -> list[tuple[str, Section]]:
    return [(key, one) for key, one in value.items() if isinstance(one, dict)] if isinstance(value, dict) else []


def _text(value: Value | None) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Value | None) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _words(value: Value | None) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
