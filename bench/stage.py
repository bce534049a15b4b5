"""Owns one question: how much of the account's quota of puts does staging keep busy, and with how much memory?

A first staging of a real ext4 image (--mb of content), from the repository and from a replica, to the stand-in of
rigs/aws/ebsstandin.py in a process of its own, whose quota is --quota blocks of 512 KiB a second: once with --puts told
that quota, once with AWS's default of 1000, so that it must find it. Compared with the same client putting ready-made
blocks, 64 at a time, a throttled one again after 50 ms: no reading, no proof, no journal. busy: blocks taken, over
quota times the time from the first to the last of them, the burst that the stand-in allows at the start left out.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import harness
from rigs.aws import ebsstandin
from rigs.aws.ebsparts import BLOCK
from rigs.host.peak import measure
from rigs.paths import TESTS

GOAL_BUSY, GOAL_MIB = 0.9, 256


def main() -> None:
    if sys.argv[1:2] == ["--bare"]:
        asyncio.run(bare(int(sys.argv[2])))
        return
    options = harness.parser(__doc__, runs=1, mb=1024)
    options.add_argument("--quota", type=float, default=200.0, help="puts a second that the stand-in takes (200)")
    arguments = options.parse_args()
    command = harness.warmspare(arguments)
    arguments.dir.mkdir(parents=True, exist_ok=True)
    figures: list[dict[str, object]] = []
    image = harness.image(arguments)
    with harness.scratch(arguments, "stage") as work:
        where = ["--vm", "bench", "--repo", str(work / "repo"), "--json"]
        new = harness.begin(command, work / "repo")
        measure([*command, "sync", str(image), *where, *new, "--state", str(work / "sync")], "sync.done")
        measure([*command, "apply", *where, "--to", str(work / "replica.raw")], "apply.done")
        for number in range(arguments.runs):
            puts = 0
            for name, more in (
                ("repository, quota told", ["--puts", str(arguments.quota)]),
                ("repository, quota to be found", []),
                ("replica, quota told", ["--puts", str(arguments.quota), "--replica", str(work / "replica.raw")]),
            ):
                state = ["--state", str(work / f"state-{number}-{name.replace(' ', '-')}")]
                row = one(f"{name}, run {number + 1}", [*command, "stage", *where, *state, *more], arguments.quota)
                puts = max(puts, int(str(row["puts"])))
                figures.append(row)
            peer = [sys.executable, __file__, "--bare", str(puts)]
            figures.append(one(f"bare puts, run {number + 1}", peer, arguments.quota))
    setting = {
        "data": f"{arguments.mb} MB of content in a real ext4",
        "store": "directory; the stand-in for EBS on loopback, in a process of its own",
        "quota": f"{arguments.quota:.0f} puts of 512 KiB a second",
        "runs": arguments.runs,
        "goal": f"busy at least {GOAL_BUSY}, peak below {GOAL_MIB} MiB",
    }
    harness.report(arguments, "How busy staging keeps the quota of puts", setting, figures)


def one(name: str, command: list[str], quota: float) -> dict[str, object]:
    """Run a command against a fresh account."""
    with account(quota) as (url, told):
        kept = dict(os.environ)
        os.environ.update(ebsstandin.environment(url))
        try:
            peak = measure(command, "stage.done")
        finally:
            os.environ.clear()
            os.environ.update(kept)
    if told["breaches"]:
        raise harness.BenchError(f"the stand-in saw what a correct client never does: {told['breaches'][:3]}")
    puts, burst = told["puts"], quota / 5
    return {
        "what": name,
        "puts": puts,
        "busy": round((puts - burst) / (told["span_s"] * quota), 3) if told["span_s"] else 0.0,
        "throttled": told["answers"].get("RequestThrottledException", 0),
        "span_s": round(told["span_s"], 2),
        "wall_s": round(peak.wall_s, 2),
        "peak_mib": round(peak.counted_bytes / (1 << 20), 1),
        "bytes_read": peak.event.get("bytes_read"),
    }


@contextmanager
def account(quota: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """A stand-in in a process of its own: its URL, and what it tells once it has ended."""
    told: dict[str, Any] = {}
    child = subprocess.Popen(
        [sys.executable, "-m", ebsstandin.__name__, "--puts", str(quota), "--forget-data"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert child.stdin and child.stdout
    try:
        yield child.stdout.readline().strip(), told
        child.stdin.close()
        told.update(json.loads(child.stdout.read()))
    finally:
        child.kill()
        child.wait()


async def bare(count: int) -> None:
    """The peer: `count` ready-made blocks, put by the same client."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    config = AioConfig(max_pool_connections=64, retries={"mode": "standard", "total_max_attempts": 1})
    async with AioSession().create_client("ebs", config=config) as api:
        gib = -(-count * BLOCK >> 30) or 1
        snapshot = (await api.start_snapshot(VolumeSize=gib))["SnapshotId"]
        ready = [os.urandom(BLOCK) for _ in range(8)]
        sums = [base64.b64encode(hashlib.sha256(block).digest()).decode() for block in ready]
        todo = iter(range(count))

        async def work() -> None:
            for index in todo:
                await put(index)

        async def put(index: int) -> None:
            try:
                await api.put_snapshot_block(
                    SnapshotId=snapshot,
                    BlockIndex=index,
                    BlockData=ready[index % 8],
                    DataLength=BLOCK,
                    Checksum=sums[index % 8],
                    ChecksumAlgorithm="SHA256",
                )
            except api.exceptions.RequestThrottledException:
                await asyncio.sleep(0.05)
                await put(index)

        await asyncio.gather(*(work() for _ in range(64)))
        await api.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=count)


if __name__ == "__main__":
    harness.main(main)
