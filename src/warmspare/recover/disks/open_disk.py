"""What programs that read disks are given, of a replica (`held_replica.py`) or a point (`held_point.py`); owns none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from warmspare.model.ids import DiskId, PointId


class OpenDisk(Protocol):
    """A disk that programs can read. fd: for them; not to be read on the event loop, which may have to give the
    bytes (`served.py`). read_bytes: what this process has put together so far for those who read it."""

    @property
    def id(self) -> DiskId: ...

    @property
    def capacity_bytes(self) -> int: ...

    @property
    def fd(self) -> int: ...

    @property
    def read_bytes(self) -> int: ...


class Traced(Protocol):
    """What is known of a disk at a moment."""

    def fields(self) -> dict[str, Any]: ...


class TracedDisk(OpenDisk, Protocol):
    """A disk whose reading leaves evidence. path: of a replica."""

    @property
    def path(self) -> Path | None: ...

    async def trace(self, *, hashed: bool = False) -> Traced: ...


class Held(Protocol):
    """All disks of a VM at a restore point, as they stay while they are read. replica: where it is, None where they are
    the restore point's own. repository: its ID."""

    @property
    def point(self) -> PointId: ...

    @property
    def repository(self) -> str: ...

    @property
    def uri(self) -> str: ...

    @property
    def replica(self) -> Path | None: ...

    @property
    def disks(self) -> Sequence[TracedDisk]: ...
