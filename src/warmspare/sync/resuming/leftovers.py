"""What runs of this sender that are over have left in the store, and is still to be removed; owns the record of it.

Noted durably before anything is removed and before the runs are forgotten, so a server that refuses to delete now is
asked again by each sync that publishes, until it does. What it costs is bounded: a sync stops at the first refusal, and
begins the next time with another run. Beyond MOST runs, or MOST_PACKS, the oldest are forgotten here, and `prune` finds
them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from warmspare.model.ids import PackId, RunId, VmKey
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import LOCAL, Housekeeping
from warmspare.outside.records import Count, SequenceOrNone
from warmspare.state.local_files import STATE_DIRECTORY, read_record, write_record
from warmspare.store import layout
from warmspare.store.clearing import Clearing
from warmspare.store.contract import Store

MOST = 256
MOST_PACKS = 500_000  # that are to be kept, of all of them: what a record may hold

NamedBy = Callable[[int], Awaitable[set[PackId] | None]]
"""The packs that the point of a sequence names; None if that can't be told any more: then all that its
runs left stays, for `prune` to look at."""


class Leftover(msgspec.Struct, frozen=True):
    """A run that is over: what of its packs stays, and whether there may be more of it than packs.

    sequence: of the point that it meant to publish, or that names its packs: no other ever can (see unfinished.py).
    named: numbers of the packs to keep, None: those that this point names, which was another sender's.
    """

    run: RunId
    sequence: SequenceOrNone
    named: list[Count] | None
    more: bool = False


class _Noted(msgspec.Struct, frozen=True):
    runs: list[Leftover]


class Leftovers:
    """Of one VM, at `path`."""

    def __init__(self, path: Path, vm: VmKey, events: Events) -> None:
        self._path, self._vm, self._events = path, vm, events

    def known(self) -> list[Leftover]:
        record = read_record(self._path, _Noted, STATE_DIRECTORY, self._events)
        return record.runs if record else []

    def note(self, *found: Leftover) -> None:
        """Durable when it returns. What was noted of the same run before is replaced."""
        if not found:
            return
        runs = {one.run: one for one in self.known()}
        for one in found:
            before = runs.pop(one.run, None)
            more = one.more or (before is not None and before.more)
            runs[one.run] = Leftover(one.run, one.sequence, one.named, more)
        self._write(list(runs.values()))

    def _write(self, runs: list[Leftover]) -> None:
        if runs:
            kept = runs[-MOST:]
            while len(kept) > 1 and sum(len(one.named or ()) for one in kept) > MOST_PACKS:
                kept.pop(0)
            write_record(self._path, _Noted(kept), STATE_DIRECTORY)
        else:
            self._path.unlink(missing_ok=True)

    async def clear(self, store: Store, housekeeping: Housekeeping, named_by: NamedBy) -> None:
        """Remove it, as far as the store lets us."""
        todo, clearing = self.known(), Clearing(store, housekeeping)
        if not todo or clearing.refused:
            return
        left = list(todo)
        for one in todo:
            numbers = one.named
            if numbers is None:
                with housekeeping.trying("read", store.uri):
                    named = await named_by(one.sequence)
                    numbers = None if named is None else [pack.number for pack in named if pack.run == one.run]
                    if numbers is None:
                        left.remove(one)
                        continue
            if numbers is None or not await self._removed(clearing, one, numbers):
                left.append(left.pop(left.index(one)))
                break
            left.remove(one)
        with housekeeping.trying(LOCAL, self._path):
            if left != todo:
                self._write(left)

    async def _removed(self, clearing: Clearing, one: Leftover, numbers: list[int]) -> bool:
        packs, *others = layout.run_prefixes(self._vm, one.run)
        keep = {layout.pack_key(self._vm, PackId(one.run, number)) for number in numbers}
        whole = await clearing.below(packs, keep)
        for prefix in others if one.more else []:
            whole &= await clearing.below(prefix)
        return whole
