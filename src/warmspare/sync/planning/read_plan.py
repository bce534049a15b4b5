"""Which blocks of a disk a sync must read; owns the parsing of extent files and the widening rules.

Architecture.md, invariants 6, 8 and 12: extents are widened to whole blocks; a grown disk's old last block and
everything after it are read; where nothing is known everything is read.
"""

from __future__ import annotations

import codecs
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np

from warmspare.errors import ConfigError, SourceError
from warmspare.model.extents import Extents, normalise, union, whole_disk, widen
from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES
from warmspare.outside.regular_files import open_file

FILE_BYTES = 64 << 20  # two and a half million extents
MAX_LINES = 4_000_000
LINE_BYTES = 4096
_NUMBER = re.compile(r"-?[0-9]{1,40}")


@dataclass(frozen=True, slots=True, eq=False)
class ReadPlan:
    """read: block-aligned extents to look at. reported: what the tracker said, None if it was not asked or
    not used. reason: why everything is read, "" if it is not. anew: those of `read` that are sent whole, whatever is
    known of them; None for none (see marked_blocks.py)."""

    read: Extents
    reported: Extents | None
    reason: str
    anew: Extents | None = None


def parse_extents(path: Path, capacity_bytes: int) -> Extents:
    """Lines of `offset length` in bytes (the table PowerCLI prints; blank lines, a heading and a ruler of
    dashes allowed), ascending and disjoint, within the disk.

    ConfigError naming the line for garbage, negative numbers, extents out of range, out of order or
    overlapping: a list that is not what a tracker prints may be a truncated or mixed-up one.
    """
    offsets, lengths = array("q"), array("q")
    end = 0
    try:
        with open_file(path, follow=True) as file:
            if os.fstat(file.fileno()).st_size > FILE_BYTES:
                raise ConfigError(
                    f"the extents are a file of more than {FILE_BYTES >> 20} MiB, which no tracker prints",
                    where=str(path),
                    hint="check the path",
                )
            for number, line in enumerate(_lines(file, path), 1):
                words = line.replace(",", " ").split()
                if not words or (number <= 5 and not offsets and _heading(words)):
                    continue
                where = f"{path}, line {number}"
                try:
                    if len(words) != 2 or not all(_NUMBER.fullmatch(word) for word in words):
                        raise ValueError
                    offset, length = int(words[0]), int(words[1])
                except ValueError:
                    raise ConfigError(
                        f"the extents have a line that is not `offset length`: {line.strip()[:60]!r}",
                        where=where,
                        hint="give two whole numbers of bytes a line",
                    ) from None
                end = _end(offset, length, end, capacity_bytes, where)
                if length:
                    offsets.append(offset)
                    lengths.append(length)
    except OSError as error:
        raise ConfigError(
            f"the extents can't be read: {error.strerror}", where=str(path), hint="check the path"
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(
            "the extents are not text", where=str(path), hint="give two whole numbers of bytes a line"
        ) from None
    return normalise(np.frombuffer(offsets, dtype=np.int64), np.frombuffer(lengths, dtype=np.int64))


def extents_of(pairs: Sequence[tuple[int, int]], capacity_bytes: int, where: str) -> Extents:
    """The same of offsets and lengths in bytes that a program gives. where: which disk, for messages. ConfigError."""
    if len(pairs) > MAX_LINES:
        raise ConfigError(f"there are more than {MAX_LINES} extents", where=where, hint="give fewer, longer ones")
    end = 0
    for number, (offset, length) in enumerate(pairs, 1):
        end = _end(offset, length, end, capacity_bytes, f"{where}, extent {number}")
    kept = np.array([pair for pair in pairs if pair[1]], dtype=np.int64).reshape(-1, 2)
    return normalise(kept[:, 0].copy(), kept[:, 1].copy())


def _end(offset: int, length: int, end: int, capacity_bytes: int, where: str) -> int:
    """Where an extent ends that comes after one that ended at `end`. ConfigError where it can't."""
    if offset < 0 or length < 0:
        raise ConfigError("an extent is negative", where=where, hint="give bytes from 0 up")
    if offset + length > capacity_bytes:
        raise ConfigError(
            f"an extent ends at {offset + length}, beyond the disk's {capacity_bytes} bytes",
            where=where,
            hint="check that the extents belong to this disk (they follow the disks' order)",
        )
    if offset < end:
        raise ConfigError(
            f"an extent begins at {offset}, before the last one ended at {end}: the extents overlap or are out of "
            "order",
            where=where,
            hint="give them ascending and disjoint, as the tracker prints them",
        )
    return offset + length


def _lines(file: BufferedReader, path: Path) -> Iterator[str]:
    """ConfigError for a line that is longer than any; UnicodeDecodeError."""
    start = file.read(3)
    if start != codecs.BOM_UTF8:
        file.seek(0)
    number = 0
    while raw := file.readline(LINE_BYTES + 1):
        number += 1
        if number > MAX_LINES:
            raise ConfigError(
                f"the extents have more than {MAX_LINES} lines, which no tracker prints",
                where=str(path),
                hint="check the path",
            )
        if len(raw) > LINE_BYTES:
            raise ConfigError(
                f"the extents have a line that is not `offset length`: {raw[:60].decode(errors='replace')!r}",
                where=f"{path}, line {number}",
                hint="give two whole numbers of bytes a line",
            )
        yield raw.decode()


def _heading(words: list[str]) -> bool:
    """PowerCLI's table begins with column names and a ruler."""
    letters = all(w.isascii() and w.isalpha() for w in words)
    return len(words) == 2 and (letters or all(set(w) == {"-"} for w in words))


def plan(capacity_bytes: int, before_bytes: int | None, reported: Extents | None) -> ReadPlan:
    """What to read. before_bytes: capacity at the parent point, None if the disk has none."""
    if capacity_bytes > MAX_CAPACITY_BYTES:
        raise SourceError(
            f"a disk of {capacity_bytes} bytes is larger than the {MAX_CAPACITY_BYTES} that VMware allows",
            hint="give the path of a disk image",
        )
    if before_bytes is None:
        return ReadPlan(whole_disk(capacity_bytes), None, "first sync of this disk")
    if reported is None:
        return ReadPlan(whole_disk(capacity_bytes), None, "no extents given")
    read = widen(reported, BLOCK_BYTES, capacity_bytes)
    if capacity_bytes != before_bytes:
        tail = (before_bytes - 1) // BLOCK_BYTES * BLOCK_BYTES
        grown = normalise([tail], [capacity_bytes - tail])
        read, reported = union(read, grown), union(reported, grown)
    return ReadPlan(read, reported, "")


def rest(extents: Extents, start: int) -> Extents:
    """What of the extents lies at `start` and after it."""
    end = extents.offsets + extents.lengths
    begin = np.maximum(extents.offsets, start)
    return normalise(begin, np.maximum(end - begin, 0))
