"""What differs of one disk between two restore points, and how that was judged; a plain value without any I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from warmspare.format.restore_point import Disk
from warmspare.model.columns import U8, U16, U32
from warmspare.model.masks import page_numbers, total, whole_masks
from warmspare.model.units import BLOCK_BYTES, PAGE_BYTES, block_bytes, page_bytes
from warmspare.observe.kinds.looking_events import DiskDiffered
from warmspare.pages.region_counts import RegionCounts


class BlockChange(IntEnum):
    """What became of a block, from the first point to the second. Beyond the end of a disk are zeros."""

    FILLED = 0  # it was zeros
    EMPTIED = 1  # it is zeros
    CHANGED = 2  # neither


class DiskPresence(StrEnum):
    """In which of the two points the disk is."""

    BOTH = "both"
    JOINED = "joined"
    LEFT = "left"


@dataclass(slots=True)
class DiskDiff:
    """One disk, of which at least one of the points has a record. pages, page_total_bytes: of the blocks that differ,
    those that differ where `pages_exact`, else those that may."""

    before: Disk | None
    after: Disk | None
    pages_exact: bool
    pages: int = 0
    page_total_bytes: int = 0
    block_total_bytes: int = 0
    map: RegionCounts = field(init=False)

    def __post_init__(self) -> None:
        self.map = RegionCounts(self.capacity_bytes, len(BlockChange))

    @property
    def disk(self) -> Disk:
        """As the second point has it, or the first where it left."""
        disk = self.after or self.before
        assert disk is not None
        return disk

    @property
    def presence(self) -> DiskPresence:
        """In which of the points it is."""
        if self.before is None:
            return DiskPresence.JOINED
        return DiskPresence.LEFT if self.after is None else DiskPresence.BOTH

    @property
    def capacity_bytes(self) -> int:
        """The larger of both."""
        return max(disk.capacity_bytes for disk in (self.before, self.after) if disk is not None)

    def add_blocks(self, blocks: U32, before: U8, after: U8) -> None:
        """Count blocks that differ. before, after: their hashes, shape (n, 16), zeros for a block of zeros."""
        was, now = before.any(axis=1), after.any(axis=1)
        for change, rows in (
            (BlockChange.FILLED, ~was & now),
            (BlockChange.EMPTIED, was & ~now),
            (BlockChange.CHANGED, was & now),
        ):
            self.map.add(change, blocks[rows])
        self.block_total_bytes += _bytes_of(blocks, self.capacity_bytes)

    def add_pages(self, blocks: U32, masks: U16) -> None:
        """Count pages of blocks, ascending. Pages beyond the disk's end are left out."""
        masks = masks & whole_masks(blocks, self.capacity_bytes)
        count = total(masks)
        self.pages += count
        self.page_total_bytes += count * PAGE_BYTES
        last = page_numbers(blocks[-1:], masks[-1:])[-1:].tolist()
        if last:  # only the last page of the disk can be a short one
            self.page_total_bytes -= PAGE_BYTES - page_bytes(last[0], self.capacity_bytes)

    def count(self, change: BlockChange) -> int:
        """How many blocks."""
        return self.map.total(change)

    @property
    def blocks(self) -> int:
        """How many differ."""
        return sum(self.count(change) for change in BlockChange)

    @property
    def alike(self) -> bool:
        """Whether nothing is another at all, its length neither."""
        ends = {disk.capacity_bytes if disk else None for disk in (self.before, self.after)}
        return not self.blocks and len(ends) == 1

    def event(self, vm: str) -> DiskDiffered:
        """The same for programs. vm: its ID."""
        return DiskDiffered(
            vm=vm,
            disk=self.disk.id,
            name=self.disk.name,
            presence=self.presence.value,
            capacity_before=self.before.capacity_bytes if self.before else None,
            capacity_after=self.after.capacity_bytes if self.after else None,
            blocks=self.blocks,
            blocks_filled=self.count(BlockChange.FILLED),
            blocks_emptied=self.count(BlockChange.EMPTIED),
            blocks_changed=self.count(BlockChange.CHANGED),
            bytes_blocks=self.block_total_bytes,
            pages=self.pages,
            bytes_pages=self.page_total_bytes,
            pages_exact=self.pages_exact,
        )


def _bytes_of(blocks: U32, capacity_bytes: int) -> int:
    """Of ascending blocks; only the last of a disk can be short."""
    return (blocks.size - 1) * BLOCK_BYTES + block_bytes(int(blocks[-1]), capacity_bytes) if blocks.size else 0
