"""Linux's software RAID: what a member says of its array, and whether those that are there are enough; reads no array.

md(4); the superblocks 0.90 and 1.x, the first at the end of a member, the second at its end or beginning, by its minor
version. An array in another's place is taken for none.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown

SECTOR_BYTES = 512
MAX_MEMBERS = 256
_MAGIC = 0xA92B4EFC
# Magic, version, features, pad; the array's UUID, name, time, level, layout, size, chunk, members.
_ARRAY = struct.Struct("<IIII16s32sQiIQII")
# Data's offset and size, superblock's own place, recovery, number, corrected, the member's UUID.
_MEMBER = struct.Struct("<QQQQII16s")
_MEMBER_AT = 128
_EVENTS_AT, _MAX_AT, _ROLES_AT = 200, 220, 256
_SPARE, _FAULTY, _JOURNAL = 0xFFFF, 0xFFFE, 0xFFFD
_OLD_BYTES = 64 << 10
_RESHAPING = 4

Read = Callable[[int, int], bytes]  # offset and count: of a member's bytes


@dataclass(frozen=True, slots=True)
class RaidMember:
    """uuid: of the array, 32 hex digits. role: its place among `width`; None for a spare, a journal or what has failed.
    data_offset, data_bytes: where its share of the array's bytes is. disk, offset, place: where it is itself."""

    uuid: str
    name: str
    level: int
    layout: int
    width: int
    chunk_bytes: int
    role: int | None
    events: int
    data_offset: int
    data_bytes: int
    reshaping: bool
    disk: int = 0
    offset: int = 0
    place: str = ""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes of a disk."""

    disk: int
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Array:
    """members: of these disks, by their roles. lacks: why it does not start, "" where it does, perhaps degraded."""

    uuid: str
    name: str
    level: int
    members: tuple[RaidMember, ...]
    lacks: str

    @property
    def whole(self) -> bool:
        """Whether one member has all of it."""
        return self.level == 1 or self.members[0].width == 1

    @property
    def begin(self) -> ByteRange | None:
        """Where its first bytes are; None where that hangs on more than a member says."""
        first = self.members[0]
        parity_first = self.level in (5, 6) and first.layout in (1, 3, 4)  # right-*, and parity-first
        if first.reshaping or parity_first or self.level not in (-1, 0, 1, 4, 5, 6, 10) or first.role is None:
            return None
        if self.level != 1 and first.role != 0:
            return None
        size = first.data_bytes if self.whole or self.level == -1 else first.chunk_bytes or first.data_bytes
        return ByteRange(first.disk, first.offset + first.data_offset, size)


def member(read: Read, size: int) -> Answer[RaidMember]:
    """The superblock of a member of so many bytes; ABSENT where there is none."""
    end = (size // SECTOR_BYTES - 16) & ~7
    try:
        for at in (4096, 0, end * SECTOR_BYTES):
            data = read(at, 1024) if at >= 0 else b""
            if len(data) >= _ROLES_AT and struct.unpack_from("<II", data) == (_MAGIC, 1):
                found = _new(data, at)
                if found is not ABSENT:
                    return found
        at = size // _OLD_BYTES * _OLD_BYTES - _OLD_BYTES
        data = read(at, 4096) if at >= 0 else b""
    except OSError as error:
        return Unknown(f"the superblock of its RAID can't be read: {error.strerror}")
    if len(data) == 4096 and struct.unpack_from("<II", data) == (_MAGIC, 0):
        return _old(data, at)
    return ABSENT


def _new(data: bytes, at: int) -> Answer[RaidMember]:
    _, _, features, _, uuid, name, _, level, layout, size, chunk, width = _ARRAY.unpack_from(data)
    offset, count, own, _, number, _, _ = _MEMBER.unpack_from(data, _MEMBER_AT)
    if own * SECTOR_BYTES != at:
        return ABSENT  # what stands here is of something else: of an array that holds it, or a copy
    (most,) = struct.unpack_from("<I", data, _MAX_AT)
    (events,) = struct.unpack_from("<Q", data, _EVENTS_AT)
    if not 0 < width <= MAX_MEMBERS or most > 1920:
        return Unknown("the superblock of its RAID names more members than any array has")
    roles = data[_ROLES_AT : _ROLES_AT + 2 * most]
    role = struct.unpack_from("<H", roles, 2 * number)[0] if 2 * number + 2 <= len(roles) else _SPARE
    text = name.split(b"\0", 1)[0].decode(errors="replace")
    return RaidMember(
        uuid.hex(),
        text,
        level,
        layout,
        width,
        chunk * SECTOR_BYTES,
        None if role in (_SPARE, _FAULTY, _JOURNAL) else role,
        events,
        offset * SECTOR_BYTES,
        (size or count) * SECTOR_BYTES,
        bool(features & _RESHAPING),
    )


def _old(data: bytes, at: int) -> Answer[RaidMember]:
    """Version 0.90, written in the byte order of the machine that made it: little-endian is the only one here."""
    words = struct.unpack("<1024I", data)
    if words[2] > 91 or not 0 < words[10] <= 27:
        return Unknown("the superblock of its RAID can't be understood")
    uuid = struct.pack(">IIII", words[5], words[13], words[14], words[15]).hex()
    (level,) = struct.unpack_from("<i", data, 28)
    this = 992  # the words that describe this member: number, major, minor, its place, state
    active = bool(words[this + 4] & 2) and words[this + 3] < words[10]
    return RaidMember(
        uuid,
        str(words[11]),
        level,
        words[64],
        words[10],
        words[65],
        words[this + 3] if active else None,
        words[39] | words[40] << 32,
        0,
        (words[8] << 10) or at,
        words[2] == 91,
    )


def assembled(members: Sequence[RaidMember]) -> list[Array]:
    """The arrays that they make, in the order of their first members."""
    by_uuid: dict[str, list[RaidMember]] = {}
    for one in members:
        by_uuid.setdefault(one.uuid, []).append(one)
    return [_array(group) for group in by_uuid.values()]


def _array(members: list[RaidMember]) -> Array:
    newest = max(members, key=lambda one: one.events)
    # One that fell behind is not taken in again by itself; md lets one event pass.
    fresh = [one for one in members if one.role is not None and one.events + 1 >= newest.events]
    by_role = {one.role: one for one in sorted(fresh, key=lambda one: one.events)}
    ordered = sorted(by_role.values(), key=lambda one: one.role or 0) or members
    return Array(newest.uuid, newest.name, newest.level, tuple(ordered), _lacks(newest, set(by_role)))


def _lacks(one: RaidMember, roles: set[int | None]) -> str:
    """Why these are not enough."""
    missing = [role for role in range(one.width) if role not in roles]
    spare = {1: one.width - 1, 4: 1, 5: 1, 6: 2}.get(one.level, 0)
    enough = len(missing) <= spare
    if one.level == 10:
        near, far = one.layout & 255, (one.layout >> 8) & 255
        copies = min(max(1, near * far), one.width)
        # Copies stand on members side by side, which close to a ring where their number does not divide the width.
        enough = not any(
            all((start + step) % one.width in missing for step in range(copies)) for start in range(one.width)
        ) or (
            one.width % copies == 0
            and far == 1
            and not any(all(start + step in missing for step in range(copies)) for start in range(0, one.width, copies))
        )
    if enough:
        return ""
    return f"{len(missing)} of its {one.width} members are on none of these disks, or have fallen behind"


_ARRAY_LINE = re.compile(r"ARRAY[ \t]+(\S{1,256})[ \t](.*)", re.IGNORECASE)
_UUID = re.compile(r"\buuid=([0-9a-fA-F:.-]{32,40})", re.IGNORECASE)


def configured(text: str) -> dict[str, str]:
    """mdadm.conf(5): the array that each name means, by its 32 hex digits."""
    found: dict[str, str] = {}
    joined = re.sub(r"\n[ \t]+", " ", text)
    for line in joined.split("\n"):
        match = _ARRAY_LINE.match(line.strip())
        uuid = _UUID.search(match[2]) if match else None
        if match and uuid:
            name = match[1] if match[1].startswith("/dev/") else f"/dev/md/{match[1]}"
            found.setdefault(name, re.sub(r"[^0-9a-f]", "", uuid[1].lower()))
    return found
