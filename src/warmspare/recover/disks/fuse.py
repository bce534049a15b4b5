"""The few messages of the kernel's FUSE protocol that read-only files need, as bytes; does no I/O and knows no data.

Linux, include/uapi/linux/fuse.h, version 7.31: little structures in the machine's byte order. Whatever is not answered
here is refused with ENOSYS, which the kernel takes for "not offered" and does not ask again.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

MAJOR, MINOR = 7, 31
ROOT, FIRST = 1, 2  # numbers of nodes: the directory, and the first file
MOST_REQUEST_BYTES = 1 << 16  # nothing that is written comes here; the kernel wants room for at least 8 KiB
_FOR_EVER_S = 1 << 31  # names and attributes never change
_ASYNC_READ, _KEEP_CACHE = 1, 2
_WRITE_BYTES = 4096  # the least there is
_IN, _OUT = struct.Struct("=IIQQIIIHH"), struct.Struct("=IiQ")
_INIT_IN, _INIT_OUT = struct.Struct("=IIII"), struct.Struct("=IIIIHHIIHHI28x")
_READ_IN, _INTERRUPT_IN = struct.Struct("=QQI"), struct.Struct("=Q")
_DIRENT = struct.Struct("=QQII")
_ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")
_ENTRY, _ATTR_OUT, _OPEN_OUT = struct.Struct("=QQQQII"), struct.Struct("=QII"), struct.Struct("=QII")
_STATFS_OUT = struct.Struct("=40xIII28x")  # no blocks, none free: `df` leaves it out


class FuseRequests(IntEnum):
    """Requests by their numbers; those that are answered, and those that must not be."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    INIT = 26
    INTERRUPT = 36
    DESTROY = 38
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    BATCH_FORGET = 42


_UNANSWERED = (FuseRequests.FORGET, FuseRequests.BATCH_FORGET)


@dataclass(frozen=True, slots=True)
class FuseRequest:
    """One request of the kernel. node: which file or directory. body: what follows the header."""

    asked: int
    unique: int
    node: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Bytes that are asked for. number: of the file, from 0."""

    unique: int
    number: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Whoever asked `unique` does not want it any more, and waits for its answer all the same."""

    unique: int


def parse(data: bytes) -> FuseRequest:
    """A request as it is read from the kernel. ValueError if it is none."""
    if len(data) < _IN.size:
        raise ValueError(f"a request of {len(data)} bytes")
    length, asked, unique, node, *_ = _IN.unpack_from(data)
    if length != len(data):
        raise ValueError(f"a request of {len(data)} bytes that says {length}")
    return FuseRequest(asked, unique, node, data[_IN.size :])


def reply(unique: int, body: bytes | memoryview = b"", *, error: int = 0) -> list[bytes | memoryview]:
    """The pieces of an answer, to be written in one go. error: an errno, and no body then."""
    return [_OUT.pack(_OUT.size + len(body), -error, unique), body]


class FuseFiles:
    """Files of these sizes in one directory, that only their owner may read. under_way: reads ahead that the kernel may
    have open at once. names: theirs; by their numbers `0`, `1`, … without. made_s: their date, Unix seconds."""

    def __init__(
        self,
        sizes: Sequence[int],
        owner: tuple[int, int],
        under_way: int,
        names: Sequence[str] | None = None,
        made_s: int = 0,
    ) -> None:
        self._sizes, self._owner, self._under_way, self._made_s = sizes, owner, under_way, made_s
        called = [str(number) for number in range(len(sizes))] if names is None else names
        self._names = [os.fsencode(name) for name in called]
        self._nodes = {name: FIRST + number for number, name in enumerate(self._names)}

    def answer(self, request: FuseRequest) -> Read | Interrupt | list[bytes | memoryview] | None:
        """What the kernel asked: bytes to be read first, or the answer, or None where it wants none."""
        match request.asked:
            case FuseRequests.READ if self._is_file(request.node):
                _, offset, length = _READ_IN.unpack_from(request.body)
                number = request.node - FIRST
                return Read(request.unique, number, offset, max(0, min(length, self._sizes[number] - offset)))
            case FuseRequests.INIT:
                return reply(request.unique, self._init(request.body))
            case FuseRequests.LOOKUP:
                return self._lookup(request)
            case FuseRequests.GETATTR if request.node == ROOT or self._is_file(request.node):
                body = _ATTR_OUT.pack(_FOR_EVER_S, 0, 0) + self._attributes(request.node)
                return reply(request.unique, body)
            case FuseRequests.OPEN if self._is_file(request.node):
                return reply(request.unique, _OPEN_OUT.pack(0, _KEEP_CACHE, 0))
            case FuseRequests.OPENDIR if request.node == ROOT:
                return reply(request.unique, _OPEN_OUT.pack(0, 0, 0))
            case FuseRequests.READDIR if request.node == ROOT:
                _, offset, length = _READ_IN.unpack_from(request.body)
                return reply(request.unique, self._entries(offset, length))
            case FuseRequests.INTERRUPT:
                return Interrupt(*_INTERRUPT_IN.unpack_from(request.body))
            case FuseRequests.STATFS:
                return reply(request.unique, _STATFS_OUT.pack(4096, 255, 4096))
            case FuseRequests.RELEASE | FuseRequests.RELEASEDIR | FuseRequests.DESTROY:
                return reply(request.unique)
            case asked if asked in _UNANSWERED:
                return None
        return reply(request.unique, error=errno.ENOSYS)

    def _is_file(self, node: int) -> bool:
        return FIRST <= node < FIRST + len(self._sizes)

    def _init(self, body: bytes) -> bytes:
        _, minor, read_ahead, offered = _INIT_IN.unpack_from(body)
        most = self._under_way
        return _INIT_OUT.pack(
            MAJOR,
            min(minor, MINOR),
            read_ahead,
            offered & _ASYNC_READ,
            most,
            max(most * 3 // 4, 1),
            _WRITE_BYTES,
            1,
            0,
            0,
            0,
        )

    def _lookup(self, request: FuseRequest) -> list[bytes | memoryview]:
        node = self._nodes.get(request.body.rstrip(b"\0"))
        if request.node != ROOT or node is None:
            return reply(request.unique, error=errno.ENOENT)
        entry = _ENTRY.pack(node, 0, _FOR_EVER_S, _FOR_EVER_S, 0, 0)
        return reply(request.unique, entry + self._attributes(node))

    def _entries(self, first: int, most_bytes: int) -> bytes:
        """What the directory has from its entry `first` on, whole entries in at most so many bytes."""
        out = bytearray()
        all_of = [(ROOT, b"."), (ROOT, b".."), *((FIRST + number, name) for number, name in enumerate(self._names))]
        for number, (node, name) in enumerate(all_of[first:], first + 1):
            kind = (stat.S_IFDIR if node == ROOT else stat.S_IFREG) >> 12
            entry = _DIRENT.pack(node, number, len(name), kind) + name
            entry += bytes(-len(entry) % 8)
            if len(out) + len(entry) > most_bytes:
                break
            out += entry
        return bytes(out)

    def _attributes(self, node: int) -> bytes:
        size = 0 if node == ROOT else self._sizes[node - FIRST]
        mode = stat.S_IFDIR | 0o500 if node == ROOT else stat.S_IFREG | 0o400
        dates = (self._made_s,) * 3
        return _ATTRIBUTES.pack(node, size, -(-size // 512), *dates, 0, 0, 0, mode, 1, *self._owner, 0, 4096, 0)
