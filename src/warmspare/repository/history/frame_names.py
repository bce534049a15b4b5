"""A frame's place as one number, so that frames of many packs can be sorted and looked up."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from warmspare.model.columns import I64, U64

_OFFSETS = np.uint64(1 << 32)  # of a pack


def names_of(packs: npt.NDArray[Any], offsets: npt.NDArray[Any]) -> U64:
    """packs: numbers of packs. offsets: in them."""
    names: U64 = packs.astype(np.uint64) * _OFFSETS + offsets.astype(np.uint64)
    return names


def packs_of_names(names: U64) -> I64:
    """The number of each one's pack."""
    return (names // _OFFSETS).astype(np.int64)


def offsets_of_names(names: U64) -> U64:
    """Where each begins in its pack."""
    offsets: U64 = names % _OFFSETS
    return offsets
