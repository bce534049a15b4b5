"""Owns one question: what costs more with the number of restore points? Measures no network.

First what runs every quarter of an hour: a sync, `points --last 20` and one step of an apply, as processes of their own
beside SeaweedFS, in repositories of 100 and of --points points of a VM with a UUID, and in one of --points of which
nearly all were let go. The chains are written by the format's own writer; their points say nothing new. Requests are
counted by a front that passes them on, in a run of its own. Then, with --same, a new replica and an audit of a
repository of 10 and of 1000 points of the same content, made by the sender's own code.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

import harness
from retain.long_chains import lengthen, move_replica
from retain.simulated import Guest, Simulation
from rigs.host.peak import measure
from rigs.stores.memory_store import MemoryStore
from rigs.stores.s3front import fronting
from servers import S3Server, make_bucket, seaweed_server
from warmspare.apply.receiver import Receiver
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.store.opening import open_store

MIB = 1 << 20
AT_ONCE = 32
FEW = 100
VM = VmId("50120001-0000-4000-8000-000000000001")
GUEST = Guest(pages=512, database=64, log=16, hot_pages=6, hot=3, wide=3, logged=2)
SAME = (10, 1000)


@dataclass
class Chain:
    """A repository with so many points, and whose turn it is there. times: of each command, wall and CPU seconds and
    peak memory."""

    name: str
    home: Path
    wall_s: dict[str, list[float]] = field(default_factory=dict)
    cpu_s: dict[str, list[float]] = field(default_factory=dict)
    peak_mib: dict[str, list[float]] = field(default_factory=dict)
    requests: dict[str, list[float]] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return f"s3://bench/{self.name}"

    def figures(self, name: str) -> dict[str, float]:
        """The medians of a command, and its quickest run: beside other work on the machine that tells more."""
        measured = {"requests": self.requests, "wall_s": self.wall_s, "cpu_s": self.cpu_s, "peak_mib": self.peak_mib}
        medians = {figure: statistics.median(of[name]) for figure, of in measured.items()}
        return {**medians, "least_wall_s": min(self.wall_s[name])}

    def commands(self, command: list[str]) -> dict[str, list[str]]:
        """In the order in which they are run: each sync makes a point, and each apply takes one step."""
        at = ["--vm", VM, "--repo", self.uri, "--json"]
        image, state, replica = (str(self.home / name) for name in ("disk.raw", "state", "replica.raw"))

        return {
            "sync": [*command, "sync", f"d={image}", *at, "--state", state],
            "points": [*command, "points", *at, "--last", "20"],
            "apply": [*command, "apply", *at, "--to", replica],
        }


def main() -> None:
    parser = harness.parser(__doc__, runs=5, mb=32)
    parser.add_argument("--points", type=int, default=35_040, help="points of the long chains (35040)")
    parser.add_argument("--same", action="store_true", help="measure new replicas and audits instead")
    options = parser.parse_args()
    command = harness.warmspare(options)
    with harness.scratch(options, "long-chain") as work, ExitStack() as stack:
        (work / "weed").mkdir()
        server = stack.enter_context(seaweed_server(work / "weed"))
        make_bucket(server, "bench")
        os.environ.update(server.environment)
        os.environ["XDG_STATE_HOME"] = str(work / "xdg")
        if options.same:
            figures = _same_content(command, options, work)
        else:
            figures = _every_quarter(command, options, server, work)
    setting = {
        "store": "SeaweedFS on loopback",
        "runs": options.runs,
        "order": "A B C A B C",
        "goal": f"at most 1.2 times what it takes at {FEW} points",
    }
    harness.report(options, "What costs more with the number of restore points", setting, figures)


# what runs all the time


def _every_quarter(
    command: list[str], options: argparse.Namespace, server: S3Server, work: Path
) -> list[dict[str, object]]:
    sizes = {"few": FEW, "many": options.points, "retained": options.points}
    chains = [_chain(name, count, work / name) for name, count in sizes.items()]
    for chain in chains:
        for line in chain.commands(command).values():  # what the chain's own writer left behind is caught up with
            harness.run(line)
    for _ in range(options.runs):
        for chain in chains:
            _turn(chain, command)
    with fronting(server.endpoint_url) as front:
        os.environ["AWS_ENDPOINT_URL"] = front.url
        for chain in chains:
            for name, line in chain.commands(command).items():
                front.requests.clear()
                harness.run(line)
                chain.requests[name] = [len(front.requests)]
    rows = []
    for name in chains[0].requests:
        base = chains[0].figures(name)
        for chain in chains:
            row: dict[str, object] = {"what": name, "points": f"{sizes[chain.name]} {chain.name}"}
            for figure, value in chain.figures(name).items():
                row |= {figure: value, f"{figure}_ratio": value / base[figure]}
            rows.append(row)
    return rows


def _turn(chain: Chain, command: list[str]) -> None:
    for name, line in chain.commands(command).items():
        run = harness.run(line)
        chain.wall_s.setdefault(name, []).append(run.wall_s)
        chain.cpu_s.setdefault(name, []).append(run.user_s + run.system_s)
    for name, line in chain.commands(command).items():
        chain.peak_mib.setdefault(name, []).append(measure(line, "").counted_bytes / MIB)


def _chain(name: str, points: int, home: Path) -> Chain:
    """The repository in SeaweedFS; the image, a state and a replica beside it, all at its newest point."""

    async def make(patch: pytest.MonkeyPatch) -> MemoryStore:
        world = Simulation(home, GUEST, patch)
        await world.begin()
        await world.point()
        replica = home / "replica.raw"
        await Receiver(world.store, VM, replica, Events()).run()

        async def put(key: str, data: bytes) -> None:
            world.now_s += 0.5  # a record and its manifest a second
            world.store.keep(key, data)

        head = await lengthen(world.store, VM, points, put)
        (home / "state").rename(home / "old")
        (home / "state").mkdir()
        await world.point()  # without what it knew: it finds the chain again
        if name == "retained":
            for _ in range(2):  # the second removes what the first let go
                await world.prune()
                world.now_s += 2 * 86400.0
            await world.point()
        move_replica(replica, head)
        return world.store

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retain.simulated.VM", VM)
        store = asyncio.run(make(patch))
    chain = Chain(name, home)
    asyncio.run(_upload(store, chain.uri))
    return chain


async def _upload(source: MemoryStore, uri: str) -> None:
    """Everything but leases, the records last."""
    target = open_store(uri)
    keys = sorted((key for key in source.objects if not key.endswith("lease.json")), key=lambda key: "/points/" in key)
    left = iter(keys)

    async def some() -> None:
        for key in left:
            data = source.objects[key][0]
            if "/packs/" not in key:
                await target.put(key, data)
                continue
            async with target.upload(key) as upload:
                await upload.write(data)

    try:
        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    finally:
        await target.close()


# the same content


def _same_content(command: list[str], options: argparse.Namespace, work: Path) -> list[dict[str, object]]:
    pages = options.mb * 256
    guest = Guest(pages=pages, database=pages // 2, log=pages // 8)

    async def make(patch: pytest.MonkeyPatch) -> None:
        world = Simulation(work / "world", guest, patch, now_s=time.time() - SAME[1] * 900)
        await world.begin()
        for _ in range(SAME[1]):
            await world.point()
        fresh = await world.fresh([SAME[1] * (number + 1) // SAME[0] for number in range(SAME[0])])
        for count, store in zip(SAME, (fresh, world.store), strict=True):
            await _upload(store, f"s3://bench/{count}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retain.simulated.VM", VM)
        asyncio.run(make(patch))

    def replica(count: int) -> harness.Run:
        for path in work.glob("replica.raw*"):
            harness.fresh(path)
        to = str(work / "replica.raw")
        return harness.run([*command, "apply", "--vm", VM, "--repo", f"s3://bench/{count}", "--to", to, "--json"])

    def audit(count: int, *more: str) -> harness.Run:
        store = ["--repo", f"s3://bench/{count}", "--scratch", str(harness.fresh(work / "scratch")), "--json"]
        return harness.run(
            [*command, "audit", "repository", *more, *store, "--reports", str(work / f"reports-{count}")]
        )

    questions: dict[str, Callable[[int], harness.Run]] = {
        "new replica": replica,
        "audit repository": audit,
        "audit repository --deep": lambda count: audit(count, "--deep"),
    }
    rows = []
    for name, ask in questions.items():
        done = harness.alternate(options.runs, {str(count): partial(ask, count) for count in SAME})
        few, many = (harness.summary(done[str(count)]) for count in SAME)
        for count, each in zip(SAME, (few, many), strict=True):
            ratios = {f"{figure}_ratio": each[figure] / few[figure] for figure in ("wall_s", "cpu_s")}
            rows.append({"what": name, "points": count, "wall_s": each["wall_s"], "cpu_s": each["cpu_s"], **ratios})
    return rows


if __name__ == "__main__":
    harness.main(main)
