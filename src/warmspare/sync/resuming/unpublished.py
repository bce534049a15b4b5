"""Runs of this sender that were never published: what of them is used again, and when it is removed.

Their packs lie in the store under their own keys and are nobody's until a manifest names them. A pack is removed only
if no manifest of the point that ends their waiting names it, and only of runs that stand in this sender's journal. That
point is the one with the sequence of the run, and no other: packs are used again only while it is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import crc32c

from warmspare.errors import StoreError
from warmspare.format.packlist import PackRef
from warmspare.model.ids import DiskId, RunId, VmKey
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import LOCAL, Housekeeping
from warmspare.state.local_files import STATE_DIRECTORY, out_of_the_way, read_record
from warmspare.store import layout
from warmspare.store.clearing import Clearing
from warmspare.store.contract import PART_BYTES, Store
from warmspare.sync.journal import sentlog
from warmspare.sync.journal.journal import Journal, RunRecord
from warmspare.sync.resuming.leftovers import Leftover, Leftovers
from warmspare.sync.resuming.reuse import Resume

LOOKS = 16  # at packs in the store, at a time


@dataclass(frozen=True, slots=True)
class _UnpublishedRun:
    directory: Path
    run: RunId
    sequence: int  # of the point that it meant to publish


class Unfinished:
    """Of one VM. shelf: where their journals lie. leftovers: what is to be removed of them."""

    def __init__(self, shelf: Path, leftovers: Leftovers, vm: VmKey, events: Events) -> None:
        self.shelf, self.leftovers, self._vm, self._events = shelf, leftovers, vm, events

    def runs(self) -> list[_UnpublishedRun]:
        """Oldest first. One whose record can't be read is none."""
        found = []
        for place in sorted(self.shelf.glob("[0-9]*")) if self.shelf.exists() else []:
            record = read_record(place / "run.json", RunRecord, STATE_DIRECTORY, self._events)
            if record is not None:
                found.append(_UnpublishedRun(place, record.run, record.sequence))
        return found

    async def keep(self, store: Store, journal: Journal, left: RunRecord, housekeeping: Housekeeping) -> int:
        """Take in a run that died: its complete packs stay, all else that it left in the store goes, or is noted to go
        later. How many stay."""
        run = left.run
        # It may be on the shelf already, and its journal not be cleared.
        places = [journal.directory, *(one.directory for one in self.runs() if one.run == run)]
        listed = {
            pack.id
            for place in places
            for path in place.glob("*.sent")
            for pack in sentlog.packs_of(path)
            if pack.id.run == run
        }
        keys = {layout.pack_key(self._vm, pack) for pack in listed}
        clearing, whole = Clearing(store, housekeeping), True
        for prefix in layout.run_prefixes(self._vm, run):
            await clearing.uploads(prefix)  # what is left of these ends with its age: see Sync
            whole &= await clearing.below(prefix, keys)
        if not whole:
            self.leftovers.note(Leftover(run, left.sequence, sorted(pack.number for pack in listed), more=True))
        journal.set_aside(self.shelf)
        with housekeeping.trying(LOCAL, journal.directory):
            journal.clear()
        return len(listed)

    async def resume(self, store: Store, disk_id: DiskId, scratch: Path) -> Resume | None:
        """What can be used again of a disk; None where there is nothing. Every pack is looked at in the store.

        A run whose sequence somebody else has published under since is passed over: its packs are older than the
        newest point, so `prune` may remove them at any time (see retain/removal.py).
        """
        name = Journal(self.shelf, self._events).sent_path(disk_id).name
        logs = [(one, one.directory / name) for one in self.runs() if (one.directory / name).exists()]
        taken = {n: await store.head(layout.point_key(self._vm, n)) for n in {one.sequence for one, _ in logs}}
        logs = [(one, path) for one, path in logs if taken[one.sequence] is None]
        packs = [pack for one, path in logs for pack in sentlog.packs_of(path) if pack.id.run == one.run]
        good = await standing(store, self._vm, packs)
        if not good:
            return None
        found = Resume(scratch, good)
        for one, path in logs:
            found.learn(one.run, sentlog.frames_of(path))
        return found

    def settle(self, sequence: int, named: Iterable[PackRef]) -> None:
        """The point of that sequence was published, and its manifests name these packs: what they do not name is noted
        to be removed, and the runs are forgotten. Nothing is done in the store. StoreError of this host's disk."""
        used = {pack.id for pack in named}
        self.leftovers.note(
            *(
                Leftover(
                    one.run,
                    one.sequence,
                    sorted(pack.number for pack in used if pack.run == one.run) if one.sequence == sequence else None,
                )
                for one in self.runs()
            )
        )
        out_of_the_way(self.shelf, STATE_DIRECTORY)


async def standing(store: Store, vm: VmKey, packs: list[PackRef]) -> list[PackRef]:
    """Those of the packs that the store has as they were sent."""
    listed = {
        info.key: info.bytes
        for run in {pack.id.run for pack in packs}
        async for info in store.list(layout.run_prefixes(vm, run)[0])
    }
    looks = asyncio.Semaphore(LOOKS)

    async def look(pack: PackRef) -> bool:
        key = layout.pack_key(vm, pack.id)
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
