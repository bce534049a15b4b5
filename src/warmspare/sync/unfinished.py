"""Runs of this sender that were never published: what of them is used again, and when it is removed.

Their packs lie in the store under their own keys and are nobody's until a manifest names them. A pack is removed only
if no manifest of the point that ends their waiting names it, and only of runs that stand in this sender's journal.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import crc32c

from warmspare.errors import StoreError
from warmspare.format.manifest import PackRef
from warmspare.state.files import local_io, read_record
from warmspare.store import layout
from warmspare.store.base import PART_BYTES, Store
from warmspare.sync import sent
from warmspare.sync.journal import Journal, RunRecord
from warmspare.sync.resume import Resume

WHAT = "the state directory"
LOOKS = 16  # at packs in the store, at a time


@dataclass(frozen=True, slots=True)
class _Run:
    directory: Path
    run: bytes
    sequence: int  # of the point that it meant to publish


class Unfinished:
    """Of one VM. shelf: where their journals lie. vm: encoded."""

    def __init__(self, shelf: Path, vm: str) -> None:
        self.shelf, self._vm = shelf, vm

    def runs(self) -> list[_Run]:
        """Oldest first. One whose record can't be read is none."""
        found = []
        for place in sorted(self.shelf.glob("[0-9]*")) if self.shelf.exists() else []:
            record = read_record(place / "run.json", RunRecord, WHAT)
            if record is not None:
                found.append(_Run(place, bytes.fromhex(record.run), record.sequence))
        return found

    async def keep(self, store: Store, journal: Journal, run: str) -> int:
        """Take in a run that died: its complete packs stay, all else that it left in the store goes. How many stay."""
        listed = {
            layout.pack_key(self._vm, run, pack.number)
            for path in journal.directory.glob("*.sent")
            for pack in sent.packs_of(path)
            if pack.run.hex() == run
        }
        for prefix in layout.run_prefixes(self._vm, run):
            for stale in await store.stale_uploads(prefix):
                await store.abort_upload(stale)
            keys = [info.key async for info in store.list(prefix) if info.key not in listed]
            if keys:
                await store.delete(keys)
        journal.set_aside(self.shelf)
        return len(listed)

    async def resume(self, store: Store, disk_id: str, scratch: Path) -> Resume | None:
        """What can be used again of a disk; None where there is nothing. Every pack is looked at in the store.

        A run whose sequence somebody else has published under since is passed over: its packs are older than the
        newest point, so `prune` may remove them at any time (see audit/prune.py).
        """
        name = Journal(self.shelf).sent_path(disk_id).name
        logs = [(one, one.directory / name) for one in self.runs() if (one.directory / name).exists()]
        taken = {n: await store.head(layout.point_key(self._vm, n)) for n in {one.sequence for one, _ in logs}}
        logs = [(one, path) for one, path in logs if taken[one.sequence] is None]
        packs = [pack for one, path in logs for pack in sent.packs_of(path) if pack.run == one.run]
        good = await standing(store, self._vm, packs)
        if not good:
            return None
        found = Resume(scratch, good)
        for one, path in logs:
            found.learn(one.run, sent.frames_of(path))
        return found

    async def settle(self, store: Store, named: Iterable[PackRef]) -> None:
        """A point was published: remove what its manifests do not name, and forget the runs."""
        used = {(pack.run, pack.number) for pack in named}
        for one in self.runs():
            prefix = layout.run_prefixes(self._vm, one.run.hex())[0]
            wanted = {layout.pack_key(self._vm, run.hex(), number) for run, number in used if run == one.run}
            keys = [info.key async for info in store.list(prefix) if info.key not in wanted]
            if keys:
                await store.delete(keys)
        with local_io(WHAT, self.shelf):
            if self.shelf.exists():
                shutil.rmtree(self.shelf)


async def standing(store: Store, vm: str, packs: list[PackRef]) -> list[PackRef]:
    """Those of the packs that the store has as they were sent. vm: encoded."""
    listed = {
        info.key: info.bytes
        for run in {pack.run for pack in packs}
        async for info in store.list(layout.run_prefixes(vm, run.hex())[0])
    }
    looks = asyncio.Semaphore(LOOKS)

    async def look(pack: PackRef) -> bool:
        key = layout.pack_key(vm, pack.run.hex(), pack.number)
        if listed.get(key) != pack.bytes:
            return False
        async with looks:
            return await _stands(store, key, pack)

    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(look(pack)) for pack in packs]
    return [pack for pack, answer in zip(packs, answers, strict=True) if answer.result()]


async def _stands(store: Store, key: str, pack: PackRef) -> bool:
    """Whether the store has it as it was sent: by length and CRC32C where it keeps one, else by reading it."""
    info = await store.head(key)
    if info is None or info.bytes != pack.bytes:
        return False
    if info.crc32c is not None:
        return info.crc32c == pack.crc32c
    summed = 0
    try:
        for at in range(0, pack.bytes, PART_BYTES):
            data = await store.get_range(key, at, min(PART_BYTES, pack.bytes - at))
            summed = crc32c.crc32c(data, summed)
    except StoreError as error:
        if error.retryable:
            raise
        return False
    return summed == pack.crc32c
