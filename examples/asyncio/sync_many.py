"""Sync disks as one asyncio program: all at once within one budget, each tried again where that may help.

    python sync_many.py REPOSITORY SLOT VM=DISK [VM=DISK ...]

SLOT is what this run is called, the same for each try of it: 2026-01-02T03:15. Somebody else holds the disks still, as
snapshots of LVM, for example. The repository is there (`warmspare init`), and each VM's chain has begun (`--new`).
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import warmspare

PAUSES_S = (5.0, 30.0, 120.0)


async def synced(engine: warmspare.Engine, request: warmspare.SyncRequest) -> Any:
    """How it ended; what can't be mended by trying again comes out as an error."""
    for pause_s in PAUSES_S:
        try:
            return await engine.run(request)
        except warmspare.WarmspareError as error:
            if not error.retryable:
                raise
            print(f"again in {pause_s:.0f} s: {error.sentence}", file=sys.stderr)
        await asyncio.sleep(pause_s)
    return await engine.run(request)


async def main(repository: str, slot: str, *pairs: str) -> int:
    engine = warmspare.Engine()
    disks = dict(pair.split("=", 1) for pair in pairs)
    requests = [
        warmspare.SyncRequest(
            disks=warmspare.GivenDisksOf(vm=vm, disks=(warmspare.NamedDisk(disk),)),
            repository=warmspare.RepositoryPlace(repository),
            request_id=f"sync_many {slot}",
        )
        for vm, disk in disks.items()
    ]
    ends = await asyncio.gather(*(synced(engine, request) for request in requests), return_exceptions=True)
    codes = [0]
    for request, end in zip(requests, ends, strict=True):
        if isinstance(end, warmspare.WarmspareError):
            codes.append(end.exit_code)
            print(f"{request.disks.vm}: {end.sentence}", file=sys.stderr)
        elif isinstance(end, BaseException):
            raise end
        else:
            codes.append(request.exit_code(end))
            print(f"{request.disks.vm}: restore point {end.point}")
    return max(codes)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
