"""What a run has sent of one disk, written down pack by pack, so that a run that dies need not be sent again.

A log of frames (which pages with which hashes lie where) and a list of packs that are complete in the store. A pack is
listed only once all its frames are durable in the log; what is damaged or of no listed pack is taken for not sent.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmspare.format.packlist import PackRef
from warmspare.model.columns import U16, U32, U64
from warmspare.model.ids import PackId, run_bytes, run_of
from warmspare.model.units import BLOCK_PAGES
from warmspare.state.local_files import STATE_DIRECTORY
from warmspare.sync.journal.checked_log import CheckedLog, RecordForm, records_of

MAGIC = b"WSST"
# A frame: pack number, offset, bytes. A pack: run, number, CRC32C, bytes, SHA-256.
FRAMES = RecordForm(MAGIC, "III", np.dtype([("block", "<u4"), ("carried", "<u2"), ("pages", "<u8", (BLOCK_PAGES,))]))
PACKS = RecordForm(MAGIC, "16sIIQ32s")


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
        self._completing = threading.Lock()
        self._frames = CheckedLog(path, STATE_DIRECTORY, FRAMES, anew=True)
        try:
            self._packs = CheckedLog(_list_of(path), STATE_DIRECTORY, PACKS, anew=True)
        except BaseException:
            self._frames.close()
            raise

    def add(self, frame: SentFrame) -> None:
        """Before its pack is complete. Buffered by the kernel only."""
        rows = np.empty(frame.block.size, dtype=FRAMES.row)
        rows["block"], rows["carried"], rows["pages"] = frame.block, frame.carried, frame.pages
        self._frames.append(frame.pack, frame.offset, frame.bytes, rows=rows)

    def complete(self, ref: PackRef) -> None:
        """The pack is in the store. Durable when this returns. Packs end side by side, each in a thread of its own."""
        with self._completing:
            self._frames.sync()
            self._packs.append(run_bytes(ref.id.run), ref.id.number, ref.crc32c, ref.bytes, ref.sha256)
            self._packs.sync()

    def close(self) -> None:
        self._frames.close()
        self._packs.close()


def _list_of(path: Path) -> Path:
    return path.with_suffix(".packs")


def packs_of(path: Path) -> list[PackRef]:
    """The packs that the list of the log at `path` names; up to the first entry that is damaged or cut off."""
    packs = []
    for record in records_of(_list_of(path), STATE_DIRECTORY, PACKS):
        run, number, crc, size, sha256 = record.fields
        packs.append(PackRef(PackId(run_of(run), number), size, crc, sha256))
    return packs


def frames_of(path: Path) -> Iterator[SentFrame]:
    """The frames of a log, as sent; up to the first that is damaged or cut off."""
    for record in records_of(path, STATE_DIRECTORY, FRAMES):
        rows = record.rows
        block, carried = rows["block"].astype(np.uint32), rows["carried"].astype(np.uint16)
        pack, offset, size = record.fields
        yield SentFrame(pack, offset, size, block, carried, rows["pages"].astype(np.uint64))
