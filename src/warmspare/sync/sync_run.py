"""One run of a sync, as its disks share it; owns what is counted over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from warmspare.model.ids import DiskId, RunId, VmId, VmKey
from warmspare.observe.events import Events, Meter
from warmspare.repository.chain import Point
from warmspare.store.contract import Store
from warmspare.sync.local.local_state import LocalState
from warmspare.sync.planning.rolling import Rolling
from warmspare.sync.planning.rolling_cursor import RollingCursor


@dataclass(slots=True)
class Run:
    """What the disks of a run share. store: where packs go. numbers: of packs.
    pack_bytes: their size. findings: so far. rolling: None for none. audits: how far the rolling audit of each disk is,
    once the point is published. missed: disks on which tracking was found to have missed changes."""

    store: Store
    vm: VmId
    vm_key: VmKey
    id: RunId
    local: LocalState
    head: Point | None
    events: Events
    meter: Meter
    numbers: Iterator[int]
    pack_bytes: Callable[[], int]
    findings: int = 0
    rolling: Rolling | None = None
    audits: dict[DiskId, RollingCursor] = field(default_factory=dict)
    missed: set[str] = field(default_factory=set)
