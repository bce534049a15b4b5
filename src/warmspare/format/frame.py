"""One frame: up to 256 pages of a disk in one compressed payload; owns its header, layout and checks.

docs/format.md, "Frame". A frame names the pages it holds by itself, so that a pack can be read without its
manifest. Pages stand in ascending order; a disk's short last page is stored at its length.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass

import numpy as np
import xxhash
import zstandard

from warmspare.errors import FormatError
from warmspare.format import varint
from warmspare.model.columns import U64
from warmspare.model.runs import numbers_in, run_columns
from warmspare.model.units import FRAME_PAGES, PAGE_BYTES, SPAN_BYTES

MAGIC = b"WSFR"
HEADER = struct.Struct("<4sBBHIIQ")  # magic, codec, flags, layout bytes, stored bytes, raw bytes, xxh3-64
SUMMED = HEADER.size - 8  # the checksum covers the header before itself, the layout and the payload
RAW, ZSTD = 0, 1
MAX_LAYOUT_BYTES = FRAME_PAGES * 2 * varint.MAX_BYTES
MAX_FRAME_BYTES = HEADER.size + MAX_LAYOUT_BYTES + SPAN_BYTES
KEEP_RAW = 0.97  # a payload that compresses worse than this is stored as it is

_local = threading.local()


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A decoded frame: page numbers of the disk, ascending, and their concatenated bytes."""

    pages: U64
    payload: bytes


def compressor(level: int) -> zstandard.ZstdCompressor:
    """This thread's compressor; a context is not shared between threads and costs a millisecond to make."""
    cached: tuple[int, zstandard.ZstdCompressor] | None = getattr(_local, "compressor", None)
    if cached is None or cached[0] != level:
        cached = (level, zstandard.ZstdCompressor(level=level, write_checksum=False))
        _local.compressor = cached
    return cached[1]


def decompressor() -> zstandard.ZstdDecompressor:
    cached: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if cached is None:
        cached = _local.decompressor = zstandard.ZstdDecompressor()
    return cached


def compress(data: bytes | bytearray | memoryview, level: int) -> tuple[int, bytes | memoryview]:
    """(codec, stored payload) of up to 1 MiB; `data` itself where zstd would not shrink it. Releases the GIL."""
    packed = compressor(level).compress(data)
    if len(packed) > KEEP_RAW * len(data):
        return RAW, memoryview(data)
    return ZSTD, packed


def expand(codec: int, stored: bytes | memoryview, raw_bytes: int, where: str) -> bytes:
    """Undo `compress`; FormatError unless exactly raw_bytes come out. Never allocates more than that."""
    if codec == RAW:
        if len(stored) != raw_bytes:
            raise FormatError(f"a raw payload has {len(stored)} bytes and not {raw_bytes}", where=where)
        return bytes(stored)
    if codec != ZSTD:
        raise FormatError(f"codec {codec} is unknown", where=where)
    try:
        # The size zstd states is checked against ours before anything is allocated for it.
        stated = zstandard.frame_content_size(stored)
        if stated != raw_bytes:
            raise FormatError(f"a payload states {stated} bytes and its header {raw_bytes}", where=where)
        out = decompressor().decompress(stored, max_output_size=raw_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"a payload does not decompress: {error}", where=where) from None
    if len(out) != raw_bytes:
        raise FormatError(f"a payload has {len(out)} bytes and not {raw_bytes}", where=where)
    return out


def encode_layout(pages: U64) -> bytes:
    """Runs of ascending page numbers as varints: gap << 1 | (run of one page), then the run's length if more."""
    first, lengths = run_columns(pages)
    counts = lengths.astype(np.uint64)
    before = np.concatenate(([np.uint64(0)], first[:-1] + counts[:-1]))
    single = counts == 1
    words = np.empty((first.size, 2), dtype=np.uint64)
    words[:, 0] = ((first - before) << np.uint64(1)) | single.astype(np.uint64)
    words[:, 1] = counts
    keep = np.ones(words.shape, dtype=bool)
    keep[:, 1] = ~single
    return varint.encode(words[keep])


