"""Owns the page formats of a PostgreSQL 15 cluster: heap, B-tree leaf, WAL. Does no I/O and keeps no files.

What is left out, because it changes no byte count: checksums are off (the default), and a WAL record's CRC
is zlib's instead of CRC-32C. Source: PostgreSQL's bufpage.h, htup_details.h, nbtree.h, xlog_internal.h,
xlogrecord.h.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAGE_BYTES = 8192
# lsn high, low, checksum, flags, lower, upper, special, size and version, prune xid
HEADER = struct.Struct("<IIHHHHHHI")
# xmin, xmax, cid, ctid block high, low, ctid position, infomask2, infomask, hoff
TUPLE = struct.Struct("<IIIHHHHHBx")
HEADER_BYTES, TUPLE_BYTES, LINE_BYTES = 24, 24, 4
SIZE_VERSION = 0x2004
UNUSED, NORMAL, REDIRECT, DEAD = 0, 1, 2, 3
HEAP_ONLY, HOT_UPDATED = 0x8000, 0x4000
XMIN_COMMITTED, XMAX_COMMITTED, XMAX_INVALID, UPDATED = 0x0100, 0x0400, 0x0800, 0x2000


@dataclass(frozen=True, slots=True)
class Table:
    """A pgbench table: name, file node, columns before the blank-padded filler, tuples a full page."""

    name: str
    node: int
    columns: struct.Struct
    filler_bytes: int
    tuples_per_page: int

    @property
    def tuple_bytes(self) -> int:
        """Length of one tuple with its header, before alignment to 8."""
        return TUPLE_BYTES + self.columns.size + (1 + self.filler_bytes if self.filler_bytes else 0)

    def row(self, *values: int) -> bytes:
        """The user data of one tuple; the filler is a short varlena of blanks, as pgbench inserts it."""
        data = self.columns.pack(*values)
        if self.filler_bytes:
            data += bytes([(self.filler_bytes + 1) << 1 | 1]) + b" " * self.filler_bytes
        return data


# Fill factor 90: 54 rows leave room for HOT updates, where 61 would fill the page.
ACCOUNTS = Table("accounts", 16397, struct.Struct("<iii"), 84, 54)
TELLERS = Table("tellers", 16394, struct.Struct("<iii"), 84, 54)
BRANCHES = Table("branches", 16400, struct.Struct("<ii"), 88, 54)
HISTORY = Table("history", 16391, struct.Struct("<iiiiq"), 0, 0)
INDEX_NODE = 16405
LEAF_ITEMS = 366


def initial_heap(table: Table, pages: int, *, seed: int, first_page: int = 0) -> NDArray[np.uint8]:
    """Heap pages as `pgbench -i` and some earlier runs leave them: uint8, shape (pages, 8192).

    Row numbers follow from the page number, so any slice of the table can be made alone. Balances are drawn
    from `seed` and `first_page`.
    """
    stride = -(-table.tuple_bytes // 8) * 8
    page = bytearray(PAGE_BYTES)
    count = table.tuples_per_page
    lower, upper = HEADER_BYTES + LINE_BYTES * count, PAGE_BYTES - stride * count
    HEADER.pack_into(page, 0, 0, 0x01800000, 0, 0, lower, upper, PAGE_BYTES, SIZE_VERSION, 0)
    values = [0] * (table.columns.size // 4)
    for index in range(count):
        at = PAGE_BYTES - stride * (index + 1)
        set_line(page, index + 1, at, NORMAL, table.tuple_bytes)
        infomask2 = len(values) + (1 if table.filler_bytes else 0)
        TUPLE.pack_into(page, at, 740, 0, 0, 0, 0, index + 1, infomask2, XMIN_COMMITTED | XMAX_INVALID | 2, 24)
        page[at + TUPLE_BYTES : at + table.tuple_bytes] = table.row(*values)
    result = np.tile(np.frombuffer(bytes(page), dtype=np.uint8), (pages, 1))
    random = np.random.default_rng([seed, table.node, first_page])
    numbers = np.arange(first_page, first_page + pages, dtype="<u4")
    balances = random.integers(-20000, 20000, size=(pages, count)).astype("<i4")
    for index in range(count):
        at = PAGE_BYTES - stride * (index + 1)
        rows = (numbers * count + index + 1).astype("<u4")
        result[:, at + 14 : at + 16] = (numbers & 0xFFFF).astype("<u2").view(np.uint8).reshape(-1, 2)
        result[:, at + 12 : at + 14] = (numbers >> 16).astype("<u2").view(np.uint8).reshape(-1, 2)
        result[:, at + 24 : at + 28] = rows.view(np.uint8).reshape(-1, 4)
        balance_at = at + TUPLE_BYTES + (4 if table is BRANCHES else 8)
        result[:, balance_at : balance_at + 4] = balances[:, index].copy().view(np.uint8).reshape(-1, 4)
    lsns = (0x01800000 + numbers * 7000).astype("<u4")
    result[:, 4:8] = lsns.view(np.uint8).reshape(-1, 4)
    return result


def vacuumed_history(pages: int, *, seed: int, first_page: int = 0) -> NDArray[np.uint8]:
    """Pages of the history table after delete and vacuum: empty again, the old tuples' bytes still there.

    Vacuum moves pd_lower and pd_upper and clears nothing, so the free space keeps what it held.
    """
    random = np.random.default_rng([seed, HISTORY.node, first_page])
    result = np.zeros((pages, PAGE_BYTES), dtype=np.uint8)
    header = bytearray(HEADER_BYTES)
    HEADER.pack_into(header, 0, 0, 0x01700000, 0, 5, HEADER_BYTES, PAGE_BYTES, PAGE_BYTES, SIZE_VERSION, 0)
    result[:, :HEADER_BYTES] = np.frombuffer(bytes(header), dtype=np.uint8)
    rows = (PAGE_BYTES - HEADER_BYTES) // (HISTORY.tuple_bytes + LINE_BYTES)
    fields = np.zeros((pages, rows, HISTORY.tuple_bytes // 4), dtype="<u4")
    fields[:, :, 0] = 700 + np.arange(rows) + random.integers(0, 50, size=(pages, 1))
    fields[:, :, 6] = random.integers(1, 11, size=(pages, rows))
    fields[:, :, 7] = 1
    fields[:, :, 8] = random.integers(1, 100001, size=(pages, rows))
    fields[:, :, 9] = random.integers(0, 5000, size=(pages, rows))
    fields[:, :, 10] = random.integers(0, 1 << 32, size=(pages, rows), dtype=np.uint32)
    fields[:, :, 11] = 0x0002A5B1
    tuples = fields.view(np.uint8).reshape(pages, -1)
    result[:, PAGE_BYTES - tuples.shape[1] :] = tuples
    lines = np.arange(rows, dtype="<u4") * HISTORY.tuple_bytes | 3 << 15
    result[:, HEADER_BYTES : HEADER_BYTES + LINE_BYTES * rows] = lines.view(np.uint8)
    return result


def initial_leaves(pages: int, *, first_page: int = 0) -> NDArray[np.uint8]:
    """Leaf pages of the primary key of accounts, 90 % full: uint8, shape (pages, 8192)."""
    count = LEAF_ITEMS
    result = np.zeros((pages, PAGE_BYTES), dtype=np.uint8)
    lines = np.arange(1, count + 1, dtype="<u4") * 16
    offsets = (PAGE_BYTES - 16 - lines).astype("<u4") | NORMAL << 15 | 16 << 17
    result[:, HEADER_BYTES : HEADER_BYTES + 4 * count] = offsets.view(np.uint8)
    items = np.zeros((pages, count, 4), dtype="<u4")
    rows = (first_page + np.arange(pages, dtype="<u4")[:, None]) * count + np.arange(count, dtype="<u4")
    heap_page, position = rows // ACCOUNTS.tuples_per_page, rows % ACCOUNTS.tuples_per_page + 1
    items[:, :, 0] = (heap_page >> 16) | (heap_page & 0xFFFF) << 16
    items[:, :, 1] = position | 16 << 16
    items[:, :, 2] = rows + 1
    body = np.ascontiguousarray(items[:, ::-1]).view(np.uint8).reshape(pages, -1)
    result[:, PAGE_BYTES - 16 - 16 * count : PAGE_BYTES - 16] = body
    for index in range(pages):
        number = first_page + index
        header = HEADER.pack(
            0,
            0x01900000 + number * 7000,
            0,
            0,
            HEADER_BYTES + 4 * count,
            PAGE_BYTES - 16 - 16 * count,
            PAGE_BYTES - 16,
            SIZE_VERSION,
            0,
        )
        result[index, :HEADER_BYTES] = np.frombuffer(header, dtype=np.uint8)
        special = struct.pack("<IIIHH", max(number, 0), number + 2, 0, 1, 0)
        result[index, PAGE_BYTES - 16 :] = np.frombuffer(special, dtype=np.uint8)
    return result


def line(page: bytearray, position: int) -> tuple[int, int, int]:
    """Line pointer `position` (from 1): (offset, flags, length); a redirect's offset is a position."""
    word = struct.unpack_from("<I", page, HEADER_BYTES + LINE_BYTES * (position - 1))[0]
    return word & 0x7FFF, word >> 15 & 3, word >> 17


