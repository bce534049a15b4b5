"""Records: what becomes of a block at a restore point, in columns, a row a record; owns the rules that rows keep to.

docs/format.md, "Manifest". A record says of a block which pages have new bytes (carried), which became zeros (zero),
and what the whole block hashes to then. Whatever takes rows takes all columns of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from warmspare.model import masks
from warmspare.model.columns import U8, U16, U32
from warmspare.model.runs import Rows, group_starts

HASH_BYTES = 16
NO_FRAME = 0xFFFF  # a record that carries no page

Chosen = slice | Rows | npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Some records. hashes: shape (n, 16). ValueError if the columns differ in length.

    They ascend by block unless a caller says otherwise; a block may have several, which are neighbours then.
    """

    block: U32
    carried: U16
    zero: U16
    hashes: U8

    def __post_init__(self) -> None:
        rows = len(self.block)
        if self.hashes.shape != (rows, HASH_BYTES) or any(column.shape != (rows,) for column in self._flat()):
            raise ValueError("the columns of records differ in shape")

    def _flat(self) -> tuple[npt.NDArray[Any], ...]:
        return self.block, self.carried, self.zero

    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        """As the constructor takes them."""
        return self.block, self.carried, self.zero, self.hashes

    @classmethod
    def none(cls) -> Self:
        none16 = np.empty(0, dtype=np.uint16)
        return cls(np.empty(0, dtype=np.uint32), none16, none16, np.empty((0, HASH_BYTES), dtype=np.uint8))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All rows of these, in the order given."""
        if len(parts) < 2:
            return parts[0] if parts else cls.none()
        columns = zip(*(part._columns() for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def __len__(self) -> int:
        return len(self.block)

    def take(self, rows: Chosen) -> Self:
        """Some rows: a slice, row numbers, or a boolean for each."""
        return type(self)(*(column[rows] for column in self._columns()))

    def split(self, block: int) -> tuple[Self, Self]:
        """Those of blocks below that one, and the rest. They must be in order."""
        row = int(np.searchsorted(self.block, block))
        return self.take(slice(row)), self.take(slice(row, None))

    def in_order(self) -> Self:
        """By block; those of one block stay as they stand."""
        return self.take(np.argsort(self.block, kind="stable"))

    def placed(self, frame: npt.NDArray[np.unsignedinteger[Any]]) -> PlacedRecords:
        """With the frame of each."""
        return PlacedRecords(self.block, self.carried, self.zero, self.hashes, frame)

    @property
    def pages(self) -> U16:
        """The pages that each says anything of."""
        return self.carried | self.zero

    def several(self) -> npt.NDArray[np.bool_]:
        """Which rows are not the only ones of their block."""
        same = self.block[1:] == self.block[:-1]
        none = np.zeros(min(1, len(self)), dtype=np.bool_)
        out: npt.NDArray[np.bool_] = np.concatenate((none, same)) | np.concatenate((same, none))
        return out

    def broken_rule(self) -> str:
        """What a row breaks that every manifest's keep to, for a sentence; "" if none does."""
        if not len(self):
            return ""
        if (self.carried & self.zero).any():
            return "has masks that overlap"
        if not self.pages.all():
            return "has a record of no page"
        if not (self.block[1:] >= self.block[:-1]).all():
            return "has records out of order"
        starts = group_starts(self.block)
        if starts.size < len(self):
            again = np.flatnonzero(self.block[1:] == self.block[:-1])
            if not np.all(self.hashes[again] == self.hashes[again + 1]):
                return "gives one block two hashes"
            named = np.add.reduceat(masks.counts(self.pages).astype(np.int64), starts)
            if np.any(named != masks.counts(masks.united(self.pages, starts))):
                return "gives one page twice"
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedRecords(Records):
    """Records whose pages lie in frames. frame: by the numbers of the owner; NO_FRAME in a manifest for a record that
    carries no page."""

    frame: npt.NDArray[np.unsignedinteger[Any]]

    @classmethod
    def none(cls) -> Self:
        empty = Records.none()
        return cls(empty.block, empty.carried, empty.zero, empty.hashes, empty.carried)

    def _flat(self) -> tuple[npt.NDArray[Any], ...]:
        return self.block, self.carried, self.zero, self.frame

    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.block, self.carried, self.zero, self.hashes, self.frame
