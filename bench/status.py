"""How long does `status` of many VMs take over a store that answers after a while? And what do `status` and `points`
cost as processes?

Compared with as many requests to that store, and nothing else; the processes with reading the libraries that they need.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import harness
import warmspare
from rigs.stores.vm_fleet import VmFleet
from servers import make_bucket, seaweed_server
from warmspare.repository.vm_heads import AT_ONCE
from warmspare.store import opening

VMS, LATENCY_S = 500, 0.030
BARE = "import asyncio, crc32c, msgspec, uvloop, xxhash"
CLIENT = """
from aiobotocore.session import get_session
async def main():
    async with get_session().create_client("s3", endpoint_url={!r}) as client:
        await client.list_objects_v2(Bucket="bench", MaxKeys=1)
asyncio.run(main())
"""


def taken(work: Coroutine[Any, Any, Any]) -> float:
    """Its seconds."""
    began = time.perf_counter()
    asyncio.run(work)
    return time.perf_counter() - began


async def requests_alone(fleet: VmFleet, count: int) -> None:
    """So many, and nothing else."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with slots:
            await fleet.store.head("nothing")

    await asyncio.gather(*(one() for _ in range(count)))


def of_many(home: Path, runs: int) -> dict[str, float]:
    """`status` of VMS VMs in this process, and its requests alone, by turns."""
    fleet = VmFleet()
    fleet.many(VMS)
    fleet.store.latency_s = LATENCY_S
    opening.open_store = lambda uri, **more: fleet.store  # type: ignore[assignment]
    engine, request = warmspare.Engine(state=home), warmspare.StatusRequest(repository=warmspare.RepositoryPlace("x"))
    took: list[float] = []
    alone: list[float] = []
    for _ in range(runs):
        fleet.store.requests.clear()
        took.append(taken(engine.run(request)))
        asked = fleet.store.requests.total()
        alone.append(taken(requests_alone(fleet, asked)))
    return {
        "vms": VMS,
        "requests": asked,
        "seconds": round(statistics.median(took), 3),
        "requests_alone_seconds": round(statistics.median(alone), 3),
    }


def cpu_of(words: list[str]) -> float:
    """CPU-seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def as_processes(home: Path, runs: int) -> dict[str, float]:
    """CPU-seconds, medians, of a repository in a directory and of one in SeaweedFS; by turns."""
    disk = home / "disk.raw"
    disk.write_bytes(b"x" * 65536)
    uris = {"directory": str(home / "repo"), "S3": "s3://bench/status"}
    engine = warmspare.Engine(state=home / "state")
    disks = warmspare.GivenDisksOf(vm="vm", disks=(warmspare.NamedDisk(str(disk)),))

    async def prepare() -> None:
        for place in map(warmspare.RepositoryPlace, uris.values()):
            await engine.run(warmspare.InitRequest(repositories=(place,)))
            await engine.run(warmspare.SyncRequest(disks=disks, repository=place, new=True))

    (home / "server").mkdir()
    with seaweed_server(home / "server") as server:
        make_bucket(server, "bench")
        os.environ.update(server.environment)
        asyncio.run(prepare())
        sides = {
            "libraries, directory": ["-c", BARE],
            "libraries, S3": ["-c", BARE + CLIENT.format(server.endpoint_url)],
        }
        for (where, uri), name in itertools.product(uris.items(), ("points", "status")):
            sides[f"{name}, {where}"] = ["-m", "warmspare", name, "--repo", uri]
        took: dict[str, list[float]] = {name: [] for name in sides}
        for _, (name, words) in itertools.product(range(runs + 1), sides.items()):
            took[name].append(cpu_of(words))
    return {name: round(statistics.median(values[1:]), 3) for name, values in took.items()}


def main() -> None:
    arguments = harness.parser(__doc__, runs=9).parse_args()
    with harness.scratch(arguments, "status") as home:
        cpu = as_processes(home, arguments.runs)
        found = of_many(home, arguments.runs) | {f"cpu_s of {name}": value for name, value in cpu.items()}
    print(json.dumps(found) if arguments.json else "\n".join(f"{name:30} {value}" for name, value in found.items()))


if __name__ == "__main__":
    harness.main(main)
