"""What is said of VMs of the configuration, instead of what stands there."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """state: where the sender keeps its local state. level: of zstd, 1 to 9; None follows the bottleneck, "" is the
    configuration's own. limit: bytes a second. new: the chain is to begin. adopt: the VM goes on in another's.
    not_after: a restore point of the one VM by number or label; where its chain has a newer one already, nothing is
    done. request_id: what the restore points are made for; a VM of which one of the newest points was made for it is
    left as it is."""

    state: Path | None = None
    level: int | str | None = ""
    limit: float | None = None
    new: bool = False
    adopt: bool = False
    not_after: str | None = None
    request_id: str | None = None
