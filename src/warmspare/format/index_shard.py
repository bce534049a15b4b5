"""A shard of the index of VMs: for some names, which VMs have them and what their newest restore points are; owns its
JSON, its bounds and where a VM stands, and refuses to be taken for the truth.

docs/format.md, "Index".
"""

from __future__ import annotations

import hashlib
import itertools
import re
from typing import TypeVar

import msgspec

from warmspare.errors import FormatError
from warmspare.format import flags
from warmspare.format.restore_point import RestorePoint
from warmspare.model.ids import VmId
from warmspare.outside import records
from warmspare.outside.records import Count, Hex32, Line, Moment, Sequence, Sha256, UnfitError

SHARDS = 256
MAX_SHARD_BYTES = 1 << 20
MAX_SHARD_VMS = 1000
MAX_TEXT = 512  # characters of a name or an ID; what is longer stands in no index

# An instance UUID: what looks like one is asked for as an ID first, so such an ID need not stand under itself.
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

T = TypeVar("T")


class DamagedShardError(FormatError):
    """It is nothing that a sender of this version wrote there, and may be written over."""


class IndexEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One VM at its newest restore point. disks, unprotected: how many. disk_bytes: their capacities together."""

    id: VmId
    name: Line
    sequence: Sequence
    sha256: Sha256
    created: Moment
    disks: Count
    disk_bytes: Count
    unprotected: Count


class IndexShard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """repository: whose it is. whole: whether all VMs that belong here were written here, so that a name that is found
    may count as that of no other. vms: ascending by ID."""

    format: int
    flags: int
    repository: Hex32
    whole: bool
    vms: list[IndexEntry] = []

    def entry(self, vm: VmId) -> IndexEntry | None:
        return next((one for one in self.vms if one.id == vm), None)

    def without(self, vm: VmId) -> IndexShard:
        return msgspec.structs.replace(self, vms=[one for one in self.vms if one.id != vm])

    def having(self, entry: IndexEntry) -> IndexShard:
        """With this in place of what it says of that VM. Where it is full it goes without, and is not whole."""
        rest = self.without(entry.id)
        more = sorted([*rest.vms, entry], key=lambda one: one.id)
        fuller = msgspec.structs.replace(rest, vms=more)
        if len(more) > MAX_SHARD_VMS or len(encode(fuller)) > MAX_SHARD_BYTES:
            return msgspec.structs.replace(rest, whole=False)
        return fuller


class WholeMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Says that a shard of this repository that is not there is one that no VM belongs to."""

    format: int
    flags: int
    repository: Hex32


def is_uuid(text: str) -> bool:
    """Whether it has the form of an instance UUID."""
    return _UUID.fullmatch(text) is not None


def shard_of(text: str) -> int:
    """The shard in which a VM is looked up by this name or ID."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0]


def shards_of(vm: VmId, name: str) -> frozenset[int]:
    """The shards in which a VM stands: that of its name, and that of an ID of another form than a UUID."""
    if not 1 <= len(vm) <= MAX_TEXT or not 1 <= len(name) <= MAX_TEXT:
        return frozenset()
    return frozenset({shard_of(name)} if is_uuid(vm) else {shard_of(name), shard_of(vm)})


def entry_of(record: RestorePoint, sha256: str) -> IndexEntry:
    """What the index says of a VM whose newest restore point this is. Only for one that stands in a shard."""
    return IndexEntry(
        record.vm_id,
        record.vm_name,
        record.sequence,
        sha256,
        record.created,
        len(record.disks),
        sum(disk.capacity_bytes for disk in record.disks),
        len(record.unprotected),
    )


def encode(shard: IndexShard | WholeMark) -> bytes:
    return msgspec.json.encode(shard) + b"\n"


def decode(data: bytes, number: int, repository: str, where: str) -> IndexShard:
    """The shard of that number of that repository. DamagedShardError for anything else; FormatError for what is of a
    version, or with features, that this program does not know."""
    shard = _typed(data, IndexShard, where)
    ids = [one.id for one in shard.vms]
    if shard.repository != repository:
        raise DamagedShardError("the index is that of another repository", where=where)
    if len(ids) > MAX_SHARD_VMS or any(a >= b for a, b in itertools.pairwise(ids)):
        raise DamagedShardError("the index is damaged: its VMs do not ascend, or are too many", where=where)
    if any(number not in shards_of(one.id, one.name) for one in shard.vms):
        raise DamagedShardError("the index is damaged: it has VMs that belong elsewhere", where=where)
    return shard


def decode_whole(data: bytes, repository: str, where: str) -> WholeMark:
    """The same for the mark beside the shards."""
    mark = _typed(data, WholeMark, where)
    if mark.repository != repository:
        raise DamagedShardError("the index is that of another repository", where=where)
    return mark


def _typed(data: bytes, kind: type[T], where: str) -> T:
    try:
        if not records.is_bounded(data, MAX_SHARD_BYTES):
            raise UnfitError("it is longer than it ever is")
        return flags.decode(data, kind, "index", where)
    except UnfitError as error:
        raise DamagedShardError(f"the index is damaged: {error}", where=where) from None
