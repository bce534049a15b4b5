"""Owns one question: what does letting points go cost beside what it keeps? Measures no network.

Data: a sparse disk, twelve times as large as its --mb of data, with a database and a log; a point every quarter of an
hour for a week (--points), made by the sender's own code (tests/retain/simulated.py) and put into SeaweedFS. Side A:
`warmspare prune` by a policy of last 8, hourly 24, daily 14, as a process of its own. Held against: the bytes of the
packs that it wrote, all of which are needed. Then a replica that is at the first point, which is no more, goes on with
`warmspare apply`. Held against: the frames, whole, that hold the newest content of the pages that differ, and of all
pages of their blocks; and the packs that a sync of just the last state after the first sends.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import numpy as np
import pytest

import harness
from retain.simulated import VM, Guest, Simulation
from rigs.host.peak import measure
from rigs.stores.memory_store import MemoryStore
from rigs.stores.sizes import frames_named
from servers import make_bucket, seaweed_server
from warmspare.format.manifest import ManifestReader
from warmspare.model.ids import vm_key
from warmspare.repository.chain import open_repository
from warmspare.repository.history import retained
from warmspare.repository.verified_objects import verified_bytes
from warmspare.store import layout
from warmspare.store.contract import Store
from warmspare.store.opening import open_store

MIB = 1 << 20
SPARSE = 12  # times its data
AT_ONCE = 16
POLICY = ["--keep-last", "8", "--keep-hourly", "24", "--keep-daily", "14", "--trust-created"]


def main() -> None:
    parser = harness.parser(__doc__, runs=1, mb=128)
    parser.add_argument("--points", type=int, default=672, help="points, a quarter of an hour apart (672)")
    options = parser.parse_args()
    command = harness.warmspare(options)
    with harness.scratch(options, "retain") as work, pytest.MonkeyPatch.context() as patch:
        (work / "weed").mkdir()
        with seaweed_server(work / "weed") as server:
            make_bucket(server, "bench")
            os.environ.update(server.environment)
            os.environ["XDG_STATE_HOME"] = str(work / "xdg")
            figures = _measured(command, options.mb, options.points, work, patch)
    setting = {
        "data": f"{options.mb} MiB in a sparse disk of {options.mb * SPARSE} MiB, {options.points} restore points",
        "store": "SeaweedFS on loopback",
        "goal": "reads and writes at most 1.2 times the live bytes, below 256 MiB; apply at most 1.5 times",
    }
    harness.report(options, "Letting a week of restore points go, and a replica that is behind", setting, figures)


def _measured(
    command: list[str], mb: int, points: int, work: Path, patch: pytest.MonkeyPatch
) -> list[dict[str, object]]:
    data = mb * 256
    guest = Guest(pages=data, database=data // 2, log=data // 16, hot_pages=256, hot=60, wide=60, logged=30)
    world = Simulation(work / "world", guest, patch, now_s=time.time() - points * 900)
    os.truncate(world.image, mb * MIB * SPARSE)
    repo, replica = "s3://bench/r", work / "replica.raw"
    at = ["--vm", VM, "--repo", repo, "--json"]

    async def make() -> tuple[int, set[int]]:
        await world.begin()
        for _ in range(points):
            await world.point()
        fresh = await world.fresh([1, points])
        record = (await (await open_repository(fresh)).load(VM, 2)).record
        await _upload(world.store, open_store(repo))
        (_, first), *_ = ((number, pages.copy()) for number, pages in world.states([1, points]))
        differ = np.flatnonzero((first != world.pages).any(axis=1))
        return _packs_bytes(fresh, record.run), set(differ.tolist())

    sent_bytes, differ = asyncio.run(make())
    patch.undo()  # the commands have their own time
    whole = measure([*command, "apply", *at, "--to", str(replica), "--at", "1"], "apply.done")
    before = asyncio.run(_packs(open_store(repo)))
    prune = measure([*command, "prune", *at, *POLICY, "--yes"], "prune.folds")
    after = asyncio.run(_packs(open_store(repo)))
    written = sum(size for key, size in after.items() if key not in before)
    newest_bytes = asyncio.run(_newest_frames(open_store(repo), set(differ)))
    of_blocks = {page // 16 * 16 + other for page in differ for other in range(16)}
    blocks_bytes = asyncio.run(_newest_frames(open_store(repo), of_blocks))
    apply = measure([*command, "apply", *at, "--to", str(replica)], "apply.done")
    start = measure([*command, "prune", *at, *POLICY], "prune.folds")  # nothing is left to do
    return [
        {
            "what": "prune",
            "goes": prune.event["goes"],
            "read": prune.event["bytes_read"],
            "written": written,
            "read_ratio": prune.event["bytes_read"] / written,
            "wall_s": prune.wall_s,
            "peak_mib": prune.counted_bytes / MIB,
            "peak_mib_of_none": start.counted_bytes / MIB,
        },
        {
            "what": "apply from a point that is no more",
            "read": apply.event["bytes_read"],
            "newest": newest_bytes,
            "ratio": apply.event["bytes_read"] / newest_bytes,
            "newest_of_blocks": blocks_bytes,
            "ratio_of_blocks": apply.event["bytes_read"] / blocks_bytes,
            "sent_by_one_sync": sent_bytes,
            "wall_s": apply.wall_s,
            "peak_mib": apply.counted_bytes / MIB,
            "first_apply_s": whole.wall_s,
        },
    ]


async def _upload(source: MemoryStore, target: Store) -> None:
    """Everything but leases, the records last."""
    keys = sorted(
        (key for key in source.objects if not key.endswith(("lease.json",))), key=lambda key: "/points/" in key
    )
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(key: str) -> None:
        async with gate:
            data = source.objects[key][0]
            if "/packs/" not in key:
                await target.put(key, data)
                return
            async with target.upload(key) as upload:
                for at in range(0, len(data), 8 * MIB):
                    await upload.write(data[at : at + 8 * MIB])

    try:
        await asyncio.gather(*(one(key) for key in keys))
    finally:
        await target.close()


async def _newest_frames(store: Store, differ: set[int]) -> int:
    """Bytes of the frames that have these pages as they are at the newest point."""
    frames: dict[tuple[str, int], int] = {}
    try:
        repository = await open_repository(store)
        record = await retained.newest(repository, VM)
        number = await repository.newest(VM) or 0
        while number and differ:
            point = await repository.load(VM, number)
            fold = record.record.of_target(number) if record else None
            ref = fold.disks[0].manifest if fold else point.record.disks[0].manifest
            data = await verified_bytes(repository, ref, "a manifest")
            reader = ManifestReader(lambda at, count, data=data: data[at : at + count], len(data), ref.key)  # type: ignore[misc]
            sizes = {
                (pack, offset): size
                for chunk in reader.chunks()
                for pack, offset, size in (chunk.frames.place(index) for index in range(len(chunk.frames)))
            }
            found: set[int] = set()
            for pack, offset, pages in frames_named(reader):
                if differ.intersection(pages):
                    found.update(pages)
                    frames[str(reader.packs[pack].id), offset] = sizes[pack, offset]
            differ -= found
            number = fold.after if fold else number - 1
    finally:
        await store.close()
    return sum(frames.values())


def _packs_bytes(store: MemoryStore, run: str) -> int:
    prefix = f"{layout.vm_prefix(vm_key(VM))}packs/{run}/"
    return sum(len(data) for key, (data, _) in store.objects.items() if key.startswith(prefix))


async def _packs(store: Store) -> dict[str, int]:
    try:
        return {info.key: info.bytes async for info in store.list(f"{layout.vm_prefix(vm_key(VM))}packs/")}
    finally:
        await store.close()


if __name__ == "__main__":
    harness.main(main)
