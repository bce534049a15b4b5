"""Rounds in which a VDDK misbehaves at a random call: a sync through it, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import shutil
import signal
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from rig import KIB, MIB, Rig, begin, command, random_disk, same, scribble
from rigs.host.hearing import Record, recorder
from standin import Standin
from warmspare.errors import SourceError
from warmspare.observe.events import Events
from warmspare.source.given import GivenDisks
from warmspare.source.ports import DiskInput
from warmspare.source.vddk import vddk_install
from warmspare.source.vddk.vddk_process import ProcessSettings
from warmspare.source.vddk.vddk_session import VddkSession, VddkSettings, VddkTarget
from warmspare.source.vddk.vddk_source import VddkSource
from warmspare.store.opening import open_store
from warmspare.sync.sender import Sender
from warmspare.sync.sync_settings import SyncSettings

DISK = "[store] vm/vm.vmdk"
IDENTITY = "warmspare/vm"
PASSWORD = "correct horse battery staple"
TARGET = VddkTarget(
    server="vcenter.example",
    vm="vm-7",
    snapshot="snapshot-8",
    thumbprint="AA:BB",
    user="replicator",
    password=PASSWORD,
    transports="nbdssl:nbd:san",
)
# Impatient, so that rounds are short; nothing else differs from the defaults.
SETTINGS = VddkSettings(
    hang_s=1.0,
    backoff_s=0.01,
    backoff_most_s=0.05,
    wait_s=0.05,
    keep_alive_s=0.05,
    process=ProcessSettings(call_s=1.5),
)
ROUND_S = 40.0
CODES = (14006, 14007, 14009, 14010, 14011, 2, 14008, 14014, 14015, 16000, 16007, 16008, 16014, 1, 5)
ANY = ("crash", "panic it can't go on", "exit", "hang", "slow 300")
# What can be asked of each function that the binding calls, besides ANY.
ANSWERS: dict[str, tuple[str, ...]] = {
    "InitEx": ("error",),
    "Exit": (),
    "GetErrorText": ("nonsense", "null"),
    "FreeErrorText": (),
    "FreeConnectParams": (),
    "AllocateConnectParams": ("nonsense", "null"),
    "ConnectEx": ("error", "null"),
    "Disconnect": ("error",),
    "PrepareForAccess": ("error",),
    "EndAccess": ("error",),
    "Cleanup": ("error",),
    "ListTransportModes": ("nonsense", "null"),
    "Open": ("error", "null"),
    "Close": ("error",),
    "GetInfo": ("error", "short", "nonsense", "null"),
    "FreeInfo": (),
    "GetTransportMode": ("nonsense", "null", "wrong"),
    "Read": ("error", "short"),
    "Wait": ("error",),
    "ReadAsync": ("error", "fail", "short", "nonsense", "null"),
    "QueryAllocatedBlocks": ("error", "short", "nonsense", "null"),
    "FreeBlockList": (),
}


ONCE = frozenset({"PrepareForAccess", "EndAccess", "GetErrorText", "FreeErrorText"})
ASYNCHRONOUS = frozenset({"ReadAsync", "Wait", "GetErrorText", "FreeErrorText"})


@dataclass
class Report:
    """How rounds ended, and what was done to which function."""

    ends: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0

    def table(self) -> str:
        rows = [f"{count:6d}  {name}" for name, count in sorted(self.hits.items())]
        ends = ", ".join(f"{count} {name}" for name, count in self.ends.most_common())
        rounds = sum(self.ends.values())
        return "\n".join([*rows, f"{rounds:6d}  rounds: {ends}; the slowest took {self.slowest_s:.1f} s"])


class World:
    """A VM of one disk at its first restore point; each round changes the disk and syncs it through the stand-in."""

    def __init__(self, home: Path, seed: int, *, settings: VddkSettings = SETTINGS, sanitize: str = "") -> None:
        self.home, self.rng = home, random.Random(seed)
        self.settings, self.sanitize = settings, sanitize
        self.rig = Rig(home)
        random_disk(self.rig.disk, 48 * MIB + 3 * 512, self.rng, pieces=40, most=900 * KIB)
        self.rig.sync(disks=[f"disk={self.rig.disk}"])
        self.report = Report()
        self._names: list[str] = []

    def round(self, number: int, rule: str | None = None) -> None:
        """AssertionError if anything is wrong afterwards."""
        rng = self.rng
        standin = Standin(self.home / f"vddk-{number}", sanitize=self.sanitize)
        standin.disk(DISK, self.rig.disk)
        standin.expect(
            serverName="vcenter.example",
            userName="replicator",
            password=PASSWORD,
            thumbPrint="AA:BB",
            vmxSpec="moref=vm-7",
            snapshotRef="snapshot-8",
            readOnly=True,
        )
        script, name = (rule, rule.split()[1]) if rule else self._draw(rng)
        mode = "san" if name == "Read" or (name not in ASYNCHRONOUS and rng.random() < 0.2) else "nbdssl"
        standin.modes(mode)
        standin.script(f"{script}\nlog warn the password is {PASSWORD}\nlatency 1")
        scribble(self.rig.disk, rng, pieces=6)
        before, files = self.rig.snapshot(), open_files()
        began = time.monotonic()
        killer = rng.random() if name == "SIGKILL" else None
        outcome, events = self._sync(standin, killer)
        seconds = time.monotonic() - began
        self.report.slowest_s = max(self.report.slowest_s, seconds)
        what = f"round {number}, {mode}: {script!r} ended in {outcome!r}"
        assert seconds < ROUND_S, what
        assert PASSWORD not in f"{outcome}{events}", what
        forget_frames(outcome)
        assert not children(), f"a process is left: {what}"
        left = open_files()
        assert left == files, f"descriptors or shared memory are left: {what}: {Counter(left) - Counter(files)}"
        assert not standin.breaches(), f"{what}: {standin.breaches()}"
        after = self.rig.snapshot()
        points = {key for key in after if "/points/" in key}
        assert all(after.get(key) == digest for key, digest in before.items() if "/points/" in key), what
        if isinstance(outcome, SourceError):
            assert points == {key for key in before if "/points/" in key}, f"published though it failed: {what}"
            assert outcome.exit_code == 3 and len(outcome.sentence) > 30, what
            # nothing stands in the way of the next
            assert self.rig.sync(disks=[f"disk={self.rig.disk}"]).code == 0
        target = self.home / "replica.raw"
        done = command("apply", "--vm", self.rig.vm, "--repo", self.rig.repo, "--to", target)
        assert done.code == 0 and same(self.rig.disk, target), f"a wrong byte was published: {what}"
        self.report.ends["Source error" if outcome else "identical"] += 1
        for function, count in standin.hits().items():
            if function != "*" and count:
                self.report.hits[function] += count
        if killer is not None:
            self.report.hits["(SIGKILL)"] += 1
        shutil.rmtree(standin.home)

    def _draw(self, rng: random.Random) -> tuple[str, str]:
        """A random rule, and the function it is about: each in turn, in an order that changes, reads more often."""
        if not self._names:
            self._names = [*ANSWERS, "ReadAsync", "ReadAsync", "Open", "SIGKILL", "SIGKILL"]
            rng.shuffle(self._names)
        name = self._names.pop()
        if name == "SIGKILL":
            return "# killed from outside", name
        action = rng.choice([*ANSWERS[name] * 2, *ANY])
        if action in ("error", "fail"):
            action = f"{action} {rng.choice(CODES)}"
        usual = {"ReadAsync": 24, "Read": 24}.get(name, 1 if name in ONCE else 2)
        rule = f"{rng.choice(['at', 'at', 'at', 'from'])} {name} {rng.randrange(1, usual + 1)} {action}"
        if name in ("GetErrorText", "FreeErrorText"):
            rule += "\nat ReadAsync 5 fail 14009"
        return rule, name

    def _sync(self, standin: Standin, killer: float | None) -> tuple[Exception | None, list[Record]]:
        events: list[Record] = []

        async def work() -> None:
            said = Events(recorder(events))
            install = vddk_install.find(standin.home)
            access = VddkSession(install, TARGET, self.settings, said)
            try:
                await access.prepare_for_access(IDENTITY)
                source = await VddkSource.open(install, TARGET, DISK, "disk", settings=self.settings, events=said)
                store = open_store(self.rig.repo, endpoint_url=None)
                try:
                    killing = asyncio.create_task(kill_readers(killer)) if killer is not None else None
                    machine = GivenDisks(self.rig.vm, [DiskInput(source)])
                    start = await begin(store, self.rig.vm)
                    await Sender(store, machine, SyncSettings(self.rig.state, 1, start=start), said).run()
                    if killing:
                        killing.cancel()
                finally:
                    await store.close()
                    await source.close()
                with contextlib.suppress(SourceError):  # the point is published, and what is left is a warning's worth
                    await access.end_access(IDENTITY)
            finally:
                await access.close()

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(asyncio.wait_for(work(), ROUND_S))
        except SourceError as error:
            return error, events
        except BaseExceptionGroup as group:
            found = group.exceptions[0]
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            if not isinstance(found, SourceError):
                raise
            return found, events
        return None, events


async def kill_readers(after: float) -> None:
    """SIGKILL whatever reader process there is, once, at some moment of the sync."""
    await asyncio.sleep(after * 0.15)
    for pid in children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def forget_frames(error: BaseException | None) -> None:
    """An error that a test keeps keeps what its frames had; that is no leak of the program's."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def children() -> list[int]:
    """Reader processes that this one has started and that still are, and zombies of any kind."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and (state == "Z" or b"vddk_host" in (path / "cmdline").read_bytes()):
                found.append(int(path.name))
    return sorted(found)


def open_files() -> list[str]:
    """What this process has open or mapped that a reader process or its ring would leave."""
    gc.collect()
    maps = Path(f"/proc/{os.getpid()}/maps").read_text()
    found = ["mapped ring"] * maps.count("warmspare-ring")
    for path in Path(f"/proc/{os.getpid()}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(path.readlink().name.partition(":")[0])
    return sorted(found)
