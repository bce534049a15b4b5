"""The three answers that a look into a guest can have: what was found, that it is not there, that it is not known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, TypeVar


class Absent(Enum):
    """Not there: all that could hold it was read."""

    ABSENT = "not there"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Unknown:
    """Not known: something that could hold it was not read. why: as a clause, for people."""

    why: str


@dataclass(frozen=True, slots=True)
class Beyond(Unknown):
    """A link that leads out of the volume, or to nothing: who reads that volume alone, as boot loaders do, finds
    nothing."""


T = TypeVar("T")
Answer: TypeAlias = T | Absent | Unknown
