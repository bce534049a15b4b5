"""What does a sync of nothing cost inside a process that runs, and how are 500 plans and 50 syncs at once?

Compared with the same sync as a process of its own, and with reading the libraries that it needs and making their
client. The S3 server is SeaweedFS on this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import harness
import warmspare
from rigs.crowds.crowd import Crowd, open_files
from servers import S3Server, make_bucket, seaweed_server
from siterig import site_rig
from warmspare.observe.kinds.sync_events import SyncDone

GIB, MIB = 1 << 30, 1 << 20
BARE = """
import asyncio, msgspec, numpy, uvloop, xxhash, zstandard
from aiobotocore.session import get_session
async def main():
    async with get_session().create_client("s3", endpoint_url={url!r}) as client:
        await client.list_objects_v2(Bucket="bench", MaxKeys=1)
asyncio.run(main())
"""


def cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def sync_of(vm: str, disk: Path, uri: str, home: Path, *, new: bool) -> warmspare.SyncRequest:
    named = warmspare.NamedDisk(str(disk), changed=None if new else ())
    return warmspare.SyncRequest(
        disks=warmspare.GivenDisksOf(vm=vm, disks=(named,)),
        repository=warmspare.RepositoryPlace(uri),
        state=home / "state",
        new=new,
    )


async def of_nothing(home: Path, runs: int) -> list[float]:
    """CPU-seconds of each sync of nothing in this process, the first of which is left out."""
    disk, uri = home / "disk.raw", "s3://bench/nothing"
    with disk.open("wb") as file:
        file.truncate(GIB)
        file.write(random.Random(1).randbytes(4 * MIB))
    took: list[float] = []
    async with warmspare.Engine(state=home / "host") as engine:
        await engine.run(warmspare.InitRequest(repositories=(warmspare.RepositoryPlace(uri),)))
        await engine.run(sync_of("vm", disk, uri, home, new=True))
        for _ in range(runs + 1):
            began = cpu_s()
            done = await engine.run(sync_of("vm", disk, uri, home, new=False))
            took.append(cpu_s() - began)
            assert isinstance(done, SyncDone) and done.bytes_changed == 0
    return took[1:]


async def of_a_vm(home: Path, runs: int) -> list[float]:
    """The same of a VM of the simulated vCenter, to a directory; with what the process took that reads its disk."""
    took: list[float] = []
    with site_rig(home) as rig:
        rig.add("vm", [GIB])
        async with warmspare.Engine(state=home / "host") as engine:
            request = warmspare.FleetSyncRequest(vms=("vm",), config=rig.config)
            for _ in range(runs + 2):
                began = cpu_s() + cpu_s(resource.RUSAGE_CHILDREN)
                (done,) = (await engine.run(request)).vms
                took.append(cpu_s() + cpu_s(resource.RUSAGE_CHILDREN) - began)
                assert isinstance(done, SyncDone)
    return took[2:]


def as_processes(home: Path, runs: int, server: S3Server) -> list[list[float]]:
    """The same as processes of their own, as commands that a daemon works for, and the libraries alone, by turns. Each
    with what its process took; the daemon's own is that of `of_nothing`."""
    extents = home / "extents"
    extents.touch()
    words = ["sync", home / "disk.raw", "--vm", "vm", "--repo", "s3://bench/nothing", "--state", home / "state"]
    program = [sys.executable, "-m", "warmspare", *map(str, words), "--extents", str(extents)]
    bare = [sys.executable, "-c", BARE.format(url=server.endpoint_url)]
    took: list[list[float]] = [[], [], []]
    around = {**os.environ, "XDG_STATE_HOME": str(home)}
    alone = {**around, "WARMSPARE_DAEMON": "off"}
    daemon = subprocess.Popen([*program[:3], "daemon"], env=around, stdout=subprocess.PIPE)
    try:
        assert daemon.stdout is not None and b"taking requests" in daemon.stdout.readline()
        threading.Thread(target=daemon.stdout.read, daemon=True).start()
        for number in range(runs + 1):
            for kind, (line, environment) in enumerate(((program, alone), (program, around), (bare, around))):
                began = cpu_s(resource.RUSAGE_CHILDREN)
                subprocess.run(line, check=True, stdout=subprocess.DEVNULL, env=environment)
                if number:
                    took[kind].append(cpu_s(resource.RUSAGE_CHILDREN) - began)
    finally:
        daemon.terminate()
        daemon.wait()
    return took


