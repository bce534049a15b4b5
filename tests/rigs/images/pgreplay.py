"""Owns a pgbench run over PostgreSQL files in place, in a directory or inside an image. Allocates no block.

Each transaction is pgbench's TPC-B one: an account, a teller and a branch updated (HOT, on the same page), a
history row appended, now and then an index leaf touched; WAL first, with a full-page image the first time a
page changes after a checkpoint; heap pages go to disk at checkpoints or when the cache is full.

Simplified, and why it does not matter here: relations never grow (history reuses vacuumed pages, pg_xact a
segment whose unused part reads "aborted" instead of zero), since in place nothing can be allocated; the file
system's own journal is not written, so a real run changes somewhat more than this one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rigs.images import ext4
from rigs.images import pgpages as pg
from rigs.images.pgstore import HostStore, ImageStore, PageStore

CONTROL = "global/pg_control"
XACT = "pg_xact/0000"
SEGMENTS = 3
SMALLEST_MB = 6
CHECKPOINT_S = 300
CACHE_PAGES = 4096
XACT_PAGES = 32
# system id, two versions, state, padding, time, checkpoint, redo, timeline, padding, next xid
_CONTROL = struct.Struct("<QIIIIqQQIIQ")
_INDEX = f"base/16384/{pg.INDEX_NODE}"


class Wal:
    """Appends records to WAL segments in whole 8 KiB pages, recycling the oldest as the next to come."""

    def __init__(self, store: PageStore, lsn: int) -> None:
        self._store = store
        self._files = store.names("pg_wal")
        self._segment_bytes = store.pages(self._files[0]) * pg.PAGE_BYTES
        first = lsn // self._segment_bytes
        self._by_segment = {first + index: name for index, name in enumerate(self._files)}
        self.lsn = lsn
        self.previous = lsn
        self._page = store.read(*self._place(lsn)) if lsn % pg.PAGE_BYTES else bytearray(pg.PAGE_BYTES)

    @property
    def segment_bytes(self) -> int:
        return self._segment_bytes

    def append(self, record: bytes) -> int:
        """Write a record at the end; returns the LSN behind it. Full pages are written, the last waits."""
        left = memoryview(record.ljust(-(-len(record) // 8) * 8, b"\0"))
        self.previous = self.lsn
        continued = False
        while left:
            at = self.lsn % pg.PAGE_BYTES
            if at == 0:
                header = pg.wal_page_header(self.lsn, self._segment_bytes, len(left) if continued else 0)
                self._page = bytearray(header.ljust(pg.PAGE_BYTES, b"\0"))
                self.lsn += len(header)
                at = len(header)
                if not continued:
                    self.previous = self.lsn
            part = left[: pg.PAGE_BYTES - at]
            self._page[at : at + len(part)] = part
            left, continued = left[len(part) :], True
            if at + len(part) == pg.PAGE_BYTES:
                self._store.write(*self._place(self.lsn), bytes(self._page))
            self.lsn += len(part)
            if self.lsn % self._segment_bytes == 0:
                done = self.lsn // self._segment_bytes - 1
                self._by_segment[done + SEGMENTS] = self._by_segment.pop(done)
        return self.lsn

    def flush(self) -> None:
        """Write the page under construction, as a commit does; nothing where none has been begun."""
        if self.lsn % pg.PAGE_BYTES:
            self._store.write(*self._place(self.lsn), bytes(self._page))

    def rename_recycled(self) -> None:
        """Give each recycled segment file the name of the segment it now is."""
        for segment, name in sorted(self._by_segment.items()):
            wanted = f"pg_wal/{segment_name(segment, self._segment_bytes)}"
            if name != wanted:
                self._store.rename(name, wanted)

    def _place(self, lsn: int) -> tuple[str, int]:
        segment, at = divmod(lsn, self._segment_bytes)
        return self._by_segment[segment], at // pg.PAGE_BYTES


def segment_name(segment: int, segment_bytes: int) -> str:
    """The file name of a WAL segment on timeline 1."""
    per_log = (1 << 32) // segment_bytes
    return f"{1:08X}{segment // per_log:08X}{segment % per_log:08X}"


class Cluster:
    """A running cluster over a PageStore. Starts from pg_control, ends with `checkpoint`."""

    def __init__(self, store: PageStore, *, seed: int) -> None:
        control = _CONTROL.unpack_from(store.read(CONTROL, 0))
        self._store = store
        self._system, self._time_us, self._xid = control[0], control[5] * 1_000_000, control[10]
        self._wal = Wal(store, control[7])
        self._redo = control[7]
        self._random = np.random.default_rng([seed, self._xid])
        self._cache: dict[tuple[str, int], bytearray] = {}
        self._imaged: set[tuple[str, int]] = set()
        self._history_page = int(self._random.integers(0, store.pages(_file(pg.HISTORY))))
        self._branches = max(1, store.pages(_file(pg.ACCOUNTS)) * pg.ACCOUNTS.tuples_per_page // 100_000)

    @property
    def lsn(self) -> int:
        return self._wal.lsn

    @property
    def clock_s(self) -> int:
        return int(self._time_us // 1_000_000)

    def run(self, transactions: int, *, tps: float) -> None:
        """Run transactions at a rate; checkpoints every 300 s of its own clock and when WAL runs short."""
        until_checkpoint = round(CHECKPOINT_S * tps) or 1
        for number in range(transactions):
            self._transaction(round(1_000_000 / tps))
            short = self._wal.lsn - self._redo > (SEGMENTS - 1) * self._wal.segment_bytes - (1 << 18)
            if short or (number + 1) % until_checkpoint == 0:
                self.checkpoint()
            elif len(self._cache) > CACHE_PAGES:
                self._write_dirty()

    def checkpoint(self) -> None:
        """Write every dirty page, then a checkpoint record and pg_control; full-page images start anew."""
        self._write_dirty()
        body = struct.pack("<BBQIIQIQ", 255, 88, self._wal.lsn, 1, 1, self._xid, 24576, self._time_us).ljust(92, b"\0")
        at = self._wal.lsn
        self._redo = self._wal.append(pg.wal_record(0, 0x10, 0, self._wal.previous, body))
        self._wal.flush()
        page = self._store.read(CONTROL, 0)
        values = (self._system, 1300, 202209061, 6, 0, self.clock_s, at, self._redo, 1, 0, self._xid)
        _CONTROL.pack_into(page, 0, *values)
        self._store.write(CONTROL, 0, bytes(page))
        self._imaged.clear()

    def close(self) -> None:
        """The last checkpoint and the renames of recycled segments."""
        self.checkpoint()
        self._wal.rename_recycled()

    def _transaction(self, pause_us: int) -> None:
        random, xid = self._random, self._xid
        self._xid += 1
        self._time_us += max(1, int(random.exponential(pause_us)))
        delta = int(random.integers(-5000, 5001))
        branch = int(random.integers(0, self._branches))
        teller = branch * 10 + int(random.integers(0, 10))
        accounts = self._store.pages(_file(pg.ACCOUNTS)) * pg.ACCOUNTS.tuples_per_page
        account = int(random.integers(0, accounts))
        for table, row in ((pg.ACCOUNTS, account), (pg.TELLERS, teller), (pg.BRANCHES, branch)):
            self._update(table, row, xid, delta)
        self._append_history(pg.HISTORY.row(teller + 1, branch + 1, account + 1, delta, self._time_us), xid)
        if random.random() < 1 / 16:
            self._touch_index(account, xid, bool(random.random() < 0.25))
        self._commit(xid)

    def _update(self, table: pg.Table, row: int, xid: int, delta: int) -> None:
        block, index = divmod(row, table.tuples_per_page)
        page = self._page(_file(table), block)
        pruned = pg.hot_update(page, index + 1, table, block, xid, delta)
        changed = struct.pack("<HHHB", pg.TUPLE_BYTES + 8, 89, 0x2802, 24) + struct.pack("<i", delta)
        main = struct.pack("<IHBBIH", xid, index + 1, 0x20, 0, 0, index + 2)
        self._log(_file(table), block, page, 10, 0x40, xid, changed, main)
        if pruned:
            self._log(_file(table), block, page, 9, 0x10, xid, struct.pack("<6H", 1, 2, 3, 4, 5, 6), main[:8])

    def _append_history(self, row: bytes, xid: int) -> None:
        name = _file(pg.HISTORY)
        page = self._page(name, self._history_page)
        if not pg.append_tuple(page, pg.HISTORY, self._history_page, xid, row):
            self._history_page = (self._history_page + 1) % self._store.pages(name)
            fresh = pg.vacuumed_history(1, seed=xid, first_page=self._history_page)[0]
            page = self._cache[(name, self._history_page)] = bytearray(fresh.tobytes())
            pg.append_tuple(page, pg.HISTORY, self._history_page, xid, row)
        self._log(name, self._history_page, page, 10, 0x00, xid, row, struct.pack("<HB", 1, 0))

    def _touch_index(self, account: int, xid: int, insert: bool) -> None:
        block, index = divmod(account, pg.LEAF_ITEMS)
        block %= self._store.pages(_INDEX)
        page = self._page(_INDEX, block)
        pg.touch_leaf(page, index, insert)
        self._log(_INDEX, block, page, 11, 0x00, xid, bytes(page[-32:-16]), struct.pack("<H", index + 1))

    def _commit(self, xid: int) -> None:
        body = struct.pack("<BBq", 255, 8, self._time_us)
        self._wal.append(pg.wal_record(1, 0x00, xid, self._wal.previous, body))
        at = xid // 4 % (XACT_PAGES * pg.PAGE_BYTES)
        page = self._page(XACT, at // pg.PAGE_BYTES)
        shift = xid % 4 * 2
        page[at % pg.PAGE_BYTES] = page[at % pg.PAGE_BYTES] & ~(3 << shift) & 0xFF | 1 << shift

    def _log(
        self, name: str, block: int, page: bytearray, rmid: int, info: int, xid: int, data: bytes, main: bytes
    ) -> None:
        image = None
        if (name, block) not in self._imaged:
            self._imaged.add((name, block))
            image = pg.page_image(page)
        node = int(name.rpartition("/")[2])
        body = pg.block_reference(node, block, data, image, main)
        pg.set_lsn(page, self._wal.append(pg.wal_record(rmid, info, xid, self._wal.previous, body)))

    def _page(self, name: str, block: int) -> bytearray:
        page = self._cache.get((name, block))
        if page is None:
            page = self._cache[(name, block)] = self._store.read(name, block)
        return page

    def _write_dirty(self) -> None:
        self._wal.flush()
        for (name, block), page in sorted(self._cache.items()):
            self._store.write(name, block, bytes(page))
        self._cache.clear()


def database(directory: str | os.PathLike[str], *, megabytes: int, seed: int) -> list[str]:
    """Make the files of a pgbench cluster that has run for a while in an empty host directory.

    Heap files of accounts, tellers, branches and history, the accounts' index, three WAL segments full of
    records (1 MiB each, 16 MiB from 160 MB on), pg_xact and pg_control: about `megabytes` in all, at least
    6. Every 4 KiB of what a run rewrites is non-zero, so the file system allocates it. Returns the names,
    sorted, relative to the directory. Raises ValueError, OSError.
    """
    if megabytes < SMALLEST_MB:
        raise ValueError(f"a database needs at least {SMALLEST_MB} MB; got {megabytes}")
    top = Path(directory)
    segment_bytes = 16 << 20 if megabytes >= 160 else 1 << 20
    rest_pages = ((megabytes << 20) - SEGMENTS * segment_bytes) // pg.PAGE_BYTES - XACT_PAGES - 1
    accounts = int(rest_pages * 0.8)
    rows = accounts * pg.ACCOUNTS.tuples_per_page
    branches = max(1, rows // 100_000)
    leaves = -(-rows // pg.LEAF_ITEMS)
    for name in ("base/16384", "pg_wal", "pg_xact", "global"):
        (top / name).mkdir(parents=True)
    for table, count in ((pg.ACCOUNTS, rows), (pg.TELLERS, branches * 10), (pg.BRANCHES, branches)):
        pages = -(-count // table.tuples_per_page)
        _fill(top / _file(table), pages, partial(_heap, table, seed))
    _fill(top / _INDEX, leaves, lambda n, at: pg.initial_leaves(n, first_page=at))
    history = max(2, rest_pages - accounts - leaves)
    _fill(top / _file(pg.HISTORY), history, lambda n, at: pg.vacuumed_history(n, seed=seed, first_page=at))

    first = 100
    for index in range(SEGMENTS):
        with open(top / "pg_wal" / segment_name(first + index, segment_bytes), "wb") as file:
            file.truncate(segment_bytes)
    # 0x55 is "committed" four times, 0xAA "aborted": zeros would be a hole, which no run can write in place.
    xid = 20_000
    (top / XACT).write_bytes((b"\x55" * (xid // 4)).ljust(XACT_PAGES * pg.PAGE_BYTES, b"\xaa"))
    lsn = first * segment_bytes
    control = _CONTROL.pack(0x67A1B2C3D4E50000 + seed, 1300, 202209061, 6, 0, ext4.EPOCH_S, lsn, lsn, 1, 0, xid)
    (top / CONTROL).write_bytes(control.ljust(pg.PAGE_BYTES, b"\0"))

    cluster = Cluster(HostStore(top), seed=seed)
    # Until every segment is full of records, and the page under construction has reached its second 4 KiB.
    while cluster.lsn < lsn + SEGMENTS * segment_bytes or cluster.lsn % pg.PAGE_BYTES < 4608:
        cluster.run(1, tps=100)
    cluster.close()
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())


def database_run(path: str | os.PathLike[str], *, seconds: float, tps: float, seed: int) -> int:
    """Replay `seconds` of pgbench at `tps` on the database inside an image; returns the transactions.

    Starts just behind a checkpoint and ends with one, so the first change of each page is logged in full. A
    further run goes on where the last one stopped. Memory: at most 4096 cached pages. Deterministic for a
    seed and the image. Raises ValueError (no database in the image), ext4.ToolError, OSError.
    """
    transactions = round(seconds * tps)
    store = ImageStore(path)
    try:
        cluster = Cluster(store, seed=seed)
        cluster.run(transactions, tps=tps)
        cluster.close()
    finally:
        store.close()
    store.finish(clock_s=cluster.clock_s)
    return transactions


def _file(table: pg.Table) -> str:
    return f"base/16384/{table.node}"


def _heap(table: pg.Table, seed: int, pages: int, at: int) -> NDArray[np.uint8]:
    return pg.initial_heap(table, pages, seed=seed, first_page=at)


def _fill(path: Path, pages: int, make: Callable[[int, int], NDArray[np.uint8]]) -> None:
    """Write a relation in pieces of 1024 pages, so that no table has to fit in memory."""
    with open(path, "wb") as file:
        for at in range(0, pages, 1024):
            file.write(make(min(1024, pages - at), at).tobytes())
