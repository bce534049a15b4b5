"""What a run has sent of one disk, written down pack by pack, so that a run that dies need not be sent again.

A log of frames (which pages with which hashes lie where) and a list of packs that are complete in the store. A pack is
listed only once all its frames are durable in the log; what is damaged or of no listed pack is taken for not sent.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from warmspare.format.packlist import PackRef
from warmspare.model.columns import U16, U32, U64
from warmspare.model.ids import PackId, run_bytes, run_of
from warmspare.model.units import BLOCK_PAGES
from warmspare.outside.regular_files import open_file, open_regular, read_regular
from warmspare.state.local_files import STATE_DIRECTORY, local_io, pwrite_all

BATCH = struct.Struct("<4sIIIIQ")  # magic, rows, pack number, frame offset, frame bytes, xxh3-64 of that and the rows
PACK = struct.Struct("<4sI16sIIQ32sQ")  # magic, 0, run, number, CRC32C, bytes, SHA-256, xxh3-64 of what precedes
MAGIC = b"WSST"
ROW = np.dtype([("block", "<u4"), ("carried", "<u2"), ("pages", "<u8", (BLOCK_PAGES,))])
MAX_ROWS = 1 << 16
LIST_BYTES = 96 << 20  # a million packs


@dataclass(frozen=True, slots=True, eq=False)
class SentFrame:
    """A frame in the store. pack: its number in its run. pages: hashes, shape (n, 16); those of `carried` count."""

    pack: int
    offset: int
    bytes: int
    block: U32
    carried: U16
    pages: U64


class SentLog:
    """The log at `path`, begun anew, and the list beside it."""

    def __init__(self, path: Path) -> None:
        self._paths = (path, path.with_suffix(".packs"))
        self._ends = [0, 0]
        self._completing = threading.Lock()
        with local_io(STATE_DIRECTORY, path):
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
            self._fds = [open_regular(each, flags) for each in self._paths]

    def add(self, frame: SentFrame) -> None:
        """Before its pack is complete. Buffered by the kernel only."""
        rows = np.empty(frame.block.size, dtype=ROW)
        rows["block"], rows["carried"], rows["pages"] = frame.block, frame.carried, frame.pages
        raw = rows.tobytes()
        head = BATCH.pack(MAGIC, rows.size, frame.pack, frame.offset, frame.bytes, 0)[:-8]
        self._append(0, head + _sum(head, raw) + raw)

    def complete(self, ref: PackRef) -> None:
        """The pack is in the store. Durable when this returns. Packs end side by side, each in a thread of its own."""
        head = PACK.pack(MAGIC, 0, run_bytes(ref.id.run), ref.id.number, ref.crc32c, ref.bytes, ref.sha256, 0)[:-8]
        with self._completing:
            with local_io(STATE_DIRECTORY, self._paths[0]):
                os.fdatasync(self._fds[0])
            self._append(1, head + _sum(head, b""))
            with local_io(STATE_DIRECTORY, self._paths[1]):
                os.fdatasync(self._fds[1])

    def _append(self, which: int, data: bytes) -> None:
        with local_io(STATE_DIRECTORY, self._paths[which]):
            pwrite_all(self._fds[which], data, self._ends[which])
        self._ends[which] += len(data)

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def packs_of(path: Path) -> list[PackRef]:
    """The packs that the list of the log at `path` names; up to the first entry that is damaged or cut off."""
    found: list[PackRef] = []
    listed = path.with_suffix(".packs")
    data = b""
    with local_io(STATE_DIRECTORY, listed), contextlib.suppress(FileNotFoundError):
        data = read_regular(listed, LIST_BYTES)
    for at in range(0, len(data) - PACK.size + 1, PACK.size):
        entry = data[at : at + PACK.size]
        magic, _, run, number, crc, size, sha256, _ = PACK.unpack(entry)
        if magic != MAGIC or _sum(entry[:-8], b"") != entry[-8:]:
            break
        found.append(PackRef(PackId(run_of(run), number), size, crc, sha256))
    return found


def frames_of(path: Path) -> Iterator[SentFrame]:
    """The frames of a log, as sent; up to the first that is damaged or cut off."""
    with local_io(STATE_DIRECTORY, path), open_file(path) as file:
        while len(head := file.read(BATCH.size)) == BATCH.size:
            magic, count, pack, offset, size, _ = BATCH.unpack(head)
            if magic != MAGIC or count > MAX_ROWS:
                return
            raw = file.read(count * ROW.itemsize)
            if len(raw) != count * ROW.itemsize or _sum(head[:-8], raw) != head[-8:]:
                return
            rows = np.frombuffer(raw, dtype=ROW)
            block, carried = rows["block"].astype(np.uint32), rows["carried"].astype(np.uint16)
            yield SentFrame(pack, offset, size, block, carried, rows["pages"].astype(np.uint64))


def _sum(head: bytes, raw: bytes) -> bytes:
    summed = xxhash.xxh3_64(head)
    summed.update(raw)
    return summed.intdigest().to_bytes(8, "little")