async def crowd(home: Path, plans: int, syncs: int) -> dict[str, float]:
    """Many at once in one process, and how fair that is: docs/api.md, "What waits"."""
    engine, uri = warmspare.Engine(state=home / "host"), "s3://bench/crowd"
    await engine.run(warmspare.InitRequest(repositories=(warmspare.RepositoryPlace(uri),)))
    rng, disks = random.Random(2), [home / f"{number}.raw" for number in range(50)]
    for disk in disks:
        disk.write_bytes(rng.randbytes(rng.randrange(256 << 10, 2 * MIB)))

    def plan(number: int) -> warmspare.PlanRequest:
        disk = warmspare.NamedDisk(str(disks[number % len(disks)]))
        return warmspare.PlanRequest(
            disks=warmspare.GivenDisksOf(vm=f"p{number}", disks=(disk,)),
            repository=warmspare.RepositoryPlace(uri),
            state=home / "state",
            new=True,
        )

    requests: list[warmspare.Request[Any]] = [plan(number) for number in range(plans)]
    requests += [sync_of(f"s{number}", disks[number % len(disks)], uri, home, new=True) for number in range(syncs)]
    all_of_it, files, began = Crowd(engine), open_files(), cpu_s()
    await all_of_it.run(requests)
    spent, slowness = cpu_s() - began, sorted(all_of_it.slowness())
    ended = {kind: [turn.ended_s for turn in all_of_it.of(f"{kind}Request")] for kind in ("Plan", "Sync")}
    return {
        "wall_s": all_of_it.wall_s,
        "cpu_s": spent,
        "peak_mib": all_of_it.peaks.bytes / MIB,
        "peak_threads": all_of_it.peaks.threads,
        "peak_files": all_of_it.peaks.files,
        "median_plan_s": statistics.median(ended["Plan"]),
        "median_sync_s": statistics.median(ended["Sync"]),
        "last_sync_s": max(ended["Sync"]),
        "unevenness": all_of_it.unevenness(),
        "overtaken": all_of_it.overtaken(),
        "slowness_95": slowness[len(slowness) * 95 // 100],
        "slowness_max": slowness[-1],
        "files_left": open_files() - files,
    }


def main() -> None:
    parser = harness.parser(__doc__, runs=15)
    parser.add_argument("--plans", type=int, default=500)
    parser.add_argument("--syncs", type=int, default=50)
    arguments = parser.parse_args()
    with harness.scratch(arguments, "engine") as home:
        (home / "server").mkdir()
        with seaweed_server(home / "server") as server:
            make_bucket(server, "bench")
            os.environ.update(server.environment)
            warm = asyncio.run(of_nothing(home, arguments.runs))
            process, command, bare = as_processes(home, arguments.runs, server)
            vm = asyncio.run(of_a_vm(home / "site", arguments.runs))
            many = asyncio.run(crowd(home, arguments.plans, arguments.syncs))
    found = {
        "warm_cpu_s": statistics.median(warm),
        "process_cpu_s": statistics.median(process),
        "command_cpu_s": statistics.median(command),
        "libraries_cpu_s": statistics.median(bare),
        "warm_vm_cpu_s": statistics.median(vm),
        "all_warm_cpu_s": [round(each, 3) for each in warm],
        "all_process_cpu_s": [round(each, 3) for each in process],
        "all_command_cpu_s": [round(each, 3) for each in command],
        "all_warm_vm_cpu_s": [round(each, 3) for each in vm],
        "all_libraries_cpu_s": [round(each, 3) for each in bare],
        **{f"crowd_{name}": round(value, 2) for name, value in many.items()},
    }
    print(json.dumps(found) if arguments.json else "\n".join(f"{name:22} {value}" for name, value in found.items()))


if __name__ == "__main__":
    harness.main(main)
