"""The contract of a disk that can be read; refuses to know what becomes of the bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from warmspare.model import U32, Extents


@dataclass(frozen=True, slots=True)
class Span:
    """Up to 16 blocks in one buffer.

    blocks: their numbers, ascending. data: their bytes back to back, 64 KiB each; only the disk's short last
    block is shorter. The consumer calls `release` once, when it no longer needs `data`; the buffer is
    then used again.
    """

    blocks: U32
    data: memoryview
    release: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Hole:
    """Blocks [start, stop) that the medium itself says are zeros."""

    start: int
    stop: int


class Source(Protocol):
    """One disk, open for reading a state that does not change (a snapshot, or a file nobody writes)."""

    name: str
    where: str  # for messages: the path, or the VM and disk

    @property
    def capacity_bytes(self) -> int: ...

    def read(self, extents: Extents) -> AsyncGenerator[Span | Hole, None]:
        """Everything in block-aligned extents, ascending. SourceError if any byte of it can't be read.

        Closed early (`aclose`), it stops reading; spans that were given out stay good until they are released.
        """

    def check(self) -> None:
        """SourceError if the disk changed since it was opened (where the medium can tell)."""

    async def close(self) -> None:
        """Give back what the disk took: descriptors, processes. May be called again."""
        ...
