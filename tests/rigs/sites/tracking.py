"""Keeps change tracking of one disk as vSphere does: what changed since which snapshot, in units of a granularity.

It owns no bytes: whoever writes to the image says so here."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Extent = tuple[int, int]  # offset, length


class UnknownChangeIdError(Exception):
    """No such state of this disk's tracking: another UUID, or a sequence that has not been."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """What the tracking knew when a snapshot was taken."""

    sequence: int
    change_id: str
    capacity: int
    changed: npt.NDArray[np.int32]
    allocated: npt.NDArray[np.bool_]


@dataclass
class Tracker:
    """Tracking of one disk of `capacity` bytes. Each unit of `granularity` bytes knows the interval between
    snapshots in which it was written last: interval 1 ends with the first snapshot."""

    capacity: int
    granularity: int
    rng: random.Random
    uuid: str = ""
    sequence: int = 0  # of the newest snapshot
    frozen: dict[int, Frozen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        units = -(-self.capacity // self.granularity)
        self.changed = np.zeros(units, dtype=np.int32)
        self.allocated = np.zeros(units, dtype=np.bool_)
        self.uuid = self.uuid or new_uuid(self.rng)

    def change_id(self, sequence: int) -> str:
        """The ID of a state, as vSphere writes it."""
        return f"{self.uuid}/{sequence}"

    @property
    def live_change_id(self) -> str:
        """What the running VM's disk shows: not yet the ID of any snapshot, and of no use as one."""
        return self.change_id(self.sequence + 1)

    def wrote(self, offset: int, length: int, *, unseen: bool = False) -> None:
        """Bytes were written. `unseen` is a write that the tracking missed."""
        if length <= 0:
            return
        units = slice(offset // self.granularity, -(-(offset + length) // self.granularity))
        self.allocated[units] = True
        if not unseen:
            self.changed[units] = self.sequence + 1

    def freeze(self) -> Frozen:
        """A snapshot is being taken."""
        self.sequence += 1
        frozen = Frozen(
            self.sequence, self.change_id(self.sequence), self.capacity, self.changed.copy(), self.allocated.copy()
        )
        self.frozen[self.sequence] = frozen
        return frozen

    def release(self, sequence: int) -> None:
        """The snapshot is gone. Its change ID stays good to ask from."""
        self.frozen.pop(sequence, None)

    def reset(self) -> None:
        """Start over under another UUID: no earlier change ID is known any more."""
        self.uuid = new_uuid(self.rng)
        self.sequence = 0
        self.changed[:] = 0
        self.frozen.clear()

    def forget(self) -> None:
        """Lose what was written since the newest snapshot and keep the UUID: tracking that lies, as after a crash."""
        self.changed[self.changed > self.sequence] = 0

    def return_to(self, frozen: Frozen) -> None:
        """The disk went back to a snapshot, and the tracking with it, without a word: tracking that lies."""
        self.changed = frozen.changed.copy()
        self.allocated = frozen.allocated.copy()

    def grow(self, capacity: int) -> None:
        """The disk was extended. vSphere reports nothing about the new part."""
        more = -(-capacity // self.granularity) - len(self.changed)
        self.changed = np.concatenate([self.changed, np.zeros(more, dtype=np.int32)])
        self.allocated = np.concatenate([self.allocated, np.zeros(more, dtype=np.bool_)])
        self.capacity = capacity

    def changes(self, frozen: Frozen, change_id: str, start: int = 0, limit: int | None = None) -> list[Extent]:
        """The extents at and after `start`, at most `limit` of them, that changed between a change ID's moment and a
        snapshot's, or with "*" that are allocated. Units that touch are one extent; the last ends with the disk.

        Raises:
            UnknownChangeIdError: the ID is not of this tracking, or later than the snapshot.
        """
        if change_id == "*":
            return self._extents(frozen.allocated, frozen.capacity, start, limit)
        uuid, _, number = change_id.rpartition("/")
        if uuid != self.uuid or not number.isdecimal() or int(number) > frozen.sequence:
            raise UnknownChangeIdError(change_id)
        return self._extents(frozen.changed > int(number), frozen.capacity, start, limit)

    def _extents(self, mask: npt.NDArray[np.bool_], capacity: int, start: int, limit: int | None) -> list[Extent]:
        edges = np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))
        starts = np.flatnonzero(edges == 1) * self.granularity
        ends = np.minimum(np.flatnonzero(edges == -1) * self.granularity, capacity)
        late = ends > start
        pairs = zip(np.maximum(starts[late], start)[:limit].tolist(), ends[late][:limit].tolist(), strict=True)
        return [(begin, end - begin) for begin, end in pairs]


def new_uuid(rng: random.Random) -> str:
    """A UUID in the spelling of change IDs."""
    pairs = [f"{byte:02x}" for byte in rng.randbytes(16)]
    return " ".join(pairs[:8]) + "-" + " ".join(pairs[8:])
