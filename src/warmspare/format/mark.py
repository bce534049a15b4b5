"""A mark: blocks that the next sync is to read again and send whole; owns its JSON and its rules.

docs/format.md, "Mark". An audit leaves it where the repository lost what the newest restore point has there.
"""

from __future__ import annotations

import msgspec

from warmspare.errors import FormatError
from warmspare.format import flags
from warmspare.model.ids import DiskId, VmId
from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES
from warmspare.outside.records import Line, Sequence, Sha256, UnfitError

MAX_MARK_BYTES = 4 << 20
MAX_RUNS = 4096  # of a disk; whoever has more joins them across the smallest gaps, which names too many
_BLOCKS = MAX_CAPACITY_BYTES // BLOCK_BYTES


class LossMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """sequence, sha256: the restore point at which the blocks were lost. disks: by ID, ascending, disjoint runs of
    blocks as (first, how many)."""

    format: int
    flags: int
    vm_id: VmId
    sequence: Sequence
    sha256: Sha256
    created: Line
    software: Line
    disks: dict[DiskId, list[tuple[int, int]]]


def encode(mark: LossMark) -> bytes:
    return msgspec.json.format(msgspec.json.encode(mark), indent=1) + b"\n"


def decode(data: bytes, where: str) -> LossMark:
    """FormatError on anything that breaks the rules."""
    try:
        mark = flags.decode(data, LossMark, "mark", where)
    except UnfitError as error:
        raise FormatError(f"the mark is damaged: {error}", where=where) from None
    for runs in mark.disks.values():
        end = 0
        for start, count in runs:
            if start < end or count < 1 or start + count > _BLOCKS:
                raise FormatError("the mark is damaged: its runs of blocks do not ascend", where=where)
            end = start + count
        if len(runs) > MAX_RUNS:
            raise FormatError("the mark is damaged: it has too many runs of blocks", where=where)
    return mark
