"""Owns three questions about reading through a VDDK, with the stand-in over a real image. Uses no network.

How much do reads in flight bring where each takes 5 ms? How near is the read path to plain pread of the same cached
file into the same memory, in time and in CPU? What does a first sync cost through it beside one from the raw file?
"""

from __future__ import annotations

import asyncio
import mmap
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import uvloop

import harness
from rigs.images import diff
from standin import Standin
from warmspare._native import ring
from warmspare.model.extents import Extents, normalise
from warmspare.model.units import SPAN_BYTES
from warmspare.observe.events import Events
from warmspare.source.ports import Span
from warmspare.source.vddk import vddk_install
from warmspare.source.vddk.vddk_session import VddkSettings, VddkTarget
from warmspare.source.vddk.vddk_source import VddkSource

DISK = "[store] vm/vm.vmdk"
TARGET = VddkTarget(server="vcenter.example", vm="vm-1", user="u", password="p", transports="nbd")
GIB = 1 << 30


def main() -> None:
    options = harness.parser(__doc__, runs=5).parse_args()
    command = harness.warmspare(options)
    image = harness.image(options)
    with harness.scratch(options, "vddk") as work:
        standin = Standin(work / "vddk")
        standin.disk(DISK, image)
        standin.disk(str(image), image)
        figures = _in_flight(standin, image, options.runs) + _read_path(standin, image, options.runs)
        figures += _sender(options, command, standin, image, work)
        standin.check()
    setting = {
        "data": image.name,
        "library": "the stand-in, nbd, reads in flight on its own threads",
        "runs": options.runs,
        "goal": "8 in flight at least 7 times 1; 0.8 of pread and at most 0.1 CPU-s/GiB more; sender at most 1.1",
    }
    harness.report(options, "Reading through a VDDK", setting, figures)


