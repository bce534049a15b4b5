"""The packs that a manifest states, by their index; owns their rows, and refuses to make objects of all of them.

docs/format.md, "Manifest". A disk may have a million packs: 64 bytes each as they stand, five times as much as objects.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

import numpy as np

from warmspare.model.columns import U64
from warmspare.model.ids import PackId, run_of

PACK_ROW = np.dtype([("run", "V16"), ("number", "<u4"), ("crc32c", "<u4"), ("bytes", "<u8"), ("sha256", "V32")])
_NAME = np.dtype([("run", "V16"), ("number", "<u4")])
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PackRef:
    """A pack as a manifest states it: its ID, length, and checksums of the whole object."""

    id: PackId
    bytes: int
    crc32c: int
    sha256: builtins.bytes


class Viewed(Sequence[T]):
    """Each pack as something that is made of it when it is asked for."""

    def __init__(self, rows: np.ndarray, make: Callable[[PackRef], T]) -> None:
        self._rows, self._make = rows, make

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Viewed[T]: ...
    def __getitem__(self, index: int | slice) -> T | Viewed[T]:
        if isinstance(index, slice):
            return Viewed(self._rows[index], self._make)
        row = self._rows[index]
        return self._make(
            PackRef(
                PackId(run_of(bytes(row["run"])), int(row["number"])),
                int(row["bytes"]),
                int(row["crc32c"]),
                bytes(row["sha256"]),
            )
        )

    @property
    def sizes(self) -> U64:
        """Bytes of each."""
        out: U64 = self._rows["bytes"]
        return out

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes.tolist())

    def seen(self, make: Callable[[PackRef], S]) -> Viewed[S]:
        """The same packs as something else."""
        return Viewed(self._rows, make)

    def once(self) -> Viewed[T]:
        """Without those of a run and number that stand there again."""
        if len(self._rows) < 2:
            return self
        names = self._rows[["run", "number"]].astype(_NAME).view("S20")
        _, first = np.unique(names, return_index=True)
        return Viewed(self._rows[np.sort(first)], self._make)


def packs_of(chunks: list[np.ndarray]) -> Viewed[PackRef]:
    """The packs of rows that came in several pieces."""
    if len(chunks) == 1:  # as nearly always: joining rows of this type takes longer than all else of a small manifest
        return Viewed(chunks[0], _itself)
    return Viewed(np.concatenate(chunks) if chunks else np.empty(0, dtype=PACK_ROW), _itself)


def _itself(pack: PackRef) -> PackRef:
    return pack
