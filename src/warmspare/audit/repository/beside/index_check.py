"""The index of VMs held against the restore points, and written anew to repair it; refuses to make findings of it.

It is a hint: where it is missing or wrong, what is looked for is found all the same, and later. So it is told in notes.
Syncs write it meanwhile. What differs from what was read of a VM is therefore judged by its chain as it is then, and a
shard is replaced only as it was judged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.descent import Chain
from warmspare.errors import FormatError, IntegrityError, NotFoundError, StoreError
from warmspare.format.index_shard import SHARDS, IndexEntry, IndexShard, entry_of, shards_of
from warmspare.format.restore_point import RestorePoint
from warmspare.model.ids import VmId
from warmspare.repository.chain import Repository
from warmspare.repository.vm_index import ThereShard, VmIndex
from warmspare.store import layout

_NAMED = 3  # VMs in a note


@dataclass(slots=True)
class IndexCheck:
    """Of one repository. newest: by shard, what must be said of each VM whose newest point could be read. unsure: there
    are others. live: a sync may be at work on them, so what the index says of them is not judged.

    Then: absent, unreadable, partial: how many shards are not there, can't be believed, or don't say that they are
    whole; lacking, wrong: VMs.
    """

    repository: Repository
    newest: dict[int, dict[VmId, IndexEntry]] = field(default_factory=dict)
    unsure: bool = False
    live: set[VmId] = field(default_factory=set)
    absent: int = 0
    unreadable: int = 0
    newer: int = 0
    partial: int = 0
    lacking: set[VmId] = field(default_factory=set)
    wrong: set[VmId] = field(default_factory=set)
    _index: VmIndex = field(init=False)
    _todo: list[int] = field(default_factory=list)
    _whole_mark: bool = False

    def __post_init__(self) -> None:
        self._index = VmIndex(self.repository)

    def take(self, inventory: VmContents, chain: Chain, head: RestorePoint | None) -> None:
        """What was read of a VM. head: the record of its newest point, if it could be read."""
        if inventory.live:
            self.live.add(chain.vm)
        if head is not None and chain.head is not None:
            for number in shards_of(head.vm_id, head.vm_name):
                self.newest.setdefault(number, {})[head.vm_id] = entry_of(head, chain.head.sha256)
        elif inventory.points:
            self.unsure = True

    async def run(self, *, repair: bool) -> list[str]:
        """What is to be said of it. Nothing is written unless to repair."""
        try:
            await self._look()
            notes = self._notes(repair)
            if repair and (self._todo or not self._whole_mark):
                notes += await self._repair()
        except StoreError as error:
            return [f"the index of VMs could not be {'repaired' if repair else 'read'}: {error.sentence}"]
        return notes

    async def _look(self) -> None:
        there = {info.key async for info in self.repository.store.list(layout.index_prefix())}
        self._whole_mark = layout.index_whole_key() in there and await self._index.has_whole_mark()
        for number in range(SHARDS):
            wanted = self.newest.get(number, {})
            if layout.index_key(number) in there:
                await self._judge(number, wanted)
            elif wanted:
                self.absent += 1
                self.lacking |= wanted.keys()
                self._todo.append(number)

    async def _judge(self, number: int, wanted: dict[VmId, IndexEntry]) -> None:
        try:
            shard = (await self._index.there(number)).shard
        except FormatError:
            self.newer += 1
            return
        if shard is None:
            self.unreadable += 1
            self.lacking |= wanted.keys()
            self._todo.append(number)
            return
        said = {one.id: one for one in shard.vms}
        odd = [vm for vm in wanted.keys() | said.keys() if wanted.get(vm) != said.get(vm)]
        odd = [vm for vm in odd if vm not in self.live and await self._now(vm, number, said.get(vm)) != said.get(vm)]
        self.lacking |= {vm for vm in odd if vm not in said}
        self.wrong |= {vm for vm in odd if vm in said}
        self.partial += not shard.whole
        if odd or not shard.whole:
            self._todo.append(number)

    async def _now(self, vm: VmId, number: int, said: IndexEntry | None) -> IndexEntry | None:
        """What that shard must say of a VM by its chain as it is now; what it says, where that can't be told."""
        try:
            newest = await self.repository.newest(vm)
            if newest is None:
                return None
            point = await self.repository.load(vm, newest)
        except NotFoundError:
            return None
        except IntegrityError:
            return said
        record = point.record
        return entry_of(record, point.id.sha256) if number in shards_of(vm, record.vm_name) else None

    def _notes(self, repair: bool) -> list[str]:
        notes = []
        remedy = "" if repair else "; --repair writes it anew"
        if self.absent and self.absent == len(self.newest):
            notes.append(f"the index of VMs is not there, so names are looked for among all VMs{remedy}")
        elif self.lacking or self.wrong or self.unreadable:
            what = [f"lacks {_vms(self.lacking)}"] if self.lacking else []
            what += [f"says what is not so of {_vms(self.wrong)}"] if self.wrong else []
            what += [f"can't be read in {self.unreadable} of its objects"] if self.unreadable else []
            notes.append(
                f"the index of VMs {' and '.join(what)}: they are found all the same, and it takes longer{remedy}"
            )
        elif self.partial or (self.newest and not self._whole_mark):
            notes.append(
                f"the index of VMs does not say that all are in it, so names are looked for among all VMs{remedy}"
            )
        if self.newer:
            notes.append(f"the index of VMs is of another version in {self.newer} of its objects, and left as it is")
        return notes

    async def _repair(self) -> list[str]:
        for number in self._todo:
            await self._index.change(number, self._right(number))
        if not self.unsure and not self.newer:
            await self._index.leave_whole_mark()
        return [f"the index of VMs was repaired: {len(self._todo)} of its objects were written anew"]

    def _right(self, number: int) -> Callable[[ThereShard], Awaitable[IndexShard]]:
        async def altered(there: ThereShard) -> IndexShard:
            said = {one.id: one for one in there.shard.vms} if there.shard else {}
            wanted = self.newest.get(number, {})
            shard = self._index.empty(whole=not self.unsure or bool(there.shard and there.shard.whole))
            for vm in sorted(wanted.keys() | said.keys()):
                right = said.get(vm)
                if wanted.get(vm) != right:
                    right = await self._now(vm, number, right)
                shard = shard.having(right) if right is not None else shard
            return shard

        return altered


def _vms(names: set[VmId]) -> str:
    some = ", ".join(repr(str(vm)) for vm in sorted(names)[:_NAMED])
    return f"VM {some}" if len(names) == 1 else f"{len(names)} VMs ({some}{', …' if len(names) > _NAMED else ''})"