def _in_flight(standin: Standin, image: Path, runs: int) -> list[dict[str, Any]]:
    some = _spans(image, 192)
    standin.script("latency 5")
    rates: dict[int, list[float]] = {1: [], 8: []}
    for _ in range(max(1, runs // 2)):
        for number in rates:
            _, wall_s, _ = _measured(standin, some, VddkSettings(requests=number))
            rates[number].append(some.total_bytes / wall_s / 1e6)
    standin.script("")
    medians = {number: statistics.median(found) for number, found in rates.items()}
    return [
        {"what": f"5 ms a read, {number} in flight", "MB_per_s": rate, "ratio": rate / medians[1]}
        for number, rate in medians.items()
    ]


def _read_path(standin: Standin, image: Path, runs: int) -> list[dict[str, Any]]:
    extents = _spans(image, 1 << 30)
    walls: dict[str, list[float]] = {"pread": [], "ring": []}
    cpus: dict[str, list[float]] = {"pread": [], "ring": []}
    for _ in range(runs):
        wall_s, cpu_s = _pread(image, extents)
        walls["pread"].append(wall_s)
        cpus["pread"].append(cpu_s)
        size, wall_s, cpu_s = _measured(standin, extents, VddkSettings())
        assert size == extents.total_bytes
        walls["ring"].append(wall_s)
        cpus["ring"].append(cpu_s)
    gib = extents.total_bytes / GIB
    wall = {side: statistics.median(found) for side, found in walls.items()}
    cpu = {side: statistics.median(found) / gib for side, found in cpus.items()}
    return [
        {"what": "pread into the same memory", "GB_per_s": gib * 1.0737 / wall["pread"], "cpu_s_per_gib": cpu["pread"]},
        {
            "what": "stand-in, ring, consumer",
            "GB_per_s": gib * 1.0737 / wall["ring"],
            "cpu_s_per_gib": cpu["ring"],
            "rate_over_pread": wall["pread"] / wall["ring"],
            "cpu_s_per_gib_more": cpu["ring"] - cpu["pread"],
        },
    ]


def _spans(image: Path, most: int) -> Extents:
    """The image's data in whole megabytes, up to `most` of them."""
    fd = os.open(image, os.O_RDONLY)
    try:
        runs = list(diff.data_runs(fd, os.fstat(fd).st_size))
    finally:
        os.close(fd)
    starts = sorted({at for start, size in runs for at in range(start // SPAN_BYTES, (start + size) // SPAN_BYTES)})
    starts = starts[:most]
    return normalise([at * SPAN_BYTES for at in starts], [SPAN_BYTES] * len(starts))


def _pread(image: Path, extents: Extents) -> tuple[float, float]:
    """(wall, CPU) seconds of preadv in one thread, megabyte by megabyte, into 16 slots of shared memory in turn."""
    shared = os.memfd_create("bench-ring")
    os.ftruncate(shared, ring.DATA_OFFSET + 16 * SPAN_BYTES)
    view = memoryview(mmap.mmap(shared, ring.DATA_OFFSET + 16 * SPAN_BYTES))
    os.close(shared)
    slots = [view[ring.DATA_OFFSET + i * SPAN_BYTES :][:SPAN_BYTES] for i in range(16)]
    for slot in slots:
        slot[:] = bytes(SPAN_BYTES)
    fd = os.open(image, os.O_RDONLY)
    cpu, began = _cpu_s(), time.perf_counter()
    number = 0
    for start, size in extents.pairs():
        for at in range(start, start + size, SPAN_BYTES):
            os.preadv(fd, [slots[number % 16]], at)
            number += 1
    wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - cpu
    os.close(fd)
    return wall_s, cpu_s


def _measured(standin: Standin, extents: Extents, settings: VddkSettings) -> tuple[int, float, float]:
    """(bytes, wall seconds, CPU seconds of both processes) of reading the extents; opening is left out."""

    async def read() -> tuple[int, float, float]:
        install = vddk_install.find(standin.home)
        source = await VddkSource.open(install, TARGET, DISK, "disk", settings=settings, events=Events())
        warm = normalise([int(extents.offsets[0])], [16 * SPAN_BYTES])
        try:
            async for item in source.read(warm):
                assert isinstance(item, Span)
                item.release()
            pid = (await source._session.process()).pid
            cpu, began, size = _cpu_s() + _process_cpu_s(pid), time.perf_counter(), 0
            async for item in source.read(extents):
                assert isinstance(item, Span)
                size += len(item.data)
                item.release()
            return size, time.perf_counter() - began, _cpu_s() + _process_cpu_s(pid) - cpu
        finally:
            await source.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(read())


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _process_cpu_s(pid: int) -> float:
    """CPU time of another process, to the nanosecond where the kernel counts it."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _sender(options: Any, command: list[str], standin: Standin, image: Path, work: Path) -> list[dict[str, Any]]:
    repo, state = work / "repo", work / "state"

    def sync(disk: str, *more: str) -> harness.Run:
        harness.fresh(repo)
        new = harness.begin(command, repo)
        harness.fresh(state)
        harness.warm(image)
        arguments = ["--vm", "bench", "--repo", str(repo), "--state", str(state), "--level", "3", "--json", *new, *more]
        return harness.run([*command, "sync", disk, *arguments], durable=[repo, state])

    sides = {
        "sync of the raw file": lambda: sync(f"disk={image}"),
        "sync through the stand-in": lambda: sync(f"disk=vddk://{image}", "--vddk", str(standin.home)),
    }
    done = harness.alternate(max(3, options.runs), sides)
    limit = harness.summary(done["sync of the raw file"])
    own = harness.summary(done["sync through the stand-in"])
    return [
        {"what": "sync of the raw file, level 3", **limit, "ratio": 1.0},
        {"what": "sync through the stand-in, level 3", **own, "ratio": own["wall_s"] / limit["wall_s"]},
    ]


if __name__ == "__main__":
    harness.main(main)
