"""LVM's physical volumes and their groups, as their metadata says; bounded, and refuses what its checksums deny.

LVM2's on-disk format: a label in one of the first four sectors, a header with the volume's UUID and its areas, in each
metadata area a header that says where the newest text stands, and that text, which may go on at the area's beginning.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.devices import lvmtext
from warmspare.recover.readiness.devices.lvmgroup import Group, group
from warmspare.recover.readiness.devices.lvmtext import NotText

SECTOR_BYTES = 512
LABEL_SECTORS = 4
MAX_AREAS = 4  # of a physical volume; LVM makes at most two
MAX_TEXT_BYTES = 2 << 20
MAX_ALL_BYTES = 6 << 20  # of the texts that are taken apart
MAX_VOLUMES = 256  # physical ones
_MAGIC = b" LVM2 x[5A%r0N*>"
_LABEL = struct.Struct("<8sQII8s")  # LABELONE, its sector, CRC, offset of the header, type
_AREA_HEADER = struct.Struct("<I16sIQQ")  # CRC, magic, version, start, size
_LOCATION = struct.Struct("<QQII")  # offset, size, CRC, flags
_HEADER_BYTES = 512
_CRC_SEED = 0xF597A6CF
_IGNORED = 1

Read = Callable[[int, int], bytes]  # offset and count: of a physical volume's bytes


@dataclass(frozen=True, slots=True)
class Label:
    """What a physical volume says of itself. uuid: with dashes, as LVM shows it. areas: (offset, size) of metadata."""

    uuid: str
    areas: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Physical:
    """A physical volume on these disks. place: in words."""

    place: str
    read: Read


@dataclass(frozen=True, slots=True)
class FoundVolumes:
    """All that LVM has on some disks. groups: each as its newest metadata says. places: of the physical volumes that
    are there, by UUID: their number among those that were given. unread: why something of it is not known."""

    groups: tuple[Group, ...]
    places: dict[str, int]
    unread: tuple[str, ...]


def find(volumes: Iterable[Physical]) -> FoundVolumes:
    """Read them all. What can't be read is said, and keeps no other from being read."""
    places: dict[str, int] = {}
    newest: dict[str, Group] = {}
    unread: list[str] = []
    doubtful: dict[str, str] = {}  # by the UUID of a volume whose own metadata can't be read
    known: set[bytes] = set()
    left = MAX_ALL_BYTES
    for number, one in enumerate(volumes):
        if number == MAX_VOLUMES:
            unread.append(f"there are more than {MAX_VOLUMES} physical volumes of LVM")
            break
        found = label(one.read)
        if not isinstance(found, Label):
            why = found.why if isinstance(found, Unknown) else "it has no label of LVM"
            unread.append(f"{one.place}: {why}")
            continue
        places.setdefault(found.uuid, number)
        text = metadata(one.read, found)
        if isinstance(text, Unknown):
            doubtful[found.uuid] = f"{one.place}: {text.why}"
        if not isinstance(text, bytes) or text in known:
            continue
        known.add(text)
        left -= len(text)
        if left < 0:
            unread.append(f"{one.place}: the metadata of LVM is larger than {MAX_ALL_BYTES >> 20} MiB altogether")
            continue
        try:
            read = group(lvmtext.parsed(text.decode(errors="replace")))
        except NotText as error:
            unread.append(f"{one.place}: {error}")
            continue
        if read.uuid not in newest or newest[read.uuid].sequence < read.sequence:
            newest[read.uuid] = read
    for each in newest.values():  # what its group's other volumes say is enough
        for uuid, _ in each.physical.values():
            doubtful.pop(uuid, None)
    unread += doubtful.values()
    return FoundVolumes(tuple(newest.values()), places, tuple(unread))


def label(read: Read) -> Answer[Label]:
    """The label of a physical volume; ABSENT where there is none."""
    try:
        start = read(0, LABEL_SECTORS * SECTOR_BYTES)
    except OSError as error:
        return Unknown(f"it can't be read: {error.strerror}")
    for at in range(0, len(start) - SECTOR_BYTES + 1, SECTOR_BYTES):
        sector = start[at : at + SECTOR_BYTES]
        magic, number, crc, offset, kind = _LABEL.unpack_from(sector)
        if magic != b"LABELONE" or kind != b"LVM2 001":
            continue
        if number * SECTOR_BYTES != at or crc != _crc(sector[20:]):
            return Unknown("the label of LVM is damaged")
        return _header(sector, offset)
    return ABSENT


def _header(sector: bytes, offset: int) -> Answer[Label]:
    """The physical volume's header: UUID, size, data areas up to an empty one, metadata areas likewise."""
    at = offset + 40
    if at > len(sector):
        return Unknown("the label of LVM is damaged")
    uuid = sector[offset : offset + 32].decode("ascii", errors="replace")
    lists: list[list[tuple[int, int]]] = [[], []]
    for areas in lists:
        while at + 16 <= len(sector):
            start, size = struct.unpack_from("<QQ", sector, at)
            at += 16
            if start == 0:
                break
            areas.append((start, size))
    return Label(dashed(uuid), tuple(lists[1][:MAX_AREAS]))


def metadata(read: Read, of: Label) -> Answer[bytes]:
    """The text of the first area that has one. ABSENT where the volume is in no group, or only others hold the text."""
    why = ""
    for start, size in of.areas:
        try:
            text = _text(read, start, size)
        except OSError as error:
            text = Unknown(f"its metadata can't be read: {error.strerror}")
        if isinstance(text, bytes):
            return text
        why = text.why if isinstance(text, Unknown) else why
    return Unknown(why) if why else ABSENT


def _text(read: Read, start: int, size: int) -> Answer[bytes]:
    header = read(start, _HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        return Unknown("its metadata lies beyond its end")
    crc, magic, _, own, _ = _AREA_HEADER.unpack_from(header)
    if magic != _MAGIC or own != start or crc != _crc(header[4:]):
        return Unknown("the header of its metadata is damaged")
    offset, count, text_crc, flags = _LOCATION.unpack_from(header, _AREA_HEADER.size)
    if offset == 0 or count == 0 or flags & _IGNORED:
        return ABSENT
    if count > MAX_TEXT_BYTES:
        return Unknown(f"its metadata is larger than {MAX_TEXT_BYTES >> 20} MiB")
    if not _HEADER_BYTES <= offset < size or count > size - _HEADER_BYTES:
        return Unknown("the header of its metadata is damaged")
    here = min(count, size - offset)
    text = read(start + offset, here)
    if here < count:
        text += read(start + _HEADER_BYTES, count - here)
    if len(text) != count or _crc(text) != text_crc:
        return Unknown("its metadata is damaged")
    return text.rstrip(b"\0")


def dashed(uuid: str) -> str:
    """A UUID of LVM, as it shows it."""
    cuts = (0, 6, 10, 14, 18, 22, 26, 32)
    return "-".join(uuid[begin:end] for begin, end in pairwise(cuts))


def _crc(data: bytes) -> int:
    """LVM's: the usual polynomial with another seed, and without the inversions."""
    return zlib.crc32(data, _CRC_SEED ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
