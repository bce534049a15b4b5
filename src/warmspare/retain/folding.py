"""One fold made: the manifests between two kept points as one, their records as a descent, mostly dead packs rewritten.

Nothing that is there is changed. What is made is nobody's until a retention record names it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from warmspare.format.manifest import Header
from warmspare.format.restore_point import Disk, ObjectRef
from warmspare.format.retained.retention import Fold, FoldedDisk
from warmspare.model.columns import distinct
from warmspare.model.ids import RunId, VmId, vm_key
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.change import DiskChange, change, write_manifest
from warmspare.repository.history.descents import write_descent
from warmspare.repository.history.step import Step
from warmspare.repository.history.steps import descend, dropped_parts
from warmspare.repository.object_upload import upload_file
from warmspare.retain.pack_rewrite import PackRewrite, PackUse, rewritten, uses, worth
from warmspare.state.local_files import local_io, nameless_file
from warmspare.store import layout
from warmspare.threads import in_thread

WHAT = "temporary space"
SMALL_PART_BYTES = 64 << 10  # a part of a descent below this is put together with what comes beside it


@dataclass(slots=True)
class FoldCosts:
    """What folds cost and bring. folds: how many. read_bytes, written_bytes: of packs. packs: that are rewritten.
    back_bytes, back_packs: that nothing needs any more once others have ended; without what is written."""

    folds: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    packs: int = 0
    back_bytes: int = 0
    back_packs: int = 0


@dataclass(slots=True)
class Folding:
    """Of one VM, in one run. numbers: of its packs. since: what new folds say, RFC 3339 by the store's clock."""

    repository: Repository
    vm: VmId
    run: RunId
    numbers: Iterator[int]
    scratch: Path
    since: str
    priced: bool
    made: FoldCosts = field(default_factory=FoldCosts)
    _parts: int = 0

    async def fold(self, base: Point | None, target: Point) -> Fold:
        """What stands for all points after `base` up to `target`. IntegrityError, StoreError."""
        steps = await self._steps(base, target)
        disks = [await self._disk(index, disk, steps, base) for index, disk in enumerate(target.record.disks)]
        descent = await self._descent(steps)
        between = target.id.sequence - (base.id.sequence if base else 0) - 1
        return Fold(target.id, base.id if base else None, between, self.run, self.since, disks, descent)

    async def survey(self, base: Point | None, target: Point) -> None:
        """Add up what the same would cost and bring; nothing is written."""
        steps = await self._steps(base, target)
        for disk in target.record.disks:
            async with change(self.repository, steps, base, disk, self.scratch) as made:
                found = await in_thread(uses, made.manifest, made.made_of)
            self._count(made, found, worth(found, priced=self.priced))

    async def _steps(self, base: Point | None, target: Point) -> list[Step]:
        start = base.id if base else None
        steps = [step async for step in descend(self.repository, self.vm, start, target.id.sequence)]
        self.made.folds += 1
        return steps

    def _count(self, made: DiskChange, found: list[PackUse], which: set[int]) -> None:
        stay = sum(use.ref.bytes for index, use in enumerate(found) if index not in which)
        self.made.back_bytes += made.pack_bytes - stay
        self.made.back_packs += made.packs - (len(found) - len(which))
        self.made.packs += len(which)
        self.made.read_bytes += sum(length for index in which for _, length, _ in found[index].ranges())
        self.made.written_bytes += sum(found[index].live_bytes for index in which)

    async def _disk(self, index: int, disk: Disk, steps: list[Step], base: Point | None) -> FoldedDisk:
        async with AsyncExitStack() as stack:
            made = await stack.enter_async_context(change(self.repository, steps, base, disk, self.scratch))
            found = await in_thread(uses, made.manifest, made.made_of)
            which = worth(found, priced=self.priced)
            self._count(made, found, which)
            rewrite = PackRewrite(self.repository, vm_key(self.vm), self.run, self.numbers, index)
            moved = await rewrite.copy(made.manifest, found, which)
            fd = nameless_file(self.scratch)
            stack.callback(os.close, fd)
            header = Header(disk.id, disk.capacity_bytes, self.run, True)
            with local_io(WHAT, self.scratch):
                await in_thread(
                    write_manifest, fd, header, lambda out: rewritten(made.manifest, out, found, moved, which)
                )
            key = layout.fold_key(vm_key(self.vm), self.run, steps[-1].point.id.sequence, index)
            with os.fdopen(fd, "rb", closefd=False) as file:
                ref = await upload_file(self.repository.store, key, file)
            blocks = await in_thread(_blocks, made)
        return FoldedDisk(disk.id, ref, made.from_nothing, blocks)

    async def _descent(self, steps: list[Step]) -> list[ObjectRef]:
        """The records of all that is dropped on this way; parts of before are used again, unless they are small."""
        out: list[ObjectRef] = []
        held: list[Point] = []
        target = steps[-1].point.id.sequence

        async def write() -> None:
            nonlocal held
            if held:
                parts = await write_descent(self.repository, self.vm, self.run, target, held, first_part=self._parts)
                self._parts += len(parts)
                out.extend(parts)
                held = []

        self._parts = 0
        for step in steps:
            if step.fold is not None:
                async for part, points in dropped_parts(self.repository, self.vm, step.fold):
                    if part.bytes < SMALL_PART_BYTES:
                        held += points
                    else:
                        await write()
                        out.append(part)
            if step.point.id.sequence != target:
                held.append(step.point)
        await write()
        return out


def _blocks(made: DiskChange) -> int:
    """In a worker thread: how many blocks its manifest names."""
    return sum(distinct(chunk.records.block).size + chunk.zeros.blocks for chunk in made.manifest.chunks())