def set_line(page: bytearray, position: int, offset: int, flags: int, length: int) -> None:
    """Write line pointer `position` (from 1)."""
    struct.pack_into("<I", page, HEADER_BYTES + 4 * (position - 1), offset | flags << 15 | length << 17)


def bounds(page: bytearray) -> tuple[int, int]:
    """pd_lower and pd_upper of a page."""
    lower, upper = struct.unpack_from("<HH", page, 12)
    return lower, upper


def set_lsn(page: bytearray, lsn: int) -> None:
    struct.pack_into("<II", page, 0, lsn >> 32, lsn & 0xFFFFFFFF)


def live_tuple(page: bytearray, root: int) -> tuple[int, int]:
    """(position, offset) of the newest version of the row whose first line pointer is `root`."""
    position = root
    offset, flags, _ = line(page, position)
    if flags == REDIRECT:
        position = offset
        offset, flags, _ = line(page, position)
    while struct.unpack_from("<H", page, offset + 18)[0] & HOT_UPDATED:
        position = struct.unpack_from("<H", page, offset + 16)[0]
        offset = line(page, position)[0]
    return position, offset


def hot_update(page: bytearray, root: int, table: Table, block: int, xid: int, delta: int) -> bool:
    """Update a row's balance by `delta` on the same page, pruning first if there is no room.

    Returns whether it was pruned. The old version gets its xmax, HOT_UPDATED and a ctid to the new one, which
    lies at the new pd_upper behind a new or reused line pointer. The page's LSN is the caller's to set.
    """
    stride = -(-table.tuple_bytes // 8) * 8
    lower, upper = bounds(page)
    pruned = upper - lower < stride + LINE_BYTES
    if pruned:
        prune(page, table)
        lower, upper = bounds(page)
    _, old = live_tuple(page, root)
    count = (lower - HEADER_BYTES) // LINE_BYTES
    position = next(_unused(page, count), count + 1)
    if position > count:
        lower += LINE_BYTES
    upper -= stride
    values = list(table.columns.unpack_from(page, old + TUPLE_BYTES))
    values[-1] = (values[-1] + delta + (1 << 31)) % (1 << 32) - (1 << 31)
    infomask2 = struct.unpack_from("<H", page, old + 18)[0] & 0x07FF
    high, low = block >> 16, block & 0xFFFF
    infomask = UPDATED | XMAX_INVALID | 2
    TUPLE.pack_into(page, upper, xid, 0, 0, high, low, position, infomask2 | HEAP_ONLY, infomask, 24)
    page[upper + TUPLE_BYTES : upper + table.tuple_bytes] = table.row(*values)
    struct.pack_into("<I", page, old + 4, xid)
    struct.pack_into("<HHH", page, old + 12, high, low, position)
    own = struct.unpack_from("<HH", page, old + 18)
    struct.pack_into("<HH", page, old + 18, own[0] | HOT_UPDATED, own[1] & ~XMAX_INVALID | XMIN_COMMITTED)
    set_line(page, position, upper, NORMAL, table.tuple_bytes)
    struct.pack_into("<HH", page, 12, lower, upper)
    struct.pack_into("<I", page, 20, xid)
    return pruned


def prune(page: bytearray, table: Table) -> None:
    """Drop dead row versions and compact the rest to the end of the page; freed bytes keep their content."""
    lower, _ = bounds(page)
    count = (lower - HEADER_BYTES) // LINE_BYTES
    live: list[tuple[int, int]] = []
    redirects: dict[int, int] = {}
    for position in range(1, count + 1):
        offset, flags, _ = line(page, position)
        heap_only = flags == NORMAL and struct.unpack_from("<H", page, offset + 18)[0] & HEAP_ONLY
        if flags == REDIRECT or (flags == NORMAL and not heap_only):
            newest, at = live_tuple(page, position)
            live.append((newest, at))
            if newest != position:
                redirects[position] = newest
    keep = {position for position, _ in live}
    stride = -(-table.tuple_bytes // 8) * 8
    upper = PAGE_BYTES
    for position, at in sorted(live, key=lambda item: -item[1]):
        upper -= stride
        page[upper : upper + table.tuple_bytes] = page[at : at + table.tuple_bytes]
        set_line(page, position, upper, NORMAL, table.tuple_bytes)
    for position in range(1, count + 1):
        if position in redirects:
            set_line(page, position, redirects[position], REDIRECT, 0)
        elif position not in keep:
            set_line(page, position, 0, UNUSED, 0)
    struct.pack_into("<H", page, 10, 1)  # PD_HAS_FREE_LINES
    struct.pack_into("<HH", page, 12, lower, upper)
    struct.pack_into("<I", page, 20, 0)


def append_tuple(page: bytearray, table: Table, block: int, xid: int, row: bytes) -> bool:
    """Insert a row version at the end of a page; False, and nothing done, if there is no room."""
    stride = -(-table.tuple_bytes // 8) * 8
    lower, upper = bounds(page)
    if upper - lower < stride + LINE_BYTES:
        return False
    position, upper = (lower - HEADER_BYTES) // LINE_BYTES + 1, upper - stride
    infomask2 = table.columns.size // 4
    TUPLE.pack_into(page, upper, xid, 0, 0, block >> 16, block & 0xFFFF, position, infomask2, XMAX_INVALID | 1, 24)
    page[upper + TUPLE_BYTES : upper + table.tuple_bytes] = row
    set_line(page, position, upper, NORMAL, table.tuple_bytes)
    struct.pack_into("<HH", page, 12, lower + LINE_BYTES, upper)
    return True


def touch_leaf(page: bytearray, index: int, duplicate: bool) -> None:
    """Mark a leaf entry dead and, with `duplicate`, insert a new version of it if the page has room."""
    lower, upper = bounds(page)
    count = (lower - HEADER_BYTES) // LINE_BYTES
    position = index % count + 1
    offset, _, length = line(page, position)
    set_line(page, position, offset, DEAD, length)
    if not duplicate or upper - lower < 16 + LINE_BYTES:
        return
    item = bytes(page[offset : offset + 16])
    upper -= 16
    page[upper : upper + 16] = item
    start = HEADER_BYTES + LINE_BYTES * position
    page[start + LINE_BYTES : lower + LINE_BYTES] = page[start:lower]
    set_line(page, position + 1, upper, NORMAL, 16)
    struct.pack_into("<HH", page, 12, lower + LINE_BYTES, upper)


def page_image(page: bytearray) -> tuple[bytes, int, int]:
    """A full-page image as WAL carries it: the page without the hole, the hole's offset and length."""
    lower, upper = bounds(page)
    return bytes(page[:lower]) + bytes(page[upper:]), lower, upper - lower


def wal_record(rmid: int, info: int, xid: int, previous: int, body: bytes) -> bytes:
    """One WAL record: the 24-byte header and its body."""
    head = struct.pack("<IIQBBxx", 24 + len(body), xid, previous, info, rmid)
    return head + struct.pack("<I", zlib.crc32(body + head)) + body


def block_reference(node: int, block: int, data: bytes, image: tuple[bytes, int, int] | None, main: bytes) -> bytes:
    """The body of a record about one page: block header, image header where one is carried, main data."""
    flags = (0x10 if image else 0) | (0x20 if data else 0)
    parts = [struct.pack("<BBH", 0, flags, len(data))]
    if image:
        content, hole_at, hole_bytes = image
        parts.append(struct.pack("<HHB", len(content), hole_at, 0x05 if hole_bytes else 0x04))
    parts.append(struct.pack("<IIII", 1663, 16384, node, block))
    parts.append(struct.pack("<BB", 255, len(main)))
    if image:
        parts.append(image[0])
    return b"".join([*parts, data, main])


def wal_page_header(lsn: int, segment_bytes: int, remaining: int) -> bytes:
    """The header of the WAL page that starts at `lsn`: 24 bytes, or 40 at the start of a segment."""
    long = lsn % segment_bytes == 0
    info = (1 if remaining else 0) | (2 if long else 0)
    head = struct.pack("<HHIQIxxxx", 0xD110, info, 1, lsn, remaining)
    return head + struct.pack("<QII", 0x6543210FEDCBA987, segment_bytes, PAGE_BYTES) if long else head


def _unused(page: bytearray, count: int) -> Iterator[int]:
    if not struct.unpack_from("<H", page, 10)[0] & 1:
        return
    for position in range(1, count + 1):
        if line(page, position)[1] == UNUSED:
            yield position
