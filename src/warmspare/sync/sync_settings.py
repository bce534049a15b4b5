"""How VMs are synced, as one value that is handed in once; owns what goes without saying."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmspare.errors import ConfigError
from warmspare.model.ids import RequestId
from warmspare.sync.beginning import ChainStart
from warmspare.sync.planning.rolling import Rolling
from warmspare.sync.publishing.spool import SpoolPlace


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """What a sync is told besides the machine and the store.

    state: the directory of local state.
    level: of zstd, 1 to 9; None follows the bottleneck.
    spool: where packs wait for a thin link; None: nowhere.
    max_snapshot_age_s: how long the machine's moment may be held; then the rest is read at a later one. None: no bound.
    rolling: what is audited on the way, and what follows where tracking missed a change; None: nothing.
    start: whether the VM's chain may begin.
    single_sender: no other host sends to this repository.
    host: the usual state directory of this host, if `state` is another.
    not_after: a restore point by number or label; where the chain has a newer one already, nothing is done.
    request: what the restore point is made for; where one of the chain's newest was made for it, nothing is done.
    ConfigError for a level that there is not.
    """

    state: Path
    level: int | None = None
    spool: SpoolPlace | None = None
    max_snapshot_age_s: float | None = None
    rolling: Rolling | None = None
    start: ChainStart = ChainStart.GO_ON
    single_sender: bool = False
    host: Path | None = None
    not_after: str | None = None
    request: RequestId | None = None

    def __post_init__(self) -> None:
        if self.level is not None and not 1 <= self.level <= 9:
            hint = "leave it out to follow the bottleneck"
            raise ConfigError(f"the level {self.level} is not from 1 to 9", hint=hint)
