"""Subvolumes of a Btrfs: their paths, and which is the default; refuses to read files, which GRUB does.

Btrfs's on-disk format, as the kernel documents it: superblock, chunk tree, tree of roots, back references. No checksum
is compared: what does not fit together is not known.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from warmspare.recover.readiness.answers import Unknown

Read = Callable[[int, int], "bytes | Unknown"]  # (offset, count) of a device, in whole sectors
TOP = 5
MAX_NODES = 400  # read in all; a path takes some ten
MAX_CHUNKS = 20_000
MAX_COPIES = 8  # of a node; Btrfs makes four at most
MAX_DEPTH = 32  # of subvolumes in subvolumes, and of folders between two
_SUPER_AT, _SUPER_BYTES = 0x10000, 4096
_MAGIC = b"_BHRfS_M"
_ARRAY_AT, _ARRAY_BYTES = 0x32B, 2048
_NODE = struct.Struct("<32s16sQQ16sQQIB")  # checksum, fsid, address, flags, chunk tree, generation, owner, items, level
_KEY = struct.Struct("<QBQ")
_POINTER = struct.Struct("<QBQQQ")
_ITEM = struct.Struct("<QBQII")
_CHUNK = struct.Struct("<QQQQIIIHH")  # length, owner, stripe, type, 3 sizes, stripes, sub-stripes
_STRIPE = struct.Struct("<QQ16s")
_DIR_ITEM = struct.Struct("<QBQQHHB")  # the place it leads to, generation, bytes of data and of the name, type
_STRIPED = 0x8 | 0x40 | 0x80 | 0x100  # RAID0, RAID10, RAID5, RAID6
_INODE_REF, _DIR, _ROOT, _BACK, _CHUNK_ITEM = 12, 84, 132, 144, 228
_MOST = (1 << 64) - 1
Key = tuple[int, int, int]


class _Odd(Exception):
    """It does not fit together. str: what, as a clause."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    start: int
    length: int
    kind: int
    stripes: tuple[tuple[int, int], ...]  # (device, offset)


