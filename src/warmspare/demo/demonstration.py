"""A real file system is replicated, changed, replicated again, applied and proved identical."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from warmspare.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

CONTENT_BYTES = 160 << 20
DATABASE_BYTES = 64 << 20
MIB = 1 << 20
ENDING_S = 10.0  # for removing all that
TRACKED_BYTES = 64 << 10  # what a tracker such as vSphere's reports in, at best


async def demonstrate(keep: Path | None, console: Console) -> int:
    """Show it; 0 where the replica is identical. keep: work there, and leave everything; otherwise in a
    directory that is removed."""
    if keep is not None:
        from warmspare.state.local_files import local_io

        with local_io("the demo's directory", keep):
            keep.mkdir(parents=True, exist_ok=True)
            if any(keep.iterdir()):
                raise ConfigError("--keep is not empty", where=str(keep), hint="give a directory that is, or none")
        return await _Demo(keep, console).run()
    from warmspare.debts import owe
    from warmspare.threads import in_thread

    home = Path(tempfile.mkdtemp(prefix="warmspare-demo-"))
    owed = owe(f"the demo's directory {home}", ENDING_S, lambda: in_thread(_remove, home))
    try:
        code = await _Demo(home, console).run()
    finally:
        stays = await owed.settle()
    if stays:
        raise StoreError("the demo's directory can't be removed", where=str(stays), hint="remove it")
    return code


def _remove(home: Path) -> Path | None:
    """Also while a step goes on there that nobody waits for any more. The directory, if it stays."""
    from warmspare import children

    children.kill_all()
    until_s = time.monotonic() + ENDING_S
    shutil.rmtree(home, ignore_errors=True)
    while home.exists() and time.monotonic() < until_s:
        time.sleep(0.05)
        shutil.rmtree(home, ignore_errors=True)
    return home if home.exists() else None


class _Demo:
    """One run in one directory."""

    def __init__(self, home: Path, console: Console) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        self._home = home
        self._disk, self._before = home / "disk.raw", home / "before.raw"
        self._replica = home / "replica.raw"
        self._console = console
        self._table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in ("MiB", "reported", "read", "changed", "sent", "applied", "verified", "seconds"):
            self._table.add_column(name, justify="left" if name == "MiB" else "right", no_wrap=name == "MiB")
        self._reported_bytes = self._sent_bytes = 0

    async def run(self) -> int:
        from warmspare.demo import demodisk
        from warmspare.observe.quantities import size
        from warmspare.threads import in_thread

        def say(text: str) -> None:
            self._console.print(text, soft_wrap=True)

        tools = demodisk.tools()
        say(f"building a real ext4 disk with mke2fs from this machine's files in {self._home} …")
        await in_thread(demodisk.build, tools, self._home, self._disk, CONTENT_BYTES, DATABASE_BYTES)
        await self._step("first sync", None)
        await self._step("nothing changed", lambda: None)
        await self._step("files upgraded", lambda: demodisk.upgrade(tools, self._home, self._disk))
        await self._step("database pages", lambda: demodisk.database(tools, self._disk, writes=500))
        await self._step("files removed", lambda: demodisk.remove(tools, self._disk))
        self._console.print(self._table)
        sums = await in_thread(demodisk.digest, self._disk), await in_thread(demodisk.digest, self._replica)
        say(f"SHA-256 of the disk     {sums[0]}")
        say(f"SHA-256 of the replica  {sums[1]}")
        if sums[0] != sums[1]:
            say("the replica is NOT identical: this is a bug, please report it")
            return 1
        say("identical, byte for byte; " + await in_thread(demodisk.check, tools, self._replica))
        if self._sent_bytes:
            say(
                f"since the first sync 64 KiB tracking reported {size(self._reported_bytes)}, "
                f"and {size(self._sent_bytes)} were sent: {self._reported_bytes / self._sent_bytes:.0f} times less"
            )
        return 0

    async def _step(self, title: str, change: Callable[[], None] | None) -> None:
        from warmspare.apply.receiver import Receiver
        from warmspare.demo import demodisk
        from warmspare.model.extents import Extents
        from warmspare.model.ids import DiskId, VmId
        from warmspare.model.units import BLOCK_BYTES
        from warmspare.observe.events import Events
        from warmspare.repository.making import make_repository
        from warmspare.source.given import GivenDisks
        from warmspare.source.ports import DiskInput
        from warmspare.source.raw import RawSource
        from warmspare.store.opening import open_store
        from warmspare.sync.beginning import ChainStart
        from warmspare.sync.sender import Sender
        from warmspare.sync.sync_settings import SyncSettings
        from warmspare.threads import in_thread

        reported: Extents | None = None
        if change is not None:
            await in_thread(demodisk.copy, self._disk, self._before)
            await in_thread(change)
            reported = await in_thread(demodisk.tracked, self._before, self._disk, TRACKED_BYTES)
        store = open_store(str(self._home / "repository"))
        first = (await make_repository(store, Events())).anew
        began = time.monotonic()
        source = RawSource(self._disk, DiskId("disk.raw"))
        try:
            machine = GivenDisks(VmId("demo"), [DiskInput(source, reported)])
            start = ChainStart.NEW if first else ChainStart.GO_ON
            settings = SyncSettings(self._home / "state", level=3, start=start)
            sent = await Sender(store, machine, settings, Events()).run()
            done = await Receiver(store, "demo", self._replica, Events()).run()
        finally:
            await source.close()
            await store.close()
        if reported is not None:
            self._reported_bytes += reported.total_bytes
            self._sent_bytes += sent.bytes_sent
        sizes = (sent.bytes_read, sent.bytes_changed, sent.bytes_sent, done.bytes_written)
        self._table.add_row(
            title,
            "all" if reported is None else f"{reported.total_bytes / MIB:.2f}",
            *(f"{size / MIB:.2f}" for size in sizes),
            f"{done.blocks_verified * BLOCK_BYTES / MIB:.2f}",
            f"{time.monotonic() - began:.2f}",
        )
