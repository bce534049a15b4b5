"""What a sync, and a look at one, ends with, as values; owns no wording."""

from __future__ import annotations

from dataclasses import dataclass

from warmspare.model.ids import PointId, RequestId, VmId


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What `sync.done` tells. vm: the ID of its chain."""

    vm: VmId
    point: PointId
    parent: PointId | None
    bytes_read: int
    bytes_changed: int
    bytes_sent: int
    seconds: float
    findings: int
    unprotected: int


class UnneededError(Exception):
    """The restore point that was asked for is there already; nothing was done. created: when, as its record has it.
    request: what it was made for; None: it is only newer than the one that was to be the last before this sync."""

    def __init__(self, vm: VmId, point: PointId, created: str, request: RequestId | None = None) -> None:
        self.vm, self.point, self.created, self.request = vm, point, created, request
        super().__init__(f"{point.label} is there already")


@dataclass(frozen=True, slots=True)
class Survey:
    """What `plan.done` tells. seconds: that reading took. rate: bytes a second that the last sync sent at, None where
    it sent too little to tell. vm: the ID of its chain."""

    vm: VmId
    bytes_read: int
    bytes_changed: int
    bytes_to_send: int
    seconds: float
    rate: float | None
