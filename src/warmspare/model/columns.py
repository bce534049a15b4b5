"""The types of columns, by what one entry is, and what can be said of any; owns no meaning of theirs."""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_Column = TypeVar("_Column", bound=npt.NDArray[np.generic])


def distinct(column: _Column) -> _Column:
    """Each value once, ascending. numpy's own `unique` reads its masked arrays for it, which takes a third of the time
    that numpy itself takes to be read."""
    ordered = np.sort(column, axis=None)
    first = np.ones(ordered.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return cast(_Column, ordered[first])