def decode_layout(data: bytes | memoryview, where: str = "") -> U64:
    """The page numbers. FormatError if there are none, more than 256, or the runs are malformed."""
    starts: list[int] = []
    counts: list[int] = []
    at = total = 0
    words = iter(varint.decode(data, where).tolist())
    for word in words:
        count = 1 if word & 1 else next(words, 0)
        if count < 1 or (count == 1 and not word & 1):
            raise FormatError("a frame's layout has a malformed run", where=where)
        if starts and word >> 1 == 0:
            raise FormatError("a frame's layout has runs that touch", where=where)
        at += word >> 1
        starts.append(at)
        counts.append(count)
        at += count
        total += count
        if total > FRAME_PAGES:
            raise FormatError(f"a frame's layout names more than {FRAME_PAGES} pages", where=where)
    if not total:
        raise FormatError("a frame's layout names no page", where=where)
    if len(starts) == 1:
        return np.arange(starts[0], starts[0] + total, dtype=np.uint64)
    return numbers_in(np.array(starts, dtype=np.uint64), np.array(counts, dtype=np.int64)).astype(np.uint64)


def encode(pages: U64, raw: bytes | bytearray | memoryview, level: int) -> list[bytes | memoryview]:
    """A frame as buffers to be written one after the other.

    pages: 1 to 256 ascending page numbers. raw: their bytes; 4 KiB each, but the last may be shorter. The last
    buffer may be a view of `raw`.
    """
    if not 0 < pages.size <= FRAME_PAGES or not (pages.size - 1) * PAGE_BYTES < len(raw) <= pages.size * PAGE_BYTES:
        raise ValueError(f"{pages.size} pages do not make {len(raw)} bytes")
    codec, stored = compress(raw, level)
    layout = encode_layout(pages)
    head = HEADER.pack(MAGIC, codec, 0, len(layout), len(stored), len(raw), 0)[:SUMMED]
    summed = xxhash.xxh3_64(head)
    summed.update(layout)
    summed.update(stored)
    return [head + summed.intdigest().to_bytes(8, "little"), layout, stored]


def decode(data: bytes | memoryview, where: str) -> Frame:
    """Decode one whole frame that fills `data`; FormatError on anything that does not add up."""
    view = memoryview(data)
    length = frame_bytes(view, where)
    if length != len(view):
        raise FormatError(f"a frame of {length} bytes stands where {len(view)} were expected", where=where)
    _, codec, flags, layout_bytes, _, raw_bytes, _ = HEADER.unpack_from(view)
    _demand_sum(view, where)
    if flags:
        raise FormatError(f"a frame has unknown flags {flags:#x}", where=where)
    pages = decode_layout(view[HEADER.size : HEADER.size + layout_bytes], where)
    if not (pages.size - 1) * PAGE_BYTES < raw_bytes <= pages.size * PAGE_BYTES:
        raise FormatError(f"a frame has {raw_bytes} bytes for {pages.size} pages", where=where)
    return Frame(pages, expand(codec, view[HEADER.size + layout_bytes :], raw_bytes, where))


def _demand_sum(view: memoryview, where: str) -> None:
    summed = xxhash.xxh3_64(view[:SUMMED])
    summed.update(view[HEADER.size :])
    if summed.intdigest() != HEADER.unpack_from(view)[6]:
        raise FormatError("a frame is damaged: its checksum does not match", where=where)


def frame_bytes(data: bytes | memoryview, where: str) -> int:
    """Length of the frame that begins at `data`, from its header alone; FormatError if there is none."""
    if len(data) < HEADER.size:
        raise FormatError("a frame is cut off", where=where)
    magic, _, _, layout_bytes, stored_bytes, raw_bytes, _ = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FormatError("no frame begins here", where=where)
    if not 0 < layout_bytes <= MAX_LAYOUT_BYTES or stored_bytes > SPAN_BYTES or not 0 < raw_bytes <= SPAN_BYTES:
        raise FormatError("a frame's header has impossible sizes", where=where)
    return int(HEADER.size + layout_bytes + stored_bytes)


def page_numbers(data: bytes | memoryview) -> U64:
    """The pages that a whole frame says that it holds, ascending; its payload is not unpacked. FormatError where it is
    damaged."""
    view = memoryview(data)
    frame_bytes(view, "")
    _demand_sum(view, "")
    layout_bytes = HEADER.unpack_from(view)[3]
    return decode_layout(view[HEADER.size : HEADER.size + layout_bytes])


def page_count(data: bytes | memoryview) -> int:
    """How many pages a whole frame says that it holds, by its header."""
    return -(-int(HEADER.unpack_from(data)[5]) // PAGE_BYTES)
