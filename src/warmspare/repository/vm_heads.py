"""All VMs of a repository and where each stands: by the index, borne out by each VM's own keys; refuses to take the
index's word for a head, or for its date.

One listing says which shards there are, and each is read. Each VM costs two requests: its keys from the stated head on,
of which that must be the only one, and whether it was failed over. Its record is read only where the index is behind,
or where the store's date of the record does not bear out the stated one. Requests go side by side. Where the index may
lack somebody, all VMs are looked for the long way as well.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from warmspare.errors import StoreError, WarmspareError
from warmspare.format.index_shard import SHARDS, IndexEntry, entry_of
from warmspare.model.ids import PointId, VmId, vm_key
from warmspare.repository.chain import Repository
from warmspare.repository.vm_index import VmIndex
from warmspare.side_by_side import side_by_side
from warmspare.store import layout
from warmspare.store.contract import ObjectInfo

if TYPE_CHECKING:
    from warmspare.repository.failover_record import FailoverRecord

AT_ONCE = 64  # requests
BORNE_OUT_S = 600.0  # between a point's own date and the store's of its record: more after a spool, or in a copy


@dataclass(frozen=True, slots=True)
class VmHead:
    """A VM at its newest restore point. name: what that calls it; where that can't be told, the index, or its ID.
    newest: None where it has none, or where that can't be told. failover: its record, also of one that is over.
    trouble: what of it could not be read, "" if all could."""

    id: VmId
    name: str
    newest: IndexEntry | None = None
    failover: FailoverRecord | None = None
    trouble: str = ""

    @property
    def point(self) -> PointId | None:
        return PointId(self.newest.sequence, self.newest.sha256) if self.newest is not None else None


@dataclass(frozen=True, slots=True)
class IndexSurvey:
    """What the whole index says. entries: of each VM the one that is furthest. whole: whether it lacks nobody, as far
    as it knows."""

    entries: dict[VmId, IndexEntry]
    whole: bool


async def all_heads(repository: Repository, *, known: Iterable[VmId] = (), called: Iterable[str] = ()) -> list[VmHead]:
    """Each VM of the repository, and each of `known` whether it is there or not; by ID. called: names that are expected
    there: where the index does not know one of them, it is looked for among all VMs. StoreError where the store is
    away; what is wrong with one VM is its `trouble`."""
    survey = await survey_index(repository)
    named = {entry.name for entry in survey.entries.values()} | survey.entries.keys()
    vms = {*survey.entries, *known}
    if not survey.whole or not named.issuperset(called):
        vms.update(await repository.vms())

    async def head(vm: VmId) -> VmHead:
        return await head_of(repository, vm, survey.entries.get(vm))

    return await side_by_side(head, sorted(vms), AT_ONCE)


async def survey_index(repository: Repository) -> IndexSurvey:
    """Read every shard that is there. StoreError where the store is away; an index that may not be read is none."""
    index = VmIndex(repository)
    try:
        listing = repository.store.list(layout.index_prefix())
        numbers = [number async for info in listing if (number := layout.parse_index_key(info.key)) is not None]
        complete = len(numbers) == SHARDS or await index.has_whole_mark()
    except StoreError as error:
        if error.retryable:
            raise
        return IndexSurvey({}, whole=False)
    shards = await side_by_side(index.read, numbers, AT_ONCE)
    entries: dict[VmId, IndexEntry] = {}
    for entry in (entry for shard in shards if shard is not None for entry in shard.vms):
        if entry.id not in entries or entries[entry.id].sequence < entry.sequence:
            entries[entry.id] = entry
    return IndexSurvey(entries, complete and all(shard is not None and shard.whole for shard in shards))


async def head_of(repository: Repository, vm: VmId, entry: IndexEntry | None = None) -> VmHead:
    """One VM. entry: what the index says of it. StoreError where the store is away."""
    head = VmHead(vm, entry.name if entry is not None else vm)
    try:
        newest = await _newest(repository, vm, entry)
        head = replace(head, name=newest.name if newest is not None else head.name, newest=newest)
        return replace(head, failover=await _failover(repository, vm))
    except StoreError as error:
        if error.retryable:
            raise
        return replace(head, trouble=error.sentence)
    except WarmspareError as error:
        return replace(head, trouble=error.sentence)


async def _failover(repository: Repository, vm: VmId) -> FailoverRecord | None:
    """Its record; None if it never was failed over."""
    if await repository.store.head(layout.failover_key(vm_key(vm))) is None:
        return None
    from warmspare.repository.failover_record import read_journal  # here: hardly any VM has one

    return (await read_journal(repository, vm)).record


async def _newest(repository: Repository, vm: VmId, entry: IndexEntry | None) -> IndexEntry | None:
    """Its newest point; None if it has none."""
    listed = await repository.listed(vm, after=entry.sequence - 1) if entry is not None else []
    if entry is not None and _borne_out(entry, listed):
        return entry
    listed = listed or await repository.listed(vm)
    if not listed:
        return None
    point = await repository.load(vm, listed[-1][0])
    return entry_of(point.record, point.id.sha256)


def _borne_out(entry: IndexEntry, listed: list[tuple[int, ObjectInfo]]) -> bool:
    """Whether that is the VM's newest point, and of about that date. listed: the VM's points from there on."""
    if len(listed) != 1:
        return False
    [(sequence, info)] = listed
    return sequence == entry.sequence and abs(_seconds(entry.created) - info.modified_s) <= BORNE_OUT_S


def _seconds(moment: str) -> float:
    """Unix seconds; of a day that the calendar has not, one that nothing bears out."""
    try:
        return datetime.datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return float("-inf")
