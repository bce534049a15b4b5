"""Owns one question: how near to memory bandwidth is the page scan? Does no I/O.

Data: --mb of real pages (the non-zero pages of a bench image), in memory. Sides, one thread each, in turn:
reading it (numpy's sum over 64-bit words), copying it, hashing each 4 KiB page with a Python call of xxhash,
and the native kernel that tests for zero and hashes every page of 1 MiB spans.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

import harness
from rigs.images import diff
from warmspare._native import pages as native

SPAN_BYTES = 1 << 20
PAGE_BYTES = 4096
BLOCK_BYTES = 65536


def native_scan(buffer: NDArray[np.uint8]) -> None:
    """Run the native page scan over the whole buffer in 1 MiB spans, as the sender does: zero test, the hash of
    each block, the comparison with what was committed, and the hash of each page. Every block differs from what
    was committed, which is the most work there is."""
    blocks = SPAN_BYTES // BLOCK_BYTES
    pages = SPAN_BYTES // PAGE_BYTES
    old_blocks, old_pages = np.ones(blocks * 16, dtype=np.uint8), np.ones(pages, dtype=np.uint64)
    new_blocks, new_pages = np.empty(blocks * 16, dtype=np.uint8), np.empty(pages, dtype=np.uint64)
    nonzero, changed, known = (np.empty(blocks, dtype=np.uint16) for _ in range(3))
    whole, state = np.zeros(blocks, dtype=np.uint8), np.empty(blocks, dtype=np.uint8)
    for at in range(0, len(buffer), SPAN_BYTES):
        native.filter_span(
            buffer[at : at + SPAN_BYTES].data,
            1,
            old_blocks,
            old_pages,
            whole,
            new_blocks,
            new_pages,
            nonzero,
            changed,
            known,
            state,
        )


def unchanged_scan(buffer: NDArray[np.uint8]) -> None:
    """The same where nothing changed: the common case of a sync without extents. Block hashes only."""
    blocks = SPAN_BYTES // BLOCK_BYTES
    pages = SPAN_BYTES // PAGE_BYTES
    same, old_pages = _hashes(buffer), np.ones(pages, dtype=np.uint64)
    new_blocks, new_pages = np.empty(blocks * 16, dtype=np.uint8), np.empty(pages, dtype=np.uint64)
    nonzero, changed, known = (np.empty(blocks, dtype=np.uint16) for _ in range(3))
    whole, state = np.zeros(blocks, dtype=np.uint8), np.empty(blocks, dtype=np.uint8)
    for number, at in enumerate(range(0, len(buffer), SPAN_BYTES)):
        native.filter_span(
            buffer[at : at + SPAN_BYTES].data,
            1,
            same[number * blocks * 16 :],
            old_pages,
            whole,
            new_blocks,
            new_pages,
            nonzero,
            changed,
            known,
            state,
        )
        if state.any() and len(buffer) - at >= SPAN_BYTES:
            raise harness.BenchError("an unchanged span was taken for changed: the figure would mean nothing")


_known: dict[int, NDArray[np.uint8]] = {}


def _hashes(buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The committed hash of every block; made once, before the clock runs."""
    if id(buffer) not in _known:
        digests = (xxhash.xxh3_128_digest(buffer[at : at + BLOCK_BYTES]) for at in range(0, len(buffer), BLOCK_BYTES))
        table = np.frombuffer(b"".join(digests), dtype=np.uint8)
        _known[id(buffer)] = np.concatenate((table, np.zeros(SPAN_BYTES // BLOCK_BYTES * 16, dtype=np.uint8)))
    return _known[id(buffer)]


def read_memory(buffer: NDArray[np.uint8]) -> None:
    """Touch every byte once: a sum over 64-bit words."""
    int(buffer.view("<u8").sum())


def copy_memory(buffer: NDArray[np.uint8]) -> None:
    """Copy the buffer span by span into one span: reads it all and writes to cache only."""
    span = np.empty(SPAN_BYTES, dtype=np.uint8)
    for at in range(0, len(buffer), SPAN_BYTES):
        np.copyto(span[: len(buffer) - at], buffer[at : at + SPAN_BYTES])


def python_scan(buffer: NDArray[np.uint8]) -> None:
    """A 64-bit hash of every page by a Python call each, and a zero test of those that could be zero."""
    digest = xxhash.xxh3_64_intdigest
    view = memoryview(buffer.data)
    zero = digest(bytes(PAGE_BYTES))
    for at in range(0, len(view), PAGE_BYTES):
        if digest(view[at : at + PAGE_BYTES]) == zero:
            continue


def main() -> None:
    options = harness.parser(__doc__, runs=5, mb=512).parse_args()
    buffer = _pages(options)
    sides: dict[str, Callable[[NDArray[np.uint8]], None]] = {
        "memory read": read_memory,
        "memory copy": copy_memory,
        "xxhash from Python": python_scan,
        "native scan, all changed": native_scan,
        "native scan, nothing changed": unchanged_scan,
    }
    _hashes(buffer)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.runs):
        for name, side in sides.items():
            started = time.perf_counter()
            side(buffer)
            times[name].append(time.perf_counter() - started)
    rates = {name: len(buffer) / statistics.median(values) / 1e9 for name, values in times.items()}
    figures: list[dict[str, object]] = [
        {"what": name, "gb_per_s": rate, "of_memory_read": rate / rates["memory read"]} for name, rate in rates.items()
    ]
    setting = {
        "data": f"{len(buffer)} bytes of real non-zero pages",
        "threads": 1,
        "runs": options.runs,
        "order": "A B C D",
        "last-level cache": _cache(),
    }
    harness.report(options, "The page scan beside memory bandwidth", setting, figures)


def _cache() -> str:
    """Size of the largest cache: a buffer that is not well above it would measure the cache."""
    sizes = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    return sizes[-1].read_text().strip() if sizes else "unknown"


def _pages(options: argparse.Namespace) -> NDArray[np.uint8]:
    """--mb of real pages, taken from the image, repeated if it has fewer."""
    wanted = options.mb << 20
    buffer = np.empty(wanted, dtype=np.uint8)
    at = 0
    while at < wanted:
        for _, page in diff.changed_pages(None, harness.image(options)):
            room = min(len(page), wanted - at)
            buffer[at : at + room] = np.frombuffer(page, dtype=np.uint8, count=room)
            at += room
            if at == wanted:
                break
    return buffer


if __name__ == "__main__":
    harness.main(main)