class BtrfsSubvolumes:
    """Of one file system. Answers are `Unknown` where it can't be read, or is damaged."""

    def __init__(self, devices: dict[int, Read], head: bytes) -> None:
        self._devices = devices
        self._roots_at, chunks_at = struct.unpack_from("<QQ", head, 0x50)
        self._roots_folder: int = struct.unpack_from("<Q", head, 0x80)[0]
        self._node_bytes: int = struct.unpack_from("<I", head, 0x94)[0]
        if not 4096 <= self._node_bytes <= 1 << 16 or self._node_bytes % 512:
            raise _Odd(f"a node has {self._node_bytes} bytes")
        self._left = MAX_NODES
        array_bytes: int = struct.unpack_from("<I", head, 0xA0)[0]
        self._chunks = list(_system_chunks(head[_ARRAY_AT : _ARRAY_AT + min(array_bytes, _ARRAY_BYTES)]))
        found = []
        for (_, _, start), data in self._items(chunks_at, (256, _CHUNK_ITEM, 0), (256, _CHUNK_ITEM, _MOST)):
            found.append(_chunk(start, data)[0])
            if len(found) > MAX_CHUNKS:
                raise _Odd(f"it has more than {MAX_CHUNKS} chunks")
        self._chunks += found

    def default(self) -> int | Unknown:
        """The number of the subvolume that is mounted where none is named."""
        try:
            low, high = (self._roots_folder, _DIR, 0), (self._roots_folder, _DIR, _MOST)
            for _, data in self._items(self._roots_at, low, high):
                if len(data) < _DIR_ITEM.size:
                    raise _Odd("an item is too short")
                place, _, _, _, _, length, _ = _DIR_ITEM.unpack_from(data)
                if data[_DIR_ITEM.size : _DIR_ITEM.size + length] == b"default":
                    return int(place)
            return TOP
        except _Odd as odd:
            return _unknown(odd)

    def path(self, number: int) -> str | Unknown:
        """Where a subvolume is, from the file system's own root: "" for that itself, or `/@/.snapshots/1/snapshot`."""
        try:
            parts: list[str] = []
            depth = 0
            while number != TOP:
                depth += 1
                if depth > MAX_DEPTH:
                    raise _Odd(f"subvolumes are more than {MAX_DEPTH} deep")
                number, folder, name = self._above(number)
                parts = [*self._folders(number, folder), name, *parts]
            return "".join("/" + part for part in parts)
        except _Odd as odd:
            return _unknown(odd)

    def _above(self, number: int) -> tuple[int, int, str]:
        """(subvolume, folder in it, name there) of a subvolume."""
        for (_, _, above), data in self._items(self._roots_at, (number, _BACK, 0), (number, _BACK, _MOST)):
            if len(data) < 18:
                raise _Odd("an item is too short")
            folder, _, length = struct.unpack_from("<QQH", data)
            return above, folder, _name(data[18 : 18 + length])
        raise _Odd(f"there is no subvolume {number}")

    def _folders(self, subvolume: int, inode: int) -> list[str]:
        """The folders from a subvolume's root to one of its folders."""
        names: list[str] = []
        if inode == 256:
            return names
        tree = self._tree(subvolume)
        while inode != 256:
            for (_, _, above), data in self._items(tree, (inode, _INODE_REF, 0), (inode, _INODE_REF, _MOST)):
                if len(data) < 10:
                    raise _Odd("an item is too short")
                names.insert(0, _name(data[10 : 10 + struct.unpack_from("<QH", data)[1]]))
                inode = above
                break
            else:
                raise _Odd("a folder has no name")
            if len(names) > MAX_DEPTH:
                raise _Odd(f"a subvolume is more than {MAX_DEPTH} folders deep")
        return names

    def _tree(self, number: int) -> int:
        """Where a subvolume's tree begins."""
        for _, data in self._items(self._roots_at, (number, _ROOT, 0), (number, _ROOT, _MOST)):
            if len(data) < 184:
                raise _Odd("an item is too short")
            return int(struct.unpack_from("<Q", data, 176)[0])
        raise _Odd(f"there is no tree {number}")

    def _items(self, at: int, low: Key, high: Key) -> Iterator[tuple[Key, bytes]]:
        """Items of a tree from one key to another, in order. A level is passed from node to node, so that no loop of
        pointers is followed for ever."""
        pending = [(at, -1)]
        while pending:
            address, expected = pending.pop()
            node = self._node(address)
            _, _, own, _, _, _, _, count, level = _NODE.unpack_from(node)
            if own != address or level > 7 or (expected >= 0 and level != expected):
                raise _Odd("a node of its trees is damaged")
            if level:
                pending += reversed([(below, level - 1) for below in _below(node, count, low, high)])
                continue
            if count * _ITEM.size > len(node) - _NODE.size:
                raise _Odd("a node of its trees is damaged")
            for number in range(count):
                *key, offset, size = _ITEM.unpack_from(node, _NODE.size + number * _ITEM.size)
                if low <= (found := (key[0], key[1], key[2])) <= high:
                    yield found, node[_NODE.size + offset : _NODE.size + offset + size]

    def _node(self, address: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise _Odd(f"its trees take more than {MAX_NODES} nodes to read")
        for chunk in self._chunks:
            if chunk.start <= address and address + self._node_bytes <= chunk.start + chunk.length:
                return self._read(chunk, address - chunk.start)
        raise _Odd("a node of its trees is in no chunk")

    def _read(self, chunk: _Chunk, offset: int) -> bytes:
        if chunk.kind & _STRIPED and len(chunk.stripes) > 1:
            raise _Odd("its trees are striped over several devices")
        why = "a device of it is missing"
        for device, begins in chunk.stripes:
            if (read := self._devices.get(device)) is None or (begins + offset) % 512:
                continue
            data = read(begins + offset, self._node_bytes)
            if isinstance(data, Unknown):
                why = data.why
            elif len(data) == self._node_bytes:
                return data
            else:
                why = "a device of it is too short"
        raise _Odd(why)


def opened(reads: Sequence[Read]) -> BtrfsSubvolumes | Unknown:
    """The Btrfs that is on these devices."""
    devices: dict[int, Read] = {}
    newest, generation = b"", -1
    for read in reads:
        head = read(_SUPER_AT, _SUPER_BYTES)
        if isinstance(head, Unknown):
            return head
        if len(head) < _SUPER_BYTES or head[0x40:0x48] != _MAGIC:
            return Unknown("it has no superblock of Btrfs")
        devices[struct.unpack_from("<Q", head, 0xC9)[0]] = read
        if (stated := struct.unpack_from("<Q", head, 0x48)[0]) > generation:
            newest, generation = head, stated
    try:
        return BtrfsSubvolumes(devices, newest) if newest else Unknown("it is on no device")
    except _Odd as odd:
        return _unknown(odd)


def _unknown(odd: _Odd) -> Unknown:
    return Unknown(f"the subvolumes of its Btrfs can't be read: {odd}")


def _name(data: bytes) -> str:
    if not data or b"/" in data or b"\0" in data or data in (b".", b".."):
        raise _Odd("a name is none")
    return data.decode(errors="replace")


def _below(node: bytes, count: int, low: Key, high: Key) -> Iterator[int]:
    """The nodes below one that may hold keys from low to high."""
    if count * _POINTER.size > len(node) - _NODE.size:
        raise _Odd("a node of its trees is damaged")
    found = [_POINTER.unpack_from(node, _NODE.size + number * _POINTER.size) for number in range(count)]
    for number, (one, kind, two, address, _) in enumerate(found):
        after = found[number + 1][:3] if number + 1 < count else None
        if (one, kind, two) <= high and (after is None or after > low):
            yield address


def _chunk(start: int, data: bytes) -> tuple[_Chunk, int]:
    """A chunk, and how many bytes it takes."""
    if len(data) < _CHUNK.size:
        raise _Odd("a chunk is too short")
    length, _, _, kind, _, _, _, count, _ = _CHUNK.unpack_from(data)
    size = _CHUNK.size + count * _STRIPE.size
    if len(data) < size:
        raise _Odd("a chunk is too short")
    copies = min(count, MAX_COPIES)
    stripes = [_STRIPE.unpack_from(data, _CHUNK.size + number * _STRIPE.size)[:2] for number in range(copies)]
    return _Chunk(start, length, kind, tuple(stripes)), size


def _system_chunks(data: bytes) -> Iterator[_Chunk]:
    at = 0
    while at + _KEY.size <= len(data):
        _, kind, start = _KEY.unpack_from(data, at)
        if kind != _CHUNK_ITEM:
            raise _Odd("its list of chunks is damaged")
        chunk, size = _chunk(start, data[at + _KEY.size :])
        yield chunk
        at += _KEY.size + size
